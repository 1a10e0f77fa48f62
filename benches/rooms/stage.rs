//! All clients of one server, and measured phases in which some of them send.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result};
use onecast_clients::bench::OwnServer;
use onecast_clients::load::kernel::drops_by_port;
use onecast_clients::load::workload::Video;
use onecast_rtc::client_peer::ClientPeer;
use onecast_rtc::rtp::Kind;
use onecast_udp::clock;

use crate::client::{Client, SILENCE, SPEECH};
use crate::rig::wait;

/// Clients that belong together: a room, or broadcasts and their viewers.
pub(crate) struct Party {
    pub(crate) name: &'static str,
    pub(crate) clients: Vec<Client>,
    /// Tracks that a decrypting client has completely at the end of a phase.
    pub(crate) expected: usize,
}

/// CPU, packets and losses of a phase.
#[derive(Debug, Clone, Default)]
pub(crate) struct Phase {
    pub(crate) took: Duration,
    /// CPU of the media threads, and of all other threads.
    pub(crate) cpu: (Duration, Duration),
    /// Packets that reached the clients.
    pub(crate) arrived: u64,
    /// The server's counters.
    pub(crate) counted: BTreeMap<String, u64>,
    /// Gaps and undecryptable packets at the decrypting clients.
    pub(crate) lost: u64,
    /// Tracks whose end did not reach a decrypting client.
    pub(crate) incomplete: usize,
    /// The longest delay of a packet of the load after its due time.
    pub(crate) late: Duration,
    /// Datagrams dropped for lack of space: at the server's socket, at the decrypting clients, and in the kernel's backlog.
    pub(crate) overflowed: [u64; 3],
}

impl Phase {
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.counted.get(name).copied().unwrap_or(0)
    }

    /// CPU nanoseconds of the media threads per delivered packet.
    pub(crate) fn cost(&self) -> f64 {
        self.cpu.0.as_nanos() as f64 / self.arrived.max(1) as f64
    }

    pub(crate) fn share(&self) -> (f64, f64) {
        let share = |cpu: Duration| 100.0 * cpu.as_secs_f64() / self.took.as_secs_f64();
        (share(self.cpu.0), share(self.cpu.1))
    }

    pub(crate) fn rate(&self, count: u64) -> f64 {
        count as f64 / self.took.as_secs_f64()
    }

    /// Counters of drops at the server, by name.
    pub(crate) fn dropped(&self) -> Vec<String> {
        let counted = self.counted.iter();
        let is_drop = |name: &str| DROPS.iter().any(|part| name.contains(part));
        let dropped = counted.filter(|(name, count)| **count > 0 && is_drop(name));
        dropped.map(|(name, count)| format!("{name} {count}")).collect()
    }
}

struct Reading {
    at: std::time::Instant,
    cpu: (Duration, Duration),
    arrived: u64,
    counters: BTreeMap<String, u64>,
    lost: u64,
    overflowed: [u64; 3],
}

