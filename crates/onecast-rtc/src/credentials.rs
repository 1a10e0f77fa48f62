//! Credentials that the two ends exchange in SDP, so that ICE and DTLS can authenticate the packets that follow.

use std::fmt;

/// `a=ice-ufrag` and `a=ice-pwd` of one side (RFC 8839 section 5.4).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// 4 to 256 ice-chars.
    pub ufrag: Box<str>,
    /// 22 to 256 ice-chars. A secret: never in logs.
    pub pwd: Box<str>,
}

impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials")
            .field("ufrag", &self.ufrag)
            .finish_non_exhaustive()
    }
}

/// SHA-256 of a DTLS certificate (`a=fingerprint:sha-256`, RFC 8122).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    /// `AA:BB:..`, as in SDP.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(":")?;
            }
            write!(f, "{byte:02X}")?;
        }
        Ok(())
    }
}

/// Digest of the certificate that a peer will show, as its description gives it (RFC 8122 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerFingerprint {
    /// `a=fingerprint:sha-256`: nearly all clients.
    Sha256(Fingerprint),
    /// `a=fingerprint:sha-384`.
    Sha384([u8; 48]),
    /// `a=fingerprint:sha-512`.
    Sha512([u8; 64]),
}

/// Our role in the DTLS handshake (RFC 5763 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsRole {
    /// We answer `passive`, and the client starts.
    Server,
    /// The client offered `passive`; we answer `active` and start.
    Client,
}

/// The transport of a client, as its offer describes it.
#[derive(Debug, Clone)]
pub struct RemoteTransport {
    /// The client's ICE credentials.
    pub ice: IceCredentials,
    /// Digests of the certificate that it will show in DTLS. Any of them may match.
    pub fingerprints: Vec<PeerFingerprint>,
    /// The role that is left for us.
    pub role: DtlsRole,
}
