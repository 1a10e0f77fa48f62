//! One rule each, with a client of which the tests decide every word.

mod errors;
mod offers;
mod real;
mod walk;

use super::*;
use crate::sdp::call::testing::{Client, Line, Section, params, sections};
use crate::{DtlsRole, PeerFingerprint};

fn track(stream: u32, kind: Kind) -> WantedTrack {
    let codecs = match kind {
        Kind::Audio => vec![Codec::Opus],
        Kind::Video => vec![Codec::Vp8],
    };
    WantedTrack {
        id: TrackId { stream, kind },
        ssrc: stream * 10 + 1 + kind as u32 * 4,
        rtx_ssrc: stream * 10 + 2,
        stream: format!("m{stream}.0").into(),
        codecs,
    }
}

fn video(stream: u32) -> WantedTrack {
    track(stream, Kind::Video)
}

/// A call after the client's first offer: a microphone and a camera.
fn joined() -> (Call, Client) {
    let mut client = Client::default();
    client.add(Kind::Audio, "cam");
    client.add(Kind::Video, "cam");
    let mut call = Call::new();
    offer_of(&mut call, &mut client).unwrap();
    (call, client)
}

/// The client offers as it is now, and takes the answer.
fn offer_of(call: &mut Call, client: &mut Client) -> Result<String, CallError> {
    let answer = call.handle_offer(&client.offer(), &params())?;
    client.take_answer(&answer);
    Ok(answer)
}

/// We offer, and the client answers.
fn settle(call: &mut Call, client: &mut Client, wanted: &[WantedTrack]) -> String {
    assert!(call.needs_offer(wanted));
    let offer = call.offer(wanted, &params());
    call.handle_answer(&client.answer(&offer)).unwrap();
    assert!(!call.needs_offer(wanted), "{offer}");
    offer
}

fn sent(call: &Call) -> Vec<(String, u32)> {
    let sent = call.sent();
    sent.map(|sent| (sent.line.mid.to_string(), sent.track.stream))
        .collect()
}

fn directions(sdp: &str) -> Vec<String> {
    let sections = sections(sdp);
    sections.into_iter().map(|section| section.direction).collect()
}

#[test]
fn a_client_that_sends_is_answered_with_all_that_both_can_carry() {
    let (mut call, mut client) = joined();
    let answer = offer_of(&mut call, &mut client).unwrap();
    assert_eq!(directions(&answer), ["recvonly", "recvonly"]);
    assert!(answer.starts_with("v=0\r\no=- 42 3 IN IP4 "), "{answer}");
    assert!(answer.contains("a=group:BUNDLE 0 1\r\n") && answer.matches("a=candidate:").count() == 1);
    let received: Vec<_> = call.received().collect();
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
    assert_eq!(call.remote().unwrap().role, DtlsRole::Server);
    assert_eq!((call.lines(), call.sent().count()), (2, 0));
}

#[test]
fn a_track_is_sent_once_its_offer_is_answered() {
    let (mut call, mut client) = joined();
    assert!(!call.needs_offer(&[]));
    let wanted = [video(7), track(7, Kind::Audio)];
    assert!(call.needs_offer(&wanted));
    let offer = call.offer(&wanted, &params());
    assert!(call.is_offering() && call.sent().next().is_none() && !call.needs_offer(&wanted));
    let offered: Vec<_> = call.offered().map(|(mid, track)| (mid.to_owned(), track)).collect();
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
    call.handle_answer(&client.answer(&offer)).unwrap();
    assert_eq!(sent(&call), [("s0".into(), 7), ("s1".into(), 7)]);
    assert!(!call.is_offering() && !call.needs_offer(&wanted) && call.offered().next().is_none());
    assert_eq!(call.received().count(), 2);
}

#[test]
fn a_withdrawn_offer_leaves_nothing_behind() {
    let (mut call, _) = joined();
    call.offer(&[video(7)], &params());
    call.withdraw();
    assert_eq!(
        (call.is_offering(), call.lines(), call.needs_offer(&[video(7)])),
        (false, 2, true)
    );
    assert_eq!(call.handle_answer("v=0"), Err(CallError::NoOffer));
    let again = call.offer(&[video(8)], &params());
    assert!(
        again.contains("a=mid:s0\r\n") && again.starts_with("v=0\r\no=- 42 4 "),
        "{again}"
    );
}

#[test]
fn a_line_whose_track_has_gone_is_used_again() {
    let (mut call, mut client) = joined();
    settle(&mut call, &mut client, &[video(7), video(8)]);
    let gone = settle(&mut call, &mut client, &[video(8)]);
    assert_eq!(directions(&gone)[2..], ["inactive", "sendonly"]);
    assert_eq!(sent(&call), [("s1".into(), 8)]);
    settle(&mut call, &mut client, &[video(8), video(9)]);
    assert_eq!(sent(&call), [("s0".into(), 9), ("s1".into(), 8)]);
    assert_eq!(call.lines(), 4);
}

