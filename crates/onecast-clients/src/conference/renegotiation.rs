//! Test: the library handles the server's renegotiation, whose offers add lines and reuse them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rtc::media_stream::MediaStreamTrack;
use rtc::rtp::packet::Packet;
use webrtc::media_stream::Track;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::RTCSessionDescription;

use super::messages::OfferedTrack;
use super::received::{self, ReceivedTracks};
use super::sdp_fixes::mirror_inactive;
use crate::peer::{Peer, PeerConfig};
use crate::publish;
use crate::watch::lock;
use onecast_rtc::rtp::Codec;
use onecast_udp::clock;

/// A peer that sends three tracks and offers them line by line, as a test step defines.
struct Script {
    peer: Peer,
    tracks: Vec<Arc<TrackLocalStaticRTP>>,
    /// The session lines of its offer, and one media section.
    session: String,
    line: String,
    sequence: u16,
}

impl Script {
    async fn new() -> Script {
        let config = PeerConfig {
            codecs: vec![Codec::Vp8],
            ..PeerConfig::towards("http://127.0.0.1:1/", vec![])
        };
        let peer = Peer::new(config, |_| {}).await.unwrap();
        let mut tracks = Vec::new();
        for _ in 0..3 {
            let stream: MediaStreamTrack = publish::media_stream_track(Codec::Vp8);
            let track = Arc::new(TrackLocalStaticRTP::new(stream));
            peer.connection().add_track(track.clone()).await.unwrap();
            tracks.push(track);
        }
        let offer = peer.offer().await.unwrap();
        let offer = RTCSessionDescription::offer(offer).unwrap();
        peer.connection().set_local_description(offer).await.unwrap();
        let offer = Script::gathered(&peer).await;
        let begin = offer.find("m=").unwrap();
        let end = begin + 2 + offer[begin + 2..].find("m=").unwrap();
        let dropped = ["a=ssrc", "a=msid", "a=sendrecv", "a=mid:"];
        let line = offer[begin..end].lines();
        let line = line.filter(|line| !dropped.iter().any(|begin| line.starts_with(begin)));
        let session = offer[..begin].lines().filter(|line| !line.starts_with("a=group"));
        Script {
            session: session.map(|line| format!("{line}\r\n")).collect(),
            line: line.map(|line| format!("{line}\r\n")).collect(),
            peer,
            tracks,
            sequence: 0,
        }
    }

