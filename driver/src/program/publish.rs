//! `jetwake pub`: publishes messages and waits until they are safe.

use std::io::{BufRead, Write};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use jetwake::event::Request;
use jetwake_driver::client::publisher::{
    Published, Publisher, PublisherSettings, message_id_header,
};
use jetwake_driver::clock::Clock;
use tokio::sync::mpsc;

use super::access::AccessArguments;
use super::{Failure, block_on, tell};

/// Lines that are read ahead in one piece.
const LINES: usize = 1024;
/// Refusals that are told one by one.
const TOLD: u64 = 10;

/// Publish messages to a stream.
///
/// Each message is acknowledged when a majority of the stream's servers has it on disk. If the leader
/// is lost meanwhile, what it did not acknowledge is sent again to the next one. Every message
/// carries an id, by which the stream knows it again, so that it is stored once.
#[derive(Args)]
pub(super) struct PublishArguments {
    /// The stream.
    stream: String,

    /// The subject, which the stream must take.
    subject: String,

    /// The message; without it, every line of stdin is one.
    message: Option<String>,

    /// The id of the message [default: drawn by chance]
    #[arg(long, requires = "message", conflicts_with_all = ["ids", "no_ids"])]
    id: Option<String>,

    /// Every line of stdin begins with an id, up to a tab.
    #[arg(long, conflicts_with_all = ["message", "no_ids"])]
    ids: bool,

    /// No ids: a message may be stored twice if the leader is lost.
    #[arg(long)]
    no_ids: bool,

    /// How long to look for a leader before giving up.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    patience: Duration,

    #[command(flatten)]
    access: AccessArguments,
}

pub(super) fn run(arguments: PublishArguments) -> Result<(), Failure> {
    let PublishArguments { stream, subject, message, id, ids, no_ids, patience, access } =
        arguments;
    let (nodes, access) = access.load()?;
    let clock = Clock::start();
    let ids = match id {
        _ if no_ids => Ids::None,
        Some(id) => Ids::Given(check_id(id.as_bytes())?.to_owned()),
        None if ids => Ids::OfLines,
        None => Ids::Drawn {
            prefix: format!("{:x}-{:x}-", clock.now().as_nanos(), std::process::id()),
            next: 0,
        },
    };
    let settings = PublisherSettings { patience, ..PublisherSettings::default() };
    let mut publishing = Publishing {
        publisher: Publisher::new(nodes, access, stream, settings),
        subject: subject.into(),
        ids,
        summary: Summary::default(),
    };
    block_on(async {
        let started = clock.now();
        match message {
            Some(message) => publishing.one(message).await?,
            None => publishing.lines(read_lines()?).await?,
        }
        publishing.summary.conclude(clock.now().since(started))
    })
}

/// Where messages get their ids from.
enum Ids {
    None,
    Given(String),
    OfLines,
    Drawn { prefix: String, next: u64 },
}

struct Publishing {
    publisher: Publisher,
    subject: Bytes,
    ids: Ids,
    summary: Summary,
}

impl Publishing {
    async fn one(&mut self, message: String) -> Result<(), Failure> {
        let request = self.request(message.into())?;
        self.offer(request);
        self.await_outcomes().await
    }

    async fn lines(&mut self, mut lines: mpsc::Receiver<LineBatch>) -> Result<(), Failure> {
        let mut outcomes = Vec::new();
        let mut ended = false;
        while !ended {
            // What came is offered as the window allows; more is read only then.
            let batch = tokio::select! {
                batch = lines.recv() => batch,
                done = self.publisher.outcomes(&mut outcomes), if !self.publisher.is_done() => {
                    done?;
                    self.summary.add(&mut outcomes);
                    continue;
                }
            };
            ended = batch.is_none();
            for line in batch.transpose()?.unwrap_or_default() {
                let request = self.request(line)?;
                while !self.publisher.has_room() {
                    self.publisher.outcomes(&mut outcomes).await?;
                    self.summary.add(&mut outcomes);
                }
                self.offer(request);
            }
        }
        self.await_outcomes().await
    }

    fn offer(&mut self, request: Request) {
        // There is room: callers wait for it.
        let offered = self.publisher.offer(request);
        debug_assert!(offered.is_ok());
    }

