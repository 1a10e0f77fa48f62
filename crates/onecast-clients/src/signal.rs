//! WHIP and WHEP signalling of a client.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};

use super::trust::Trust;

/// A session that a server has granted.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The server's answer.
    pub answer: String,
    session: Option<Url>,
    token: Option<String>,
    client: Client,
}

/// Why no session was granted.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The URL cannot be used.
    #[error("{url} is not an http or https address: {why}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no answer.
    #[error("cannot reach {url}: {why}; is the server running, and is this its address?")]
    Unreachable {
        /// The endpoint.
        url: String,
        /// What happened.
        why: String,
    },
    /// The server refused.
    #[error("{url} answered {status}: {why}")]
    Refused {
        /// The endpoint.
        url: String,
        /// HTTP status.
        status: StatusCode,
        /// The server's explanation, or the meaning of the status.
        why: String,
        /// When to retry.
        retry_after: Option<Duration>,
    },
}

impl SignalError {
    /// When to retry, if the server is busy (503, 429) and says so.
    pub fn retry_after(&self) -> Option<Duration> {
        match *self {
            SignalError::Refused {
                status: StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS,
                retry_after,
                ..
            } => retry_after,
            _ => None,
        }
    }
}

/// Posts an offer and returns the server's answer.
///
/// # Errors
/// Written for a person at a terminal.
pub async fn post_offer(url: &str, offer: String, token: Option<&str>) -> Result<Granted, SignalError> {
    post_offer_trusting(url, offer, token, &Trust::System).await
}

/// As [`post_offer`], with other trusted certificates.
///
/// # Errors
/// As [`post_offer`].
pub async fn post_offer_trusting(
    url: &str,
    offer: String,
    token: Option<&str>,
    trust: &Trust,
) -> Result<Granted, SignalError> {
    let endpoint = parse(url)?;
    let unreachable = |error: reqwest::Error| SignalError::Unreachable {
        url: url.to_owned(),
        why: innermost(&error),
    };
    let client = trust.apply(Client::builder().timeout(TIMEOUT));
    let client = client.build().map_err(unreachable)?;
    let post = |to: Url| {
        let request = client.post(to).header(CONTENT_TYPE, SDP).header(ACCEPT, SDP);
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.body(offer.clone()).send()
    };
    let mut response = post(endpoint.clone()).await.map_err(unreachable)?;
    let elsewhere = response.url().clone();
    if response.status() == StatusCode::UNAUTHORIZED && elsewhere.origin() != endpoint.origin() {
        // The server redirected to another one (307), and the library does not forward the token.
        response = post(elsewhere).await.map_err(unreachable)?;
    }
    let status = response.status();
    let location = response
        .headers()
        .get(LOCATION)
        .and_then(|location| location.to_str().ok())
        .map(str::to_owned);
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| {
        // The other form, a date, is useless if this machine's clock is wrong.
        let seconds = value.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    });
    let session = location.and_then(|location| response.url().join(&location).ok());
    let body = response.text().await.map_err(unreachable)?;
    if status != StatusCode::CREATED {
        let hint = if status == StatusCode::UNAUTHORIZED {
            " Use --token."
        } else {
            ""
        };
        return Err(SignalError::Refused {
            url: url.to_owned(),
            status,
            why: reason(status, &body) + hint,
            retry_after,
        });
    }
    Ok(Granted {
        answer: body,
        session,
        token: token.map(str::to_owned),
        client,
    })
}

impl Granted {
    /// The server's reason for ending the session; `None` when it has not ended it or gives none.
    pub async fn why_ended(&self) -> Option<String> {
        let request = self.client.get(self.session.clone()?);
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response = request.send().await.ok()?;
        let status = response.status();
        let is_gone = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        let body = response.text().await.ok()?;
        let problem: serde_json::Value = serde_json::from_str(&body).ok()?;
        let has_reason = is_gone && problem["type"].as_str()?.contains(ENDED_BY);
        has_reason.then(|| reason(status, &body))
    }

    /// Ends the session. Errors are ignored: a server that is gone needs no goodbye.
    pub async fn delete(self) {
        if let Some(session) = self.session {
            let request = self.client.delete(session);
            let request = match &self.token {
                Some(token) => request.bearer_auth(token),
                None => request,
            };
            let _ = request.send().await;
        }
    }
}

