//! What to do with each message: offers, answers and refusals in whatever order they come. Pure.

use std::time::Duration;

use super::words::Refused;

/// Where the negotiation stands.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// The newest offer of the server's that was answered, with the answer.
    answered: Option<(u64, String)>,
    /// Whether there is something to offer.
    wants: bool,
    /// Whether ICE is to begin anew; it stays so until the server has answered an offer that does it.
    restarts: bool,
    /// Whether the last offer that was made does it.
    restarting: bool,
    /// Whether an offer of ours is with the server.
    offered: bool,
    /// Whether an offer of the server's comes first: it has refused ours for that.
    yields: bool,
    /// Offers of ours that were taken back while they were with the server: each will be refused.
    void: u32,
    answers: u64,
}

/// What to do with an offer of the server's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OnOffer {
    /// Answer it.
    Answer,
    /// It is here again, as its answer was lost or late: say the same once more.
    Repeat(String),
    /// It is older than what was answered.
    Ignore,
}

/// What to do when the server does not do what was asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OnRefusal {
    /// Go on: what is wanted comes by itself.
    GoOn,
    /// Ask again after this time.
    Wait(Duration),
    /// The server knows us no more.
    Gone,
    /// Something is wrong that does not pass.
    Fail,
}

impl Course {
    /// An offer of the server's came.
    pub(super) fn on_offer(&mut self, number: u64) -> OnOffer {
        // The server has not seen ours, or will refuse it: it is impolite.
        self.void += u32::from(self.offered);
        self.take_back();
        self.yields = false;
        match &self.answered {
            Some((newest, answer)) if *newest == number => OnOffer::Repeat(answer.clone()),
            Some((newest, _)) if *newest > number => OnOffer::Ignore,
            _ => OnOffer::Answer,
        }
    }

    /// Its answer is on the way.
    pub(super) fn on_answered(&mut self, number: u64, answer: String) {
        self.answered = Some((number, answer));
        self.answers += 1;
    }

    /// Offers that were answered.
    pub(super) fn answers(&self) -> u64 {
        self.answers
    }

    /// There is something to offer.
    pub(super) fn want(&mut self) {
        self.wants = true;
    }

    /// ICE is to begin anew, as after a change of the network.
    pub(super) fn want_restart(&mut self) {
        self.wants = true;
        self.restarts = true;
    }

    /// Whether the offer that is made now restarts ICE.
    pub(super) fn makes_offer(&mut self) -> bool {
        self.restarting = self.restarts;
        self.restarting
    }

    /// Whether to offer now. True once until the offer is taken or refused.
    pub(super) fn offers_now(&mut self) -> bool {
        let now = self.wants && !self.offered && !self.yields;
        if now {
            (self.wants, self.offered) = (false, true);
        }
        now
    }

    /// Whether an offer of the server's is waited for: ours was refused for it.
    pub(super) fn yields(&self) -> bool {
        self.yields
    }

    /// The server has answered our offer. False when there is none: it was taken back, and is offered again.
    pub(super) fn on_answer(&mut self) -> bool {
        if self.offered && self.restarting {
            self.restarts = false;
        }
        std::mem::take(&mut self.offered)
    }

    /// Another socket is there: what was with the server on the old one may have come, or not.
    pub(super) fn on_resumed(&mut self) {
        self.take_back();
        self.void = 0;
    }

    /// The server refused something.
    pub(super) fn on_refused(&mut self, refused: &Refused) -> OnRefusal {
        let is_offer = refused.request == "offer";
        if is_offer && self.void > 0 {
            self.void -= 1;
            return OnRefusal::GoOn;
        }
        if is_offer {
            self.take_back();
        }
        match (refused.status, refused.problem.as_str()) {
            (409, "offer-pending") => {
                self.yields = true;
                OnRefusal::GoOn
            }
            (409, "no-offer-pending" | "stale-answer") => OnRefusal::GoOn,
            (429 | 503, _) => OnRefusal::Wait(refused.retry_after.map_or(Course::WAIT, Duration::from_secs)),
            (404 | 410, _) => OnRefusal::Gone,
            _ => OnRefusal::Fail,
        }
    }

