//! State of the negotiation: what to do with offers, answers and refusals, in any order. Without I/O.

use std::time::Duration;

use super::messages::Refusal;

/// State of the negotiation.
#[derive(Debug, Default)]
pub(super) struct Negotiation {
    /// The newest answered offer of the server, with the answer.
    answered: Option<(u64, String)>,
    /// The client wants to send an offer.
    wants: bool,
    /// ICE must restart. Stays set until the server has answered an offer that restarts it.
    restarts: bool,
    /// The last offer restarts ICE.
    restarting: bool,
    /// The server has not answered the client's offer yet.
    offered: bool,
    /// The server refused the client's offer because its own comes first.
    yields: bool,
    /// Withdrawn offers that the server has received: it will refuse each.
    withdrawn: u32,
    answers: u64,
}

/// What to do with an offer of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OnOffer {
    /// Answer it.
    Answer,
    /// It is a repetition, because the answer was lost or late: send the same answer again.
    Repeat(String),
    /// It is older than the last answered one.
    Ignore,
}

/// What to do after a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OnRefusal {
    /// Continue: the refused step becomes unnecessary or is repeated.
    Continue,
    /// Retry after this time.
    Wait(Duration),
    /// The server does not know the member any more.
    Gone,
    /// A retry would not help.
    Fail,
}

impl Negotiation {
    /// Handles an offer of the server.
    pub(super) fn on_offer(&mut self, number: u64) -> OnOffer {
        // The server is the impolite peer: it has not seen the client's offer, or will refuse it.
        self.withdrawn += u32::from(self.offered);
        self.withdraw();
        self.yields = false;
        match &self.answered {
            Some((newest, answer)) if *newest == number => OnOffer::Repeat(answer.clone()),
            Some((newest, _)) if *newest > number => OnOffer::Ignore,
            _ => OnOffer::Answer,
        }
    }

    /// The answer was sent.
    pub(super) fn on_answered(&mut self, number: u64, answer: String) {
        self.answered = Some((number, answer));
        self.answers += 1;
    }

    /// Number of answered offers.
    pub(super) fn answers(&self) -> u64 {
        self.answers
    }

    /// Requests an offer.
    pub(super) fn want(&mut self) {
        self.wants = true;
    }

    /// Requests an offer that restarts ICE, as after a network change.
    pub(super) fn want_restart(&mut self) {
        self.wants = true;
        self.restarts = true;
    }

    /// Notes that an offer is made. Returns whether it must restart ICE.
    pub(super) fn begins_offer(&mut self) -> bool {
        self.restarting = self.restarts;
        self.restarting
    }

    /// Whether to send an offer now. True once until the offer is answered or refused.
    pub(super) fn offers_now(&mut self) -> bool {
        let now = self.wants && !self.offered && !self.yields;
        if now {
            (self.wants, self.offered) = (false, true);
        }
        now
    }

    /// The server's offer comes first; the client waits for it.
    pub(super) fn yields(&self) -> bool {
        self.yields
    }

    /// Handles an answer. False when it answers a withdrawn offer, which will be made again.
    pub(super) fn on_answer(&mut self) -> bool {
        if self.offered && self.restarting {
            self.restarts = false;
        }
        std::mem::take(&mut self.offered)
    }

    /// Handles a new WebSocket: an offer on the old one may have been lost.
    pub(super) fn on_resumed(&mut self) {
        self.withdraw();
        self.withdrawn = 0;
    }

    /// Handles a refusal.
    pub(super) fn on_refused(&mut self, refused: &Refusal) -> OnRefusal {
        let is_offer = refused.request == "offer";
        if is_offer && self.withdrawn > 0 {
            self.withdrawn -= 1;
            return OnRefusal::Continue;
        }
        if is_offer {
            self.withdraw();
        }
        match (refused.status, refused.problem.as_str()) {
            (409, "offer-pending") => {
                self.yields = true;
                OnRefusal::Continue
            }
            (409, "no-offer-pending" | "stale-answer") => OnRefusal::Continue,
            (429 | 503, _) => OnRefusal::Wait(refused.retry_after.map_or(Negotiation::WAIT, Duration::from_secs)),
            (404 | 410, _) => OnRefusal::Gone,
            _ => OnRefusal::Fail,
        }
    }

    /// Withdraws the client's offer. It is made again once the server's is answered.
    fn withdraw(&mut self) {
        self.wants |= std::mem::take(&mut self.offered);
    }

