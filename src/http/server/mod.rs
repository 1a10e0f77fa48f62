//! Accepts connections, with TLS if there is a certificate, and serves HTTP/1.1 and HTTP/2 (in the clear with prior knowledge).

pub(super) mod base_path;
pub(super) mod connection;
pub(super) mod forwarded;
pub(super) mod per_ip_limit;
pub(super) mod redirect;
pub(super) mod request_permit;
pub(super) mod reverse_proxy;
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
use crate::http::feeds::Feeds;
use crate::http::router::router;
use crate::http::server::connection::{ActiveRequests, Connection, Stop, Upgrades};
use crate::http::server::per_ip_limit::PerIpLimit;
use crate::http::server::reverse_proxy::{RequestHandler, ReverseProxy};
use crate::http::static_files::Pages;
use crate::tls::{AcceptedStream, Tls};
use crate::turn::IceServers;

/// Limits of the HTTP server.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Concurrent connections. Further ones wait in the backlog of the listening socket.
    pub connections: usize,
    /// Concurrent connections per address (per /64 for IPv6); further ones are closed. The same number limits the long requests of an
    /// address, and the concurrent requests that trusted proxies forward for one client. Loopback addresses have no limit, and trusted
    /// proxies none on connections.
    pub connections_per_address: usize,
    /// Longest TLS handshake.
    pub handshake_timeout: Duration,
    /// Longest time for the headers of a request, and longest idle time of a connection.
    pub header_timeout: Duration,
    /// Longest time for the body of a request.
    pub body_timeout: Duration,
    /// Interval of the pings on a WebSocket. A client that stays silent for three intervals is disconnected.
    pub socket_ping: Duration,
}

impl Default for HttpLimits {
    /// Signalling is short: 10 000 connections allow a burst of that many viewers, and any link that can carry media transfers a few
    /// kilobytes within 10 s.
    fn default() -> HttpLimits {
        let timeout = Duration::from_secs(10);
        HttpLimits {
            connections: 10_000,
            // Enough for a large office or the gateway of a mobile carrier; one address takes at most a tenth.
            connections_per_address: 1_000,
            handshake_timeout: timeout,
            header_timeout: timeout,
            body_timeout: timeout,
            // Proxies close connections that are silent for 30 s or more.
            socket_ping: Duration::from_secs(15),
        }
    }
}

impl HttpLimits {
    /// Concurrent long requests (event streams, long polls and WebSockets): half of the connections stay free for joining clients.
    pub(crate) fn long_requests(&self) -> usize {
        self.connections / 2
    }
}

/// What the server serves.
pub struct Serving {
    /// The service behind HTTP.
    pub service: Arc<dyn Feeds>,
    /// Decides which requests are allowed.
    pub authority: Arc<Authority>,
    /// The pages.
    pub pages: Pages,
    /// `Link` header values that every WHIP and WHEP endpoint and every new session carries.
    pub links: Vec<HeaderValue>,
    /// STUN and TURN servers for authorized clients.
    pub ice_servers: Arc<IceServers>,
    /// Refuses every PATCH without `If-Match`, as RFC 9725 requires.
    pub strict_etags: bool,
    /// Proxies in front of the server, and the path below which they serve it.
    pub proxy: ReverseProxy,
}

impl Serving {
    /// A configuration that allows everything.
    pub fn open(service: Arc<dyn Feeds>, pages: Pages) -> Serving {
        Serving {
            service,
            authority: Arc::new(Authority::off()),
            pages,
            links: Vec::new(),
            ice_servers: Arc::default(),
            strict_etags: false,
            proxy: ReverseProxy::default(),
        }
    }
}

/// The HTTP server. Its clones share the limits on connections.
#[derive(Clone)]
pub struct Server {
    handler: RequestHandler,
    limits: HttpLimits,
    slots: Arc<Semaphore>,
    tls: Option<Arc<Tls>>,
}

impl Server {
    /// A server of `serving`.
    pub fn new(serving: Serving, limits: HttpLimits) -> Server {
        let proxy = Arc::new(serving.proxy.clone());
        Server {
            handler: RequestHandler {
                router: router(serving, limits),
                proxy,
                per_ip: PerIpLimit::new(limits.connections_per_address),
            },
            limits,
            slots: Arc::new(Semaphore::new(limits.connections)),
            tls: None,
        }
    }

    /// The same behind TLS. Plain HTTP is redirected to HTTPS.
    pub fn with_tls(self, tls: Arc<Tls>) -> Server {
        Server { tls: Some(tls), ..self }
    }

    /// A server without TLS that redirects every request to HTTPS on `port`.
    pub fn redirecting(self, port: u16) -> Server {
        Server {
            handler: self.handler.to(redirect::router(Some(port))),
            tls: None,
            ..self
        }
    }

    /// Serves `listener` until `stop` is cancelled, then lets requests that have begun finish.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let connections = TaskTracker::new();
        loop {
            let next = async {
                let permit = self
                    .slots
                    .clone()
                    .acquire_owned()
                    .await
                    .expect("the semaphore is never closed");
                (accept(&listener).await, permit)
            };
            let Some(((stream, client), permit)) = stop.run_until_cancelled(next).await else {
                break;
            };
            let Some(taken) = self.handler.take_connection(client.ip()) else {
                // A response would cost what the limit saves, above all a TLS handshake.
                debug!(%client, "connection closed: too many connections from this address");
                continue;
            };
            let serving = self.clone().serve_connection(stream, client, stop.clone());
            connections.spawn(async move {
                serving.await;
                drop((permit, taken));
            });
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }

    /// Accepts TLS if configured, and serves the connection until it ends. A slow handshake occupies only its own slot.
    async fn serve_connection(self, stream: TcpStream, client: SocketAddr, stop: CancellationToken) {
        let Ok(local) = stream.local_addr() else { return };
        // Responses are small, and clients wait for them.
        let _ = stream.set_nodelay(true);
        let ends = Connection::new(client, local);
        let Some(tls) = &self.tls else {
            return serve(stream, ends, self.handler, self.limits, stop).await;
        };
        let opening = tokio::time::timeout(self.limits.handshake_timeout, tls.accept(stream));
        match stop.run_until_cancelled(opening).await {
            Some(Ok(Ok(AcceptedStream::Tls(stream)))) => serve(*stream, ends, self.handler, self.limits, stop).await,
            Some(Ok(Ok(AcceptedStream::Plain(stream)))) => {
                let handler = self.handler.to(redirect::router(None));
                serve(stream, ends, handler, self.limits, stop).await;
            }
            Some(Ok(Ok(AcceptedStream::Challenge))) => debug!(%client, "answered a challenge of the ACME directory"),
            Some(Ok(Err(error))) => debug!(%client, "connection failed: {error}"),
            Some(Err(_)) => debug!(%client, "connection failed: the TLS handshake timed out"),
            None => {}
        }
    }
}

/// Waits for the next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut pause = ACCEPT_PAUSE;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_about_one_connection(&error) => {
                debug!(%error, "a connection ended before it was accepted")
            }
            Err(error) => {
                // Usually too many open files, which passes as connections end.
                warn!(%error, "cannot accept connections; trying again in {} ms", pause.as_millis());
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

/// Serves one connection until it ends, including the WebSocket that it may become.
async fn serve<S>(stream: S, ends: Connection, handler: RequestHandler, limits: HttpLimits, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let upgrades = Upgrades::default();
    serve_http(stream, ends, handler, limits, stop, upgrades.clone()).await;
    upgrades.ended().await;
}

async fn serve_http<S>(
    stream: S,
    ends: Connection,
    handler: RequestHandler,
    limits: HttpLimits,
    stop: CancellationToken,
    upgrades: Upgrades,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    let active = ActiveRequests::default();
    let (noting, working) = (asked.clone(), active.clone());
    let stopped = Stop(stop.clone());
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        noting.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(stopped.clone());
        request.extensions_mut().insert(working.clone());
        request.extensions_mut().insert(upgrades.clone());
        let (answer, working) = (handler.clone().answer(request.map(Body::new), ends), working.clone());
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
                    debug!(client = %ends.client, %error, "HTTP connection failed");
                }
                return;
            }
            // hyper's own timeout starts only when it knows the HTTP version, and HTTP/2 has none.
            () = tokio::time::sleep(limits.header_timeout) => {
                if asked.swap(false, Ordering::Relaxed) {
                    unread = 0;
                } else {
                    connection.as_mut().graceful_shutdown();
                    // If no handler is active, the connection is waiting for the client to read.
                    unread = if active.is_any() { 0 } else { unread + 1 };
                }
                if unread > UNREAD_MAX {
                    debug!(client = %ends.client, "connection closed: the client does not read the responses");
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

/// Pause after the first failed accept; it doubles with each further failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// Longest pause after a failed accept.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Largest headers of a request: enough for a token and for cookies of other servers on the same host, as with other web servers.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// How many times [`HttpLimits::header_timeout`] a client may leave a response unread: a minute is long for a few hundred kilobytes.
const UNREAD_MAX: u32 = 5;
/// Concurrent requests on one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A server of redirects whose addresses may have two connections each, and the slots that are left.
    async fn start(stop: &CancellationToken, limits: HttpLimits) -> (SocketAddr, Arc<Semaphore>) {
        let server = Server {
            handler: RequestHandler {
                router: redirect::router(Some(443)),
                proxy: Arc::default(),
                per_ip: PerIpLimit::including_loopback(2),
            },
            limits,
            slots: Arc::new(Semaphore::new(limits.connections)),
            tls: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, slots) = (listener.local_addr().unwrap(), server.slots.clone());
        tokio::spawn(server.run(listener, stop.clone()));
        (address, slots)
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
    async fn an_address_at_its_limit_gets_no_connection_until_one_ends() {
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        let (server, _) = start(&stop, HttpLimits::default()).await;
        let open = async || TcpStream::connect(server).await.unwrap();
        let (mut first, mut second) = (open().await, open().await);
        assert!(answers(&mut first).await && answers(&mut second).await);
        assert!(!answers(&mut open().await).await);
        assert!(answers(&mut first).await, "open connections stay");
        drop(second);
        // The server notices when it next polls the connection.
        while !answers(&mut open().await).await {
            tokio::task::yield_now().await;
        }
    }
    #[tokio::test]
    async fn a_client_that_never_reads_loses_its_slot() {
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        let limits = HttpLimits {
            header_timeout: Duration::from_millis(50),
            ..HttpLimits::default()
        };
        let (server, slots) = start(&stop, limits).await;
        let mut connection = TcpStream::connect(server).await.unwrap();
        let path = "x".repeat(8_000);
        let request = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        // As many as the server takes: it stops reading when it cannot write, and when it gives up it says so by a reset.
        let asking = async { while connection.write_all(request.as_bytes()).await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(30), asking).await.unwrap();
        let all = limits.connections - 1;
        while slots.available_permits() < all {
            tokio::task::yield_now().await;
        }
    }
}
