//! Bodies of the fuzz targets, one for each parser of bytes from the network. Each takes any bytes and panics only when the
//! server breaks a guarantee. They live in the library so that its tests replay the corpora without a fuzzer.

#[cfg(test)]
mod corpus;
mod layers;

pub use layers::{dependency_descriptor, layers_allocation, payload_descriptor, sdp_layers};

use std::collections::{HashSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use onecast_control::drain::Destination;
use onecast_control::ended::Note;
use onecast_engine::fanout::{Shard, ShardConfig};
use onecast_engine::media::{Inbox, Wake};
use onecast_rtc::dtls::{Association, Step};
use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::rtp::{Codec, Pt, Refresh, Ssrc, keyframe, refresh, rtcp};
use onecast_rtc::sdp::{
    Answer, AnswerParams, CounterAnswer, Fragment, FragmentParams, MAX_MEDIA_LINES, MAX_PAYLOAD_TYPES, MediaLine,
    Offer, Role, TrackSsrcs, announced_parameter_sets,
};
use onecast_rtc::transmit::{Outlet, SendQueue};
use onecast_rtc::{Certificate, DtlsRole, Fingerprint, IceCredentials, Path, PeerFingerprint, ice};
use onecast_udp::thread_cpu_time;

/// Takes any bytes; a panic is a bug.
pub type Target = fn(&[u8]);

/// Every target by name: the name of its file in `fuzz/fuzz_targets` and of its folder in `fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("config_file", config_file),
    ("datagram", datagram),
    ("dependency_descriptor", dependency_descriptor),
    ("dtls", dtls),
    ("event_names", event_names),
    ("forwarded", forwarded),
    ("ice_server", ice_server),
    ("if_match", if_match),
    ("jwt", jwt),
    ("layer_choice", layer_choice),
    ("layers_allocation", layers_allocation),
    ("load_answer", load_answer),
    ("operator", operator),
    ("paste", paste),
    ("payload_descriptor", payload_descriptor),
    ("redirect", redirect),
    ("room_messages", room_messages),
    ("rtcp", rtcp),
    ("rtp", rtp),
    ("sdp_answer", sdp_answer),
    ("sdp_call", sdp_call),
    ("sdp_fragment", sdp_fragment),
    ("sdp_layers", sdp_layers),
    ("sdp_offer", sdp_offer),
    ("stun", stun),
    ("tokens", tokens),
];

/// A configuration file: TOML whose keys are options.
pub fn config_file(data: &[u8]) {
    crate::config::fuzz_file(data);
}

/// What a member of a conference room says, in JSON.
pub fn room_messages(data: &[u8]) {
    crate::http::fuzz_messages(data);
}

/// URL of a STUN or TURN server.
pub fn ice_server(data: &[u8]) {
    crate::turn::fuzz_url(data);
}

/// What a server under load answers: SDP to our offer.
pub fn load_answer(data: &[u8]) {
    onecast_clients::load::fuzz_answer(data);
}

/// `Forwarded` and `X-Forwarded-For`, alternating line by line.
pub fn forwarded(data: &[u8]) {
    crate::http::fuzz_forwarded(data);
}

/// The names of events that a viewer subscribes to.
pub fn event_names(data: &[u8]) {
    crate::http::fuzz_event_names(data);
}

/// Which layers of its stream a viewer chooses, in JSON.
pub fn layer_choice(data: &[u8]) {
    crate::http::fuzz_layer_choice(data);
}

