//! Forwarding allocates nothing for a viewer: a shard with ten times the viewers allocates exactly as often.

#![expect(clippy::unwrap_used, reason = "a failure ends the test")]
#![expect(unsafe_code, reason = "an allocator that counts cannot be had without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use broadcast::Broadcast;

#[path = "../../../tests/common/broadcast.rs"]
mod broadcast;

/// The system's allocator, counting what the thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and is of no interest.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: everything is passed on to the system's allocator as it is; counting touches no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations and datagrams of `FRAMES` frames.
fn measured(mut broadcast: Broadcast) -> (u64, u64) {
    for number in 0..3 {
        broadcast.frame(number == 0);
        broadcast.pass(Duration::from_millis(30));
    }
    // As many as a window holds, so that it drops a packet for each that it takes.
    (0..400).for_each(|_| broadcast.frame(false));
    while broadcast.shard.poll_event().is_some() {}
    let (allocations, datagrams) = (ALLOCATIONS.get(), broadcast.network.datagrams);
    (0..FRAMES).for_each(|_| broadcast.frame(false));
    (ALLOCATIONS.get() - allocations, broadcast.network.datagrams - datagrams)
}

const FRAMES: u64 = 50;

#[test]
fn a_forwarded_packet_is_allocated_once_however_many_watch() {
    assert_the_same_for_ten_and_for_a_hundred(1, |viewers| Broadcast::of(viewers, false));
}

#[test]
fn members_of_a_room_cost_no_allocation_either() {
    assert_the_same_for_ten_and_for_a_hundred(1, |viewers| Broadcast::of(viewers, true));
}

#[test]
fn viewers_of_several_layers_cost_no_allocation_either() {
    assert_the_same_for_ten_and_for_a_hundred(3, Broadcast::of_layers);
}

fn assert_the_same_for_ten_and_for_a_hundred(layers: u64, watched_by: impl Fn(u16) -> Broadcast) {
    let (for_ten, to_ten) = measured(watched_by(10));
    let (for_hundred, to_hundred) = measured(watched_by(100));
    assert_eq!((to_ten, to_hundred), (FRAMES * 6 * 10, FRAMES * 6 * 100));
    assert_eq!(
        for_ten, for_hundred,
        "allocations do not depend on the number of viewers"
    );
    // Its payload, and the shared packet around it.
    let packets = FRAMES * 6 * layers;
    assert!(for_ten <= packets * 2, "{for_ten} allocations for {packets} packets");
}

#[test]
fn reports_by_which_viewers_are_sent_layers_are_taken_without_allocation() {
    for adapts in [false, true] {
        let mut broadcast = Broadcast::of_layers_if(30, adapts);
        broadcast.frame(true);
        broadcast.pass(Duration::from_millis(100));
        for round in 0..10 {
            broadcast.pass(Duration::from_millis(200));
            let mut reports = broadcast.reports();
            let before = ALLOCATIONS.get();
            broadcast.take_reports(&mut reports);
            // With the first one comes the state of the choice.
            assert!(round < 2 || ALLOCATIONS.get() == before, "round {round}, {adapts}");
        }
    }
}
