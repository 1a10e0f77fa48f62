//! A server, a publisher and a viewer, all of them the real program; attacks must not affect them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onecast_testing::attach;
use serde_json::Value;

pub(crate) struct Scene {
    pub(crate) http: SocketAddr,
    server: Child,
    publisher: Child,
    viewer: Child,
    seconds: Receiver<Value>,
    log: Arc<Mutex<String>>,
}

/// Limit for every single wait of a test.
const PATIENCE: Duration = Duration::from_secs(30);

impl Scene {
    /// Returns once the viewer has seen the picture for a second.
    pub(crate) fn start() -> Scene {
        let mut server = onecast(&["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"]);
        let log = lines(server.stderr.take().expect("it is piped"));
        let listening = next_with(&log, "listening http=");
        // A full pipe would block the server.
        let rest = Arc::new(Mutex::new(String::new()));
        let into = rest.clone();
        std::thread::spawn(move || {
            log.iter()
                .for_each(|line| into.lock().unwrap().push_str(&(line + "\n")))
        });
        let address = listening.split("http=").nth(1).and_then(|rest| rest.split(' ').next());
        let http: SocketAddr = address.unwrap().parse().unwrap();
        let to = format!("http://{http}/whip/live");
        let publisher = onecast(&["publish", "--to", &to, "--json"]);
        let from = format!("http://{http}/whep/live");
        let mut viewer = onecast(&["watch", "--from", &from, "--json"]);
        let output = lines(viewer.stdout.take().expect("it is piped"));
        let (sender, seconds) = channel();
        std::thread::spawn(move || {
            for line in output {
                let event: Value = serde_json::from_str(&line).unwrap();
                if event["event"] == "second" && sender.send(event).is_err() {
                    return;
                }
            }
        });
        let scene = Scene {
            http,
            server,
            publisher,
            viewer,
            seconds,
            log: rest,
        };
        while scene.second()["video"]["frames"].as_u64().unwrap_or(0) == 0 {}
        scene
    }

    /// Waits for another second and checks that the viewer has missed nothing since the last call, and that the server is ready.
    pub(crate) fn check_undisturbed(&mut self) {
        let mut seconds: Vec<Value> = self.seconds.try_iter().collect();
        seconds.push(self.second());
        for second in &seconds {
            for kind in ["video", "audio"] {
                assert_eq!(second[kind]["lost"], 0, "{second}");
                assert!(second[kind]["frames"].as_u64() > Some(0), "{second}");
            }
        }
        assert!(self.server.try_wait().unwrap().is_none(), "the server has ended");
        for path in ["/healthz", "/readyz"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            assert_eq!(statuses(&self.exchange(request.as_bytes())), [200], "{path}");
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes and returns everything until the server closes the connection, which it must.
    pub(crate) fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(bytes);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        String::from_utf8_lossy(&reply).into_owned()
    }

    fn second(&self) -> Value {
        self.seconds
            .recv_timeout(PATIENCE)
            .expect("the viewer tells every second")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for child in [&mut self.viewer, &mut self.publisher, &mut self.server] {
            let _ = child.kill();
            let _ = child.wait();
        }
        attach("the server wrote", &self.log.lock().unwrap());
    }
}

/// Status codes of the responses in a text.
pub(crate) fn statuses(reply: &str) -> Vec<u16> {
    let starts = reply.split("HTTP/1.1 ").skip(1);
    starts.filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
}

fn onecast(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_onecast"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(if arguments[0] == "watch" {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stderr(if arguments[0] == "--http" {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .spawn()
        .unwrap()
}

fn lines(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn next_with(lines: &Receiver<String>, words: &str) -> String {
    loop {
        let line = lines.recv_timeout(PATIENCE).expect("the server says where it listens");
        if line.contains(words) {
            return line;
        }
    }
}
