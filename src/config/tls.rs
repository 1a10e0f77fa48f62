//! Options of HTTPS.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use super::ServeArgs;
use super::values::{address, domain, email, web_address};
use crate::tls::acme::{LETS_ENCRYPT, LETS_ENCRYPT_STAGING};
use crate::tls::{AcmeConfig, CertificateSource};

/// Options for HTTPS.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "HTTPS")]
pub struct TlsArgs {
    /// For devices in the same network: listen on all addresses with HTTPS and a self-signed certificate, and show the link as a QR code
    #[arg(long, env = "ONECAST_LAN", value_parser = BoolishValueParser::new())]
    pub lan: bool,

    /// Use HTTPS on --http with a self-signed certificate for this machine's names and addresses, which the server makes and keeps
    /// [default: off, or self-signed with --lan]
    #[arg(long, value_name = "HOW", env = "ONECAST_TLS")]
    pub tls: Option<TlsMode>,

    /// Use HTTPS on --http with this certificate chain: a PEM file that starts with the server's own certificate. The server reads it again
    /// when it changes
    #[arg(long, value_name = "FILE", env = "ONECAST_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of --tls-cert: a PEM file (PKCS #8, SEC1 or PKCS #1)
    #[arg(long, value_name = "FILE", env = "ONECAST_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Use HTTPS on --http with a certificate for this domain (repeatable) from Let's Encrypt or another ACME directory, whose terms of
    /// service you accept by this option. The directory must reach --http on port 443 of the domain
    #[arg(long, value_name = "DOMAIN", env = "ONECAST_ACME", value_delimiter = ',', value_parser = domain)]
    pub acme: Vec<String>,

    /// Contact address for the directory, for problems with the certificate
    #[arg(long, value_name = "ADDRESS", env = "ONECAST_ACME_EMAIL", requires = "acme", value_parser = email)]
    pub acme_email: Option<String>,

    /// ACME directory [default: Let's Encrypt]
    #[arg(long, value_name = "URL", env = "ONECAST_ACME_DIRECTORY", requires = "acme", value_parser = web_address)]
    pub acme_directory: Option<String>,

    /// Use the staging directory of Let's Encrypt, with high limits and certificates that no browser trusts
    #[arg(long, env = "ONECAST_ACME_STAGING", value_parser = BoolishValueParser::new())]
    pub acme_staging: bool,

    /// PEM file with the root certificate of a private ACME directory's own HTTPS
    #[arg(long, value_name = "FILE", env = "ONECAST_ACME_CA", requires = "acme")]
    pub acme_ca: Option<PathBuf>,

    /// Also listen here without TLS and redirect all requests to HTTPS, such as 0.0.0.0:80
    #[arg(long, value_name = "IP:PORT", env = "ONECAST_HTTP_REDIRECT", value_parser = address)]
    pub http_redirect: Option<SocketAddr>,
}

/// Certificate modes that need no further option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TlsMode {
    /// No HTTPS.
    Off,
    /// A certificate that the server makes.
    SelfSigned,
}

/// Options that contradict each other: one line for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsConflict {
    /// Two certificates for one port.
    #[error("{0} and {1} both provide a certificate; use only one of them")]
    TwoCertificates(&'static str, &'static str),
    /// HTTPS is both requested and turned off.
    #[error("--tls off contradicts {0}; omit one of them")]
    OffAndOn(&'static str),
    /// `--lan` with an address that other machines cannot reach.
    #[error(
        "--lan lets other machines in, but only this machine can reach --http {0}; omit --http, or give it an address that \
         others can reach, such as [::]:8080"
    )]
    LanOnLoopback(SocketAddr),
    /// The ACME directory cannot reach the server.
    #[error(
        "--acme needs an address that Let's Encrypt can reach on port 443, but only this machine can reach --http {http}: \
         onecast --acme {domain} --http [::]:443"
    )]
    AcmeOnLoopback {
        /// The configured address.
        http: SocketAddr,
        /// The first domain.
        domain: String,
    },
    /// Two ACME directories.
    #[error("--acme-staging and --acme-directory both select a directory; omit one of them")]
    TwoDirectories,
    /// A switch that has no effect alone.
    #[error("{0} needs --acme DOMAIN")]
    NeedsAcme(&'static str),
    /// A redirect to HTTPS, which is not served.
    #[error(
        "--http-redirect redirects to HTTPS, which is not enabled: add --tls self-signed, --tls-cert and --tls-key, or --acme"
    )]
    RedirectWithoutTls,
}

