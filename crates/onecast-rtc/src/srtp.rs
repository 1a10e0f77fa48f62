//! SRTP and SRTCP of one client (RFC 3711, RFC 7714): seals outgoing packets and opens incoming ones, in place and without allocation.
//!
//! The sender chooses the packet index, so a packet that is sent again is sealed to the same bytes. The receiver guesses the index from the
//! sequence number, and remembers which ones it has taken. A key must not seal an index twice: see [`RtpSealer::seal`].

mod cipher;
mod guesses;
mod replay;
mod sources;

#[cfg(test)]
mod tests;

use std::fmt;

use self::cipher::{CM_TAG_LEN, Cipher, ENCRYPTED, GCM_TAG_LEN, SessionKeys};
use self::guesses::Credit;
pub use self::sources::SOURCES_MAX;
use self::sources::{Sources, Standing};
use super::DtlsRole;
use crate::rtp::Ssrc;

/// A protection profile (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// AES-GCM with a 16-byte tag: preferred, because it is several times cheaper than the other.
    AeadAes128Gcm,
    /// AES counter mode with a 10-byte HMAC-SHA1 tag, for clients that have nothing better.
    Aes128CmSha1_80,
}

impl Profile {
    /// Bytes a sealed RTP packet is longer than the clear one.
    #[inline]
    pub const fn tag_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm => GCM_TAG_LEN,
            Self::Aes128CmSha1_80 => CM_TAG_LEN,
        }
    }

    /// Bytes that the DTLS exporter must give: both keys and both salts.
    pub const fn keying_material_len(self) -> usize {
        2 * (KEY_LEN + self.salt_len())
    }

    const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm => 12,
            Self::Aes128CmSha1_80 => 14,
        }
    }
}

impl fmt::Display for Profile {
    /// The name in the RFCs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::Aes128CmSha1_80 => "AES_CM_128_HMAC_SHA1_80",
        })
    }
}

/// Result of a DTLS handshake: the profile, and the master keys of both directions.
#[derive(Clone)]
pub struct SrtpKeys {
    profile: Profile,
    local: MasterKey,
    remote: MasterKey,
}

/// Master key and salt of one direction. The salt of GCM has 12 bytes; the rest is zero.
#[derive(Clone)]
struct MasterKey {
    key: [u8; KEY_LEN],
    salt: [u8; 14],
}

impl SrtpKeys {
    /// Splits the exporter's output (RFC 5764 section 4.2); `None` unless it has
    /// [`Profile::keying_material_len`] bytes. `role` is our side of the handshake.
    pub fn from_keying_material(profile: Profile, material: &[u8], role: DtlsRole) -> Option<Self> {
        if material.len() != profile.keying_material_len() {
            return None;
        }
        let (keys, salts) = material.split_at(2 * KEY_LEN);
        let (client_key, server_key) = keys.split_at(KEY_LEN);
        let (client_salt, server_salt) = salts.split_at(profile.salt_len());
        let client = MasterKey::new(client_key, client_salt);
        let server = MasterKey::new(server_key, server_salt);
        let (local, remote) = match role {
            DtlsRole::Client => (client, server),
            DtlsRole::Server => (server, client),
        };
        Some(Self { profile, local, remote })
    }

    /// The profile that was agreed on.
    pub fn profile(&self) -> Profile {
        self.profile
    }
}

impl fmt::Debug for SrtpKeys {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpKeys")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

impl MasterKey {
    fn new(key: &[u8], salt: &[u8]) -> Self {
        let mut master = Self {
            key: [0; KEY_LEN],
            salt: [0; 14],
        };
        master.key.copy_from_slice(key);
        master.salt[..salt.len()].copy_from_slice(salt);
        master
    }
}

/// Why an incoming packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SrtpDrop {
    /// Too short for its header and tag.
    #[error("truncated SRTP packet")]
    Truncated,
    /// The tag does not match: the packet is damaged, forged, or sealed with another key.
    #[error("SRTP authentication failed")]
    Forged,
    /// Received before, or too old to tell.
    #[error("replayed SRTP packet")]
    Replayed,
    /// SRTCP without encryption, which no client sends.
    #[error("SRTCP packet is not encrypted")]
    NotEncrypted,
}

/// Protects everything that is sent to one client, where that has one RTP sender.
pub struct Sealer {
    rtp: RtpSealer,
    rtcp: RtcpSealer,
}

impl Sealer {
    /// Keyed with our own master key.
    pub fn new(keys: &SrtpKeys) -> Self {
        Self {
            rtp: RtpSealer::new(keys),
            rtcp: RtcpSealer::new(keys),
        }
    }

    /// The profile that was agreed on.
    pub fn profile(&self) -> Profile {
        self.rtp.profile
    }

