//! Atalaya: wip.
pub mod clock;
pub mod domain;
pub mod instruments;
pub mod storage;
pub mod wire;
