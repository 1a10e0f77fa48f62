//! The configuration: options, their sources and their defaults.
//!
//! Every command-line option has an environment variable `ONECAST_*` and a key in the configuration file. [`load`] reads all of them at
//! start; nothing reads the environment later.

mod auth;
mod file;
mod ice;
mod layers;
mod limits;
mod proxy;
mod tls;
mod values;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use auth::AuthArgs;
pub use file::ConfigFileError;
#[doc(hidden)]
pub use file::fuzz_file;
pub use ice::{IceArgs, IceArgsError};
pub use layers::{LoadError, Loaded, Sources, check, example, load};
pub use limits::LimitArgs;
use onecast_clients::values::duration;
pub use proxy::{ProxyArgs, Trusted};
pub use tls::{TlsArgs, TlsConflict, TlsMode};
use values::{address, bytes, count, directory, pli_interval, public_ip};

use crate::auth::TokenArgs;
use onecast_clients::bench::BenchArgs;
use onecast_clients::load::LoadArgs;
use onecast_clients::{PeerArgs, PublishArgs, WatchArgs};
use onecast_control::{AdmissionLimits, Limits};
use onecast_engine::fanout::{ShardConfig, Stamping, StartConfig};
use onecast_engine::media::gop::Gop;
use onecast_engine::media::window::CacheBounds;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "onecast", version, about, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `serve`, the default subcommand.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The engine's [`Stamping`] as the command line spells it: how frames of the past are stamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StartStamps {
    /// With the live clock at the moment of sending
    Live,
    /// With their own timestamps, to compare with
    Original,
    /// A millisecond apart, up to the newest, to compare with
    Squeezed,
}

impl From<StartStamps> for Stamping {
    fn from(stamps: StartStamps) -> Stamping {
        match stamps {
            StartStamps::Live => Stamping::Live,
            StartStamps::Original => Stamping::Original,
            StartStamps::Squeezed => Stamping::Squeezed,
        }
    }
}

/// Whether broadcasters may send their video in layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LayersMode {
    /// Every layer that a broadcaster offers is accepted, and each viewer is sent what its connection carries
    Auto,
    /// One picture size per broadcaster, all of it for each viewer
    Off,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one in a process")]
pub enum Command {
    /// Run the server (the default)
    Serve(ServeArgs),
    /// Publish a test card or files to a server
    Publish(PublishArgs),
    /// Watch a stream and print what arrives
    Watch(WatchArgs),
    /// Join a conference room: send a test card and a tone, receive the other members
    Peer(PeerArgs),
    /// Benchmark the server on this machine against the cost of encryption and sending alone
    Bench(BenchArgs),
    /// Load-test a WHIP/WHEP server with many viewers
    Load(LoadArgs),
    /// Create tokens and their hashes
    Token(TokenArgs),
    /// Check a configuration file, or print an example
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Operations on configuration files.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a file and report errors
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print a file with every option, its description and its default
    Example,
}

