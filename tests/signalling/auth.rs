//! Access control of HTTP requests.

mod jwt;
mod rooms;
mod secrets;
mod webhook;

use clap::Parser as _;
use onecast::auth::{AuthMode, Authority, Secret, StreamPatterns, TokenRule, Tokens};
use onecast::config::{AuthArgs, Cli, Command};

use super::admin::ROUTES;
use super::rig::{FRAGMENT, OFFER, Rig, SDP};
use super::wire::Reply;

/// A server with tokens, and the tokens.
struct Guarded {
    rig: Rig,
    /// Publishes and watches `live` and `demo-*`.
    studio: String,
    /// Publishes and watches `other`.
    other: String,
    /// Watches everything.
    viewer: String,
    admin: String,
}

/// `Authorization` with a token.
pub(super) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

pub(super) fn rooms(patterns: &[&str]) -> StreamPatterns {
    StreamPatterns::of(patterns.iter().map(|pattern| pattern.parse().unwrap()).collect()).unwrap()
}

/// The options of a server, as its command line says them.
fn auth_args(words: &[&str]) -> AuthArgs {
    match Cli::try_parse_from([&["onecast"], words].concat())
        .unwrap()
        .into_command()
    {
        Command::Serve(args) => args.auth,
        other => panic!("{other:?}"),
    }
}

/// The authority of a command line.
pub(super) fn authority(words: &[&str], mode: AuthMode) -> Authority {
    let opened = onecast::auth::open(&auth_args(words), true, None).unwrap();
    assert_eq!(opened.mode, mode);
    opened.authority
}

impl Guarded {
    async fn start(open: bool) -> Guarded {
        let [studio, other, viewer, admin] = std::array::from_fn(|_| Secret::generate());
        let rule = |name: &str, secret: &Secret, publish: &[&str], watch: &[&str]| TokenRule {
            name: name.to_owned(),
            hash: secret.hash(),
            publish: rooms(publish),
            watch: rooms(watch),
            admin: name == "admin",
        };
        let rules = [
            rule("studio", &studio, &["live", "demo-*"], &["live", "demo-*"]),
            rule("other", &other, &["other"], &["other"]),
            rule("viewer", &viewer, &[], &["*"]),
            rule("admin", &admin, &[], &[]),
        ];
        let text = |secret: Secret| secret.expose().to_owned();
        Guarded {
            rig: Rig::guarded(Authority::tokens(Tokens::new(&rules).unwrap(), open)).await,
            studio: text(studio),
            other: text(other),
            viewer: text(viewer),
            admin: text(admin),
        }
    }

    async fn offer(&self, path: &str, token: &str) -> Reply {
        let headers = [SDP, ("Authorization", &*bearer(token))];
        self.rig.request("POST", path, &headers, OFFER).await
    }
}

#[track_caller]
fn challenge(reply: &Reply, error: Option<&str>) {
    let challenge = reply.header("www-authenticate").unwrap();
    assert!(challenge.starts_with("Bearer realm=\"onecast\""), "{challenge}");
    match error {
        Some(error) => assert!(challenge.contains(&format!("error=\"{error}\"")), "{challenge}"),
        None => assert!(!challenge.contains("error"), "{challenge}"),
    }
}

#[tokio::test]
async fn missing_and_wrong_tokens_are_challenged_before_the_offer_is_read() {
    let guarded = Guarded::start(false).await;
    for path in ["/whip/live", "/whep/live"] {
        let reply = guarded.rig.request("POST", path, &[SDP], OFFER).await;
        assert!(reply.problem(401).contains("Authorization: Bearer"));
        challenge(&reply, None);
        for authorization in ["Bearer wrong", "bearer wrong", &bearer(&guarded.studio.to_uppercase())] {
            let headers = [SDP, ("Authorization", authorization)];
            let reply = guarded.rig.request("POST", path, &headers, OFFER).await;
            assert!(!reply.problem(401).contains("wrong "), "the token is not repeated");
            challenge(&reply, Some("invalid_token"));
        }
        // Basic is no token at all.
        let headers = [SDP, ("Authorization", "Basic c3R1ZGlvOg==")];
        challenge(&guarded.rig.request("POST", path, &headers, OFFER).await, None);
    }
    assert_eq!(guarded.rig.fake.offers(), 0);
}

