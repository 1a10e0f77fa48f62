//! What an offer says about ICE and DTLS. Each attribute may stand at media level or, for all lines, at session level.

use super::{Fault, text};
use crate::{DtlsRole, Fingerprint, IceCredentials, PeerFingerprint, RemoteTransport};

/// The transport attributes of one section (the session, or one m-line).
#[derive(Debug, Default)]
pub(super) struct TransportSection<'a> {
    ufrag: Option<&'a str>,
    pwd: Option<&'a str>,
    fingerprints: Vec<PeerFingerprint>,
    /// Hash function of a fingerprint that this server does not know.
    other_hash: Option<&'a str>,
    role: Option<DtlsRole>,
    /// The first value that cannot be read: it counts only where no section has a better one.
    unreadable: Option<Fault>,
}

impl<'a> TransportSection<'a> {
    /// Takes the attribute if it is one of the transport's; false if it is not.
    pub(super) fn take(&mut self, line: usize, name: &str, value: &'a str) -> bool {
        let taken = match name {
            "ice-ufrag" => ice_chars(line, "ice-ufrag", value, 4).map(|ufrag| self.ufrag = Some(ufrag)),
            "ice-pwd" => ice_chars(line, "ice-pwd", value, 22).map(|pwd| self.pwd = Some(pwd)),
            "fingerprint" => self.take_fingerprint(line, value),
            "setup" => role_left_for_us(line, value).map(|role| self.role = Some(role)),
            _ => return false,
        };
        if let Err(error) = taken {
            self.unreadable.get_or_insert(error);
        }
        true
    }

    fn take_fingerprint(&mut self, line: usize, value: &'a str) -> Result<(), Fault> {
        let bad = Fault::BadAttribute {
            line,
            name: "fingerprint",
        };
        let Some((hash, digest)) = value.split_once(' ').filter(|(hash, _)| text::is_token(hash, 32)) else {
            return Err(bad);
        };
        let digest = digest.trim();
        let fingerprint = match hash.to_ascii_lowercase().as_str() {
            "sha-256" => read_digest(digest).map(|bytes| PeerFingerprint::Sha256(Fingerprint(bytes))),
            "sha-384" => read_digest(digest).map(PeerFingerprint::Sha384),
            "sha-512" => read_digest(digest).map(PeerFingerprint::Sha512),
            _ => {
                self.other_hash = Some(hash);
                return Ok(());
            }
        };
        if self.fingerprints.len() < MAX_FINGERPRINTS {
            self.fingerprints.push(fingerprint.ok_or(bad)?);
        }
        Ok(())
    }
}

