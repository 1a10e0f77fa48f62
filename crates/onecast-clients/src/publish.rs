//! `onecast publish`: sends a test card or files to a WHIP endpoint.

mod sending;

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::client_args::ClientArgs;
use super::load::layers::AnsweredLayers;
use super::peer::{Peer, PeerConfig, PeerError, how_lost};
use super::retry::busy_reporter;
use super::signal::Granted;
use super::source::{self, LayerFile, LayeredSource, Source, SourceError};
use sending::attach_track;

pub use sending::Counts;
#[cfg(test)]
pub(super) use sending::media_stream_track;
pub(super) use sending::{LEVEL_URI, Sending, attach, start};

/// Options of `onecast publish`.
#[derive(Debug, Clone, clap::Args)]
pub struct PublishArgs {
    /// WHIP endpoint
    #[arg(
        long,
        value_name = "URL",
        env = "ONECAST_TO",
        default_value = "http://127.0.0.1:8080/whip/live"
    )]
    pub to: String,

    /// What to send: `test` (test card and tone), or FILE.ivf, FILE.h264, FILE.ogg; at most one video and one audio [default: test,
    /// or nothing besides the files of --layer]
    #[arg(long, value_name = "SOURCE", env = "ONECAST_SOURCE", num_args = 1..=2)]
    pub source: Vec<String>,

    /// Simulcast: a layer of the video by its name and file, such as h=mid.ivf; once for each layer, up to 4
    #[arg(long = "layer", value_name = "RID=FILE", conflicts_with = "layers")]
    pub layer: Vec<LayerFile>,

    /// Simulcast: send so many layers of the test card, 1 to 4: q, h, f and u of 640x360, 1280x720, 1920x1080 and 2560x1440
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub layers: u8,

    /// Repeat files until stopped. Without this option, publishing stops at their end
    #[arg(long = "loop")]
    pub repeat: bool,

    /// Options of all clients.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// A running publisher.
pub struct Publisher {
    peer: Peer,
    granted: Granted,
    answered: AnsweredLayers,
    sending: Sending,
}

impl PublishArgs {
    /// What the options name, one for each track.
    fn sources(&self) -> Result<Vec<LayeredSource>, SourceError> {
        let test = ["test".to_owned()];
        let names = match &self.source[..] {
            [] if self.layer.is_empty() => &test[..],
            names => names,
        };
        let mut sources = source::open_layered(names, self.repeat, self.layers.into())?;
        if !self.layer.is_empty() {
            sources.push(source::open_layers(&self.layer, self.repeat)?);
        }
        source::check_kinds(&sources)?;
        Ok(sources)
    }
}

impl Publisher {
    /// Connects to the endpoint and starts to send.
    ///
    /// # Errors
    /// When the server refuses, or no connection is established.
    pub async fn connect(
        url: &str,
        sources: Vec<Box<dyn Source>>,
        token: Option<&str>,
    ) -> Result<Publisher, PeerError> {
        Publisher::connect_layered(url, sources.into_iter().map(LayeredSource::from).collect(), token).await
    }

    /// As [`connect`](Self::connect), with a track for each of several sources with layers.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_layered(
        url: &str,
        sources: Vec<LayeredSource>,
        token: Option<&str>,
    ) -> Result<Publisher, PeerError> {
        Publisher::connect_as(url, Publisher::config(url, &sources), sources, token).await
    }

    /// Configuration for the codecs of these sources.
    fn config(url: &str, sources: &[LayeredSource]) -> PeerConfig {
        PeerConfig::towards(url, sources.iter().map(|source| source.codec()).collect())
    }

    /// Connects as configured and starts to send.
    async fn connect_as(
        url: &str,
        config: PeerConfig,
        sources: Vec<LayeredSource>,
        token: Option<&str>,
    ) -> Result<Publisher, PeerError> {
        let mut peer = Peer::new(config, |_| {}).await?;
        let mut attached = Vec::new();
        for source in sources {
            attached.push(attach_track(&peer, source).await?);
        }
        let granted = peer.connect(url, token).await?;
        let answered = AnsweredLayers::parse(&granted.answer);
        Ok(Publisher {
            peer,
            sending: start(attached, &answered),
            granted,
            answered,
        })
    }

    /// Layers that the server accepts, by name; empty if it accepts no simulcast. Then only the first layer is sent.
    pub fn accepted_layers(&self) -> &[String] {
        &self.answered.rids
    }

    /// What was sent so far.
    pub fn counts(&self) -> &Counts {
        &self.sending.counts
    }

    /// Waits for the end. Returns true at the end of all sources, false when the connection is lost.
    pub async fn finished(&mut self) -> bool {
        tokio::select! {
            () = self.sending.ended.cancelled() => true,
            () = self.peer.lost() => false,
        }
    }

    /// Why the connection was lost: the server may have ended the session and know the reason.
    pub async fn how_lost(&self) -> PeerError {
        how_lost(&self.granted).await
    }

    /// Stops sending and ends the session.
    pub async fn close(self) {
        self.sending.stop();
        self.granted.delete().await;
        self.peer.close().await;
    }
}