/// Options of the server.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// TOML file with more options, by their names. SIGHUP reads it again
    #[arg(long, value_name = "FILE", env = "ONECAST_CONFIG")]
    pub config: Option<PathBuf>,

    /// Address for HTTP (signalling and pages). 0.0.0.0:8080 admits other machines
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "ONECAST_HTTP",
        default_value = "127.0.0.1:8080",
        default_value_ifs = LAN_LISTENS,
        value_parser = address
    )]
    pub http: SocketAddr,

    /// UDP address for all media. The default is all addresses, IPv4 and IPv6
    #[arg(help_heading = "Media", long, value_name = "IP:PORT", env = "ONECAST_UDP", default_value = "[::]:8080", value_parser = address)]
    pub udp: SocketAddr,

    /// Also announce this address for media, ahead of this machine's own addresses (repeatable; for a server behind 1:1 NAT)
    #[arg(help_heading = "Media", long, value_name = "IP", env = "ONECAST_PUBLIC_IP", value_delimiter = ',', value_parser = public_ip)]
    pub public_ip: Vec<IpAddr>,

    /// Announce only the addresses of --public-ip
    #[arg(help_heading = "Media", long, env = "ONECAST_ANNOUNCE_ONLY_PUBLIC", value_parser = BoolishValueParser::new(), requires_if("true", "public_ip"))]
    pub announce_only_public: bool,

    /// Number of media threads, 1 to 256 [default: one per core]
    #[arg(help_heading = "Media", long, value_name = "N", env = "ONECAST_SHARDS", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: Option<u16>,

    /// Pin each media thread to its own core, as far as there are enough cores
    #[arg(help_heading = "Media", long, env = "ONECAST_PIN", value_parser = BoolishValueParser::new())]
    pub pin: bool,

    /// Use plain sends and receives even if the system has faster ones
    #[arg(help_heading = "Media", long, env = "ONECAST_PORTABLE_IO", value_parser = BoolishValueParser::new())]
    pub portable_io: bool,

    /// Largest amount of video since the newest keyframe, per stream, that is kept for new viewers, such as 8M or 512K. 0 turns the cache
    /// off: viewers then wait for a keyframe
    #[arg(help_heading = "Media", long, value_name = "BYTES", env = "ONECAST_START_CACHE_BYTES", default_value = "8M", value_parser = bytes)]
    pub start_cache_bytes: usize,

    /// Largest number of 1280x720 frames that a new viewer decodes to catch up; more if they are smaller, fewer if they are larger
    #[arg(help_heading = "Media", long, value_name = "N", env = "ONECAST_START_CACHE_FRAMES", default_value_t = 300, value_parser = count(100_000))]
    pub start_cache_frames: u32,

    /// How to timestamp frames of the past, for comparisons
    #[arg(
        long,
        value_name = "HOW",
        env = "ONECAST_START_STAMPS",
        default_value = "live",
        hide = true
    )]
    pub start_stamps: StartStamps,

    /// Percentage of the video's bytes that keyframes may take when viewers request them after losses
    #[arg(help_heading = "Media", long, value_name = "PERCENT", env = "ONECAST_KEYFRAME_SHARE", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub keyframe_share: u8,

    /// Whether broadcasters may send their video in several sizes at once (simulcast), and viewers are sent what their connections carry
    #[arg(
        help_heading = "Media",
        long,
        value_name = "MODE",
        env = "ONECAST_LAYERS",
        default_value = "auto"
    )]
    pub layers: LayersMode,

    /// Percentage of the sent bytes that probes may take. Probes show whether a viewer's connection carries a larger size; with 0 no viewer
    /// is sent a larger size again
    #[arg(help_heading = "Media", long, value_name = "PERCENT", env = "ONECAST_PROBE_SHARE", default_value_t = ShardConfig::PROBE_SHARE, value_parser = clap::value_parser!(u8).range(0..=50))]
    pub probe_share: u8,

    /// Request keyframes from broadcasters with viewers at this interval, 500ms to 10m; 0 for never [default: 0, or 3s without the start
    /// cache]
    #[arg(help_heading = "Media", long, value_name = "TIME", env = "ONECAST_PLI_INTERVAL", value_parser = pli_interval)]
    pub pli_interval: Option<Duration>,

    /// Maximum number of streams
    #[arg(help_heading = "Limits and shutdown", long, value_name = "N", env = "ONECAST_MAX_STREAMS", default_value_t = 1_000, value_parser = count(1_000_000))]
    pub max_streams: u32,

    /// Maximum number of viewers of all streams
    #[arg(help_heading = "Limits and shutdown", long, value_name = "N", env = "ONECAST_MAX_VIEWERS", default_value_t = 100_000, value_parser = count(10_000_000))]
    pub max_viewers: u32,

    /// Maximum number of viewers admitted per second, and at once; the others are asked to come back in a few seconds
    #[arg(help_heading = "Limits and shutdown", long, value_name = "N", env = "ONECAST_JOINS_PER_SECOND", default_value_t = 1_000, value_parser = count(1_000_000))]
    pub joins_per_second: u32,

    /// Maximum number of viewers that have an answer but have not finished their handshake
    #[arg(help_heading = "Limits and shutdown", long, value_name = "N", env = "ONECAST_HALF_OPEN_MAX", default_value_t = 4_096, value_parser = count(1_000_000))]
    pub half_open_max: u32,

    /// The same limit for one address, or one /64 network of IPv6. Loopback is exempt. Clients behind a trusted proxy (--trusted-proxy)
    /// have their own addresses, those behind other proxies share one
    #[arg(help_heading = "Limits and shutdown", long, value_name = "N", env = "ONECAST_HALF_OPEN_PER_ADDRESS", default_value_t = 64, value_parser = count(1_000_000))]
    pub half_open_per_address: u32,

    /// Serve the pages from this directory instead of the built-in ones, for editing them
    #[arg(long, value_name = "DIR", env = "ONECAST_HTML_DIR", value_parser = directory)]
    pub html_dir: Option<PathBuf>,

    /// Refuse every PATCH without If-Match, as RFC 9725 demands. By default, one for the newest ICE session is accepted
    #[arg(long, env = "ONECAST_STRICT_ETAGS", value_parser = BoolishValueParser::new())]
    pub strict_etags: bool,

    /// Directory for generated tokens and certificates [default: systemd's, else $XDG_STATE_HOME/onecast, else ~/.local/state/onecast]
    #[arg(long, value_name = "DIR", env = "ONECAST_STATE_DIR")]
    pub state_dir: Option<PathBuf>,

    /// Format of the log on stderr. RUST_LOG sets its level, for instance RUST_LOG=debug
    #[arg(long, value_name = "FORM", env = "ONECAST_LOG_FORMAT", default_value = "human")]
    pub log_format: LogFormat,

    /// Broadcast a built-in test card as the stream `demo`
    #[arg(long, env = "ONECAST_DEMO", value_parser = BoolishValueParser::new())]
    pub demo: bool,

    /// Access control.
    #[command(flatten)]
    pub auth: AuthArgs,

    /// HTTPS.
    #[command(flatten)]
    pub tls: TlsArgs,

    /// Reverse proxies.
    #[command(flatten)]
    pub proxy: ProxyArgs,

    /// Session limits and shutdown.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// STUN and TURN servers for clients.
    #[command(flatten)]
    pub ice: IceArgs,
}

