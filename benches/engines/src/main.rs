//! Measures embedded engines with the records of a raft log: a record is one whole append entry.
//!
//! `jetwake-engines [DIR] [ENGINE…]` prints a table. Each cell runs in a process of its own, which
//! the last phase ends with SIGKILL; then the folder is opened anew.

mod engines;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Any = Box<dyn std::error::Error>;

const ALL: [&str; 7] =
    ["file", "fjall", "fjall-all", "fjall-16", "fjall-blob", "redb", "raft-engine"];
const SIZES: [usize; 3] = [300, 16 << 10, 256 << 10];
const GROUPS: [u32; 3] = [1, 8, 64];
/// A cell ends after this time or this many bytes, whichever is first.
const TIME: Duration = Duration::from_secs(3);
const BYTES: u64 = 1 << 30;

fn main() -> Result<(), Any> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["cell", engine, size, groups, dir] => {
            cell(engine, size.parse()?, groups.parse()?, Path::new(dir))
        }
        ["write", engine, dir] => write_until_killed(engine, Path::new(dir)),
        ["reopen", engine, dir] => reopen(engine, Path::new(dir)),
        [] => table(Path::new("."), &ALL),
        [dir] => table(Path::new(dir), &ALL),
        [dir, engines @ ..] => table(Path::new(dir), engines),
    }
}

fn table(dir: &Path, engines: &[&str]) -> Result<(), Any> {
    println!(
        "| engine | bytes a record | groups | records/s | MB/s | written a byte | p99 ms | \
              peak RSS MB | truncate ms | compact half ms | compact half: disk MB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for engine in engines {
        for size in SIZES {
            for groups in GROUPS {
                let cell = tempfile(dir)?;
                let status = Command::new(std::env::current_exe()?)
                    .args(["cell", engine, &size.to_string(), &groups.to_string()])
                    .arg(&cell)
                    .status()?;
                std::fs::remove_dir_all(&cell)?;
                if !status.success() {
                    println!("| {engine} | {size} | {groups} | failed: {status} |");
                }
            }
        }
    }
    println!(
        "\n| engine | killed with so many records of 300 B | reported | found | reopen ms | RSS MB |"
    );
    println!("|---|---|---|---|---|---|");
    for engine in engines.iter().filter(|engine| **engine != "file") {
        let folder = tempfile(dir)?;
        kill_and_reopen(engine, &folder)?;
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(())
}

fn tempfile(dir: &Path) -> Result<std::path::PathBuf, Any> {
    let folder = dir.join(format!("engines-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Appends, then truncates a record of each group a hundred times, then compacts half.
fn cell(name: &str, size: usize, groups: u32, dir: &Path) -> Result<(), Any> {
    let mut engine = engines::open(name, dir)?;
    let record = noise(size);
    let (mut index, mut waits) = (0, Vec::new());
    let before = written()?;
    let start = Instant::now();
    while start.elapsed() < TIME && index * u64::from(groups) * (size as u64) < BYTES {
        index += 1;
        let commit = Instant::now();
        engine.append(groups, index, &record)?;
        waits.push(commit.elapsed());
    }
    let seconds = start.elapsed().as_secs_f64();
    let records = index * u64::from(groups);
    let bytes = (records * size as u64) as f64;
    let amplification = (written()? - before) as f64 / bytes;
    waits.sort();
    let p99 = waits[waits.len() * 99 / 100].as_secs_f64() * 1e3;

    let cut = Instant::now();
    for _ in 0..100 {
        engine.truncate(0, index - 1, index)?;
        engine.append(1, index, &record)?;
    }
    let cut = cut.elapsed().as_secs_f64() * 1e3 / 100.0;
    let compact = Instant::now();
    for group in 0..groups {
        engine.compact(group, 1, index / 2)?;
    }
    let compact = compact.elapsed().as_secs_f64() * 1e3;
    println!(
        "| {name} | {size} | {groups} | {:.0} | {:.1} | {amplification:.2} | {p99:.1} | {} | {cut:.2} | {compact:.1} | {} |",
        records as f64 / seconds,
        bytes / seconds / 1e6,
        status("VmHWM")? / 1000,
        usage(dir)? / 1_000_000,
    );
    Ok(())
}

fn write_until_killed(name: &str, dir: &Path) -> Result<(), Any> {
    let mut engine = engines::open(name, dir)?;
    let record = noise(300);
    let mut out = std::io::stdout().lock();
    for index in 1.. {
        engine.append(8, index, &record)?;
        writeln!(out, "{index}")?;
        out.flush()?;
    }
    Ok(())
}

fn kill_and_reopen(engine: &str, dir: &Path) -> Result<(), Any> {
    let program = std::env::current_exe()?;
    let mut child =
        Command::new(&program).args(["write", engine]).arg(dir).stdout(Stdio::piped()).spawn()?;
    let mut reported = 0u64;
    for line in BufReader::new(child.stdout.take().ok_or("no pipe")?).lines() {
        reported = line?.parse()?;
        if reported == 10_000 {
            child.kill()?;
        }
    }
    child.wait()?;
    print!("| {engine} | {} | {reported} ", reported * 8);
    std::io::stdout().flush()?;
    Command::new(&program).args(["reopen", engine]).arg(dir).status()?;
    Ok(())
}

fn reopen(name: &str, dir: &Path) -> Result<(), Any> {
    let start = Instant::now();
    let mut engine = engines::open(name, dir)?;
    let found = engine.read(0, 1)?.1.unwrap_or(0);
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    println!("| {found} | {milliseconds:.1} | {} |", status("VmHWM")? / 1000);
    Ok(())
}

/// Bytes that no compression makes smaller.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size).map(|_| next()).collect()
}

/// Bytes that this process caused to be written to disk.
fn written() -> Result<u64, Any> {
    field("/proc/self/io", "write_bytes")
}

/// A field of the process's status, in KiB.
fn status(name: &str) -> Result<u64, Any> {
    field("/proc/self/status", name)
}

fn field(file: &str, name: &str) -> Result<u64, Any> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find(|line| line.starts_with(name)).ok_or("no such field")?;
    Ok(line.split_whitespace().nth(1).ok_or("no value")?.parse()?)
}

/// Blocks taken by a folder, in bytes.
fn usage(dir: &Path) -> Result<u64, Any> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let is_dir = entry.file_type()?.is_dir();
        sum += if is_dir { usage(&entry.path())? } else { entry.metadata()?.blocks() * 512 };
    }
    Ok(sum)
}
