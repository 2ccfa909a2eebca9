//! People, programs and sessions behind the writer.
//!
//! Changes of access are rare next to money and alerts, so each is written at once within the
//! group's transaction, after it has been checked; what every request looks at is a view in memory
//! ([`AccessView`]) that changes with the commit.

pub mod queries;
mod rows;
mod view;

pub use view::{AccessView, Pass, Standing, Subject};

use self::rows::ResolvedGrant;
use self::view::Change;
use super::ledger::{Lane, Place, uuid_at};
use super::schema::{api_tokens, people, sessions};
use super::writer::WriteError;
use super::{Connection, StorageError};
use crate::domain::token::TokenDigest;
use crate::domain::{
    AccessEvent, AccessFact, AccessTexts, AccountId, Channel, Fact, Grant, Identity, Label,
    Principal, Role, Scope, Slug,
};
use diesel::prelude::*;
use std::net::IpAddr;
use std::sync::Arc;
use uuid::Uuid;

/// Sessions that a person may have at once; the oldest goes first.
const SESSIONS: usize = 20;

/// A role and where it is to hold, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantSpec {
    /// The role.
    pub role: Role,
    /// The company, where it holds in one.
    pub company: Option<Slug>,
    /// The site, where it holds at one.
    pub site: Option<Slug>,
    /// The account, where it holds for one.
    pub account: Option<AccountId>,
}

/// A password's hash in PHC form. `Debug` keeps it to itself.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub String);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// What changes of a person; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct PersonPatch {
    /// The name for people.
    pub name: Option<Label>,
    /// Whether they are let in.
    pub active: Option<bool>,
    /// What they may do.
    pub grants: Option<Vec<GrantSpec>>,
    /// A password set by somebody else, to be changed when it is first used.
    pub password: Option<PasswordHash>,
    /// Whether their second factor is taken away.
    pub forget_second_factor: bool,
}

/// Something of access to be kept that changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccessNote {
    /// What happened.
    pub event: AccessEvent,
    /// To whom, where that is known.
    pub subject: Option<i64>,
    /// As whom they called themselves.
    pub who: Option<String>,
    /// From where.
    pub address: Option<IpAddr>,
    /// What exactly.
    pub detail: Option<String>,
    /// How often.
    pub count: i64,
}

/// A change that somebody wants of access.
#[derive(Debug, Clone)]
pub enum AccessCommand {
    /// A new person.
    CreatePerson {
        /// The name to sign in with.
        username: Slug,
        /// The name for people.
        name: Label,
        /// Their password.
        password: PasswordHash,
        /// Whether they must choose another when they first sign in.
        must_change: bool,
        /// What they may do.
        grants: Vec<GrantSpec>,
    },
    /// A change of a person.
    PatchPerson(Slug, PersonPatch),
    /// A password that a person has chosen. Their other sessions end.
    ChoosePassword {
        /// Whose.
        person: i64,
        /// The new one.
        password: PasswordHash,
        /// The session in which it was chosen.
        session: Option<i64>,
    },
    /// A second factor: its sealed secret and the step it was proved with, or none.
    SetSecondFactor {
        /// Whose.
        person: i64,
        /// The secret.
        secret: Option<(Vec<u8>, i64)>,
    },
    /// A session of a person who has proved who they are.
    OpenSession {
        /// Whose.
        person: i64,
        /// What is kept of its token.
        digest: TokenDigest,
        /// When it ends whatever happens.
        expires_at: i64,
        /// What the client calls itself.
        client: Option<String>,
        /// The step of the second factor's code, which is good once.
        step: Option<i64>,
    },
    /// The end of a session; `person`: only if it is theirs.
    CloseSession {
        /// Which.
        id: i64,
        /// Whose it must be.
        person: Option<i64>,
    },
    /// A token for a program.
    CreateToken {
        /// Its name.
        name: Slug,
        /// What is kept of it.
        digest: TokenDigest,
        /// When it ends.
        expires_at: i64,
        /// What it may do.
        grants: Vec<GrantSpec>,
    },
    /// The end of a token.
    RevokeToken(i64),
    /// Sessions that were used, with when; those that are over are forgotten.
    Touch(Vec<(i64, i64)>),
    /// Things to be kept.
    Note(Vec<AccessNote>),
}