/// Log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text per event.
    Human,
    /// One JSON object per line.
    Json,
}

impl Cli {
    /// The subcommand; `serve` when none is given.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

impl ServeArgs {
    /// Interval between regular keyframe requests; `None` for never.
    pub fn pli_interval(&self) -> Option<Duration> {
        let unless_said = if self.start_cache_bytes == 0 {
            PLI_INTERVAL
        } else {
            Duration::ZERO
        };
        Some(self.pli_interval.unwrap_or(unless_said)).filter(|interval| !interval.is_zero())
    }

    /// Whether the layers of broadcasters are accepted.
    pub fn accepts_layers(&self) -> bool {
        self.layers == LayersMode::Auto
    }

    /// How viewers start.
    pub fn start(&self) -> StartConfig {
        StartConfig {
            cache: CacheBounds {
                bytes: self.start_cache_bytes,
                pixels: u64::from(self.start_cache_frames) * Gop::PIXELS_DEFAULT,
            },
            stamping: self.start_stamps.into(),
        }
    }

    /// Limits of streams and sessions.
    pub fn room_limits(&self) -> Limits {
        Limits {
            streams: self.max_streams as usize,
            viewers: self.max_viewers as usize,
            admission: self.admission(),
            sessions: self.limits.sessions(),
            rooms: self.limits.rooms(),
        }
    }

    /// Admission limits.
    pub fn admission(&self) -> AdmissionLimits {
        AdmissionLimits {
            joins_per_second: self.joins_per_second,
            half_open: self.half_open_max,
            half_open_per_address: self.half_open_per_address,
            joins_per_address: self.limits.joins_per_address,
        }
    }

    /// Where the server keeps its tokens and certificates; `None` when no option or variable names a directory. It may not exist yet.
    pub fn state_dir(&self) -> Option<PathBuf> {
        let absolute = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        // systemd separates several directories with colons; the first is the service's own.
        let of_systemd = || absolute("STATE_DIRECTORY").map(first_of_list);
        let of_user = || absolute("XDG_STATE_HOME").map(|path| path.join("onecast"));
        let at_home = || absolute("HOME").map(|path| path.join(".local/state/onecast"));
        self.state_dir
            .clone()
            .or_else(of_systemd)
            .or_else(of_user)
            .or_else(at_home)
    }

