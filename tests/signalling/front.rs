//! Proxies in front: who their clients are, and below which path they serve the server. And requests as small programs write them.

use onecast::auth::{Authority, TokenRule, Tokens};
use onecast::http::{ProxyNetwork, ReverseProxy, TrustedProxies};
use serde_json::json;

use super::fake::LIMITS;
use super::rig::{FRAGMENT, OFFER, Rig, SDP};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const PREFIX: (&str, &str) = ("X-Forwarded-Prefix", "/rtc");

fn from(client: &str) -> (&str, &str) {
    ("X-Forwarded-For", client)
}

async fn behind_a_proxy() -> Rig {
    let proxy = ReverseProxy {
        proxies: TrustedProxies::loopback(),
        ..ReverseProxy::default()
    };
    Rig::behind(proxy, Authority::off()).await
}

async fn below(base_path: &str) -> Rig {
    let proxy = ReverseProxy {
        base_path: base_path.parse().unwrap(),
        ..ReverseProxy::default()
    };
    Rig::behind(proxy, Authority::off()).await
}

#[tokio::test]
async fn each_client_of_a_proxy_has_its_own_limits() {
    let rig = behind_a_proxy().await;
    let join = async |client: &str| {
        rig.request("POST", "/whep/limited", &[SDP, from(client)], OFFER)
            .await
            .status
    };
    // A client may write whatever it likes in front of what the proxy adds.
    for invented in 0..LIMITS.half_open_per_address {
        assert_eq!(join(&format!("198.51.100.{invented}, 203.0.113.7")).await, 201);
    }
    assert_eq!(join("198.51.100.9, 203.0.113.7").await, 429);
    assert_eq!(join("127.0.0.1, 203.0.113.7").await, 429);
    assert_eq!(join("203.0.113.8").await, 201);
    let offer = rig.fake.last_offer();
    assert_eq!(offer.client.ip().to_string(), "203.0.113.8");
    assert_eq!(offer.local, rig.address);
}

#[tokio::test]
async fn clients_without_an_address_from_the_proxy_share_one_limit() {
    let rig = behind_a_proxy().await;
    let join = async |header: (&str, &str)| rig.request("POST", "/whep/limited", &[SDP, header], OFFER).await.status;
    for hidden in ["for=unknown", "for=_hidden", "for=\"broken"] {
        assert_eq!(join(("Forwarded", hidden)).await, 201);
    }
    assert_eq!(join(from("unknown")).await, 429);
    assert_eq!(join(("Forwarded", "for=203.0.113.7")).await, 201);
}

#[tokio::test]
async fn headers_of_an_untrusted_proxy_are_ignored() {
    let trusted: TrustedProxies = std::iter::once("192.0.2.0/24".parse::<ProxyNetwork>().unwrap()).collect();
    for proxies in [TrustedProxies::default(), trusted] {
        let proxy = ReverseProxy {
            proxies,
            ..ReverseProxy::default()
        };
        let rig = Rig::behind(proxy, Authority::off()).await;
        let headers = [SDP, from("203.0.113.7"), PREFIX, ("Forwarded", "for=203.0.113.8")];
        let reply = rig.request("POST", "/whip/live", &headers, OFFER).await;
        assert!(
            reply.header("location").unwrap().starts_with("/whip/live/"),
            "{reply:?}"
        );
        assert!(rig.fake.last_offer().client.ip().is_loopback());
    }
}

#[tokio::test]
async fn guessing_tokens_behind_a_proxy_slows_down_no_other_client() {
    let secret = onecast::auth::Secret::generate();
    let rule = TokenRule::read(&format!(
        "[[token]]\nname = \"a\"\nhash = \"{}\"\npublish = \"*\"\n",
        secret.hash()
    ));
    let proxy = ReverseProxy {
        proxies: TrustedProxies::loopback(),
        ..ReverseProxy::default()
    };
    let rig = Rig::behind(proxy, Authority::tokens(Tokens::new(&rule.unwrap()).unwrap(), true)).await;
    let guess = async |client: &str| {
        let headers = [SDP, from(client), ("Authorization", "Bearer a-guess")];
        rig.request("POST", "/whip/live", &headers, OFFER).await.status
    };
    let mut statuses = Vec::new();
    while statuses.last() != Some(&429) && statuses.len() < 100 {
        statuses.push(guess("203.0.113.7").await);
    }
    assert_eq!(statuses.last(), Some(&429));
    assert_eq!(guess("203.0.113.8").await, 401);
}

