//! Errors of an ACME directory as text that says what the operator can do.

use rustls_acme::acme::{AcmeError, Auth, Identifier, Problem};
use rustls_acme::{EventError, OrderError};

use super::CacheError;

/// Why an order failed: a sentence without a full stop.
pub(super) fn of_order(error: &OrderError, domains: &[String]) -> String {
    match error {
        OrderError::BadAuth(auth) => of_authorization(auth, domains),
        OrderError::BadOrder(order) => match &order.error {
            Some(problem) => of_problem(problem, &domains.join(", ")),
            None => "the directory has cancelled the order without a reason".to_owned(),
        },
        OrderError::TooManyAttemptsAuth(domain) => {
            format!("the directory has not validated {domain} in time")
        }
        OrderError::ProcessingTimeout(_) => "the directory has not issued the certificate in time".to_owned(),
        OrderError::Acme(AcmeError::HttpRequest(error)) => of_request(&error.to_string(), domains),
        OrderError::Acme(AcmeError::NoTlsAlpn01Challenge) => {
            "the directory does not offer the challenge tls-alpn-01, the only one that onecast supports".to_owned()
        }
        other => one_line(&other.to_string()),
    }
}

/// Why the cache failed.
pub(super) fn of_keeping(error: &EventError<CacheError, CacheError>) -> String {
    match error {
        EventError::CertCacheStore(error) | EventError::AccountCacheStore(error) => {
            format!("the new certificate is in use, but cannot be stored: {error}")
        }
        EventError::CertCacheLoad(error) | EventError::AccountCacheLoad(error) => {
            format!("cannot read the stored account or certificate: {error}; ordering a new one")
        }
        EventError::CachedCertParse(error) => {
            format!(
                "the stored certificate is invalid: {}; ordering a new one",
                one_line(&error.to_string())
            )
        }
        other => one_line(&other.to_string()),
    }
}

fn of_authorization(auth: &Auth, domains: &[String]) -> String {
    let Identifier::Dns(domain) = &auth.identifier;
    let problem = auth.challenges.iter().find_map(|challenge| challenge.error.as_ref());
    match problem {
        Some(problem) => of_problem(problem, domain),
        None => format!(
            "the directory could not verify that {} is this machine",
            if domain.is_empty() { &domains[0] } else { domain }
        ),
    }
}

/// The type of this error is private to the library, so only its text is available: the status and the quoted body of the response.
fn of_request(error: &str, domains: &[String]) -> String {
    let Some(refusal) = error.strip_prefix("non 2xx http status: ") else {
        let error = one_line(error);
        return format!("cannot reach the directory ({error}); check the internet connection of this machine");
    };
    let (status, quoted) = refusal.split_once(' ').unwrap_or((refusal, ""));
    let body = serde_json::from_str(quoted).unwrap_or(quoted.to_owned());
    match serde_json::from_str::<Problem>(&body) {
        Ok(problem) if problem.typ.is_some() => of_problem(&problem, &domains.join(", ")),
        _ => format!("the directory answered {status}: {}", one_line(&body)),
    }
}

/// A problem by its type (RFC 8555 section 6.7), with what to do.
fn of_problem(problem: &Problem, domain: &str) -> String {
    let kind = problem.typ.as_deref().unwrap_or_default();
    let kind = kind.rsplit(':').next().unwrap_or_default();
    let detail = one_line(problem.detail.as_deref().unwrap_or("no detail given"));
    let hint = match kind {
        "dns" => format!("check that {domain} has an A or AAAA record with the address of this machine"),
        "connection" | "tls" | "unauthorized" | "incorrectResponse" => format!(
            "port 443 of {domain} must reach --http of this server; check the firewall, the router, the DNS records, and proxies \
             that terminate TLS"
        ),
        "caa" => format!("the CAA records of {domain} do not allow this directory"),
        "rateLimited" => "use --acme-staging for tests, which has higher limits".to_owned(),
        "rejectedIdentifier" => "check that the name of --acme is correct and public".to_owned(),
        "invalidContact" | "unsupportedContact" => "check the address of --acme-email".to_owned(),
        "externalAccountRequired" => "onecast does not support external accounts; use another directory".to_owned(),
        _ => return format!("the directory says: {detail}"),
    };
    format!("the directory says: {detail}; {hint}")
}

/// Foreign text, made fit for one line of the log.
fn one_line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text: String = text
        .chars()
        .filter(|character| !character.is_control())
        .take(TEXT_CHARS_MAX)
        .collect();
    text.trim_end_matches('.').to_owned()
}

/// The detail may contain a whole error page of a web server.
const TEXT_CHARS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: &str, detail: &str) -> String {
        let body = serde_json::json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail});
        let error = format!("non 2xx http status: 403 {:?}", body.to_string());
        of_request(&error, &["live.test".to_owned()])
    }

    #[test]
    fn an_error_of_the_directory_comes_with_a_remedy() {
        for (kind, expected) in [
            ("dns", "check that live.test has an A or AAAA record"),
            ("connection", "port 443 of live.test must reach"),
            ("unauthorized", "proxies that terminate TLS"),
            ("rateLimited", "--acme-staging"),
            ("rejectedIdentifier", "the name of --acme"),
            ("invalidContact", "--acme-email"),
        ] {
            let text = refused(kind, "It is so.");
            assert!(
                text.contains("the directory says: It is so; ") && text.contains(expected),
                "{text}"
            );
        }
        assert_eq!(refused("serverInternal", "sorry"), "the directory says: sorry");
        let of = |error: &str| of_request(error, &["live.test".to_owned()]);
        assert_eq!(
            of("non 2xx http status: 502 \"<b>bad\""),
            "the directory answered 502: <b>bad"
        );
        assert!(of("io error: Os { .. }").starts_with("cannot reach the directory (io error"));
    }

    #[test]
    fn a_failed_challenge_names_the_domain_and_the_cause() {
        let auth = serde_json::json!({
            "status": "invalid",
            "identifier": {"type": "dns", "value": "live.test"},
            "challenges": [
                {"type": "http-01", "url": "https://one"},
                {"type": "tls-alpn-01", "url": "https://two", "token": "x", "error": {
                    "type": "urn:ietf:params:acme:error:connection", "detail": "Connection refused",
                }},
            ],
        });
        let auth: Auth = serde_json::from_value(auth).unwrap();
        let text = of_order(&OrderError::BadAuth(auth), &["live.test".to_owned()]);
        assert!(
            text.starts_with("the directory says: Connection refused; port 443 of live.test"),
            "{text}"
        );
    }

    #[test]
    fn foreign_text_becomes_one_short_line() {
        let text = one_line(&format!("a\nb\u{1b}[31m{}", "x".repeat(1_000)));
        assert!(text.starts_with("a b[31mxx") && text.len() <= TEXT_CHARS_MAX);
    }
}
