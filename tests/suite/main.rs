//! The suite: the real application against real brokers, from outside.
//!
//! One binary, so that it links once. Each test starts what it needs on ephemeral ports and in
//! folders of its own, and ends it, so tests run side by side and may kill what they started.

#![allow(
    unreachable_pub,
    reason = "in a binary nothing is reachable from outside; `pub` says what other modules use"
)]
#![allow(
    clippy::float_cmp,
    reason = "metrics are floats, and the counts among them are exact"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say so"
)]

mod access;
mod access_cli;
mod access_edges;
mod access_matrix;
mod bridge;
mod broker_access;
mod broker_trust;
mod browser;
mod contract;
mod counter;
mod crash;
mod durability;
mod embedded_broker;
mod hardening;
mod http2;
mod hub;
mod hub_alerts;
mod hub_crash;
mod hub_example;
mod hub_intake;
mod hub_life;
mod hub_limits;
mod hub_mqtt;
mod hub_mutations;
mod hub_registry;
mod hub_rules;
#[cfg(feature = "mysql")]
mod lanes;
mod ledger;
mod legacy_alerts;
mod lifecycle;
mod log_viewer;
#[cfg(feature = "mysql")]
mod mariadb;
mod metrics_history;
mod monitor;
mod mosquitto_production;
#[cfg(feature = "mysql")]
mod mover;
mod operations;
mod publisher;
mod rest;
mod support;
mod tcp;
mod tls;
mod websocket;
