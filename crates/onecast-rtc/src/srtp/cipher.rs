//! The two protection profiles at work on one packet, in place: AEAD_AES_128_GCM (RFC 7714) and
//! AES_CM_128_HMAC_SHA1_80 (RFC 3711).

use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{aead, constant_time, hmac};

use super::{MasterKey, Profile, SrtpDrop};
use crate::rtp::Ssrc;

/// The session keys of one direction of RTP or of RTCP (RFC 3711 section 4.3).
pub(super) struct SessionKeys {
    key: [u8; 16],
    salt: [u8; 14],
    auth: [u8; 20],
}

impl SessionKeys {
    /// The keys that protect RTP.
    pub(super) fn rtp(master: &MasterKey) -> Self {
        Self::derive(master, [0, 1, 2])
    }

    /// The keys that protect RTCP.
    pub(super) fn rtcp(master: &MasterKey) -> Self {
        Self::derive(master, [3, 4, 5])
    }

    fn derive(master: &MasterKey, [key, auth, salt]: [u8; 3]) -> Self {
        let stream = counter_mode(&master.key);
        Self {
            key: derived(&stream, master, key),
            auth: derived(&stream, master, auth),
            salt: derived(&stream, master, salt),
        }
    }
}

/// Key derivation: counter mode over zeros, with an IV of the salt and the label (RFC 3711 section 4.3.3).
fn derived<const N: usize>(stream: &EncryptingKey, master: &MasterKey, label: u8) -> [u8; N] {
    let mut iv = [0; 16];
    iv[..14].copy_from_slice(&master.salt);
    iv[7] ^= label;
    let mut out = [0; N];
    apply_keystream(stream, iv, &mut out);
    out
}

/// A profile keyed for one direction.
pub(super) enum Cipher {
    /// AEAD_AES_128_GCM.
    Gcm { key: aead::LessSafeKey, salt: [u8; 12] },
    /// AES_CM_128_HMAC_SHA1_80. Boxed, because it has ten times the size of the other.
    Cm(Box<Cm>),
}

/// Counter mode with a separate digest.
pub(super) struct Cm {
    stream: EncryptingKey,
    auth: hmac::Key,
    salt: [u8; 14],
}