#[tokio::test]
async fn a_token_allows_only_its_streams_and_its_purpose() {
    let guarded = Guarded::start(false).await;
    for (path, token, status) in [
        ("/whip/live", &guarded.studio, 201),
        ("/whip/demo-7", &guarded.studio, 201),
        ("/whep/live", &guarded.studio, 201),
        ("/whep/anything", &guarded.viewer, 201),
        ("/whip/other", &guarded.studio, 403),
        ("/whip/live", &guarded.other, 403),
        ("/whep/live", &guarded.other, 403),
        ("/whip/live", &guarded.viewer, 403),
        ("/whip/live", &guarded.admin, 403),
    ] {
        let reply = guarded.offer(path, token).await;
        assert_eq!(reply.status, status, "{path} {reply:?}");
        if status == 403 {
            challenge(&reply, Some("insufficient_scope"));
            assert!(reply.problem(403).contains(path.rsplit('/').next().unwrap()));
        }
    }
    assert_eq!(guarded.rig.fake.offers(), 4);
}

#[tokio::test]
async fn the_credential_is_the_tokens_name_without_any_part_of_the_token() {
    let guarded = Guarded::start(false).await;
    guarded.offer("/whip/live", &guarded.studio).await;
    let right = guarded.rig.fake.last_right();
    assert_eq!(&*right.credential.unwrap().0, "token:studio");
    assert!(right.token.is_some());
}

#[tokio::test]
async fn preflights_need_no_token() {
    let guarded = Guarded::start(false).await;
    let session = format!("/whip/live/{}", "01".repeat(16));
    for path in [
        "/whip/live",
        "/whep/live",
        "/sdp/live",
        "/api/streams",
        "/api/shards",
        &session,
    ] {
        let headers = [
            ("Origin", "https://elsewhere.example"),
            ("Access-Control-Request-Headers", "authorization"),
        ];
        let reply = guarded.rig.request("OPTIONS", path, &headers, "").await;
        assert_eq!(reply.status, 204, "{path}");
        assert!(
            reply
                .header("access-control-allow-headers")
                .unwrap()
                .contains("Authorization")
        );
    }
}

#[tokio::test]
async fn pages_of_other_origins_can_read_refusals() {
    let guarded = Guarded::start(false).await;
    let reply = guarded.rig.request("POST", "/whip/live", &[SDP], OFFER).await;
    assert_eq!(
        (reply.status, reply.header("access-control-allow-origin")),
        (401, Some("*"))
    );
}

#[tokio::test]
async fn a_session_opened_with_a_token_requires_it_afterwards() {
    let guarded = Guarded::start(false).await;
    let rig = &guarded.rig;
    let session = guarded.offer("/whip/live", &guarded.studio).await;
    let session = session.header("location").unwrap().to_owned();
    for method in ["GET", "PATCH", "DELETE"] {
        challenge(&rig.request(method, &session, &[FRAGMENT], "").await, None);
        for (token, status) in [("wrong", 401), (&*guarded.other, 403), (&*guarded.viewer, 403)] {
            let headers = [FRAGMENT, ("Authorization", &*bearer(token))];
            assert_eq!(
                rig.request(method, &session, &headers, "").await.status,
                status,
                "{method}"
            );
        }
        // Under another stream's name there is no such session, whatever the token.
        let elsewhere = session.replace("/live/", "/other/");
        for token in [&guarded.other, &guarded.studio] {
            let headers = [FRAGMENT, ("Authorization", &*bearer(token))];
            assert_eq!(rig.request(method, &elsewhere, &headers, "").await.status, 404);
        }
    }
    let headers = [FRAGMENT, ("Authorization", &*bearer(&guarded.studio))];
    assert_eq!(rig.request("GET", &session, &headers, "").await.status, 204);
    assert_eq!(
        rig.request("PATCH", &session, &headers, "a=mid:0\r\n").await.status,
        204
    );
    assert_eq!(rig.request("DELETE", &session, &headers, "").await.status, 200);
    assert_eq!(rig.request("DELETE", &session, &headers, "").await.status, 404);
}

