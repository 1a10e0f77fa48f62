//! Which of a member's lines a packet belongs to (RFC 8843 section 9.2): by what the packet says, by what its SSRC was before, by what
//! was announced, and otherwise by its payload type.

use crate::media::lane::StreamKey;
use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::rtp::{Mid, Pt, Ssrc};
use onecast_rtc::sdp::MediaLine;
use onecast_rtc::srtp;

/// The lines of one transport, and the SSRCs that were seen on them.
#[derive(Debug, Default)]
pub(super) struct Demux {
    lines: Vec<DemuxLine>,
    mid_ids: Vec<u8>,
    /// At most [`Demux::KNOWN_MAX`]; the one that was silent for longest makes room.
    known: Vec<Known>,
    /// Packets so far.
    packets: u64,
}

/// An SSRC that was seen.
#[derive(Debug)]
struct Known {
    ssrc: Ssrc,
    line: usize,
    /// Value of [`Demux::packets`] at its newest packet.
    heard: u64,
}

#[derive(Debug)]
struct DemuxLine {
    source: usize,
    stream: StreamKey,
    mid: Mid,
    announced: [Option<Ssrc>; 2],
    /// A bit for each payload type.
    payload_types: u128,
}

impl Demux {
    /// As many as have a replay window of their own.
    const KNOWN_MAX: usize = srtp::SOURCES_MAX;

    /// The lines are these from now on, each with its stream and that stream's place. SSRCs of lines that are gone are forgotten.
    pub(super) fn set_lines<'a>(&mut self, lines: impl Iterator<Item = (usize, StreamKey, &'a MediaLine)> + Clone) {
        let mid_ids = lines.clone().filter_map(|(.., line)| line.extensions.mid);
        self.mid_ids = mid_ids.collect();
        self.mid_ids.sort_unstable();
        self.mid_ids.dedup();
        let lines: Vec<DemuxLine> = lines.map(DemuxLine::new).collect();
        let before = std::mem::replace(&mut self.lines, lines);
        self.known.retain_mut(|known| {
            let of = &before[known.line];
            let stays = |now: &DemuxLine| now.stream == of.stream && now.mid == of.mid;
            let place = self.lines.iter().position(stays);
            known.line = place.unwrap_or_default();
            place.is_some()
        });
    }

    /// The place of the source that a packet in clear belongs to.
    pub(super) fn source(&mut self, clear: &[u8], header: &RtpHeader) -> Option<usize> {
        let line = self.line(clear, header)?;
        Some(self.lines[line].source)
    }

    /// The source whose packets carry this SSRC.
    pub(super) fn source_of(&self, ssrc: Ssrc) -> Option<usize> {
        let known = self.known.iter().find(|known| known.ssrc == ssrc);
        let line = known.map(|known| known.line).or_else(|| self.announced(ssrc))?;
        Some(self.lines[line].source)
    }

    fn line(&mut self, clear: &[u8], header: &RtpHeader) -> Option<usize> {
        self.packets += 1;
        let known = self.known.iter().position(|known| known.ssrc == header.ssrc);
        if let Some(mid) = self.mid(clear, header) {
            // A packet of a line that is not negotiated, or not yet, belongs to no other line.
            let line = self.lines.iter().position(|line| line.mid.as_bytes() == mid)?;
            self.learn(known, header.ssrc, line);
            return Some(line);
        }
        if let Some(place) = known {
            let known = &mut self.known[place];
            known.heard = self.packets;
            return Some(known.line);
        }
        let line = self
            .announced(header.ssrc)
            .or_else(|| self.only_line_with(header.payload_type))?;
        self.learn(None, header.ssrc, line);
        Some(line)
    }

    /// The `mid` of the line that the packet itself names.
    fn mid<'a>(&self, clear: &'a [u8], header: &RtpHeader) -> Option<&'a [u8]> {
        let (_, mid) = header.extensions(clear).find(|(id, _)| self.mid_ids.contains(id))?;
        Some(mid)
    }

    fn announced(&self, ssrc: Ssrc) -> Option<usize> {
        self.lines.iter().position(|line| line.announced.contains(&Some(ssrc)))
    }

    fn only_line_with(&self, payload_type: Pt) -> Option<usize> {
        let bit = 1u128 << payload_type.index();
        let mut lines = self
            .lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.payload_types & bit != 0);
        let (place, _) = lines.next()?;
        lines.next().is_none().then_some(place)
    }

    fn learn(&mut self, known: Option<usize>, ssrc: Ssrc, line: usize) {
        let heard = self.packets;
        let learnt = Known { ssrc, line, heard };
        if let Some(place) = known {
            self.known[place] = learnt;
            return;
        }
        if self.known.len() >= Demux::KNOWN_MAX {
            let places = self.known.iter().enumerate();
            let longest_silent = places.min_by_key(|(_, known)| known.heard).map(|(place, _)| place);
            longest_silent.map(|place| self.known.swap_remove(place));
        }
        self.known.push(learnt);
    }
}

