//! Clients with certificates of every kind, made by OpenSSL, in both roles.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P521_SHA256_ASN1_SIGNING, ECDSA_P521_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
};
use p224::ecdsa::signature::hazmat::PrehashSigner;
use rtc_crypto::{CryptoError, PublicKey, PublicKeyEncoding, SignatureScheme, SigningKey};
use rtc_dtls::crypto::Certificate as Shown;

use super::*;
use crate::certificate::matches;
use crate::crypto::crypto;

macro_rules! file {
    ($name:expr) => {
        include_bytes!(concat!("../../../../../tests/data/certificates/", $name))
    };
}

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// A key on a curve that the DTLS crate does not know, under the name of one that it does.
struct Curve {
    scheme: SignatureScheme,
    public: Vec<u8>,
    sign: Sign,
}

impl SigningKey for Curve {
    fn supports(&self, scheme: SignatureScheme) -> bool {
        self.scheme == scheme
    }

    fn public_key(&self) -> PublicKey<'_> {
        PublicKey {
            encoding: PublicKeyEncoding::EcUncompressedPoint,
            bytes: &self.public,
        }
    }

    fn sign(&self, _: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Ok((self.sign)(message))
    }
}

const SHA256: SignatureScheme = SignatureScheme::EcdsaP256Sha256;
const SHA384: SignatureScheme = SignatureScheme::EcdsaP384Sha384;

fn curve(certificate: &[u8], scheme: SignatureScheme, public: Vec<u8>, sign: Sign) -> Shown {
    let key = Curve { scheme, public, sign };
    Shown::from_signing_key(vec![certificate.to_vec().into()], std::sync::Arc::new(key))
}

fn ecdsa(certificate: &[u8], key: &[u8], scheme: SignatureScheme, algorithm: &'static EcdsaSigningAlgorithm) -> Shown {
    let key = EcdsaKeyPair::from_pkcs8(algorithm, key).unwrap();
    let public = key.public_key().as_ref().to_vec();
    let sign = move |message: &[u8]| key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
    curve(certificate, scheme, public, Box::new(sign))
}

fn p224() -> Shown {
    // | .. | octet string (4, 28) | private key (28) | .. | in PKCS#8 (RFC 5915 section 3)
    let key: &[u8] = file!("p-224.key.der");
    let at = key.windows(2).position(|window| window == [4, 28]).unwrap() + 2;
    let key = p224::ecdsa::SigningKey::from_slice(&key[at..at + 28]).unwrap();
    let public = key.verifying_key().to_encoded_point(false).as_bytes().to_vec();
    let sign = move |message: &[u8]| {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, message);
        let signature: p224::ecdsa::Signature = key.sign_prehash(hash.as_ref()).unwrap();
        signature.to_der().as_bytes().to_vec()
    };
    curve(file!("p-224.crt.der"), SHA256, public, Box::new(sign))
}

fn imported(certificate: &[u8], key: &[u8], scheme: SignatureScheme) -> Shown {
    let key = crypto().import_signing_key(scheme, key).unwrap();
    Shown::from_signing_key(vec![certificate.to_vec().into()], key)
}

