//! Signalling of a load: posts offers and deletes sessions on its own runtime, and hands the answers to the media thread.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url, redirect};
use tokio::runtime::Runtime;

use super::layers::{LayerSet, SenderKind};
use super::offer::{Accepted, AnswerError, PublisherOffer, read_answer, viewer_offer};
use crate::load::workload::Workload;
use crate::signal::{SignalError, innermost, parse, reason};
use onecast_rtc::{Certificate, IceCredentials};
use onecast_udp::clock;
use onecast_udp::interfaces::host_addresses;

/// Posts offers and deletes sessions.
pub struct Signaller {
    runtime: Runtime,
    worker: Arc<Worker>,
    outcomes: Receiver<Outcome>,
}

/// Result of a request.
pub enum Outcome {
    /// An offer was answered.
    Admitted(Box<Admitted>),
    /// An offer was refused.
    Refused(ClientId, OfferError),
    /// The server asked to retry later; the signaller does.
    Retrying,
    /// A session was deleted, or not.
    Left {
        /// The server accepted the DELETE.
        accepted: bool,
    },
}

/// A client whose offer was answered.
pub struct Admitted {
    /// Which client.
    pub client: ClientId,
    /// Its ICE credentials.
    pub(super) ice: IceCredentials,
    /// The answer.
    pub accepted: Accepted,
    /// The resource that ends the session.
    pub session: Option<Url>,
    /// When the offer was posted, since 1970.
    pub posted: Duration,
    /// When the answer arrived, since 1970.
    pub answered: Duration,
}

/// One client of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientId {
    /// The publisher.
    Publisher,
    /// A viewer by number.
    Viewer(u32),
}

/// Why an offer has no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// No answer, or a refusal.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// An answer that cannot be used.
    #[error("{url} answered 201, but {why}")]
    Answer {
        /// The endpoint.
        url: String,
        /// What is wrong.
        why: AnswerError,
    },
}

struct Worker {
    client: Client,
    whep: Endpoint,
    whip: Option<Endpoint>,
    token: Option<String>,
    certificate: Certificate,
    workload: Workload,
    layers: LayerSet,
    sender: Sender<Outcome>,
    waker: mio::Waker,
}

/// A URL and the addresses of its host.
struct Endpoint {
    url: Url,
    /// Of HTTP.
    addresses: Vec<SocketAddr>,
    /// That media may use.
    host: Vec<IpAddr>,
}

/// What a load connects to, and as what.
pub struct SignallerConfig {
    /// Endpoint of viewers.
    pub whep: String,
    /// Endpoint of the publisher.
    pub whip: Option<String>,
    /// Bearer token for both.
    pub token: Option<String>,
    /// Certificate of all clients.
    pub certificate: Certificate,
    /// What the publisher offers.
    pub workload: Workload,
    /// The layers that the publisher offers.
    pub layers: LayerSet,
    /// Interrupts the wait of the media thread.
    pub waker: mio::Waker,
}

impl Signaller {
    /// Resolves the endpoints; sends nothing yet.
    ///
    /// # Errors
    /// When an URL cannot be used or its host has no address.
    pub fn open(config: SignallerConfig) -> Result<Signaller, SignalError> {
        let whep = Endpoint::resolve(&config.whep)?;
        let whip = config.whip.as_deref().map(Endpoint::resolve).transpose()?;
        let in_system = |why: String| SignalError::Unreachable {
            url: config.whep.clone(),
            why,
        };
        let client = Endpoint::client([Some(&whep), whip.as_ref()]).map_err(|error| in_system(innermost(&error)))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| in_system(error.to_string()))?;
        let (sender, outcomes) = channel();
        let worker = Arc::new(Worker {
            client,
            whep,
            whip,
            token: config.token,
            certificate: config.certificate,
            workload: config.workload,
            layers: config.layers,
            sender,
            waker: config.waker,
        });
        Ok(Signaller {
            runtime,
            worker,
            outcomes,
        })
    }

    /// Posts the offer of a client.
    pub fn join(&self, client: ClientId) {
        let worker = self.worker.clone();
        let posted = clock::unix_time();
        self.runtime.spawn(async move {
            let outcome = match worker.admit(client, posted).await {
                Ok(admitted) => Outcome::Admitted(Box::new(admitted)),
                Err(error) => Outcome::Refused(client, error),
            };
            worker.report(outcome);
        });
    }

    /// Deletes a session.
    pub fn leave(&self, session: Url) {
        let worker = self.worker.clone();
        self.runtime.spawn(async move {
            let response = worker.authorized(worker.client.delete(session)).send().await;
            // The close_notify may have arrived first: then there is nothing left to delete.
            let accepted = response.is_ok_and(|response| {
                let status = response.status();
                status.is_success() || matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE)
            });
            worker.report(Outcome::Left { accepted });
        });
    }

    /// The next result, if there is one.
    pub fn poll_outcome(&self) -> Option<Outcome> {
        self.outcomes.try_recv().ok()
    }
}

