//! The layer control of one viewer behind one bottleneck, in simulated time, next to simpler controllers.

mod broadcast;
mod client;
mod path;
mod rivals;
mod score;

use broadcast::Scene;
use onecast_engine::layers::{LadderStep, Millis, Reason, Sending};
use onecast_testing::Noise;
use path::{PathPlan, Profile};
use rivals::{Controller, Fixed, LossAimd, LossTrial, layer_control};
use score::Score;

/// Layers of these kbit/s, numbered from below.
fn ladder(rates: &[u32], temporal: bool) -> Vec<LadderStep> {
    let step = |(layer, rate): (usize, &u32)| LadderStep {
        layer: layer as u8,
        rate: rate * 1_000,
        base_rate: temporal.then_some(rate * 450),
        live_since: Some(Millis(0).plus(u32::MAX / 2)),
    };
    rates.iter().enumerate().map(step).collect()
}

/// A browser's three layers.
const BROWSER: &[u32] = &[150, 500, 2_000];
/// OBS's, whose sizes fall linearly.
const OBS: &[u32] = &[2_000, 4_000, 6_000];
/// Of a run.
const MILLIS: u32 = 60_000;
/// Runs of each controller.
const SEEDS: u64 = 1_000;

fn scene(seed: u64) -> Scene {
    let mut noise = Noise::seeded(seed);
    let profile = Profile::ALL[(seed % 6) as usize];
    let rates = match seed / 6 % 5 {
        0..3 => BROWSER,
        3 => OBS,
        _ => &[1_200],
    };
    let path = PathPlan::generate(profile, &mut noise, MILLIS);
    let temporal = !seed.is_multiple_of(5);
    Scene::new(seed, &ladder(rates, temporal), path, MILLIS)
}

type Make = fn(&[LadderStep]) -> Box<dyn Controller>;

const CONTROLLERS: &[(&str, Make)] = &[
    ("layer control", |ladder| Box::new(layer_control(ladder))),
    ("loss, trial by switching", |ladder| Box::new(LossTrial::new(ladder))),
    ("loss, AIMD estimate", |ladder| Box::new(LossAimd::new(ladder))),
    ("fixed middle layer", |ladder| Box::new(Fixed::middle(ladder))),
    ("fixed top layer", |ladder| Box::new(Fixed::top(ladder))),
];

#[derive(Debug, Default, Clone)]
struct Sum {
    runs: f64,
    total: f64,
    utilisation: f64,
    quality: f64,
    frozen: f64,
    longest: f64,
    hit: f64,
    frames: f64,
    switches: f64,
    padding: f64,
    resent: f64,
    bytes: f64,
    minutes: f64,
}

impl Sum {
    fn add(&mut self, score: &Score) {
        self.runs += 1.0;
        self.total += score.total();
        self.utilisation += score.utilisation;
        self.quality += score.quality;
        self.frozen += f64::from(score.frozen) / 1_000.0;
        self.longest += f64::from(score.longest) / 1_000.0;
        self.hit += f64::from(score.hit);
        self.frames += score.frames.len() as f64;
        self.switches += f64::from(score.switches);
        self.padding += score.padding as f64;
        self.resent += score.resent as f64;
        self.bytes += score.bytes as f64;
        self.minutes += score.minutes;
    }

    fn score(&self) -> f64 {
        self.total / self.runs
    }

    fn line(&self) -> String {
        format!(
            "score {:6.3} | seen {:.3} util {:.3} | frozen {:5.2} s/min, longest {:5.2} s | hit {:5.2} % | switches {:5.2}/min | padding {:4.1} % | resent {:4.1} %",
            self.score(),
            self.quality / self.runs,
            self.utilisation / self.runs,
            self.frozen / self.minutes,
            self.longest / self.runs,
            100.0 * self.hit / self.frames,
            self.switches / self.minutes,
            100.0 * self.padding / self.bytes,
            100.0 * self.resent / self.bytes,
        )
    }
}

/// Sums over all seeds, and over those with a browser's layers.
fn play(make: Make) -> (Sum, Sum) {
    let (mut all, mut browser) = (Sum::default(), Sum::default());
    for seed in 0..SEEDS {
        let scene = scene(seed);
        let score = scene.run(make(&scene.ladder).as_mut());
        assert!(score.probes <= 60, "seed {seed}: {} probes in a minute", score.probes);
        all.add(&score);
        if scene.ladder.len() == 3 && scene.ladder[0].rate < 1_000_000 {
            browser.add(&score);
        }
    }
    (all, browser)
}

/// One seed after the other, the same each time: nothing here depends on the machine. `--nocapture` prints the table.
#[test]
fn it_is_better_than_simpler_controllers() {
    let sums: Vec<_> = CONTROLLERS.iter().map(|(name, make)| (name, play(*make))).collect();
    for (ladders, browser) in [("all ladders", false), ("layers of a browser", true)] {
        println!("{ladders}:");
        for (name, (all, of_browser)) in &sums {
            println!("{name:>26} {}", if browser { of_browser } else { all }.line());
        }
    }
    let (_, (ours, ours_browser)) = &sums[0];
    for (name, (all, browser)) in &sums[1..] {
        assert!(ours.score() > all.score() + 0.15, "{name}");
        assert!(ours_browser.score() > browser.score() + 0.15, "{name}");
        assert!(
            ours_browser.frozen / ours_browser.minutes < browser.frozen / browser.minutes,
            "{name}"
        );
        assert!(2.0 * ours.hit / ours.frames < all.hit / all.frames, "{name}");
        assert!(
            ours.quality > all.quality && ours.utilisation > all.utilisation,
            "{name}"
        );
    }
    assert!(ours.padding < 0.1 * ours.bytes);
}

