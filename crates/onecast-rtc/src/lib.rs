//! The wire of onecast: everything that two WebRTC peers say to each other, as state machines without sockets, threads or a clock.
//!
//! An offer is read once into types that cannot be wrong ([`sdp`]); a [`Transport`] does ICE-lite and DTLS with the client that sent it; a
//! [`Sealer`] and an [`Opener`] protect the media ([`srtp`], [`rtp`]). A [`client_peer`] is the small other end, for load clients, tests
//! and servers that pull from servers.
//!
//! A client and a server that connect in memory:
//!
//! ```
//! use std::time::Instant;
//!
//! use onecast_rtc::client_peer::{Answered, ClientEvent, ClientPeer, OfferParams, write_offer};
//! use onecast_rtc::demux::{Datagram, classify};
//! use onecast_rtc::rtp::Ssrc;
//! use onecast_rtc::sdp::{AnswerParams, Offer, Role, TrackSsrcs};
//! use onecast_rtc::{Certificate, IceCredentials, Path, Sends, Transport, TransportEvent};
//!
//! let now = Instant::now();
//! let (server_address, path) = ("192.0.2.1:8080".parse()?, Path::udp("192.0.2.2:50000".parse()?));
//! let server_ice = IceCredentials { ufrag: "server".into(), pwd: "0123456789012345678901".into() };
//! let client_ice = IceCredentials { ufrag: "client".into(), pwd: "abcdefghijklmnopqrstuv".into() };
//! let (server_certificate, client_certificate) = (Certificate::generate()?, Certificate::generate()?);
//!
//! // The client offers to watch, and the server answers.
//! let offer = write_offer(&OfferParams {
//!     ice: &client_ice,
//!     fingerprint: client_certificate.fingerprint(),
//!     active: true,
//!     publishes: false,
//!     rtx: true,
//! });
//! let offer = Offer::parse(&offer)?;
//! let ssrcs = TrackSsrcs { video: Ssrc(1), video_rtx: Ssrc(2), audio: Ssrc(3) };
//! let params = AnswerParams {
//!     ice: &server_ice,
//!     fingerprint: server_certificate.fingerprint(),
//!     candidates: &[server_address],
//!     session_id: 1,
//!     stream: "live",
//! };
//! let answer = offer.answer(Role::Viewer(ssrcs), &params)?;
//! assert!(answer.negotiated.video.is_some());
//!
//! // Both ends check the path and shake hands.
//! let answered = Answered::parse(&answer.sdp).expect("an answer has ICE credentials");
//! let mut client = ClientPeer::new(&client_ice, &answered, true, client_certificate, now);
//! let remote = offer.remote().clone();
//! let mut server = Transport::new(server_ice.clone(), remote, server_certificate, (Sends::Media, 0), now);
//! let mut to_client = Vec::new();
//! let (mut server_keys, mut client_keys) = (None, None);
//! client.handle_timeout(now);
//! while server_keys.is_none() || client_keys.is_none() {
//!     while let Some(datagram) = client.poll_transmit() {
//!         let event = match classify(&datagram) {
//!             Datagram::Stun => {
//!                 server.handle_stun(now, path, &datagram, &mut to_client)?;
//!                 None
//!             }
//!             _ => server.handle_dtls(now, path, &datagram, &mut to_client),
//!         };
//!         if let Some(TransportEvent::Connected(keys)) = event {
//!             server_keys = Some(keys);
//!         }
//!     }
//!     for transmit in to_client.drain(..) {
//!         if let Some(ClientEvent::Connected(keys)) = client.handle_datagram(now, &transmit.bytes) {
//!             client_keys = Some(keys);
//!         }
//!     }
//! }
//! assert_eq!(server_keys.unwrap().profile(), client_keys.unwrap().profile());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod certificate;
pub mod client_peer;
pub mod credentials;
mod crypto;
pub mod demux;
pub mod dtls;
pub mod ice;
pub mod path;
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
pub use path::{LocalSocket, Path, PathTransport};
pub use session_id::SessionId;
pub use srtp::{Opener, Profile, RtcpSealer, RtpSealer, Sealer, SrtpDrop, SrtpKeys};
pub use transport::{Check, CloseReason, IceSession, Sends, Transmit, Transport, TransportEvent};
