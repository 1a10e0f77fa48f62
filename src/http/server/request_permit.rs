//! A place among those whose requests last: event streams, long polls and WebSockets.

use std::net::SocketAddr;

use axum::http::StatusCode;
use tokio::sync::OwnedSemaphorePermit;

use crate::http::Shared;
use crate::http::problem::Problem;
use crate::http::server::per_ip_limit::Taken;

/// Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    _taken: Taken,
}

/// No place is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crowded;

impl Place {
    /// A place for a client, unless all of them, or those of its address, are taken.
    pub(crate) fn take(shared: &Shared, client: SocketAddr) -> Result<Place, Crowded> {
        let taken = shared.crowding.take(client.ip()).ok_or(Crowded)?;
        let permit = shared.followers.clone().try_acquire_owned().map_err(|_| Crowded)?;
        Ok(Place {
            _permit: permit,
            _taken: taken,
        })
    }
}

impl From<Crowded> for Problem {
    fn from(_: Crowded) -> Problem {
        let detail = "as many event streams, long polls and WebSockets last at this moment as the server lets";
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too-many-followers",
            "The server is busy",
            detail,
        )
        .hint("The media goes on without it. Ask again later; without ?wait= a member of a room may ask at any time.")
        .retry_after(RETRY_LATER_S)
    }
}

/// They become free by their clients leaving.
const RETRY_LATER_S: u16 = 30;
