//! One connected client as the network sees it: ICE-lite, DTLS, SRTP, SDP. Pure.

pub mod certificate;
pub mod client_peer;
pub mod credentials;
mod crypto;
pub mod demux;
pub mod dtls;
pub mod ice;
mod record;
pub mod rtp;
pub mod sdp;
pub mod session_id;
pub mod srtp;
pub mod transmit;
pub mod transport;

pub use certificate::{Certificate, CertificateError};
pub use credentials::{DtlsRole, Fingerprint, IceCredentials, PeerFingerprint, RemoteTransport};
pub use demux::Datagram;
pub use dtls::HandshakeError;
pub use ice::StunDrop;
pub use session_id::SessionId;
pub use srtp::{Opener, Profile, RtcpSealer, RtpSealer, Sealer, SrtpDrop, SrtpKeys};
pub use transport::{Check, CloseReason, IceSession, Sends, Transmit, Transport, TransportEvent};
