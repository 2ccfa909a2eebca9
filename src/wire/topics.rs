//! The topics of the bank and of Atalaya itself.

use crate::domain::AccountId;

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
/// Up to where retained balances are known to be right, retained.
pub const RETAINED_MARKER: &str = "atalaya/retenidos";
/// What every balance topic starts with.
const BALANCE_PREFIX: &str = "banco/saldo/";

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

/// Whether only Atalaya may publish on `topic`.
#[must_use]
pub fn is_reserved(topic: &str) -> bool {
    let answers_a_device = topic.starts_with("empresas/")
        && (topic.ends_with("/respuesta") || topic.ends_with("/comando"));
    let first = topic.split('/').next().unwrap_or_default();
    let company_alerts = topic
        .strip_prefix("empresas/")
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
    fn a_balance_topic_names_its_account() {
        let id = AccountId::parse("1350509525").unwrap();
        assert_eq!(account_of(&balance(&id)), Some(id));
        assert_eq!(account_of("banco/saldo/+"), None);
    }
}
