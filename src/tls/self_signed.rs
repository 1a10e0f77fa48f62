//! A certificate that the server generates for its machine and stores.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::current::CurrentCertificate;
use super::store::Store;
use super::{GeneratedCertificate, TlsError, provider};
use onecast_udp::clock;
use onecast_udp::interfaces::host_addresses;

/// Loads the stored certificate or generates a new one, and starts to check every hour whether it is still valid.
pub(super) fn start(
    state_dir: Option<PathBuf>,
    public_ips: Vec<IpAddr>,
    reload: Arc<Notify>,
    stop: CancellationToken,
) -> Result<(Arc<CurrentCertificate>, GeneratedCertificate), TlsError> {
    let store = open(state_dir);
    let certificate = load_or_generate(store.as_ref(), &names(&public_ips))?;
    let generated = GeneratedCertificate {
        fingerprint: fingerprint(&certificate.der),
        file: store
            .as_ref()
            .filter(|_| certificate.is_stored)
            .map(|store| store.path(CERTIFICATE)),
    };
    let mut der = certificate.der.clone();
    let current = CurrentCertificate::new(certificate.certified()?);
    let renewed = current.clone();
    let renewing = async move {
        loop {
            tokio::select! {
                () = reload.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            renew(&mut der, store.as_ref(), &public_ips, &renewed);
        }
    };
    tokio::spawn(async move { stop.run_until_cancelled(renewing).await });
    Ok((current, generated))
}

fn open(state_dir: Option<PathBuf>) -> Option<Store> {
    let Some(state_dir) = state_dir else {
        warn!(
            "there is no directory to store the certificate, so each start generates a new one; specify one with --state-dir DIR"
        );
        return None;
    };
    match Store::open(&state_dir, FOLDER) {
        Ok(store) => Some(store),
        Err(error) => {
            warn!(
                "cannot store the certificate in {}: {error}. Each start generates a new one; specify another directory with --state-dir DIR",
                state_dir.display()
            );
            None
        }
    }
}

/// Replaces the certificate if it is not valid any more, and logs the new fingerprint.
fn renew(
    der: &mut CertificateDer<'static>,
    store: Option<&Store>,
    public_ips: &[IpAddr],
    current: &CurrentCertificate,
) {
    let names = names(public_ips);
    if is_valid(der, &names, clock::unix_time()) {
        return;
    }
    let renewed = load_or_generate(store, &names).and_then(|new| Ok((new.der.clone(), new.certified()?)));
    match renewed {
        Ok((new, certified)) => {
            info!(
                "a new certificate for this machine is in use, SHA-256 {}",
                fingerprint(&new)
            );
            *der = new;
            current.replace(certified);
        }
        Err(error) => warn!("the current certificate stays in use: {error}"),
    }
}

/// A certificate and its key.
struct Certificate {
    der: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    is_stored: bool,
}

impl Certificate {
    fn certified(self) -> Result<CertifiedKey, TlsError> {
        Ok(CertifiedKey::from_der(vec![self.der], self.key, &provider())?)
    }
}

fn load_or_generate(store: Option<&Store>, names: &BTreeSet<String>) -> Result<Certificate, TlsError> {
    if let Some(stored) = store.and_then(load)
        && is_valid(&stored.der, names, clock::unix_time())
    {
        return Ok(stored);
    }
    let (pem, key) = make(names, clock::unix_time())?;
    // The key first: after a crash in between, the two do not match, and the next start generates both again.
    let save = |store: &Store| {
        store.write(KEY, key.serialize_pem().as_bytes())?;
        store.write(CERTIFICATE, pem.pem().as_bytes())
    };
    let is_stored = match store.map(save) {
        Some(Err(error)) => {
            warn!("cannot store the certificate: {error}. The next start will generate a new one");
            false
        }
        stored => stored.is_some(),
    };
    Ok(Certificate {
        der: pem.der().clone(),
        key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        is_stored,
    })
}

/// The certificate of an earlier start, if usable.
fn load(store: &Store) -> Option<Certificate> {
    let read = |name| -> io::Result<Option<Vec<u8>>> { store.read(name) };
    let (certificate, key) = (read(CERTIFICATE).ok()??, read(KEY).ok()??);
    let der = CertificateDer::from_pem_slice(&certificate).ok()?;
    let key = PrivateKeyDer::from_pem_slice(&key).ok()?;
    CertifiedKey::from_der(vec![der.clone()], key.clone_key(), &provider()).ok()?;
    Some(Certificate {
        der,
        key,
        is_stored: true,
    })
}

/// Whether a generated certificate covers all `names` and stays valid for [`RENEW_BEFORE`]; `now` is the time since 1970.
fn is_valid(der: &CertificateDer<'_>, names: &BTreeSet<String>, now: Duration) -> bool {
    let Ok(certificate) = ParsedCertificate::try_from(der) else {
        return false;
    };
    let mut roots = RootCertStore::empty();
    let later = UnixTime::since_unix_epoch(now + RENEW_BEFORE);
    let is_current = roots.add(der.clone().into_owned()).is_ok()
        && verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &roots,
            &[],
            later,
            provider().signature_verification_algorithms.all,
        )
        .is_ok();
    let is_for = |name: &String| {
        ServerName::try_from(name.as_str()).is_ok_and(|name| verify_server_name(&certificate, &name).is_ok())
    };
    is_current && names.iter().all(is_for)
}

