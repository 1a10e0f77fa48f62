//! A blocking HTTP client, for benchmarks that have nothing else to do while they wait for an answer.

use std::io;
use std::net::SocketAddr;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder};
use tokio::runtime::{Builder, Runtime};

/// A client of one server. Connections are kept open.
pub struct BlockingHttp {
    runtime: Runtime,
    client: Client,
    server: SocketAddr,
}

impl BlockingHttp {
    /// A client that has not connected yet.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new(server: SocketAddr) -> io::Result<BlockingHttp> {
        Ok(BlockingHttp {
            runtime: Builder::new_current_thread().enable_all().build()?,
            client: Client::builder().no_proxy().build().map_err(io::Error::other)?,
            server,
        })
    }

    /// Gets a document; `None` when there is none (204).
    ///
    /// # Errors
    /// When the server does not answer, or answers with an error.
    pub fn get(&self, path: &str) -> io::Result<Option<String>> {
        self.send(self.client.get(self.url(path)))
    }

    /// Posts a document and returns the answer; `None` when it has no body (204).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn post(&self, path: &str, content_type: &str, body: String) -> io::Result<Option<String>> {
        let request = self.client.post(self.url(path));
        self.send(request.header(CONTENT_TYPE, content_type).body(body))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server)
    }

    fn send(&self, request: RequestBuilder) -> io::Result<Option<String>> {
        let (status, body) = self.runtime.block_on(async {
            let response = request.send().await.map_err(io::Error::other)?;
            let status = response.status();
            let body = response.text().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((status, body))
        })?;
        match status.as_u16() {
            204 => Ok(None),
            200..300 => Ok(Some(body)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{status}: {body}"))),
        }
    }
}
