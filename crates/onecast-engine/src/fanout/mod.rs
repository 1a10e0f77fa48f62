//! Fan-out: one packet in, one sealed datagram for every viewer out. Pure.
//!
//! A [`Shard`] is the state machine of one media thread: its peers, the windows of the streams they watch, and the
//! datagrams on their way out.
//!
//! ```text
//!  publisher ─SRTP─> Shard::handle_rtp ─> Receiver ─> PublishedStream ─> tracks ─ lane of each shard ┐
//!                                                                                                  │
//!  viewers <─GSO runs─ SendQueue <─ Subscriber::seal <─ TrackSender::forward <─ ShardStream::flush <┘
//! ```
//!
//! Each peer has a [`Plan`] of streams that it sends and streams that it is sent. On the shard of its sender a stream is a
//! `PublishedStream`; on every shard with viewers it is a [`ShardStream`](stream::ShardStream) with a
//! [`Subscriber`](subscriber::Subscriber) for each of them.

pub mod catch_up;
mod demux;
pub mod formats;
pub mod forwarder;
mod frame_numbers;
mod history;
mod ids;
pub mod inbound;
pub mod layers;
mod pacer;
mod peer_media;
mod picture_ends;
pub mod plan;
mod program_output;
mod published_stream;
mod receiver;
mod repairs;
mod round_trip;
mod sent_formats;
pub mod session;
pub mod shard;
mod slab;
mod stamps;
pub mod stream;
pub mod subscriber;
mod subscriptions;
mod timers;

pub use catch_up::Stamping;
pub use formats::ViewerLine;
pub use ids::{PeerIndex, SubscriberPosition};
pub use plan::{Plan, SourceSpec, SubscriptionSpec};
pub use session::{Claim, CloseCause, Command, Direction, Event, Hold, MisroutedDatagram, Restart, Session};
pub use shard::{Shard, ShardConfig};
pub use stream::StartConfig;
