//! SSRCs that a layer has seen: those that fed it before, and those that carry its retransmissions.

use onecast_rtc::rtp::Ssrc;

/// SSRCs that fed the layer before. A late packet of theirs must not bring them back.
#[derive(Debug, Default)]
pub(super) struct FormerSsrcs {
    ssrcs: [Option<Ssrc>; SSRCS_MAX],
    next: usize,
}

impl FormerSsrcs {
    /// Remembers an SSRC that no longer feeds the layer.
    pub(super) fn push(&mut self, ssrc: Ssrc) {
        if !self.contains(ssrc) {
            self.ssrcs[self.next] = Some(ssrc);
            self.next = (self.next + 1) % SSRCS_MAX;
        }
    }

    pub(super) fn contains(&self, ssrc: Ssrc) -> bool {
        self.ssrcs.contains(&Some(ssrc))
    }

    /// The SSRC was announced again and may feed the layer again.
    pub(super) fn forget(&mut self, ssrc: Ssrc) {
        for known in self.ssrcs.iter_mut().filter(|known| **known == Some(ssrc)) {
            *known = None;
        }
    }
}

/// Which media SSRC each retransmission SSRC (RTX) repairs.
#[derive(Debug, Default)]
pub(super) struct RtxSsrcs {
    pairs: [Option<RtxPair>; SSRCS_MAX],
    next: usize,
}

#[derive(Debug, Clone, Copy)]
struct RtxPair {
    rtx: Ssrc,
    media: Ssrc,
}

impl RtxSsrcs {
    /// Binds `rtx` to a media SSRC unless it is bound already. Returns the media SSRC that it is bound to now.
    pub(super) fn bind(&mut self, rtx: Ssrc, media: Ssrc) -> Ssrc {
        if let Some(known) = self.media_of(rtx) {
            return known;
        }
        self.pairs[self.next] = Some(RtxPair { rtx, media });
        self.next = (self.next + 1) % SSRCS_MAX;
        media
    }

    /// Binds an `rtx` that is bound already to another media SSRC.
    pub(super) fn rebind(&mut self, rtx: Ssrc, media: Ssrc) {
        for pair in self.pairs.iter_mut().flatten().filter(|pair| pair.rtx == rtx) {
            pair.media = media;
        }
    }

    /// The media SSRC that `rtx` is bound to.
    pub(super) fn media_of(&self, rtx: Ssrc) -> Option<Ssrc> {
        let pair = self.pairs.iter().flatten().find(|pair| pair.rtx == rtx);
        pair.map(|pair| pair.media)
    }
}

/// A layer changes its SSRC when an encoder restarts or a publisher is replaced. More changes than this within the silence that ends
/// an SSRC's turn (half a second) are not real.
const SSRCS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_ssrc_is_known_until_it_is_announced_again() {
        let mut former = FormerSsrcs::default();
        former.push(Ssrc(7));
        former.push(Ssrc(8));
        former.forget(Ssrc(7));
        assert!(!former.contains(Ssrc(7)) && former.contains(Ssrc(8)));
        (100..100 + SSRCS_MAX as u32).for_each(|ssrc| former.push(Ssrc(ssrc)));
        assert!(!former.contains(Ssrc(8)), "only the newest are remembered");
    }

    #[test]
    fn an_rtx_ssrc_keeps_its_first_binding_until_it_is_rebound() {
        let mut rtx = RtxSsrcs::default();
        assert_eq!(rtx.media_of(Ssrc(5)), None);
        assert_eq!(
            (rtx.bind(Ssrc(5), Ssrc(1)), rtx.bind(Ssrc(5), Ssrc(2))),
            (Ssrc(1), Ssrc(1))
        );
        rtx.rebind(Ssrc(5), Ssrc(2));
        assert_eq!(rtx.media_of(Ssrc(5)), Some(Ssrc(2)));
    }
}
