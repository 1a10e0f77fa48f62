//! A WebSocket that the HTTP client opens, so that its addresses, certificates and proxies apply.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use reqwest::{StatusCode, Upgraded};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::http_client::{HttpClient, RequestError, TIMEOUT};
use super::messages::{ClientMessage, ServerMessage};
use crate::signal::SignalError;

/// An open WebSocket.
pub(super) struct WebSocket {
    stream: WebSocketStream<Upgraded>,
}

/// The WebSocket is closed or broken.
#[derive(Debug)]
pub(super) struct Broken;

impl WebSocket {
    /// The largest accepted message. The roster of a full room is much smaller.
    const MESSAGE_MAX: usize = 4 << 20;

    /// Opens `/ws` of a server.
    pub(super) async fn open(http: &HttpClient) -> Result<WebSocket, RequestError> {
        let mut nonce = [0; 16];
        // RFC 6455 section 10.3: the nonce detects caches; it is not a secret.
        let _ = aws_lc_rs::rand::fill(&mut nonce);
        let key = STANDARD.encode(nonce);
        let response = http.upgrade(&key).await?;
        let accepted = response.headers().get("sec-websocket-accept");
        let is_ours = accepted.is_some_and(|accepted| accepted == derive_accept_key(key.as_bytes()).as_str());
        if response.status() != StatusCode::SWITCHING_PROTOCOLS || !is_ours {
            return Err(no_socket(http, "it does not accept a WebSocket there".to_owned()));
        }
        let upgraded = response.upgrade().await;
        let upgraded = upgraded.map_err(|error| no_socket(http, error.to_string()))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(WebSocket::MESSAGE_MAX))
            .max_frame_size(Some(WebSocket::MESSAGE_MAX));
        let stream = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
        Ok(WebSocket { stream })
    }

    /// Sends a message.
    pub(super) async fn send(&mut self, message: &ClientMessage<'_>) -> Result<(), Broken> {
        let text = serde_json::to_string(message).expect("messages are made of strings and numbers");
        let sent = tokio::time::timeout(TIMEOUT, self.stream.send(Message::text(text)));
        sent.await.map_err(|_| Broken)?.map_err(|_| Broken)
    }

    /// Receives the next message and answers pings. Ignores messages that are not of the protocol.
    ///
    /// Cancel-safe: no message is lost when the future is dropped.
    pub(super) async fn receive(&mut self) -> Result<ServerMessage, Broken> {
        loop {
            let message = self.stream.next().await.ok_or(Broken)?.map_err(|_| Broken)?;
            match message {
                Message::Text(text) => match serde_json::from_str(&text) {
                    Ok(message) => return Ok(message),
                    Err(error) => tracing::debug!(%error, "ignored a malformed message"),
                },
                Message::Close(_) => return Err(Broken),
                _ => {}
            }
        }
    }

    /// Closes the WebSocket, if the server still reads.
    pub(super) async fn close(mut self) {
        let _ = tokio::time::timeout(TIMEOUT, self.stream.close(None)).await;
    }
}

fn no_socket(http: &HttpClient, why: String) -> RequestError {
    RequestError::Unreachable(SignalError::Unreachable {
        url: http.base().join("ws").map_or_else(|_| "ws".to_owned(), String::from),
        why,
    })
}
