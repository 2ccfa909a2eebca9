//! What of the events a session may see.

use crate::domain::{AccountId, Action, Denied, Entry, Fact, Identity, Reach, Resource, authorize};
use crate::wire::topics;

/// What somebody may see of all events. Taken when they subscribe; a session whose grants change is
/// ended, so it never outlives them.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    accounts: Option<Reach>,
    alerts: Option<Reach>,
    statistics: bool,
}

impl Sight {
    /// What `identity` may see.
    #[must_use]
    pub fn of(identity: &Identity) -> Self {
        let reach = |action| authorize(identity, action, Resource::Any).ok();
        Self {
            accounts: reach(Action::ReadAccount),
            alerts: reach(Action::ReadAlerts),
            statistics: reach(Action::ReadStatistics).is_some(),
        }
    }

    /// Whether an event on `topic`, made from `entry`, is within it. What comes from no entry is
    /// about the installation.
    #[must_use]
    pub fn sees(&self, topic: &str, entry: Option<&Entry>) -> bool {
        if topic == topics::STATISTICS {
            return self.statistics;
        }
        if topics::is_of_companies(topic) {
            return self.sees_company(topic);
        }
        if topics::is_of_bank(topic) {
            return entry.is_some_and(|entry| self.sees_money(topic, entry));
        }
        true
    }

    fn sees_company(&self, topic: &str) -> bool {
        match &self.alerts {
            None | Some(Reach::Accounts(_)) => false,
            Some(Reach::All) => true,
            Some(Reach::Companies(own)) => topics::company_of(topic)
                .is_some_and(|company| own.iter().any(|one| one.slug == company)),
        }
    }

    fn sees_money(&self, topic: &str, entry: &Entry) -> bool {
        let Some(reach) = &self.accounts else {
            return false;
        };
        let Fact::Posted(movement) = &entry.fact else {
            return false;
        };
        // A transfer tells the balance of both sides, so an account's holder sees neither event of
        // it but the one about their own balance.
        if topic == topics::TRANSFERS {
            return reach.has_company(entry.company);
        }
        let about = topics::account_of(topic);
        self.sees_account(
            about.as_ref().unwrap_or(&movement.account.id),
            entry.company,
        )
    }

    /// Whether the balance of `account`, which belongs to the company with this row, is within it.
    #[must_use]
    pub fn sees_account(&self, account: &AccountId, company: i64) -> bool {
        self.accounts
            .as_ref()
            .is_some_and(|reach| reach.has_account(account, company))
    }

    /// Within what accounts are seen.
    #[must_use]
    pub fn accounts(&self) -> Option<&Reach> {
        self.accounts.as_ref()
    }
}

/// Whether `identity` may subscribe to a valid MQTT filter at all; which of its events they get is
/// decided event by event. What names a single account or company is refused whether or not it
/// exists.
///
/// # Errors
/// [`Denied`].
pub fn may_subscribe(identity: &Identity, filter: &str) -> Result<(), Denied> {
    let ask = |action, resource: Resource<'_>| authorize(identity, action, resource).map(drop);
    let any = |action| ask(action, Resource::Any);
    if filter == topics::STATISTICS {
        return any(Action::ReadStatistics);
    }
    if topics::is_of_companies(filter) {
        return match topics::company_of(filter) {
            Some(company) => ask(Action::ReadAlerts, Resource::Company(&company)),
            None => any(Action::ReadAlerts),
        };
    }
    if let Some(account) = topics::account_of(filter) {
        return ask(Action::ReadAccount, Resource::Account(&account));
    }
    if topics::is_of_bank(filter) {
        return any(Action::ReadAccount).or_else(|_| any(Action::ReadStatistics));
    }
    // Presence, or a filter such as `#`, of which each sees their own part.
    [
        Action::ReadAccount,
        Action::ReadAlerts,
        Action::ReadStatistics,
    ]
    .into_iter()
    .map(any)
    .find(Result::is_ok)
    .unwrap_or_else(|| any(Action::ReadStatistics))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Grant, Principal, Role, Scope};

    fn customer() -> Identity {
        let own = AccountId::parse("1350509525").unwrap();
        Identity {
            principal: Principal::Subject {
                row: 16,
                name: "1350509525".into(),
            },
            grants: vec![Grant::new(Role::Customer, Scope::Account(own)).unwrap()],
            must_change: false,
        }
    }

    #[test]
    fn a_customer_subscribes_to_their_own_balance_alone() {
        let customer = customer();
        assert_eq!(may_subscribe(&customer, "banco/saldo/1350509525"), Ok(()));
        let other = may_subscribe(&customer, "banco/saldo/1315151515");
        assert_eq!(other, Err(Denied::NotHere));
        assert_eq!(may_subscribe(&customer, "banco/saldo/#"), Ok(()));
        assert_eq!(may_subscribe(&customer, "empresas/#"), Err(Denied::Never));
        let statistics = may_subscribe(&customer, "banco/estadisticas");
        assert_eq!(statistics, Err(Denied::Never));
        let sight = Sight::of(&customer);
        assert!(!sight.sees("banco/estadisticas", None));
        assert!(!sight.sees("empresas/banco/alertas", None));
        assert!(sight.sees("atalaya/estado", None));
    }
}
