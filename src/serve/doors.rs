//! The sockets and the certificate of HTTP.

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

/// Everything that HTTP needs of the system, had before anybody is let in.
pub(super) struct Doors {
    listener: TcpListener,
    /// Where that listens, with the real port.
    pub(super) http: SocketAddr,
    /// For those who come without TLS, to be sent on.
    in_the_clear: Option<TcpListener>,
    pub(super) tls: Option<Arc<Tls>>,
}

impl Doors {
    /// Takes the listener for HTTP that is `handed_over`, if one is.
    pub(super) async fn open(
        args: &ServeArgs,
        handed_over: Option<std::net::TcpListener>,
        stop: &CancellationToken,
    ) -> Result<Doors, StartError> {
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
        let in_the_clear = listen_in_the_clear(args).await?;
        let tls = certificate.map(|source| Tls::start(source, stop.clone())).transpose()?;
        Ok(Doors {
            listener,
            http,
            in_the_clear,
            tls: tls.map(Arc::new),
        })
    }

    /// Lets everybody in. Returns where the demo publishes, in the clear, if there is to be one.
    pub(super) async fn serve(
        self,
        server: Server,
        demo: bool,
        serving: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Option<SocketAddr>, StartError> {
        let for_the_demo = match (demo, &self.tls) {
            (false, _) => None,
            (true, None) => Some(reachable(self.http)),
            (true, Some(_)) => Some(serve_the_demo(server.clone(), serving, stop).await?),
        };
        if let Some(listener) = self.in_the_clear {
            let redirecting = server.clone().redirecting(self.http.port());
            serving.spawn(redirecting.run(listener, stop.clone()));
        }
        let server = match self.tls {
            Some(tls) => server.with_tls(tls),
            None => server,
        };
        serving.spawn(server.run(self.listener, stop.clone()));
        Ok(for_the_demo)
    }
}

/// Listens for HTTP, with TLS or without. `--lan` takes a machine without IPv6 as it is.
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
    // A system that was started without IPv6 has no such family, and the standard library no name for that.
    matches!(error.kind(), AddrNotAvailable | Unsupported) || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

async fn listen_in_the_clear(args: &ServeArgs) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = args.tls.http_redirect else {
        return Ok(None);
    };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(source) => Err(StartError::Redirect { address, source }),
    }
}

/// The demo publishes like any other client, but needs no certificate: there may be none yet, or none for a name of this machine.
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
