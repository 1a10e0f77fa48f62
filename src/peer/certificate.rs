//! The process's DTLS certificate, and the handshake configurations made with it.

use std::sync::Arc;
use std::time::Duration;

use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;

use super::srtp::Profile;
use super::{DtlsRole, Fingerprint};

/// A self-signed ECDSA P-256 certificate: one for the process. Clones share it.
#[derive(Clone)]
pub struct Certificate {
    inner: Arc<Inner>,
}

struct Inner {
    fingerprint: Fingerprint,
    server_gcm: Arc<HandshakeConfig>,
    server_sha1: Arc<HandshakeConfig>,
    client: Arc<HandshakeConfig>,
}

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a DTLS certificate: {0}")]
pub struct CertificateError(String);

impl Certificate {
    /// Until a flight of the handshake is sent again: above the round-trip of nearly everybody, below what a person notices.
    const FLIGHT_INTERVAL: Duration = Duration::from_millis(200);

    /// Makes a certificate.
    ///
    /// # Errors
    /// When the system's random source or the cryptography fails.
    pub fn generate() -> Result<Certificate, CertificateError> {
        Certificate::generate_offering(&[Profile::AeadAes128Gcm, Profile::Aes128CmSha1])
    }

    /// Makes a certificate whose holder, as DTLS client, offers these profiles in this order.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn generate_offering(profiles: &[Profile]) -> Result<Certificate, CertificateError> {
        let failed = |error: rtc_shared::error::Error| CertificateError(error.to_string());
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        let names = vec!["onecast".to_owned()];
        let certificate =
            rtc_dtls::crypto::Certificate::generate_self_signed(names, provider.crypto()).map_err(failed)?;
        let builder = |profiles: Vec<SrtpProtectionProfile>| {
            ConfigBuilder::default()
                .with_crypto_provider(provider.clone())
                .with_certificates(vec![certificate.clone()])
                .with_srtp_protection_profiles(profiles)
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                .with_extended_master_secret(ExtendedMasterSecretType::Require)
                .with_flight_interval(Certificate::FLIGHT_INTERVAL)
                // Named only so that the library does not warn that it is not.
                .with_server_name("onecast".to_owned())
                // Who the peer is, its fingerprint in the offer says (RFC 8122): no chain is verified.
                .with_insecure_skip_verify(true)
        };
        let (gcm, sha1) = (
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        );
        let build = |profiles, is_client| builder(profiles).build(is_client, None).map(Arc::new).map_err(failed);
        let inner = Inner {
            fingerprint: Fingerprint::of(certificate.certificate[0].as_ref()),
            server_gcm: build(vec![gcm], false)?,
            server_sha1: build(vec![sha1], false)?,
            client: build(profiles.iter().copied().map(in_dtls).collect(), true)?,
        };
        Ok(Certificate { inner: Arc::new(inner) })
    }

    /// SHA-256 of the certificate: `a=fingerprint` of every answer.
    pub fn fingerprint(&self) -> Fingerprint {
        self.inner.fingerprint
    }

    /// As the server we take AES-128-GCM only: the library would follow the client's order, and browsers list SHA1_80 first.
    pub(super) fn handshake(&self, role: DtlsRole) -> Arc<HandshakeConfig> {
        match role {
            DtlsRole::Server => self.inner.server_gcm.clone(),
            DtlsRole::Client => self.inner.client.clone(),
        }
    }

    /// For a client that has no GCM.
    pub(super) fn fallback(&self) -> Arc<HandshakeConfig> {
        self.inner.server_sha1.clone()
    }
}

fn in_dtls(profile: Profile) -> SrtpProtectionProfile {
    match profile {
        Profile::AeadAes128Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        Profile::Aes128CmSha1 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("fingerprint", &self.inner.fingerprint)
            .finish_non_exhaustive()
    }
}

impl Fingerprint {
    /// Of a certificate in DER.
    pub fn of(der: &[u8]) -> Fingerprint {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Fingerprint(bytes)
    }
}
