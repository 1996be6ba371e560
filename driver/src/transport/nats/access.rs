//! How one gets into a NATS server: where it is, and what proves who we are.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use serde::Deserialize;
use thiserror::Error;

/// The first pause before a lost server is tried again; it doubles up to the largest.
const RECONNECT_MIN: Duration = Duration::from_millis(50);
/// The largest such pause.
const RECONNECT_MAX: Duration = Duration::from_secs(1);
/// How often the server must show that it is alive.
const PING: Duration = Duration::from_secs(5);
/// Messages that may wait in one subscription; at the bound further ones are dropped.
pub(super) const SUBSCRIPTION: usize = 8 * 1024;

/// Where a NATS server is, and what proves who we are. At most one kind of proof is used: the
/// first that is given, in the order of the fields.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsAccess {
    /// URLs of one server or of several of one cluster, such as `nats://127.0.0.1:4222`. `tls://`
    /// asks for TLS.
    pub servers: Vec<String>,
    /// A file of credentials, as `nsc` writes them.
    pub credentials: Option<PathBuf>,
    /// A file with the seed of an nkey.
    pub nkey: Option<PathBuf>,
    /// A user's name.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<String>,
    /// Certificates of authorities that are trusted beside those of the system.
    pub ca: Option<PathBuf>,
    /// Tokens that stand before every subject between peers, such as `jetwake.site7`. nats-servers
    /// from 2.12 on let nobody publish on `$NRG.>` outside the system account: nodes that meet in
    /// another account need a prefix, the same for all of them. Without one the subjects are those
    /// of nats-servers, and so are the peers.
    pub prefix: Option<String>,
    /// The JetStream domain by which NATS clients find the API of our streams, `$JS.DOMAIN.API`; without
    /// one it is `$JS.API`. Only where clients are served.
    pub domain: Option<String>,
    /// Our certificate, for servers that ask for one.
    pub certificate: Option<PathBuf>,
    /// The key of our certificate.
    pub key: Option<PathBuf>,
}

/// Passwords are not for logs.
impl fmt::Debug for NatsAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsAccess").field("servers", &self.servers).finish_non_exhaustive()
    }
}

/// A NATS server that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NatsError {
    /// A file of the proof cannot be read.
    #[error("{}: {why}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        why: std::io::Error,
    },
    /// The settings contradict each other.
    #[error("nats: {0}")]
    Settings(&'static str),
    /// The server is not there, or does not let us in.
    #[error("NATS server {servers}: {why}")]
    Connect {
        /// Where it should be.
        servers: String,
        /// What happened.
        why: async_nats::ConnectError,
    },
    /// The clients' requests to JetStream's API would be answered by a nats-server as well.
    #[error(
        "NATS server {servers}: the account has JetStream, which answers at {api} ({found}): serve \
         clients in an account without it, or in a domain"
    )]
    HasJetStream {
        /// Where the server is.
        servers: String,
        /// The API's subjects.
        api: String,
        /// What it answered.
        found: String,
    },
    /// The connection ended before all was set up.
    #[error("NATS server {servers}: {why}")]
    Ended {
        /// Where it should be.
        servers: String,
        /// What happened.
        why: String,
    },
}

impl NatsAccess {
    /// The paths in it, for who has to complete them.
    pub fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let Self { credentials, nkey, ca, certificate, key, .. } = self;
        [credentials, nkey, ca, certificate, key].into_iter().flatten()
    }

    /// Connects, and stays connected: a connection that is lost is made again, with all
    /// subscriptions, until the client is dropped. What the client publishes itself does not come
    /// back to it. `name` is shown by the server's monitoring; `happened` hears of what becomes of
    /// the connection.
    ///
    /// # Errors
    /// [`NatsError`] if the server is not there now, or does not let us in.
    pub async fn connect(
        &self,
        name: &str,
        happened: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Result<Client, NatsError> {
        let options = self
            .options()?
            .name(name)
            .no_echo()
            .ping_interval(PING)
            .subscription_capacity(SUBSCRIPTION)
            .reconnect_delay_callback(|attempts| {
                let doublings = u32::try_from(attempts).unwrap_or(u32::MAX).min(16);
                RECONNECT_MIN.saturating_mul(1 << doublings).min(RECONNECT_MAX)
            })
            // The core's subjects are sound, and a client's reply is checked by the server.
            .skip_subject_validation(true)
            .event_callback(move |event| {
                happened(&event);
                std::future::ready(())
            });
        options
            .connect(&self.servers[..])
            .await
            .map_err(|why| NatsError::Connect { servers: self.servers.join(", "), why })
    }

    fn options(&self) -> Result<ConnectOptions, NatsError> {
        if self.servers.is_empty() {
            return Err(NatsError::Settings("servers: missing, expected a URL"));
        }
        let is_prefix = |text: &str| {
            text.split('.').all(|token| {
                !token.is_empty()
                    && token
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            })
        };
        if self.prefix.as_deref().is_some_and(|prefix| !is_prefix(prefix)) {
            return Err(NatsError::Settings(
                "prefix: expected tokens of letters, digits, '-' and '_', with dots between them",
            ));
        }
        let mut options = ConnectOptions::new();
        if let Some(file) = &self.credentials {
            options = options
                .credentials(&read(file)?)
                .map_err(|why| NatsError::File { path: file.clone(), why })?;
        } else if let Some(file) = &self.nkey {
            options = options.nkey(read(file)?.trim().to_owned());
        } else if let Some(user) = &self.user {
            options =
                options.user_and_password(user.clone(), self.password.clone().unwrap_or_default());
        }
        if let Some(ca) = &self.ca {
            options = options.add_root_certificates(ca.clone()).require_tls(true);
        }
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                Ok(options.add_client_certificate(certificate.clone(), key.clone()))
            }
            (None, None) => Ok(options),
            _ => Err(NatsError::Settings("certificate and key: expected both, or neither")),
        }
    }
}

fn read(file: &Path) -> Result<String, NatsError> {
    std::fs::read_to_string(file).map_err(|why| NatsError::File { path: file.to_owned(), why })
}
