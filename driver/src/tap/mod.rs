//! `jetwake tap`: what a cluster's groups and catchups say, as it happens.
//!
//! It listens to `$NRG.>`, `$JSC.>` and the servers' status messages, and publishes nothing.
//! `watch.rs` knows from that how the cluster stands, `view.rs` shows it, `record.rs` keeps the
//! messages for `jetwake decode --trace`.

mod record;
mod view;
mod watch;

use std::future::Future;
use std::io::{self, Write};
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use async_nats::{Event, Message, ServerError, Subscriber};
use futures_util::{FutureExt, StreamExt};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::transport::nats::{NatsAccess, NatsError};
use record::Recording;
use view::View;
use watch::Watch;

/// What a tap listens to.
const SUBJECTS: [&str; 3] = ["$NRG.>", "$JSC.>", "$SYS.SERVER.*.STATSZ"];
/// How often the view is made anew.
const BEAT: Duration = Duration::from_millis(500);
/// Messages of one subscription that are taken before the next has its turn.
const TURN: usize = 1024;
/// How long nothing may be heard at first: servers tell how they stand every ten seconds.
const SILENCE: Duration = Duration::from_secs(15);

/// How a tap shows what it hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// A table that is made anew, with the last lines of the story below it: for terminals.
    Live {
        /// Whether in colours.
        colours: bool,
    },
    /// The story, a line as it happens, and the table at the end.
    Story,
    /// JSON lines: `{"story":…}` as it happens, and `{"state":…}` every second.
    Json,
}

/// What a tap does.
#[derive(Debug)]
pub struct TapOptions {
    /// How to show what is heard.
    pub show: Show,
    /// Where to keep all messages, for `jetwake decode --trace`.
    pub record: Option<PathBuf>,
    /// Only these groups; all if there are none.
    pub groups: Vec<String>,
}

/// Why a tap ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TapError {
    /// There is no server, or it does not let us in.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// The server does not let this user listen.
    #[error("the server does not let this user listen: {0}")]
    Permission(String),
    /// The connection ended for good.
    #[error("the connection to the server ended")]
    Ended,
    /// Nothing is to be heard.
    #[error(
        "nothing was heard in {} s: this user is not one of the system account, or the server has none",
        SILENCE.as_secs()
    )]
    NotSystem,
    /// There are servers, and nothing replicated.
    #[error("the servers say that JetStream is not enabled: there is nothing to see")]
    NoJetStream,
    /// The recording cannot be written.
    #[error("{}: {why}", .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// The output failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Listens until `stop` comes true.
///
/// # Errors
/// [`TapError`].
pub async fn run(
    access: &NatsAccess,
    options: TapOptions,
    out: &mut impl Write,
    stop: impl Future<Output = ()>,
) -> Result<(), TapError> {
    let (sender, events) = mpsc::unbounded_channel();
    let tell = move |event: &Event| drop(sender.send(event.clone()));
    let client = access.connect("jetwake tap", tell).await?;
    let mut subscribers = Vec::new();
    for subject in SUBJECTS {
        let subscriber = client.subscribe(subject).await.map_err(|_| TapError::Ended)?;
        subscribers.push(subscriber);
    }
    let recording = options.record.map(Recording::create).transpose()?;
    let began = Instant::now();
    let view = View::new(options.show, options.groups);
    let mut tap = Tap { watch: Watch::default(), view, recording, began, subscribers, events };
    let listened = tap.listen(out, stop).await;
    let ended = tap.view.end(out, &tap.watch, tap.began.elapsed());
    if let Some(recording) = &mut tap.recording {
        recording.flush()?;
    }
    listened?;
    Ok(ended?)
}

struct Tap {
    watch: Watch,
    view: View,
    recording: Option<Recording>,
    began: Instant,
    subscribers: Vec<Subscriber>,
    events: mpsc::UnboundedReceiver<Event>,
}

impl Tap {
    async fn listen(
        &mut self,
        out: &mut impl Write,
        stop: impl Future<Output = ()>,
    ) -> Result<(), TapError> {
        let mut stop = pin!(stop);
        let mut beat = tokio::time::interval(BEAT);
        loop {
            let [raft, streams, servers] = &mut self.subscribers[..] else {
                return Err(TapError::Ended);
            };
            let message = tokio::select! {
                () = &mut stop => return Ok(()),
                event = self.events.recv() => {
                    self.happened(out, event.ok_or(TapError::Ended)?)?;
                    continue;
                }
                _ = beat.tick() => {
                    self.beat(out)?;
                    continue;
                }
                message = raft.next() => message,
                message = streams.next() => message,
                message = servers.next() => message,
            };
            self.hear(out, &message.ok_or(TapError::Ended)?)?;
            self.hear_what_is_there(out)?;
        }
    }

    /// Takes what came meanwhile, each subscription in turn.
    fn hear_what_is_there(&mut self, out: &mut impl Write) -> Result<(), TapError> {
        for place in 0..self.subscribers.len() {
            for _ in 0..TURN {
                let Some(Some(message)) = self.subscribers[place].next().now_or_never() else {
                    break;
                };
                self.hear(out, &message)?;
            }
        }
        Ok(())
    }

    fn hear(&mut self, out: &mut impl Write, message: &Message) -> Result<(), TapError> {
        let us = self.now();
        if message.subject.starts_with("$SYS.") {
            self.watch.hear_status(&message.payload);
            return Ok(());
        }
        if let Some(recording) = &mut self.recording {
            recording.add(us, message)?;
        }
        if let Some(said) = self.watch.hear(us, message) {
            self.view.story(out, us, &said)?;
        }
        Ok(())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Something became of the connection.
    fn happened(&mut self, out: &mut impl Write, event: Event) -> Result<(), TapError> {
        let news = match event {
            Event::ServerError(ServerError::Other(why)) if why.contains("ermissions") => {
                return Err(TapError::Permission(why));
            }
            Event::ServerError(ServerError::AuthorizationViolation) => {
                return Err(TapError::Permission("it no longer knows the user".into()));
            }
            Event::SlowConsumer(_) => {
                self.watch.counts.missed += 1;
                return Ok(());
            }
            Event::Connected => "connected to a server of the cluster".to_owned(),
            Event::Disconnected => "lost the server, and tries again".to_owned(),
            Event::Closed => return Err(TapError::Ended),
            other => other.to_string(),
        };
        let us = self.now();
        Ok(self.view.note(out, us, &news)?)
    }

    fn beat(&mut self, out: &mut impl Write) -> Result<(), TapError> {
        let elapsed = self.began.elapsed();
        self.watch.beat(self.now());
        if let Some(recording) = &mut self.recording {
            recording.flush()?;
        }
        let counts = &self.watch.counts;
        if counts.messages == 0 && elapsed > SILENCE {
            return Err(match self.watch.servers() {
                0 => TapError::NotSystem,
                _ if !self.watch.has_jetstream() => TapError::NoJetStream,
                _ => return Ok(self.view.beat(out, &self.watch, elapsed)?),
            });
        }
        Ok(self.view.beat(out, &self.watch, elapsed)?)
    }
}