impl Cipher {
    pub(super) fn new(profile: Profile, keys: &SessionKeys) -> Self {
        match profile {
            Profile::AeadAes128Gcm => Self::Gcm {
                key: aead::LessSafeKey::new(
                    aead::UnboundKey::new(&aead::AES_128_GCM, &keys.key).expect("the key has 16 bytes"),
                ),
                salt: *keys.salt.first_chunk().expect("14 is more than 12"),
            },
            Profile::Aes128CmSha1_80 => Self::Cm(Box::new(Cm {
                stream: counter_mode(&keys.key),
                auth: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &keys.auth),
                salt: keys.salt,
            })),
        }
    }

    /// Protects `buf[..len]` and appends the tag.
    #[inline]
    pub(super) fn seal_rtp(&self, buf: &mut [u8], header_len: usize, len: usize, index: u64) -> usize {
        let ssrc = ssrc_at(buf, 8);
        match self {
            Self::Gcm { key, salt } => {
                let (header, body) = buf.split_at_mut(header_len);
                let nonce = gcm_nonce(salt, ssrc, index);
                gcm_seal(key, nonce, header, body, len - header_len);
                len + GCM_TAG_LEN
            }
            Self::Cm(cm) => {
                apply_keystream(&cm.stream, cm.iv(ssrc, index), &mut buf[header_len..len]);
                let digest = cm.digest(&buf[..len], &roc(index));
                buf[len..len + CM_TAG_LEN].copy_from_slice(&digest);
                len + CM_TAG_LEN
            }
        }
    }

    /// Checks and decrypts `datagram` in place. Returns its length without the tag. The bytes are lost when it fails.
    #[inline]
    pub(super) fn open_rtp(
        &self,
        datagram: &mut [u8],
        header_len: usize,
        ssrc: Ssrc,
        index: u64,
    ) -> Result<usize, SrtpDrop> {
        let len = datagram.len().checked_sub(self.tag_len()).ok_or(SrtpDrop::Truncated)?;
        if len < header_len {
            return Err(SrtpDrop::Truncated);
        }
        match self {
            Self::Gcm { key, salt } => {
                let (header, body) = datagram.split_at_mut(header_len);
                key.open_in_place(gcm_nonce(salt, ssrc, index), aead::Aad::from(&*header), body)
                    .map_err(|_| SrtpDrop::Forged)?;
            }
            Self::Cm(cm) => {
                let (packet, tag) = datagram.split_at_mut(len);
                cm.verify(packet, &roc(index), tag)?;
                apply_keystream(&cm.stream, cm.iv(ssrc, index), &mut packet[header_len..]);
            }
        }
        Ok(len)
    }

    /// Protects the compound packet `buf[..len]` and appends trailer and tag.
    pub(super) fn seal_rtcp(&self, buf: &mut [u8], len: usize, index: u32) -> usize {
        let ssrc = ssrc_at(buf, 4);
        let word = (index | ENCRYPTED).to_be_bytes();
        match self {
            Self::Gcm { key, salt } => {
                let aad = rtcp_aad(buf, word);
                let nonce = gcm_nonce(salt, ssrc, index.into());
                gcm_seal(key, nonce, &aad, &mut buf[RTCP_CLEAR..], len - RTCP_CLEAR);
                let word_at = len + GCM_TAG_LEN;
                buf[word_at..word_at + 4].copy_from_slice(&word);
                word_at + 4
            }
            Self::Cm(cm) => {
                apply_keystream(&cm.stream, cm.iv(ssrc, index.into()), &mut buf[RTCP_CLEAR..len]);
                buf[len..len + 4].copy_from_slice(&word);
                let digest = cm.digest(&buf[..len + 4], &[]);
                buf[len + 4..len + 4 + CM_TAG_LEN].copy_from_slice(&digest);
                len + 4 + CM_TAG_LEN
            }
        }
    }

    /// Checks and decrypts in place. Returns the clear length. `word` comes from [`rtcp_word`], which has checked the length.
    pub(super) fn open_rtcp(&self, datagram: &mut [u8], ssrc: Ssrc, word: u32) -> Result<usize, SrtpDrop> {
        let index = u64::from(word & !ENCRYPTED);
        match self {
            Self::Gcm { key, salt } => {
                let aad = rtcp_aad(datagram, word.to_be_bytes());
                let end = datagram.len() - 4;
                key.open_in_place(
                    gcm_nonce(salt, ssrc, index),
                    aead::Aad::from(&aad),
                    &mut datagram[RTCP_CLEAR..end],
                )
                .map_err(|_| SrtpDrop::Forged)?;
                Ok(end - GCM_TAG_LEN)
            }
            Self::Cm(cm) => {
                let (packet, tag) = datagram.split_at_mut(datagram.len() - CM_TAG_LEN);
                cm.verify(packet, &[], tag)?;
                let len = packet.len() - 4;
                apply_keystream(&cm.stream, cm.iv(ssrc, index), &mut packet[RTCP_CLEAR..len]);
                Ok(len)
            }
        }
    }

    fn tag_len(&self) -> usize {
        match self {
            Self::Gcm { .. } => GCM_TAG_LEN,
            Self::Cm(_) => CM_TAG_LEN,
        }
    }
}

impl Cm {
    /// RFC 3711 section 4.1.1.
    fn iv(&self, ssrc: Ssrc, index: u64) -> [u8; 16] {
        let mut iv = [0; 16];
        iv[..14].copy_from_slice(&self.salt);
        xor(&mut iv[4..8], &ssrc.to_be_bytes());
        xor(&mut iv[8..14], &index.to_be_bytes()[2..]);
        iv
    }

