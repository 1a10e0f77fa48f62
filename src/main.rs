//! The `onecast` command.

#![forbid(unsafe_code)]

use std::fmt::Display;
use std::process::ExitCode;

use onecast::app::{App, AppConfig};
use onecast::config::{Command, ConfigCommand, LoadError, Loaded, ServeArgs};
use onecast::serve;
use onecast::{auth, config};
use onecast_clients as client;
use onecast_udp::resources;
use onecast_udp::socket::MediaSocketConfig;

fn main() -> ExitCode {
    let Loaded { command, sources } = match config::load(std::env::args_os()) {
        Ok(loaded) => loaded,
        // clap reports a request for help as an error, too.
        Err(LoadError::CommandLine(error)) => error.exit(),
        Err(error) => return refuse(&error),
    };
    match command {
        Command::Serve(args) => match serve::run(&args, sources, start, client::publish::demo) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&error),
        },
        Command::Publish(args) => run_client(client::publish::run(args)),
        Command::Watch(args) => run_client(client::watch::run(args)),
        Command::Peer(args) => run_client(client::conference::run(args)),
        Command::Bench(args) => ExitCode::from(client::bench::run(&args)),
        Command::Load(args) => ExitCode::from(client::load::run(&args)),
        Command::Config(command) => run_config(&command),
        Command::Token(args) => ExitCode::from(auth::token_command(args)),
    }
}

fn start(args: &ServeArgs) -> std::io::Result<App> {
    App::start(AppConfig {
        sockets: MediaSocketConfig {
            address: args.udp,
            shards: args.shards(),
            portable: args.portable_io,
            ..MediaSocketConfig::default()
        },
        public_ips: args.public_ip.clone(),
        public_only: args.announce_only_public,
        pli_interval: args.pli_interval(),
        keyframe_share: args.keyframe_share,
        start: args.start(),
        limits: args.room_limits(),
        drain: args.limits.drain(),
        layers: args.accepts_layers(),
        probe_share: args.probe_share,
        pin: args.pin,
    })
}

fn run_config(command: &ConfigCommand) -> ExitCode {
    match command {
        ConfigCommand::Example => print!("{}", config::example()),
        ConfigCommand::Check { file } => match config::check(file) {
            Ok(options) => println!("{} is valid: it sets {options} options", file.display()),
            Err(LoadError::CommandLine(error)) => error.exit(),
            Err(error) => return refuse(&error),
        },
    }
    ExitCode::SUCCESS
}

/// Runs a client until it ends. `RUST_LOG` sets the level of its log on stderr.
fn run_client(client: impl Future<Output = u8>) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "error".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .compact()
        .init();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if let Err(error) = resources::check(cores, CLIENT_MIB) {
        return refuse(&error);
    }
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => ExitCode::from(runtime.block_on(client)),
        Err(error) => refuse(&error),
    }
}

/// Memory that a client needs to start.
const CLIENT_MIB: usize = 32;

/// Prints the error in one line. The exit code is that of clap for wrong options.
fn refuse(error: &dyn Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(2)
}
