//! What a window takes, keeps, and offers as a start.

use super::*;
use crate::media::testing::packet;
use onecast_rtc::rtp::RtpTime;

fn window(packets: usize) -> Window {
    Window::new(WindowBounds {
        packets,
        cache: CacheBounds::OFF,
    })
}

fn caching(packets: usize, bytes: usize, frames: u64) -> Window {
    let pixels = frames * Gop::PIXELS_DEFAULT;
    Window::new(WindowBounds {
        packets,
        cache: CacheBounds { bytes, pixels },
    })
}

/// A keyframe at `first` and `frames` more, a packet each.
fn fill(window: &mut Window, first: u64, frames: u64) {
    for index in first..=first + frames {
        let packet = packet(index).timestamp(RtpTime(index as u32 * 3_000)).marker();
        let packet = if index == first { packet.keyframe() } else { packet };
        assert_eq!(window.insert(packet.build()), Insert::Taken);
    }
}

fn start(window: &Window) -> Option<u64> {
    match window.start() {
        Start::At(start) => Some(start.index),
        _ => None,
    }
}

#[test]
fn an_index_belongs_to_one_packet_only() {
    let mut window = window(8);
    assert_eq!(window.insert(packet(5).build()), Insert::Taken);
    assert_eq!(window.insert(packet(5).payload(b"other").build()), Insert::Duplicate);
    assert_ne!(
        window.get(5).map(|slot| slot.packet.payload.to_vec()),
        Some(b"other".to_vec())
    );
}

#[test]
fn an_index_that_left_the_window_is_refused_for_good() {
    let mut window = window(8);
    for index in 100..109 {
        assert_eq!(window.insert(packet(index).build()), Insert::Taken);
    }
    assert!(window.get(100).is_none());
    assert_eq!(window.insert(packet(100).build()), Insert::TooOld);
    assert_eq!(window.insert(packet(50).build()), Insert::TooOld);
}

#[test]
fn late_packets_find_their_place_and_a_jump_keeps_order() {
    let mut window = window(8);
    window.insert(packet(10).build());
    window.insert(packet(12).build());
    assert_eq!(window.insert(packet(11).build()), Insert::Taken);
    assert_eq!(window.newest(), Some(12));
    assert_eq!(window.insert(packet(1_000).build()), Insert::Taken);
    assert_eq!(window.insert(packet(12).build()), Insert::TooOld);
    assert_eq!(window.insert(packet(995).build()), Insert::Taken);
}

#[test]
fn the_window_grows_to_hold_everything_since_the_keyframe_and_shrinks_again() {
    let mut window = caching(8, 1 << 20, 1_000);
    fill(&mut window, 100, 300);
    assert_eq!(start(&window), Some(100));
    assert!((100..=400).all(|index| window.get(index).is_some()));
    assert_eq!(window.slots.len(), 512);
    for keyframe in 0..12 {
        fill(&mut window, 401 + 5 * keyframe, 4);
    }
    assert_eq!(start(&window), Some(456));
    assert!(window.slots.len() <= 32, "{}", window.slots.len());
}

#[test]
fn beyond_the_bounds_a_viewer_starts_at_the_next_keyframe() {
    for (bytes, frames) in [(2_000, 1_000), (1 << 20, 20)] {
        let mut window = caching(8, bytes, frames);
        fill(&mut window, 100, 10);
        assert_eq!(start(&window), Some(100));
        fill(&mut window, 111, 40);
        assert!(matches!(window.start(), Start::NextKeyframe), "{bytes} {frames}");
        assert!(window.slots.len() <= 32, "{}", window.slots.len());
        fill(&mut window, 152, 3);
        assert_eq!(start(&window), Some(152));
    }
}

#[test]
fn without_a_cache_only_the_keyframe_itself_is_a_start() {
    let mut window = window(8);
    assert!(matches!(window.start(), Start::NextKeyframe));
    window.insert(packet(1).timestamp(RtpTime(5)).keyframe().build());
    window.insert(packet(2).timestamp(RtpTime(5)).marker().build());
    assert_eq!(start(&window), Some(1));
    window.insert(packet(3).timestamp(RtpTime(6)).marker().build());
    assert!(matches!(window.start(), Start::NextKeyframe));
}

