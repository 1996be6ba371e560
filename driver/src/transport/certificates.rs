//! Makes certificates: an authority of one's own, and what it signs.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use thiserror::Error;
use time::{Duration, OffsetDateTime};

use super::tls::TlsFiles;

/// Certificates that could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file that cannot be read or written.
    #[error("{}: {why}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        why: std::io::Error,
    },
    /// A name that cannot stand in a certificate, or an authority that cannot sign.
    #[error("{what}: {why}")]
    Made {
        /// The name or file.
        what: String,
        /// What was wrong with it.
        why: rcgen::Error,
    },
}

/// An authority whose certificate and key lie in a folder, as `ca.pem` and `ca.key`.
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    from: OffsetDateTime,
    until: OffsetDateTime,
}

impl Authority {
    /// Opens the authority in the folder, or makes one there. What is signed is valid from a day
    /// before `now` (against clocks that differ) for this many days.
    ///
    /// # Errors
    /// [`CertificateError`] names the file.
    pub fn open(dir: &Path, now: jetwake::time::Time, days: u16) -> Result<Self, CertificateError> {
        fs::create_dir_all(dir).map_err(|why| file_error(dir, why))?;
        let now = OffsetDateTime::UNIX_EPOCH
            + Duration::seconds((now.as_nanos() / 1_000_000_000).cast_signed());
        let (from, until) = (now - Duration::days(1), now + Duration::days(days.into()));
        let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
        let issuer = if certificate.exists() || key.exists() {
            let certificate_pem = read(&certificate)?;
            let key_pair = KeyPair::from_pem(&read(&key)?).map_err(|why| made(&key, why))?;
            Issuer::from_ca_cert_pem(&certificate_pem, key_pair)
                .map_err(|why| made(&certificate, why))?
        } else {
            make_authority(&certificate, &key, from, until)?
        };
        Ok(Self { dir: dir.to_owned(), issuer, from, until })
    }

    /// Makes a certificate and key for a server, as `NAME.pem` and `NAME.key`: it holds the
    /// server's name, and the hosts (names or IP addresses) under which clients may reach it.
    ///
    /// # Errors
    /// [`CertificateError`] names the file or the name.
    pub fn certify_server(
        &self,
        name: &str,
        hosts: &[String],
    ) -> Result<TlsFiles, CertificateError> {
        let purposes = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.certify(name, hosts, &purposes)
    }

    /// Makes a certificate and key for a client, as `NAME.pem` and `NAME.key`.
    ///
    /// # Errors
    /// [`CertificateError`] names the file or the name.
    pub fn certify_client(&self, name: &str) -> Result<TlsFiles, CertificateError> {
        self.certify(name, &[], &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn certify(
        &self,
        name: &str,
        hosts: &[String],
        purposes: &[ExtendedKeyUsagePurpose],
    ) -> Result<TlsFiles, CertificateError> {
        let failed = |why| CertificateError::Made { what: name.to_owned(), why };
        let mut params = CertificateParams::new(hosts).map_err(failed)?;
        let own = name.try_into().map_err(failed)?;
        params.subject_alt_names.insert(0, SanType::DnsName(own));
        params.distinguished_name = named(name);
        params.extended_key_usages = purposes.to_vec();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (self.from, self.until);
        let pair = KeyPair::generate().map_err(failed)?;
        let signed = params.signed_by(&pair, &self.issuer).map_err(failed)?;
        let files = TlsFiles {
            ca: self.dir.join("ca.pem"),
            certificate: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}.key")),
        };
        write(&files.certificate, &signed.pem())?;
        write_private(&files.key, &pair.serialize_pem())?;
        Ok(files)
    }
}

fn make_authority(
    certificate: &Path,
    key: &Path,
    from: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<Issuer<'static, KeyPair>, CertificateError> {
    let failed = |why| made(certificate, why);
    let mut params = CertificateParams::default();
    params.distinguished_name = named("jetwake authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (from, until);
    let pair = KeyPair::generate().map_err(failed)?;
    let signed = params.self_signed(&pair).map_err(failed)?;
    write(certificate, &signed.pem())?;
    write_private(key, &pair.serialize_pem())?;
    Ok(Issuer::new(params, pair))
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn file_error(path: &Path, why: std::io::Error) -> CertificateError {
    CertificateError::File { path: path.to_owned(), why }
}

fn made(path: &Path, why: rcgen::Error) -> CertificateError {
    CertificateError::Made { what: path.display().to_string(), why }
}

fn read(path: &Path) -> Result<String, CertificateError> {
    fs::read_to_string(path).map_err(|why| file_error(path, why))
}

fn write(path: &Path, pem: &str) -> Result<(), CertificateError> {
    fs::write(path, pem).map_err(|why| file_error(path, why))
}

/// Only the owner may read a key.
fn write_private(path: &Path, pem: &str) -> Result<(), CertificateError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = match fs::remove_file(path) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(why),
        _ => options.open(path).and_then(|mut file: File| file.write_all(pem.as_bytes())),
    };
    written.map_err(|why| file_error(path, why))
}
