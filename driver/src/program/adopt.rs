//! `jetwake adopt`: takes over the role of a dead replica of a nats-server's stream.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use jetwake::config::GroupKind;
use jetwake_driver::adopt::{self, Role, Wish};
use jetwake_driver::server::Server;
use jetwake_driver::settings::{Given, Settings, Span};
use jetwake_driver::transport::Way;
use jetwake_driver::transport::nats::{NatsAccess, ServedStream, Service};

use super::access::TlsArguments;
use super::nats_access::NatsArguments;
use super::node::{stop_signal, timer};
use super::{Failure, block_on, tell};

/// Take over the role of a dead replica of a stream of nats-servers, until its server is back.
///
/// The node runs under the dead server's name: it follows, acknowledges and votes in its place, for
/// one stream. It begins with an empty folder, is brought up to date by the others, and
/// promises nothing before. It stops as soon as the server is heard again.
#[derive(Args)]
#[command(after_help = AFTER)]
pub(super) struct AdoptArguments {
    /// The stream.
    #[arg(long)]
    stream: String,

    /// The account that the stream is in; not needed if no other has a stream of this name.
    #[arg(long)]
    account: Option<String>,

    /// The name of the dead server.
    #[arg(long = "as", value_name = "SERVER")]
    server: String,

    /// The name of another server that is down; only with --resume.
    #[arg(long = "other", value_name = "SERVER", requires = "resume")]
    others: Vec<String>,

    /// The folder for the data; made if it is not there.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// Go on with the folder of an adoption before: the dead server must not have run since then,
    /// as it would have made promises that the folder does not know.
    #[arg(long)]
    resume: bool,

    /// Lead, too, when the others want it to. A leader takes its stream's messages: those of `jetwake
    /// pub`, and of NATS clients if a user of their account is given. Otherwise they wait until a server
    /// leads again.
    #[arg(long)]
    may_lead: bool,

    /// A file of credentials of a user of the stream's account, who may subscribe to its subjects.
    #[arg(long, value_name = "FILE", requires = "may_lead")]
    clients_creds: Option<PathBuf>,

    /// The name of a user of the stream's account, likewise.
    #[arg(long, value_name = "USER", requires_all = ["may_lead", "clients_password"])]
    clients_user: Option<String>,

    /// That user's password.
    #[arg(long, value_name = "PASSWORD", requires = "clients_user")]
    clients_password: Option<String>,

    /// Where to listen for `jetwake get` and `jetwake info`; port 0 lets the system choose.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    listen: String,

    /// An interval, as for `jetwake node`; the servers have the same unless they were changed.
    #[arg(long = "timer", value_name = "NAME=DURATION", value_parser = timer)]
    timers: Vec<(String, Span)>,

    #[command(flatten)]
    nats: NatsArguments,

    #[command(flatten)]
    tls: TlsArguments,

    /// Stop as well when stdin ends.
    #[arg(long, help_heading = "For tests and tools")]
    until_stdin_closes: bool,
}

const AFTER: &str = "\
At first it only follows: it has forgotten what the dead server promised. From the group's next election on
it acknowledges and votes as the dead server would (nats stream cluster step-down STREAM makes one happen).

It refuses, and says why, if the server is alive; if the stream is not there, not kept by that server,
or not one that can be kept here; and if another replica is down: what the dead one has promised is only
known when all others tell what they have.

Permissions in the system account: publish $SYS.REQ.SERVER.PING, $NRG.>, $JSC.> and _INBOX.>;
subscribe $SYS.SERVER.*.STATSZ, $NRG.>, $JSC.> and _INBOX.>.

What was acknowledged with this node in the quorum is on its disk and on the other's, not on that of the
dead server. Let that server come back while the other replicas run, and before they have to do without
each other.";

pub(super) fn run(arguments: AdoptArguments) -> Result<(), Failure> {
    let (may_lead, until_stdin_closes) = (arguments.may_lead, arguments.until_stdin_closes);
    let mut wish = Wish {
        stream: arguments.stream,
        account: arguments.account,
        server: arguments.server,
        others: arguments.others,
        resumes: arguments.resume,
    };
    let used = is_used(&arguments.dir)?;
    if used && !wish.resumes {
        let why = "expected an empty folder: what is in it may be older than what the server has \
                   promised since; --resume if the server has not run since then";
        return Err(anyhow!("{}: {why}", arguments.dir.display()).into());
    }
    wish.resumes &= used;
    let access = arguments.nats.access();
    let insecure_plaintext = arguments.tls.insecure_plaintext;
    let access = access.ok_or_else(|| Failure::Usage("expected --server URL".into()))?;
    let clients =
        (arguments.clients_creds.is_some() || arguments.clients_user.is_some()).then(|| {
            NatsAccess {
                credentials: arguments.clients_creds,
                nkey: None,
                user: arguments.clients_user,
                password: arguments.clients_password,
                ..access.clone()
            }
        });
    let given = Given {
        name: Some(wish.server.clone()),
        listen: Some(arguments.listen),
        dir: Some(arguments.dir),
        tls: arguments.tls.files()?,
        insecure_plaintext,
        timers: arguments.timers.into_iter().collect::<BTreeMap<_, _>>(),
        ..Given::default()
    };
    block_on(async {
        let client = access.connect("jetwake adopt", |_| {}).await?;
        let role = adopt::role(&client, &wish).await?;
        let members = role.group.members.join(", ");
        tell(&format!(
            "{}: {} of {members}, in place of {}",
            wish.stream, role.group.name, wish.server
        ));
        let service = clients.map(|access| service(access, &role));
        let mut settings = settings(given, role, access)?;
        settings.nats_clients = service;
        settings.observes = !may_lead;
        let stop = stop_signal(until_stdin_closes)?;
        let server = Server::start(&settings, None).await?;
        let mut out = std::io::stdout();
        writeln!(out, "listening on {}", server.address())
            .and_then(|()| out.flush())
            .context("stdout")?;
        let mut returned = Ok(());
        let ended = async {
            tokio::select! {
                () = stop => {}
                heard = adopt::returned(&client, &wish.server) => {
                    returned = heard;
                    tell(&format!("{} is back: stopping", wish.server));
                }
            }
        };
        server.run(ended).await?;
        Ok(returned?)
    })
}

/// Whether there is anything in the folder.
fn is_used(dir: &Path) -> std::io::Result<bool> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// NATS clients of the stream alone: JetStream's API is answered by the servers.
fn service(access: NatsAccess, role: &Role) -> Service {
    let stream = match &role.group.kind {
        GroupKind::Stream(stream) => stream,
        other => unreachable!("the role of a stream has its group, found {other:?}"),
    };
    let (name, subjects) = (stream.name.clone(), stream.subjects.clone());
    let streams = vec![ServedStream { name, subjects, kept: true }];
    Service { access, streams, api: false }
}

fn settings(given: Given, role: Role, access: NatsAccess) -> Result<Settings, Failure> {
    let mut settings = given.without_streams()?;
    let members = role.group.members.iter().filter(|member| **member != settings.name);
    settings.peers = members.map(|member| (member.clone(), String::new())).collect();
    settings.way = Way::Nats(Box::new(access));
    settings.catchups.insert(role.group.name.clone(), role.sync);
    settings.groups = vec![role.group];
    Ok(settings)
}
