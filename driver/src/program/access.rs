//! The flags by which clients find their nodes and prove who they are.

use std::path::PathBuf;

use clap::Args;
use jetwake_driver::client::{Access, NodeAddress};
use jetwake_driver::settings::DEFAULT_CLUSTER;
use jetwake_driver::transport::tls::{Security, TlsFiles};

use super::Failure;

/// Certificates, or none.
#[derive(Args)]
pub(super) struct TlsArguments {
    /// The certificate of the cluster's authority, in PEM (`jetwake certify` makes one).
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    ca: Option<PathBuf>,

    /// The certificate to show, in PEM, signed by that authority.
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    certificate: Option<PathBuf>,

    /// The private key of that certificate, in PEM.
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    key: Option<PathBuf>,

    /// Plain TCP instead of TLS: whoever reaches the port is believed to be who they say.
    #[arg(long, help_heading = "Security", conflicts_with_all = ["ca", "certificate", "key"])]
    pub(super) insecure_plaintext: bool,
}

impl TlsArguments {
    /// The three files, if any of them was given.
    pub(super) fn files(self) -> Result<Option<TlsFiles>, Failure> {
        match (self.ca, self.certificate, self.key) {
            (None, None, None) => Ok(None),
            (Some(ca), Some(certificate), Some(key)) => Ok(Some(TlsFiles { ca, certificate, key })),
            _ => Err(Failure::Usage("expected --ca, --certificate and --key together".into())),
        }
    }
}

/// Where a cluster is, and how to speak to it.
#[derive(Args)]
pub(super) struct AccessArguments {
    /// A node to speak to, as HOST:PORT or NAME=HOST:PORT; repeat it for more. Its certificate
    /// must hold the name, or the host if no name is given.
    #[arg(long = "node", short, value_name = "[NAME=]HOST:PORT", required = true)]
    pub(super) nodes: Vec<NodeAddress>,

    /// The cluster's name.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_CLUSTER)]
    cluster: String,

    #[command(flatten)]
    tls: TlsArguments,
}

impl AccessArguments {
    /// Reads the certificates.
    pub(super) fn load(self) -> Result<(Vec<NodeAddress>, Access), Failure> {
        let plaintext = self.tls.insecure_plaintext;
        let security = match self.tls.files()? {
            Some(files) => Security::load(&files)?,
            None if plaintext => Security::Plaintext,
            None => {
                let expected = "expected --ca, --certificate and --key, or --insecure-plaintext";
                return Err(Failure::Usage(expected.into()));
            }
        };
        let name = format!("jetwake-{}", std::process::id());
        Ok((self.nodes, Access { name, cluster: self.cluster, security }))
    }
}