/// A command with its circumstances.
#[derive(Debug, Clone)]
pub struct AccessOrder {
    /// What is wanted.
    pub command: AccessCommand,
    /// By whom.
    pub principal: Principal,
    /// Through which edge.
    pub channel: Channel,
    /// From where.
    pub address: Option<IpAddr>,
}

/// Why a grant cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each says what it is")]
pub enum NotGranted {
    #[error("no such company")]
    UnknownCompany,
    #[error("no such site of the company")]
    UnknownSite,
    #[error("the role does not go with its scope")]
    Mismatch,
}

/// Why an order was refused; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each says what it is")]
pub enum AccessRefusal {
    #[error("no such person")]
    UnknownPerson,
    #[error("the person exists")]
    PersonExists,
    #[error("no such session")]
    UnknownSession,
    #[error("no such token")]
    UnknownToken,
    #[error("a token has or had that name")]
    TokenExists,
    #[error("the person is not let in")]
    Inactive,
    #[error("the code was used")]
    CodeUsed,
    #[error("nobody would be left with the role admin")]
    LastAdmin,
    #[error(transparent)]
    NotGranted(#[from] NotGranted),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What came of an order: the row that it made or changed.
pub type AccessAnswer = i64;

/// Why an order was not decided.
pub(super) enum Undecided {
    Refused(AccessRefusal),
    Storage(StorageError),
}

impl From<AccessRefusal> for Undecided {
    fn from(refusal: AccessRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<NotGranted> for Undecided {
    fn from(refusal: NotGranted) -> Self {
        Self::Refused(refusal.into())
    }
}

impl From<StorageError> for Undecided {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<diesel::result::Error> for Undecided {
    fn from(error: diesel::result::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// What decides who is let in.
#[derive(Debug, Clone)]
pub struct AccessSettings {
    /// Where it is seen from outside.
    pub view: Arc<AccessView>,
    /// What is kept of the token of the setting `ADMIN_TOKEN`.
    pub automation: Option<TokenDigest>,
}

/// Access, with what the open group changes of it.
pub(super) struct Access {
    view: Arc<AccessView>,
    staged: Vec<Change>,
    prune_at: Option<i64>,
}

/// One order within the open group.
struct Group<'a> {
    connection: &'a mut Connection,
    lane: &'a mut Lane,
    order: &'a AccessOrder,
    now: i64,
}

impl Access {
    /// As the database has it.
    pub(super) fn load(
        connection: &mut Connection,
        settings: &AccessSettings,
        now: i64,
    ) -> Result<Self, StorageError> {
        let mut everybody = rows::everybody(connection, now)?;
        if let Some(digest) = settings.automation {
            everybody.extend(automation(digest));
        }
        settings.view.replace(everybody);
        Ok(Self {
            view: Arc::clone(&settings.view),
            staged: Vec::new(),
            prune_at: None,
        })
    }

    /// Decides one order within the open group, and writes what it changes.
    pub(super) fn decide(
        &mut self,
        connection: &mut Connection,
        lane: &mut Lane,
        order: &AccessOrder,
        now: i64,
    ) -> Result<AccessAnswer, Undecided> {
        let mut group = Group {
            connection,
            lane,
            order,
            now,
        };
        match &order.command {
            AccessCommand::CreatePerson {
                username,
                name,
                password,
                must_change,
                grants,
            } => self.create_person(&mut group, username, name, (password, *must_change), grants),
            AccessCommand::PatchPerson(username, patch) => {
                self.patch_person(&mut group, username, patch)
            }
            AccessCommand::ChoosePassword {
                person,
                password,
                session,
            } => self.choose_password(&mut group, *person, password, *session),
            AccessCommand::SetSecondFactor { person, secret } => {
                self.set_second_factor(&mut group, *person, secret.as_ref())
            }
            AccessCommand::OpenSession { .. } => self.open_session(&mut group),
            AccessCommand::CloseSession { id, person } => {
                self.close_session(&mut group, *id, *person)
            }
            AccessCommand::CreateToken {
                name,
                digest,
                expires_at,
                grants,
            } => self.create_token(&mut group, name, *digest, *expires_at, grants),
            AccessCommand::RevokeToken(id) => self.revoke_token(&mut group, *id),
            AccessCommand::Touch(seen) => self.touch(&mut group, seen),
            AccessCommand::Note(notes) => {
                for note in notes {
                    group.note(note, company_of(&[]));
                }
                Ok(0)
            }
        }
    }

    /// The open group is committed: what it changed is seen.
    pub(super) fn committed(&mut self) {
        if !self.staged.is_empty() {
            self.view.apply(self.staged.drain(..));
        }
        if let Some(now) = self.prune_at.take() {
            self.view.prune(now);
        }
    }

    fn create_person(
        &mut self,
        group: &mut Group<'_>,
        username: &Slug,
        name: &Label,
        (password, must_change): (&PasswordHash, bool),
        grants: &[GrantSpec],
    ) -> Result<AccessAnswer, Undecided> {
        if rows::is_taken(group.connection, rows::PERSON, username.as_str())? {
            return Err(AccessRefusal::PersonExists.into());
        }
        let grants_resolved = rows::resolve(group.connection, grants)??;
        let now = group.now;
        let row = rows::new_principal(group.connection, rows::PERSON, username.as_str(), now)?;
        diesel::insert_into(people::table)
            .values((
                people::id.eq(row),
                people::username.eq(username.as_str()),
                people::name.eq(name.as_str()),
                people::active.eq(true),
                people::password.eq(&password.0),
                people::must_change.eq(must_change),
                people::totp_step.eq(0),
                people::created_at.eq(now),
            ))
            .execute(group.connection)?;
        rows::put_grants(group.connection, row, &grants_resolved)?;
        group.tell(
            (AccessEvent::PersonCreated, Some(row)),
            Some(username.to_string()),
            Some(said(grants)),
            company_of(&grants_resolved),
        );
        self.stage_person(group, row)?;
        Ok(row)
    }

    fn patch_person(
        &mut self,
        group: &mut Group<'_>,
        username: &Slug,
        patch: &PersonPatch,
    ) -> Result<AccessAnswer, Undecided> {
        let row = person_row(group.connection, username)?;
        let resolved = match &patch.grants {
            None => None,
            Some(specs) => Some(rows::resolve(group.connection, specs)??),
        };
        let had = rows::active_admins(group.connection)?;
        // A refusal must leave nothing behind, so what would be refused is looked at first.
        if had <= 1 && self.is_admin(row) && loses_admin(patch) {
            return Err(AccessRefusal::LastAdmin.into());
        }
        let target = || diesel::update(people::table.find(row));
        let mut changes = Vec::new();
        if let Some(name) = &patch.name {
            target()
                .set(people::name.eq(name.as_str()))
                .execute(group.connection)?;
            changes.push("nombre".to_owned());
        }
        if let Some(active) = patch.active {
            target()
                .set(people::active.eq(active))
                .execute(group.connection)?;
            changes.push(format!("activo={active}"));
        }
        if patch.forget_second_factor {
            target()
                .set(people::totp.eq(None::<Vec<u8>>))
                .execute(group.connection)?;
            changes.push("segundo_factor=no".to_owned());
        }
        if let (Some(resolved), Some(specs)) = (&resolved, &patch.grants) {
            rows::put_grants(group.connection, row, resolved)?;
            changes.push(said(specs));
        }
        if let Some(password) = &patch.password {
            target()
                .set((
                    people::password.eq(&password.0),
                    people::must_change.eq(true),
                ))
                .execute(group.connection)?;
            group.tell(
                (AccessEvent::PasswordChanged, Some(row)),
                Some(username.to_string()),
                None,
                None,
            );
        }
        if patch.password.is_some() || patch.active == Some(false) {
            self.end_sessions(group, row, None)?;
        }
        if !changes.is_empty() {
            group.tell(
                (AccessEvent::PersonChanged, Some(row)),
                Some(username.to_string()),
                Some(changes.join(", ")),
                None,
            );
        }
        self.stage_person(group, row)?;
        Ok(row)
    }

    /// As of the last commit; two changes of admins in one group could both pass, so the open
    /// group's own changes are looked at first.
    fn is_admin(&self, row: i64) -> bool {
        let staged = self.staged.iter().rev().find_map(|change| match change {
            Change::Subject(subject) if subject.row == row => Some(subject),
            _ => None,
        });
        // Somebody who is shut out is no admin whom it would be a pity to lose.
        let is_admin = |subject: &Subject| {
            let mut grants = subject.identity.grants.iter();
            subject.active && grants.any(|grant| grant.role == Role::Admin)
        };
        match staged {
            Some(subject) => is_admin(subject),
            None => self.view.subject(row).is_some_and(|s| is_admin(&s)),
        }
    }

    fn choose_password(
        &mut self,
        group: &mut Group<'_>,
        person: i64,
        password: &PasswordHash,
        session: Option<i64>,
    ) -> Result<AccessAnswer, Undecided> {
        let changed = diesel::update(people::table.find(person))
            .set((
                people::password.eq(&password.0),
                people::must_change.eq(false),
            ))
            .execute(group.connection)?;
        if changed == 0 {
            return Err(AccessRefusal::UnknownPerson.into());
        }
        self.end_sessions(group, person, session)?;
        group.tell(
            (AccessEvent::PasswordChanged, Some(person)),
            None,
            None,
            None,
        );
        self.stage_person(group, person)?;
        Ok(person)
    }

    fn set_second_factor(
        &mut self,
        group: &mut Group<'_>,
        person: i64,
        secret: Option<&(Vec<u8>, i64)>,
    ) -> Result<AccessAnswer, Undecided> {
        let changed = diesel::update(people::table.find(person))
            .set((
                people::totp.eq(secret.map(|(sealed, _)| sealed.as_slice())),
                people::totp_step.eq(secret.map_or(0, |(_, step)| *step)),
            ))
            .execute(group.connection)?;
        if changed == 0 {
            return Err(AccessRefusal::UnknownPerson.into());
        }
        let detail = if secret.is_some() {
            "puesto"
        } else {
            "quitado"
        };
        group.tell(
            (AccessEvent::SecondFactorChanged, Some(person)),
            None,
            Some(detail.to_owned()),
            None,
        );
        self.stage_person(group, person)?;
        Ok(person)
    }

    fn open_session(&mut self, group: &mut Group<'_>) -> Result<AccessAnswer, Undecided> {
        let AccessCommand::OpenSession {
            person,
            digest,
            expires_at,
            client,
            step,
        } = &group.order.command
        else {
            return Err(AccessRefusal::UnknownSession.into());
        };
        let found: Option<(String, bool, i64)> = people::table
            .find(*person)
            .select((people::username, people::active, people::totp_step))
            .first(group.connection)
            .optional()?;
        let (username, active, used) = found.ok_or(AccessRefusal::UnknownPerson)?;
        if !active {
            return Err(AccessRefusal::Inactive.into());
        }
        if step.is_some_and(|step| step <= used) {
            return Err(AccessRefusal::CodeUsed.into());
        }
        if let Some(step) = step {
            diesel::update(people::table.find(*person))
                .set(people::totp_step.eq(*step))
                .execute(group.connection)?;
        }
        let open = rows::sessions_of(group.connection, *person)?;
        let excess = (open.len() + 1).saturating_sub(SESSIONS);
        for (id, digest) in open.into_iter().take(excess) {
            diesel::delete(sessions::table.find(id)).execute(group.connection)?;
            self.staged.push(Change::Ended(digest));
        }
        diesel::insert_into(sessions::table)
            .values((
                sessions::digest.eq(digest.as_slice()),
                sessions::person_id.eq(*person),
                sessions::created_at.eq(group.now),
                sessions::expires_at.eq(*expires_at),
                sessions::seen_at.eq(group.now),
                sessions::address.eq(group.order.address.map(|address| address.to_string())),
                sessions::client.eq(client.as_deref()),
            ))
            .execute(group.connection)?;
        let id: i64 = sessions::table
            .filter(sessions::digest.eq(digest.as_slice()))
            .select(sessions::id)
            .first(group.connection)?;
        let pass = Pass::new(*digest, Some(id), *person, *expires_at, group.now);
        self.staged.push(Change::Opened(pass));
        group.tell(
            (AccessEvent::SignedIn, Some(*person)),
            Some(username),
            client.clone(),
            None,
        );
        Ok(id)
    }

    fn close_session(
        &mut self,
        group: &mut Group<'_>,
        id: i64,
        owner: Option<i64>,
    ) -> Result<AccessAnswer, Undecided> {
        let found: Option<(i64, Vec<u8>)> = sessions::table
            .find(id)
            .select((sessions::person_id, sessions::digest))
            .first(group.connection)
            .optional()?;
        let (person, digest) = found.ok_or(AccessRefusal::UnknownSession)?;
        if owner.is_some_and(|owner| owner != person) {
            return Err(AccessRefusal::UnknownSession.into());
        }
        let digest = rows::digest_of(&digest)?;
        diesel::delete(sessions::table.find(id)).execute(group.connection)?;
        self.staged.push(Change::Ended(digest));
        let by_themselves = group.order.principal.row() == person;
        let event = if by_themselves {
            AccessEvent::SignedOut
        } else {
            AccessEvent::SessionEnded
        };
        group.tell(
            (event, Some(person)),
            None,
            Some(format!("sesion {id}")),
            None,
        );
        Ok(id)
    }

    fn create_token(
        &mut self,
        group: &mut Group<'_>,
        name: &Slug,
        digest: TokenDigest,
        expires_at: i64,
        grants: &[GrantSpec],
    ) -> Result<AccessAnswer, Undecided> {
        if rows::is_taken(group.connection, rows::TOKEN, name.as_str())? {
            return Err(AccessRefusal::TokenExists.into());
        }
        let resolved = rows::resolve(group.connection, grants)??;
        let now = group.now;
        let row = rows::new_principal(group.connection, rows::TOKEN, name.as_str(), now)?;
        diesel::insert_into(api_tokens::table)
            .values((
                api_tokens::id.eq(row),
                api_tokens::name.eq(name.as_str()),
                api_tokens::digest.eq(digest.as_slice()),
                api_tokens::created_by.eq(group.order.principal.row()),
                api_tokens::created_at.eq(now),
                api_tokens::expires_at.eq(expires_at),
            ))
            .execute(group.connection)?;
        rows::put_grants(group.connection, row, &resolved)?;
        group.tell(
            (AccessEvent::TokenCreated, Some(row)),
            Some(name.to_string()),
            Some(said(grants)),
            company_of(&resolved),
        );
        let subject = rows::program_at(group.connection, row, name.as_str())?;
        self.staged.push(Change::Subject(subject));
        let pass = Pass::new(digest, None, row, expires_at, now);
        self.staged.push(Change::Opened(pass));
        Ok(row)
    }

    fn revoke_token(&mut self, group: &mut Group<'_>, id: i64) -> Result<AccessAnswer, Undecided> {
        let found: Option<(String, Vec<u8>)> = api_tokens::table
            .find(id)
            .filter(api_tokens::revoked_at.is_null())
            .select((api_tokens::name, api_tokens::digest))
            .first(group.connection)
            .optional()?;
        let (name, digest) = found.ok_or(AccessRefusal::UnknownToken)?;
        diesel::update(api_tokens::table.find(id))
            .set(api_tokens::revoked_at.eq(group.now))
            .execute(group.connection)?;
        self.staged.push(Change::Ended(rows::digest_of(&digest)?));
        group.tell(
            (AccessEvent::TokenRevoked, Some(id)),
            Some(name),
            None,
            None,
        );
        Ok(id)
    }

    fn touch(
        &mut self,
        group: &mut Group<'_>,
        seen: &[(i64, i64)],
    ) -> Result<AccessAnswer, Undecided> {
        for (id, at) in seen {
            diesel::update(sessions::table.find(*id))
                .set(sessions::seen_at.eq(*at))
                .execute(group.connection)?;
        }
        let unused = self.view.idle_since(group.now);
        let over = sessions::expires_at.le(group.now);
        let old: Vec<(i64, Vec<u8>, bool)> = sessions::table
            .filter(over.or(sessions::seen_at.le(unused)))
            .select((sessions::id, sessions::digest, over))
            .load(group.connection)?;
        for (id, digest, over) in old {
            let digest = rows::digest_of(&digest)?;
            // One that was used since that was last written goes on: its row and its pass stay and go
            // together, or it could not be ended any more.
            let used = self.view.seen_at(&digest).is_some_and(|at| at > unused);
            if over || !used {
                diesel::delete(sessions::table.find(id)).execute(group.connection)?;
                self.staged.push(Change::Ended(digest));
            }
        }
        self.prune_at = Some(group.now);
        Ok(0)
    }

    /// Ends a person's sessions but the one at `kept`.
    fn end_sessions(
        &mut self,
        group: &mut Group<'_>,
        person: i64,
        kept: Option<i64>,
    ) -> Result<(), Undecided> {
        for (id, digest) in rows::sessions_of(group.connection, person)? {
            if Some(id) != kept {
                diesel::delete(sessions::table.find(id)).execute(group.connection)?;
                self.staged.push(Change::Ended(digest));
            }
        }
        Ok(())
    }

    fn stage_person(&mut self, group: &mut Group<'_>, row: i64) -> Result<(), Undecided> {
        let person = rows::person(group.connection, row)?;
        self.staged
            .push(Change::Subject(person.ok_or(AccessRefusal::UnknownPerson)?));
        Ok(())
    }
}

impl Group<'_> {
    /// Keeps what the order did.
    fn tell(
        &mut self,
        (event, subject): (AccessEvent, Option<i64>),
        who: Option<String>,
        detail: Option<String>,
        company: Option<i64>,
    ) {
        let note = AccessNote {
            event,
            subject,
            who,
            address: self.order.address,
            detail,
            count: 1,
        };
        self.note(&note, company);
    }

    fn note(&mut self, note: &AccessNote, company: Option<i64>) {
        let place = Place {
            at: self.now,
            tx_id: uuid_at(self.now),
            principal: self.order.principal.clone(),
            channel: self.order.channel,
            // 0 is no company: it concerns the installation.
            company: company.unwrap_or(0),
            site: None,
            value_date: None,
        };
        let texts = AccessTexts {
            salt: *Uuid::new_v4().as_bytes(),
            who: note.who.clone(),
            address: note.address.map(|address| address.to_string()),
            detail: note.detail.clone(),
        };
        let fact = Fact::Access(Box::new(AccessFact {
            event: note.event,
            subject: note.subject,
            count: note.count,
            texts,
        }));
        self.lane.append_at(place, None, fact);
    }
}

fn person_row(connection: &mut Connection, username: &Slug) -> Result<i64, Undecided> {
    let found: Option<i64> = people::table
        .filter(people::username.eq(username.as_str()))
        .select(people::id)
        .first(connection)
        .optional()?;
    Ok(found.ok_or(AccessRefusal::UnknownPerson)?)
}

fn loses_admin(patch: &PersonPatch) -> bool {
    let no_grant = patch
        .grants
        .as_ref()
        .is_some_and(|grants| !grants.iter().any(|grant| grant.role == Role::Admin));
    no_grant || patch.active == Some(false)
}

/// The company that all grants are in, if there is one.
fn company_of(grants: &[ResolvedGrant]) -> Option<i64> {
    let first = grants.first()?.company?;
    grants
        .iter()
        .all(|grant| grant.company == Some(first))
        .then_some(first)
}

/// Grants as an audit tells them: `cajero@banco/norte`.
fn said(grants: &[GrantSpec]) -> String {
    let said = grants.iter().map(|grant| {
        let role = grant.role.name();
        match (&grant.company, &grant.site) {
            (Some(company), Some(site)) => format!("{role}@{company}/{site}"),
            (Some(company), None) => format!("{role}@{company}"),
            _ => role.to_owned(),
        }
    });
    said.collect::<Vec<_>>().join(" ")
}

/// The holder of the token of the setting `ADMIN_TOKEN`, for as long as it is set.
fn automation(digest: TokenDigest) -> [Change; 2] {
    let principal = Principal::Automation;
    let row = principal.row();
    let everywhere = Grant {
        role: Role::Admin,
        scope: Scope::Everything,
    };
    let subject = Subject {
        row,
        username: Slug::constant("automatizacion"),
        is_person: false,
        active: true,
        has_second_factor: false,
        identity: Arc::new(Identity {
            principal,
            grants: vec![everywhere],
            must_change: false,
        }),
    };
    let pass = Pass::new(digest, None, row, i64::MAX, 0);
    [Change::Subject(subject), Change::Opened(pass)]
}
