//! What a viewer's reception reports tell about its path: a queue, and losses.

use std::time::Duration;

use super::ladder::{Millis, short};

/// What one reception report says, compared with what was sent: packets of the layer and of probes alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportNote {
    /// How long the oldest packet that the viewer has not acknowledged has been under way, without the time that it waited in the shard;
    /// zero when all are acknowledged, `None` if the report acknowledges what was never sent.
    ///
    /// It must not be the age of the newest acknowledged packet: that grows while a publisher pauses.
    pub lag: Option<Duration>,
    /// How long ago the newest packet was sent. Of a pause longer than a round trip, `lag` tells nothing: the last packets before it may be
    /// lost, and no report acknowledges them until others follow.
    pub idle: Duration,
    /// Of 256 packets since the last report.
    pub fraction_lost: u8,
    /// Packets that the report covers: those from what the last one acknowledged to what this one does.
    pub packets: u32,
    /// Bits per second that arrived between what this report and the last one acknowledge, or for the first report since the start.
    pub delivered: Option<u32>,
    /// Round trip by the last sender report, if the viewer has seen one.
    pub rtt: Option<Duration>,
}

/// What the reports amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Milliseconds that packets wait on the path.
    pub(super) queue: u16,
    /// Of 256, more than the path loses anyway.
    pub(super) loss: u8,
    /// Of 256, all.
    pub(super) loss_total: u8,
    /// There were enough packets for a large loss to mean something on its own.
    pub(super) is_broad: bool,
}

/// The state behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signal {
    /// The least lags of this and the last period, without those of zero.
    lags: [u16; 2],
    /// The shortest round trips.
    round_trips: [u16; 2],
    turned_at: Millis,
    counted_at: Millis,
    /// The low bits of when the last report came, and how long after the one before.
    reported_at: u16,
    interval: u16,
    /// Not counted yet, because they are too few.
    packets: u16,
    /// In 1/256 of a packet.
    lost: u16,
    /// Of 256. This path loses so much whatever it is sent.
    tolerated: u8,
}

impl Signal {
    pub(super) fn new(now: Millis) -> Signal {
        Signal {
            lags: [u16::MAX; 2],
            round_trips: [u16::MAX; 2],
            turned_at: now,
            counted_at: now,
            reported_at: now.0 as u16,
            interval: 0,
            packets: 0,
            lost: 0,
            tolerated: 0,
        }
    }

    pub(super) fn handle_report(&mut self, now: Millis, note: &ReportNote) -> Evidence {
        self.turn(now);
        self.interval = (now.0 as u16).wrapping_sub(self.reported_at);
        self.reported_at = now.0 as u16;
        let queue = self.queue(note);
        let (loss_total, is_broad) = self.count(now, note);
        let loss = loss_total.saturating_sub(self.tolerated);
        Evidence {
            queue,
            loss,
            loss_total,
            is_broad,
        }
    }

    /// Milliseconds of a round trip on the idle path.
    pub(super) fn round_trip(&self) -> Option<u16> {
        let shortest = self.round_trips[0].min(self.round_trips[1]);
        (shortest != u16::MAX).then_some(shortest)
    }

    /// Milliseconds between the last two reports.
    pub(super) fn interval(&self) -> u16 {
        self.interval
    }

    /// Sending less has not made the loss smaller, so it is not a matter of the rate.
    pub(super) fn tolerate(&mut self, loss: u8) {
        self.tolerated = self.tolerated.max(loss.min(TOLERATED_MAX));
    }

    /// Forgets what was shortest two periods ago: routes change.
    fn turn(&mut self, now: Millis) {
        if now.since(self.turned_at) >= PERIOD {
            self.turned_at = now;
            self.lags = [u16::MAX, self.lags[0]];
            self.round_trips = [u16::MAX, self.round_trips[0]];
        }
    }

    /// On an idle path the lag is anything up to a round trip, depending on when the last frame was sent. So the round trip is the base,
    /// and the least lag only if there was no sender report yet.
    fn queue(&mut self, note: &ReportNote) -> u16 {
        if let Some(rtt) = note.rtt {
            self.round_trips[0] = self.round_trips[0].min(short(rtt));
        }
        let round_trip = self.round_trip().unwrap_or(ROUND_TRIP);
        let idle = short(note.idle);
        let paused = idle.saturating_sub(round_trip);
        let Some(lag) = note.lag.map(short).filter(|lag| *lag > paused && idle < PAUSE) else {
            return 0;
        };
        let lag = lag - paused;
        self.lags[0] = self.lags[0].min(lag);
        let least = self.lags[0].min(self.lags[1]);
        let base = self.round_trip().unwrap_or_else(|| round_trip.max(least));
        lag.saturating_sub(base)
    }

    /// Loss over at least so many packets: under loss, reports come with every NACK and cover only a few.
    fn count(&mut self, now: Millis, note: &ReportNote) -> (u8, bool) {
        let packets = note.packets.min(PACKETS_MAX) as u16;
        self.packets = (self.packets + packets).min(PACKETS_MAX as u16);
        self.lost = self
            .lost
            .saturating_add(packets.saturating_mul(u16::from(note.fraction_lost)));
        if self.packets < PACKETS || now.since(self.counted_at) < COUNTED {
            return (0, false);
        }
        let loss = (self.lost / self.packets).min(255) as u8;
        let is_broad = self.packets >= 2 * PACKETS;
        (self.packets, self.lost, self.counted_at) = (0, 0, now);
        if loss < self.tolerated / 2 {
            self.tolerated -= 1 + self.tolerated / 8;
        }
        (loss, is_broad)
    }
}

/// The shortest lags of 5 to 10 s are known.
const PERIOD: u32 = 5_000;
/// What was sent before a longer pause has arrived or is lost.
const PAUSE: u16 = 1_500;
/// Assumed while there was no sender report: frames that are further apart than the round trip would otherwise look like a queue.
const ROUND_TRIP: u16 = 100;
/// Fewer packets say nothing about a share.
const PACKETS: u16 = 10;
/// So many at most are counted, so that their losses fit in 16 bits.
const PACKETS_MAX: u32 = 256;
/// Losses come in bursts; more than one is to be within the time.
const COUNTED: u32 = 150;
/// A fifth: a path that loses more is not fit for a picture at any rate.
const TOLERATED_MAX: u8 = 51;
