//! `jetwake node`: runs one server.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use jetwake_driver::server::Server;
use jetwake_driver::settings::{Given, GivenStream, GivenTransport, Settings, SettingsError, Span};
#[cfg(feature = "nats")]
use jetwake_driver::transport::nats::NatsAccess;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::access::TlsArguments;
#[cfg(feature = "nats")]
use super::nats_access::NatsArguments;
use super::{Failure, block_on, name_and_value};

/// Run one server of a cluster.
///
/// Settings come from a file, from flags, or from both; a flag comes before the file. When the
/// node is ready it prints "listening on ADDRESS" on stdout, and nothing else ever. It stops on
/// SIGINT and SIGTERM.
#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct NodeArguments {
    /// A file with settings, in TOML; an example is below.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The name of this server; the other servers must use the same. Its certificate must hold it.
    #[arg(long)]
    name: Option<String>,

    /// The cluster's name; servers and clients of another cluster are refused [default: jetwake]
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,

    /// Where to listen for servers and clients; port 0 lets the system choose.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,

    /// Another server of the cluster; repeat it for each. An entry for this server itself is
    /// passed over, so that all servers may be given the same list. The name alone will do where
    /// a NATS server stands between them.
    #[arg(long = "peer", value_name = "NAME[=HOST:PORT]", value_parser = peer)]
    peers: Vec<(String, String)>,

    /// How servers reach each other: tcp, or nats for a NATS server between them [default: tcp]
    #[arg(long, value_name = "WAY")]
    transport: Option<GivenTransport>,

    #[cfg(feature = "nats")]
    #[command(flatten)]
    nats: NatsArguments,

    /// Let clients of the NATS server publish to the streams, and ask JetStream's API about them; the
    /// account must not have JetStream itself.
    #[cfg(feature = "nats")]
    #[arg(long, requires = "servers", help_heading = "NATS server")]
    nats_clients: bool,

    /// The folder for the data; made if it is not there, and held by one node at a time.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// A stream and the subjects it takes; repeat it for each. Must be the same on every server.
    #[arg(long = "stream", value_name = "NAME=SUBJECT[,SUBJECT...]", value_parser = stream)]
    streams: Vec<GivenStream>,

    /// An interval, such as heartbeat=50ms; repeat it for each. There are election_min (4s),
    /// election_max (9s), heartbeat (1s), lost_quorum (10s), log_catchup_stall (2s),
    /// catchup_start (5s), catchup_silence (30s) and catchup_retry (2s).
    #[arg(long = "timer", value_name = "NAME=DURATION", value_parser = timer)]
    timers: Vec<(String, Span)>,

    /// A bound, such as message=65536; repeat it for each. A wrong name is answered by all names.
    #[arg(long = "limit", value_name = "NAME=NUMBER", value_parser = limit)]
    limits: Vec<(String, i64)>,

    #[command(flatten)]
    tls: TlsArguments,

    /// Record every event in a file, for `jetwake replay`.
    #[arg(long, value_name = "FILE", help_heading = "For tests and tools")]
    trace: Option<PathBuf>,

    /// Stop as well when stdin ends: a node does not outlive a parent that holds the other end.
    #[arg(long, help_heading = "For tests and tools")]
    until_stdin_closes: bool,

    /// Where all randomness of the node comes from [default: drawn from the system]
    #[arg(long, value_name = "NUMBER", help_heading = "For tests and tools")]
    seed: Option<u64>,
}

const EXAMPLE: &str = r#"A file of settings (relative paths start at its folder):
  name = "n1"
  listen = "127.0.0.1:4101"
  dir = "data/n1"

  [peers]
  n2 = "127.0.0.1:4102"
  n3 = "127.0.0.1:4103"

  [[stream]]
  name = "ORDERS"
  subjects = ["orders.>"]
  duplicate_window = "2m"       # optional, as are max_msg_size, max_msgs, max_bytes,
                                # max_msgs_per_subject, allow_atomic, servers and joins
  subject_transform = { src = "orders.*", dest = "orders.{{partition(8,1)}}.$1" }   # optional

  [tls]
  ca = "certs/ca.pem"
  certificate = "certs/n1.pem"
  key = "certs/n1.key"

  transport = "nats"            # optional, at the top: servers meet at a NATS server
  [nats]                        # with credentials, nkey, user, password, ca, certificate, key, prefix
  servers = ["nats://127.0.0.1:4222"]

  [nats_clients]                # optional: NATS clients publish to the streams; the same fields but
  servers = ["nats://127.0.0.1:4222"]  # prefix, and a domain in its place

  [timers]                      # optional, and so is each of them
  election_min = "4s"

  [limits]                      # optional, and so is each of them
  message = 1048576"#;

