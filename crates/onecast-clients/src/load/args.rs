//! Command-line options of `onecast load`.

use std::time::Duration;

use super::layers::{LayerSet, SenderKind};
use super::path::PathClasses;
use super::workload::{Video, Workload};

/// Options of `onecast load`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct LoadArgs {
    /// WHEP endpoint that viewers join
    #[arg(long, value_name = "URL", env = "ONECAST_FROM")]
    pub whep: String,

    /// WHIP endpoint to publish the workload to [default: none, another program publishes]
    #[arg(long, value_name = "URL", env = "ONECAST_TO")]
    pub whip: Option<String>,

    /// Bearer token for the endpoints
    #[arg(long, value_name = "TOKEN", env = "ONECAST_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    /// Number of viewers, 1 to 100000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub viewers: u32,

    /// Rate at which they join
    #[arg(long, value_name = "N/s", default_value = "100/s", value_parser = rate)]
    pub ramp: f64,

    /// Time that all viewers watch after the last one has joined
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = crate::values::duration)]
    pub limit: Duration,

    /// Share of the viewers that decrypt every packet and check every frame; at least one
    #[arg(long, value_name = "PERCENT", default_value = "1%", value_parser = share)]
    pub verified: f64,

    /// What is published, and what viewers expect (see below)
    #[arg(long, value_name = "NAME", default_value = "w1")]
    pub workload: Workload,

    /// Simulcast layers that are published, 1 to 4
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub layers: u8,

    /// Program whose simulcast is imitated (see below)
    #[arg(long = "as", value_name = "PROGRAM", default_value = "browser")]
    pub sender: SenderKind,

    /// Bit rate of the published video, or of its highest layer, in Mbit/s [default: that of the workload]
    #[arg(long, value_name = "MBIT/S", value_parser = mbit)]
    pub rate: Option<f64>,

    /// Network paths of the viewers: Mbit/s, share of the viewers, and delay (see below) [default: none]
    #[arg(long, value_name = "PATHS")]
    pub paths: Option<PathClasses>,

    /// Share of the video packets that verified viewers drop and request again
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = share)]
    pub loss: f64,

    /// Share of the viewers that leave each second and are replaced
    #[arg(long, value_name = "PERCENT/s", default_value = "0%/s", value_parser = share_a_second)]
    pub churn: f64,

    /// Answer the server's keyframe requests with keyframes, as browsers do. By default they are only counted; OBS ignores them too
    #[arg(long)]
    pub obey_keyframe_requests: bool,

    /// Process of the server on this machine, to measure its CPU time and memory (Linux)
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,

    /// Exit with 1 if a larger share of the packets is lost
    #[arg(long, value_name = "PERCENT", value_parser = share)]
    pub max_loss: Option<f64>,

    /// Exit with 1 if the 99th percentile of the join times is longer, from the POST to the first picture (audio: packet)
    #[arg(long, value_name = "TIME", value_parser = crate::values::duration)]
    pub max_join_p99: Option<Duration>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

impl LoadArgs {
    /// The layers of the published video.
    pub fn layers(&self) -> LayerSet {
        let layers = LayerSet::new(self.sender, self.layers.into());
        let usual = self.workload.video().map(Video::bit_rate);
        match self.rate.zip(usual) {
            Some((mbit, usual)) => layers.scaled(mbit * 1e6 / usual),
            None => layers,
        }
    }

    /// Number of verified viewers.
    pub fn verified_viewers(&self) -> u32 {
        let wanted = (f64::from(self.viewers) * self.verified).round() as u32;
        // Only Linux counts and drops packets in the kernel, and the kernel knows nothing of modelled paths.
        let is_partial = cfg!(target_os = "linux") && self.paths.is_none();
        let all = if is_partial { 1 } else { self.viewers };
        wanted.max(all).min(self.viewers)
    }
}

/// Parses `200/s` or a bare number: above 0, at most 100,000 per second.
fn rate(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches("/s").trim_end();
    number
        .parse()
        .ok()
        .filter(|rate| (0.01..=100_000.0).contains(rate))
        .ok_or_else(|| "expected viewers a second such as 200/s, at most 100000/s".to_owned())
}

/// Parses a rate in Mbit/s, 0.01 to 1,000.
fn mbit(text: &str) -> Result<f64, String> {
    let number = text.trim().parse().ok();
    number
        .filter(|rate| (0.01..=1_000.0).contains(rate))
        .ok_or_else(|| "expected a rate in Mbit/s such as 2.5".to_owned())
}

/// Parses `1%` or `0.1%` as a share of 1.
fn share(text: &str) -> Result<f64, String> {
    let number = text.trim().strip_suffix('%');
    number
        .and_then(|number| number.trim_end().parse().ok())
        .filter(|percent| (0.0..=100.0).contains(percent))
        .map(|percent: f64| percent / 100.0)
        .ok_or_else(|| "expected a share such as 1% or 0.1%".to_owned())
}

/// Parses `1%/s` as a share of 1.
fn share_a_second(text: &str) -> Result<f64, String> {
    let percent = text.trim().strip_suffix("/s");
    percent
        .and_then(|percent| share(percent).ok())
        .ok_or_else(|| "expected a share each second such as 1%/s".to_owned())
}

const AFTER_HELP: &str = "\
Workloads:
  w1     30 frames a second of 6 packets of 1000 bytes, a keyframe of 40 packets every 2 s
  w1a    the same, and Opus: 50 packets a second of 100 bytes
  w2     60 frames a second of 12 packets, a keyframe of 80 packets every 4 s
  audio  Opus only

