//! Requests for keyframes, coalesced.

use std::time::{Duration, Instant};

use super::KeyframeFeedback;
use crate::rtp::rtcp;

/// What is wanted from one source, and what was asked for.
#[derive(Debug, Default)]
pub(super) struct KeyframeRequests {
    wanted: bool,
    sent_at: Option<Instant>,
    number: u8,
}

impl KeyframeRequests {
    /// Somebody needs a keyframe.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// A keyframe began: whoever asked before now is served.
    pub(super) fn satisfied(&mut self) {
        self.wanted = false;
    }

    /// When a request may go out; `asap` if at once.
    pub(super) fn deadline(&self, asap: Instant) -> Option<Instant> {
        self.wanted
            .then(|| self.sent_at.map_or(asap, |sent| sent + INTERVAL_MIN))
    }

    /// Writes the request that is due. Returns its length, 0 when there is none or it does not fit.
    pub(super) fn write(
        &mut self,
        now: Instant,
        (sender, media): (u32, u32),
        how: KeyframeFeedback,
        out: &mut [u8],
    ) -> usize {
        if self.deadline(now).is_none_or(|deadline| deadline > now) {
            return 0;
        }
        let len = match how {
            KeyframeFeedback::Pli => rtcp::write_pli(out, sender, media),
            KeyframeFeedback::Fir => rtcp::write_fir(out, sender, media, self.number),
            KeyframeFeedback::None => {
                self.wanted = false;
                0
            }
        };
        if len > 0 {
            self.wanted = false;
            self.sent_at = Some(now);
            self.number = self.number.wrapping_add(1);
        }
        len
    }
}

/// At most one request in this time: an encoder needs about as long to make a keyframe and get it here.
const INTERVAL_MIN: Duration = Duration::from_millis(500);
