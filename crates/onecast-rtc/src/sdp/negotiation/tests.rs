//! One rule each, with a client whose every description the tests control.

mod errors;
mod offers;
mod real;
mod walk;

use super::testing::{Client, Line, Section, params, sections};
use super::*;
use crate::rtp::Ssrc;
use crate::{DtlsRole, PeerFingerprint};

fn track(stream: u32, kind: Kind) -> WantedTrack {
    let codecs = match kind {
        Kind::Audio => vec![Codec::Opus],
        Kind::Video => vec![Codec::Vp8],
    };
    WantedTrack {
        id: TrackId { stream, kind },
        ssrc: Ssrc(stream * 10 + 1 + kind as u32 * 4),
        rtx_ssrc: Ssrc(stream * 10 + 2),
        stream: format!("m{stream}.0").into(),
        codecs,
    }
}

fn video(stream: u32) -> WantedTrack {
    track(stream, Kind::Video)
}

/// A negotiation after the client's first offer: a microphone and a camera.
fn joined() -> (Negotiation, Client) {
    let mut client = Client::default();
    client.add(Kind::Audio, "cam");
    client.add(Kind::Video, "cam");
    let mut negotiation = Negotiation::new();
    offer_of(&mut negotiation, &mut client).unwrap();
    (negotiation, client)
}

/// The client offers as it is now, and takes the answer.
fn offer_of(negotiation: &mut Negotiation, client: &mut Client) -> Result<String, SdpError> {
    let answer = negotiation.handle_offer(&client.offer(), &params())?;
    client.take_answer(&answer);
    Ok(answer)
}

/// We offer, and the client answers.
fn settle(negotiation: &mut Negotiation, client: &mut Client, wanted: &[WantedTrack]) -> String {
    assert!(negotiation.needs_offer(wanted));
    let offer = negotiation.offer(wanted, &params());
    negotiation.handle_answer(&client.answer(&offer)).unwrap();
    assert!(!negotiation.needs_offer(wanted), "{offer}");
    offer
}

fn sent(negotiation: &Negotiation) -> Vec<(String, u32)> {
    let sent = negotiation.sent();
    sent.map(|sent| (sent.line.mid.to_string(), sent.track.stream))
        .collect()
}

fn directions(sdp: &str) -> Vec<String> {
    let sections = sections(sdp);
    sections.into_iter().map(|section| section.direction).collect()
}

#[test]
fn a_sending_client_is_answered_with_all_common_codecs() {
    let (mut negotiation, mut client) = joined();
    let answer = offer_of(&mut negotiation, &mut client).unwrap();
    assert_eq!(directions(&answer), ["recvonly", "recvonly"]);
    assert!(answer.starts_with("v=0\r\no=- 42 3 IN IP4 "), "{answer}");
    assert!(answer.contains("a=group:BUNDLE 0 1\r\n") && answer.matches("a=candidate:").count() == 1);
    let received: Vec<_> = negotiation.received().collect();
    assert_eq!(
        received.iter().map(|r| (&*r.stream, &*r.line.mid)).collect::<Vec<_>>(),
        [("cam", "0"), ("cam", "1")]
    );
    assert_eq!(received[0].line.extensions.audio_level, Some(1));
    assert_eq!(received[1].line.extensions.mid, Some(4));
    assert_eq!(received[1].line.formats.len(), 2);
    assert!(
        received[1]
            .line
            .formats
            .iter()
            .all(|format| format.transport_cc && format.nack && format.pli)
    );
    assert_eq!(negotiation.remote().unwrap().role, DtlsRole::Server);
    assert_eq!((negotiation.lines(), negotiation.sent().count()), (2, 0));
}

