//! Three nodes on this machine, and all that may happen to them in a minute.
//!
//! The nodes are processes of their own, with real sockets and disks. A client publishes and
//! keeps its own record of what was acknowledged; meanwhile a follower is killed and comes back, then
//! the leader. Another client sends batches to a second stream, which has limits. At the end everything
//! is read back from each replica and compared with the records of both. One file a subject: `nodes` are
//! the processes, `workload` what is published, `course` how far it may go, `publishing` the client,
//! `bounded` the second stream, `trouble` the kills, `readback` and `verify` the comparison.

mod bounded;
mod course;
mod folder;
mod nodes;
mod publishing;
mod readback;
mod record;
mod replica;
mod story;
mod summary;
mod trouble;
mod verify;
mod workload;

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use indicatif::HumanCount;
use jetwake::wire::ApiError;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::client::publisher::{Publisher, PublisherSettings};
use crate::client::{Client, ClientError};
use crate::clock::Clock;
use crate::transport::certificates::CertificateError;
use crate::transport::tls::TlsError;

use bounded::{Bounded, Held};
use course::Course;
use folder::Folder;
use nodes::{ELECTION_MAX, Nodes, SERVERS};
use publishing::{Publishing, Undisturbed, WINDOW};
use record::Record;
use story::{Story, spoken};
use summary::rounded;
use trouble::{Measured, Trouble, ready};
use verify::Verdict;
use workload::{STREAM, SUBJECTS, Workload};

pub use summary::{BoundedFigures, CatchupFigures, Failover, Memory, Publish, Summary};
pub use workload::{FEWEST_MESSAGES, LARGEST_PAYLOAD, MOST_MESSAGES, Source};

/// How often all nodes are started, on other ports each time, before it is given up.
const STARTS: usize = 5;
/// How long the first leader may take.
const FIRST_LEADER: Duration = Duration::from_secs(30);

/// How a demo is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is published.
    pub source: Source,
    /// Where the demo's folder is made; the system's temporary folder if none is given.
    pub dir: Option<PathBuf>,
    /// The URL of a NATS server through which the nodes are to reach each other; they dial each
    /// other if there is none.
    pub between: Option<String>,
    /// Leave the folder there.
    pub keep: bool,
    /// Keep stdout free: tell the story on stderr.
    pub quiet_stdout: bool,
    /// The `jetwake` program, which the nodes run.
    pub program: PathBuf,
}

/// How a demo ended.
#[derive(Debug)]
pub struct Ending {
    /// What came of it, as far as it came.
    pub summary: Summary,
    /// The folder, if it was kept.
    pub folder: Option<PathBuf>,
    /// Why it did not come to its end.
    pub error: Option<DemoError>,
}