    /// Bytes that sealing adds to an RTP packet.
    #[inline]
    pub fn overhead(&self) -> usize {
        self.rtp.overhead()
    }

    /// Seals an RTP packet: see [`RtpSealer::seal`].
    #[inline]
    pub fn seal_rtp(&mut self, buf: &mut [u8], header_len: usize, len: usize, index: u64) -> usize {
        self.rtp.seal(buf, header_len, len, index)
    }

    /// Seals an RTCP packet: see [`RtcpSealer::seal`].
    pub fn seal_rtcp(&mut self, buf: &mut [u8], len: usize) -> usize {
        self.rtcp.seal(buf, len)
    }
}

/// Protects RTP that is sent to one client.
pub struct RtpSealer {
    profile: Profile,
    cipher: Cipher,
}

impl RtpSealer {
    /// Keyed with our own master key. A client may have several, as long as no two seal the same SSRC.
    pub fn new(keys: &SrtpKeys) -> Self {
        Self {
            profile: keys.profile,
            cipher: Cipher::new(keys.profile, &SessionKeys::rtp(&keys.local)),
        }
    }

    /// Bytes that sealing adds to a packet.
    #[inline]
    pub fn overhead(&self) -> usize {
        self.profile.tag_len()
    }

    /// Seals the RTP packet `buf[..len]` in place, its first `header_len` bytes staying clear, and writes the tag
    /// after it. Returns the length of the datagram: `len` + [`overhead`](Self::overhead).
    ///
    /// `index` is the packet's 48-bit index: roll-over counter, then the sequence number of the header. The caller must never use one
    /// index of an SSRC for two different packets: with GCM that reveals the authentication key (RFC 7714 section 8.4).
    ///
    /// # Panics
    /// When `buf` has no room for the tag or the header is shorter than 12 bytes.
    #[inline]
    pub fn seal(&mut self, buf: &mut [u8], header_len: usize, len: usize, index: u64) -> usize {
        debug_assert_eq!(
            index as u16,
            u16::from_be_bytes([buf[2], buf[3]]),
            "index and header disagree"
        );
        self.cipher.seal_rtp(buf, header_len, len, index)
    }
}

/// Protects all RTCP that is sent to one client.
pub struct RtcpSealer {
    profile: Profile,
    /// The cipher is rebuilt for each report, which is rare; keeping it would take another half kilobyte per viewer.
    keys: SessionKeys,
    index: u32,
}

impl RtcpSealer {
    /// Keyed with our own master key. A client has one: two would use the same indices.
    pub fn new(keys: &SrtpKeys) -> Self {
        Self {
            profile: keys.profile,
            keys: SessionKeys::rtcp(&keys.local),
            index: 0,
        }
    }

    /// Seals the compound RTCP packet `buf[..len]` in place and returns the length of the datagram, at most `len` +
    /// [`RTCP_OVERHEAD_MAX`]. Zero, with nothing sealed, once the key is used up after 2^31 packets.
    ///
    /// # Panics
    /// When `buf` has no room for trailer and tag or the packet is shorter than 8 bytes.
    pub fn seal(&mut self, buf: &mut [u8], len: usize) -> usize {
        if self.index >= RTCP_INDEX_MAX {
            return 0;
        }
        self.index += 1;
        Cipher::new(self.profile, &self.keys).seal_rtcp(buf, len, self.index)
    }
}

/// Opens everything that one client sends. It is small until the first RTP packet, because most clients only send reports.
pub struct Opener {
    profile: Profile,
    rtp_keys: SessionKeys,
    rtcp_keys: SessionKeys,
    rtp: Option<Box<RtpOpener>>,
    rtcp_sources: Sources<RTCP_WINDOW_WORDS, RTCP_REMEMBERED>,
}

struct RtpOpener {
    cipher: Cipher,
    sources: Sources<RTP_WINDOW_WORDS, RTP_REMEMBERED>,
    credit: Credit,
    /// Copy of the datagram while its roll-over count is guessed: a failed attempt destroys the bytes.
    sealed: Vec<u8>,
}

impl Opener {
    /// Keyed with the client's master key.
    pub fn new(keys: &SrtpKeys) -> Self {
        Self {
            profile: keys.profile,
            rtp_keys: SessionKeys::rtp(&keys.remote),
            rtcp_keys: SessionKeys::rtcp(&keys.remote),
            rtp: None,
            rtcp_sources: Sources::new(),
        }
    }

