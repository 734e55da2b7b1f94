//! Certificates: read from PEM files, or made and signed by themselves.
//!
//! **Invariants**
//! - A certificate and a key that do not belong together are never used.
//! - No key is written where others may read it, nor over another.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use ring::digest::{SHA256, digest};
use rustls::crypto::ring as cryptography;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, pki_types};

use crate::config::CertificateFiles;

/// No file that holds a certificate's chain, or a key, is longer.
const LONGEST: u64 = 1 << 20;

/// What a development certificate is good for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Some programs take no certificate that lasts longer than 398 days.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// Clocks of clients may be behind.
const LEEWAY: Duration = Duration::from_secs(24 * 3600);

/// Why there is no certificate to show. All of these are for the relay's operator.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("`{setting}`: {path} cannot be read: {source}")]
    Unreadable {
        setting: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("`{setting}`: {path} holds no {what} as PEM{cause}")]
    Malformed {
        setting: &'static str,
        path: PathBuf,
        what: &'static str,
        cause: String,
    },
    #[error("the certificate in {certificate} cannot be used with the key in {key}: {source}")]
    Mismatch {
        certificate: PathBuf,
        key: PathBuf,
        source: rustls::Error,
    },
    #[error("a certificate cannot be made: {0}")]
    Unmade(#[from] rcgen::Error),
    #[error("{path} cannot be written: {source}")]
    Unwritable { path: PathBuf, source: io::Error },
}

/// What the files of a certificate hold.
pub(crate) struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Pem {
    pub(crate) fn read(files: &CertificateFiles) -> Result<Self, CertificateError> {
        Ok(Self {
            certificate: read("tls.certificate", &files.certificate)?,
            key: read("tls.key", &files.key)?,
        })
    }

    /// Tells one content from another.
    pub(crate) fn digest(&self) -> Vec<u8> {
        let both = [&SHA256, &SHA256]
            .into_iter()
            .zip([&self.certificate, &self.key]);
        both.flat_map(|(kind, bytes)| digest(kind, bytes).as_ref().to_vec())
            .collect()
    }

    /// Tells when the certificate expires.
    pub(crate) fn end(&self, files: &CertificateFiles) -> Result<SystemTime, CertificateError> {
        let refuse = |cause: String| CertificateError::Malformed {
            setting: "tls.certificate",
            path: files.certificate.clone(),
            what: "certificate",
            cause: format!(": {cause}"),
        };
        let der = CertificateDer::from_pem_slice(&self.certificate)
            .map_err(|cause| refuse(cause.to_string()))?;
        let (_, certificate) =
            x509_parser::parse_x509_certificate(&der).map_err(|cause| refuse(cause.to_string()))?;
        let end = certificate.validity().not_after.timestamp();
        let end = u64::try_from(end).unwrap_or_default();

        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(end))
    }

    /// Returns what a server shows and signs with.
    pub(crate) fn parse(
        &self,
        files: &CertificateFiles,
    ) -> Result<Arc<ServerConfig>, CertificateError> {
        let malformed = |setting, path: &Path, what, cause: Option<pki_types::pem::Error>| {
            CertificateError::Malformed {
                setting,
                path: path.to_owned(),
                what,
                cause: cause.map_or_else(String::new, |cause| format!(": {cause}")),
            }
        };
        let refused =
            |cause| malformed("tls.certificate", &files.certificate, "certificate", cause);
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(|cause| refused(Some(cause)))?;
        if chain.is_empty() {
            return Err(refused(None));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|cause| malformed("tls.key", &files.key, "private key", Some(cause)))?;
        configure(chain, key).map_err(|source| CertificateError::Mismatch {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            source,
        })
    }
}

/// A certificate for development, signed by itself.
pub(crate) struct SelfSigned {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl SelfSigned {
    /// Makes one for this machine's own names, and these others.
    pub(crate) fn new(others: &[String], now: SystemTime) -> Result<Self, CertificateError> {
        let names = NAMES
            .into_iter()
            .map(str::to_owned)
            .chain(others.iter().cloned());
        let mut params = CertificateParams::new(names.collect::<Vec<_>>())?;
        params.not_before = (now - LEEWAY).into();
        params.not_after = (now + LIFETIME).into();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.distinguished_name = DistinguishedName::new();
        let name = "voxline development certificate";
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate, key })
    }

    /// Returns its SHA-256, as browsers show it.
    pub(crate) fn fingerprint(&self) -> String {
        let digest = digest(&SHA256, self.certificate.der());
        let bytes = digest.as_ref().iter().map(|byte| format!("{byte:02X}"));
        bytes.collect::<Vec<_>>().join(":")
    }

    pub(crate) fn configure(&self) -> Arc<ServerConfig> {
        let key = pki_types::PrivatePkcs8KeyDer::from(self.key.serialize_der());
        configure(vec![self.certificate.der().clone()], key.into())
            .expect("the certificate was made for the key")
    }

    /// Writes `certificate.pem` and `key.pem`, and nothing over what is there.
    pub(crate) fn write(&self, directory: &Path) -> Result<CertificateFiles, CertificateError> {
        let files = CertificateFiles {
            certificate: directory.join("certificate.pem"),
            key: directory.join("key.pem"),
        };
        let refuse = |path: &Path, source| CertificateError::Unwritable {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(directory).map_err(|source| refuse(directory, source))?;
        for path in [&files.certificate, &files.key] {
            if path.exists() {
                return Err(refuse(path, io::ErrorKind::AlreadyExists.into()));
            }
        }
        write(&files.certificate, 0o644, &self.certificate.pem())
            .map_err(|source| refuse(&files.certificate, source))?;
        write(&files.key, 0o600, &self.key.serialize_pem())
            .map_err(|source| refuse(&files.key, source))?;
        Ok(files)
    }
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, CertificateError> {
    let mut bytes = vec![];
    File::open(path)
        .and_then(|file| file.take(LONGEST).read_to_end(&mut bytes))
        .map_err(|source| CertificateError::Unreadable {
            setting,
            path: path.to_owned(),
            source,
        })?;
    Ok(bytes)
}

fn write(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}

fn configure(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(cryptography::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
