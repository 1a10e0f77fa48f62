//! The cryptography of every protocol crate: chosen here, so that no default decides.

use std::cell::Cell;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rtc_crypto::providers::AwsLcRsProvider;
use rtc_crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CbcAlgorithm, CbcCipher, CryptoAlgorithm,
    CryptoError, HashAlgorithm, HmacAlgorithm, KeyExchangeAlgorithm, Mac, PublicKey, PublicKeyEncoding, RTCCrypto,
    RTCCryptoProvider, RTCRandom, SignatureScheme, SigningKey, StreamCipher, StreamCipherAlgorithm,
};

/// AWS-LC, with a memory of the last signature that was right: the DTLS crate verifies a client's twice, before and after it can read
/// the client's Finished, and a verification is the dearest operation of a handshake.
struct Provider;

static AWS_LC: AwsLcRsProvider = AwsLcRsProvider::new();

thread_local! {
    /// What was verified last on this thread, with success.
    static VERIFIED: Cell<Option<Question>> = const { Cell::new(None) };
}

/// To call.
pub(super) fn crypto() -> &'static dyn RTCCrypto {
    &Provider
}

/// The same, for owners.
pub(super) fn crypto_provider() -> Arc<dyn RTCCryptoProvider> {
    Arc::new(Provider)
}

impl RTCCryptoProvider for Provider {
    fn name(&self) -> &'static str {
        AWS_LC.name()
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        self
    }

    fn random(&self) -> &dyn RTCRandom {
        AWS_LC.random()
    }
}

impl RTCCrypto for Provider {
    fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
        AWS_LC.crypto().supports(algorithm)
    }

    fn hash(&self, algorithm: HashAlgorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        AWS_LC.crypto().hash(algorithm, data)
    }

    fn block_encrypt(&self, algorithm: BlockCipherAlgorithm, key: &[u8], block: &mut [u8]) -> Result<(), CryptoError> {
        AWS_LC.crypto().block_encrypt(algorithm, key, block)
    }

    fn new_hmac(&self, algorithm: HmacAlgorithm, key: &[u8]) -> Result<Box<dyn Mac>, CryptoError> {
        AWS_LC.crypto().new_hmac(algorithm, key)
    }

    fn new_stream_cipher(
        &self,
        algorithm: StreamCipherAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn StreamCipher>, CryptoError> {
        AWS_LC.crypto().new_stream_cipher(algorithm, key)
    }

    fn new_aead(&self, algorithm: AeadAlgorithm, key: &[u8]) -> Result<Box<dyn AeadCipher>, CryptoError> {
        AWS_LC.crypto().new_aead(algorithm, key)
    }

    fn new_cbc(&self, algorithm: CbcAlgorithm, key: &[u8]) -> Result<Box<dyn CbcCipher>, CryptoError> {
        AWS_LC.crypto().new_cbc(algorithm, key)
    }

    fn start_key_exchange(&self, algorithm: KeyExchangeAlgorithm) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        AWS_LC.crypto().start_key_exchange(algorithm)
    }

    fn generate_signing_key(&self, scheme: SignatureScheme) -> Result<Arc<dyn SigningKey>, CryptoError> {
        AWS_LC.crypto().generate_signing_key(scheme)
    }

    fn import_signing_key(
        &self,
        scheme: SignatureScheme,
        pkcs8_der: &[u8],
    ) -> Result<Arc<dyn SigningKey>, CryptoError> {
        AWS_LC.crypto().import_signing_key(scheme, pkcs8_der)
    }

    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        public_key: PublicKey<'_>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let question = Question::new(scheme, &public_key, message, signature);
        if VERIFIED.get() == Some(question) {
            return Ok(());
        }
        AWS_LC
            .crypto()
            .verify_signature(scheme, public_key, message, signature)?;
        VERIFIED.set(Some(question));
        Ok(())
    }
}

/// What is to be verified: the same question has the same answer.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Question {
    scheme: SignatureScheme,
    encoding: PublicKeyEncoding,
    /// SHA-256 of the lengths of key and signature, key, signature and message.
    digest: [u8; 32],
}

impl Question {
    fn new(scheme: SignatureScheme, key: &PublicKey<'_>, message: &[u8], signature: &[u8]) -> Question {
        let mut context = Context::new(&SHA256);
        for part in [key.bytes, signature] {
            context.update(&(part.len() as u64).to_be_bytes());
        }
        for part in [key.bytes, signature, message] {
            context.update(part);
        }
        let digest = context.finish();
        Question {
            scheme,
            encoding: key.encoding,
            digest: digest.as_ref().try_into().expect("SHA-256 has 32 bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_signature_says_nothing_about_another_one() {
        let scheme = SignatureScheme::EcdsaP256Sha256;
        let key = crypto().generate_signing_key(scheme).unwrap();
        let other = crypto().generate_signing_key(scheme).unwrap();
        let message = b"a message";
        let signature = key.sign(scheme, message).unwrap();
        let verify = |key: &dyn SigningKey, message: &[u8], signature: &[u8]| {
            crypto().verify_signature(scheme, key.public_key(), message, signature)
        };
        for _ in 0..2 {
            verify(&*key, message, &signature).unwrap();
            verify(&*key, message, &signature).unwrap();
            let mut wrong = signature.clone();
            *wrong.last_mut().unwrap() ^= 1;
            verify(&*key, message, &wrong).unwrap_err();
            verify(&*key, b"another message", &signature).unwrap_err();
            verify(&*other, message, &signature).unwrap_err();
        }
    }
}