    /// Wait for a busy server that gives no time.
    const WAIT: Duration = Duration::from_secs(2);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(request: &str, status: u16, problem: &str) -> Refusal {
        Refusal {
            request: request.to_owned(),
            status,
            problem: problem.to_owned(),
            ..Refusal::default()
        }
    }

    #[test]
    fn a_repeated_offer_gets_the_same_answer() {
        let mut negotiation = Negotiation::default();
        assert_eq!(negotiation.on_offer(1), OnOffer::Answer);
        negotiation.on_answered(1, "one".to_owned());
        assert_eq!(negotiation.on_offer(1), OnOffer::Repeat("one".to_owned()));
        assert_eq!(negotiation.on_offer(2), OnOffer::Answer);
        negotiation.on_answered(2, "two".to_owned());
        assert_eq!(negotiation.on_offer(1), OnOffer::Ignore);
        assert_eq!(negotiation.answers(), 2);
    }

    #[test]
    fn when_offers_cross_the_servers_comes_first() {
        let mut negotiation = Negotiation::default();
        negotiation.want();
        assert!(negotiation.offers_now() && !negotiation.offers_now());
        assert_eq!(
            negotiation.on_refused(&refused("offer", 409, "offer-pending")),
            OnRefusal::Continue
        );
        assert!(
            negotiation.yields() && !negotiation.offers_now(),
            "the server's comes first"
        );
        assert_eq!(negotiation.on_offer(1), OnOffer::Answer);
        negotiation.on_answered(1, "one".to_owned());
        assert!(negotiation.offers_now());
        assert!(negotiation.on_answer() && !negotiation.offers_now());
    }

    #[test]
    fn a_pushed_offer_withdraws_the_clients_and_its_refusal_is_ignored() {
        let mut negotiation = Negotiation::default();
        negotiation.want();
        assert!(negotiation.offers_now());
        assert_eq!(negotiation.on_offer(7), OnOffer::Answer);
        assert!(
            !negotiation.on_answer(),
            "an answer to what was taken back is not ours any more"
        );
        negotiation.on_answered(7, String::new());
        assert!(negotiation.offers_now(), "before the refusal of the first has come");
        assert_eq!(
            negotiation.on_refused(&refused("offer", 409, "offer-pending")),
            OnRefusal::Continue
        );
        assert!(!negotiation.offers_now(), "once");
        assert!(negotiation.on_answer());
    }

    #[test]
    fn an_offer_on_a_broken_socket_is_made_again() {
        let mut negotiation = Negotiation::default();
        negotiation.want();
        assert!(negotiation.offers_now());
        negotiation.on_resumed();
        assert!(negotiation.offers_now());
    }

    #[test]
    fn ice_restarts_with_the_offer_that_is_answered() {
        let mut negotiation = Negotiation::default();
        negotiation.want();
        assert!(negotiation.offers_now() && !negotiation.begins_offer());
        negotiation.want_restart();
        assert!(negotiation.on_answer(), "of one that was on its way");
        assert!(negotiation.offers_now() && negotiation.begins_offer());
        negotiation.on_refused(&refused("offer", 409, "offer-pending"));
        assert_eq!(negotiation.on_offer(1), OnOffer::Answer);
        assert!(
            negotiation.offers_now() && negotiation.begins_offer(),
            "again, as it was refused"
        );
        assert!(negotiation.on_answer());
        negotiation.want();
        assert!(negotiation.offers_now() && !negotiation.begins_offer());
    }

    #[test]
    fn refused_answers_do_not_end_the_session() {
        for problem in ["no-offer-pending", "stale-answer"] {
            let refused = refused("answer", 409, problem);
            assert_eq!(Negotiation::default().on_refused(&refused), OnRefusal::Continue);
        }
    }

    #[test]
    fn a_busy_server_is_retried_and_an_unknown_peer_ends() {
        let mut negotiation = Negotiation::default();
        negotiation.want();
        assert!(negotiation.offers_now());
        let busy = Refusal {
            retry_after: Some(3),
            ..refused("offer", 429, "too-many-offers")
        };
        assert_eq!(negotiation.on_refused(&busy), OnRefusal::Wait(Duration::from_secs(3)));
        assert!(negotiation.offers_now());
        assert_eq!(
            negotiation.on_refused(&refused("answer", 404, "unknown-peer")),
            OnRefusal::Gone
        );
        assert_eq!(
            negotiation.on_refused(&refused("answer", 422, "unusable")),
            OnRefusal::Fail
        );
    }
}
