//! One connected client as the network sees it: ICE-lite, DTLS, SRTP, SDP. Pure.

pub mod credentials;
pub mod sdp;

pub use credentials::{DtlsRole, Fingerprint, IceCredentials, RemoteTransport};
