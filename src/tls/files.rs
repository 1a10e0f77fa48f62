//! A certificate in files of the user's, read again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::current::CurrentCertificate;
use super::{TlsError, provider, read};

/// Reads the files and starts to watch them.
pub(super) fn start(
    chain: PathBuf,
    key: PathBuf,
    reload: Arc<Notify>,
    stop: CancellationToken,
) -> Result<Arc<CurrentCertificate>, TlsError> {
    let stamps = Stamps::of(&chain, &key);
    let current = CurrentCertificate::new(load(&chain, &key)?);
    let files = Files {
        chain,
        key,
        stamps,
        current: current.clone(),
    };
    tokio::spawn(async move { stop.run_until_cancelled(files.watch(&reload)).await });
    Ok(current)
}

struct Files {
    chain: PathBuf,
    key: PathBuf,
    /// The state of the files when they were last read.
    stamps: Stamps,
    current: Arc<CurrentCertificate>,
}

impl Files {
    async fn watch(mut self, reload: &Notify) {
        loop {
            let asked = tokio::select! {
                () = reload.notified() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            // The files may be on a slow network file system.
            let looked = tokio::task::spawn_blocking(move || {
                self.look(asked);
                self
            });
            match looked.await {
                Ok(files) => self = files,
                Err(_) => return,
            }
        }
    }

    fn look(&mut self, asked: bool) {
        let stamps = Stamps::of(&self.chain, &self.key);
        if stamps == self.stamps && !asked {
            return;
        }
        self.stamps = stamps;
        match load(&self.chain, &self.key) {
            Ok(certificate) => {
                self.current.replace(certificate);
                info!("the certificate in {} is now in use", self.chain.display());
            }
            // Often only one of the two files has been written so far; the change of the other one triggers another attempt.
            Err(error) => warn!("the current certificate stays in use: {error}"),
        }
    }
}

/// Modification times and lengths of the two files.
#[derive(PartialEq, Eq)]
struct Stamps([Option<(SystemTime, u64)>; 2]);

impl Stamps {
    fn of(chain: &Path, key: &Path) -> Stamps {
        Stamps([chain, key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        }))
    }
}

/// Reads a chain and the key of its first certificate: PKCS #8, SEC1 or PKCS #1.
fn load(chain_path: &Path, key_path: &Path) -> Result<CertifiedKey, TlsError> {
    let missing = |option, path: &Path, wanted, hint| TlsError::Missing {
        option,
        path: path.to_owned(),
        wanted,
        hint,
    };
    let chain = read("--tls-cert", chain_path)?;
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&chain).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| {
        let hint = "it must begin with -----BEGIN CERTIFICATE-----";
        missing("--tls-cert", chain_path, "certificate", hint)
    })?;
    let key = PrivateKeyDer::from_pem_slice(&read("--tls-key", key_path)?).map_err(|_| {
        let hint = "decrypt an encrypted key first, for instance with: openssl pkey -in FILE -out NEW";
        missing("--tls-key", key_path, "private key", hint)
    })?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch {
            chain: chain_path.to_owned(),
            key: key_path.to_owned(),
        },
        // The error of the library shows whether the key or a certificate is invalid.
        rustls::Error::InvalidCertificate(_) => unusable(chain_path, &error),
        error => unusable(key_path, &error),
    })
}

fn unusable(path: &Path, error: &rustls::Error) -> TlsError {
    TlsError::Unusable {
        path: path.to_owned(),
        why: error.to_string(),
    }
}

/// Checking two files costs next to nothing, and an operator who renews a certificate sees the log line at once.
const LOOK_EVERY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let made = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
            (made.cert.pem(), made.signing_key.serialize_pem())
        };
        let ((one, key_of_one), (other, _)) = (made("one.test"), made("other.test"));
        let chain = write(folder, "chain.pem", &format!("{one}{other}"));
        let key = write(folder, "key.pem", &key_of_one);
        let foreign = write(folder, "other.pem", &other);
        let nothing = write(folder, "nothing.pem", "nothing");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let broken = write(folder, "broken.pem", broken);
        assert_eq!(load(&chain, &key).unwrap().cert.len(), 2);

        let said = |chain: &Path, key: &Path| load(chain, key).unwrap_err().to_string();
        let absent = said(&folder.join("absent.pem"), &key);
        assert!(absent.contains("absent.pem (--tls-cert)") && absent.ends_with("check the path"));
        let swapped = said(&key, &chain);
        assert!(swapped.contains("key.pem (--tls-cert) has no certificate"), "{swapped}");
        let no_key = said(&chain, &nothing);
        assert!(
            no_key.contains("nothing.pem (--tls-key) has no private key"),
            "{no_key}"
        );
        let mismatch = said(&foreign, &key);
        assert!(mismatch.contains("key.pem (--tls-key)") && mismatch.contains("other.pem (--tls-cert)"));
        let broken = said(&broken, &key);
        assert!(broken.contains("broken.pem cannot be used"), "{broken}");
    }

    #[test]
    fn keys_in_all_three_formats_are_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
        for form in ["pkcs8", "sec1", "pkcs1"] {
            let file = |kind: &str| folder.join(format!("{form}.{kind}"));
            let loaded = load(&file("crt"), &file("key"));
            assert!(loaded.is_ok(), "{form}: {}", loaded.unwrap_err());
        }
    }
}
