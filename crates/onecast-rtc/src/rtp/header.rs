//! The RTP header (RFC 3550 section 5.1) and its extensions (RFC 8285): a read-only view, and a writer.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |V=2|P|X|  CC   |M|     PT      |       sequence number         |
//! |                           timestamp                           |
//! |                             SSRC                              |
//! |                    CSRC, CC times (ignored)                   |
//! |      extension profile        |  length in words  |  data ... |
//! ```

use std::ops::Range;

use super::ids::{Pt, RtpTime, Ssrc};

/// Why bytes are not an RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// Shorter than its header says.
    #[error("truncated RTP packet")]
    Truncated,
    /// Not version 2.
    #[error("RTP version is not 2")]
    Version,
    /// More padding than payload.
    #[error("RTP padding is longer than the payload")]
    Padding,
}

/// The fixed header, and where the rest of the packet lies. It can be parsed from protected and clear bytes alike, because SRTP does not
/// encrypt the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader {
    /// Marker bit: the last packet of a video frame.
    pub marker: bool,
    /// Padding bit. The amount is known only after decryption.
    pub padding: bool,
    /// Payload type.
    pub payload_type: Pt,
    /// Sequence number as on the wire.
    pub sequence: u16,
    /// RTP timestamp in ticks of the codec's clock.
    pub timestamp: RtpTime,
    /// Synchronisation source.
    pub ssrc: Ssrc,
    /// The `defined by profile` word of the extension block; 0 without one.
    pub extension_profile: u16,
    /// Where the extension data starts (after its 4-byte head) and ends; equal without one.
    pub extension: (u16, u16),
    /// Length of header, CSRCs and extension block: where the payload starts.
    pub len: usize,
}

impl RtpHeader {
    /// Reads the header of a whole packet, protected or clear. Nothing is copied.
    ///
    /// # Errors
    /// [`RtpError::Truncated`] when the packet ends before its header does (also when the header is longer than a datagram can be),
    /// [`RtpError::Version`] when it is not RTP version 2.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<RtpHeader, RtpError> {
        let fixed = packet.first_chunk::<FIXED_LEN>().ok_or(RtpError::Truncated)?;
        if fixed[0] >> 6 != 2 {
            return Err(RtpError::Version);
        }
        let csrcs_end = FIXED_LEN + 4 * usize::from(fixed[0] & 0x0f);
        let (extension_profile, extension, len) = match fixed[0] & 0x10 {
            0 => (0, (0, 0), csrcs_end),
            _ => extension_block(packet, csrcs_end)?,
        };
        if packet.len() < len {
            return Err(RtpError::Truncated);
        }
        Ok(RtpHeader {
            marker: fixed[1] & 0x80 != 0,
            padding: fixed[0] & 0x20 != 0,
            payload_type: Pt(fixed[1] & 0x7f),
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: RtpTime::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: Ssrc::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            extension_profile,
            extension,
            len,
        })
    }

    /// Ids and values of the header extensions of `packet`, which is the packet that this header was parsed from, protected or
    /// clear. Both forms of RFC 8285 section 4 are read; a malformed element ends the iteration.
    #[inline]
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let (start, end) = self.extension;
        ExtensionElements {
            rest: packet.get(usize::from(start)..usize::from(end)).unwrap_or_default(),
            form: Form::of_profile(self.extension_profile),
        }
    }

    /// The payload of the decrypted packet, without its padding. Empty for a packet that is only padding.
    ///
    /// # Errors
    /// [`RtpError::Padding`] when the padding count is 0 or more than there is, [`RtpError::Truncated`] when `clear` is shorter
    /// than the header.
    #[inline]
    pub fn payload<'a>(&self, clear: &'a [u8]) -> Result<&'a [u8], RtpError> {
        let payload = clear.get(self.len..).ok_or(RtpError::Truncated)?;
        if !self.padding {
            return Ok(payload);
        }
        match payload.last() {
            Some(&count) if count > 0 && usize::from(count) <= payload.len() => {
                Ok(&payload[..payload.len() - usize::from(count)])
            }
            _ => Err(RtpError::Padding),
        }
    }
}

