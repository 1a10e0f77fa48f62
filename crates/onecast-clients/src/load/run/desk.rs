//! The signalling of a load: offers posted and sessions deleted on a runtime of their own, answers handed to the media thread.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url, redirect};
use tokio::runtime::Runtime;

use super::offer::{Accepted, AnswerError, publisher_offer, read_answer, viewer_offer};
use crate::load::workload::Workload;
use crate::signal::{SignalError, innermost, parse, reason};
use onecast_rtc::{Certificate, IceCredentials};
use onecast_udp::clock;
use onecast_udp::interfaces::host_addresses;

/// Where offers are handed in.
pub(super) struct Desk {
    runtime: Runtime,
    counter: Arc<Counter>,
    outcomes: Receiver<Outcome>,
}

/// What came of an errand.
pub(super) enum Outcome {
    /// An offer was answered.
    Granted(Box<Granted>),
    /// It was not.
    Refused(Who, DeskError),
    /// The server said to come back later; that is waited for.
    Retrying,
    /// A session was deleted, or not.
    Left {
        /// The server took the goodbye.
        taken: bool,
    },
}

/// A session.
pub(super) struct Granted {
    pub(super) who: Who,
    pub(super) ice: IceCredentials,
    pub(super) accepted: Accepted,
    /// Where it is ended.
    pub(super) session: Option<Url>,
    /// When the offer was posted, since 1970.
    pub(super) posted: Duration,
    /// When the answer was there.
    pub(super) answered: Duration,
}

/// Who has an errand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// The publisher.
    Publisher,
    /// A viewer by number.
    Viewer(u32),
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeskError {
    /// No answer, or a refusal.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// An answer that cannot be followed.
    #[error("{url} answered 201, but {why}")]
    Answer {
        /// The endpoint.
        url: String,
        /// What is wrong.
        why: AnswerError,
    },
}

struct Counter {
    client: Client,
    whep: Endpoint,
    whip: Option<Endpoint>,
    token: Option<String>,
    certificate: Certificate,
    workload: Workload,
    sender: Sender<Outcome>,
    waker: mio::Waker,
}

/// An URL and the addresses of its host.
struct Endpoint {
    url: Url,
    /// For HTTP.
    addresses: Vec<SocketAddr>,
    /// For media.
    host: Vec<IpAddr>,
}

/// What a desk needs to know.
pub(super) struct DeskConfig {
    pub(super) whep: String,
    pub(super) whip: Option<String>,
    pub(super) token: Option<String>,
    pub(super) certificate: Certificate,
    pub(super) workload: Workload,
    /// Ends the wait of the media thread.
    pub(super) waker: mio::Waker,
}

impl Desk {
    /// Opens a desk; nothing is sent yet.
    ///
    /// # Errors
    /// When an URL cannot be used or its host has no address.
    pub(super) fn open(config: DeskConfig) -> Result<Desk, SignalError> {
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
        let counter = Arc::new(Counter {
            client,
            whep,
            whip,
            token: config.token,
            certificate: config.certificate,
            workload: config.workload,
            sender,
            waker: config.waker,
        });
        Ok(Desk {
            runtime,
            counter,
            outcomes,
        })
    }

    /// Posts an offer.
    pub(super) fn join(&self, who: Who) {
        let counter = self.counter.clone();
        let posted = clock::unix_time();
        self.runtime.spawn(async move {
            let outcome = match counter.grant(who, posted).await {
                Ok(granted) => Outcome::Granted(Box::new(granted)),
                Err(error) => Outcome::Refused(who, error),
            };
            counter.report(outcome);
        });
    }

    /// Deletes a session.
    pub(super) fn leave(&self, session: Url) {
        let counter = self.counter.clone();
        self.runtime.spawn(async move {
            let response = counter.authorized(counter.client.delete(session)).send().await;
            // Our close_notify may have been faster: then there is nothing left to delete.
            let taken = response.is_ok_and(|response| {
                let status = response.status();
                status.is_success() || matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE)
            });
            counter.report(Outcome::Left { taken });
        });
    }

    /// The next outcome, if there is one.
    pub(super) fn poll_outcome(&self) -> Option<Outcome> {
        self.outcomes.try_recv().ok()
    }
}

impl Counter {
    fn report(&self, outcome: Outcome) {
        // Nobody listens when the run is over.
        let _ = self.sender.send(outcome);
        let _ = self.waker.wake();
    }

    async fn grant(&self, who: Who, posted: Duration) -> Result<Granted, DeskError> {
        let ice = credentials(who);
        let fingerprint = self.certificate.fingerprint();
        let (endpoint, offer) = match (who, &self.whip) {
            (Who::Publisher, Some(whip)) => (whip, publisher_offer(&ice, fingerprint, self.workload)),
            _ => (&self.whep, viewer_offer(&ice, fingerprint)),
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
        let accepted = read_answer(&answer, |ip| endpoint.is_host(ip)).map_err(|why| DeskError::Answer {
            url: endpoint.url.to_string(),
            why,
        })?;
        Ok(Granted {
            who,
            ice,
            accepted,
            session,
            posted,
            answered: clock::unix_time(),
        })
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
                true => "it sends us to another host, and a load goes only to the host of the URL".to_owned(),
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
        // A server on this machine announces any of its addresses.
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

    /// A client that stays with these hosts, at the addresses that were found for them.
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

    /// Where a session is ended, if that is on the same host.
    fn session(&self, headers: &HeaderMap, base: &Url) -> Option<Url> {
        let session = base.join(headers.get(LOCATION)?.to_str().ok()?).ok()?;
        (session.host_str() == self.url.host_str() && matches!(session.scheme(), "http" | "https")).then_some(session)
    }
}

/// How long to wait until it is worth asking again.
fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let again = [
        StatusCode::CONFLICT,
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
    ];
    let text = headers.get(RETRY_AFTER).filter(|_| again.contains(&status))?;
    // The other form is a date, which nobody uses here.
    let seconds: u64 = text.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_WAIT_MAX))
}

fn credentials(who: Who) -> IceCredentials {
    let number = match who {
        Who::Publisher => u32::MAX,
        Who::Viewer(number) => number,
    };
    // Apart from those of another load on the same server.
    let run = std::process::id();
    IceCredentials {
        ufrag: format!("load{run:x}x{number:08x}").into(),
        pwd: format!("{number:08x}{run:08x}0123456789abcdef").into(),
    }
}

const SDP: &str = "application/sdp";
/// Longer than any server thinks.
const TIMEOUT: Duration = Duration::from_secs(10);
/// No answer is as long.
const ANSWER_MAX: usize = 256 << 10;
/// A viewer asks so often again before it gives up.
const RETRIES_MAX: u32 = 5;
/// And never waits longer.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(10);
/// More is a circle.
const REDIRECTS_MAX: usize = 3;
/// Kept open for the next viewers.
const CONNECTIONS_IDLE_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_busy_servers_are_asked_again_and_not_too_late() {
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
    fn hosts_are_their_own_addresses_and_sessions_stay_there() {
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
    fn addresses_that_are_none_are_refused() {
        for url in ["", "whep", "rtmp://127.0.0.1/x", "http://"] {
            assert!(matches!(Endpoint::resolve(url), Err(SignalError::Url { .. })), "{url}");
        }
    }
}
