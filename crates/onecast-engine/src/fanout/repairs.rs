//! What one viewer is sent again of one track: which packets, and how often. The [`pacer`](super::pacer) decides how much.
//!
//! Receivers ask in different ways. Chromium asks after each round trip until the packet comes. aiortc asks for everything that is missing
//! whenever another packet is. Pion asks every 100 ms, and ignores what comes by RTX: it goes on asking. First requests come before
//! second ones, second before third, and there is no fourth.
//!
//! The state is made with a viewer's first request and freed when it has not asked for a while.

use std::time::{Duration, Instant};

/// What is known of a viewer's requests for packets of one track.
#[derive(Debug)]
pub(super) struct Repairs {
    /// Packets that were asked for, by number; at most [`Repairs::ASKED_MAX`].
    asked: Vec<Asked>,
    /// Requests for lower numbers have been forgotten, and those packets are not sent again.
    floor: u64,
    began: Instant,
    asked_at: Instant,
    looks: Looks,
    losses: Losses,
    attention: Attention,
    /// Packets missing since the viewer's last start.
    lost_since_start: u32,
    /// When the viewer's address changed last, milliseconds since the beginning.
    moved_at: Option<u32>,
}

/// A packet that was asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    number: u64,
    /// When it was sent last, or first asked for, milliseconds since the beginning.
    at: u32,
    /// How often it was sent. [`Asked::GIVEN_UP`] when it was asked for after the last time.
    times: u8,
    /// The last time counts for [`Attention`].
    noted: bool,
}

/// What a request for a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// The packet has not been sent again so far.
    First {
        /// It was not asked for before.
        new: bool,
    },
    /// It was sent again so many times, the last time longer than a round trip ago.
    Again(u8),
    /// It was sent again so many times, and may be on its way.
    Soon(u8),
    /// It was sent again as often as any packet is.
    Often {
        /// This is the first request after the last time.
        news: bool,
    },
}

impl Asked {
    const TIMES_MAX: u8 = 3;
    const GIVEN_UP: u8 = Asked::TIMES_MAX + 1;
}

impl Repairs {
    /// At 10 % loss 2,560 packets: more than receivers ask for.
    const ASKED_MAX: usize = 256;
    /// Older requests make room first: Pion's log of 512 packets is 5 s long at 100 packets a second.
    const KEPT: Duration = Duration::from_secs(5);
    /// Between two moves that count: no client changes its network more often.
    const MOVES_APART: Duration = Duration::from_secs(2);

    /// State of a viewer that asks for the first time.
    pub(super) fn new(now: Instant) -> Repairs {
        Repairs {
            asked: Vec::new(),
            floor: 0,
            began: now,
            asked_at: now,
            looks: Looks::default(),
            losses: Losses::default(),
            attention: Attention::default(),
            lost_since_start: 0,
            moved_at: None,
        }
    }

    /// A NACK has come. Returns how many of its sequence numbers are looked at.
    /// `sent` is what the viewer has been sent of the track so far, in packets.
    pub(super) fn begin(&mut self, now: Instant, sent: u32) -> usize {
        self.asked_at = now;
        self.losses.judge(sent);
        self.looks.take(now)
    }

    /// So many sequence numbers were looked at.
    pub(super) fn looked(&mut self, sequences: usize) {
        self.looks.left = self.looks.left.saturating_sub(sequences);
    }

    /// Classifies a request. `wait` is how long a packet that was sent may be on its way.
    pub(super) fn ask(&mut self, now: Instant, number: u64, wait: Duration) -> Request {
        if number < self.floor {
            return Request::Often { news: false };
        }
        let at = match self.find(number) {
            Ok(at) => at,
            Err(0) if self.asked.len() >= Repairs::ASKED_MAX => return Request::Often { news: false },
            Err(at) => {
                self.insert(now, at, number);
                return Request::First { new: true };
            }
        };
        let since_sent = self.since(now).saturating_sub(self.asked[at].at);
        let entry = &mut self.asked[at];
        if entry.times == 0 {
            return Request::First { new: false };
        }
        if Duration::from_millis(u64::from(since_sent)) < wait {
            return Request::Soon(entry.times);
        }
        if std::mem::take(&mut entry.noted) {
            self.attention.asked_again();
        }
        if entry.times < Asked::TIMES_MAX {
            return Request::Again(entry.times);
        }
        let news = entry.times == Asked::TIMES_MAX;
        entry.times = Asked::GIVEN_UP;
        Request::Often { news }
    }

    /// The packet was sent again. `noticed` if it shows whether the receiver notices what it is sent.
    pub(super) fn answered(&mut self, now: Instant, number: u64, noticed: bool) {
        let since = self.since(now);
        if let Ok(at) = self.find(number) {
            let entry = &mut self.asked[at];
            (entry.at, entry.times, entry.noted) = (since, entry.times + 1, noticed);
            if noticed {
                self.attention.answered();
            }
        }
    }

