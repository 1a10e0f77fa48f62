//! The timestamps under which one viewer is sent frames of the past, until the track's own begin.
//!
//! Frames are sent in decoding order, which with B-frames is not the order in which they are shown. What a viewer gets must keep
//! that: the stamps are a strictly growing function of the frames' own timestamps. A frame that is shown later than all before it
//! extends the function, to the live clock; one that is shown between others takes its place between their stamps.
//!
//! ```text
//!  own     0 ── 3 ── 1 ── 2 ── 6 ── 4 ── 5 ── 9 ── 7 ── 8 ──     decoding order
//!  stamp   a    d    b    c    g    e    f  │ 9    7    8        a < b < c < d < e < f < g < 7
//!                                           └ from here on the track's own
//! ```

use onecast_rtc::rtp::RtpTime;

use crate::media::Packet;
use crate::media::continuity::REORDER_MAX;

/// The stamps of one way to the live edge.
#[derive(Debug)]
pub(super) struct Stamps {
    /// In decoding order.
    frames: Vec<Frame>,
    /// From this place on frames are on the present timeline: before it the clock was another.
    timeline: usize,
    /// What every frame of this timeline is behind: frames that lead a keyframe are shown before it.
    floor: Option<Knot>,
    /// The frame of this timeline that is shown last.
    last: Option<Knot>,
    own: Option<Own>,
    /// The highest number that went out under a stamp.
    stamped: Option<u64>,
}

/// A frame, the number of its first packet, and its timestamps.
#[derive(Debug, Clone, Copy)]
struct Frame {
    first: u64,
    knot: Knot,
}

/// A point of the function: the track's timestamp and the viewer's.
#[derive(Debug, Clone, Copy)]
struct Knot {
    own: RtpTime,
    stamp: RtpTime,
}

/// The track's own timestamps have begun.
#[derive(Debug, Clone, Copy)]
struct Own {
    /// With this packet,
    index: u64,
    /// for everything that is shown from then on.
    from: RtpTime,
}

/// What a new frame is to be stamped by.
#[derive(Debug, Clone, Copy)]
pub(super) struct StampTarget {
    /// The timestamp that suits it best.
    pub(super) stamp: RtpTime,
    /// It is the newest of all: the track's own timestamps may begin with it.
    pub(super) is_newest: bool,
    /// The highest timestamp that the viewer has been sent, by earlier starts too.
    pub(super) highest: Option<RtpTime>,
    /// That is of another clock than the track's now, which is followed wherever it is.
    pub(super) other_clock: bool,
}

impl Stamps {
    /// Frames sent before and after this many others do not change places: codecs allow 16.
    const REORDER_FRAMES: usize = 64;
    /// Two stamps are as far apart as a 256th of what the frames are, at least: time enough for those that come between, and less than
    /// sending them takes. 17 frames at 30 a second have 200 ticks between them.
    const SQUEEZE: u32 = 256;

    pub(super) fn new() -> Stamps {
        Stamps {
            frames: Vec::new(),
            timeline: 0,
            floor: None,
            last: None,
            own: None,
            stamped: None,
        }
    }

    /// The timestamp of a packet, in decoding order.
    pub(super) fn stamp(&mut self, packet: &Packet, target: impl FnOnce(usize) -> StampTarget) -> RtpTime {
        if let Some(frame) = self.frames.last().filter(|frame| frame.knot.own == packet.timestamp) {
            let stamp = frame.knot.stamp;
            return self.note(packet, stamp);
        }
        match self.own {
            Some(_) => self.late(packet),
            None => self.new_frame(packet, target(self.frames.len())),
        }
    }

    /// The timestamp of a packet after the track's own have begun: its own, unless it is shown before that.
    pub(super) fn late(&mut self, packet: &Packet) -> RtpTime {
        if self.is_own(packet) {
            return packet.timestamp;
        }
        if let Some(stamp) = self.of_frame(packet) {
            return self.note(packet, stamp);
        }
        let stamp = self.between(packet.timestamp).unwrap_or(packet.timestamp);
        self.push(packet, stamp)
    }

    /// The timestamp under which a packet went out; `None` for one of a frame that did not.
    pub(super) fn find(&self, packet: &Packet) -> Option<RtpTime> {
        if self.is_own(packet) {
            return Some(packet.timestamp);
        }
        self.of_frame(packet)
    }

    /// The first packet under the track's own timestamp, if there is one.
    pub(super) fn own_since(&self) -> Option<u64> {
        self.own.map(|own| own.index)
    }

    /// The highest number of a packet that went out under another timestamp than its own.
    pub(super) fn stamped(&self) -> Option<u64> {
        self.stamped
    }

    /// Frees what no further frame needs.
    pub(super) fn shrink(&mut self) {
        self.frames.shrink_to_fit();
    }

