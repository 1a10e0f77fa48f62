//! What a publisher on the full `webrtc` crate sends: a source on each track, or several layers of one picture.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use rtc::media_stream::MediaStreamTrack;
use rtc::rtp::packetizer::{Packetizer, new_packetizer};
use rtc::rtp::sequence::new_random_sequencer;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpParameters};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_local::{TrackLocal, TrackLocalEvent};
use webrtc::rtp_transceiver::RtpSender;

use crate::load::layers::{AnsweredLayers, MID_URI, RID_URI};
use crate::peer::{Peer, PeerError, in_library, parameters};
use crate::random::random_u32;
use crate::source::{LayeredSource, Sample, Source};
use crate::vp9::Vp9Payloader;
use onecast_rtc::rtp::{Codec, Kind, Rid, Ssrc};
use onecast_udp::clock;

/// Sources that are being sent.
pub(crate) struct Sending {
    pub(crate) counts: Arc<Counts>,
    pub(super) ended: CancellationToken,
    stop: CancellationToken,
}

/// A track with what it carries.
pub(crate) struct Attached {
    /// In the order of the offer.
    layers: Vec<AttachedLayer>,
    track: Arc<TrackLocalStaticRTP>,
    sender: Arc<dyn RtpSender>,
}

/// A source with its SSRC.
struct AttachedLayer {
    rid: Option<Rid>,
    ssrc: Ssrc,
    source: Box<dyn Source>,
}

/// A layer that is being sent.
struct SentLayer {
    source: Box<dyn Source>,
    packetizer: Box<dyn Packetizer>,
    /// When its next frame is due; `None` at its end.
    due: Option<Instant>,
    /// Header extensions of its packets.
    extensions: Vec<(u8, Bytes)>,
}

/// What a publisher has sent.
#[derive(Debug, Default)]
pub struct Counts {
    /// RTP packets of both tracks.
    pub packets: AtomicU64,
    /// Video frames; of several layers the first counts.
    pub frames: AtomicU64,
    /// Bytes of both tracks, without RTP headers.
    pub bytes: AtomicU64,
    /// Keyframe requests received.
    pub keyframe_requests: AtomicU64,
}

impl Sending {
    /// Stops sending.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

/// Adds a track for each source. Nothing is sent yet.
pub(crate) async fn attach(peer: &Peer, sources: Vec<Box<dyn Source>>) -> Result<Vec<Attached>, PeerError> {
    let mut attached = Vec::new();
    for source in sources {
        attached.push(attach_track(peer, LayeredSource::from(source)).await?);
    }
    Ok(attached)
}

/// Adds a track that carries all layers. Nothing is sent yet.
pub(super) async fn attach_track(peer: &Peer, source: LayeredSource) -> Result<Attached, PeerError> {
    let codec = source.codec();
    let layers: Vec<AttachedLayer> = source
        .layers
        .into_iter()
        .map(|(rid, source)| AttachedLayer {
            rid,
            ssrc: Ssrc(random_u32()),
            source,
        })
        .collect();
    let codings = layers.iter().map(|layer| (layer.rid, layer.ssrc));
    let track = Arc::new(TrackLocalStaticRTP::new(layered_track(codec, codings)));
    let sender = peer.connection().add_track(track.clone()).await?;
    Ok(Attached { layers, track, sender })
}

/// Starts to send on a connected peer. Layers that the answer does not accept are left out; without simulcast in the answer only the first
/// one is sent, as by browsers.
pub(crate) fn start(attached: Vec<Attached>, answered: &AnsweredLayers) -> Sending {
    let sending = Sending {
        counts: Arc::default(),
        ended: CancellationToken::new(),
        stop: CancellationToken::new(),
    };
    let mut tasks = Vec::new();
    for mut attached in attached {
        let is_simulcast = attached.layers.len() > 1;
        if is_simulcast {
            let is_accepted =
                |layer: &AttachedLayer| layer.rid.is_some_and(|rid| answered.rids.contains(&rid.to_string()));
            let any = attached.layers.iter().any(is_accepted);
            match any {
                true => attached.layers.retain(is_accepted),
                false => attached.layers.truncate(1),
            }
        }
        let keyframe_wanted = Arc::new(AtomicBool::new(false));
        let (counts, stop) = (sending.counts.clone(), sending.stop.clone());
        tokio::spawn(watch_requests(
            attached.track.clone(),
            keyframe_wanted.clone(),
            counts.clone(),
            stop.clone(),
        ));
        let mid = answered.mid.clone();
        tasks.push(tokio::spawn(send(attached, mid, keyframe_wanted, counts, stop)));
    }
    let all_ended = sending.ended.clone();
    tokio::spawn(async move {
        for task in tasks {
            let _ = task.await;
        }
        all_ended.cancel();
    });
    sending
}

/// A track of one encoding.
#[cfg(test)]
pub(crate) fn media_stream_track(codec: Codec) -> MediaStreamTrack {
    layered_track(codec, [(None, Ssrc(random_u32()))].into_iter())
}

fn layered_track(codec: Codec, layers: impl Iterator<Item = (Option<Rid>, Ssrc)>) -> MediaStreamTrack {
    let kind = codec.kind();
    let codings = layers.map(|(rid, ssrc)| RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            rid: rid.map(|rid| rid.to_string()).unwrap_or_default(),
            ssrc: Some(ssrc.0),
            ..Default::default()
        },
        codec: parameters(codec).rtp_codec,
        ..Default::default()
    });
    MediaStreamTrack::new(
        "onecast".into(),
        kind.to_string(),
        kind.to_string(),
        in_library(kind),
        codings.collect(),
    )
}

