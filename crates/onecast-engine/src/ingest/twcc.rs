//! Transport-wide congestion control feedback: tells the publisher when each packet arrived, whatever its SSRC. Without it the
//! publisher's bandwidth estimate stays low (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use onecast_rtc::rtp::Ssrc;
use rtc_interceptor::{
    AttributedPacket, Interceptor, Packet, RTPHeaderExtension, StreamInfo, TaggedPacket, TwccReceiverBuilder,
    TwccReceiverInterceptor,
};
use rtc_shared::TransportContext;
use sansio::Protocol;

/// Records arrivals and writes feedback, using the TWCC receiver of `rtc-interceptor`.
pub(super) struct Twcc {
    receiver: TwccReceiverInterceptor,
    local_ssrc: Ssrc,
    /// When feedback is due; `None` if nothing arrived since the last.
    deadline: Option<Instant>,
    pending: VecDeque<Vec<u8>>,
}

impl Twcc {
    pub(super) fn new(local_ssrc: Ssrc) -> Twcc {
        let mut receiver = TwccReceiverBuilder::new().with_interval(INTERVAL).build();
        // One binding serves every SSRC: for an unknown one the receiver uses the extension id of this binding.
        receiver.bind_remote_stream(&StreamInfo {
            ssrc: local_ssrc.0,
            rtp_header_extensions: vec![RTPHeaderExtension {
                uri: URI.to_owned(),
                id: u16::from(ID),
            }],
            ..StreamInfo::default()
        });
        Twcc {
            receiver,
            local_ssrc,
            deadline: None,
            pending: VecDeque::new(),
        }
    }

    /// Notes a packet with the value of its transport-cc extension; a value of another length than 2 is ignored.
    pub(super) fn record(&mut self, now: Instant, ssrc: Ssrc, value: &[u8]) {
        let Ok(sequence) = <[u8; 2]>::try_from(value) else {
            return;
        };
        // The receiver reads nothing of a packet but these fields.
        let header = rtc_rtp::header::Header {
            version: 2,
            ssrc: ssrc.0,
            extension: true,
            extension_profile: 0xbede,
            extensions: vec![rtc_rtp::header::Extension {
                id: ID,
                payload: Bytes::copy_from_slice(&sequence),
            }],
            ..Default::default()
        };
        let packet = rtc_rtp::Packet {
            header,
            payload: Bytes::new(),
        };
        let read = self.receiver.handle_read(TaggedPacket {
            now,
            transport: TransportContext::default(),
            message: AttributedPacket::new(Packet::Rtp(packet)),
        });
        while self.receiver.poll_read().is_some() {}
        if read.is_ok() {
            self.deadline = self.receiver.poll_timeout();
        }
    }

    /// When feedback is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Prepares the feedback that is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_none_or(|deadline| deadline > now) || self.receiver.handle_timeout(now).is_err() {
            return;
        }
        self.deadline = None;
        while let Some(tagged) = self.receiver.poll_write() {
            let Packet::Rtcp(packets) = tagged.message.packet else {
                continue;
            };
            for packet in packets {
                if let Ok(bytes) = packet.marshal() {
                    self.enqueue(bytes.to_vec());
                }
            }
        }
    }

    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes the next feedback packet if it fits and returns its length. `alone`: there will never be more room, so a packet that
    /// does not fit is dropped.
    pub(super) fn write(&mut self, out: &mut [u8], alone: bool) -> usize {
        let Some(feedback) = self.pending.front() else {
            return 0;
        };
        let written = match out.get_mut(..feedback.len()) {
            Some(room) => {
                room.copy_from_slice(feedback);
                feedback.len()
            }
            None if alone => 0,
            None => return 0,
        };
        self.pending.pop_front();
        written
    }

    fn enqueue(&mut self, mut feedback: Vec<u8>) {
        // The receiver invents a sender SSRC; all feedback of a session carries the same one.
        if let Some(sender) = feedback.get_mut(4..8) {
            sender.copy_from_slice(&self.local_ssrc.to_be_bytes());
        }
        if self.pending.len() == PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back(feedback);
    }
}

/// libwebrtc's receivers send it every 50 to 250 ms, faster the higher the rate.
const INTERVAL: Duration = Duration::from_millis(50);
/// Feedback packets that may wait: an interval yields one, only pauses of seconds yield more.
const PENDING_MAX: usize = 8;
/// The extension id towards the receiver, independent of the negotiated one.
const ID: u8 = 1;
const URI: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