    async fn await_outcomes(&mut self) -> Result<(), Failure> {
        let mut outcomes = Vec::new();
        while !self.publisher.is_done() {
            self.publisher.outcomes(&mut outcomes).await?;
            self.summary.add(&mut outcomes);
        }
        Ok(())
    }

    fn request(&mut self, line: Bytes) -> Result<Request, Failure> {
        let mut payload = line;
        let header = match &mut self.ids {
            Ids::None => Bytes::new(),
            Ids::Given(id) => message_id_header(id),
            Ids::Drawn { prefix, next } => {
                *next += 1;
                message_id_header(&format!("{prefix}{next}"))
            }
            Ids::OfLines => {
                let tab = payload.iter().position(|byte| *byte == b'\t');
                let tab = tab.ok_or_else(|| anyhow::anyhow!("found a line without a tab"))?;
                let id = payload.split_to(tab);
                payload = payload.slice(1..);
                message_id_header(check_id(&id)?)
            }
        };
        Ok(Request::Publish { subject: self.subject.clone(), header, payload })
    }
}

/// An id must not end the header that it stands in.
fn check_id(id: &[u8]) -> Result<&str, Failure> {
    match std::str::from_utf8(id) {
        Ok(text) if !text.is_empty() && !text.contains(char::is_control) => Ok(text),
        _ => {
            Err(anyhow::anyhow!("id {:?}: expected visible text", id.escape_ascii().to_string())
                .into())
        }
    }
}

type LineBatch = Result<Vec<Bytes>, std::io::Error>;

/// Reads lines ahead on a thread of its own.
fn read_lines() -> Result<mpsc::Receiver<LineBatch>, Failure> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut stdin = std::io::BufReader::with_capacity(1 << 18, std::io::stdin());
        loop {
            let (lines, last) = read_batch(&mut stdin);
            if sender.blocking_send(lines).is_err() || last {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// The lines that are there, and whether they are the last.
fn read_batch(stdin: &mut std::io::BufReader<std::io::Stdin>) -> (LineBatch, bool) {
    let mut lines = Vec::new();
    while lines.len() < LINES && (lines.is_empty() || !stdin.buffer().is_empty()) {
        let mut line = Vec::new();
        match stdin.read_until(b'\n', &mut line) {
            Err(error) => return (Err(error), true),
            Ok(0) => return (Ok(lines), true),
            Ok(_) => {
                let end = [&b"\r\n"[..], b"\n"].into_iter().find(|end| line.ends_with(end));
                line.truncate(line.len() - end.map_or(0, <[u8]>::len));
                lines.push(line.into());
            }
        }
    }
    (Ok(lines), false)
}

/// What became of the messages so far.
#[derive(Default)]
struct Summary {
    stored: u64,
    duplicates: u64,
    refused: u64,
    sequences: Option<(u64, u64)>,
}

impl Summary {
    fn add(&mut self, outcomes: &mut Vec<Published>) {
        for published in outcomes.drain(..) {
            match published.outcome {
                Ok(stored) => {
                    let sequence = stored.sequence;
                    let (first, last) = self.sequences.unwrap_or((sequence, sequence));
                    self.sequences = Some((first.min(sequence), last.max(sequence)));
                    self.stored += 1;
                    self.duplicates += u64::from(stored.duplicate);
                }
                Err(error) => {
                    self.refused += 1;
                    if self.refused <= TOLD {
                        tell(&format!("message {} refused: {error}", published.number + 1));
                    }
                }
            }
        }
    }

    fn conclude(&self, took: Duration) -> Result<(), Failure> {
        let mut out = std::io::stdout();
        if let Some((first, last)) = self.sequences {
            let Self { stored, duplicates, .. } = self;
            let rate = *stored as f64 / took.as_secs_f64().max(1e-9);
            let sequences =
                if first == last { format!("{first}") } else { format!("{first} to {last}") };
            let known = match duplicates {
                0 => String::new(),
                _ => format!(", {duplicates} of them had been stored before"),
            };
            writeln!(out, "stored {stored} at sequence {sequences}{known} ({rate:.0} a second)")?;
        }
        match self.refused {
            0 => Ok(()),
            refused => Err(anyhow::anyhow!("{refused} messages were refused").into()),
        }
    }
}
