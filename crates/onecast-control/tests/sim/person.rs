//! A member of a conference as its page is: what it asks the server, over which way, and what it does with the replies.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use onecast_control::Refusal;
use onecast_control::conference::ServerOffer;
use onecast_rtc::SessionId;

use crate::caller::Caller;
use crate::calls::{Calls, sections};
use crate::network::Random;
use crate::scenarios::ms;

/// How it hears of the server's offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It asks now and then.
    Polls,
    /// It asks, and the server may keep it waiting.
    Waits,
    /// Both write whenever they like, and nothing is lost unless the connection breaks.
    Socket,
}

#[derive(Debug, Clone)]
pub(crate) enum Request {
    Join(String),
    Offer(String),
    Answer(u64, String),
    Poll,
    Follow,
    Leave,
}

#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Its name, its place among the clients of the world, and the answer.
    Joined(SessionId, usize, String),
    Answered(Result<String, Refusal>),
    Taken(Result<(), Refusal>),
    Offer(Option<ServerOffer>),
    Followed,
    Left,
    /// It is in no more.
    Closed,
}

/// What its user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Switch(usize, bool),
    Speak(bool),
    Break,
    Leave,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Outside,
    In,
    Leaving,
    Gone,
}

/// A request whose reply is waited for.
struct Asked {
    ticket: u64,
    request: Request,
    again_at: Instant,
}

pub(crate) struct Person {
    pub(crate) way: Way,
    pub(crate) stage: Stage,
    pub(crate) calls: Calls,
    pub(crate) id: Option<SessionId>,
    pub(crate) client: Option<usize>,
    pub(crate) plan: VecDeque<(Instant, Act)>,
    /// Which connection of a socket it is; what belongs to an earlier one is lost.
    pub(crate) connection: u32,
    pub(crate) random: Random,
    join_at: Instant,
    tickets: u64,
    asked: Option<Asked>,
    /// A question for offers, which does not keep it from others.
    polled: Option<(u64, Instant)>,
    poll_at: Instant,
    /// An offer of the server that its browser is busy with.
    thinking: Option<(Instant, ServerOffer)>,
    held: Option<ServerOffer>,
    last_answer: Option<(u64, String)>,
    /// It makes no offer before.
    offer_at: Instant,
    /// Answers that go out twice.
    echo: Option<(Instant, u64, String)>,
    follow_at: Option<Instant>,
    /// Never answers.
    pub(crate) is_mute: bool,
}

const REPLY_WITHIN: Duration = ms(1_200);
const WAIT_WITHIN: Duration = ms(4_000);

impl Person {
    pub(crate) fn new(way: Way, calls: Calls, join_at: Instant, random: Random) -> Person {
        Person {
            way,
            stage: Stage::Outside,
            calls,
            id: None,
            client: None,
            plan: VecDeque::new(),
            connection: 0,
            random,
            join_at,
            tickets: 0,
            asked: None,
            polled: None,
            poll_at: join_at,
            thinking: None,
            held: None,
            last_answer: None,
            offer_at: join_at,
            echo: None,
            follow_at: None,
            is_mute: false,
        }
    }

    /// Nothing is under way, and nothing is to be said.
    pub(crate) fn is_calm(&self) -> bool {
        let busy = self.asked.is_some() || self.thinking.is_some() || self.held.is_some();
        self.stage == Stage::In && !busy && !self.calls.has_news() && self.follow_at.is_none()
    }

    /// Lets time pass. What it asks is appended to `out`, with the ticket for the reply.
    pub(crate) fn tick(&mut self, now: Instant, caller: Option<&mut Caller>, out: &mut Vec<(u64, Request)>) {
        match self.stage {
            Stage::Gone => return,
            Stage::Outside if self.asked.is_none() && self.join_at <= now => {
                let offer = self.calls.offer();
                self.ask(now, Request::Join(offer), out);
            }
            _ => {}
        }
        if self.follow_at.is_some_and(|at| at <= now) {
            self.follow_at = None;
            self.connection += 1;
            out.push((0, Request::Follow));
            if let Some(asked) = &mut self.asked {
                asked.again_at = now;
            }
        }
        self.ask_again(now, out);
        if let (Stage::In, Some(caller)) = (self.stage, caller) {
            self.think(now, caller, out);
            self.sync(now, caller);
        }
        if self.stage == Stage::In {
            self.poll(now, out);
            let is_free = self.asked.is_none() && self.thinking.is_none() && self.held.is_none();
            if is_free && self.calls.has_news() && self.offer_at <= now && self.follow_at.is_none() {
                let offer = self.calls.offer();
                self.ask(now, Request::Offer(offer), out);
            }
        }
    }

    pub(crate) fn act(&mut self, now: Instant, act: Act, caller: &mut Caller) {
        match act {
            Act::Switch(sender, on) => self.calls.senders[sender].on = on,
            Act::Speak(speaks) => caller.sources[Calls::MICROPHONE].level = if speaks { 20 } else { 90 },
            Act::Break if self.way == Way::Socket && self.follow_at.is_none() => {
                self.follow_at = Some(now + ms(50 + self.random.below(3_000)));
            }
            Act::Leave if self.stage == Stage::In => self.stage = Stage::Leaving,
            Act::Break | Act::Leave => {}
        }
        self.sync(now, caller);
    }

