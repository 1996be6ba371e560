//! A start: what a data folder holds of each group, and what takes the place of what cannot be used.
//!
//! A database that cannot be relied on is moved aside whole and an empty one made in its place; the
//! groups repair themselves from their peers. What it held stays as it was found. Before the log's
//! goes, each group's standing says what is lost: a crash in between must not leave an empty log
//! that looks like a new member's. What the operating system refuses it may grant the next time;
//! that moves nothing.

use std::fs;
use std::path::{Path, PathBuf};

use jetwake::event::{Damage, Damaged, Failure, Impairment, Loss, Opened, Standing};
use jetwake::ids::GroupName;

use super::DiskError;
use super::failure::{damage, into_damage};
use super::folder::{Folder, file_name, sync_folder};
use super::log::{LogFound, Logs, Numbers, assign};
use super::log_thread::Beside;
use super::snapshot::Snapshots;
use super::standing::StandingFile;
use super::store::{StoreFound, Stores};
use super::vote::VoteFile;

/// What a folder holds.
pub(super) struct Found {
    pub(super) logs: Result<Logs, Failure>,
    pub(super) stores: Result<Stores, Failure>,
    pub(super) besides: Vec<Beside>,
    pub(super) opened: Vec<Opened>,
}

/// Reads and checks what there is of each group.
pub(super) fn look(folder: &Folder, groups: &[GroupName]) -> Result<Found, DiskError> {
    let (log_at, store_at) = (folder.inside("log")?, folder.inside("store")?);
    let stores = Stores::open(store_at.clone());
    let known = stores.as_ref().map_or_else(|_| Numbers::new(), |stores| stores.numbers().clone());
    let logs = open_logs(&log_at, groups, &known);
    let numbers = match &logs {
        Ok((logs, _)) => (0..groups.len()).map(|group| logs.number(group)).collect(),
        Err(_) => assign(groups, &known),
    };
    let numbered: Vec<_> = numbers.into_iter().zip(groups.iter().cloned()).collect();
    let (besides, mut opened) = look_beside(folder, &numbered)?;
    let logs = match logs {
        Err(Failure::Damaged(found)) => {
            for (beside, opened) in besides.iter().zip(&mut opened) {
                impair(&beside.standing, opened, &found)?;
            }
            let moved = move_aside(&log_at, &found)?;
            for opened in &mut opened {
                opened.damage.push(Damaged::Log(moved.clone()));
            }
            open_logs(&log_at, groups, &known)
        }
        logs => logs,
    };
    let logs = note_logs(logs, &log_at, &besides, &mut opened)?;
    let stores = match &logs {
        Ok(_) => note_stores(stores, &store_at, &numbered, &mut opened)?,
        // The log said it already.
        Err(failure) => Err(failure.clone()),
    };
    Ok(Found { logs, stores, besides, opened })
}

/// Reads the files that each group has for itself.
fn look_beside(
    folder: &Folder,
    groups: &[(u32, GroupName)],
) -> Result<(Vec<Beside>, Vec<Opened>), DiskError> {
    let (votes, snapshots) = (folder.inside("votes")?, folder.inside("snapshots")?);
    let standings = folder.inside("standing")?;
    let look = |(number, name): &(u32, GroupName)| {
        let file = file_name(name, *number);
        let (vote, term_and_vote, bad_vote) = VoteFile::open(votes.join(&file), name.as_str());
        let (standing, says) = StandingFile::open(standings.join(&file), name.as_str());
        let (snapshots, snapshot, bad_snapshot) = Snapshots::open(snapshots.join(&file));
        let mut opened =
            Opened { vote: term_and_vote, standing: says, snapshot, ..Opened::default() };
        opened.damage.extend(bad_vote.map(Damaged::Vote));
        opened.damage.extend(bad_snapshot.map(Damaged::Snapshot));
        (Beside { vote, snapshots, standing, failed: None }, opened)
    };
    Ok(groups.iter().map(look).unzip())
}

fn open_logs(
    at: &Path,
    groups: &[GroupName],
    known: &Numbers,
) -> Result<(Logs, Vec<LogFound>), Failure> {
    let mut logs = Logs::open(at.to_owned(), groups, known)?;
    let found = (0..groups.len()).map(|group| logs.check(group)).collect::<Result<_, _>>()?;
    Ok((logs, found))
}