/// The local address that reaches the server of `url`; the client's socket binds to it.
pub fn local_address_towards(url: &str) -> IpAddr {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let Ok(addresses) = parse(url).map(|url| url.socket_addrs(|| None).unwrap_or_default()) else {
        return any;
    };
    let reach = |server: &SocketAddr| {
        let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).ok()?;
        // Connecting a UDP socket sends nothing; it only looks up the route.
        socket.connect(server).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    addresses.iter().find_map(reach).unwrap_or(any)
}

pub(crate) fn parse(url: &str) -> Result<Url, SignalError> {
    let wrong = |why: String| SignalError::Url {
        url: url.to_owned(),
        why,
    };
    let parsed = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(wrong(format!("it begins with {}:", parsed.scheme())));
    }
    Ok(parsed)
}

/// The server's explanation from problem+json, else its text, else the meaning of the status.
pub(crate) fn reason(status: StatusCode, body: &str) -> String {
    if let Ok(problem) = serde_json::from_str::<serde_json::Value>(body) {
        let words = ["title", "detail", "hint"].map(|name| problem[name].as_str().unwrap_or_default());
        let words: Vec<String> = words
            .into_iter()
            .filter(|text| !text.is_empty())
            .map(sentence)
            .collect();
        if !words.is_empty() {
            return words.join(" ");
        }
    }
    let text: String = body.lines().next().unwrap_or_default().chars().take(200).collect();
    match (text.is_empty(), status) {
        (false, _) => text,
        (true, StatusCode::OK) => "this is no WHIP or WHEP endpoint (201 was expected)".to_owned(),
        (true, _) => status.canonical_reason().unwrap_or("no reason given").to_owned(),
    }
}

/// Capitalizes the first letter and adds a full stop.
fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut characters = text.chars();
    let first = characters.next().map(char::to_uppercase).into_iter().flatten();
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    first.chain(characters).chain(stop.chars()).collect()
}

/// The deepest cause: "connection refused" rather than "error sending request".
pub fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", TIMEOUT.as_secs());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

const SDP: &str = "application/sdp";
/// Part of the problem type of a session that the server ended, as opposed to one that it does not know.
const ENDED_BY: &str = ":ended-by-";
/// Longer than any server needs, shorter than a person waits.
const TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_quote_the_server() {
        let problem =
            r#"{"title":"The stream has a broadcaster","detail":"another broadcaster is live","hint":"wait"}"#;
        assert_eq!(
            reason(StatusCode::CONFLICT, problem),
            "The stream has a broadcaster. Another broadcaster is live. Wait."
        );
        assert_eq!(reason(StatusCode::NOT_FOUND, ""), "Not Found");
        assert_eq!(reason(StatusCode::BAD_GATEWAY, "upstream\nis down"), "upstream");
    }

    /// Serves on a free port; returns where.
    async fn served(router: axum::Router) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn redirects_keep_the_token() {
        use axum::http::HeaderMap;
        use axum::response::Redirect;
        use axum::routing::post;

        let guarded = async |headers: HeaderMap, offer: String| match headers.get("authorization") {
            Some(right) if right == "Bearer ours" => (StatusCode::CREATED, offer),
            _ => (StatusCode::UNAUTHORIZED, String::new()),
        };
        let second = served(axum::Router::new().route("/whip/live", post(guarded))).await;
        let to = format!("{second}/whip/live");
        let leaving = async move || Redirect::temporary(&to);
        let first = served(axum::Router::new().route("/whip/live", post(leaving))).await;
        let url = format!("{first}/whip/live");
        let granted = post_offer(&url, "v=0".to_owned(), Some("ours")).await.unwrap();
        assert_eq!(granted.answer, "v=0");
        for token in [None, Some("other")] {
            let refused = post_offer(&url, "v=0".to_owned(), token).await.unwrap_err().to_string();
            assert!(refused.contains("401") && refused.contains("--token"), "{refused}");
        }
    }

    #[test]
    fn only_http_urls_are_accepted() {
        assert!(parse("http://127.0.0.1:8080/whip/live").is_ok());
        assert!(parse("rtmp://x/y").is_err() && parse("nothing").is_err());
        assert!(local_address_towards("http://127.0.0.1:1/").is_loopback());
    }
}
