//! The pages in a real Chromium: alone, with scripted answers, and with the real server; from disk in Firefox, too.
//! Ignored where the browsers are not installed; a failure with `CI=true`.
//! Screenshots of the pages are written to `target/tmp/pages/`: look at them after changing a page.

#![expect(clippy::unwrap_used, reason = "tests and their helpers")]

mod broadcast;
mod chrome;
mod conference;
mod coturn;
mod crowd;
mod disk;
mod drain;
mod events;
mod fake;
mod firefox;
mod https;
mod kicked;
mod layer_menu;
mod layers;
mod looks;
mod narrow;
mod process;
mod proxy;
mod publisher;
mod restart;
mod rooms;
mod server;
mod start;
mod subpath;
mod tokens;
mod turn;
mod words;

use std::process::ExitCode;

use onecast_testing::Suite;

fn main() -> ExitCode {
    Suite::new([
        broadcast::tests(),
        conference::tests(),
        crowd::tests(),
        disk::tests(),
        drain::tests(),
        events::tests(),
        https::tests(),
        kicked::tests(),
        layer_menu::tests(),
        layers::tests(),
        looks::tests(),
        narrow::tests(),
        restart::tests(),
        rooms::tests(),
        start::tests(),
        subpath::tests(),
        tokens::tests(),
        turn::tests(),
        words::tests(),
        server::tests(),
    ])
    // Each test starts a few browsers.
    .threads_at_most(4)
    .run()
}
