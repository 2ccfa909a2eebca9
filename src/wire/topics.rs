//! The topics of the bank and of Atalaya itself.

use crate::domain::{AccountId, DeviceAddress, Slug};

/// Every deposit and withdrawal.
pub const TRANSACTIONS: &str = "banco/transacciones";
/// Every deposit.
pub const DEPOSITS: &str = "banco/depositos";
/// Every withdrawal.
pub const WITHDRAWALS: &str = "banco/retiros";
/// Every transfer, once.
pub const TRANSFERS: &str = "banco/transferencias";
/// Withdrawals that left little.
pub const ALERTS: &str = "banco/alertas";
/// Statistics, retained.
pub const STATISTICS: &str = "banco/estadisticas";
/// Whether Atalaya is there, retained.
pub const PRESENCE: &str = "atalaya/estado";
const RETAINED_MARKER: &str = "atalaya/retenidos";
/// What every balance topic starts with.
const BALANCE_PREFIX: &str = "banco/saldo/";

/// Up to where retained balances of a lane's accounts are known to be right, retained: where there
/// is one lane, `atalaya/retenidos`.
#[must_use]
pub fn retained_marker(lane: i32) -> String {
    match lane {
        0 => RETAINED_MARKER.to_owned(),
        lane => format!("{RETAINED_MARKER}/{lane}"),
    }
}

/// The retained balance of one account.
#[must_use]
pub fn balance(account: &AccountId) -> String {
    format!("{BALANCE_PREFIX}{account}")
}

/// The account whose balance `topic` names, if it is such a topic.
#[must_use]
pub fn account_of(topic: &str) -> Option<AccountId> {
    AccountId::parse(topic.strip_prefix(BALANCE_PREFIX)?).ok()
}

/// What every topic of devices and alerts starts with.
const COMPANIES: &str = "empresas/";

/// Alerts of every device.
pub const EVERY_ALERT: &str = "empresas/+/+/+/alerta";
/// What every device says of itself.
pub const EVERY_STATUS: &str = "empresas/+/+/+/estado";

/// The alerts of a device.
#[must_use]
pub fn alert(device: &DeviceAddress) -> String {
    format!("{COMPANIES}{device}/alerta")
}

/// What a device says of itself.
#[must_use]
pub fn status(device: &DeviceAddress) -> String {
    format!("{COMPANIES}{device}/estado")
}

/// The answers to a device.
#[must_use]
pub fn reply(device: &DeviceAddress) -> String {
    format!("{COMPANIES}{device}/respuesta")
}

/// The orders to a device.
#[must_use]
pub fn command(device: &DeviceAddress) -> String {
    format!("{COMPANIES}{device}/comando")
}

/// Each change in the life of a company's alerts.
#[must_use]
pub fn company_alerts(company: &Slug) -> String {
    format!("{COMPANIES}{company}/alertas")
}

/// What a device says on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceTopic {
    /// `…/alerta`.
    Alert(DeviceAddress),
    /// `…/estado`.
    Status(DeviceAddress),
}

/// The device that a topic belongs to, and what is said there; `None` for any other topic.
#[must_use]
pub fn device_topic(topic: &str) -> Option<DeviceTopic> {
    let (address, last) = topic.strip_prefix(COMPANIES)?.rsplit_once('/')?;
    let address = address.parse().ok()?;
    match last {
        "alerta" => Some(DeviceTopic::Alert(address)),
        "estado" => Some(DeviceTopic::Status(address)),
        _ => None,
    }
}

/// The company whose events an MQTT filter under `empresas/` asks for, if it names one.
#[must_use]
pub fn company_of(filter: &str) -> Option<Slug> {
    let company = filter.strip_prefix(COMPANIES)?.split('/').next()?;
    Slug::parse(company).ok()
}

/// Whether a filter can match nothing but topics of devices and alerts.
#[must_use]
pub fn is_of_companies(filter: &str) -> bool {
    filter.starts_with(COMPANIES)
}

/// Whether a filter can match nothing but topics of the bank.
#[must_use]
pub fn is_of_bank(filter: &str) -> bool {
    filter.starts_with("banco/")
}

/// Whether a filter can match nothing but what Atalaya says of itself.
#[must_use]
pub fn is_of_atalaya(filter: &str) -> bool {
    filter.starts_with("atalaya/")
}

/// Whether only Atalaya may publish on `topic`.
#[must_use]
pub fn is_reserved(topic: &str) -> bool {
    let answers_a_device = topic.starts_with(COMPANIES)
        && (topic.ends_with("/respuesta") || topic.ends_with("/comando"));
    let first = topic.split('/').next().unwrap_or_default();
    let company_alerts = topic
        .strip_prefix(COMPANIES)
        .and_then(|rest| rest.split_once('/'))
        .is_some_and(|(_, rest)| rest == "alertas");
    matches!(first, "banco" | "atalaya") || answers_a_device || company_alerts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_atalaya_may_publish() {
        for topic in [
            "banco/depositos",
            "banco",
            "atalaya/estado",
            "empresas/a/b/c/respuesta",
            "empresas/a/b/c/comando",
            "empresas/a/alertas",
        ] {
            assert!(is_reserved(topic), "{topic}");
        }
        for topic in [
            "empresas/a/b/c/alerta",
            "empresas/a/b/c/estado",
            "bancos/x",
            "casa/luz",
        ] {
            assert!(!is_reserved(topic), "{topic}");
        }
    }

    #[test]
    fn a_topic_of_a_device_names_it() {
        let device: DeviceAddress = "banco/norte/boton-1".parse().unwrap();
        assert_eq!(
            device_topic("empresas/banco/norte/boton-1/alerta"),
            Some(DeviceTopic::Alert(device.clone()))
        );
        assert_eq!(
            device_topic("empresas/banco/norte/boton-1/estado"),
            Some(DeviceTopic::Status(device.clone()))
        );
        for topic in [
            "empresas/banco/norte/boton-1/respuesta",
            "empresas/banco/norte/alerta",
            "empresas/banco/norte/boton-1/x/alerta",
            "empresas/banco/no rte/boton-1/alerta",
            "empresas/banco/norte//alerta",
            "alerta",
        ] {
            assert_eq!(device_topic(topic), None, "{topic}");
        }
        assert!(is_reserved(&reply(&device)) && is_reserved(&command(&device)));
        assert!(is_reserved(&company_alerts(&device.company)));
        assert_eq!(company_of("empresas/banco/#"), Some(device.company));
        assert_eq!(company_of("empresas/+/alertas"), None);
    }

    #[test]
    fn a_balance_topic_names_its_account() {
        let id = AccountId::parse("1350509525").unwrap();
        assert_eq!(account_of(&balance(&id)), Some(id));
        assert_eq!(account_of("banco/saldo/+"), None);
    }
}
