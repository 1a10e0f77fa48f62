//! A full peer of the `webrtc` crate, configured for one ICE-lite server.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::{Attribute, Interceptor, Packet, Slot, StreamInfo, TaggedPacket};
use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_AV1, MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_VP8, MIME_TYPE_VP9,
};
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use sansio::Protocol;
use tokio::sync::watch;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCPeerConnectionState, RTCSessionDescription, Registry, SettingEngineBuilder, SrtpProtectionProfile,
    register_default_interceptors,
};

use super::publish::LEVEL_URI;
use super::retry::{self, RetryPolicy};
use super::runtime::LargeBuffers;
use super::signal::{self, Granted, SignalError};
use super::trust::Trust;
use onecast_rtc::rtp::{Codec, Kind};

/// Why a client cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// No session.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// The peer connection failed.
    #[error("WebRTC failed: {0}")]
    WebRtc(#[from] webrtc::error::Error),
    /// ICE and DTLS did not complete in time.
    #[error("the server answered, but no media connection was established within {} s; is its UDP port reachable?", CONNECT_LIMIT.as_secs())]
    NotConnected,
    /// The connection was lost.
    #[error("the connection was lost")]
    Lost,
    /// The server dropped a member that was disconnected.
    #[error("the server does not know this member any more")]
    Forgotten,
    /// The server ended the session and gave a reason.
    #[error("the server ended the session: {0}")]
    Ended(String),
}

/// A peer connection, before or after connecting.
pub struct Peer {
    connection: Box<dyn PeerConnection>,
    state: watch::Receiver<RTCPeerConnectionState>,
    on_busy: Option<fn(&SignalError, Duration)>,
    trust: Trust,
}

/// Configuration of a peer.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// Offered codecs, best first.
    pub codecs: Vec<Codec>,
    /// Local address of its socket.
    pub local: IpAddr,
    /// Offered SRTP profiles; empty for the library's default.
    pub srtp_profiles: Vec<SrtpProtectionProfile>,
    /// Called for each refusal by a busy server, before the client waits and retries; `None` disables retries.
    pub on_busy: Option<fn(&SignalError, Duration)>,
    /// Trusted certificates.
    pub trust: Trust,
    /// A conference member: the server offers, too, and receives audio levels.
    pub member: bool,
}

impl PeerConfig {
    /// For the server of `url`.
    pub fn towards(url: &str, codecs: Vec<Codec>) -> PeerConfig {
        PeerConfig {
            codecs,
            local: signal::local_address_towards(url),
            srtp_profiles: Vec::new(),
            on_busy: None,
            trust: Trust::System,
            member: false,
        }
    }
}

