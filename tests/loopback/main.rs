//! Broadcasts over real UDP between full peers of the `webrtc` crate and the whole server.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

mod conference;
mod counter_offer;
#[path = "../common/dtls_attack.rs"]
mod dtls_attack;
mod half_open;
mod hostile;
mod hostile_rooms;
mod layer_clients;
mod layers;
mod lift;
mod operation;
mod raw_viewer;
mod relay;
mod restart;
mod rig;
mod rooms;
mod silence;
mod stranger;
mod takeover;

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onecast_clients::peer::{Peer, PeerConfig};
use onecast_clients::publish::Publisher;
use onecast_clients::source::{self, Source};
use onecast_clients::watch::{TrackReport, Viewer};
use onecast_rtc::client_peer::ClientEvent;
use onecast_rtc::rtp::{Codec, Kind};
use onecast_testing::{Suite, Tests, tests};
use raw_viewer::RawViewer;
use rig::{Detours, Rig};
use webrtc::media_stream::track_remote::TrackRemoteEvent;
use webrtc::peer_connection::SrtpProtectionProfile;

fn main() -> ExitCode {
    Suite::new([
        conference::tests(),
        counter_offer::tests(),
        half_open::tests(),
        hostile::tests(),
        hostile_rooms::tests(),
        layers::tests(),
        lift::tests(),
        operation::tests(),
        restart::tests(),
        rooms::tests(),
        silence::tests(),
        takeover::tests(),
        tests(),
    ])
    // The tests wait for media more than they work.
    .threads_at_least(8)
    .run()
}

fn tests() -> Tests {
    tests![
        viewers_receive_what_was_published,
        viewers_stay_while_the_publisher_leaves_returns_and_changes_codec,
        five_percent_loss_each_way_is_repaired,
        passive_offers_are_answered_as_dtls_client,
        viewer_that_supports_only_sha1_srtp_is_served,
        viewer_that_never_reads_does_not_affect_the_others,
        file_is_published_and_watched_from_the_command_line,
    ]
    // It keeps the machine so busy that clients of other tests would lose packets at their sockets.
    .and(tests![fifty_viewers_get_every_packet,].alone())
}

fn clip(names: &[&str]) -> Vec<Box<dyn Source>> {
    let names: Vec<String> = names.iter().map(|name| format!("tests/data/media/{name}")).collect();
    source::open(&names, true).unwrap()
}

fn test_card() -> Vec<Box<dyn Source>> {
    source::open(&["test".to_owned()], true).unwrap()
}

/// Waits until `check` holds, at most 10 s.
async fn until(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..200 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: not within 10 s");
}

async fn has_frames(viewer: &Viewer, codec: &str, frames: u64) {
    let came = |report: TrackReport| report.codec == Some(codec) && report.frames >= frames;
    until(&format!("{frames} frames of {codec}"), || {
        came(viewer.report(Kind::Video))
    })
    .await;
}

async fn fifty_viewers_get_every_packet() {
    let rig = Rig::start(Detours {
        shards: 2,
        ..Detours::default()
    })
    .await;
    let publisher = Publisher::connect(&rig.whip("live"), test_card(), None).await.unwrap();
    let mut viewers = Vec::new();
    for _ in 0..50 {
        viewers.push(Viewer::connect(&rig.whep("live"), None).await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    publisher.close().await;
    for (number, viewer) in viewers.into_iter().enumerate() {
        let [audio, video] = viewer.close().await;
        assert_eq!((audio.lost, video.lost), (0, 0), "viewer {number}");
        assert!(
            audio.packets > 100 && video.frames > 60,
            "viewer {number}: {audio:?} {video:?}"
        );
        assert_eq!(video.complete_frames, video.frames, "viewer {number}");
    }
    assert_eq!(rig.counter("runs_failed"), 0);
    rig.stop().await;
}

/// Connects a viewer and collects its payloads by sequence number.
async fn payloads(url: &str) -> (Peer, Arc<Mutex<BTreeMap<u16, Vec<u8>>>>) {
    let got = Arc::new(Mutex::new(BTreeMap::new()));
    let into = got.clone();
    let mut peer = Peer::new(PeerConfig::towards(url, vec![Codec::Vp8]), move |track| {
        let into = into.clone();
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    let marked = [&[u8::from(packet.header.marker)][..], &packet.payload].concat();
                    into.lock().unwrap().insert(packet.header.sequence_number, marked);
                }
            }
        });
    })
    .await
    .unwrap();
    let video = rtc::rtp_transceiver::rtp_sender::RtpCodecKind::Video;
    let init = rtc::rtp_transceiver::RTCRtpTransceiverInit {
        direction: rtc::rtp_transceiver::RTCRtpTransceiverDirection::Recvonly,
        streams: vec![],
        send_encodings: vec![],
    };
    peer.connection()
        .add_transceiver_from_kind(video, Some(init))
        .await
        .unwrap();
    peer.connect(url, None).await.unwrap();
    (peer, got)
}

