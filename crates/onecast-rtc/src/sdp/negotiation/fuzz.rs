//! Body of the fuzz target `sdp_call`: whatever a client sends, the state of its lines stays consistent.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};

use super::super::MAX_CALL_LINES;
use super::state::State;
use super::{Fault, Negotiation, NegotiationParams, SdpError, TrackId, WantedTrack};
use crate::rtp::{Codec, Kind, Ssrc};
use crate::{Fingerprint, IceCredentials};

/// The first text is an offer; the last one is another offer, and the answer to an offer of the server.
pub fn fuzz(text: &str) {
    let (first, last) = text.split_once("\n---\n").unwrap_or((text, text));
    let mut negotiation = Negotiation::new();
    for offer in [first, last] {
        said(&mut negotiation, |negotiation| {
            negotiation.handle_offer(offer, &params()).map(drop)
        });
    }
    if negotiation.remote().is_none() {
        return;
    }
    let all = wanted();
    for wanted in [&all[..], &all[1..], &all[..1]] {
        let before = negotiation.sent().count();
        let offer = negotiation.offer(wanted, &params());
        check_text(&offer);
        assert!(
            negotiation.sent().count() <= before,
            "a track is sent before its answer"
        );
        let crossing = negotiation.handle_offer(last, &params());
        assert!(crossing.is_err_and(|error| error.fault == Fault::OfferPending));
        said(&mut negotiation, |negotiation| negotiation.handle_answer(last));
        if negotiation.is_offering() {
            negotiation.withdraw();
            let mirrored = mirrored(&offer);
            negotiation.offer(wanted, &params());
            said(&mut negotiation, |negotiation| negotiation.handle_answer(&mirrored));
        }
        assert!(
            !negotiation.is_offering(),
            "an answer that takes all of the offer is refused"
        );
        assert!(!negotiation.needs_offer(wanted), "an answer does not settle the offer");
        said(&mut negotiation, |negotiation| {
            negotiation.handle_offer(last, &params()).map(drop)
        });
    }
}

/// A refusal changes nothing and can be shown to people; any other outcome is consistent.
fn said(negotiation: &mut Negotiation, handle: impl FnOnce(&mut Negotiation) -> Result<(), SdpError>) {
    let before = summary(negotiation);
    match handle(negotiation) {
        Ok(()) => check(&negotiation.agreed),
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control), "{error}");
            assert_eq!(summary(negotiation), before, "a refusal changes the state");
        }
    }
    let tracks: Vec<TrackId> = negotiation.sent().map(|sent| sent.track).collect();
    assert_eq!(
        tracks.iter().collect::<HashSet<_>>().len(),
        tracks.len(),
        "a track on two lines"
    );
}

fn summary(negotiation: &Negotiation) -> (usize, u64, bool, Vec<String>) {
    let sent = negotiation.sent().map(|sent| format!("{sent:?}"));
    let received = negotiation.received().map(|received| format!("{received:?}"));
    (
        negotiation.lines(),
        negotiation.version,
        negotiation.is_offering(),
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
            assert!(*agreed.mid == *line.mid && Some(agreed.kind) == line.kind && !agreed.formats.is_empty());
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

/// The answer of a client that takes all of the offer, and sends all that it may.
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
        ssrc: Ssrc(stream * 2 + 1),
        rtx_ssrc: Ssrc(stream * 2 + 2),
        stream: format!("m{stream}.0").into(),
        codecs: codecs.to_vec(),
    };
    vec![
        track(1, Kind::Video, &[Codec::Vp8, Codec::Av1]),
        track(2, Kind::Audio, &[Codec::Opus]),
        track(3, Kind::Video, &[Codec::H264]),
    ]
}

fn params() -> NegotiationParams {
    NegotiationParams {
        ice: IceCredentials {
            ufrag: "fuzz".into(),
            pwd: "0123456789012345678901".into(),
        },
        fingerprint: Fingerprint([7; 32]),
        candidates: vec![SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 8080)],
        session_id: 1,
    }
}
