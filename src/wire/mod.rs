//! The wire contract, a leaf: topics, payloads, requests and frames.
//!
//! It speaks Spanish, because its clients do. Nothing here decides anything; names, field orders
//! and retain flags are the clients' and change on their schedule (`tests/golden` pins them).

pub mod access;
pub mod alerts;
pub mod bridge;
pub mod bridge_alerts;
pub mod events;
pub mod frames;
pub mod jws;
pub mod legacy;
pub mod line;
pub mod numbers;
pub mod problem;
pub mod registry;
pub mod requests;
pub mod resources;
pub mod rules;
pub mod socketio;
pub mod topics;

pub use events::{Event, Qos};
pub use problem::{Language, Problem, ProblemKind, Reason};
