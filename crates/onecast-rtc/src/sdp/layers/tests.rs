use super::*;
use crate::rtp::video_layers_allocation::LayersAllocation;
use crate::sdp::{AnswerParams, Offer, Role, TrackSsrcs};
use crate::{Fingerprint, IceCredentials};

const SIMULCAST: [&str; 4] = [
    "chromium156-vp8-simulcast",
    "chromium156-h264-simulcast",
    "chromium156-av1-simulcast",
    "firefox153-vp8-simulcast",
];
const ONE_ENCODING: [&str; 3] = ["chromium156-vp9-svc", "chromium156-av1-svc", "chromium156-h264-l1t3"];

fn file(path: &str) -> String {
    let path = format!("{}/../../tests/data/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn offer(name: &str) -> String {
    file(&format!("layers/{name}.offer.sdp"))
}

/// The answer to a publisher that accepts its layers, and what it accepts.
fn accept(offer: &str) -> (String, Option<SendLayers>) {
    let offer = Offer::parse(offer).unwrap();
    let agreement = offer.negotiate(Role::Publisher).unwrap().with_layers();
    (agreement.write(Role::Publisher, &params(&ice())), agreement.layers())
}

fn ice() -> IceCredentials {
    IceCredentials {
        ufrag: "ours".into(),
        pwd: "ourpasswordisalittlelong".into(),
    }
}

fn params(ice: &IceCredentials) -> AnswerParams<'_> {
    AnswerParams {
        ice,
        fingerprint: Fingerprint([0xAB; 32]),
        candidates: &[],
        session_id: 42,
        stream: "live",
    }
}

/// Lines of an answer about layers, without the directions of header extensions.
fn layer_lines(sdp: &str) -> Vec<String> {
    let is_extension = |line: &str| {
        LayerExtension::ALL
            .into_iter()
            .any(|extension| line.ends_with(extension.uri()))
    };
    let is_of_layers =
        |line: &&str| line.starts_with("a=rid:") || line.starts_with("a=simulcast:") || is_extension(line);
    let lines = sdp.lines().filter(is_of_layers);
    let mut lines: Vec<String> = lines.map(|line| line.replace("/recvonly", "")).collect();
    lines.sort();
    lines
}

/// An offer of one video line with these attributes.
fn with_attributes(attributes: &[&str]) -> String {
    let offer = offer("chromium156-vp8-simulcast");
    let mut lines: Vec<&str> = offer
        .lines()
        .filter(|line| !line.starts_with("a=rid") && !line.starts_with("a=simulcast"))
        .collect();
    lines.extend(attributes);
    lines.join("\r\n") + "\r\n"
}

fn layers(attributes: &[&str]) -> SendLayers {
    let offer = Offer::parse(&with_attributes(attributes)).unwrap();
    offer
        .negotiate(Role::Publisher)
        .unwrap()
        .with_layers()
        .layers()
        .unwrap()
}

/// Rids as they are named in an attribute, with `~` in front of paused ones.
fn rids(layers: &SendLayers) -> String {
    let name = |layer: &SendLayer| {
        let paused = if layer.is_paused { "~" } else { "" };
        format!("{paused}{}", layer.rid.map(|rid| rid.to_string()).unwrap_or_default())
    };
    layers.as_slice().iter().map(name).collect::<Vec<_>>().join(";")
}

#[test]
fn browsers_get_the_lines_after_which_they_send_everything() {
    for name in SIMULCAST.into_iter().chain(ONE_ENCODING) {
        let (answer, layers) = accept(&offer(name));
        let layers = layers.unwrap();
        let mut expected = layer_lines(&file(&format!("layers/{name}.answer.sdp")));
        if !layers.is_simulcast() {
            // Packets of one encoding need no rid.
            expected.retain(|line| !line.ends_with("rtp-stream-id"));
        }
        assert_eq!(layer_lines(&answer), expected, "{name}");
        assert!(
            answer.contains("a=extmap-allow-mixed\r\n"),
            "{name}: descriptors take the two-byte form"
        );
        assert!(
            answer.contains("#dependency-descriptor-rtp-header-extension\r\n"),
            "{name}"
        );
        assert!(Offer::parse(&answer.replace("a=ice-lite\r\n", "")).is_ok());
    }
}

