//! Attacks over HTTP on the real program while a broadcast runs: each is refused, and the broadcast is not affected.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

mod scene;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use onecast_testing::requirements::UNIX;
use onecast_testing::{Suite, tests};

use scene::{Scene, statuses};

fn main() -> ExitCode {
    // The longest first.
    let tests = tests![
        ten_thousand_half_open_posts_time_out,
        slow_clients_time_out_while_others_are_served,
        ambiguous_requests_are_refused_with_everything_behind_them,
        path_tricks_lead_nowhere,
    ];
    // The tests wait more than they work.
    Suite::new([tests.needs(&UNIX)]).threads_at_least(4).run()
}

const HEAD: &str = "POST /whip/evil HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\n";
const SMUGGLED: &str = "GET /api/streams HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn ambiguous_requests_are_refused_with_everything_behind_them() {
    let mut scene = Scene::start();
    let framings = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "Content-Length: 5\r\nContent-Length: 43\r\n\r\nhello",
        "Content-Length: 5, 5\r\n\r\nhello",
        "Content-Length: +5\r\n\r\nhello",
        "Content-Length: -5\r\n\r\nhello",
        "Content-Length: 0x5\r\n\r\nhello",
        "Content-Length: 5\u{b}\r\n\r\nhello",
        "Transfer-Encoding: identity\r\n\r\nhello",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        "Host: other\r\nContent-Length: 5\r\n\r\nhello",
    ];
    for framing in framings {
        let reply = scene.exchange(format!("{HEAD}{framing}{SMUGGLED}").as_bytes());
        assert_eq!(statuses(&reply), [400], "{framing:?} got {reply}");
    }
    let without_host = scene.exchange(b"GET /api/streams HTTP/1.1\r\n\r\n");
    assert_eq!(statuses(&without_host), [400], "{without_host}");
    scene.check_undisturbed();
}

fn path_tricks_lead_nowhere() {
    let mut scene = Scene::start();
    let long = "a".repeat(10_000);
    let names = [
        "..",
        "../../etc/passwd",
        "%2e%2e",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "..%5c..%5cwindows",
        "%00",
        "live%00",
        "live%0d%0aSet-Cookie:x",
        "live%2Fother",
        "liv%D0%B5",
        "l%C4%B1ve",
        "live%E2%80%AE",
        "%EF%BC%8Flive",
        "%ff%fe",
        ".hidden",
        "",
        "live/%2e%2e",
        long.as_str(),
    ];
    for name in names {
        for path in [format!("/whip/{name}"), format!("/whep/{name}"), format!("/sdp/{name}")] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/sdp\r\nContent-Length: 3\r\n\r\nv=0"
            );
            let reply = scene.exchange(request.as_bytes());
            let status = statuses(&reply);
            // A trailing slash is ignored: `/sdp/` is the default stream, whose offer is read.
            let is_read = name.is_empty() && status[..] == [422];
            assert!(
                is_read || matches!(status[..], [400 | 404 | 405 | 415]),
                "{path} got {reply}"
            );
        }
    }
    for path in [
        "/../Cargo.toml",
        "/js/../../Cargo.toml",
        "/%2e%2e/Cargo.toml",
        "/js/%2e%2e/index.html",
        "/.ci/run",
        "//etc/passwd",
    ] {
        let reply =
            scene.exchange(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes());
        assert_eq!(statuses(&reply), [404], "{path} got {reply}");
    }
    scene.check_undisturbed();
}

#[expect(clippy::disallowed_methods, reason = "slowness is what the server is shown")]
fn slow_clients_time_out_while_others_are_served() {
    let mut scene = Scene::start();
    let head = "POST /whip/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\nX-Slow: ";
    let mut drips: Vec<TcpStream> = (0..300).map(|_| scene.connect()).collect();
    let mut rest = head.bytes().chain(std::iter::repeat(b'a'));
    // A byte every 200 ms keeps no connection open: the timeout covers the whole head.
    for _ in 0..70 {
        let byte = rest.next().unwrap();
        drips.retain_mut(|stream| stream.write_all(&[byte]).is_ok());
        std::thread::sleep(Duration::from_millis(200));
        let reply = scene.exchange(b"GET /api/streams HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(statuses(&reply), [200]);
    }
    for mut stream in drips {
        let mut reply = Vec::new();
        // Closed with or without a reply; a reset is an error here and just as good.
        let _ = stream.read_to_end(&mut reply);
    }
    scene.check_undisturbed();
}

fn ten_thousand_half_open_posts_time_out() {
    let connections: usize = 10_000;
    onecast_udp::raise_open_files(connections as u64 + 200).unwrap();
    let mut scene = Scene::start();
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut stream = scene.connect();
        write!(stream, "{HEAD}Connection: close\r\nContent-Length: 1000\r\n\r\nv=0").unwrap();
        open.push(stream);
    }
    scene.check_undisturbed();
    let mut timed_out = 0;
    for mut stream in open {
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        timed_out += usize::from(statuses(&String::from_utf8_lossy(&reply)) == [408]);
    }
    assert_eq!(timed_out, connections);
    scene.check_undisturbed();
    let reply = scene.exchange(b"GET /api/streams HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(statuses(&reply), [200]);
}
