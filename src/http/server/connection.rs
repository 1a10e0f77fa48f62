//! The two ends of the connection that carried a request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Put into every request by the server's accept loop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connection {
    /// The other end.
    pub(crate) client: SocketAddr,
    /// Our end.
    pub(crate) local: SocketAddr,
}

impl Connection {
    /// Writes IPv4-mapped addresses as IPv4, which is what clients can use.
    pub(crate) fn new(client: SocketAddr, local: SocketAddr) -> Connection {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Connection {
            client: canonical(client),
            local: canonical(local),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Connection {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Connection, Infallible> {
        Ok(*parts
            .extensions
            .get()
            .expect("the accept loop puts it into every request"))
    }
}

/// Cancelled when the server is asked to stop: what would last until its client leaves ends then. Put into every request, too.
#[derive(Debug, Clone)]
pub(crate) struct Stop(pub(crate) CancellationToken);

impl<S: Sync> FromRequestParts<S> for Stop {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Stop, Infallible> {
        let stop = parts.extensions.get::<Stop>();
        Ok(stop.expect("the accept loop puts it into every request").clone())
    }
}

/// Its clones are held by what is still being done for a connection, whether its client reads or not. Put into every request, too.
#[derive(Debug, Clone, Default)]
pub(crate) struct AtWork(Arc<()>);

impl AtWork {
    /// Whether anybody is; the connection itself has two.
    pub(crate) fn is_anybody(&self) -> bool {
        Arc::strong_count(&self.0) > 2
    }
}

impl<S: Sync> FromRequestParts<S> for AtWork {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<AtWork, Infallible> {
        let at_work = parts.extensions.get::<AtWork>();
        Ok(at_work.expect("the accept loop puts it into every request").clone())
    }
}

/// What goes on with a connection after HTTP has ended on it: a WebSocket. Its place is taken until then. Put into every request, too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upgrades(TaskTracker);

impl Upgrades {
    /// Held by what goes on.
    pub(crate) fn begin(&self) -> TaskTrackerToken {
        self.0.token()
    }

    /// Waits until nothing does any more.
    pub(crate) async fn ended(&self) {
        self.0.close();
        self.0.wait().await;
    }
}

impl<S: Sync> FromRequestParts<S> for Upgrades {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Upgrades, Infallible> {
        let upgrades = parts.extensions.get::<Upgrades>();
        Ok(upgrades.expect("the accept loop puts it into every request").clone())
    }
}