#[test]
fn simulcast_of_browsers_has_three_rids_in_their_order() {
    for name in SIMULCAST {
        let layers = accept(&offer(name)).1.unwrap();
        assert_eq!((&*rids(&layers), layers.ignored()), ("q;h;f", 0), "{name}");
        assert_eq!(
            (layers.index("q"), layers.index("f"), layers.index("x")),
            (Some(0), Some(2), None)
        );
        assert!(layers.is_simulcast() && layers.rid_extension().is_some());
        assert!(layers.repaired_rid_extension().is_some());
        assert_eq!(
            layers.allocation_extension().is_some(),
            name.starts_with("chromium"),
            "{name}"
        );
        let announced = layers.as_slice().iter().filter(|layer| layer.ssrc.is_some()).count();
        assert_eq!(announced, if name.starts_with("firefox") { 3 } else { 0 }, "{name}");
    }
}

#[test]
fn firefox_announces_ssrcs_for_each_layer_and_directions_of_extensions() {
    let (answer, layers) = accept(&offer("firefox153-vp8-simulcast"));
    let ssrcs = [
        (1_576_539_487, 536_491_985),
        (2_422_648_284, 3_877_857_921),
        (2_833_380_658, 3_031_555_695),
    ];
    let layers = layers.unwrap();
    let found = layers.as_slice().iter().map(|layer| (layer.ssrc, layer.rtx_ssrc));
    assert!(found.eq(ssrcs.map(|(main, rtx)| (Some(Ssrc(main)), Some(Ssrc(rtx))))));
    assert_eq!(
        (layers.rid_extension(), layers.repaired_rid_extension()),
        (Some(9), Some(10))
    );
    assert!(answer.contains("a=extmap:9/recvonly urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n"));
    assert!(answer.contains("a=extmap:8/recvonly https://aomediacodec.github.io/"));
}

#[test]
fn one_encoding_has_no_rid_and_keeps_its_ssrcs() {
    for name in ONE_ENCODING {
        let (answer, layers) = accept(&offer(name));
        let layers = layers.unwrap();
        let [layer] = layers.as_slice() else {
            panic!("{name}: {layers:?}")
        };
        assert!(
            layer.rid.is_none() && layer.ssrc.is_some() && layer.rtx_ssrc.is_some(),
            "{name}"
        );
        assert_eq!(
            (layers.allocation_extension(), layers.rid_extension()),
            (Some(14), None),
            "{name}"
        );
        assert!(!answer.contains("rid") && !answer.contains("simulcast"), "{name}");
    }
}

/// From version 32.1 on OBS sends simulcast. It announces the first SSRC only, and its lowest rid is the largest picture.
#[test]
fn obs_lists_its_largest_layer_first() {
    let all = file("offers/obs32-publish-simulcast.sdp");
    let is_first = |line: &&str| !line.starts_with("a=ssrc:2718281830") && !line.starts_with("a=ssrc:2718281831");
    let first = all.lines().filter(is_first).collect::<Vec<_>>().join("\r\n") + "\r\n";
    for (text, announced) in [
        (&first, [None; 3]),
        (
            &all,
            [2_718_281_829, 2_718_281_830, 2_718_281_831].map(|ssrc| Some(Ssrc(ssrc))),
        ),
    ] {
        let (answer, layers) = accept(text);
        let layers = layers.unwrap();
        assert_eq!(rids(&layers), "0;1;2");
        assert!(layers.as_slice().iter().map(|layer| layer.ssrc).eq(announced));
        assert_eq!(
            (layers.rid_extension(), layers.repaired_rid_extension()),
            (Some(2), None)
        );
        assert_eq!(layers.allocation_extension(), None);
        assert!(answer.contains("a=simulcast:recv 0;1;2\r\n"));
        assert_eq!(answer.matches("a=simulcast").count(), 1);
    }
}

#[test]
fn viewers_and_answers_without_layers_have_none_of_it() {
    let viewer = Role::Viewer(TrackSsrcs::default());
    for name in ["chromium156-watch", "firefox153-watch"] {
        let offer = offer(name);
        let offer = Offer::parse(&offer).unwrap();
        let agreement = offer.negotiate(viewer).unwrap().with_layers();
        assert_eq!(agreement.layers(), None, "{name}");
        assert_eq!(
            layer_lines(&agreement.write(viewer, &params(&ice()))),
            [""; 0],
            "{name}"
        );
    }
    for name in SIMULCAST.into_iter().chain(ONE_ENCODING) {
        let offer = offer(name);
        let offer = Offer::parse(&offer).unwrap();
        let agreement = offer.negotiate(Role::Publisher).unwrap();
        assert_eq!(agreement.layers(), None, "{name}");
        assert_eq!(
            layer_lines(&agreement.write(Role::Publisher, &params(&ice()))),
            [""; 0],
            "{name}"
        );
    }
}

