//! Results as a table and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use super::floor::FloorReport;
use super::measure::{Idle, JoinCosts, Row};
use crate::load::spread::Spread;

/// Results of one run.
pub(super) struct BenchReport {
    machine: String,
    pub(super) joins: Option<JoinCosts>,
    pub(super) idle: Option<Idle>,
    pub(super) rows: Vec<Row>,
}

impl BenchReport {
    pub(super) fn new() -> BenchReport {
        BenchReport {
            machine: machine(),
            joins: None,
            idle: None,
            rows: Vec::new(),
        }
    }

    /// What is wrong with the result: lost packets, and a server that costs more than permitted.
    pub(super) fn failures(&self, min_ratio: Option<f64>) -> Vec<String> {
        let lost = self.rows.iter().filter(|row| row.server.lost > 0).map(|row| {
            let (lost, packets) = (row.server.lost, row.server.packets);
            format!("{lost} of {packets} packets were lost with {} viewers", row.viewers)
        });
        let most = self.rows.iter().max_by_key(|row| row.viewers);
        let expensive = most.zip(min_ratio).filter(|(row, min)| row.paced_ratio() < *min);
        let expensive = expensive.map(|(row, min)| {
            let ratio = row.paced_ratio();
            format!(
                "paced floor / server is {ratio:.2} with {} viewers; at least {min} is required",
                row.viewers
            )
        });
        lost.chain(expensive).collect()
    }

    pub(super) fn table(&self) -> String {
        let mut text = format!("{}\n", self.machine);
        if let Some(joins) = self.joins {
            let [before, after] = joins.floor.map(|floor| floor.as_secs_f64() * 1e6);
            let _ = writeln!(
                text,
                "join: {:.0} us of the server's CPU one by one, {:.0} us eight at a time (means of {}); public-key operations alone {before:.0}, {after:.0} us; {:.2} and {:.2} times",
                joins.alone.as_secs_f64() * 1e6,
                joins.together.as_secs_f64() * 1e6,
                joins.count,
                joins.ratio(joins.alone),
                joins.ratio(joins.together),
            );
        }
        if let Some(idle) = self.idle {
            let _ = writeln!(
                text,
                "{} idle viewers: {:.1} % of a core, {:.1} MiB",
                idle.viewers,
                idle.busy * 100.0,
                idle.resident as f64 / f64::from(1 << 20),
            );
        }
        text.push_str("\nns of CPU per packet x viewer (datagrams of 1,000 bytes)\n");
        text.push_str("viewers | frames/s | floor before, after | paced floor | server | floor/server | paced/server | sealing | packets per send call | server's core | lost | memory | frame delay p50, p99 | jitter p99 | keyframe delay p99\n");
        for row in &self.rows {
            let [before, after] = row.floor.each_ref().map(|floor| floor.ns_per_packet_viewer);
            let [paced_before, paced_after] = row.paced.each_ref().map(|floor| floor.ns_per_packet_viewer);
            let server = &row.server;
            let _ = writeln!(
                text,
                "{:>7} | {:.0} | {before:.0}, {after:.0} | {paced_before:.0}, {paced_after:.0} | {:.0} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} % | {} of {} | {:.1} MiB | {:.2}, {:.2} ms | {:.2} ms | {:.1} ms",
                row.viewers,
                row.frame_rate,
                server.ns_per_packet_viewer,
                row.ratio(),
                row.paced_ratio(),
                row.sealing(),
                row.packets_per_call(),
                server.busy * 100.0,
                server.lost,
                server.packets,
                server.resident as f64 / f64::from(1 << 20),
                ms(&server.delays.frames, 50.0),
                ms(&server.delays.frames, 99.0),
                ms(&server.delays.jitter, 99.0),
                ms(&server.delays.keyframes, 99.0),
            );
        }
        if let Some((few, many, bytes)) = self.memory_slope() {
            let _ = writeln!(
                text,
                "memory per viewer, from {few} to {many}: {:.1} KiB",
                bytes / 1024.0
            );
        }
        text
    }

    pub(super) fn json(&self) -> String {
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        let joins = self.joins.map(|joins| {
            json!({
                "count": joins.count,
                "cpu_us": { "alone": us(joins.alone), "together": us(joins.together) },
                "crypto_floor_us": joins.floor.map(us),
                "ratio": { "alone": joins.ratio(joins.alone), "together": joins.ratio(joins.together) },
            })
        });
        let idle = self
            .idle
            .map(|idle| json!({ "viewers": idle.viewers, "core_share": idle.busy, "resident_bytes": idle.resident }));
        let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
        let slope = self.memory_slope().map(|(_, _, bytes)| bytes);
        let all = json!({
            "machine": self.machine,
            "version": env!("CARGO_PKG_VERSION"),
            "joins": joins,
            "idle": idle,
            "rows": rows,
            "memory_per_viewer_bytes": slope,
        });
        format!("{all}\n")
    }

    /// Bytes per additional viewer, between the fewest and the most viewers.
    fn memory_slope(&self) -> Option<(usize, usize, f64)> {
        let few = self.rows.iter().min_by_key(|row| row.viewers)?;
        let many = self.rows.iter().max_by_key(|row| row.viewers)?;
        let more = many.server.resident as f64 - few.server.resident as f64;
        let further = many.viewers.checked_sub(few.viewers).filter(|&viewers| viewers > 0)?;
        Some((few.viewers, many.viewers, more / further as f64))
    }
}

