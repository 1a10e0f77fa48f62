//! Members whose network changes, and members that the operator ends.

use onecast_clients::conference::{Member, MemberEvent, Signalling};
use onecast_clients::peer::PeerError;
use onecast_testing::{Tests, tests};
use reqwest::Method;
use serde_json::Value;

use crate::conference::{all_flow, config, join_all, leave_all};
use crate::rig::{Detours, Rig};
use crate::stranger::{Stranger, Ws, ask};
use crate::until;

pub(crate) fn tests() -> Tests {
    tests![
        member_continues_from_another_port_after_an_ice_restart,
        operator_lists_members_and_ended_members_get_the_reason,
    ]
}

async fn member_continues_from_another_port_after_an_ice_restart() {
    let rig = Rig::start(Detours {
        shards: 2,
        ..Detours::default()
    })
    .await;
    let mut members = Vec::new();
    let mut heards = Vec::new();
    for signalling in [Signalling::Socket, Signalling::LongPoll] {
        let (config, heard) = config(&rig, signalling);
        members.push(Member::join(config).await.unwrap());
        heards.push(heard);
    }
    all_flow(&members).await;
    for (restarts, (member, heard)) in (1..).zip(members.iter().zip(&heards)) {
        member.restart_ice();
        until("its offer is answered", || {
            heard.lock().unwrap().contains(&MemberEvent::Accepted)
        })
        .await;
        until("it has gone over", || rig.counter("ice_restarts") == restarts).await;
    }
    // Later offers of the server belong to the new ICE session, and media continues in both directions.
    let before: Vec<_> = members.iter().map(Member::report).collect();
    members.push(Member::join(config(&rig, Signalling::LongPoll).0).await.unwrap());
    all_flow(&members).await;
    until("media goes on between the two", || {
        members.iter().zip(&before).all(|(member, before)| {
            let now = member.report();
            let grows = |(old, new): (
                &onecast_clients::conference::ReceivedTrack,
                &onecast_clients::conference::ReceivedTrack,
            )| { new.report.packets >= old.report.packets + 30 };
            before.tracks.iter().zip(&now.tracks).all(grows)
        })
    })
    .await;
    assert_eq!(rig.counter("connected"), 3, "no client has repeated its handshake");
    for report in leave_all(members).await {
        // Packets on their way to the abandoned port are lost unless they are requested again.
        let lost: u64 = report.tracks.iter().map(|track| track.report.lost).sum();
        assert!(lost < 100, "{report:?}");
    }
    rig.stop().await;
}

async fn operator_lists_members_and_ended_members_get_the_reason() {
    let rig = Rig::start(Detours::default()).await;
    let mut members = join_all(&rig, 3, |number| match number {
        0 => Signalling::Socket,
        1 => Signalling::LongPoll,
        _ => Signalling::Poll(std::time::Duration::from_millis(200)),
    })
    .await;
    all_flow(&members).await;
    let sessions = ask(&rig, Method::GET, "api/sessions?role=member&stream=main", None)
        .await
        .done(200);
    let handles: Vec<u64> = sessions["sessions"].as_array().unwrap().iter().map(handle).collect();
    let mut ids: Vec<u64> = members.iter().map(Member::id).collect();
    ids.sort_unstable();
    assert_eq!(handles, ids, "by their public numbers: {sessions}");

    let watching = Stranger::join(&rig, "watching", false).await;
    let mut socket = Ws::open(&rig).await;
    socket
        .say(&serde_json::json!({ "type": "resume", "peer_id": watching.peer_id }))
        .await;
    socket.expect("resumed").await;
    let kick = async |id: u64| {
        let path = format!("api/sessions/{id}?reason=off+topic");
        ask(&rig, Method::DELETE, &path, None).await.done(200)
    };
    kick(watching.id).await;
    let closed = socket.expect("closed").await;
    assert_eq!(closed["problem"], "ended-by-operator");
    assert!(closed["detail"].as_str().unwrap().contains("off topic"), "{closed}");
    assert_eq!(socket.closed().await, "ended-by-operator");
    watching.offers(&rig, "v=0\r\n").await.refused(404, "ended-by-operator");
    let mut back = Ws::open(&rig).await;
    back.say(&serde_json::json!({ "type": "resume", "peer_id": watching.peer_id }))
        .await;
    back.refused(404, "ended-by-operator").await;

    while let Some(mut member) = members.pop() {
        kick(member.id()).await;
        let PeerError::Ended(why) = member.ended().await else {
            panic!("it does not get the reason")
        };
        assert!(why.contains("off topic"), "{why}");
        let id = member.id();
        until("the others hear of it", || {
            let tracks = members.iter().flat_map(|member| member.report().tracks);
            tracks.filter(|track| track.member == id).all(|track| track.gone)
        })
        .await;
        member.leave().await;
    }
    ask(&rig, Method::GET, "api/rooms/main", None)
        .await
        .refused(404, "unknown-room");
    rig.stop().await;
}

fn handle(session: &Value) -> u64 {
    assert_eq!(
        (&session["role"], &session["stream"]),
        (&"member".into(), &"main".into())
    );
    session["handle"].as_u64().unwrap()
}