impl Peer {
    /// A peer without tracks. `on_track` is called for each track that the server sends.
    ///
    /// # Errors
    /// When the library or its socket cannot be set up.
    pub async fn new(
        config: PeerConfig,
        on_track: impl Fn(Arc<dyn TrackRemote>) + Send + Sync + 'static,
    ) -> Result<Peer, PeerError> {
        let mut engine = MediaEngine::default();
        for &codec in &config.codecs {
            engine.register_codec(parameters(codec), in_library(codec.kind()))?;
        }
        if config.member {
            let level = RTCRtpHeaderExtensionCapability {
                uri: LEVEL_URI.to_owned(),
            };
            engine.register_header_extension(level, RtpCodecKind::Audio, None)?;
        }
        let registry = register_default_interceptors(Registry::new(), &mut engine)?;
        let registry = registry.with(Slot::from(LAST_SLOT), KeyframeRequests::default());
        let mut settings = SettingEngineBuilder::new()
            // The server is ICE-lite and has no better candidates to wait for.
            .with_host_acceptance_min_wait(Some(Duration::ZERO))
            .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
            // The server's candidates are addresses, not names. Without a multicast route, listening for names would fail, and with it
            // the connection.
            .with_multicast_dns_mode(MulticastDnsMode::Disabled);
        if config.member {
            // DTLS roles stay as in the first answer, whichever side offers later (RFC 8842 section 5.5).
            settings = settings.with_answering_dtls_role(RTCDtlsRole::Client);
        }
        if config.local.is_loopback() {
            settings = settings.with_include_loopback_candidate(true);
        }
        if !config.srtp_profiles.is_empty() {
            settings = settings.with_srtp_protection_profiles(config.srtp_profiles);
        }
        let (changed, state) = watch::channel(RTCPeerConnectionState::New);
        let connection = PeerConnectionBuilder::new()
            .with_runtime(Arc::new(LargeBuffers))
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_media_engine(engine)
            .with_setting_engine(settings.build())
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(Handler {
                changed,
                on_track: Box::new(on_track),
            }))
            .with_udp_addrs(vec![std::net::SocketAddr::new(config.local, 0)])
            .build()
            .await?;
        Ok(Peer {
            connection: Box::new(connection),
            state,
            on_busy: config.on_busy,
            trust: config.trust,
        })
    }

    /// The library's peer connection.
    pub fn connection(&self) -> &dyn PeerConnection {
        &*self.connection
    }

    /// Offers the added tracks to the endpoint, and waits until media can flow.
    ///
    /// # Errors
    /// When the server refuses, or no connection is established.
    pub async fn connect(&mut self, url: &str, token: Option<&str>) -> Result<Granted, PeerError> {
        let granted = self.negotiate(url, token).await?;
        self.connected().await?;
        Ok(granted)
    }

    async fn negotiate(&self, url: &str, token: Option<&str>) -> Result<Granted, PeerError> {
        let offer = self.connection.create_offer(None).await?;
        self.connection.set_local_description(offer.clone()).await?;
        let granted = self.post(url, &offer.sdp, token).await?;
        self.connection
            .set_remote_description(RTCSessionDescription::answer(granted.answer.clone())?)
            .await?;
        Ok(granted)
    }

    /// Creates an offer. It takes effect only with [`take_answer`](Self::take_answer), so that a refused offer leaves no trace.
    pub(super) async fn offer(&self) -> Result<String, PeerError> {
        Ok(self.connection.create_offer(None).await?.sdp)
    }

    /// Applies an offer of [`offer`](Self::offer) and its answer.
    pub(super) async fn take_answer(&self, offer: String, answer: String) -> Result<(), PeerError> {
        self.connection
            .set_local_description(RTCSessionDescription::offer(offer)?)
            .await?;
        self.connection
            .set_remote_description(RTCSessionDescription::answer(answer)?)
            .await?;
        Ok(())
    }

    /// Answers an offer of the server. `mirror_inactive` corrects the answer that is sent; the library accepts only its own.
    pub(super) async fn answer(
        &self,
        offer: String,
        mirror_inactive: fn(&str, &str) -> String,
    ) -> Result<String, PeerError> {
        let described = RTCSessionDescription::offer(offer.clone())?;
        self.connection.set_remote_description(described).await?;
        let answer = self.connection.create_answer(None).await?;
        let agreed = mirror_inactive(&offer, &answer.sdp);
        self.connection.set_local_description(answer).await?;
        Ok(agreed)
    }

    /// Returns when media can flow.
    pub(super) async fn connected(&mut self) -> Result<(), PeerError> {
        let connected = tokio::time::timeout(CONNECT_LIMIT, self.state.wait_for(is_settled)).await;
        match connected.map(|state| state.map(|state| *state)) {
            Ok(Ok(RTCPeerConnectionState::Connected)) => Ok(()),
            Ok(_) => Err(PeerError::Lost),
            Err(_) => Err(PeerError::NotConnected),
        }
    }

    /// Posts the offer until it is accepted or finally refused. It does not expire in between.
    async fn post(&self, url: &str, offer: &str, token: Option<&str>) -> Result<Granted, SignalError> {
        let mut retries = RetryPolicy::default();
        loop {
            let error = match signal::post_offer_trusting(url, offer.to_owned(), token, &self.trust).await {
                Ok(granted) => return Ok(granted),
                Err(error) => error,
            };
            let waited = self
                .on_busy
                .and_then(|on_busy| Some((on_busy, retries.after(&error, retry::jitter())?)));
            let Some((on_busy, wait)) = waited else {
                return Err(error);
            };
            on_busy(&error, wait);
            tokio::time::sleep(wait).await;
        }
    }

    /// Returns when the connection is lost or closed.
    pub async fn lost(&mut self) {
        self.loss().await;
    }

    /// As [`lost`](Self::lost), for a shared peer.
    pub(super) fn loss(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut state = self.state.clone();
        async move {
            let ended = |state: &RTCPeerConnectionState| {
                matches!(
                    state,
                    RTCPeerConnectionState::Failed
                        | RTCPeerConnectionState::Closed
                        | RTCPeerConnectionState::Disconnected
                )
            };
            let _ = state.wait_for(ended).await;
        }
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.close_shared().await;
    }

    /// As [`close`](Self::close), for a shared peer.
    pub(super) async fn close_shared(&self) {
        let _ = self.connection.close().await;
    }
}

