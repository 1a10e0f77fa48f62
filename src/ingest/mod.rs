//! Ingest: what a publisher sends becomes packets of a track. Pure.
