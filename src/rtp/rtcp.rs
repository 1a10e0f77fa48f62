//! RTCP (RFC 3550 section 6, RFC 4585, RFC 5104): what we read and what we write.
//!
//! Read by our own code: rtc-rtcp boxes every packet of a compound, and every viewer sends several of them a second.

use std::time::Duration;

/// One thing that an RTCP packet tells.
#[derive(Debug, Clone)]
pub enum Report<'a> {
    /// A sender's clock and counts.
    SenderReport {
        /// Who sends.
        ssrc: u32,
        /// NTP time, 32.32 bits.
        ntp: u64,
        /// The RTP timestamp of that moment.
        rtp: u32,
    },
    /// How a receiver gets one source.
    ReceiverReport {
        /// The source.
        about: u32,
        /// Share lost since the last report, in 256ths.
        fraction_lost: u8,
        /// Lost in all.
        lost: i32,
        /// Jitter in timestamp ticks.
        jitter: u32,
    },
    /// Packets that a receiver misses (generic NACK, RFC 4585 section 6.2.1).
    Nack {
        /// The source.
        about: u32,
        /// Their sequence numbers.
        sequences: Sequences<'a>,
    },
    /// Picture loss indication (RFC 4585 section 6.3.1).
    Pli {
        /// The source.
        about: u32,
    },
    /// Full intra request (RFC 5104 section 4.3.1).
    Fir {
        /// The source.
        about: u32,
    },
    /// A source says goodbye.
    Bye {
        /// The source.
        ssrc: u32,
    },
}

/// Why bytes are not RTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtcpError {
    /// A packet of the compound is longer than what is left.
    #[error("truncated RTCP packet")]
    Truncated,
    /// Not version 2.
    #[error("RTCP version is not 2")]
    Version,
}

/// Sequence numbers of a NACK: pairs of a first one and a bitmap of the 16 that follow.
#[derive(Debug, Clone)]
pub struct Sequences<'a> {
    pairs: std::slice::ChunksExact<'a, u8>,
    first: u16,
    bits: u32,
}

impl Iterator for Sequences<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.bits == 0 {
            let pair = self.pairs.next()?;
            self.first = u16::from_be_bytes([pair[0], pair[1]]);
            self.bits = (u32::from(u16::from_be_bytes([pair[2], pair[3]])) << 1) | 1;
        }
        let offset = self.bits.trailing_zeros();
        self.bits &= self.bits - 1;
        Some(self.first.wrapping_add(offset as u16))
    }
}

/// Reads a compound packet and calls `each` with what we understand; the rest is passed over by its length.
///
/// # Errors
/// At the first packet that is malformed; what came before it has been told.
pub fn parse<'a>(mut compound: &'a [u8], mut each: impl FnMut(Report<'a>)) -> Result<(), RtcpError> {
    while !compound.is_empty() {
        let head: &[u8; 4] = compound.first_chunk().ok_or(RtcpError::Truncated)?;
        if head[0] >> 6 != 2 {
            return Err(RtcpError::Version);
        }
        let len = 4 + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
        let packet = compound.get(4..len).ok_or(RtcpError::Truncated)?;
        compound = &compound[len..];
        parse_one(head[1], head[0] & 0x1f, packet, &mut each);
    }
    Ok(())
}

fn parse_one<'a>(packet_type: u8, count: u8, body: &'a [u8], each: &mut impl FnMut(Report<'a>)) {
    let word = |at: usize| {
        body.get(at..at + 4)
            .map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]]))
    };
    match (packet_type, count) {
        (SENDER_REPORT, _) => {
            if let (Some(ssrc), Some(high), Some(low), Some(rtp)) = (word(0), word(4), word(8), word(12)) {
                each(Report::SenderReport {
                    ssrc,
                    ntp: (u64::from(high) << 32) | u64::from(low),
                    rtp,
                });
            }
            receiver_reports(body.get(24..).unwrap_or_default(), count, each);
        }
        (RECEIVER_REPORT, _) => receiver_reports(body.get(4..).unwrap_or_default(), count, each),
        (GOODBYE, _) => body
            .chunks_exact(4)
            .take(usize::from(count))
            .for_each(|ssrc| each(Report::Bye { ssrc: be(ssrc) })),
        (TRANSPORT_FEEDBACK, NACK) => {
            if let (Some(about), Some(pairs)) = (word(4), body.get(8..)) {
                each(Report::Nack {
                    about,
                    sequences: Sequences {
                        pairs: pairs.chunks_exact(4),
                        first: 0,
                        bits: 0,
                    },
                });
            }
        }
        (PAYLOAD_FEEDBACK, PLI) => word(4).into_iter().for_each(|about| each(Report::Pli { about })),
        (PAYLOAD_FEEDBACK, FIR) => {
            let entries = body.get(8..).unwrap_or_default().chunks_exact(8);
            entries.for_each(|entry| each(Report::Fir { about: be(entry) }));
        }
        _ => {}
    }
}

