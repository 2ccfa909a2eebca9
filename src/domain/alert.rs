//! An alert and the steps of its life.

use super::name::Slug;
use super::registry::Trust;
use std::sync::Arc;

/// How urgent (`prioridad`), the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// `critica`.
    Critical,
    /// `alta`.
    High,
    /// `media`.
    Medium,
    /// `baja`.
    Low,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Medium, Self::Low];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critica",
            Self::High => "alta",
            Self::Medium => "media",
            Self::Low => "baja",
        }
    }

    /// The priority called `name`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }
}

/// Where an alert stands (`estado`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AlertState {
    /// `NUEVA`: nobody has said that they have seen it.
    New,
    /// `RECONOCIDA`: somebody is on it.
    Acknowledged,
    /// `RESUELTA`: it is over.
    Resolved,
    /// `DESCARTADA`: it was a false alarm.
    Discarded,
}

impl AlertState {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::New,
        Self::Acknowledged,
        Self::Resolved,
        Self::Discarded,
    ];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "NUEVA",
            Self::Acknowledged => "RECONOCIDA",
            Self::Resolved => "RESUELTA",
            Self::Discarded => "DESCARTADA",
        }
    }

    /// The state called `name`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether it is not over yet.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::New | Self::Acknowledged)
    }
}

/// What happened to an alert (`cambio`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AlertChange {
    /// `CREADA`.
    Raised,
    /// `REPETIDA`: the same kind from the same device again, which raised its count.
    Repeated,
    /// `RECONOCIDA`.
    Acknowledged,
    /// `RESUELTA`.
    Resolved,
    /// `DESCARTADA`.
    Discarded,
    /// `ESCALADA`: nobody has acknowledged it in its kind's time.
    Escalated,
}

/// A step that an alert does not take where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an alert that is {} does not take this step", .state.name())]
pub struct WrongStep {
    /// Where it stands.
    pub state: AlertState,
}

impl AlertChange {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Raised,
        Self::Repeated,
        Self::Acknowledged,
        Self::Resolved,
        Self::Discarded,
        Self::Escalated,
    ];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raised => "CREADA",
            Self::Repeated => "REPETIDA",
            Self::Acknowledged => "RECONOCIDA",
            Self::Resolved => "RESUELTA",
            Self::Discarded => "DESCARTADA",
            Self::Escalated => "ESCALADA",
        }
    }

    /// Where an alert stands after this change, `None` where it stands there already. It may be
    /// resolved or discarded by whoever sees it first, acknowledged or not.
    ///
    /// # Errors
    /// [`WrongStep`].
    pub const fn apply(self, state: AlertState) -> Result<Option<AlertState>, WrongStep> {
        use AlertState::{Acknowledged, Discarded, New, Resolved};
        match (self, state) {
            (Self::Acknowledged, New) => Ok(Some(Acknowledged)),
            (Self::Resolved, New | Acknowledged) => Ok(Some(Resolved)),
            (Self::Discarded, New | Acknowledged) => Ok(Some(Discarded)),
            (Self::Acknowledged, Acknowledged)
            | (Self::Resolved, Resolved)
            | (Self::Discarded, Discarded) => Ok(None),
            (Self::Escalated, New) => Ok(Some(New)),
            (Self::Repeated, state) => Ok(Some(state)),
            (
                Self::Raised
                | Self::Acknowledged
                | Self::Resolved
                | Self::Discarded
                | Self::Escalated,
                _,
            ) => Err(WrongStep { state }),
        }
    }
}

/// What a device or an operator says about an alert. The texts are JSON or for people, bounded by
/// the size of the message they came in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlertContent {
    /// In words (`descripcion`).
    pub description: Option<String>,
    /// Where: a JSON object (`ubicacion`).
    pub location: Option<String>,
    /// Anything else: a JSON object (`datos`).
    pub data: Option<String>,
}

impl AlertContent {
    /// Whether nothing is said.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.description.is_none() && self.location.is_none() && self.data.is_none()
    }
}

/// Which version of which rule was the reason for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleRef {
    /// The rule.
    pub id: i64,
    /// Its version; the first is 1.
    pub version: i64,
}

/// An order to a device of the site (`comando`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCommand {
    /// The device, at the site of the alert.
    pub device: Slug,
    /// What it is to do: a JSON object. `None` tells it that all is normal again.
    pub payload: Option<Arc<str>>,
    /// The rule that wants it; `None` where it only follows from the end of an alert.
    pub rule: Option<RuleRef>,
    /// The kind and priority that it goes with.
    pub kind: Slug,
    /// See `kind`.
    pub priority: Priority,
    /// The alert that it belongs to, where it is not the one of the step: when one alert ends and
    /// another still wants the device, the device is told of the other.
    pub alert: Option<uuid::Uuid>,
    /// Whether it is not given for now, since a more urgent alert has the device.
    pub held: bool,
}

/// The message of a device that made a step: what is answered to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRef {
    /// Under which key (`kid`).
    pub key: Slug,
    /// Its number.
    pub seq: u64,
    /// SHA-256 of the message as it arrived (`huella`).
    pub digest: [u8; 32],
    /// When it arrived, in microseconds since 1970 UTC.
    pub received_at: i64,
}

impl MessageRef {
    /// What proved that the message was its device's.
    #[must_use]
    pub fn trust(&self) -> Trust {
        let key = self.key.as_str();
        if key.starts_with(VOUCHED) {
            Trust::Broker
        } else if key.starts_with(LEGACY) {
            Trust::Legacy
        } else {
            Trust::Signature
        }
    }
}

/// What stands before a device's row where a message has no key; a `kid` begins otherwise.
const VOUCHED: &str = "broker-";

/// What stands for a key where the broker vouches for the device at this row.
pub(super) fn vouched_name(device: i64) -> Slug {
    Slug::numbered(VOUCHED, device)
}

/// The same where a device from before Atalaya showed its token.
const LEGACY: &str = "heredada-";

/// What stands for a key where the device at this row, one from before, showed its token.
pub(super) fn legacy_name(device: i64) -> Slug {
    Slug::numbered(LEGACY, device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_moves_forward_only() {
        use AlertState::{Acknowledged, Discarded, New, Resolved};
        let ack = |state| AlertChange::Acknowledged.apply(state);
        assert_eq!(ack(New), Ok(Some(Acknowledged)));
        assert_eq!(ack(Acknowledged), Ok(None));
        assert_eq!(ack(Resolved), Err(WrongStep { state: Resolved }));
        let resolve = |state| AlertChange::Resolved.apply(state);
        assert_eq!(resolve(New), Ok(Some(Resolved)));
        assert_eq!(resolve(Acknowledged), Ok(Some(Resolved)));
        assert_eq!(resolve(Resolved), Ok(None));
        assert_eq!(resolve(Discarded), Err(WrongStep { state: Discarded }));
        assert!(AlertChange::Escalated.apply(Acknowledged).is_err());
        assert!(AlertChange::Raised.apply(New).is_err());
    }

    #[test]
    fn names_are_unique_and_read_back() {
        for priority in Priority::ALL {
            assert_eq!(Priority::parse(priority.name()), Some(priority));
        }
        for state in AlertState::ALL {
            assert_eq!(AlertState::parse(state.name()), Some(state));
        }
    }

    #[test]
    fn the_most_urgent_comes_first() {
        assert!(Priority::Critical < Priority::Low);
    }
}
