//! Results of a run: the JSON object, the table, and the thresholds.

pub mod paths;
mod table;

use std::time::Duration;

use serde::Serialize;

use super::histogram::Percentiles;
use super::path::PathClasses;
use super::publisher::{LayerCounts, PublisherCounts};
use super::spread::Spread;
use super::totals::Totals;
use super::viewer::JoinTimes;
use paths::PathReport;

/// Results of a run. Times are in milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Where viewers joined.
    pub whep: String,
    /// Where the workload was published.
    pub whip: Option<String>,
    /// Its name.
    pub workload: &'static str,
    /// How long all viewers watched, s.
    pub seconds: f64,
    /// What happened to the viewers.
    pub viewers: ViewerCounts,
    /// Times of joining, from the POST.
    pub join_ms: Joins,
    /// Media packets of all viewers.
    pub packets: Packets,
    /// Frames at the verified viewers.
    pub frames: FrameCounts,
    /// Retransmissions that verified viewers requested.
    pub repairs: Repairs,
    /// What viewers saw, by the class of their path; with `--paths`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathReport>,
    /// From the publisher's stamp to the viewer's socket, for the last packet of each frame; when this run publishes.
    pub delay_ms: Percentiles,
    /// Difference between the delays of consecutive frames.
    pub jitter_ms: Percentiles,
    /// What the publisher sent and the server requested; when this run publishes.
    pub publisher: Option<PublisherCounts>,
    /// The layers that this run publishes, in the order of its offer; empty without simulcast.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerCounts>,
    /// Resources of the process of `--pid` while all viewers watched.
    pub server: Option<ServerUse>,
    /// CPU of this process while all viewers watched, percent of a core.
    pub load_cpu_percent: Option<f64>,
    /// Why the run ended early, and failures of viewers.
    pub troubles: Vec<String>,
    /// Exceeded thresholds, as sentences.
    pub broken: Vec<String>,
}

/// What happened to the viewers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ViewerCounts {
    /// Requested number of concurrent viewers.
    pub wanted: u32,
    /// Viewers among them that decrypted every packet.
    pub verified: u32,
    /// Completed handshakes, including those of replacements.
    pub joined: u64,
    /// Refused by the server.
    pub refused: u64,
    /// Answered, but without a handshake within 10 s.
    pub failed: u64,
    /// Times that the server asked a viewer to retry later.
    pub retried: u64,
    /// Left and were replaced.
    pub left: u64,
    /// Lost their session.
    pub ended: u64,
    /// DELETE requests that the server did not accept.
    pub goodbyes_failed: u64,
}

/// Times of joining.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Joins {
    /// To the answer.
    pub answer: Percentiles,
    /// To the end of the DTLS handshake.
    pub dtls: Percentiles,
    /// To the first media packet.
    pub first_packet: Percentiles,
    /// To the first complete keyframe.
    pub picture: Percentiles,
}

/// Media packets of all viewers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Packets {
    /// Packets that arrived.
    pub delivered: u64,
    /// Packets that never arrived, although verified viewers requested them again.
    pub lost: u64,
    /// Lost share of all packets, 0 to 1.
    pub loss: f64,
    /// Viewers whose losses are not known.
    pub unknown_viewers: u64,
    /// Packets that arrived but that this process was too slow to read. They are not counted as lost.
    pub own_drops: u64,
}

/// Frames at the verified viewers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct FrameCounts {
    /// Frames received completely, from a keyframe on.
    pub whole: u64,
    /// Times that no frame arrived for more than three frame intervals.
    pub freezes: u64,
    /// Total time frozen.
    pub frozen_ms: f64,
    /// The longest freeze.
    pub freeze_longest_ms: f64,
}

/// Retransmissions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Repairs {
    /// Packets discarded on purpose.
    pub dropped_on_purpose: u64,
    /// From the request to the repair; the count is the number of repairs.
    pub time_ms: Percentiles,
}

/// Resources that the server used while all viewers watched.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ServerUse {
    /// Percent of one core.
    pub cpu_percent: f64,
    /// CPU nanoseconds per packet and viewer.
    pub ns_per_packet_viewer: Option<f64>,
    /// Resident memory at the end.
    pub resident_bytes: u64,
}

/// Limits for exit code 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct Thresholds {
    /// Maximum share of lost packets, 0 to 1.
    pub loss: Option<f64>,
    /// Maximum for the 99th percentile of the time to the first picture, or first audio packet.
    pub join_p99: Option<Duration>,
    /// There is no video.
    pub audio_only: bool,
}

impl Report {
    /// Fills in what was counted.
    pub(super) fn fill(&mut self, totals: &Totals) {
        let counts = &mut self.viewers;
        counts.joined = totals.joins.iter().filter(|join| join.connected.is_some()).count() as u64;
        (counts.refused, counts.failed, counts.retried) = (totals.refused, totals.failed, totals.retried);
        (counts.left, counts.ended) = (totals.left, totals.ended);
        counts.goodbyes_failed = totals.goodbyes_failed;
        self.join_ms = Joins::of(&totals.joins);
        self.packets = Packets::of(totals);
        self.frames = FrameCounts {
            whole: totals.whole_frames,
            freezes: totals.freezes,
            frozen_ms: totals.frozen.as_micros() as f64 / 1e3,
            freeze_longest_ms: totals.freeze_longest.as_micros() as f64 / 1e3,
        };
        self.repairs = Repairs {
            dropped_on_purpose: totals.dropped_on_purpose,
            time_ms: Percentiles::from(&totals.repaired),
        };
        self.delay_ms = Percentiles::from(&totals.delays);
        self.jitter_ms = Percentiles::from(&totals.jitter);
    }