    fn new_frame(&mut self, packet: &Packet, target: StampTarget) -> RtpTime {
        let own = packet.timestamp;
        if target.is_newest && target.other_clock {
            return self.begin_own(packet, own);
        }
        match self.last {
            Some(last) if own.is_after(last.own) => {
                let step = (own.ticks_since(last.own) / Stamps::SQUEEZE).clamp(1, Stamps::SQUEEZE);
                // What is shown between this frame and the one before it, and comes later, has room below its own time.
                let least = later(target.highest, last.stamp).plus(step);
                if target.is_newest && !least.is_after(own) {
                    return self.begin_own(packet, least);
                }
                self.extend(packet, later(Some(target.stamp), least))
            }
            Some(last) if last.own.ticks_since(own) <= REORDER_MAX.cast_unsigned() => {
                match self.between(own) {
                    Some(stamp) => self.push(packet, stamp),
                    // Its time is taken: the clock was set back.
                    None => self.begin_timeline(packet, target),
                }
            }
            _ => self.begin_timeline(packet, target),
        }
    }

    /// The first frame, or the first of another clock: only what leads it is shown before.
    fn begin_timeline(&mut self, packet: &Packet, target: StampTarget) -> RtpTime {
        let own = packet.timestamp;
        let highest = match (target.highest, self.last) {
            (highest, Some(last)) => Some(later(highest, last.stamp)),
            (highest, None) => highest,
        };
        if target.is_newest && highest.is_none_or(|highest| !highest.plus(Stamps::LEAD).is_after(own)) {
            let from = highest.map_or(own, |highest| highest.plus(Stamps::LEAD));
            self.floor = highest.map(|stamp| Knot {
                own: from.minus(REORDER_MAX.cast_unsigned()),
                stamp,
            });
            return self.begin_own(packet, from);
        }
        let least = highest.map(|highest| highest.plus(Stamps::LEAD + 1));
        let stamp = least.map_or(target.stamp, |least| later(Some(target.stamp), least));
        self.timeline = self.frames.len();
        self.floor = Some(Knot {
            own: own.minus(REORDER_MAX.cast_unsigned()),
            stamp: stamp.minus(Stamps::LEAD),
        });
        self.extend(packet, stamp)
    }

    /// Room for frames that lead the first one.
    const LEAD: u32 = REORDER_MAX.cast_unsigned() / Stamps::SQUEEZE;

    fn begin_own(&mut self, packet: &Packet, from: RtpTime) -> RtpTime {
        self.own = Some(Own {
            index: packet.index,
            from,
        });
        packet.timestamp
    }

    fn extend(&mut self, packet: &Packet, stamp: RtpTime) -> RtpTime {
        self.last = Some(Knot {
            own: packet.timestamp,
            stamp,
        });
        self.push(packet, stamp)
    }

    fn push(&mut self, packet: &Packet, stamp: RtpTime) -> RtpTime {
        let frame = Frame {
            first: packet.index,
            knot: Knot {
                own: packet.timestamp,
                stamp,
            },
        };
        let at = self.frames.partition_point(|known| known.first < packet.index);
        self.frames.insert(at, frame);
        self.note(packet, stamp)
    }

    fn note(&mut self, packet: &Packet, stamp: RtpTime) -> RtpTime {
        self.stamped = self.stamped.max(Some(packet.index));
        stamp
    }

    /// It is shown when the track's own timestamps have begun.
    fn is_own(&self, packet: &Packet) -> bool {
        self.own.is_some_and(|own| {
            let before = own.from.since(packet.timestamp);
            packet.index >= own.index && !(1..=REORDER_MAX).contains(&before)
        })
    }

    /// The frame that begins at or before the packet, or after it when its first packets came late.
    fn of_frame(&self, packet: &Packet) -> Option<RtpTime> {
        let after = self.frames.partition_point(|frame| frame.first <= packet.index);
        let near = [after.checked_sub(1), Some(after)];
        let mut frames = near.into_iter().flatten().filter_map(|at| self.frames.get(at));
        let frame = frames.find(|frame| frame.knot.own == packet.timestamp)?;
        Some(frame.knot.stamp)
    }

    /// A stamp between those of the frames that are shown just before and after; `None` where no room is left, or a frame has that time.
    fn between(&self, own: RtpTime) -> Option<RtpTime> {
        let from = self
            .timeline
            .max(self.frames.len().saturating_sub(Stamps::REORDER_FRAMES));
        let begun = self.own.map(|begun| Knot {
            own: begun.from,
            stamp: begun.from,
        });
        let near = self.frames.get(from..)?.iter().map(|frame| frame.knot);
        let (mut below, mut above) = (None::<Knot>, None::<Knot>);
        for knot in near.chain(self.floor).chain(begun) {
            if knot.own == own {
                return None;
            }
            if own.is_after(knot.own) {
                below = below.filter(|known| known.own.is_after(knot.own)).or(Some(knot));
            } else {
                above = above.filter(|known| knot.own.is_after(known.own)).or(Some(knot));
            }
        }
        let (below, above) = (below?, above?);
        let room = above.stamp.ticks_since(below.stamp);
        let share = u64::from(room) * u64::from(own.ticks_since(below.own));
        let step = (share / u64::from(above.own.ticks_since(below.own))) as u32;
        (2..1 << 31)
            .contains(&room)
            .then(|| below.stamp.plus(step.clamp(1, room - 1)))
    }
}

fn later(one: Option<RtpTime>, other: RtpTime) -> RtpTime {
    one.filter(|one| one.is_after(other)).unwrap_or(other)
}

#[cfg(test)]
mod tests;
