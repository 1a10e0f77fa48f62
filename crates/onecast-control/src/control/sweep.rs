//! Once a second, limits and silences are checked.

use std::time::Instant;

use super::{Control, Now};
use crate::effect::Notice;
use crate::ended::EndReason;
use crate::registry::Verdict;

impl Control {
    /// Does what is due. See [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, now: Now) {
        self.end_due(now);
        if self.sweep_at <= now.instant {
            self.sweep_at = now.instant + Control::SWEEP_INTERVAL;
            self.sweep(now);
        }
    }

    /// How many turns each shard has made, about once a second: a shard that stands still is stuck.
    pub fn handle_turns(&mut self, now: Instant, turns: impl Iterator<Item = u64>) {
        self.watchdog.handle_turns(now, turns);
    }

    fn sweep(&mut self, now: Now) {
        self.enforce_limits(now);
        self.report_drain(now);
        self.report_silences(now);
        self.refresh_layers(now);
        self.rooms.handle_timeout(now.instant);
        self.apply_room_effects(now);
        for id in self.registry.overdue(now.instant) {
            let why = match self.registry.awaits_answer(id) {
                true => EndReason::NoAnswer,
                false => EndReason::NeverCame,
            };
            self.ends.push(id, why);
        }
        self.end_batch(now);
        self.report_refused();
    }

    fn enforce_limits(&mut self, now: Now) {
        for verdict in self.registry.verdicts(now.instant) {
            match verdict {
                Verdict::End(id, why) => self.ends.push(id, why),
                Verdict::Warn {
                    stream,
                    measured_bps,
                    max_bps,
                } => self.notice(Notice::BitRate {
                    stream,
                    measured_bps,
                    max_bps,
                }),
                Verdict::Large { stream, longest } => self.notice(Notice::LargePackets { stream, longest }),
            }
        }
    }

    /// Publishers that fell silent or send again, and viewers that cannot play what is sent.
    fn report_silences(&mut self, now: Now) {
        for change in self.registry.silence_changes(now.instant) {
            self.announce(now, &change.stream);
            self.notice(Notice::Silence(change));
        }
        for missing in self.registry.codecs_missing() {
            self.notice(Notice::CodecMissing(missing));
        }
    }

    /// A crowd that is refused gets one line a second in the log, not one for each client.
    fn report_refused(&mut self) {
        let total = self.registry.admission();
        let since = total.since(&self.refused);
        self.refused = total;
        if since.refused() > 0 {
            self.notice(Notice::Refused { since });
        }
    }
}