    /// Fills in what viewers behind paths saw.
    pub(super) fn fill_paths(&mut self, classes: &PathClasses, totals: &Totals) {
        self.paths = paths::reports(classes, &totals.paths, &self.layers);
    }

    /// Adds exceeded thresholds, and by how much.
    pub fn judge(&mut self, thresholds: Thresholds) {
        let Packets { loss, delivered, .. } = self.packets;
        if let Some(max) = thresholds.loss
            && (loss > max || delivered == 0)
        {
            let (loss, max) = (loss * 100.0, max * 100.0);
            let over = loss - max;
            let said = if delivered == 0 {
                "nothing was delivered".to_owned()
            } else {
                format!("{loss:.4} % of the packets are lost, {over:.4} % too many")
            };
            self.broken.push(format!("--max-loss {max}%: {said}"));
        }
        if let Some(max) = thresholds.join_p99 {
            let (joins, what) = match thresholds.audio_only {
                true => (self.join_ms.first_packet, "first packet"),
                false => (self.join_ms.picture, "first picture"),
            };
            let max = max.as_secs_f64() * 1e3;
            if joins.count == 0 {
                self.broken
                    .push(format!("--max-join-p99 {max} ms: no viewer had its {what}"));
            } else if joins.p99 > max {
                let over = joins.p99 - max;
                let said = format!(
                    "99 % of the joins take {:.1} ms to the {what}, {over:.1} ms too long",
                    joins.p99
                );
                self.broken.push(format!("--max-join-p99 {max} ms: {said}"));
            }
        }
    }

    /// Exit code of the run.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.broken.is_empty() || !self.troubles.is_empty())
    }
}

impl Joins {
    fn of(joins: &[JoinTimes]) -> Joins {
        let spread = |end: fn(&JoinTimes) -> Option<Duration>| {
            let times = joins
                .iter()
                .filter_map(|join| Some(end(join)?.saturating_sub(join.posted)));
            Percentiles::from(&times.collect::<Spread>())
        };
        Joins {
            answer: spread(|join| Some(join.answered)),
            dtls: spread(|join| join.connected),
            first_packet: spread(|join| join.first_packet),
            picture: spread(|join| join.picture),
        }
    }
}

impl Packets {
    fn of(totals: &Totals) -> Packets {
        let delivered = totals.delivered;
        // The viewers miss what this process dropped, too.
        let lost = (totals.lost + totals.unopened).saturating_sub(totals.own_drops);
        Packets {
            delivered,
            lost,
            loss: lost as f64 / (delivered + lost).max(1) as f64,
            unknown_viewers: totals.unknown,
            own_drops: totals.own_drops,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn report(delivered: u64, lost: u64, own_drops: u64) -> Report {
        let join = |at: u64| JoinTimes {
            posted: ms(1_000),
            answered: ms(1_001),
            connected: Some(ms(1_002)),
            first_packet: Some(ms(1_003)),
            picture: Some(ms(1_000 + at)),
            caught_up: None,
        };
        let totals = Totals {
            joins: (1..=100).map(join).collect(),
            delivered,
            lost,
            own_drops,
            ..Totals::default()
        };
        let mut report = Report::default();
        report.fill(&totals);
        report
    }

    #[test]
    fn joins_are_timed_from_the_post() {
        let report = report(10, 0, 0);
        assert_eq!((report.join_ms.answer.p50, report.join_ms.dtls.p99), (1.0, 2.0));
        assert_eq!((report.join_ms.picture.p50, report.join_ms.picture.max), (50.0, 100.0));
        assert_eq!(report.viewers.joined, 100);
    }

    #[test]
    fn the_loads_own_drops_do_not_count_as_lost() {
        let packets = report(90, 15, 5).packets;
        assert_eq!((packets.lost, packets.own_drops), (10, 5));
        assert!((packets.loss - 0.1).abs() < 1e-9);
    }

    #[test]
    fn exceeded_thresholds_say_by_how_much() {
        let judged = |thresholds| {
            let mut report = report(980, 20, 0);
            report.judge(thresholds);
            (report.exit_code(), report.broken.join("\n"))
        };
        let loss = |loss| Thresholds {
            loss: Some(loss),
            ..Thresholds::default()
        };
        let join = |join| Thresholds {
            join_p99: Some(join),
            ..Thresholds::default()
        };
        assert_eq!(judged(loss(0.02)), (0, String::new()));
        let (code, words) = judged(loss(0.001));
        assert!(
            code == 1 && words.contains("2.0000 %") && words.contains("1.9000 % too many"),
            "{words}"
        );
        assert_eq!(judged(join(ms(99))), (0, String::new()));
        let (code, words) = judged(join(ms(50)));
        assert!(
            code == 1 && words.contains("99.0 ms") && words.contains("49.0 ms too long"),
            "{words}"
        );
    }

    #[test]
    fn nothing_delivered_breaks_every_threshold() {
        let mut report = Report::default();
        report.judge(Thresholds {
            loss: Some(1.0),
            join_p99: Some(ms(9)),
            audio_only: true,
        });
        assert_eq!((report.broken.len(), report.exit_code()), (2, 1));
    }
}
