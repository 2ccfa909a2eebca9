//! The suite: the real application against real brokers, from outside.
//!
//! One binary, so that it links once. Each test starts what it needs on ephemeral ports and in
//! folders of its own, and ends it, so tests run side by side and may kill what they started.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say so"
)]

mod embedded_broker;
mod ledger;
mod support;
mod websocket;
