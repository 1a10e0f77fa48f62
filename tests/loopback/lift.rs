//! A broadcast and a conference room of one name: members see the broadcaster, and viewers whoever speaks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onecast::client::conference::{Member, Signalling};
use onecast::client::peer::{Peer, PeerConfig};
use onecast::client::publish::Publisher;
use onecast::client::source::Source;
use onecast::client::watch::Viewer;
use onecast::http::service::{Service as _, StreamStatus};
use onecast::peer::Certificate;
use onecast::rtp::{Codec, Kind, keyframe};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, LINK, LOCATION};
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use serde_json::Value;
use webrtc::media_stream::track_remote::TrackRemoteEvent;

use crate::conference::{config, flowing};
use crate::rig::{Detours, Rig};
use crate::stranger::{ask, credentials, offer};
use crate::{clip, has_frames, test_card, until};

/// A picture in H264 and sound, so that codecs tell who is seen.
fn film() -> Vec<Box<dyn Source>> {
    clip(&["clip.h264", "clip.ogg"])
}

async fn member(rig: &Rig, sources: Vec<Box<dyn Source>>) -> Member {
    let (mut config, _) = config(rig, Signalling::LongPoll);
    config.sources = sources;
    Member::join(config).await.unwrap()
}

/// The video packets that a viewer gets: by number, which codec, and whether a keyframe begins.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeMap<u64, (Codec, bool)>>>);

impl Seen {
    async fn watch(rig: &Rig) -> (Peer, Seen) {
        let url = rig.whep("main");
        let seen = Seen::default();
        let shared = seen.clone();
        let mut peer = Peer::new(PeerConfig::towards(&url, vec![Codec::Vp8, Codec::H264]), move |track| {
            let seen = shared.clone();
            tokio::spawn(async move {
                while let Some(event) = track.poll().await {
                    if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                        let header = &packet.header;
                        seen.note(header.sequence_number, header.payload_type, &packet.payload);
                    }
                }
            });
        })
        .await
        .unwrap();
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Recvonly,
            streams: vec![],
            send_encodings: vec![],
        };
        let added = peer
            .connection()
            .add_transceiver_from_kind(RtpCodecKind::Video, Some(init));
        added.await.unwrap();
        peer.connect(&url, None).await.unwrap();
        (peer, seen)
    }

    fn note(&self, sequence: u16, payload_type: u8, payload: &[u8]) {
        let codec = if payload_type == 96 { Codec::Vp8 } else { Codec::H264 };
        let mut seen = self.0.lock().unwrap();
        let newest = seen.last_key_value().map_or(u64::from(sequence), |(newest, _)| *newest);
        let ahead = i64::from(sequence.wrapping_sub(newest as u16).cast_signed());
        let begins = keyframe::starts_keyframe(codec, payload);
        seen.insert(newest.saturating_add_signed(ahead), (codec, begins));
    }

    /// The codecs in the order in which they came, each of which began with a keyframe, with no number missing.
    fn check(&self) -> Vec<Codec> {
        let seen = self.0.lock().unwrap();
        let (first, last) = (seen.first_key_value().unwrap(), seen.last_key_value().unwrap());
        assert_eq!(seen.len() as u64, last.0 - first.0 + 1, "numbers are missing");
        let mut codecs = Vec::new();
        for (number, (codec, begins)) in &*seen {
            if codecs.last() != Some(codec) {
                assert!(begins, "packet {number} begins with {codec}, and with no keyframe");
                codecs.push(*codec);
            }
        }
        codecs
    }
}

/// As `/api/streams` has it, as long as there is anybody.
fn status(rig: &Rig) -> Option<StreamStatus> {
    let streams = rig.app.streams();
    streams.into_iter().find(|stream| stream.name.as_str() == "main")
}

async fn is_live(rig: &Rig, live: bool, codec: Option<&str>) {
    until(&format!("live is {live}, in {codec:?}"), || {
        let status = status(rig);
        let now = status.as_ref().map(|status| (status.live, status.video.as_deref()));
        now.unwrap_or((false, None)) == (live, codec)
    })
    .await;
}

async fn roster(rig: &Rig) -> Value {
    ask(rig, Method::GET, "api/rooms/main", None).await.done(200)
}

/// The public number of the broadcaster in the room.
async fn broadcaster(rig: &Rig) -> Option<u64> {
    let roster = roster(rig).await;
    let mut members = roster["members"].as_array().unwrap().iter();
    members.find(|member| member["broadcast"] == true)?["id"].as_u64()
}