/// The header of an outgoing packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderOut {
    /// Marker bit.
    pub marker: bool,
    /// Padding bit; the caller appends the padding itself.
    pub padding: bool,
    /// Payload type.
    pub payload_type: Pt,
    /// Sequence number.
    pub sequence: u16,
    /// RTP timestamp.
    pub timestamp: RtpTime,
    /// Synchronisation source.
    pub ssrc: Ssrc,
}

impl HeaderOut {
    /// Bytes that [`HeaderOut::write`] writes with these extensions.
    #[inline]
    pub fn len(extensions: &[(u8, &[u8])]) -> usize {
        match extensions {
            [] => FIXED_LEN,
            some => FIXED_LEN + EXTENSION_HEAD_LEN + Form::fitting(some).data_len(some).next_multiple_of(4),
        }
    }

    /// Writes the header at the start of `out` and returns its length: 12 bytes without extensions. They are written in the one-byte
    /// form when every id is in 1..=14 and every value has 1..=16 bytes, else in the two-byte form, which carries ids 1..=255 and
    /// values of 0..=255 bytes; an extension that does not fit there either is left out.
    ///
    /// # Panics
    /// When `out` is shorter than [`HeaderOut::len`] of the same extensions.
    #[inline]
    pub fn write(&self, out: &mut [u8], extensions: &[(u8, &[u8])]) -> usize {
        out[0] = 0x80 | u8::from(self.padding) << 5 | u8::from(!extensions.is_empty()) << 4;
        out[1] = u8::from(self.marker) << 7 | self.payload_type.0 & 0x7f;
        out[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        out[8..FIXED_LEN].copy_from_slice(&self.ssrc.to_be_bytes());
        if extensions.is_empty() {
            return FIXED_LEN;
        }
        FIXED_LEN + Form::fitting(extensions).write(&mut out[FIXED_LEN..], extensions)
    }

    /// Where [`HeaderOut::write`] writes the value of the extension at this place of the list; `None` for one that it leaves out.
    pub fn value_range(extensions: &[(u8, &[u8])], place: usize) -> Option<Range<usize>> {
        let extension = extensions.get(place).filter(is_writable)?;
        let form = Form::fitting(extensions);
        let start = FIXED_LEN + EXTENSION_HEAD_LEN + form.data_len(&extensions[..place]) + form.head_len();
        Some(start..start + extension.1.len())
    }
}

/// How the elements of an extension block are written (RFC 8285 sections 4.2 and 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    OneByte,
    TwoByte,
    Unknown,
}

impl Form {
    fn of_profile(profile: u16) -> Form {
        match profile {
            ONE_BYTE_PROFILE => Form::OneByte,
            // The low four bits ("appbits") are to be ignored.
            profile if profile & 0xfff0 == TWO_BYTE_PROFILE => Form::TwoByte,
            _ => Form::Unknown,
        }
    }

    fn fitting(extensions: &[(u8, &[u8])]) -> Form {
        let short = |&(id, value): &(u8, &[u8])| (1..=14).contains(&id) && (1..=16).contains(&value.len());
        if extensions.iter().all(short) {
            Form::OneByte
        } else {
            Form::TwoByte
        }
    }

    const fn head_len(self) -> usize {
        match self {
            Form::OneByte => 1,
            Form::TwoByte | Form::Unknown => 2,
        }
    }

    fn data_len(self, extensions: &[(u8, &[u8])]) -> usize {
        let writable = extensions.iter().filter(is_writable);
        writable.map(|(_, value)| self.head_len() + value.len()).sum()
    }

    fn write(self, out: &mut [u8], extensions: &[(u8, &[u8])]) -> usize {
        let mut at = EXTENSION_HEAD_LEN;
        for (id, value) in extensions.iter().filter(is_writable) {
            if self == Form::OneByte {
                out[at] = id << 4 | (value.len() - 1) as u8;
            } else {
                out[at] = *id;
                out[at + 1] = value.len() as u8;
            }
            at += self.head_len();
            out[at..][..value.len()].copy_from_slice(value);
            at += value.len();
        }
        let end = at.next_multiple_of(4);
        out[at..end].fill(0);
        let profile = match self {
            Form::OneByte => ONE_BYTE_PROFILE,
            Form::TwoByte | Form::Unknown => TWO_BYTE_PROFILE,
        };
        out[..2].copy_from_slice(&profile.to_be_bytes());
        out[2..4].copy_from_slice(&((end / 4 - 1) as u16).to_be_bytes());
        end
    }
}

