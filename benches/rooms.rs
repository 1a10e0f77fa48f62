//! Cost of a packet in a conference room compared with a broadcast, and the CPU of a large room.
//!
//! `cargo bench --bench rooms [-- --quick] [--only small|large] [--rounds 4] [--for 5] [--members 100] [--rates 10,20,30]`. Linux only.
//! The server runs on core 0, the load on core 1. Members send video that looks like VP8, and Opus with audio levels. The kernel drops
//! and counts what most of them receive; a few decrypt every packet. Fails when one of these misses something.

#[path = "rooms/client.rs"]
mod client;
#[path = "rooms/member.rs"]
mod member;
mod rig;
#[path = "rooms/session.rs"]
mod session;
#[path = "rooms/stage.rs"]
mod stage;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onecast_clients::bench::OwnServer;
use onecast_clients::load::http::BlockingHttp;
use onecast_clients::load::workload::Video;
use onecast_rtc::Certificate;
use onecast_udp::clock;

use client::Client;
use member::{Described, LEVEL_ID, SignallingMember};
use rig::{option, print_machine, start_server, wait};
use session::Session;
use stage::{Party, Phase, keep, run};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let quick = args.iter().any(|arg| arg == "--quick");
    let number = |name: &'static str, default, quickly| {
        let usual = if quick { quickly } else { default };
        option(&args, name).map_or(Ok(usual), str::parse).context(name)
    };
    let time = Duration::from_secs(number("--for", 5, 1)?);
    let rounds = number("--rounds", 4, 1)?;
    let members = number("--members", 100, 12)? as usize;
    let rates = option(&args, "--rates").unwrap_or(if quick { "10" } else { "10,20,30" });
    let only = option(&args, "--only");
    print_machine();
    let mut missed = 0;
    if only.is_none_or(|only| only == "small") {
        missed += small(rounds, time)?;
    }
    if only.is_none_or(|only| only == "large") {
        let rates = rates.split(',').map(str::parse).collect::<Result<Vec<u32>, _>>();
        missed += large(members, &rates.context("--rates")?, time)?;
    }
    ensure!(
        missed == 0,
        "{missed} packets or ends of tracks missed by clients that decrypt"
    );
    Ok(())
}

/// A server and an HTTP client of it.
struct Venue {
    server: OwnServer,
    http: BlockingHttp,
    certificate: Certificate,
    clients: u32,
    described: Described,
}

impl Venue {
    fn new() -> Result<Venue> {
        let server = start_server()?;
        Ok(Venue {
            http: BlockingHttp::new(server.http)?,
            server,
            certificate: Certificate::generate()?,
            clients: 0,
            described: Described::default(),
        })
    }

    fn next_number(&mut self) -> u32 {
        self.clients += 1;
        self.clients
    }

    /// Broadcasts with `viewers` viewers each.
    fn broadcasts(&mut self, name: &'static str, count: usize, viewers: usize) -> Result<Party> {
        let mut clients = Vec::new();
        for broadcast in 0..count {
            let slug = format!("{}-{broadcast}", name.replace(' ', "-"));
            let publisher = self.session(&format!("/whip/{slug}"), true)?;
            clients.push(Client::new(publisher, false)?.with_sending(broadcast as u32, None));
            for viewer in 0..viewers {
                let session = self.session(&format!("/whep/{slug}"), false)?;
                // The server serves the last viewers of the last broadcast last.
                let verified = broadcast + 1 == count && viewer + 2 >= viewers;
                clients.push(Client::new(session, verified)?);
            }
        }
        Ok(Party {
            name,
            clients,
            expected: 2,
        })
    }

    fn session(&mut self, path: &str, publishes: bool) -> Result<Session> {
        let number = self.next_number();
        let session = Session::connect(&self.http, path, number, publishes, &self.certificate);
        session.with_context(|| format!("a client of {path} does not connect"))
    }