/// Both kinds of a member's tracks come.
async fn gets(member: &Member, of: u64) {
    until(&format!("member {} gets all of {of}", member.id()), || {
        let report = member.report();
        let has = |kind| flowing(&report, kind, 30).any(|track| track.member == of);
        has("video") && has("audio")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_see_the_broadcaster_then_who_speaks_and_the_broadcaster_again() {
    let rig = Rig::start(Detours {
        shards: 2,
        ..Detours::default()
    })
    .await;
    let publisher = Publisher::connect(&rig.whip("main"), test_card(), None).await.unwrap();
    let viewer = Viewer::connect(&rig.whep("main"), None).await.unwrap();
    let (peer, seen) = Seen::watch(&rig).await;
    has_frames(&viewer, "VP8", 30).await;
    let more = |codec| {
        let frames = viewer.report(Kind::Video).frames + 30;
        has_frames(&viewer, codec, frames)
    };
    let first = member(&rig, film()).await;
    more("H264").await;
    is_live(&rig, true, Some("H264")).await;
    let of_broadcaster = broadcaster(&rig).await.expect("it is a member");
    gets(&first, of_broadcaster).await;
    assert_eq!(roster(&rig).await["speaker"], first.id());

    let second = member(&rig, test_card()).await;
    more("VP8").await;
    for (of, other) in [(&first, &second), (&second, &first)] {
        gets(of, other.id()).await;
    }
    gets(&second, of_broadcaster).await;
    assert_eq!(roster(&rig).await["speaker"], second.id());
    second.leave().await;
    more("H264").await;
    first.leave().await;
    more("VP8").await;
    is_live(&rig, true, Some("VP8")).await;

    let [audio, video] = viewer.close().await;
    assert_eq!(
        (audio.lost, video.lost),
        (0, 0),
        "the numbering goes on: {audio:?} {video:?}"
    );
    assert_eq!(video.complete_frames, video.frames);
    assert_eq!(
        seen.check(),
        [Codec::Vp8, Codec::H264, Codec::Vp8, Codec::H264, Codec::Vp8]
    );
    peer.close().await;
    publisher.close().await;
    is_live(&rig, false, None).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_goes_on_when_its_broadcaster_comes_and_leaves() {
    let rig = Rig::start(Detours::default()).await;
    let members = [member(&rig, film()).await, member(&rig, film()).await];
    // Without any broadcast its viewers see who speaks.
    let viewer = Viewer::connect(&rig.whep("main"), None).await.unwrap();
    has_frames(&viewer, "H264", 30).await;
    is_live(&rig, true, Some("H264")).await;
    let publisher = Publisher::connect(&rig.whip("main"), test_card(), None).await.unwrap();
    until("the broadcaster is sent to the members", || {
        members.iter().all(|member| member.report().tracks.len() == 4)
    })
    .await;
    let of_broadcaster = broadcaster(&rig).await.expect("it is a member");
    for member in &members {
        gets(member, of_broadcaster).await;
    }
    // It says nothing, so that viewers see who speaks.
    assert_eq!(viewer.report(Kind::Video).codec, Some("H264"));
    publisher.close().await;
    until("its tracks are gone", || {
        let tracks = members.iter().flat_map(|member| member.report().tracks);
        let of_it: Vec<_> = tracks.filter(|track| track.member == of_broadcaster).collect();
        of_it.len() == 4 && of_it.iter().all(|track| track.gone)
    })
    .await;
    assert_eq!(broadcaster(&rig).await, None);
    is_live(&rig, true, Some("H264")).await;
    has_frames(&viewer, "H264", viewer.report(Kind::Video).frames + 30).await;
    gets(&members[0], members[1].id()).await;
    for member in members {
        let report = member.leave().await;
        assert!(report.tracks.iter().all(|track| track.report.lost == 0), "{report:?}");
    }
    is_live(&rig, false, None).await;
    let [audio, video] = viewer.close().await;
    assert_eq!((audio.lost, video.lost), (0, 0), "{audio:?} {video:?}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_the_events_hears_when_somebody_can_be_seen() {
    let rig = Rig::start(Detours::default()).await;
    let client = reqwest::Client::new();
    let sdp = offer(&credentials("viewer"), &Certificate::generate().unwrap(), false);
    let request = client
        .post(rig.whep("main"))
        .header(CONTENT_TYPE, "application/sdp")
        .body(sdp);
    let watching = request.send().await.unwrap();
    let links = watching.headers().get_all(LINK).iter();
    let mut links = links.filter_map(|link| link.to_str().ok()?.strip_prefix('<')?.split_once(">; "));
    let (path, _) = links
        .find(|(_, about)| about.contains("server-sent-events"))
        .expect("a link to events");
    let base = reqwest::Url::parse(&rig.whep("main")).unwrap();
    let wanted = client.post(base.join(path).unwrap()).json(&["active", "inactive"]);
    let opened = wanted.send().await.unwrap();
    let events = base.join(opened.headers()[LOCATION].to_str().unwrap()).unwrap();
    let mut events = client.get(events).send().await.unwrap();
    let mut heard = String::new();
    let mut hears = async |name: &str| {
        let event = format!("event: {name}\n");
        while !heard.contains(&event) {
            let chunk = tokio::time::timeout(Duration::from_secs(10), events.chunk()).await;
            let chunk = chunk.unwrap_or_else(|_| panic!("no {name}: {heard}")).unwrap();
            heard.push_str(std::str::from_utf8(&chunk.expect("it goes on")).unwrap());
        }
        heard.clear();
    };
    hears("inactive").await;
    let member = member(&rig, film()).await;
    hears("active").await;
    member.leave().await;
    hears("inactive").await;
    rig.stop().await;
}
