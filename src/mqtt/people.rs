//! People and their programs at the embedded broker: they sign in with a token, and listen.
//!
//! A broker hands on whatever matches a filter, so a filter is granted only where all that can
//! match it may be seen. Whoever may see a part of it (a teller, whose accounts are those of a
//! company) listens over WebSocket, where each event is looked at.

use super::broker::{Admission, PeopleGate};
use crate::clock::Clock;
use crate::domain::token::Token;
use crate::domain::{Action, Identity, Reach, Resource, authorize};
use crate::storage::AccessView;
use crate::storage::access::Standing;
use crate::wire::alerts::hex;
use crate::wire::topics;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The user of whoever signs in with a token and has no name to give.
pub const ANY_USER: &str = "token";

/// Tokens that are remembered from when they were shown; those that are over make room.
const REMEMBERED: usize = 10_000;

/// The gate of people: a token as the password, and the name of its owner, or `token`, as the user.
pub struct TokenGate {
    access: Arc<AccessView>,
    clock: Clock,
    /// Who came in with which token, to see whether they still may, as the same.
    inside: Mutex<HashMap<[u8; 32], Standing>>,
}

impl TokenGate {
    /// A gate that goes by `access`.
    #[must_use]
    pub fn new(access: Arc<AccessView>, clock: Clock) -> Self {
        Self {
            access,
            clock,
            inside: Mutex::default(),
        }
    }

    fn inside(&self) -> MutexGuard<'_, HashMap<[u8; 32], Standing>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stands(&self, standing: &Standing) -> bool {
        self.access.stands(standing, self.clock.now(), true)
    }
}

impl PeopleGate for TokenGate {
    fn authenticate(&self, user: &str, password: &[u8]) -> Option<Admission> {
        let token = Token::parse(std::str::from_utf8(password).ok()?).ok()?;
        let standing = self.access.identify(&token, self.clock.now())?;
        let subject = &standing.subject;
        let is_named = user == subject.username.as_str() || user == ANY_USER;
        if !is_named || subject.identity.must_change {
            return None;
        }
        let admission = Admission {
            user: format!("{}/{}", subject.row, extent(&subject.identity)),
            grant: standing.pass.digest,
        };
        let mut inside = self.inside();
        if inside.len() >= REMEMBERED {
            // To be remembered is no use of a session.
            let now = self.clock.now();
            inside.retain(|_, known| self.access.stands(known, now, false));
        }
        match inside.get(&admission.grant) {
            // Somebody came in with this token and may do something else since: they are about to
            // be disconnected, and must not be taken for who comes now.
            Some(known) if !self.stands(known) => {
                inside.remove(&admission.grant);
                return None;
            }
            Some(_) => {}
            None if inside.len() >= REMEMBERED => return None,
            None => {
                inside.insert(admission.grant, standing);
            }
        }
        Some(admission)
    }

    fn still_admits(&self, admission: &Admission) -> bool {
        let known = self.inside().get(&admission.grant).cloned();
        known.is_some_and(|known| self.stands(&known))
    }

    fn may_subscribe(&self, person: &str, filter: &str) -> bool {
        let row = person.split('/').next().and_then(|row| row.parse().ok());
        let subject = row.and_then(|row| self.access.subject(row));
        subject.is_some_and(|subject| subject.active && sees_all_of(&subject.identity, filter))
    }
}

/// Names what somebody may do: a session that the broker has kept for them while they were away is
/// theirs only as long as that is the same.
fn extent(identity: &Identity) -> String {
    let digest = Sha256::digest(format!("{:?}", identity.grants).as_bytes());
    hex(digest.get(..8).unwrap_or_default())
}

/// Whether `identity` may see whatever can match `filter`.
fn sees_all_of(identity: &Identity, filter: &str) -> bool {
    let reach = |action, resource: Resource<'_>| authorize(identity, action, resource).ok();
    let all = |action| reach(action, Resource::Any) == Some(Reach::All);
    if filter == topics::STATISTICS {
        return reach(Action::ReadStatistics, Resource::Any).is_some();
    }
    if topics::is_of_atalaya(filter) {
        return identity.is_somebody() && !identity.must_change;
    }
    if topics::is_of_companies(filter) {
        return match topics::company_of(filter) {
            Some(company) => reach(Action::ReadAlerts, Resource::Company(&company)).is_some(),
            None => all(Action::ReadAlerts),
        };
    }
    if let Some(account) = topics::account_of(filter) {
        // Which company an account belongs to is not known here.
        let reach = reach(Action::ReadAccount, Resource::Account(&account));
        return matches!(reach, Some(Reach::All | Reach::Accounts(_)));
    }
    if topics::is_of_bank(filter) {
        return all(Action::ReadAccount);
    }
    all(Action::ReadAccount) && all(Action::ReadAlerts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AccountId, CompanyRef, Grant, Principal, Role, Scope, Slug};

    fn identity(role: Role, scope: Scope) -> Identity {
        Identity {
            principal: Principal::Subject {
                row: 16,
                name: "ana".into(),
            },
            grants: vec![Grant::new(role, scope).unwrap()],
            must_change: false,
        }
    }

    #[test]
    fn a_filter_is_granted_where_all_of_it_may_be_seen() {
        let banco = CompanyRef {
            row: 1,
            slug: Slug::parse("banco").unwrap(),
        };
        let own = AccountId::parse("1350509525").unwrap();
        let people = [
            identity(Role::Auditor, Scope::Everything),
            identity(Role::Auditor, Scope::Company(banco.clone())),
            identity(Role::Operator, Scope::Company(banco.clone())),
            identity(Role::Teller, Scope::Company(banco)),
            identity(Role::Customer, Scope::Account(own)),
            identity(Role::Admin, Scope::Everything),
        ];
        for (filter, expected) in [
            ("#", [true, false, false, false, false, false]),
            (
                "+/saldo/1350509525",
                [true, false, false, false, false, false],
            ),
            ("banco/#", [true, false, false, false, false, false]),
            ("banco/saldo/+", [true, false, false, false, false, false]),
            (
                "banco/saldo/1350509525",
                [true, false, false, false, true, false],
            ),
            (
                "banco/saldo/1315151515",
                [true, false, false, false, false, false],
            ),
            ("banco/estadisticas", [true, true, true, true, false, true]),
            (
                "empresas/banco/alertas",
                [true, true, true, false, false, false],
            ),
            ("empresas/banco/#", [true, true, true, false, false, false]),
            ("empresas/otra/#", [true, false, false, false, false, false]),
            (
                "empresas/+/alertas",
                [true, false, false, false, false, false],
            ),
            ("atalaya/estado", [true; 6]),
        ] {
            let seen: Vec<bool> = people.iter().map(|who| sees_all_of(who, filter)).collect();
            assert_eq!(seen, expected, "{filter}");
        }
        assert!(!sees_all_of(&Identity::nobody(), "atalaya/estado"));
    }
}
