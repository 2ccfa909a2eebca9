//! People, sessions, tokens and the audit at the desk.

use super::alerts::{cursor, invalid_value, limit, moment, optional, page, slug};
use super::registry::{label, named, rows};
use super::{Answer, Caller, Desk, Failure, PAGE_MAX, allow, reply, within};
use crate::actors::doorkeeper::{
    BeginSecondFactor, Busy, ChangeAccess, CheckPassword, HashPassword, IssueTicket, NotIn, Origin,
    ProveSecondFactor, RedeemTicket, SignIn,
};
use crate::domain::password::{Password, WeakPassword};
use crate::domain::token::{Token, TokenUse};
use crate::domain::{
    AccountId, Action, CompanyRef, Grant, Identity, Principal, Reach, Resource, Role, Scope, Slug,
    second_factor,
};
use crate::storage::access::queries::{
    self, AuditFilter, AuditView, PersonView, SessionView, TokenView,
};
use crate::storage::access::{GrantSpec, NotGranted, PasswordHash, PersonPatch, Standing};
use crate::storage::vault::random;
use crate::storage::{AccessCommand, AccessOrder, AccessRefusal};
use crate::wire::access::{
    AuditResource, CodeBody, GrantBody, IdentityResource, OwnPasswordBody, PasswordBody,
    PersonBody, PersonPatchBody, PersonResource, SecondFactorResource, SessionResource, SignInBody,
    TicketResource, TokenBody, TokenResource,
};
use crate::wire::numbers::Moment;
use crate::wire::resources::Page;
use crate::wire::{Problem, ProblemKind, Reason};

/// A day in microseconds.
const DAY: i64 = 86_400_000_000;

/// The row of nobody.
const NOBODY: i64 = -1;

/// Roles of one person or token.
const GRANTS: usize = 50;

/// The longest that a client's name for itself is kept, in characters.
const CLIENT: usize = 120;

/// For how many seconds a ticket is good; the doorkeeper's own measure, as it is told.
const TICKET_SECONDS: i64 = 30;

impl Desk {
    /// Signs somebody in: who they are, and the token.
    ///
    /// # Errors
    /// [`Failure`], as for all calls here: 401 for a wrong name as for a wrong password, 429.
    pub async fn sign_in(
        &self,
        caller: &Caller,
        body: &SignInBody,
        client: Option<&str>,
    ) -> Result<(IdentityResource, Token), Failure> {
        let asked = SignIn {
            username: body.usuario.clone(),
            password: Password::typed(&body.contrasena.0),
            code: body.codigo.as_ref().map(|code| code.0.clone()),
            client: client.map(|name| {
                let shown = name.chars().filter(|c| !c.is_control());
                shown.take(CLIENT).collect()
            }),
            channel: caller.channel,
            address: caller.address,
        };
        let signed_in = within(self.parts.doorkeeper.send(asked)).await?;
        let signed_in = signed_in.map_err(not_in)?;
        let mut resource = identity_resource(&signed_in.standing);
        if body.cookie {
            resource.csrf = Some(signed_in.token.csrf());
        } else {
            resource.token = Some(signed_in.token.reveal().to_owned());
        }
        Ok((resource, signed_in.token))
    }

