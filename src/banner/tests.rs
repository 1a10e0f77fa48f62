use super::*;

const OPEN: Access<'_> = Access {
    mode: AuthMode::Off,
    private: false,
    tokens: OwnTokens::None,
};

fn banner_of(tokens: OwnTokens<'_>, private: bool) -> String {
    banner(&Facts {
        http: "0.0.0.0:8080".parse().unwrap(),
        media: "0.0.0.0:8080".parse().unwrap(),
        announced: &["192.0.2.7".parse().unwrap()],
        demo: false,
        access: Access {
            mode: AuthMode::Tokens,
            private,
            tokens,
        },
        https: None,
        phone: None,
        base_path: "",
        columns: None,
    })
}

#[test]
fn links_carry_only_the_token_that_they_need() {
    let made = GeneratedTokens {
        publish: Secret::new("p-u-b"),
        watch: Secret::new("w-a-t"),
        admin: Secret::new("a-d-m"),
    };
    for private in [false, true] {
        let text = banner_of(OwnTokens::Shown(&made), private);
        let line = |start: &str| text.lines().find(|line| line.trim_start().starts_with(start)).unwrap();
        assert!(line("Broadcast").ends_with("/broadcast.html#token=p-u-b"));
        assert!(line("OBS").ends_with("/whip/live, Bearer token p-u-b"));
        assert!(line("Administration").contains("Bearer a-d-m"));
        for start in ["Watch", "Players"] {
            assert!(!line(start).contains("p-u-b") && line(start).contains("token=w-a-t") == private);
        }
        assert!(!text.contains("can broadcast and watch"));
    }
}

#[test]
fn output_that_is_kept_names_the_file_and_no_token() {
    let made = GeneratedTokens {
        publish: Secret::new("p-u-b"),
        watch: Secret::new("w-a-t"),
        admin: Secret::new("a-d-m"),
    };
    let file = Path::new("/state/tokens.json");
    assert!(matches!(
        OwnTokens::for_output(Some(&made), Some(file), true),
        OwnTokens::Shown(_)
    ));
    assert!(matches!(
        OwnTokens::for_output(None, Some(file), false),
        OwnTokens::None
    ));
    for kept in [Some(file), None] {
        let tokens = OwnTokens::for_output(Some(&made), kept, false);
        let access = Access {
            mode: AuthMode::Tokens,
            private: true,
            tokens,
        };
        let text = banner_of(tokens, true) + &phone_link("192.0.2.7:8080".parse().unwrap(), true, access);
        for secret in ["p-u-b", "w-a-t", "a-d-m"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert_eq!(text.contains("/state/tokens.json"), kept.is_some());
        assert!(
            text.contains("not a terminal") && text.contains("Bearer TOKEN"),
            "{text}"
        );
    }
}

#[test]
fn links_include_the_base_path() {
    let text = banner(&Facts {
        base_path: "/rtc",
        ..facts("0.0.0.0:8080", "0.0.0.0:8080", &["192.0.2.7".parse().unwrap()], false)
    });
    for expected in [
        "http://localhost:8080/rtc/broadcast.html",
        "WHIP server http://localhost:8080/rtc/whip/live",
        "http://192.0.2.7:8080/rtc/\n",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
    }
}

fn facts<'a>(http: &str, media: &str, announced: &'a [IpAddr], demo: bool) -> Facts<'a> {
    Facts {
        http: http.parse().unwrap(),
        media: media.parse().unwrap(),
        announced,
        demo,
        access: OPEN,
        https: None,
        phone: None,
        base_path: "",
        columns: None,
    }
}

fn banner_at(http: &str, media: &str, announced: &[&str], demo: bool) -> String {
    let announced: Vec<IpAddr> = announced.iter().map(|ip| ip.parse().unwrap()).collect();
    banner(&facts(http, media, &announced, demo))
}

fn banner_with_https(http: &str, https: Https<'_>, phone: Option<&str>, columns: Option<usize>) -> String {
    banner(&Facts {
        https: Some(https),
        phone,
        columns,
        ..facts(http, "[::]:8080", &["192.0.2.7".parse().unwrap()], false)
    })
}