/// Notes what the logs hold, and whether the snapshots reach up to their beginning.
fn note_logs(
    logs: Result<(Logs, Vec<LogFound>), Failure>,
    at: &Path,
    besides: &[Beside],
    opened: &mut [Opened],
) -> Result<Result<Logs, Failure>, DiskError> {
    let (mut logs, found) = match logs {
        Ok(checked) => checked,
        Err(failure) => {
            for opened in opened {
                opened.damage.push(Damaged::Log(into_damage(failure.clone())));
            }
            return Ok(Err(failure));
        }
    };
    for (opened, (bounds, damages)) in opened.iter_mut().zip(found) {
        opened.log = bounds;
        opened.damage.extend(damages.into_iter().map(Damaged::Log));
    }
    for (group, (beside, opened)) in besides.iter().zip(opened).enumerate() {
        let impaired = matches!(opened.standing, Standing::Impaired(_));
        if logs.is_new(group) && !impaired && has_promised(opened) {
            let lost = damage(at, None, "nothing of a group of which there are other files");
            impair(&beside.standing, opened, &lost)?;
            opened.damage.push(Damaged::Log(lost));
        }
        let before = logs.before(group);
        let what = match beside.snapshots.index() {
            Some(index) if index < before => {
                format!("the snapshot covers up to {index}, but the log begins behind {before}")
            }
            None if before.get() > 0 => format!("no snapshot, but the log begins behind {before}"),
            _ => continue,
        };
        opened.damage.push(Damaged::Snapshot(damage(beside.snapshots.folder(), None, what)));
    }
    // Only now: a group that the database knows is not taken for one that it lost.
    Ok(logs.register().map(|()| logs))
}

/// Whether there is anything that a member writes before it promises something.
fn has_promised(opened: &Opened) -> bool {
    let known = |damaged: &Damaged| !matches!(damaged, Damaged::Log(_));
    opened.vote.is_some()
        || opened.snapshot.is_some()
        || opened.standing == Standing::Whole
        || opened.damage.iter().any(known)
}

/// Writes down that a group's records are lost.
fn impair(file: &StandingFile, opened: &mut Opened, lost: &Damage) -> Result<(), DiskError> {
    if matches!(opened.standing, Standing::Impaired(_)) {
        // The core adds what is lost now.
        return Ok(());
    }
    let loss = match opened.vote {
        Some(vote) => Loss::Records { promised: vote.term },
        None => Loss::Everything,
    };
    let found = vec![lost.clone()];
    opened.standing = Standing::Impaired(Impairment { lost: loss, found });
    file.write(&opened.standing).map_err(|error| DiskError::io(file.path(), error))
}

fn check_stores(
    mut stores: Stores,
    groups: &[(u32, GroupName)],
) -> Result<(Stores, Vec<StoreFound>), Failure> {
    stores.begin(groups)?;
    let found = (0..groups.len()).map(|group| stores.check(group)).collect::<Result<_, _>>()?;
    Ok((stores, found))
}

/// Notes what the stores hold.
fn note_stores(
    stores: Result<Stores, Failure>,
    at: &Path,
    groups: &[(u32, GroupName)],
    opened: &mut [Opened],
) -> Result<Result<Stores, Failure>, DiskError> {
    let mut checked = stores.and_then(|stores| check_stores(stores, groups));
    if let Err(Failure::Damaged(found)) = &checked {
        let moved = move_aside(at, found)?;
        for opened in &mut *opened {
            opened.damage.push(Damaged::Store(moved.clone()));
        }
        checked = Stores::open(at.to_owned()).and_then(|stores| check_stores(stores, groups));
    }
    Ok(match checked {
        Ok((stores, found)) => {
            for (opened, (mark, only_adds, damages)) in opened.iter_mut().zip(found) {
                opened.store = mark;
                opened.only_adds = only_adds;
                opened.damage.extend(damages.into_iter().map(Damaged::Store));
            }
            Ok(stores)
        }
        Err(failure) => {
            for opened in opened {
                opened.damage.push(Damaged::Store(into_damage(failure.clone())));
            }
            Err(failure)
        }
    })
}

/// Gives a damaged database another name, under which it stays; what to say of it.
fn move_aside(at: &Path, found: &Damage) -> Result<Damage, DiskError> {
    let io = |error| DiskError::io(at, error);
    let aside = free_name(at);
    fs::rename(at, &aside).map_err(io)?;
    at.parent().map_or(Ok(()), sync_folder).map_err(io)?;
    let what = format!("{}; the whole database was moved to {}", found.what, aside.display());
    Ok(Damage { what, ..found.clone() })
}

fn free_name(at: &Path) -> PathBuf {
    let name = |number: u32| at.with_extension(format!("damaged-{number}"));
    (1..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0))
}
