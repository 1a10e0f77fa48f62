//! What the server adds to each request about its connection, and the extractors for it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The addresses of both ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connection {
    /// The address of the client, or what trusted proxies say it is.
    pub(crate) client: SocketAddr,
    pub(crate) local: SocketAddr,
}

impl Connection {
    /// Converts IPv4-mapped addresses to IPv4, the form that clients can use.
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
        Ok(*parts.extensions.get().expect("the server adds it to every request"))
    }
}

/// Cancelled when the server stops. Requests that last until their client leaves end then.
#[derive(Debug, Clone)]
pub(crate) struct Stop(pub(crate) CancellationToken);

impl<S: Sync> FromRequestParts<S> for Stop {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Stop, Infallible> {
        let stop = parts.extensions.get::<Stop>();
        Ok(stop.expect("the server adds it to every request").clone())
    }
}

/// Held by the work that is in progress for a connection, whether the client reads or not.
#[derive(Debug, Clone, Default)]
pub(crate) struct ActiveRequests(Arc<()>);

impl ActiveRequests {
    /// Whether any work is in progress. The connection itself holds two of the references.
    pub(crate) fn is_any(&self) -> bool {
        Arc::strong_count(&self.0) > 2
    }
}

impl<S: Sync> FromRequestParts<S> for ActiveRequests {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<ActiveRequests, Infallible> {
        let active = parts.extensions.get::<ActiveRequests>();
        Ok(active.expect("the server adds it to every request").clone())
    }
}

/// Tracks the WebSocket that a connection has become. The connection keeps its slot until that ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upgrades(TaskTracker);

impl Upgrades {
    /// Held while the WebSocket is open.
    pub(crate) fn begin(&self) -> TaskTrackerToken {
        self.0.token()
    }

    /// Waits until the WebSocket has ended.
    pub(crate) async fn ended(&self) {
        self.0.close();
        self.0.wait().await;
    }
}

impl<S: Sync> FromRequestParts<S> for Upgrades {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Upgrades, Infallible> {
        let upgrades = parts.extensions.get::<Upgrades>();
        Ok(upgrades.expect("the server adds it to every request").clone())
    }
}