    /// Our offer is void: it is to be made anew when the server's is answered.
    fn take_back(&mut self) {
        self.wants |= std::mem::take(&mut self.offered);
    }

    /// A busy server that does not say when to come back is left alone for this long.
    const WAIT: Duration = Duration::from_secs(2);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(request: &str, status: u16, problem: &str) -> Refused {
        Refused {
            request: request.to_owned(),
            status,
            problem: problem.to_owned(),
            ..Refused::default()
        }
    }

    #[test]
    fn an_offer_is_answered_once_and_its_repetition_gets_the_same_answer() {
        let mut course = Course::default();
        assert_eq!(course.on_offer(1), OnOffer::Answer);
        course.on_answered(1, "one".to_owned());
        assert_eq!(course.on_offer(1), OnOffer::Repeat("one".to_owned()));
        assert_eq!(course.on_offer(2), OnOffer::Answer);
        course.on_answered(2, "two".to_owned());
        assert_eq!(course.on_offer(1), OnOffer::Ignore);
        assert_eq!(course.answers(), 2);
    }

    #[test]
    fn when_offers_cross_the_servers_is_answered_first_and_ours_made_anew() {
        let mut course = Course::default();
        course.want();
        assert!(course.offers_now() && !course.offers_now());
        assert_eq!(
            course.on_refused(&refused("offer", 409, "offer-pending")),
            OnRefusal::GoOn
        );
        assert!(course.yields() && !course.offers_now(), "the server's comes first");
        assert_eq!(course.on_offer(1), OnOffer::Answer);
        course.on_answered(1, "one".to_owned());
        assert!(course.offers_now());
        assert!(course.on_answer() && !course.offers_now());
    }

    #[test]
    fn an_offer_that_is_pushed_takes_ours_back_and_the_refusal_that_follows_changes_nothing() {
        let mut course = Course::default();
        course.want();
        assert!(course.offers_now());
        assert_eq!(course.on_offer(7), OnOffer::Answer);
        assert!(
            !course.on_answer(),
            "an answer to what was taken back is not ours any more"
        );
        course.on_answered(7, String::new());
        assert!(course.offers_now(), "before the refusal of the first has come");
        assert_eq!(
            course.on_refused(&refused("offer", 409, "offer-pending")),
            OnRefusal::GoOn
        );
        assert!(!course.offers_now(), "once");
        assert!(course.on_answer());
    }

    #[test]
    fn an_offer_that_was_on_a_broken_socket_is_made_anew() {
        let mut course = Course::default();
        course.want();
        assert!(course.offers_now());
        course.on_resumed();
        assert!(course.offers_now());
    }

    #[test]
    fn ice_begins_anew_with_the_offer_that_is_answered() {
        let mut course = Course::default();
        course.want();
        assert!(course.offers_now() && !course.makes_offer());
        course.want_restart();
        assert!(course.on_answer(), "of one that was on its way");
        assert!(course.offers_now() && course.makes_offer());
        course.on_refused(&refused("offer", 409, "offer-pending"));
        assert_eq!(course.on_offer(1), OnOffer::Answer);
        assert!(course.offers_now() && course.makes_offer(), "again, as it was refused");
        assert!(course.on_answer());
        course.want();
        assert!(course.offers_now() && !course.makes_offer());
    }

    #[test]
    fn answers_that_nobody_waits_for_are_no_reason_to_end() {
        for problem in ["no-offer-pending", "stale-answer"] {
            let refused = refused("answer", 409, problem);
            assert_eq!(Course::default().on_refused(&refused), OnRefusal::GoOn);
        }
    }

    #[test]
    fn a_busy_server_is_asked_again_and_a_forgetful_one_is_left() {
        let mut course = Course::default();
        course.want();
        assert!(course.offers_now());
        let busy = Refused {
            retry_after: Some(3),
            ..refused("offer", 429, "too-many-offers")
        };
        assert_eq!(course.on_refused(&busy), OnRefusal::Wait(Duration::from_secs(3)));
        assert!(course.offers_now());
        assert_eq!(
            course.on_refused(&refused("answer", 404, "unknown-peer")),
            OnRefusal::Gone
        );
        assert_eq!(course.on_refused(&refused("answer", 422, "unusable")), OnRefusal::Fail);
    }
}