    /// The offer with its candidates.
    async fn gathered(peer: &Peer) -> String {
        for _ in 0..200 {
            let offer = peer.connection().local_description().await.unwrap().sdp;
            if offer.contains("a=candidate") {
                return offer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no candidates");
    }

    /// An offer of these lines: a track each, or nothing.
    async fn offer(&self, lines: &[Option<usize>]) -> String {
        let mids: String = (0..lines.len()).map(|number| format!(" s{number}")).collect();
        let mut sdp = format!("{}a=group:BUNDLE{mids}\r\n", self.session);
        for (number, track) in lines.iter().enumerate() {
            sdp += &format!("{}a=mid:s{number}\r\n", self.line);
            sdp += &match track {
                None => "a=inactive\r\n".to_owned(),
                Some(track) => {
                    let ssrc = self.tracks[*track].ssrcs().await[0];
                    let (stream, name) = (format!("m{track}.0"), format!("m{track}.0-video"));
                    format!(
                        "a=sendonly\r\na=msid:{stream} {name}\r\na=ssrc:{ssrc} cname:onecast\r\na=ssrc:{ssrc} msid:{stream} {name}\r\n"
                    )
                }
            };
        }
        sdp
    }

    /// Applies the answer of a one-line offer to all lines.
    async fn take(&self, answer: &str) {
        let begin = answer.find("m=").unwrap();
        let (session, line) = answer.split_at(begin);
        let session = session.replace("a=group:BUNDLE s0", "a=group:BUNDLE 0 1 2");
        let lines = ["0", "1", "2"].map(|mid| line.replace("a=mid:s0", &format!("a=mid:{mid}")));
        let answer = RTCSessionDescription::answer(session + &lines.concat()).unwrap();
        self.peer.connection().set_remote_description(answer).await.unwrap();
    }

    /// Sends a frame of one packet on these tracks.
    async fn send(&mut self, tracks: &[u64]) {
        self.sequence += 1;
        for track in tracks.iter().map(|track| &self.tracks[*track as usize]) {
            let mut packet = Packet::default();
            packet.header.version = 2;
            packet.header.payload_type = 96;
            packet.header.ssrc = track.ssrcs().await[0];
            packet.header.sequence_number = self.sequence;
            packet.header.timestamp = u32::from(self.sequence) * 3_000;
            packet.header.marker = true;
            packet.payload = bytes::Bytes::from_static(&[0x10, 0, 0, 0]);
            let _ = track.write_rtp(packet).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The member.
struct Near {
    peer: Peer,
    received: Arc<Mutex<ReceivedTracks>>,
}

impl Near {
    async fn new() -> Near {
        let config = PeerConfig {
            member: true,
            ..PeerConfig::towards("http://127.0.0.1:1/", received::CODECS.to_vec())
        };
        let received = Arc::<Mutex<ReceivedTracks>>::default();
        let into = received.clone();
        let peer = Peer::new(config, move |track| {
            let into = into.clone();
            tokio::spawn(async move {
                let stream = track.stream_id().await;
                lock(&into).opened(clock::now(), &stream, "video");
                received::count(track, stream, into).await;
            });
        });
        Near {
            peer: peer.await.unwrap(),
            received,
        }
    }

    /// Answers; returns the directions of the lines of the answer, and the answer.
    async fn answer(&self, script: &Script, lines: &[Option<usize>]) -> (Vec<String>, String) {
        let offered: Vec<OfferedTrack> = lines
            .iter()
            .enumerate()
            .filter_map(|(number, track)| Some((number, (*track)?)))
            .map(|(number, track)| OfferedTrack {
                mid: format!("s{number}"),
                id: track as u64,
                stream: format!("m{track}.0"),
                kind: "video".to_owned(),
            })
            .collect();
        lock(&self.received).offered(clock::now(), &offered);
        let answer = self
            .peer
            .answer(script.offer(lines).await, mirror_inactive)
            .await
            .unwrap();
        let directions = ["a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"];
        let said = answer.lines().filter(|line| directions.contains(line));
        (said.map(str::to_owned).collect(), answer)
    }

    fn packets(&self) -> BTreeMap<u64, u64> {
        let tracks = lock(&self.received).report().into_iter();
        tracks.map(|track| (track.member, track.report.packets)).collect()
    }
}

/// Sends these tracks until all of them arrive; at most 10 s.
async fn flows(script: &mut Script, near: &Near, what: &[u64]) {
    let before = near.packets();
    for _ in 0..1_000 {
        script.send(what).await;
        let now = near.packets();
        let came = |track: &u64| now.get(track).copied().unwrap_or(0) > before.get(track).copied().unwrap_or(0) + 3;
        if what.iter().all(came) {
            return;
        }
    }
    panic!("{what:?} do not flow: {:?}", near.packets());
}

/// Lines of an offer, directions of its answer, and the tracks that flow then.
type Step = (&'static [Option<usize>], &'static [&'static str], &'static [u64]);

#[tokio::test(flavor = "multi_thread")]
async fn added_and_reused_lines_are_answered_and_received() {
    let (mut script, mut near) = (Script::new().await, Near::new().await);
    let (directions, answer) = near.answer(&script, &[Some(0)]).await;
    assert_eq!(directions, ["a=recvonly"]);
    assert!(answer.contains("a=setup:active"), "{answer}");
    script.take(&answer).await;
    near.peer.connected().await.unwrap();
    flows(&mut script, &near, &[0]).await;

    let steps: [Step; 7] = [
        (&[Some(0), Some(1)], &["a=recvonly", "a=recvonly"], &[0, 1]),
        (&[None, Some(1)], &["a=inactive", "a=recvonly"], &[1]),
        // The line comes back with another track, ends a second time, and comes back with the first one.
        (&[Some(2), Some(1)], &["a=recvonly", "a=recvonly"], &[1, 2]),
        (&[None, Some(1)], &["a=inactive", "a=recvonly"], &[1]),
        (&[Some(0), Some(1)], &["a=recvonly", "a=recvonly"], &[0, 1]),
        (
            &[Some(0), None, None],
            &["a=recvonly", "a=inactive", "a=inactive"],
            &[0],
        ),
        (
            &[Some(0), None, Some(2)],
            &["a=recvonly", "a=inactive", "a=recvonly"],
            &[0, 2],
        ),
    ];
    for (number, (lines, expected, heard)) in steps.into_iter().enumerate() {
        let (directions, _) = near.answer(&script, lines).await;
        assert_eq!(directions, expected, "step {number}");
        flows(&mut script, &near, heard).await;
    }
    script.peer.close_shared().await;
    near.peer.close_shared().await;
}
