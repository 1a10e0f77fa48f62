//! The `onecast` command.

use std::fmt::Display;
use std::process::ExitCode;

use clap::Parser as _;
use onecast::app::{App, AppConfig};
use onecast::config::{Cli, Command, ServeArgs};
use onecast::net::udp::MediaSocketConfig;
use onecast::room::Limits;
use onecast::serve;

fn main() -> ExitCode {
    match Cli::parse().into_command() {
        Command::Serve(args) => match serve::run(&args, start, demo) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&error),
        },
        Command::Publish(_) | Command::Watch(_) => refuse(&"the command-line clients are not part of this build"),
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
        limits: Limits {
            streams: args.max_streams as usize,
            viewers: args.max_viewers as usize,
        },
    })
}

async fn demo(_whip: String) {}

/// One line for the user, and the exit code of everything that was asked for and cannot be had (as clap's for wrong options).
fn refuse(error: &dyn Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(2)
}