impl DemuxLine {
    fn new((source, stream, line): (usize, StreamKey, &MediaLine)) -> DemuxLine {
        let own = line.formats.iter().map(|format| format.payload_type);
        let rtx = line.formats.iter().filter_map(|format| format.rtx);
        DemuxLine {
            source,
            stream,
            mid: line.mid.clone(),
            announced: [line.ssrc, line.rtx_ssrc],
            payload_types: own.chain(rtx).fold(0, |all, one| all | 1u128 << one.index()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::lane::StreamSlot;
    use onecast_rtc::rtp::header::HeaderOut;
    use onecast_rtc::rtp::{Codec, Kind, RtpTime};
    use onecast_rtc::sdp::{ExtensionIds, Format};

    const MID: u8 = 4;

    fn line(mid: &str, payload_type: Pt, ssrc: Option<Ssrc>) -> MediaLine {
        MediaLine {
            kind: Kind::Video,
            mid: mid.into(),
            formats: vec![Format {
                codec: Codec::Vp8,
                payload_type,
                rtx: Some(Pt(payload_type.0 + 1)),
                fmtp: "".into(),
                nack: true,
                pli: true,
                transport_cc: false,
            }],
            extensions: ExtensionIds {
                mid: Some(MID),
                ..ExtensionIds::default()
            },
            ssrc,
            rtx_ssrc: ssrc.map(|ssrc| Ssrc(ssrc.0 + 1)),
            layers: None,
        }
    }

    fn key(slot: u32) -> StreamKey {
        StreamKey {
            slot: StreamSlot(slot),
            serial: 1,
        }
    }

    fn demux(lines: &[(usize, MediaLine)]) -> Demux {
        let mut demux = Demux::default();
        set(&mut demux, lines);
        demux
    }

    fn set(demux: &mut Demux, lines: &[(usize, MediaLine)]) {
        demux.set_lines(lines.iter().map(|(source, line)| (*source, key(*source as u32), line)));
    }

    fn packet(ssrc: Ssrc, payload_type: Pt, mid: Option<&str>) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        let header = HeaderOut {
            marker: false,
            padding: false,
            payload_type,
            sequence: 1,
            timestamp: RtpTime(1),
            ssrc,
        };
        let mid = mid.map(|mid| (MID, mid.as_bytes()));
        header.write(&mut bytes, mid.as_slice());
        bytes
    }

    fn source(demux: &mut Demux, packet: &[u8]) -> Option<usize> {
        demux.source(packet, &RtpHeader::parse(packet).unwrap())
    }

    #[test]
    fn a_packet_that_names_its_line_teaches_its_ssrc() {
        let mut demux = demux(&[(0, line("0", Pt(96), None)), (1, line("1", Pt(96), None))]);
        assert_eq!(
            source(&mut demux, &packet(Ssrc(7), Pt(96), None)),
            None,
            "two lines have the payload type"
        );
        assert_eq!(source(&mut demux, &packet(Ssrc(7), Pt(96), Some("1"))), Some(1));
        assert_eq!(source(&mut demux, &packet(Ssrc(7), Pt(96), None)), Some(1));
        assert_eq!(
            source(&mut demux, &packet(Ssrc(7), Pt(96), Some("0"))),
            Some(0),
            "it says otherwise now"
        );
        assert_eq!(demux.source_of(Ssrc(7)), Some(0));
        assert_eq!(
            source(&mut demux, &packet(Ssrc(8), Pt(96), Some("9"))),
            None,
            "there is no such line"
        );
    }

    #[test]
    fn what_was_announced_comes_before_the_payload_type() {
        let mut demux = demux(&[(0, line("0", Pt(96), Some(Ssrc(50)))), (1, line("1", Pt(98), None))]);
        assert_eq!(source(&mut demux, &packet(Ssrc(50), Pt(98), None)), Some(0));
        assert_eq!(
            source(&mut demux, &packet(Ssrc(51), Pt(97), None)),
            Some(0),
            "its retransmissions"
        );
        assert_eq!(source(&mut demux, &packet(Ssrc(60), Pt(99), None)), Some(1));
    }

    #[test]
    fn a_packet_of_a_line_that_is_not_agreed_yet_is_not_taken_for_the_only_one_there_is() {
        let mut demux = demux(&[(0, line("0", Pt(96), None))]);
        assert_eq!(source(&mut demux, &packet(Ssrc(8), Pt(96), Some("1"))), None);
        set(
            &mut demux,
            &[(0, line("0", Pt(96), None)), (1, line("1", Pt(96), None))],
        );
        assert_eq!(source(&mut demux, &packet(Ssrc(8), Pt(96), Some("1"))), Some(1));
        assert_eq!(source(&mut demux, &packet(Ssrc(8), Pt(96), None)), Some(1));
    }

    #[test]
    fn lines_that_stay_keep_their_ssrcs_and_others_forget_them() {
        let mut demux = demux(&[(0, line("0", Pt(96), None)), (1, line("1", Pt(96), None))]);
        source(&mut demux, &packet(Ssrc(7), Pt(96), Some("0")));
        source(&mut demux, &packet(Ssrc(8), Pt(96), Some("1")));
        let moved = line("1", Pt(96), None);
        demux.set_lines([(0, key(1), &moved)].into_iter());
        assert_eq!(source(&mut demux, &packet(Ssrc(8), Pt(96), None)), Some(0));
        assert_eq!(demux.source_of(Ssrc(7)), None);
    }

    #[test]
    fn it_learns_no_more_than_its_bound_and_forgets_the_longest_silent() {
        let mut demux = demux(&[(0, line("0", Pt(96), None)), (1, line("1", Pt(96), None))]);
        assert_eq!(source(&mut demux, &packet(Ssrc(5), Pt(96), Some("1"))), Some(1));
        for ssrc in 1_000..2_000 {
            assert_eq!(source(&mut demux, &packet(Ssrc(ssrc), Pt(96), Some("0"))), Some(0));
            // It named its line once, and is known by its SSRC for as long as it sends.
            assert_eq!(source(&mut demux, &packet(Ssrc(ssrc), Pt(96), None)), Some(0));
            assert_eq!(source(&mut demux, &packet(Ssrc(5), Pt(96), None)), Some(1));
            assert!(demux.known.len() <= Demux::KNOWN_MAX);
        }
        assert_eq!(demux.source_of(Ssrc(1_000)), None);
    }
}