impl Worker {
    fn report(&self, outcome: Outcome) {
        // When the run is over, nothing receives it.
        let _ = self.sender.send(outcome);
        let _ = self.waker.wake();
    }

    async fn admit(&self, client: ClientId, posted: Duration) -> Result<Admitted, OfferError> {
        let ice = credentials(client);
        let (endpoint, offer) = match (client, &self.whip) {
            (ClientId::Publisher, Some(whip)) => (whip, self.publisher_offer(&ice).to_sdp()),
            _ => (&self.whep, viewer_offer(&ice, self.certificate.fingerprint())),
        };
        let mut posted = posted;
        let mut tries = 0;
        let (session, answer) = loop {
            let wait = match self.post(endpoint, &offer).await? {
                Reply::Created { session, answer } => break (session, answer),
                Reply::Later { refusal, .. } if tries >= RETRIES_MAX => return Err(refusal.into()),
                Reply::Later { wait, .. } => wait,
            };
            tries += 1;
            self.report(Outcome::Retrying);
            tokio::time::sleep(wait).await;
            posted = clock::unix_time();
        };
        let unusable = |why| OfferError::Answer {
            url: endpoint.url.to_string(),
            why,
        };
        let accepted = read_answer(&answer, |ip| endpoint.is_host(ip)).map_err(unusable)?;
        if client == ClientId::Publisher && self.layers.sender() == SenderKind::Obs {
            accepted.check_as_obs(&self.layers).map_err(unusable)?;
        }
        Ok(Admitted {
            client,
            ice,
            accepted,
            session,
            posted,
            answered: clock::unix_time(),
        })
    }

    fn publisher_offer<'a>(&self, ice: &'a IceCredentials) -> PublisherOffer<'a> {
        PublisherOffer {
            ice,
            fingerprint: self.certificate.fingerprint(),
            workload: self.workload,
            layers: self.layers,
        }
    }

    async fn post(&self, endpoint: &Endpoint, offer: &str) -> Result<Reply, SignalError> {
        let url = || endpoint.url.to_string();
        let unreachable = |error: reqwest::Error| SignalError::Unreachable {
            url: url(),
            why: innermost(&error),
        };
        let request = self.client.post(endpoint.url.clone()).header(CONTENT_TYPE, SDP);
        let request = self.authorized(request.header(ACCEPT, SDP).body(offer.to_owned()));
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let session = endpoint.session(response.headers(), response.url());
        let wait = retry_after(status, response.headers());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_MAX {
                body.truncate(ANSWER_MAX);
                break;
            }
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        if status == StatusCode::CREATED {
            return Ok(Reply::Created { session, answer: body });
        }
        let refusal = SignalError::Refused {
            url: url(),
            status,
            why: match status.is_redirection() {
                true => "it redirects to another host, and a load goes only to the host of the URL".to_owned(),
                false => reason(status, &body),
            },
            retry_after: wait,
        };
        match wait {
            Some(wait) => Ok(Reply::Later { wait, refusal }),
            None => Err(refusal),
        }
    }

    fn authorized(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}

enum Reply {
    Created { session: Option<Url>, answer: String },
    Later { wait: Duration, refusal: SignalError },
}

impl Endpoint {
    fn resolve(url: &str) -> Result<Endpoint, SignalError> {
        let parsed = parse(url)?;
        let addresses = parsed.socket_addrs(|| None).map_err(|error| SignalError::Unreachable {
            url: url.to_owned(),
            why: error.to_string(),
        })?;
        let mut host: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
        // A server on this machine may announce any of its addresses.
        let own = host_addresses();
        if host.iter().any(|ip| ip.is_loopback() || own.contains(ip)) {
            host.extend(own);
        }
        Ok(Endpoint {
            url: parsed,
            addresses,
            host,
        })
    }

