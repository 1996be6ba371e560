//! `jetwake certify`: an authority and certificates, for those who have none.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jetwake_driver::clock::Clock;
use jetwake_driver::transport::certificates::Authority;
use jetwake_driver::transport::tls::can_be_certified;

use super::Failure;

/// Make certificates for servers and clients, and an authority that signs them.
///
/// The authority is ca.pem and ca.key in the folder; if they are there already, they are used. Each
/// server and client gets NAME.pem and NAME.key. Every node needs ca.pem and its own two files,
/// every client likewise; ca.key can be locked away until the next server comes.
#[derive(Args)]
pub(super) struct CertifyArguments {
    /// The folder.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// The names of servers.
    #[arg(value_name = "SERVER")]
    servers: Vec<String>,

    /// The name of a client; repeat it for more.
    #[arg(long = "client", value_name = "NAME")]
    clients: Vec<String>,

    /// A host name or IP address by which clients reach the servers; repeat it for more.
    #[arg(long = "host", value_name = "HOST", default_values = ["localhost", "127.0.0.1", "::1"])]
    hosts: Vec<String>,

    /// How long they are valid, from now on.
    #[arg(long, default_value_t = 3650)]
    days: u16,
}

pub(super) fn run(arguments: CertifyArguments) -> Result<(), Failure> {
    let CertifyArguments { dir, servers, clients, hosts, days } = arguments;
    let reserved = |name: &&String| *name == "ca" || !can_be_certified(name);
    if let Some(name) = servers.iter().chain(&clients).find(reserved) {
        return Err(Failure::Usage(format!("the name {name:?} cannot stand in a certificate")));
    }
    if servers.is_empty() && clients.is_empty() {
        return Err(Failure::Usage("expected names of servers, or --client".into()));
    }
    let authority = Authority::open(&dir, Clock::start().now(), days)?;
    let mut out = std::io::stdout().lock();
    for name in &servers {
        let files = authority.certify_server(name, &hosts)?;
        writeln!(out, "{}", files.certificate.display())?;
    }
    for name in &clients {
        let files = authority.certify_client(name)?;
        writeln!(out, "{}", files.certificate.display())?;
    }
    Ok(())
}