async fn watch_requests(
    track: Arc<TrackLocalStaticRTP>,
    keyframe_wanted: Arc<AtomicBool>,
    counts: Arc<Counts>,
    stop: CancellationToken,
) {
    // The interceptor passes only keyframe requests.
    while let Some(Some(TrackLocalEvent::OnRtcpPacket(_))) = stop.run_until_cancelled(track.poll()).await {
        counts.keyframe_requests.fetch_add(1, Ordering::Relaxed);
        keyframe_wanted.store(true, Ordering::Relaxed);
    }
}

/// Splits frames into RTP packets.
fn packetizer(codec: Codec, ssrc: Ssrc) -> Result<Box<dyn Packetizer>, PeerError> {
    let parameters = parameters(codec).rtp_codec;
    let payloader = match codec {
        Codec::Vp9 => Box::new(Vp9Payloader::default()),
        _ => parameters.payloader()?,
    };
    Ok(Box::new(new_packetizer(
        clock::now(),
        PACKET_BYTES,
        0,
        ssrc.0,
        payloader,
        Box::new(new_random_sequencer()),
        codec.clock_rate(),
    )))
}

/// The negotiated id of a header extension, if any.
fn extension_id(parameters: &RTCRtpParameters, uri: &str) -> Option<u8> {
    let mut extensions = parameters.header_extensions.iter();
    let extension = extensions.find(|extension| extension.uri == uri)?;
    u8::try_from(extension.id).ok()
}

/// Header extensions of every packet: the audio level (RFC 6464), or the names of a layer.
fn extensions(parameters: &RTCRtpParameters, kind: Kind, rid: Option<Rid>, mid: &str) -> Vec<(u8, Bytes)> {
    let mut values = Vec::new();
    if kind == Kind::Audio {
        values.push((LEVEL_URI, Bytes::from_static(&[LEVEL])));
    }
    if let Some(rid) = rid.filter(|_| !mid.is_empty()) {
        values.push((MID_URI, Bytes::copy_from_slice(mid.as_bytes())));
        values.push((RID_URI, Bytes::copy_from_slice(rid.as_bytes())));
    }
    let known = values.into_iter();
    known
        .filter_map(|(uri, value)| Some((extension_id(parameters, uri)?, value)))
        .collect()
}