fn peer(text: &str) -> Result<(String, String), String> {
    if text.contains('=') { name_and_value(text) } else { Ok((text.to_owned(), String::new())) }
}

fn stream(text: &str) -> Result<GivenStream, String> {
    let (name, subjects) = name_and_value(text)?;
    Ok(GivenStream {
        name,
        subjects: subjects.split(',').map(str::to_owned).collect(),
        subject_transform: None,
        duplicate_window: None,
        max_msg_size: None,
        max_msgs: None,
        max_bytes: None,
        max_msgs_per_subject: None,
        allow_atomic: false,
        servers: Vec::new(),
        joins: false,
    })
}

pub(super) fn timer(text: &str) -> Result<(String, Span), String> {
    let (name, value) = name_and_value(text)?;
    Ok((name, value.parse()?))
}

fn limit(text: &str) -> Result<(String, i64), String> {
    let (name, value) = name_and_value(text)?;
    let number = value.parse().map_err(|error| format!("{value:?} is no number: {error}"))?;
    Ok((name, number))
}

pub(super) fn run(arguments: NodeArguments) -> Result<(), Failure> {
    let trace = arguments.trace.clone();
    let until_stdin_closes = arguments.until_stdin_closes;
    let settings = settings(arguments)?;
    block_on(async {
        let stop = stop_signal(until_stdin_closes)?;
        let server = Server::start(&settings, trace.as_deref()).await?;
        tracing::info!(name = settings.name, dir = %settings.dir.display(), "ready");
        let mut out = std::io::stdout();
        writeln!(out, "listening on {}", server.address())
            .and_then(|()| out.flush())
            .context("stdout")?;
        server.run(stop).await?;
        Ok(())
    })
}

fn settings(arguments: NodeArguments) -> Result<Settings, Failure> {
    let file = arguments.config.as_deref().map(Given::read).transpose()?;
    let from_flags_alone = file.is_none();
    let insecure_plaintext = arguments.tls.insecure_plaintext;
    #[cfg(feature = "nats")]
    let (nats, nats_clients) =
        nats_flags(arguments.transport, arguments.nats, arguments.nats_clients);
    let flags = Given {
        name: arguments.name,
        cluster: arguments.cluster,
        listen: arguments.listen,
        dir: arguments.dir,
        seed: arguments.seed,
        peers: arguments.peers.into_iter().collect(),
        streams: arguments.streams,
        transport: arguments.transport,
        #[cfg(feature = "nats")]
        nats,
        #[cfg(feature = "nats")]
        nats_clients,
        tls: arguments.tls.files()?,
        insecure_plaintext,
        timers: arguments.timers.into_iter().collect::<BTreeMap<_, _>>(),
        limits: arguments.limits.into_iter().map(|(name, value)| (name, value.into())).collect(),
    };
    let config = arguments.config.unwrap_or_default();
    Settings::try_from(flags.or(file.unwrap_or_default())).map_err(|error| match error {
        SettingsError::Field { .. } if from_flags_alone => {
            Failure::Usage(format!("{error} (by a flag, or in a file given by --config)"))
        }
        SettingsError::Field { .. } => {
            let file = format!("config file {}, with flags", config.display());
            Failure::Other(anyhow::Error::new(error).context(file))
        }
        error => error.into(),
    })
}

/// The NATS servers of the peers and of the clients, which are one if they are named by flags.
#[cfg(feature = "nats")]
fn nats_flags(
    way: Option<GivenTransport>,
    arguments: NatsArguments,
    clients: bool,
) -> (Option<NatsAccess>, Option<NatsAccess>) {
    let access = arguments.access();
    let clients = access.clone().filter(|_| clients);
    // Peers that dial each other need none.
    let peers = access.filter(|_| clients.is_none() || way == Some(GivenTransport::Nats));
    (peers, clients)
}

/// Comes true when the process is asked to end.
pub(super) fn stop_signal(until_stdin_closes: bool) -> Result<impl Future<Output = ()>, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stdin = until_stdin_closes.then(stdin_closes).transpose()?;
    let stdin = async {
        match stdin {
            Some(closed) => drop(closed.await),
            None => std::future::pending().await,
        }
    };
    Ok(async move {
        let why = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
            () = stdin => "stdin closed",
        };
        tracing::info!("stopping: {why}");
    })
}

/// Comes true when stdin ends.
fn stdin_closes() -> std::io::Result<oneshot::Receiver<()>> {
    let (closed, receiver) = oneshot::channel();
    std::thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut ignored = [0; 1024];
        while matches!(std::io::stdin().read(&mut ignored), Ok(1..)) {}
        // If nobody waits any more the node has stopped already.
        let _ = closed.send(());
    })?;
    Ok(receiver)
}
