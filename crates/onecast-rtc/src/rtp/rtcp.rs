//! RTCP (RFC 3550 section 6, RFC 4585, RFC 5104): the packets that the server reads and writes.
//!
//! Own code instead of `rtc-rtcp`: every viewer sends reports several times a second, and that crate boxes every packet, collects every
//! list and gives up a whole datagram at the first packet that it cannot read. Here nothing is allocated, and unknown or broken packets are
//! skipped by their length.
//!
//! ```text
//!  |V=2|P|  count  |  packet type  |  length in words, less one    |
//!  |                     SSRC of the sender                        |
//!  |                    SSRC it is about, ...                      |
//! ```

use std::time::Duration;

use super::ids::{RtpTime, Ssrc};

/// Why bytes are not RTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtcpError {
    /// A packet is longer than what is left of the datagram; those before it were read.
    #[error("truncated RTCP packet")]
    Truncated,
    /// Not version 2.
    #[error("RTCP version is not 2")]
    Version,
}

/// One statement of a compound packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report<'a> {
    /// What a sender has sent, and when (RFC 3550 section 6.4.1). Its report blocks follow as [`Report::ReceiverReport`].
    SenderReport {
        /// The sender.
        ssrc: Ssrc,
        /// NTP time, 32.32 fixed point.
        ntp: u64,
        /// The same instant on the RTP clock.
        rtp: RtpTime,
        /// Packets sent.
        packets: u32,
        /// Payload bytes sent.
        octets: u32,
    },
    /// One report block: how a receiver receives (RFC 3550 section 6.4.1).
    ReceiverReport {
        /// The SSRC received.
        about: Ssrc,
        /// Lost since the last report, 1/256.
        fraction_lost: u8,
        /// Lost since the start, 24 bits; negative with duplicates.
        lost: i32,
        /// Highest sequence number, extended to 32 bits.
        highest: u32,
        /// Interarrival jitter in ticks.
        jitter: u32,
        /// Middle 32 bits of the NTP time of the last sender report; 0 before one.
        last_sr: u32,
        /// Time since that report, 1/65,536 s.
        delay: u32,
    },
    /// A request to send packets again (RFC 4585 section 6.2.1).
    Nack {
        /// The media SSRC.
        about: Ssrc,
        /// Their sequence numbers.
        sequences: NackSequences<'a>,
    },
    /// A request for a keyframe (RFC 4585 section 6.3.1).
    Pli {
        /// The media SSRC.
        about: Ssrc,
    },
    /// A request for a keyframe (RFC 5104 section 4.3.1); one for each entry.
    Fir {
        /// The media SSRC.
        about: Ssrc,
        /// Command number: the same number is the same command.
        number: u8,
    },
    /// A source leaves (RFC 3550 section 6.6); one for each source.
    Bye {
        /// The source.
        ssrc: Ssrc,
    },
    /// Anything else, skipped.
    Other,
}

/// Sequence numbers of a NACK, at most 17 for each 4 bytes of the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NackSequences<'a> {
    pairs: &'a [[u8; 4]],
    /// What is left of the pair being expanded: bit 0 is the packet id itself.
    mask: u32,
    base: u16,
}

