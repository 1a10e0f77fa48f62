//! Command-line options of `onecast load`.

use std::time::Duration;

use super::workload::Workload;

/// Options of `onecast load`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct LoadArgs {
    /// WHEP endpoint that viewers join
    #[arg(long, value_name = "URL", env = "ONECAST_FROM")]
    pub whep: String,

    /// WHIP endpoint to publish the workload to; without it somebody else publishes
    #[arg(long, value_name = "URL", env = "ONECAST_TO")]
    pub whip: Option<String>,

    /// Bearer token for the endpoints
    #[arg(long, value_name = "TOKEN", env = "ONECAST_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    /// How many watch, 1 to 100000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub viewers: u32,

    /// How fast they join
    #[arg(long, value_name = "N/s", default_value = "100/s", value_parser = rate)]
    pub ramp: f64,

    /// How long they watch once all have joined
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = crate::values::duration)]
    pub limit: Duration,

    /// Share of the viewers that open every packet and check every frame; at least one does
    #[arg(long, value_name = "PERCENT", default_value = "1%", value_parser = share)]
    pub verified: f64,

    /// What is published, and what viewers expect
    #[arg(long, value_name = "NAME", default_value = "w1")]
    pub workload: Workload,

    /// Share of the video packets that verified viewers throw away and ask for again
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = share)]
    pub loss: f64,

    /// Share of the viewers that leave each second, others taking their places
    #[arg(long, value_name = "PERCENT/s", default_value = "0%/s", value_parser = share_a_second)]
    pub churn: f64,

    /// Follow the server's keyframe requests as browsers do, else they are counted only, as OBS does
    #[arg(long)]
    pub obey_keyframe_requests: bool,

    /// Process of the server on this machine, to tell its CPU and memory (Linux)
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,

    /// Exit with 1 when more of the packets are lost
    #[arg(long, value_name = "PERCENT", value_parser = share)]
    pub max_loss: Option<f64>,

    /// Exit with 1 when 1 % of the joins take longer, from the POST to the first picture (audio: packet)
    #[arg(long, value_name = "TIME", value_parser = crate::values::duration)]
    pub max_join_p99: Option<Duration>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

impl LoadArgs {
    /// How many of the viewers are verified.
    pub fn verified_viewers(&self) -> u32 {
        let wanted = (f64::from(self.viewers) * self.verified).round() as u32;
        // Only Linux counts and drops packets in the kernel.
        let all = if cfg!(target_os = "linux") { 1 } else { self.viewers };
        wanted.max(all).min(self.viewers)
    }
}

/// Reads `200/s` or a bare number: above 0, at most 100,000 a second.
fn rate(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches("/s").trim_end();
    number
        .parse()
        .ok()
        .filter(|rate| (0.01..=100_000.0).contains(rate))
        .ok_or_else(|| "expected viewers a second such as 200/s, at most 100000/s".to_owned())
}

/// Reads `1%` or `0.1%` as a share of 1.
fn share(text: &str) -> Result<f64, String> {
    let number = text.trim().strip_suffix('%');
    number
        .and_then(|number| number.trim_end().parse().ok())
        .filter(|percent| (0.0..=100.0).contains(percent))
        .map(|percent: f64| percent / 100.0)
        .ok_or_else(|| "expected a share such as 1% or 0.1%".to_owned())
}

/// Reads `1%/s` as a share of 1.
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

Viewers that are not verified have their media counted and dropped by the kernel after their first picture (or when none comes
within 5 s); what they lost is told by sequence numbers when they leave. With --loss, the verified ones ask for what is missing until
it comes, at most 10 times in 500 ms. A server that says Retry-After is asked again, at most 5 times.
Media goes only to the host of the URL.

Exit code: 0; 1 when a threshold is broken, viewers were refused or lost their session, or nothing came; 2 when it cannot be run.

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
    fn rates_and_shares_are_read_with_their_units() {
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
    fn what_cannot_be_is_refused_with_what_is_expected() {
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
