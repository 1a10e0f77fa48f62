//! Refused descriptions, and that a refusal changes nothing.

use super::*;
use crate::rtp::Pt;
use crate::sdp::SdpErrorKind;

fn refused(negotiation: &mut Negotiation, offer: &str) -> SdpError {
    let before = format!("{negotiation:?}");
    let error = negotiation.handle_offer(offer, &params()).unwrap_err();
    assert_eq!(
        format!("{negotiation:?}"),
        before,
        "a refused offer changes nothing: {error}"
    );
    assert!(
        !error.to_string().contains(char::is_control)
            && (error.hint().is_some() || error.kind() == SdpErrorKind::Malformed),
        "{error}"
    );
    error
}

#[test]
fn an_offer_is_refused_while_one_of_the_server_waits() {
    let (mut negotiation, client) = joined();
    negotiation.offer(&[video(7)], &params());
    let error = refused(&mut negotiation, &client.offer());
    assert_eq!(
        (error.fault, error.description),
        (Fault::OfferPending, Description::Offer)
    );
}

#[test]
fn lines_that_are_missing_moved_or_renamed_are_refused() {
    let (mut negotiation, mut client) = joined();
    settle(&mut negotiation, &mut client, &[video(7)]);
    let mut fewer = client.clone();
    fewer.lines.pop();
    let error = refused(&mut negotiation, &fewer.offer());
    assert_eq!(
        error.to_string(),
        "the offer has 2 m= lines where 3 are agreed; lines are never taken away"
    );
    assert!(error.is_unusable());
    let mut moved = client.clone();
    moved.lines.swap(0, 1);
    let error = refused(&mut negotiation, &moved.offer());
    assert!(
        error
            .to_string()
            .starts_with("m= line 1 of the offer has to be the audio line with a=mid:0"),
        "{error}"
    );
    let mut renamed = client.clone();
    renamed.lines[2].mid = "s9".into();
    assert!(matches!(
        refused(&mut negotiation, &renamed.offer()).fault,
        Fault::OtherLine { place: 3, .. }
    ));
    let other = client.offer().replace("m=video", "m=audio");
    assert!(matches!(
        refused(&mut negotiation, &other).fault,
        Fault::OtherLine { place: 2, .. }
    ));
    assert!(offer_of(&mut negotiation, &mut client).is_ok());
}

#[test]
fn codecs_of_a_running_line_stay() {
    let (mut negotiation, mut client) = joined();
    settle(&mut negotiation, &mut client, &[video(7)]);
    let offer = client.offer();
    let swapped = offer
        .replace("VP8/", "XX/")
        .replace("H264/", "VP8/")
        .replace("XX/", "H264/");
    let error = refused(&mut negotiation, &swapped);
    assert_eq!(
        error.to_string(),
        "the offer changes codecs of m-line mid 1: payload type 96 no longer means VP8"
    );
    assert!(error.is_unusable());
    let moved = offer.replace("SAVPF 96 97 102 103", "SAVPF 102 103");
    assert!(matches!(
        refused(&mut negotiation, &moved).fault,
        Fault::ChangedCodecs {
            payload_type: Pt(96),
            ..
        }
    ));
    client.lines[1].sends = false;
    offer_of(&mut negotiation, &mut client).unwrap();
    let fewer = client.offer().replace("SAVPF 96 97 102 103", "SAVPF 102 103");
    negotiation.handle_offer(&fewer, &params()).unwrap();
}

#[test]
fn a_payload_type_means_one_codec_in_the_bundle() {
    let mut client = Client::default();
    client.add(Kind::Audio, "");
    client.add(Kind::Video, "");
    let ambiguous = client.offer().replace("111", "96");
    let mut negotiation = Negotiation::new();
    let error = refused(&mut negotiation, &ambiguous);
    assert!(
        error.fault == Fault::AmbiguousPayloadType { payload_type: Pt(96) },
        "{error}"
    );
    assert!(error.is_unusable() && negotiation.remote().is_none());
}

#[test]
fn offers_that_cannot_open_a_negotiation_are_refused() {
    let mut negotiation = Negotiation::new();
    let mut client = Client::default();
    assert_eq!(refused(&mut negotiation, "hello").fault, Fault::NotSdp);
    assert!(!refused(&mut negotiation, "hello").is_unusable());
    assert_eq!(refused(&mut negotiation, &client.offer()).fault, Fault::NoMedia);
    for _ in 0..MAX_SENDING_LINES {
        client.add(Kind::Video, "");
    }
    assert!(Negotiation::new().handle_offer(&client.offer(), &params()).is_ok());
    let nameless = client.offer().replace("a=mid:3\r\n", "");
    assert!(matches!(refused(&mut negotiation, &nameless).fault, Fault::NotBundled));
    let alone = client.offer().replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 0");
    assert_eq!(refused(&mut negotiation, &alone).fault, Fault::NotBundled);
    let unknown = client.offer().replace("VP8", "VP7").replace("H264", "H263");
    let none = |error: &SdpError| matches!(error.fault, Fault::NoCommonCodec { .. });
    assert!(none(&refused(&mut negotiation, &unknown)));
    assert!(none(&refused(
        &mut negotiation,
        &unknown.replace("a=sendonly", "a=recvonly")
    )));
    client.add(Kind::Audio, "");
    assert_eq!(
        refused(&mut negotiation, &client.offer()).fault,
        Fault::TooManySending { lines: 9 }
    );
}

#[test]
fn the_number_of_lines_is_bounded() {
    let mut client = Client::default();
    (0..256).for_each(|_| client.add_place(Kind::Audio));
    let mut negotiation = Negotiation::new();
    offer_of(&mut negotiation, &mut client).unwrap();
    assert!(!negotiation.needs_offer(&[video(1)]), "there is no place for it");
    assert!(negotiation.needs_offer(&[track(1, Kind::Audio)]));
    client.add_place(Kind::Audio);
    let error = refused(&mut negotiation, &client.offer()).to_string();
    assert_eq!(error, "the SDP has more than 256 m= lines");
}

#[test]
fn an_answer_that_does_not_fit_leaves_the_offer_waiting() {
    let (mut negotiation, mut client) = joined();
    assert_eq!(
        negotiation.handle_answer(&client.offer()).unwrap_err().fault,
        Fault::NoOfferPending
    );
    let offer = negotiation.offer(&[video(7)], &params());
    let good = client.answer(&offer);
    let mut fewer = client.clone();
    fewer.lines.pop();
    let renamed = good.replace("s0", "s1");
    let swapped = good.replace("VP8/", "H265/");
    let strange = good.replace("VP8/", "VP7/").replace("H264/", "VP7/");
    for bad in ["hello", &fewer.offer(), &renamed, &swapped, &strange, &offer] {
        let before = format!("{negotiation:?}");
        let error = negotiation.handle_answer(bad).unwrap_err();
        assert_eq!(format!("{negotiation:?}"), before, "{error}");
        assert!(
            error.hint().is_some() && !error.to_string().contains("offer has"),
            "{error}"
        );
    }
    let error = negotiation.handle_answer(&fewer.offer()).unwrap_err();
    assert!(
        error.is_unusable() && error.to_string().starts_with("the answer has 2 m= lines where 3"),
        "{error}"
    );
    negotiation.handle_answer(&good).unwrap();
    assert_eq!(sent(&negotiation), [("s0".into(), 7)]);
    assert_eq!(
        negotiation.handle_answer(&good).unwrap_err().fault,
        Fault::NoOfferPending
    );
}
