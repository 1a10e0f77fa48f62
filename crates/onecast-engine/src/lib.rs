//! Media, sans-IO: a publisher's packets in, one sealed datagram for each viewer out.
//!
//! A [`Shard`](fanout::Shard) is the state machine of one media thread. Datagrams, commands and the time go in; datagrams come out through an
//! [`Outlet`](onecast_rtc::transmit::Outlet), and events through [`poll_event`](fanout::Shard::poll_event). The modules stand from the packet
//! up: each uses only those above it.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Instant;
//!
//! use onecast_engine::fanout::{Shard, ShardConfig, StartConfig};
//! use onecast_engine::media::{Inbox, Wake};
//! use onecast_rtc::{Certificate, Path};
//!
//! /// A thread that never sleeps needs no waking.
//! struct Awake;
//!
//! impl Wake for Awake {
//!     fn wake(&self) {}
//! }
//!
//! let now = Instant::now();
//! let config = ShardConfig {
//!     id: 0,
//!     certificate: Certificate::generate()?,
//!     pli_interval: None,
//!     keyframe_share: 10,
//!     start: StartConfig::default(),
//!     adapts: true,
//!     probe_share: ShardConfig::PROBE_SHARE,
//!     peers_max: 1_000,
//!     slice: ShardConfig::SLICE,
//!     wall: (now, 0),
//! };
//! let mut shard = Shard::new(config, Inbox::new(Box::new(Awake)), Arc::default());
//!
//! // A datagram on an unknown path is dropped, and the sender is not remembered.
//! let stranger = Path::udp("192.0.2.1:5000".parse()?);
//! shard.handle_datagram(now, stranger, &mut [0x80; 40]);
//! assert_eq!(shard.paths(), (0, 0));
//! assert!(shard.poll_event().is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod media;

pub mod ingest;

pub mod fanout;

pub mod watchdog;

pub use fanout::layers;
