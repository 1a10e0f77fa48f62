//! Options that `publish`, `watch` and `peer` share.

use std::time::Duration;

use super::trust::TrustArgs;

/// Options of every client on the full `webrtc` crate.
#[derive(Debug, Clone, clap::Args)]
pub struct ClientArgs {
    /// Stop after this time, such as 10s or 2m
    #[arg(long = "for", value_name = "TIME", value_parser = crate::values::duration)]
    pub limit: Option<Duration>,

    /// Bearer token
    #[arg(long, value_name = "TOKEN", env = "ONECAST_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    /// Print events, progress and the summary as JSON lines
    #[arg(long)]
    pub json: bool,

    /// How the server's certificate is checked.
    #[command(flatten)]
    pub trust: TrustArgs,
}

impl ClientArgs {
    /// Waits for the time of `--for`; forever without it.
    pub(crate) async fn time_is_up(&self) {
        match self.limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    }
}
