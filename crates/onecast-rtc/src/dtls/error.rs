//! Why a handshake fails, in words for the log and for whoever operates the client.

use rtc_shared::error::Error;

/// Why a handshake cannot end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Neither AEAD_AES_128_GCM nor AES128_CM_SHA1_80 was offered.
    #[error("no common SRTP protection profile")]
    NoSrtpProfile,
    /// The keys could not be taken out of the finished handshake.
    #[error("DTLS gave no keying material")]
    NoKeyingMaterial,
    /// We could not begin as the client.
    #[error("the DTLS handshake cannot be started")]
    Start,
    /// Not one of ours.
    #[error("no common cipher suite; the server takes ECDHE with AES-128-GCM and SHA-256")]
    NoCipherSuite,
    /// DTLS 1.0, for instance.
    #[error("the client does not speak DTLS 1.2")]
    Version,
    /// Without it a key would not be bound to the certificates (RFC 7627).
    #[error("the client does not support the extended master secret")]
    NoExtendedMasterSecret,
    /// An empty Certificate.
    #[error("the client showed no certificate: it has none, or none with a kind of key that the server can verify")]
    NoCertificate,
    /// A curve or a signature algorithm that we do not know.
    #[error("the key of the client's certificate is of a kind that the server cannot verify")]
    UnsupportedKey,
    /// By another key, or over other messages.
    #[error("the client's signature does not match its certificate")]
    BadSignature,
    /// The two sides did not see the same messages.
    #[error("the client's Finished does not match the handshake")]
    BadFinished,
    /// Messages that cannot be understood or that contradict each other.
    #[error("the client's handshake messages are malformed")]
    Malformed,
    /// A fatal alert in the clear (RFC 5246 section 7.2), and nothing after it that would say otherwise.
    #[error("the client refused the handshake with alert {0} ({name})", name = alert_name(*.0))]
    Refused(u8),
}

impl From<Error> for HandshakeError {
    fn from(error: Error) -> Self {
        match error {
            Error::ErrServerNoMatchingSrtpProfile
            | Error::ErrClientNoMatchingSrtpProfile
            | Error::ErrRequestedButNoSrtpExtension => HandshakeError::NoSrtpProfile,
            Error::ErrCipherSuiteNoIntersection
            | Error::ErrInvalidCipherSuite
            | Error::ErrNoSupportedEllipticCurves => HandshakeError::NoCipherSuite,
            Error::ErrUnsupportedProtocolVersion => HandshakeError::Version,
            Error::ErrServerRequiredButNoClientEms | Error::ErrClientRequiredButNoServerEms => {
                HandshakeError::NoExtendedMasterSecret
            }
            Error::ErrClientCertificateRequired | Error::ErrCertificateVerifyNoCertificate => {
                HandshakeError::NoCertificate
            }
            Error::ErrKeySignatureVerifyUnimplemented | Error::ErrNoAvailableSignatureSchemes => {
                HandshakeError::UnsupportedKey
            }
            Error::ErrKeySignatureMismatch => HandshakeError::BadSignature,
            Error::ErrVerifyDataMismatch => HandshakeError::BadFinished,
            _ => HandshakeError::Malformed,
        }
    }
}

/// The alerts by which a client refuses us.
fn alert_name(alert: u8) -> &'static str {
    match alert {
        10 => "unexpected_message",
        20 => "bad_record_mac",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        _ => "see RFC 5246",
    }
}
