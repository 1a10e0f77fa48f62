//! Signalling over HTTP: copy and paste, WHIP, WHEP, the pages and the API.
//!
//! Requests are parsed here, into values that cannot be wrong; what is done about them is the [`Service`]'s; and here again its
//! refusals become statuses and words.

pub mod conference;
pub mod operation;
pub mod service;

mod api;
mod auth;
mod body;
mod cors;
mod paste;
mod path_params;
mod problem;
mod rfc3339;
mod router;
mod server;
mod static_files;
mod whip;

pub use body::MAX_BODY_BYTES;
pub use conference::Conference;
#[doc(hidden)]
pub use conference::messages::fuzz_messages;
pub use operation::Operation;
#[doc(hidden)]
pub use paste::pasted_sdp::fuzz_envelope;
pub use server::base_path::{BasePath, BasePathError};
#[doc(hidden)]
pub use server::forwarded::fuzz_forwarded;
pub use server::forwarded::{ProxyNetwork, ProxyNetworkError, TrustedProxies};
pub use server::front::Front;
#[doc(hidden)]
pub use server::redirect::fuzz_redirect;
pub use server::{HttpLimits, Server, Serving};
pub use service::Service;
pub use static_files::Pages;
#[doc(hidden)]
pub use whip::etag::fuzz_if_match;
#[doc(hidden)]
pub use whip::events::fuzz_event_names;

use router::Shared;