    /// Checks and decrypts an RTP packet in place. Returns its clear length, header included. On an error the bytes are worthless.
    ///
    /// # Errors
    /// Why the packet is to be dropped.
    #[inline]
    pub fn open_rtp(
        &mut self,
        datagram: &mut [u8],
        header_len: usize,
        ssrc: Ssrc,
        sequence: u16,
    ) -> Result<usize, SrtpDrop> {
        if datagram.len() < header_len + self.profile.tag_len() {
            return Err(SrtpDrop::Truncated);
        }
        let (profile, keys) = (self.profile, &self.rtp_keys);
        let rtp = self.rtp.get_or_insert_with(|| {
            Box::new(RtpOpener {
                cipher: Cipher::new(profile, keys),
                sources: Sources::new(),
                credit: Credit::new(),
                sealed: Vec::new(),
            })
        });
        rtp.open(datagram, header_len, (ssrc, sequence))
    }

    /// Whether a packet of this source has been authentic, or none of any source so far.
    pub fn may_know(&self, ssrc: Ssrc) -> bool {
        let sources = self.rtp.as_ref().map(|rtp| &rtp.sources);
        sources.is_none_or(|sources| sources.is_empty() || sources.standing(ssrc) != Standing::New)
    }

    /// Checks and decrypts a compound RTCP packet in place. Returns its clear length. On an error the bytes are worthless.
    ///
    /// # Errors
    /// Why the packet is to be dropped.
    pub fn open_rtcp(&mut self, datagram: &mut [u8]) -> Result<usize, SrtpDrop> {
        let (ssrc, word) = cipher::rtcp_word(self.profile, datagram)?;
        if word & ENCRYPTED == 0 {
            return Err(SrtpDrop::NotEncrypted);
        }
        let index = u64::from(word & !ENCRYPTED);
        let standing = self.rtcp_sources.standing(ssrc);
        if !self.rtcp_sources.is_fresh(standing, index) {
            return Err(SrtpDrop::Replayed);
        }
        let len = Cipher::new(self.profile, &self.rtcp_keys).open_rtcp(datagram, ssrc, word)?;
        self.rtcp_sources.take(ssrc, standing, index);
        Ok(len)
    }
}

impl RtpOpener {
    /// Tries the likely index, then those of other roll-over counts if the source is in doubt and there is credit left.
    fn open(
        &mut self,
        datagram: &mut [u8],
        header_len: usize,
        (ssrc, sequence): (Ssrc, u16),
    ) -> Result<usize, SrtpDrop> {
        self.credit.earn();
        let standing = self.sources.standing(ssrc);
        let (likely, highest) = match standing {
            Standing::Present(place) => {
                let window = self.sources.window(place);
                let index = Some(window.estimate(sequence));
                (index.filter(|&index| window.is_fresh(index)), Some(window.highest()))
            }
            Standing::Former(highest) => (Some(guesses::next_after(highest, sequence)), Some(highest)),
            Standing::New => (Some(sequence.into()), None),
        };
        // A source whose packets authenticate is not worth the copy. This costs the first packet after a gap.
        let is_doubted = !matches!(standing, Standing::Present(place) if !self.sources.is_doubted(place));
        let may_guess = is_doubted && self.credit.is_enough();
        if may_guess {
            self.sealed.clear();
            self.sealed.extend_from_slice(datagram);
        }
        if let Some(index) = likely
            && let Ok(len) = self.cipher.open_rtp(datagram, header_len, ssrc, index)
        {
            self.sources.take(ssrc, standing, index);
            return Ok(len);
        }
        self.sources.doubt(standing);
        let dropped = likely.map_or(SrtpDrop::Replayed, |_| SrtpDrop::Forged);
        if !may_guess {
            return Err(dropped);
        }
        self.credit.spend();
        for index in guesses::ahead(highest, sequence, likely) {
            datagram.copy_from_slice(&self.sealed);
            if let Ok(len) = self.cipher.open_rtp(datagram, header_len, ssrc, index) {
                self.sources.take(ssrc, standing, index);
                return Ok(len);
            }
        }
        Err(dropped)
    }
}

/// The most that sealing adds to an RTCP packet: index and GCM tag.
pub const RTCP_OVERHEAD_MAX: usize = 4 + GCM_TAG_LEN;
const KEY_LEN: usize = 16;
/// 1024 packets: half a second of 20 Mbit/s, so that a packet repaired late is not taken for a replay.
const RTP_WINDOW_WORDS: usize = 16;
/// So many former sources are remembered at least: half an hour of a client that changes its SSRC every second. At most twice as many are,
/// in 140 KiB; a client that does not change its SSRC takes no memory for this.
const RTP_REMEMBERED: usize = 2_048;
/// The same for reports, in 18 KiB at most. It is less, because viewers send reports, too.
const RTCP_REMEMBERED: usize = 256;
/// 128 reports.
const RTCP_WINDOW_WORDS: usize = 2;
/// SRTCP indices have 31 bits (RFC 3711 section 3.4).
const RTCP_INDEX_MAX: u32 = (1 << 31) - 1;