    /// A room whose members answer all offers before the next one joins.
    fn room(&mut self, name: &'static str, members: usize, last_n: usize) -> Result<Party> {
        let mut signalling = Vec::new();
        let mut clients: Vec<Client> = Vec::new();
        for member in 0..members {
            let number = self.next_number();
            let (joined, session) =
                SignallingMember::join(&self.http, &name.replace(' ', "-"), number, last_n, &self.certificate)?;
            let verified = member == 1 || member + 1 == members;
            let client = Client::new(session, verified)?;
            clients.push(client.with_sending(member as u32, Some(LEVEL_ID)));
            signalling.push(joined);
            self.settle(&mut signalling, &mut clients)?;
        }
        let others = members - 1;
        Ok(Party {
            name,
            clients,
            expected: others.min(last_n) + others.min(AUDIBLE),
        })
    }

    /// All members answer offers until each has all tracks.
    fn settle(&mut self, members: &mut [SignallingMember], clients: &mut [Client]) -> Result<()> {
        let wanted = 2 * (members.len() - 1);
        let end = clock::now() + RENEGOTIATION_MAX;
        while members.iter().any(|member| member.tracks < wanted) {
            ensure!(clock::now() < end, "a member is not offered all tracks");
            let mut any = false;
            for member in members.iter_mut().filter(|member| member.tracks < wanted) {
                any |= member.renegotiate(&self.http, &mut self.described)?;
            }
            keep(clients)?;
            if !any {
                wait(Duration::from_millis(1));
            }
        }
        Ok(())
    }
}

/// A room of 20, and broadcasts of the same packets. Returns the number of misses.
fn small(rounds: u64, time: Duration) -> Result<usize> {
    let mut venue = Venue::new()?;
    let others = SMALL - 1;
    let mut parties = vec![
        venue.room("room of 20", SMALL, others)?,
        venue.broadcasts("one broadcast", 1, SMALL * others)?,
        venue.broadcasts("to 20 viewers", 1, SMALL)?,
        venue.broadcasts("20 to 19 each", SMALL, others)?,
        venue.broadcasts("20 without viewers", SMALL, 0)?,
    ];
    println!(
        "\nW1a of each sender ({:.0} video and 50 audio packets a second), {} s a phase, ns of the media thread",
        Video::W1.packet_rate(),
        time.as_secs(),
    );
    print_head();
    let mut phases: Vec<Vec<Phase>> = vec![Vec::new(); parties.len()];
    for _ in 0..rounds {
        for place in 0..parties.len() {
            let phase = run(&venue.server, &mut parties, place, time, Video::W1)?;
            print_phase(parties[place].name, &phase);
            phases[place].push(phase);
        }
    }
    println!();
    print_comparison(&parties, &phases);
    let phases = phases.iter().flatten();
    Ok(phases.map(|phase| phase.lost as usize + phase.incomplete).sum())
}

fn print_comparison(parties: &[Party], phases: &[Vec<Phase>]) {
    let ingest = Figures::of(phases[4].iter().map(ingest_cost));
    println!("a packet that arrives and goes nowhere: {ingest}");
    for (party, of) in parties.iter().zip(phases).take(4) {
        let costs = Figures::of(of.iter().map(Phase::cost));
        let ratios = Figures::of(phases[0].iter().zip(of).map(|(room, other)| room.cost() / other.cost()));
        let without = |phase: &Phase, ingest: f64| {
            let cpu = phase.cpu.0.as_nanos() as f64 - ingest * phase.count("rtp_in") as f64;
            cpu / phase.arrived.max(1) as f64
        };
        let fanned = of
            .iter()
            .zip(&phases[4])
            .map(|(phase, in_)| without(phase, ingest_cost(in_)));
        println!(
            "{:<14} a forwarded packet: {costs}; without its arrival: {}; room / this: {:.2} ({:.2} to {:.2})",
            party.name,
            Figures::of(fanned),
            ratios.median,
            ratios.least,
            ratios.most,
        );
    }
}

