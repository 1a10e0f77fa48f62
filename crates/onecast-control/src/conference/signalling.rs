//! The offers and answers of one member: when ours go out, how often they are repeated, and how many of its own it may send.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{OfferedTrack, ServerOffer};
use crate::refusal::Refusal;

/// Our offers to one member, of which one waits for its answer at most.
#[derive(Debug)]
pub(super) struct OwnOffers {
    last: u64,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    offer: ServerOffer,
    first_sent: Instant,
    last_sent: Instant,
}

impl OwnOffers {
    /// Between two times that the same offer is pushed. An answer takes a browser some 10 to 300 ms, and a phone's network as much again.
    const REPEAT_PUSHED: Duration = Duration::from_secs(5);
    /// The same where the client polls: it may have lost the response.
    const REPEAT_POLLED: Duration = Duration::from_secs(2);
    /// A client that has not answered in this time does not understand the offer, or is gone.
    pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

    pub(super) fn new() -> OwnOffers {
        OwnOffers { last: 0, waiting: None }
    }

    /// The number of the offer that waits.
    pub(super) fn waiting(&self) -> Option<u64> {
        self.waiting.as_ref().map(|waiting| waiting.offer.number)
    }

    /// A new offer goes out.
    pub(super) fn send(&mut self, now: Instant, sdp: String, tracks: Vec<OfferedTrack>) -> ServerOffer {
        self.last += 1;
        let offer = ServerOffer {
            number: self.last,
            sdp: sdp.into(),
            tracks: Arc::from(tracks),
        };
        self.waiting = Some(Waiting {
            offer: offer.clone(),
            first_sent: now,
            last_sent: now,
        });
        offer
    }

    /// The offer that waits, if it is time to send it again.
    pub(super) fn repeat(&mut self, now: Instant, pushed: bool) -> Option<ServerOffer> {
        let interval = if pushed {
            OwnOffers::REPEAT_PUSHED
        } else {
            OwnOffers::REPEAT_POLLED
        };
        let waiting = self
            .waiting
            .as_mut()
            .filter(|waiting| now >= waiting.last_sent + interval)?;
        waiting.last_sent = now;
        Some(waiting.offer.clone())
    }

    /// The client has a new connection: what was sent on the old one may be lost.
    pub(super) fn send_again_at_once(&mut self, now: Instant) {
        if let Some(waiting) = &mut self.waiting {
            let long_ago = now.checked_sub(OwnOffers::REPEAT_PUSHED);
            waiting.last_sent = long_ago.unwrap_or(waiting.first_sent);
        }
    }

    /// Whether an answer is to the offer that waits. A client that does not say which offer it answers is believed.
    pub(super) fn check_answer(&self, number: Option<u64>) -> Result<(), Refusal> {
        let waiting = self.waiting().ok_or(Refusal::NothingToAnswer)?;
        if number.is_some_and(|number| number != waiting) {
            return Err(Refusal::StaleAnswer { number: waiting });
        }
        Ok(())
    }

    /// The answer has come, and is good.
    pub(super) fn answered(&mut self) {
        self.waiting = None;
    }

    /// When the client's time to answer is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(self.waiting.as_ref()?.first_sent + OwnOffers::ANSWER_TIMEOUT)
    }
}

/// How many offers a client may send: a bucket, because people press buttons in bursts.
#[derive(Debug)]
pub(super) struct Allowance {
    offers: u32,
    filled_at: Instant,
}

impl Allowance {
    const OFFERS_MAX: u32 = 10;
    /// Between two of them in the long run.
    const INTERVAL: Duration = Duration::from_millis(500);

    pub(super) fn new(now: Instant) -> Allowance {
        Allowance {
            offers: Allowance::OFFERS_MAX,
            filled_at: now,
        }
    }

    pub(super) fn take(&mut self, now: Instant) -> Result<(), Refusal> {
        let elapsed = now.saturating_duration_since(self.filled_at);
        let gained = (elapsed.as_millis() / Allowance::INTERVAL.as_millis()) as u32;
        if self.offers.saturating_add(gained) >= Allowance::OFFERS_MAX {
            self.offers = Allowance::OFFERS_MAX;
            self.filled_at = now;
        } else {
            self.offers += gained;
            self.filled_at += Allowance::INTERVAL * gained;
        }
        self.offers = self.offers.checked_sub(1).ok_or(Refusal::TooManyOffers)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn an_offer_is_repeated_as_it_was_until_it_is_answered() {
        let start = onecast_udp::clock::now();
        let mut offers = OwnOffers::new();
        let first = offers.send(start, "one".into(), Vec::new());
        assert_eq!(first.number, 1);
        assert_eq!(offers.repeat(start + ms(1_999), false), None);
        assert_eq!(offers.repeat(start + ms(2_000), false), Some(first.clone()));
        assert_eq!(offers.repeat(start + ms(2_001), false), None);
        assert_eq!(offers.repeat(start + ms(6_999), true), None);
        assert_eq!(offers.repeat(start + ms(7_000), true), Some(first.clone()));
        offers.send_again_at_once(start + ms(7_001));
        assert_eq!(offers.repeat(start + ms(7_001), true), Some(first));
        assert_eq!(
            offers.deadline(),
            Some(start + OwnOffers::ANSWER_TIMEOUT),
            "repetitions give no more time"
        );
        offers.answered();
        assert_eq!((offers.waiting(), offers.deadline()), (None, None));
        assert_eq!(offers.send(start, "two".into(), Vec::new()).number, 2);
    }

    #[test]
    fn an_answer_must_be_to_the_offer_that_waits() {
        let mut offers = OwnOffers::new();
        assert_eq!(offers.check_answer(None), Err(Refusal::NothingToAnswer));
        let number = offers.send(onecast_udp::clock::now(), "sdp".into(), Vec::new()).number;
        assert_eq!(offers.check_answer(None), Ok(()));
        assert_eq!(offers.check_answer(Some(number)), Ok(()));
        assert_eq!(
            offers.check_answer(Some(number + 1)),
            Err(Refusal::StaleAnswer { number })
        );
    }

    #[test]
    fn ten_offers_at_once_and_two_a_second_are_taken() {
        let start = onecast_udp::clock::now();
        let mut allowance = Allowance::new(start);
        let taken = |allowance: &mut Allowance, at| (0..20).filter(|_| allowance.take(at).is_ok()).count();
        assert_eq!(taken(&mut allowance, start), 10);
        assert_eq!(taken(&mut allowance, start + ms(1_250)), 2);
        assert_eq!(taken(&mut allowance, start + ms(1_500)), 1);
        assert_eq!(taken(&mut allowance, start + ms(60_000)), 10);
    }
}
