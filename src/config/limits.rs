//! Session limits and shutdown options.

use std::time::Duration;

use clap::Args;

use super::values::count;
use onecast_clients::values::duration;
use onecast_control::SessionLimits;
use onecast_control::conference::RoomLimits;
use onecast_control::drain::{Destination, DrainOrder};

/// Session limits and shutdown options.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits and shutdown")]
pub struct LimitArgs {
    /// Maximum number of viewers of one stream [default: only --max-viewers]
    #[arg(long, value_name = "N", env = "ONECAST_MAX_VIEWERS_PER_STREAM", value_parser = count(10_000_000))]
    pub max_viewers_per_stream: Option<u32>,

    /// Largest height of the pictures that viewers are sent of a broadcaster with several sizes, such as 720. Viewers that choose a size
    /// are sent their choice [default: no limit]
    #[arg(long, value_name = "PIXELS", env = "ONECAST_LAYERS_MAX_HEIGHT", value_parser = clap::value_parser!(u16).range(1..))]
    pub layers_max_height: Option<u16>,

    /// Highest bit rate that a broadcaster may send, averaged over two seconds, such as 20M or 800K; 0 for no limit. The server logs a
    /// warning about a broadcaster above it, and ends it after 5 s
    #[arg(long, value_name = "RATE", env = "ONECAST_MAX_PUBLISH_BITRATE", default_value = "0", value_parser = bit_rate)]
    pub max_publish_bitrate: u64,

    /// Maximum number of viewers, and of broadcasters, admitted per second from one address, or one /64 network of IPv6. Loopback is
    /// exempt. Clients behind a trusted proxy (--trusted-proxy) have their own addresses, those behind other proxies share one
    #[arg(long, value_name = "N", env = "ONECAST_JOINS_PER_ADDRESS", default_value_t = 64, value_parser = count(1_000_000))]
    pub joins_per_address: u32,

    /// Maximum number of members of one conference room
    #[arg(long, value_name = "N", env = "ONECAST_ROOM_MAX_PEERS", default_value_t = RoomLimits::DEFAULT.members as u32, value_parser = count(1_000))]
    pub room_max_peers: u32,

    /// End every session after this time, such as 240m; 0 for never
    #[arg(long, value_name = "TIME", env = "ONECAST_MAX_SESSION_TIME", default_value = "0", value_parser = duration)]
    pub max_session_time: Duration,

    /// End a broadcaster that has sent no media for this long, so that another one can use the stream; 0 for never
    #[arg(long, value_name = "TIME", env = "ONECAST_PUBLISHER_IDLE_TIMEOUT", default_value = "60s", value_parser = duration)]
    pub publisher_idle_timeout: Duration,

    /// End a viewer that has waited this long for a broadcaster; 0 for never
    #[arg(long, value_name = "TIME", env = "ONECAST_VIEWER_IDLE_TIMEOUT", default_value = "0", value_parser = duration)]
    pub viewer_idle_timeout: Duration,

    /// On SIGTERM, accept no new clients and exit when all sessions have ended, or after this time. With 0, or on a second signal, exit at
    /// once
    #[arg(long, value_name = "TIME", env = "ONECAST_DRAIN_TIMEOUT", default_value = "0", value_parser = duration)]
    pub drain_timeout: Duration,

    /// Redirect new WHIP and WHEP clients to this server while draining [default: ask them to come back later]
    #[arg(long, value_name = "URL", env = "ONECAST_DRAIN_TO")]
    pub drain_to: Option<Destination>,
}

impl LimitArgs {
    /// Limits of sessions.
    pub fn sessions(&self) -> SessionLimits {
        SessionLimits {
            viewers_per_stream: self.max_viewers_per_stream.map(|max| max as usize),
            publish_bps: Some(self.max_publish_bitrate).filter(|&max| max > 0),
            session_time: unless_zero(self.max_session_time),
            publisher_idle: unless_zero(self.publisher_idle_timeout),
            viewer_idle: unless_zero(self.viewer_idle_timeout),
            layers_max_height: self.layers_max_height,
        }
    }

    /// Limits of conference rooms.
    pub fn rooms(&self) -> RoomLimits {
        RoomLimits {
            members: self.room_max_peers as usize,
        }
    }

    /// How SIGTERM drains the server.
    pub fn drain(&self) -> DrainOrder {
        DrainOrder {
            to: self.drain_to.clone(),
            timeout: unless_zero(self.drain_timeout),
        }
    }
}

fn unless_zero(time: Duration) -> Option<Duration> {
    Some(time).filter(|time| !time.is_zero())
}

/// Parses bits per second: `20M`, `800K`, `1.5M` or a bare number; up to 1,000 Gbit/s.
fn bit_rate(text: &str) -> Result<u64, String> {
    let expected = || "expected bits per second such as 20M, 800K or 0".to_owned();
    let text = text.trim();
    let number = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "" => 1.0,
        "K" | "k" => 1e3,
        "M" | "m" => 1e6,
        "G" | "g" => 1e9,
        _ => return Err(expected()),
    };
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let bits = number
        .parse::<f64>()
        .ok()
        .filter(|_| is_plain)
        .map(|number| number * unit);
    bits.filter(|bits| *bits <= 1e12)
        .map(|bits| bits as u64)
        .ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        limits: LimitArgs,
    }

    fn limits(arguments: &[&str]) -> Result<LimitArgs, String> {
        let line = Line::try_parse_from([&["x"], arguments].concat());
        line.map(|line| line.limits).map_err(|error| error.to_string())
    }

    #[test]
    fn by_default_only_silent_publishers_are_ended() {
        let limits = limits(&[]).unwrap();
        let expected = SessionLimits {
            publisher_idle: Some(Duration::from_secs(60)),
            ..SessionLimits::default()
        };
        assert_eq!(limits.sessions(), expected);
        assert_eq!(limits.drain(), DrainOrder::default());
    }

    #[test]
    fn zero_is_no_limit() {
        let limits = limits(&["--publisher-idle-timeout", "0", "--max-publish-bitrate", "0"]).unwrap();
        assert_eq!(limits.sessions(), SessionLimits::default());
    }

    #[test]
    fn bit_rates_have_units() {
        for (text, bits) in [
            ("20M", 20_000_000),
            ("800k", 800_000),
            ("1.5M", 1_500_000),
            ("9", 9),
            ("1G", 1_000_000_000),
        ] {
            assert_eq!(bit_rate(text), Ok(bits), "{text}");
        }
        for text in ["", "M", "20Mb", "-1", "1e3", "inf", "NaN", "2000G", "1.2.3"] {
            assert!(bit_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_destination_is_a_url() {
        assert!(
            limits(&["--drain-to", "b.example.org"])
                .unwrap_err()
                .contains("https://b.example.org")
        );
        let limits = limits(&["--drain-to", "https://b.example.org/", "--drain-timeout", "5m"]).unwrap();
        assert_eq!(limits.drain().to.unwrap().to_string(), "https://b.example.org");
        assert_eq!(limits.drain_timeout, Duration::from_secs(300));
    }
}
