//! Signalling over HTTP: copy and paste, WHIP, WHEP, the pages and the API.
//!
//! Requests are parsed here, into values that cannot be wrong; what is done about them is the [`Service`]'s; and here again its
//! refusals become statuses and words.

pub mod operation;
pub mod service;

mod admin;
mod api;
mod body;
mod connection;
mod cors;
mod envelope;
mod guard;
mod health;
mod openapi;
mod pages;
mod paste;
mod problem;
mod rfc3339;
mod router;
mod server;
mod stream_path;
mod whip;

pub use body::MAX_BODY_BYTES;
#[doc(hidden)]
pub use envelope::fuzz_envelope;
pub use operation::Operation;
pub use pages::Pages;
pub use server::{HttpLimits, Server, Serving};
pub use service::Service;

use router::Shared;
