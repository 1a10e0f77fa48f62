//! Offers of real clients as the first of a negotiation.

use super::*;
use crate::rtp::Ssrc;

const CLIENTS: [&str; 11] = [
    "chromium156-publish",
    "chromium156-publish-simulcast",
    "chromium156-watch",
    "firefox153-publish",
    "firefox153-watch",
    "ffmpeg8-publish",
    "libdatachannel-obs-shaped-publish",
    "obs31-publish",
    "obs32-publish-simulcast",
    "safari18-publish",
    "safari18-watch",
];

fn file(name: &str) -> String {
    let path = format!("{}/../../tests/data/offers/{name}.sdp", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn every_client_can_join_and_be_offered_tracks() {
    for name in CLIENTS {
        let mut negotiation = Negotiation::new();
        let text = file(name);
        let answer = negotiation
            .handle_offer(&text, &params())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let publishes = name.contains("publish");
        let direction = if publishes { "recvonly" } else { "inactive" };
        assert_eq!(directions(&answer), [direction; 2], "{name}");
        assert_eq!(negotiation.received().count(), if publishes { 2 } else { 0 }, "{name}");
        let wanted = [track(7, Kind::Audio), video(7), video(8)];
        assert!(negotiation.needs_offer(&wanted), "{name}");
        let offer = negotiation.offer(&wanted, &params());
        walk::check_numbers(&offer);
        assert_eq!(sections(&offer).len(), if publishes { 5 } else { 3 }, "{name}");
        negotiation.withdraw();
        negotiation
            .handle_offer(&text, &params())
            .unwrap_or_else(|e| panic!("{name} again: {e}"));
    }
}

#[test]
fn lines_of_a_camera_carry_the_browsers_stream() {
    let mut negotiation = Negotiation::new();
    negotiation
        .handle_offer(&file("chromium156-publish"), &params())
        .unwrap();
    let streams: Vec<_> = negotiation.received().map(|received| &*received.stream).collect();
    assert_eq!(streams, ["2aa19f1c-31c5-49c5-94e2-54343e700d2c"; 2]);
    let video = &negotiation.received().nth(1).unwrap().line;
    assert_eq!(
        (video.ssrc, video.rtx_ssrc),
        (Some(Ssrc(4245385261)), Some(Ssrc(3169058596)))
    );
}

#[test]
fn a_data_channel_is_rejected_and_keeps_its_place() {
    let text = file("chromium156-publish")
        + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\na=sctp-port:5000\r\n";
    let text = text.replace("BUNDLE 0 1", "BUNDLE 0 1 2");
    let mut negotiation = Negotiation::new();
    let answer = negotiation.handle_offer(&text, &params()).unwrap();
    assert!(
        answer.contains("m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n") && answer.contains("BUNDLE 0 1\r\n")
    );
    let offer = negotiation.offer(&[video(7)], &params());
    assert!(offer.contains("m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n"));
    assert!(offer.contains("BUNDLE 0 1 s0\r\n"), "{offer}");
}
