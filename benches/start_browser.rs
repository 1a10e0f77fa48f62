//! What a new viewer sees in Chromium: when its first picture appears, and when it is level with a viewer that was there before.
//!
//! `cargo bench --bench start_browser [-- --codecs vp8,vp9,h264,av1] [--sizes 360,720] [--joins 12] [--variants live,off,original,squeezed]
//! [--seed N]`. Needs chromium, chromedriver and ffmpeg. The publisher sends a keyframe every 10 s and ignores requests.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::signal::unix::{SignalKind, signal};

use chrome::Chrome;
use onecast_testing::find_program;
use start_browser::children::{Publisher, Server};
use start_browser::join::{Audience, Join};
use start_browser::sources::{self, Codec, GROUP, Size};
use start_browser::table;

#[path = "../tests/browser/chrome.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "shared with the tests of the pages, which use more of it"
)]
mod chrome;
#[path = "../tests/browser/process.rs"]
#[expect(clippy::unwrap_used, reason = "shared with the tests of the pages")]
mod process;
mod start_browser {
    pub(crate) mod children;
    pub(crate) mod join;
    pub(crate) mod picture;
    pub(crate) mod sources;
    pub(crate) mod table;
}

#[tokio::main]
async fn main() -> Result<()> {
    let plan = Plan::read(&std::env::args().skip(1).collect::<Vec<_>>())?;
    let missing: Vec<&str> = PROGRAMS
        .into_iter()
        .filter(|name| find_program(name).is_none())
        .collect();
    if !missing.is_empty() {
        bail!(
            "not installed: {}; on Debian: apt-get install chromium chromium-driver ffmpeg",
            missing.join(", ")
        );
    }
    // Dropping the future ends every process that was started.
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        done = measure(&plan) => done,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
    }
}

/// What to measure.
struct Plan {
    codecs: Vec<Codec>,
    sizes: Vec<Size>,
    variants: Vec<&'static Variant>,
    joins: usize,
    seed: u64,
}

impl Plan {
    fn read(args: &[String]) -> Result<Plan> {
        // Cargo adds --bench.
        let unknown = |arg: &&String| arg.starts_with("--") && *arg != "--bench" && !OPTIONS.contains(&arg.as_str());
        if let Some(unknown) = args.iter().find(unknown) {
            bail!("{unknown} is none of {}", OPTIONS.join(", "));
        }
        let option = |name: &str, default: &'static str| {
            let at = args.iter().position(|arg| arg == name);
            at.and_then(|at| args.get(at + 1))
                .map_or(default, String::as_str)
                .to_owned()
        };
        let list = |name, default| {
            let names = option(name, default);
            names.split(',').map(str::to_owned).collect::<Vec<_>>()
        };
        let codecs = list("--codecs", "vp8,vp9,h264,av1");
        let sizes = list("--sizes", "360,720");
        let variants = list("--variants", "live,off,original,squeezed");
        let joins = option("--joins", "12").parse().context("--joins takes a number")?;
        ensure!((1..=GROUP).contains(&joins), "--joins takes 1 to {GROUP}");
        Ok(Plan {
            codecs: codecs.iter().map(|name| Codec::named(name)).collect::<Result<_>>()?,
            sizes: sizes.iter().map(|name| Size::named(name)).collect::<Result<_>>()?,
            variants: variants.iter().map(|name| variant(name)).collect::<Result<_>>()?,
            joins,
            seed: option("--seed", "1").parse().context("--seed takes a number")?,
        })
    }
}

/// One way to run the server.
struct Variant {
    name: &'static str,
    options: &'static [&'static str],
}

fn variant(name: &str) -> Result<&'static Variant> {
    let found = VARIANTS.iter().find(|variant| variant.name == name);
    found.with_context(|| format!("--variants: {name} is none of live, off, original, squeezed"))
}

async fn measure(plan: &Plan) -> Result<()> {
    print_machine(plan);
    let folder = tempfile::tempdir()?;
    let sound = sources::sound(folder.path())?;
    let chrome = Chrome::launch().await;
    println!("\n{}", table::HEAD);
    for &size in &plan.sizes {
        for &codec in &plan.codecs {
            let video = encoded(folder.path(), codec, size).await?;
            for variant in &plan.variants {
                let measured = run(plan, &chrome, variant, &video, &sound).await;
                let row = measured.with_context(|| format!("{} {} {}", codec.name(), size.height, variant.name))?;
                println!("{} | {} | {} | {row}", codec.name(), size.height, variant.name);
            }
        }
    }
    Ok(())
}

async fn encoded(folder: &Path, codec: Codec, size: Size) -> Result<std::path::PathBuf> {
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || sources::video(&folder, codec, size)).await?
}

/// A row of the table.
async fn run(plan: &Plan, chrome: &Chrome, variant: &Variant, video: &Path, sound: &Path) -> Result<String> {
    let Some(server) = Server::start(variant.options).await? else {
        return Ok(format!(
            "skipped: this server does not know {}",
            variant.options.join(" ")
        ));
    };
    let publisher = Publisher::start(&server.url("/whip/bench"), video, sound).await?;
    let page = server.url("/viewer.html?stream=bench");
    let audience = Audience::open(chrome, &page, &server.url("/whep/bench")).await;
    let mut joins: Vec<Join> = Vec::new();
    for phase in phases(plan.joins, plan.seed) {
        let join = audience.join(phase).await?;
        eprintln!("{}", table::line(&join));
        joins.push(join);
    }
    audience.close().await;
    Ok(table::row(&joins, publisher.keyframe_requests()))
}

/// When to join, in frames after a keyframe: one random moment in each of `joins` equal parts of the group, ordered so that a joiner that
/// stays 8 s follows soon after the previous one.
fn phases(joins: usize, seed: u64) -> impl Iterator<Item = usize> {
    let part = GROUP / joins;
    let mut random = seed;
    (0..joins).map(move |number| {
        // Constants of Knuth's MMIX generator; its upper bits are the random ones.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let within = (random >> 33) as usize % part;
        (GROUP - (number + 1) * part + within) % GROUP
    })
}

fn print_machine(plan: &Plan) {
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find(|line| line.starts_with("model name"))
        .unwrap_or_default();
    println!(
        "{}, {} cores, {}; {}; commit {}; seed {}",
        model.rsplit(':').next().unwrap_or_default().trim(),
        std::thread::available_parallelism().map_or(1, usize::from),
        said("uname", &["-sr"]),
        said("chromium", &["--version"]),
        said("git", &["rev-parse", "--short", "HEAD"]),
        plan.seed,
    );
}

const OPTIONS: [&str; 5] = ["--codecs", "--sizes", "--joins", "--variants", "--seed"];
const PROGRAMS: [&str; 4] = ["chromium", "chromedriver", "ffmpeg", "ffprobe"];

const VARIANTS: [Variant; 4] = [
    Variant {
        name: "live",
        options: &[],
    },
    Variant {
        name: "off",
        options: &["--start-cache-bytes", "0", "--pli-interval", "0"],
    },
    Variant {
        name: "original",
        options: &["--start-stamps", "original"],
    },
    Variant {
        name: "squeezed",
        options: &["--start-stamps", "squeezed"],
    },
];
