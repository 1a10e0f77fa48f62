//! Many sources, and sources whose roll-over count has to be guessed.

use super::*;
use crate::rtp::Ssrc;
use onecast_testing::Noise;

/// A packet of any source, sealed under `index`.
fn sealed(sealer: &mut Sealer, ssrc: u32, index: u64) -> Vec<u8> {
    let mut clear = rtp(index as u16, 20);
    clear[8..12].copy_from_slice(&ssrc.to_be_bytes());
    seal(sealer, &clear, index)
}

fn open_of(opener: &mut Opener, datagram: &[u8]) -> Result<usize, SrtpDrop> {
    let word = |at: usize| u32::from_be_bytes(*datagram[at..].first_chunk().unwrap());
    opener.open_rtp(&mut datagram.to_vec(), HEADER_LEN, Ssrc(word(8)), word(0) as u16)
}

/// Sends packets until one opens; how many were lost on the way.
fn refused(sealer: &mut Sealer, opener: &mut Opener, ssrc: u32, mut indices: std::ops::Range<u64>) -> Option<usize> {
    indices.position(|index| open_of(opener, &sealed(sealer, ssrc, index)).is_ok())
}

#[test]
fn the_loss_of_all_packets_before_the_wrap_is_recovered_at_once() {
    for profile in PROFILES {
        for first in [65_536, 65_540, 131_072, 4 * 65_536] {
            let (mut sealer, mut opener) = pair(profile);
            assert_eq!(
                open_of(&mut opener, &sealed(&mut sealer, 7, first)),
                Ok(48),
                "{profile} {first}"
            );
            assert_eq!(open_of(&mut opener, &sealed(&mut sealer, 7, first + 1)), Ok(48));
        }
    }
}

#[test]
fn packets_from_before_the_wrap_that_come_late_are_taken() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = pair(profile);
        for index in [65_536, 65_535, 65_538, 65_534, 65_537] {
            let datagram = sealed(&mut sealer, 7, index);
            assert!(open_of(&mut opener, &datagram).is_ok(), "{profile} {index}");
            assert_eq!(open_of(&mut opener, &datagram), Err(SrtpDrop::Replayed));
        }
    }
}

#[test]
fn a_source_recovers_from_the_loss_of_several_roll_overs() {
    for profile in PROFILES {
        for lost in [
            32_000,
            33_000,
            40_000,
            65_000,
            65_035,
            65_536,
            66_700,
            100_000,
            131_072 + 5_000,
            240_000,
        ] {
            let (mut sealer, mut opener) = pair(profile);
            for index in 29_000..30_100 {
                assert!(open_of(&mut opener, &sealed(&mut sealer, 7, index)).is_ok());
            }
            let next = 30_100 + lost;
            let refused = refused(&mut sealer, &mut opener, 7, next..next + 100);
            assert!(
                refused.is_some_and(|refused| refused <= 1),
                "{profile}, {lost} lost: {refused:?}"
            );
            let before = open_of(&mut opener, &sealed(&mut sealer, 7, 30_099));
            assert!(
                before.is_err(),
                "{profile}, {lost} lost: a packet from before opened again"
            );
        }
    }
}

#[test]
fn other_sources_open_while_one_is_in_doubt() {
    let (mut sealer, mut opener) = pair(Profile::AeadAes128Gcm);
    assert!(open_of(&mut opener, &sealed(&mut sealer, 7, 30_000)).is_ok());
    for step in 0..1_000 {
        // Out of reach of every guess.
        assert!(open_of(&mut opener, &sealed(&mut sealer, 7, (20 << 16) + step)).is_err());
        assert!(open_of(&mut opener, &sealed(&mut sealer, 8, step)).is_ok());
    }
}

#[test]
fn a_flood_of_bad_packets_costs_half_as_much_again_and_the_honest_source_recovers() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = pair(profile);
        assert!(open_of(&mut opener, &sealed(&mut sealer, 7, 30_000)).is_ok());
        let mut forged = sealed(&mut sealer, 7, 30_001);
        forged[40] ^= 1;
        let (mut rounds, mut packets) = (0, 0);
        let mut open = |datagram: &[u8]| {
            let before = opener.rtp.as_ref().unwrap().credit;
            let opened = open_of(&mut opener, datagram).is_ok();
            rounds += u32::from(opener.rtp.as_ref().unwrap().credit < before);
            packets += 1;
            assert!(rounds <= 8 + packets / 8, "{rounds} rounds for {packets} packets");
            opened
        };
        let honest = (0..500_u64).position(|number| {
            // Some claim to be of the source itself, others of unknown sources.
            for junk in 0..number as u32 % 17 + 20 {
                let ssrc = if junk % 2 == 0 { 7 } else { 1_000 + junk };
                forged[8..12].copy_from_slice(&ssrc.to_be_bytes());
                assert!(!open(&forged));
            }
            open(&sealed(&mut sealer, 7, 90_000 + number))
        });
        assert!(honest.is_some(), "{profile}");
    }
}

