//! Whole offers of real clients, and offers that cannot be answered.

mod golden;
mod refused;

use std::net::SocketAddr;

use webrtc::peer_connection::RTCSessionDescription;

use super::*;
use crate::rtp::Ssrc;
use crate::{DtlsRole, Fingerprint, IceCredentials, PeerFingerprint};

const SSRCS: TrackSsrcs = TrackSsrcs {
    video: Ssrc(1001),
    video_rtx: Ssrc(1002),
    audio: Ssrc(1003),
};
const VIEWER: Role = Role::Viewer(SSRCS);
const PUBLISHERS: [&str; 8] = [
    "chromium156-publish",
    "chromium156-publish-simulcast",
    "firefox153-publish",
    "ffmpeg8-publish",
    "libdatachannel-obs-shaped-publish",
    "obs31-publish",
    "obs32-publish-simulcast",
    "safari18-publish",
];
const VIEWERS: [&str; 3] = ["chromium156-watch", "firefox153-watch", "safari18-watch"];

fn file(name: &str) -> String {
    let path = format!("{}/../../tests/data/offers/{name}.sdp", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn answer(text: &str, role: Role) -> Result<Answer, SdpError> {
    let ice = IceCredentials {
        ufrag: "ours".into(),
        pwd: "ourpasswordisalittlelong".into(),
    };
    let candidates: [SocketAddr; 3] = [
        "[::ffff:192.0.2.7]:8080".parse().unwrap(),
        "[2001:db8::7]:8080".parse().unwrap(),
        "203.0.113.1:443".parse().unwrap(),
    ];
    let params = AnswerParams {
        ice: &ice,
        fingerprint: Fingerprint([0xAB; 32]),
        candidates: &candidates,
        session_id: 42,
        stream: "live",
    };
    Offer::parse(text)?.answer(role, &params)
}

fn role_of(name: &str) -> Role {
    if name.contains("watch") {
        VIEWER
    } else {
        Role::Publisher
    }
}

fn answer_file(name: &str) -> Answer {
    answer(&file(name), role_of(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The part of an answer that belongs to one m-line.
fn section<'a>(sdp: &'a str, media: &str) -> &'a str {
    let start = sdp.find(&format!("m={media}")).unwrap();
    let rest = &sdp[start..];
    &rest[..rest[2..]
        .find("m=audio")
        .or(rest[2..].find("m=video"))
        .map_or(rest.len(), |end| end + 2)]
}

fn formats(line: &Option<MediaLine>) -> Vec<(Codec, u8, Option<u8>)> {
    let line = line.as_ref().unwrap();
    let formats = line.formats.iter();
    formats
        .map(|f| (f.codec, f.payload_type.0, f.rtx.map(|pt| pt.0)))
        .collect()
}

fn error(text: &str) -> SdpError {
    answer(text, Role::Publisher).unwrap_err()
}

fn fault(text: &str) -> Fault {
    error(text).fault
}

#[test]
fn every_client_gets_an_answer_with_its_role() {
    for name in PUBLISHERS.into_iter().chain(VIEWERS) {
        let offer = Offer::parse(&file(name)).unwrap();
        let publishes = role_of(name) == Role::Publisher;
        assert_eq!(
            (offer.can_send(), offer.can_receive()),
            (publishes, !publishes),
            "{name}"
        );
        let Answer { sdp, negotiated } = answer_file(name);
        assert!(negotiated.audio.is_some() && negotiated.video.is_some(), "{name}");
        let direction = if publishes { "a=recvonly\r\n" } else { "a=sendonly\r\n" };
        assert_eq!(sdp.matches(direction).count(), 2, "{name}");
        let wrong = if publishes { VIEWER } else { Role::Publisher };
        let expected = if publishes {
            Fault::CannotReceive
        } else {
            Fault::CannotSend
        };
        assert_eq!(answer(&file(name), wrong).unwrap_err().fault, expected, "{name}");
    }
}

#[test]
fn answers_have_what_every_client_needs() {
    for name in PUBLISHERS.into_iter().chain(VIEWERS) {
        let sdp = answer_file(name).sdp;
        assert!(sdp.starts_with("v=0\r\no=- 42 2 IN IP4 "), "{name}");
        assert!(sdp.len() < 8192, "{name}: FFmpeg reads no more, this is {}", sdp.len());
        assert!(sdp.lines().all(|line| line.len() > 2), "{name}");
        assert_eq!(sdp.matches('\n').count(), sdp.matches("\r\n").count(), "{name}");
        let session = sdp.split("m=").next().unwrap();
        assert!(
            session.contains("a=ice-lite\r\n") && session.contains("a=group:BUNDLE 0 1\r\n"),
            "{name}"
        );
        for part in [section(&sdp, "audio"), section(&sdp, "video")] {
            for line in [
                "a=rtcp-mux",
                "a=ice-ufrag:ours",
                "a=ice-pwd:our",
                "a=fingerprint:sha-256 AB:AB:",
                "a=mid:",
            ] {
                assert_eq!(part.matches(line).count(), 1, "{name}: {line}");
            }
        }
        assert!(
            !sdp.contains("remb") && !sdp.contains("simulcast") && !sdp.contains("sprop"),
            "{name}"
        );
    }
}

#[test]
fn candidates_are_in_the_tagged_line_best_first_and_mapped_ones_are_ipv4() {
    let sdp = answer_file("ffmpeg8-publish").sdp;
    let candidates: Vec<_> = sdp.lines().filter(|line| line.starts_with("a=candidate")).collect();
    assert_eq!(
        candidates,
        [
            "a=candidate:1 1 udp 2130706431 192.0.2.7 8080 typ host",
            "a=candidate:2 1 udp 2130706175 2001:db8::7 8080 typ host",
            "a=candidate:3 1 udp 2130705919 203.0.113.1 443 typ host",
        ]
    );
    assert!(section(&sdp, "audio").ends_with("a=end-of-candidates\r\n"));
    let swapped = file("ffmpeg8-publish").replace("BUNDLE 0 1", "BUNDLE 1 0");
    let sdp = answer(&swapped, Role::Publisher).unwrap().sdp;
    assert!(sdp.contains("a=group:BUNDLE 1 0\r\n"));
    assert!(section(&sdp, "video").ends_with("a=end-of-candidates\r\n"));
}

#[test]
fn all_common_codecs_are_listed_in_the_clients_order() {
    use Codec::*;
    let chromium = answer_file("chromium156-watch").negotiated;
    assert_eq!(formats(&chromium.audio), [(Opus, 111, None)]);
    let video: Vec<_> = formats(&chromium.video);
    assert_eq!(
        video[..3],
        [(Vp8, 96, Some(97)), (Vp9, 98, Some(99)), (Vp9, 100, Some(101))]
    );
    assert_eq!(video.last(), Some(&(Av1, 47, Some(48))));
    let firefox = answer_file("firefox153-publish").negotiated;
    assert_eq!(formats(&firefox.audio), [(Opus, 109, None)]);
    assert_eq!(
        formats(&firefox.video),
        [(Vp8, 120, Some(124)), (Vp9, 121, Some(125)), (Av1, 99, Some(100))]
    );
    let safari = answer_file("safari18-watch").negotiated;
    assert_eq!(
        formats(&safari.video),
        [
            (H264, 96, Some(97)),
            (H264, 98, Some(99)),
            (H265, 104, Some(105)),
            (Vp8, 106, Some(107)),
            (Vp9, 108, Some(109)),
            (Vp9, 112, Some(113)),
            (Av1, 114, Some(115)),
        ]
    );
    let obs = answer_file("obs31-publish").negotiated;
    assert_eq!(formats(&obs.video), [(H264, 96, None)]);
    assert_eq!(
        formats(&answer_file("ffmpeg8-publish").negotiated.video),
        [(H264, 106, Some(105))]
    );
}

#[test]
fn h264_mode_0_is_kept_only_when_there_is_no_mode_1() {
    let chromium = answer_file("chromium156-publish");
    assert!(!chromium.sdp.contains("packetization-mode=0"));
    assert!(
        chromium
            .sdp
            .contains("a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n")
    );
    let only_mode_0 = file("obs31-publish").replace("packetization-mode=1", "packetization-mode=0");
    let answer = answer(&only_mode_0, Role::Publisher).unwrap();
    assert_eq!(formats(&answer.negotiated.video), [(Codec::H264, 96, None)]);
}

#[test]
fn fmtp_is_echoed_without_sprop_parameters() {
    let Answer { sdp, negotiated } = answer_file("obs31-publish");
    assert!(sdp.contains("a=fmtp:111 minptime=10;maxaveragebitrate=96000;stereo=1;useinbandfec=1\r\n"));
    let offered = &negotiated.audio.unwrap().formats[0].fmtp;
    assert!(
        offered.contains("sprop-stereo=1"),
        "the server itself sees all: {offered}"
    );
}

#[test]
fn session_level_attributes_are_inherited() {
    let obs = Offer::parse(&file("obs31-publish")).unwrap();
    assert_eq!(&*obs.remote().ice.ufrag, "w7Qx");
    assert_eq!(obs.remote().fingerprints.len(), 1);
    assert_eq!(obs.remote().role, DtlsRole::Server);
    let text = file("obs31-publish").replace("a=sendonly\r\n", "");
    let offer = Offer::parse(&text.replace("a=setup:actpass", "a=setup:passive\r\na=recvonly")).unwrap();
    assert_eq!(offer.remote().role, DtlsRole::Client);
    assert!(offer.can_receive() && !offer.can_send());
    let firefox = Offer::parse(&file("firefox153-publish")).unwrap();
    let [PeerFingerprint::Sha256(shown)] = firefox.remote().fingerprints[..] else {
        panic!("{:?}", firefox.remote().fingerprints);
    };
    assert_eq!(shown.0[..2], [0xA2, 0x10]);
    assert!(!firefox.can_receive(), "media level wins over the session's sendrecv");
}

#[test]
fn setup_leaves_the_other_role_for_us() {
    assert!(answer_file("ffmpeg8-publish").sdp.contains("a=setup:active\r\n"));
    assert!(answer_file("chromium156-publish").sdp.contains("a=setup:passive\r\n"));
    let active = file("obs31-publish").replace("actpass", "active");
    assert!(
        answer(&active, Role::Publisher)
            .unwrap()
            .sdp
            .contains("a=setup:passive\r\n")
    );
}

#[test]
fn publishers_get_transport_feedback_and_viewers_do_not() {
    let publisher = answer_file("chromium156-publish");
    let video = publisher.negotiated.video.unwrap();
    assert!(video.formats.iter().all(|f| f.transport_cc && f.nack && f.pli));
    assert!(
        publisher
            .sdp
            .contains("a=rtcp-fb:96 transport-cc\r\na=rtcp-fb:96 ccm fir\r\na=rtcp-fb:96 nack\r\n")
    );
    let viewer = answer_file("chromium156-watch");
    assert!(!viewer.sdp.contains("transport"));
    assert!(
        viewer
            .negotiated
            .video
            .unwrap()
            .formats
            .iter()
            .all(|f| !f.transport_cc && f.nack && f.pli)
    );
    let no_extension = file("chromium156-publish").replace("draft-holmer", "draft-other");
    let answer = answer(&no_extension, Role::Publisher).unwrap();
    assert!(!answer.negotiated.video.unwrap().formats[0].transport_cc);
}

#[test]
fn extensions_are_those_of_the_role() {
    let publisher = answer_file("chromium156-publish-simulcast").negotiated;
    let expected = ExtensionIds {
        mid: Some(4),
        transport_cc: Some(3),
        video_orientation: Some(13),
        abs_capture_time: None,
        dependency_descriptor: Some(12),
        audio_level: None,
    };
    assert_eq!(publisher.video.unwrap().extensions, expected);
    assert_eq!(publisher.audio.unwrap().extensions.audio_level, Some(1));
    let viewer = answer_file("chromium156-watch");
    let expected = ExtensionIds {
        video_orientation: Some(13),
        ..ExtensionIds::default()
    };
    assert_eq!(viewer.negotiated.video.unwrap().extensions, expected);
    assert_eq!(viewer.negotiated.audio.unwrap().extensions, ExtensionIds::default());
    assert_eq!(viewer.sdp.matches("a=extmap:").count(), 1);
    assert!(viewer.sdp.contains("a=extmap-allow-mixed\r\n"));
}

#[test]
fn extension_directions_are_mirrored() {
    let text = file("chromium156-watch").replace("extmap:13 ", "extmap:13/recvonly ");
    assert!(
        answer(&text, VIEWER)
            .unwrap()
            .sdp
            .contains("a=extmap:13/sendonly urn:3gpp:video-orientation\r\n")
    );
    let text = text.replace("extmap:13/recvonly ", "extmap:13/sendonly ");
    assert!(!answer(&text, VIEWER).unwrap().sdp.contains("a=extmap:13"));
}

#[test]
fn announced_ssrcs_of_publishers_are_taken() {
    let chromium = answer_file("chromium156-publish").negotiated;
    let video = chromium.video.unwrap();
    assert_eq!(
        (video.ssrc, video.rtx_ssrc),
        (Some(Ssrc(4245385261)), Some(Ssrc(3169058596)))
    );
    assert_eq!(chromium.audio.unwrap().ssrc, Some(Ssrc(2512792131)));
    assert_eq!(
        answer_file("chromium156-publish-simulcast")
            .negotiated
            .video
            .unwrap()
            .ssrc,
        None
    );
    assert_eq!(answer_file("firefox153-watch").negotiated.video.unwrap().ssrc, None);
}

#[test]
fn viewers_learn_the_ssrcs_main_first() {
    let sdp = answer_file("chromium156-watch").sdp;
    let lines: Vec<_> = section(&sdp, "video")
        .lines()
        .filter(|l| l.contains("ssrc") || l.contains("msid"))
        .collect();
    assert_eq!(
        lines,
        [
            "a=msid:live live-video",
            "a=ssrc-group:FID 1001 1002",
            "a=ssrc:1001 cname:live",
            "a=ssrc:1001 msid:live live-video",
            "a=ssrc:1002 cname:live",
            "a=ssrc:1002 msid:live live-video",
        ]
    );
    assert!(section(&sdp, "audio").contains("a=msid:live live-audio\r\na=ssrc:1003 cname:live\r\n"));
    let no_rtx = file("chromium156-watch").replace("rtx/90000", "xtr/90000");
    let sdp = answer(&no_rtx, VIEWER).unwrap().sdp;
    assert!(sdp.contains("a=ssrc:1001 ") && !sdp.contains("1002"));
}

#[test]
fn another_parser_reads_the_answers() {
    for name in PUBLISHERS.into_iter().chain(VIEWERS) {
        let answer = answer_file(name);
        let parsed = RTCSessionDescription::answer(answer.sdp).unwrap_or_else(|e| panic!("{name}: {e}"));
        let parsed = parsed.unmarshal().unwrap();
        let media = &parsed.media_descriptions;
        assert_eq!(media.len(), 2, "{name}");
        for (line, negotiated) in media.iter().zip([answer.negotiated.audio, answer.negotiated.video]) {
            let negotiated = negotiated.unwrap();
            let numbers = negotiated
                .formats
                .iter()
                .flat_map(|f| [Some(f.payload_type), f.rtx])
                .flatten();
            let numbers: Vec<String> = numbers.map(|n| n.to_string()).collect();
            assert_eq!(line.media_name.formats, numbers, "{name}");
            assert_eq!(line.attribute("mid"), Some(Some(&*negotiated.mid)), "{name}");
        }
    }
}