    /// The viewer is at another address: what it was sent again went to the previous one. Its budget stays as it is, and a viewer that
    /// moves to and fro gains nothing.
    pub(super) fn moved(&mut self, now: Instant) {
        let at = self.since(now);
        let lately = self.moved_at.replace(at).map(|before| at.saturating_sub(before));
        if lately.is_some_and(|since| u128::from(since) < Repairs::MOVES_APART.as_millis()) {
            return;
        }
        for entry in &mut self.asked {
            (entry.times, entry.noted) = (0, false);
        }
    }

    /// Whether so much is lost that retransmissions are likely to be lost, too.
    pub(super) fn is_lossy(&self) -> bool {
        self.losses.is_many()
    }

    /// Whether the receiver ignores what it is sent by RTX.
    pub(super) fn is_deaf_to_rtx(&self) -> bool {
        self.attention.is_none()
    }

    /// Whether the receiver asks again only for what it has not got.
    pub(super) fn is_attentive(&self) -> bool {
        self.attention.is_paid()
    }

    /// Packets missing since the viewer's last start.
    pub(super) fn lost_since_start(&self) -> u32 {
        self.lost_since_start
    }

    /// The viewer is sent everything from a keyframe on.
    pub(super) fn begin_start(&mut self) {
        self.lost_since_start = 0;
    }

    /// Nothing is missed: the viewer has not asked for a while.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.asked_at + Repairs::KEPT
    }

    fn insert(&mut self, now: Instant, mut at: usize, number: u64) {
        let since = self.since(now);
        if self.asked.len() == self.asked.capacity().min(Repairs::ASKED_MAX) {
            at -= self.forget(at);
        }
        self.asked.insert(
            at,
            Asked {
                number,
                at: since,
                times: 0,
                noted: false,
            },
        );
        self.losses.lost += 1;
        self.lost_since_start += 1;
    }

    /// Makes room for an entry at a place: what is old goes, or else the oldest. Returns how many went that were in front of the place.
    fn forget(&mut self, at: usize) -> usize {
        let horizon = self
            .since(self.asked_at)
            .saturating_sub(Repairs::KEPT.as_millis() as u32);
        let mut old = self.asked.iter().take_while(|entry| entry.at < horizon).count().min(at);
        if old == 0 && self.asked.len() >= Repairs::ASKED_MAX {
            old = at.min(1);
        }
        if old > 0 {
            self.floor = self.asked[old - 1].number + 1;
            self.asked.drain(..old);
        }
        old
    }

    fn find(&self, number: u64) -> Result<usize, usize> {
        self.asked.binary_search_by_key(&number, |entry| entry.number)
    }

    fn since(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.began).as_millis() as u32
    }
}

/// Sequence numbers that are looked up. Asking is cheaper than looking up: without a bound, a viewer that always asks for everything would
/// cost more than its media.
#[derive(Debug, Default)]
struct Looks {
    since: Option<Instant>,
    left: usize,
}

impl Looks {
    /// As many as Chromium ever asks for in one go.
    const MAX: usize = 1_000;
    /// How often receivers ask at most.
    const INTERVAL: Duration = Duration::from_millis(20);

    fn take(&mut self, now: Instant) -> usize {
        if self.since.is_none_or(|since| now >= since + Looks::INTERVAL) {
            *self = Looks {
                since: Some(now),
                left: Looks::MAX,
            };
        }
        self.left
    }
}

/// How much of what is sent does not arrive.
#[derive(Debug, Default)]
struct Losses {
    lost: u32,
    /// What the viewer had been sent when counting began.
    sent_before: Option<u32>,
    many: bool,
}

impl Losses {
    /// Packets after which a share says something.
    const PACKETS: u32 = 128;
    /// One of 25 packets: from here on one of 600 would need a third time.
    const FEW: u32 = 25;

    fn judge(&mut self, sent: u32) {
        let before = *self.sent_before.get_or_insert(sent);
        let packets = sent.wrapping_sub(before);
        if packets >= Losses::PACKETS {
            *self = Losses {
                many: self.lost * Losses::FEW >= packets,
                lost: 0,
                sent_before: Some(sent),
            };
        }
    }

    fn is_many(&self) -> bool {
        self.many
    }
}

/// Whether the receiver notices retransmissions: how many of the packets that it was sent again it asked for once more.
#[derive(Debug, Default)]
struct Attention {
    answered: u8,
    asked_again: u8,
}

impl Attention {
    /// Answers after which they say something.
    const ANSWERS: u8 = 6;
    /// What is older counts half.
    const HALVED: u8 = 64;

    fn answered(&mut self) {
        if self.answered >= Attention::HALVED {
            self.answered /= 2;
            self.asked_again /= 2;
        }
        self.answered += 1;
    }

    fn asked_again(&mut self) {
        self.asked_again = (self.asked_again + 1).min(self.answered);
    }

    /// Three of four are asked for again: no path that is worth anything loses so much.
    fn is_none(&self) -> bool {
        self.answered >= Attention::ANSWERS && u32::from(self.asked_again) * 4 >= u32::from(self.answered) * 3
    }

    /// What it asks for again, it has not got.
    fn is_paid(&self) -> bool {
        self.answered >= Attention::ANSWERS && u32::from(self.asked_again) * 2 < u32::from(self.answered)
    }
}

#[cfg(test)]
mod tests;
