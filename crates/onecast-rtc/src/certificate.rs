//! The certificate that we show in DTLS, with the handshake settings made for it. One per process.

use std::sync::Arc;
use std::time::Duration;

use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;

use super::crypto::{crypto, crypto_provider};
use super::{Fingerprint, PeerFingerprint};

/// A self-signed ECDSA P-256 certificate with its key. Cloning shares it.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    fingerprint: Fingerprint,
    server_gcm: Arc<HandshakeConfig>,
    server_sha1: Arc<HandshakeConfig>,
    client: Arc<HandshakeConfig>,
}

/// The cryptographic library could not make a certificate.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a DTLS certificate: {0}")]
pub struct CertificateError(#[from] rtc_shared::error::Error);

impl Certificate {
    /// Makes a new key and certificate. The first use of randomness in a process takes tens of milliseconds: do this
    /// at start-up.
    pub fn generate() -> Result<Self, CertificateError> {
        let certificate = rtc_dtls::crypto::Certificate::generate_self_signed(vec![NAME.to_owned()], crypto())?;
        let fingerprint = fingerprint_of(&certificate.certificate[0]);
        let server = |profile| -> Result<_, CertificateError> {
            let builder = builder(&certificate, vec![profile])
                .with_cipher_suites(vec![CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256])
                .with_client_auth(ClientAuthType::RequireAnyClientCert);
            Ok(Arc::new(builder.build(false, None)?))
        };
        // The DTLS crate follows the client's order of SRTP profiles, and browsers list the slow one first. A server that knows only GCM
        // makes them use it.
        let server_gcm = server(SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm)?;
        let server_sha1 = server(SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80)?;
        let client = builder(
            &certificate,
            vec![
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            ],
        )
        .with_cipher_suites(vec![
            CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
            CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256,
        ])
        .with_server_name(NAME.to_owned())
        .build(true, None)?;
        Ok(Self(Arc::new(Inner {
            fingerprint,
            server_gcm,
            server_sha1,
            client: Arc::new(client),
        })))
    }

    /// For `a=fingerprint:sha-256` in our SDP.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// Handshakes as server that accept AEAD_AES_128_GCM only.
    pub(super) fn server_gcm(&self) -> &Arc<HandshakeConfig> {
        &self.0.server_gcm
    }

    /// Handshakes as server that accept AES128_CM_SHA1_80 only.
    pub(super) fn server_sha1(&self) -> &Arc<HandshakeConfig> {
        &self.0.server_sha1
    }

    /// Handshakes as client, GCM preferred.
    pub(super) fn client(&self) -> &Arc<HandshakeConfig> {
        &self.0.client
    }
}

fn builder(certificate: &rtc_dtls::crypto::Certificate, profiles: Vec<SrtpProtectionProfile>) -> ConfigBuilder {
    ConfigBuilder::default()
        .with_crypto_provider(crypto_provider())
        .with_certificates(vec![certificate.clone()])
        .with_srtp_protection_profiles(profiles)
        .with_extended_master_secret(ExtendedMasterSecretType::Require)
        // The certificates are self-signed. They are checked against the fingerprint in the SDP (RFC 8122), in `dtls`.
        .with_insecure_skip_verify(true)
        .with_flight_interval(FLIGHT_INTERVAL)
}

/// SHA-256 over a DER certificate.
pub(super) fn fingerprint_of(der: &[u8]) -> Fingerprint {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    Fingerprint(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// Whether a DER certificate is the one that an offer announced.
pub(super) fn matches(announced: &PeerFingerprint, der: &[u8]) -> bool {
    let is = |algorithm, bytes: &[u8]| aws_lc_rs::digest::digest(algorithm, der).as_ref() == bytes;
    match announced {
        PeerFingerprint::Sha256(fingerprint) => fingerprint_of(der) == *fingerprint,
        PeerFingerprint::Sha384(bytes) => is(&aws_lc_rs::digest::SHA384, bytes),
        PeerFingerprint::Sha512(bytes) => is(&aws_lc_rs::digest::SHA512, bytes),
    }
}

/// Subject of the certificate, and the server name that our client asks for. Neither is checked.
const NAME: &str = "onecast";
/// First wait before a flight is sent again; `dtls` doubles it.
pub(super) const FLIGHT_INTERVAL: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_one_fingerprint_and_new_certificates_differ() {
        let certificate = Certificate::generate().unwrap();
        assert_eq!(certificate.clone().fingerprint(), certificate.fingerprint());
        assert_ne!(
            Certificate::generate().unwrap().fingerprint(),
            certificate.fingerprint()
        );
    }
}