/// Why a demo did not come to its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The messages cannot be published as they are.
    #[error("{0}")]
    Input(String),
    /// A file, folder or program that cannot be used.
    #[error("{}: {why}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        why: std::io::Error,
    },
    /// Certificates cannot be made.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A node ended that nobody killed.
    #[error("node {server} ended by itself, {status}; its log ends with:\n{log}")]
    Ended {
        /// The server.
        server: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// A node cannot be spoken to.
    #[error("{step}: {why}")]
    Client {
        /// The step that this ends.
        step: String,
        /// What happened.
        why: ClientError,
    },
    /// A node refused what it should do.
    #[error("{what} was refused: {why}")]
    Refused {
        /// What.
        what: String,
        /// The node's error.
        why: ApiError,
    },
    /// A step made no progress.
    #[error("{step}: nothing happened for {patience:?}: {how}")]
    Hung {
        /// The step.
        step: String,
        /// How long it was waited for.
        patience: Duration,
        /// Who hangs, and how.
        how: String,
    },
    /// The demo was told to end.
    #[error("interrupted by {0}")]
    Interrupted(&'static str),
}

/// Plays the demo. When it returns no node runs any more, and the folder is gone unless it is
/// asked to stay or something is wrong.
///
/// Must be called inside a tokio runtime with I/O and time; one of a single thread is best.
pub async fn run(options: Options, clock: Clock) -> Ending {
    let mut summary = Summary::default();
    let story = Story::begin(clock, options.quiet_stdout);
    let folder = match Folder::make(options.dir.as_deref()) {
        Ok(folder) => folder,
        Err(error) => return Ending { summary, folder: None, error: Some(error) },
    };
    let play = Play { clock, story: &story, options: &options, folder: &folder };
    let played = tokio::select! {
        played = play.play(&mut summary) => played,
        error = interrupted() => Err(error),
    };
    let (sound, mut error) = match played {
        Ok(verdict) => (verdict.is_sound(), None),
        Err(error) => (false, Some(error)),
    };
    summary.verified = sound;
    let interrupted = matches!(error, Some(DemoError::Interrupted(_) | DemoError::Input(_)));
    if options.keep || !sound && !interrupted {
        return Ending { summary, folder: Some(folder.keep()), error };
    }
    if let Err(why) = folder.remove() {
        summary.verified = false;
        error = error.or(Some(why));
    }
    Ending { summary, folder: None, error }
}

/// Comes true when the demo is told to end.
async fn interrupted() -> DemoError {
    let wait = async |kind| match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        // A signal that cannot be caught ends the process, and its nodes with it.
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => DemoError::Interrupted("SIGINT"),
        () = wait(SignalKind::terminate()) => DemoError::Interrupted("SIGTERM"),
        () = wait(SignalKind::hangup()) => DemoError::Interrupted("SIGHUP"),
    }
}

/// What every act needs.
#[derive(Clone, Copy)]
struct Play<'a> {
    clock: Clock,
    story: &'a Story,
    options: &'a Options,
    folder: &'a Folder,
}

