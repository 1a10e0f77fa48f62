//! The clients of a measured server: viewers, and a publisher that sends when asked to. Any failure ends the measurement.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::load::Totals;
use crate::load::layers::LayerSet;
use crate::load::path::PathClasses;
use crate::load::publisher::{LoadPublisher, PublisherConfig};
use crate::load::receiver::ReceiverConfig;
use crate::load::signalling::{ClientId, Outcome, Signaller, SignallerConfig};
use crate::load::viewer_pool::{PoolConfig, ViewerPool};
use crate::load::workload::Workload;
use onecast_rtc::Certificate;
use onecast_udp::clock;

/// Clients of one stream.
pub struct Clients {
    signaller: Signaller,
    pool: ViewerPool,
    publisher: Option<LoadPublisher>,
    publishes: Option<PublisherConfig>,
    certificate: Certificate,
    /// Offers without an answer.
    pending: usize,
    /// Places of viewers that have no keys yet.
    connecting: Vec<usize>,
    joining: Joining,
}

/// Viewers to connect.
#[derive(Debug, Clone, Copy)]
pub struct Joining {
    /// How many.
    pub count: u32,
    /// How many of them connect at the same time.
    pub at_once: usize,
    /// How many of them decrypt every packet. They are spread evenly and include the last viewer: later viewers are served later.
    pub verified: u32,
}