fn receiver_reports<'a>(blocks: &'a [u8], count: u8, each: &mut impl FnMut(Report<'a>)) {
    for block in blocks.chunks_exact(24).take(usize::from(count)) {
        each(Report::ReceiverReport {
            about: be(block),
            fraction_lost: block[4],
            // 24 bits with sign.
            lost: i32::from_be_bytes([block[5], block[6], block[7], 0]) >> 8,
            jitter: be(&block[12..]),
        });
    }
}

fn be(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Writes a sender report and a CNAME (the least a compound may be, RFC 3550 section 6.1) and returns the length.
///
/// # Panics
/// When `out` is shorter than 44 bytes and the name (of which 255 bytes are used).
pub fn write_sender_report(
    out: &mut [u8],
    ssrc: u32,
    ntp: u64,
    rtp: u32,
    packets: u32,
    octets: u32,
    cname: &str,
) -> usize {
    head(out, 0, SENDER_REPORT, 28);
    out[4..8].copy_from_slice(&ssrc.to_be_bytes());
    out[8..16].copy_from_slice(&ntp.to_be_bytes());
    for (at, value) in [(16, rtp), (20, packets), (24, octets)] {
        out[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    28 + write_cname(&mut out[28..], ssrc, cname)
}

/// Writes a receiver report without blocks and a CNAME: what leads in feedback in a compound.
///
/// # Panics
/// As [`write_sender_report`].
pub fn write_empty_receiver_report(out: &mut [u8], ssrc: u32, cname: &str) -> usize {
    head(out, 0, RECEIVER_REPORT, 8);
    out[4..8].copy_from_slice(&ssrc.to_be_bytes());
    8 + write_cname(&mut out[8..], ssrc, cname)
}

fn write_cname(out: &mut [u8], ssrc: u32, cname: &str) -> usize {
    let name = &cname.as_bytes()[..cname.len().min(255)];
    // At least one zero byte ends the items.
    let len = (8 + 2 + name.len() + 1).next_multiple_of(4);
    out[..len].fill(0);
    head(out, 1, SOURCE_DESCRIPTION, len);
    out[4..8].copy_from_slice(&ssrc.to_be_bytes());
    out[8..10].copy_from_slice(&[1, name.len() as u8]);
    out[10..10 + name.len()].copy_from_slice(name);
    len
}

/// Writes a picture loss indication: 12 bytes.
///
/// # Panics
/// When `out` is shorter.
pub fn write_pli(out: &mut [u8], sender: u32, about: u32) -> usize {
    head(out, PLI, PAYLOAD_FEEDBACK, 12);
    out[4..8].copy_from_slice(&sender.to_be_bytes());
    out[8..12].copy_from_slice(&about.to_be_bytes());
    12
}

/// Writes a full intra request with its command number: 20 bytes.
///
/// # Panics
/// When `out` is shorter.
pub fn write_fir(out: &mut [u8], sender: u32, about: u32, number: u8) -> usize {
    head(out, FIR, PAYLOAD_FEEDBACK, 20);
    out[4..8].copy_from_slice(&sender.to_be_bytes());
    out[8..12].fill(0);
    out[12..16].copy_from_slice(&about.to_be_bytes());
    out[16..20].copy_from_slice(&[number, 0, 0, 0]);
    20
}

/// Writes a NACK for ascending `sequences`, as many as fit into `out`, and returns the length; 0 for none.
pub fn write_nack(out: &mut [u8], sender: u32, about: u32, sequences: impl IntoIterator<Item = u16>) -> usize {
    let mut at = 12;
    let mut last: Option<u16> = None;
    for sequence in sequences {
        match last.map(|first| sequence.wrapping_sub(first)) {
            Some(0) => {}
            Some(offset @ 1..=16) => {
                let bits = u16::from_be_bytes([out[at - 2], out[at - 1]]) | (1 << (offset - 1));
                out[at - 2..at].copy_from_slice(&bits.to_be_bytes());
            }
            _ if at + 4 > out.len() => break,
            _ => {
                let [high, low] = sequence.to_be_bytes();
                out[at..at + 4].copy_from_slice(&[high, low, 0, 0]);
                at += 4;
                last = Some(sequence);
            }
        }
    }
    if at == 12 {
        return 0;
    }
    head(out, NACK, TRANSPORT_FEEDBACK, at);
    out[4..8].copy_from_slice(&sender.to_be_bytes());
    out[8..12].copy_from_slice(&about.to_be_bytes());
    at
}

fn head(out: &mut [u8], count: u8, packet_type: u8, len: usize) {
    out[..2].copy_from_slice(&[0x80 | count, packet_type]);
    out[2..4].copy_from_slice(&((len / 4 - 1) as u16).to_be_bytes());
}

/// 64-bit NTP time (seconds since 1900, 32 bits of fraction) of a time since 1970.
pub fn ntp_from_unix(time: Duration) -> u64 {
    let seconds = time.as_secs().wrapping_add(SECONDS_1900_TO_1970);
    (seconds << 32) | ((u64::from(time.subsec_nanos()) << 32) / 1_000_000_000)
}

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const NACK: u8 = 1;
const PLI: u8 = 1;
const FIR: u8 = 4;
const SECONDS_1900_TO_1970: u64 = 2_208_988_800;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(compound: &[u8]) -> Vec<String> {
        let mut told = Vec::new();
        parse(compound, |report| {
            told.push(match report {
                Report::Nack { about, sequences } => format!("nack {about} {:?}", sequences.collect::<Vec<_>>()),
                other => format!("{other:?}"),
            });
        })
        .unwrap();
        told
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = [0; 400];
        let mut len = write_sender_report(&mut out, 1, 0x0102_0304_0506_0708, 9, 10, 11, "live");
        len += write_pli(&mut out[len..], 2, 3);
        len += write_fir(&mut out[len..], 2, 4, 1);
        len += write_nack(&mut out[len..], 2, 5, [65_534, 65_535, 0, 14, 15, 100]);
        assert_eq!(
            told(&out[..len]),
            [
                "SenderReport { ssrc: 1, ntp: 72623859790382856, rtp: 9 }",
                "Pli { about: 3 }",
                "Fir { about: 4 }",
                "nack 5 [65534, 65535, 0, 14, 15, 100]",
            ]
        );
    }

    #[test]
    fn the_library_of_the_family_reads_it_too() {
        let mut out = [0; 400];
        let mut len = write_empty_receiver_report(&mut out, 1, "cname");
        len += write_pli(&mut out[len..], 2, 3);
        len += write_nack(&mut out[len..], 2, 5, [7, 8, 30]);
        let mut bytes = bytes::Bytes::copy_from_slice(&out[..len]);
        let packets = rtc_rtcp::packet::unmarshal(&mut bytes).unwrap();
        assert_eq!(packets.len(), 4);
    }

    #[test]
    fn receiver_reports_tell_loss_with_its_sign() {
        let mut packet = vec![0x81, RECEIVER_REPORT, 0, 7, 0, 0, 0, 1];
        packet.extend([
            0, 0, 0, 9, 64, 0xff, 0xff, 0xfe, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
        assert_eq!(
            told(&packet),
            ["ReceiverReport { about: 9, fraction_lost: 64, lost: -2, jitter: 5 }"]
        );
    }

    #[test]
    fn malformed_packets_are_errors_and_unknown_ones_passed_over() {
        let mut out = [0; 100];
        let len = write_pli(&mut out, 1, 2);
        for short in 1..len {
            assert_eq!(parse(&out[..short], |_| {}), Err(RtcpError::Truncated), "{short} bytes");
        }
        assert_eq!(parse(&[0x41, 206, 0, 0], |_| {}), Err(RtcpError::Version));
        out.copy_within(0..len, 8);
        out[..8].copy_from_slice(&[0x80, 250, 0, 1, 1, 2, 3, 4]);
        assert_eq!(told(&out[..8 + len]), ["Pli { about: 2 }"]);
    }

    #[test]
    fn ntp_time_counts_from_1900() {
        assert_eq!(
            ntp_from_unix(Duration::from_millis(500)),
            (2_208_988_800 << 32) | (1 << 31)
        );
    }
}
