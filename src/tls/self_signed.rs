//! A certificate that the server makes for its machine and keeps.

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

use super::shown::Shown;
use super::store::Store;
use super::{Made, TlsError, provider};
use onecast_udp::clock;
use onecast_udp::interfaces::host_addresses;

/// Shows the certificate that is kept, or a new one; and starts to look every hour whether it is good still.
pub(super) fn start(
    state_dir: Option<PathBuf>,
    public_ips: Vec<IpAddr>,
    reload: Arc<Notify>,
    stop: CancellationToken,
) -> Result<(Arc<Shown>, Made), TlsError> {
    let store = open(state_dir);
    let certificate = kept_or_new(store.as_ref(), &names(&public_ips))?;
    let made = Made {
        fingerprint: fingerprint(&certificate.der),
        file: store
            .as_ref()
            .filter(|_| certificate.is_kept)
            .map(|store| store.path(CERTIFICATE)),
    };
    let mut der = certificate.der.clone();
    let shown = Shown::new(certificate.certified()?);
    let showing = shown.clone();
    let looking = async move {
        loop {
            tokio::select! {
                () = reload.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            renew(&mut der, store.as_ref(), &public_ips, &showing);
        }
    };
    tokio::spawn(async move { stop.run_until_cancelled(looking).await });
    Ok((shown, made))
}

fn open(state_dir: Option<PathBuf>) -> Option<Store> {
    let Some(state_dir) = state_dir else {
        warn!(
            "there is no place to keep the certificate: it is a new one at each start. --state-dir DIR gives it a place"
        );
        return None;
    };
    match Store::open(&state_dir, FOLDER) {
        Ok(store) => Some(store),
        Err(error) => {
            warn!(
                "the certificate cannot be kept in {}: {error}. It is a new one at each start; --state-dir DIR gives it a place",
                state_dir.display()
            );
            None
        }
    }
}

/// Replaces what is shown when it does not hold any more, and tells the new fingerprint.
fn renew(shown_der: &mut CertificateDer<'static>, store: Option<&Store>, public_ips: &[IpAddr], shown: &Shown) {
    let names = names(public_ips);
    if holds(shown_der, &names, clock::unix_time()) {
        return;
    }
    let renewed = kept_or_new(store, &names).and_then(|new| Ok((new.der.clone(), new.certified()?)));
    match renewed {
        Ok((der, certified)) => {
            info!(
                "a new certificate is in use for this machine, SHA-256 {}",
                fingerprint(&der)
            );
            *shown_der = der;
            shown.replace(certified);
        }
        Err(error) => warn!("the certificate in use stays: {error}"),
    }
}

/// A certificate and its key.
struct Certificate {
    der: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    is_kept: bool,
}

impl Certificate {
    fn certified(self) -> Result<CertifiedKey, TlsError> {
        Ok(CertifiedKey::from_der(vec![self.der], self.key, &provider())?)
    }
}

fn kept_or_new(store: Option<&Store>, names: &BTreeSet<String>) -> Result<Certificate, TlsError> {
    if let Some(kept) = store.and_then(kept)
        && holds(&kept.der, names, clock::unix_time())
    {
        return Ok(kept);
    }
    let (pem, key) = make(names, clock::unix_time())?;
    // The key first: a crash in between leaves two that do not match, and then both are made anew.
    let keep = |store: &Store| {
        store.write(KEY, key.serialize_pem().as_bytes())?;
        store.write(CERTIFICATE, pem.pem().as_bytes())
    };
    let is_kept = match store.map(keep) {
        Some(Err(error)) => {
            warn!("the certificate cannot be kept: {error}. It will be a new one at the next start");
            false
        }
        kept => kept.is_some(),
    };
    Ok(Certificate {
        der: pem.der().clone(),
        key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        is_kept,
    })
}

/// What an earlier start has kept, if it can be used.
fn kept(store: &Store) -> Option<Certificate> {
    let read = |name| -> io::Result<Option<Vec<u8>>> { store.read(name) };
    let (certificate, key) = (read(CERTIFICATE).ok()??, read(KEY).ok()??);
    let der = CertificateDer::from_pem_slice(&certificate).ok()?;
    let key = PrivateKeyDer::from_pem_slice(&key).ok()?;
    CertifiedKey::from_der(vec![der.clone()], key.clone_key(), &provider()).ok()?;
    Some(Certificate {
        der,
        key,
        is_kept: true,
    })
}

/// Whether a certificate of our own making is for all `names` and will be good for a while; `now` is time since 1970.
fn holds(der: &CertificateDer<'_>, names: &BTreeSet<String>, now: Duration) -> bool {
    let Ok(certificate) = ParsedCertificate::try_from(der) else {
        return false;
    };
    let mut roots = RootCertStore::empty();
    let later = UnixTime::since_unix_epoch(now + RENEW_BEFORE);
    let is_valid = roots.add(der.clone().into_owned()).is_ok()
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
    is_valid && names.iter().all(is_for)
}

fn make(names: &BTreeSet<String>, now: Duration) -> Result<(rcgen::Certificate, KeyPair), TlsError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
    let today = rcgen::date_time_ymd(1970, 1, 1) + now;
    // Clocks of other machines may be a day behind.
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

/// Everything this machine may be called in a URL.
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
        // Some systems let a machine have a name that no URL can carry.
        .filter(|name| ServerName::try_from(name.as_str()).is_ok())
        .collect()
}

/// SHA-256 of a certificate, as browsers show it: pairs of digits with colons.
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
/// Two years: Apple's systems take no longer than 825 days, and each new certificate is a new warning to click away.
const VALID_FOR: Duration = Duration::from_secs(730 * DAY.as_secs());
const RENEW_BEFORE: Duration = Duration::from_secs(30 * DAY.as_secs());
/// A laptop that changes its network is found again soon enough.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_certificate_holds_for_its_names_until_a_month_before_its_end() {
        let now = Duration::from_secs(1_800_000_000);
        let (certificate, _) = make(&set(&["localhost", "192.0.2.7", "2001:db8::1"]), now).unwrap();
        let der = certificate.der();
        assert!(holds(der, &set(&["192.0.2.7", "localhost"]), now));
        assert!(!holds(der, &set(&["192.0.2.8"]), now));
        assert!(!holds(der, &set(&["elsewhere"]), now));
        assert!(holds(der, &set(&[]), now + VALID_FOR - RENEW_BEFORE - DAY));
        assert!(!holds(der, &set(&[]), now + VALID_FOR - RENEW_BEFORE + DAY));
    }

    #[test]
    fn a_kept_certificate_is_shown_again_until_a_name_is_missing_or_its_files_are_broken() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), FOLDER).unwrap();
        let shown = |names: &[&str]| kept_or_new(Some(&store), &set(names)).unwrap().der;
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
    fn the_machine_is_called_by_all_its_names_and_addresses() {
        let public: IpAddr = "203.0.113.7".parse().unwrap();
        let names = names(&[public]);
        for name in ["localhost", "127.0.0.1", "::1", "203.0.113.7"] {
            assert!(names.contains(name), "{name} is not in {names:?}");
        }
        for address in host_addresses() {
            assert!(names.contains(&address.to_string()), "{address} is not in {names:?}");
        }
        let (certificate, _) = make(&names, clock::unix_time()).unwrap();
        assert!(holds(certificate.der(), &names, clock::unix_time()));
    }
}