struct ExtensionElements<'a> {
    rest: &'a [u8],
    form: Form,
}

impl<'a> Iterator for ExtensionElements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        // A zero byte between elements is padding in both forms.
        while let Some((0, rest)) = self.rest.split_first() {
            self.rest = rest;
        }
        let element = match self.form {
            Form::OneByte => one_byte_element(self.rest),
            Form::TwoByte => two_byte_element(self.rest),
            Form::Unknown => None,
        };
        match element {
            Some((id, value, rest)) => {
                self.rest = rest;
                Some((id, value))
            }
            None => {
                self.rest = &[];
                None
            }
        }
    }
}

type Element<'a> = (u8, &'a [u8], &'a [u8]);

fn one_byte_element(bytes: &[u8]) -> Option<Element<'_>> {
    let (head, rest) = bytes.split_first()?;
    let (id, len) = (head >> 4, usize::from(head & 0x0f) + 1);
    // Id 15 means stop; id 0 with a length is malformed (RFC 8285 section 4.2).
    if id == 0 || id == 15 {
        return None;
    }
    let (value, rest) = rest.split_at_checked(len)?;
    Some((id, value, rest))
}

fn two_byte_element(bytes: &[u8]) -> Option<Element<'_>> {
    let (&[id, len], rest) = bytes.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(usize::from(len))?;
    Some((id, value, rest))
}

fn extension_block(packet: &[u8], start: usize) -> Result<(u16, (u16, u16), usize), RtpError> {
    let head = packet
        .get(start..)
        .and_then(|rest| rest.first_chunk::<EXTENSION_HEAD_LEN>())
        .ok_or(RtpError::Truncated)?;
    let data_start = start + EXTENSION_HEAD_LEN;
    let data_end = data_start + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
    let end = u16::try_from(data_end).map_err(|_| RtpError::Truncated)?;
    let profile = u16::from_be_bytes([head[0], head[1]]);
    Ok((profile, (data_start as u16, end), data_end))
}

fn is_writable((id, value): &&(u8, &[u8])) -> bool {
    *id != 0 && value.len() <= 255
}

/// The fixed part of the header.
pub const FIXED_LEN: usize = 12;
const EXTENSION_HEAD_LEN: usize = 4;
const ONE_BYTE_PROFILE: u16 = 0xbede;
const TWO_BYTE_PROFILE: u16 = 0x1000;

#[cfg(test)]
mod tests {
    use super::*;
    use onecast_testing::Noise;

    const OUT: HeaderOut = HeaderOut {
        marker: true,
        padding: false,
        payload_type: Pt(96),
        sequence: 0xfffe,
        timestamp: RtpTime(0x0102_0304),
        ssrc: Ssrc(0xdead_beef),
    };

    #[test]
    fn values_are_where_they_are_said_to_be() {
        let long = [7; 40];
        for extensions in [
            &[(3, &[1, 2][..]), (4, &[3])][..],
            &[(3, &[1, 2]), (0, &[9]), (15, &[3]), (4, &long)],
        ] {
            let packet = written(OUT, extensions, &[]);
            for (place, (id, value)) in extensions.iter().enumerate() {
                let range = HeaderOut::value_range(extensions, place);
                assert_eq!(range.map(|range| &packet[range]), Some(*value).filter(|_| *id != 0));
            }
            assert_eq!(HeaderOut::value_range(extensions, extensions.len()), None);
        }
    }

    fn written(header: HeaderOut, extensions: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0xaa; HeaderOut::len(extensions)];
        let len = header.write(&mut out, extensions);
        assert_eq!(len, out.len());
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn a_written_header_reads_back() {
        let packet = written(OUT, &[], b"hello");
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!(
            (header.len, header.sequence, header.timestamp),
            (12, 0xfffe, RtpTime(0x0102_0304))
        );
        assert_eq!(
            (header.ssrc, header.payload_type, header.marker),
            (Ssrc(0xdead_beef), Pt(96), true)
        );
        assert_eq!(header.payload(&packet), Ok(&b"hello"[..]));
        assert_eq!(header.extensions(&packet).count(), 0);
    }

