//! Bounds of present sessions: the bit rate of a publisher, and how long a session may last or be idle.
//!
//! They are checked about once a second against the bytes that a shard has counted. The packet path knows nothing of this.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use onecast_rtc::SessionId;

use super::Purpose;
use super::sessions::{SessionEntry, Sessions};
use super::streams::{StreamEntry, Streams};
use crate::StreamName;
use crate::ended::EndReason;

/// Bounds of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionLimits {
    /// Most viewers of one stream, connecting ones included.
    pub viewers_per_stream: Option<usize>,
    /// What a publisher may send, bits a second, RTP headers included.
    pub publish_bps: Option<u64>,
    /// How long a session may be connected.
    pub session_time: Option<Duration>,
    /// How long a publisher may send nothing.
    pub publisher_idle: Option<Duration>,
    /// How long a viewer may watch a stream without a publisher.
    pub viewer_idle: Option<Duration>,
    /// Largest height of the pictures that a viewer is sent unless it chooses otherwise, pixels.
    pub layers_max_height: Option<u16>,
}

/// What the bounds demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The session has to be ended.
    End(SessionId, EndReason),
    /// A publisher sends more than it may, and will be ended if it goes on.
    Warn {
        /// Its stream.
        stream: StreamName,
        /// What it sends, bits a second.
        measured_bps: u64,
        /// What it may send.
        max_bps: u64,
    },
    /// A publisher sends packets that do not fit an Ethernet path. Once for each.
    Large {
        /// Its stream.
        stream: StreamName,
        /// Length of the longest datagram so far.
        longest: u64,
    },
}

/// Packets that no Ethernet path carries whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LargePackets {
    /// So many.
    pub count: u64,
    /// Length of the longest datagram, bytes; 0 without any.
    pub longest: u64,
}

/// What a publisher sends, read from a counter of bytes now and then.
#[derive(Debug)]
pub(super) struct Meter {
    /// The last readings; the first is about a window old.
    readings: VecDeque<(Instant, u64)>,
    /// When the counter was last seen to have moved.
    moved: Instant,
    over_since: Option<Instant>,
    /// It was told that packets are large.
    told_large: bool,
}

/// What a reading told of the bit rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rate {
    /// Not above the bound, or not known yet.
    Within,
    /// Above it, for the first time since it was within.
    Above(u64),
    /// Still above it.
    StillAbove,
    /// Above it for too long.
    Beyond(u64),
}

/// What is to be done now because of the bounds of sessions.
pub(super) fn verdicts(
    now: Instant,
    limits: &SessionLimits,
    streams: &Streams,
    sessions: &mut Sessions,
) -> Vec<Verdict> {
    let mut verdicts = of_viewers(now, limits, streams, sessions);
    for id in streams.values().filter_map(|stream| stream.publisher) {
        let entry = sessions.get_mut(id);
        verdicts.extend(entry.and_then(|entry| of_publisher(now, limits, id, entry)));
    }
    if streams.values().any(|stream| stream.members > 0) {
        verdicts.extend(of_members(now, limits, sessions));
    }
    verdicts
}

/// What the stream's publisher has sent in packets that are too large for most paths.
pub(super) fn large_packets(sessions: &Sessions, stream: &StreamEntry) -> LargePackets {
    let publisher = stream.publisher.and_then(|id| sessions.get(id));
    let session = publisher.and_then(|entry| entry.session.as_ref());
    session.map_or_else(LargePackets::default, |session| LargePackets {
        count: session.counters.large_packets.value(),
        longest: session.counters.longest_datagram.value(),
    })
}

/// Members of rooms: they may be silent for as long as they like.
fn of_members(now: Instant, limits: &SessionLimits, sessions: &mut Sessions) -> Vec<Verdict> {
    let limits = SessionLimits {
        publisher_idle: None,
        ..*limits
    };
    let ids: Vec<SessionId> = sessions.ids().collect();
    let verdict = |id: SessionId| {
        let entry = sessions.get_mut(id)?;
        let participates = entry.caller.purpose == Purpose::Participate;
        participates.then(|| of_publisher(now, &limits, id, entry)).flatten()
    };
    ids.into_iter().filter_map(verdict).collect()
}

fn of_viewers(now: Instant, limits: &SessionLimits, streams: &Streams, sessions: &Sessions) -> Vec<Verdict> {
    let some_are_alone = streams.values().any(|stream| is_alone(now, limits, stream));
    let mut verdicts = Vec::new();
    for id in sessions.ids() {
        let Some(entry) = sessions.get(id) else { continue };
        let old = limits.session_time.is_some_and(|max| entry.admitted + max <= now);
        if !old && !some_are_alone {
            // Numbers are given in the order of admission: the sessions that follow are younger.
            break;
        }
        let why = entry.connected.and_then(|since| {
            let stream = streams.get(&entry.stream)?;
            of_time(now, limits, since).or_else(|| of_nothing_to_see(now, limits, stream, since))
        });
        if entry.caller.purpose == Purpose::Watch {
            verdicts.extend(why.map(|why| Verdict::End(id, why)));
        }
    }
    verdicts
}

