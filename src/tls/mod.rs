//! HTTPS: where the certificate comes from, how it is kept fresh, and how a connection is opened.
//!
//! Three sources: the server makes a certificate itself (`self_signed`), reads one from files (`files`) or gets one from an
//! ACME directory ([`acme`]). Each has a task that renews what is shown; connections that are open are not touched by that.

pub mod acme;

mod door;
mod files;
mod self_signed;
mod shown;
mod store;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ResolvesServerCert;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use acme::AcmeConfig;
pub use door::{Opened, OpeningError};

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Made by the server for the names and addresses of its machine.
    SelfSigned {
        /// Where it is kept; `None` for in memory only.
        state_dir: Option<PathBuf>,
        /// Addresses beside those of the machine's interfaces.
        public_ips: Vec<IpAddr>,
    },
    /// PEM files, read again when they change.
    Files {
        /// The certificate, and those between it and its root.
        chain: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// An ACME directory.
    Acme(AcmeConfig),
}

/// Why there is no HTTPS: one line for the user.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {} ({option}): {source}{}", path.display(), hint_for(source))]
    Unreadable {
        /// Which option names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file has not what it should have.
    #[error("{} ({option}) has no {wanted} in PEM form; {hint}", path.display())]
    Missing {
        /// Which option names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should have.
        wanted: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// Certificate and key do not belong together.
    #[error(
        "the key in {} (--tls-key) does not belong to the first certificate in {} (--tls-cert); the chain begins with the \
         server's own certificate",
        key.display(),
        chain.display()
    )]
    Mismatch {
        /// File of the certificate.
        chain: PathBuf,
        /// File of the key.
        key: PathBuf,
    },
    /// A certificate or key of a kind that cannot be used.
    #[error("{} cannot be used: {why}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the library says.
        why: String,
    },
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Making(#[from] rcgen::Error),
    /// The cryptographic library refuses.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// HTTPS, running.
#[derive(Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    made: Option<Made>,
    reload: Arc<Notify>,
}

/// A certificate that the server has made itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// SHA-256 of the certificate, as browsers show it.
    pub fingerprint: String,
    /// The file that clients can be told to trust; `None` if it is in memory only.
    pub file: Option<PathBuf>,
}

impl Tls {
    /// Gets the certificate ready and starts the task that keeps it so until `stop` is cancelled. From an ACME directory it comes
    /// later; handshakes fail until then. Needs a tokio runtime.
    ///
    /// # Errors
    /// When there can be no certificate, or it is of no use.
    pub fn start(source: Source, stop: CancellationToken) -> Result<Tls, TlsError> {
        let reload = Arc::new(Notify::new());
        let (resolver, made): (Arc<dyn ResolvesServerCert>, _) = match source {
            Source::SelfSigned { state_dir, public_ips } => {
                let (shown, made) = self_signed::start(state_dir, public_ips, reload.clone(), stop)?;
                (shown, Some(made))
            }
            Source::Files { chain, key } => (files::start(chain, key, reload.clone(), stop)?, None),
            Source::Acme(config) => (acme::start(config, reload.clone(), stop)?, None),
        };
        Ok(Tls {
            config: Arc::new(server_config(resolver)?),
            made,
            reload,
        })
    }

    /// Has the certificate looked at now: files are read again, an ACME order that failed is tried again. What comes of it is told
    /// in the log; whatever that is, a certificate in use is not lost.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    /// The certificate, if the server has made it itself: the one of the start.
    pub fn made(&self) -> Option<&Made> {
        self.made.as_ref()
    }

    fn acceptor(&self) -> TlsAcceptor {
        self.config.clone().into()
    }
}

fn server_config(resolver: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    // The first that both have; the last is what a directory asks a challenge's certificate with (RFC 8737), and it offers no other.
    config.alpn_protocols = [b"h2".as_slice(), b"http/1.1", acme::CHALLENGE]
        .map(<[u8]>::to_vec)
        .into();
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn hint_for(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; is the path right?",
        io::ErrorKind::PermissionDenied => "; the user that onecast runs as must be allowed to read it",
        _ => "",
    }
}

/// Reads a small file that an option names.
fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Unreadable {
        option,
        path: path.to_owned(),
        source,
    })
}
