//! SRTP and SRTCP of one peer: AEAD_AES_128_GCM (RFC 7714) and AES_CM_128_HMAC_SHA1_80 (RFC 3711), on aws-lc-rs.
//!
//! Our own code, because packets are sealed where they are to be sent from, under an index that the caller knows: no allocation, no
//! guessing of the roll-over counter. What is rarely used (the SRTCP keys) is expanded when it is used, which keeps a viewer
//! small.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;

/// A protection profile for DTLS-SRTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// SRTP_AEAD_AES_128_GCM
    AeadAes128Gcm,
    /// SRTP_AES128_CM_HMAC_SHA1_80
    Aes128CmSha1,
}

impl Profile {
    /// Its name, as WebRTC statistics give it.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Profile::Aes128CmSha1 => "AES_CM_128_HMAC_SHA1_80",
        }
    }

    /// Bytes that the DTLS exporter must give: two keys, two salts.
    pub const fn keying_material_len(self) -> usize {
        2 * (KEY + self.salt_len())
    }

    const fn salt_len(self) -> usize {
        match self {
            Profile::AeadAes128Gcm => 12,
            Profile::Aes128CmSha1 => 14,
        }
    }
}

/// Master keys of both directions. Secret: no `Debug`.
#[derive(Clone)]
pub struct SrtpKeys {
    /// The profile.
    pub profile: Profile,
    local: Master,
    remote: Master,
}

#[derive(Clone)]
struct Master {
    key: [u8; KEY],
    /// Shorter salts are followed by zeros.
    salt: [u8; SALT],
}

impl SrtpKeys {
    /// Splits what the DTLS exporter gave (RFC 5764 section 4.2). `None` when its length is not
    /// [`Profile::keying_material_len`].
    pub fn from_keying_material(profile: Profile, material: &[u8], is_client: bool) -> Option<SrtpKeys> {
        let salt_len = profile.salt_len();
        if material.len() != profile.keying_material_len() {
            return None;
        }
        let (keys, salts) = material.split_at(2 * KEY);
        let master = |which: usize| {
            let mut master = Master {
                key: [0; KEY],
                salt: [0; SALT],
            };
            master.key.copy_from_slice(&keys[which * KEY..][..KEY]);
            master.salt[..salt_len].copy_from_slice(&salts[which * salt_len..][..salt_len]);
            master
        };
        let (client, server) = (master(0), master(1));
        let (local, remote) = if is_client { (client, server) } else { (server, client) };
        Some(SrtpKeys { profile, local, remote })
    }
}

impl std::fmt::Debug for SrtpKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SrtpKeys")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// Seals what we send to one peer.
pub struct Sealer {
    rtp: Cipher,
    rtcp: Derived,
    rtcp_index: u32,
}

/// Opens what one peer sends.
pub struct Opener {
    /// Made when the first RTP packet comes: a viewer never sends one.
    rtp: Option<Box<RtpOpener>>,
    rtp_keys: Derived,
    rtcp: Derived,
    rtcp_replay: Vec<(u32, Replay<1>)>,
}

struct RtpOpener {
    cipher: Cipher,
    replay: Vec<(u32, Replay<16>)>,
}

/// Why a datagram was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SrtpDrop {
    /// Too short to hold what it must.
    #[error("truncated SRTP packet")]
    Truncated,
    /// Its tag does not fit.
    #[error("SRTP authentication failed")]
    NotAuthentic,
    /// Its index was there before, or is too old to tell.
    #[error("replayed SRTP packet")]
    Replayed,
    /// The peer uses more SSRCs than are remembered.
    #[error("too many SSRCs")]
    TooManySources,
    /// SRTCP in the clear, which nobody negotiated.
    #[error("SRTCP is not encrypted")]
    InClear,
}

impl Sealer {
    /// A sealer with the local keys.
    pub fn new(keys: &SrtpKeys) -> Sealer {
        Sealer {
            rtp: Cipher::new(&Derived::new(keys.profile, &keys.local, RTP_LABELS)),
            rtcp: Derived::new(keys.profile, &keys.local, RTCP_LABELS),
            rtcp_index: 0,
        }
    }

