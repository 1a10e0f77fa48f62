//! Who publishes and who watches. Pure.