impl<'a> NackSequences<'a> {
    fn new(pairs: &'a [[u8; 4]]) -> NackSequences<'a> {
        NackSequences {
            pairs,
            mask: 0,
            base: 0,
        }
    }

    /// How many numbers are left, counted without iterating.
    pub fn len(&self) -> usize {
        let of_pair = |[_, _, b0, b1]: &[u8; 4]| 1 + u16::from_be_bytes([*b0, *b1]).count_ones();
        let rest: u32 = self.pairs.iter().map(of_pair).sum();
        (self.mask.count_ones() + rest) as usize
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Iterator for NackSequences<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.mask == 0 {
            let ([p0, p1, b0, b1], rest) = self.pairs.split_first()?;
            self.pairs = rest;
            self.base = u16::from_be_bytes([*p0, *p1]);
            self.mask = u32::from(u16::from_be_bytes([*b0, *b1])) << 1 | 1;
        }
        let offset = self.mask.trailing_zeros();
        self.mask &= self.mask - 1;
        Some(self.base.wrapping_add(offset as u16))
    }
}

/// A reception report block to write. Fields as in [`Report::ReceiverReport`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceptionBlock {
    /// The SSRC received.
    pub about: Ssrc,
    /// Lost since the last report, 1/256.
    pub fraction_lost: u8,
    /// Lost since the start; written with 24 bits.
    pub lost: i32,
    /// Highest sequence number, extended to 32 bits.
    pub highest: u32,
    /// Interarrival jitter in ticks.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report.
    pub last_sr: u32,
    /// Time since that report, 1/65,536 s.
    pub delay: u32,
}

/// Reads a decrypted compound packet, or a lone feedback packet (RFC 5506), and calls `each` for each report in order.
///
/// # Errors
/// When the head or length of a packet makes the rest unreadable. The reports before it are valid.
#[inline]
pub fn parse<'a>(clear: &'a [u8], mut each: impl FnMut(Report<'a>)) -> Result<(), RtcpError> {
    let mut rest = clear;
    while !rest.is_empty() {
        let head = rest.first_chunk::<HEAD_LEN>().ok_or(RtcpError::Truncated)?;
        if head[0] >> 6 != 2 {
            return Err(RtcpError::Version);
        }
        let len = HEAD_LEN + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (packet, after) = rest.split_at_checked(len).ok_or(RtcpError::Truncated)?;
        parse_packet(head, without_padding(packet), &mut each);
        rest = after;
    }
    Ok(())
}

fn parse_packet<'a>(head: &[u8; HEAD_LEN], body: &'a [u8], each: &mut impl FnMut(Report<'a>)) {
    let words = body.as_chunks::<4>().0;
    let count = usize::from(head[0] & 0x1f);
    match (head[1], count, words) {
        (TYPE_SR, _, [ssrc, ntp_high, ntp_low, rtp, packets, octets, blocks @ ..]) => {
            each(Report::SenderReport {
                ssrc: Ssrc(word(ssrc)),
                ntp: u64::from(word(ntp_high)) << 32 | u64::from(word(ntp_low)),
                rtp: RtpTime(word(rtp)),
                packets: word(packets),
                octets: word(octets),
            });
            parse_blocks(blocks, count, each);
        }
        (TYPE_RR, _, [_sender, blocks @ ..]) => parse_blocks(blocks, count, each),
        (TYPE_BYE, _, ssrcs) => ssrcs
            .iter()
            .take(count)
            .for_each(|ssrc| each(Report::Bye { ssrc: Ssrc(word(ssrc)) })),
        (TYPE_RTPFB, FORMAT_NACK, [_sender, about, pairs @ ..]) => each(Report::Nack {
            about: Ssrc(word(about)),
            sequences: NackSequences::new(pairs),
        }),
        (TYPE_PSFB, FORMAT_PLI, [_sender, about, ..]) => each(Report::Pli {
            about: Ssrc(word(about)),
        }),
        (TYPE_PSFB, FORMAT_FIR, [_sender, _unused, entries @ ..]) => {
            for [about, number] in entries.as_chunks::<2>().0 {
                each(Report::Fir {
                    about: Ssrc(word(about)),
                    number: number[0],
                });
            }
        }
        _ => each(Report::Other),
    }
}

fn parse_blocks<'a>(words: &[[u8; 4]], count: usize, each: &mut impl FnMut(Report<'a>)) {
    for [about, loss, highest, jitter, last_sr, delay] in words.as_chunks::<6>().0.iter().take(count) {
        each(Report::ReceiverReport {
            about: Ssrc(word(about)),
            fraction_lost: loss[0],
            lost: (word(loss) << 8).cast_signed() >> 8,
            highest: word(highest),
            jitter: word(jitter),
            last_sr: word(last_sr),
            delay: word(delay),
        });
    }
}

