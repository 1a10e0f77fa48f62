//! Offers that cannot be answered, and the errors about them.

use super::*;

fn obs() -> String {
    file("obs31-publish")
}

fn without(text: &str, start: &str) -> String {
    text.split_inclusive('\n')
        .filter(|line| !line.starts_with(start))
        .collect()
}

/// An audio or video line as short as can be.
fn line(media: &str, mid: u8) -> String {
    let format = if media == "audio" { "111" } else { "96" };
    let map = if media == "audio" {
        "111 opus/48000/2"
    } else {
        "96 VP8/90000"
    };
    format!("m={media} 9 UDP/TLS/RTP/SAVPF {format}\na=mid:{mid}\na=rtcp-mux\na=rtpmap:{map}\n")
}

fn session() -> String {
    let head: String = obs()
        .split_inclusive('\n')
        .take_while(|line| !line.starts_with("m="))
        .collect();
    without(&head, "a=group")
}

#[test]
fn not_sdp_is_400_with_a_hint() {
    for text in [
        "hello",
        "{\"type\":\"offer\"}",
        "v=0\\r\\no=- 1",
        "v=1\r\n",
        "o=- 1 1 IN IP4 0.0.0.0\r\nv=0\r\n",
    ] {
        assert_eq!(fault(text), Fault::NotSdp, "{text}");
    }
    for text in ["", " \r\n\r\n", "\0\0", "\u{feff}\r\n"] {
        assert_eq!(fault(text), Fault::Empty);
    }
    assert!(!error("hello").is_unusable() && !error("").is_unusable());
    assert!(error("hello").hint().unwrap().contains("v=0"));
}

#[test]
fn too_much_is_400() {
    let megabyte = format!("v=0\r\n{}", "a=x\r\n".repeat(200_000));
    assert_eq!(
        fault(&megabyte),
        Fault::TooLong {
            len: 1_000_005,
            limit: MAX_SDP_BYTES
        }
    );
    let lines = format!("v=0\n{}", "m=text 9 RTP/AVP 98\n".repeat(MAX_MEDIA_LINES + 1));
    assert_eq!(fault(&lines), Fault::TooManyMediaLines { limit: MAX_MEDIA_LINES });
    let numbers: Vec<String> = (0..128).map(|n| n.to_string()).collect();
    let formats = format!(
        "v=0\n{}",
        format!("m=video 9 RTP/AVP {}\n", numbers.join(" ")).repeat(3)
    );
    assert_eq!(
        fault(&formats),
        Fault::TooManyPayloadTypes {
            limit: MAX_PAYLOAD_TYPES
        }
    );
}

#[test]
fn lines_that_cannot_be_read_are_400_and_named() {
    let bad_port = obs().replace("m=audio 9 ", "m=audio 99999 ");
    assert_eq!(fault(&bad_port), Fault::BadMediaLine { line: 13 });
    assert!(!error(&bad_port).is_unusable());
    let cut = &obs()[..obs().find("SAVPF 111").unwrap()];
    assert_eq!(fault(cut), Fault::BadMediaLine { line: 13 });
    let cut = &obs()[..obs().find("=fingerprint").unwrap()];
    assert_eq!(fault(cut), Fault::BadLine { line: 12 });
    let short_pwd = obs().replace("a=ice-pwd:Jt0r8Nf", "a=ice-pwd:");
    assert_eq!(
        fault(&short_pwd),
        Fault::BadAttribute {
            line: 10,
            name: "ice-pwd"
        }
    );
    let same_mid = obs().replace("a=mid:1", "a=mid:0");
    assert_eq!(fault(&same_mid), Fault::DuplicateMid { mid: "0".into() });
}

