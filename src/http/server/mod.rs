//! Accepts connections, with TLS if there is a certificate, and speaks HTTP/1.1 and HTTP/2 on them (without TLS with prior knowledge).

pub(super) mod base_path;
pub(super) mod connection;
pub(super) mod forwarded;
pub(super) mod front;
pub(super) mod per_ip_limit;
pub(super) mod redirect;
pub(super) mod request_permit;
pub(super) mod smuggling;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderValue;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::auth::Authority;
use crate::http::router::router;
use crate::http::server::connection::{AtWork, Connection, Stop, Upgrades};
use crate::http::server::front::{Entrance, Front};
use crate::http::server::per_ip_limit::Crowding;
use crate::http::service::Service;
use crate::http::static_files::Pages;
use crate::tls::{Opened, Tls};
use crate::turn::IceServers;

/// Bounds of the HTTP server.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Connections at once; more wait in the system's backlog.
    pub connections: usize,
    /// Of these, how many one address, or one /64 of IPv6, may have; more are closed. As many requests of an address may follow event
    /// streams, and as many of one client may be passed on by trusted proxies at once. This machine's own addresses have no such bound,
    /// and proxies none of connections.
    pub connections_per_address: usize,
    /// How long a client may take for a TLS handshake.
    pub handshake_timeout: Duration,
    /// How long a client may take for a request's head, and a connection lie idle.
    pub header_timeout: Duration,
    /// How long a client may take for a request's body.
    pub body_timeout: Duration,
    /// How often a WebSocket's client is asked whether it is there; one that was not heard for three times as long is taken to be gone.
    pub socket_ping: Duration,
}

impl Default for HttpLimits {
    /// Signalling is short-lived: 10 000 connections are a burst of that many viewers, and 10 s suffice for a few kilobytes
    /// on any line that could carry media afterwards.
    fn default() -> HttpLimits {
        let patience = Duration::from_secs(10);
        HttpLimits {
            connections: 10_000,
            // A large office or a mobile carrier's gateway; ten of them are needed to take everything.
            connections_per_address: 1_000,
            handshake_timeout: patience,
            header_timeout: patience,
            body_timeout: patience,
            // Proxies take half a minute or more of silence for the end.
            socket_ping: Duration::from_secs(15),
        }
    }
}

impl HttpLimits {
    /// Requests that may follow event streams at once: they last, and shall not take every connection from those who come to join.
    pub(crate) fn followers(&self) -> usize {
        self.connections / 2
    }
}

/// What is served.
pub struct Serving {
    /// What runs behind HTTP.
    pub service: Arc<dyn Service>,
    /// Who may do what.
    pub authority: Arc<Authority>,
    /// The pages.
    pub pages: Pages,
    /// Values of `Link` lines that every endpoint and every new session of WHIP and WHEP carries.
    pub links: Vec<HeaderValue>,
    /// STUN and TURN servers that those who may publish or watch are told of.
    pub ice_servers: Arc<IceServers>,
    /// A PATCH without `If-Match` is refused whatever it says, as RFC 9725 has it.
    pub strict_etags: bool,
    /// Proxies in front, and the path below which they serve the server.
    pub front: Front,
}

impl Serving {
    /// With everybody's right to do everything.
    pub fn open(service: Arc<dyn Service>, pages: Pages) -> Serving {
        Serving {
            service,
            authority: Arc::new(Authority::off()),
            pages,
            links: Vec::new(),
            ice_servers: Arc::default(),
            strict_etags: false,
            front: Front::default(),
        }
    }
}

/// The HTTP server. Its clones share the bounds of connections.
#[derive(Clone)]
pub struct Server {
    entrance: Entrance,
    limits: HttpLimits,
    places: Arc<Semaphore>,
    tls: Option<Arc<Tls>>,
}

impl Server {
    /// A server of `serving`.
    pub fn new(serving: Serving, limits: HttpLimits) -> Server {
        let front = Arc::new(serving.front.clone());
        Server {
            entrance: Entrance {
                router: router(serving, limits),
                front,
                crowding: Crowding::new(limits.connections_per_address),
            },
            limits,
            places: Arc::new(Semaphore::new(limits.connections)),
            tls: None,
        }
    }

    /// The same behind TLS. Who comes in the clear is sent on to HTTPS.
    pub fn with_tls(self, tls: Arc<Tls>) -> Server {
        Server { tls: Some(tls), ..self }
    }

    /// Sends everybody on to HTTPS on `port`, from a listener without TLS.
    pub fn redirecting(self, port: u16) -> Server {
        Server {
            entrance: self.entrance.to(redirect::router(Some(port))),
            tls: None,
            ..self
        }
    }

    /// Serves `listener` until `stop` is cancelled, then lets requests that have begun finish.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let connections = TaskTracker::new();
        loop {
            let next = async {
                let place = self.places.clone().acquire_owned().await.expect("nobody closes it");
                (accept(&listener).await, place)
            };
            let Some(((stream, client), place)) = stop.run_until_cancelled(next).await else {
                break;
            };
            let Some(taken) = self.entrance.take_connection(client.ip()) else {
                // An answer would cost what the bound is to save, a TLS handshake first of all.
                debug!(%client, "a connection is closed: its address has as many as it may");
                continue;
            };
            let serving = self.clone().welcome(stream, client, stop.clone());
            connections.spawn(async move {
                serving.await;
                drop((place, taken));
            });
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }

    /// Opens a connection and serves it to its end. Whoever takes long for a handshake keeps nobody but their own place.
    async fn welcome(self, stream: TcpStream, client: SocketAddr, stop: CancellationToken) {
        let Ok(local) = stream.local_addr() else { return };
        // Answers are small and somebody waits for them.
        let _ = stream.set_nodelay(true);
        let ends = Connection::new(client, local);
        let Some(tls) = &self.tls else {
            return serve(stream, ends, self.entrance, self.limits, stop).await;
        };
        let opening = tokio::time::timeout(self.limits.handshake_timeout, tls.open(stream));
        match stop.run_until_cancelled(opening).await {
            Some(Ok(Ok(Opened::Tls(stream)))) => serve(*stream, ends, self.entrance, self.limits, stop).await,
            Some(Ok(Ok(Opened::Plain(stream)))) => {
                let entrance = self.entrance.to(redirect::router(None));
                serve(stream, ends, entrance, self.limits, stop).await;
            }
            Some(Ok(Ok(Opened::Challenge))) => debug!(%client, "a challenge of the ACME directory is answered"),
            Some(Ok(Err(error))) => debug!(%client, "no connection: {error}"),
            Some(Err(_)) => debug!(%client, "no connection: the TLS handshake took too long"),
            None => {}
        }
    }
}

/// The next connection, however long that takes.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut pause = ACCEPT_PAUSE;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_about_one_connection(&error) => {
                debug!(%error, "a connection ended before it was accepted")
            }
            Err(error) => {
                // Mostly too many open files: it passes when connections end, but not at once.
                warn!(%error, "no connection can be accepted; trying again in {} ms", pause.as_millis());
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// Serves one connection to its end: of HTTP, or of the WebSocket that it has become.
async fn serve<S>(stream: S, ends: Connection, entrance: Entrance, limits: HttpLimits, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let upgrades = Upgrades::default();
    serve_http(stream, ends, entrance, limits, stop, upgrades.clone()).await;
    upgrades.ended().await;
}

async fn serve_http<S>(
    stream: S,
    ends: Connection,
    entrance: Entrance,
    limits: HttpLimits,
    stop: CancellationToken,
    upgrades: Upgrades,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    let at_work = AtWork::default();
    let (noting, working) = (asked.clone(), at_work.clone());
    let stopped = Stop(stop.clone());
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        noting.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(stopped.clone());
        request.extensions_mut().insert(working.clone());
        request.extensions_mut().insert(upgrades.clone());
        let (answer, working) = (entrance.clone().answer(request.map(Body::new), ends), working.clone());
        async move {
            let response = answer.await;
            drop(working);
            Ok::<_, Infallible>(response)
        }
    });
    let builder = builder(limits);
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let mut stopping = false;
    let mut unread = 0;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(client = %ends.client, %error, "HTTP connection broke");
                }
                return;
            }
            // hyper's own timeout begins only when it knows the version, and HTTP/2 has none.
            () = tokio::time::sleep(limits.header_timeout) => {
                if asked.swap(false, Ordering::Relaxed) {
                    unread = 0;
                } else {
                    connection.as_mut().graceful_shutdown();
                    // With nobody at work here, what is left to do is the client's: to read.
                    unread = if at_work.is_anybody() { 0 } else { unread + 1 };
                }
                if unread > UNREAD_MAX {
                    debug!(client = %ends.client, "a connection is closed: its client does not read the answers");
                    return;
                }
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn builder(limits: HttpLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.header_timeout)
        .keep_alive_timeout(limits.header_timeout)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32);
    builder
}

/// First pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// Longest one.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Largest head of a request: a token and cookies of other servers on the same host fit in, as with other web servers.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// For how many times [`HttpLimits::header_timeout`] a client may leave an answer unread: a minute is long for a few hundred kilobytes.
const UNREAD_MAX: u32 = 5;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A server of redirects whose addresses may have two connections each, and the places that are left.
    async fn start(stop: &CancellationToken, limits: HttpLimits) -> (SocketAddr, Arc<Semaphore>) {
        let server = Server {
            entrance: Entrance {
                router: redirect::router(Some(443)),
                front: Arc::default(),
                crowding: Crowding::of_everybody(2),
            },
            limits,
            places: Arc::new(Semaphore::new(limits.connections)),
            tls: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, places) = (listener.local_addr().unwrap(), server.places.clone());
        tokio::spawn(server.run(listener, stop.clone()));
        (address, places)
    }

    /// Whether a request on this connection is answered.
    async fn answers(connection: &mut TcpStream) -> bool {
        let sent = connection
            .write_all(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let mut head = Vec::new();
        while sent.is_ok() && !head.ends_with(b"\r\n\r\n") {
            match connection.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        head.starts_with(b"HTTP/1.1 308")
    }

    #[tokio::test]
    async fn an_address_that_has_enough_connections_is_given_no_more_until_one_ends() {
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        let (server, _) = start(&stop, HttpLimits::default()).await;
        let open = async || TcpStream::connect(server).await.unwrap();
        let (mut first, mut second) = (open().await, open().await);
        assert!(answers(&mut first).await && answers(&mut second).await);
        assert!(!answers(&mut open().await).await);
        assert!(answers(&mut first).await, "those that are there stay");
        drop(second);
        // The server learns of it when it next looks at the connection.
        while !answers(&mut open().await).await {
            tokio::task::yield_now().await;
        }
    }
    #[tokio::test]
    async fn who_never_reads_the_answers_does_not_keep_the_place() {
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        let limits = HttpLimits {
            header_timeout: Duration::from_millis(50),
            ..HttpLimits::default()
        };
        let (server, places) = start(&stop, limits).await;
        let mut connection = TcpStream::connect(server).await.unwrap();
        let path = "x".repeat(8_000);
        let request = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        // As many as the server takes: it stops reading when it cannot write, and when it gives up it says so by a reset.
        let asking = async { while connection.write_all(request.as_bytes()).await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(30), asking).await.unwrap();
        let all = limits.connections - 1;
        while places.available_permits() < all {
            tokio::task::yield_now().await;
        }
    }
}