    /// Whether only this machine can reach HTTP, which listens on `http`. A certificate for a domain means that others are forwarded.
    pub fn is_local(&self, http: SocketAddr) -> bool {
        let listeners = [Some(http), self.tls.http_redirect];
        let is_loopback = |address: SocketAddr| address.ip().to_canonical().is_loopback();
        self.tls.acme.is_empty() && listeners.into_iter().flatten().all(is_loopback)
    }

    /// The number of media threads.
    pub fn shards(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get().min(256));
        self.shards.map_or_else(cores, usize::from)
    }
}

fn first_of_list(paths: PathBuf) -> PathBuf {
    match paths.to_str().and_then(|text| text.split_once(':')) {
        Some((first, _)) => first.into(),
        None => paths,
    }
}

/// `--lan` listens on all addresses unless `--http` is given. An environment variable may spell a switch in all these ways.
const LAN_LISTENS: [(&str, &str, Option<&str>); 5] = [
    ("lan", "true", Some("[::]:8080")),
    ("lan", "1", Some("[::]:8080")),
    ("lan", "yes", Some("[::]:8080")),
    ("lan", "on", Some("[::]:8080")),
    ("lan", "y", Some("[::]:8080")),
];

/// Without a start cache, viewers depend on regular keyframes.
const PLI_INTERVAL: Duration = Duration::from_secs(3);

