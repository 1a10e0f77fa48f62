//! Broadcasters that fall silent, and viewers that cannot play what comes.

use std::time::Duration;

use onecast_clients::publish::Publisher;
use onecast_clients::source::{Sample, Source};
use onecast_clients::watch::Viewer;
use onecast_control::Purpose;
use onecast_control::port::{Operation as _, Service as _, StreamStatus};
use onecast_control::registry::SessionFilter;
use onecast_rtc::Certificate;
use onecast_rtc::rtp::{Codec, Kind};
use onecast_testing::{Tests, tests};
use reqwest::header::CONTENT_TYPE;

use crate::counter_offer::{followed_for, heard};
use crate::rig::{Detours, Rig};
use crate::stranger::{credentials, offer};
use crate::{clip, has_frames, test_card, until};

pub(crate) fn tests() -> Tests {
    tests![
        silent_broadcaster_is_replaced_and_viewers_stay,
        silent_broadcaster_is_distinguished_from_a_live_one,
        early_viewer_learns_that_it_cannot_play_the_codec,
    ]
}

/// Sends this many frames and then nothing, without closing the connection.
struct Stalls(Box<dyn Source>, usize);

impl Source for Stalls {
    fn codec(&self) -> Codec {
        self.0.codec()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn next_sample(&mut self) -> Option<Sample> {
        self.1 = self.1.checked_sub(1)?;
        self.0.next_sample()
    }

    fn request_keyframe(&mut self) -> bool {
        self.0.request_keyframe()
    }
}

/// The test card's video, for this many frames.
fn stalling(frames: usize) -> Vec<Box<dyn Source>> {
    let pictures = test_card().into_iter().filter(|source| source.codec() == Codec::Vp8);
    pictures
        .map(|source| Box::new(Stalls(source, frames)) as Box<dyn Source>)
        .collect()
}

fn status(rig: &Rig) -> StreamStatus {
    rig.app.streams().remove(0)
}

async fn silent_broadcaster_is_replaced_and_viewers_stay() {
    let rig = Rig::start(Detours {
        shards: 2,
        ..Detours::default()
    })
    .await;
    let url = rig.whip("live");
    let viewer = Viewer::connect(&rig.whep("live"), None).await.unwrap();
    let first = Publisher::connect(&url, stalling(60), None).await.unwrap();
    until("the stream is live", || status(&rig).live).await;
    let refused = Publisher::connect(&url, test_card(), None).await.err().unwrap();
    assert!(
        refused.to_string().contains("Another broadcaster has been live"),
        "{refused}"
    );
    has_frames(&viewer, "VP8", 50).await;

    let deadline = onecast_udp::clock::now() + Duration::from_secs(15);
    let second = loop {
        match Publisher::connect(&url, test_card(), None).await {
            Ok(second) => break second,
            Err(refused) => assert!(onecast_udp::clock::now() < deadline, "{refused}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let seen = viewer.report(Kind::Video).frames;
    has_frames(&viewer, "VP8", seen + 30).await;
    let ended = rig.app.ended(1).remove(0);
    assert_eq!((ended.purpose, ended.why.name()), (Purpose::Publish, "replaced"));
    let told = first.how_lost().await.to_string();
    assert!(told.contains("another broadcaster took its place"), "{told}");
    assert_eq!((status(&rig).live, status(&rig).viewers), (true, 1));
    let [_, video] = viewer.close().await;
    assert_eq!(video.lost, 0, "the numbering goes on");
    second.close().await;
    rig.stop().await;
}

async fn silent_broadcaster_is_distinguished_from_a_live_one() {
    let rig = Rig::start(Detours::default()).await;
    let ice = credentials("follower");
    let sdp = offer(&ice, &Certificate::generate().unwrap(), false);
    let watching = reqwest::Client::new().post(rig.whep("live"));
    let watching = watching.header(CONTENT_TYPE, "application/sdp").body(sdp);
    let watching = watching.send().await.unwrap();
    let mut events = followed_for(&watching, &["active", "inactive"]).await;
    heard(&mut events, "event: inactive\ndata: {}").await;

    let never = Publisher::connect(&rig.whip("live"), stalling(0), None).await.unwrap();
    until("it is connected", || status(&rig).since_unix.is_some()).await;
    assert!(!status(&rig).live && status(&rig).silent.is_some());
    heard(&mut events, "event: inactive\ndata: {\"silent\":true}").await;
    never.close().await;
    heard(&mut events, "event: inactive\ndata: {}").await;
    assert_eq!((status(&rig).since_unix, status(&rig).silent), (None, None));

    let live = Publisher::connect(&rig.whip("live"), test_card(), None).await.unwrap();
    heard(&mut events, "event: active\ndata: {}").await;
    assert!(status(&rig).live && status(&rig).silent.is_none());
    live.close().await;
    rig.stop().await;
}

async fn early_viewer_learns_that_it_cannot_play_the_codec() {
    let rig = Rig::start(Detours::default()).await;
    let ice = credentials("early");
    let without_h264 = offer(&ice, &Certificate::generate().unwrap(), false).replace(" H264/", " H261/");
    let early = reqwest::Client::new().post(rig.whep("live"));
    let early = early.header(CONTENT_TYPE, "application/sdp").body(without_h264.clone());
    let early = early.send().await.unwrap();
    assert_eq!(early.status(), 201);
    let mut events = followed_for(&early, &["codec-missing"]).await;
    let missing = || {
        let filter = SessionFilter {
            stream: None,
            purpose: Some(Purpose::Watch),
            after: onecast_control::SessionNumber(0),
            limit: 1,
        };
        let viewer = rig.app.sessions(&filter).remove(0);
        viewer.missing.codecs().collect::<Vec<_>>()
    };
    assert_eq!(missing(), []);

    let h264 = Publisher::connect(&rig.whip("live"), clip(&["clip.h264"]), None)
        .await
        .unwrap();
    let told = r#"{"missing":[{"codec":"H264","kind":"video","offered":["VP8","VP9","AV1"]}]}"#;
    heard(&mut events, &format!("event: codec-missing\ndata: {told}")).await;
    assert_eq!(missing(), [Codec::H264]);
    h264.close().await;
    heard(&mut events, "event: codec-missing\ndata: {\"missing\":[]}").await;
    assert_eq!(missing(), []);
    rig.stop().await;
}
