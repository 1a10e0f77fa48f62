//! Conferences in simulated time: members join, switch devices, share screens and leave at any time, over slow and lossy signalling.

use std::time::Duration;

use onecast_control::EndReason;

use crate::calls::Calls;
use crate::conference::Conference;
use crate::network::{Link, Random};
use crate::person::{Act, Stage, Way};
use crate::scenarios::ms;

/// How many conferences, each of its own seed; `ROOM_SEEDS=5000` for more, `ROOM_SEEDS=77..78` for one.
const SEEDS: std::ops::Range<u64> = 0..1_000;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("ROOM_SEEDS") else {
        return SEEDS;
    };
    match text.split_once("..") {
        Some((from, to)) => from.parse().unwrap()..to.parse().unwrap(),
        None => 0..text.parse().unwrap(),
    }
}

fn link(seed: u64) -> Link {
    [Link::CLEAN, Link::LOSSY, Link::WILD, Link::LOSSY][seed as usize % 4]
}

/// Plans what a person does in the first seconds.
fn plan(conference: &mut Conference, random: &mut Random, person: usize, after: u64) {
    let start = conference.world.now + ms(after);
    let mut plan = Vec::new();
    for _ in 0..random.below(5) {
        let at = random.below(4_000);
        let on = ms(at + 100 + random.below(1_500));
        let pair = match random.below(5) {
            0 | 1 => [Act::Switch(Calls::CAMERA, false), Act::Switch(Calls::CAMERA, true)],
            2 => [Act::Switch(Calls::SCREEN, true), Act::Switch(Calls::SCREEN, false)],
            3 => [Act::Speak(true), Act::Speak(false)],
            _ => [Act::Break, Act::Switch(Calls::SCREEN, true)],
        };
        plan.extend([(start + ms(at), pair[0]), (start + on, pair[1])]);
    }
    plan.sort_by_key(|(at, _)| *at);
    conference.people[person].plan = plan.into();
}

fn way(random: &mut Random) -> Way {
    [Way::Polls, Way::Waits, Way::Socket][random.below(3) as usize]
}

/// Whether each present person has received packets of every other track that were sent after `marks`.
fn all_flows(conference: &mut Conference, marks: &[(usize, usize, u32, u32)]) -> bool {
    let people: Vec<(usize, usize)> = conference
        .people
        .iter()
        .enumerate()
        .filter(|(_, person)| person.stage == Stage::In)
        .map(|(place, person)| (place, person.client.unwrap()))
        .collect();
    people.iter().all(|(place, client)| {
        let caller = conference.world.clients[*client].caller();
        let others = marks.iter().filter(|(of, ..)| of != place);
        others
            .into_iter()
            .all(|(.., source, sent)| caller.newest(*source).is_some_and(|newest| newest > *sent))
    })
}

fn calm(conference: &mut Conference) -> bool {
    let waits = |person: &crate::person::Person| person.stage == Stage::Gone || person.is_calm();
    conference.people.iter().all(waits)
}

fn marks(conference: &mut Conference) -> Vec<(usize, usize, u32, u32)> {
    let mut marks = Vec::new();
    for person in 0..conference.people.len() {
        for sender in [Calls::MICROPHONE, Calls::CAMERA, Calls::SCREEN] {
            let sent = conference.sent(person, sender);
            marks.extend(sent.map(|(source, sent)| (person, sender, source, sent)));
        }
    }
    marks
}

/// Returns how many offers the server made, and how many of clients it refused.
fn conference(seed: u64) -> (usize, usize) {
    let mut random = Random::new(seed ^ 0x77);
    let mut conference = Conference::new(seed, 1 + seed as usize % 3, link(seed));
    for _ in 0..3 + seed % 2 {
        let after = random.below(2_000);
        let way = way(&mut random);
        let person = conference.invite(way, ms(after));
        plan(&mut conference, &mut random, person, after);
    }
    conference.run(ms(1_500 + random.below(2_500)));
    let leaver = random.below(conference.people.len() as u64) as usize;
    let now = conference.world.now;
    conference.people[leaver].plan = [(now, Act::Leave)].into();
    let (way, after) = (way(&mut random), random.below(1_000));
    let again = conference.invite(way, ms(after));
    plan(&mut conference, &mut random, again, after);
    for _ in 0..3 {
        conference.run(ms(1_000 + random.below(500)));
        let picky = random.below(conference.people.len() as u64) as usize;
        conference.set_last_n(picky, random.below(3) as usize);
    }
    settle(&mut conference);
    assert_eq!(conference.ended, [], "seed {seed}");
    finish(&mut conference);
    (conference.offers, conference.refused)
}