fn ingest_cost(phase: &Phase) -> f64 {
    phase.cpu.0.as_nanos() as f64 / phase.count("rtp_in").max(1) as f64
}

/// Median, minimum and maximum.
struct Figures {
    median: f64,
    least: f64,
    most: f64,
}

impl Figures {
    fn of(values: impl Iterator<Item = f64>) -> Figures {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(0.0);
        let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
        Figures {
            median: (at(low) + at(high)) / 2.0,
            least: at(0),
            most: at(values.len().saturating_sub(1)),
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} ns ({:.0} to {:.0})", self.median, self.least, self.most)
    }
}

/// A room with last-n 9, at several frame rates. Returns the number of misses.
fn large(members: usize, rates: &[u32], time: Duration) -> Result<usize> {
    let mut venue = Venue::new()?;
    let (begin, before) = (clock::now(), venue.server.thread_times());
    let party = venue.room("large", members, LAST_N)?;
    let (media, others) = venue.server.thread_times();
    let Described {
        offers,
        bytes,
        longest_offer,
        longest_answer,
    } = venue.described;
    println!(
        "\n{members} members join one after the other in {:.1} s, all answer before the next one joins: {offers} server offers, \
         {:.1} MB of SDP both ways, the longest offer {longest_offer} and answer {longest_answer} bytes\n\
         CPU of that: signalling {:.2} s ({:.0} us an offer), media thread {:.2} s; resident {:.0} MiB",
        (clock::now() - begin).as_secs_f64(),
        bytes as f64 / 1e6,
        (others - before.1).as_secs_f64(),
        (others - before.1).as_secs_f64() * 1e6 / offers.max(1) as f64,
        (media - before.0).as_secs_f64(),
        venue.server.usage()?.resident_bytes as f64 / f64::from(1 << 20),
    );
    println!("last-n {LAST_N}, the first {AUDIBLE} heard, one of ten speaks for 2 s");
    print_head();
    let mut parties = [party];
    let mut missed = 0;
    for &rate in rates {
        let video = Video {
            rate,
            keyframe_interval: u64::from(2 * rate),
            ..Video::W1
        };
        // Long enough for several speakers.
        let phase = run(
            &venue.server,
            &mut parties,
            0,
            time.max(Duration::from_secs(2)) * 2,
            video,
        )?;
        print_phase(&format!("{rate} frames/s"), &phase);
        missed += phase.lost as usize + phase.incomplete;
    }
    Ok(missed)
}

fn print_head() {
    println!(
        "{:<14}{:>9}{:>10}{:>9}{:>8}{:>8}{:>8}{:>8}{:>8}{:>9}  no room at server, load, kernel; dropped by the server",
        "", "in/s", "out/s", "ns/out", "core %", "signal", "a call", "lost", "no end", "late ms",
    );
}

fn print_phase(name: &str, phase: &Phase) {
    let (media, others) = phase.share();
    println!(
        "{name:<14}{:>9.0}{:>10.0}{:>9.0}{media:>8.1}{others:>8.1}{:>8.1}{:>8}{:>8}{:>9.1}  {:?} {}",
        phase.rate(phase.count("rtp_in")),
        phase.rate(phase.arrived),
        phase.cost(),
        phase.count("datagrams_out") as f64 / phase.count("send_calls").max(1) as f64,
        phase.lost,
        phase.incomplete,
        phase.late.as_secs_f64() * 1e3,
        phase.overflowed,
        phase.dropped().join(", "),
    );
}

/// Members of the small room.
const SMALL: usize = 20;
/// Videos that a member of the large room receives.
const LAST_N: usize = 9;
/// Audio tracks that a member receives: the server's limit.
const AUDIBLE: usize = 25;
/// Time for all offers of one join.
const RENEGOTIATION_MAX: Duration = Duration::from_secs(10);