fn of_publisher(now: Instant, limits: &SessionLimits, id: SessionId, entry: &mut SessionEntry) -> Option<Verdict> {
    let since = entry.connected?;
    let bytes = entry.received_bytes();
    let meter = entry.meter.get_or_insert_with(|| Box::new(Meter::new(since)));
    let rate = meter.read(now, bytes, limits.publish_bps);
    let idle = limits.publisher_idle.filter(|&max| has_passed(now, meter.moved, max));
    let over = of_time(now, limits, since).or(idle.map(|after| EndReason::Idle { after }));
    if let Some(why) = over {
        return Some(Verdict::End(id, why));
    }
    let max_bps = limits.publish_bps.unwrap_or(u64::MAX);
    match rate {
        Rate::Within | Rate::StillAbove => of_size(entry),
        Rate::Above(measured_bps) => Some(Verdict::Warn {
            stream: entry.stream.clone(),
            measured_bps,
            max_bps,
        }),
        Rate::Beyond(measured_bps) => Some(Verdict::End(id, EndReason::BitRate { measured_bps, max_bps })),
    }
}

fn of_size(entry: &mut SessionEntry) -> Option<Verdict> {
    let meter = entry.meter.as_mut().filter(|meter| !meter.told_large)?;
    let longest = entry.session.as_ref()?.counters.longest_datagram.value();
    meter.told_large = longest > 0;
    meter.told_large.then(|| Verdict::Large {
        stream: entry.stream.clone(),
        longest,
    })
}

fn of_time(now: Instant, limits: &SessionLimits, since: Instant) -> Option<EndReason> {
    let max = limits.session_time.filter(|&max| has_passed(now, since, max))?;
    Some(EndReason::SessionTime { max })
}

fn of_nothing_to_see(now: Instant, limits: &SessionLimits, stream: &StreamEntry, since: Instant) -> Option<EndReason> {
    let alone_since = stream.alone_since?.max(since);
    let after = limits.viewer_idle.filter(|&max| has_passed(now, alone_since, max))?;
    Some(EndReason::Idle { after })
}

fn is_alone(now: Instant, limits: &SessionLimits, stream: &StreamEntry) -> bool {
    let since = stream.alone_since.filter(|_| stream.watching > 0);
    since
        .zip(limits.viewer_idle)
        .is_some_and(|(since, max)| has_passed(now, since, max))
}

fn has_passed(now: Instant, since: Instant, time: Duration) -> bool {
    now.saturating_duration_since(since) >= time
}

impl Meter {
    /// Over this time the rate is measured: a keyframe alone is not too much.
    const WINDOW: Duration = Duration::from_secs(2);
    /// Encoders need a moment to obey when the network lets them send more.
    const GRACE: Duration = Duration::from_secs(5);
    /// Readings that come sooner after each other tell nothing.
    const APART: Duration = Duration::from_millis(250);
    /// So many fit into a window.
    const READINGS_MAX: usize = 10;

    /// A meter of a publisher that connected at `since`.
    fn new(since: Instant) -> Meter {
        Meter {
            readings: VecDeque::from([(since, 0)]),
            moved: since,
            over_since: None,
            told_large: false,
        }
    }

    /// When the counter, which stands at `bytes` now, is known to have moved last.
    pub(super) fn moved(&self, now: Instant, bytes: u64) -> Instant {
        let read = self.readings.back().map_or(0, |(_, bytes)| *bytes);
        if bytes == read { self.moved } else { now }
    }

    /// The publisher has sent `bytes` by now and may send `max` bits a second.
    fn read(&mut self, now: Instant, bytes: u64, max: Option<u64>) -> Rate {
        let (last, before) = self.readings.back().copied().unwrap_or((now, 0));
        if now.saturating_duration_since(last) < Meter::APART {
            return Rate::Within;
        }
        if bytes != before {
            self.moved = now;
        }
        self.readings.push_back((now, bytes));
        let whole = |reading: Option<&(Instant, u64)>| {
            reading.is_some_and(|(at, _)| now.saturating_duration_since(*at) >= Meter::WINDOW)
        };
        while whole(self.readings.get(1)) || self.readings.len() > Meter::READINGS_MAX {
            self.readings.pop_front();
        }
        let Some(max) = max.filter(|_| whole(self.readings.front())) else {
            return Rate::Within;
        };
        let (from, then) = self.readings.front().copied().unwrap_or((now, bytes));
        let seconds = now.saturating_duration_since(from).as_secs_f64();
        let bps = (bytes.saturating_sub(then) as f64 * 8.0 / seconds) as u64;
        if bps <= max {
            self.over_since = None;
            return Rate::Within;
        }
        match self.over_since {
            None => {
                self.over_since = Some(now);
                Rate::Above(bps)
            }
            Some(since) if now.saturating_duration_since(since) >= Meter::GRACE => Rate::Beyond(bps),
            Some(_) => Rate::StillAbove,
        }
    }
}

#[cfg(test)]
mod tests;
