//! Integration with systemd: readiness, watchdog, and socket activation.

use std::io;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tracing::{debug, warn};

use onecast_control::port::{Condition, Operation};
use onecast_udp::clock;

/// Why the sockets from systemd cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketActivationError {
    /// More than one socket.
    #[error(
        "systemd passes {0} sockets, but onecast accepts only one: TCP, for HTTP. It opens the media sockets itself, one per media \
         thread on the same port: remove ListenDatagram=, and use --udp"
    )]
    TooMany(usize),
    /// Not a listening TCP socket.
    #[error("the socket from systemd is not usable for HTTP ({0}): use ListenStream= with an address and a port")]
    NotTcp(io::Error),
}

/// The TCP socket for HTTP that systemd passes, if any (`LISTEN_FDS`, sd_listen_fds(3)).
pub(super) fn activated_listener() -> Result<Option<TcpListener>, SocketActivationError> {
    let mut sockets = ListenFd::from_env();
    match sockets.len() {
        0 => Ok(None),
        1 => {
            let listener = sockets.take_tcp_listener(0).map_err(SocketActivationError::NotTcp)?;
            if let Some(listener) = &listener {
                listener.set_nonblocking(true).map_err(SocketActivationError::NotTcp)?;
            }
            Ok(listener)
        }
        more => Err(SocketActivationError::TooMany(more)),
    }
}

/// The server accepts clients.
pub(super) fn notify_ready() {
    notify(&[NotifyState::Ready, NotifyState::Status("ready")]);
}

/// The server is reloading its options. systemd matches the reload with its SIGHUP by the time.
pub(super) fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(time) => notify(&[NotifyState::Reloading, time]),
        Err(error) => debug!(%error, "cannot notify the service manager of the reload: no monotonic time"),
    }
}

/// The reload has finished, successfully or not. The status stays, because the server may be draining.
pub(super) fn notify_reloaded() {
    notify(&[NotifyState::Ready]);
}

/// The server accepts no new clients.
pub(super) fn notify_draining() {
    notify(&[NotifyState::Status("draining: stops with the last client")]);
}

/// The server is stopping.
pub(super) fn notify_stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Notifies the service manager, if there is one (`NOTIFY_SOCKET`, sd_notify(3)).
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "cannot notify the service manager");
    }
}

/// Feeds the watchdog of systemd while the server works.
#[derive(Debug)]
pub(super) struct Watchdog {
    every: Option<Duration>,
    fed: Option<Instant>,
    warned: bool,
}

impl Watchdog {
    /// Configured by `WATCHDOG_USEC`. sd_watchdog_enabled(3) recommends half of that interval.
    pub(super) fn from_env() -> Watchdog {
        Watchdog {
            every: sd_notify::watchdog_enabled().map(|limit| limit / 2),
            fed: None,
            warned: false,
        }
    }

    /// Feeds the watchdog if it is due and the server works.
    pub(super) fn feed(&mut self, server: &dyn Operation) {
        let Some(every) = self.every else { return };
        let now = clock::now();
        if self.fed.is_some_and(|fed| now.saturating_duration_since(fed) < every) {
            return;
        }
        match server.condition() {
            Condition::Stuck(threads) if !self.warned => {
                self.warned = true;
                warn!(?threads, "media threads are stuck: the watchdog is not fed any more");
            }
            Condition::Stuck(_) => {}
            Condition::Ready | Condition::Draining | Condition::Stopping => {
                self.fed = Some(now);
                self.warned = false;
                notify(&[NotifyState::Watchdog]);
            }
        }
    }
}