#[tokio::test]
async fn urls_for_clients_are_below_the_path_of_the_proxy() {
    let rig = behind_a_proxy().await;
    let reply = rig.request("POST", "/whip/live", &[SDP, PREFIX], OFFER).await;
    assert!(
        reply.header("location").unwrap().starts_with("/rtc/whip/live/"),
        "{reply:?}"
    );
    let watching = rig.request("POST", "/whep/live", &[SDP, PREFIX], OFFER).await;
    let session = watching.header("location").unwrap().strip_prefix("/rtc").unwrap();
    let link = watching.header("link").unwrap();
    assert!(link.starts_with(&format!("</rtc{session}/events>")), "{link}");
    let names = json!(["active"]).to_string();
    let opened = rig
        .request("POST", &format!("{session}/events"), &[JSON, PREFIX], &names)
        .await;
    assert!(
        opened.header("location").unwrap().starts_with("/rtc/whep/live/events/"),
        "{opened:?}"
    );
    let asked = rig.request("POST", "/whep/live", &[PREFIX], "").await;
    assert_eq!(asked.status, 406);
    assert!(asked.header("location").unwrap().starts_with("/rtc/whep/live/"));
    assert_eq!(rig.request("DELETE", session, &[PREFIX], "").await.status, 200);
}

#[tokio::test]
async fn a_base_path_works_whether_the_proxy_strips_it_or_not() {
    let rig = below("/rtc").await;
    for endpoint in ["/rtc/whip/live", "/whip/live"] {
        let reply = rig.request("POST", endpoint, &[SDP], OFFER).await;
        let location = reply.header("location").unwrap();
        assert!(location.starts_with("/rtc/whip/live/"), "{location}");
        for session in [location, location.strip_prefix("/rtc").unwrap()] {
            assert_eq!(rig.get(session).await.status, 204);
        }
        assert_eq!(rig.request("DELETE", location, &[], "").await.status, 200);
    }
    for page in ["/rtc/", "/rtc/viewer.html", "/rtc/api/openapi.json", "/viewer.html"] {
        assert_eq!(rig.get(page).await.status, 200, "{page}");
    }
    let bare = rig.get("/rtc").await;
    assert_eq!((bare.status, bare.header("location")), (308, Some("/rtc/")));
    rig.get("/rtcx/whip/live").await;
    assert_eq!(rig.request("POST", "/rtcx/whip/live", &[SDP], OFFER).await.status, 404);
}

#[tokio::test]
async fn trailing_slashes_of_endpoints_and_sessions_are_ignored() {
    let rig = Rig::start().await;
    for endpoint in ["/whip/live/", "/whep/live/", "/whip/live//?a=b"] {
        let reply = rig.request("POST", endpoint, &[SDP], OFFER).await;
        assert_eq!(reply.status, 201, "{endpoint}");
        let session = format!("{}/", reply.header("location").unwrap());
        assert!(!session.ends_with("//"));
        let trickled = rig.request("PATCH", &session, &[FRAGMENT], "a=ice-ufrag:x\r\n").await;
        assert_eq!(trickled.status, 204);
        assert_eq!(rig.request("DELETE", &session, &[], "").await.status, 200);
    }
    assert_eq!(rig.request("POST", "/sdp/", &[], OFFER).await.status, 200);
    assert_eq!(rig.request("POST", "/sdp/live/", &[], OFFER).await.status, 200);
    assert_eq!(rig.request("OPTIONS", "/whip/live/", &[], "").await.status, 204);
    for elsewhere in ["/whip/", "/api/streams/", "/viewer.html/"] {
        assert_eq!(rig.get(elsewhere).await.status, 404, "{elsewhere}");
    }
}

