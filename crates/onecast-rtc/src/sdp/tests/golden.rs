//! Whole descriptions of the server, byte by byte. A change here is a change of what clients see.

use super::*;
use crate::rtp::Ssrc;
use crate::sdp::negotiation::testing;

/// Compares with the file that holds the text.
fn check(name: &str, text: &str) {
    let path = format!(
        "{}/../../tests/data/descriptions/{name}.sdp",
        env!("CARGO_MANIFEST_DIR")
    );
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!(text, expected, "{path}");
}

fn track(stream: u32, kind: Kind, codecs: &[Codec]) -> WantedTrack {
    WantedTrack {
        id: TrackId { stream, kind },
        ssrc: Ssrc(stream * 10 + 1 + kind as u32 * 4),
        rtx_ssrc: Ssrc(stream * 10 + 2),
        stream: format!("m{stream}.0").into(),
        codecs: codecs.to_vec(),
    }
}

#[test]
fn answers_to_broadcasts() {
    for name in [
        "chromium156-watch",
        "firefox153-publish",
        "ffmpeg8-publish",
        "obs31-publish",
    ] {
        check(&format!("answer-to-{name}"), &answer_file(name).sdp);
    }
}

#[test]
fn counter_offers() {
    let ice = testing::params().ice;
    let candidates = testing::params().candidates;
    let params = AnswerParams {
        ice: &ice,
        fingerprint: Fingerprint([0xAB; 32]),
        candidates: &candidates,
        session_id: 42,
        stream: "live",
    };
    let offer = CounterOffer {
        params: &params,
        ssrcs: SSRCS,
        live: &[Codec::Opus, Codec::H264],
    };
    check("counter-offer", &offer.write());
}

#[test]
fn rooms() {
    let mut negotiation = Negotiation::new();
    let params = testing::params();
    let publishes = file("chromium156-publish");
    check("room-answer", &negotiation.handle_offer(&publishes, &params).unwrap());
    let wanted = [
        track(7, Kind::Audio, &[Codec::Opus]),
        track(7, Kind::Video, &[Codec::Vp8]),
        track(8, Kind::Video, &[Codec::H265, Codec::H264]),
    ];
    check("room-offer", &negotiation.offer(&wanted, &params));
    negotiation.withdraw();
    let stopped = publishes.replace("m=audio 9", "m=audio 0");
    check(
        "room-answer-to-stopped",
        &negotiation.handle_offer(&stopped, &params).unwrap(),
    );
}
