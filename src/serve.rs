//! `onecast serve`: starts the server, prints its addresses, and stops it on a signal.

mod listeners;
mod signals;
mod systemd;

use std::fmt::Display;
use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use self::listeners::Listeners;
use crate::auth::{self, Authority, SetupError};
use crate::banner::{Access, Facts, Https, OwnTokens, banner, phone_link};
use crate::config::{IceArgsError, LogFormat, ServeArgs, Sources, TlsConflict};
use crate::http::feeds::Feeds;
use crate::http::{HttpLimits, Pages, Server, Serving};
use crate::tls::{Tls, TlsError};
use onecast_control::StreamName;
use onecast_udp::interfaces::outward_address;
use onecast_udp::resources::{self, ResourcesError};
use signals::Signals;
pub use systemd::SocketActivationError;
use systemd::Watchdog;

/// The media side of the server, behind HTTP.
pub trait MediaServer: Feeds {
    /// The address that receives media.
    fn media_address(&self) -> SocketAddr;

    /// The candidates for a client that has connected to `local`, best first.
    fn candidates(&self, local: SocketAddr, client: SocketAddr) -> Vec<SocketAddr>;

    /// Applies the options that may change at run time: the limits of streams and sessions.
    fn reload(&self, args: &ServeArgs);

    /// Closes every peer and waits for the media threads, at most for `limit`. True if all of them have ended.
    fn shutdown(&self, limit: Duration) -> impl Future<Output = bool> + Send;
}