#[test]
fn a_server_on_loopback_explains_how_to_let_other_machines_in() {
    let text = banner_at("127.0.0.1:8080", "[::]:9000", &["127.0.0.1", "192.0.2.7"], false);
    for expected in [
        "http://127.0.0.1:8080/broadcast.html",
        "http://127.0.0.1:8080/viewer.html",
        "curl --data-binary @offer.txt http://127.0.0.1:8080/sdp",
        "UDP port 9000 at 127.0.0.1, 192.0.2.7.",
        "Only this machine can connect. To let other machines in: onecast --http 0.0.0.0:8080",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
    }
    assert!(!text.contains("Firewall") && !text.contains("demo"));
}

#[test]
fn an_open_server_lists_its_addresses_and_ports() {
    let text = banner_at(
        "0.0.0.0:8080",
        "0.0.0.0:8080",
        &["127.0.0.1", "192.0.2.7", "2001:db8::1"],
        true,
    );
    for expected in [
        "http://localhost:8080/broadcast.html",
        "can broadcast and watch, from elsewhere at\n      http://192.0.2.7:8080/\n",
        "TCP port 8080 and UDP port 8080",
        "over HTTPS",
        "stream \"demo\"",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
    }
    assert!(!text.contains("http://127.0.0.1") && !text.contains("http://[2001:db8::1]"));
}

#[test]
fn ipv6_addresses_are_in_brackets() {
    let text = banner_at("[::]:80", "[::]:80", &["::1", "2001:db8::1"], false);
    assert!(text.contains("http://localhost:80/viewer.html") && text.contains("http://[2001:db8::1]:80/"));
    assert!(banner_at("[::1]:80", "[::]:80", &["::1"], false).contains("http://[::1]:80/sdp"));
}

#[test]
fn unreachable_media_is_pointed_out() {
    let text = banner_at("0.0.0.0:8080", "127.0.0.1:8080", &["127.0.0.1"], false);
    assert!(text.contains("Media is bound to 127.0.0.1"));
}

#[test]
fn a_self_signed_certificate_comes_with_instructions() {
    let made = tls::GeneratedCertificate {
        fingerprint: "AB:CD".to_owned(),
        file: Some("/state/tls/self-signed.pem".into()),
    };
    let https = Https {
        made: Some(&made),
        domain: None,
    };
    let text = banner_with_https("0.0.0.0:8080", https, None, None);
    assert!(text.contains("curl --cacert '/state/tls/self-signed.pem' --data-binary"));
    for expected in [
        "https://localhost:8080/broadcast.html",
        "https://192.0.2.7:8080/",
        "\"Proceed\"",
        "AB:CD",
        "--ca /state/tls/self-signed.pem",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
    }
    assert!(!text.contains("http://") && !text.contains("--lan"));
}

#[test]
fn links_use_the_domain() {
    let https = Https {
        made: None,
        domain: Some("live.test"),
    };
    let of = |http: &str| banner_with_https(http, https, None, None);
    assert!(of("[::]:443").contains(" https://live.test/viewer.html"));
    let text = of("[::]:8443");
    assert!(text.contains(" https://live.test:8443/viewer.html") && !text.contains("fingerprint"));
}

#[test]
fn a_phone_gets_a_link_and_in_a_terminal_a_qr_code() {
    let tokens = GeneratedTokens {
        publish: Secret::new("x"),
        watch: Secret::new("y"),
        admin: Secret::new("z"),
    };
    let access = Access {
        mode: AuthMode::Tokens,
        private: false,
        tokens: OwnTokens::Shown(&tokens),
    };
    let link = phone_link("192.0.2.7:8080".parse().unwrap(), true, access);
    assert_eq!(link, "https://192.0.2.7:8080/broadcast.html#token=x");
    let https = Https {
        made: None,
        domain: None,
    };
    let of = |columns| banner_with_https("[::]:8080", https, Some(&link), columns);
    assert!(of(None).ends_with(&format!("open\n      {link}\n\n")));
    assert!(of(Some(100)).contains('\u{2588}') && !of(Some(20)).contains('\u{2588}'));
}
