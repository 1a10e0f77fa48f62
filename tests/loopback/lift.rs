//! A broadcast and a conference room of the same name: members see the broadcaster, viewers see the speaker.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onecast_clients::conference::{Member, Signalling};
use onecast_clients::peer::{Peer, PeerConfig};
use onecast_clients::publish::Publisher;
use onecast_clients::source::{self, Source};
use onecast_clients::watch::Viewer;
use onecast_control::port::{Service as _, StreamStatus};
use onecast_rtc::Certificate;
use onecast_rtc::rtp::{Codec, Kind};
use onecast_testing::{Tests, tests};
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

pub(crate) fn tests() -> Tests {
    tests![
        viewers_see_the_broadcaster_then_the_speaker_then_the_broadcaster,
        room_continues_when_its_broadcaster_comes_and_leaves,
        event_stream_reports_when_the_room_has_a_picture,
    ]
}

/// What the broadcaster sends: a file, whose frames differ from the members' test cards.
fn film() -> Vec<Box<dyn Source>> {
    clip(&["clip.ivf", "clip.ogg"])
}

async fn member(rig: &Rig) -> Member {
    let (mut config, _) = config(rig, Signalling::LongPoll);
    config.sources = test_card();
    Member::join(config).await.unwrap()
}

/// Whose picture it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Picture {
    Broadcaster,
    Member,
}

/// By number: whether it ends a frame, and the frame's bytes in it.
type Packets = BTreeMap<u64, (bool, Vec<u8>)>;

/// The video that a viewer gets.
#[derive(Clone)]
struct Seen {
    packets: Arc<Mutex<Packets>>,
    film: Arc<HashSet<Vec<u8>>>,
}