/// Sends the frames of a track's layers, each at its time.
async fn send(
    attached: Attached,
    mid: String,
    keyframe_wanted: Arc<AtomicBool>,
    counts: Arc<Counts>,
    stop: CancellationToken,
) {
    let Attached { layers, track, sender } = attached;
    let Ok(parameters) = sender.get_parameters().await else {
        return;
    };
    let parameters = parameters.rtp_parameters;
    let Some(payload_type) = parameters.codecs.first().map(|codec| codec.payload_type) else {
        return;
    };
    let start = Instant::now();
    let prepare = |AttachedLayer { rid, ssrc, source }| {
        let codec = source.codec();
        Ok::<_, PeerError>(SentLayer {
            packetizer: packetizer(codec, ssrc)?,
            extensions: extensions(&parameters, codec.kind(), rid, &mid),
            source,
            due: Some(start),
        })
    };
    let Ok(mut layers) = layers.into_iter().map(prepare).collect::<Result<Vec<_>, _>>() else {
        return;
    };
    let mut is_logged = false;
    while let Some(due) = layers.iter().filter_map(|layer| layer.due).min() {
        if stop.run_until_cancelled(tokio::time::sleep_until(due)).await.is_none() {
            return;
        }
        let is_requested = keyframe_wanted.swap(false, Ordering::Relaxed);
        if is_requested && !request_keyframes(&mut layers) && !is_logged {
            is_logged = true;
            tracing::info!("the server requested a keyframe, but a file sends none before its next one");
        }
        // Layers of one picture go together, so that a keyframe is the same picture in all of them.
        for (index, layer) in layers
            .iter_mut()
            .enumerate()
            .filter(|(_, layer)| layer.due == Some(due))
        {
            let packets = layer.next_frame(due, index == 0, &counts);
            for mut packet in packets {
                packet.header.payload_type = payload_type;
                counts.packets.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = track.write_rtp(packet).await {
                    tracing::debug!(%error, "a packet was not sent");
                }
            }
        }
    }
}

/// Requests a keyframe of every layer. Returns false if none can make one.
fn request_keyframes(layers: &mut [SentLayer]) -> bool {
    layers
        .iter_mut()
        .fold(false, |any, layer| layer.source.request_keyframe() | any)
}

impl SentLayer {
    /// The packets of the frame that is due; none at the end.
    fn next_frame(&mut self, due: Instant, is_first: bool, counts: &Counts) -> Vec<rtc::rtp::Packet> {
        let Some(Sample { data, duration }) = self.source.next_sample() else {
            self.due = None;
            return Vec::new();
        };
        let codec = self.source.codec();
        counts.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        counts
            .frames
            .fetch_add(u64::from(is_first && codec.kind() == Kind::Video), Ordering::Relaxed);
        let ticks = (duration.as_secs_f64() * f64::from(codec.clock_rate())) as u32;
        self.due = Some(due + duration);
        let mut packets = self
            .packetizer
            .packetize(clock::now(), &data, ticks)
            .unwrap_or_default();
        for packet in &mut packets {
            for (id, value) in &self.extensions {
                let _ = packet.header.set_extension(*id, value.clone());
            }
        }
        packets
    }
}