/// Why the server did not start: one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log cannot be set up.
    #[error("RUST_LOG is invalid: {0}; use for instance RUST_LOG=debug or RUST_LOG=onecast=debug")]
    Log(String),
    /// The runtime or the signal handlers cannot be set up.
    #[error("cannot set up the runtime: {0}")]
    System(#[source] io::Error),
    /// The system grants too few resources.
    #[error(transparent)]
    Resources(#[from] ResourcesError),
    /// The sockets from systemd cannot be used.
    #[error(transparent)]
    SocketActivation(#[from] SocketActivationError),
    /// Authorization cannot be set up.
    #[error("{0}")]
    Auth(#[from] SetupError),
    /// The address for HTTP cannot be used.
    #[error("{}", cannot_listen("--http", "TCP", *address, source))]
    Http {
        /// As configured.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The address for redirects to HTTPS cannot be used.
    #[error("{}", cannot_listen("--http-redirect", "TCP", *address, source))]
    Redirect {
        /// As configured.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// HTTPS options contradict each other.
    #[error(transparent)]
    Options(#[from] TlsConflict),
    /// The certificate cannot be loaded or generated.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address for media cannot be used.
    #[error("{}", cannot_listen("--udp", "UDP", *address, source))]
    Media {
        /// As configured.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The STUN and TURN options are invalid.
    #[error(transparent)]
    IceServers(#[from] IceArgsError),
}

/// Runs the server until SIGINT or SIGTERM.
///
/// `start` starts the media side inside the runtime; with `--demo`, `demo` publishes a test card to the WHIP URL with the token.
///
/// # Errors
/// When the server cannot start. Once started, only a signal ends it.
pub fn run<M, D>(
    args: &ServeArgs,
    sources: Sources,
    start: impl FnOnce(&ServeArgs) -> io::Result<M>,
    demo: impl FnOnce(String, String) -> D,
) -> Result<(), StartError>
where
    M: MediaServer,
    D: Future<Output = ()> + Send + 'static,
{
    start_log(args.log_format)?;
    let handed_over = systemd::activated_listener()?;
    let drains = !args.limits.drain_timeout.is_zero();
    let signals = Signals::listen(drains).map_err(StartError::System)?;
    let threads = args.shards() + SIGNALLING_THREADS + OTHER_THREADS;
    resources::check(threads, args.shards() * MIB_PER_SHARD + OTHER_MIB)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(SIGNALLING_THREADS)
        .enable_all()
        .build()
        .map_err(StartError::System)?;
    let result = runtime.block_on(serve(args, sources, start, demo, handed_over, signals));
    runtime.shutdown_timeout(Duration::ZERO);
    result
}

async fn serve<M, D>(
    args: &ServeArgs,
    mut sources: Sources,
    start: impl FnOnce(&ServeArgs) -> io::Result<M>,
    demo: impl FnOnce(String, String) -> D,
    handed_over: Option<std::net::TcpListener>,
    signals: Signals,
) -> Result<(), StartError>
where
    M: MediaServer,
    D: Future<Output = ()> + Send + 'static,
{
    raise_open_files();
    let ice_servers = args.ice.servers()?;
    let stop = CancellationToken::new();
    let listeners = Listeners::open(args, handed_over, &stop).await?;
    let (http, tls) = (listeners.http, listeners.tls.clone());
    let media = start(args).map_err(|source| not_started(args.udp, source))?;
    let media = Arc::new(media);

    let mut entry = auth::open(&args.auth, args.is_local(http), args.state_dir().as_deref())?;
    if let Some(why) = &entry.warning {
        warn!("the tokens in the links are valid for this run only: {why}");
    }
    let proxy = args.proxy.reverse_proxy(entry.is_decided(&args.auth));
    let demo_token = entry.authority.make_own(StreamName::demo());
    let pages = args.html_dir.clone().map_or_else(Pages::built_in, Pages::directory);
    let authority = Arc::new(entry.authority);
    let server = Server::new(
        Serving {
            authority: authority.clone(),
            ice_servers: Arc::new(ice_servers),
            strict_etags: args.strict_etags,
            proxy,
            ..Serving::open(media.clone(), pages)
        },
        HttpLimits::default(),
    );
    let serving = TaskTracker::new();
    let demo_address = listeners.serve(server, args.demo, &serving, &stop).await?;
    let access = Access {
        mode: entry.mode,
        private: entry.private,
        tokens: OwnTokens::for_output(
            entry.generated.as_ref(),
            entry.kept.as_deref(),
            io::stdout().is_terminal(),
        ),
    };
    announce(http, media.as_ref(), args, tls.as_deref(), access);
    let demo = demo_address.map(|address| {
        let url = format!("http://{address}/whip/demo");
        tokio::spawn(demo(url, demo_token.expose().to_owned()))
    });

    systemd::notify_ready();
    let own = demo.as_ref().map(|_| StreamName::demo());
    let reload = || {
        systemd::notify_reloading();
        reload(&mut sources, media.as_ref(), &authority);
        if let Some(tls) = &tls {
            tls.reload();
        }
        systemd::notify_reloaded();
    };
    signals
        .wait_for_shutdown(
            media.operation(),
            own.as_ref(),
            Watchdog::from_env(),
            systemd::notify_draining,
            reload,
        )
        .await;
    info!("stopping");
    systemd::notify_stopping();
    stop.cancel();
    serving.close();
    let ended = tokio::time::timeout(STOP_LIMIT, serving.wait());
    let (ended, closed) = tokio::join!(ended, media.shutdown(STOP_LIMIT));
    if let Some(demo) = demo {
        demo.abort();
    }
    if ended.is_err() || !closed {
        warn!(
            "not everything ended within {} s; stopping anyway",
            STOP_LIMIT.as_secs()
        );
    }
    info!("stopped");
    Ok(())
}

/// Raises the limit of open files: every connection is one, and the default limit is often 1,024.
fn raise_open_files() {
    let wanted = HttpLimits::default().connections as u64 + OTHER_FILES;
    match onecast_udp::raise_open_files(wanted) {
        Ok(Some(limit)) if limit < wanted => warn!(
            "this process may have {limit} open files, but its limit of HTTP connections needs {wanted} (ulimit -n {wanted})"
        ),
        Ok(_) => {}
        Err(error) => warn!(%error, "cannot raise the limit of open files"),
    }
}

/// Prints the addresses of the server, on stdout for people and in the log for programs.
fn announce(http: SocketAddr, media: &impl MediaServer, args: &ServeArgs, tls: Option<&Tls>, access: Access<'_>) {
    let here = reachable(http);
    let announced: Vec<IpAddr> = media.candidates(here, here).iter().map(SocketAddr::ip).collect();
    let phone = args
        .tls
        .lan
        .then(|| phone_link(in_the_lan(http, &announced), tls.is_some(), access));
    let facts = Facts {
        http,
        media: media.media_address(),
        announced: &announced,
        demo: args.demo,
        https: tls.map(|tls| Https {
            made: tls.generated(),
            domain: args.tls.acme.first().map(String::as_str),
        }),
        phone: phone.as_deref(),
        base_path: args.proxy.base_path.as_str(),
        columns: terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0.into()),
        access,
    };
    // The parent process may have closed stdout, which is no reason to stop.
    let _ = io::stdout().write_all(banner(&facts).as_bytes());
    let _ = io::stdout().flush();
    info!("listening http={http} udp={}", facts.media);
}

/// The address at which other machines in the LAN reach a listener on `address`.
fn in_the_lan(address: SocketAddr, announced: &[IpAddr]) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    let others = announced.iter().copied().find(|ip| !ip.is_loopback());
    let ip = outward_address().or(others).unwrap_or(Ipv4Addr::LOCALHOST.into());
    SocketAddr::new(ip, address.port())
}

/// An address at which this machine itself reaches a listener on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Starts the log on stderr: by default INFO of this program and warnings of its libraries, otherwise as `RUST_LOG` says.
fn start_log(format: LogFormat) -> Result<(), StartError> {
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV)
        .ok()
        .filter(|text| !text.trim().is_empty());
    let filter = EnvFilter::builder()
        .parse(log_directives(wanted.as_deref()))
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

/// The log filter: `wanted` without needless warnings of libraries. A level of DEBUG or below for everything, or an entry for a library,
/// includes those as well.
fn log_directives(wanted: Option<&str>) -> String {
    let wanted = wanted.unwrap_or(DEFAULT_LOG);
    let of_all = wanted
        .split(',')
        .filter_map(|part| part.trim().parse::<LevelFilter>().ok());
    if of_all.max().is_some_and(|level| level > LevelFilter::INFO) {
        wanted.to_owned()
    } else {
        format!("{QUIET_LIBRARIES},{wanted}")
    }
}

/// Reloads the options, applies those that may change at run time, and logs which need a restart.
fn reload(sources: &mut Sources, media: &impl MediaServer, authority: &Authority) {
    let (args, changed) = match sources.reload() {
        Ok(reloaded) => reloaded,
        Err(error) => return warn!("the configuration is unchanged: {error}"),
    };
    media.reload(&args);
    let tokens = authority.reload(&args.auth);
    if let Err(error) = &tokens {
        warn!("the tokens and keys are unchanged: {error}");
    }
    let is_taken = |name: &String| RELOADED.contains(&name.as_str()) && (tokens.is_ok() || name != "[[token]]");
    let (taken, later): (Vec<String>, Vec<String>) = changed.into_iter().partition(is_taken);
    if taken.is_empty() && later.is_empty() {
        info!("configuration reloaded; nothing has changed");
    }
    if !taken.is_empty() {
        info!("configuration reloaded; changed: {}", taken.join(", "));
    }
    if !later.is_empty() {
        warn!("these options need a restart to change: {}", later.join(", "));
    }
}

fn not_started(udp: SocketAddr, error: io::Error) -> StartError {
    match error.downcast::<ResourcesError>() {
        Ok(error) => error.into(),
        Err(source) => StartError::Media { address: udp, source },
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
            "{} is not an address of this machine; to listen on all addresses: onecast {option} 0.0.0.0:{port}",
            address.ip()
        ),
        io::ErrorKind::PermissionDenied => format!(
            "this user may not use {transport} port {port}; allow it (setcap cap_net_bind_service=+ep on the \
             program, or AmbientCapabilities=CAP_NET_BIND_SERVICE in its systemd unit), or choose a port above 1023: \
             onecast {option} {}",
            SocketAddr::new(address.ip(), 8080)
        ),
        _ => format!("cannot listen on {address} ({option}): {error}"),
    }
}

/// Open files besides connections: media sockets, the log, pages from a directory, files of libraries.
const OTHER_FILES: u64 = 1_000;
/// Options that a reload applies. Running sessions are not affected.
const RELOADED: [&str; 13] = [
    "[[token]]",
    "max-streams",
    "max-viewers",
    "max-viewers-per-stream",
    "joins-per-second",
    "joins-per-address",
    "half-open-max",
    "half-open-per-address",
    "max-publish-bitrate",
    "max-session-time",
    "publisher-idle-timeout",
    "viewer-idle-timeout",
    "layers-max-height",
];
/// INFO of this program, and warnings of its libraries.
const DEFAULT_LOG: &str = "warn,onecast=info";
/// Libraries with needless warnings. The DTLS crate warns three times per browser handshake, about TLS 1.3 extensions that it correctly
/// ignores; rustls warns about every odd handshake of a client.
const QUIET_LIBRARIES: &str = "rtc_dtls=error,rustls=error";
/// Signalling takes a few hundred microseconds per viewer, most of it on the media threads.
const SIGNALLING_THREADS: usize = 2;
/// Threads for blocking work, such as name resolution and files. The runtime needs at least one.
const OTHER_THREADS: usize = 1;
/// Initial memory of a media thread: its queues of incoming and outgoing datagrams.
const MIB_PER_SHARD: usize = 4;
/// Initial memory of everything else: pages, certificates, HTTP.
const OTHER_MIB: usize = 32;
/// The server promises to stop within 5 s; the remaining second is for what it cannot wait for.
const STOP_LIMIT: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needless_warnings_of_libraries_are_hidden_by_default() {
        for wanted in [None, Some("info"), Some("onecast=debug"), Some("warn,onecast=trace")] {
            let directives = log_directives(wanted);
            assert!(directives.starts_with("rtc_dtls=error,"), "{directives}");
            EnvFilter::builder().parse(directives).unwrap();
        }
        assert_eq!(log_directives(Some("debug")), "debug");
        assert_eq!(log_directives(Some("onecast=info,trace")), "onecast=info,trace");
        let filter = EnvFilter::builder()
            .parse(log_directives(Some("info,rtc_dtls=debug")))
            .unwrap();
        assert!(
            filter.to_string().contains("rtc_dtls=debug"),
            "explicit directives come last"
        );
    }

    fn line(kind: io::ErrorKind, address: &str) -> String {
        let address = address.parse().unwrap();
        StartError::Http {
            address,
            source: kind.into(),
        }
        .to_string()
    }

    #[test]
    fn an_unusable_address_is_reported_in_one_line_with_a_remedy() {
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
    fn a_listener_on_all_addresses_is_reachable_on_loopback() {
        for (address, here) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(reachable(address.parse().unwrap()), here.parse::<SocketAddr>().unwrap());
        }
    }
}