    /// Who asks. `csrf`: what the page must send, where the token came in a cookie.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn who_am_i(&self, caller: &Caller, csrf: Option<String>) -> Answer {
        let mut resource = identity_resource(standing(caller)?);
        resource.csrf = csrf;
        reply(&resource)
    }

    /// Ends the session that asks.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn sign_out(&self, caller: &Caller) -> Result<(), Failure> {
        let (standing, _) = own_session(caller)?;
        let command = AccessCommand::CloseSession {
            id: standing.pass.session.unwrap_or_default(),
            person: Some(standing.pass.subject),
        };
        self.change_access(caller, command).await.map(drop)
    }

    /// Sessions: the caller's own, or those of `username`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn list_sessions(
        &self,
        caller: &Caller,
        username: &str,
        limit_text: &str,
        cursor_text: &str,
    ) -> Answer {
        let own = standing(caller)?;
        let person = if username.is_empty() || username == own.subject.username.as_str() {
            settled(caller)?;
            own.pass.subject
        } else {
            allow(caller, Action::ReadPeople, Resource::Installation)?;
            self.person_called(username)?
        };
        let limit = limit(limit_text)?;
        let after = cursor(cursor_text)?.unwrap_or(0);
        let found = self
            .read(move |c| queries::sessions(c, Some(person), after, limit + 1))
            .await?;
        let here = own.pass.session;
        let resource = |session: SessionView| SessionResource {
            sesion: session.id,
            actual: here == Some(session.id),
            inicio: Moment(session.created_at),
            uso: Moment(
                self.parts
                    .access
                    .seen_at(&session.digest)
                    .unwrap_or(session.seen_at),
            ),
            vence: Moment(session.expires_at),
            usuario: session.username,
            direccion: session.address,
            cliente: session.client,
        };
        reply(&page(found, limit, |session| session.id, resource))
    }

    /// Ends a session: one's own, or anybody's by those who manage people.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn end_session(&self, caller: &Caller, id: &str) -> Result<(), Failure> {
        let own = standing(caller)?;
        settled(caller)?;
        let id: i64 = id.parse().map_err(|_| ProblemKind::UnknownSession)?;
        let manages = crate::domain::authorize(
            &caller.identity,
            Action::ManagePeople,
            Resource::Installation,
        );
        let person = manages.is_err().then_some(own.pass.subject);
        let command = AccessCommand::CloseSession { id, person };
        self.change_access(caller, command).await.map(drop)
    }

    /// Chooses another password; all other sessions of the person end.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn choose_password(
        &self,
        caller: &Caller,
        body: &PasswordBody,
    ) -> Result<(), Failure> {
        let (standing, username) = own_session(caller)?;
        let chosen = Password::choose(&body.nueva.0, &username).map_err(weak)?;
        self.check_password(caller, &username, &body.actual.0)
            .await?;
        if body.actual == body.nueva {
            let reason = ("nueva: es la misma", "nueva: it is the same");
            return Err(Problem::of(ProblemKind::WeakPassword)
                .because(reason)
                .into());
        }
        let password = self.hash(chosen).await?;
        let command = AccessCommand::ChoosePassword {
            person: standing.pass.subject,
            password,
            session: standing.pass.session,
        };
        self.change_access(caller, command).await.map(drop)
    }

    /// Begins a second factor. It takes the password: who has found an open session must not make it
    /// their own for good.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn begin_second_factor(&self, caller: &Caller, body: &OwnPasswordBody) -> Answer {
        let (standing, username) = own_session(caller)?;
        settled(caller)?;
        self.check_password(caller, &username, &body.contrasena.0)
            .await?;
        let person = standing.pass.subject;
        let begun = within(self.parts.doorkeeper.send(BeginSecondFactor { person })).await?;
        let secret = second_factor::base32(&begun.map_err(busy)?);
        let place = &self.parts.installation;
        let uri = format!("otpauth://totp/{place}:{username}?secret={secret}&issuer={place}");
        reply(&SecondFactorResource {
            secreto: secret,
            uri,
        })
    }

    /// Proves a second factor, which is in force from then on.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn prove_second_factor(
        &self,
        caller: &Caller,
        body: &CodeBody,
    ) -> Result<(), Failure> {
        let (standing, username) = own_session(caller)?;
        settled(caller)?;
        let asked = ProveSecondFactor {
            person: standing.pass.subject,
            username,
            code: body.codigo.0.clone(),
            origin: origin(caller),
        };
        within(self.parts.doorkeeper.send(asked))
            .await?
            .map_err(not_in)
    }

    /// Takes one's own second factor away.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn remove_second_factor(
        &self,
        caller: &Caller,
        body: &OwnPasswordBody,
    ) -> Result<(), Failure> {
        let (standing, username) = own_session(caller)?;
        settled(caller)?;
        self.check_password(caller, &username, &body.contrasena.0)
            .await?;
        let command = AccessCommand::SetSecondFactor {
            person: standing.pass.subject,
            secret: None,
        };
        self.change_access(caller, command).await.map(drop)
    }

    /// A ticket for one WebSocket connection.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn ticket(&self, caller: &Caller) -> Answer {
        let standing = standing(caller)?.clone();
        settled(caller)?;
        let issued = within(self.parts.doorkeeper.send(IssueTicket(standing))).await?;
        reply(&TicketResource {
            boleto: issued.map_err(busy)?.reveal().to_owned(),
            segundos: TICKET_SECONDS,
        })
    }

    /// Who holds a ticket; it is good once.
    ///
    /// # Errors
    /// [`Failure`]: 401 where it is none, or was used.
    pub async fn redeem(&self, ticket: &str) -> Result<Standing, Failure> {
        let token = Token::parse(ticket).map_err(|_| ProblemKind::InvalidToken)?;
        let held = within(self.parts.doorkeeper.send(RedeemTicket(token))).await?;
        Ok(held.ok_or(ProblemKind::InvalidToken)?)
    }

    /// Makes a person.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn create_person(&self, caller: &Caller, body: &PersonBody) -> Answer {
        allow(caller, Action::ManagePeople, Resource::Installation)?;
        let username = new_username(&body.usuario)?;
        let name = named("nombre", body.nombre.as_deref().unwrap_or(&body.usuario))?;
        let grants = grants(&body.roles)?;
        let (password, made) = match &body.contrasena {
            Some(typed) => (Password::choose(&typed.0, &username).map_err(weak)?, None),
            None => made_password()?,
        };
        let command = AccessCommand::CreatePerson {
            username: username.clone(),
            name,
            password: self.hash(password).await?,
            must_change: true,
            grants,
        };
        self.change_access(caller, command).await?;
        self.person_reply(caller, username.as_str(), made).await
    }

    /// Changes a person.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn patch_person(
        &self,
        caller: &Caller,
        username: &str,
        body: &PersonPatchBody,
    ) -> Answer {
        allow(caller, Action::ManagePeople, Resource::Installation)?;
        let username = Slug::parse(username).map_err(|_| ProblemKind::UnknownPerson)?;
        let is_own = caller.identity.principal.name() == username.as_str();
        if is_own && (body.roles.is_some() || body.activo.is_some() || body.nueva_contrasena) {
            let reason = (
                "nadie cambia sus propios roles ni su propio acceso",
                "nobody changes their own roles or access",
            );
            return Err(Problem::of(ProblemKind::Forbidden).because(reason).into());
        }
        if body.segundo_factor == Some(true) {
            let reason = (
                "segundo_factor: cada quien pone el suyo",
                "segundo_factor: each sets up their own",
            );
            return Err(invalid_value(reason));
        }
        let (password, made) = if body.nueva_contrasena {
            let (password, made) = made_password()?;
            (Some(self.hash(password).await?), made)
        } else {
            (None, None)
        };
        let patch = PersonPatch {
            name: label("nombre", body.nombre.as_deref())?,
            active: body.activo,
            grants: body.roles.as_deref().map(grants).transpose()?,
            password,
            forget_second_factor: body.segundo_factor == Some(false),
        };
        let command = AccessCommand::PatchPerson(username.clone(), patch);
        self.change_access(caller, command).await?;
        self.person_reply(caller, username.as_str(), made).await
    }

    /// One person.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn show_person(&self, caller: &Caller, username: &str) -> Answer {
        self.person_reply(caller, username, None).await
    }

    /// People.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn list_people(
        &self,
        caller: &Caller,
        limit_text: &str,
        cursor_text: &str,
    ) -> Answer {
        let reach = allow(caller, Action::ReadPeople, Resource::Any)?;
        let limit = limit(limit_text)?;
        let after = cursor(cursor_text)?.unwrap_or(0);
        let found = self
            .read(move |c| queries::people(c, &reach, None, after, limit + 1))
            .await?;
        reply(&page(
            found,
            limit,
            |person| person.row,
            |person| person_resource(person, None),
        ))
    }

    /// Makes a token for a program.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn create_token(&self, caller: &Caller, body: &TokenBody) -> Answer {
        allow(caller, Action::ManagePeople, Resource::Installation)?;
        if !(1..=366).contains(&body.dias) {
            return Err(invalid_value((
                "dias: se espera de 1 a 366",
                "dias: expected 1 to 366",
            )));
        }
        let random = random().map_err(|_| ProblemKind::Internal)?;
        let token = Token::new(TokenUse::Program, random);
        let command = AccessCommand::CreateToken {
            name: new_name("nombre", &body.nombre)?,
            digest: token.digest(),
            expires_at: self.parts.clock.now() + body.dias * DAY,
            grants: grants(&body.roles)?,
        };
        let id = self.change_access(caller, command).await?;
        let found = self
            .read(move |c| queries::tokens(c, Some(id), 0, 1))
            .await?;
        let made = found.into_iter().next().ok_or(ProblemKind::Internal)?;
        reply(&token_resource(made, Some(token.reveal().to_owned())))
    }

    /// Tokens of programs.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn list_tokens(
        &self,
        caller: &Caller,
        limit_text: &str,
        cursor_text: &str,
    ) -> Answer {
        allow(caller, Action::ReadPeople, Resource::Installation)?;
        let limit = limit(limit_text)?;
        let after = cursor(cursor_text)?.unwrap_or(0);
        let found = self
            .read(move |c| queries::tokens(c, None, after, limit + 1))
            .await?;
        let found = found.into_iter().map(|token| (token.id, token)).collect();
        reply(&rows(found, limit, |token| token_resource(token, None)))
    }

    /// Revokes a token; what is open with it ends at once.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn revoke_token(&self, caller: &Caller, id: &str) -> Result<(), Failure> {
        allow(caller, Action::ManagePeople, Resource::Installation)?;
        let id = id.parse().map_err(|_| ProblemKind::UnknownToken)?;
        let command = AccessCommand::RevokeToken(id);
        self.change_access(caller, command).await.map(drop)
    }

    /// Who did what to access and settings, newest first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn audit(
        &self,
        caller: &Caller,
        asked: (&str, &str, &str),
        limit_text: &str,
        cursor_text: &str,
    ) -> Answer {
        let reach = allow(caller, Action::ReadAudit, Resource::Any)?;
        let (username, from, until) = asked;
        let filter = AuditFilter {
            companies: reach.company_rows(),
            subject: match optional(username) {
                None => None,
                Some(username) => match self.person_called(&username) {
                    Ok(row) => Some(row),
                    // Who there is elsewhere is not to be found out: nobody has no lines.
                    Err(_) if reach != Reach::All => Some(NOBODY),
                    Err(unknown) => return Err(unknown),
                },
            },
            from: moment("desde", from)?,
            until: moment("hasta", until)?,
        };
        let limit = usize::try_from(limit(limit_text)?.min(i64::from(PAGE_MAX))).unwrap_or(0);
        let before = cursor(cursor_text)?.unwrap_or(i64::MAX);
        let (found, next) = self
            .read(move |c| queries::audit(c, &filter, before, limit))
            .await?;
        let lines = found
            .into_iter()
            .filter_map(|AuditView { entry, about }| AuditResource::new(&entry, about));
        reply(&Page {
            datos: lines.collect(),
            siguiente: next.map(|seq| seq.to_string()),
        })
    }

    fn person_called(&self, username: &str) -> Result<i64, Failure> {
        let username = Slug::parse(username).map_err(|_| ProblemKind::UnknownPerson)?;
        let person = self.parts.access.person(&username);
        Ok(person.ok_or(ProblemKind::UnknownPerson)?.row)
    }

    async fn person_reply(&self, caller: &Caller, name: &str, made: Option<String>) -> Answer {
        let reach = allow(caller, Action::ReadPeople, Resource::Any)?;
        let name = name.to_owned();
        let found = self
            .read(move |c| queries::people(c, &reach, Some(&name), 0, 1))
            .await?;
        let person = found.into_iter().next().ok_or(ProblemKind::UnknownPerson)?;
        reply(&person_resource(person, made))
    }

    async fn hash(&self, password: Password) -> Result<PasswordHash, Failure> {
        within(self.parts.doorkeeper.send(HashPassword(password)))
            .await?
            .map_err(busy)
    }

    async fn check_password(
        &self,
        caller: &Caller,
        username: &Slug,
        typed: &str,
    ) -> Result<(), Failure> {
        let asked = CheckPassword {
            username: username.clone(),
            password: Password::typed(typed),
            address: caller.address,
        };
        within(self.parts.doorkeeper.send(asked))
            .await?
            .map_err(not_in)
    }

    async fn change_access(&self, caller: &Caller, command: AccessCommand) -> Result<i64, Failure> {
        let origin = origin(caller);
        let order = AccessOrder {
            command,
            principal: origin.principal,
            channel: origin.channel,
            address: origin.address,
        };
        within(self.parts.doorkeeper.send(ChangeAccess(order)))
            .await?
            .map_err(refused)
    }
}

