//! The rules of the house, pure: no actor, no database, no clock, no I/O.
//!
//! Every type here is proof of what it says: an [`Amount`] is positive, an [`AccountId`] is one to
//! twenty digits, a [`Slug`] cannot escape its topic level. Past the edge nothing is a bare string.

pub mod access;
pub mod account;
pub mod alert;
pub mod amount;
pub mod command;
pub mod device;
pub mod journal;
pub mod legacy;
pub mod moving;
pub mod name;
pub mod password;
pub mod registry;
pub mod rule;
pub mod second_factor;
pub mod token;
pub mod validation;

pub use access::{
    Action, CompanyRef, Counter, Denied, Grant, Identity, Principal, Reach, Resource, Role, Scope,
    authorize, counter, counters,
};
pub use account::{
    Account, AccountId, CedulaCheck, Posting, PostingKind, Rejection, masked_text, transfer,
};
pub use alert::{
    AlertChange, AlertContent, AlertState, DeviceCommand, MessageRef, Priority, RuleRef,
};
pub use amount::{Amount, AmountError, Money};
pub use command::{Command, Decision, Order, Outcome};
pub use device::{Algorithm, DeviceAddress, KeyMaterial, Novelty, SequenceWindow};
pub use journal::{
    AccessEvent, AccessFact, AccessTexts, AccountRef, AlertStep, Channel, Counterparty, Cursor,
    Entry, Fact, KeyDigest, KeyRecord, Movement, Position, Refusal, StepTexts, Subject,
};
pub use name::{IdempotencyKey, Label, PersonName, Prose, Slug, TextError};
pub use registry::Registry;
pub use rule::{Plan, Rule};
