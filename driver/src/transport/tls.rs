//! Who may speak: TLS 1.3 with certificates of one authority on both sides.
//!
//! A server is who its certificate says: the name that it gives must stand in the certificate,
//! whether it dials or is dialed. A client may have any name. Without TLS a name is merely
//! believed.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig, version};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The files that TLS needs, all PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The authority that signs every certificate of the cluster.
    pub ca: PathBuf,
    /// The certificate of this node or client.
    pub certificate: PathBuf,
    /// The private key that belongs to it.
    pub key: PathBuf,
}

/// TLS files that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file that cannot be read, or is not what it should be.
    #[error("{}: expected {expected}: {why}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What was wrong.
        why: String,
    },
    /// The certificate and the key do not fit each other.
    #[error("{} and {}: {why}", .certificate.display(), .key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What was wrong.
        why: rustls::Error,
    },
}

/// How connections are made: in the open, or under TLS.
#[derive(Clone)]
pub enum Security {
    /// Plain TCP; everybody who reaches the port is believed.
    Plaintext,
    /// Mutual TLS.
    Tls(Tls),
}

/// Certificates ready for use.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plaintext => "Plaintext",
            Self::Tls(_) => "Tls",
        })
    }
}

/// A connection with its security settled.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

impl Security {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for root in certificates(&files.ca)? {
            roots.add(root).map_err(|error| TlsError::File {
                path: files.ca.clone(),
                expected: AUTHORITY,
                why: error.to_string(),
            })?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| TlsError::File {
            path: files.key.clone(),
            expected: "a private key in PEM",
            why: error.to_string(),
        })?;
        let pair = |why| TlsError::Pair {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            why,
        };
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error: VerifierBuilderError| TlsError::File {
                    path: files.ca.clone(),
                    expected: AUTHORITY,
                    why: error.to_string(),
                })?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(pair)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(pair)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(pair)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(pair)?;
        Ok(Self::Tls(Tls { acceptor: Arc::new(server).into(), connector: Arc::new(client).into() }))
    }

    /// The server's side of a new connection. Returns what proves names, if anything does.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> std::io::Result<(Box<dyn Connection>, Option<Proof>)> {
        match self {
            Self::Plaintext => Ok((Box::new(stream), None)),
            Self::Tls(tls) => {
                let stream = tls.acceptor.accept(stream).await?;
                let proof = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let proof = proof.map(|certificate| Proof(certificate.clone().into_owned()));
                // The verifier demands a certificate; without one no name is ever proven.
                let proof = proof.unwrap_or_else(|| Proof(CertificateDer::from(Vec::new())));
                Ok((Box::new(stream), Some(proof)))
            }
        }
    }

    /// The client's side of a new connection: the server's certificate must hold this name.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        name: &str,
    ) -> std::io::Result<Box<dyn Connection>> {
        match self {
            Self::Plaintext => Ok(Box::new(stream)),
            Self::Tls(tls) => {
                let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
                Ok(Box::new(tls.connector.connect(name, stream).await?))
            }
        }
    }
}

/// A certificate that the authority signed.
pub(super) struct Proof(CertificateDer<'static>);

impl Proof {
    /// Whether the certificate is one of a server of this name.
    pub(super) fn names(&self, name: &str) -> Result<(), String> {
        let server = ServerName::try_from(name).map_err(|error| format!("{name:?}: {error}"))?;
        let certificate =
            ParsedCertificate::try_from(&self.0).map_err(|error| error.to_string())?;
        verify_server_name(&certificate, &server)
            .map_err(|error| format!("the certificate is not one of {name:?}: {error}"))
    }
}

/// Whether a certificate can hold this server name.
pub fn can_be_certified(name: &str) -> bool {
    name.parse::<IpAddr>().is_err() && ServerName::try_from(name).is_ok()
}

const AUTHORITY: &str = "the certificate of an authority in PEM";

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |why: String| TlsError::File {
        path: path.to_owned(),
        expected: "certificates in PEM",
        why,
    };
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|why| error(why.to_string()))?;
    if found.is_empty() { Err(error("there is none".into())) } else { Ok(found) }
}