/// The body of a packet, without its padding. Padding of an impossible length is left in.
fn without_padding(packet: &[u8]) -> &[u8] {
    let padding = match packet {
        [first, .., last] if first & 0x20 != 0 => usize::from(*last),
        _ => 0,
    };
    let end = packet.len() - padding.min(packet.len());
    packet.get(HEAD_LEN..end).unwrap_or(&packet[HEAD_LEN..])
}

/// Writes a sender report without blocks and the CNAME it needs, as one compound packet. Returns its length, 0 when `out` is too
/// short. The CNAME is cut at 255 bytes.
pub fn write_sender_report(
    out: &mut [u8],
    ssrc: Ssrc,
    ntp: u64,
    rtp: RtpTime,
    packets: u32,
    octets: u32,
    cname: &str,
) -> usize {
    let mut writer = PacketWriter::new(out);
    writer.head(0, TYPE_SR, 6);
    writer.words([ssrc.0, (ntp >> 32) as u32, ntp as u32, rtp.0, packets, octets]);
    writer.cname(ssrc, cname);
    writer.len()
}

/// Writes a receiver report, with at most 31 blocks. It stands at the start of every compound packet of a receiver. Returns its
/// length, 0 when `out` is too short.
pub fn write_receiver_report(out: &mut [u8], ssrc: Ssrc, blocks: &[ReceptionBlock]) -> usize {
    let blocks = &blocks[..blocks.len().min(31)];
    let mut writer = PacketWriter::new(out);
    writer.head(blocks.len() as u8, TYPE_RR, 1 + 6 * blocks.len());
    writer.words([ssrc.0]);
    for block in blocks {
        let lost = block.lost.clamp(-0x80_0000, 0x7f_ffff).cast_unsigned() & 0xff_ffff;
        writer.words([block.about.0, u32::from(block.fraction_lost) << 24 | lost]);
        writer.words([block.highest, block.jitter, block.last_sr, block.delay]);
    }
    writer.len()
}

/// Writes a receiver report without blocks: a compound packet of a receiver starts with it when there is nothing to report.
pub fn write_receiver_report_empty(out: &mut [u8], ssrc: Ssrc) -> usize {
    write_receiver_report(out, ssrc, &[])
}

/// Writes a source description with the CNAME only, cut at 255 bytes. Returns its length, 0 when `out` is too short.
pub fn write_cname(out: &mut [u8], ssrc: Ssrc, cname: &str) -> usize {
    let mut writer = PacketWriter::new(out);
    writer.cname(ssrc, cname);
    writer.len()
}

/// Writes a PLI. Returns its length, 0 when `out` is too short.
pub fn write_pli(out: &mut [u8], sender: Ssrc, media: Ssrc) -> usize {
    let mut writer = PacketWriter::new(out);
    writer.head(FORMAT_PLI as u8, TYPE_PSFB, 2);
    writer.words([sender.0, media.0]);
    writer.len()
}

/// Writes a FIR with one entry; `number` changes with every new command. Returns its length, 0 when `out` is too short.
pub fn write_fir(out: &mut [u8], sender: Ssrc, media: Ssrc, number: u8) -> usize {
    let mut writer = PacketWriter::new(out);
    writer.head(FORMAT_FIR as u8, TYPE_PSFB, 4);
    writer.words([sender.0, 0, media.0, u32::from(number) << 24]);
    writer.len()
}