impl Party {
    /// Lets the senders of an active party send, and keeps the consent of all clients.
    pub(crate) fn turn(&mut self, active: bool) -> io::Result<()> {
        let now = clock::now();
        for client in &mut self.clients {
            if active {
                client.pump(now)?;
            }
            if client.is_due(now) {
                client.turn(now)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, video: Video) {
        let now = clock::now();
        let of = self
            .clients
            .iter()
            .filter(|client| client.sending.is_some())
            .count()
            .max(1);
        for sending in self.clients.iter_mut().filter_map(|client| client.sending.as_mut()) {
            sending.begin(now, of as u32, video);
        }
    }

    /// One of the first ten clients speaks, in turn.
    fn speak(&mut self, since: Duration) {
        let turn = since.as_secs() / SPEECH_TIME.as_secs();
        let speaker = (turn * 7 % 10) as usize;
        for (number, client) in self.clients.iter_mut().enumerate() {
            if let Some(sending) = &mut client.sending {
                sending.level = if number == speaker { SPEECH } else { SILENCE };
            }
        }
    }

    fn arrived(&self) -> io::Result<u64> {
        let drops = drops_by_port()?;
        let mut arrived = 0;
        for client in &self.clients {
            arrived += match &client.ledger {
                Some(ledger) => ledger.opened,
                None => drops.get(&client.port()?).copied().unwrap_or(0),
            };
        }
        Ok(arrived)
    }

    fn overflowed(&self) -> io::Result<[u64; 3]> {
        let drops = drops_by_port()?;
        let at = |port: u16| drops.get(&port).copied().unwrap_or(0);
        let server = self
            .clients
            .first()
            .and_then(|client| client.session.answered.candidates.first());
        let mut overflowed = [server.map_or(0, |server| at(server.port())), 0, backlog_drops()];
        for client in self.clients.iter().filter(|client| client.ledger.is_some()) {
            overflowed[1] += at(client.port()?);
        }
        Ok(overflowed)
    }

    fn lost(&self) -> u64 {
        let ledgers = self.clients.iter().filter_map(|client| client.ledger.as_ref());
        ledgers.map(|ledger| ledger.lost).sum()
    }

    /// Tracks whose end has not arrived at the decrypting clients.
    fn incomplete(&self) -> usize {
        let sending = || self.clients.iter().filter_map(|client| client.sending.as_ref());
        let newest: Vec<u64> = Kind::ALL
            .iter()
            .flat_map(|&kind| sending().filter_map(move |sending| sending.last(kind)))
            .collect();
        let ledgers = self.clients.iter().filter_map(|client| client.ledger.as_ref());
        ledgers
            .map(|ledger| self.expected.saturating_sub(ledger.has(&newest)))
            .sum()
    }
}

/// Lets the party at `active` send for a while. The warm-up is not measured.
pub(crate) fn run(
    server: &OwnServer,
    parties: &mut [Party],
    active: usize,
    time: Duration,
    video: Video,
) -> Result<Phase> {
    parties[active].begin(video);
    let begin = clock::now();
    turn_until(parties, active, begin, begin + WARM_UP)?;
    for sending in parties[active]
        .clients
        .iter_mut()
        .filter_map(|client| client.sending.as_mut())
    {
        sending.latest = Duration::ZERO;
    }
    let before = read(server, &parties[active])?;
    turn_until(parties, active, begin, begin + WARM_UP + time)?;
    let after = read(server, &parties[active])?;
    let late = parties[active]
        .clients
        .iter()
        .filter_map(|client| Some(client.sending.as_ref()?.latest));
    let late = late.max().unwrap_or_default();
    // Lets packets in flight arrive.
    for _ in 0..20 {
        wait(Duration::from_millis(10));
        parties[active].turn(false)?;
    }
    let counted = after.counters.iter().map(|(name, value)| {
        let was = before.counters.get(name).copied().unwrap_or(0);
        (name.clone(), value.saturating_sub(was))
    });
    Ok(Phase {
        took: after.at - before.at,
        cpu: (after.cpu.0 - before.cpu.0, after.cpu.1 - before.cpu.1),
        arrived: after.arrived - before.arrived,
        counted: counted.collect(),
        lost: parties[active].lost() - before.lost,
        incomplete: parties[active].incomplete(),
        late,
        overflowed: [0, 1, 2].map(|side| after.overflowed[side] - before.overflowed[side]),
    })
}

/// Keeps the consent of all clients during other work.
pub(crate) fn keep(clients: &mut [Client]) -> io::Result<()> {
    let now = clock::now();
    for client in clients.iter_mut().filter(|client| client.is_due(now)) {
        client.turn(now)?;
    }
    Ok(())
}

fn read(server: &OwnServer, party: &Party) -> Result<Reading> {
    let counters = server.counters().context("the server does not report its counters")?;
    Ok(Reading {
        arrived: party.arrived()?,
        cpu: server.thread_times(),
        at: clock::now(),
        counters,
        lost: party.lost(),
        overflowed: party.overflowed()?,
    })
}

fn turn_until(
    parties: &mut [Party],
    active: usize,
    begin: std::time::Instant,
    end: std::time::Instant,
) -> io::Result<()> {
    let mut look_at = begin;
    loop {
        let now = clock::now();
        if now >= end {
            return Ok(());
        }
        parties[active].speak(now - begin);
        parties[active].turn(true)?;
        // The other parties only keep their consent.
        if now >= look_at {
            look_at = now + ClientPeer::CHECK_INTERVAL / 50;
            for (_, party) in parties.iter_mut().enumerate().filter(|(place, _)| *place != active) {
                party.turn(false)?;
            }
        }
        let sending = parties[active]
            .clients
            .iter()
            .filter_map(|client| client.sending.as_ref());
        let next = sending.map(|sending| sending.next()).min().unwrap_or(end);
        let left = next.saturating_duration_since(clock::now());
        if !left.is_zero() {
            wait(left.min(Duration::from_millis(2)));
        }
    }
}

/// Packets that the kernel dropped because a core's backlog was full.
fn backlog_drops() -> u64 {
    let table = std::fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
    let dropped = |line: &str| u64::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok();
    table.lines().filter_map(dropped).sum()
}

/// Time before the measurement, in which viewers start and catch up.
const WARM_UP: Duration = Duration::from_millis(1_500);
/// Time for which one member speaks.
const SPEECH_TIME: Duration = Duration::from_secs(2);
/// Parts of the names of counters that count drops.
const DROPS: [&str; 8] = [
    "dropped",
    "failed",
    "oversized",
    "rest_of_frame",
    "stale",
    "waiting",
    "overload",
    "refused",
];
