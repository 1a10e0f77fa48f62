//! Permits for long requests: event streams, long polls and WebSockets.

use std::net::SocketAddr;

use tokio::sync::OwnedSemaphorePermit;

use crate::http::Shared;
use crate::http::problem::{Problem, kinds};
use crate::http::server::per_ip_limit::IpPermit;

/// A permit for a long request; returned when dropped.
#[derive(Debug)]
pub(crate) struct RequestPermit {
    _permit: OwnedSemaphorePermit,
    _ip_permit: IpPermit,
}

/// There is no permit left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoPermit;

impl RequestPermit {
    /// Takes a permit, unless the server or the address of the client has reached its limit.
    pub(crate) fn acquire(shared: &Shared, client: SocketAddr) -> Result<RequestPermit, NoPermit> {
        let taken = shared.per_ip.acquire(client.ip()).ok_or(NoPermit)?;
        let permit = shared.long_requests.clone().try_acquire_owned().map_err(|_| NoPermit)?;
        Ok(RequestPermit {
            _permit: permit,
            _ip_permit: taken,
        })
    }
}

impl From<NoPermit> for Problem {
    fn from(_: NoPermit) -> Problem {
        Problem::new(
            kinds::TOO_MANY_FOLLOWERS,
            "the limit of concurrent event streams, long polls and WebSockets is reached",
        )
    }
}
