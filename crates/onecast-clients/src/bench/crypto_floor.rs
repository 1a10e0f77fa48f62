//! Cost of the public-key operations of a handshake: one signature, one verification, and both halves of a key agreement.

use std::time::Duration;

use aws_lc_rs::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey as PeerKey, agree_ephemeral};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};

use onecast_udp::clock;
use onecast_udp::thread_cpu_time;

/// CPU time of the public-key operations of one handshake at a server: ECDSA P-256 sign and verify, ECDH P-256 key and agreement. The mean of
/// many, on the calling thread.
///
/// # Errors
/// When the library fails, which is not expected.
pub fn crypto_floor() -> Result<Duration, Unspecified> {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref().to_vec());
    let other = EphemeralPrivateKey::generate(&ECDH_P256, &random)?.compute_public_key()?;
    let message = [7; 100];
    let start = clock::now();
    let cpu = thread_cpu_time();
    for _ in 0..ROUNDS {
        let signature = key.sign(&random, &message)?;
        public.verify(&message, signature.as_ref())?;
        let own = EphemeralPrivateKey::generate(&ECDH_P256, &random)?;
        let share = own.compute_public_key()?;
        std::hint::black_box(share.as_ref());
        agree_ephemeral(own, PeerKey::new(&ECDH_P256, other.as_ref()), Unspecified, |secret| {
            std::hint::black_box(secret);
            Ok(())
        })?;
    }
    let used = thread_cpu_time().zip(cpu).map(|(after, before)| after - before);
    Ok(used.unwrap_or_else(|| clock::now() - start) / ROUNDS)
}

/// A tenth of a second.
const ROUNDS: u32 = 500;

#[cfg(test)]
mod tests {
    #[test]
    fn the_operations_of_a_handshake_succeed() {
        assert!(!super::crypto_floor().unwrap().is_zero());
    }
}
