//! MQTT: one connection to a broker, the bookkeeping of delivery, and the embedded broker.

pub mod broker;
pub mod connection;
pub mod delivery;
#[cfg(feature = "embedded-broker")]
pub mod embedded;
pub mod people;
pub mod status;
pub mod subscription;