    /// Bytes that sealing adds to an RTP packet.
    pub fn overhead(&self) -> usize {
        self.rtp.tag_len()
    }

    /// Seals the RTP packet `buffer[..len]` in place, writes the tag behind it and returns the datagram's length.
    ///
    /// `index` is the packet's 48-bit index: roll-over counter and sequence number. The caller must never give one index of an SSRC to
    /// two different packets (RFC 7714 section 8.1: a nonce used twice gives the key away).
    ///
    /// # Panics
    /// When there is no room for the tag, or the packet is shorter than its header.
    pub fn seal_rtp(&mut self, buffer: &mut [u8], header_len: usize, len: usize, index: u64) -> usize {
        let ssrc = ssrc_of(&buffer[8..12]);
        let (header, rest) = buffer.split_at_mut(header_len);
        match &self.rtp {
            Cipher::Gcm { key, salt } => {
                let (payload, tag) = rest.split_at_mut(len - header_len);
                let sealed = key
                    .seal_in_place_separate_tag(gcm_rtp_nonce(salt, ssrc, index), Aad::from(&*header), payload)
                    .expect("a packet is shorter than GCM allows");
                tag[..GCM_TAG].copy_from_slice(sealed.as_ref());
                len + GCM_TAG
            }
            Cipher::CmSha1(cm) => {
                cm.apply(ssrc, index, &mut rest[..len - header_len]);
                let tag = cm.tag(&buffer[..len], &((index >> 16) as u32).to_be_bytes());
                buffer[len..len + SHA1_TAG].copy_from_slice(&tag);
                len + SHA1_TAG
            }
        }
    }

    /// Seals the RTCP packet `buffer[..len]` in place and returns the datagram's length, up to 20 bytes more.
    ///
    /// # Panics
    /// When there is no room for it, or the packet is shorter than 8 bytes.
    pub fn seal_rtcp(&mut self, buffer: &mut [u8], len: usize) -> usize {
        let index = self.rtcp_index;
        self.rtcp_index = (self.rtcp_index + 1) & RTCP_INDEX_MAX;
        let ssrc = ssrc_of(&buffer[4..8]);
        let word = (index | RTCP_ENCRYPTED).to_be_bytes();
        match Cipher::new(&self.rtcp) {
            Cipher::Gcm { key, salt } => {
                let (header, rest) = buffer.split_at_mut(RTCP_HEADER);
                let (payload, tail) = rest.split_at_mut(len - RTCP_HEADER);
                let sealed = key
                    .seal_in_place_separate_tag(gcm_rtcp_nonce(&salt, ssrc, index), rtcp_aad(header, word), payload)
                    .expect("a packet is shorter than GCM allows");
                tail[..GCM_TAG].copy_from_slice(sealed.as_ref());
                tail[GCM_TAG..GCM_TAG + 4].copy_from_slice(&word);
                len + GCM_TAG + 4
            }
            Cipher::CmSha1(cm) => {
                cm.apply(ssrc, u64::from(index), &mut buffer[RTCP_HEADER..len]);
                let tag = cm.tag(&buffer[..len], &word);
                buffer[len..len + 4].copy_from_slice(&word);
                buffer[len + 4..len + 4 + SHA1_TAG].copy_from_slice(&tag);
                len + 4 + SHA1_TAG
            }
        }
    }
}

impl Opener {
    /// SSRCs of one peer that are remembered: audio, video, retransmissions, and a few replacements of each.
    pub const SOURCES_MAX: usize = 32;

    /// An opener with the remote keys.
    pub fn new(keys: &SrtpKeys) -> Opener {
        Opener {
            rtp: None,
            rtp_keys: Derived::new(keys.profile, &keys.remote, RTP_LABELS),
            rtcp: Derived::new(keys.profile, &keys.remote, RTCP_LABELS),
            rtcp_replay: Vec::new(),
        }
    }

