//! What the first start makes: an admin to begin with, and what `--demo` shows.

use crate::actors::account::{AccountActor, PlaceOrder};
use crate::actors::doorkeeper::{ChangeAccess, Doorkeeper, HashPassword};
use crate::application::ApplicationError;
use crate::config::Config;
use crate::domain::password::Password;
use crate::domain::token::{Token, TokenUse};
use crate::domain::{
    AccountId, Amount, Channel, Command, IdempotencyKey, Label, Order, PersonName, Principal, Role,
    Slug,
};
use crate::storage::access::{GrantSpec, PersonPatch};
use crate::storage::vault::{VaultError, random};
use crate::storage::{AccessCommand, AccessOrder, AccessView};
use actix::Addr;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use std::time::Duration;

/// The admin that the first start makes.
const ADMIN: &str = "admin";

/// The password of everybody whom `--demo` makes. Known to all the world, which is why `--demo`
/// serves loopback only and shuts them out again when it is left away.
pub const DEMO_PASSWORD: &str = "demo-atalaya";

/// What whoever starts the service is told, once.
#[derive(Default)]
pub struct Welcome {
    /// The password of the new user `admin`, if one was made.
    pub admin_password: Option<String>,
    /// A token for the tour, under `--demo`.
    pub demo_token: Option<Token>,
}

/// Where the first run has its work done.
pub struct Helpers<'a> {
    /// Money.
    pub accounts: &'a Addr<AccountActor>,
    /// Access.
    pub doorkeeper: &'a Addr<Doorkeeper>,
    /// Who is let in.
    pub access: &'a AccessView,
}

/// Makes what is missing: the first admin where nobody could let people in, and under `--demo` its
/// accounts and people. Without `--demo` the people of an earlier one are shut out, since everybody
/// knows their password.
///
/// # Errors
/// [`ApplicationError::FirstRun`].
pub async fn first_run(
    config: &Config,
    helpers: &Helpers<'_>,
) -> Result<Welcome, ApplicationError> {
    let mut welcome = Welcome::default();
    let admin = Slug::constant(ADMIN);
    if !config.demo && helpers.access.person(&admin).is_none() {
        welcome.admin_password = helpers.create_admin(config, admin).await?;
    }
    if config.demo {
        open_demo_accounts(helpers.accounts).await?;
    }
    for person in demo_people(&config.company) {
        helpers.tend(config.demo, &person).await?;
    }
    if config.demo {
        welcome.demo_token = Some(helpers.open_demo_session(config).await?);
    }
    Ok(welcome)
}

/// A password that nobody guesses and anybody can type.
///
/// # Errors
/// Where the system has no random bytes to give.
pub fn made_password() -> Result<String, VaultError> {
    let random: [u8; 15] = random()?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(random))
}

struct DemoPerson {
    username: &'static str,
    name: &'static str,
    grants: Vec<GrantSpec>,
}

/// The one whose token the tour uses.
const DEMO: &str = "demo";

/// Whether a name is that of one of the demo's people, who are shut out where there is no demo.
#[must_use]
pub fn is_of_demo(username: &Slug) -> bool {
    let people = demo_people(&Slug::constant("banco"));
    let mut names = people.iter().map(|person| person.username);
    names.any(|name| name == username.as_str())
}

fn demo_people(company: &Slug) -> Vec<DemoPerson> {
    let everywhere = |role| GrantSpec {
        role,
        company: None,
        site: None,
        account: None,
    };
    let teller = || GrantSpec {
        company: Some(company.clone()),
        ..everywhere(Role::Teller)
    };
    let customer = GrantSpec {
        account: AccountId::parse(ACCOUNTS[0].0).ok(),
        ..everywhere(Role::Customer)
    };
    let person = |username, name, grants| DemoPerson {
        username,
        name,
        grants,
    };
    let all = vec![
        teller(),
        everywhere(Role::Operator),
        everywhere(Role::Auditor),
    ];
    vec![
        person(DEMO, "Demo: todo menos administrar", all),
        person("demo-admin", "Demo: admin", vec![everywhere(Role::Admin)]),
        person(
            "demo-operador",
            "Demo: operador",
            vec![everywhere(Role::Operator)],
        ),
        person("demo-cajero", "Demo: cajero", vec![teller()]),
        person("demo-cliente", "Demo: cliente", vec![customer]),
        person(
            "demo-auditor",
            "Demo: auditor",
            vec![everywhere(Role::Auditor)],
        ),
    ]
}

