//! The other side's record key, and its expected Finished: both are checked before the DTLS crate sees the record.
//!
//! The crate as a server does not compare the client's Finished with the transcript, and a sealed record cannot be read without its key. So
//! the key is derived here, too.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hmac};

use super::hello;
use crate::DtlsRole;
use crate::record::{CLIENT_HELLO, FINISHED, MESSAGE_HEADER_LEN, Record, SERVER_HELLO, write_message};

/// RFC 5246 section 8.1.
pub(super) type MasterSecret = [u8; 48];
/// Content of a Finished (RFC 5246 section 7.4.9).
pub(super) type VerifyData = [u8; 12];

/// Key of the records that the other side seals. Every cipher suite that we accept is AES-128-GCM with SHA-256.
#[derive(Clone)]
pub(super) struct PeerKey {
    key: [u8; 16],
    salt: [u8; 4],
}

/// The handshake messages: their randoms go into the keys, and a Finished covers all of them.
pub(super) struct Hellos {
    client_random: [u8; 32],
    server_random: [u8; 32],
    /// Hash of all handshake messages so far.
    transcript: digest::Context,
}

/// The keys that check the end of a handshake.
pub(super) struct Keys {
    pub(super) peer: PeerKey,
    /// Expected content of the client's Finished. Where we are the client, the crate checks that of the server.
    pub(super) finished: Option<VerifyData>,
    pub(super) finished_seq: u16,
}

impl PeerKey {
    /// `role` is ours.
    fn derive(master: &MasterSecret, client_random: &[u8], server_random: &[u8], role: DtlsRole) -> PeerKey {
        // | client key (16) | server key (16) | client salt (4) | server salt (4) | (RFC 5246 section 6.3)
        let mut block = [0; 40];
        expand(master, b"key expansion", &[server_random, client_random], &mut block);
        let at = match role {
            DtlsRole::Server => 0,
            DtlsRole::Client => 1,
        };
        let (keys, salts) = block.split_at(32);
        PeerKey {
            key: keys[16 * at..][..16].try_into().expect("16 bytes"),
            salt: salts[4 * at..][..4].try_into().expect("4 bytes"),
        }
    }

    /// Decrypts a record whose plain text has `N` bytes, at most 24 (RFC 5288 section 3).
    pub(super) fn open<const N: usize>(&self, record: &Record) -> Option<[u8; N]> {
        if record.body.len() != NONCE_LEN + N + TAG_LEN {
            return None;
        }
        let (explicit, sealed) = record.body.split_at(NONCE_LEN);
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.salt);
        nonce[4..].copy_from_slice(explicit);
        let header = record.header;
        let mut aad = [0; 13];
        aad[..8].copy_from_slice(&header[3..11]);
        aad[8..11].copy_from_slice(&header[..3]);
        aad[11..].copy_from_slice(&(N as u16).to_be_bytes());
        let key = UnboundKey::new(&AES_128_GCM, &self.key).expect("a key of 16 bytes");
        let mut buffer = sealed.to_vec();
        let plain = LessSafeKey::new(key)
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut buffer)
            .ok()?;
        <[u8; N]>::try_from(&*plain).ok()
    }
}

#[cfg(test)]
impl PeerKey {
    /// Body of the record with this header, whose length is that of the plain text.
    pub(super) fn seal(&self, header: &[u8], plain: &[u8]) -> Vec<u8> {
        let explicit = &header[3..11];
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.salt);
        nonce[4..].copy_from_slice(explicit);
        let aad = [&header[3..11], &header[..3], &header[11..13]].concat();
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &self.key).unwrap());
        let mut sealed = plain.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut sealed)
            .unwrap();
        [explicit, &sealed].concat()
    }
}

/// Content of the Finished with this sequence number, if the record is authentic.
pub(super) fn open_finished(key: &PeerKey, record: &Record, seq: u16) -> Option<VerifyData> {
    let plain: [u8; FINISHED_LEN] = key.open(record)?;
    let (_, said) = plain.split_last_chunk::<12>()?;
    let mut whole = Vec::with_capacity(FINISHED_LEN);
    write_message(&mut whole, FINISHED, seq, said);
    (whole == plain).then_some(*said)
}

impl Hellos {
    pub(super) fn new() -> Hellos {
        Hellos {
            client_random: [0; 32],
            server_random: [0; 32],
            transcript: digest::Context::new(&digest::SHA256),
        }
    }

    /// Adds a message that was sent or taken. The order matters.
    ///
    /// The first ClientHello and the answer to it do not belong to the transcript (RFC 6347 section 4.2.1). As server we begin with the
    /// second; as client we do not use the transcript.
    pub(super) fn note(&mut self, kind: u8, seq: u16, body: &[u8]) {
        match (kind, hello::random(body)) {
            (CLIENT_HELLO, Some(random)) => self.client_random = random,
            (SERVER_HELLO, Some(random)) => self.server_random = random,
            _ => {}
        }
        let mut message = Vec::with_capacity(MESSAGE_HEADER_LEN + body.len());
        write_message(&mut message, kind, seq, body);
        self.transcript.update(&message);
    }

    /// `role` is ours, and the other side's Finished has the sequence number `finished_seq`.
    pub(super) fn derive(&self, master: &MasterSecret, role: DtlsRole, finished_seq: u16) -> Keys {
        Keys {
            peer: PeerKey::derive(master, &self.client_random, &self.server_random, role),
            finished: (role == DtlsRole::Server).then(|| self.client_finished(master)),
            finished_seq,
        }
    }

    /// Expected content of the client's Finished after these messages.
    fn client_finished(&self, master: &MasterSecret) -> VerifyData {
        let hash = self.transcript.clone().finish();
        let mut expected = [0; 12];
        expand(master, b"client finished", &[hash.as_ref()], &mut expected);
        expected
    }
}

/// The PRF of TLS 1.2 with SHA-256 (RFC 5246 section 5).
fn expand(secret: &[u8], label: &[u8], seed: &[&[u8]], out: &mut [u8]) {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let seed = [&[label][..], seed].concat().concat();
    let mut a = hmac::sign(&key, &seed);
    for part in out.chunks_mut(32) {
        let block = hmac::sign(&key, &[a.as_ref(), &seed].concat());
        part.copy_from_slice(&block.as_ref()[..part.len()]);
        a = hmac::sign(&key, a.as_ref());
    }
}

/// Length of the explicit part of a nonce.
const NONCE_LEN: usize = 8;
const TAG_LEN: usize = 16;
/// Message header and content.
const FINISHED_LEN: usize = 12 + 12;
/// Length of the body of a record with a sealed Finished.
pub(super) const SEALED_FINISHED_LEN: usize = NONCE_LEN + FINISHED_LEN + TAG_LEN;