impl ServeArgs {
    /// Where the certificate comes from; `None` for HTTP without TLS.
    ///
    /// # Errors
    /// When options contradict each other.
    pub fn tls_source(&self) -> Result<Option<CertificateSource>, TlsConflict> {
        let tls = &self.tls;
        if tls.lan && self.http.ip().to_canonical().is_loopback() {
            return Err(TlsConflict::LanOnLoopback(self.http));
        }
        if tls.acme_staging && tls.acme.is_empty() {
            return Err(TlsConflict::NeedsAcme("--acme-staging"));
        }
        let source = match tls.chosen()? {
            Some(Choice::SelfSigned) => Some(CertificateSource::SelfSigned {
                state_dir: self.state_dir(),
                public_ips: self.public_ip.clone(),
            }),
            Some(Choice::Files { chain, key }) => Some(CertificateSource::Files { chain, key }),
            Some(Choice::Acme) => Some(CertificateSource::Acme(self.acme()?)),
            None => None,
        };
        if source.is_none() && tls.http_redirect.is_some() {
            return Err(TlsConflict::RedirectWithoutTls);
        }
        Ok(source)
    }

    fn acme(&self) -> Result<AcmeConfig, TlsConflict> {
        let tls = &self.tls;
        if tls.acme_staging && tls.acme_directory.is_some() {
            return Err(TlsConflict::TwoDirectories);
        }
        // A private directory may be on this machine.
        if tls.acme_directory.is_none() && self.http.ip().to_canonical().is_loopback() {
            return Err(TlsConflict::AcmeOnLoopback {
                http: self.http,
                domain: tls.acme.first().cloned().unwrap_or_default(),
            });
        }
        let lets_encrypt = if tls.acme_staging {
            LETS_ENCRYPT_STAGING
        } else {
            LETS_ENCRYPT
        };
        Ok(AcmeConfig {
            domains: tls.acme.clone(),
            email: tls.acme_email.clone(),
            directory: tls.acme_directory.clone().unwrap_or(lets_encrypt.to_owned()),
            ca: tls.acme_ca.clone(),
            state_dir: self.state_dir(),
        })
    }
}

enum Choice {
    SelfSigned,
    Files { chain: PathBuf, key: PathBuf },
    Acme,
}