fn make(names: &BTreeSet<String>, now: Duration) -> Result<(rcgen::Certificate, KeyPair), TlsError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
    let today = rcgen::date_time_ymd(1970, 1, 1) + now;
    // The clocks of other machines may be a day behind.
    params.not_before = today - DAY;
    params.not_after = today + VALID_FOR;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "onecast, self-signed");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key)?;
    Ok((certificate, key))
}

/// All names and addresses of this machine that a URL may contain.
fn names(public_ips: &[IpAddr]) -> BTreeSet<String> {
    let host = gethostname::gethostname().to_string_lossy().to_ascii_lowercase();
    let short = host.split('.').next().unwrap_or_default().to_owned();
    let local = format!("{short}.local");
    let spoken = ["localhost".to_owned(), host, short, local];
    let loopback = ["127.0.0.1".to_owned(), "::1".to_owned()];
    let numbers = host_addresses().into_iter().chain(public_ips.iter().copied());
    spoken
        .into_iter()
        .chain(loopback)
        .chain(numbers.map(|ip| ip.to_string()))
        // Some systems allow host names that are invalid in URLs.
        .filter(|name| ServerName::try_from(name.as_str()).is_ok())
        .collect()
}

/// SHA-256 fingerprint in the form that browsers show: pairs of digits with colons.
fn fingerprint(der: &CertificateDer<'_>) -> String {
    let mut text = String::new();
    for (place, byte) in digest(&SHA256, der).as_ref().iter().enumerate() {
        let separator = if place == 0 { "" } else { ":" };
        let _ = write!(text, "{separator}{byte:02X}");
    }
    text
}

const FOLDER: &str = "tls";
const CERTIFICATE: &str = "self-signed.pem";
const KEY: &str = "self-signed.key";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Two years: Apple's systems accept at most 825 days, and each new certificate means a new browser warning.
const VALID_FOR: Duration = Duration::from_secs(730 * DAY.as_secs());
const RENEW_BEFORE: Duration = Duration::from_secs(30 * DAY.as_secs());
/// A laptop that changes its network gets a certificate for its new address soon enough.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_certificate_is_valid_for_its_names_until_a_month_before_expiry() {
        let now = Duration::from_secs(1_800_000_000);
        let (certificate, _) = make(&set(&["localhost", "192.0.2.7", "2001:db8::1"]), now).unwrap();
        let der = certificate.der();
        assert!(is_valid(der, &set(&["192.0.2.7", "localhost"]), now));
        assert!(!is_valid(der, &set(&["192.0.2.8"]), now));
        assert!(!is_valid(der, &set(&["elsewhere"]), now));
        assert!(is_valid(der, &set(&[]), now + VALID_FOR - RENEW_BEFORE - DAY));
        assert!(!is_valid(der, &set(&[]), now + VALID_FOR - RENEW_BEFORE + DAY));
    }

    #[test]
    fn a_stored_certificate_is_used_while_complete_and_covering_all_names() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), FOLDER).unwrap();
        let shown = |names: &[&str]| load_or_generate(Some(&store), &set(names)).unwrap().der;
        let first = shown(&["localhost"]);
        assert_eq!(shown(&["localhost"]), first);
        let second = shown(&["localhost", "192.0.2.7"]);
        assert_ne!(second, first);
        assert_eq!(shown(&["localhost"]), second);
        let (_, key) = make(&set(&["localhost"]), clock::unix_time()).unwrap();
        store.write(KEY, key.serialize_pem().as_bytes()).unwrap();
        let third = shown(&["localhost"]);
        assert_ne!(third, second);
        store.write(CERTIFICATE, b"nonsense").unwrap();
        assert_ne!(shown(&["localhost"]), third);
    }

    #[test]
    fn the_certificate_has_all_names_and_addresses_of_the_machine() {
        let public: IpAddr = "203.0.113.7".parse().unwrap();
        let names = names(&[public]);
        for name in ["localhost", "127.0.0.1", "::1", "203.0.113.7"] {
            assert!(names.contains(name), "{name} is not in {names:?}");
        }
        for address in host_addresses() {
            assert!(names.contains(&address.to_string()), "{address} is not in {names:?}");
        }
        let (certificate, _) = make(&names, clock::unix_time()).unwrap();
        assert!(is_valid(certificate.der(), &names, clock::unix_time()));
    }
}
