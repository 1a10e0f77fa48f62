//! The RTP header (RFC 3550 section 5.1) and its extensions (RFC 8285): a read-only view, and a writer.

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
    pub extension: (u16, u16),
    /// Length of header, CSRCs and extension block: where the payload starts.
    pub len: usize,
}