fn old(method: &str, path: &str, headers: &str) -> String {
    format!(
        "{method} {path} HTTP/1.0\r\n{headers}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{OFFER}",
        OFFER.len()
    )
}

#[tokio::test]
async fn an_http_1_0_client_without_a_host_may_publish_and_watch() {
    let rig = Rig::guarded(Authority::unconfigured()).await;
    assert_eq!(rig.raw(old("POST", "/whip/live", "")).await.status, 201);
    assert_eq!(rig.raw(old("POST", "/whep/live", "")).await.status, 201);
    // Whatever may have dropped the name is no operator, and what proxies add counts as ever.
    rig.raw(old("GET", "/api/sessions", "")).await.problem(403);
    for header in [
        "Via: 1.0 proxy\r\n",
        "X-Forwarded-For: 192.0.2.1\r\n",
        "Host: 127.0.0.1\r\n",
        "Origin: http://evil.example\r\n",
    ] {
        rig.raw(old("POST", "/whip/live", header)).await.problem(403);
    }
}

#[tokio::test]
async fn a_preflight_allows_only_what_the_request_may_do_from_that_origin() {
    let preflight = async |rig: &Rig, path: &str, method: &str, origin: &str| {
        let headers = [("Origin", origin), ("Access-Control-Request-Method", method)];
        let reply = rig.request("OPTIONS", path, &headers, "").await;
        assert_eq!(reply.status, 204, "{path} {reply:?}");
        reply.header("access-control-allow-origin").is_some()
    };
    let (foreign, local, own) = ("https://evil.example", "http://localhost:3000", "http://127.0.0.1");
    let unconfigured = Rig::guarded(Authority::unconfigured()).await;
    for (method, path) in [
        ("POST", "/whip/live"),
        ("POST", "/whep/live"),
        ("POST", "/sdp"),
        ("POST", "/sdp/live"),
        ("POST", "/"),
        ("POST", "/offer"),
        ("GET", "/api/streams"),
        ("GET", "/api/streams/live"),
    ] {
        let body = if path == "/offer" { "{}" } else { OFFER };
        let with = [SDP, ("Origin", foreign)];
        let status = rig_status(&unconfigured, method, path, &with, body).await;
        assert!(!preflight(&unconfigured, path, method, foreign).await, "{path}");
        assert!(path == "/offer" || status == 403, "{path} {status}");
        assert!(
            preflight(&unconfigured, path, method, local).await && preflight(&unconfigured, path, method, own).await
        );
    }
    // What anybody may ask for, from anywhere.
    assert!(preflight(&unconfigured, "/healthz", "GET", foreign).await);
    assert!(
        preflight(
            &unconfigured,
            &format!("/whip/live/{}", "0".repeat(32)),
            "DELETE",
            foreign
        )
        .await
    );
    let said = Rig::guarded(Authority::off()).await;
    assert!(preflight(&said, "/whip/live", "POST", foreign).await);
    for rig in [&unconfigured, &said] {
        for (method, path) in [
            ("GET", "/api/sessions"),
            ("DELETE", "/api/sessions/1"),
            ("DELETE", "/api/streams/live"),
            ("POST", "/api/drain"),
        ] {
            assert!(
                !preflight(rig, path, method, local).await && preflight(rig, path, method, own).await,
                "{path}"
            );
            assert_eq!(
                rig_status(rig, method, path, &[("Origin", local)], "").await,
                403,
                "{path}"
            );
        }
    }
    let tokens = Rig::guarded(Authority::tokens(Tokens::new(&[]).unwrap(), false)).await;
    assert!(
        preflight(&tokens, "/api/sessions", "GET", foreign).await,
        "a token may come with it"
    );
}

