//! onecast: publish once over WebRTC, any number of viewers watch, nothing re-encoded.
//!
//! This is the server's shell: sockets, HTTP, configuration. [`app::App`] is the media side, and [`http::Server`] the HTTP side in
//! front of it. What the server decides and forwards is in the crates below `crates/`; `docs/ARCHITECTURE.md` has the map.
//!
//! A server inside another program:
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use onecast::app::{App, AppConfig};
//! use onecast::http::{HttpLimits, Pages, Server, Serving};
//! use tokio_util::sync::CancellationToken;
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let app = App::start(AppConfig::on_loopback(1))?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let url = format!("http://{}/healthz", listener.local_addr()?);
//! let stop = CancellationToken::new();
//! let server = Server::new(Serving::open(Arc::new(app.clone()), Pages::built_in()), HttpLimits::default());
//! let serving = tokio::spawn(server.run(listener, stop.clone()));
//!
//! assert_eq!(reqwest::get(url).await?.status(), 200);
//!
//! stop.cancel();
//! serving.await?;
//! assert!(app.shutdown(Duration::from_secs(5)).await);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod auth;

pub mod turn;

pub mod tls;

pub mod http;

pub mod config;

pub mod shard_loop;

mod banner;

pub mod serve;

pub mod app;

#[doc(hidden)]
pub mod fuzz;
