//! The command line: one file a command.
//!
//! What is wrong with the command line itself exits 2, with what was expected; everything else
//! that fails exits 1. Results go to stdout, all else to stderr.

mod access;
#[cfg(feature = "nats")]
mod adopt;
mod certify;
mod decode;
mod demo;
mod get;
mod info;
#[cfg(feature = "nats")]
mod nats_access;
mod node;
mod peer;
mod publish;
mod replay;
mod sim;
#[cfg(feature = "nats")]
mod tap;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::level_filters::LevelFilter;

/// Replicated streams of messages, by the protocols that NATS JetStream clusters use among
/// themselves.
#[derive(Parser)]
#[command(name = "jetwake", version, max_term_width = 100, after_help = FIRST_STEPS)]
struct CommandLine {
    /// How much to tell on stderr: off, error, warn, info, debug or trace. `node` tells at info
    /// unless told otherwise, the others at warn.
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<LevelFilter>,

    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
Three nodes by hand, on one machine:
  jetwake certify --dir certs n1 n2 n3 --client me
  jetwake node --name n1 --listen 127.0.0.1:4101 --dir data/n1 --stream 'ORDERS=orders.>' \\
      --peer n2=127.0.0.1:4102 --peer n3=127.0.0.1:4103 \\
      --ca certs/ca.pem --certificate certs/n1.pem --key certs/n1.key
  (n2 and n3 likewise)
  jetwake pub  ORDERS orders.new 'two of the blue ones' --node 127.0.0.1:4101 \\
      --ca certs/ca.pem --certificate certs/me.pem --key certs/me.key
  jetwake get  ORDERS ...
  jetwake info ORDERS ...";

#[derive(Subcommand)]
enum Command {
    Demo(demo::DemoArguments),
    Node(Box<node::NodeArguments>),
    Pub(publish::PublishArguments),
    Get(get::GetArguments),
    Info(info::InfoArguments),
    Peer(peer::PeerArguments),
    #[cfg(feature = "nats")]
    Adopt(Box<adopt::AdoptArguments>),
    Certify(certify::CertifyArguments),
    Replay(replay::ReplayArguments),
    Sim(sim::SimArguments),
    Decode(jetwake_driver::decode::DecodeArguments),
    #[cfg(feature = "nats")]
    Tap(tap::TapArguments),
}

/// Why a command did not succeed.
enum Failure {
    /// The command line is wrong: exits 2.
    Usage(String),
    /// Anything else: exits 1.
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let CommandLine { log, command } = CommandLine::parse();
    #[cfg(feature = "nats")]
    let serves = matches!(command, Command::Node(_) | Command::Adopt(_));
    #[cfg(not(feature = "nats"))]
    let serves = matches!(command, Command::Node(_));
    let usual = if serves { LevelFilter::INFO } else { LevelFilter::WARN };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_max_level(log.unwrap_or(usual))
        .init();
    let done = match command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Node(arguments) => node::run(*arguments),
        Command::Pub(arguments) => publish::run(arguments),
        Command::Get(arguments) => get::run(arguments),
        Command::Info(arguments) => info::run(arguments),
        Command::Peer(arguments) => peer::run(arguments),
        #[cfg(feature = "nats")]
        Command::Adopt(arguments) => adopt::run(*arguments),
        Command::Certify(arguments) => certify::run(arguments),
        Command::Replay(arguments) => replay::run(arguments),
        Command::Sim(arguments) => sim::run(arguments),
        Command::Decode(arguments) => decode::run(&arguments),
        #[cfg(feature = "nats")]
        Command::Tap(arguments) => tap::run(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(why)) => {
            tell(&format!("error: {why}\n\nFor more information, try '--help'."));
            ExitCode::from(2)
        }
        Err(Failure::Other(error)) => {
            // Whoever reads our output has read enough; that is no failure.
            if error.downcast_ref::<std::io::Error>().is_some_and(is_closed_pipe) {
                return ExitCode::SUCCESS;
            }
            tell(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn is_closed_pipe(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
}

/// Says something on stderr; when even that is gone there is nobody left to tell.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Runs a future on a runtime of one thread.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// Splits `NAME=VALUE`.
fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("expected NAME=VALUE".into()),
    }
}
