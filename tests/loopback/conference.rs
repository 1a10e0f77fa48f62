//! Conference rooms over real UDP: peers of the `webrtc` crate in rooms of the whole server.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onecast_clients::conference::{Member, MemberConfig, MemberEvent, MemberReport, ReceivedTrack, Signalling};
use onecast_clients::source::{Sample, Source};
use onecast_clients::test_card::TestCard;
use onecast_clients::trust::Trust;
use onecast_rtc::rtp::{Codec, Kind};
use onecast_testing::{Tests, tests};

use crate::rig::{Detours, Rig};
use crate::{test_card, until};

pub(crate) fn tests() -> Tests {
    tests![
        member_that_sends_nothing_receives_the_others,
        m_lines_of_members_who_left_are_reused,
        member_offers_are_accepted_while_server_offers_cross_them,
        member_with_sound_is_the_speaker,
        command_line_peers_meet_in_a_room,
        command_line_peer_reports_an_unreachable_server,
    ]
    // They keep the machine so busy that clients of other tests would lose packets at their sockets.
    .and(
        tests![
            twelve_members_joining_at_once_get_every_track_from_its_first_keyframe,
            twelve_polling_members_get_every_track_from_its_first_keyframe,
        ]
        .alone(),
    )
}

/// A test card that starts with a keyframe and never sends another one.
struct OneKeyframe {
    card: TestCard,
    begun: bool,
}

impl Source for OneKeyframe {
    fn codec(&self) -> Codec {
        Codec::Vp8
    }

    fn describe(&self) -> String {
        "a picture with one keyframe".to_owned()
    }

    fn next_sample(&mut self) -> Option<Sample> {
        let keyframe = !std::mem::replace(&mut self.begun, true);
        Some(Sample {
            data: self.card.next_frame(keyframe).into(),
            duration: Duration::from_secs(1) / TestCard::FRAME_RATE,
        })
    }
}

/// A video with one keyframe, and the tone.
fn sources() -> Vec<Box<dyn Source>> {
    let mut sources = test_card();
    sources.retain(|source| source.codec().kind() == Kind::Audio);
    sources.push(Box::new(OneKeyframe {
        card: TestCard::new(),
        begun: false,
    }));
    sources
}

pub(crate) type Heard = Arc<Mutex<Vec<MemberEvent>>>;

pub(crate) fn config(rig: &Rig, signalling: Signalling) -> (MemberConfig, Heard) {
    let heard = Heard::default();
    let into = heard.clone();
    let config = MemberConfig {
        to: format!("http://{}", rig.http),
        room: "main".to_owned(),
        name: None,
        last_n: Some(12),
        signalling,
        sources: sources(),
        token: None,
        trust: Trust::System,
        retries_when_busy: true,
        on_event: Arc::new(move |event| into.lock().unwrap().push(event)),
    };
    (config, heard)
}

/// Joins `count` members within two seconds, spread out.
pub(crate) async fn join_all(rig: &Rig, count: u64, signalling: impl Fn(u64) -> Signalling) -> Vec<Member> {
    let mut joins = Vec::new();
    for number in 0..count {
        let (config, _) = config(rig, signalling(number));
        // A fixed multiplicative sequence: every run is the same, and no order is favoured.
        let moment = Duration::from_millis(number * 1_237 % 2_000);
        joins.push(tokio::spawn(async move {
            tokio::time::sleep(moment).await;
            Member::join(config).await.unwrap()
        }));
    }
    let mut members = Vec::new();
    for join in joins {
        members.push(join.await.unwrap());
    }
    members
}

/// Current tracks of a kind that have received at least this many frames.
pub(crate) fn flowing<'a>(
    report: &'a MemberReport,
    kind: &'a str,
    frames: u64,
) -> impl Iterator<Item = &'a ReceivedTrack> {
    let tracks = report.tracks.iter();
    tracks.filter(move |track| track.kind == kind && !track.gone && track.report.frames >= frames)
}

