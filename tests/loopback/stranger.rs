//! A room member made of plain requests: it can send anything and sees every reply.

use onecast_rtc::client_peer::{OfferParams, write_offer};
use onecast_rtc::{Certificate, IceCredentials};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::rig::Rig;

/// Reply to a request.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Told {
    /// Checks that it was refused with this status and problem, and with an explanation.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, problem: &str) {
        let kind = self.body["type"].as_str().unwrap_or_default();
        assert_eq!(
            (self.status, kind.rsplit(':').next()),
            (status, Some(problem)),
            "{self:?}"
        );
        assert!(
            self.body["detail"].as_str().is_some_and(|detail| detail.len() > 10),
            "{self:?}"
        );
    }

    #[track_caller]
    pub(crate) fn done(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.body
    }
}

/// Sends a request.
pub(crate) async fn ask(rig: &Rig, method: Method, path: &str, body: Option<&str>) -> Told {
    let mut request = reqwest::Client::new().request(method, rig.url(path));
    if let Some(body) = body {
        let json = (reqwest::header::CONTENT_TYPE, "application/json");
        request = request.header(json.0, json.1).body(body.to_owned());
    }
    let response = request.send().await.unwrap();
    Told {
        status: response.status().as_u16(),
        body: response.json().await.unwrap_or_default(),
    }
}

pub(crate) async fn post(rig: &Rig, path: &str, body: &Value) -> Told {
    ask(rig, Method::POST, path, Some(&body.to_string())).await
}

/// A member without a media connection, unless the test makes one.
pub(crate) struct Stranger {
    pub(crate) peer_id: String,
    pub(crate) id: u64,
    pub(crate) ice: IceCredentials,
    pub(crate) certificate: Certificate,
    /// The server's answer.
    pub(crate) answer: String,
}

impl Stranger {
    /// Joins the room `main`; sends on two m-lines if `sends`.
    pub(crate) async fn join(rig: &Rig, name: &str, sends: bool) -> Stranger {
        let (ice, certificate) = (credentials(name), Certificate::generate().unwrap());
        let said = json!({ "sdp": offer(&ice, &certificate, sends), "name": name });
        let joined = post(rig, "offer", &said).await.done(200);
        Stranger {
            peer_id: joined["peer_id"].as_str().unwrap().to_owned(),
            id: joined["id"].as_u64().unwrap(),
            answer: joined["sdp"].as_str().unwrap().to_owned(),
            ice,
            certificate,
        }
    }

    /// Its current offer.
    pub(crate) fn sdp(&self, sends: bool) -> String {
        offer(&self.ice, &self.certificate, sends)
    }

    pub(crate) async fn offers(&self, rig: &Rig, sdp: &str) -> Told {
        post(rig, "offer", &json!({ "peer_id": self.peer_id, "sdp": sdp })).await
    }

    pub(crate) async fn answers(&self, rig: &Rig, sdp: &str) -> Told {
        post(rig, "answer", &json!({ "peer_id": self.peer_id, "sdp": sdp })).await
    }

    /// The server's pending offer.
    pub(crate) async fn fetch(&self, rig: &Rig) -> Value {
        let path = format!("renegotiate/{}?wait=5", self.peer_id);
        ask(rig, Method::GET, &path, None).await.done(200)
    }

    /// An answer that accepts everything.
    pub(crate) fn answer(&self, offer: &Value) -> String {
        let line = |line: &str| match line.split_once(':').map_or(line, |(name, _)| name) {
            "a=ice-lite" | "a=candidate" | "a=end-of-candidates" | "a=ssrc" | "a=ssrc-group" | "a=msid" => {
                String::new()
            }
            "a=ice-ufrag" => format!("a=ice-ufrag:{}\r\n", self.ice.ufrag),
            "a=ice-pwd" => format!("a=ice-pwd:{}\r\n", self.ice.pwd),
            "a=fingerprint" => format!("a=fingerprint:sha-256 {}\r\n", self.certificate.fingerprint()),
            "a=setup" => "a=setup:active\r\n".to_owned(),
            "a=sendonly" => "a=recvonly\r\n".to_owned(),
            "a=recvonly" => "a=sendonly\r\n".to_owned(),
            _ => format!("{line}\r\n"),
        };
        offer["sdp"].as_str().unwrap().lines().map(line).collect()
    }

    pub(crate) async fn leave(&self, rig: &Rig) {
        let told = ask(rig, Method::DELETE, &format!("peer/{}", self.peer_id), None).await;
        assert_eq!(told.status, 200, "{told:?}");
    }
}

pub(crate) fn credentials(name: &str) -> IceCredentials {
    IceCredentials {
        ufrag: format!("stranger{name}").into(),
        pwd: format!("thePasswordOfTheStranger{name}").into(),
    }
}

pub(crate) fn offer(ice: &IceCredentials, certificate: &Certificate, sends: bool) -> String {
    let sdp = write_offer(&OfferParams {
        ice,
        fingerprint: certificate.fingerprint(),
        active: true,
        publishes: sends,
        rtx: true,
    });
    sdp.replace("a=sendonly\r\n", "a=sendonly\r\na=msid:own own\r\n")
}

/// The session part of an SDP, then each media section.
pub(crate) fn sections(sdp: &str) -> Vec<String> {
    let mut sections = vec![String::new()];
    for line in sdp.lines() {
        if line.starts_with("m=") {
            sections.push(String::new());
        }
        sections.last_mut().unwrap().push_str(&format!("{line}\r\n"));
    }
    sections
}

/// A WebSocket that can send anything.
pub(crate) struct Ws(WebSocketStream<TcpStream>);

impl Ws {
    pub(crate) async fn open(rig: &Rig) -> Ws {
        let stream = TcpStream::connect(rig.http).await.unwrap();
        let opened = tokio_tungstenite::client_async(format!("ws://{}/ws", rig.http), stream).await;
        Ws(opened.unwrap().0)
    }

    pub(crate) async fn raw(&mut self, message: Message) {
        let _ = futures_util::SinkExt::send(&mut self.0, message).await;
    }

    pub(crate) async fn say(&mut self, said: &Value) {
        self.raw(Message::text(said.to_string())).await;
    }

    /// The next frame of a type; skips others.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        loop {
            let next = tokio::time::timeout(std::time::Duration::from_secs(20), self.0.next()).await;
            let Some(Ok(message)) = next.unwrap_or_else(|_| panic!("no {kind} comes")) else {
                panic!("closed, and no {kind} came")
            };
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    pub(crate) async fn refused(&mut self, status: u16, problem: &str) {
        let error = self.expect("error").await;
        assert_eq!(
            (error["status"].as_u64(), error["problem"].as_str()),
            (Some(status.into()), Some(problem)),
            "{error}"
        );
    }

    /// Reads to the end and returns the reason of the close frame.
    pub(crate) async fn closed(&mut self) -> String {
        let mut reason = String::new();
        while let Ok(Some(Ok(message))) = tokio::time::timeout(std::time::Duration::from_secs(20), self.0.next()).await
        {
            if let Message::Close(Some(frame)) = message {
                reason = frame.reason.to_string();
            }
        }
        reason
    }
}
