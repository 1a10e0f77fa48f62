//! Newtypes for the numbers and names of RTP, so that an SSRC cannot pass for a timestamp, nor a mid for a stream's name.

use std::fmt;
use std::ops::Deref;

/// Writes a newtype as the bare number, in logs and in the messages of failed tests.
macro_rules! written_bare {
    ($($newtype:ident),+) => {$(
        impl std::fmt::Display for $newtype {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::fmt::Debug for $newtype {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.0, f)
            }
        }
    )+};
}
pub(super) use written_bare;

/// Synchronisation source (RFC 3550 section 3): names one sender of packets with one sequence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ssrc(pub u32);

/// Payload type of RTP (RFC 3550 section 5.1), 0..=127. What it means is agreed in SDP, one thing in the whole bundle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pt(pub u8);

/// A moment on the RTP clock of a stream (RFC 3550 section 5.1). It wraps: 90 kHz does so after 13 hours.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RtpTime(pub u32);

/// Name of an m-line: `a=mid` (RFC 5888), and the header extension that repeats it in packets (RFC 8843 section 15).
///
/// Visible ASCII of at most [`Mid::LEN_MAX`] bytes. It derefs to its text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mid(Box<str>);

/// Name of a simulcast layer of an m-line: `a=rid` (RFC 8851), and the header extension of RFC 8852 section 3.
///
/// Letters, digits, `-` and `_`, at most [`Rid::LEN_MAX`] bytes. It derefs to its text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rid {
    bytes: [u8; Rid::LEN_MAX],
    len: u8,
}

impl Ssrc {
    /// From network byte order.
    #[inline]
    pub const fn from_be_bytes(bytes: [u8; 4]) -> Ssrc {
        Ssrc(u32::from_be_bytes(bytes))
    }

    /// In network byte order.
    #[inline]
    pub const fn to_be_bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }
}

impl Pt {
    /// The seven bits that travel in the header, as an index of a table of 128.
    #[inline]
    pub const fn index(self) -> usize {
        (self.0 & 0x7f) as usize
    }
}

impl RtpTime {
    /// From network byte order.
    #[inline]
    pub const fn from_be_bytes(bytes: [u8; 4]) -> RtpTime {
        RtpTime(u32::from_be_bytes(bytes))
    }

    /// In network byte order.
    #[inline]
    pub const fn to_be_bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    /// Ticks from `earlier` to here, however often the clock has wrapped; negative if `earlier` is in fact later, by less than half
    /// the circle.
    #[inline]
    pub const fn since(self, earlier: RtpTime) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }

    /// Ticks forward from `earlier` to here, however often the clock has wrapped.
    #[inline]
    pub const fn ticks_since(self, earlier: RtpTime) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Later than `other`, by less than half the circle.
    #[inline]
    pub const fn is_after(self, other: RtpTime) -> bool {
        self.since(other) > 0
    }

    /// So many ticks later.
    #[inline]
    pub const fn plus(self, ticks: u32) -> RtpTime {
        RtpTime(self.0.wrapping_add(ticks))
    }

    /// So many ticks earlier.
    #[inline]
    pub const fn minus(self, ticks: u32) -> RtpTime {
        RtpTime(self.0.wrapping_sub(ticks))
    }
}

impl Mid {
    /// Clients use one or two digits, some whole URNs and paths.
    pub const LEN_MAX: usize = 64;

    /// The text as a mid, if it can be one. RFC 5888 section 4 wants a token; clients use other visible characters, too.
    pub fn parse(text: &str) -> Option<Mid> {
        let is_mid = (1..=Mid::LEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_mid.then(|| Mid(text.into()))
    }
}

impl Rid {
    /// The one-byte form of header extensions carries no more (RFC 8285 section 4.2).
    pub const LEN_MAX: usize = 16;

    /// The text as a rid, if it can be one (RFC 8851 section 10).
    pub fn parse(text: &str) -> Option<Rid> {
        let is_rid_char = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !(1..=Rid::LEN_MAX).contains(&text.len()) || !text.bytes().all(is_rid_char) {
            return None;
        }
        let mut bytes = [0; Rid::LEN_MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        let len = text.len() as u8;
        Some(Rid { bytes, len })
    }
}

/// For mids that we choose ourselves. What a client says goes through [`Mid::parse`].
impl From<&str> for Mid {
    fn from(text: &str) -> Mid {
        Mid(text.into())
    }
}

/// As from `&str`.
impl From<String> for Mid {
    fn from(text: String) -> Mid {
        Mid(text.into())
    }
}

impl Deref for Mid {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Deref for Rid {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("it was made from ASCII")
    }
}

written_bare!(Ssrc, Pt, RtpTime);

impl fmt::LowerHex for Ssrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Display for Rid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Rid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rid").field(&&**self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rtp_time_is_measured_over_the_wrap() {
        let before = RtpTime(u32::MAX - 9);
        let after = before.plus(30);
        assert_eq!(after, RtpTime(20));
        assert_eq!((after.since(before), before.since(after)), (30, -30));
        assert_eq!(after.minus(30), before);
    }

    #[test]
    fn rtp_times_less_than_half_the_circle_apart_have_an_order() {
        let before = RtpTime(u32::MAX - 9);
        let after = before.plus(30);
        assert_eq!((after.is_after(before), before.is_after(after)), (true, false));
        assert_eq!(after.ticks_since(before), 30);
        assert_eq!(before.ticks_since(after), u32::MAX - 29);
        assert!(!before.is_after(before));
        let opposite = before.plus(1 << 31);
        assert_eq!((opposite.is_after(before), before.is_after(opposite)), (false, false));
    }

    #[test]
    fn numbers_are_written_bare() {
        assert_eq!(format!("{0} {0:?} {0:x}", Ssrc(255)), "255 255 ff");
        assert_eq!(format!("{0} {0:?} {1} {1:?}", Pt(96), RtpTime(7)), "96 96 7 7");
        assert_eq!((Pt(0xe0).index(), Pt(96).index()), (96, 96));
    }

    #[test]
    fn mids_are_short_and_visible() {
        for (text, is_mid) in [
            ("0", true),
            ("urn:a:0", true),
            ("{a.0~}", true),
            ("", false),
            ("a b", false),
            ("\u{e9}", false),
            (&"x".repeat(Mid::LEN_MAX), true),
            (&"x".repeat(Mid::LEN_MAX + 1), false),
        ] {
            assert_eq!(Mid::parse(text).is_some(), is_mid, "{text}");
        }
    }

    #[test]
    fn rids_keep_their_text() {
        for text in ["0", "h", "layer-2_x", "0123456789abcdef"] {
            let rid = Rid::parse(text).unwrap();
            assert_eq!((&*rid, rid.to_string().as_str()), (text, text));
        }
        for text in ["", "a b", "h;l", "\u{e9}", "0123456789abcdef0"] {
            assert_eq!(Rid::parse(text), None, "{text}");
        }
    }
}