/// Runs of a browser's layers over one path, with reports and keyframes at different times.
fn runs(path: &[(u32, f64)], millis: u32) -> impl Iterator<Item = Score> {
    let path = PathPlan::of(path, millis);
    (0..100).map(move |seed| {
        let scene = Scene::new(seed, &ladder(BROWSER, true), path.clone(), millis);
        scene.run(&mut layer_control(&scene.ladder))
    })
}

#[test]
fn a_path_that_narrows_is_noticed_and_one_that_widens_is_used() {
    let (mut back, mut shown) = (Vec::new(), Vec::new());
    for score in runs(&[(0, 5.0), (16_000, 1.0), (26_000, 5.0)], 40_000) {
        let acts = score
            .first(16_000, |is| is.wanted < 2 || is.sending < Sending::Whole)
            .unwrap();
        let fits = score.first(16_000, |is| is.wanted < 2).unwrap();
        assert!(
            acts - 16_000 <= 1_200 && fits - 16_000 <= 2_000,
            "{acts} {fits}: {:?}",
            score.moments
        );
        shown.push(score.first(16_000, |is| is.layer < 2).unwrap() - 16_000);
        back.push(score.first(26_000, |is| is.layer == 2).unwrap() - 26_000);
    }
    shown.sort_unstable();
    back.sort_unstable();
    println!(
        "shown after {} to {} ms, back after {} to {} (median), {} (95 %) and {} ms",
        shown[0], shown[99], back[0], back[50], back[94], back[99]
    );
    // Up to 2 s of each are the wait for a keyframe.
    assert!(
        shown[99] <= 3_000 && back[94] <= 5_000 && back[99] <= 7_000,
        "{shown:?} {back:?}"
    );
}

#[test]
fn on_a_path_that_stays_the_layer_stays() {
    for (seed, score) in runs(&[(0, 1.0)], 130_000).enumerate() {
        let late = score
            .moments
            .windows(2)
            .filter(|two| two[1].at > 10_000 && two[0].layer != two[1].layer);
        assert!(late.count() <= 2, "seed {seed}: {:?}", score.moments);
    }
}

#[test]
fn a_free_path_carries_the_top_layer_within_seven_seconds() {
    for (seed, score) in runs(&[(0, 50.0)], 30_000).enumerate() {
        let top = score.first(0, |is| is.layer == 2).unwrap();
        assert!(top <= 7_000, "seed {seed}: {top} ms");
        assert!(
            score.moments.iter().all(|is| is.at < top || is.layer == 2),
            "seed {seed}"
        );
    }
}

#[test]
fn a_publisher_that_stalls_costs_nothing() {
    let millis = 600_000;
    for seed in 0..10 {
        let mut noise = Noise::seeded(seed);
        let mut path = PathPlan::of(&[(0, 8.0)], millis);
        path.loss = [0, 50, 200][seed as usize % 3];
        let mut scene = Scene::new(seed, &ladder(BROWSER, true), path, millis);
        let starts = (10_000..millis).step_by(4_000);
        scene.stalls = starts.map(|at| at..at + 100 + noise.below(2_500) as u32).collect();
        let score = scene.run(&mut layer_control(&scene.ladder));
        let falls = score
            .moments
            .iter()
            .filter(|is| is.at > 7_000 && (is.layer < 2 || is.sending < Sending::Whole));
        assert_eq!(falls.count(), 0, "seed {seed}: {:?}", score.moments);
    }
}

#[test]
fn viewers_of_a_layer_that_dies_get_the_best_one_that_is_left() {
    let mut scene = Scene::new(1, &ladder(BROWSER, true), PathPlan::of(&[(0, 8.0)], 40_000), 40_000);
    scene.gone = Some((2, 12_000..20_000));
    let score = scene.run(&mut layer_control(&scene.ladder));
    let fallen = score.first(12_000, |is| is.wanted == 1).unwrap();
    assert!(fallen <= 12_800, "{:?}", score.moments);
    assert_eq!(
        score.moments.iter().find(|is| is.at == fallen).unwrap().reason,
        Some(Reason::LayerGone)
    );
    let left = score.first(fallen, |is| is.layer == 1).unwrap();
    let back = score.first(left, |is| is.layer == 2).unwrap();
    assert!((20_000..=26_000).contains(&back), "{:?}", score.moments);
}

#[test]
fn a_stream_of_one_layer_is_protected_and_comes_back() {
    for narrow in [0.8, 0.3] {
        let path = PathPlan::of(&[(0, 5.0), (10_000, narrow), (25_000, 5.0)], 40_000);
        let scene = Scene::new(7, &ladder(&[1_200], true), path, 40_000);
        let score = scene.run(&mut layer_control(&scene.ladder));
        let least = score.moments.iter().map(|is| is.sending).min().unwrap();
        let expected = if narrow > 0.5 {
            Sending::BaseTemporal
        } else {
            Sending::KeyframesOnly
        };
        assert!(least <= expected, "{:?}", score.moments);
        let back = score.first(25_000, |is| is.sending == Sending::Whole).unwrap();
        assert!(back <= 31_000, "{:?}", score.moments);
    }
}
