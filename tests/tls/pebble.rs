//! Pebble, Let's Encrypt's ACME test server, with its DNS server. Both run on loopback and end with the test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use onecast_testing::{attach, find_program};
use serde_json::json;
use tempfile::TempDir;

use super::client::trusting;
use super::rig::{Log, PATIENCE, free_port};

/// A running ACME directory that resolves every domain to this machine.
pub(crate) struct Pebble {
    processes: Vec<Child>,
    folder: TempDir,
    directory: u16,
    management: u16,
    pub(crate) log: Log,
}

impl Pebble {
    /// Starts one that validates `tls-alpn-01` on this port.
    pub(crate) async fn start(https_port: u16) -> Pebble {
        Pebble::with(https_port, Duration::from_secs(90 * 24 * 60 * 60)).await
    }

    /// Starts one whose certificates are valid for this long.
    pub(crate) async fn with(https_port: u16, validity: Duration) -> Pebble {
        let program = |name| find_program(name).unwrap_or_else(|| panic!("{name} is installed"));
        let (pebble, dns) = (program("pebble"), program("pebble-challtestsrv"));
        let mut running = Pebble {
            processes: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
            directory: free_port(),
            management: free_port(),
            log: Log::default(),
        };
        running.write_files(https_port, validity);
        let resolver = SocketAddr::from(([127, 0, 0, 1], free_port())).to_string();
        let mut dns = Command::new(dns);
        dns.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dnsserver", &resolver]);
        // Everything else stays off, except management, which cannot be.
        dns.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""]);
        dns.args(["-management", &format!("127.0.0.1:{}", free_port())]);
        running.spawn(dns);
        let mut pebble = Command::new(pebble);
        pebble
            .arg("-config")
            .arg(running.file("config.json"))
            .args(["-dnsserver", &resolver]);
        // Without its random delays and rejected nonces, which test other clients.
        pebble.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
        running.spawn(pebble);
        running.answers().await;
        running
    }

    /// URL of the directory.
    pub(crate) fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.directory)
    }

    /// File with the root certificate of its own HTTPS.
    pub(crate) fn ca(&self) -> PathBuf {
        self.file("pebble.pem")
    }

    /// Root of the certificates that it issues, as PEM.
    pub(crate) async fn root(&self) -> Vec<u8> {
        let client = trusting(&std::fs::read(self.ca()).unwrap()).build().unwrap();
        let url = format!("https://localhost:{}/roots/0", self.management);
        let reply = client.get(url).send().await.unwrap();
        reply.bytes().await.unwrap().to_vec()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_files(&self, https_port: u16, validity: Duration) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(self.file("pebble.pem"), made.cert.pem()).unwrap();
        std::fs::write(self.file("pebble.key"), made.signing_key.serialize_pem()).unwrap();
        let config = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.directory),
            "managementListenAddress": format!("127.0.0.1:{}", self.management),
            "certificate": self.file("pebble.pem"),
            "privateKey": self.file("pebble.key"),
            "httpPort": 5002,
            "tlsPort": https_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "retryAfter": { "authz": 1, "order": 1 },
            "profiles": { "default": { "description": "the only one", "validityPeriod": validity.as_secs() } },
        }});
        std::fs::write(self.file("config.json"), config.to_string()).unwrap();
    }

    fn spawn(&mut self, mut command: Command) {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        self.log.follow(child.stdout.take().unwrap());
        self.log.follow(child.stderr.take().unwrap());
        self.processes.push(child);
    }

    async fn answers(&self) {
        let client = trusting(&std::fs::read(self.ca()).unwrap()).build().unwrap();
        let answering = async {
            while client.get(self.directory()).send().await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let answered = tokio::time::timeout(PATIENCE, answering).await;
        assert!(
            answered.is_ok(),
            "Pebble does not answer; it wrote:\n{}",
            self.log.text()
        );
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
        attach("Pebble wrote", &self.log.text());
    }
}