/// Browsers tell the page of a new track only where a line begins to send.
#[test]
fn a_track_does_not_take_the_place_of_another_in_one_offer() {
    let (mut call, mut client) = joined();
    settle(&mut call, &mut client, &[video(7)]);
    let offer = settle(&mut call, &mut client, &[video(8)]);
    assert_eq!(directions(&offer)[2..], ["inactive", "sendonly"]);
    settle(&mut call, &mut client, &[video(9)]);
    assert_eq!((sent(&call), call.lines()), (vec![("s0".into(), 9)], 4));
}

#[test]
fn what_is_taken_away_is_not_sent_while_the_offer_waits() {
    let (mut call, mut client) = joined();
    settle(&mut call, &mut client, &[video(7), video(8)]);
    call.offer(&[video(8), video(9)], &params());
    assert_eq!(sent(&call), [("s1".into(), 8)]);
}

#[test]
fn lines_on_which_the_client_only_receives_are_places_for_tracks() {
    let mut client = Client::default();
    client.add(Kind::Video, "cam");
    client.add_place(Kind::Video);
    let mut call = Call::new();
    let answer = offer_of(&mut call, &mut client).unwrap();
    assert_eq!(directions(&answer), ["recvonly", "inactive"]);
    settle(&mut call, &mut client, &[video(7)]);
    assert_eq!((sent(&call), call.lines()), (vec![("1".into(), 7)], 2));
    let again = offer_of(&mut call, &mut client).unwrap();
    assert_eq!(directions(&again), ["recvonly", "sendonly"]);
    assert!(again.contains("a=msid:m7.0 m7.0-video\r\na=ssrc-group:FID "));
}

#[test]
fn a_camera_goes_off_and_on_on_its_own_line() {
    let (mut call, mut client) = joined();
    settle(&mut call, &mut client, &[video(7)]);
    client.lines[1].sends = false;
    let answer = offer_of(&mut call, &mut client).unwrap();
    assert_eq!(directions(&answer), ["recvonly", "inactive", "sendonly"]);
    assert_eq!(call.received().count(), 1);
    client.lines[1].takes = true;
    offer_of(&mut call, &mut client).unwrap();
    settle(&mut call, &mut client, &[video(7), video(8)]);
    assert_eq!(
        sent(&call),
        [("s0".into(), 7), ("s1".into(), 8)],
        "the camera's line stays the camera's"
    );
    client.lines[1].sends = true;
    offer_of(&mut call, &mut client).unwrap();
    assert_eq!(call.received().count(), 2);
}

/// `addTrack` of a browser takes the transceiver of a line on which it only receives so far.
#[test]
fn a_client_may_send_on_a_line_of_ours() {
    let (mut call, mut client) = joined();
    settle(&mut call, &mut client, &[video(7)]);
    (client.lines[2].sends, client.lines[2].details) = (true, None);
    let answer = offer_of(&mut call, &mut client).unwrap();
    assert_eq!(directions(&answer)[2..], ["sendrecv"]);
    assert_eq!(sent(&call), [("s0".into(), 7)]);
    assert_eq!(call.received().last().unwrap().line.extensions.mid, Some(4));
    let gone = settle(&mut call, &mut client, &[]);
    assert_eq!(directions(&gone)[2..], ["recvonly"]);
    assert_eq!((call.received().count(), call.sent().count()), (3, 0));
    settle(&mut call, &mut client, &[video(8)]);
    assert_eq!(sent(&call), [("s1".into(), 8)], "it is the client's own now");
}

#[test]
fn a_stopped_place_comes_back_as_the_client_likes() {
    let (mut call, mut client) = joined();
    client.lines[1].is_stopped = true;
    let answer = offer_of(&mut call, &mut client).unwrap();
    assert!(
        answer.contains("m=video 0 ") && answer.contains("a=group:BUNDLE 0\r\n"),
        "{answer}"
    );
    client.lines[1] = Line::sending("9", Kind::Audio, "screen");
    offer_of(&mut call, &mut client).unwrap();
    let received: Vec<_> = call
        .received()
        .map(|r| (&*r.stream, &*r.line.mid, r.line.kind))
        .collect();
    assert_eq!(received, [("cam", "0", Kind::Audio), ("screen", "9", Kind::Audio)]);
}

