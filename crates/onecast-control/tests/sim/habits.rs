//! How receivers ask for what they miss: Pion, Chromium and aiortc do it in three different ways.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use onecast_rtc::rtp::Ssrc;
use onecast_rtc::rtp::rtcp::ReceptionBlock;

/// The client that a viewer behaves like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Asks every 100 ms for all that has not come on the media SSRC among the newest 512 numbers: what came by RTX it does not notice. Its
    /// replay window has 64 numbers. Asks for no keyframe.
    Pion,
    /// Asks at once, then after each round trip, ten times; then it asks for a keyframe. It assumes a
    /// round trip of 100 ms unless it is given one.
    Chromium { round_trip: Duration },
    /// Asks for everything missing among the newest 128 numbers whenever another packet is; for a keyframe when one leaves them.
    Aiortc,
}

/// One receiver's requests.
#[derive(Debug)]
pub(crate) struct Asking {
    habit: Habit,
    newest: Option<u64>,
    /// What has come, as far as this receiver notices; of Pion.
    log: BTreeSet<u64>,
    missing: BTreeMap<u64, (Instant, u32)>,
    next: Option<Instant>,
    /// To be sent at once.
    due: Vec<u64>,
    wants_keyframe: bool,
    /// Numbers that were ever missing.
    pub(crate) ever: BTreeSet<u64>,
}

const PION_INTERVAL: Duration = Duration::from_millis(100);
const PION_LOG: u64 = 512;
const PION_REPLAY_WINDOW: u64 = 64;
const CHROMIUM_INTERVAL: Duration = Duration::from_millis(20);
const CHROMIUM_RETRIES: u32 = 10;
const CHROMIUM_MISSING_MAX: usize = 1_000;
const AIORTC_HISTORY: u64 = 128;

impl Asking {
    pub(crate) fn new(habit: Habit) -> Asking {
        Asking {
            habit,
            newest: None,
            log: BTreeSet::new(),
            missing: BTreeMap::new(),
            next: None,
            due: Vec::new(),
            wants_keyframe: false,
            ever: BTreeSet::new(),
        }
    }

    /// The receiver's SRTP refuses it as too old.
    pub(crate) fn refuses(&self, index: u64, by_rtx: bool) -> bool {
        let behind = self.newest.map_or(0, |newest| newest.saturating_sub(index));
        self.habit == Habit::Pion && !by_rtx && behind >= PION_REPLAY_WINDOW
    }

    pub(crate) fn arrived(&mut self, now: Instant, index: u64, by_rtx: bool) {
        if self.habit == Habit::Pion && by_rtx {
            return;
        }
        self.log.insert(index);
        self.missing.remove(&index);
        let gap = match self.newest {
            Some(newest) if index <= newest => return,
            Some(newest) => newest + 1..index,
            None => index..index,
        };
        self.newest = Some(index);
        self.ever.extend(gap.clone());
        match self.habit {
            Habit::Pion => {
                self.next.get_or_insert(now + PION_INTERVAL);
            }
            Habit::Chromium { .. } => {
                self.due.extend(gap.clone());
                self.missing.extend(gap.map(|index| (index, (now, 1))));
                if self.missing.len() > CHROMIUM_MISSING_MAX {
                    self.missing.clear();
                    self.wants_keyframe = true;
                }
                self.next.get_or_insert(now + CHROMIUM_INTERVAL);
            }
            Habit::Aiortc => {
                let missed = !gap.is_empty();
                self.missing.extend(gap.map(|index| (index, (now, 1))));
                let kept = self.missing.split_off(&index.saturating_sub(AIORTC_HISTORY));
                self.wants_keyframe |= !self.missing.is_empty();
                self.missing = kept;
                if missed {
                    self.due = self.missing.keys().copied().collect();
                }
            }
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Numbers to ask for now, and whether to ask for a keyframe.
    pub(crate) fn poll(&mut self, now: Instant) -> (Vec<u64>, bool) {
        while let Some(at) = self.next.filter(|at| *at <= now) {
            match self.habit {
                Habit::Pion => {
                    self.next = Some(at + PION_INTERVAL);
                    self.ask_like_pion();
                }
                Habit::Chromium { round_trip } => {
                    self.next = Some(at + CHROMIUM_INTERVAL);
                    self.ask_like_chromium(now, round_trip);
                }
                Habit::Aiortc => self.next = None,
            }
        }
        (std::mem::take(&mut self.due), std::mem::take(&mut self.wants_keyframe))
    }

    fn ask_like_pion(&mut self) {
        let Some(newest) = self.newest else { return };
        let first = *self.log.first().unwrap();
        let from = first.max(newest.saturating_sub(PION_LOG - 1));
        self.log = self.log.split_off(&from);
        self.due = (from..newest).filter(|index| !self.log.contains(index)).collect();
        // Where the log begins is remembered by what is in it.
        self.log.insert(from);
    }

    fn ask_like_chromium(&mut self, now: Instant, round_trip: Duration) {
        for (&index, (at, times)) in &mut self.missing {
            if now >= *at + round_trip {
                (*at, *times) = (now, *times + 1);
                self.due.push(index);
            }
        }
        let before = self.missing.len();
        self.missing.retain(|_, (_, times)| *times <= CHROMIUM_RETRIES);
        self.wants_keyframe |= self.missing.len() < before;
    }
}

/// What reports on video say.
#[derive(Default)]
pub(crate) struct Reception {
    first: Option<u64>,
    newest: u64,
    received: u64,
    /// Expected and received at the report before.
    before: (u64, u64),
    /// Middle of the NTP time of the last sender report, and when it came.
    pub(crate) sender_report: Option<(u32, Instant)>,
}

impl Reception {
    pub(crate) fn note(&mut self, index: u64) {
        self.first.get_or_insert(index);
        self.newest = self.newest.max(index);
        self.received += 1;
    }

    pub(crate) fn block(&mut self, now: Instant, about: Ssrc) -> Option<ReceptionBlock> {
        let expected = self.newest - self.first? + 1;
        let (expected_now, received_now) = (expected - self.before.0, self.received - self.before.1);
        self.before = (expected, self.received);
        let lost = expected_now.saturating_sub(received_now);
        let (last_sr, delay) = self.sender_report.map_or((0, 0), |(middle, at)| {
            (middle, ((now - at).as_micros() * 65_536 / 1_000_000) as u32)
        });
        Some(ReceptionBlock {
            about,
            fraction_lost: (256 * lost).checked_div(expected_now).unwrap_or(0).min(255) as u8,
            lost: (expected as i64 - self.received as i64) as i32,
            highest: self.newest as u32,
            jitter: 0,
            last_sr,
            delay,
        })
    }
}