/// Writes a NACK for these sequence numbers, which must be in sending order. Returns its length: at most [`NACK_HEAD_LEN`] + 4 bytes a
/// number, or 0 when there are no numbers or `out` is too short.
pub fn write_nack(out: &mut [u8], sender: Ssrc, media: Ssrc, sequences: impl IntoIterator<Item = u16>) -> usize {
    let mut writer = PacketWriter::new(out);
    writer.skip(HEAD_LEN);
    writer.words([sender.0, media.0]);
    let mut open: Option<(u16, u16)> = None;
    for sequence in sequences {
        open = match open {
            Some((base, mask)) if (1..=16).contains(&sequence.wrapping_sub(base)) => {
                Some((base, mask | 1 << (sequence.wrapping_sub(base) - 1)))
            }
            full => {
                full.into_iter().for_each(|pair| writer.nack_pair(pair));
                Some((sequence, 0))
            }
        };
    }
    match open {
        Some(pair) => writer.nack_pair(pair),
        None => return 0,
    }
    let len = writer.len();
    if len > 0 {
        PacketWriter::new(out).head(FORMAT_NACK as u8, TYPE_RTPFB, len / 4 - 1);
    }
    len
}

/// NTP time (RFC 5905: seconds since 1900, 32.32 fixed point) of a time since 1970.
pub fn ntp_from_unix(unix: Duration) -> u64 {
    let seconds = unix.as_secs().wrapping_add(UNIX_EPOCH_IN_NTP);
    let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
    seconds << 32 | fraction
}

/// A cursor over an output buffer that remembers when something did not fit.
struct PacketWriter<'a> {
    out: &'a mut [u8],
    at: usize,
    short: bool,
}

impl<'a> PacketWriter<'a> {
    fn new(out: &'a mut [u8]) -> PacketWriter<'a> {
        PacketWriter {
            out,
            at: 0,
            short: false,
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        match self.out.get_mut(self.at..).and_then(|rest| rest.get_mut(..bytes.len())) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.at += bytes.len();
            }
            None => self.short = true,
        }
    }

    fn skip(&mut self, len: usize) {
        self.bytes(&[0; 16][..len.min(16)]);
    }

    fn words<const N: usize>(&mut self, words: [u32; N]) {
        for word in words {
            self.bytes(&word.to_be_bytes());
        }
    }

    fn head(&mut self, count: u8, packet_type: u8, body_words: usize) {
        let [high, low] = (body_words as u16).to_be_bytes();
        self.bytes(&[0x80 | count, packet_type, high, low]);
    }

    fn nack_pair(&mut self, (base, mask): (u16, u16)) {
        self.words([u32::from(base) << 16 | u32::from(mask)]);
    }

    fn cname(&mut self, ssrc: Ssrc, cname: &str) {
        let cname = &cname.as_bytes()[..cname.len().min(255)];
        // The item list ends with at least one zero byte (RFC 3550 section 6.5).
        let items_len = (2 + cname.len() + 1).next_multiple_of(4);
        self.head(1, TYPE_SDES, 1 + items_len / 4);
        self.words([ssrc.0]);
        self.bytes(&[ITEM_CNAME, cname.len() as u8]);
        self.bytes(cname);
        self.skip(items_len - 2 - cname.len());
    }

    /// Bytes written, or 0 when something did not fit.
    fn len(&self) -> usize {
        if self.short { 0 } else { self.at }
    }
}

fn word(bytes: &[u8; 4]) -> u32 {
    u32::from_be_bytes(*bytes)
}

/// Bytes of a NACK before its first pair.
pub const NACK_HEAD_LEN: usize = 12;
const HEAD_LEN: usize = 4;
const TYPE_SR: u8 = 200;
const TYPE_RR: u8 = 201;
const TYPE_SDES: u8 = 202;
const TYPE_BYE: u8 = 203;
const TYPE_RTPFB: u8 = 205;
const TYPE_PSFB: u8 = 206;
const FORMAT_NACK: usize = 1;
const FORMAT_PLI: usize = 1;
const FORMAT_FIR: usize = 4;
const ITEM_CNAME: u8 = 1;
/// Seconds from 1900 to 1970.
const UNIX_EPOCH_IN_NTP: u64 = 2_208_988_800;

#[cfg(test)]
mod tests;
