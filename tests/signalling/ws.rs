//! A WebSocket client, frame by frame.

use std::time::Duration;

use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::rig::{OFFER, Rig};
use super::wire::Reply;

pub(crate) struct Ws(WebSocketStream<TcpStream>);

/// No test waits longer for a frame.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);

/// Headers that begin a WebSocket.
pub(crate) const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// The request that begins a WebSocket.
pub(crate) fn upgrade(path: &str, headers: &[(&str, &str)]) -> String {
    let headers: String = UPGRADE
        .iter()
        .chain(headers)
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n")
}

impl Ws {
    pub(crate) async fn open(rig: &Rig) -> Ws {
        Ws::open_with(rig, "/ws", &[]).await.expect("a socket")
    }

    /// The response when it is not 101.
    pub(crate) async fn open_with(rig: &Rig, path: &str, headers: &[(&str, &str)]) -> Result<Ws, Reply> {
        let mut wire = rig.connect().await;
        wire.send(upgrade(path, headers)).await;
        let head = wire.head().await.expect("a response");
        if head.status != 101 {
            return Err(head);
        }
        let (stream, came) = wire.into_parts();
        Ok(Ws(WebSocketStream::from_partially_read(
            stream,
            came,
            Role::Client,
            None,
        )
        .await))
    }

    /// Joins a room: the answer, after which the roster has come.
    pub(crate) async fn join(&mut self, room: &str) -> Value {
        self.send(json!({ "type": "offer", "sdp": OFFER, "room": room })).await;
        let answer = self.expect("answer").await;
        self.expect("roster").await;
        answer
    }

    pub(crate) async fn send(&mut self, value: Value) {
        self.raw(Message::text(value.to_string())).await;
    }

    /// Sends a frame; a server that has closed already is no error here.
    pub(crate) async fn raw(&mut self, message: Message) {
        let _ = self.0.send(message).await;
    }

    /// The next text or close frame; `None` when the connection ends.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            let next = tokio::time::timeout(REPLY_TIMEOUT, self.0.next()).await;
            match next.expect("the server reacts")?.ok()? {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return Some(message),
            }
        }
    }

    /// The next text frame, which is of this type.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let message = self.next().await;
        let Some(Message::Text(text)) = &message else {
            panic!("no {kind}: {message:?}");
        };
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(value["type"], kind, "{value}");
        value
    }

    /// The next text frame, which is an error of this status and problem.
    pub(crate) async fn expect_error(&mut self, status: u16, problem: &str) -> Value {
        let error = self.expect("error").await;
        assert_eq!(
            (&error["status"], &error["problem"]),
            (&json!(status), &json!(problem)),
            "{error}"
        );
        error
    }

    /// The code of the close frame, whatever texts come before it.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        loop {
            match self.next().await? {
                Message::Close(frame) => return frame.map(|frame| frame.code.into()),
                _ => continue,
            }
        }
    }

    /// Lets the connection break.
    pub(crate) fn cut(self) {
        drop(self.0);
    }

    /// The connection itself, to write what is no frame.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }
}
