//! The same over a WebSocket, which is opened by the HTTP client: addresses, certificates and proxies are its business.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use reqwest::{StatusCode, Upgraded};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::door::{Door, DoorError, TIMEOUT};
use super::words::{Heard, Said};
use crate::signal::SignalError;

/// An open WebSocket.
pub(super) struct Socket {
    stream: WebSocketStream<Upgraded>,
}

/// The socket is of no use any more.
#[derive(Debug)]
pub(super) struct Broken;

impl Socket {
    /// The largest message that is taken: a roster of the fullest room is far below.
    const MESSAGE_MAX: usize = 4 << 20;

    /// Opens `/ws` of a server.
    pub(super) async fn open(door: &Door) -> Result<Socket, DoorError> {
        let mut nonce = [0; 16];
        // RFC 6455 wants chance here to tell caches apart, not for secrecy.
        let _ = aws_lc_rs::rand::fill(&mut nonce);
        let key = STANDARD.encode(nonce);
        let response = door.upgrade(&key).await?;
        let accepted = response.headers().get("sec-websocket-accept");
        let is_ours = accepted.is_some_and(|accepted| accepted == derive_accept_key(key.as_bytes()).as_str());
        if response.status() != StatusCode::SWITCHING_PROTOCOLS || !is_ours {
            return Err(no_socket(door, "it speaks no WebSocket there".to_owned()));
        }
        let upgraded = response.upgrade().await;
        let upgraded = upgraded.map_err(|error| no_socket(door, error.to_string()))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(Socket::MESSAGE_MAX))
            .max_frame_size(Some(Socket::MESSAGE_MAX));
        let stream = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
        Ok(Socket { stream })
    }

    /// Says something.
    pub(super) async fn say(&mut self, said: &Said<'_>) -> Result<(), Broken> {
        let text = serde_json::to_string(said).expect("messages are made of strings and numbers");
        let sent = tokio::time::timeout(TIMEOUT, self.stream.send(Message::text(text)));
        sent.await.map_err(|_| Broken)?.map_err(|_| Broken)
    }

    /// The next message; pings are answered meanwhile. What is no message of the protocol is passed over.
    ///
    /// Nothing is lost when the future is dropped before it is done.
    pub(super) async fn hear(&mut self) -> Result<Heard, Broken> {
        loop {
            let message = self.stream.next().await.ok_or(Broken)?.map_err(|_| Broken)?;
            match message {
                Message::Text(text) => match serde_json::from_str(&text) {
                    Ok(heard) => return Ok(heard),
                    Err(error) => tracing::debug!(%error, "a message is not understood"),
                },
                Message::Close(_) => return Err(Broken),
                _ => {}
            }
        }
    }

    /// Says goodbye, if the other side still listens.
    pub(super) async fn close(mut self) {
        let _ = tokio::time::timeout(TIMEOUT, self.stream.close(None)).await;
    }
}

fn no_socket(door: &Door, why: String) -> DoorError {
    DoorError::Unreachable(SignalError::Unreachable {
        url: door.base().join("ws").map_or_else(|_| "ws".to_owned(), String::from),
        why,
    })
}
