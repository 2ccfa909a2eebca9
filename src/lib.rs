//! Atalaya (watchtower): one service for the money and the alarms of organisations with many
//! sites.
//!
//! # The flow of messages
//!
//! ```text
//!        REST         WebSocket    TCP :5000           MQTT broker
//!          |              |            |                    |
//!    http handlers    WsSession   TcpSession           MqttIntake     edges: bytes <-> commands
//!           \             |           /                     |
//!            +--------- Desk -----------+-------+          |          parse, authorise, ask
//!                        |                      |          |
//!                  AccountActor              AlertValidator           money; proof of identity
//!                        |                      |
//!                        +--- storage::Writer --+                     a thread a lane: group commit
//!                                |  one transaction: journal rows + the state they imply
//!                          storage::Feed                              what is committed
//!              /           |          \           \
//!   MqttPublisher     Statistics   SessionHub    AlertLog             each keeps its position
//!         |                |          |
//!      broker              +------ sessions      MetricsActor samples all, AlertWatch looks
//!                                                after what is due
//! ```
//!
//! Requests travel down and are answered with the result of `send`; what has been committed
//! travels on through the feed. Nothing downstream holds the address of anything upstream.
//!
//! # A device's message
//!
//! `MqttIntake` (or a handler) hands it to `AlertValidator`, which takes it to pieces
//! ([`wire::jws`]), asks [`domain::validation`] who it says it is, throttles, and has the signature
//! checked and the rules planned on as many threads as there are processors. The writer's hub
//! ([`storage::hub`]) looks at the sequence window and commits the alert, its use of the number and
//! its place in the journal together. The answer to the device, the orders to other hardware and
//! the news for people are computed from that entry of the journal ([`wire::alerts`]), so they
//! survive whatever happens next. Only then is the message acknowledged to the broker.
//! A device that cannot sign, and for which the broker vouches, sends the claims alone; they have no
//! signature to check and are judged alike. A device from before Atalaya shows a secret for a token
//! ([`actors::legacy_gate`]) and the token with each alert, in words of its own
//! ([`wire::bridge_alerts`]); from there on it is an alert like any other.
//!
//! Devices and web front ends from before Atalaya come in by `http::bridge`, terminals by [`tcp`]; what
//! they ask is asked of the same desk.
//!
//! # Lanes
//!
//! A file has one writer lane. On a server of databases accounts are dealt out among several by their
//! cédula, for ever; each has a thread, a connection, a journal with its own chain, a feed and a publisher.
//! Whoever writes to a lane holds its room ([`storage::writer`]); a transfer between two lanes holds both, in
//! their order, and is one transaction with a row in each journal. What belongs to no account (alerts,
//! settings, access) is in lane 0. Whoever follows keeps a position in each.
//!
//! # The rooms
//!
//! | module | what is there |
//! | --- | --- |
//! | [`domain`] | what must hold, pure: money, accounts, devices, alerts, rules, journal entries, access |
//! | [`wire`] | the contract, a leaf: topics, payloads, requests, signed messages, frames, problems |
//! | [`storage`] | the journal, group commit, the alert hub's state, idempotency keys, queries, the feed |
//! | [`actors`] | one actor a file, its messages above its handlers |
//! | [`mqtt`] | one connection that publishes, one that listens, the bookkeeping of delivery, the embedded broker |
//! | [`desk`] | where every edge hands in what its clients ask |
//! | [`http`] | the routes on one page, one file a resource |
//! | [`tcp`] | the port of tellers' terminals: who is let in, and where their bytes go |
//! | [`cli`] | one file a subcommand; `cli::import` brings in movements from CSV, or a whole bank ([`domain::moving`], [`storage::moving`]) |
//! | [`application`] | what is started in which order, and drained in the reverse |
//! | [`log_files`] | what [`logging`] has written, read again in pages |
//! | `static/` | the page: plain ES modules, embedded by [`http`] |
//! | [`config`] | every setting, with its default and its reason |
//! | [`trusted`] | who is let in for their address alone |
//! | [`contained`] | where a panic of a library is an error and not the end |
//!
//! # What always holds
//!
//! 1. A reply of success means: on disk, in one commit, with its place in the journal, its link of
//!    the chain and its idempotency key.
//! 2. No balance below zero; for each account the balance is the sum of its postings, of which only
//!    moving in from another system makes adjustments.
//! 3. A lane's journal has no gaps, and its order is the order of commits. Each account's versions have
//!    no gaps either.
//! 4. The outbox cursor passes only entries all of whose messages the broker has acknowledged.
//! 5. No identity, no effect: what does not prove who sent it makes no alert, uses no number and
//!    drives nothing.
//! 6. A device's message is in the database once, and is answered with what it made, however often
//!    it comes.
//! 7. No queue without a bound, no wait without a deadline, no float near money.

pub mod actors;
pub mod application;
pub mod cli;
pub mod clock;
pub mod config;
pub mod contained;
pub mod desk;
pub mod domain;
pub mod first_run;
pub mod http;
pub mod instruments;
pub mod limits;
pub mod log_files;
pub mod logging;
pub mod mqtt;
pub mod network;
pub mod origin;
pub mod storage;
pub mod tcp;
pub mod tls;
pub mod trusted;
pub mod wire;
