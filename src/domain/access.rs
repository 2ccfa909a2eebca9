//! Who may do what, decided in one place for every edge.

use super::account::AccountId;
use super::name::Slug;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Whoever reaches this installation over loopback.
    Local,
    /// Atalaya itself: the demo accounts, its own settings.
    System,
    /// A device that has proved who it is; which one stands in the fact.
    Device,
}

impl Principal {
    /// Its name on the wire (`por`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::System => "atalaya",
            Self::Device => "hardware",
        }
    }

    /// Its row in the table `principals`, which scopes idempotency keys.
    #[must_use]
    pub const fn row(self) -> i64 {
        match self {
            Self::Local => 1,
            Self::System => 2,
            Self::Device => 3,
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open an account.
    OpenAccount,
    /// Deposit to, withdraw from or transfer from an account.
    MoveMoney,
    /// Read a balance, movements or events of an account.
    ReadAccount,
    /// Read the installation's statistics.
    ReadStatistics,
    /// Hand in a message that a device has signed; its signature is what counts.
    SubmitAlert,
    /// Raise an alert on behalf of a device, or have a message checked.
    ActForDevice,
    /// Acknowledge, resolve or discard an alert.
    HandleAlert,
    /// Read alerts and their events.
    ReadAlerts,
    /// Read companies, sites, devices, kinds and rules.
    ReadRegistry,
    /// Change them.
    ChangeRegistry,
    /// Read, resubmit or delete what is in quarantine.
    HandleQuarantine,
}

/// What it is asked of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// One account.
    Account(&'a AccountId),
    /// All accounts, as in a subscription with a wildcard.
    EveryAccount,
    /// The installation as a whole.
    Installation,
    /// One company and all below it.
    Company(&'a Slug),
    /// All companies, as in a list without a filter.
    EveryCompany,
}

/// The answer is no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not allowed")]
pub struct Denied;

/// Decides whether `principal` may do `action` to `resource`. Every edge asks here and nowhere
/// else; while `Local` is the only principal from outside, it may do everything.
///
/// # Errors
/// [`Denied`] where it may not.
pub fn authorize(
    principal: Principal,
    _action: Action,
    _resource: Resource<'_>,
) -> Result<(), Denied> {
    match principal {
        Principal::Local | Principal::System => Ok(()),
        // A device raises alerts by its signature and asks for nothing.
        Principal::Device => Err(Denied),
    }
}
