//! Transport-wide feedback to one client, about the packets of all streams that it sends.

use std::time::Instant;

use onecast_rtc::rtp::{RtpHeader, Ssrc, rtcp};
use onecast_rtc::sdp::MediaLine;

use super::twcc::Twcc;

/// Tells the sender of a transport when each packet arrived, for its bandwidth estimate.
pub struct TransportFeedback {
    /// Extension ids that carry the transport-wide sequence number. A client that follows RFC 8843 section 9 uses one for all lines.
    ids: Vec<u8>,
    local_ssrc: Ssrc,
    twcc: Twcc,
}

impl TransportFeedback {
    /// Feedback about packets of these lines, sent with `local_ssrc`. `None` if no line negotiated it.
    pub fn new<'a>(lines: impl Iterator<Item = &'a MediaLine> + Clone, local_ssrc: Ssrc) -> Option<TransportFeedback> {
        let mut formats = lines.clone().flat_map(|line| &line.formats);
        formats.any(|format| format.transport_cc).then(|| TransportFeedback {
            ids: TransportFeedback::ids(lines),
            local_ssrc,
            twcc: Twcc::new(local_ssrc),
        })
    }

    /// Takes the lines of a new negotiation.
    pub fn set_lines<'a>(&mut self, lines: impl Iterator<Item = &'a MediaLine>) {
        self.ids = TransportFeedback::ids(lines);
    }

    fn ids<'a>(lines: impl Iterator<Item = &'a MediaLine>) -> Vec<u8> {
        let mut ids: Vec<u8> = lines.filter_map(|line| line.extensions.transport_cc).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Notes an authentic packet. Every packet counts, including probes and packets that are dropped later.
    pub fn record(&mut self, now: Instant, clear: &[u8], header: &RtpHeader) {
        if let Some((_, value)) = header.extensions(clear).find(|(id, _)| self.ids.contains(id)) {
            self.twcc.record(now, header.ssrc, value);
        }
    }

    /// When there is something to write; `asap` if now.
    pub fn deadline(&self, asap: Instant) -> Option<Instant> {
        if self.twcc.is_pending() {
            return Some(asap);
        }
        self.twcc.deadline()
    }

    /// Prepares the feedback that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.twcc.handle_timeout(now);
    }

    /// Writes the next feedback packet behind a report if it fits. `alone`: there will never be more room, so what does not fit is
    /// dropped.
    pub(super) fn write(&mut self, out: &mut [u8], alone: bool) -> usize {
        self.twcc.write(out, alone)
    }

    /// Writes the next clear compound packet into `buf` and returns its length; `None` if nothing is due.
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