fn origin(caller: &Caller) -> Origin {
    Origin {
        principal: caller.identity.principal.clone(),
        channel: caller.channel,
        address: caller.address,
    }
}

/// The token that the caller has shown.
fn standing(caller: &Caller) -> Result<&Standing, Problem> {
    let standing = caller.standing.as_ref();
    standing.ok_or_else(|| ProblemKind::Unauthenticated.into())
}

/// Refuses who must choose a password first.
fn settled(caller: &Caller) -> Result<(), Problem> {
    if caller.identity.must_change {
        return Err(ProblemKind::PasswordMustChange.into());
    }
    Ok(())
}

/// The session that the caller is in, and their name: a program's token has neither a password nor
/// a session to end.
fn own_session(caller: &Caller) -> Result<(&Standing, Slug), Problem> {
    let standing = standing(caller)?;
    if standing.pass.session.is_none() {
        let reason = (
            "un token de programa no tiene sesión",
            "a program's token has no session",
        );
        return Err(Problem::of(ProblemKind::Forbidden).because(reason));
    }
    Ok((standing, standing.subject.username.clone()))
}

/// The name of somebody new. Names of ours are not to be had, or an audit would mislead.
fn new_username(text: &str) -> Result<Slug, Failure> {
    let username = new_name("usuario", text)?;
    if crate::first_run::is_of_demo(&username) {
        return Err(invalid_value((
            "usuario: ese nombre es de la demostración, que lo deja fuera",
            "usuario: that name is the demo's, which shuts it out",
        )));
    }
    Ok(username)
}

