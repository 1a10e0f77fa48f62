//! Signalling over HTTP: copy and paste, WHIP, WHEP, the pages and the API.
//!
//! This module parses requests into valid values, hands them to the [`Service`](onecast_control::port::Service), and turns its
//! refusals into problem responses.
//! One folder for each topic: `whip` and `conference` are signalling, `paste` is copy and paste, `api` is for programs and operators,
//! `auth` identifies the client, and `server` accepts connections and limits them.

pub mod feeds;

mod api;
mod auth;
mod body;
mod conference;
mod cors;
mod paste;
mod path_params;
mod problem;
mod router;
mod server;
mod static_files;
mod timestamp;
mod whip;

pub use body::MAX_BODY_BYTES;
#[doc(hidden)]
pub use conference::messages::fuzz_messages;
#[doc(hidden)]
pub use paste::pasted_sdp::fuzz_pasted_sdp;
pub use server::base_path::{BasePath, BasePathError};
#[doc(hidden)]
pub use server::forwarded::fuzz_forwarded;
pub use server::forwarded::{ProxyNetwork, ProxyNetworkError, TrustedProxies};
#[doc(hidden)]
pub use server::redirect::fuzz_redirect;
pub use server::reverse_proxy::ReverseProxy;
pub use server::{HttpLimits, Server, Serving};
pub use static_files::Pages;
#[doc(hidden)]
pub use whip::etag::fuzz_if_match;
#[doc(hidden)]
pub use whip::events::fuzz_event_names;
#[doc(hidden)]
pub use whip::layers::fuzz_layer_choice;

use router::Shared;
