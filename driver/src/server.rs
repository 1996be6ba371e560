//! Puts a node together: settings, disk, sockets, core.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use jetwake::config::ConfigError;
use jetwake::event::Event;
use jetwake::ids::GroupName;
use jetwake::node::Node;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_rustls::rustls::crypto::ring;

use crate::clock::Clock;
use crate::disk::{Disk, DiskError};
use crate::runtime::{Observer, Runtime, RuntimeError};
use crate::settings::Settings;
use crate::trace_file::TraceFile;
use crate::transport::tls::{Security, TlsError};
use crate::transport::{Inbound, Transport, TransportError};

/// Why a node cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The core does not accept its configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be listened on.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The run cannot be recorded.
    #[error("trace {}: {why}", .path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        why: std::io::Error,
    },
}

/// A node that is ready to run.
pub struct Server {
    runtime: Runtime<Disk>,
    inbound: mpsc::Receiver<Inbound>,
    disk: mpsc::UnboundedReceiver<Event>,
    address: SocketAddr,
}

impl Server {
    /// Opens the disk, listens, and tells the core what the disk holds. Reads the whole log, so
    /// it may take its time. If a file for it is named, the run is recorded.
    ///
    /// # Errors
    /// [`StartError`] names the field, file or address that stands in the way.
    pub async fn start(settings: &Settings, trace: Option<&Path>) -> Result<Self, StartError> {
        let seed = settings.seed.unwrap_or_else(random_seed);
        let security = match &settings.tls {
            Some(files) => Security::load(files)?,
            None => Security::Plaintext,
        };
        let node = Node::new(settings.config(seed))?;
        let observer = match trace {
            Some(path) => {
                let trace = TraceFile::create(path, node.config())
                    .map_err(|why| StartError::Trace { path: path.to_owned(), why })?;
                Some(Box::new(trace) as Box<dyn Observer + Send>)
            }
            None => None,
        };
        let names: Vec<GroupName> =
            settings.groups.iter().map(|group| group.name.clone()).collect();
        let (happened, disk_events) = mpsc::unbounded_channel();
        // Once the loop has ended nobody wants to know any more.
        let report = move |event| drop(happened.send(event));
        let (disk, opened) = Disk::open(&settings.dir, &names, report)?;
        let (mut transport, inbound) = Transport::start(settings.transport(security, seed)).await?;
        #[cfg(feature = "nats")]
        if let Some(service) = &settings.nats_clients {
            transport.serve_nats_clients(service.clone()).await?;
        }
        let address = transport.address();
        let told = settings.assigned();
        let runtime = Runtime::new(node, Clock::start(), transport, disk, told, opened, observer);
        Ok(Self { runtime, inbound, disk: disk_events, address })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs until `stop` comes true.
    ///
    /// # Errors
    /// [`RuntimeError`] if a part that the node cannot do without is gone.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), RuntimeError> {
        self.runtime.run(self.inbound, self.disk, stop).await
    }
}

/// A seed that no other node draws.
fn random_seed() -> u64 {
    let mut bytes = [0; 8];
    if ring::default_provider().secure_random.fill(&mut bytes).is_err() {
        // A system without randomness still has a clock and process ids.
        return Clock::start().now().as_nanos() ^ u64::from(std::process::id());
    }
    u64::from_le_bytes(bytes)
}
