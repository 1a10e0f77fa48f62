//! What an ACME directory refuses, in words that say what to do.

use rustls_acme::acme::{AcmeError, Auth, Identifier, Problem};
use rustls_acme::{EventError, OrderError};

use super::CacheError;

/// Why an order failed: a sentence without a full stop.
pub(super) fn of_order(error: &OrderError, domains: &[String]) -> String {
    match error {
        OrderError::BadAuth(auth) => of_authorization(auth, domains),
        OrderError::BadOrder(order) => match &order.error {
            Some(problem) => of_problem(problem, &domains.join(", ")),
            None => "the directory gave the order up and does not say why".to_owned(),
        },
        OrderError::TooManyAttemptsAuth(domain) => {
            format!("the directory has not come to look at {domain}")
        }
        OrderError::ProcessingTimeout(_) => "the directory has not made the certificate in time".to_owned(),
        OrderError::Acme(AcmeError::HttpRequest(error)) => of_request(&error.to_string(), domains),
        OrderError::Acme(AcmeError::NoTlsAlpn01Challenge) => {
            "the directory does not offer the challenge tls-alpn-01, the only one that onecast can answer".to_owned()
        }
        other => one_line(&other.to_string()),
    }
}

/// What could not be kept or read.
pub(super) fn of_keeping(error: &EventError<CacheError, CacheError>) -> String {
    match error {
        EventError::CertCacheStore(error) | EventError::AccountCacheStore(error) => {
            format!("the certificate from the directory is used, but it cannot be kept: {error}")
        }
        EventError::CertCacheLoad(error) | EventError::AccountCacheLoad(error) => {
            format!("what is kept of an earlier start cannot be read: {error}; ordering anew")
        }
        EventError::CachedCertParse(error) => {
            format!(
                "the kept certificate is broken: {}; ordering anew",
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
            "the directory does not believe that {} is this machine",
            if domain.is_empty() { &domains[0] } else { domain }
        ),
    }
}

/// The library keeps the type of this error to itself: all there is to see is its text, which for a refusal is the status and the
/// quoted body.
fn of_request(error: &str, domains: &[String]) -> String {
    let Some(refusal) = error.strip_prefix("non 2xx http status: ") else {
        let error = one_line(error);
        return format!("the directory cannot be reached ({error}); has this machine a way to the internet?");
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
        "dns" => format!("is there an A or AAAA record of {domain} that names this machine?"),
        "connection" | "tls" | "unauthorized" | "incorrectResponse" => format!(
            "port 443 of {domain} must lead to this server's --http: a firewall, a router, a record that names another machine, or a \
             proxy that ends TLS may be in the way"
        ),
        "caa" => format!("the CAA records of {domain} do not allow this directory"),
        "rateLimited" => "--acme-staging has wider limits to try things with".to_owned(),
        "rejectedIdentifier" => "is the name of --acme right, and public?".to_owned(),
        "invalidContact" | "unsupportedContact" => "is the address of --acme-email right?".to_owned(),
        "externalAccountRequired" => {
            "onecast cannot bind an account elsewhere to it; choose another directory".to_owned()
        }
        _ => return format!("the directory says: {detail}"),
    };
    format!("the directory says: {detail}; {hint}")
}

/// The text of somebody else, fit for one line of the log.
fn one_line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text: String = text
        .chars()
        .filter(|character| !character.is_control())
        .take(TEXT_CHARS_MAX)
        .collect();
    text.trim_end_matches('.').to_owned()
}

/// A directory's explanation may hold a whole page of somebody's web server.
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
    fn a_refusal_says_what_to_do() {
        for (kind, expected) in [
            ("dns", "A or AAAA record of live.test"),
            ("connection", "port 443 of live.test must lead to"),
            ("unauthorized", "a proxy that ends TLS"),
            ("rateLimited", "--acme-staging"),
            ("rejectedIdentifier", "--acme right"),
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
        assert!(of("io error: Os { .. }").starts_with("the directory cannot be reached (io error"));
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
    fn what_others_write_stays_one_short_line() {
        let text = one_line(&format!("a\nb\u{1b}[31m{}", "x".repeat(1_000)));
        assert!(text.starts_with("a b[31mxx") && text.len() <= TEXT_CHARS_MAX);
    }
}
