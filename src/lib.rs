//! Atalaya (watchtower): one service for the money and the alarms of organisations with many
//! sites.
//!
//! # The flow of messages
//!
//! ```text
//!        REST            WebSocket
//!          |                 |
//!    http handlers       WsSession            edges: bytes <-> domain commands
//!           \               /
//!            +--- Desk ----+                  parse, authorise, ask, answer: once
//!                   |
//!             AccountActor                    the right to change balances
//!                   |
//!             storage::Writer                 one thread: group commit
//!                   |  one transaction: journal rows + the state they imply
//!             storage::Feed                   what is committed, for whoever follows
//!              /    |     \        \
//!   MqttPublisher   |   SessionHub  AlertLog  each keeps a position of its own
//!         |         |       |
//!      broker   Statistics  sessions          MetricsActor samples all of them
//! ```
//!
//! Requests travel down and are answered with the result of `send`; what has been committed
//! travels on through the feed. Nothing downstream holds the address of anything upstream.
//!
//! # The rooms
//!
//! | module | what is there |
//! | --- | --- |
//! | [`domain`] | the rules, pure: amounts, accounts, names, commands, journal entries, access |
//! | [`wire`] | the contract, a leaf: topics, payloads, requests, frames, problems |
//! | [`storage`] | the journal, group commit, idempotency keys, queries, the feed |
//! | [`actors`] | one actor a file, its messages above its handlers |
//! | [`mqtt`] | one connection to a broker, the bookkeeping of delivery, the embedded broker |
//! | [`desk`] | where every edge hands in what its clients ask |
//! | [`http`] | the routes on one page, one file a resource |
//! | [`cli`] | one file a subcommand |
//! | [`application`] | what is started in which order, and drained in the reverse |
//! | [`config`] | every setting, with its default and its reason |
//! | [`contained`] | where a panic of a library is an error and not the end |
//!
//! # What always holds
//!
//! 1. A reply of success means: on disk, in one commit, with its place in the journal, its link of
//!    the chain and its idempotency key.
//! 2. No balance below zero; for each account the balance is the sum of its postings.
//! 3. The journal has no gaps, and its order is the order of commits. Each account's versions have
//!    no gaps either.
//! 4. The outbox cursor passes only entries all of whose messages the broker has acknowledged.
//! 5. No queue without a bound, no wait without a deadline, no float near money.

pub mod actors;
pub mod application;
pub mod cli;
pub mod clock;
pub mod config;
pub mod contained;
pub mod desk;
pub mod domain;
pub mod http;
pub mod instruments;
pub mod logging;
pub mod mqtt;
pub mod origin;
pub mod storage;
pub mod wire;
