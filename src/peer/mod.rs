//! One connected client as the network sees it: ICE-lite, DTLS, SRTP, SDP. Pure.

pub mod certificate;
pub mod credentials;
pub mod demux;
pub mod dtls;
pub mod ice;
pub mod sdp;
pub mod session_id;
pub mod srtp;
pub mod transport;

pub use certificate::Certificate;
pub use credentials::{DtlsRole, Fingerprint, IceCredentials, RemoteTransport};
pub use session_id::SessionId;
pub use transport::{CloseReason, Transport, TransportEvent};