Layers (VP8), with --layers:
  browser  rids q, h, f and u of 320x180, 640x360, 1280x720 and 1920x1080, the lowest first. Their rates are as 150 to 500 to 2000 to
           5000, and the highest has the rate of --rate. Keyframe requests are answered in all layers. If the answer does not accept
           simulcast, only the first layer is sent
  obs      OBS 32: rids 0, 1, 2 and 3, the highest first, 1920x1080. Sizes and rates fall linearly. Keyframe requests are ignored. The
           run ends if the answer does not accept all layers

Paths, with --paths 5:80%,1:20%:60ms:
  80 % of the viewers are behind 5 Mbit/s and 20 ms, the others behind 1 Mbit/s and 60 ms. Each bottleneck has a queue of 300 ms. The
  paths are modelled in this process, from the server to the viewers only. All viewers are verified, report like browsers, every 230 ms,
  and request missing packets up to 10 times. The layer that a viewer watches is known from the size in keyframes

The kernel counts and drops the media of unverified viewers after their first picture, or after 5 s without one. Their losses are
computed from sequence numbers when they leave. With --loss, verified viewers request a missing packet until it arrives, at most
10 times in 500 ms. Offers that are refused with a Retry-After are sent again, at most 5 times.
Media goes only to the host of the URL.

Exit code: 0; 1 if a threshold is exceeded, viewers were refused or lost their session, or no media arrived; 2 if it cannot run.

Example:
  onecast load --whip http://127.0.0.1:8080/whip/live --whep http://127.0.0.1:8080/whep/live --viewers 1000 --max-loss 0.1%";

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: LoadArgs,
    }

    fn load(arguments: &[&str]) -> Result<LoadArgs, String> {
        let all = [&["load", "--whep", "http://h/whep/live"], arguments].concat();
        let command = Command::try_parse_from(all).map_err(|error| error.to_string())?;
        Ok(command.args)
    }

    #[test]
    fn rates_and_shares_have_units() {
        assert_eq!(
            (rate("200/s"), rate("0.5"), rate("1e3/s")),
            (Ok(200.0), Ok(0.5), Ok(1_000.0))
        );
        assert_eq!((share("1%"), share(" 50 %"), share("0%")), (Ok(0.01), Ok(0.5), Ok(0.0)));
        assert_eq!((share_a_second("2%/s"), share_a_second("0%/s")), (Ok(0.02), Ok(0.0)));
        for text in ["", "0", "-1/s", "200/m", "fast", "NaN", "inf", "1e9"] {
            assert!(rate(text).unwrap_err().contains("200/s"), "{text}");
        }
        for text in ["", "1", "101%", "-1%", "%", "NaN%", "one%"] {
            assert!(share(text).unwrap_err().contains("1%"), "{text}");
        }
        for text in ["1%", "1/s", "%/s", "1%/m"] {
            assert!(share_a_second(text).unwrap_err().contains("1%/s"), "{text}");
        }
    }

    #[test]
    fn options_have_their_defaults() {
        let args = load(&[]).unwrap();
        assert_eq!(
            (args.viewers, args.ramp, args.limit),
            (100, 100.0, Duration::from_secs(10))
        );
        assert_eq!(
            (args.verified, args.loss, args.churn, args.workload),
            (0.01, 0.0, 0.0, Workload::W1)
        );
        assert_eq!(
            (args.whip, args.pid, args.max_loss, args.max_join_p99),
            (None, None, None, None)
        );
        let args = load(&[
            "--for",
            "2m",
            "--workload",
            "w1a",
            "--max-loss",
            "0.1%",
            "--max-join-p99",
            "50ms",
        ])
        .unwrap();
        assert_eq!((args.limit, args.workload), (Duration::from_secs(120), Workload::W1a));
        assert_eq!(
            (args.max_loss, args.max_join_p99),
            (Some(0.001), Some(Duration::from_millis(50)))
        );
    }

    #[test]
    fn the_highest_layer_has_the_rate_of_the_option() {
        let layers = |arguments: &[&str]| load(arguments).unwrap().layers();
        assert_eq!(layers(&[]), LayerSet::SINGLE);
        let [lowest, highest] = layers(&["--layers", "2", "--rate", "3.152"]).specs()[..] else {
            panic!("two layers");
        };
        assert_eq!((highest.rid, lowest.rid), (Some("h"), Some("q")));
        assert!((highest.share - 2.0).abs() < 1e-3, "{highest:?}");
        assert!((lowest.share - 0.6).abs() < 1e-3, "{lowest:?}");
        assert_eq!(
            layers(&["--layers", "2", "--as", "obs"]),
            LayerSet::new(SenderKind::Obs, 2)
        );
        for wrong in [["--layers", "5"], ["--rate", "0"], ["--as", "vlc"]] {
            assert!(load(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_invalid_value_is_refused_with_the_expected_form() {
        assert!(load(&["--viewers", "0"]).unwrap_err().contains("1..=100000"));
        assert!(load(&["--workload", "w9"]).unwrap_err().contains("w1a"));
        assert!(load(&["--churn", "1%"]).unwrap_err().contains("1%/s"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn at_least_one_viewer_is_verified_and_never_more_than_there_are() {
        let verified = |arguments: &[&str]| load(arguments).unwrap().verified_viewers();
        assert_eq!(verified(&["--viewers", "1000"]), 10);
        assert_eq!(verified(&["--viewers", "20", "--verified", "0%"]), 1);
        assert_eq!(verified(&["--viewers", "20", "--verified", "100%"]), 20);
    }
}
