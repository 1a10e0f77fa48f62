//! `onecast bench`: compares the server with the floor, which is the cost of sealing and sending alone. Linux only: it reads /proc and
//! drops media in the kernel.
//!
//! For each number of viewers it measures, on one core: the floor without pauses, the floor paced like the publisher, the server (this
//! program in another process) with that many viewers, and both floors again. The load runs on another core.

pub mod clients;
mod crypto_floor;
mod delays;
pub mod floor;
mod measure;
mod own_server;
mod report;

use std::io;
use std::time::Duration;

use clap::Args;

use crate::load::workload::{Video, Workload};
use crate::values::duration;
pub use crypto_floor::crypto_floor;
use measure::Stage;
use onecast_udp::raise_open_files;
pub use own_server::{OwnServer, SentTotals};
use report::BenchReport;

/// Options of `onecast bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Numbers of viewers, each measured separately
    #[arg(long, value_name = "N,N", default_value = "100,1000", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub viewers: Vec<u32>,

    /// What is published: w1 is 30 frames a second of 6 packets, w2 is 60 of 12
    #[arg(long, value_name = "NAME", default_value = "w1", value_parser = video)]
    pub workload: Video,

    /// How long each server is measured
    #[arg(long = "for", value_name = "TIME", default_value = "8s", value_parser = duration)]
    pub time: Duration,

    /// Frames per second [default: the workload's rate, or less with more viewers than one core can serve]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=240))]
    pub frame_rate: Option<u16>,

    /// Let floor, server and load use all cores instead of pinning them
    #[arg(long)]
    pub unpinned: bool,

    /// Media threads of the server; they share the server's core unless --unpinned is given
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub shards: u16,

    /// Viewers that join to measure the cost of a join, first one by one, then eight at a time; 0 to skip
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub joins: u32,

    /// Viewers to connect without a publisher, to measure their idle cost; 0 to skip
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    pub idle: u32,

    /// Fail when the paced floor is less than this share of the server's cost, at the largest number of viewers
    #[arg(long, value_name = "RATIO")]
    pub min_ratio: Option<f64>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Measures and prints. Returns the exit code: 0; 1 when a packet was lost or the ratio is too low; 2 when the benchmark cannot run.
pub fn run(args: &BenchArgs) -> u8 {
    match measure_all(args) {
        Ok(report) => {
            print!("{}", if args.json { report.json() } else { report.table() });
            let failures = report.failures(args.min_ratio);
            failures.iter().for_each(|failure| eprintln!("failed: {failure}"));
            u8::from(!failures.is_empty())
        }
        Err(error) => {
            eprintln!("error: the benchmark cannot run: {error}");
            2
        }
    }
}

fn measure_all(args: &BenchArgs) -> io::Result<BenchReport> {
    if !cfg!(target_os = "linux") {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "it needs Linux"));
    }
    let most = args.viewers.iter().copied().chain([args.idle, 2 * args.joins]).max();
    // One socket per viewer or destination of the floor, and some for the rest of the process.
    let needed = u64::from(most.unwrap_or(0)) + 100;
    if let Some(limit) = raise_open_files(needed)?
        && limit < needed
    {
        let why = format!("it needs {needed} open files, but the limit is {limit}; raise it (ulimit -n {needed})");
        return Err(io::Error::other(why));
    }
    let stage = Stage::new(args)?;
    let mut report = BenchReport::new();
    if args.joins > 0 {
        eprintln!("{} joins", args.joins);
        report.joins = Some(stage.joins(args.joins)?);
    }
    if args.idle > 0 {
        eprintln!("{} idle viewers", args.idle);
        report.idle = Some(stage.idle(args.idle, args.time)?);
    }
    for &viewers in &args.viewers {
        eprintln!("{viewers} viewers");
        report.rows.push(stage.row(viewers as usize, args.time)?);
    }
    Ok(report)
}

fn video(name: &str) -> Result<Video, String> {
    let found = [Workload::W1, Workload::W2]
        .into_iter()
        .find(|workload| workload.name() == name);
    let expected = || "expected w1 or w2; onecast load has others, with audio".to_owned();
    found.and_then(Workload::video).ok_or_else(expected)
}
