//! Between our node and its NATS server, so that a test decides what becomes of messages on their way:
//! held, lost, or cut off with the connection. All else goes through as it comes, on a thread of its own
//! while a test waits for a process.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::bed::PATIENCE;

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToOurs,
    FromOurs,
}

/// What becomes of messages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// They wait, in order, until the gate opens.
    Held,
    /// So many are lost.
    Lost(u64),
}

/// Which messages do not go through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) way: Way,
    /// What their subjects begin with.
    pub(crate) subjects: &'static str,
    /// How many go through before.
    pub(crate) after: u64,
    pub(crate) fate: Fate,
}

#[derive(Default)]
struct State {
    rule: Option<Rule>,
    /// How many messages that the rule is about went through, and how many did not.
    passed: u64,
    stopped: u64,
    held: Vec<(mpsc::UnboundedSender<Bytes>, Bytes)>,
    connections: Vec<AbortHandle>,
}

/// A gate, until it is dropped.
pub(crate) struct Gate {
    url: String,
    state: Arc<Mutex<State>>,
    /// Whoever listens at the other end learns that the gate is gone.
    _stands: oneshot::Sender<()>,
}

impl Gate {
    /// A gate before the server at this URL.
    pub(crate) fn before(server: &str) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let url = format!("nats://{}", listener.local_addr().expect("its address"));
        let server = server.strip_prefix("nats://").expect("a URL").to_owned();
        let state = Arc::new(Mutex::new(State::default()));
        let (stands, gone) = oneshot::channel();
        let accepts = accept(listener, server, Arc::clone(&state));
        std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().expect("a runtime").block_on(async {
                tokio::select! {
                    () = accepts => {}
                    _ = gone => {}
                }
            });
        });
        Self { url, state, _stands: stands }
    }

    /// Where it takes clients.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// From now on this rule is followed, and counted.
    pub(crate) fn set(&self, rule: Rule) {
        let mut state = self.state.lock().expect("nobody panicked");
        (state.rule, state.passed, state.stopped) = (Some(rule), 0, 0);
    }

    /// Waits until messages were stopped, after all that were to go through.
    pub(crate) async fn stops(&self) {
        for _ in 0..PATIENCE.as_millis() / 5 {
            let (rule, passed, stopped) = {
                let state = self.state.lock().expect("nobody panicked");
                (state.rule.expect("a rule"), state.passed, state.stopped)
            };
            if stopped > 0 {
                assert!(passed >= rule.after, "{passed} went through before");
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("nothing was stopped");
    }

    /// Lets everything through, first what was held.
    pub(crate) fn open(&self) {
        let mut state = self.state.lock().expect("nobody panicked");
        state.rule = None;
        for (to, frame) in state.held.drain(..) {
            // Whose connection is gone gets nothing.
            let _ = to.send(frame);
        }
    }

    /// Ends all connections, with what is on its way; new ones are taken.
    pub(crate) fn cut(&self) {
        let mut state = self.state.lock().expect("nobody panicked");
        state.held.clear();
        for connection in state.connections.drain(..) {
            connection.abort();
        }
    }
}

async fn accept(listener: std::net::TcpListener, server: String, state: Arc<Mutex<State>>) {
    let listener = TcpListener::from_std(listener).expect("a socket");
    while let Ok((ours, _)) = listener.accept().await {
        // A server that is down takes nobody.
        let Ok(theirs) = TcpStream::connect(&server).await else { continue };
        let connection = tokio::spawn(connect(ours, theirs, Arc::clone(&state)));
        state.lock().expect("nobody panicked").connections.push(connection.abort_handle());
    }
}

/// Carries both ways until one of them ends.
async fn connect(ours: TcpStream, theirs: TcpStream, state: Arc<Mutex<State>>) {
    let ((ours_from, ours_to), (theirs_from, theirs_to)) = (ours.into_split(), theirs.into_split());
    tokio::select! {
        () = carry(Way::FromOurs, ours_from, theirs_to, &state) => {}
        () = carry(Way::ToOurs, theirs_from, ours_to, &state) => {}
    }
}

async fn carry(
    way: Way,
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: &Mutex<State>,
) {
    let (sender, mut frames) = mpsc::unbounded_channel();
    let reads = async {
        let mut from = BufReader::new(from);
        while let Some((subject, frame)) = frame(&mut from).await {
            state.lock().expect("nobody panicked").judge(way, &subject, frame, &sender);
        }
    };
    let writes = async {
        while let Some(frame) = frames.recv().await {
            if to.write_all(&frame).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reads => {}
        () = writes => {}
    }
}

impl State {
    fn judge(&mut self, way: Way, subject: &str, frame: Bytes, to: &mpsc::UnboundedSender<Bytes>) {
        let meant = |rule: &Rule| rule.way == way && subject.starts_with(rule.subjects);
        if let Some(rule) = self.rule.filter(meant) {
            match rule.fate {
                _ if self.passed < rule.after => self.passed += 1,
                Fate::Held => {
                    self.stopped += 1;
                    return self.held.push((to.clone(), frame));
                }
                Fate::Lost(count) if self.stopped < count => {
                    self.stopped += 1;
                    return;
                }
                Fate::Lost(_) => self.passed += 1,
            }
        }
        // The other end may be gone.
        let _ = to.send(frame);
    }
}

/// The next line of NATS' protocol with the payload that it announces, and the subject if it is a
/// message. None at the end.
async fn frame(from: &mut BufReader<impl AsyncRead + Unpin>) -> Option<(String, Bytes)> {
    let mut bytes = Vec::new();
    if from.read_until(b'\n', &mut bytes).await.ok()? == 0 {
        return None;
    }
    let line = String::from_utf8_lossy(&bytes).into_owned();
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let subject = match words[..] {
        ["PUB" | "HPUB" | "MSG" | "HMSG", subject, .., length] => {
            // A line end follows.
            let length = length.parse::<usize>().expect("a length") + 2;
            let line = bytes.len();
            bytes.resize(line + length, 0);
            from.read_exact(&mut bytes[line..]).await.ok()?;
            subject.to_owned()
        }
        ["INFO", ..] => {
            bytes = only_here(&line);
            String::new()
        }
        _ => String::new(),
    };
    Some((subject, bytes.into()))
}

/// What a server tells of itself, without where else clients may go.
fn only_here(line: &str) -> Vec<u8> {
    let told = line.trim_start_matches("INFO").trim();
    let mut told: Value = serde_json::from_str(told).expect("JSON");
    told.as_object_mut().expect("an object").remove("connect_urls");
    format!("INFO {told}\r\n").into_bytes()
}
