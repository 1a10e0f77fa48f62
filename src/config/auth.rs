//! Options of who may publish, watch and administer.

use clap::Args;

/// Options of who may publish, watch and administer.
#[derive(Debug, Clone, Args)]
pub struct AuthArgs {}
