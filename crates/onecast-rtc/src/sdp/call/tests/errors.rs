//! What is refused, and that a refusal changes nothing.

use super::*;
use crate::sdp::SdpError;

fn refused(call: &mut Call, offer: &str) -> CallError {
    let before = format!("{call:?}");
    let error = call.handle_offer(offer, &params()).unwrap_err();
    assert_eq!(format!("{call:?}"), before, "a refused offer changes nothing: {error}");
    assert!(
        !error.to_string().contains(char::is_control)
            && (error.hint().is_some() || matches!(error, CallError::Offer(_))),
        "{error}"
    );
    error
}

#[test]
fn an_offer_while_ours_waits_is_refused() {
    let (mut call, client) = joined();
    call.offer(&[video(7)], &params());
    assert_eq!(refused(&mut call, &client.offer()), CallError::OfferPending);
}

#[test]
fn lines_that_are_missing_moved_or_renamed_are_refused() {
    let (mut call, mut client) = joined();
    settle(&mut call, &mut client, &[video(7)]);
    let mut fewer = client.clone();
    fewer.lines.pop();
    let error = refused(&mut call, &fewer.offer());
    assert_eq!(
        error.to_string(),
        "the offer has 2 m= lines where 3 are agreed; lines are never taken away"
    );
    assert!(error.is_unusable());
    let mut moved = client.clone();
    moved.lines.swap(0, 1);
    let error = refused(&mut call, &moved.offer());
    assert!(
        error
            .to_string()
            .starts_with("m= line 1 of the offer has to be the audio line with a=mid:0"),
        "{error}"
    );
    let mut renamed = client.clone();
    renamed.lines[2].mid = "s9".into();
    assert!(matches!(
        refused(&mut call, &renamed.offer()),
        CallError::OtherLine { place: 3, .. }
    ));
    let other = client.offer().replace("m=video", "m=audio");
    assert!(matches!(
        refused(&mut call, &other),
        CallError::OtherLine { place: 2, .. }
    ));
    assert!(offer_of(&mut call, &mut client).is_ok());
}

#[test]
fn codecs_of_a_running_line_stay() {
    let (mut call, mut client) = joined();
    settle(&mut call, &mut client, &[video(7)]);
    let offer = client.offer();
    let swapped = offer
        .replace("VP8/", "XX/")
        .replace("H264/", "VP8/")
        .replace("XX/", "H264/");
    let error = refused(&mut call, &swapped);
    assert_eq!(
        error.to_string(),
        "the offer changes codecs of m-line mid 1: payload type 96 no longer means VP8"
    );
    assert!(error.is_unusable());
    let moved = offer.replace("SAVPF 96 97 102 103", "SAVPF 102 103");
    assert!(matches!(
        refused(&mut call, &moved),
        CallError::ChangedCodecs { payload_type: 96, .. }
    ));
    client.lines[1].sends = false;
    offer_of(&mut call, &mut client).unwrap();
    let fewer = client.offer().replace("SAVPF 96 97 102 103", "SAVPF 102 103");
    call.handle_offer(&fewer, &params()).unwrap();
}

#[test]
fn one_number_means_one_codec_in_the_bundle() {
    let mut client = Client::default();
    client.add(Kind::Audio, "");
    client.add(Kind::Video, "");
    let ambiguous = client.offer().replace("111", "96");
    let mut call = Call::new();
    let error = refused(&mut call, &ambiguous);
    assert!(
        matches!(error, CallError::AmbiguousPayloadType { payload_type: 96, .. }),
        "{error}"
    );
    assert!(error.is_unusable() && call.remote().is_none());
}

#[test]
fn offers_that_no_call_can_begin_with_are_refused() {
    let mut call = Call::new();
    let mut client = Client::default();
    assert_eq!(refused(&mut call, "hello"), CallError::Offer(SdpError::NotSdp));
    assert!(!refused(&mut call, "hello").is_unusable());
    assert_eq!(refused(&mut call, &client.offer()), CallError::Offer(SdpError::NoMedia));
    for _ in 0..MAX_SENDING_LINES {
        client.add(Kind::Video, "");
    }
    assert!(Call::new().handle_offer(&client.offer(), &params()).is_ok());
    let nameless = client.offer().replace("a=mid:3\r\n", "");
    assert!(matches!(
        refused(&mut call, &nameless),
        CallError::Offer(SdpError::NotBundled)
    ));
    let alone = client.offer().replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 0");
    assert_eq!(refused(&mut call, &alone), CallError::Offer(SdpError::NotBundled));
    let unknown = client.offer().replace("VP8", "VP7").replace("H264", "H263");
    let none = |error: &CallError| matches!(error, CallError::Offer(SdpError::NoCommonCodec { .. }));
    assert!(none(&refused(&mut call, &unknown)));
    assert!(none(&refused(&mut call, &unknown.replace("a=sendonly", "a=recvonly"))));
    client.add(Kind::Audio, "");
    assert_eq!(
        refused(&mut call, &client.offer()),
        CallError::TooManySending { lines: 9 }
    );
}

#[test]
fn there_is_a_bound_of_lines() {
    let mut client = Client::default();
    (0..256).for_each(|_| client.add_place(Kind::Audio));
    let mut call = Call::new();
    offer_of(&mut call, &mut client).unwrap();
    assert!(!call.needs_offer(&[video(1)]), "there is no place for it");
    assert!(call.needs_offer(&[track(1, Kind::Audio)]));
    client.add_place(Kind::Audio);
    let error = refused(&mut call, &client.offer()).to_string();
    assert_eq!(error, "the SDP has more than 256 m= lines");
}

#[test]
fn an_answer_that_is_not_to_our_offer_leaves_it_waiting() {
    let (mut call, mut client) = joined();
    assert_eq!(call.handle_answer(&client.offer()), Err(CallError::NoOffer));
    let offer = call.offer(&[video(7)], &params());
    let good = client.answer(&offer);
    let mut fewer = client.clone();
    fewer.lines.pop();
    let renamed = good.replace("s0", "s1");
    let swapped = good.replace("VP8/", "H265/");
    let strange = good.replace("VP8/", "VP7/").replace("H264/", "VP7/");
    for bad in ["hello", &fewer.offer(), &renamed, &swapped, &strange, &offer] {
        let before = format!("{call:?}");
        let error = call.handle_answer(bad).unwrap_err();
        assert_eq!(format!("{call:?}"), before, "{error}");
        assert!(
            error.hint().is_some() && !error.to_string().contains("offer has"),
            "{error}"
        );
    }
    let error = call.handle_answer(&fewer.offer()).unwrap_err();
    assert!(
        error.is_unusable() && error.to_string().starts_with("the answer has 2 m= lines where 3"),
        "{error}"
    );
    call.handle_answer(&good).unwrap();
    assert_eq!(sent(&call), [("s0".into(), 7)]);
    assert_eq!(call.handle_answer(&good), Err(CallError::NoOffer));
}
