//! Scripts: stories whose commands a person writes, and whose log a simulated cluster fills in.
//!
//! A script is text. A line that begins with `> ` holds commands (see [`language`]); the indented
//! lines below it are the log of what happened; everything else is prose. [`retell`] plays the
//! commands and gives the same text back with the logs as they are now. Commands behind the word
//! `quietly` leave no log.
//!
//! In a script a message takes 1 ms, a sync 2 ms, a load 1 ms; election timers run out when the
//! script says so, unless the cluster has timers of its own; and a crash loses all that was not
//! synced.

pub mod language;
mod stage;
mod tables;
mod telling;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use stage::Stage;

/// What begins a line of commands.
const COMMAND: &str = "> ";
/// What begins commands whose log is not of interest.
const QUIETLY: &str = "quietly ";
/// What begins a line of the log.
const LOG: &str = "  ";

/// How many lines of the log an error shows.
const LAST: usize = 20;

/// A script that cannot be played, or does not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// The script.
    pub file: String,
    /// The line, counted from one.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// The script's last lines until then.
    pub log: Vec<String>,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)?;
        self.log.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for ScriptError {}

/// Plays a script, and gives it back with the logs as they are now.
///
/// # Errors
/// The first line that is not understood or cannot be done, and any rule that is broken: by the
/// end too, when every fault is healed and the replicas are compared.
pub fn retell(file: &str, script: &str) -> Result<String, ScriptError> {
    let error = |line, what, told: &str, stage: &mut Option<Stage>| {
        let mut log: Vec<_> = told.lines().map(|line| line.trim_start().to_string()).collect();
        log.extend(stage.as_mut().map_or(Vec::new(), Stage::log));
        log.drain(..log.len().saturating_sub(LAST));
        ScriptError { file: file.into(), line, what, log }
    };
    let mut stage = None;
    let mut told = String::new();
    let mut last = 0;
    for (number, line) in (1..).zip(script.lines()) {
        if line.starts_with(LOG) && last > 0 {
            continue;
        }
        told.push_str(line);
        told.push('\n');
        let Some(commands) = line.strip_prefix(COMMAND) else { continue };
        last = number;
        let played = play(&mut stage, commands);
        let lines = played.map_err(|what| error(number, what, &told, &mut stage))?;
        for line in lines {
            told.push_str(LOG);
            told.push_str(line.trim_end());
            told.push('\n');
        }
    }
    let ended = match &mut stage {
        Some(stage) => unwinding(|| stage.end()),
        None => Err("nothing happens in this script".into()),
    };
    match ended {
        Ok(()) => Ok(told),
        Err(what) => Err(error(last.max(1), format!("at the end: {what}"), &told, &mut stage)),
    }
}

fn play(stage: &mut Option<Stage>, commands: &str) -> Result<Vec<String>, String> {
    let (commands, quietly) = match commands.strip_prefix(QUIETLY) {
        Some(commands) => (commands, true),
        None => (commands, false),
    };
    let mut lines = Vec::new();
    for act in language::read(commands)? {
        match (&mut *stage, act) {
            (None, language::Act::Cluster(plan)) => {
                let stage = stage.insert(Stage::new(&plan));
                lines.extend(stage.log());
                if let Some(leader) = plan.leader {
                    unwinding(|| stage.elect(leader))?;
                    lines.extend(stage.outcome());
                }
            }
            (Some(_), language::Act::Cluster(_)) => {
                return Err("cluster: there is one already".into());
            }
            (None, _) => return Err("found no cluster yet, expected the command cluster".into()),
            (Some(stage), act) => lines.extend(unwinding(|| stage.perform(act))?),
        }
    }
    if let Some(stage) = stage {
        lines.extend(stage.log());
        stage.sound()?;
    }
    if quietly {
        lines.clear();
    }
    Ok(lines)
}

/// A panic in the core or in the simulator becomes an error that names the line.
fn unwinding<T>(play: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(play)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "# A title\n\nProse,\n  indented too.\n\n> cluster 3\n> campaign n1; deliver\n\
                          > publish n1 \"a\"; deliver\n  an old log\n\nMore prose.\n\n> expect kept \"a\"\n";

    #[test]
    fn a_script_keeps_its_words_and_gets_its_logs() {
        let told = retell("x", SCRIPT).unwrap();
        assert!(
            told.starts_with("# A title\n\nProse,\n  indented too.\n\n> cluster 3\n     0.000 n1")
        );
        assert!(
            told.contains("gives its vote in term 1") && !told.contains("an old log"),
            "{told}"
        );
        assert!(told.contains("commits 2") && told.contains("committed as 2"), "{told}");
        assert!(told.ends_with("\n\nMore prose.\n\n> expect kept \"a\"\n"));
        // Told again, it is the same: what was told is no part of the script.
        assert_eq!(retell("x", &told).unwrap(), told);
    }

    #[test]
    fn what_is_wrong_names_the_file_and_the_line() {
        for (script, error) in [
            ("A title.\n", "x:1: at the end: nothing happens in this script"),
            ("> deliver\n", "x:1: found no cluster yet, expected the command cluster"),
            ("A\n> cluster 3\n> dance\n", "x:3: unknown command \"dance\""),
            ("> cluster 3\n> crash n4\n", "x:2: there is no n4: the cluster has 3 machines"),
            ("> cluster 3\n> restart n1\n", "x:2: n1 runs already"),
            ("> cluster 3\n> expect leader n1\n", "x:2: expected n1 to lead, but nobody does"),
        ] {
            let found = retell("x", script).unwrap_err().to_string();
            assert_eq!(found.lines().next(), Some(error), "{found}");
        }
    }
}