/// Waits until each member receives video and audio of each other.
pub(crate) async fn all_flow(members: &[Member]) {
    let others = members.len() - 1;
    let complete = |member: &Member| {
        let report = member.report();
        flowing(&report, "video", 30).count() == others && flowing(&report, "audio", 50).count() == others
    };
    // 30 s: twelve members are much work for a machine that is busy anyway.
    for _ in 0..300 {
        if members.iter().all(complete) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    if let Some(member) = members.iter().find(|member| !complete(member)) {
        panic!("not everything reaches member {}: {:#?}", member.id(), member.report());
    }
}

/// Checks that every track started with its only keyframe and that no other was requested.
pub(crate) fn nothing_was_missed(reports: &[MemberReport]) {
    for report in reports {
        assert_eq!(
            report.keyframe_requests, 0,
            "member {} was asked for a keyframe",
            report.id
        );
        for track in report.tracks.iter().filter(|track| track.kind == "video") {
            let about = format!("member {} from {}: {:?}", report.id, track.member, track.report);
            assert_eq!(track.report.began_with_keyframe, Some(true), "{about}");
            assert_eq!(track.report.keyframes, 1, "{about}");
        }
    }
}

pub(crate) async fn leave_all(members: Vec<Member>) -> Vec<MemberReport> {
    let mut reports = Vec::new();
    for member in members {
        reports.push(member.leave().await);
    }
    reports
}

/// Twelve members join at the same time, so that offers cross.
async fn twelve(signalling: impl Fn(u64) -> Signalling) {
    let rig = Rig::start(Detours {
        shards: 2,
        ..Detours::default()
    })
    .await;
    let members = join_all(&rig, 12, signalling).await;
    all_flow(&members).await;
    let reports = leave_all(members).await;
    let videos = reports
        .iter()
        .flat_map(|report| &report.tracks)
        .filter(|track| track.kind == "video");
    assert_eq!(videos.count(), 132);
    nothing_was_missed(&reports);
    for nothing in [
        "keyframe_requests_sent",
        "starts_without_keyframe",
        "runs_failed",
        "rtp_out_rest_of_frame",
        "rtp_out_oversized",
        "rtp_stale",
    ] {
        assert_eq!(rig.counter(nothing), 0, "{nothing}");
    }
    rig.stop().await;
}

async fn twelve_members_joining_at_once_get_every_track_from_its_first_keyframe() {
    twelve(|number| match number % 2 {
        0 => Signalling::Socket,
        _ => Signalling::LongPoll,
    })
    .await;
}

async fn twelve_polling_members_get_every_track_from_its_first_keyframe() {
    twelve(|_| Signalling::Poll(Duration::from_millis(500))).await;
}

async fn member_that_sends_nothing_receives_the_others() {
    let rig = Rig::start(Detours::default()).await;
    let (sender, _) = config(&rig, Signalling::Socket);
    let (watcher, _) = config(&rig, Signalling::LongPoll);
    let sender = Member::join(sender).await.unwrap();
    let watcher = Member::join(MemberConfig {
        sources: Vec::new(),
        ..watcher
    })
    .await
    .unwrap();
    for _ in 0..200 {
        let report = watcher.report();
        if flowing(&report, "video", 10).count() == 1 && flowing(&report, "audio", 10).count() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let reports = leave_all(vec![watcher, sender]).await;
    assert_eq!(flowing(&reports[0], "video", 10).count(), 1, "{:#?}", reports[0]);
    assert_eq!(reports[1].tracks.len(), 0);
    rig.stop().await;
}

async fn m_lines_of_members_who_left_are_reused() {
    let rig = Rig::start(Detours::default()).await;
    let mut members = join_all(&rig, 3, |number| match number {
        0 => Signalling::Socket,
        _ => Signalling::LongPoll,
    })
    .await;
    all_flow(&members).await;
    for _ in 0..3 {
        let gone = members.pop().unwrap();
        let id = gone.id();
        gone.leave().await;
        let are_gone = |member: &Member| {
            let report = member.report();
            report
                .tracks
                .iter()
                .filter(|track| track.member == id)
                .all(|track| track.gone)
        };
        until("the others hear of it", || members.iter().all(are_gone)).await;
        members.push(Member::join(config(&rig, Signalling::LongPoll).0).await.unwrap());
        all_flow(&members).await;
    }
    let reports = leave_all(members).await;
    for report in &reports[..2] {
        let mids: BTreeSet<&str> = report.tracks.iter().map(|track| track.mid.as_str()).collect();
        assert_eq!(mids.len(), 4, "two lines for each of the two others: {mids:?}");
        assert_eq!(report.tracks.len(), 10, "one who stayed, and four who came");
    }
    nothing_was_missed(&reports);
    rig.stop().await;
}

async fn member_offers_are_accepted_while_server_offers_cross_them() {
    let rig = Rig::start(Detours::default()).await;
    let mut members = Vec::new();
    let mut heards = Vec::new();
    for signalling in [Signalling::Socket, Signalling::LongPoll] {
        let (config, heard) = config(&rig, signalling);
        members.push(Member::join(config).await.unwrap());
        heards.push(heard);
    }
    // Each newcomer makes the server send offers to the others, which send theirs at that very moment.
    for _ in 0..3 {
        let newcomer = tokio::spawn(Member::join(config(&rig, Signalling::LongPoll).0));
        for member in &members[..2] {
            member.offer_again();
        }
        members.push(newcomer.await.unwrap().unwrap());
    }
    all_flow(&members).await;
    for (number, heard) in heards.iter().enumerate() {
        until(&format!("an offer of member {number} is answered"), || {
            heard.lock().unwrap().contains(&MemberEvent::Accepted)
        })
        .await;
    }
    nothing_was_missed(&leave_all(members).await);
    rig.stop().await;
}

async fn member_with_sound_is_the_speaker() {
    let rig = Rig::start(Detours::default()).await;
    let members = join_all(&rig, 2, |_| Signalling::LongPoll).await;
    all_flow(&members).await;
    let url = format!("http://{}/api/rooms/main", rig.http);
    let roster: serde_json::Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    let speaking = roster["members"].as_array().unwrap();
    assert!(speaking.iter().all(|member| member["speaking"] == true), "{roster}");
    assert!(roster["speaker"].is_u64(), "{roster}");
    leave_all(members).await;
    rig.stop().await;
}

fn command_line_peers_meet_in_a_room() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let rig = runtime.block_on(Rig::start(Detours::default()));
    // The last ones meet in the default room.
    let ways = [
        &["--ws", "--room", "sockets"][..],
        &["--poll", "500ms", "--room", "polls"],
        &[],
    ];
    let peers = ways.map(|way| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_onecast"));
        command
            .args(["peer", "--count", "3", "--for", "6s", "--json"])
            .args(["--to", &format!("http://{}", rig.http)])
            .args(way)
            .stdout(std::process::Stdio::piped());
        (way, command.spawn().unwrap())
    });
    for (way, peers) in peers {
        let output = peers.wait_with_output().unwrap();
        let words = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{way:?}: {words}");
        let lines: Vec<serde_json::Value> = words.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ends: Vec<_> = lines.iter().filter(|line| line["event"] == "end").collect();
        assert_eq!(ends.len(), 3, "{words}");
        for end in ends {
            let tracks = end["tracks"].as_array().unwrap();
            assert_eq!(tracks.len(), 4, "{way:?}: {end}");
            assert!(
                tracks.iter().all(|track| track["packets"].as_u64() > Some(50)),
                "{way:?}: {end}"
            );
        }
        let whole = words.split("peer-").skip(1).filter(|rest| !rest[4..].starts_with(".."));
        assert_eq!(whole.count(), 0, "a peer id is a secret: {words}");
    }
    runtime.block_on(rig.stop());
}

fn command_line_peer_reports_an_unreachable_server() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_onecast"))
        .args(["peer", "--to", "http://127.0.0.1:1", "--for", "5s"])
        .output()
        .unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("cannot reach http://127.0.0.1:1/offer"), "{words}");
}