impl Clients {
    /// Clients of a stream of the server at `http`, none of which is connected.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new(http: SocketAddr, stream: &str, receiver: ReceiverConfig) -> io::Result<Clients> {
        let certificate = Certificate::generate().map_err(io::Error::other)?;
        let pool = ViewerPool::new(PoolConfig {
            receiver,
            certificate: certificate.clone(),
            until_picture: false,
            paths: PathClasses::default(),
        })?;
        let signaller = Signaller::open(SignallerConfig {
            whep: format!("http://{http}/whep/{stream}"),
            whip: Some(format!("http://{http}/whip/{stream}")),
            token: None,
            certificate: certificate.clone(),
            workload: Workload::W1,
            layers: LayerSet::SINGLE,
            waker: pool.waker()?,
        });
        Ok(Clients {
            signaller: signaller.map_err(io::Error::other)?,
            pool,
            publisher: None,
            publishes: None,
            certificate,
            pending: 0,
            connecting: Vec::new(),
            joining: Joining {
                count: 0,
                at_once: 1,
                verified: 0,
            },
        })
    }

    /// Connects a publisher, which sends nothing yet.
    ///
    /// # Errors
    /// When the server refuses it or it cannot connect.
    pub fn publish(&mut self, config: PublisherConfig) -> io::Result<()> {
        self.publishes = Some(config);
        self.signaller.join(ClientId::Publisher);
        self.pending += 1;
        let deadline = clock::now() + HANDSHAKE_MAX;
        while !self.publisher.as_ref().is_some_and(LoadPublisher::is_connected) {
            if clock::now() > deadline {
                return Err(ErrorKind::TimedOut.into());
            }
            self.turn(TURN)?;
        }
        Ok(())
    }

    /// Connects viewers.
    ///
    /// # Errors
    /// When the server refuses one or one cannot connect.
    pub fn join(&mut self, joining: Joining) -> io::Result<()> {
        self.joining = joining;
        let mut posted = 0;
        while posted < joining.count || self.pending + self.connecting.len() > 0 {
            while posted < joining.count && self.pending + self.connecting.len() < joining.at_once {
                self.signaller.join(ClientId::Viewer(posted));
                self.pending += 1;
                posted += 1;
            }
            self.turn(TURN)?;
        }
        Ok(())
    }

    /// Publishes for a while.
    ///
    /// # Errors
    /// When the server ends a session.
    pub fn send_for(&mut self, time: Duration) -> io::Result<()> {
        if let Some(publisher) = &mut self.publisher {
            publisher.start(clock::now());
        }
        self.turn_until(clock::now() + time)?;
        if let Some(publisher) = &mut self.publisher {
            publisher.pause();
        }
        Ok(())
    }

    /// Keeps the sessions alive for a while.
    ///
    /// # Errors
    /// When the server ends a session.
    pub fn turn_until(&mut self, end: Instant) -> io::Result<()> {
        while clock::now() < end {
            self.turn(end.saturating_duration_since(clock::now()).min(TURN))?;
        }
        Ok(())
    }

    /// Waits until no more media arrives: with many viewers, the last frame takes long.
    ///
    /// # Errors
    /// When the server ends a session.
    pub fn settle(&mut self) -> io::Result<()> {
        let end = clock::now() + SETTLING_MAX;
        let mut before = self.pool.delivered();
        while clock::now() < end {
            self.turn_until(clock::now() + SETTLED_AFTER)?;
            let delivered = self.pool.delivered();
            if delivered == before {
                break;
            }
            before = delivered;
        }
        Ok(())
    }

    /// The publisher alone, to send from another thread.
    pub fn into_publisher(self) -> Option<LoadPublisher> {
        self.publisher
    }

    /// The viewers.
    pub fn viewers(&self) -> &ViewerPool {
        &self.pool
    }

    /// Packets sent so far.
    pub fn published(&self) -> u64 {
        self.publisher
            .as_ref()
            .map_or(0, |publisher| publisher.counts().packets)
    }

    fn turn(&mut self, limit: Duration) -> io::Result<()> {
        let due = self.publisher.as_ref().map(LoadPublisher::poll_timeout);
        let due = due.map_or(limit, |due| due.saturating_duration_since(clock::now()).min(limit));
        self.pool.turn(due)?;
        let Totals { failed, ended, .. } = self.pool.totals;
        if failed + ended > 0 {
            let why = "the server ended the session of a viewer, or a handshake took longer than 10 s";
            return Err(io::Error::new(ErrorKind::ConnectionAborted, why));
        }
        while let Some(outcome) = self.signaller.poll_outcome() {
            self.handle_outcome(outcome)?;
        }
        let is_connecting = |place: &usize| self.pool.viewer(*place).is_some_and(|viewer| !viewer.is_connected());
        self.connecting.retain(is_connecting);
        match &mut self.publisher {
            Some(publisher) => publisher.turn(clock::now()),
            None => Ok(()),
        }
    }

    fn handle_outcome(&mut self, outcome: Outcome) -> io::Result<()> {
        match outcome {
            Outcome::Admitted(admitted) => {
                self.pending -= 1;
                match (admitted.client, self.publishes) {
                    (ClientId::Viewer(number), _) => {
                        let is_verified = self.joining.is_verified(number);
                        self.connecting.push(self.pool.admit(*admitted, is_verified)?);
                    }
                    (ClientId::Publisher, Some(config)) => {
                        let certificate = self.certificate.clone();
                        self.publisher = Some(LoadPublisher::open(&admitted, config, certificate, clock::now())?);
                    }
                    (ClientId::Publisher, None) => {}
                }
                Ok(())
            }
            Outcome::Refused(_, error) => Err(io::Error::new(ErrorKind::InvalidData, error)),
            Outcome::Retrying | Outcome::Left { .. } => Ok(()),
        }
    }
}

impl Joining {
    fn is_verified(self, number: u32) -> bool {
        let before = |number: u32| u64::from(number) * u64::from(self.verified) / u64::from(self.count.max(1));
        before(number + 1) > before(number)
    }
}

/// The longest a publisher may take to connect.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// The longest wait for a datagram.
const TURN: Duration = Duration::from_millis(8);
/// When nothing arrived for this long, nothing is in flight any more.
const SETTLED_AFTER: Duration = Duration::from_millis(100);
/// The longest wait for the last frames.
const SETTLING_MAX: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verified_viewers_are_spread_evenly_and_include_the_last() {
        let verified = |count, verified| {
            let joining = Joining {
                count,
                at_once: 1,
                verified,
            };
            (0..count)
                .filter(|number| joining.is_verified(*number))
                .collect::<Vec<_>>()
        };
        assert_eq!(verified(10, 2), [4, 9]);
        assert_eq!(verified(3, 3), [0, 1, 2]);
        assert_eq!(verified(5, 0), [0; 0]);
    }
}
