//! HTTP/1.1 as bytes: a client that sends any bytes, well-formed or not.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A connection.
pub(crate) struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
}

/// A response as it came.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Wire {
        Wire {
            stream: TcpStream::connect(address).await.unwrap(),
            received: Vec::new(),
        }
    }

    /// The connection, and the bytes that were received but not read.
    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.received)
    }

    /// Sends bytes; a server that has closed already is no error here.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    pub(crate) async fn finish_sending(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The next response; `None` when the server closes without one.
    pub(crate) async fn reply(&mut self) -> Option<Reply> {
        self.reply_to(false).await
    }

    /// The response to a HEAD request: without a body, whatever its length says.
    pub(crate) async fn reply_to_head(&mut self) -> Option<Reply> {
        self.reply_to(true).await
    }

    async fn reply_to(&mut self, head: bool) -> Option<Reply> {
        let mut reply = self.head().await?;
        let len = match reply.header("content-length") {
            _ if head || matches!(reply.status, 100..=199 | 204 | 304) => 0,
            Some(len) => len.parse().unwrap(),
            None => panic!("a response without a length: {reply:?}"),
        };
        while self.received.len() < len {
            self.more().await?;
        }
        reply.body = self.received.drain(..len).collect();
        Some(reply)
    }

    /// The head of the next response; its body stays where it is.
    pub(crate) async fn head(&mut self) -> Option<Reply> {
        let head_len = loop {
            if let Some(at) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let text = String::from_utf8(self.received.drain(..head_len).collect()).unwrap();
        let mut lines = text.trim_end().split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap_or((line.trim_end_matches(':'), "")));
        let headers = headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Some(Reply {
            status,
            headers,
            body: Vec::new(),
        })
    }

    /// Takes what comes up to and with `text`; `None` when the server closes before.
    pub(crate) async fn through(&mut self, text: &str) -> Option<String> {
        let taken = tokio::time::timeout(PATIENCE, self.take_through(text)).await;
        taken.unwrap_or_else(|_| panic!("{text:?} never came"))
    }

    async fn take_through(&mut self, text: &str) -> Option<String> {
        loop {
            let received = String::from_utf8_lossy(&self.received).into_owned();
            if let Some(at) = received.find(text) {
                let taken = at + text.len();
                self.received.drain(..taken);
                return Some(received[..taken].to_owned());
            }
            self.more().await?;
        }
    }

    /// True when the server closes and nothing more comes.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.received.is_empty() && self.more().await.is_none()
    }

    async fn more(&mut self) -> Option<()> {
        let mut buffer = [0; 16 * 1024];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer))
            .await
            .expect("the server reacts");
        let len = read.ok().filter(|&len| len > 0)?;
        self.received.extend_from_slice(&buffer[..len]);
        Some(())
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Checks that this is problem+json of this status, and gives its detail and hint.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let json = self.json();
        assert_eq!(json["status"], status);
        assert!(json["type"].as_str().unwrap().starts_with("urn:onecast:problem:"));
        assert!(!json["title"].as_str().unwrap().is_empty());
        format!(
            "{} {}",
            json["detail"].as_str().unwrap(),
            json["hint"].as_str().unwrap_or_default()
        )
    }
}

/// A request with a body and its length.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
