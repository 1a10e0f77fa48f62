//! Accepts connections on the HTTPS port: TLS, or plain HTTP from a client that used the wrong scheme.

use std::io;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{Tls, acme};

/// An accepted connection.
#[derive(Debug)]
pub enum AcceptedStream {
    /// TLS, ready for HTTP.
    Tls(Box<TlsStream<TcpStream>>),
    /// Plain HTTP, of which nothing has been read yet.
    Plain(TcpStream),
    /// A challenge of an ACME directory, answered by the handshake itself.
    Challenge,
}

/// Why a connection was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The connection or the handshake failed.
    #[error("TLS handshake failed: {0}")]
    Handshake(#[from] io::Error),
    /// Closed before the first byte.
    #[error("closed before the first byte")]
    Closed,
    /// The first byte belongs to no supported protocol.
    #[error("the first byte is {0:#04x}, which is neither TLS nor HTTP")]
    Foreign(u8),
}

impl Tls {
    /// Detects the protocol and performs the handshake, without a time limit: that is up to the caller.
    ///
    /// # Errors
    /// When the connection ends, or uses another protocol.
    pub async fn accept(&self, stream: TcpStream) -> Result<AcceptedStream, AcceptError> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(AcceptError::Closed);
        }
        match first[0] {
            HANDSHAKE => {}
            // A method (RFC 9110 section 9.1), or the preface of HTTP/2.
            b'A'..=b'Z' => return Ok(AcceptedStream::Plain(stream)),
            other => return Err(AcceptError::Foreign(other)),
        }
        let mut stream = self.acceptor().accept(stream).await?;
        if stream.get_ref().1.alpn_protocol() == Some(acme::CHALLENGE) {
            stream.shutdown().await?;
            return Ok(AcceptedStream::Challenge);
        }
        Ok(AcceptedStream::Tls(Box::new(stream)))
    }
}

/// First byte of a TLS record that carries a handshake message (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 0x16;
