//! Packets of every kind, and bytes that are none.

use super::*;
use onecast_testing::Noise;

fn reports(clear: &[u8]) -> Vec<Report<'_>> {
    let mut all = Vec::new();
    parse(clear, |report| all.push(report)).unwrap();
    all
}

#[test]
fn the_numbers_of_a_nack_are_counted_without_iterating() {
    let mut out = [0; 128];
    for sequences in [vec![7], vec![65_535, 0, 1, 40, 41, 60], (0..200).collect::<Vec<u16>>()] {
        let len = write_nack(&mut out, Ssrc(1), Ssrc(2), sequences.iter().copied());
        let Report::Nack {
            sequences: mut read, ..
        } = reports(&out[..len])[0]
        else {
            panic!("no NACK");
        };
        assert_eq!((read.len(), read.is_empty()), (sequences.len(), false));
        read.next();
        assert_eq!(read.len(), sequences.len() - 1);
    }
}

#[test]
fn a_sender_report_reads_back_and_has_a_cname() {
    let mut out = [0; 128];
    let len = write_sender_report(
        &mut out,
        Ssrc(7),
        0x1122_3344_5566_7788,
        RtpTime(90_000),
        12,
        3_400,
        "a",
    );
    let sender_report = Report::SenderReport {
        ssrc: Ssrc(7),
        ntp: 0x1122_3344_5566_7788,
        rtp: RtpTime(90_000),
        packets: 12,
        octets: 3_400,
    };
    assert_eq!(reports(&out[..len]), [sender_report, Report::Other]);
    let parsed = rtc_rtcp::packet::unmarshal(&mut &out[..len]).unwrap();
    let sdes = parsed[1]
        .as_any()
        .downcast_ref::<rtc_rtcp::source_description::SourceDescription>();
    assert_eq!(&sdes.unwrap().chunks[0].items[0].text[..], b"a");
}

#[test]
fn receiver_report_blocks_read_back() {
    let block = ReceptionBlock {
        about: Ssrc(9),
        fraction_lost: 64,
        lost: -3,
        highest: 0x1_0005,
        jitter: 17,
        last_sr: 0xaabb_ccdd,
        delay: 65_536,
    };
    let mut out = [0; 64];
    let len = write_receiver_report(&mut out, Ssrc(1), &[block]);
    assert_eq!(
        reports(&out[..len]),
        [Report::ReceiverReport {
            about: Ssrc(9),
            fraction_lost: 64,
            lost: -3,
            highest: 0x1_0005,
            jitter: 17,
            last_sr: 0xaabb_ccdd,
            delay: 65_536,
        }]
    );
    assert_eq!(write_receiver_report_empty(&mut out, Ssrc(1)), 8);
}

#[test]
fn nacks_are_packed_and_expand_over_the_wrap() {
    let wanted = [65_530, 65_535, 0, 10, 11, 200];
    let mut out = [0; 64];
    let len = write_nack(&mut out, Ssrc(1), Ssrc(2), wanted);
    assert_eq!(len, NACK_HEAD_LEN + 3 * 4);
    match reports(&out[..len])[..] {
        [
            Report::Nack {
                about: Ssrc(2),
                sequences,
            },
        ] => assert_eq!(sequences.collect::<Vec<_>>(), wanted),
        ref other => panic!("{other:?}"),
    }
    assert_eq!(write_nack(&mut out, Ssrc(1), Ssrc(2), []), 0);
}

#[test]
fn a_full_nack_pair_is_seventeen_numbers() {
    let pairs = [[0, 5, 0xff, 0xff]];
    assert_eq!(
        NackSequences::new(&pairs).collect::<Vec<_>>(),
        (5..22).collect::<Vec<u16>>()
    );
}

#[test]
fn keyframe_requests_read_back() {
    let mut out = [0; 64];
    let pli = write_pli(&mut out, Ssrc(1), Ssrc(2));
    let fir = write_fir(&mut out[pli..], Ssrc(1), Ssrc(3), 9);
    assert_eq!(
        reports(&out[..pli + fir]),
        [
            Report::Pli { about: Ssrc(2) },
            Report::Fir {
                about: Ssrc(3),
                number: 9
            }
        ]
    );
}

#[test]
fn a_goodbye_names_its_sources() {
    let bye = [0x82, 203, 0, 2, 0, 0, 0, 5, 0, 0, 0, 6];
    assert_eq!(
        reports(&bye),
        [Report::Bye { ssrc: Ssrc(5) }, Report::Bye { ssrc: Ssrc(6) }]
    );
}

#[test]
fn unknown_and_broken_packets_are_skipped_by_length() {
    let mut datagram = vec![0x81, 207, 0, 1, 9, 9, 9, 9];
    datagram.extend_from_slice(&[0x80, 200, 0, 1, 0, 0, 0, 1]);
    let mut pli = [0; 12];
    write_pli(&mut pli, Ssrc(1), Ssrc(2));
    datagram.extend_from_slice(&pli);
    assert_eq!(
        reports(&datagram),
        [Report::Other, Report::Other, Report::Pli { about: Ssrc(2) }]
    );
}

#[test]
fn reports_before_a_truncated_packet_are_read() {
    let mut datagram = [0; 24];
    write_pli(&mut datagram, Ssrc(1), Ssrc(2));
    datagram[12..16].copy_from_slice(&[0x80, 201, 0, 200]);
    let mut seen = Vec::new();
    assert_eq!(parse(&datagram, |report| seen.push(report)), Err(RtcpError::Truncated));
    assert_eq!(seen, [Report::Pli { about: Ssrc(2) }]);
}

#[test]
fn padding_of_a_packet_is_not_read_as_nacks() {
    let padded = [0xa1, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 7, 0, 0, 0, 0, 0, 4];
    match reports(&padded)[..] {
        [Report::Nack { sequences, .. }] => assert_eq!(sequences.collect::<Vec<_>>(), [7]),
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn a_short_buffer_writes_nothing() {
    assert_eq!(write_pli(&mut [0; 11], Ssrc(1), Ssrc(2)), 0);
    assert_eq!(write_nack(&mut [0; 15], Ssrc(1), Ssrc(2), [4]), 0);
    assert_eq!(
        write_sender_report(&mut [0; 30], Ssrc(1), 2, RtpTime(3), 4, 5, "name"),
        0
    );
}

#[test]
fn ntp_counts_from_1900() {
    let ntp = ntp_from_unix(Duration::new(1, 500_000_000));
    assert_eq!((ntp >> 32, ntp as u32), (2_208_988_801, 1 << 31));
}

#[test]
fn no_bytes_panic_and_nacks_stay_bounded() {
    let mut noise = Noise::seeded(31);
    for _ in 0..200_000 {
        let mut datagram = noise.bytes(120);
        if datagram.len() > 3 {
            datagram[0] = 0x80 | datagram[0] & 0x3f;
            datagram[1] = 200 + noise.below(8) as u8;
            datagram[2] = 0;
        }
        let mut expanded = 0;
        let _ = parse(&datagram, |report| {
            if let Report::Nack { sequences, .. } = report {
                expanded += sequences.count();
            }
        });
        assert!(expanded <= datagram.len() / 4 * 17);
    }
}