const THREE: [&str; 3] = ["a=rid:q send", "a=rid:h send", "a=rid:f send"];

#[test]
fn the_first_usable_alternative_stands_for_its_encoding() {
    for (simulcast, expected) in [
        ("send q,h;f", "q;f"),
        ("send x,h;f", "h;f"),
        ("send q,q;q,f", "q;f"),
        ("send ~q,h;f", "~q;f"),
        ("recv a;b send q;h", "q;h"),
        ("send q;h recv a", "q;h"),
        ("recv send send q;h", "q;h"),
        (" send f;~h;~q", "f;~h;~q"),
    ] {
        let simulcast = format!("a=simulcast:{simulcast}");
        let layers = layers(&[&THREE[..], &[&simulcast]].concat());
        assert_eq!((&*rids(&layers), layers.ignored()), (expected, 0), "{simulcast}");
    }
}

#[test]
fn answers_list_what_is_taken_and_keep_paused_encodings_paused() {
    for (simulcast, listed, declared) in [
        ("send q;h;~f", "q;h;~f", ["q", "h", "f"].as_slice()),
        ("send ~q;~h", "~q;~h", &["q", "h"]),
        // Alternatives: the first that is usable, with its own mark.
        ("send ~q,h;f", "~q;f", &["q", "f"]),
        ("send q,~h;~x,f", "q;f", &["q", "f"]),
        // Without the rids that are left out.
        ("send q;x;~f", "q;~f", &["q", "f"]),
        ("send ~q;q;h", "~q;h", &["q", "h"]),
    ] {
        let attribute = format!("a=simulcast:{simulcast}");
        let (answer, _) = accept(&with_attributes(&[&THREE[..], &[&attribute]].concat()));
        let lines = |prefix: &str| -> Vec<&str> { answer.lines().filter(|line| line.starts_with(prefix)).collect() };
        assert_eq!(
            lines("a=simulcast:"),
            [format!("a=simulcast:recv {listed}")],
            "{simulcast}"
        );
        let expected: Vec<_> = declared.iter().map(|rid| format!("a=rid:{rid} recv")).collect();
        assert_eq!(lines("a=rid:"), expected, "{simulcast}");
    }
}

#[test]
fn encodings_keep_the_numbers_that_allocations_give_them() {
    let layers = layers(&[&THREE[..], &["a=simulcast:send q;x;f"]].concat());
    assert_eq!(rids(&layers), "q;f");
    assert!(layers.as_slice().iter().map(|layer| layer.stream).eq([0, 2]));
    let found: Vec<_> = (0..4).map(|stream| layers.index_of_stream(stream)).collect();
    assert_eq!(found, [Some(0), None, Some(1), None]);
    let single = accept(&offer("chromium156-vp9-svc")).1.unwrap();
    assert_eq!((single.index_of_stream(0), single.index_of_stream(1)), (Some(0), None));
}

#[test]
fn rids_that_cannot_be_used_are_left_out() {
    let long = "x".repeat(Rid::LEN_MAX + 1);
    for (attributes, expected, ignored) in [
        (&["a=simulcast:send q;x;f"][..], "q;f", 1),
        (&["a=simulcast:send q;q;f"], "q;f", 1),
        (&["a=simulcast:send q;;h f"], "q;h", 1),
        (&["a=rid:r recv", "a=simulcast:send q;r"], "q", 1),
        (
            &[
                "a=rid:r send",
                "a=rid:s send pt=96;max-br=1",
                "a=simulcast:send f;h;q;r;s",
            ],
            "f;h;q;r",
            1,
        ),
        (&["a=simulcast:send q", "a=simulcast:send h;f"], "q", 0),
        (
            &[&format!("a=rid:{long} send"), &format!("a=simulcast:send {long};q")],
            "q",
            1,
        ),
        (&["a=rid:q send", "a=simulcast:send q;h"], "q;h", 0),
    ] {
        let layers = layers(&[&THREE[..], attributes].concat());
        assert_eq!(
            (&*rids(&layers), layers.ignored()),
            (expected, ignored),
            "{attributes:?}"
        );
    }
}