fn is_settled(state: &RTCPeerConnectionState) -> bool {
    matches!(
        state,
        RTCPeerConnectionState::Connected | RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed
    )
}

struct Handler {
    changed: watch::Sender<RTCPeerConnectionState>,
    on_track: Box<dyn Fn(Arc<dyn TrackRemote>) + Send + Sync>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.changed.send_replace(state);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        (self.on_track)(track);
    }
}

/// Passes keyframe requests to the application, which alone can answer them. The library handles all other RTCP.
#[derive(Default)]
struct KeyframeRequests {
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for KeyframeRequests {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = rtc::shared::error::Error;
    type Time = Instant;

    fn handle_read(&mut self, mut packet: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtcp(reports) = &mut packet.message.packet {
            reports.retain(|report| {
                report.as_any().is::<PictureLossIndication>() || report.as_any().is::<FullIntraRequest>()
            });
            if reports.is_empty() {
                return Ok(());
            }
            packet.message.add(Attribute::DeliverToApplication);
        }
        self.read.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Self::Error> {
        self.write.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }
}

impl Interceptor for KeyframeRequests {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

/// The reason why a session was lost, as far as the server knows it.
pub(super) async fn how_lost(granted: &Granted) -> PeerError {
    granted.why_ended().await.map_or(PeerError::Lost, PeerError::Ended)
}

/// The library's parameters of a codec, with the payload types of browsers.
pub(super) fn parameters(codec: Codec) -> RTCRtpCodecParameters {
    let (mime_type, payload_type, fmtp) = match codec {
        Codec::Opus => (MIME_TYPE_OPUS, 111, "minptime=10;useinbandfec=1"),
        Codec::Vp8 => (MIME_TYPE_VP8, 96, ""),
        Codec::Vp9 => (MIME_TYPE_VP9, 98, "profile-id=0"),
        Codec::H264 => (
            MIME_TYPE_H264,
            102,
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        ),
        Codec::Av1 => (MIME_TYPE_AV1, 45, ""),
        Codec::H265 => ("video/H265", 49, ""),
    };
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: mime_type.to_owned(),
            clock_rate: codec.clock_rate(),
            channels: if codec == Codec::Opus { 2 } else { 0 },
            sdp_fmtp_line: fmtp.to_owned(),
            rtcp_feedback: vec![],
        },
        payload_type,
    }
}

pub(super) fn in_library(kind: Kind) -> RtpCodecKind {
    match kind {
        Kind::Audio => RtpCodecKind::Audio,
        Kind::Video => RtpCodecKind::Video,
    }
}

/// Time from the answer to media.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// After every interceptor that reads RTCP itself.
const LAST_SLOT: usize = 14_000;
