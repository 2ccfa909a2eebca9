//! Atalaya: wip.
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod instruments;
pub mod storage;
pub mod wire;
