//! Certificates from the user's files.

use std::path::{Path, PathBuf};

use onecast_testing::{Tests, tests};
use rustls::version::TLS13;

use super::client::{handshake, trusting};
use super::rig::{PATIENCE, Running, refused};

pub(crate) fn tests() -> Tests {
    tests![
        new_certificate_is_used_without_closing_connections,
        broken_certificate_is_logged_once_and_the_old_one_stays,
        unusable_files_are_named_at_startup,
    ]
}

/// Files with a chain and a key.
struct Files {
    folder: tempfile::TempDir,
}

/// A chain and its key.
struct Pair {
    chain: String,
    key: String,
}

impl Pair {
    fn new() -> Pair {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        Pair {
            chain: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        }
    }

    fn der(&self) -> Vec<u8> {
        use rustls::pki_types::pem::PemObject as _;
        rustls::pki_types::CertificateDer::from_pem_slice(self.chain.as_bytes())
            .unwrap()
            .to_vec()
    }
}

impl Files {
    fn new(pair: &Pair) -> Files {
        let files = Files {
            folder: tempfile::tempdir().unwrap(),
        };
        files.write(pair);
        files
    }

    fn write(&self, pair: &Pair) {
        std::fs::write(self.chain(), &pair.chain).unwrap();
        std::fs::write(self.key(), &pair.key).unwrap();
    }

    fn chain(&self) -> PathBuf {
        self.folder.path().join("chain.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    async fn server(&self) -> Running {
        Running::start(&options(&self.chain(), &self.key())).await
    }
}

fn options<'a>(chain: &'a Path, key: &'a Path) -> [&'a str; 4] {
    [
        "--tls-cert",
        chain.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ]
}

/// Waits until the server presents this certificate.
async fn shows(server: &Running, pair: &Pair) {
    let shown = async {
        loop {
            let stream = handshake(server.http, "localhost", pair.chain.as_bytes(), &[], &[&TLS13]).await;
            if let Ok(stream) = stream {
                assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0].as_ref(), pair.der());
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, shown)
        .await
        .expect("the certificate is shown in time");
}

async fn new_certificate_is_used_without_closing_connections() {
    let (first, second) = (Pair::new(), Pair::new());
    let files = Files::new(&first);
    let server = files.server().await;
    shows(&server, &first).await;
    let running = trusting(first.chain.as_bytes()).build().unwrap();
    let ask = || running.get(server.url("/api/streams")).send();
    assert_eq!(ask().await.unwrap().status(), 200);

    files.write(&second);
    shows(&server, &second).await;
    // If its connection had been closed, this client would get a certificate that it does not trust.
    assert_eq!(ask().await.unwrap().status(), 200);
    server.wrote("is now in use").await;
}

async fn broken_certificate_is_logged_once_and_the_old_one_stays() {
    let (first, second) = (Pair::new(), Pair::new());
    let files = Files::new(&first);
    let server = files.server().await;
    std::fs::write(files.chain(), "-----BEGIN CERTIFICATE-----\nbroken").unwrap();
    server.wrote("the current certificate stays in use: ").await;
    shows(&server, &first).await;

    // Only one of the two files is new, as in the middle of a renewal.
    std::fs::write(files.chain(), &second.chain).unwrap();
    let text = server.wrote("does not belong to the first certificate").await;
    shows(&server, &first).await;
    assert_eq!(
        text.matches("the current certificate stays in use").count(),
        2,
        "{text}"
    );

    std::fs::remove_file(files.key()).unwrap();
    server.wrote("key.pem (--tls-key)").await;
    files.write(&second);
    shows(&server, &second).await;
}

fn unusable_files_are_named_at_startup() {
    let (one, other) = (Pair::new(), Pair::new());
    let files = Files::new(&one);
    let start = |chain: &Path, key: &Path| {
        let alone = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"];
        refused(&[&alone[..], &options(chain, key)].concat())
    };
    let absent = start(&files.folder.path().join("absent.pem"), &files.key());
    assert!(
        absent.contains("absent.pem (--tls-cert)") && absent.contains("check the path"),
        "{absent}"
    );
    std::fs::write(files.key(), &other.key).unwrap();
    let mismatch = start(&files.chain(), &files.key());
    assert!(
        mismatch.contains("key.pem (--tls-key) does not belong to"),
        "{mismatch}"
    );
    assert!(mismatch.contains("chain.pem (--tls-cert)"), "{mismatch}");
    assert!(!mismatch.contains("PRIVATE"), "{mismatch}");
}
