//! The RTP header (RFC 3550 section 5.1) and its extensions (RFC 8285): a read-only view, and a writer.
//!
//! ```text
//!  0                   1                   2                   3
//! |V=2|P|X|  CC   |M|     PT      |       sequence number         |
//! |                           timestamp                           |
//! |                             SSRC                              |
//! |                   CSRC (CC of them) ...                       |
//! |  profile 0xBEDE or 0x1000     |   length in 32-bit words      |  if X
//! |  id/len, data ...                                             |
//! ```

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

/// The fixed header and where the rest lies. Parsed from protected or clear bytes alike: the header is never encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader {
    /// Marker bit: the last packet of a video frame.
    pub marker: bool,
    /// Padding bit; how much is known only after decryption.
    pub padding: bool,
    /// Payload type, 0..=127.
    pub payload_type: u8,
    /// Sequence number as on the wire.
    pub sequence: u16,
    /// RTP timestamp in ticks of the codec's clock.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// `defined by profile` word of the extension block; 0 without one.
    pub extension_profile: u16,
    /// Where the extension data starts (after its 4-byte head) and ends; empty without one.
    pub extension: (usize, usize),
    /// Length of header, CSRCs and extension block: where the payload starts.
    pub len: usize,
}

impl RtpHeader {
    /// Reads the header of a packet.
    ///
    /// # Errors
    /// When the bytes are shorter than the header says, or not RTP version 2.
    pub fn parse(packet: &[u8]) -> Result<RtpHeader, RtpError> {
        let fixed: &[u8; FIXED] = packet.first_chunk().ok_or(RtpError::Truncated)?;
        if fixed[0] >> 6 != 2 {
            return Err(RtpError::Version);
        }
        let after_csrc = FIXED + 4 * usize::from(fixed[0] & 0x0f);
        let mut header = RtpHeader {
            marker: fixed[1] & 0x80 != 0,
            padding: fixed[0] & 0x20 != 0,
            payload_type: fixed[1] & 0x7f,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            extension_profile: 0,
            extension: (after_csrc, after_csrc),
            len: after_csrc,
        };
        if fixed[0] & 0x10 != 0 {
            let head: &[u8; 4] = packet
                .get(after_csrc..)
                .and_then(|rest| rest.first_chunk())
                .ok_or(RtpError::Truncated)?;
            let end = after_csrc + 4 + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
            header.extension_profile = u16::from_be_bytes([head[0], head[1]]);
            header.extension = (after_csrc + 4, end);
            header.len = end;
        }
        if packet.len() < header.len {
            return Err(RtpError::Truncated);
        }
        Ok(header)
    }

    /// The extension elements in their order: id and value. Ends at the first malformed one.
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> Extensions<'a> {
        let block = packet.get(self.extension.0..self.extension.1).unwrap_or_default();
        let two_byte = self.extension_profile & 0xfff0 == TWO_BYTE;
        let known = two_byte || self.extension_profile == ONE_BYTE;
        Extensions {
            rest: if known { block } else { &[] },
            two_byte,
        }
    }

    /// The payload of a decrypted packet, without padding.
    ///
    /// # Errors
    /// When the padding is longer than what it pads, or has length 0.
    pub fn payload<'a>(&self, clear: &'a [u8]) -> Result<&'a [u8], RtpError> {
        let body = clear.get(self.len..).ok_or(RtpError::Truncated)?;
        if !self.padding {
            return Ok(body);
        }
        let padding = usize::from(*body.last().ok_or(RtpError::Padding)?);
        if padding == 0 {
            return Err(RtpError::Padding);
        }
        let len = body.len().checked_sub(padding).ok_or(RtpError::Padding)?;
        Ok(&body[..len])
    }
}

/// Iterator over header-extension elements.
#[derive(Debug, Clone)]
pub struct Extensions<'a> {
    rest: &'a [u8],
    two_byte: bool,
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        while let Some((0, rest)) = self.rest.split_first().map(|(&byte, rest)| (byte, rest)) {
            self.rest = rest;
        }
        let (&head, rest) = self.rest.split_first()?;
        let (id, len, rest) = if self.two_byte {
            let (&len, rest) = rest.split_first()?;
            (head, usize::from(len), rest)
        } else {
            (head >> 4, usize::from(head & 0x0f) + 1, rest)
        };
        let value = rest.get(..len).filter(|_| self.two_byte || id != ONE_BYTE_STOP);
        self.rest = if value.is_some() { &rest[len..] } else { &[] };
        value.map(|value| (id, value))
    }
}

/// A header to write: no CSRCs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderOut {
    /// Marker bit.
    pub marker: bool,
    /// Padding bit.
    pub padding: bool,
    /// Payload type, 0..=127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
}