    #[test]
    fn short_extensions_take_the_one_byte_form() {
        let extensions: [(u8, &[u8]); 3] = [(3, &[7]), (14, &[1; 16]), (1, &[1, 2])];
        let packet = written(OUT, &extensions, &[9]);
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!(header.extension_profile, 0xbede);
        assert_eq!(header.extensions(&packet).collect::<Vec<_>>(), extensions);
        assert_eq!(header.payload(&packet), Ok(&[9][..]));
    }

    #[test]
    fn long_or_empty_extensions_take_the_two_byte_form() {
        let extensions: [(u8, &[u8]); 4] = [(3, &[7]), (200, &[1; 64]), (9, &[]), (4, &[5; 255])];
        let packet = written(OUT, &extensions, &[9]);
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!(header.extension_profile, 0x1000);
        assert_eq!(header.extensions(&packet).collect::<Vec<_>>(), extensions);
        assert_eq!(header.payload(&packet), Ok(&[9][..]));
    }

    #[test]
    fn an_extension_that_no_form_carries_is_left_out() {
        let packet = written(OUT, &[(0, &[7]), (2, &[1]), (3, &[0; 256])], &[9]);
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!(header.extensions(&packet).collect::<Vec<_>>(), [(2, &[1][..])]);
    }

    #[test]
    fn csrcs_are_skipped() {
        let mut packet = vec![0x82, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.extend_from_slice(&[0xcc; 8]);
        packet.push(42);
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!((header.len, header.payload(&packet)), (20, Ok(&[42][..])));
    }

    #[test]
    fn padding_is_stripped_and_wrong_padding_refused() {
        let padded = HeaderOut { padding: true, ..OUT };
        let payload_of = |payload: &[u8]| {
            let packet = written(padded, &[], payload);
            let header = RtpHeader::parse(&packet).unwrap();
            header.payload(&packet).map(<[u8]>::to_vec)
        };
        assert_eq!(payload_of(&[1, 2, 0, 0, 3]), Ok(vec![1, 2]));
        assert_eq!(payload_of(&[0, 0, 3]), Ok(vec![]));
        assert_eq!(payload_of(&[0, 0, 4]), Err(RtpError::Padding));
        assert_eq!(payload_of(&[0, 0, 0]), Err(RtpError::Padding));
        assert_eq!(payload_of(&[]), Err(RtpError::Padding));
    }

    #[test]
    fn bytes_that_are_not_rtp_are_refused() {
        assert_eq!(RtpHeader::parse(&[0x80; 11]), Err(RtpError::Truncated));
        assert_eq!(RtpHeader::parse(&[0x40; 12]), Err(RtpError::Version));
        assert_eq!(RtpHeader::parse(&[0x81; 12]), Err(RtpError::Truncated));
        assert_eq!(RtpHeader::parse(&[0x90; 12]), Err(RtpError::Truncated));
        assert_eq!(RtpHeader::parse(&[0x90; 40]), Err(RtpError::Truncated));
    }

    #[test]
    fn a_malformed_element_ends_the_iteration() {
        let mut packet = written(OUT, &[(3, &[7]), (4, &[1, 2])], &[]);
        packet[18] = 0x4f;
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!(header.extensions(&packet).collect::<Vec<_>>(), [(3, &[7][..])]);
    }

    #[test]
    fn no_bytes_panic() {
        let mut noise = Noise::seeded(11);
        for _ in 0..200_000 {
            let mut packet = noise.bytes(80);
            if let Some(first) = packet.first_mut() {
                *first = 0x80 | *first & 0x3f;
            }
            if packet.len() > 15 && noise.below(2) == 0 {
                packet[12..16].copy_from_slice(&[0xbe, 0xde, 0, noise.below(8) as u8]);
            }
            if let Ok(header) = RtpHeader::parse(&packet) {
                let in_extensions: usize = header.extensions(&packet).map(|(_, value)| value.len()).sum();
                let in_payload = header.payload(&packet).map_or(0, <[u8]>::len);
                assert!(in_extensions + in_payload + FIXED_LEN <= packet.len());
                let _ = header.payload(&packet[..packet.len() / 2]);
                let _ = header.extensions(&packet[..packet.len() / 2]).count();
            }
        }
    }
}