/// The transport of a bundle: each attribute from the first section that has it. `sections` begins with the tagged m-line
/// (RFC 9143 section 7.2), then the session, then the other m-lines, whose values a client may leave out or repeat.
pub(super) fn resolve(sections: &[&TransportSection<'_>]) -> Result<RemoteTransport, Fault> {
    let unreadable = |names: &[&str]| {
        let mut errors = sections.iter().filter_map(|s| s.unreadable.clone());
        errors.find(|error| matches!(error, Fault::BadAttribute { name, .. } if names.contains(name)))
    };
    let credentials = sections.iter().find_map(|s| s.ufrag.zip(s.pwd));
    let split = || {
        let ufrag = sections.iter().find_map(|s| s.ufrag)?;
        Some((ufrag, sections.iter().find_map(|s| s.pwd)?))
    };
    let no_credentials = || unreadable(&["ice-ufrag", "ice-pwd"]).unwrap_or(Fault::NoIceCredentials);
    let (ufrag, pwd) = credentials.or_else(split).ok_or_else(no_credentials)?;
    let fingerprints = sections.iter().find(|s| !s.fingerprints.is_empty());
    let fingerprints = fingerprints.map(|s| s.fingerprints.clone()).ok_or_else(|| {
        match sections.iter().find_map(|s| s.other_hash) {
            Some(hash) => Fault::NoKnownFingerprint { offered: hash.into() },
            None => unreadable(&["fingerprint"]).unwrap_or(Fault::NoFingerprint),
        }
    })?;
    let role = sections.iter().find_map(|s| s.role);
    if let (None, Some(error)) = (role, unreadable(&["setup"])) {
        return Err(error);
    }
    Ok(RemoteTransport {
        ice: IceCredentials {
            ufrag: ufrag.into(),
            pwd: pwd.into(),
        },
        fingerprints,
        role: role.unwrap_or(DtlsRole::Server),
    })
}

/// `a=ice-ufrag` or `a=ice-pwd` (RFC 8839 section 5.4): `min` to 256 ice-chars, and the four others that clients are seen to use.
pub(super) fn ice_chars<'a>(line: usize, name: &'static str, value: &'a str, min: usize) -> Result<&'a str, Fault> {
    let is_ice_char = |b: u8| b.is_ascii_alphanumeric() || b"+/-_=#".contains(&b);
    if (min..=256).contains(&value.len()) && value.bytes().all(is_ice_char) {
        Ok(value)
    } else {
        Err(Fault::BadAttribute { line, name })
    }
}

/// RFC 5763 section 5: an offer says `actpass`; `active` and `passive` leave one role. Without `a=setup` the client is active.
fn role_left_for_us(line: usize, value: &str) -> Result<DtlsRole, Fault> {
    match value.to_ascii_lowercase().as_str() {
        "actpass" | "active" => Ok(DtlsRole::Server),
        "passive" => Ok(DtlsRole::Client),
        _ => Err(Fault::BadAttribute { line, name: "setup" }),
    }
}

/// `AA:BB:..`, `N` bytes, either case.
pub(super) fn read_digest<const N: usize>(digest: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut pairs = digest.split(':');
    for byte in &mut bytes {
        let pair = pairs
            .next()
            .filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(bytes)
}

/// A client has one certificate, or an old and a new one, with three hashes each; more are not read.
const MAX_FINGERPRINTS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn section<'a>(attributes: &[(&str, &'a str)]) -> TransportSection<'a> {
        let mut section = TransportSection::default();
        for (name, value) in attributes {
            assert!(section.take(1, name, value) && section.unreadable.is_none(), "{name}");
        }
        section
    }

    fn digest(byte: u8) -> String {
        format!("sha-256 {}", Fingerprint([byte; 32]))
    }

    fn sha256(byte: u8) -> PeerFingerprint {
        PeerFingerprint::Sha256(Fingerprint([byte; 32]))
    }

    const PWD: &str = "0123456789012345678901";

    #[test]
    fn media_level_wins_over_session_level() {
        let (a, b) = (digest(1), digest(2));
        let media = section(&[("ice-ufrag", "media"), ("ice-pwd", PWD), ("fingerprint", &a)]);
        let session = section(&[
            ("ice-ufrag", "session"),
            ("ice-pwd", PWD),
            ("fingerprint", &b),
            ("setup", "passive"),
        ]);
        let transport = resolve(&[&media, &session]).unwrap();
        assert_eq!(&*transport.ice.ufrag, "media");
        assert_eq!(transport.fingerprints, [sha256(1)]);
        assert_eq!(transport.role, DtlsRole::Client);
    }

    #[test]
    fn fingerprints_of_every_secure_hash_are_kept_and_others_skipped() {
        let (a, b) = (digest(1).to_lowercase(), digest(2));
        let longer = |hash: &str, len: usize| format!("{hash} {}", vec!["0A"; len].join(":"));
        let (c, d) = (longer("SHA-512", 64), longer("sha-384", 48));
        let s = section(&[
            ("ice-ufrag", "ufrag"),
            ("ice-pwd", PWD),
            ("fingerprint", "sha-1 00:11"),
            ("fingerprint", &a),
            ("fingerprint", &c),
            ("fingerprint", &b),
            ("fingerprint", &d),
        ]);
        let transport = resolve(&[&s]).unwrap();
        let (c, d) = (PeerFingerprint::Sha512([10; 64]), PeerFingerprint::Sha384([10; 48]));
        assert_eq!(transport.fingerprints, [sha256(1), c, sha256(2), d]);
    }

    #[test]
    fn missing_attributes_are_named() {
        let none = TransportSection::default();
        assert_eq!(resolve(&[&none]).unwrap_err(), Fault::NoIceCredentials);
        let ice = section(&[("ice-ufrag", "ufrag"), ("ice-pwd", PWD)]);
        assert_eq!(resolve(&[&ice, &none]).unwrap_err(), Fault::NoFingerprint);
        let sha1 = section(&[("fingerprint", "sha-1 00:11")]);
        let offered = "sha-1".into();
        assert_eq!(
            resolve(&[&ice, &sha1]).unwrap_err(),
            Fault::NoKnownFingerprint { offered }
        );
    }

    #[test]
    fn malformed_values_are_named() {
        for (name, value) in [
            ("ice-ufrag", "abc"),
            ("ice-ufrag", "a b c d"),
            ("ice-pwd", "short"),
            ("fingerprint", "sha-256"),
            ("fingerprint", "sha-256 AA:BB"),
            ("fingerprint", "sha-512 AA:BB"),
            ("setup", "holdconn"),
        ] {
            let mut odd = TransportSection::default();
            assert!(odd.take(7, name, value));
            let error = Fault::BadAttribute { line: 7, name };
            assert_eq!(odd.unreadable, Some(error.clone()), "{value}");
            // Another section may have what is needed.
            let digest = digest(1);
            let all = [
                ("ice-ufrag", "ufrag"),
                ("ice-pwd", PWD),
                ("fingerprint", &*digest),
                ("setup", "actpass"),
            ];
            assert!(resolve(&[&odd, &section(&all)]).is_ok(), "{value}");
            let rest: Vec<_> = all.into_iter().filter(|(rest, _)| *rest != name).collect();
            assert_eq!(resolve(&[&odd, &section(&rest)]).unwrap_err(), error, "{value}");
        }
        let loud = section(&[("setup", "ActPass")]);
        assert_eq!(loud.role, Some(DtlsRole::Server));
    }
}