impl HeaderOut {
    /// Writes the header and returns its length. One-byte extension form where ids (1..=14) and lengths (1..=16) allow it, else
    /// two-byte; values longer than 255 bytes are left out.
    ///
    /// # Panics
    /// When `out` is too short: 12 bytes, and with extensions 4 + 2 each + 3 and the values.
    pub fn write(&self, out: &mut [u8], extensions: &[(u8, &[u8])]) -> usize {
        let extended = !extensions.is_empty();
        out[0] = 0x80 | (u8::from(self.padding) << 5) | (u8::from(extended) << 4);
        out[1] = (u8::from(self.marker) << 7) | (self.payload_type & 0x7f);
        out[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        if extended {
            FIXED + write_extensions(&mut out[FIXED..], extensions)
        } else {
            FIXED
        }
    }
}

fn write_extensions(out: &mut [u8], extensions: &[(u8, &[u8])]) -> usize {
    let one_byte = extensions
        .iter()
        .all(|(id, value)| (1..=14).contains(id) && (1..=16).contains(&value.len()));
    let mut at = 4;
    for &(id, value) in extensions.iter().filter(|(id, value)| *id > 0 && value.len() <= 255) {
        if one_byte {
            out[at] = (id << 4) | (value.len() as u8 - 1);
            at += 1;
        } else {
            out[at..at + 2].copy_from_slice(&[id, value.len() as u8]);
            at += 2;
        }
        out[at..at + value.len()].copy_from_slice(value);
        at += value.len();
    }
    let end = at.next_multiple_of(4);
    out[at..end].fill(0);
    out[..2].copy_from_slice(&(if one_byte { ONE_BYTE } else { TWO_BYTE }).to_be_bytes());
    out[2..4].copy_from_slice(&((end / 4 - 1) as u16).to_be_bytes());
    end
}

/// Bytes of the fixed header.
const FIXED: usize = 12;
/// Profile word of one-byte elements (RFC 8285 section 4.2).
const ONE_BYTE: u16 = 0xbede;
/// Profile word of two-byte elements, its low four bits are for the application (section 4.3).
const TWO_BYTE: u16 = 0x1000;
/// An id that ends one-byte elements (section 4.2).
const ONE_BYTE_STOP: u8 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: HeaderOut = HeaderOut {
        marker: true,
        padding: false,
        payload_type: 96,
        sequence: 0x1234,
        timestamp: 0x0102_0304,
        ssrc: 0x0a0b_0c0d,
    };

    fn round_trip(extensions: &[(u8, &[u8])]) -> Vec<(u8, Vec<u8>)> {
        let mut packet = [0xff; 600];
        let len = HEADER.write(&mut packet, extensions);
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!(header.len, len);
        assert_eq!(
            (header.marker, header.payload_type, header.sequence),
            (true, 96, 0x1234)
        );
        assert_eq!((header.timestamp, header.ssrc), (0x0102_0304, 0x0a0b_0c0d));
        header
            .extensions(&packet)
            .map(|(id, value)| (id, value.to_vec()))
            .collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let long = [7; 40];
        for extensions in [
            &[][..],
            &[(1, &[9][..])],
            &[(1, &[9][..]), (14, &[1, 2, 3, 4, 5, 6, 7, 8])],
            &[(3, &[][..]), (200, &[5])],
            &[(4, &long[..])],
        ] {
            let expected: Vec<_> = extensions.iter().map(|(id, value)| (*id, value.to_vec())).collect();
            assert_eq!(round_trip(extensions), expected);
        }
    }

    #[test]
    fn padding_is_taken_off_and_too_much_of_it_is_an_error() {
        let mut packet = [0u8; 20];
        let len = HeaderOut {
            padding: true,
            ..HEADER
        }
        .write(&mut packet, &[]);
        for (last, expected) in [
            (1, Ok(7)),
            (8, Ok(0)),
            (9, Err(RtpError::Padding)),
            (0, Err(RtpError::Padding)),
        ] {
            packet[19] = last;
            let header = RtpHeader::parse(&packet).unwrap();
            assert_eq!(header.len, len);
            assert_eq!(header.payload(&packet).map(<[u8]>::len), expected);
        }
        assert_eq!(
            RtpHeader::parse(&packet[..12]).unwrap().payload(&packet[..12]),
            Err(RtpError::Padding)
        );
    }

    #[test]
    fn every_truncation_is_an_error() {
        let mut packet = [0; 64];
        let len = HEADER.write(&mut packet, &[(1, &[1, 2, 3])]);
        for short in 0..len {
            assert_eq!(RtpHeader::parse(&packet[..short]), Err(RtpError::Truncated));
        }
        packet[0] &= 0x3f;
        assert_eq!(RtpHeader::parse(&packet), Err(RtpError::Version));
    }

    #[test]
    fn a_malformed_element_ends_the_list() {
        let mut packet = [0; 20];
        packet[0] = 0x90;
        packet[12..].copy_from_slice(&[0xbe, 0xde, 0, 1, 0x10, 0xaa, 0x2f, 0xbb]);
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!(header.extensions(&packet).collect::<Vec<_>>(), [(1, &[0xaa][..])]);
        packet[16] = 0xf0;
        assert_eq!(header.extensions(&packet).count(), 0, "id 15 stops");
    }
}
