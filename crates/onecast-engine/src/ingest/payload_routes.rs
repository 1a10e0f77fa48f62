//! Payload types: which track a packet belongs to, and in which format it is.

use onecast_rtc::rtp::{Kind, Pt};
use onecast_rtc::sdp::MediaLine;

use super::incoming::ReceiveFormat;

/// The negotiated payload types of one publisher. A table, so that a packet costs one look-up.
pub(super) struct PayloadRoutes(Box<[Option<PayloadRoute>; 128]>);

/// Where the packets of a payload type belong.
#[derive(Debug, Clone, Copy)]
pub(super) struct PayloadRoute {
    pub(super) kind: Kind,
    /// For retransmissions: the format that they repair.
    pub(super) format: ReceiveFormat,
    /// The payload type is that of retransmissions (RFC 4588).
    pub(super) rtx: bool,
}

impl PayloadRoutes {
    pub(super) fn new(lines: &[Option<MediaLine>; 2], video_fir: bool) -> PayloadRoutes {
        let mut routes = PayloadRoutes(Box::new([None; 128]));
        for line in lines.iter().flatten() {
            routes.add(line, video_fir && line.kind == Kind::Video);
        }
        routes
    }

    /// The route of a payload type, of which the lower 7 bits count.
    pub(super) fn find(&self, payload_type: Pt) -> Option<PayloadRoute> {
        self.0[payload_type.index()]
    }

    fn add(&mut self, line: &MediaLine, fir: bool) {
        for format in &line.formats {
            let route = PayloadRoute {
                kind: line.kind,
                format: ReceiveFormat::new(format, fir),
                rtx: false,
            };
            self.0[format.payload_type.index()] = Some(route);
            if let Some(rtx) = format.rtx {
                self.0[rtx.index()] = Some(PayloadRoute { rtx: true, ..route });
            }
        }
    }
}
