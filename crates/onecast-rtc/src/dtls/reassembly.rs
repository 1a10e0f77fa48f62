//! Handshake messages of the other side, put together from fragments (RFC 6347 section 4.2.3).
//!
//! The DTLS crate has a buffer of its own for this, whose work grows with the square of the fragments that it holds. So it is given whole
//! messages only, in order and each of them once.

use std::ops::Range;

use crate::record::HandshakeFragment;

/// A whole message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) seq: u16,
    pub(super) body: Vec<u8>,
}

/// The messages of the next flight so far. Only messages that can belong to that flight are kept, so an attacker cannot plant any for
/// later.
#[derive(Default)]
pub(super) struct Reassembly {
    /// Sequence number of the flight's first message.
    next: u16,
    messages: Vec<Partial>,
}

/// A flight as the types of its messages.
pub(super) type Flight = [u8];

struct Partial {
    message: Message,
    /// Ranges of the body that are there: disjoint, and no two of them touch.
    pieces: Vec<Range<usize>>,
}

impl Reassembly {
    /// Waits for the flight whose first message has this sequence number, and drops everything else.
    pub(super) fn expect(&mut self, next: u16) {
        self.next = next;
        self.messages = Vec::new();
    }

    /// Sequence number of the next message that has not been taken.
    pub(super) fn next(&self) -> u16 {
        self.next
    }

    /// Whether a part of the message with this sequence number is there.
    pub(super) fn has_begun(&self, seq: u16) -> bool {
        self.messages.iter().any(|partial| partial.message.seq == seq)
    }

    /// Bytes that are kept.
    pub(super) fn held(&self) -> usize {
        self.messages.iter().map(|partial| partial.message.body.len()).sum()
    }

    /// Keeps the fragment if one of `flights` has a message of its type at its position.
    ///
    /// Where fragments disagree, the newest first fragment of a message wins. So a client that repeats its flight connects, even if
    /// an attacker has forged fragments of it.
    pub(super) fn insert(&mut self, fragment: &HandshakeFragment, flights: &[&Flight]) {
        let place = usize::from(fragment.seq.wrapping_sub(self.next));
        let fits = |flight: &&Flight| flight.get(place) == Some(&fragment.kind);
        if !flights.iter().any(fits) || fragment.len > MESSAGE_LEN_MAX {
            return;
        }
        let known = self.messages.iter().position(|known| known.message.seq == fragment.seq);
        let partial = match known {
            Some(at) if self.messages[at].is_of(fragment) => &mut self.messages[at],
            Some(_) if fragment.offset > 0 => return,
            _ => {
                known.map(|at| self.messages.swap_remove(at));
                if self.held() + fragment.len > HELD_MAX {
                    return;
                }
                self.messages.push(Partial::new(fragment));
                self.messages.last_mut().expect("it was just pushed")
            }
        };
        partial.fill(fragment);
    }

    /// The first message of the flight, if it is complete.
    pub(super) fn first(&self) -> Option<&Message> {
        self.whole(self.next)
    }

    /// One of `flights`, as soon as it is complete.
    pub(super) fn take(&mut self, flights: &[&Flight]) -> Option<Vec<Message>> {
        let is_there = |flight: &&&Flight| {
            let mut expected = (self.next..).zip(flight.iter());
            expected.all(|(seq, kind)| self.whole(seq).is_some_and(|message| message.kind == *kind))
        };
        let len = flights.iter().find(is_there)?.len();
        let next = self.next + len as u16;
        let mut flight: Vec<_> = self.messages.drain(..).map(|partial| partial.message).collect();
        flight.retain(|message| message.seq < next);
        flight.sort_unstable_by_key(|message| message.seq);
        self.expect(next);
        Some(flight)
    }

    fn whole(&self, seq: u16) -> Option<&Message> {
        let partial = self.messages.iter().find(|partial| partial.message.seq == seq)?;
        partial.is_whole().then_some(&partial.message)
    }
}

impl Partial {
    fn new(fragment: &HandshakeFragment) -> Partial {
        let message = Message {
            kind: fragment.kind,
            seq: fragment.seq,
            body: vec![0; fragment.len],
        };
        Partial {
            message,
            pieces: Vec::new(),
        }
    }

    fn is_of(&self, fragment: &HandshakeFragment) -> bool {
        self.message.kind == fragment.kind && self.message.body.len() == fragment.len
    }

    fn fill(&mut self, fragment: &HandshakeFragment) {
        let mut span = fragment.offset..fragment.offset + fragment.bytes.len();
        if span.is_empty() {
            return;
        }
        self.message.body[span.clone()].copy_from_slice(fragment.bytes);
        self.pieces.retain(|piece| {
            let is_apart = piece.end < span.start || span.end < piece.start;
            if !is_apart {
                span = piece.start.min(span.start)..piece.end.max(span.end);
            }
            is_apart
        });
        if self.pieces.len() < PIECES_MAX {
            self.pieces.push(span);
        }
    }

