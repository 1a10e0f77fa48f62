//! One browser page with a reference viewer and joiners: what each joiner saw.

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::picture::Picture;
use super::sources::GROUP;
use crate::chrome::{Chrome, Page};

/// The page's report on one joiner. Times count from the click, before the peer connection is created.
#[derive(Debug, Deserialize)]
pub(crate) struct Join {
    /// From the POST to the answer.
    pub(crate) post_ms: f64,
    /// To the first shown frame, if any.
    pub(crate) first_ms: Option<f64>,
    /// Time in ms, and by how many frames the reference was ahead.
    samples: Vec<(f64, i32)>,
    /// Shown frames with an invalid time code.
    pub(crate) unreadable: u32,
    pub(crate) freezes: u32,
    pub(crate) frozen_ms: f64,
    pub(crate) dropped: u32,
    /// Mean time of a frame in the jitter buffer during the last 3 s: joiner, reference.
    pub(crate) buffer_ms: (Option<f64>, Option<f64>),
    /// The browser's own estimate of audio minus video at the end: joiner, reference. Positive: audio is ahead.
    pub(crate) playout_ms: (Option<f64>, Option<f64>),
    /// Beep heard minus flash seen during the last 3 s: joiner, reference. Positive: audio is late.
    pub(crate) lips_ms: (Vec<f64>, Vec<f64>),
    /// Frames since the keyframe when it joined.
    #[serde(default)]
    pub(crate) phase: u64,
}

impl Join {
    /// Length of the observation of a joiner.
    pub(crate) const WATCHED_MS: f64 = 8_000.0;

    /// When it became level with the reference: at most 2 frames apart for at least half a second.
    pub(crate) fn in_step_ms(&self) -> Option<f64> {
        let last = self.samples.last()?.0;
        let holds = |from: f64| {
            let mut during = self
                .samples
                .iter()
                .filter(|(at, _)| (from..from + STEADY_MS).contains(at));
            from + STEADY_MS <= last && during.all(|(_, lag)| lag.abs() <= IN_STEP_FRAMES)
        };
        self.samples.iter().map(|(at, _)| *at).find(|&at| holds(at))
    }

    /// Median lag around a moment, in ms; `None` without a picture by then.
    pub(crate) fn lag_ms(&self, at: f64) -> Option<f64> {
        let near = self.samples.iter().filter(|(time, _)| (time - at).abs() <= NEAR_MS);
        let mut lags: Vec<i32> = near.map(|(_, lag)| *lag).collect();
        lags.sort_unstable();
        let middle = lags.get(lags.len() / 2)?;
        Some(f64::from(*middle) * 1000.0 / Picture::FRAME_RATE as f64)
    }
}

/// A browser that watches a stream.
pub(crate) struct Audience {
    page: Page,
    endpoint: String,
}

impl Audience {
    /// Opens a page of the server and lets the reference viewer watch.
    pub(crate) async fn open(chrome: &Chrome, page: &str, endpoint: &str) -> Audience {
        let page = chrome.open(page).await;
        page.run(include_str!("page.js"), Vec::new()).await;
        let sound = page.awaited(&format!("bench.stay({endpoint:?})")).await;
        if sound != "running" {
            eprintln!("lip sync cannot be heard: the audio context is {sound}");
        }
        let endpoint = endpoint.to_owned();
        Audience { page, endpoint }
    }

    /// Joins when the reference shows a frame that comes `phase` after a keyframe, and watches.
    pub(crate) async fn join(&self, phase: usize) -> Result<Join> {
        let wait = format!("bench.waitForPhase({phase}, {GROUP})");
        let phase = self.page.awaited(&wait).await.as_u64().context("a frame number")?;
        let join = format!("bench.join({:?}, {})", self.endpoint, Join::WATCHED_MS);
        let text = self.page.awaited(&join).await;
        let join: Join = serde_json::from_value(text).context("cannot read the result of a join from the page")?;
        Ok(Join { phase, ..join })
    }

    pub(crate) async fn close(self) {
        self.page.close().await;
    }
}

const IN_STEP_FRAMES: i32 = 2;
const STEADY_MS: f64 = 500.0;
const NEAR_MS: f64 = 300.0;