#[test]
fn a_gap_since_the_keyframe_is_waited_for() {
    let mut window = caching(8, 1 << 20, 100);
    window.insert(packet(1).timestamp(RtpTime(5)).keyframe().build());
    window.insert(packet(3).timestamp(RtpTime(7)).build());
    assert!(matches!(window.start(), Start::Gap));
    window.insert(packet(2).timestamp(RtpTime(6)).build());
    assert_eq!(start(&window), Some(1));
}

#[test]
fn a_new_window_takes_over_the_past_of_another() {
    let mut old = caching(8, 1 << 20, 100);
    fill(&mut old, 100, 20);
    let mut window = caching(8, 1 << 20, 100);
    // One packet arrived by itself before.
    window.insert(old.get(120).unwrap().packet.clone());
    window.insert_past(old.past());
    assert_eq!(start(&window), Some(100));
    assert!(window.get(119).unwrap().settled && !window.get(120).unwrap().settled);
    old.end_source();
    window.insert_past(old.past());
    assert!(old.past().packets.is_empty());
    // A packet that is missing at this moment arrives by itself.
    let mut old = caching(8, 1 << 20, 100);
    fill(&mut old, 200, 5);
    old.insert(packet(207).timestamp(RtpTime(207 * 3_000)).build());
    let mut window = caching(8, 1 << 20, 100);
    window.insert_past(old.past());
    assert!(matches!(window.start(), Start::Gap));
    window.insert(packet(206).timestamp(RtpTime(206 * 3_000)).build());
    assert_eq!(start(&window), Some(200));
}

#[test]
fn a_burst_that_is_lost_soon_after_the_keyframe_does_not_push_it_out() {
    let mut window = caching(8, 1 << 20, 1_000);
    fill(&mut window, 100, 5);
    for index in (200..210).chain(106..200) {
        let late = packet(index).timestamp(RtpTime(index as u32 * 3_000)).marker().build();
        assert_eq!(window.insert(late), Insert::Taken, "{index}");
    }
    assert_eq!(start(&window), Some(100));
}

#[test]
fn pictures_are_counted_once_in_whatever_order_their_packets_come() {
    let frame = |index: u64| packet(index).timestamp(RtpTime(index as u32 / 4)).build();
    let mut window = caching(8, 1 << 20, 1_000);
    window.insert(packet(100).timestamp(RtpTime(25)).keyframe().build());
    // The last packet of each frame arrives after the first of the next.
    for index in 101..=500 {
        let overtaken = match index % 4 {
            3 => index + 1,
            0 => index - 1,
            _ => index,
        };
        window.insert(frame(overtaken));
    }
    assert_eq!(window.gop().frames(), 101);
    // The same when the newest packet arrives before all others.
    let mut later = caching(8, 1 << 20, 1_000);
    later.insert(frame(500));
    later.insert_past(window.past());
    assert_eq!((later.gop().frames(), later.gop().packets()), (101, 401));
    assert_eq!(later.gop().bytes(), window.gop().bytes());
}

#[test]
fn a_group_that_no_viewer_can_start_with_is_not_kept() {
    let mut window = caching(8, 100_000, 1_000_000);
    fill(&mut window, 100, 900);
    assert_eq!(window.slots.len(), 1_024);
    for index in 1_001..5_000 {
        window.insert(
            packet(index)
                .timestamp(RtpTime(index as u32))
                .payload(&[0; 1_000])
                .build(),
        );
    }
    let kept: usize = window
        .slots
        .iter()
        .flatten()
        .map(|slot| slot.packet.payload.len())
        .sum();
    assert!(kept <= 200_000, "{kept} bytes");
}

#[test]
fn an_index_that_left_is_refused_after_growth_too() {
    let mut window = caching(8, 1 << 20, 1_000);
    for index in 92..100 {
        assert_eq!(window.insert(packet(index).build()), Insert::Taken);
    }
    fill(&mut window, 100, 8);
    assert!(window.slots.len() > 8 && window.get(100).is_some());
    assert_eq!(window.insert(packet(99).build()), Insert::TooOld);
    assert_eq!(window.insert(packet(101).build()), Insert::Duplicate);
}

#[test]
fn any_order_of_inserts_keeps_one_packet_per_index() {
    any_order_of_inserts(window(16), 0);
    for keyframes in [20, 100, 1_000] {
        any_order_of_inserts(caching(16, 1 << 20, 1_000), keyframes);
    }
}

