//! The cryptography of all protocol crates, chosen in one place.

mod ecdsa;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rtc_crypto::providers::AwsLcRsProvider;
use rtc_crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CbcAlgorithm, CbcCipher, CryptoAlgorithm,
    CryptoError, HashAlgorithm, HmacAlgorithm, KeyExchangeAlgorithm, Mac, PublicKey, PublicKeyEncoding, RTCCrypto,
    RTCCryptoProvider, RTCRandom, SignatureScheme, SigningKey, StreamCipher, StreamCipherAlgorithm,
};

/// AWS-LC, with what the DTLS crate lacks.
///
/// - It remembers valid signatures: the crate verifies a client's twice, before and after it can read the client's Finished, and a
///   verification is the most expensive operation of a handshake.
/// - It knows more curves than the crate asks for (see [`ecdsa`]).
/// - It gives [`with_cookie`] and [`with_master_secret`] access to what the crate does not export.
struct Provider;

/// Randomness, except for a cookie that [`with_cookie`] provides.
struct Random;

static AWS_LC: AwsLcRsProvider = AwsLcRsProvider::new();

thread_local! {
    /// The last signatures on this thread that were valid. Other clients that connect at the same time come between the two verifications
    /// of one client.
    static VERIFIED: RefCell<VecDeque<Question>> = const { RefCell::new(VecDeque::new()) };
    /// The result of the next request for random bytes of this length.
    static COOKIE: Cell<Option<[u8; COOKIE_LEN]>> = const { Cell::new(None) };
    /// The last HMAC key with the length of a master secret, while [`with_master_secret`] runs.
    static MASTER_SECRET: Cell<Watch> = const { Cell::new(Watch::Off) };
}

#[derive(Clone, Copy)]
enum Watch {
    Off,
    On(Option<[u8; MASTER_SECRET_LEN]>),
}

/// Runs `f`. If it draws a DTLS cookie, it gets this one.
pub(super) fn with_cookie<R>(cookie: [u8; COOKIE_LEN], f: impl FnOnce() -> R) -> R {
    COOKIE.set(Some(cookie));
    let result = f();
    COOKIE.set(None);
    result
}

/// Runs `f`, and returns the master secret that it used last (RFC 5246 section 8.1), which the DTLS crate does not export.
pub(super) fn with_master_secret<R>(f: impl FnOnce() -> R) -> (R, Option<[u8; MASTER_SECRET_LEN]>) {
    MASTER_SECRET.set(Watch::On(None));
    let result = f();
    match MASTER_SECRET.replace(Watch::Off) {
        Watch::On(secret) => (result, secret),
        Watch::Off => (result, None),
    }
}

/// Unpredictable bytes.
pub(super) fn random<const N: usize>() -> Result<[u8; N], CryptoError> {
    let mut bytes = [0; N];
    AWS_LC.random().fill(&mut bytes)?;
    Ok(bytes)
}

/// The provider, borrowed.
pub(super) fn crypto() -> &'static dyn RTCCrypto {
    &Provider
}

/// The provider, shared.
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
        &Random
    }
}

impl RTCRandom for Random {
    fn fill(&self, output: &mut [u8]) -> Result<(), CryptoError> {
        if output.len() == COOKIE_LEN
            && let Some(cookie) = COOKIE.take()
        {
            output.copy_from_slice(&cookie);
            return Ok(());
        }
        AWS_LC.random().fill(output)
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
        if let (Watch::On(_), Ok(secret)) = (MASTER_SECRET.get(), key.try_into()) {
            MASTER_SECRET.set(Watch::On(Some(secret)));
        }
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
        if VERIFIED.with_borrow(|known| known.contains(&question)) {
            return Ok(());
        }
        match public_key.encoding {
            PublicKeyEncoding::EcUncompressedPoint => ecdsa::verify(scheme, public_key.bytes, message, signature)?,
            _ => AWS_LC
                .crypto()
                .verify_signature(scheme, public_key, message, signature)?,
        }
        VERIFIED.with_borrow_mut(|known| {
            known.truncate(VERIFIED_MAX - 1);
            known.push_front(question);
        });
        Ok(())
    }
}

/// Signatures that are remembered. The two verifications of one signature are at most a round trip apart.
const VERIFIED_MAX: usize = 64;

/// A signature to verify. The same question has the same answer.
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

/// Length of the cookies that the DTLS crate draws.
const COOKIE_LEN: usize = 20;
const MASTER_SECRET_LEN: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provided_cookie_is_drawn_once() {
        let draw = || {
            let mut drawn = [0; COOKIE_LEN];
            crypto_provider().random().fill(&mut drawn).unwrap();
            drawn
        };
        let (first, second) = with_cookie([7; COOKIE_LEN], || {
            crypto_provider().random().fill(&mut [0; 28]).unwrap();
            (draw(), draw())
        });
        assert_eq!(first, [7; COOKIE_LEN]);
        assert_ne!(second, first);
        with_cookie([7; COOKIE_LEN], || ());
        assert_ne!(draw(), first);
    }

    #[test]
    fn a_master_secret_is_noticed_only_on_request() {
        let hmac = |key: &[u8]| drop(crypto().new_hmac(HmacAlgorithm::Sha256, key).unwrap());
        let watched = with_master_secret(|| {
            hmac(&[1; 48]);
            hmac(&[2; 48]);
            hmac(&[3; 32]);
        });
        assert_eq!(watched.1, Some([2; 48]));
        hmac(&[4; 48]);
        assert_eq!(with_master_secret(|| ()).1, None);
    }

    #[test]
    fn a_valid_signature_does_not_validate_another_one() {
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