async fn rig_status(rig: &Rig, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> u16 {
    rig.request(method, path, headers, body).await.status
}

#[tokio::test]
async fn a_compressed_body_is_415_with_the_accepted_encoding() {
    let rig = Rig::start().await;
    let session = rig.session("/whip/live").await;
    let offers = rig.fake.offers();
    for (method, path, kind) in [
        ("POST", "/whip/live", SDP),
        ("POST", "/whep/live", SDP),
        ("POST", "/sdp", SDP),
        ("POST", "/offer", JSON),
        ("PATCH", &*session, FRAGMENT),
    ] {
        for coding in ["gzip", "br", "identity, deflate"] {
            let reply = rig
                .request(method, path, &[kind, ("Content-Encoding", coding)], "\u{1f}")
                .await;
            assert_eq!(
                (reply.status, reply.header("accept-encoding")),
                (415, Some("identity")),
                "{path} {coding}"
            );
            assert!(reply.text().contains("without compression"), "{reply:?}");
        }
    }
    assert_eq!(rig.fake.offers(), offers);
    let headers = [SDP, ("Content-Encoding", "identity")];
    assert_eq!(rig.request("POST", "/whip/live", &headers, OFFER).await.status, 201);
}

#[tokio::test]
async fn a_byte_order_mark_before_an_offer_is_ignored() {
    let rig = Rig::start().await;
    let marked = format!("\u{feff}{OFFER}");
    assert_eq!(rig.request("POST", "/whip/live", &[SDP], &marked).await.status, 201);
    assert_eq!(rig.fake.last_offer().text, OFFER);
}

#[tokio::test]
async fn no_body_is_requested_from_a_client_that_is_then_refused() {
    let rig = Rig::start().await;
    let ask = async |rig: &Rig, method: &str, path: &str, headers: &[(&str, &str)]| {
        let mut wire = rig.connect().await;
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        wire.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Expect: 100-continue\r\nContent-Length: 50\r\n\r\n"
        ))
        .await;
        wire.reply().await.unwrap().status
    };
    let session = rig.session("/whip/live").await;
    let gzip = ("Content-Encoding", "gzip");
    for (method, path, headers, status) in [
        ("POST", "/whip/live", &[SDP][..], 100),
        ("POST", "/whip/live", &[], 415),
        ("POST", "/whep/live", &[], 415),
        ("POST", "/whip/live", &[FRAGMENT], 415),
        ("POST", "/whip/live", &[SDP, gzip], 415),
        ("POST", "/whip/.x", &[SDP], 400),
        ("POST", "/sdp", &[gzip], 415),
        ("POST", "/offer", &[SDP], 415),
        ("PATCH", &*session, &[FRAGMENT], 100),
        ("PATCH", &*session, &[SDP], 415),
        ("PATCH", "/whip/live/0", &[FRAGMENT], 404),
        ("POST", "/nothing", &[SDP], 404),
        ("PUT", "/whip/live", &[SDP], 405),
    ] {
        assert_eq!(
            ask(&rig, method, path, headers).await,
            status,
            "{method} {path} {headers:?}"
        );
    }
    // Admission control refuses before the offer is sent, and the check costs no token.
    for _ in 0..LIMITS.joins_per_second {
        assert_eq!(rig.request("POST", "/whep/limited", &[SDP], OFFER).await.status, 201);
    }
    assert_eq!(ask(&rig, "POST", "/whep/limited", &[SDP]).await, 503);
    assert_eq!(ask(&rig, "POST", "/whip/limited", &[SDP]).await, 100);
    rig.request("POST", "/api/drain?to=https://b.example", &[], "").await;
    assert_eq!(ask(&rig, "POST", "/whip/live", &[SDP]).await, 307);
    let guarded = Rig::guarded(Authority::tokens(Tokens::new(&[]).unwrap(), false)).await;
    assert_eq!(ask(&guarded, "POST", "/whip/live", &[SDP]).await, 401);
}
