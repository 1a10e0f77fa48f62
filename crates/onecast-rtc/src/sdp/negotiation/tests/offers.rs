//! The content of the server's offers.

use super::*;

#[test]
fn offers_use_the_clients_own_numbers() {
    let mut client = Client {
        numbers: [120, 126, 109],
        ..Client::default()
    };
    client.add(Kind::Video, "");
    let mut negotiation = Negotiation::new();
    offer_of(&mut negotiation, &mut client).unwrap();
    let offer = settle(&mut negotiation, &mut client, &[video(7), track(7, Kind::Audio)]);
    let all = sections(&offer);
    let names = |section: &Section| section.formats.clone();
    assert_eq!(names(&all[1]), [(120, "VP8/90000".into()), (121, "rtx/90000".into())]);
    assert_eq!(
        names(&all[2]),
        [(111, "opus/48000/2".into())],
        "the client has no audio line of its own"
    );
}

#[test]
fn numbers_of_the_server_avoid_those_in_use() {
    let mut client = Client {
        numbers: [111, 98, 45],
        ..Client::default()
    };
    client.add(Kind::Video, "");
    let mut negotiation = Negotiation::new();
    offer_of(&mut negotiation, &mut client).unwrap();
    let vp9 = WantedTrack {
        codecs: vec![Codec::Vp9],
        ..video(8)
    };
    let offer = settle(&mut negotiation, &mut client, &[track(7, Kind::Audio), vp9]);
    let all = sections(&offer);
    assert_eq!(all[1].formats, [(96, "opus/48000/2".into())], "111 is VP8");
    let numbers: Vec<u8> = all[2].formats.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [97, 100, 101, 102], "98 is H264, 99 its retransmissions");
    let ids: Vec<u8> = all[2].extensions.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [1, 5, 6], "2, 3 and 4 mean something else in the bundle");
    assert_eq!(
        all[1].extensions,
        [(
            1,
            "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time".into()
        )]
    );
}

#[test]
fn only_the_codecs_of_a_track_are_offered_and_a_change_needs_an_offer() {
    let (mut negotiation, mut client) = joined();
    let offer = settle(&mut negotiation, &mut client, &[video(7)]);
    assert_eq!(section_of(&sections(&offer), "s0").formats.len(), 2);
    let mut both = video(7);
    both.codecs = vec![Codec::H264, Codec::Vp8];
    let offer = settle(&mut negotiation, &mut client, &[both.clone()]);
    assert_eq!(
        section_of(&sections(&offer), "s0").formats[0],
        (102, "H264/90000".into())
    );
    assert_eq!(negotiation.sent().next().unwrap().line.formats.len(), 2);
    both.codecs.reverse();
    assert!(!negotiation.needs_offer(&[both]), "the order is no news");
}

#[test]
fn a_track_that_the_client_cannot_receive_is_not_offered() {
    let mut client = Client::default();
    client.add_place(Kind::Video);
    let mut negotiation = Negotiation::new();
    offer_of(&mut negotiation, &mut client).unwrap();
    let av1 = WantedTrack {
        codecs: vec![Codec::Av1],
        ..video(7)
    };
    assert!(!negotiation.needs_offer(std::slice::from_ref(&av1)));
    let (negotiation, _) = joined();
    assert!(
        negotiation.needs_offer(&[av1]),
        "a line that sends says nothing of what it receives"
    );
}

#[test]
fn a_room_of_a_hundred_is_well_under_a_quarter_of_a_mebibyte() {
    let (mut negotiation, mut client) = joined();
    let wanted: Vec<_> = (1..100)
        .flat_map(|stream| [track(stream, Kind::Audio), video(stream)])
        .collect();
    let offer = settle(&mut negotiation, &mut client, &wanted);
    assert_eq!((negotiation.lines(), negotiation.sent().count()), (200, 198));
    assert!(offer.len() < 160 * 1024, "{} bytes", offer.len());
    let answer = offer_of(&mut negotiation, &mut client).unwrap();
    assert!(answer.len() < 160 * 1024, "{} bytes", answer.len());
    assert_eq!(negotiation.sent().count(), 198);
}

#[test]
fn new_mids_never_exist_already() {
    let (mut negotiation, mut client) = joined();
    client.lines.push(Line::sending("s0", Kind::Audio, ""));
    offer_of(&mut negotiation, &mut client).unwrap();
    let offer = settle(&mut negotiation, &mut client, &[video(7)]);
    assert!(offer.contains("a=group:BUNDLE 0 1 s0 s1\r\n"), "{offer}");
}

#[test]
fn candidates_stand_on_a_line_that_is_active_too() {
    let mut client = Client::default();
    client.add_place(Kind::Audio);
    client.add(Kind::Video, "cam");
    let answer = offer_of(&mut Negotiation::new(), &mut client).unwrap();
    let lines: Vec<&str> = answer.split("m=").skip(1).collect();
    assert!(lines[0].contains("a=inactive") && lines[1].contains("a=recvonly"));
    assert!(lines.iter().all(|line| line.contains("a=candidate:")), "{answer}");
}
