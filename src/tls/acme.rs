//! A certificate from an ACME directory (RFC 8555), validated by TLS-ALPN-01 (RFC 8737) on the HTTPS port itself.

mod cache;
mod error_text;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::ResolvesServerCert;
use rustls::{ClientConfig, RootCertStore};
use rustls_acme::acme::ACME_TLS_ALPN_NAME;
use rustls_acme::{AcmeState, EventError, EventOk};
use tokio::sync::Notify;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::cache::{Cache, CacheError};
use super::store::Store;
use super::{TlsError, provider, read};

/// The certificate to order, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeConfig {
    /// The names in the certificate.
    pub domains: Vec<String>,
    /// The contact for notices of the directory.
    pub email: Option<String>,
    /// URL of the directory.
    pub directory: String,
    /// PEM file with the root of the directory's own certificate; `None` for the public web roots.
    pub ca: Option<PathBuf>,
    /// Where account and certificate are stored; `None` for in memory only.
    pub state_dir: Option<PathBuf>,
}

/// Directory of Let's Encrypt.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Its staging directory, for tests: certificates that no browser trusts, and generous limits.
pub const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";
/// The ALPN protocol of a challenge.
pub(super) const CHALLENGE: &[u8] = ACME_TLS_ALPN_NAME;

/// Orders a certificate unless one is stored, and renews it when a third of its lifetime is left.
pub(super) fn start(
    config: AcmeConfig,
    retry: Arc<Notify>,
    stop: CancellationToken,
) -> Result<Arc<dyn ResolvesServerCert>, TlsError> {
    let names = config.domains.join(", ");
    let contact = config.email.iter().map(|email| format!("mailto:{email}"));
    let mut acme = rustls_acme::AcmeConfig::new_with_provider(&config.domains, provider())
        .directory(&config.directory)
        .contact(contact);
    if let Some(ca) = &config.ca {
        acme = acme.client_tls_config(trusting(ca)?);
    }
    let state = acme.cache(Cache::new(open(config.state_dir))).state();
    let resolver = state.resolver();
    let domains = config.domains;
    info!("the certificate for {names} comes from {}", config.directory);
    let keeping = keep(state, domains, retry);
    tokio::spawn(async move { stop.run_until_cancelled(keeping).await });
    Ok(resolver)
}

fn open(state_dir: Option<PathBuf>) -> Option<Store> {
    let hint = "Each start orders a new one, which the directory limits; specify a directory with --state-dir DIR";
    let Some(state_dir) = state_dir else {
        warn!("there is no directory to store the certificate. {hint}");
        return None;
    };
    Store::open(&state_dir, FOLDER)
        .inspect_err(|error| {
            warn!(
                "cannot store the certificate in {}: {error}. {hint}",
                state_dir.display()
            );
        })
        .ok()
}

/// A client that trusts only the roots in a file.
fn trusting(path: &Path) -> Result<Arc<ClientConfig>, TlsError> {
    let pem = read("--acme-ca", path)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem).flatten() {
        roots.add(certificate).map_err(|error| TlsError::Unusable {
            path: path.to_owned(),
            why: error.to_string(),
        })?;
    }
    if roots.is_empty() {
        return Err(TlsError::Missing {
            option: "--acme-ca",
            path: path.to_owned(),
            wanted: "certificate",
            hint: "it must begin with -----BEGIN CERTIFICATE-----",
        });
    }
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Processes the orders for ever, and logs what happens.
async fn keep(mut state: AcmeState<CacheError>, domains: Vec<String>, retry: Arc<Notify>) {
    let names = domains.join(", ");
    let mut failures = 0;
    while let Some(event) = state.next().await {
        let error = match event {
            Ok(EventOk::DeployedCachedCert) => {
                info!("the stored certificate for {names} is in use");
                continue;
            }
            Ok(EventOk::DeployedNewCert) => {
                failures = 0;
                info!("a new certificate for {names} is in use");
                continue;
            }
            Ok(EventOk::CertCacheStore | EventOk::AccountCacheStore) => {
                debug!("account or certificate stored");
                continue;
            }
            Err(EventError::Order(error)) => error,
            Err(other) => {
                warn!("{}", error_text::of_keeping(&other));
                continue;
            }
        };
        let pause = pause_after(failures);
        failures += 1;
        warn!(
            "cannot get a certificate for {names}; trying again in {} s, or on SIGHUP: {}",
            pause.as_secs(),
            error_text::of_order(&error, &domains)
        );
        // The library would retry much sooner, and directories count failures. It makes progress only when polled, so wait here.
        tokio::select! {
            () = retry.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Let's Encrypt allows five failed validations per name and hour; this schedule has five.
fn pause_after(failures: u32) -> Duration {
    Duration::from_secs(match failures {
        0 => 5,
        1 => 60,
        2 => 15 * 60,
        _ => 30 * 60,
    })
}

const FOLDER: &str = "acme";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_name_is_tried_at_most_five_times_an_hour() {
        let hour = Duration::from_secs(60 * 60);
        for first in 0..10 {
            let mut elapsed = Duration::ZERO;
            let tries = (first..).take_while(|&failures| {
                elapsed += pause_after(failures);
                elapsed < hour
            });
            assert!(tries.count() < 5, "from the {first}th");
        }
    }
}
