//! Why a handshake fails, in words for the log.

use rtc_shared::error::Error;

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Neither AEAD_AES_128_GCM nor AES128_CM_SHA1_80 was offered.
    #[error("no common SRTP protection profile")]
    NoSrtpProfile,
    /// The finished handshake gave no keys.
    #[error("DTLS gave no keying material")]
    NoKeyingMaterial,
    /// The handshake could not be started as the client.
    #[error("the DTLS handshake cannot be started")]
    Start,
    /// The other side has none of our cipher suites.
    #[error("no common cipher suite; the server takes ECDHE with AES-128-GCM and SHA-256")]
    NoCipherSuite,
    /// The other side speaks another version, such as DTLS 1.0.
    #[error("the client does not speak DTLS 1.2")]
    Version,
    /// Without the extended master secret the keys are not bound to the certificates (RFC 7627).
    #[error("the client does not support the extended master secret")]
    NoExtendedMasterSecret,
    /// The client sent an empty Certificate message.
    #[error("the client showed no certificate: it has none, or none with a kind of key that the server can verify")]
    NoCertificate,
    /// The key has an unknown curve or signature algorithm.
    #[error("the key of the client's certificate is of a kind that the server cannot verify")]
    UnsupportedKey,
    /// The signature was made with another key, or over other messages.
    #[error("the client's signature does not match its certificate")]
    BadSignature,
    /// The two sides have not seen the same messages.
    #[error("the client's Finished does not match the handshake")]
    BadFinished,
    /// Messages that cannot be parsed or that contradict each other.
    #[error("the client's handshake messages are malformed")]
    Malformed,
    /// The client sent an unencrypted fatal alert (RFC 5246 section 7.2), and nothing after it.
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

/// Names of the alerts that clients refuse a handshake with.
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
