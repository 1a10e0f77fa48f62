//! The `onecast` command.

use std::fmt::Display;
use std::process::ExitCode;

use clap::Parser as _;
use onecast::app::{App, AppConfig};
use onecast::config::{Cli, Command, ServeArgs};
use onecast::net::udp::MediaSocketConfig;
use onecast::room::Limits;
use onecast::serve;
use onecast::{auth, client, load};

fn main() -> ExitCode {
    match Cli::parse().into_command() {
        Command::Serve(args) => match serve::run(&args, start, client::publish::demo) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&error),
        },
        Command::Publish(args) => run_client(client::publish::run(args)),
        Command::Watch(args) => run_client(client::watch::run(args)),
        Command::Bench(args) => ExitCode::from(load::bench::run(&args)),
        Command::Load(args) => ExitCode::from(load::run::run(&args)),
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
        limits: Limits {
            streams: args.max_streams as usize,
            viewers: args.max_viewers as usize,
            admission: args.admission(),
        },
        pin: args.pin,
    })
}

/// Runs a client to its end; what its libraries have to say goes to stderr if `RUST_LOG` asks for it.
fn run_client(client: impl Future<Output = u8>) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "error".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .compact()
        .init();
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => ExitCode::from(runtime.block_on(client)),
        Err(error) => refuse(&error),
    }
}

/// One line for the user, and the exit code of everything that was asked for and cannot be had (as clap's for wrong options).
fn refuse(error: &dyn Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(2)
}
