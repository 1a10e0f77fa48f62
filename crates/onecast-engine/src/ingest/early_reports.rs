//! Sender reports that arrived before the first packet of their SSRC.

use onecast_rtc::rtp::Ssrc;

use super::ssrc_state::SenderReport;
use super::track_receiver::TrackReceiver;

/// The newest early reports. RTCP may overtake RTP, and video waits for its first keyframe.
#[derive(Debug, Default)]
pub(super) struct EarlyReports {
    /// The newest first.
    reports: [Option<(Ssrc, SenderReport)>; REPORTS_MAX],
}

impl EarlyReports {
    /// Keeps a report until its SSRC sends.
    pub(super) fn push(&mut self, ssrc: Ssrc, report: SenderReport) {
        let is_known = |early: &Option<(Ssrc, SenderReport)>| early.is_some_and(|(known, _)| known == ssrc);
        // A newer report takes the place of an older one of its SSRC, which would be delivered after it otherwise.
        let place = self.reports.iter().position(is_known).unwrap_or(REPORTS_MAX - 1);
        self.reports[..=place].rotate_right(1);
        self.reports[0] = Some((ssrc, report));
    }

    /// Gives a track, of which a packet has just arrived, the report that was early.
    pub(super) fn deliver(&mut self, track: &mut TrackReceiver) {
        if self.reports.iter().all(Option::is_none) {
            return;
        }
        let is_of_track = |early: &Option<(Ssrc, SenderReport)>| {
            early.is_some_and(|(ssrc, _)| track.active_ssrcs().any(|known| known == ssrc))
        };
        let newest = self.reports.iter().position(is_of_track);
        if let Some((ssrc, report)) = newest.and_then(|at| self.reports[at].take()) {
            track.handle_sender_report(ssrc, report);
        }
    }
}

/// Two tracks, each of which may be announced and replaced once.
const REPORTS_MAX: usize = 4;
