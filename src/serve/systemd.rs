//! What systemd is told, and what it hands over: readiness, a sign of life, and a socket that it has opened already.

use std::io;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tracing::{debug, warn};

use crate::http::operation::{Condition, Operation};
use onecast_udp::clock;

/// Why what was handed over cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HandedOver {
    /// More than one socket.
    #[error(
        "systemd hands over {0} sockets, and onecast takes one: TCP, for HTTP. Sockets for media it opens itself, one for each media \
         thread on the same port: leave ListenDatagram= out, and use --udp"
    )]
    TooMany(usize),
    /// No listening TCP socket.
    #[error("the socket that systemd hands over is not for HTTP ({0}): use ListenStream= with an address and a port")]
    NotTcp(io::Error),
}

/// The TCP socket that systemd has opened for HTTP, if it has (`LISTEN_FDS`, sd_listen_fds(3)).
pub(super) fn handed_over() -> Result<Option<TcpListener>, HandedOver> {
    let mut sockets = ListenFd::from_env();
    match sockets.len() {
        0 => Ok(None),
        1 => {
            let listener = sockets.take_tcp_listener(0).map_err(HandedOver::NotTcp)?;
            if let Some(listener) = &listener {
                listener.set_nonblocking(true).map_err(HandedOver::NotTcp)?;
            }
            Ok(listener)
        }
        more => Err(HandedOver::TooMany(more)),
    }
}

/// Clients may come.
pub(super) fn tell_ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("ready")]);
}

/// The options are about to be read again. The time belongs to the sentence: by it systemd knows which SIGHUP was heard.
pub(super) fn tell_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(time) => tell(&[NotifyState::Reloading, time]),
        Err(error) => debug!(%error, "the service manager is not told of the reload: there is no time"),
    }
}

/// The options have been read again, for good or ill. The status stays: the server may be draining.
pub(super) fn tell_reloaded() {
    tell(&[NotifyState::Ready]);
}

/// Nobody new is let in.
pub(super) fn tell_draining() {
    tell(&[NotifyState::Status("draining: leaving with the last client")]);
}

/// The server is about to end.
pub(super) fn tell_stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Tells whoever started us, if it wants to know (`NOTIFY_SOCKET`, sd_notify(3)).
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "the service manager cannot be told");
    }
}

/// Shows systemd that the server works, as often as it wants, as long as it does.
#[derive(Debug)]
pub(super) struct Watchdog {
    every: Option<Duration>,
    fed: Option<Instant>,
    told: bool,
}

impl Watchdog {
    /// By `WATCHDOG_USEC`; half of that time is what sd_watchdog_enabled(3) recommends.
    pub(super) fn from_env() -> Watchdog {
        Watchdog {
            every: sd_notify::watchdog_enabled().map(|limit| limit / 2),
            fed: None,
            told: false,
        }
    }

    /// Feeds it if that is due and the server works.
    pub(super) fn feed(&mut self, server: &dyn Operation) {
        let Some(every) = self.every else { return };
        let now = clock::now();
        if self.fed.is_some_and(|fed| now.saturating_duration_since(fed) < every) {
            return;
        }
        match server.condition() {
            Condition::Stuck(threads) if !self.told => {
                self.told = true;
                warn!(?threads, "media threads do not turn: the watchdog is not fed any more");
            }
            Condition::Stuck(_) => {}
            Condition::Ready | Condition::Draining | Condition::Stopping => {
                self.fed = Some(now);
                self.told = false;
                tell(&[NotifyState::Watchdog]);
            }
        }
    }
}