#[test]
fn unreadable_parts_that_do_not_matter_are_ignored() {
    let obs = obs();
    let end = obs.find("a=mid:0").unwrap();
    let in_audio = |line: &str| format!("{}{line}\r\n{}", &obs[..end], &obs[end..]);
    let unused =
        |line: &str| format!("{obs}m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n{line}\r\n");
    for offer in [
        format!("\u{feff}{obs}"),
        format!("{obs}\0"),
        obs.replace("s=-", "s=a\u{7}b"),
        in_audio("a=rtpmap:300 AV1/90000"),
        in_audio("a=rtpmap:"),
        in_audio("a=rtpmap:x y"),
        in_audio("a=extmap:999999 urn:x"),
        in_audio("a=rtcp-fb:x"),
        in_audio("a=fmtp:111\u{1}x"),
        in_audio("a=ssrc-group:FID x y"),
        in_audio("a=ssrc:99999999999999999999 cname:x"),
        in_audio("a=msid:"),
        in_audio("a=candidate:nonsense"),
        in_audio("a=rid:"),
        in_audio("a=simulcast:"),
        in_audio("b=x"),
        in_audio("a="),
        unused("a=setup:holdconn"),
        unused("a=ice-ufrag:a b"),
        unused("a=mid:\u{e9}"),
        unused("a=mid:0"),
        unused("a=fingerprint:x"),
        obs.replace(
            "m=audio 9 UDP/TLS/RTP/SAVPF 111",
            "m=audio 9 UDP/TLS/RTP/SAVPF 111 120 300",
        )
        .replace("a=mid:0", "a=rtpmap:120 flexfec-03\r\na=mid:0"),
        format!("{obs}m=text 70000 RTP/AVP 98\r\n"),
        obs.replace("a=group:BUNDLE", "a=group: BUNDLE"),
        obs.replace("a=rtcp-mux", "a=rtcp-mux-only"),
    ] {
        let read = Offer::parse(&offer).map(|offer| (offer.can_send(), offer.lines[0].payloads.len() >= 1));
        assert_eq!(read, Ok((true, true)), "{offer}");
    }
}

#[test]
fn no_credentials_or_fingerprint_is_422() {
    let obs = obs();
    assert_eq!(fault(&without(&obs, "a=fingerprint")), Fault::NoFingerprint);
    assert_eq!(fault(&without(&obs, "a=ice-ufrag")), Fault::NoIceCredentials);
    assert_eq!(fault(&without(&obs, "a=ice-pwd")), Fault::NoIceCredentials);
    let unverifiable = error(&without(&obs, "a=fingerprint"));
    assert!(unverifiable.is_unusable() && unverifiable.hint().is_some());
    let sha1 = obs.replace("sha-256", "sha-1");
    assert_eq!(
        error(&sha1).to_string(),
        "the offer has no sha-256, sha-384 or sha-512 fingerprint, only sha-1"
    );
    assert_eq!(
        fault(&obs.replace("a=setup", "a=ice-lite\r\na=setup")),
        Fault::BothIceLite
    );
}

#[test]
fn offers_without_media_are_422_with_a_hint() {
    let data = format!(
        "{}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\na=mid:0\n",
        session()
    );
    assert_eq!(fault(&data), Fault::OnlyDataChannel);
    assert!(error(&data).is_unusable() && error(&data).hint().unwrap().contains("addTransceiver"));
    assert_eq!(fault(&session()), Fault::NoMedia);
    let disabled = obs()
        .replace("m=audio 9", "m=audio 0")
        .replace("m=video 9", "m=video 0");
    assert_eq!(fault(&disabled), Fault::NoMedia);
}

#[test]
fn three_media_lines_are_422_and_counted() {
    let three = [session(), line("audio", 0), line("video", 1), line("video", 2)].concat();
    let error = error(&three);
    assert_eq!(error.fault, Fault::TooManyTracks { audio: 1, video: 2 });
    assert!(error.is_unusable() && error.to_string().contains("1 audio and 2 video"));
}

