//! The signalling of a member of a room: it joins by POST, and answers our offers by rewriting them.

use anyhow::{Context as _, Result};
use onecast_clients::load::session::Session;
use onecast_clients::load::signalling::Signalling;
use onecast_rtc::client_peer::{Answered, OfferParams, write_offer};
use onecast_rtc::{Certificate, IceCredentials};
use serde_json::{Value, json};

/// A member as far as it talks to the server.
pub(crate) struct Seat {
    peer: String,
    ice: IceCredentials,
    certificate: Certificate,
    /// Tracks of the offer that it answered last.
    pub(crate) tracks: usize,
}

/// What the descriptions came to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Described {
    pub(crate) offers: u64,
    pub(crate) bytes: u64,
    pub(crate) longest_offer: usize,
    pub(crate) longest_answer: usize,
}

impl Seat {
    /// Joins and shakes hands.
    pub(crate) fn join(
        signalling: &mut Signalling,
        room: &str,
        number: u32,
        last_n: usize,
        certificate: &Certificate,
    ) -> Result<(Seat, Session)> {
        let ice = IceCredentials {
            ufrag: format!("room{number:08x}").into(),
            pwd: format!("{number:08x}0123456789abcdef").into(),
        };
        let offer = write_offer(&OfferParams {
            ice: &ice,
            fingerprint: certificate.fingerprint(),
            active: true,
            publishes: true,
            rtx: true,
        });
        let opus = "a=rtpmap:111 opus/48000/2\r\n";
        let offer = offer.replacen(opus, &format!("{opus}a=extmap:{LEVEL_ID} {LEVEL}\r\n"), 1);
        let message = json!({ "sdp": offer, "room": room, "last_n": last_n });
        let said = signalling.post_json("/offer", &message.to_string())?;
        let said: Value = serde_json::from_str(&said.context("an answer has a body")?)?;
        let text = |name: &str| said[name].as_str().with_context(|| format!("an answer has a {name}"));
        let answered = Answered::parse(text("sdp")?).context("an answer has ICE credentials")?;
        let session = Session::establish(&ice, answered, certificate).context("a member does not connect")?;
        let seat = Seat {
            peer: text("peer_id")?.to_owned(),
            ice,
            certificate: certificate.clone(),
            tracks: 0,
        };
        Ok((seat, session))
    }

    /// Answers the offer that waits. False when there is none.
    pub(crate) fn renegotiate(&mut self, signalling: &mut Signalling, described: &mut Described) -> Result<bool> {
        let Some(said) = signalling.fetch_if_any(&format!("/renegotiate/{}", self.peer))? else {
            return Ok(false);
        };
        let said: Value = serde_json::from_str(&said)?;
        let offer = said["sdp"].as_str().context("an offer has a sdp")?;
        let answer = self.rewrite(offer);
        described.offers += 1;
        described.bytes += (offer.len() + answer.len()) as u64;
        described.longest_offer = described.longest_offer.max(offer.len());
        described.longest_answer = described.longest_answer.max(answer.len());
        let message = json!({ "peer_id": self.peer, "offer": said["offer"], "sdp": answer });
        signalling.post_json("/answer", &message.to_string())?;
        self.tracks = said["tracks"].as_array().map_or(0, Vec::len);
        Ok(true)
    }

    /// An answer that takes everything: the offer with our side of the connection in it, and each direction turned round.
    fn rewrite(&self, offer: &str) -> String {
        let fingerprint = self.certificate.fingerprint().to_string();
        let mut answer = String::with_capacity(offer.len());
        for line in offer.lines() {
            let name = line.split_once(':').map_or(line, |(name, _)| name);
            let (line, value) = match name {
                "a=ice-ufrag" => ("a=ice-ufrag:", &*self.ice.ufrag),
                "a=ice-pwd" => ("a=ice-pwd:", &*self.ice.pwd),
                "a=fingerprint" => ("a=fingerprint:sha-256 ", &*fingerprint),
                "a=setup" => ("a=setup:active", ""),
                "a=sendonly" => ("a=recvonly", ""),
                "a=recvonly" => ("a=sendonly", ""),
                "a=ice-lite"
                | "a=ice-options"
                | "a=candidate"
                | "a=end-of-candidates"
                | "a=ssrc"
                | "a=ssrc-group"
                | "a=msid" => continue,
                _ => (line, ""),
            };
            answer.push_str(line);
            answer.push_str(value);
            answer.push_str("\r\n");
        }
        answer
    }
}

/// The id of audio levels in our offers.
pub(crate) const LEVEL_ID: u8 = 1;
const LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