#[tokio::test]
async fn a_token_may_be_in_the_query_and_the_session_url_needs_none() {
    let guarded = Guarded::start(false).await;
    let rig = &guarded.rig;
    let path = format!("/whep/live?token={}", guarded.viewer);
    let reply = rig.request("POST", &path, &[SDP], OFFER).await;
    assert_eq!(reply.status, 201);
    let session = reply.header("location").unwrap().to_owned();
    assert!(!session.contains(&guarded.viewer) && !session.contains('?'));
    assert_eq!(
        rig.request("PATCH", &session, &[FRAGMENT], "a=mid:0\r\n").await.status,
        204
    );
    assert_eq!(rig.request("DELETE", &session, &[], "").await.status, 200);
    assert_eq!(
        rig.request("POST", "/whep/live?token=wrong", &[SDP], OFFER)
            .await
            .status,
        401
    );
    assert_eq!(
        rig.request("POST", &format!("/whip/live?token={}", guarded.viewer), &[SDP], OFFER)
            .await
            .status,
        403
    );
}

#[tokio::test]
async fn watching_needs_no_token_by_default() {
    let guarded = Guarded::start(true).await;
    let rig = &guarded.rig;
    let session = rig.session("/whep/live").await;
    assert_eq!(rig.request("DELETE", &session, &[], "").await.status, 200);
    // A player's stale token is no reason to refuse what everybody may do.
    assert_eq!(guarded.offer("/whep/live", "stale").await.status, 201);
    assert_eq!(rig.request("POST", "/whip/live", &[SDP], OFFER).await.status, 401);
    assert_eq!(rig.get("/api/streams").await.status, 200);
}

#[tokio::test]
async fn copy_and_paste_requires_the_same_permissions() {
    let private = Guarded::start(false).await;
    let sending = format!("{OFFER}a=sendonly\r\n");
    let refused = private.rig.request("POST", "/sdp/live", &[], &sending).await;
    assert_eq!(refused.status, 401);
    assert!(refused.text().contains("Authorization: Bearer") && private.rig.fake.offers() == 0);
    let paste = async |guarded: &Guarded, path: &str, token: &str, offer: &str| {
        let headers = [("Authorization", &*bearer(token))];
        guarded.rig.request("POST", path, &headers, offer).await.status
    };
    assert_eq!(paste(&private, "/sdp/live", &private.other, &sending).await, 403);
    assert_eq!(paste(&private, "/sdp/live", &private.viewer, &sending).await, 403);
    assert_eq!(paste(&private, "/sdp/live", &private.viewer, OFFER).await, 200);
    assert_eq!(paste(&private, "/sdp/live", &private.studio, &sending).await, 200);
    let in_query = format!("/sdp/live?token={}", private.studio);
    assert_eq!(private.rig.request("POST", &in_query, &[], &sending).await.status, 200);

    let open = Guarded::start(true).await;
    assert_eq!(open.rig.request("POST", "/", &[], &sending).await.status, 401);
    assert_eq!(open.rig.request("POST", "/", &[], OFFER).await.status, 200);
    assert_eq!(paste(&open, "/", &open.studio, &sending).await, 200);
}

#[tokio::test]
async fn administration_requires_an_administrators_token_in_a_header() {
    let guarded = Guarded::start(true).await;
    let rig = &guarded.rig;
    for (method, path) in ROUTES {
        let ask = async |path: &str, headers: &[(&str, &str)]| rig.request(method, path, headers, "").await.status;
        let with = async |token: &str| ask(path, &[("Authorization", &bearer(token))]).await;
        assert_eq!(ask(path, &[]).await, 401, "{method} {path}");
        assert_eq!(with(&guarded.studio).await, 403, "{method} {path}");
        let link = format!("{path}?token={}", guarded.admin);
        assert_eq!(ask(&link, &[]).await, 401, "{method} {link}");
        // The query does not help a header that is not good enough, either.
        let weak = [("Authorization", &*bearer(&guarded.viewer))];
        assert_eq!(ask(&link, &weak).await, 403, "{method} {link}");
        assert!(with(&guarded.admin).await < 300, "{method} {path}");
    }
}

