//! ECDSA signatures on every curve that OpenSSL, GnuTLS and BoringSSL make certificates for.
//!
//! The DTLS crate derives the curve, P-256 or P-384, from the hash, but in DTLS 1.2 the two are independent (RFC 8422 section 5.4). Here
//! the length of the key determines the curve. For the two curves of 256 bits both are tried: no point on both of them can be found in
//! practice.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256K1_SHA256_ASN1, ECDSA_P384_SHA256_ASN1,
    ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1, EcdsaVerificationAlgorithm,
    UnparsedPublicKey,
};
use p224::ecdsa::signature::hazmat::PrehashVerifier;
use p224::ecdsa::{Signature, VerifyingKey};
use rtc_crypto::{CryptoAlgorithm, CryptoError, SignatureScheme};

/// Whether `signature` (in ASN.1) was made over `message` with the key of this uncompressed point.
pub(super) fn verify(
    scheme: SignatureScheme,
    point: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), CryptoError> {
    let is_sha384 = match scheme {
        SignatureScheme::EcdsaP256Sha256 | SignatureScheme::EcdsaP384Sha256 => false,
        SignatureScheme::EcdsaP384Sha384 => true,
        _ => return Err(unsupported(scheme)),
    };
    let curves: &[&'static EcdsaVerificationAlgorithm] = match (point.len(), is_sha384) {
        (P224_POINT_LEN, _) => return verify_p224(is_sha384, point, message, signature),
        (P256_POINT_LEN, false) => &[&ECDSA_P256_SHA256_ASN1, &ECDSA_P256K1_SHA256_ASN1],
        (P256_POINT_LEN, true) => &[&ECDSA_P256_SHA384_ASN1],
        (P384_POINT_LEN, false) => &[&ECDSA_P384_SHA256_ASN1],
        (P384_POINT_LEN, true) => &[&ECDSA_P384_SHA384_ASN1],
        (P521_POINT_LEN, false) => &[&ECDSA_P521_SHA256_ASN1],
        (P521_POINT_LEN, true) => &[&ECDSA_P521_SHA384_ASN1],
        _ => return Err(unsupported(scheme)),
    };
    let mut answers = curves
        .iter()
        .map(|curve| UnparsedPublicKey::new(*curve, point).verify(message, signature));
    if answers.any(|answer| answer.is_ok()) {
        Ok(())
    } else {
        Err(CryptoError::InvalidSignature)
    }
}

/// FFmpeg asks GnuTLS for a key of "low" strength, and gets P-224. AWS-LC has no P-224 that can be called from Rust.
fn verify_p224(is_sha384: bool, point: &[u8], message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
    let hash = if is_sha384 {
        &aws_lc_rs::digest::SHA384
    } else {
        &aws_lc_rs::digest::SHA256
    };
    let key = VerifyingKey::from_sec1_bytes(point).map_err(|_| CryptoError::InvalidPublicKey)?;
    let signature = Signature::from_der(signature).map_err(|_| CryptoError::InvalidSignature)?;
    key.verify_prehash(aws_lc_rs::digest::digest(hash, message).as_ref(), &signature)
        .map_err(|_| CryptoError::InvalidSignature)
}

fn unsupported(scheme: SignatureScheme) -> CryptoError {
    CryptoError::UnsupportedAlgorithm(CryptoAlgorithm::Signature(scheme))
}

/// Lengths of uncompressed points: one byte for the form, and two coordinates.
const P224_POINT_LEN: usize = 1 + 2 * 28;
const P256_POINT_LEN: usize = 1 + 2 * 32;
const P384_POINT_LEN: usize = 1 + 2 * 48;
const P521_POINT_LEN: usize = 1 + 2 * 66;

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! file {
        ($name:expr) => {
            include_bytes!(concat!("../../../../tests/data/certificates/", $name))
        };
    }

    /// The uncompressed point in a certificate: a bit string of its length.
    fn point(certificate: &[u8], len: usize) -> &[u8] {
        let is_point =
            |window: &&[u8]| window[0] == 3 && window[2] == 0 && window[3] == 4 && window[1] as usize == len + 1;
        let long = |window: &&[u8]| window[..2] == [3, 0x81] && window[2] as usize == len + 1 && window[3..] == [0, 4];
        let short = certificate
            .windows(4)
            .position(|window| is_point(&window))
            .map(|at| at + 3);
        let at = short.or_else(|| certificate.windows(5).position(|window| long(&window)).map(|at| at + 4));
        &certificate[at.expect("a point")..][..len]
    }

    #[test]
    fn signatures_that_openssl_makes_are_good_with_every_curve_and_hash() {
        const SHA256: SignatureScheme = SignatureScheme::EcdsaP256Sha256;
        const SHA384: SignatureScheme = SignatureScheme::EcdsaP384Sha384;
        let vectors: [(&[u8], usize, SignatureScheme, &[u8]); 9] = [
            (
                file!("p-224.crt.der"),
                P224_POINT_LEN,
                SHA256,
                file!("p-224-sha256.sig"),
            ),
            (
                file!("p-224.crt.der"),
                P224_POINT_LEN,
                SHA384,
                file!("p-224-sha384.sig"),
            ),
            (
                file!("p-256.crt.der"),
                P256_POINT_LEN,
                SHA256,
                file!("p-256-sha256.sig"),
            ),
            (
                file!("p-256.crt.der"),
                P256_POINT_LEN,
                SHA384,
                file!("p-256-sha384.sig"),
            ),
            (
                file!("p-384.crt.der"),
                P384_POINT_LEN,
                SHA256,
                file!("p-384-sha256.sig"),
            ),
            (
                file!("p-384.crt.der"),
                P384_POINT_LEN,
                SHA384,
                file!("p-384-sha384.sig"),
            ),
            (
                file!("p-521.crt.der"),
                P521_POINT_LEN,
                SHA256,
                file!("p-521-sha256.sig"),
            ),
            (
                file!("p-521.crt.der"),
                P521_POINT_LEN,
                SHA384,
                file!("p-521-sha384.sig"),
            ),
            (
                file!("secp256k1.crt.der"),
                P256_POINT_LEN,
                SHA256,
                file!("secp256k1-sha256.sig"),
            ),
        ];
        for (at, (certificate, len, scheme, signature)) in vectors.into_iter().enumerate() {
            let point = point(certificate, len);
            assert_eq!(verify(scheme, point, b"onecast", signature), Ok(()), "vector {at}");
            let wrong = [
                verify(scheme, point, b"another", signature),
                verify(scheme, point, b"onecast", &signature[..signature.len() - 1]),
                verify(scheme, point, b"onecast", &[]),
                verify(scheme, &[point[0]; 133][..len], b"onecast", signature),
                verify(
                    if scheme == SHA256 { SHA384 } else { SHA256 },
                    point,
                    b"onecast",
                    signature,
                ),
            ];
            assert!(wrong.iter().all(Result::is_err), "vector {at}: {wrong:?}");
        }
    }

    #[test]
    fn an_unknown_length_is_an_unknown_curve() {
        let answer = verify(SignatureScheme::EcdsaP256Sha256, &[4; 49], b"", b"");
        assert!(matches!(answer, Err(CryptoError::UnsupportedAlgorithm(_))));
    }
}
