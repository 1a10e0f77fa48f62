//! What the operator and session limits do to connected clients.

use std::time::Duration;

use onecast_clients::publish::Publisher;
use onecast_clients::watch::Viewer;
use onecast_control::drain::DrainOrder;
use onecast_control::port::{Condition, Operation as _, Service as _};
use onecast_control::registry::{SessionFilter, SessionState, Via};
use onecast_control::{EndReason, Purpose, SessionLimits};
use onecast_rtc::rtp::Kind;
use onecast_testing::{Tests, tests};

use crate::rig::{Detours, Rig};
use crate::{has_frames, test_card, until};

pub(crate) fn tests() -> Tests {
    tests![
        kicked_viewer_gets_nothing_and_the_others_everything,
        ending_a_broadcaster_keeps_viewers_and_frees_the_stream,
        broadcaster_above_the_bit_rate_limit_is_ended,
        sessions_end_at_their_time_limit,
        draining_does_not_interrupt_running_sessions,
    ]
}

fn sessions(rig: &Rig) -> Vec<SessionState> {
    rig.app.sessions(&SessionFilter {
        stream: None,
        purpose: None,
        after: onecast_control::SessionNumber(0),
        limit: 100,
    })
}

fn of(rig: &Rig, purpose: Purpose) -> SessionState {
    let sessions = sessions(rig);
    let mut found = sessions.into_iter().filter(|session| session.purpose == purpose);
    found.next().expect("it is there")
}

async fn kicked_viewer_gets_nothing_and_the_others_everything() {
    let rig = Rig::start(Detours::default()).await;
    let publisher = Publisher::connect(&rig.whip("live"), test_card(), None).await.unwrap();
    let kicked = Viewer::connect(&rig.whep("live"), None).await.unwrap();
    has_frames(&kicked, "VP8", 10).await;
    let session = of(&rig, Purpose::Watch);
    assert_eq!((session.via, session.number), (Some(Via::Whep), 1));
    assert!(session.connected.is_some() && session.media.is_some() && session.cipher.is_some());
    let other = Viewer::connect(&rig.whep("live"), None).await.unwrap();
    has_frames(&other, "VP8", 10).await;

    let note = "off topic".parse().unwrap();
    rig.app.kick(session.session_number, Some(note)).unwrap();
    until("its peer is gone", || rig.counter("peers") == 2).await;
    let frames = kicked.report(Kind::Video).frames;
    let before = other.report(Kind::Video).frames;
    has_frames(&other, "VP8", before + 30).await;
    assert!(kicked.report(Kind::Video).frames <= frames + 1);
    let end = rig.app.ended(1).remove(0);
    assert_eq!(
        (end.session_number, end.why.name()),
        (session.session_number, "operator")
    );
    assert!(end.connected.is_some());
    assert!(rig.app.kick(session.session_number, None).is_err());
    let told = kicked.how_lost().await.to_string();
    assert!(
        told.starts_with("the server ended the session: ") && told.contains("off topic"),
        "{told}"
    );
    assert_eq!(other.how_lost().await.to_string(), "the connection was lost");

    let [_, video] = other.close().await;
    assert_eq!(video.lost, 0);
    publisher.close().await;
    rig.stop().await;
}

async fn ending_a_broadcaster_keeps_viewers_and_frees_the_stream() {
    let rig = Rig::start(Detours::default()).await;
    let first = Publisher::connect(&rig.whip("live"), test_card(), None).await.unwrap();
    let viewer = Viewer::connect(&rig.whep("live"), None).await.unwrap();
    has_frames(&viewer, "VP8", 10).await;
    assert!(of(&rig, Purpose::Publish).received_bytes > 1_000);
    assert_eq!(rig.app.end_stream(&"live".parse().unwrap(), false, None), Ok(1));
    until("no stream is live", || {
        rig.app.streams().iter().all(|stream| !stream.live)
    })
    .await;
    let frames = viewer.report(Kind::Video).frames;
    let second = Publisher::connect(&rig.whip("live"), test_card(), None).await.unwrap();
    has_frames(&viewer, "VP8", frames + 10).await;

    assert_eq!(rig.app.end_stream(&"live".parse().unwrap(), true, None), Ok(2));
    until("all clients are gone", || rig.counter("peers") == 0).await;
    assert!(rig.app.streams().is_empty());
    assert!(rig.app.end_stream(&"live".parse().unwrap(), true, None).is_err());
    drop((first, second, viewer));
    rig.stop().await;
}

async fn broadcaster_above_the_bit_rate_limit_is_ended() {
    let max_bps = 20_000;
    let rig = Rig::start(Detours {
        sessions: SessionLimits {
            publish_bps: Some(max_bps),
            ..SessionLimits::default()
        },
        ..Detours::default()
    })
    .await;
    let publisher = Publisher::connect(&rig.whip("live"), test_card(), None).await.unwrap();
    let viewer = Viewer::connect(&rig.whep("live"), None).await.unwrap();
    has_frames(&viewer, "VP8", 60).await;
    until("it is ended", || !rig.app.ended(1).is_empty()).await;
    let end = rig.app.ended(1).remove(0);
    let EndReason::BitRate {
        measured_bps,
        max_bps: max,
    } = end.why
    else {
        panic!("{end:?}");
    };
    assert!(measured_bps > max && max == max_bps, "{measured_bps}");
    let lasted = end.connected.unwrap();
    assert!(lasted >= Duration::from_secs(6), "{lasted:?}");
    assert_eq!(of(&rig, Purpose::Watch).number, 1, "its viewers stay");
    drop((publisher, viewer));
    rig.stop().await;
}

async fn sessions_end_at_their_time_limit() {
    let max = Duration::from_secs(3);
    let rig = Rig::start(Detours {
        sessions: SessionLimits {
            session_time: Some(max),
            ..SessionLimits::default()
        },
        ..Detours::default()
    })
    .await;
    let publisher = Publisher::connect(&rig.whip("live"), test_card(), None).await.unwrap();
    let viewer = Viewer::connect(&rig.whep("live"), None).await.unwrap();
    has_frames(&viewer, "VP8", 30).await;
    until("both are ended", || rig.app.ended(2).len() == 2).await;
    for end in rig.app.ended(2) {
        assert_eq!(end.why, EndReason::SessionTime { max });
        assert!(end.connected.unwrap() >= max);
    }
    drop((publisher, viewer));
    rig.stop().await;
}

async fn draining_does_not_interrupt_running_sessions() {
    let rig = Rig::start(Detours::default()).await;
    let publisher = Publisher::connect(&rig.whip("live"), test_card(), None).await.unwrap();
    let viewer = Viewer::connect(&rig.whep("live"), None).await.unwrap();
    has_frames(&viewer, "VP8", 10).await;
    assert_eq!(rig.app.condition(), Condition::Ready);
    let state = rig.app.drain(DrainOrder::default());
    assert_eq!((state.sessions, state.left), (2, None));
    assert_eq!(rig.app.condition(), Condition::Draining);
    let frames = viewer.report(Kind::Video).frames;
    has_frames(&viewer, "VP8", frames + 60).await;
    let [audio, video] = viewer.close().await;
    assert_eq!((audio.lost, video.lost), (0, 0));
    publisher.close().await;
    until("all clients have left", || {
        rig.app.drain_state().is_some_and(|state| state.sessions == 0)
    })
    .await;
    rig.stop().await;
}