const AFTER_HELP: &str = "\
Examples:
  onecast                            then open http://127.0.0.1:8080/
  onecast --demo                     the same, with a test card to watch
  onecast --http 0.0.0.0:8080        admits other machines; prints links with a token for broadcasting
  onecast --lan                      for your phone: HTTPS and a QR code
  onecast --acme live.example.org --http [::]:443
                                     a server on the internet
  onecast token new studio           creates a token for the configuration
  onecast publish --help             the command-line publisher
  onecast watch --help               the command-line viewer
  onecast peer --help                the command-line member of a conference room
  onecast bench                      benchmark of the server on this machine, 1 minute
  onecast load --help                the load generator";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn serve(arguments: &[&str]) -> Result<ServeArgs, String> {
        let cli = Cli::try_parse_from([&["onecast"], arguments].concat()).map_err(|error| error.to_string())?;
        match cli.into_command() {
            Command::Serve(args) => Ok(args),
            other => panic!("not serve: {other:?}"),
        }
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_with_and_without_options() {
        for arguments in [&["--http", "0.0.0.0:81"][..], &["serve", "--http", "0.0.0.0:81"]] {
            assert_eq!(
                serve(arguments).unwrap().http,
                "0.0.0.0:81".parse::<SocketAddr>().unwrap()
            );
        }
        let args = serve(&[]).unwrap();
        assert_eq!(args.http, "127.0.0.1:8080".parse::<SocketAddr>().unwrap());
        assert_eq!(args.udp, "[::]:8080".parse::<SocketAddr>().unwrap());
        assert_eq!(args.pli_interval(), None);
        assert_eq!((args.start(), args.keyframe_share), (StartConfig::default(), 10));
        assert_eq!((args.max_streams, args.max_viewers), (1_000, 100_000));
        assert_eq!(args.admission(), AdmissionLimits::default());
        assert!(args.shards() >= 1);
    }

    #[test]
    fn the_keyframe_interval_is_in_its_range_or_off() {
        let interval = |arguments: &[&str]| serve(arguments).unwrap().pli_interval();
        assert_eq!(interval(&["--pli-interval", "0"]), None);
        assert_eq!(interval(&["--start-cache-bytes", "0"]), Some(Duration::from_secs(3)));
        assert_eq!(interval(&["--start-cache-bytes", "0", "--pli-interval", "0"]), None);
        assert_eq!(
            serve(&["--pli-interval", "500ms"]).unwrap().pli_interval(),
            Some(Duration::from_millis(500))
        );
        for text in ["499ms", "11m", "soon"] {
            assert!(serve(&["--pli-interval", text]).is_err(), "{text}");
        }
    }

    #[test]
    fn layers_are_accepted_unless_they_are_switched_off() {
        let defaults = serve(&[]).unwrap();
        assert!(defaults.accepts_layers() && defaults.room_limits().sessions.layers_max_height.is_none());
        let args = serve(&["--layers", "off", "--layers-max-height", "720"]).unwrap();
        assert!(!args.accepts_layers());
        assert_eq!(args.room_limits().sessions.layers_max_height, Some(720));
        for arguments in [
            ["--layers", "on"],
            ["--layers-max-height", "0"],
            ["--layers-max-height", "720p"],
        ] {
            assert!(serve(&arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn values_that_cannot_work_are_refused_with_what_is_expected() {
        let refused = |arguments: &[&str]| serve(arguments).unwrap_err();
        assert!(refused(&["--http", "8080"]).contains("such as 127.0.0.1:8080"));
        assert!(refused(&["--udp", "::"]).contains("such as 127.0.0.1:8080"));
        assert!(refused(&["--shards", "0"]).contains("1..=256"));
        assert!(refused(&["--shards", "257"]).contains("1..=256"));
        for option in [
            "--max-streams",
            "--joins-per-second",
            "--half-open-max",
            "--half-open-per-address",
        ] {
            assert!(refused(&[option, "0"]).contains("1..="), "{option}");
        }
        for text in ["eight", "8MB!", "8T", "2G", "", "9999999999999999999999"] {
            assert!(refused(&["--start-cache-bytes", text]).contains("such as 8M"), "{text}");
        }
        assert!(refused(&["--keyframe-share", "0"]).contains("1..=100"));
        assert!(refused(&["--start-cache-frames", "0"]).contains("1..="));
        assert!(refused(&["--public-ip", "0.0.0.0"]).contains("cannot send media"));
        assert!(refused(&["--public-ip", "example"]).contains("203.0.113.7"));
        assert!(refused(&["--html-dir", "/no/such/directory"]).contains("no such directory"));
        assert!(refused(&["--announce-only-public"]).contains("--public-ip"));
        assert!(refused(&["--log-format", "xml"]).contains("human"));
        assert!(refused(&["--htp", "x"]).contains("--http"));
    }

    #[test]
    fn public_addresses_may_be_repeated_or_listed() {
        let expected: Vec<IpAddr> = vec!["203.0.113.7".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        for arguments in [
            &["--public-ip", "203.0.113.7", "--public-ip", "2001:db8::1"][..],
            &["--public-ip", "203.0.113.7,2001:db8::1", "--announce-only-public"],
        ] {
            assert_eq!(serve(arguments).unwrap().public_ip, expected);
        }
    }

    #[test]
    fn the_documentation_lists_every_option_with_its_variable() {
        let text = include_str!("../../docs/OPERATING.md");
        for option in file::options(&layers::serve_command()) {
            let name = option.get_long().unwrap();
            let variable = option.get_env().and_then(|variable| variable.to_str()).unwrap();
            assert!(text.contains(&format!("`--{name}")), "--{name}");
            assert!(text.contains(&format!("`{variable}`")), "{variable}");
        }
    }

    #[test]
    fn help_is_grouped_by_what_options_are_about() {
        for (option, group) in [
            ("auth", Some("Access control")),
            ("tls_cert", Some("HTTPS")),
            ("trusted_proxy", Some("Behind a proxy")),
            ("drain_to", Some("Limits and shutdown")),
            ("max_viewers", Some("Limits and shutdown")),
            ("turn_ttl", Some("STUN and TURN")),
            ("pli_interval", Some("Media")),
            ("http", None),
            ("demo", None),
        ] {
            let cli = Cli::command();
            let argument = cli.get_arguments().find(|argument| argument.get_id() == option);
            assert_eq!(argument.unwrap().get_help_heading(), group, "{option}");
        }
    }

    #[test]
    fn help_names_every_variable_and_default() {
        let help = Cli::command().render_long_help().to_string();
        for argument in Cli::command()
            .get_arguments()
            .filter(|argument| argument.get_long().is_some() && !argument.is_hide_set())
        {
            let name = argument.get_long().unwrap();
            if !matches!(name, "help" | "version") {
                let variable = format!("ONECAST_{}", name.replace('-', "_").to_uppercase());
                assert!(help.contains(&variable), "{variable}");
            }
        }
        for default in [
            "127.0.0.1:8080",
            "[::]:8080",
            "[default: 8M]",
            "[default: 300]",
            "[default: 1000]",
            "[default: 100000]",
            "[default: 4096]",
            "[default: 64]",
        ] {
            assert!(help.contains(default), "{default}");
        }
    }
}