async fn viewers_receive_what_was_published() {
    let rig = Rig::start(Detours::default()).await;
    let mut frames = HashSet::new();
    let mut published = source::open(&["tests/data/media/clip.ivf".to_owned()], false).unwrap();
    while let Some(sample) = published[0].next_sample() {
        frames.insert(sample.data.to_vec());
    }
    let publisher = Publisher::connect(&rig.whip("live"), clip(&["clip.ivf"]), None)
        .await
        .unwrap();
    let (first, first_got) = payloads(&rig.whep("live")).await;
    let (second, second_got) = payloads(&rig.whep("live")).await;
    until("packets at the second viewer", || {
        second_got.lock().unwrap().len() > 100
    })
    .await;
    publisher.close().await;
    let (first_got, second_got) = (first_got.lock().unwrap().clone(), second_got.lock().unwrap().clone());
    for (sequence, payload) in &second_got {
        assert_eq!(first_got.get(sequence), Some(payload), "packet {sequence}");
    }
    let mut frame = Vec::new();
    let mut checked = 0;
    for marked in second_got.values() {
        // One byte of marker, then the payload descriptor: one byte, three or four with a picture id.
        let (marker, payload) = (marked[0] == 1, &marked[1..]);
        let descriptor = if payload[0] & 0x80 == 0 {
            1
        } else if payload[2] & 0x80 == 0 {
            3
        } else {
            4
        };
        frame.extend_from_slice(&payload[descriptor..]);
        if marker {
            assert!(
                frames.contains(&frame),
                "a frame of {} bytes was not in the file",
                frame.len()
            );
            checked += 1;
            frame.clear();
        }
    }
    assert!(checked > 60, "{checked} frames");
    first.close().await;
    second.close().await;
    rig.stop().await;
}

async fn viewers_stay_while_the_publisher_leaves_returns_and_changes_codec() {
    let rig = Rig::start(Detours {
        shards: 2,
        ..Detours::default()
    })
    .await;
    let early = Viewer::connect(&rig.whep("live"), None).await.unwrap();
    for (sources, codec) in [
        (test_card(), "VP8"),
        (clip(&["clip.h264", "clip.ogg"]), "H264"),
        (test_card(), "VP8"),
    ] {
        let before = early.report(Kind::Video).frames;
        let publisher = Publisher::connect(&rig.whip("live"), sources, None).await.unwrap();
        has_frames(&early, codec, before + 30).await;
        let status = onecast_control::port::Service::streams(&rig.app);
        assert_eq!(
            (status[0].live, status[0].viewers, status[0].video.as_deref()),
            (true, 1, Some(codec))
        );
        publisher.close().await;
        until("the stream is not live", || {
            !onecast_control::port::Service::streams(&rig.app)[0].live
        })
        .await;
    }
    let [audio, video] = early.close().await;
    assert_eq!(
        (video.lost, audio.lost),
        (0, 0),
        "the numbering goes on without a gap: {video:?}"
    );
    rig.stop().await;
}

async fn five_percent_loss_each_way_is_repaired() {
    let rig = Rig::start(Detours {
        loss: 5,
        ..Detours::default()
    })
    .await;
    let publisher = Publisher::connect(&rig.whip("live"), clip(&["clip.ivf"]), None)
        .await
        .unwrap();
    let viewer = Viewer::connect(&rig.whep("live"), None).await.unwrap();
    has_frames(&viewer, "VP8", 240).await;
    let [_, video] = viewer.close().await;
    publisher.close().await;
    assert!(
        rig.counter("retransmitted") > 0,
        "nothing was lost: the relay does not do its work"
    );
    // The last losses had no time to be repaired.
    assert!(video.lost <= video.packets / 100, "{video:?}");
    assert!(video.complete_frames * 100 >= video.frames * 97, "{video:?}");
    rig.stop().await;
}