    /// Opens an RTP packet in place and returns its clear length, header included.
    ///
    /// # Errors
    /// Why it was not opened; its bytes are of no use then.
    pub fn open_rtp(
        &mut self,
        datagram: &mut [u8],
        header_len: usize,
        ssrc: u32,
        sequence: u16,
    ) -> Result<usize, SrtpDrop> {
        let rtp = self.rtp.get_or_insert_with(|| {
            Box::new(RtpOpener {
                cipher: Cipher::new(&self.rtp_keys),
                replay: Vec::new(),
            })
        });
        let known = rtp.replay.iter().position(|(source, _)| *source == ssrc);
        let index = match known {
            Some(place) => rtp.replay[place].1.estimate(sequence),
            None if rtp.replay.len() >= Opener::SOURCES_MAX => return Err(SrtpDrop::TooManySources),
            None => u64::from(sequence),
        };
        if known.is_some_and(|place| !rtp.replay[place].1.is_new(index)) {
            return Err(SrtpDrop::Replayed);
        }
        let len = rtp.cipher.open_rtp(datagram, header_len, ssrc, index)?;
        // Only what is authentic may take memory or move a window.
        let place = known.unwrap_or_else(|| {
            rtp.replay.push((ssrc, Replay::default()));
            rtp.replay.len() - 1
        });
        rtp.replay[place].1.note(index);
        Ok(len)
    }

    /// Opens an RTCP packet in place and returns its clear length.
    ///
    /// # Errors
    /// Why it was not opened; its bytes are of no use then.
    pub fn open_rtcp(&mut self, datagram: &mut [u8]) -> Result<usize, SrtpDrop> {
        let cipher = Cipher::new(&self.rtcp);
        let len = datagram
            .len()
            .checked_sub(cipher.tag_len() + 4)
            .filter(|&len| len >= RTCP_HEADER);
        let len = len.ok_or(SrtpDrop::Truncated)?;
        let ssrc = ssrc_of(&datagram[4..8]);
        let word_at = match cipher {
            Cipher::Gcm { .. } => len + GCM_TAG,
            Cipher::CmSha1(_) => len,
        };
        let word: [u8; 4] = *datagram[word_at..].first_chunk().ok_or(SrtpDrop::Truncated)?;
        let index = u32::from_be_bytes(word) & RTCP_INDEX_MAX;
        if u32::from_be_bytes(word) & RTCP_ENCRYPTED == 0 {
            return Err(SrtpDrop::InClear);
        }
        let known = self.rtcp_replay.iter().position(|(source, _)| *source == ssrc);
        match known {
            Some(place) if !self.rtcp_replay[place].1.is_new(u64::from(index)) => return Err(SrtpDrop::Replayed),
            None if self.rtcp_replay.len() >= Opener::SOURCES_MAX => return Err(SrtpDrop::TooManySources),
            _ => {}
        }
        cipher.open_rtcp(datagram, len, ssrc, word)?;
        let place = known.unwrap_or_else(|| {
            self.rtcp_replay.push((ssrc, Replay::default()));
            self.rtcp_replay.len() - 1
        });
        self.rtcp_replay[place].1.note(u64::from(index));
        Ok(len)
    }
}

/// Session keys of one direction and protocol (RFC 3711 section 4.3), not yet expanded.
struct Derived {
    profile: Profile,
    key: [u8; KEY],
    salt: [u8; SALT],
    auth: [u8; AUTH_KEY],
}

impl Derived {
    fn new(profile: Profile, master: &Master, labels: [u8; 3]) -> Derived {
        let mut derived = Derived {
            profile,
            key: [0; KEY],
            salt: [0; SALT],
            auth: [0; AUTH_KEY],
        };
        let cipher = ctr(&master.key);
        let derive = |label: u8, out: &mut [u8]| {
            let mut counter = [0; 16];
            counter[..SALT].copy_from_slice(&master.salt);
            counter[7] ^= label;
            keystream(&cipher, counter, out);
        };
        derive(labels[0], &mut derived.key);
        derive(labels[2], &mut derived.salt[..profile.salt_len()]);
        if profile == Profile::Aes128CmSha1 {
            derive(labels[1], &mut derived.auth);
        }
        derived
    }
}

/// Keys ready for use.
enum Cipher {
    Gcm { key: LessSafeKey, salt: [u8; 12] },
    CmSha1(Box<CmSha1>),
}

struct CmSha1 {
    key: EncryptingKey,
    salt: [u8; SALT],
    auth: hmac::Key,
}

