//! The flags by which a NATS server is found, and by which it lets us in.

use std::path::PathBuf;

use clap::Args;
use jetwake_driver::transport::nats::NatsAccess;

/// A NATS server, and what proves who we are.
#[derive(Args)]
pub(super) struct NatsArguments {
    /// The URL of a NATS server, such as nats://127.0.0.1:4222 or tls://HOST:PORT; repeat it for
    /// others of the same cluster.
    #[arg(long = "server", value_name = "URL", help_heading = "NATS server")]
    servers: Vec<String>,

    /// A file of credentials, as nsc writes them.
    #[arg(long = "creds", value_name = "FILE", help_heading = "NATS server")]
    credentials: Option<PathBuf>,

    /// A file with the seed of an nkey.
    #[arg(long, value_name = "FILE", help_heading = "NATS server")]
    nkey: Option<PathBuf>,

    /// A user's name.
    #[arg(long, help_heading = "NATS server", requires = "password")]
    user: Option<String>,

    /// The user's password.
    #[arg(long, help_heading = "NATS server", requires = "user")]
    password: Option<String>,

    /// Certificates of authorities to trust, in PEM, beside those of the system.
    #[arg(long, value_name = "FILE", help_heading = "NATS server")]
    server_ca: Option<PathBuf>,

    /// The certificate to show, in PEM.
    #[arg(long, value_name = "FILE", help_heading = "NATS server", requires = "server_key")]
    server_certificate: Option<PathBuf>,

    /// The private key of that certificate, in PEM.
    #[arg(long, value_name = "FILE", help_heading = "NATS server")]
    server_key: Option<PathBuf>,
}

impl NatsArguments {
    /// The access, if a server was given.
    pub(super) fn access(self) -> Option<NatsAccess> {
        (!self.servers.is_empty()).then_some(NatsAccess {
            servers: self.servers,
            credentials: self.credentials,
            nkey: self.nkey,
            user: self.user,
            password: self.password,
            prefix: None,
            domain: None,
            ca: self.server_ca,
            certificate: self.server_certificate,
            key: self.server_key,
        })
    }
}
