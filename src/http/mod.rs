//! Signalling over HTTP: copy and paste, WHIP, WHEP, the pages and the API.
//!
//! Requests are parsed here, into values that cannot be wrong; what is done about them is the [`Service`]'s; and here again its
//! refusals become statuses and words.

pub mod conference;
pub mod operation;
pub mod service;

mod admin;
mod api;
mod base_path;
mod body;
mod connection;
mod cors;
mod counter_offer;
mod crowding;
mod envelope;
mod etag;
mod events;
mod forwarded;
mod framing;
mod front;
mod guard;
mod health;
mod ice_servers;
mod links;
mod members;
mod messages;
mod news;
mod openapi;
mod pace;
mod page;
mod pages;
mod paste;
mod patch;
mod place;
mod problem;
mod redirect;
mod rfc3339;
mod room_json;
mod room_problem;
mod rooms;
mod router;
mod seat;
mod server;
mod socket;
mod stream_path;
mod whip;

pub use base_path::{BasePath, BasePathError};
pub use body::MAX_BODY_BYTES;
pub use conference::Conference;
#[doc(hidden)]
pub use envelope::fuzz_envelope;
#[doc(hidden)]
pub use etag::fuzz_if_match;
pub use events::fuzz_event_names;
#[doc(hidden)]
pub use forwarded::fuzz_forwarded;
pub use forwarded::{ProxyNetwork, ProxyNetworkError, TrustedProxies};
pub use front::Front;
#[doc(hidden)]
pub use messages::fuzz_messages;
pub use operation::Operation;
pub use pages::Pages;
#[doc(hidden)]
pub use redirect::fuzz_redirect;
pub use server::{HttpLimits, Server, Serving};
pub use service::Service;

use router::Shared;
