//! Half-open sessions: none remains after its client has connected or left.

use onecast_clients::publish::Publisher;
use onecast_clients::signal::{Granted, post_offer};
use onecast_clients::watch::Viewer;
use onecast_control::port::Service as _;
use onecast_rtc::client_peer::{OfferParams, write_offer};
use onecast_rtc::{Certificate, IceCredentials};
use onecast_testing::{Tests, tests};

use crate::rig::{Detours, Rig};
use crate::{test_card, until};

pub(crate) fn tests() -> Tests {
    tests![sessions_that_connected_or_left_are_not_half_open,]
}

async fn sessions_that_connected_or_left_are_not_half_open() {
    let rig = Rig::start(Detours::default()).await;
    let half_open = || rig.app.admission().half_open;
    let publisher = Publisher::connect(&rig.whip("live"), test_card(), None).await.unwrap();
    let viewer = Viewer::connect(&rig.whep("live"), None).await.unwrap();
    until("both are connected", || half_open() == 0).await;

    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(answered(&rig.whep("live")).await);
    }
    assert_eq!(half_open(), 3);
    for granted in waiting {
        granted.delete().await;
    }
    assert_eq!(half_open(), 0);
    let refused = post_offer(&rig.whip("live"), "v=0".to_owned(), None).await;
    assert!(
        refused.is_err() && half_open() == 0,
        "what was not answered is not half-open"
    );

    viewer.close().await;
    publisher.close().await;
    until("all have left", || rig.app.streams().is_empty()).await;
    assert_eq!(half_open(), 0);
    rig.stop().await;
}

/// A viewer that gets an answer and does nothing with it.
async fn answered(url: &str) -> Granted {
    let ice = IceCredentials {
        ufrag: "idle".into(),
        pwd: "0123456789012345678901".into(),
    };
    let offer = write_offer(&OfferParams {
        ice: &ice,
        fingerprint: Certificate::generate().unwrap().fingerprint(),
        active: true,
        publishes: false,
        rtx: true,
    });
    post_offer(url, offer, None).await.unwrap()
}