async fn passive_offers_are_answered_as_dtls_client() {
    let rig = Rig::start(Detours {
        passive: true,
        portable: true,
        ..Detours::default()
    })
    .await;
    let publisher = Publisher::connect(&rig.whip("live"), test_card(), None).await.unwrap();
    let viewer = Viewer::connect(&rig.whep("live"), None).await.unwrap();
    has_frames(&viewer, "VP8", 30).await;
    viewer.close().await;
    publisher.close().await;
    rig.stop().await;
}

async fn viewer_that_supports_only_sha1_srtp_is_served() {
    let rig = Rig::start(Detours::default()).await;
    let publisher = Publisher::connect(&rig.whip("live"), test_card(), None).await.unwrap();
    let url = rig.whep("live");
    let mut config = PeerConfig::towards(&url, vec![Codec::Opus, Codec::Vp8]);
    config.srtp_profiles = vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80];
    let viewer = Viewer::connect_as(&url, config, None).await.unwrap();
    has_frames(&viewer, "VP8", 60).await;
    let [audio, video] = viewer.close().await;
    assert_eq!((audio.lost, video.lost), (0, 0));
    publisher.close().await;
    rig.stop().await;
}

async fn viewer_that_never_reads_does_not_affect_the_others() {
    let rig = Rig::start(Detours::default()).await;
    let publisher = Publisher::connect(&rig.whip("live"), test_card(), None).await.unwrap();
    let deaf = RawViewer::join(&rig.whep("live")).await;
    let deaf = tokio::task::spawn_blocking(move || connect_and_stop_reading(deaf))
        .await
        .unwrap();
    let viewer = Viewer::connect(&rig.whep("live"), None).await.unwrap();
    has_frames(&viewer, "VP8", 120).await;
    let [audio, video] = viewer.close().await;
    assert_eq!((audio.lost, video.lost), (0, 0));
    drop(deaf);
    publisher.close().await;
    rig.stop().await;
}

/// Connects the viewer and never reads its socket again, whose buffer is the smallest there is.
fn connect_and_stop_reading(viewer: RawViewer) -> std::net::UdpSocket {
    let RawViewer { mut peer, server, .. } = viewer;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&socket).set_recv_buffer_size(4_096).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut buffer = [0; 2_048];
    for _ in 0..500 {
        peer.handle_timeout(onecast_udp::clock::now());
        while let Some(datagram) = peer.poll_transmit() {
            socket.send_to(&datagram, server).unwrap();
        }
        let Ok(len) = socket.recv(&mut buffer) else { continue };
        if let Some(ClientEvent::Connected(_)) = peer.handle_datagram(onecast_udp::clock::now(), &buffer[..len]) {
            while let Some(datagram) = peer.poll_transmit() {
                socket.send_to(&datagram, server).unwrap();
            }
            return socket;
        }
    }
    panic!("the deaf viewer did not connect");
}

fn file_is_published_and_watched_from_the_command_line() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let rig = runtime.block_on(Rig::start(Detours::default()));
    let onecast = || std::process::Command::new(env!("CARGO_BIN_EXE_onecast"));
    let files = ["tests/data/media/clip.ivf", "tests/data/media/clip.ogg"];
    let mut publisher = onecast()
        .args([
            "publish",
            "--loop",
            "--for",
            "20s",
            "--to",
            &rig.whip("film"),
            "--source",
        ])
        .args(files)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    runtime.block_on(until("the film is live", || rig.counter("rtp_in") > 0));
    let output = onecast()
        .args(["watch", "--json", "--for", "4s", "--from", &rig.whep("film")])
        .output()
        .unwrap();
    publisher.kill().unwrap();
    publisher.wait().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    let end: serde_json::Value = serde_json::from_str(words.lines().last().unwrap()).unwrap();
    assert!(output.status.success(), "{words}");
    assert_eq!(end["video"]["codec"], "VP8");
    assert_eq!((&end["video"]["lost"], &end["audio"]["lost"]), (&0.into(), &0.into()));
    assert!(end["video"]["complete_frames"].as_u64().unwrap() > 60, "{end}");
    assert_eq!(end["video"]["complete_frames"], end["video"]["frames"], "{end}");

    let nothing = onecast()
        .args(["watch", "--for", "1s", "--from", &rig.whep("absent")])
        .output()
        .unwrap();
    assert_eq!(nothing.status.code(), Some(1), "no media is a failure");
    runtime.block_on(rig.stop());
}