#[test]
fn a_track_is_sent_once_its_offer_is_answered() {
    let (mut negotiation, mut client) = joined();
    assert!(!negotiation.needs_offer(&[]));
    let wanted = [video(7), track(7, Kind::Audio)];
    assert!(negotiation.needs_offer(&wanted));
    let offer = negotiation.offer(&wanted, &params());
    assert!(negotiation.is_offering() && negotiation.sent().next().is_none() && !negotiation.needs_offer(&wanted));
    let offered: Vec<_> = negotiation
        .offered()
        .map(|(mid, track)| (mid.to_owned(), track))
        .collect();
    assert_eq!(
        offered,
        [("s0".to_owned(), wanted[0].id), ("s1".to_owned(), wanted[1].id)]
    );
    assert_eq!(directions(&offer), ["recvonly", "recvonly", "sendonly", "sendonly"]);
    assert!(offer.contains("a=group:BUNDLE 0 1 s0 s1\r\n") && offer.contains("a=setup:actpass\r\n"));
    assert!(
        offer.contains("a=msid:m7.0 m7.0-video\r\na=ssrc-group:FID 75 72\r\na=ssrc:75 "),
        "{offer}"
    );
    assert!(offer.contains("a=msid:m7.0 m7.0-audio\r\na=ssrc:71 "));
    negotiation.handle_answer(&client.answer(&offer)).unwrap();
    assert_eq!(sent(&negotiation), [("s0".into(), 7), ("s1".into(), 7)]);
    assert!(!negotiation.is_offering() && !negotiation.needs_offer(&wanted) && negotiation.offered().next().is_none());
    assert_eq!(negotiation.received().count(), 2);
}

#[test]
fn a_withdrawn_offer_leaves_nothing_behind() {
    let (mut negotiation, _) = joined();
    negotiation.offer(&[video(7)], &params());
    negotiation.withdraw();
    assert_eq!(
        (
            negotiation.is_offering(),
            negotiation.lines(),
            negotiation.needs_offer(&[video(7)])
        ),
        (false, 2, true)
    );
    assert_eq!(
        negotiation.handle_answer("v=0").unwrap_err().fault,
        Fault::NoOfferPending
    );
    let again = negotiation.offer(&[video(8)], &params());
    assert!(
        again.contains("a=mid:s0\r\n") && again.starts_with("v=0\r\no=- 42 4 "),
        "{again}"
    );
}

#[test]
fn a_line_whose_track_has_ended_is_reused() {
    let (mut negotiation, mut client) = joined();
    settle(&mut negotiation, &mut client, &[video(7), video(8)]);
    let gone = settle(&mut negotiation, &mut client, &[video(8)]);
    assert_eq!(directions(&gone)[2..], ["inactive", "sendonly"]);
    assert_eq!(sent(&negotiation), [("s1".into(), 8)]);
    settle(&mut negotiation, &mut client, &[video(8), video(9)]);
    assert_eq!(sent(&negotiation), [("s0".into(), 9), ("s1".into(), 8)]);
    assert_eq!(negotiation.lines(), 4);
}

/// Browsers tell the page of a new track only where a line begins to send.
#[test]
fn a_track_does_not_take_the_place_of_another_in_one_offer() {
    let (mut negotiation, mut client) = joined();
    settle(&mut negotiation, &mut client, &[video(7)]);
    let offer = settle(&mut negotiation, &mut client, &[video(8)]);
    assert_eq!(directions(&offer)[2..], ["inactive", "sendonly"]);
    settle(&mut negotiation, &mut client, &[video(9)]);
    assert_eq!((sent(&negotiation), negotiation.lines()), (vec![("s0".into(), 9)], 4));
}

#[test]
fn a_removed_track_is_not_sent_while_the_offer_waits() {
    let (mut negotiation, mut client) = joined();
    settle(&mut negotiation, &mut client, &[video(7), video(8)]);
    negotiation.offer(&[video(8), video(9)], &params());
    assert_eq!(sent(&negotiation), [("s1".into(), 8)]);
}

#[test]
fn lines_on_which_the_client_only_receives_are_places_for_tracks() {
    let mut client = Client::default();
    client.add(Kind::Video, "cam");
    client.add_place(Kind::Video);
    let mut negotiation = Negotiation::new();
    let answer = offer_of(&mut negotiation, &mut client).unwrap();
    assert_eq!(directions(&answer), ["recvonly", "inactive"]);
    settle(&mut negotiation, &mut client, &[video(7)]);
    assert_eq!((sent(&negotiation), negotiation.lines()), (vec![("1".into(), 7)], 2));
    let again = offer_of(&mut negotiation, &mut client).unwrap();
    assert_eq!(directions(&again), ["recvonly", "sendonly"]);
    assert!(again.contains("a=msid:m7.0 m7.0-video\r\na=ssrc-group:FID "));
}