#[test]
fn a_stopped_place_may_become_a_data_channel() {
    let (mut call, mut client) = joined();
    client.lines[1].is_stopped = true;
    offer_of(&mut call, &mut client).unwrap();
    let channel = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:9\r\n";
    let offer = client.offer();
    let offer = offer[..offer.find("m=video").unwrap()].to_owned() + channel;
    let answer = call.handle_offer(&offer, &params()).unwrap();
    assert!(
        answer.contains("m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:9\r\n"),
        "{answer}"
    );
}

#[test]
fn all_of_a_clients_lines_may_be_stopped_while_the_call_goes_on() {
    let (mut call, mut client) = joined();
    client.lines.iter_mut().for_each(|line| line.is_stopped = true);
    offer_of(&mut call, &mut client).unwrap();
    assert_eq!((call.received().count(), call.lines()), (0, 2));
    settle(&mut call, &mut client, &[video(7)]);
    assert_eq!(sent(&call), [("s0".into(), 7)]);
}

#[test]
fn what_the_client_turns_off_is_settled_until_it_turns_it_on() {
    let (mut call, mut client) = joined();
    settle(&mut call, &mut client, &[video(7)]);
    client.lines[2].takes = false;
    let answer = offer_of(&mut call, &mut client).unwrap();
    assert_eq!(directions(&answer)[2..], ["inactive"]);
    assert!(call.sent().next().is_none() && !call.needs_offer(&[video(7)]));
    client.lines[2].takes = true;
    let answer = offer_of(&mut call, &mut client).unwrap();
    assert_eq!(directions(&answer)[2..], ["sendonly"]);
    assert!(answer.contains("a=msid:m7.0 m7.0-video\r\n"));
    assert_eq!(sent(&call), [("s0".into(), 7)]);
}

#[test]
fn a_rejected_line_is_dead_and_its_track_settled() {
    let (mut call, mut client) = joined();
    client.rejects = vec![7];
    settle(&mut call, &mut client, &[video(7), video(8)]);
    assert_eq!(sent(&call), [("s1".into(), 8)]);
    settle(&mut call, &mut client, &[video(7)]);
    settle(&mut call, &mut client, &[video(7), video(9)]);
    assert_eq!(
        (sent(&call), call.lines()),
        (vec![("s1".into(), 9)], 4),
        "the dead line is left alone"
    );
    let answer = offer_of(&mut call, &mut client).unwrap();
    assert!(sections(&answer)[2].port == 0);
}

#[test]
fn a_client_that_rejects_every_track_of_a_kind_is_left_alone() {
    let (mut call, mut client) = joined();
    client.rejects = (0..100).collect();
    let mut wanted = Vec::new();
    for stream in 0..20 {
        wanted.push(video(stream));
        if call.needs_offer(&wanted) {
            settle(&mut call, &mut client, &wanted);
        }
    }
    assert_eq!(call.lines(), 6);
    assert!(call.needs_offer(&[track(30, Kind::Audio)]));
}

#[test]
fn an_answer_that_sends_on_our_line_just_receives() {
    let (mut call, mut client) = joined();
    let offer = call.offer(&[video(7)], &params());
    let answer = client.answer(&offer).replace("a=recvonly", "a=sendrecv");
    call.handle_answer(&answer).unwrap();
    assert_eq!((sent(&call), call.received().count()), (vec![("s0".into(), 7)], 2));
}

#[test]
fn a_camera_may_go_off_while_our_offer_is_on_its_way() {
    let (mut call, mut client) = joined();
    let offer = call.offer(&[video(7)], &params());
    client.lines[1].sends = false;
    call.handle_answer(&client.answer(&offer)).unwrap();
    assert_eq!(call.received().map(|r| &*r.line.mid).collect::<Vec<_>>(), ["0"]);
    let next = settle(&mut call, &mut client, &[video(7), video(8)]);
    assert_eq!(directions(&next)[..2], ["recvonly", "inactive"]);
}

#[test]
fn roles_of_the_handshake_stay_while_the_certificate_does() {
    let mut client = Client {
        setup: "passive",
        ..Client::default()
    };
    client.add(Kind::Audio, "");
    let mut call = Call::new();
    assert!(offer_of(&mut call, &mut client).unwrap().contains("a=setup:active\r\n"));
    client.setup = "actpass";
    assert!(offer_of(&mut call, &mut client).unwrap().contains("a=setup:active\r\n"));
    let other = client.offer().replace("BB:BB", "CC:CC");
    assert!(
        call.handle_offer(&other, &params())
            .unwrap()
            .contains("a=setup:passive\r\n")
    );
    let [PeerFingerprint::Sha256(shown)] = call.remote().unwrap().fingerprints[..] else {
        panic!("one certificate");
    };
    assert_eq!(shown.0[0], 0xCC);
}

fn section_of<'a>(all: &'a [Section], mid: &str) -> &'a Section {
    all.iter().find(|section| section.mid == mid).unwrap()
}