    fn digest(&self, packet: &[u8], roc: &[u8]) -> [u8; CM_TAG_LEN] {
        let mut digest = hmac::Context::with_key(&self.auth);
        digest.update(packet);
        digest.update(roc);
        *digest.sign().as_ref().first_chunk().expect("SHA-1 has 20 bytes")
    }

    fn verify(&self, packet: &[u8], roc: &[u8], tag: &[u8]) -> Result<(), SrtpDrop> {
        constant_time::verify_slices_are_equal(&self.digest(packet, roc), tag).map_err(|_| SrtpDrop::Forged)
    }
}

/// Sender SSRC and trailer (`E | index`) of an SRTCP packet, if it is long enough.
///
/// ```text
/// GCM:  | header, SSRC (8) | encrypted .. | tag (16) | E, index (4) |
/// CM:   | header, SSRC (8) | encrypted .. | E, index (4) | tag (10) |
/// ```
pub(super) fn rtcp_word(profile: Profile, datagram: &[u8]) -> Result<(Ssrc, u32), SrtpDrop> {
    let tag_len = profile.tag_len();
    if datagram.len() < RTCP_CLEAR + 4 + tag_len {
        return Err(SrtpDrop::Truncated);
    }
    let at = match profile {
        Profile::AeadAes128Gcm => datagram.len() - 4,
        Profile::Aes128CmSha1_80 => datagram.len() - 4 - tag_len,
    };
    let word = *datagram[at..].first_chunk().expect("the length was checked");
    Ok((ssrc_at(datagram, 4), u32::from_be_bytes(word)))
}

/// RFC 7714 section 8.1: two zero bytes, SSRC and index, XORed with the salt. The nonce of SRTCP (section 9.1) is the same with its 31-bit
/// index.
fn gcm_nonce(salt: &[u8; 12], ssrc: Ssrc, index: u64) -> aead::Nonce {
    let mut nonce = *salt;
    xor(&mut nonce[2..6], &ssrc.to_be_bytes());
    xor(&mut nonce[6..12], &index.to_be_bytes()[2..]);
    aead::Nonce::assume_unique_for_key(nonce)
}

/// Seals `body[..len]` and writes the tag behind it.
fn gcm_seal(key: &aead::LessSafeKey, nonce: aead::Nonce, aad: &[u8], body: &mut [u8], len: usize) {
    let tag = key
        .seal_in_place_separate_tag(nonce, aead::Aad::from(aad), &mut body[..len])
        .expect("a datagram is far below the cipher's limit");
    body[len..len + GCM_TAG_LEN].copy_from_slice(tag.as_ref());
}

/// RFC 7714 section 9.2.
fn rtcp_aad(packet: &[u8], word: [u8; 4]) -> [u8; 12] {
    let mut aad = [0; 12];
    aad[..8].copy_from_slice(&packet[..8]);
    aad[8..].copy_from_slice(&word);
    aad
}

fn counter_mode(key: &[u8; 16]) -> EncryptingKey {
    UnboundCipherKey::new(&AES_128, key)
        .and_then(EncryptingKey::ctr)
        .expect("the key has 16 bytes")
}

fn apply_keystream(stream: &EncryptingKey, iv: [u8; 16], bytes: &mut [u8]) {
    stream
        .less_safe_encrypt(bytes, EncryptionContext::Iv128(FixedLength::from(iv)))
        .expect("counter mode takes any length");
}

fn roc(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

fn ssrc_at(packet: &[u8], at: usize) -> Ssrc {
    Ssrc::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

fn xor(bytes: &mut [u8], with: &[u8]) {
    for (byte, with) in bytes.iter_mut().zip(with) {
        *byte ^= with;
    }
}

/// RFC 7714 section 14.2.
pub(super) const GCM_TAG_LEN: usize = 16;
/// 80 bits, RFC 3711 section 5.2.
pub(super) const CM_TAG_LEN: usize = 10;
/// The E flag of the SRTCP trailer.
pub(super) const ENCRYPTED: u32 = 1 << 31;
/// Header and sender SSRC of the first RTCP packet stay clear.
const RTCP_CLEAR: usize = 8;