#[tokio::test]
async fn an_administrator_may_use_a_host_name_and_a_page_of_another_origin() {
    let guarded = Guarded::start(true).await;
    let named = |headers: &str| format!("GET /api/sessions HTTP/1.1\r\nHost: live.example\r\n{headers}\r\n");
    let token = format!("Authorization: {}\r\n", bearer(&guarded.admin));
    let proxied = format!("{token}X-Forwarded-For: 192.0.2.1\r\n");
    let own = format!("{token}Origin: https://live.example\r\n");
    let elsewhere = format!("{token}Origin: https://panel.example\r\n");
    for headers in [&token, &proxied, &own, &elsewhere] {
        assert_eq!(guarded.rig.raw(named(headers)).await.status, 200, "{headers}");
    }
    guarded
        .rig
        .raw(named("Origin: https://panel.example\r\n"))
        .await
        .problem(401);
}

#[tokio::test]
async fn the_list_of_streams_shows_only_what_the_token_allows() {
    let guarded = Guarded::start(false).await;
    let rig = &guarded.rig;
    let names = async |token: &str| {
        let reply = rig
            .request("GET", "/api/streams", &[("Authorization", &*bearer(token))], "")
            .await;
        let streams = reply.json()["streams"].as_array().unwrap().clone();
        streams
            .iter()
            .map(|stream| stream["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(rig.get("/api/streams").await.status, 401);
    assert_eq!(names(&guarded.studio).await, ["live"]);
    assert_eq!(names(&guarded.viewer).await, ["live", "waiting", "connected"]);
    assert_eq!(names(&guarded.admin).await, ["live", "waiting", "connected"]);
    assert!(names(&guarded.other).await.is_empty());
    let one = async |path: &str| {
        rig.request("GET", path, &[("Authorization", &*bearer(&guarded.studio))], "")
            .await
            .status
    };
    assert_eq!(
        (one("/api/streams/live").await, one("/api/streams/waiting").await),
        (200, 404)
    );
}

#[tokio::test]
async fn guessing_tokens_slows_down_only_the_guesser() {
    let guarded = Guarded::start(false).await;
    let mut statuses = Vec::new();
    for number in 0..30 {
        let reply = guarded.offer("/whip/live", &format!("guess-{number}")).await;
        if reply.status == 429 {
            assert!(reply.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
        }
        statuses.push(reply.status);
    }
    assert_eq!(statuses[..10], [401; 10]);
    assert!(statuses.contains(&429), "{statuses:?}");
    // The same address, with a right token: neighbours behind one address do not lock each other out.
    assert_eq!(guarded.offer("/whip/live", &guarded.studio).await.status, 201);
    // A request without a token is not a guess.
    let without = guarded.rig.request("POST", "/whip/live", &[SDP], OFFER).await;
    assert_eq!(without.status, 401);
}

#[tokio::test]
async fn without_access_control_proxies_may_not_publish() {
    let rig = Rig::guarded(Authority::unconfigured()).await;
    let sending = format!("{OFFER}a=sendonly\r\n");
    for header in [
        ("Forwarded", "for=192.0.2.1"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Real-IP", "192.0.2.1"),
        ("Via", "1.1 proxy"),
        ("CF-Connecting-IP", "192.0.2.1"),
        ("cdn-loop", "cloudflare"),
    ] {
        let words = rig
            .request("POST", "/whip/live", &[SDP, header], OFFER)
            .await
            .problem(403);
        assert!(
            words.contains("through a proxy") && words.contains("--auth tokens"),
            "{words}"
        );
        let pasted = rig.request("POST", "/sdp", &[header], &sending).await;
        assert!(
            pasted.status == 403 && pasted.text().contains("--auth tokens"),
            "{pasted:?}"
        );
        assert_eq!(
            rig.request("POST", "/whep/live", &[SDP, header], OFFER).await.status,
            201
        );
        assert_eq!(rig.request("GET", "/api/shards", &[header], "").await.status, 403);
    }
    assert_eq!(rig.request("POST", "/whip/live", &[SDP], OFFER).await.status, 201);
    // The operator's own word counts.
    let rig = Rig::guarded(Authority::off()).await;
    let header = ("X-Forwarded-For", "192.0.2.1");
    assert_eq!(
        rig.request("POST", "/whip/live", &[SDP, header], OFFER).await.status,
        201
    );
}

#[tokio::test]
async fn without_access_control_an_unconfigured_nginx_may_not_publish() {
    let rig = Rig::guarded(Authority::unconfigured()).await;
    // `proxy_pass http://127.0.0.1:8080;` and nothing else.
    let offer = |endpoint: &str| {
        format!(
            "POST {endpoint} HTTP/1.0\r\nHost: 127.0.0.1:8080\r\nConnection: close\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{OFFER}",
            OFFER.len()
        )
    };
    rig.raw(offer("/whip/live")).await.problem(403);
    assert_eq!(rig.raw(offer("/whep/live")).await.status, 201);
}

#[tokio::test]
async fn without_access_control_pages_of_other_origins_have_no_access() {
    let rig = Rig::guarded(Authority::unconfigured()).await;
    let ask = async |method: &str, path: &str, host: &str, origin: Option<&str>| {
        let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Type: application/sdp\r\n");
        let body = if method == "POST" { OFFER } else { "" };
        rig.raw(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
            .await
    };
    let requests = [
        ("POST", "/whip/live", 201),
        ("POST", "/whep/live", 201),
        ("POST", "/sdp/live", 200),
        ("POST", "/", 200),
        ("GET", "/api/streams", 200),
        ("GET", "/api/streams/live", 200),
    ];
    let offers = rig.fake.offers();
    for (method, path, _) in requests {
        for (host, origin) in [
            ("127.0.0.1:8080", Some("https://evil.example")),
            ("localhost:8080", Some("null")),
            ("127.0.0.1:8080", Some("http://127.0.0.1.evil.example")),
            // DNS rebinding: the browser considers the page same-origin.
            ("evil.example:8080", Some("http://evil.example:8080")),
            ("evil.example:8080", None),
        ] {
            let reply = ask(method, path, host, origin).await;
            assert_eq!(reply.status, 403, "{method} {path} {host} {origin:?}");
            let words = reply.text();
            assert!(
                words.contains("page of another origin") && words.contains("--auth"),
                "{words}"
            );
            assert_eq!(
                reply.header("access-control-allow-origin"),
                Some("*"),
                "the page may read why"
            );
        }
    }
    assert_eq!(rig.fake.offers(), offers);
    for (method, path, status) in requests {
        for (host, origin) in [
            ("127.0.0.1:8080", None),
            ("localhost:8080", Some("http://localhost:8080")),
            ("[::1]:8080", Some("http://[::1]:8080")),
            // A development server on this machine.
            ("127.0.0.1:8080", Some("http://localhost:3000")),
        ] {
            assert_eq!(
                ask(method, path, host, origin).await.status,
                status,
                "{method} {path} {host} {origin:?}"
            );
        }
    }
    // The operator's own word counts.
    let rig = Rig::guarded(Authority::off()).await;
    let headers = [SDP, ("Origin", "https://elsewhere.example")];
    assert_eq!(rig.request("POST", "/whip/live", &headers, OFFER).await.status, 201);
}

#[tokio::test]
async fn a_session_that_was_taken_over_gets_the_reason() {
    let guarded = Guarded::start(false).await;
    let session = guarded.offer("/whip/live", &guarded.studio).await;
    let session = session.header("location").unwrap().to_owned();
    guarded
        .rig
        .fake
        .take_over(session.rsplit('/').next().unwrap().parse().unwrap());
    let headers = [("Authorization", &*bearer(&guarded.studio))];
    for method in ["GET", "PATCH", "DELETE"] {
        let reply = guarded.rig.request(method, &session, &headers, "").await;
        reply.problem(404);
        assert_eq!(reply.json()["type"], "urn:onecast:problem:ended-by-takeover");
    }
}

#[tokio::test]
async fn a_refused_client_that_sends_a_large_body_can_read_the_reason() {
    let guarded = Guarded::start(false).await;
    let reply = guarded
        .rig
        .request("POST", "/whip/live", &[SDP], &"x".repeat(200_000))
        .await;
    reply.problem(401);
}
