//! What the counter asks beside money: who has an account, and where one works.

use super::alerts::{limit, page};
use super::{Answer, Caller, Desk, Failure, allow, invalid_parameter, reply};
use crate::domain::{AccountId, Action, Counter, Resource, counters};
use crate::storage::alert_queries;
use crate::storage::queries::{self, AccountView};
use crate::wire::numbers::{Decimal, Moment};
use crate::wire::resources::{AccountResource, CounterResource, Page};
use std::collections::HashMap;

/// The longest text that accounts are looked for by, in characters.
const LONGEST: usize = 60;

impl Desk {
    /// Finds accounts by the beginning of the cédula or by parts of the names, in the order of
    /// cédulas. All of them where nothing is looked for.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn find_accounts(
        &self,
        caller: &Caller,
        text: &str,
        limit_text: &str,
        cursor: &str,
    ) -> Answer {
        let within = allow(caller, Action::ReadAccount, Resource::Any)?;
        let limit = limit(limit_text)?;
        let after = optional_account(cursor)?;
        let text = sought(text)?;
        let found = self
            .read(move |c| queries::search_accounts(c, &within, &text, after.as_ref(), limit + 1))
            .await?;
        let last = |account: &AccountView| account.id.clone();
        reply(&page(found, limit, last, account_resource))
    }

    /// The counters where the caller may move money, and whether withdrawals are frozen there.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn list_counters(&self, caller: &Caller) -> Answer {
        allow(caller, Action::MoveMoney, Resource::Any)?;
        let own = counters(&caller.identity, Action::MoveMoney);
        let frozen = self.read(alert_queries::frozen_sites).await?;
        let frozen: HashMap<i64, i64> = frozen.into_iter().collect();
        let registry = self.parts.view.registry();
        let is_own = |company: i64, site: &crate::domain::Slug| {
            own.iter().any(|counter: &Counter| {
                counter.company.row == company
                    && counter.site.as_ref().is_none_or(|own| own == site)
            })
        };
        let mut datos: Vec<CounterResource> = registry
            .sites()
            .filter(|site| is_own(site.company, &site.slug))
            .filter_map(|site| {
                let since = frozen.get(&site.row).copied();
                Some(CounterResource {
                    empresa: registry.company_at(site.company)?.slug.to_string(),
                    sede: site.slug.to_string(),
                    nombre: site.name.to_string(),
                    retiros_congelados: since.is_some(),
                    congelados_desde: since.map(Moment),
                })
            })
            .collect();
        datos.sort_by(|a, b| (&a.empresa, &a.sede).cmp(&(&b.empresa, &b.sede)));
        reply(&Page {
            datos,
            siguiente: None,
        })
    }
}

pub(super) fn account_resource(view: AccountView) -> AccountResource {
    AccountResource {
        cedula: view.id.to_string(),
        nombres: view.given_names,
        apellidos: view.surnames,
        saldo: Decimal(view.balance),
        version: view.version,
    }
}

fn optional_account(text: &str) -> Result<Option<AccountId>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    AccountId::parse(text)
        .map(Some)
        .map_err(|_| invalid_parameter(("cursor: no es uno nuestro", "cursor: not one of ours")))
}

fn sought(text: &str) -> Result<String, Failure> {
    if text.chars().count() > LONGEST {
        return Err(invalid_parameter((
            "buscar: hasta 60 caracteres",
            "buscar: up to 60 characters",
        )));
    }
    Ok(text.trim().to_owned())
}
