//! CPU time of the server per HTTP request: one that does nothing, an offer that is refused, and one that is answered.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result};
use onecast_clients::load::http::BlockingHttp;

use crate::rig::start_server;

/// An offer of Chromium's viewer page.
const OFFER: &str = include_str!("../../tests/data/offers/chromium156-watch.sdp");
const REQUESTS: u32 = 3_000;
const WARM_UP: u32 = 300;

/// Prints the CPU time of each kind of request, all threads of the server together, on one connection that is kept open.
pub(crate) fn compare() -> Result<()> {
    let server = start_server()?;
    let http = BlockingHttp::new(server.http)?;
    let post = |body: &str| http.post("/whep/live", "application/sdp", body.to_owned());
    let nothing = || http.get("/healthz").map(drop);
    // A refusal is what is measured; anything else, such as a server that is gone, fails.
    let refused = || match post("not SDP") {
        Ok(_) => Err(io::Error::other("the offer was not refused")),
        Err(refusal) if refusal.to_string().starts_with("400 ") => Ok(()),
        Err(error) => Err(error),
    };
    let answered = || post(OFFER).map(drop);
    let requests: [(&str, &dyn Fn() -> io::Result<()>); 3] = [
        ("GET /healthz", &nothing),
        ("POST /whep/live, refused", &refused),
        ("POST /whep/live, answered", &answered),
    ];
    println!("\nrequests: {REQUESTS} of each on one connection, CPU time of the server per request");
    let mut least = None;
    for (name, request) in requests {
        (0..WARM_UP).try_for_each(|_| request()).context(name)?;
        let before = server.usage()?.cpu;
        (0..REQUESTS).try_for_each(|_| request()).context(name)?;
        let each = (server.usage()?.cpu - before) / REQUESTS;
        let least = *least.get_or_insert(each);
        println!(
            "{name:<28}{:>9.1} us{:>7.1} times the first",
            us(each),
            us(each) / us(least)
        );
    }
    Ok(())
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
