//! Who may do what, decided in one place for every edge.
//!
//! A person or a program holds grants: a role within a scope. What no grant permits is denied. The
//! roles are the platform's (`admin`), the watch's (`operador`), the counter's (`cajero`), the
//! account holder's (`cliente`) and the inspector's (`auditor`).

use super::account::AccountId;
use super::name::Slug;
use std::borrow::Cow;
use std::sync::Arc;

/// Rows of the table `principals` below this are Atalaya's own.
pub const FIRST_SUBJECT: i64 = 16;

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Whoever has not said who they are. Before there were people it was everybody on loopback,
    /// which is why old entries of the journal have it.
    Local,
    /// Atalaya itself: the demo accounts, its own settings.
    System,
    /// A device that has proved who it is; which one stands in the fact.
    Device,
    /// Whoever holds the token of the setting `ADMIN_TOKEN`.
    Automation,
    /// Whoever comes from an address that the setting `TCP_TRUSTED` trusts, without a token.
    Terminal,
    /// A person, or a program with a token of its own.
    Subject {
        /// Its row in the table `principals`.
        row: i64,
        /// Its name, for people.
        name: Arc<str>,
    },
}

impl Principal {
    /// Its name on the wire (`por`).
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Local => "local",
            Self::System => "atalaya",
            Self::Device => "hardware",
            Self::Automation => "automatizacion",
            Self::Terminal => "terminal",
            Self::Subject { name, .. } => name,
        }
    }

    /// What logs call it: a person by the row, since names may be cédulas.
    #[must_use]
    pub fn in_logs(&self) -> Cow<'_, str> {
        match self {
            Self::Subject { row, .. } => Cow::Owned(format!("principal {row}")),
            known => Cow::Borrowed(known.name()),
        }
    }

    /// Its row in the table `principals`, which scopes idempotency keys.
    #[must_use]
    pub const fn row(&self) -> i64 {
        match self {
            Self::Local => 1,
            Self::System => 2,
            Self::Device => 3,
            Self::Automation => 4,
            Self::Terminal => 5,
            Self::Subject { row, .. } => *row,
        }
    }
}

/// What somebody is to Atalaya.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The platform: people, companies, configuration; no money, no alerts.
    Admin,
    /// Alerts, devices and rules of a company.
    Operator,
    /// Money, at one site of a company or at all of them.
    Teller,
    /// Their own account.
    Customer,
    /// Reads everything, changes nothing.
    Auditor,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [
        Self::Admin,
        Self::Operator,
        Self::Teller,
        Self::Customer,
        Self::Auditor,
    ];

    /// Its name on the wire (`rol`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operador",
            Self::Teller => "cajero",
            Self::Customer => "cliente",
            Self::Auditor => "auditor",
        }
    }

    /// The role called `name`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether the role is for `action` at all.
    #[must_use]
    pub const fn permits(self, action: Action) -> bool {
        match action {
            Action::OpenAccount | Action::MoveMoney => matches!(self, Self::Teller),
            Action::ReadAccount => matches!(self, Self::Teller | Self::Customer | Self::Auditor),
            Action::ReadStatistics => !matches!(self, Self::Customer),
            Action::SubmitAlert => true,
            Action::ActForDevice | Action::HandleAlert | Action::HandleQuarantine => {
                matches!(self, Self::Operator)
            }
            Action::ReadAlerts | Action::ReadQuarantine => {
                matches!(self, Self::Operator | Self::Auditor)
            }
            Action::ReadRegistry => matches!(self, Self::Admin | Self::Operator | Self::Auditor),
            Action::ChangeRegistry => matches!(self, Self::Admin | Self::Operator),
            Action::ChangePlatform | Action::ManagePeople => matches!(self, Self::Admin),
            Action::ReadPeople | Action::ReadAudit | Action::ReadMetrics | Action::ReadLogs => {
                matches!(self, Self::Admin | Self::Auditor)
            }
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    /// Change devices, their keys, kinds of alert and rules.
    ChangeRegistry,
    /// Change companies, sites and types of device.
    ChangePlatform,
    /// Read what is in quarantine.
    ReadQuarantine,
    /// Resubmit or delete what is in quarantine.
    HandleQuarantine,
    /// Read who there is and what they may do.
    ReadPeople,
    /// Make and change people and tokens, and end sessions.
    ManagePeople,
    /// Read who did what.
    ReadAudit,
    /// Read metrics.
    ReadMetrics,
    /// Read the service's logs.
    ReadLogs,
}

impl Action {
    /// Its name where refusals are kept.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAccount => "abrir_cuenta",
            Self::MoveMoney => "mover_dinero",
            Self::ReadAccount => "leer_cuenta",
            Self::ReadStatistics => "leer_estadisticas",
            Self::SubmitAlert => "enviar_alerta",
            Self::ActForDevice => "actuar_por_hardware",
            Self::HandleAlert => "atender_alerta",
            Self::ReadAlerts => "leer_alertas",
            Self::ReadRegistry => "leer_registro",
            Self::ChangeRegistry => "cambiar_registro",
            Self::ChangePlatform => "cambiar_plataforma",
            Self::ReadQuarantine => "leer_cuarentena",
            Self::HandleQuarantine => "atender_cuarentena",
            Self::ReadPeople => "leer_usuarios",
            Self::ManagePeople => "administrar_usuarios",
            Self::ReadAudit => "leer_auditoria",
            Self::ReadMetrics => "leer_metricas",
            Self::ReadLogs => "leer_registros",
        }
    }
}

