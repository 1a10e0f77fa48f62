//! What a browser does with what arrives: reports and requests for what is missing.

use std::collections::VecDeque;

use super::broadcast::{ONE_WAY, Scene};
use super::path::{Cargo, Packet};
use super::score::Frame;

/// A reception report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Report {
    /// One more than the highest number that has arrived.
    pub(crate) next: u32,
    /// Of 256, since the last report.
    pub(crate) fraction_lost: u8,
}

#[derive(Debug)]
pub(crate) struct Client {
    /// The frame of each packet of the media.
    pub(crate) media_frame: Vec<u32>,
    eager_from: u32,
    report_at: u32,
    reported_at: u32,
    next: u32,
    reported_next: u32,
    received: u32,
    next_media: u32,
    /// Packets of the media that are missing, since when, and when to ask for them.
    missing: Vec<(u32, u32, u32)>,
    nacks: VecDeque<(u32, u32)>,
    reports: VecDeque<(u32, Report)>,
}

impl Client {
    /// Milliseconds between requests for a packet.
    const ASK_AGAIN: u32 = 100;
    /// It is given up after this.
    const GIVE_UP: u32 = 1_000;
    /// Every so often it looks for what is missing.
    const LOOK: u32 = 20;
    /// Requests come with a report, but not each.
    const REPORT_MIN: u32 = 60;

    pub(crate) fn new(eager_from: u32, phase: u32) -> Client {
        Client {
            media_frame: Vec::new(),
            eager_from,
            report_at: 500 + phase,
            reported_at: 0,
            next: 0,
            reported_next: 0,
            received: 0,
            next_media: 0,
            missing: Vec::new(),
            nacks: VecDeque::new(),
            reports: VecDeque::new(),
        }
    }

    pub(crate) fn receive(&mut self, now: u32, packet: &Packet, frames: &mut [Frame]) {
        let Cargo::Viewer { number, media } = packet.cargo else {
            return;
        };
        self.next = self.next.max(number + 1);
        self.received += 1;
        let Some(media) = media else { return };
        if media >= self.next_media {
            self.missing
                .extend((self.next_media..media).map(|gap| (gap, now, now + 10)));
            self.next_media = media + 1;
        } else {
            let before = self.missing.len();
            self.missing.retain(|(gap, ..)| *gap != media);
            if self.missing.len() == before {
                // It had arrived, or was given up.
                return;
            }
        }
        let frame = &mut frames[self.media_frame[media as usize] as usize];
        frame.missing -= 1;
        if frame.missing == 0 {
            frame.complete_at = Some(now);
        }
    }

    pub(crate) fn pass(&mut self, now: u32) {
        if now.is_multiple_of(Client::LOOK) && !self.missing.is_empty() {
            self.missing.retain(|(_, since, _)| now - since < Client::GIVE_UP);
            let mut asked = false;
            for (gap, _, ask_at) in &mut self.missing {
                if *ask_at <= now {
                    *ask_at = now + Client::ASK_AGAIN;
                    self.nacks.push_back((now + ONE_WAY, *gap));
                    asked = true;
                }
            }
            if asked && now - self.reported_at >= Client::REPORT_MIN {
                self.report(now);
            }
        }
        if now >= self.report_at {
            let interval = if now >= self.eager_from { Scene::REPORTS } else { 1_000 };
            self.report_at = now + interval;
            self.report(now);
        }
    }

    fn report(&mut self, now: u32) {
        let expected = self.next - self.reported_next;
        let lost = expected.saturating_sub(self.received);
        let fraction_lost = (lost * 256).checked_div(expected).unwrap_or(0).min(255) as u8;
        self.reports.push_back((
            now + ONE_WAY,
            Report {
                next: self.next,
                fraction_lost,
            },
        ));
        (self.reported_at, self.reported_next, self.received) = (now, self.next, 0);
    }

    /// A request that has reached the shard: the time and the packet.
    pub(crate) fn poll_nack(&mut self, now: u32) -> Option<(u32, u32)> {
        due(&mut self.nacks, now)
    }

    /// A report that has reached the shard.
    pub(crate) fn poll_report(&mut self, now: u32) -> Option<Report> {
        due(&mut self.reports, now).map(|(_, report)| report)
    }
}

/// The first of a queue, if its time has come.
fn due<T>(queue: &mut VecDeque<(u32, T)>, now: u32) -> Option<(u32, T)> {
    let is_due = queue.front().is_some_and(|(at, _)| *at <= now);
    is_due.then(|| queue.pop_front()).flatten()
}