/// RFC 6464.
pub(crate) const LEVEL_URI: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
/// Audio level of every packet: voice (the highest bit) at -20 dBov, about the level of the tone.
const LEVEL: u8 = 0x80 | 20;
/// RTP packets of this size fit every path, even encrypted and tunnelled.
const PACKET_BYTES: usize = 1_200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::PeerConfig;
    use onecast_rtc::sdp::{AnswerParams, Offer, Role};
    use onecast_rtc::{Certificate, IceCredentials};

    /// The server's answer, with or without simulcast.
    fn answer(offer: &str, accepts_layers: bool) -> String {
        let offer = Offer::parse(offer).unwrap();
        let mut agreement = offer.negotiate(Role::Publisher).unwrap();
        if accepts_layers {
            agreement = agreement.with_layers();
            let layers = agreement.layers().unwrap();
            assert_eq!((layers.as_slice().len(), layers.is_simulcast()), (3, true));
        }
        let params = AnswerParams {
            ice: &IceCredentials {
                ufrag: "server".into(),
                pwd: "0123456789012345678901".into(),
            },
            fingerprint: Certificate::generate().unwrap().fingerprint(),
            candidates: &["127.0.0.1:9".parse().unwrap()],
            session_id: 1,
            stream: "live",
        };
        agreement.write(Role::Publisher, &params)
    }

    /// A publisher of three layers, the parameters of its track, and what the answer says.
    async fn negotiated(accepts_layers: bool) -> (Attached, RTCRtpParameters, AnsweredLayers) {
        let config = PeerConfig::towards("http://127.0.0.1:1/", vec![Codec::Vp8]);
        let peer = Peer::new(config, |_| {}).await.unwrap();
        let attached = attach_track(&peer, LayeredSource::test_card(3)).await.unwrap();
        let offer = peer.offer().await.unwrap();
        assert!(offer.contains("a=simulcast:send q;h;f\r\n"), "{offer}");
        let answer = answer(&offer, accepts_layers);
        peer.take_answer(offer, answer.clone()).await.unwrap();
        let parameters = attached.sender.get_parameters().await.unwrap().rtp_parameters;
        peer.close().await;
        (attached, parameters, AnsweredLayers::parse(&answer))
    }

    #[tokio::test]
    async fn packets_of_accepted_layers_have_their_names() {
        let (attached, parameters, answered) = negotiated(true).await;
        assert_eq!(answered.rids, ["q", "h", "f"]);
        let ssrcs: Vec<u32> = webrtc::media_stream::Track::ssrcs(&*attached.track).await;
        assert_eq!(ssrcs.len(), 3);
        for layer in &attached.layers {
            let named = extensions(&parameters, Kind::Video, layer.rid, &answered.mid);
            let values: Vec<&[u8]> = named.iter().map(|(_, value)| &value[..]).collect();
            assert_eq!(values, [answered.mid.as_bytes(), layer.rid.unwrap().as_bytes()]);
        }
    }

    #[tokio::test]
    async fn an_answer_without_simulcast_is_usable() {
        let (attached, _, answered) = negotiated(false).await;
        assert_eq!((attached.layers.len(), answered.rids.len()), (3, 0));
    }

    #[test]
    fn keyframes_are_requested_of_all_layers() {
        let layered = LayeredSource::test_card(2);
        let layers = layered.layers.into_iter().map(|(_, source)| SentLayer {
            packetizer: packetizer(source.codec(), Ssrc(1)).unwrap(),
            extensions: vec![(1, Bytes::from_static(b"q"))],
            source,
            due: Some(Instant::now()),
        });
        let (mut layers, counts): (Vec<SentLayer>, _) = (layers.collect(), Counts::default());
        let now = Instant::now();
        let keyframes = |layers: &mut Vec<SentLayer>| {
            let frames = layers.iter_mut().enumerate();
            let packets = frames.map(|(index, layer)| layer.next_frame(now, index == 0, &counts));
            let is_keyframe = |packets: Vec<rtc::rtp::Packet>| {
                assert!(packets.iter().all(|packet| packet.header.get_extension(1).is_some()));
                onecast_rtc::rtp::keyframe::starts_keyframe(Codec::Vp8, &packets[0].payload)
            };
            packets.map(is_keyframe).collect::<Vec<_>>()
        };
        assert_eq!(keyframes(&mut layers), [true, true]);
        assert_eq!(keyframes(&mut layers), [false, false]);
        assert!(request_keyframes(&mut layers));
        assert_eq!(keyframes(&mut layers), [true, true]);
        assert_eq!(counts.frames.load(Ordering::Relaxed), 3);
    }
}