#[test]
fn any_number_of_sources_open_one_after_the_other_and_old_packets_never_again() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = pair(profile);
        let mut old = Vec::new();
        for ssrc in 0..1_000 {
            let (media, report) = (
                sealed(&mut sealer, ssrc, 40_000),
                seal_rtcp(&mut sealer, &rtcp(ssrc, 2)),
            );
            assert!(open_of(&mut opener, &media).is_ok(), "{profile} {ssrc}");
            assert!(open_rtcp(&mut opener, &report).is_ok(), "{profile} {ssrc}");
            old.push((media, report));
        }
        for (place, (media, _)) in old.iter().enumerate() {
            assert!(open_of(&mut opener, media).is_err(), "{profile} {place}");
        }
        for (place, (_, report)) in old.iter().enumerate().skip(1_000 - RTCP_REMEMBERED) {
            assert!(open_rtcp(&mut opener, report).is_err(), "{profile} {place}");
        }
    }
}

#[test]
fn a_removed_source_comes_back_at_its_index() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = pair(profile);
        let before = sealed(&mut sealer, 7, (3 << 16) + 65_500);
        // It reaches that far in steps that no receiver doubts.
        for index in (0..=(3_u64 << 16) + 65_500)
            .rev()
            .step_by(20_000)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            assert!(open_of(&mut opener, &sealed(&mut sealer, 7, index)).is_ok());
        }
        (1_000..1_100).for_each(|ssrc| assert!(open_of(&mut opener, &sealed(&mut sealer, ssrc, 1)).is_ok()));
        assert!(open_of(&mut opener, &before).is_err());
        assert!(
            open_of(&mut opener, &sealed(&mut sealer, 7, (4 << 16) + 3)).is_ok(),
            "over the wrap"
        );
        assert!(open_of(&mut opener, &before).is_err());
        let refused = refused(&mut sealer, &mut opener, 7, (4 << 16) + 50_000..(4 << 16) + 50_100);
        assert!(refused.is_some_and(|refused| refused <= 1), "{refused:?}");
    }
}

#[test]
fn a_live_source_keeps_its_window_in_a_flood_of_others() {
    let (mut sealer, mut opener) = pair(Profile::AeadAes128Gcm);
    let mut flood = 1_000;
    for index in 65_000..66_000 {
        for _ in 0..40 {
            flood += 1;
            assert!(open_of(&mut opener, &sealed(&mut sealer, flood, 9)).is_ok());
        }
        assert!(open_of(&mut opener, &sealed(&mut sealer, 7, index)).is_ok(), "{index}");
    }
}

#[test]
fn only_authentic_packets_make_a_source_known() {
    let (mut sealer, mut opener) = pair(Profile::AeadAes128Gcm);
    assert!(opener.may_know(Ssrc(7)), "nothing has come");
    let mut forged = sealed(&mut sealer, 8, 1);
    forged[30] ^= 1;
    assert!(open_of(&mut opener, &forged).is_err());
    assert!(opener.may_know(Ssrc(7)), "nothing authentic has come");
    assert!(open_of(&mut opener, &sealed(&mut sealer, 8, 1)).is_ok());
    assert!(opener.may_know(Ssrc(8)) && !opener.may_know(Ssrc(7)));
}

#[test]
fn no_packet_opens_twice_in_any_order() {
    let seed = 0x5eed;
    let mut random = Noise::seeded(seed);
    let (mut sealer, mut opener) = pair(Profile::AeadAes128Gcm);
    let mut next = [65_000_u64; 80];
    let mut sent: Vec<(Vec<u8>, bool)> = Vec::new();
    let mut opened = 0;
    for step in 0..30_000 {
        // More sources than have a window: they make room for each other all the time. Some packets are lost, some come late or again.
        if random.below(3) > 0 || sent.is_empty() {
            let ssrc = random.below(next.len());
            let roll_over = u64::from(random.below(200) == 0) * 70_000;
            next[ssrc] += 1 + random.below(3) as u64 + roll_over;
            sent.push((sealed(&mut sealer, ssrc as u32, next[ssrc]), false));
            if random.below(10) == 0 {
                continue;
            }
        } else {
            let late = sent.len() - 1 - random.below(sent.len().min(300));
            let newest = sent.len() - 1;
            sent.swap(late, newest);
        }
        let Some((datagram, was_opened)) = sent.last_mut() else {
            continue;
        };
        let opens = open_of(&mut opener, datagram).is_ok();
        assert!(!(opens && *was_opened), "seed {seed}, step {step}");
        *was_opened |= opens;
        opened += usize::from(opens);
    }
    assert!(opened * 10 > sent.len() * 8, "{opened} of {}", sent.len());
}
