//! Sessions: one actor a connection.

pub mod sight;
pub mod socketio;
pub mod tcp;
mod upgrade;
pub mod websocket;

use std::sync::atomic::{AtomicU64, Ordering};

/// The next session's name, unique in this process.
pub(crate) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
