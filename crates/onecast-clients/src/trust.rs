//! Which certificates a client trusts.

use std::path::PathBuf;

use reqwest::{Certificate, ClientBuilder};

/// Options for checking the server's certificate.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TrustArgs {
    /// Trust the certificates in this PEM file in addition to the system's, such as the one that `onecast --lan` creates
    #[arg(long, value_name = "FILE", env = "ONECAST_CA")]
    pub ca: Option<PathBuf>,

    /// Accept any certificate: the connection is encrypted, but the server's identity is not checked
    #[arg(long)]
    pub insecure: bool,
}

/// Trusted certificates.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// The system's authorities.
    #[default]
    System,
    /// The system's authorities and these certificates.
    Also(Vec<Certificate>),
    /// Any certificate.
    AnyCertificate,
}

/// Why the file of `--ca` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It cannot be read.
    #[error("cannot read {} (--ca): {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// It has no certificate.
    #[error("{} (--ca) has no certificate in PEM form; it must begin with -----BEGIN CERTIFICATE-----", .0.display())]
    Empty(PathBuf),
}

impl TrustArgs {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read or has no certificate.
    pub fn trust(&self) -> Result<Trust, TrustError> {
        if self.insecure {
            return Ok(Trust::AnyCertificate);
        }
        let Some(path) = &self.ca else {
            return Ok(Trust::System);
        };
        let pem = std::fs::read(path).map_err(|source| TrustError::Unreadable {
            path: path.clone(),
            source,
        })?;
        match Certificate::from_pem_bundle(&pem) {
            Ok(certificates) if !certificates.is_empty() => Ok(Trust::Also(certificates)),
            _ => Err(TrustError::Empty(path.clone())),
        }
    }
}

impl Trust {
    /// Applies this to an HTTP client.
    pub(super) fn apply(&self, client: ClientBuilder) -> ClientBuilder {
        match self {
            Trust::System => client,
            Trust::Also(certificates) => client.tls_certs_merge(certificates.iter().cloned()),
            Trust::AnyCertificate => client.tls_danger_accept_invalid_certs(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust(path: &str) -> Result<Trust, String> {
        let args = TrustArgs {
            ca: Some(path.into()),
            insecure: false,
        };
        args.trust().map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_without_a_certificate_is_rejected_by_name() {
        let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let good = trust(&format!("{tests}/tests/data/tls/sec1.crt")).unwrap();
        assert!(matches!(good, Trust::Also(certificates) if certificates.len() == 1));
        assert!(
            trust("/absent.pem")
                .unwrap_err()
                .starts_with("cannot read /absent.pem (--ca)")
        );
        let wrong = trust(&format!("{tests}/Cargo.toml")).unwrap_err();
        assert!(wrong.contains("Cargo.toml (--ca) has no certificate"), "{wrong}");
    }
}
