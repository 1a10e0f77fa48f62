//! RTCP to the publisher, and the clock from its sender reports.

use onecast_rtc::rtp::{Pt, RtpTime, Ssrc};
use rtc_rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;

use super::*;

#[test]
fn keyframe_requests_are_coalesced() {
    let mut world = World::new();
    world.video(10, KEY);
    let mut sent = Vec::new();
    for number in 0..18 {
        world.ingest.request_keyframe(KeyframeNeed::Urgent);
        let said = world.run(100);
        let asked = said.iter().filter(|(_, said)| *said == Said::Pli(VIDEO.0));
        sent.extend(asked.map(|(at, _)| *at));
        if sent.last().is_some_and(|at| at / 100 == number) {
            world.video(11 + number as u16, KEY);
        }
    }
    assert_eq!(sent, [0, 500, 1_000, 1_500]);
}

#[test]
fn a_publisher_that_has_sent_nothing_is_not_asked_for_a_keyframe() {
    let mut announced = config();
    announced.negotiated.video.as_mut().unwrap().ssrc = Some(VIDEO);
    let mut world = World::with(&announced);
    world.ingest.request_keyframe(KeyframeNeed::Urgent);
    let asked = |said: &Said| matches!(said, Said::Pli(_));
    assert!(!world.run(5_000).iter().any(|(_, said)| asked(said)));
    world.video(10, KEY);
    assert!(!world.said().iter().any(asked), "it has begun with a keyframe");
    let mut world = World::with(&announced);
    world.ingest.request_keyframe(KeyframeNeed::Urgent);
    assert!(!world.said().iter().any(asked));
    world.rtp(VIDEO, VP8, 10, DELTA).unwrap_err();
    assert!(
        world.said().contains(&Said::Pli(VIDEO.0)),
        "it has begun with something else"
    );
}

#[test]
fn an_unanswered_request_is_repeated() {
    let mut world = World::new();
    world.video(10, KEY);
    world.ingest.request_keyframe(KeyframeNeed::Urgent);
    let said = world.run(4_000);
    let asked = said.iter().filter(|(_, said)| *said == Said::Pli(VIDEO.0));
    assert_eq!(asked.map(|(at, _)| *at).collect::<Vec<_>>(), [0, 1_000, 3_000]);
    assert!(world.ingest.keyframe_stats().unanswered);
}

#[test]
fn a_keyframe_that_arrives_meanwhile_serves_the_pending_request() {
    let mut world = World::new();
    world.video(10, KEY);
    world.ingest.request_keyframe(KeyframeNeed::Urgent);
    assert_eq!(world.said(), [Said::Pli(VIDEO.0)]);
    world.pass(100);
    world.ingest.request_keyframe(KeyframeNeed::Urgent);
    world.video(11, KEY);
    assert!(!world.run(900).iter().any(|(_, said)| matches!(said, Said::Pli(_))));
}

#[test]
fn keyframes_are_requested_as_negotiated() {
    let mut only_fir = config();
    for format in &mut only_fir.negotiated.video.as_mut().unwrap().formats {
        format.pli = false;
    }
    let mut world = World::with(&only_fir);
    world.video(10, KEY);
    world.ingest.request_keyframe(KeyframeNeed::Urgent);
    assert_eq!(world.said(), []);
    assert_eq!(world.ingest.poll_timeout().map(|at| at > world.now), Some(true));
    only_fir.video_fir = true;
    let mut world = World::with(&only_fir);
    world.video(10, KEY);
    for number in 0..2 {
        world.ingest.request_keyframe(KeyframeNeed::Urgent);
        let said = world.said();
        assert!(said.contains(&Said::Fir(VIDEO.0, number)), "{said:?}");
        world.pass(1_000);
    }
}

#[test]
fn receiver_reports_contain_the_loss_and_the_last_sender_report() {
    let mut world = World::new();
    for sequence in (65_500..65_536_u32).chain(65_545..65_600) {
        world.rtp(AUDIO, OPUS, sequence as u16, &[1]).unwrap();
    }
    let mut sender_report = [0; 64];
    let len = rtcp::write_sender_report(&mut sender_report, AUDIO, 0x1111_2222_3333_4444, RtpTime(0), 0, 0, "x");
    world.pass(500);
    world.ingest.handle_rtcp(world.now, &sender_report[..len]);
    let blocks = world.run(600);
    let expected = Said::Block {
        about: AUDIO.0,
        fraction_lost: 23,
        lost: 9,
        highest: 65_599,
        last_sr: 0x2222_3333,
        delay: 32_768,
    };
    assert_eq!(blocks, [(1_000, expected)]);
    assert_eq!(world.run(5_000), []);
}

#[test]
fn the_newest_of_several_early_sender_reports_counts() {
    let mut world = World::new();
    let mut report = [0; 64];
    for ntp in [1 << 32, 2 << 32] {
        let len = rtcp::write_sender_report(&mut report, VIDEO, ntp, RtpTime(30_000), 0, 0, "x");
        world.ingest.handle_rtcp(world.now, &report[..len]);
    }
    for sequence in [10, 11] {
        world.video(sequence, KEY);
        assert_eq!(world.ingest.clock(Kind::Video).map(|clock| clock.ntp), Some(2 << 32));
    }
}

