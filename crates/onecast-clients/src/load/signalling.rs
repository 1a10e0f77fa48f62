//! WHIP and WHEP as a load generator needs them: one connection, one POST after the other, blocking.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A kept-alive HTTP/1.1 connection to the server under load.
pub struct Signalling {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
}

impl Signalling {
    /// Connects to the server.
    ///
    /// # Errors
    /// Those of the system.
    pub fn connect(host: SocketAddr) -> io::Result<Signalling> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Signalling {
            stream: BufReader::new(stream),
            host,
        })
    }

    /// Posts an offer and returns the answer.
    ///
    /// # Errors
    /// `InvalidData` when the server does not answer with 201 and a body of known length, else those of the system.
    pub fn offer(&mut self, path: &str, offer: &str) -> io::Result<String> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n",
            self.host,
            offer.len()
        );
        self.exchange(&(head + offer), "201")
    }

    /// Gets a document.
    ///
    /// # Errors
    /// `InvalidData` when the server does not answer with 200 and a body of known length, else those of the system.
    pub fn fetch(&mut self, path: &str) -> io::Result<String> {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host), "200")
    }

    /// Posts JSON, as members of rooms do. `None` is an answer without a body (204).
    ///
    /// # Errors
    /// `InvalidData` when the server refuses, or its answer is of unknown length, else those of the system.
    pub fn post_json(&mut self, path: &str, json: &str) -> io::Result<Option<String>> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.host,
            json.len()
        );
        self.ask(&(head + json))
    }

    /// Gets a document that may not be there (204).
    ///
    /// # Errors
    /// As [`post_json`](Self::post_json).
    pub fn fetch_if_any(&mut self, path: &str) -> io::Result<Option<String>> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host))
    }

    fn ask(&mut self, request: &str) -> io::Result<Option<String>> {
        let (status, body) = self.round_trip(request)?;
        match status.split(' ').nth(1) {
            Some("200") => Ok(Some(body)),
            Some("204") => Ok(None),
            _ => Err(invalid(&format!("{status}: {body}"))),
        }
    }

    fn exchange(&mut self, request: &str, expected: &str) -> io::Result<String> {
        let (status, body) = self.round_trip(request)?;
        if status.split(' ').nth(1) == Some(expected) {
            Ok(body)
        } else {
            Err(invalid(&format!("{status}: {body}")))
        }
    }

    fn round_trip(&mut self, request: &str) -> io::Result<(String, String)> {
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (status, len) = self.read_head()?;
        // RFC 9110 section 15.3.5: 204 ends with its head.
        let len = len.or_else(|| (status.split(' ').nth(1) == Some("204")).then_some(0));
        let mut body = vec![0; len.ok_or_else(|| invalid("an answer of unknown length"))?];
        self.stream.read_exact(&mut body)?;
        let body = String::from_utf8(body).map_err(|_| invalid("an answer that is not text"))?;
        Ok((status, body))
    }

    fn read_head(&mut self) -> io::Result<(String, Option<usize>)> {
        let status = self.read_line()?;
        let mut len = None;
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return Ok((status, len));
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                len = value.trim().parse().ok().filter(|&len| len <= ANSWER_MAX);
            }
        }
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// For one answer; the server needs a millisecond.
const PATIENCE: Duration = Duration::from_secs(10);
/// No answer is as long.
const ANSWER_MAX: usize = 1 << 20;