impl Helpers<'_> {
    async fn create_admin(
        &self,
        config: &Config,
        username: Slug,
    ) -> Result<Option<String>, ApplicationError> {
        let chosen = config.access.admin_password.clone();
        let (password, made) = if let Some(password) = chosen {
            (password, None)
        } else {
            let text = made_password().map_err(|e| failed("the first admin", &e))?;
            (Password::typed(&text), Some(text))
        };
        let admin = GrantSpec {
            role: Role::Admin,
            company: None,
            site: None,
            account: None,
        };
        // A password that was made has been on a screen; one that was chosen is as it should be.
        let must_change = made.is_some();
        self.create(
            username,
            "Administración",
            password,
            must_change,
            vec![admin],
        )
        .await?;
        Ok(made)
    }

    async fn create(
        &self,
        username: Slug,
        name: &str,
        password: Password,
        must_change: bool,
        grants: Vec<GrantSpec>,
    ) -> Result<(), ApplicationError> {
        let who = format!("the user {username}");
        let hashed = self.doorkeeper.send(HashPassword(password)).await;
        let password = hashed
            .map_err(|e| failed(&who, &e))?
            .map_err(|e| failed(&who, &e))?;
        let name = Label::parse(name).map_err(|e| failed(&who, &e))?;
        self.change(
            &who,
            AccessCommand::CreatePerson {
                username,
                name,
                password,
                must_change,
                grants,
            },
        )
        .await
    }

    /// Makes one of the demo's people or lets them in again; shuts them out without `--demo`.
    async fn tend(&self, demo: bool, person: &DemoPerson) -> Result<(), ApplicationError> {
        let username = Slug::constant(person.username);
        match self.access.person(&username) {
            None if demo => {
                let password = Password::typed(DEMO_PASSWORD);
                let grants = person.grants.clone();
                self.create(username, person.name, password, false, grants)
                    .await
            }
            Some(found) if found.active != demo => {
                if !demo {
                    log::warn!("{username} was made by --demo and is shut out");
                }
                let patch = PersonPatch {
                    active: Some(demo),
                    ..PersonPatch::default()
                };
                let who = format!("the user {username}");
                self.change(&who, AccessCommand::PatchPerson(username, patch))
                    .await
            }
            _ => Ok(()),
        }
    }

    async fn open_demo_session(&self, config: &Config) -> Result<Token, ApplicationError> {
        let who = "the demo's session";
        let random = random().map_err(|e| failed(who, &e))?;
        let token = Token::new(TokenUse::Session, random);
        let person = self.access.person(&Slug::constant(DEMO));
        let person = person.ok_or_else(|| failed(who, &"nobody is there"))?;
        let lasting = i64::try_from(config.access.session.as_micros()).unwrap_or(i64::MAX);
        let command = AccessCommand::OpenSession {
            person: person.row,
            digest: token.digest(),
            expires_at: crate::clock::Clock::system().now().saturating_add(lasting),
            client: Some("--demo".to_owned()),
            step: None,
        };
        self.change(who, command).await?;
        Ok(token)
    }

    async fn change(&self, who: &str, command: AccessCommand) -> Result<(), ApplicationError> {
        let order = AccessOrder {
            command,
            principal: Principal::System,
            channel: Channel::Internal,
            address: None,
        };
        let sent = tokio::time::timeout(DEADLINE, self.doorkeeper.send(ChangeAccess(order))).await;
        sent.map_err(|e| failed(who, &e))?
            .map_err(|e| failed(who, &e))?
            .map(drop)
            .map_err(|e| failed(who, &e))
    }
}

fn failed(who: &str, what: &dyn std::fmt::Display) -> ApplicationError {
    ApplicationError::FirstRun(format!("{who} could not be made: {what}"))
}

/// The accounts of `--demo`: cédula, given names, surnames, and cents.
const ACCOUNTS: [(&str, &str, &str, i64); 3] = [
    ("1350509525", "Stefano", "Aguilar", 500_000),
    ("1315151515", "Juan", "Pérez García", 150_000),
    ("0912345678", "Luis Alberto", "Fernández Ruiz", 45_025),
];

/// How long a step may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Opens the demo accounts that are not there and pays in what they start with. The keys make a
/// second start change nothing, even after a crash between the two steps.
async fn open_demo_accounts(accounts: &Addr<AccountActor>) -> Result<(), ApplicationError> {
    for (id, given_names, surnames, cents) in ACCOUNTS {
        let failed = |what: &dyn std::fmt::Display| {
            ApplicationError::FirstRun(format!("the demo account {id} could not be opened: {what}"))
        };
        let account = AccountId::parse(id).map_err(|e| failed(&e))?;
        let open = Command::Open {
            account: account.clone(),
            given_names: PersonName::parse(given_names).map_err(|e| failed(&e))?,
            surnames: PersonName::parse(surnames).map_err(|e| failed(&e))?,
        };
        let amount = Amount::from_cents(cents).map_err(|e| failed(&e))?;
        let deposit = Command::Deposit { account, amount };
        for (step, command) in [("open", open), ("deposit", deposit)] {
            let key = format!("demo-{step}-{id}");
            let order = Order {
                command,
                principal: Principal::System,
                channel: Channel::Internal,
                company: None,
                site: None,
                value_date: None,
                key: Some(IdempotencyKey::parse(&key).map_err(|e| failed(&e))?),
            };
            let ticket = accounts
                .send(PlaceOrder(order))
                .await
                .map_err(|e| failed(&e))?
                .map_err(|e| failed(&e))?;
            let decision = tokio::time::timeout(DEADLINE, ticket)
                .await
                .map_err(|e| failed(&e))?
                .map_err(|e| failed(&e))?
                .map_err(|e| failed(&e))?;
            // An account that somebody opened before keeps its own balance.
            if matches!(decision.outcome, crate::domain::Outcome::Refused(_)) {
                break;
            }
        }
    }
    Ok(())
}
