//! A member of a room as its client is: it sends one stream and receives others, over one transport.

use std::time::Instant;

use onecast_rtc::rtp::header::RtpHeader;
use onecast_rtc::rtp::rtcp::{self, Report};
use onecast_rtc::srtp::SrtpKeys;

use crate::client::Clear;
use crate::publisher::{Ledger, Publisher};
use crate::viewer::Viewer;

pub(crate) struct Member {
    pub(crate) publisher: Option<Publisher>,
    /// One for each stream that it was told of, in that order.
    pub(crate) viewers: Vec<Viewer>,
    keys: Option<SrtpKeys>,
}

impl Member {
    pub(crate) fn new(publisher: Option<Publisher>) -> Member {
        Member {
            publisher,
            viewers: Vec::new(),
            keys: None,
        }
    }

    /// Adds a stream that it will receive.
    pub(crate) fn expect(&mut self, now: Instant, mut viewer: Viewer) {
        if let Some(keys) = &self.keys {
            viewer.begin(now, keys.clone());
        }
        self.viewers.push(viewer);
    }

    pub(crate) fn begin(&mut self, now: Instant, keys: SrtpKeys) {
        for viewer in &mut self.viewers {
            viewer.begin(now, keys.clone());
        }
        if let Some(publisher) = &mut self.publisher {
            publisher.begin(now);
        }
        self.keys = Some(keys);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let publisher = self.publisher.as_ref().and_then(Publisher::poll_timeout);
        publisher
            .into_iter()
            .chain(self.viewers.iter().filter_map(Viewer::poll_timeout))
            .min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, ledgers: &mut [Ledger], out: &mut Vec<Clear>) {
        if let Some(publisher) = &mut self.publisher {
            publisher.handle_timeout(now, ledgers, out);
        }
        for viewer in &mut self.viewers {
            viewer.handle_timeout(now, out);
        }
    }

    pub(crate) fn handle_rtp(&mut self, now: Instant, clear: &[u8], ledgers: &[Ledger]) {
        let ssrc = RtpHeader::parse(clear).unwrap().ssrc;
        let viewer = self.viewers.iter_mut().find(|viewer| viewer.knows(ssrc));
        let viewer = viewer.unwrap_or_else(|| panic!("no track was announced for {ssrc:x}"));
        viewer.handle_rtp(now, clear, ledgers);
    }

    pub(crate) fn handle_rtcp(&mut self, now: Instant, clear: &[u8], ledgers: &[Ledger], out: &mut Vec<Clear>) {
        let mut about = None;
        rtcp::parse(clear, |report| {
            if let Report::SenderReport { ssrc, .. } = report {
                about = Some(ssrc);
            }
        })
        .unwrap();
        match about {
            Some(ssrc) => {
                let viewer = self.viewers.iter_mut().find(|viewer| viewer.knows(ssrc));
                viewer.unwrap().handle_rtcp(now, clear, ledgers);
            }
            None => {
                if let Some(publisher) = &mut self.publisher {
                    publisher.handle_rtcp(now, clear, out);
                }
            }
        }
    }
}
