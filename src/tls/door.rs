//! Opens a connection: TLS, or plain HTTP of somebody who has the wrong scheme.

use std::io;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{Tls, acme};

/// What a connection turned out to be.
#[derive(Debug)]
pub enum Opened {
    /// TLS, ready for HTTP.
    Tls(Box<TlsStream<TcpStream>>),
    /// HTTP in the clear: nothing is read of it yet.
    Plain(TcpStream),
    /// A challenge of an ACME directory, which is answered by the handshake.
    Challenge,
}

/// Why a connection was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    /// The connection broke, or the handshake failed.
    #[error("TLS handshake failed: {0}")]
    Handshake(#[from] io::Error),
    /// It ended before its first byte.
    #[error("it was closed before its first byte")]
    Closed,
    /// The first byte is of no protocol that we speak.
    #[error("it begins with the byte {0:#04x}, which neither TLS nor HTTP does")]
    Foreign(u8),
}

impl Tls {
    /// Shakes hands with the other end, for as long as that takes: the caller has the limit.
    ///
    /// # Errors
    /// When there is nobody to speak with.
    pub async fn open(&self, stream: TcpStream) -> Result<Opened, OpeningError> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(OpeningError::Closed);
        }
        match first[0] {
            HANDSHAKE => {}
            // Of a method (RFC 9110 section 9.1), or the preface of HTTP/2.
            b'A'..=b'Z' => return Ok(Opened::Plain(stream)),
            other => return Err(OpeningError::Foreign(other)),
        }
        let mut stream = self.acceptor().accept(stream).await?;
        if stream.get_ref().1.alpn_protocol() == Some(acme::CHALLENGE) {
            stream.shutdown().await?;
            return Ok(Opened::Challenge);
        }
        Ok(Opened::Tls(Box::new(stream)))
    }
}

/// First byte of a TLS record that carries a handshake message (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 0x16;
