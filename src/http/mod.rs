//! Signalling over HTTP: copy and paste, WHIP, WHEP, the pages and the API.