/// What it is asked of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// One account. Whose it is shows when it is looked up within the [`Reach`].
    Account(&'a AccountId),
    /// One company and all below it.
    Company(&'a Slug),
    /// Whatever the caller may do this to: the [`Reach`] says what that is.
    Any,
    /// The installation as a whole.
    Installation,
}

/// A company, as grants name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CompanyRef {
    /// Its row in the table `companies`.
    pub row: i64,
    /// Its name in topics.
    pub slug: Slug,
}

/// Where a grant holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everywhere.
    Everything,
    /// In one company.
    Company(CompanyRef),
    /// At one site of a company.
    Site(CompanyRef, Slug),
    /// For one account.
    Account(AccountId),
}

/// A role within a scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// Where it holds.
    pub scope: Scope,
}

/// The role does not go with the scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role does not go with its scope")]
pub struct Mismatch;

impl Grant {
    /// A grant: `admin` everywhere, `operador` and `auditor` everywhere or in a company, `cajero`
    /// in a company or at a site, `cliente` for an account.
    ///
    /// # Errors
    /// [`Mismatch`] for any other pair.
    pub fn new(role: Role, scope: Scope) -> Result<Self, Mismatch> {
        let fits = matches!(
            (role, &scope),
            (Role::Admin, Scope::Everything)
                | (
                    Role::Operator | Role::Auditor,
                    Scope::Everything | Scope::Company(_)
                )
                | (Role::Teller, Scope::Company(_) | Scope::Site(..))
                | (Role::Customer, Scope::Account(_))
        );
        fits.then_some(Self { role, scope }).ok_or(Mismatch)
    }

    fn company(&self) -> Option<&CompanyRef> {
        match &self.scope {
            Scope::Company(company) | Scope::Site(company, _) => Some(company),
            Scope::Everything | Scope::Account(_) => None,
        }
    }

    fn covers(&self, resource: Resource<'_>) -> bool {
        match (&self.scope, resource) {
            (Scope::Everything, _)
            | (_, Resource::Any)
            | (Scope::Company(_) | Scope::Site(..), Resource::Account(_)) => true,
            (Scope::Account(own), Resource::Account(asked)) => own == asked,
            (Scope::Company(own) | Scope::Site(own, _), Resource::Company(asked)) => {
                own.slug == *asked
            }
            _ => false,
        }
    }
}

/// Who asks, with all that they may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who.
    pub principal: Principal,
    /// What they may.
    pub grants: Vec<Grant>,
    /// Whether they must choose a password before anything else.
    pub must_change: bool,
}

impl Identity {
    /// Somebody who has not said who they are.
    #[must_use]
    pub const fn nobody() -> Self {
        Self {
            principal: Principal::Local,
            grants: Vec::new(),
            must_change: false,
        }
    }

    /// Whether it is somebody who has said who they are.
    #[must_use]
    pub fn is_somebody(&self) -> bool {
        self.principal != Principal::Local
    }
}

/// Within what something is permitted. Queries carry it, so that what lies outside is not found
/// rather than found and hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Everything.
    All,
    /// What belongs to these companies, by row and name.
    Companies(Vec<CompanyRef>),
    /// These accounts, whichever company they belong to.
    Accounts(Vec<AccountId>),
}

impl Reach {
    /// The rows of the companies within reach; `None` is all of them.
    #[must_use]
    pub fn company_rows(&self) -> Option<Vec<i64>> {
        match self {
            Self::All => None,
            Self::Companies(companies) => Some(companies.iter().map(|c| c.row).collect()),
            Self::Accounts(_) => Some(Vec::new()),
        }
    }

    /// Whether what belongs to the company with this row is within reach.
    #[must_use]
    pub fn has_company(&self, row: i64) -> bool {
        match self {
            Self::All => true,
            Self::Companies(companies) => companies.iter().any(|company| company.row == row),
            Self::Accounts(_) => false,
        }
    }

