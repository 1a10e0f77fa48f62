//! Viewers that join a stream one by one or in a crowd, and receive until they leave.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use onecast_clients::load::layers::LayerSet;
use onecast_clients::load::path::PathClasses;
use onecast_clients::load::receiver::{Feedback, ReceiverConfig};
use onecast_clients::load::relay::Relay;
use onecast_clients::load::signalling::{Admitted, ClientId, Outcome, Signaller, SignallerConfig};
use onecast_clients::load::viewer::JoinTimes;
use onecast_clients::load::viewer_pool::{PoolConfig, ViewerPool};
use onecast_clients::load::workload::{Video, Workload};
use onecast_rtc::Certificate;
use onecast_udp::clock;

use crate::rig::wait;

/// Viewers and their signalling.
pub(crate) struct Joiners {
    pub(crate) signaller: Signaller,
    pub(crate) pool: ViewerPool,
    one_way: Duration,
}

/// What happened to one viewer.
pub(crate) struct Visit {
    pub(crate) times: JoinTimes,
    pub(crate) lost: u64,
}

impl Joiners {
    /// No viewers yet. Media and signalling take `one_way` in each direction.
    pub(crate) fn new(http: SocketAddr, one_way: Duration, reports: bool) -> Result<Joiners> {
        let certificate = Certificate::generate()?;
        let pool = ViewerPool::new(PoolConfig {
            receiver: ReceiverConfig {
                frame_interval: Some(Video::W1.frame_interval()),
                stamps: true,
                one_way,
                feedback: if reports { Feedback::FirstReport } else { Feedback::None },
                ..ReceiverConfig::default()
            },
            certificate: certificate.clone(),
            until_picture: true,
            paths: PathClasses::default(),
        })?;
        let signaller = Signaller::open(SignallerConfig {
            whep: format!("http://{http}/whep/bench"),
            whip: None,
            token: None,
            certificate,
            workload: Workload::W1,
            layers: LayerSet::SINGLE,
            waker: pool.waker()?,
        })?;
        Ok(Joiners {
            signaller,
            pool,
            one_way,
        })
    }

    /// One viewer joins and stays until `has_seen_enough`.
    pub(crate) fn visit(&mut self, number: u32, has_seen_enough: impl Fn(JoinTimes) -> bool) -> Result<Visit> {
        let (admitted, _relay) = self.admission(number)?;
        let place = self.pool.admit(admitted, true)?;
        loop {
            self.pool.turn(Duration::from_millis(20))?;
            let viewer = self.pool.viewer(place).context("the server ended a viewer")?;
            if has_seen_enough(viewer.times()) {
                return self.leave(place);
            }
        }
    }

    /// Posts an offer and waits for the answer. With a delay, media goes through a relay, which lives as long as it is kept.
    fn admission(&mut self, number: u32) -> Result<(Admitted, Option<Relay>)> {
        let posted = clock::unix_time();
        wait(self.one_way);
        self.signaller.join(ClientId::Viewer(number));
        let mut admitted = loop {
            match self.signaller.poll_outcome() {
                Some(Outcome::Admitted(admitted)) => break *admitted,
                Some(Outcome::Refused(_, error)) => bail!(error),
                _ => drop(self.pool.turn(Duration::from_millis(20))?),
            }
        };
        if self.one_way.is_zero() {
            return Ok((admitted, None));
        }
        wait(self.one_way);
        (admitted.posted, admitted.answered) = (posted, clock::unix_time());
        let relay = Relay::start(admitted.accepted.media, self.one_way)?;
        admitted.accepted.media = relay.address();
        Ok((admitted, Some(relay)))
    }

    /// The viewer at a place leaves.
    pub(crate) fn leave(&mut self, place: usize) -> Result<Visit> {
        let viewer = self.pool.viewer(place).context("the server ended a viewer")?;
        let (times, before) = (viewer.times(), self.lost());
        self.pool.leave(place, false);
        Ok(Visit {
            times,
            lost: self.lost() - before,
        })
    }

    fn lost(&self) -> u64 {
        self.pool.totals.lost + self.pool.totals.unopened
    }
}