impl JoinCosts {
    fn ratio(&self, cost: Duration) -> f64 {
        let [before, after] = self.floor.map(|floor| floor.as_secs_f64());
        cost.as_secs_f64() * 2.0 / (before + after)
    }
}

impl Row {
    /// The floor without pauses as a share of the server's cost.
    fn ratio(&self) -> f64 {
        mean(&self.floor) / self.server.ns_per_packet_viewer
    }

    /// The paced floor as a share of the server's cost.
    fn paced_ratio(&self) -> f64 {
        mean(&self.paced) / self.server.ns_per_packet_viewer
    }

    fn sealing(&self) -> f64 {
        let [before, after] = &self.floor;
        before
            .sealing_ns_per_packet_viewer
            .min(after.sealing_ns_per_packet_viewer)
    }

    fn packets_per_call(&self) -> f64 {
        self.server.sent.datagrams as f64 / self.server.sent.calls.max(1) as f64
    }

    fn json(&self) -> serde_json::Value {
        let ns = |floors: &[FloorReport; 2]| floors.each_ref().map(|floor| floor.ns_per_packet_viewer);
        json!({
            "viewers": self.viewers,
            "frames_per_second": self.frame_rate,
            "floor_ns": ns(&self.floor),
            "paced_floor_ns": ns(&self.paced),
            "server_ns": self.server.ns_per_packet_viewer,
            "ratio": self.ratio(),
            "paced_ratio": self.paced_ratio(),
            "sealing_ns": self.sealing(),
            "packets_per_send_call": self.packets_per_call(),
            "gso_runs": self.server.sent.gso_runs,
            "core_share": self.server.busy,
            "packets": self.server.packets,
            "lost": self.server.lost,
            "resident_bytes": self.server.resident,
            "frame_delay_ms": percentiles(&self.server.delays.frames),
            "frame_jitter_ms": percentiles(&self.server.delays.jitter),
            "keyframe_delay_ms": percentiles(&self.server.delays.keyframes),
        })
    }
}

fn ms(spread: &Spread, percent: f64) -> f64 {
    spread.percentile(percent).as_secs_f64() * 1e3
}

fn percentiles(spread: &Spread) -> serde_json::Value {
    json!({ "p50": ms(spread, 50.0), "p95": ms(spread, 95.0), "p99": ms(spread, 99.0), "max": ms(spread, 100.0) })
}

fn mean(floors: &[FloorReport; 2]) -> f64 {
    (floors[0].ns_per_packet_viewer + floors[1].ns_per_packet_viewer) / 2.0
}

/// One line about the machine.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let line = |path: &str, start: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let found = text.lines().find(|line| line.starts_with(start)).unwrap_or_default();
        found.rsplit(':').next().unwrap_or_default().trim().to_owned()
    };
    format!(
        "{}, {cores} cores, Linux {}, load {}; onecast {}",
        line("/proc/cpuinfo", "model name"),
        line("/proc/sys/kernel/osrelease", ""),
        line("/proc/loadavg", ""),
        env!("CARGO_PKG_VERSION"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::delays::Delays;
    use super::super::measure::ServerRun;
    use super::super::own_server::SentTotals;
    use super::*;

    fn floor(ns: f64) -> FloorReport {
        FloorReport {
            ns_per_packet_viewer: ns,
            sealing_ns_per_packet_viewer: 200.0,
            packets: 1,
            dropped: 0,
            read: 0,
            cpu: Duration::ZERO,
            elapsed: Duration::ZERO,
        }
    }

    fn row(viewers: usize, lost: u64) -> Row {
        Row {
            viewers,
            frame_rate: 30.0,
            floor: [floor(700.0), floor(900.0)],
            paced: [floor(900.0), floor(900.0)],
            server: ServerRun {
                ns_per_packet_viewer: 1_000.0,
                packets: 1_000,
                lost,
                busy: 0.3,
                resident: (10 << 20) + (viewers as u64) * 4_096,
                sent: SentTotals::default(),
                delays: Delays::default(),
            },
        }
    }

    fn report(rows: Vec<Row>) -> BenchReport {
        BenchReport {
            rows,
            ..BenchReport::new()
        }
    }

    #[test]
    fn ratios_use_the_mean_of_both_floors_and_memory_is_a_slope() {
        let report = report(vec![row(100, 0), row(1_000, 0)]);
        assert_eq!((report.rows[0].ratio(), report.rows[0].paced_ratio()), (0.8, 0.9));
        assert_eq!(report.memory_slope(), Some((100, 1_000, 4_096.0)));
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["rows"][1]["ratio"], 0.8);
        assert!(report.table().contains("from 100 to 1000: 4.0 KiB"));
    }

    #[test]
    fn lost_packets_and_an_expensive_server_are_failures() {
        assert_eq!(report(vec![row(10, 0)]).failures(Some(0.9)), Vec::<String>::new());
        let failures = report(vec![row(10, 3), row(20, 0)]).failures(Some(0.95));
        assert_eq!(failures.len(), 2, "{failures:?}");
        assert!(failures[0].contains("3 of 1000 packets") && failures[1].contains("0.90 with 20 viewers"));
    }
}
