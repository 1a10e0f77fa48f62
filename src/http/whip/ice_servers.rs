//! STUN and TURN servers for clients, as `Link` lines (RFC 9725 section 4.6; the same in WHEP).

use axum::http::header::ACCESS_CONTROL_REQUEST_METHOD;
use axum::http::{HeaderMap, HeaderValue};

use crate::http::Shared;
use crate::http::auth::requester::Requester;
use crate::http::whip::routes::action;
use crate::turn::{IceServer, IceServers, IceUrl, Login};
use onecast_control::StreamName;
use onecast_control::port::Protocol;
use onecast_udp::clock;

/// A line for each server, for an authorized client.
pub(crate) fn links(servers: &IceServers) -> impl Iterator<Item = HeaderValue> {
    servers.for_client(clock::unix_time()).into_iter().flat_map(of_server)
}

/// The lines for a client that sent `OPTIONS` to the endpoint of a stream. Preflights, which carry no token, and unauthorized clients get
/// none.
pub(crate) async fn links_for(
    shared: &Shared,
    requester: &Requester,
    headers: &HeaderMap,
    protocol: Protocol,
    stream: &StreamName,
) -> Vec<HeaderValue> {
    if shared.ice_servers.is_empty() || headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return Vec::new();
    }
    match requester.authorize(shared, action(protocol), Some(stream)).await {
        Ok(_) => links(&shared.ice_servers).collect(),
        Err(_) => Vec::new(),
    }
}

fn of_server(server: IceServer) -> impl Iterator<Item = HeaderValue> {
    let IceServer { urls, login } = server;
    urls.into_iter().map(move |url| link(&url, login.as_ref()))
}

fn link(url: &IceUrl, login: Option<&Login>) -> HeaderValue {
    let mut text = format!("<{url}>; rel=\"ice-server\"");
    if let Some(Login { username, credential }) = login {
        text.push_str(&format!(
            "; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\""
        ));
    }
    let mut value = HeaderValue::try_from(text).expect("URLs and logins are visible ASCII");
    // Keeps the credential out of Debug output and out of the HTTP/2 compression tables.
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::TurnCredentials;

    #[test]
    fn a_line_has_the_standard_form_and_debug_output_hides_it() {
        let credentials = TurnCredentials::Fixed {
            username: "user".parse().unwrap(),
            password: "myPassword".parse().unwrap(),
        };
        let urls = ["turn:turn.example.net?transport=udp", "stun:stun.example.net"];
        let urls = urls.map(|url| url.parse().unwrap()).to_vec();
        let lines: Vec<HeaderValue> = links(&IceServers::new(urls, Some(credentials)).unwrap()).collect();
        assert_eq!(lines[0], "<stun:stun.example.net>; rel=\"ice-server\"");
        assert_eq!(
            lines[1],
            "<turn:turn.example.net?transport=udp>; rel=\"ice-server\"; username=\"user\"; credential=\"myPassword\"; \
             credential-type=\"password\""
        );
        assert!(!format!("{lines:?}").contains("myPassword"));
    }
}