#[test]
fn sender_reports_are_mapped_to_the_tracks_timeline() {
    let mut world = World::new();
    let mut report = [0; 64];
    let len = rtcp::write_sender_report(&mut report, VIDEO, 1 << 32, RtpTime(30_000 + 900), 0, 0, "x");
    world.ingest.handle_rtcp(world.now, &report[..len]);
    assert_eq!(world.ingest.clock(Kind::Video), None);
    let packet = world.video(10, KEY);
    let clock = world.ingest.clock(Kind::Video).unwrap();
    assert_eq!(
        (clock.ntp, clock.rtp.ticks_since(packet.timestamp), clock.received_at),
        (1 << 32, 900, world.now)
    );
    let len = rtcp::write_sender_report(&mut report, VIDEO, 2 << 32, RtpTime(30_000 + 90_900), 0, 0, "x");
    world.ingest.handle_rtcp(world.now, &report[..len]);
    assert_eq!(
        world
            .ingest
            .clock(Kind::Video)
            .unwrap()
            .rtp
            .ticks_since(packet.timestamp),
        90_900
    );
    assert_eq!(world.ingest.clock(Kind::Audio), None);
}

#[test]
fn extensions_for_viewers_are_passed_on() {
    let mut world = World::new();
    let out = header(VIDEO, VP8, 1);
    let packet = world
        .send(out, &[(TWCC_ID, &[0, 1]), (4, &[1]), (5, &[7; 8]), (9, &[3])], KEY)
        .unwrap()
        .unwrap();
    let passed: Vec<_> = packet.extensions.iter().collect();
    assert_eq!(
        passed,
        [(Passed::VideoOrientation, &[1][..]), (Passed::AbsCaptureTime, &[7; 8])]
    );
}

fn transport_feedback(datagrams: &[Vec<u8>]) -> Vec<TransportLayerCc> {
    let packets = datagrams
        .iter()
        .flat_map(|datagram| rtc_rtcp::packet::unmarshal(&mut &datagram[..]).unwrap());
    packets
        .filter_map(|packet| packet.as_any().downcast_ref::<TransportLayerCc>().cloned())
        .collect()
}

#[test]
fn transport_feedback_covers_every_ssrc_of_the_transport() {
    let mut world = World::new();
    let arrivals = [
        (VIDEO, VP8, 100_u16),
        (AUDIO, OPUS, 101),
        (VIDEO_RTX, VP8_RTX, 103),
        (Ssrc(9), Pt(77), 104),
    ];
    for (ssrc, payload_type, transport_sequence) in arrivals {
        let out = HeaderOut {
            padding: true,
            ..header(ssrc, payload_type, transport_sequence)
        };
        let _ = world.send(out, &[(TWCC_ID, &transport_sequence.to_be_bytes())], &[0, 2]);
        world.pass(10);
    }
    let _ = world.feedback();
    assert_eq!(
        world.ingest.poll_timeout(),
        Some(world.start + Duration::from_millis(50))
    );
    world.now = world.start + Duration::from_millis(50);
    let feedback = transport_feedback(&world.feedback());
    let [ref one] = feedback[..] else {
        panic!("{feedback:?}")
    };
    assert_eq!(
        (one.sender_ssrc, one.base_sequence_number, one.packet_status_count),
        (LOCAL.0, 100, 5)
    );
    let deltas: Vec<_> = one.recv_deltas.iter().map(|delta| delta.delta).collect();
    assert_eq!(deltas, [0, 10_000, 10_000, 10_000]);
    assert_eq!(transport_feedback(&world.feedback()), []);
}

#[test]
fn transport_feedback_comes_steadily_and_misses_nothing() {
    let mut world = World::new();
    let (mut reported, mut packets) = (0, 0);
    for sequence in 65_000..66_000_u32 {
        let out = header(AUDIO, OPUS, sequence as u16);
        world
            .send(out, &[(TWCC_ID, &(sequence as u16).to_be_bytes())], &[1])
            .unwrap();
        world.pass(2);
        for feedback in transport_feedback(&world.feedback()) {
            assert_eq!(u32::from(feedback.base_sequence_number), (65_000 + reported) % 65_536);
            reported += u32::from(feedback.packet_status_count);
            packets += 1;
        }
    }
    assert_eq!(reported, 1_000);
    assert!((38..=40).contains(&packets), "{packets}");
}

#[test]
fn no_transport_feedback_unless_negotiated() {
    let mut config = config();
    let Negotiated {
        audio: Some(audio),
        video: Some(video),
    } = &mut config.negotiated
    else {
        panic!()
    };
    audio
        .formats
        .iter_mut()
        .chain(&mut video.formats)
        .for_each(|format| format.transport_cc = false);
    let mut world = World::with(&config);
    let out = header(AUDIO, OPUS, 1);
    world.send(out, &[(TWCC_ID, &[0, 1])], &[1]).unwrap();
    world.pass(200);
    assert_eq!(world.feedback(), Vec::<Vec<u8>>::new());
}