    /// Whether `account`, which belongs to the company with this row, is within reach.
    #[must_use]
    pub fn has_account(&self, account: &AccountId, company: i64) -> bool {
        match self {
            Self::Accounts(own) => own.contains(account),
            _ => self.has_company(company),
        }
    }
}

/// The answer is no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nobody has said who asks.
    #[error("nobody has said who asks")]
    Unknown,
    /// They must choose a password first.
    #[error("a password must be chosen first")]
    MustChange,
    /// Their role is not for it.
    #[error("not allowed")]
    Never,
    /// Their role is for it, but not there: to them it is as if it were not.
    #[error("not allowed there")]
    NotHere,
}

/// Decides whether `identity` may do `action` to `resource`, and within what. Every edge asks here
/// and nowhere else.
///
/// # Errors
/// [`Denied`] where they may not.
pub fn authorize(
    identity: &Identity,
    action: Action,
    resource: Resource<'_>,
) -> Result<Reach, Denied> {
    if action == Action::SubmitAlert {
        // A device's signature is what counts, whoever carries it.
        return Ok(Reach::All);
    }
    if !identity.is_somebody() {
        return Err(Denied::Unknown);
    }
    if identity.must_change {
        return Err(Denied::MustChange);
    }
    let permitting = || identity.grants.iter().filter(|g| g.role.permits(action));
    if permitting().next().is_none() {
        return Err(Denied::Never);
    }
    let covering: Vec<&Grant> = permitting().filter(|g| g.covers(resource)).collect();
    if covering.is_empty() {
        return Err(Denied::NotHere);
    }
    Ok(reach(&covering))
}

/// The widest of what grants reach: companies before single accounts, since whoever serves a
/// company's accounts sees more than their own.
fn reach(grants: &[&Grant]) -> Reach {
    if grants.iter().any(|g| g.scope == Scope::Everything) {
        return Reach::All;
    }
    let mut companies: Vec<CompanyRef> = Vec::new();
    for company in grants.iter().filter_map(|grant| grant.company()) {
        if !companies.contains(company) {
            companies.push(company.clone());
        }
    }
    if !companies.is_empty() {
        return Reach::Companies(companies);
    }
    let own = grants.iter().filter_map(|grant| match &grant.scope {
        Scope::Account(account) => Some(account.clone()),
        _ => None,
    });
    Reach::Accounts(own.collect())
}

/// Where a teller works: the company whose money they move, and the site if they are tied to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// The company.
    pub company: CompanyRef,
    /// The site of every movement; `None` where they have the choice and made none.
    pub site: Option<Slug>,
}

/// The counter at which `identity` does `action`, at the site `wanted` if one is named. Of several
/// the first that fits.
///
/// # Errors
/// [`Denied`]; [`Denied::NotHere`] for a site that is not theirs.
pub fn counter(
    identity: &Identity,
    action: Action,
    wanted: Option<&Slug>,
) -> Result<Counter, Denied> {
    authorize(identity, action, Resource::Any)?;
    let at = |own: Counter| match (own.site, wanted) {
        (None, site) => Some(Counter {
            company: own.company,
            site: site.cloned(),
        }),
        (Some(site), wanted) if wanted.is_none_or(|wanted| *wanted == site) => Some(Counter {
            company: own.company,
            site: Some(site),
        }),
        _ => None,
    };
    let mut own = counters(identity, action).into_iter();
    own.find_map(at).ok_or(Denied::NotHere)
}