    fn is_whole(&self) -> bool {
        let len = self.message.body.len();
        len == 0 || self.pieces.first() == Some(&(0..len))
    }
}

/// Certificates of WebRTC peers are self-signed and take 0.3 to 4 KB.
const MESSAGE_LEN_MAX: usize = 16 * 1024;
/// The longest message, and the other messages of its flight.
pub(super) const HELD_MAX: usize = 24 * 1024;
/// Late fragments fill the gaps between the pieces. A message of 16 KB takes 14 datagrams: if every other one is late, there are seven.
const PIECES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: [u8; 100] = {
        let mut body = [0; 100];
        let mut at = 0;
        while at < body.len() {
            body[at] = at as u8;
            at += 1;
        }
        body
    };
    const FLIGHTS: &[&Flight] = &[&[11, 16, 15]];

    fn fragment(kind: u8, seq: u16, span: Range<usize>) -> HandshakeFragment<'static> {
        HandshakeFragment {
            kind,
            len: BODY.len(),
            seq,
            offset: span.start,
            bytes: &BODY[span],
        }
    }

    fn waiting() -> Reassembly {
        let mut reassembly = Reassembly::default();
        reassembly.expect(2);
        reassembly
    }

    #[test]
    fn a_flight_is_delivered_once_complete_and_in_order() {
        let mut reassembly = waiting();
        for (kind, seq) in [(15, 4), (11, 2)] {
            reassembly.insert(&fragment(kind, seq, 0..100), FLIGHTS);
            assert_eq!(reassembly.take(FLIGHTS), None);
        }
        for span in [60..100, 0..40, 30..61] {
            assert!(reassembly.take(FLIGHTS).is_none());
            reassembly.insert(&fragment(16, 3, span), FLIGHTS);
        }
        let flight = reassembly.take(FLIGHTS).unwrap();
        let kinds: Vec<_> = flight.iter().map(|message| (message.kind, message.seq)).collect();
        assert_eq!(kinds, [(11, 2), (16, 3), (15, 4)]);
        assert!(flight.iter().all(|message| message.body == BODY));
        assert_eq!((reassembly.next(), reassembly.held()), (5, 0));
        reassembly.insert(&fragment(11, 2, 0..100), FLIGHTS);
        assert_eq!(reassembly.held(), 0, "a repeated message");
    }

    #[test]
    fn fragments_are_reassembled_in_any_order_and_with_overlaps() {
        for seed in 0..200u64 {
            let mut random = seed;
            let mut next = |below: usize| {
                random = random
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                (random >> 33) as usize % below
            };
            let mut reassembly = waiting();
            for round in 0.. {
                let start = next(100);
                let span = start..start + 1 + next(100 - start);
                reassembly.insert(&fragment(11, 2, span), FLIGHTS);
                if let Some(message) = reassembly.first() {
                    assert_eq!(message.body, BODY, "seed {seed}");
                    break;
                }
                assert!(round < 5_000, "seed {seed}");
            }
        }
    }

    #[test]
    fn fragments_that_cannot_belong_to_the_flight_are_dropped() {
        let mut reassembly = waiting();
        for (kind, seq) in [(11, 3), (16, 2), (15, 5), (1, 2), (11, 1), (11, 0), (20, 5)] {
            reassembly.insert(&fragment(kind, seq, 0..100), FLIGHTS);
        }
        let longest = HandshakeFragment {
            len: MESSAGE_LEN_MAX + 1,
            ..fragment(11, 2, 0..100)
        };
        reassembly.insert(&longest, FLIGHTS);
        assert_eq!(reassembly.held(), 0);
    }

    #[test]
    fn a_repeated_first_fragment_wins_over_one_that_was_forged() {
        let mut reassembly = waiting();
        let forged = HandshakeFragment {
            len: 300,
            ..fragment(11, 2, 0..50)
        };
        reassembly.insert(&forged, FLIGHTS);
        reassembly.insert(&fragment(11, 2, 50..100), FLIGHTS);
        reassembly.insert(&fragment(11, 2, 0..50), FLIGHTS);
        assert!(reassembly.first().is_none());
        reassembly.insert(&fragment(11, 2, 50..100), FLIGHTS);
        assert_eq!(reassembly.first().unwrap().body, BODY);
    }

    #[test]
    fn memory_and_pieces_are_bounded() {
        let mut reassembly = waiting();
        for (kind, seq) in [(11, 2), (16, 3), (15, 4)].repeat(3) {
            let long = HandshakeFragment {
                len: MESSAGE_LEN_MAX,
                ..fragment(kind, seq, 0..1)
            };
            reassembly.insert(&long, FLIGHTS);
        }
        assert!(reassembly.held() <= HELD_MAX);
        for at in (0..100).step_by(2) {
            let piece = HandshakeFragment {
                len: MESSAGE_LEN_MAX,
                ..fragment(11, 2, at..at + 1)
            };
            reassembly.insert(&piece, FLIGHTS);
        }
        assert!(
            reassembly
                .messages
                .iter()
                .all(|partial| partial.pieces.len() <= PIECES_MAX)
        );
    }
}