impl Seen {
    async fn watch(rig: &Rig) -> (Peer, Seen) {
        let url = rig.whep("main");
        let mut film = source::open(&["tests/data/media/clip.ivf".to_owned()], false).unwrap();
        let frames = std::iter::from_fn(|| film[0].next_sample());
        let seen = Seen {
            packets: Arc::default(),
            film: Arc::new(frames.map(|sample| sample.data.to_vec()).collect()),
        };
        let shared = seen.clone();
        let mut peer = Peer::new(PeerConfig::towards(&url, vec![Codec::Vp8]), move |track| {
            let seen = shared.clone();
            tokio::spawn(async move {
                while let Some(event) = track.poll().await {
                    if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                        let header = &packet.header;
                        seen.note(header.sequence_number, header.marker, &packet.payload);
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

    fn note(&self, sequence: u16, marker: bool, payload: &[u8]) {
        let mut packets = self.packets.lock().unwrap();
        let newest = packets
            .last_key_value()
            .map_or(u64::from(sequence) + 65_536, |(newest, _)| *newest);
        let ahead = i64::from(sequence.wrapping_sub(newest as u16).cast_signed());
        // One byte of descriptor, or three or four with a picture id.
        let descriptor = match payload {
            [first, ..] if first & 0x80 == 0 => 1,
            [_, _, id, ..] if id & 0x80 == 0 => 3,
            _ => 4,
        };
        packets.insert(
            newest.saturating_add_signed(ahead),
            (marker, payload[descriptor..].to_vec()),
        );
    }

    /// The frames so far: whose they are, and whether each is a keyframe.
    fn frames(&self) -> Vec<(Picture, bool)> {
        let (mut frames, mut frame) = (Vec::new(), Vec::new());
        for (marker, bytes) in self.packets.lock().unwrap().values() {
            frame.extend_from_slice(bytes);
            if *marker {
                let picture = match self.film.contains(&frame) {
                    true => Picture::Broadcaster,
                    false => Picture::Member,
                };
                frames.push((picture, frame[0] & 1 == 0));
                frame.clear();
            }
        }
        frames
    }

    /// Waits until this picture has been seen for a second.
    async fn shows(&self, picture: Picture) {
        until(&format!("{picture:?} is seen"), || {
            let frames = self.frames();
            frames.len() >= 30 && frames[frames.len() - 30..].iter().all(|(seen, _)| *seen == picture)
        })
        .await;
    }

    /// The pictures in order. Each starts with a keyframe, and no sequence number is missing.
    fn check(&self) -> Vec<Picture> {
        let packets = self.packets.lock().unwrap();
        let (first, last) = (
            packets.first_key_value().unwrap().0,
            packets.last_key_value().unwrap().0,
        );
        assert_eq!(packets.len() as u64, last - first + 1, "numbers are missing");
        drop(packets);
        let mut pictures = Vec::new();
        for (number, (picture, is_key)) in self.frames().into_iter().enumerate() {
            if pictures.last() != Some(&picture) {
                assert!(is_key, "with frame {number} {picture:?} begins, and with no keyframe");
                pictures.push(picture);
            }
        }
        pictures
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

/// Waits until the room's viewers see this member, at most 10 s.
async fn has_the_floor(rig: &Rig, id: u64) {
    for _ in 0..200 {
        if roster(rig).await["speaker"] == id {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("member {id} does not get the floor: {}", roster(rig).await);
}

/// Waits until a member's audio and video arrive.
async fn gets(member: &Member, of: u64) {
    let has = || {
        let report = member.report();
        let has = |kind| flowing(&report, kind, 30).any(|track| track.member == of);
        has("video") && has("audio")
    };
    for _ in 0..200 {
        if has() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not all of {of} comes within 10 s: {:#?}", member.report());
}

async fn viewers_see_the_broadcaster_then_the_speaker_then_the_broadcaster() {
    let rig = Rig::start(Detours {
        shards: 2,
        ..Detours::default()
    })
    .await;
    let publisher = Publisher::connect(&rig.whip("main"), film(), None).await.unwrap();
    let viewer = Viewer::connect(&rig.whep("main"), None).await.unwrap();
    let (peer, seen) = Seen::watch(&rig).await;
    seen.shows(Picture::Broadcaster).await;
    let first = member(&rig).await;
    seen.shows(Picture::Member).await;
    is_live(&rig, true, Some("VP8")).await;
    let of_broadcaster = broadcaster(&rig).await.expect("it is a member");
    gets(&first, of_broadcaster).await;
    assert_eq!(roster(&rig).await["speaker"], first.id());

    let second = member(&rig).await;
    for (of, other) in [(&first, &second), (&second, &first)] {
        gets(of, other.id()).await;
    }
    gets(&second, of_broadcaster).await;
    has_the_floor(&rig, second.id()).await;
    let frames = viewer.report(Kind::Video).frames;
    has_frames(&viewer, "VP8", frames + 60).await;
    second.leave().await;
    seen.shows(Picture::Member).await;
    assert_eq!(roster(&rig).await["speaker"], first.id());
    first.leave().await;
    seen.shows(Picture::Broadcaster).await;
    is_live(&rig, true, Some("VP8")).await;

    let [audio, video] = viewer.close().await;
    assert_eq!(
        (audio.lost, video.lost),
        (0, 0),
        "the numbering goes on: {audio:?} {video:?}"
    );
    assert_eq!(video.complete_frames, video.frames);
    let broadcaster = Picture::Broadcaster;
    assert_eq!(seen.check(), [broadcaster, Picture::Member, broadcaster]);
    peer.close().await;
    publisher.close().await;
    is_live(&rig, false, None).await;
    rig.stop().await;
}

async fn room_continues_when_its_broadcaster_comes_and_leaves() {
    let rig = Rig::start(Detours::default()).await;
    let members = [member(&rig).await, member(&rig).await];
    // Without a broadcast, viewers see the speaker.
    let viewer = Viewer::connect(&rig.whep("main"), None).await.unwrap();
    let (peer, seen) = Seen::watch(&rig).await;
    seen.shows(Picture::Member).await;
    is_live(&rig, true, Some("VP8")).await;
    let publisher = Publisher::connect(&rig.whip("main"), film(), None).await.unwrap();
    until("the broadcaster is sent to the members", || {
        members.iter().all(|member| member.report().tracks.len() == 4)
    })
    .await;
    let of_broadcaster = broadcaster(&rig).await.expect("it is a member");
    for member in &members {
        gets(member, of_broadcaster).await;
    }
    publisher.close().await;
    until("its tracks are gone", || {
        let tracks = members.iter().flat_map(|member| member.report().tracks);
        let of_it: Vec<_> = tracks.filter(|track| track.member == of_broadcaster).collect();
        of_it.len() == 4 && of_it.iter().all(|track| track.gone)
    })
    .await;
    assert_eq!(broadcaster(&rig).await, None);
    is_live(&rig, true, Some("VP8")).await;
    let frames = viewer.report(Kind::Video).frames;
    has_frames(&viewer, "VP8", frames + 30).await;
    gets(&members[0], members[1].id()).await;
    for member in members {
        let report = member.leave().await;
        assert!(report.tracks.iter().all(|track| track.report.lost == 0), "{report:?}");
    }
    is_live(&rig, false, None).await;
    let [audio, video] = viewer.close().await;
    assert_eq!((audio.lost, video.lost), (0, 0), "{audio:?} {video:?}");
    // The broadcaster is silent: viewers see at most a glimpse of it as it goes live, until it becomes part of the room.
    let pictures = seen.check();
    assert!(pictures.len() <= 3, "{pictures:?}");
    assert_eq!(
        (pictures.first(), pictures.last()),
        (Some(&Picture::Member), Some(&Picture::Member))
    );
    peer.close().await;
    rig.stop().await;
}

async fn event_stream_reports_when_the_room_has_a_picture() {
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
    let member = member(&rig).await;
    hears("active").await;
    member.leave().await;
    hears("inactive").await;
    rig.stop().await;
}