    /// Its socket is broken for now.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.follow_at.is_some()
    }

    fn ask(&mut self, now: Instant, request: Request, out: &mut Vec<(u64, Request)>) {
        self.tickets += 1;
        self.asked = Some(Asked {
            ticket: self.tickets,
            request: request.clone(),
            again_at: now + REPLY_WITHIN,
        });
        out.push((self.tickets, request));
    }

    /// What was not replied to is asked again, or what it has to say first instead.
    fn ask_again(&mut self, now: Instant, out: &mut Vec<(u64, Request)>) {
        if self.stage == Stage::Leaving
            && !matches!(&self.asked, Some(asked) if matches!(asked.request, Request::Leave))
        {
            return self.ask(now, Request::Leave, out);
        }
        if self.follow_at.is_none()
            && let Some(asked) = self.asked.take_if(|asked| asked.again_at <= now)
        {
            self.ask(now, asked.request, out);
        }
        if let Some((_, number, answer)) = self.echo.take_if(|(at, ..)| *at <= now) {
            out.push((0, Request::Answer(number, answer)));
        }
    }

    /// Its browser is done with an offer of the server, or begins with one.
    fn think(&mut self, now: Instant, caller: &mut Caller, out: &mut Vec<(u64, Request)>) {
        if self.asked.is_none()
            && self.thinking.is_none()
            && let Some(offer) = self.held.take()
        {
            let slow = self.random.below(8) == 0;
            let time = if slow {
                500 + self.random.below(3_000)
            } else {
                self.random.below(150)
            };
            self.thinking = Some((now + ms(time), offer));
        }
        let done = self.thinking.take_if(|(at, _)| *at <= now && !self.is_mute);
        if let Some((_, offer)) = done {
            let all = sections(&offer.sdp);
            let answer = self.calls.answer(&all);
            all.iter()
                .filter(|section| section.sends())
                .for_each(|section| caller.expect(now, section));
            self.send_answer(now, offer.number, answer, out);
        }
    }

    fn send_answer(&mut self, now: Instant, number: u64, answer: String, out: &mut Vec<(u64, Request)>) {
        if self.random.below(8) == 0 {
            self.echo = Some((now + ms(self.random.below(2_000)), number, answer.clone()));
        }
        self.last_answer = Some((number, answer.clone()));
        self.ask(now, Request::Answer(number, answer), out);
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<(u64, Request)>) {
        self.polled = self.polled.filter(|(_, until)| now < *until);
        if self.way == Way::Socket || self.polled.is_some() || now < self.poll_at {
            return;
        }
        self.tickets += 1;
        let within = if self.way == Way::Waits {
            WAIT_WITHIN
        } else {
            REPLY_WITHIN
        };
        self.polled = Some((self.tickets, now + within));
        out.push((self.tickets, Request::Poll));
    }

    /// Sources send as it is agreed, and as the user wants.
    fn sync(&self, now: Instant, caller: &mut Caller) {
        for (place, sender) in self.calls.senders.iter().enumerate() {
            let sends = sender.on && sender.sends && self.stage == Stage::In;
            caller.agree(place, self.calls.mid(place), sends, now);
        }
    }

    /// A reply to the request with this ticket; 0 for messages that were not requested.
    pub(crate) fn take(&mut self, now: Instant, ticket: u64, reply: Reply) {
        match reply {
            Reply::Offer(offer) => return self.take_offer(now, ticket, offer),
            Reply::Closed => return self.stage = Stage::Gone,
            _ => {}
        }
        if self.asked.as_ref().is_none_or(|asked| asked.ticket != ticket) {
            return;
        }
        self.asked = None;
        match reply {
            Reply::Joined(id, client, answer) => {
                (self.id, self.client, self.stage) = (Some(id), Some(client), Stage::In);
                self.calls.take_answer(&answer);
            }
            Reply::Answered(Ok(answer)) => self.calls.take_answer(&answer),
            Reply::Answered(Err(Refusal::OfferPending { .. } | Refusal::TooManyOffers)) => {
                self.calls.roll_back();
                self.offer_at = now + ms(50 + self.random.below(1_000));
                self.poll_at = now;
            }
            Reply::Taken(Ok(()) | Err(Refusal::NothingToAnswer | Refusal::StaleAnswer { .. })) => {}
            Reply::Left | Reply::Answered(Err(Refusal::UnknownSession)) => self.stage = Stage::Gone,
            other => panic!("unexpected {other:?}"),
        }
    }

    fn take_offer(&mut self, now: Instant, ticket: u64, offer: Option<ServerOffer>) {
        if ticket > 0 {
            if self.polled.is_none_or(|(polled, _)| polled != ticket) {
                return;
            }
            self.polled = None;
            let pause = if self.way == Way::Polls {
                300 + self.random.below(400)
            } else {
                1
            };
            self.poll_at = now + ms(pause);
        }
        let Some(offer) = offer.filter(|_| self.stage == Stage::In) else {
            return;
        };
        let answered = self.last_answer.as_ref().map_or(0, |(number, _)| *number);
        assert!(offer.number >= answered, "an older offer than one that was answered");
        if offer.number == answered {
            // The answer is lost, or on its way.
            self.echo = self.last_answer.clone().map(|(number, answer)| (now, number, answer));
        } else if self
            .thinking
            .as_ref()
            .is_none_or(|(_, known)| known.number != offer.number)
        {
            self.held = Some(offer);
        }
    }
}
