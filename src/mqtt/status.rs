//! What devices say of themselves on `…/estado`. Unsigned, so it is shown and decides nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What a device last said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Whether it said that it is there.
    pub online: bool,
    /// When it was heard, in microseconds since 1970 UTC.
    pub at: i64,
}

/// The statuses of registered devices by their rows, so it is as large as the registry. The broker
/// retains them, so they need no database.
#[derive(Debug, Default)]
pub struct StatusBoard(Mutex<HashMap<i64, Status>>);

impl StatusBoard {
    /// Notes what a device says. The same again keeps the moment of the first time.
    pub fn set(&self, device: i64, online: bool, at: i64) {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let status = board.entry(device).or_insert(Status { online, at });
        if status.online != online {
            *status = Status { online, at };
        }
    }

    /// What a device last said.
    #[must_use]
    pub fn get(&self, device: i64) -> Option<Status> {
        let board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.get(&device).copied()
    }

    /// How many say that they are there.
    #[must_use]
    pub fn online(&self) -> usize {
        let board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.values().filter(|status| status.online).count()
    }
}