#[test]
fn a_camera_is_switched_off_and_on_on_its_own_line() {
    let (mut negotiation, mut client) = joined();
    settle(&mut negotiation, &mut client, &[video(7)]);
    client.lines[1].sends = false;
    let answer = offer_of(&mut negotiation, &mut client).unwrap();
    assert_eq!(directions(&answer), ["recvonly", "inactive", "sendonly"]);
    assert_eq!(negotiation.received().count(), 1);
    client.lines[1].takes = true;
    offer_of(&mut negotiation, &mut client).unwrap();
    settle(&mut negotiation, &mut client, &[video(7), video(8)]);
    assert_eq!(
        sent(&negotiation),
        [("s0".into(), 7), ("s1".into(), 8)],
        "the camera's line stays the camera's"
    );
    client.lines[1].sends = true;
    offer_of(&mut negotiation, &mut client).unwrap();
    assert_eq!(negotiation.received().count(), 2);
}

/// `addTrack` of a browser takes the transceiver of a line on which it only receives so far.
#[test]
fn a_client_may_send_on_a_line_of_the_server() {
    let (mut negotiation, mut client) = joined();
    settle(&mut negotiation, &mut client, &[video(7)]);
    (client.lines[2].sends, client.lines[2].details) = (true, None);
    let answer = offer_of(&mut negotiation, &mut client).unwrap();
    assert_eq!(directions(&answer)[2..], ["sendrecv"]);
    assert_eq!(sent(&negotiation), [("s0".into(), 7)]);
    assert_eq!(negotiation.received().last().unwrap().line.extensions.mid, Some(4));
    let gone = settle(&mut negotiation, &mut client, &[]);
    assert_eq!(directions(&gone)[2..], ["recvonly"]);
    assert_eq!((negotiation.received().count(), negotiation.sent().count()), (3, 0));
    settle(&mut negotiation, &mut client, &[video(8)]);
    assert_eq!(sent(&negotiation), [("s1".into(), 8)], "it is the client's own now");
}

#[test]
fn the_client_may_reuse_a_stopped_line() {
    let (mut negotiation, mut client) = joined();
    client.lines[1].is_stopped = true;
    let answer = offer_of(&mut negotiation, &mut client).unwrap();
    assert!(
        answer.contains("m=video 0 ") && answer.contains("a=group:BUNDLE 0\r\n"),
        "{answer}"
    );
    client.lines[1] = Line::sending("9", Kind::Audio, "screen");
    offer_of(&mut negotiation, &mut client).unwrap();
    let received: Vec<_> = negotiation
        .received()
        .map(|r| (&*r.stream, &*r.line.mid, r.line.kind))
        .collect();
    assert_eq!(received, [("cam", "0", Kind::Audio), ("screen", "9", Kind::Audio)]);
}

#[test]
fn a_stopped_line_may_become_a_data_channel() {
    let (mut negotiation, mut client) = joined();
    client.lines[1].is_stopped = true;
    offer_of(&mut negotiation, &mut client).unwrap();
    let channel = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:9\r\n";
    let offer = client.offer();
    let offer = offer[..offer.find("m=video").unwrap()].to_owned() + channel;
    let answer = negotiation.handle_offer(&offer, &params()).unwrap();
    assert!(
        answer.contains("m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:9\r\n"),
        "{answer}"
    );
}

#[test]
fn a_client_may_stop_all_its_lines_and_stay() {
    let (mut negotiation, mut client) = joined();
    client.lines.iter_mut().for_each(|line| line.is_stopped = true);
    offer_of(&mut negotiation, &mut client).unwrap();
    assert_eq!((negotiation.received().count(), negotiation.lines()), (0, 2));
    settle(&mut negotiation, &mut client, &[video(7)]);
    assert_eq!(sent(&negotiation), [("s0".into(), 7)]);
}

