//! Body of the fuzz target: whatever a client says, the state of its lines stays whole.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};

use super::super::MAX_CALL_LINES;
use super::state::State;
use super::{Call, CallError, CallParams, TrackId, WantedTrack};
use crate::rtp::{Codec, Kind};
use crate::{Fingerprint, IceCredentials};

/// The first text offers, the last one offers again and answers an offer of ours.
pub fn fuzz(text: &str) {
    let (first, last) = text.split_once("\n---\n").unwrap_or((text, text));
    let mut call = Call::new();
    for offer in [first, last] {
        said(&mut call, |call| call.handle_offer(offer, &params()).map(drop));
    }
    if call.remote().is_none() {
        return;
    }
    let all = wanted();
    for wanted in [&all[..], &all[1..], &all[..1]] {
        let before = call.sent().count();
        let offer = call.offer(wanted, &params());
        check_text(&offer);
        assert!(call.sent().count() <= before, "a track is sent before its answer");
        assert!(matches!(
            call.handle_offer(last, &params()),
            Err(CallError::OfferPending)
        ));
        said(&mut call, |call| call.handle_answer(last));
        if call.is_offering() {
            call.withdraw();
            let mirrored = mirrored(&offer);
            call.offer(wanted, &params());
            said(&mut call, |call| call.handle_answer(&mirrored));
        }
        assert!(!call.is_offering(), "what answers all that we offer is taken");
        assert!(!call.needs_offer(wanted), "what was answered is settled");
        said(&mut call, |call| call.handle_offer(last, &params()).map(drop));
    }
}

/// A refusal changes nothing and can be shown; whatever comes of it is whole.
fn said(call: &mut Call, handle: impl FnOnce(&mut Call) -> Result<(), CallError>) {
    let before = summary(call);
    match handle(call) {
        Ok(()) => check(&call.agreed),
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control), "{error}");
            assert_eq!(summary(call), before, "refused, and yet changed");
        }
    }
    let tracks: Vec<TrackId> = call.sent().map(|sent| sent.track).collect();
    assert_eq!(
        tracks.iter().collect::<HashSet<_>>().len(),
        tracks.len(),
        "a track on two lines"
    );
}

fn summary(call: &Call) -> (usize, u64, bool, Vec<String>) {
    let sent = call.sent().map(|sent| format!("{sent:?}"));
    let received = call.received().map(|received| format!("{received:?}"));
    (
        call.lines(),
        call.version,
        call.is_offering(),
        sent.chain(received).collect(),
    )
}

fn check(state: &State) {
    assert!(state.lines.len() <= MAX_CALL_LINES && state.remote.is_some());
    let mut mids = HashSet::new();
    for line in state.lines.iter().filter(|line| !line.is_dead) {
        assert!(!line.mid.is_empty() && mids.insert(&line.mid) && !line.formats.is_empty());
        let sent = line.sent.as_ref().map(|sent| &sent.line);
        for agreed in line
            .received
            .as_ref()
            .map(|received| &received.line)
            .into_iter()
            .chain(sent)
        {
            assert!(agreed.mid == line.mid && Some(agreed.kind) == line.kind && !agreed.formats.is_empty());
        }
    }
    assert_eq!(
        state.alive().collect::<HashSet<_>>().len(),
        mids.len(),
        "all lines are in the bundle"
    );
}

fn check_text(sdp: &str) {
    assert!(sdp.starts_with("v=0\r\n") && sdp.ends_with("\r\n"));
    for line in sdp.split_terminator("\r\n") {
        assert!(line.len() > 2 && line.as_bytes()[1] == b'=', "{line:?}");
        assert!(!line.contains(|c: char| c.is_ascii_control() && c != '\t'), "{line:?}");
    }
}

/// What a client answers that takes all that we offer, and sends what it may.
fn mirrored(offer: &str) -> String {
    let swapped = offer
        .replace("a=sendonly\r\n", "a=x\r\n")
        .replace("a=recvonly\r\n", "a=sendonly\r\n");
    let swapped = swapped
        .replace("a=x\r\n", "a=recvonly\r\n")
        .replace("a=setup:actpass", "a=setup:active");
    swapped.replace("a=ice-lite\r\n", "")
}

fn wanted() -> Vec<WantedTrack> {
    let track = |stream, kind, codecs: &[Codec]| WantedTrack {
        id: TrackId { stream, kind },
        ssrc: stream * 2 + 1,
        rtx_ssrc: stream * 2 + 2,
        stream: format!("m{stream}.0").into(),
        codecs: codecs.to_vec(),
    };
    vec![
        track(1, Kind::Video, &[Codec::Vp8, Codec::Av1]),
        track(2, Kind::Audio, &[Codec::Opus]),
        track(3, Kind::Video, &[Codec::H264]),
    ]
}

fn params() -> CallParams {
    CallParams {
        ice: IceCredentials {
            ufrag: "fuzz".into(),
            pwd: "0123456789012345678901".into(),
        },
        fingerprint: Fingerprint([7; 32]),
        candidates: vec![SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 8080)],
        session_id: 1,
    }
}