/// The name of somebody or something new, which is none of Atalaya's own.
fn new_name(field: &'static str, text: &str) -> Result<Slug, Failure> {
    let username = slug(field, text)?;
    let own = [
        Principal::Local,
        Principal::System,
        Principal::Device,
        Principal::Automation,
    ];
    if own.iter().any(|own| own.name() == username.as_str()) {
        let reason = ("ese nombre es de Atalaya", "that name is Atalaya's own");
        return Err(invalid_value(Reason::from(reason).about(field)));
    }
    Ok(username)
}

/// A password that is easy to type and impossible to guess, with what to tell.
fn made_password() -> Result<(Password, Option<String>), Failure> {
    let text = crate::first_run::made_password().map_err(|_| ProblemKind::Internal)?;
    Ok((Password::typed(&text), Some(text)))
}

fn grants(bodies: &[GrantBody]) -> Result<Vec<GrantSpec>, Failure> {
    let wrong = |reason| Failure::from(Problem::of(ProblemKind::InvalidGrant).because(reason));
    if bodies.len() > GRANTS {
        return Err(wrong(("más de 50 roles", "more than 50 roles")));
    }
    let specs: Vec<GrantSpec> = bodies.iter().map(grant).collect::<Result<_, _>>()?;
    let admin = specs.iter().any(|spec| spec.role == Role::Admin);
    if admin && specs.len() > 1 {
        return Err(wrong((
            "admin no se combina con otro rol: quien administra no mueve dinero",
            "admin goes with no other role: who administers moves no money",
        )));
    }
    Ok(specs)
}