    fn is_host(&self, ip: IpAddr) -> bool {
        self.host.contains(&ip.to_canonical())
    }

    /// An HTTP client that contacts only these hosts, at the addresses that were resolved.
    fn client(endpoints: [Option<&Endpoint>; 2]) -> Result<Client, reqwest::Error> {
        let stay = redirect::Policy::custom(|attempt| {
            let first = attempt.previous().first().and_then(Url::host_str);
            if first == attempt.url().host_str() && attempt.previous().len() <= REDIRECTS_MAX {
                attempt.follow()
            } else {
                attempt.stop()
            }
        });
        let builder = Client::builder().timeout(TIMEOUT).redirect(stay).no_proxy();
        let builder = builder.pool_max_idle_per_host(CONNECTIONS_IDLE_MAX);
        let named = endpoints.into_iter().flatten();
        let builder = named.fold(builder, |builder, endpoint| match endpoint.url.domain() {
            Some(name) => builder.resolve_to_addrs(name, &endpoint.addresses),
            None => builder,
        });
        builder.build()
    }

    /// The session's resource, if it is on the same host.
    fn session(&self, headers: &HeaderMap, base: &Url) -> Option<Url> {
        let session = base.join(headers.get(LOCATION)?.to_str().ok()?).ok()?;
        (session.host_str() == self.url.host_str() && matches!(session.scheme(), "http" | "https")).then_some(session)
    }
}

/// How long to wait before a retry; `None` when a retry is pointless.
fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let again = [
        StatusCode::CONFLICT,
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
    ];
    let text = headers.get(RETRY_AFTER).filter(|_| again.contains(&status))?;
    // The other form, a date, is not used by WHIP servers.
    let seconds: u64 = text.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_WAIT_MAX))
}

fn credentials(client: ClientId) -> IceCredentials {
    let number = match client {
        ClientId::Publisher => u32::MAX,
        ClientId::Viewer(number) => number,
    };
    // The process id distinguishes several loads on one server.
    let run = std::process::id();
    IceCredentials {
        ufrag: format!("load{run:x}x{number:08x}").into(),
        pwd: format!("{number:08x}{run:08x}0123456789abcdef").into(),
    }
}

const SDP: &str = "application/sdp";
/// Longer than any server needs.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any answer.
const ANSWER_MAX: usize = 256 << 10;
/// Retries of one offer.
const RETRIES_MAX: u32 = 5;
/// The longest wait before a retry.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(10);
/// More than this is a loop.
const REDIRECTS_MAX: usize = 3;
/// Connections kept open for further viewers.
const CONNECTIONS_IDLE_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_busy_servers_are_retried_within_limits() {
        let after = |status, text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(status, &headers).map(|wait| wait.as_secs())
        };
        assert_eq!(after(StatusCode::SERVICE_UNAVAILABLE, "2"), Some(2));
        assert_eq!(after(StatusCode::CONFLICT, "9999"), Some(10));
        assert_eq!(after(StatusCode::NOT_FOUND, "2"), None);
        assert_eq!(after(StatusCode::TOO_MANY_REQUESTS, "soon"), None);
        assert_eq!(retry_after(StatusCode::SERVICE_UNAVAILABLE, &HeaderMap::new()), None);
    }

    #[test]
    fn sessions_stay_on_the_addresses_of_the_host() {
        let local = Endpoint::resolve("http://127.0.0.1:8080/whep/live").unwrap();
        assert!(host_addresses().into_iter().all(|ip| local.is_host(ip)));
        let other = Endpoint::resolve("http://192.0.2.7/whep/live").unwrap();
        assert!(other.is_host([192, 0, 2, 7].into()) && !other.is_host([127, 0, 0, 1].into()));
        let session = |location: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, location.parse().unwrap());
            other.session(&headers, &other.url).map(String::from)
        };
        assert_eq!(session("/s/1").as_deref(), Some("http://192.0.2.7/s/1"));
        assert_eq!(session("http://192.0.2.8/s/1"), None);
    }

    #[test]
    fn invalid_urls_are_refused() {
        for url in ["", "whep", "rtmp://127.0.0.1/x", "http://"] {
            assert!(matches!(Endpoint::resolve(url), Err(SignalError::Url { .. })), "{url}");
        }
    }
}
