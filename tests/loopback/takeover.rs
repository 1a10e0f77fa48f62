//! Taking over a live stream, which needs the same token.

use onecast::auth::{Authority, Secret, StreamPatterns, TokenRule, Tokens};
use onecast_clients::publish::Publisher;
use onecast_clients::signal::post_offer;
use onecast_clients::watch::Viewer;
use onecast_control::port::Service as _;
use onecast_rtc::client_peer::{OfferParams, write_offer};
use onecast_rtc::rtp::Kind;
use onecast_rtc::{Certificate, IceCredentials};
use onecast_testing::{Tests, tests};

use crate::rig::{Detours, Rig};
use crate::{has_frames, test_card, until};

pub(crate) fn tests() -> Tests {
    tests![
        viewers_stay_when_the_same_token_takes_over_the_stream,
        unusable_offer_does_not_take_over_the_stream,
    ]
}

/// A server with two tokens that may publish every stream.
async fn with_tokens() -> (Rig, [Secret; 2]) {
    let tokens: [Secret; 2] = std::array::from_fn(|_| Secret::generate());
    let rules = tokens.iter().enumerate().map(|(number, token)| TokenRule {
        name: format!("studio {number}"),
        hash: token.hash(),
        publish: StreamPatterns::all(),
        watch: StreamPatterns::none(),
        admin: false,
    });
    let tokens_of_server = Tokens::new(&rules.collect::<Vec<_>>()).unwrap();
    let authority = Authority::tokens(tokens_of_server, true);
    (Rig::guarded(Detours::default(), authority).await, tokens)
}

async fn viewers_stay_when_the_same_token_takes_over_the_stream() {
    let (rig, [token, stranger]) = with_tokens().await;
    let url = rig.whip("live");
    let mut first = Publisher::connect(&url, test_card(), Some(token.expose()))
        .await
        .unwrap();
    let viewer = Viewer::connect(&rig.whep("live"), None).await.unwrap();
    has_frames(&viewer, "VP8", 10).await;

    let refused = Publisher::connect(&url, test_card(), Some(stranger.expose())).await;
    assert!(refused.err().unwrap().to_string().contains("409"));
    let refused = Publisher::connect(&url, test_card(), None).await;
    assert!(refused.err().unwrap().to_string().contains("401"));
    let seen = viewer.report(Kind::Video).frames;
    has_frames(&viewer, "VP8", seen + 10).await;

    let second = Publisher::connect(&url, test_card(), Some(token.expose()))
        .await
        .unwrap();
    // The first publisher learns of it at once, not after a timeout.
    tokio::time::timeout(std::time::Duration::from_secs(5), first.finished())
        .await
        .unwrap();
    let seen = viewer.report(Kind::Video).frames;
    has_frames(&viewer, "VP8", seen + 30).await;
    assert_eq!(rig.app.streams()[0].viewers, 1);

    // Its late goodbye does not end the second session.
    first.close().await;
    let seen = viewer.report(Kind::Video).frames;
    has_frames(&viewer, "VP8", seen + 30).await;
    let [_, video] = viewer.close().await;
    assert_eq!(video.complete_frames, video.frames);
    second.close().await;
    until("all have left", || rig.app.streams().is_empty()).await;
    rig.stop().await;
}

async fn unusable_offer_does_not_take_over_the_stream() {
    let (rig, [token, _]) = with_tokens().await;
    let publisher = Publisher::connect(&rig.whip("live"), test_card(), Some(token.expose()))
        .await
        .unwrap();
    let viewer = Viewer::connect(&rig.whep("live"), None).await.unwrap();
    has_frames(&viewer, "VP8", 5).await;
    let ice = IceCredentials {
        ufrag: "idle".into(),
        pwd: "0123456789012345678901".into(),
    };
    let offer = write_offer(&OfferParams {
        ice: &ice,
        fingerprint: Certificate::generate().unwrap().fingerprint(),
        active: true,
        publishes: true,
        rtx: true,
    });
    let unusable = ["VP8", "VP9", "H264", "AV1"]
        .iter()
        .fold(offer, |offer, codec| offer.replace(codec, "XYZ"));
    for offer in ["v=0".to_owned(), unusable.replace("opus", "wxyz")] {
        assert!(
            post_offer(&rig.whip("live"), offer, Some(token.expose()))
                .await
                .is_err()
        );
    }
    let seen = viewer.report(Kind::Video).frames;
    has_frames(&viewer, "VP8", seen + 10).await;
    viewer.close().await;
    publisher.close().await;
    rig.stop().await;
}
