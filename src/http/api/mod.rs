//! The API for programs and operators: streams, sessions, draining, health and the OpenAPI document.

pub(super) mod health;
pub(super) mod openapi;
pub(super) mod sessions;
pub(super) mod streams;