#[test]
fn a_line_that_the_client_turns_off_stays_off_until_it_turns_it_on() {
    let (mut negotiation, mut client) = joined();
    settle(&mut negotiation, &mut client, &[video(7)]);
    client.lines[2].takes = false;
    let answer = offer_of(&mut negotiation, &mut client).unwrap();
    assert_eq!(directions(&answer)[2..], ["inactive"]);
    assert!(negotiation.sent().next().is_none() && !negotiation.needs_offer(&[video(7)]));
    client.lines[2].takes = true;
    let answer = offer_of(&mut negotiation, &mut client).unwrap();
    assert_eq!(directions(&answer)[2..], ["sendonly"]);
    assert!(answer.contains("a=msid:m7.0 m7.0-video\r\n"));
    assert_eq!(sent(&negotiation), [("s0".into(), 7)]);
}

#[test]
fn a_rejected_line_is_dead_and_its_track_not_offered_again() {
    let (mut negotiation, mut client) = joined();
    client.rejects = vec![7];
    settle(&mut negotiation, &mut client, &[video(7), video(8)]);
    assert_eq!(sent(&negotiation), [("s1".into(), 8)]);
    settle(&mut negotiation, &mut client, &[video(7)]);
    settle(&mut negotiation, &mut client, &[video(7), video(9)]);
    assert_eq!(
        (sent(&negotiation), negotiation.lines()),
        (vec![("s1".into(), 9)], 4),
        "the dead line is left alone"
    );
    let answer = offer_of(&mut negotiation, &mut client).unwrap();
    assert!(sections(&answer)[2].port == 0);
}

#[test]
fn a_client_that_rejects_every_track_of_a_kind_is_left_alone() {
    let (mut negotiation, mut client) = joined();
    client.rejects = (0..100).collect();
    let mut wanted = Vec::new();
    for stream in 0..20 {
        wanted.push(video(stream));
        if negotiation.needs_offer(&wanted) {
            settle(&mut negotiation, &mut client, &wanted);
        }
    }
    assert_eq!(negotiation.lines(), 6);
    assert!(negotiation.needs_offer(&[track(30, Kind::Audio)]));
}

#[test]
fn an_answer_cannot_send_on_a_line_of_the_server() {
    let (mut negotiation, mut client) = joined();
    let offer = negotiation.offer(&[video(7)], &params());
    let answer = client.answer(&offer).replace("a=recvonly", "a=sendrecv");
    negotiation.handle_answer(&answer).unwrap();
    assert_eq!(
        (sent(&negotiation), negotiation.received().count()),
        (vec![("s0".into(), 7)], 2)
    );
}

#[test]
fn a_camera_may_be_switched_off_while_an_offer_waits() {
    let (mut negotiation, mut client) = joined();
    let offer = negotiation.offer(&[video(7)], &params());
    client.lines[1].sends = false;
    negotiation.handle_answer(&client.answer(&offer)).unwrap();
    assert_eq!(negotiation.received().map(|r| &*r.line.mid).collect::<Vec<_>>(), ["0"]);
    let next = settle(&mut negotiation, &mut client, &[video(7), video(8)]);
    assert_eq!(directions(&next)[..2], ["recvonly", "inactive"]);
}

#[test]
fn roles_of_the_handshake_stay_while_the_certificate_does() {
    let mut client = Client {
        setup: "passive",
        ..Client::default()
    };
    client.add(Kind::Audio, "");
    let mut negotiation = Negotiation::new();
    assert!(
        offer_of(&mut negotiation, &mut client)
            .unwrap()
            .contains("a=setup:active\r\n")
    );
    client.setup = "actpass";
    assert!(
        offer_of(&mut negotiation, &mut client)
            .unwrap()
            .contains("a=setup:active\r\n")
    );
    let other = client.offer().replace("BB:BB", "CC:CC");
    assert!(
        negotiation
            .handle_offer(&other, &params())
            .unwrap()
            .contains("a=setup:passive\r\n")
    );
    let [PeerFingerprint::Sha256(shown)] = negotiation.remote().unwrap().fingerprints[..] else {
        panic!("one certificate");
    };
    assert_eq!(shown.0[0], 0xCC);
}

fn section_of<'a>(all: &'a [Section], mid: &str) -> &'a Section {
    all.iter().find(|section| section.mid == mid).unwrap()
}
