//! The pages in a real Chromium: alone, with answers made up by the test, and against the real server; from disk in Firefox, too.
//! Skipped where the browser is not installed, unless `CI=true`.
//! Pictures of the pages are written to `target/tmp/pages/` (look at them after changing a page).

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests and their helpers")]

mod browser {
    pub(crate) mod chrome;
    pub(crate) mod coturn;
    pub(crate) mod fake;
    pub(crate) mod firefox;
    pub(crate) mod process;
    pub(crate) mod proxy;
    pub(crate) mod server;

    mod broadcast;
    mod conference;
    mod crowd;
    mod disk;
    mod drain;
    mod events;
    mod https;
    mod kicked;
    mod looks;
    mod restart;
    mod rooms;
    mod start;
    mod subpath;
    mod tokens;
    mod turn;
    mod words;
}