impl Play<'_> {
    async fn play(self, summary: &mut Summary) -> Result<Verdict, DemoError> {
        let workload = Workload::survey(self.options.source.clone())?;
        let now = self.clock.now();
        let nodes = Nodes::prepare(
            self.folder.path(),
            &self.options.program,
            self.options.between.clone(),
            now,
        )?;
        self.start(&nodes).await?;
        let record = RefCell::new(Record::new(workload.messages()));
        let held = tokio::select! {
            published = self.publish(&nodes, &workload, &record, summary) => published?,
            error = nodes.watch() => return Err(error),
        };
        let record = record.into_inner();
        let verdict = tokio::select! {
            compared = self.compare(&nodes, &record, &held) => compared?,
            error = nodes.watch() => return Err(error),
        };
        nodes.stop_all().await?;
        summary.lost = verdict.lost;
        summary.duplicates = verdict.duplicates;
        summary.replicas_identical = verdict.identical;
        summary.memory.peak_bytes_per_node = nodes.peaks().to_vec();
        Ok(verdict)
    }

    /// Starts the nodes and waits until they have a leader.
    async fn start(&self, nodes: &Nodes) -> Result<(), DemoError> {
        let mut starts = 1;
        loop {
            nodes.start_all()?;
            let mut ready_all = Ok(());
            for node in 0..SERVERS.len() {
                ready_all = ready_all.and(ready(nodes, node).await.map(drop));
            }
            match ready_all {
                Ok(()) => break,
                Err(error) if starts < STARTS && Nodes::port_taken(&error) => nodes.clear()?,
                Err(error) => return Err(error),
            }
            starts += 1;
        }
        let addresses: Vec<_> = nodes.addresses().iter().map(ToString::to_string).collect();
        let folder = self.folder.path().display();
        self.story.line(&format!("started {}; data in {folder}", addresses.join(", ")));
        let (addresses, access) = (nodes.addresses(), nodes.access());
        let leader = tokio::select! {
            found = Client::connect_to_leader(&addresses, access, STREAM, FIRST_LEADER) => {
                found.map_err(|why| DemoError::Client { step: "electing a leader".into(), why })?
            }
            error = nodes.watch() => return Err(error),
        };
        self.story.line(&format!("{} leads", leader.server()));
        Ok(())
    }

    /// Publishes everything, with all that happens meanwhile.
    async fn publish(
        &self,
        nodes: &Nodes,
        workload: &Workload,
        record: &RefCell<Record>,
        summary: &mut Summary,
    ) -> Result<Held, DemoError> {
        let (what, window) = (workload.describe(), HumanCount(WINDOW as u64));
        self.story.line(&format!(
            "publishing {what} to {SUBJECTS} subjects, at most {window} of them unacknowledged"
        ));
        let settings = PublisherSettings {
            window: WINDOW,
            silence: ELECTION_MAX * 5,
            ..PublisherSettings::default()
        };
        let publisher = Publisher::new(nodes.addresses(), nodes.access().clone(), STREAM, settings);
        let (clock, story) = (self.clock, self.story);
        let course = &Course::new(workload.messages());
        let undisturbed = &RefCell::new(None);
        let messages = workload.begin()?;
        let publishing =
            Publishing { clock, course, record, undisturbed, publisher, messages, story };
        let trouble = Trouble { clock, story, nodes, course, record };
        let bar = story.bar("published", workload.messages());
        let bounded = Bounded { story, nodes, course };
        let played = tokio::try_join!(publishing.run(bar), trouble.run(), bounded.run());
        let record = record.borrow();
        (summary.published, summary.acked) = (record.sent_count(), record.acked());
        if let Some(undisturbed) = &*undisturbed.borrow() {
            summary.publish = publish_figures(undisturbed);
        }
        let ((), Measured { catchup, failover }, held) = played?;
        summary.bounded = bounded_figures(&held);
        summary.catchup = CatchupFigures {
            messages: catchup.done,
            bytes: catchup.bytes,
            seconds: catchup.milliseconds as f64 / 1e3,
        };
        summary.failover = Failover { milliseconds: rounded(failover.as_secs_f64() * 1e3) };
        let (acked, repeated) = (HumanCount(record.acked()), HumanCount(record.repeated()));
        story.line(&format!(
            "all {acked} messages are acknowledged; {repeated} were sent twice and stored once"
        ));
        bounded.tell(&held);
        Ok(held)
    }

    /// Reads every replica and compares.
    async fn compare(
        &self,
        nodes: &Nodes,
        record: &Record,
        held: &Held,
    ) -> Result<Verdict, DemoError> {
        let begun = self.clock.now();
        for (stream, last) in [(STREAM, record.highest_sequence()), (bounded::STREAM, held.last())]
        {
            readback::settle(self.clock, self.story, nodes, stream, last).await?;
        }
        let mut replicas = Vec::new();
        for node in 0..SERVERS.len() {
            replicas.push(readback::read_replica(self.story, nodes, node, record).await?);
        }
        let mut verdict = verify::compare(record, &replicas);
        let mut bounded = Vec::new();
        for node in 0..SERVERS.len() {
            let mut messages = Vec::new();
            let take = |message| messages.push(message);
            let view = readback::read_all(self.story, nodes, node, bounded::STREAM, take).await?;
            bounded.push((view, messages));
        }
        verdict.failures.append(&mut held.compare(&bounded));
        let took = spoken(self.clock.now().since(begun));
        self.story.line(&format!("read and compared all three replicas of both streams in {took}"));
        for failure in &verdict.failures {
            self.story.line(&format!("WRONG: {failure}"));
        }
        Ok(verdict)
    }
}

fn bounded_figures(held: &Held) -> BoundedFigures {
    BoundedFigures {
        batches_committed: held.committed,
        batches_abandoned: held.abandoned,
        batches_refused: held.refused,
        evicted: held.evicted,
        purged: held.purged,
        messages: held.count(),
    }
}

fn publish_figures(undisturbed: &Undisturbed) -> Publish {
    Publish {
        messages_per_second: undisturbed.messages_per_second().round(),
        p50_milliseconds: rounded(undisturbed.p50_milliseconds),
        p99_milliseconds: rounded(undisturbed.p99_milliseconds),
    }
}

/// Tells the ending as a person would like to read it.
pub fn tell(ending: &Ending, out: &mut impl std::io::Write) -> std::io::Result<()> {
    if ending.error.is_none() {
        writeln!(out)?;
        for line in ending.summary.to_lines() {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}