impl Cipher {
    fn new(derived: &Derived) -> Cipher {
        match derived.profile {
            Profile::AeadAes128Gcm => {
                let key = UnboundKey::new(&AES_128_GCM, &derived.key).expect("16 bytes are an AES-128 key");
                let mut salt = [0; 12];
                salt.copy_from_slice(&derived.salt[..12]);
                Cipher::Gcm {
                    key: LessSafeKey::new(key),
                    salt,
                }
            }
            Profile::Aes128CmSha1 => Cipher::CmSha1(Box::new(CmSha1 {
                key: ctr(&derived.key),
                salt: derived.salt,
                auth: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &derived.auth),
            })),
        }
    }

    fn tag_len(&self) -> usize {
        match self {
            Cipher::Gcm { .. } => GCM_TAG,
            Cipher::CmSha1(_) => SHA1_TAG,
        }
    }

    fn open_rtp(&self, datagram: &mut [u8], header_len: usize, ssrc: u32, index: u64) -> Result<usize, SrtpDrop> {
        let len = datagram
            .len()
            .checked_sub(self.tag_len())
            .filter(|&len| len >= header_len);
        let len = len.ok_or(SrtpDrop::Truncated)?;
        match self {
            Cipher::Gcm { key, salt } => {
                let (header, body) = datagram.split_at_mut(header_len);
                key.open_in_place(gcm_rtp_nonce(salt, ssrc, index), Aad::from(&*header), body)
                    .map_err(|_| SrtpDrop::NotAuthentic)?;
            }
            Cipher::CmSha1(cm) => {
                let (packet, tag) = datagram.split_at_mut(len);
                cm.check(packet, &((index >> 16) as u32).to_be_bytes(), tag)?;
                cm.apply(ssrc, index, &mut packet[header_len..]);
            }
        }
        Ok(len)
    }

    fn open_rtcp(&self, datagram: &mut [u8], len: usize, ssrc: u32, word: [u8; 4]) -> Result<(), SrtpDrop> {
        let index = u32::from_be_bytes(word) & RTCP_INDEX_MAX;
        match self {
            Cipher::Gcm { key, salt } => {
                let (header, body) = datagram[..len + GCM_TAG].split_at_mut(RTCP_HEADER);
                key.open_in_place(gcm_rtcp_nonce(salt, ssrc, index), rtcp_aad(header, word), body)
                    .map_err(|_| SrtpDrop::NotAuthentic)?;
            }
            Cipher::CmSha1(cm) => {
                let (packet, tail) = datagram.split_at_mut(len);
                cm.check(packet, &word, &tail[4..])?;
                cm.apply(ssrc, u64::from(index), &mut packet[RTCP_HEADER..]);
            }
        }
        Ok(())
    }
}

impl CmSha1 {
    /// Encrypts or decrypts: both are the exclusive or with the key stream (RFC 3711 section 4.1.1).
    fn apply(&self, ssrc: u32, index: u64, payload: &mut [u8]) {
        let mut counter = [0; 16];
        counter[..SALT].copy_from_slice(&self.salt);
        xor(&mut counter[4..8], &ssrc.to_be_bytes());
        xor(&mut counter[8..14], &index.to_be_bytes()[2..]);
        self.key
            .less_safe_encrypt(payload, EncryptionContext::Iv128(counter.into()))
            .expect("counter mode takes any length");
    }

    fn tag(&self, packet: &[u8], suffix: &[u8; 4]) -> [u8; SHA1_TAG] {
        let mut context = hmac::Context::with_key(&self.auth);
        context.update(packet);
        context.update(suffix);
        let mut tag = [0; SHA1_TAG];
        tag.copy_from_slice(&context.sign().as_ref()[..SHA1_TAG]);
        tag
    }

    fn check(&self, packet: &[u8], suffix: &[u8; 4], tag: &[u8]) -> Result<(), SrtpDrop> {
        let equal = aws_lc_rs::constant_time::verify_slices_are_equal(&self.tag(packet, suffix), tag);
        equal.map_err(|_| SrtpDrop::NotAuthentic)
    }
}

/// A sliding window of the newest `64 * N` indices.
#[derive(Debug, Clone)]
struct Replay<const N: usize> {
    highest: u64,
    /// Bit `index % (64 N)`.
    seen: [u64; N],
    started: bool,
}

