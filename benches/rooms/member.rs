//! Signalling of a room member: joins by POST, and answers the server's offers by rewriting them.

use anyhow::{Context as _, Result};
use onecast_clients::load::http::BlockingHttp;
use onecast_rtc::client_peer::{Answered, OfferParams, write_offer};
use onecast_rtc::{Certificate, IceCredentials};
use serde_json::{Value, json};

use crate::session::Session;

/// Signalling state of a member.
pub(crate) struct SignallingMember {
    peer: String,
    ice: IceCredentials,
    certificate: Certificate,
    /// Tracks of the last answered offer.
    pub(crate) tracks: usize,
}

/// Number and size of the descriptions.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Described {
    pub(crate) offers: u64,
    pub(crate) bytes: u64,
    pub(crate) longest_offer: usize,
    pub(crate) longest_answer: usize,
}

impl SignallingMember {
    /// Joins and connects.
    pub(crate) fn join(
        http: &BlockingHttp,
        room: &str,
        number: u32,
        last_n: usize,
        certificate: &Certificate,
    ) -> Result<(SignallingMember, Session)> {
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
        let said = http.post("/offer", JSON, message.to_string())?;
        let said: Value = serde_json::from_str(&said.context("an answer has a body")?)?;
        let text = |name: &str| said[name].as_str().with_context(|| format!("an answer has a {name}"));
        let answered = Answered::parse(text("sdp")?).context("an answer has ICE credentials")?;
        let session = Session::establish(&ice, answered, certificate).context("a member does not connect")?;
        let member = SignallingMember {
            peer: text("peer_id")?.to_owned(),
            ice,
            certificate: certificate.clone(),
            tracks: 0,
        };
        Ok((member, session))
    }

    /// Answers the pending offer. Returns false when there is none.
    pub(crate) fn renegotiate(&mut self, http: &BlockingHttp, described: &mut Described) -> Result<bool> {
        let Some(said) = http.get(&format!("/renegotiate/{}", self.peer))? else {
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
        http.post("/answer", JSON, message.to_string())?;
        self.tracks = said["tracks"].as_array().map_or(0, Vec::len);
        Ok(true)
    }

    /// An answer that accepts everything: the offer with the client's transport parameters and reversed directions.
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

const JSON: &str = "application/json";
/// Extension id of audio levels in the offers.
pub(crate) const LEVEL_ID: u8 = 1;
const LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
