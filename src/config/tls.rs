//! Options of HTTPS.

use clap::Args;

/// Options of HTTPS.
#[derive(Debug, Clone, Args)]
pub struct TlsArgs {}