#[test]
fn simulcast_that_cannot_be_read_is_one_encoding() {
    for attributes in [
        &[][..],
        &["a=simulcast:send"],
        &["a=simulcast:recv q;h"],
        &["a=simulcast:"],
        &["a=simulcast:send ;;,,"],
        &["a=simulcast:send a;b"],
    ] {
        let layers = layers(&[&THREE[..], attributes].concat());
        assert!(layers.as_slice().len() == 1 && !layers.is_simulcast(), "{attributes:?}");
    }
    let without_rids = offer("chromium156-vp8-simulcast").replace("sdes:rtp-stream-id", "sdes:other");
    let (answer, layers) = accept(&without_rids);
    assert!(
        !layers.unwrap().is_simulcast() && !answer.contains("a=rid"),
        "packets do not name their rids"
    );
}

#[test]
fn ssrcs_are_bound_only_if_there_is_one_for_each_encoding() {
    let simulcast = "a=simulcast:send q;x;f";
    let groups = ["a=ssrc-group:FID 1 2", "a=ssrc-group:FID 3 4", "a=ssrc-group:FID 5 6"];
    let announced = |groups: &[&str]| {
        let layers = layers(&[&THREE[..], groups, &[simulcast]].concat());
        assert_eq!(rids(&layers), "q;f");
        let ssrcs = layers.as_slice().iter().map(|layer| (layer.ssrc, layer.rtx_ssrc));
        ssrcs.collect::<Vec<_>>()
    };
    let both = |main, rtx| (Some(Ssrc(main)), Some(Ssrc(rtx)));
    assert_eq!(announced(&groups), [both(1, 2), both(5, 6)]);
    assert_eq!(announced(&groups[1..]), [(None, None); 2]);
    assert_eq!(
        announced(&[groups[0], groups[1], "a=ssrc-group:FID 5 1"]),
        [(None, None); 2]
    );
    assert_eq!(
        announced(&[groups[0], "a=ssrc-group:SIM 1 3 5", groups[1], groups[2]]),
        [both(1, 2), both(5, 6)]
    );
    let without_rtx = announced(&[
        "a=ssrc:1 cname:x",
        "a=ssrc:2 cname:x",
        "a=ssrc:1 msid:x",
        "a=ssrc:3 cname:x",
    ]);
    assert_eq!(without_rtx, [(Some(Ssrc(1)), None), (Some(Ssrc(3)), None)]);
}

#[test]
fn the_number_of_rids_is_bounded() {
    let names: Vec<String> = (0..1_000).map(|index| format!("r{index}")).collect();
    let mut attributes: Vec<String> = names.iter().map(|name| format!("a=rid:{name} send")).collect();
    attributes.extend(names.iter().map(|name| format!("a=ssrc:{} cname:x", &name[1..])));
    attributes.push(format!("a=simulcast:send {}", names.join(";")));
    let attributes: Vec<&str> = attributes.iter().map(String::as_str).collect();
    let layers = layers(&attributes);
    assert_eq!((&*rids(&layers), layers.ignored()), ("r0;r1;r2;r3", LISTED_MAX - 4));
    let alternatives = format!("a=simulcast:send {},q", "x,".repeat(1_000));
    assert!(!self::layers(&[&THREE[..], &[&alternatives]].concat()).is_simulcast());
}

#[test]
fn ids_of_other_extensions_are_not_taken() {
    let clash = offer("chromium156-vp8-simulcast").replace("a=extmap:14 ", "a=extmap:13 ");
    assert_eq!(accept(&clash).1.unwrap().allocation_extension(), None);
    let clash = offer("chromium156-vp8-simulcast").replace("a=extmap:11 ", "a=extmap:10 ");
    let layers = accept(&clash).1.unwrap();
    assert_eq!(
        (layers.rid_extension(), layers.repaired_rid_extension()),
        (Some(10), None)
    );
    let received = offer("chromium156-vp8-simulcast").replace("a=extmap:14 ", "a=extmap:14/recvonly ");
    assert_eq!(accept(&received).1.unwrap().allocation_extension(), None);
}

#[test]
fn a_line_has_as_many_layers_as_an_allocation_names() {
    assert_eq!(SendLayers::MAX, LayersAllocation::STREAMS_MAX);
}
