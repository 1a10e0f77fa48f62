//! SDP cost of a join: parsing an offer and writing the answer.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{Criterion, criterion_group, criterion_main};
use onecast_rtc::rtp::Ssrc;
use onecast_rtc::sdp::{AnswerParams, Offer, Role, TrackSsrcs};
use onecast_rtc::{Fingerprint, IceCredentials};

const CHROMIUM_WATCH: &str = include_str!("../tests/data/offers/chromium156-watch.sdp");
const FIREFOX_WATCH: &str = include_str!("../tests/data/offers/firefox153-watch.sdp");

fn offer_to_answer(c: &mut Criterion) {
    let ice = IceCredentials {
        ufrag: "ours".into(),
        pwd: "0123456789012345678901".into(),
    };
    let candidates = [SocketAddr::from(([192, 0, 2, 1], 8080))];
    let params = AnswerParams {
        ice: &ice,
        fingerprint: Fingerprint([7; 32]),
        candidates: &candidates,
        session_id: 1,
        stream: "live",
    };
    let role = Role::Viewer(TrackSsrcs {
        video: Ssrc(1),
        video_rtx: Ssrc(2),
        audio: Ssrc(3),
    });
    for (name, text) in [("chromium watch", CHROMIUM_WATCH), ("firefox watch", FIREFOX_WATCH)] {
        c.bench_function(&format!("sdp parse, {name}"), |b| {
            b.iter(|| Offer::parse(black_box(text)).is_ok())
        });
        c.bench_function(&format!("sdp parse and answer, {name}"), |b| {
            b.iter(|| {
                let offer = Offer::parse(black_box(text)).expect("a real offer");
                offer.answer(role, &params).expect("a viewer's offer").sdp.len()
            });
        });
    }
}

criterion_group!(benches, offer_to_answer);
criterion_main!(benches);