impl<const N: usize> Default for Replay<N> {
    fn default() -> Replay<N> {
        Replay {
            highest: 0,
            seen: [0; N],
            started: false,
        }
    }
}

impl<const N: usize> Replay<N> {
    const SPAN: u64 = 64 * N as u64;

    /// The index nearest to the highest (RFC 3711 section 3.3.1).
    fn estimate(&self, sequence: u16) -> u64 {
        let ahead = i64::from(sequence.wrapping_sub(self.highest as u16) as i16);
        match self.highest.checked_add_signed(ahead) {
            Some(index) => index,
            None => u64::from(sequence),
        }
    }

    fn is_new(&self, index: u64) -> bool {
        let (word, bit) = Replay::<N>::place(index);
        !self.started
            || index > self.highest
            || (self.highest - index < Replay::<N>::SPAN && self.seen[word] & bit == 0)
    }

    fn note(&mut self, index: u64) {
        if !self.started || index > self.highest {
            let passed = if self.started {
                (index - self.highest).min(Replay::<N>::SPAN)
            } else {
                0
            };
            for skipped in index - passed..index {
                let (word, bit) = Replay::<N>::place(skipped + 1);
                self.seen[word] &= !bit;
            }
            self.highest = index;
            self.started = true;
        }
        let (word, bit) = Replay::<N>::place(index);
        self.seen[word] |= bit;
    }

    fn place(index: u64) -> (usize, u64) {
        let at = index % Replay::<N>::SPAN;
        ((at / 64) as usize, 1 << (at % 64))
    }
}

/// RFC 7714 section 8.1: 16 zero bits, SSRC, roll-over counter, sequence number; exclusive or with the salt.
fn gcm_rtp_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> Nonce {
    let mut nonce = *salt;
    xor(&mut nonce[2..6], &ssrc.to_be_bytes());
    xor(&mut nonce[6..12], &index.to_be_bytes()[2..]);
    Nonce::assume_unique_for_key(nonce)
}

/// RFC 7714 section 9.1: 16 zero bits, SSRC, 16 zero bits, SRTCP index.
fn gcm_rtcp_nonce(salt: &[u8; 12], ssrc: u32, index: u32) -> Nonce {
    let mut nonce = *salt;
    xor(&mut nonce[2..6], &ssrc.to_be_bytes());
    xor(&mut nonce[8..12], &index.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// RFC 7714 section 9.2: the first 8 bytes and the word of E flag and index.
fn rtcp_aad(header: &[u8], word: [u8; 4]) -> Aad<[u8; 12]> {
    let mut aad = [0; 12];
    aad[..8].copy_from_slice(&header[..8]);
    aad[8..].copy_from_slice(&word);
    Aad::from(aad)
}

fn ctr(key: &[u8; KEY]) -> EncryptingKey {
    let key = UnboundCipherKey::new(&AES_128, key).expect("16 bytes are an AES-128 key");
    EncryptingKey::ctr(key).expect("AES-128 has a counter mode")
}

fn keystream(cipher: &EncryptingKey, counter: [u8; 16], out: &mut [u8]) {
    out.fill(0);
    cipher
        .less_safe_encrypt(out, EncryptionContext::Iv128(counter.into()))
        .expect("counter mode takes any length");
}

fn xor(to: &mut [u8], with: &[u8]) {
    to.iter_mut().zip(with).for_each(|(to, with)| *to ^= with);
}

fn ssrc_of(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

const KEY: usize = 16;
const SALT: usize = 14;
const AUTH_KEY: usize = 20;
const GCM_TAG: usize = 16;
const SHA1_TAG: usize = 10;
const RTCP_HEADER: usize = 8;
const RTCP_ENCRYPTED: u32 = 1 << 31;
const RTCP_INDEX_MAX: u32 = RTCP_ENCRYPTED - 1;
/// Encryption key, authentication key, salt (RFC 3711 section 4.3.1 and 4.3.2).
const RTP_LABELS: [u8; 3] = [0, 1, 2];
const RTCP_LABELS: [u8; 3] = [3, 4, 5];

#[cfg(test)]
mod tests;