/// Every counter at which `identity` may do `action`; one without a site is all of its company's.
#[must_use]
pub fn counters(identity: &Identity, action: Action) -> Vec<Counter> {
    let permitting = identity.grants.iter().filter(|g| g.role.permits(action));
    let at = permitting.filter_map(|grant| match &grant.scope {
        Scope::Company(company) => Some(Counter {
            company: company.clone(),
            site: None,
        }),
        Scope::Site(company, site) => Some(Counter {
            company: company.clone(),
            site: Some(site.clone()),
        }),
        Scope::Everything | Scope::Account(_) => None,
    });
    at.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn company(row: i64, slug: &str) -> CompanyRef {
        CompanyRef {
            row,
            slug: Slug::parse(slug).unwrap(),
        }
    }

    fn identity(grants: &[(Role, Scope)]) -> Identity {
        let grants = grants.iter().cloned();
        Identity {
            principal: Principal::Subject {
                row: 16,
                name: "ana".into(),
            },
            grants: grants.map(|(r, s)| Grant::new(r, s).unwrap()).collect(),
            must_change: false,
        }
    }

    #[test]
    fn nobody_may_hand_in_signed_messages_and_nothing_else() {
        let nobody = Identity::nobody();
        assert!(authorize(&nobody, Action::SubmitAlert, Resource::Installation).is_ok());
        assert_eq!(
            authorize(&nobody, Action::ReadStatistics, Resource::Any),
            Err(Denied::Unknown)
        );
    }

    #[test]
    fn a_role_reaches_its_own_company_and_no_other() {
        let own = company(1, "banco");
        let ana = identity(&[(Role::Operator, Scope::Company(own.clone()))]);
        let ask = |slug: &str| {
            let slug = Slug::parse(slug).unwrap();
            authorize(&ana, Action::HandleAlert, Resource::Company(&slug))
        };
        assert_eq!(ask("banco"), Ok(Reach::Companies(vec![own])));
        assert_eq!(ask("otra"), Err(Denied::NotHere));
        assert_eq!(
            authorize(&ana, Action::MoveMoney, Resource::Any),
            Err(Denied::Never)
        );
        assert_eq!(
            authorize(&ana, Action::HandleAlert, Resource::Installation),
            Err(Denied::NotHere)
        );
    }

    #[test]
    fn a_customer_reads_one_account() {
        let own = AccountId::parse("1350509525").unwrap();
        let other = AccountId::parse("1315151515").unwrap();
        let customer = identity(&[(Role::Customer, Scope::Account(own.clone()))]);
        let read = |account| authorize(&customer, Action::ReadAccount, Resource::Account(account));
        assert_eq!(read(&own), Ok(Reach::Accounts(vec![own.clone()])));
        assert_eq!(read(&other), Err(Denied::NotHere));
        let moved = authorize(&customer, Action::MoveMoney, Resource::Account(&own));
        assert_eq!(moved, Err(Denied::Never));
    }

    #[test]
    fn a_teller_is_tied_to_a_site_or_chooses_one() {
        let (banco, norte) = (company(1, "banco"), Slug::parse("norte").unwrap());
        let sur = Slug::parse("sur").unwrap();
        let tied = identity(&[(Role::Teller, Scope::Site(banco.clone(), norte.clone()))]);
        let at = |identity, site| counter(identity, Action::MoveMoney, site).map(|c| c.site);
        assert_eq!(at(&tied, None), Ok(Some(norte.clone())));
        assert_eq!(at(&tied, Some(&norte)), Ok(Some(norte.clone())));
        assert_eq!(at(&tied, Some(&sur)), Err(Denied::NotHere));
        let free = identity(&[(Role::Teller, Scope::Company(banco))]);
        assert_eq!(at(&free, None), Ok(None));
        assert_eq!(at(&free, Some(&sur)), Ok(Some(sur)));
    }

    #[test]
    fn who_must_choose_a_password_may_nothing() {
        let mut admin = identity(&[(Role::Admin, Scope::Everything)]);
        admin.must_change = true;
        assert_eq!(
            authorize(&admin, Action::ManagePeople, Resource::Installation),
            Err(Denied::MustChange)
        );
    }

    #[test]
    fn roles_go_with_their_scopes_only() {
        let banco = company(1, "banco");
        assert!(Grant::new(Role::Admin, Scope::Company(banco.clone())).is_err());
        assert!(Grant::new(Role::Teller, Scope::Everything).is_err());
        assert!(Grant::new(Role::Customer, Scope::Company(banco)).is_err());
    }

    #[test]
    fn each_role_has_what_its_description_says_and_no_more() {
        let of = |role: Role| -> Vec<&str> {
            let all = [
                Action::OpenAccount,
                Action::MoveMoney,
                Action::ReadAccount,
                Action::ReadStatistics,
                Action::ActForDevice,
                Action::HandleAlert,
                Action::ReadAlerts,
                Action::ReadRegistry,
                Action::ChangeRegistry,
                Action::ChangePlatform,
                Action::ReadQuarantine,
                Action::HandleQuarantine,
                Action::ReadPeople,
                Action::ManagePeople,
                Action::ReadAudit,
                Action::ReadMetrics,
                Action::ReadLogs,
            ];
            let own = all.into_iter().filter(|action| role.permits(*action));
            own.map(Action::name).collect()
        };
        assert_eq!(of(Role::Customer), ["leer_cuenta"]);
        assert_eq!(
            of(Role::Teller),
            [
                "abrir_cuenta",
                "mover_dinero",
                "leer_cuenta",
                "leer_estadisticas"
            ]
        );
        assert!(
            of(Role::Auditor)
                .iter()
                .all(|name| name.starts_with("leer_"))
        );
        assert!(!of(Role::Admin).iter().any(|name| name.contains("cuenta")));
        assert!(
            !of(Role::Operator)
                .iter()
                .any(|name| name.contains("cuenta"))
        );
    }
}