fn grant(body: &GrantBody) -> Result<GrantSpec, Failure> {
    let wrong = |reason| Failure::from(Problem::of(ProblemKind::InvalidGrant).because(reason));
    let role = Role::parse(&body.rol).ok_or_else(|| {
        wrong((
            "rol: se espera admin, operador, cajero, cliente o auditor",
            "rol: expected admin, operador, cajero, cliente or auditor",
        ))
    })?;
    let named = |field: &str, text: &Option<String>| {
        let parsed = text.as_deref().map(|text| slug(field, text));
        parsed.transpose()
    };
    let spec = GrantSpec {
        role,
        company: named("empresa", &body.empresa)?,
        site: named("sede", &body.sede)?,
        account: body
            .cedula
            .as_deref()
            .map(crate::wire::requests::account_id)
            .transpose()?,
    };
    let fits = scope(&spec).is_some_and(|scope| Grant::new(role, scope).is_ok());
    if fits {
        return Ok(spec);
    }
    Err(wrong((
        "admin va sin ámbito; operador y auditor sin ámbito o con empresa; cajero con empresa, y con \
         sede si solo trabaja en una; cliente con cedula",
        "admin goes without scope; operador and auditor without or with empresa; cajero with empresa, \
         and sede if tied to one; cliente with cedula",
    )))
}