fn certificates() -> Vec<(&'static str, Shown)> {
    let rsa = SignatureScheme::RsaPkcs1Sha256;
    vec![
        ("P-224", p224()),
        (
            "P-256",
            ecdsa(
                file!("p-256.crt.der"),
                file!("p-256.key.der"),
                SHA256,
                &ECDSA_P256_SHA256_ASN1_SIGNING,
            ),
        ),
        (
            "P-384",
            ecdsa(
                file!("p-384.crt.der"),
                file!("p-384.key.der"),
                SHA384,
                &ECDSA_P384_SHA384_ASN1_SIGNING,
            ),
        ),
        (
            "P-521 with SHA-256",
            ecdsa(
                file!("p-521.crt.der"),
                file!("p-521.key.der"),
                SHA256,
                &ECDSA_P521_SHA256_ASN1_SIGNING,
            ),
        ),
        (
            "P-521 with SHA-384",
            ecdsa(
                file!("p-521.crt.der"),
                file!("p-521.key.der"),
                SHA384,
                &ECDSA_P521_SHA384_ASN1_SIGNING,
            ),
        ),
        (
            "secp256k1",
            ecdsa(
                file!("secp256k1.crt.der"),
                file!("secp256k1.key.der"),
                SHA256,
                &ECDSA_P256K1_SHA256_ASN1_SIGNING,
            ),
        ),
        (
            "RSA-2048",
            imported(file!("rsa-2048.crt.der"), file!("rsa-2048.key.der"), rsa),
        ),
        (
            "RSA-4096",
            imported(file!("rsa-4096.crt.der"), file!("rsa-4096.key.der"), rsa),
        ),
        (
            "Ed25519",
            imported(
                file!("ed25519.crt.der"),
                file!("ed25519.key.der"),
                SignatureScheme::Ed25519,
            ),
        ),
    ]
}

fn client(certificate: Shown, starts: bool) -> Client {
    Client::showing(certificate, starts, |config| {
        config.with_srtp_protection_profiles(vec![GCM])
    })
}

#[test]
fn every_kind_of_key_connects_in_both_roles() {
    for (name, certificate) in certificates() {
        for starts in [true, false] {
            // The DTLS crate makes no server with an Ed25519 key, so there is none here to try it with.
            if name == "Ed25519" && !starts {
                continue;
            }
            let mut net = Net::new(client(certificate.clone(), starts));
            net.connect();
            assert!(net.closed().is_none(), "{name}, starts {starts}: {:?}", net.events);
            net.assert_connected(Profile::AeadAes128Gcm);
        }
    }
}

#[test]
fn a_signature_by_another_key_is_refused_and_reported() {
    for starts in [true, false] {
        for (name, shown) in [
            ("p-521", file!("p-521.crt.der").as_slice()),
            ("p-224", file!("p-224.crt.der")),
            ("brainpool", file!("brainpool.crt.der")),
        ] {
            let key = crypto().generate_signing_key(SHA256).unwrap();
            let public = key.public_key().bytes.to_vec();
            let sign = move |message: &[u8]| key.sign(SHA256, message).unwrap();
            let mut net = Net::new(client(curve(shown, SHA256, public, Box::new(sign)), starts));
            net.connect();
            let expected = CloseReason::HandshakeFailed(HandshakeError::BadSignature);
            assert_eq!(net.closed(), Some(expected), "{name}, starts {starts}");
            assert!(net.client.keys.is_none(), "{name}: no last flight of the server");
        }
    }
}

#[test]
fn a_certificate_matches_by_each_hash() {
    let der = file!("p-256.crt.der").as_slice();
    let digest = |algorithm| aws_lc_rs::digest::digest(algorithm, der);
    let sha384: [u8; 48] = digest(&aws_lc_rs::digest::SHA384).as_ref().try_into().unwrap();
    let sha512: [u8; 64] = digest(&aws_lc_rs::digest::SHA512).as_ref().try_into().unwrap();
    for (announced, other) in [
        (PeerFingerprint::Sha384(sha384), PeerFingerprint::Sha384([7; 48])),
        (PeerFingerprint::Sha512(sha512), PeerFingerprint::Sha512([7; 64])),
    ] {
        for (fingerprint, is_good) in [(announced, true), (other, false)] {
            assert_eq!(matches(&fingerprint, der), is_good);
            let certificate = ecdsa(der, file!("p-256.key.der"), SHA256, &ECDSA_P256_SHA256_ASN1_SIGNING);
            let mut net = Net::new(client(certificate, true));
            let mut remote = net.client.remote_transport();
            remote.fingerprints = vec![fingerprint];
            net.server = super::net::transport(remote, net.now);
            net.connect();
            assert_eq!(net.closed().is_none(), is_good, "{fingerprint:?}");
        }
    }
}
