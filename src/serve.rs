//! `onecast serve`: starts everything, tells where it is, and stops it when asked to.

use std::fmt::Display;
use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::auth::{self, SetupError};
use crate::banner::{Entry, Facts, banner};
use crate::config::{LogFormat, ServeArgs};
use crate::http::{HttpLimits, Pages, Server, Service, Serving};
use crate::room::StreamName;

/// What runs behind HTTP.
pub trait MediaServer: Service {
    /// Where media is received.
    fn media_address(&self) -> SocketAddr;

    /// What a client that reached us on `local` is told to send media to, best first.
    fn candidates(&self, local: SocketAddr, client: SocketAddr) -> Vec<SocketAddr>;

    /// Closes every peer and waits for the media threads, but no longer than `limit`. True when all have ended.
    fn shutdown(&self, limit: Duration) -> impl Future<Output = bool> + Send;
}

/// Why the server did not start: one line for the user.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log cannot be set up.
    #[error("RUST_LOG cannot be understood: {0}; use for instance RUST_LOG=debug or RUST_LOG=onecast=debug")]
    Log(String),
    /// The runtime or the signal handlers cannot be set up.
    #[error("the system refuses what the server needs: {0}")]
    System(#[source] io::Error),
    /// It cannot be set up who may do what.
    #[error("{0}")]
    Auth(#[from] SetupError),
    /// The address for HTTP cannot be used.
    #[error("{}", cannot_listen("--http", "TCP", *address, source))]
    Http {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The address for media cannot be used.
    #[error("{}", cannot_listen("--udp", "UDP", *address, source))]
    Media {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs the server until SIGINT or SIGTERM.
///
/// `start` starts the media side inside the runtime; `demo` publishes a test card to the WHIP URL with the token that it is given, if
/// the options ask for it.
///
/// # Errors
/// When something that was asked for cannot be had. Once the server has started, nothing ends it but a signal.
pub fn run<M, D>(
    args: &ServeArgs,
    start: impl FnOnce(&ServeArgs) -> io::Result<M>,
    demo: impl FnOnce(String, String) -> D,
) -> Result<(), StartError>
where
    M: MediaServer,
    D: Future<Output = ()> + Send + 'static,
{
    start_log(args.log_format)?;
    let asked_to_stop = stop_flag().map_err(StartError::System)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(SIGNALLING_THREADS)
        .enable_all()
        .build()
        .map_err(StartError::System)?;
    let result = runtime.block_on(serve(args, start, demo, asked_to_stop));
    runtime.shutdown_timeout(Duration::ZERO);
    result
}

async fn serve<M, D>(
    args: &ServeArgs,
    start: impl FnOnce(&ServeArgs) -> io::Result<M>,
    demo: impl FnOnce(String, String) -> D,
    asked_to_stop: Arc<AtomicBool>,
) -> Result<(), StartError>
where
    M: MediaServer,
    D: Future<Output = ()> + Send + 'static,
{
    let unusable_http = |source| StartError::Http {
        address: args.http,
        source,
    };
    let listener = TcpListener::bind(args.http).await.map_err(unusable_http)?;
    let http = listener.local_addr().map_err(unusable_http)?;
    let media = start(args).map_err(|source| StartError::Media {
        address: args.udp,
        source,
    })?;
    let media = Arc::new(media);

    let mut entry = auth::open(
        &args.auth,
        http.ip().to_canonical().is_loopback(),
        args.state_dir().as_deref(),
    )?;
    if let Some(why) = &entry.warning {
        warn!("the tokens in the links are for this run only: {why}");
    }
    let demo_token = entry.authority.make_own(StreamName::demo());
    let pages = args.html_dir.clone().map_or_else(Pages::built_in, Pages::directory);
    let stop = CancellationToken::new();
    let serving = Serving {
        authority: Arc::new(entry.authority),
        ..Serving::open(media.clone(), pages)
    };
    let server = Server::new(serving, HttpLimits::default());
    let serving = tokio::spawn(server.run(listener, stop.clone()));
    let entry = Entry {
        mode: entry.mode,
        private: entry.private,
        made: entry.made.as_ref(),
    };
    announce(http, media.as_ref(), args.demo, entry);
    let demo = args.demo.then(|| {
        tokio::spawn(demo(
            format!("http://{}/whip/demo", reachable(http)),
            demo_token.tell().to_owned(),
        ))
    });

    signalled(&asked_to_stop).await;
    info!("stopping");
    stop.cancel();
    let ended = tokio::time::timeout(STOP_LIMIT, serving);
    let (ended, closed) = tokio::join!(ended, media.shutdown(STOP_LIMIT));
    if let Some(demo) = demo {
        demo.abort();
    }
    if ended.is_err() || !closed {
        warn!("not everything ended within {} s; leaving anyway", STOP_LIMIT.as_secs());
    }
    info!("stopped");
    Ok(())
}

/// Tells on stdout where people find the server, and in the log where programs do.
fn announce(http: SocketAddr, media: &impl MediaServer, demo: bool, entry: Entry<'_>) {
    let here = reachable(http);
    let announced: Vec<IpAddr> = media.candidates(here, here).iter().map(SocketAddr::ip).collect();
    let facts = Facts {
        http,
        media: media.media_address(),
        announced: &announced,
        demo,
        entry,
    };
    // Whoever starts us may have closed stdout; that is no reason not to serve.
    let _ = io::stdout().write_all(banner(&facts).as_bytes());
    let _ = io::stdout().flush();
    info!("listening http={http} udp={}", facts.media);
}

/// An address on which this machine itself reaches what listens on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Starts the log on stderr: what this program does at INFO, its libraries' warnings, or what `RUST_LOG` says.
fn start_log(format: LogFormat) -> Result<(), StartError> {
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV)
        .ok()
        .filter(|text| !text.trim().is_empty());
    let filter = EnvFilter::builder()
        .parse(wanted.as_deref().unwrap_or(DEFAULT_LOG))
        .map_err(|error| StartError::Log(error.to_string()))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let started = match format {
        LogFormat::Human => log
            .compact()
            .with_target(false)
            .with_ansi(io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| StartError::Log(error.to_string()))
}

/// A flag that the first SIGINT or SIGTERM sets; the second one ends the process on the spot.
fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // Registered first, runs first: it sees the flag only when an earlier signal has set it.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, flag.clone())?;
        signal_hook::flag::register(signal, flag.clone())?;
    }
    Ok(flag)
}

/// Returns when the flag is set. A handler can do little but set one, on every system; so it is looked at.
async fn signalled(flag: &AtomicBool) {
    while !flag.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn cannot_listen(option: &str, transport: &str, address: SocketAddr, error: &io::Error) -> impl Display + use<> {
    let port = address.port();
    let other_port = SocketAddr::new(address.ip(), if port < u16::MAX - 1 { port + 1 } else { 8080 });
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{transport} port {port} is in use by another program; stop it, or choose another port: \
             onecast {option} {other_port}"
        ),
        io::ErrorKind::AddrNotAvailable => format!(
            "{} is not an address of this machine; for all its addresses: onecast {option} 0.0.0.0:{port}",
            address.ip()
        ),
        io::ErrorKind::PermissionDenied => format!(
            "the system does not let this user have {transport} port {port}; choose one above 1023: \
             onecast {option} {}",
            SocketAddr::new(address.ip(), 8080)
        ),
        _ => format!("cannot listen on {address} ({option}): {error}"),
    }
}

/// What this program does, and the warnings of its libraries. Not those of the DTLS crate: it warns three times a flight of every
/// browser's handshake about TLS 1.3 extensions that it rightly passes over.
const DEFAULT_LOG: &str = "warn,onecast=info,rtc_dtls=error";
/// Signalling is a few hundred microseconds a viewer, most of it the media threads'.
const SIGNALLING_THREADS: usize = 2;
/// The promise is to leave within 5 s; the rest is for what cannot be waited for.
const STOP_LIMIT: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: io::ErrorKind, address: &str) -> String {
        let address = address.parse().unwrap();
        StartError::Http {
            address,
            source: kind.into(),
        }
        .to_string()
    }

    #[test]
    fn an_unusable_address_is_one_line_that_says_what_to_do() {
        let in_use = line(io::ErrorKind::AddrInUse, "127.0.0.1:8080");
        assert!(in_use.contains("TCP port 8080 is in use") && in_use.ends_with("onecast --http 127.0.0.1:8081"));
        let foreign = line(io::ErrorKind::AddrNotAvailable, "192.0.2.1:8080");
        assert!(foreign.starts_with("192.0.2.1 is not an address of this machine"));
        let forbidden = line(io::ErrorKind::PermissionDenied, "[::]:80");
        assert!(forbidden.contains("port 80;") && forbidden.ends_with("onecast --http [::]:8080"));
        for text in [
            in_use,
            foreign,
            forbidden,
            line(io::ErrorKind::Other, "127.0.0.1:65535"),
        ] {
            assert_eq!(text.lines().count(), 1);
        }
    }

    #[test]
    fn what_listens_everywhere_is_reached_on_loopback() {
        for (address, here) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(reachable(address.parse().unwrap()), here.parse::<SocketAddr>().unwrap());
        }
    }
}