impl TlsArgs {
    fn chosen(&self) -> Result<Option<Choice>, TlsConflict> {
        let self_signed = (self.tls == Some(TlsMode::SelfSigned)).then_some(("--tls self-signed", Choice::SelfSigned));
        let files = self.tls_cert.clone().zip(self.tls_key.clone());
        let files = files.map(|(chain, key)| ("--tls-cert", Choice::Files { chain, key }));
        let acme = (!self.acme.is_empty()).then_some(("--acme", Choice::Acme));
        let mut choices = [self_signed, files, acme].into_iter().flatten();
        match (choices.next(), choices.next()) {
            (Some((one, _)), Some((other, _))) => Err(TlsConflict::TwoCertificates(one, other)),
            (Some((one, _)), None) if self.tls == Some(TlsMode::Off) => Err(TlsConflict::OffAndOn(one)),
            (Some((_, choice)), None) => Ok(Some(choice)),
            (None, _) if self.lan && self.tls.is_none() => Ok(Some(Choice::SelfSigned)),
            (None, _) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::{Cli, Command};

    fn parse(arguments: &str) -> Result<ServeArgs, String> {
        let arguments = std::iter::once("onecast").chain(arguments.split_whitespace());
        match Cli::try_parse_from(arguments)
            .map_err(|error| error.to_string())?
            .into_command()
        {
            Command::Serve(args) => Ok(args),
            other => panic!("not serve: {other:?}"),
        }
    }

    fn source(arguments: &str) -> Result<Option<CertificateSource>, TlsConflict> {
        parse(arguments).unwrap().tls_source()
    }

    #[test]
    fn https_is_off_unless_asked_for() {
        assert_eq!(source(""), Ok(None));
        assert_eq!(source("--tls off --http 0.0.0.0:80"), Ok(None));
        let made = source("--tls self-signed --public-ip 192.0.2.1 --state-dir /s");
        assert_eq!(
            made,
            Ok(Some(CertificateSource::SelfSigned {
                state_dir: Some("/s".into()),
                public_ips: vec!["192.0.2.1".parse().unwrap()],
            }))
        );
        let files = source("--tls-cert a.pem --tls-key b.pem");
        assert_eq!(
            files,
            Ok(Some(CertificateSource::Files {
                chain: "a.pem".into(),
                key: "b.pem".into()
            }))
        );
    }

    #[test]
    fn lan_listens_on_all_addresses_with_a_certificate() {
        let args = parse("--lan").unwrap();
        assert_eq!(args.http.to_string(), "[::]:8080");
        assert!(matches!(
            args.tls_source(),
            Ok(Some(CertificateSource::SelfSigned { .. }))
        ));
        let elsewhere = parse("--lan --http 192.0.2.1:9000").unwrap();
        assert_eq!(elsewhere.http.to_string(), "192.0.2.1:9000");
        assert_eq!(source("--lan --tls off"), Ok(None));
        assert!(matches!(
            source("--lan --tls-cert a --tls-key b"),
            Ok(Some(CertificateSource::Files { .. }))
        ));
        for loopback in ["127.0.0.1:8080", "[::1]:9000"] {
            let conflict = source(&format!("--lan --http {loopback}")).unwrap_err();
            assert_eq!(conflict, TlsConflict::LanOnLoopback(loopback.parse().unwrap()));
        }
    }

    #[test]
    fn acme_uses_lets_encrypt_unless_another_directory_is_named() {
        let of = |arguments: &str| match source(arguments) {
            Ok(Some(CertificateSource::Acme(config))) => config,
            other => panic!("{arguments}: {other:?}"),
        };
        let config = of("--acme Live.Test --acme b.test,c.test --acme-email me@live.test --http [::]:443");
        assert_eq!(config.domains, ["live.test", "b.test", "c.test"]);
        assert_eq!(config.email.as_deref(), Some("me@live.test"));
        assert_eq!(config.directory, LETS_ENCRYPT);
        assert_eq!(
            of("--acme a.test --acme-staging --http [::]:443").directory,
            LETS_ENCRYPT_STAGING
        );
        let private = of("--acme a.test --acme-directory https://localhost:14000/dir --acme-ca ca.pem");
        assert_eq!(
            (private.directory.as_str(), private.ca),
            ("https://localhost:14000/dir", Some("ca.pem".into()))
        );
    }

    #[test]
    fn contradicting_options_are_rejected_with_an_explanation() {
        for (arguments, words) in [
            ("--acme a.test", "onecast --acme a.test --http [::]:443"),
            (
                "--acme a.test --tls self-signed --http [::]:443",
                "--tls self-signed and --acme",
            ),
            ("--tls off --tls-cert a --tls-key b", "contradicts --tls-cert"),
            (
                "--acme a.test --acme-staging --acme-directory https://b --http [::]:443",
                "--acme-staging and --acme-directory",
            ),
            ("--acme-staging", "needs --acme DOMAIN"),
            ("--http-redirect 0.0.0.0:80", "add --tls self-signed"),
        ] {
            let text = source(arguments).unwrap_err().to_string();
            assert!(text.contains(words) && text.lines().count() == 1, "{arguments}: {text}");
        }
        for (arguments, words) in [
            ("--tls-cert a", "--tls-key"),
            ("--tls-key a", "--tls-cert"),
            ("--acme-email me@a.test", "--acme"),
            ("--acme *.a.test", "cannot prove a wildcard"),
            ("--acme 192.0.2.1", "a name, not an address"),
            ("--acme a", "such as live.example.org"),
            ("--acme a.test --acme-email me", "such as me@example.org"),
            ("--acme a.test --acme-directory a", "https://"),
            ("--tls on", "self-signed"),
        ] {
            let text = parse(arguments).unwrap_err();
            assert!(text.contains(words), "{arguments}: {text}");
        }
    }
}
