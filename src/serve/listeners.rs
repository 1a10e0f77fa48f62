//! The listening sockets and the certificate of HTTP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{StartError, reachable};
use crate::config::ServeArgs;
use crate::http::Server;
use crate::tls::Tls;

/// The resources that HTTP needs, acquired before the server accepts connections.
pub(super) struct Listeners {
    listener: TcpListener,
    /// The address of `listener`, with the actual port.
    pub(super) http: SocketAddr,
    /// Plain HTTP to redirect to HTTPS.
    redirect: Option<TcpListener>,
    pub(super) tls: Option<Arc<Tls>>,
}

impl Listeners {
    /// Opens the sockets; `handed_over` replaces the one for HTTP.
    pub(super) async fn open(
        args: &ServeArgs,
        handed_over: Option<std::net::TcpListener>,
        stop: &CancellationToken,
    ) -> Result<Listeners, StartError> {
        let certificate = args.tls_source()?;
        let unusable = |source| StartError::Http {
            address: args.http,
            source,
        };
        let listener = match handed_over {
            Some(listener) => TcpListener::from_std(listener),
            None => listen(args).await,
        };
        let listener = listener.map_err(unusable)?;
        let http = listener.local_addr().map_err(unusable)?;
        let redirect = listen_for_redirects(args).await?;
        let tls = certificate.map(|source| Tls::start(source, stop.clone())).transpose()?;
        Ok(Listeners {
            listener,
            http,
            redirect,
            tls: tls.map(Arc::new),
        })
    }

    /// Starts to accept connections. Returns the plain HTTP address for the demo, if it is enabled.
    pub(super) async fn serve(
        self,
        server: Server,
        demo: bool,
        serving: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Option<SocketAddr>, StartError> {
        let demo_address = match (demo, &self.tls) {
            (false, _) => None,
            (true, None) => Some(reachable(self.http)),
            (true, Some(_)) => Some(serve_the_demo(server.clone(), serving, stop).await?),
        };
        if let Some(listener) = self.redirect {
            let redirecting = server.clone().redirecting(self.http.port());
            serving.spawn(redirecting.run(listener, stop.clone()));
        }
        let server = match self.tls {
            Some(tls) => server.with_tls(tls),
            None => server,
        };
        serving.spawn(server.run(self.listener, stop.clone()));
        Ok(demo_address)
    }
}

/// Listens for HTTP, with or without TLS. With `--lan`, a machine without IPv6 listens on IPv4.
async fn listen(args: &ServeArgs) -> io::Result<TcpListener> {
    let bound = TcpListener::bind(args.http).await;
    match bound {
        Err(error) if args.tls.lan && args.http.ip() == Ipv6Addr::UNSPECIFIED && lacks_the_address(&error) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, args.http.port())).await
        }
        bound => bound,
    }
}

fn lacks_the_address(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, Unsupported};
    // A system without IPv6 lacks the address family, for which the standard library has no error kind.
    matches!(error.kind(), AddrNotAvailable | Unsupported) || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

async fn listen_for_redirects(args: &ServeArgs) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = args.tls.http_redirect else {
        return Ok(None);
    };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(source) => Err(StartError::Redirect { address, source }),
    }
}

/// The demo publishes like any other client, but without TLS: there may be no certificate yet, or none for a name of this machine.
async fn serve_the_demo(
    server: Server,
    serving: &TaskTracker,
    stop: &CancellationToken,
) -> Result<SocketAddr, StartError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = TcpListener::bind(address).await.map_err(StartError::System)?;
    let address = listener.local_addr().map_err(StartError::System)?;
    serving.spawn(server.run(listener, stop.clone()));
    Ok(address)
}