/// What an operator writes: a reason for the log and for pages, and the URL of another server for a header.
pub fn operator(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(note) = text.parse::<Note>() {
        let said = note.to_string();
        assert!(!said.is_empty() && said.lines().count() == 1 && !said.chars().any(char::is_control));
        assert_eq!(said.parse(), Ok(note));
    }
    if let Ok(to) = text.parse::<Destination>() {
        let url = to.of("/whip/live?a=b");
        assert!(url.starts_with("http") && url.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(url.ends_with("/whip/live?a=b") && !to.to_string().contains(['?', '#', '@']));
        assert_eq!(to.to_string().parse(), Ok(to));
    }
}

/// A signed token, its claims, or the keys for them.
pub fn jwt(data: &[u8]) {
    crate::auth::fuzz_jwt(data);
}

/// A file of tokens.
pub fn tokens(data: &[u8]) {
    crate::auth::fuzz_tokens(data);
}

/// A pasted text: base64, JSON, SDP or none of them.
pub fn paste(data: &[u8]) {
    crate::http::fuzz_pasted_sdp(data);
}

/// `If-Match` of a PATCH, one header line per line.
pub fn if_match(data: &[u8]) {
    crate::http::fuzz_if_match(data);
}

/// Host and path of a request that came without TLS.
pub fn redirect(data: &[u8]) {
    crate::http::fuzz_redirect(data);
}

/// An RTP packet: header, extensions, payload, keyframe detection for every codec.
pub fn rtp(data: &[u8]) {
    let Ok(header) = RtpHeader::parse(data) else { return };
    assert!(header.len <= data.len());
    for (_, value) in header.extensions(data) {
        assert!(value.len() <= data.len());
    }
    let Ok(payload) = header.payload(data) else { return };
    for codec in Codec::ALL {
        let refresh = refresh::refresh(codec, payload);
        assert!(
            refresh != Some(Refresh::Keyframe) || keyframe::starts_keyframe(codec, payload),
            "a picture, but no keyframe"
        );
        keyframe::parameter_sets(codec, payload, |set| assert!(set.nal.len() <= payload.len()));
        keyframe::picture_size(codec, payload);
    }
}

/// A compound RTCP packet.
pub fn rtcp(data: &[u8]) {
    let mut told = 0;
    let _ = rtcp::parse(data, |report| {
        told += 1;
        if let rtcp::Report::Nack { sequences, .. } = report {
            assert!(
                sequences.count() <= 17 * data.len() / 4,
                "a NACK asks for more than it can name"
            );
        }
    });
    assert!(told <= data.len(), "more reports than bytes");
}

/// A STUN datagram from a sender without the password: read, and never answered.
pub fn stun(data: &[u8]) {
    let _ = ice::local_ufrag(data);
    let _ = ice::probe::answered_tag(data);
    let local = IceCredentials {
        ufrag: "fuzz".into(),
        pwd: "0123456789012345678901".into(),
    };
    let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    assert!(
        ice::answer_binding(data, from, &local, "them").is_err(),
        "answered without the password"
    );
    assert!(
        ice::probe::answer_request(data, from, &local, "them").is_none(),
        "answered without the password"
    );
    let request = ice::probe::Transaction::new(0).expect("this machine has random numbers");
    assert!(
        !request.is_answered_by(data, &local.pwd),
        "an answer without the password"
    );
}

/// Any datagram to a shard that expects no client: counted, never answered.
pub fn datagram(data: &[u8]) {
    thread_local!(static SHARD: std::cell::RefCell<Shard> = std::cell::RefCell::new(idle_shard()));
    SHARD.with_borrow_mut(|shard| {
        let now = onecast_udp::clock::now();
        let stranger = Path::udp((Ipv4Addr::LOCALHOST, 9).into());
        shard.handle_datagram(now, stranger, &mut data.to_vec());
        shard.flush(&mut Silence);
        assert!(shard.poll_event().is_none() && shard.poll_misrouted().is_none());
        assert_eq!(shard.paths(), (0, 0), "an unknown sender is remembered");
    });
}

fn idle_shard() -> Shard {
    let inbox = Inbox::new(Box::new(Silence));
    let certificate = Certificate::generate().expect("this machine has cryptography");
    let wall = (onecast_udp::clock::now(), 0);
    let config = ShardConfig {
        id: 0,
        certificate,
        pli_interval: None,
        keyframe_share: 10,
        start: onecast_engine::fanout::StartConfig::default(),
        adapts: true,
        probe_share: ShardConfig::PROBE_SHARE,
        peers_max: 1,
        slice: ShardConfig::SLICE,
        wall,
    };
    Shard::new(config, inbox, Arc::default())
}

/// Wakes no thread, and panics when it is asked to send.
struct Silence;

impl Wake for Silence {
    fn wake(&self) {}
}

impl Outlet for Silence {
    fn send(&mut self, _: &mut SendQueue, _: &mut dyn FnMut(u32)) {
        panic!("an unknown sender was answered");
    }
}

/// DTLS of a client that has passed a check. The first byte gives its role and how many datagrams of a real handshake come first; then
/// each datagram follows its length (2 bytes). No input may cause more work than one handshake.
pub fn dtls(data: &[u8]) {
    let [control, rest @ ..] = data else { return };
    let roles = [DtlsRole::Client, DtlsRole::Server];
    let attacked = usize::from(control & 1);
    let mut sides = roles.map(|role| {
        let certificate = dtls_certificate();
        let fingerprint = PeerFingerprint::Sha256(certificate.fingerprint());
        Association::new(certificate, role, vec![fingerprint])
    });
    let now = onecast_udp::clock::now();
    let mut on_the_way = VecDeque::new();
    sides[0].start(now, &mut |bytes| on_the_way.push_back((1, bytes)));
    for _ in 0..control >> 1 {
        let Some((to, bytes)) = on_the_way.pop_front() else {
            break;
        };
        sides[to].handle(now, &bytes, &mut |bytes| on_the_way.push_back((1 - to, bytes)));
    }
    let side = &mut sides[attacked];
    let (began, fed) = (thread_cpu_time(), side.fed());
    let (mut received, mut sent) = (0, 0);
    let mut rest = rest;
    while let Some((len, more)) = rest.split_first_chunk() {
        let (datagram, more) = more.split_at(usize::from(u16::from_be_bytes(*len)).min(more.len()));
        rest = more;
        received += datagram.len();
        match side.handle(now, datagram, &mut |bytes| sent += bytes.len()) {
            None | Some(Step::Connected(_)) => {}
            Some(_) => break,
        }
        assert!(side.held() <= DTLS_HELD_MAX, "{} bytes are kept", side.held());
    }
    let fed = side.fed() - fed;
    assert!(
        fed <= DTLS_FED_MAX && fed <= 4 * received + 1_024,
        "{fed} of {received} bytes"
    );
    assert!(sent <= received + DTLS_FLIGHTS_MAX, "{sent} bytes for {received}");
    let took = thread_cpu_time().zip(began).map(|(now, began)| now - began);
    assert!(
        took.is_none_or(|took| took < DTLS_TIME_MAX),
        "{took:?} for {received} bytes"
    );
}

fn dtls_certificate() -> Certificate {
    thread_local!(static CERTIFICATE: Certificate = Certificate::generate().expect("this machine has cryptography"));
    CERTIFICATE.with(Certificate::clone)
}

/// The parts of one flight, and a few records that wait for a key.
const DTLS_HELD_MAX: usize = 25 * 1024;
/// A ClientHello goes to the crate three times, and the longest two flights have `DTLS_HELD_MAX`.
const DTLS_FED_MAX: usize = 4 * DTLS_HELD_MAX;
/// The flights of one handshake, and the repetitions of our last one.
const DTLS_FLIGHTS_MAX: usize = 4 * 1024;
/// CPU time for a whole input: a handshake takes a millisecond, a few in a fuzzer's build.
const DTLS_TIME_MAX: Duration = Duration::from_millis(500);

/// Reads an offer, answers it in both roles, and checks that each answer is consistent.
pub fn sdp_offer(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Offer::parse(text) {
        Ok(offer) => {
            let viewer = Role::Viewer(SSRCS);
            for (role, other, may) in [
                (Role::Publisher, viewer, offer.can_send()),
                (viewer, Role::Publisher, offer.can_receive()),
            ] {
                let Ok(answer) = answer(&offer, role) else {
                    continue;
                };
                assert!(may, "answered although no line flows that way");
                check_answer(text, &answer);
                check_mirror(&answer, other);
            }
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
    }
}

/// Reads the answer of a client to a counter-offer, and checks that what it agrees to is consistent.
pub fn sdp_answer(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match CounterAnswer::parse(text) {
        Ok(answer) => {
            let negotiated = &answer.negotiated;
            assert!(negotiated.audio.is_some() || negotiated.video.is_some());
            [&negotiated.audio, &negotiated.video]
                .into_iter()
                .flatten()
                .for_each(check_line);
            assert!(!answer.remote.fingerprints.is_empty());
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
    }
}

/// Offers and answers of one member of a room, with a line `---` between two texts.
pub fn sdp_call(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    onecast_rtc::sdp::negotiation::fuzz(text);
}

/// The body of a trickle PATCH.
pub fn sdp_fragment(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(fragment) = Fragment::parse(text) {
        assert!(fragment.candidates <= text.split('\n').count());
        // Our own fragment repeats parts of it unchanged.
        let ice = IceCredentials {
            ufrag: "fuzz".into(),
            pwd: "0123456789012345678901".into(),
        };
        let ours = FragmentParams {
            ice: &ice,
            candidates: &[],
            line: fragment.line.as_ref(),
        };
        let read = Fragment::parse(&ours.write()).expect("what we write can be read");
        assert_eq!((read.line, read.candidates), (fragment.line, 0));
        assert_eq!(read.ufrag, Some(ice.ufrag));
        assert!(fragment.ufrag.is_none_or(|ufrag| (4..=256).contains(&ufrag.len())));
        assert!(fragment.pwd.is_none_or(|pwd| (22..=256).contains(&pwd.len())));
    }
}

fn answer(offer: &Offer, role: Role) -> Result<Answer, onecast_rtc::sdp::SdpError> {
    let ice = IceCredentials {
        ufrag: "fuzz".into(),
        pwd: "0123456789012345678901".into(),
    };
    let params = AnswerParams {
        ice: &ice,
        fingerprint: Fingerprint([7; 32]),
        candidates: &[SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 8080)],
        session_id: 1,
        stream: "live",
    };
    offer.answer(role, &params)
}

fn check_answer(offer: &str, answer: &Answer) {
    let sdp = &answer.sdp;
    assert!(sdp.starts_with("v=0\r\n"));
    assert!(sdp.ends_with("\r\n"));
    for line in sdp.split_terminator("\r\n") {
        assert!(line.len() > 2 && line.as_bytes()[1] == b'=', "{line:?}");
        assert!(!line.contains(|c: char| c.is_ascii_control() && c != '\t'), "{line:?}");
    }
    let m_lines = |text: &str| {
        text.split('\n')
            .filter(|line| line.trim_ascii().starts_with("m="))
            .count()
    };
    assert_eq!(m_lines(offer), m_lines(sdp));
    // The repeated text, and what the answer adds for each line and payload type.
    assert!(sdp.len() <= offer.len() + 1024 * MAX_MEDIA_LINES + 256 * MAX_PAYLOAD_TYPES);
    let negotiated = &answer.negotiated;
    assert!(negotiated.audio.is_some() || negotiated.video.is_some());
    for line in [&negotiated.audio, &negotiated.video].into_iter().flatten() {
        check_line(line);
    }
}

fn check_line(line: &MediaLine) {
    assert!(!line.formats.is_empty());
    let mut numbers = HashSet::new();
    for format in &line.formats {
        assert_eq!(format.codec.kind(), line.kind);
        let sets = announced_parameter_sets(format.codec, &format.fmtp);
        assert!(sets.is_none_or(|sets| sets.len() <= 2 + keyframe::PARAMETER_SETS_BYTES_MAX));
        for number in [Some(format.payload_type), format.rtx].into_iter().flatten() {
            assert!(
                number < Pt(128) && numbers.insert(number),
                "payload type {number} twice"
            );
        }
    }
    let ids = line.extensions;
    let ids = [
        ids.mid,
        ids.transport_cc,
        ids.video_orientation,
        ids.abs_capture_time,
        ids.dependency_descriptor,
        ids.audio_level,
    ];
    let mut seen = HashSet::new();
    assert!(
        ids.into_iter()
            .flatten()
            .all(|id| id != 0 && id != 15 && seen.insert(id))
    );
}

/// An answer, read as an offer of the other side, agrees to the same formats.
fn check_mirror(answered: &Answer, other: Role) {
    let text = answered.sdp.replace("a=ice-lite\r\n", "");
    let mirror = Offer::parse(&text).expect("our own answer is SDP");
    let mirror = answer(&mirror, other)
        .expect("what was agreed can be agreed again")
        .negotiated;
    let formats = |line: &Option<MediaLine>| {
        let formats = line.as_ref().map(|line| &line.formats);
        let formats = formats.into_iter().flatten();
        formats.map(|f| (f.codec, f.payload_type, f.rtx)).collect::<Vec<_>>()
    };
    assert_eq!(formats(&mirror.audio), formats(&answered.negotiated.audio));
    assert_eq!(formats(&mirror.video), formats(&answered.negotiated.video));
}

const SSRCS: TrackSsrcs = TrackSsrcs {
    video: Ssrc(1),
    video_rtx: Ssrc(2),
    audio: Ssrc(3),
};
