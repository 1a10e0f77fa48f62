//! Transport-wide feedback to one client: about everything that it sends, whichever of its streams it is of.

use std::time::Instant;

use super::twcc::Twcc;
use onecast_rtc::rtp::{RtpHeader, rtcp};
use onecast_rtc::sdp::MediaLine;

/// When each packet of a transport arrived, for its sender's bandwidth estimate.
pub struct TransportFeedback {
    /// One id for the whole transport if the client follows RFC 8843 section 9; the first that fits if not.
    ids: Vec<u8>,
    local_ssrc: u32,
    twcc: Twcc,
}

impl TransportFeedback {
    /// About packets of these lines, under this SSRC of ours; `None` when none of them has negotiated it.
    pub fn new<'a>(lines: impl Iterator<Item = &'a MediaLine> + Clone, local_ssrc: u32) -> Option<TransportFeedback> {
        let mut formats = lines.clone().flat_map(|line| &line.formats);
        formats.any(|format| format.transport_cc).then(|| TransportFeedback {
            ids: TransportFeedback::ids(lines),
            local_ssrc,
            twcc: Twcc::new(local_ssrc),
        })
    }

    /// The lines are others from now on.
    pub fn set_lines<'a>(&mut self, lines: impl Iterator<Item = &'a MediaLine>) {
        self.ids = TransportFeedback::ids(lines);
    }

    fn ids<'a>(lines: impl Iterator<Item = &'a MediaLine>) -> Vec<u8> {
        let mut ids: Vec<u8> = lines.filter_map(|line| line.extensions.transport_cc).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Notes an authentic packet. Every packet counts, also probes and those that are dropped later.
    pub fn record(&mut self, now: Instant, clear: &[u8], header: &RtpHeader) {
        if let Some((_, value)) = header.extensions(clear).find(|(id, _)| self.ids.contains(id)) {
            self.twcc.record(now, header.ssrc, value);
        }
    }

    /// When there is something to write; `asap` if at once.
    pub fn deadline(&self, asap: Instant) -> Option<Instant> {
        if self.twcc.is_pending() {
            return Some(asap);
        }
        self.twcc.deadline()
    }

    /// Makes the feedback that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.twcc.handle_timeout(now);
    }

    /// Writes the next feedback behind a report, if it fits. `alone` says that there will never be more room.
    pub(super) fn write(&mut self, out: &mut [u8], alone: bool) -> usize {
        self.twcc.write(out, alone)
    }

    /// Writes the next clear compound packet into `buf` and returns its length; `None` when nothing is due.
    pub fn poll_rtcp(&mut self, now: Instant, buf: &mut [u8]) -> Option<usize> {
        self.twcc.handle_timeout(now);
        if !self.twcc.is_pending() {
            return None;
        }
        let head = rtcp::write_receiver_report_empty(buf, self.local_ssrc);
        let len = self.twcc.write(&mut buf[head..], true);
        (len > 0).then_some(head + len)
    }
}