#[test]
fn no_common_codec_is_422_and_names_both_lists() {
    let theora = file("chromium156-publish")
        .replace("VP8/90000", "theora/90000")
        .replace("VP9/90000", "H261/90000")
        .replace("H264/90000", "H263/90000")
        .replace("AV1/90000", "AV2/90000");
    let error = error(&theora);
    assert!(error.is_unusable());
    let (offered, carried) = error.codecs().unwrap();
    assert_eq!((offered[0], carried[0]), ("theora", "VP8"));
    assert_eq!(
        error.to_string(),
        "no common video codec: the offer has theora, H263, AV2, H261, red, ulpfec; \
         this server carries VP8, VP9, H264, H265, AV1"
    );
    let pcm = "m=audio 9 UDP/TLS/RTP/SAVPF 0 8 96\na=rtcp-mux\n";
    let error = answer(&format!("{}{pcm}", session()), Role::Publisher).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no common audio codec: the offer has PCMU, PCMA; this server carries Opus"
    );
}

#[test]
fn one_transport_is_required() {
    assert_eq!(fault(&without(&obs(), "a=group:BUNDLE")), Fault::NotBundled);
    assert_eq!(fault(&without(&obs(), "a=mid:1")), Fault::NotBundled);
    assert_eq!(
        fault(&without(&obs(), "a=rtcp-mux")),
        Fault::NoRtcpMux { kind: Kind::Audio }
    );
}

#[test]
fn unknown_mids_and_missing_session_lines_are_tolerated() {
    let text = obs()
        .replace("BUNDLE 0 1", "BUNDLE 0 7 1 0")
        .replace("s=-\r\nt=0 0\r\n", "z=?\r\n\r\nq=\r\n");
    let text = without(&text, "o=").replace("\r\n", "\n");
    let sdp = answer(&text, Role::Publisher).unwrap().sdp;
    assert!(sdp.contains("a=group:BUNDLE 0 1\r\n"));
}

#[test]
fn a_single_line_needs_no_mid() {
    let answer = answer(&format!("{}{}", session(), without(&line("video", 0), "a=mid")), VIEWER).unwrap();
    assert!(!answer.sdp.contains("a=mid") && !answer.sdp.contains("BUNDLE"));
    assert_eq!(&*answer.negotiated.video.unwrap().mid, "");
    assert!(answer.negotiated.audio.is_none());
}

#[test]
fn other_lines_are_rejected_and_idle_ones_inactive_in_their_place() {
    let data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\na=mid:d\n";
    let text = [
        &session(),
        "a=group:BUNDLE d 0 1\n",
        data,
        &line("audio", 0),
        &line("video", 1),
    ]
    .concat();
    let recvonly_audio = text.replace("a=mid:0", "a=mid:0\na=recvonly");
    let answer = answer(&recvonly_audio, Role::Publisher).unwrap();
    assert!(answer.negotiated.audio.is_none() && answer.negotiated.video.is_some());
    let shown = |l: &&str| l.starts_with("m=") || l.contains("BUNDLE") || ["a=inactive", "a=recvonly"].contains(l);
    let lines: Vec<_> = answer.sdp.lines().filter(shown).collect();
    assert_eq!(
        lines,
        [
            "a=group:BUNDLE 0 1",
            "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
            "a=inactive",
            "m=audio 9 UDP/TLS/RTP/SAVPF 111",
            "a=inactive",
            "m=video 9 UDP/TLS/RTP/SAVPF 96",
            "a=recvonly",
        ]
    );
    assert!(section(&answer.sdp, "audio").contains("a=candidate:1 "));
}

#[test]
fn idle_lines_need_no_common_codec() {
    let text = obs()
        .replace("a=sendonly\r\na=ssrc:2718281828", "a=recvonly\r\na=ssrc:2718281828")
        .replace("opus", "speex");
    let answer = answer(&text, Role::Publisher).unwrap();
    assert!(answer.sdp.contains("m=audio 0 ") && answer.sdp.contains("a=group:BUNDLE 1\r\n"));
    assert!(section(&answer.sdp, "video").contains("a=candidate:1 "));
}

#[test]
fn truncated_offers_do_not_panic() {
    for name in ["firefox153-publish", "obs32-publish-simulcast"] {
        let text = file(name);
        for end in 0..text.len() {
            // It must not panic; the other tests say which it is.
            let _ = answer(&text[..end], Role::Publisher);
        }
    }
}
