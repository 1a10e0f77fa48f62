//! Admission control: a crowd of joining clients is refused with a time to retry.

use std::process::Command;
use std::time::Duration;

use onecast_control::port::{Protocol, Service as _};
use serde_json::json;

use super::fake::LIMITS;
use super::rig::{OFFER, Rig, SDP};
use super::wire::Reply;

#[tokio::test]
async fn a_burst_beyond_the_rate_is_503_and_a_retry_after_the_wait_succeeds() {
    let rig = Rig::start().await;
    for _ in 0..LIMITS.joins_per_second {
        assert_eq!(watch(&rig).await.status, 201);
    }
    let refused = watch(&rig).await;
    let said = refused.problem(503);
    assert!(said.contains("more viewers are joining than the 5 a second"), "{said}");
    assert_eq!(refused.json()["type"], "urn:onecast:problem:too-many-joins");
    assert_eq!(refused.json()["title"], "The server is busy");
    let wait = retry_after(&refused);
    assert!((1..=5).contains(&wait), "{wait}");
    // Repeated requests are refused as well, and their offers are never parsed.
    let offers = rig.fake.offers();
    for _ in 0..20 {
        assert_eq!(watch(&rig).await.status, 503);
    }
    assert_eq!(rig.fake.offers(), offers);
    rig.fake.pass(Duration::from_secs(wait));
    assert_eq!(watch(&rig).await.status, 201);
}

#[tokio::test]
async fn a_crowd_gets_spread_retry_times_and_a_larger_crowd_later_ones() {
    let rig = Rig::start().await;
    let mut waits = Vec::new();
    while waits.len() < 60 {
        let reply = watch(&rig).await;
        if reply.status == 503 {
            waits.push(retry_after(&reply));
        }
    }
    let (first, last) = (&waits[..10], &waits[50..]);
    assert!(first.iter().all(|wait| (1..=8).contains(wait)), "{waits:?}");
    assert!(last.iter().all(|wait| (11..=23).contains(wait)), "{waits:?}");
    assert!(first.iter().any(|wait| wait != &first[0]), "{waits:?}");
}

#[tokio::test]
async fn too_many_half_open_sessions_are_503_until_one_connects() {
    let rig = Rig::start().await;
    for _ in 0..LIMITS.half_open {
        rig.fake.pass(Duration::from_secs(1));
        assert_eq!(watch(&rig).await.status, 201);
    }
    rig.fake.pass(Duration::from_secs(1));
    let refused = watch(&rig).await;
    assert!(refused.problem(503).contains("7 viewers are connecting"), "{refused:?}");
    assert!((1..=5).contains(&retry_after(&refused)));
    // A broadcaster is not kept out by them.
    assert_eq!(rig.request("POST", "/whip/limited", &[SDP], OFFER).await.status, 201);
    let joins = rig.get("/api/streams").await.json()["joins"].clone();
    let refusals = json!({ "rate": 0, "half_open": 1, "address": 0, "address_rate": 0 });
    assert_eq!(joins, json!({ "half_open": 8, "refused": refusals }));

    rig.fake.connect(Protocol::Whep, rig.address);
    assert_eq!(watch(&rig).await.status, 201);
}

#[tokio::test]
async fn a_pasted_offer_is_refused_in_plain_words() {
    let rig = Rig::start().await;
    rig.request("POST", "/sdp/limited", &[], OFFER).await;
    for _ in 0..LIMITS.joins_per_second {
        rig.request("POST", "/sdp/limited", &[], OFFER).await;
    }
    let refused = rig.request("POST", "/sdp/limited", &[], OFFER).await;
    assert_eq!(refused.status, 503);
    assert!(
        refused.text().starts_with("The server is busy (503): more viewers"),
        "{refused:?}"
    );
    assert!((1..=5).contains(&retry_after(&refused)));
}

#[tokio::test]
async fn the_command_line_clients_retry_after_the_wait_and_join() {
    for (command, option, endpoint) in [
        ("watch", "--from", "/whep/limited"),
        ("publish", "--to", "/whip/limited"),
    ] {
        let rig = Rig::start().await;
        while rig.request("POST", endpoint, &[SDP], OFFER).await.status != 503 {}
        let offers = rig.fake.offers();
        let url = format!("http://{}{endpoint}", rig.address);
        let client = tokio::task::spawn_blocking(move || {
            Command::new(env!("CARGO_BIN_EXE_onecast"))
                .args([command, option, &url])
                .output()
                .unwrap()
        });
        for _ in 0..400 {
            if rig.fake.admission().refused_rate > 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(rig.fake.offers(), offers, "it was refused");
        rig.fake.pass(Duration::from_secs(1));
        let told = String::from_utf8(client.await.unwrap().stderr).unwrap();
        assert!(
            told.contains("answered 503 Service Unavailable: The server is busy."),
            "{told}"
        );
        assert_eq!(told.matches("\ntrying again in ").count(), 1, "{told}");
        assert_eq!(rig.fake.offers(), offers + 1, "it came again");
    }
}

async fn watch(rig: &Rig) -> Reply {
    rig.request("POST", "/whep/limited", &[SDP], OFFER).await
}

fn retry_after(reply: &Reply) -> u64 {
    reply.header("retry-after").unwrap().parse().unwrap()
}
