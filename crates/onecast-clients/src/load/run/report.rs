//! What a run found: the object of `--json`, the table, and the thresholds.

mod table;

use std::time::Duration;

use serde::Serialize;

use super::figures::Figures;
use super::histogram::Percentiles;
use super::source::SourceCounts;
use crate::load::joiner::JoinTimes;
use crate::load::spread::Spread;

/// The figures of a run. Times are in milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Where viewers joined.
    pub whep: String,
    /// Where the workload was published.
    pub whip: Option<String>,
    /// Its name.
    pub workload: &'static str,
    /// How long all watched, s.
    pub seconds: f64,
    /// How the viewers fared.
    pub viewers: ViewerCounts,
    /// From the POST on.
    pub join_ms: Joins,
    /// Media packets of all viewers.
    pub packets: Packets,
    /// Frames at the verified viewers.
    pub frames: FrameCounts,
    /// Retransmissions that verified viewers asked for.
    pub repairs: Repairs,
    /// From the publisher's stamp to the viewer's socket, for the last packet of each frame; when this run publishes.
    pub delay_ms: Percentiles,
    /// Between the delays of two frames in a row.
    pub jitter_ms: Percentiles,
    /// What the publisher did and was asked; when this run publishes.
    pub publisher: Option<SourceCounts>,
    /// Of the process of `--pid`, while all watched.
    pub server: Option<ServerUse>,
    /// Of this process, while all watched, percent of a core.
    pub load_cpu_percent: Option<f64>,
    /// Why the run ended early, and what viewers were told.
    pub troubles: Vec<String>,
    /// Thresholds that were broken, in words.
    pub broken: Vec<String>,
}

/// How the viewers fared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ViewerCounts {
    /// How many were to watch at once.
    pub wanted: u32,
    /// How many of them opened every packet.
    pub verified: u32,
    /// Joins that ended with keys, of viewers that replaced others too.
    pub joined: u64,
    /// Refused by the server.
    pub refused: u64,
    /// Answered, but without a handshake within 10 s.
    pub failed: u64,
    /// Told to come back later, each time.
    pub retried: u64,
    /// Left and were replaced.
    pub left: u64,
    /// Lost their session.
    pub ended: u64,
    /// Goodbyes (DELETE) that the server did not take.
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
    /// To the first whole keyframe.
    pub picture: Percentiles,
}

/// Media packets of all viewers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Packets {
    /// That came.
    pub delivered: u64,
    /// That never came, those asked for again included.
    pub lost: u64,
    /// Their share of both, 0 to 1.
    pub loss: f64,
    /// Viewers of which it is not known what they lost.
    pub unknown_viewers: u64,
    /// Came to this machine, and this process was too slow to read them: the load's own fault, not among the lost.
    pub own_drops: u64,
}

/// Frames at the verified viewers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct FrameCounts {
    /// Of which every packet came, from a keyframe on.
    pub whole: u64,
    /// Times that none came for more than three frame intervals.
    pub freezes: u64,
    /// All that time.
    pub frozen_ms: f64,
    /// The longest.
    pub freeze_longest_ms: f64,
}

/// Retransmissions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Repairs {
    /// Packets thrown away on purpose.
    pub dropped_on_purpose: u64,
    /// From the request to the repair, whose count is that of the repairs.
    pub time_ms: Percentiles,
}

/// What the server used while all watched.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ServerUse {
    /// Percent of one core.
    pub cpu_percent: f64,
    /// CPU nanoseconds for each packet to each viewer.
    pub ns_per_packet_viewer: Option<f64>,
    /// Resident memory at the end.
    pub resident_bytes: u64,
}

/// What must hold for exit code 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct Thresholds {
    /// Most lost packets, share of 1.
    pub loss: Option<f64>,
    /// Most that 99 % of the joins take to the first picture, or packet of audio.
    pub join_p99: Option<Duration>,
    /// There is no video.
    pub audio_only: bool,
}

impl Report {
    /// Takes over what was counted.
    pub(super) fn fill(&mut self, figures: &Figures) {
        let counts = &mut self.viewers;
        counts.joined = figures.joins.iter().filter(|join| join.connected.is_some()).count() as u64;
        (counts.refused, counts.failed, counts.retried) = (figures.refused, figures.failed, figures.retried);
        (counts.left, counts.ended) = (figures.left, figures.ended);
        counts.goodbyes_failed = figures.goodbyes_failed;
        self.join_ms = Joins::of(&figures.joins);
        self.packets = Packets::of(figures);
        self.frames = FrameCounts {
            whole: figures.whole_frames,
            freezes: figures.freezes,
            frozen_ms: figures.frozen.as_micros() as f64 / 1e3,
            freeze_longest_ms: figures.freeze_longest.as_micros() as f64 / 1e3,
        };
        self.repairs = Repairs {
            dropped_on_purpose: figures.dropped_on_purpose,
            time_ms: Percentiles::from(&figures.repaired),
        };
        self.delay_ms = Percentiles::from(&figures.delays);
        self.jitter_ms = Percentiles::from(&figures.jitter);
    }

    /// Notes what is broken, and by how much.
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
    fn of(figures: &Figures) -> Packets {
        let delivered = figures.delivered;
        // What this process dropped is missing at its viewers too.
        let lost = figures.lost.saturating_sub(figures.own_drops);
        Packets {
            delivered,
            lost,
            loss: lost as f64 / (delivered + lost).max(1) as f64,
            unknown_viewers: figures.unknown,
            own_drops: figures.own_drops,
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
        let figures = Figures {
            joins: (1..=100).map(join).collect(),
            delivered,
            lost,
            own_drops,
            ..Figures::default()
        };
        let mut report = Report::default();
        report.fill(&figures);
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
    fn the_loads_own_drops_are_not_held_against_the_server() {
        let packets = report(90, 15, 5).packets;
        assert_eq!((packets.lost, packets.own_drops), (10, 5));
        assert!((packets.loss - 0.1).abs() < 1e-9);
    }

    #[test]
    fn broken_thresholds_say_by_how_much() {
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
