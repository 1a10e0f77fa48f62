//! Bearer tokens, on every request but preflights.

use std::sync::Arc;

use onecast::auth::{Authority, Secret, TokenRule, Tokens};
use onecast::http::Serving;

use super::ground::{CANDIDATES, ENDPOINTS, Ground, limits};
use crate::auth::{bearer, rooms};
use crate::rig::{FRAGMENT, SDP};
use crate::wire::Reply;

/// A server that asks for tokens.
struct Guarded {
    ground: Ground,
    /// Publishes and watches `live`.
    own: String,
    /// Publishes and watches another stream.
    foreign: String,
}

const EVENTS: &str = "[\"active\"]";
const JSON: (&str, &str) = ("Content-Type", "application/json");

impl Guarded {
    async fn start(strict: bool) -> Guarded {
        let [own, foreign] = std::array::from_fn(|_| Secret::generate());
        let rule = |stream: &str, secret: &Secret| TokenRule {
            name: stream.to_owned(),
            hash: secret.hash(),
            publish: rooms(&[stream]),
            watch: rooms(&[stream]),
            admin: false,
        };
        let tokens = Tokens::new(&[rule("live", &own), rule("other", &foreign)]).unwrap();
        let ground = Ground::serving(strict, limits(), |serving| Serving {
            authority: Arc::new(Authority::tokens(tokens, false)),
            ..serving
        })
        .await;
        Guarded {
            ground,
            own: own.expose().to_owned(),
            foreign: foreign.expose().to_owned(),
        }
    }

    async fn ask(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        more: &[(&'static str, &str)],
        body: &str,
    ) -> Reply {
        let authorization = token.map(bearer);
        let header = authorization.as_deref().map(|value| ("Authorization", value));
        let headers: Vec<_> = more.iter().copied().chain(header).collect();
        self.ground.request(method, path, &headers, body).await
    }

    async fn post(&self, token: Option<&str>, endpoint: &str) -> Reply {
        let offer = self.ground.offer(endpoint, &self.ground.credentials());
        self.ask(token, "POST", endpoint, &[SDP], &offer).await
    }

    /// A session that was opened with a good token: its URL and tag.
    async fn session(&self, endpoint: &str) -> (String, String) {
        let reply = self.post(Some(&self.own), endpoint).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        let told = |name| reply.header(name).unwrap().to_owned();
        (told("location"), told("etag"))
    }

    /// Everything that can be asked of an endpoint and its session, with this token.
    async fn everything(&self, token: Option<&str>, endpoint: &str) -> Vec<Reply> {
        let (session, tag) = self.session(endpoint).await;
        let tag = ("If-Match", &*tag);
        let mut replies = vec![
            self.post(token, endpoint).await,
            self.ask(token, "GET", &session, &[], "").await,
            self.ask(token, "PATCH", &session, &[FRAGMENT, tag], CANDIDATES).await,
        ];
        if endpoint.starts_with("/whep") {
            let events = format!("{session}/events");
            replies.push(self.ask(token, "POST", &events, &[JSON], EVENTS).await);
            replies.push(self.ask(token, "POST", endpoint, &[], "").await);
        }
        replies.push(self.ask(token, "DELETE", &session, &[], "").await);
        let ended = self.ask(Some(&self.own), "DELETE", &session, &[], "").await;
        assert!(matches!(ended.status, 200 | 404), "{ended:?}");
        replies
    }
}

pub(super) async fn a_missing_or_wrong_token_is_401_with_a_challenge(ground: &Ground) {
    for endpoint in ENDPOINTS {
        for (token, error) in [(None, false), (Some("wrong"), true)] {
            // A server of its own, because who tries many tokens is slowed down.
            let guarded = Guarded::start(ground.strict).await;
            for reply in guarded.everything(token, endpoint).await {
                reply.problem(401);
                let challenge = reply.header("www-authenticate").unwrap();
                assert!(challenge.starts_with("Bearer"), "{challenge}");
                assert_eq!(challenge.contains("error=\"invalid_token\""), error, "{challenge}");
            }
            guarded.ground.stop().await;
        }
    }
}

pub(super) async fn a_token_for_another_stream_is_403(ground: &Ground) {
    let guarded = Guarded::start(ground.strict).await;
    for endpoint in ENDPOINTS {
        for reply in guarded.everything(Some(&guarded.foreign), endpoint).await {
            reply.problem(403);
        }
    }
    guarded.ground.stop().await;
}

pub(super) async fn the_right_token_allows_the_whole_session(ground: &Ground) {
    let guarded = Guarded::start(ground.strict).await;
    for (endpoint, expected) in [
        // Who publishes with the same token takes the stream over, so the session of before has ended.
        ("/whip/live", &[201, 404, 404, 404][..]),
        ("/whep/live", &[201, 204, 204, 201, 406, 200]),
    ] {
        let replies = guarded.everything(Some(&guarded.own), endpoint).await;
        let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
        assert_eq!(statuses, expected, "{endpoint}");
    }
    let (session, tag) = guarded.session("/whip/live").await;
    let own = Some(&*guarded.own);
    let patch = [FRAGMENT, ("If-Match", &*tag)];
    assert_eq!(guarded.ask(own, "GET", &session, &[], "").await.status, 204);
    assert_eq!(
        guarded.ask(own, "PATCH", &session, &patch, CANDIDATES).await.status,
        204
    );
    assert_eq!(guarded.ask(own, "DELETE", &session, &[], "").await.status, 200);
    guarded.ground.stop().await;
}

pub(super) async fn preflights_need_no_token(ground: &Ground) {
    let guarded = Guarded::start(ground.strict).await;
    for endpoint in ENDPOINTS {
        let (session, _) = guarded.session(endpoint).await;
        let events = format!("{session}/events");
        let paths = [endpoint, &session, &events];
        let paths = if endpoint.starts_with("/whep") {
            &paths[..]
        } else {
            &paths[..2]
        };
        for path in paths {
            let preflight = [
                ("Origin", "https://example.org"),
                ("Access-Control-Request-Method", "POST"),
                ("Access-Control-Request-Headers", "authorization,content-type"),
            ];
            let reply = guarded.ask(None, "OPTIONS", path, &preflight, "").await;
            assert_eq!(reply.status, 204, "{path}");
            assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
            let headers = reply.header("access-control-allow-headers");
            assert_eq!(headers, Some("Authorization, Content-Type, If-Match"));
        }
    }
    guarded.ground.stop().await;
}