/// All complete what they have begun, and then all tracks flow.
fn settle(conference: &mut Conference) {
    let seed = conference.world.seed;
    let planned = |conference: &mut Conference| conference.people.iter().all(|person| person.plan.is_empty());
    assert!(conference.run_until(ms(8_000), planned), "seed {seed}");
    assert!(
        conference.run_until(ms(20_000), calm),
        "seed {seed}: a person is still busy"
    );
    (0..conference.people.len()).for_each(|person| conference.set_last_n(person, 9));
    let marks = marks(conference);
    let flows = conference.run_until(ms(15_000), |conference| all_flows(conference, &marks));
    let lines = |person: &crate::person::Person| person.calls.of_server();
    assert!(
        flows,
        "seed {seed}: not everything flows: {marks:?}, {:?}",
        conference.people.iter().map(lines).collect::<Vec<_>>()
    );
    let bound = 2 * conference.tracks_max;
    let most = conference.people.iter().map(lines).max().unwrap();
    assert!(
        most <= bound,
        "seed {seed}: {most} lines for {} tracks",
        conference.tracks_max
    );
    let loses = conference.world.network.down.loss > 0;
    for client in &mut conference.world.clients {
        client.caller().check(loses);
    }
}

/// All leave, and nothing stays.
fn finish(conference: &mut Conference) {
    let now = conference.world.now;
    for person in &mut conference.people {
        person.plan.push_back((now, Act::Leave));
    }
    let seed = conference.world.seed;
    let gone = conference.run_until(ms(15_000), |conference| {
        conference.is_empty() && conference.people.iter().all(|person| person.stage == Stage::Gone)
    });
    assert!(gone, "seed {seed}: a person is still there");
    conference.run(Duration::from_secs(1));
    conference.assert_empty();
}

#[test]
fn a_member_that_never_answers_is_ended_and_the_others_continue() {
    for (seed, way) in [(1, Way::Polls), (2, Way::Waits), (3, Way::Socket)] {
        let mut conference = Conference::new(seed, 2, Link::LOSSY);
        let mute = conference.invite(way, ms(0));
        conference.people[mute].is_mute = true;
        conference.invite(Way::Polls, ms(300));
        conference.invite(Way::Socket, ms(600));
        conference.run(ms(25_000));
        assert_eq!(conference.ended, [], "seed {seed}");
        let ended = |conference: &mut Conference| conference.people[mute].stage == Stage::Gone;
        assert!(conference.run_until(ms(15_000), ended), "seed {seed}");
        assert_eq!(conference.ended, [EndReason::Unanswered], "seed {seed}");
        settle(&mut conference);
        finish(&mut conference);
    }
}

#[test]
fn all_members_converge_despite_losses_delays_and_glare() {
    let seeds = seeds();
    let halves: [Vec<u64>; 2] = [0, 1].map(|half| seeds.clone().filter(|seed| seed % 2 == half).collect());
    let threads = halves.map(|seeds| {
        std::thread::spawn(move || {
            let mut sums = (0, 0);
            for seed in seeds {
                let one = std::panic::catch_unwind(|| conference(seed));
                let (offers, refused) = one.unwrap_or_else(|_| panic!("ROOM_SEEDS={seed}..{} fails", seed + 1));
                sums = (sums.0 + offers, sums.1 + refused);
            }
            sums
        })
    });
    let sums = threads.map(|thread| thread.join().unwrap());
    let (offers, refused) = (sums[0].0 + sums[1].0, sums[0].1 + sums[1].1);
    println!("{offers} offers of the server, {refused} of clients refused");
    assert!(seeds.clone().count() < 50 || refused > 0, "offers cross now and then");
}