/// Runs the command. Returns the exit code.
pub async fn run(args: PublishArgs) -> u8 {
    let sources = match args.sources() {
        Ok(sources) => sources,
        Err(error) => return fail(&error, 2),
    };
    let trust = match args.client.trust.trust() {
        Ok(trust) => trust,
        Err(error) => return fail(&error, 2),
    };
    let about: Vec<String> = sources.iter().map(LayeredSource::describe).collect();
    let offered: Vec<String> = sources.iter().flat_map(LayeredSource::rids).collect();
    let config = PeerConfig {
        on_busy: Some(busy_reporter(args.client.json)),
        trust,
        ..Publisher::config(&args.to, &sources)
    };
    let mut publisher = match Publisher::connect_as(&args.to, config, sources, args.client.token.as_deref()).await {
        Ok(publisher) => publisher,
        Err(error) => return fail(&error, 1),
    };
    tell(
        &args,
        &format!("live at {}: {}", args.to, about.join(" and ")),
        &serde_json::json!({"event": "live", "to": args.to, "sources": about}),
    );
    if !offered.is_empty() && publisher.accepted_layers() != offered {
        let accepted = publisher.accepted_layers();
        tell(
            &args,
            &match accepted {
                [] => format!("the server accepts no simulcast: only layer {} is sent", offered[0]),
                some => format!("the server accepts only these layers: {}", some.join(", ")),
            },
            &serde_json::json!({"event": "layers", "offered": offered, "accepted": accepted}),
        );
    }
    let counts = publisher.sending.counts.clone();
    let code = tokio::select! {
        finished = publisher.finished() => if finished { 0 } else { fail(&publisher.how_lost().await, 1) },
        () = args.client.time_is_up() => 0,
        _ = tokio::signal::ctrl_c() => 0,
        () = progress(&args, &counts) => 0,
    };
    let (frames, bytes) = (
        counts.frames.load(Ordering::Relaxed),
        counts.bytes.load(Ordering::Relaxed),
    );
    tell(
        &args,
        &format!("sent {frames} frames, {bytes} bytes"),
        &serde_json::json!({"event": "end", "frames": frames, "bytes": bytes}),
    );
    publisher.close().await;
    code
}

/// Prints a line per second, forever.
async fn progress(args: &PublishArgs, counts: &Counts) {
    let (mut frames_before, mut bytes_before) = (0, 0);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.tick().await;
    loop {
        second.tick().await;
        let (frames, bytes) = (
            counts.frames.load(Ordering::Relaxed),
            counts.bytes.load(Ordering::Relaxed),
        );
        let requests = counts.keyframe_requests.load(Ordering::Relaxed);
        let (rate, kbit) = (frames - frames_before, (bytes - bytes_before) * 8 / 1_000);
        (frames_before, bytes_before) = (frames, bytes);
        tell(
            args,
            &format!("{rate} frames/s, {kbit} kbit/s, {requests} keyframe requests so far"),
            &serde_json::json!({"event": "second", "frames": rate, "kbit": kbit, "keyframe_requests": requests}),
        );
    }
}

/// Publishes test card and tone to an endpoint until the task is dropped. Reconnects when the connection is lost.
pub async fn demo(url: String, token: String) {
    loop {
        let sources = source::open(&["test".to_owned()], true).unwrap_or_default();
        match Publisher::connect(&url, sources, Some(&token)).await {
            Ok(mut publisher) => drop(publisher.finished().await),
            Err(error) => tracing::warn!(%error, "the demo cannot publish"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn tell(args: &PublishArgs, words: &str, json: &serde_json::Value) {
    if args.client.json {
        println!("{json}");
    } else {
        println!("{words}");
    }
}

pub(super) fn fail(error: &dyn std::fmt::Display, code: u8) -> u8 {
    eprintln!("error: {error}");
    code
}