/// One packet in `keyframes` is a keyframe.
fn any_order_of_inserts(mut window: Window, keyframes: u64) {
    // The model: every index that was ever taken, with the packet that took it.
    let mut seed = 7u64;
    let mut random = move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    let mut taken = std::collections::HashMap::new();
    let mut base = 1_000;
    for step in 0..20_000u64 {
        base += u64::from(random() % 3 == 0);
        let index = base + random() % 40 - 30;
        let content = step.to_be_bytes();
        let offered = packet(index).timestamp(RtpTime(index as u32)).payload(&content);
        let is_keyframe = keyframes > 0 && random().is_multiple_of(keyframes);
        let offered = if is_keyframe { offered.keyframe() } else { offered };
        if window.insert(offered.build()) == Insert::Taken {
            assert_eq!(taken.insert(index, content), None, "index {index} was taken twice");
        }
        if let Some(slot) = window.get(index) {
            assert_eq!(slot.packet.payload[..], taken[&index][..]);
        }
    }
}

/// A packet a picture; recovery points at every tenth, which take five.
fn refreshing(window: &mut Window, range: std::ops::Range<u64>) {
    for index in range {
        let picture = packet(index).timestamp(RtpTime(index as u32 * 3_000)).marker();
        let picture = if index % 10 == 0 { picture.recovery(5) } else { picture };
        assert_eq!(window.insert(picture.build()), Insert::Taken);
    }
}

#[test]
fn a_recovery_point_is_a_start_when_the_keyframe_is_too_long_ago() {
    let mut window = caching(64, 1 << 20, 30);
    fill(&mut window, 101, 4);
    refreshing(&mut window, 106..130);
    assert_eq!(start(&window), Some(101));
    assert_eq!(window.past().packets().len(), 29);
    refreshing(&mut window, 130..140);
    assert_eq!(start(&window), Some(130), "the newest that is complete");
    // The window of another shard finds the same start.
    let mut other = caching(64, 1 << 20, 30);
    other.insert_past(window.past());
    assert_eq!(start(&other), Some(130));
    refreshing(&mut window, 140..10_000);
    assert_eq!(start(&window), Some(9_990));
    assert!(window.slots.len() <= 64, "{}", window.slots.len());
}

#[test]
fn without_a_cache_a_recovery_point_is_a_start_at_its_own_moment() {
    let mut window = window(64);
    fill(&mut window, 101, 4);
    refreshing(&mut window, 106..110);
    assert!(matches!(window.start(), Start::NextKeyframe));
    refreshing(&mut window, 110..111);
    assert_eq!(start(&window), Some(110));
    refreshing(&mut window, 111..112);
    assert!(matches!(window.start(), Start::NextKeyframe));
}

fn best(window: &Window) -> Option<u64> {
    window.best_start().map(|point| point.index)
}

#[test]
fn the_best_start_is_a_keyframe_with_a_gap_then_a_marked_picture_then_the_newest() {
    let mut window = caching(64, 1 << 20, 30);
    assert_eq!(best(&window), None);
    window.insert(packet(9).timestamp(RtpTime(1)).build());
    for index in 10..13 {
        window.insert(packet(index).timestamp(RtpTime(2)).sets(&[0x78]).build());
    }
    assert_eq!(best(&window), Some(10), "the newest picture from its first packet on");
    assert!(window.best_start().unwrap().parameter_sets.is_some());
    // Parameter sets in front of no keyframe.
    window.insert(packet(13).timestamp(RtpTime(3)).before_refresh().build());
    window.insert(packet(14).timestamp(RtpTime(4)).build());
    assert_eq!(best(&window), Some(13));
    window.insert(packet(15).timestamp(RtpTime(5)).keyframe().build());
    window.insert(packet(17).timestamp(RtpTime(6)).build());
    assert!(!matches!(window.start(), Start::At(_)));
    assert_eq!(best(&window), Some(17), "half a keyframe is none");
    window.insert(packet(18).timestamp(RtpTime(7)).keyframe().build());
    window.insert(packet(19).timestamp(RtpTime(8)).build());
    window.insert(packet(21).timestamp(RtpTime(9)).build());
    assert!(matches!(window.start(), Start::Gap));
    assert_eq!(best(&window), Some(18));
    for index in 22..60 {
        window.insert(packet(index).timestamp(RtpTime(index as u32)).build());
    }
    assert_eq!(best(&window), Some(59), "everything else is too far back");
}