/// The scope that a spec asks for, as far as its form goes; rows are looked up in the commit.
fn scope(spec: &GrantSpec) -> Option<Scope> {
    let company = |slug: &Slug| CompanyRef {
        row: 0,
        slug: slug.clone(),
    };
    match (&spec.company, &spec.site, &spec.account) {
        (None, None, None) => Some(Scope::Everything),
        (Some(slug), None, None) => Some(Scope::Company(company(slug))),
        (Some(slug), Some(site), None) => Some(Scope::Site(company(slug), site.clone())),
        (None, None, Some(account)) => Some(Scope::Account(AccountId::clone(account))),
        _ => None,
    }
}

fn identity_resource(standing: &Standing) -> IdentityResource {
    let Identity {
        grants,
        must_change,
        ..
    } = &*standing.subject.identity;
    IdentityResource {
        token: None,
        csrf: None,
        sesion: standing.pass.session,
        usuario: standing.subject.username.to_string(),
        roles: grants.iter().map(GrantBody::from).collect(),
        cambiar_contrasena: *must_change,
        segundo_factor: standing.subject.has_second_factor,
        vence: (standing.pass.expires_at != i64::MAX).then_some(Moment(standing.pass.expires_at)),
    }
}

fn person_resource(person: PersonView, made: Option<String>) -> PersonResource {
    PersonResource {
        usuario: person.username,
        nombre: person.name,
        activo: person.active,
        roles: person.grants.iter().map(GrantBody::from).collect(),
        cambiar_contrasena: person.must_change,
        segundo_factor: person.has_second_factor,
        creado: Moment(person.created_at),
        contrasena: made,
    }
}

fn token_resource(token: TokenView, made: Option<String>) -> TokenResource {
    TokenResource {
        id: token.id,
        nombre: token.name,
        roles: token.grants.iter().map(GrantBody::from).collect(),
        creado: Moment(token.created_at),
        creado_por: token.created_by,
        vence: Moment(token.expires_at),
        revocado: token.revoked_at.map(Moment),
        token: made,
    }
}

fn weak(error: WeakPassword) -> Failure {
    let reason = match error {
        WeakPassword::TooShort => ("menos de 12 caracteres", "fewer than 12 characters"),
        WeakPassword::TooLong => ("más de 256 caracteres", "more than 256 characters"),
        WeakPassword::HoldsName => ("contiene el nombre del usuario", "it holds the user's name"),
        WeakPassword::TooSimple => (
            "demasiado repetida o en orden",
            "too repetitive or in a row",
        ),
    };
    Problem::of(ProblemKind::WeakPassword)
        .because(reason)
        .into()
}

fn busy(_: Busy) -> Failure {
    ProblemKind::Overloaded.into()
}

fn not_in(error: NotIn) -> Failure {
    match error {
        NotIn::Wrong => ProblemKind::WrongCredentials.into(),
        NotIn::CodeNeeded => ProblemKind::CodeNeeded.into(),
        NotIn::WrongCode => ProblemKind::WrongCode.into(),
        NotIn::TooOften(seconds) => Problem::of(ProblemKind::TooManyAttempts)
            .after_seconds(seconds)
            .into(),
        NotIn::Busy(error) => busy(error),
        NotIn::Refused(refusal) => refused(refusal),
    }
}

/// What refusals of access are to clients.
fn refused(refusal: AccessRefusal) -> Failure {
    match refusal {
        AccessRefusal::UnknownPerson => ProblemKind::UnknownPerson,
        AccessRefusal::PersonExists => ProblemKind::PersonExists,
        AccessRefusal::UnknownSession => ProblemKind::UnknownSession,
        AccessRefusal::UnknownToken => ProblemKind::UnknownToken,
        AccessRefusal::TokenExists => ProblemKind::TokenExists,
        AccessRefusal::LastAdmin => ProblemKind::LastAdmin,
        // Between the password and the commit somebody shut them out: as if it were wrong.
        AccessRefusal::Inactive => ProblemKind::WrongCredentials,
        AccessRefusal::CodeUsed => ProblemKind::WrongCode,
        AccessRefusal::NotGranted(reason) => {
            let reason = match reason {
                NotGranted::UnknownCompany => ("la empresa no existe", "no such company"),
                NotGranted::UnknownSite => ("la sede no existe", "no such site"),
                NotGranted::Mismatch => ("la sede necesita empresa", "a site needs its company"),
            };
            return Problem::of(ProblemKind::InvalidGrant)
                .because(reason)
                .into();
        }
        AccessRefusal::Write(error) => return super::unwritten(error),
    }
    .into()
}
