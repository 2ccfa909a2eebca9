//! Alerts at the desk: devices' messages, operators' alerts, the steps of a life, lists, and what
//! is in quarantine.

use super::rules::trial_resource;
use super::{
    Answer, Caller, Desk, Failure, PAGE, PAGE_MAX, Reply, allow, invalid_parameter, reply, within,
};
use crate::actors::alert_validator::{PlaceHubOrder, SubmitAlert, SubmitError, Submitted};
use crate::domain::validation::{self, Purpose, Reason as Why, Rejected};
use crate::domain::{
    Action, AlertChange, AlertState, Channel, Novelty, Priority, Prose, Reach, Resource, Slug,
};
use crate::storage::alert_queries::{self, AlertFilter, AlertView, SuspectView};
use crate::storage::hub::{Intent, Manual, intent_of};
use crate::storage::{HubAnswer, HubCommand, HubOrder, HubRefusal};
use crate::wire::alerts::{
    AlertDetail, AlertResource, Outcome, StepResource, ValidationResource, hex,
};
use crate::wire::jws;
use crate::wire::numbers::Moment;
use crate::wire::problem::Rejection;
use crate::wire::registry::{AlertBody, StepBody, SuspectResource};
use crate::wire::resources::Page;
use crate::wire::{Problem, ProblemKind, Reason};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::value::RawValue;
use uuid::Uuid;

/// What `POST /alertas` takes.
#[derive(Debug)]
pub enum AlertRequest {
    /// A device's signed message, as it is.
    Signed(Bytes),
    /// An operator who acts for a device.
    ForDevice(AlertBody),
}

/// Which alerts are asked for, as text.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the parameters of GET /alertas")]
pub struct AlertQuery {
    pub empresa: String,
    pub sede: String,
    pub hardware: String,
    pub estado: String,
    pub tipo_alarma: String,
    pub prioridad: String,
    pub desde: String,
    pub hasta: String,
    pub abiertas: String,
    pub limite: String,
    pub cursor: String,
}

impl Desk {
    /// Takes an alert. The second value is whether it was new.
    ///
    /// # Errors
    /// [`Failure`], 422 `alerta_rechazada` with the reason among them.
    pub async fn take_alert(
        &self,
        caller: &Caller,
        request: AlertRequest,
    ) -> Result<(Reply, bool), Failure> {
        match request {
            AlertRequest::Signed(message) => {
                allow(caller, Action::SubmitAlert, Resource::Installation)?;
                self.submit(message, caller.channel, None).await
            }
            AlertRequest::ForDevice(body) => self.raise_for(caller, &body).await,
        }
    }

    async fn submit(
        &self,
        message: Bytes,
        channel: Channel,
        topic: Option<crate::domain::DeviceAddress>,
    ) -> Result<(Reply, bool), Failure> {
        let submitted = within(self.parts.validator.send(SubmitAlert {
            message,
            topic,
            channel,
            received_at: self.parts.clock.now(),
        }))
        .await?
        .map_err(unsubmitted)?;
        answer_submitted(submitted)
    }

    async fn raise_for(&self, caller: &Caller, body: &AlertBody) -> Result<(Reply, bool), Failure> {
        let manual = manual(body)?;
        let within = allow(caller, Action::ActForDevice, Resource::Any)?;
        self.is_within(&within, &manual.device)?;
        let command = HubCommand::Raise(manual);
        match self.order(caller, command).await? {
            HubAnswer::Alert { id, created } => Ok((self.alert_reply(id).await?, created)),
            _ => Err(ProblemKind::Internal.into()),
        }
    }

    /// Whether a device is there, as far as `within` reaches.
    fn is_within(&self, within: &Reach, device: &Slug) -> Result<(), Failure> {
        let registry = self.parts.view.registry();
        let address = registry
            .device(device)
            .and_then(|device| registry.address_of(device));
        let company = address.and_then(|address| registry.company(&address.company).cloned());
        if company.is_some_and(|company| within.has_company(company.row)) {
            return Ok(());
        }
        Err(ProblemKind::UnknownDevice.into())
    }

    /// Says what would become of an alert, without effect.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn validate_alert(&self, caller: &Caller, request: AlertRequest) -> Answer {
        let within = allow(caller, Action::ActForDevice, Resource::Any)?;
        match request {
            AlertRequest::Signed(message) => self.validate_signed(&within, message).await,
            AlertRequest::ForDevice(body) => self.validate_manual(&within, &body).await,
        }
    }

    async fn validate_signed(&self, within: &Reach, message: Bytes) -> Answer {
        let now = self.parts.clock.now();
        let registry = self.parts.view.registry();
        let installation = self.parts.installation.clone();
        let within = within.clone();
        // The signature is checked where it holds nobody up.
        let checked = tokio::task::spawn_blocking(move || {
            let parsed = match jws::parse(&message) {
                Ok(parsed) => parsed,
                Err(malformed) => return (None, Err(malformed.rejected())),
            };
            let located = validation::identify(&registry, &parsed, None)
                // What lies outside answers like what is not registered.
                .and_then(|located| {
                    let reached = within.has_company(located.company.row);
                    reached.then_some(located).ok_or(validation::UNKNOWN_DEVICE)
                });
            let checked = located.and_then(|located| {
                let key = validation::key_of(&registry, &parsed, &located.device)?;
                let company = &located.company;
                let seconds = now.div_euclid(1_000_000);
                let purpose =
                    validation::verify(&registry, &parsed, &key, company, &installation, seconds)?;
                let content = &parsed.claims.content;
                Ok((
                    key.row,
                    intent_of(&registry, &located, purpose, content, now),
                ))
            });
            (Some(parsed), checked)
        });
        let (parsed, checked) = checked.await.map_err(|_| ProblemKind::ShuttingDown)?;
        let mut body = ValidationResource {
            valida: false,
            estado: Outcome::Rejected(Why::Form).name(),
            motivo: None,
            detalle: None,
            tardia: false,
            hardware: parsed.as_ref().map(|p| p.claims.subject.device.to_string()),
            tipo_alarma: parsed.as_ref().map(|p| p.claims.kind.to_string()),
            seq: parsed.as_ref().map(|p| p.claims.seq),
            alerta_id: None,
            prueba: None,
        };
        match (checked, parsed) {
            (Ok((key, intent)), Some(parsed)) => {
                let (seq, digest) = (parsed.claims.seq, parsed.digest);
                let (novelty, made) = self
                    .read(move |c| alert_queries::novelty(c, key, seq, &digest))
                    .await?;
                judge(&mut body, novelty, &intent, now);
                body.alerta_id = made;
            }
            (Err(rejected), _) => reject(&mut body, rejected),
            (Ok(_), None) => return Err(ProblemKind::Internal.into()),
        }
        reply(&body)
    }

    async fn validate_manual(&self, within: &Reach, body: &AlertBody) -> Answer {
        let manual = manual(body)?;
        self.is_within(within, &manual.device)?;
        let registry = self.parts.view.registry();
        let now = self.parts.clock.now();
        let device = registry.device(&manual.device);
        let address = device.and_then(|device| registry.address_of(device));
        let address = address.ok_or(ProblemKind::UnknownDevice)?;
        let mut resource = ValidationResource {
            valida: false,
            estado: Outcome::Accepted.name(),
            motivo: None,
            detalle: None,
            tardia: false,
            hardware: Some(manual.device.to_string()),
            tipo_alarma: Some(manual.kind.to_string()),
            seq: None,
            alerta_id: None,
            prueba: None,
        };
        let checked = validation::locate(&registry, &address).and_then(|located| {
            let kind = validation::kind_of(&registry, located.company.row, &manual.kind)?;
            Ok((located, kind))
        });
        match checked {
            Ok((located, kind)) => {
                let content = manual.content.clone();
                let purpose = Purpose::Alert { kind, late: false };
                let intent = tokio::task::spawn_blocking(move || {
                    intent_of(&registry, &located, purpose, &content, now)
                });
                let intent = intent.await.map_err(|_| ProblemKind::ShuttingDown)?;
                resource.valida = true;
                resource.prueba = trial_of(&intent, now);
            }
            Err(rejected) => reject(&mut resource, rejected),
        }
        reply(&resource)
    }

    /// Lists alerts, newest first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn list_alerts(&self, caller: &Caller, query: AlertQuery) -> Answer {
        let filter = alert_filter(&query)?;
        let within = allow(caller, Action::ReadAlerts, Resource::Any)?;
        let limit = limit(&query.limite)?;
        let before = cursor(&query.cursor)?.unwrap_or(i64::MAX);
        let found = self
            .read(move |c| alert_queries::alerts(c, &within, &filter, before, limit + 1))
            .await?;
        reply(&page(found, limit, |alert| alert.row, alert_resource))
    }

    /// One alert with a page of its history, newest first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn show_alert(
        &self,
        caller: &Caller,
        id: &str,
        limit_text: &str,
        cursor_text: &str,
    ) -> Answer {
        let within = allow(caller, Action::ReadAlerts, Resource::Any)?;
        let id = alert_id(id)?;
        let limit = usize::try_from(limit(limit_text)?).unwrap_or(0);
        let from = cursor(cursor_text)?;
        let found = self
            .read(move |c| {
                let Some(alert) = alert_queries::alert(c, &within, id)? else {
                    return Ok(None);
                };
                let from = from.unwrap_or(alert.last_seq);
                let steps = alert_queries::steps(c, alert.row, from, limit)?;
                Ok(Some((alert, steps)))
            })
            .await?;
        let (alert, steps) = found.ok_or(ProblemKind::UnknownAlert)?;
        let (entries, next) = steps.ok_or_else(|| {
            invalid_parameter((
                "cursor: no es de esta alerta",
                "cursor: not one of this alert",
            ))
        })?;
        let historia = entries.iter().filter_map(|entry| match &entry.fact {
            crate::domain::Fact::Alert(step) => Some(StepResource::new(entry, step)),
            _ => None,
        });
        reply(&AlertDetail {
            historia: historia.collect(),
            siguiente: next.map(|seq| seq.to_string()),
            alerta: alert_resource(alert),
        })
    }

    /// Takes an alert a step further.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn step_alert(
        &self,
        caller: &Caller,
        id: &str,
        change: AlertChange,
        body: &StepBody,
    ) -> Answer {
        let within = allow(caller, Action::HandleAlert, Resource::Any)?;
        let id = alert_id(id)?;
        let reason = body.motivo.as_deref().map(|text| prose("motivo", text));
        let reason = reason.transpose()?;
        let is_said = reason
            .as_ref()
            .is_some_and(|reason| !reason.as_str().is_empty());
        if change == AlertChange::Discarded && !is_said {
            let reason = (
                "motivo: una falsa alarma necesita uno",
                "motivo: a false alarm needs one",
            );
            return Err(invalid_value(reason));
        }
        let found = self
            .read(move |c| alert_queries::alert(c, &within, id))
            .await?;
        found.ok_or(ProblemKind::UnknownAlert)?;
        let command = HubCommand::Step {
            alert: id,
            change,
            reason,
        };
        self.order(caller, command).await?;
        self.alert_reply(id).await
    }

    /// Lists what is in quarantine, newest first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn list_suspects(
        &self,
        caller: &Caller,
        device: &str,
        reason: &str,
        limit_text: &str,
        cursor_text: &str,
    ) -> Answer {
        let within = allow(caller, Action::ReadQuarantine, Resource::Any)?;
        let limit = limit(limit_text)?;
        let before = cursor(cursor_text)?.unwrap_or(i64::MAX);
        let (device, reason) = (optional(device), optional(reason));
        let found = self
            .read(move |c| {
                let (device, reason) = (device.as_deref(), reason.as_deref());
                alert_queries::suspects(c, &within, device, reason, before, limit + 1)
            })
            .await?;
        reply(&page(found, limit, |suspect| suspect.id, suspect_resource))
    }

    /// One message in quarantine.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn show_suspect(&self, caller: &Caller, id: &str) -> Answer {
        let suspect = self.suspect(caller, id, Action::ReadQuarantine).await?;
        reply(&suspect_resource(suspect))
    }

    /// Hands a message in quarantine in again; it stays there until it is deleted.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn resubmit(&self, caller: &Caller, id: &str) -> Result<(Reply, bool), Failure> {
        let suspect = self.suspect(caller, id, Action::HandleQuarantine).await?;
        if suspect.truncated {
            return Err(ProblemKind::TruncatedSuspect.into());
        }
        let topic = suspect.topic.as_deref().and_then(|topic| {
            let crate::wire::topics::DeviceTopic::Alert(device) =
                crate::wire::topics::device_topic(topic)?
            else {
                return None;
            };
            Some(device)
        });
        self.submit(suspect.message.into(), caller.channel, topic)
            .await
    }

    /// Lets a message in quarantine go.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn release_suspect(&self, caller: &Caller, id: &str) -> Result<(), Failure> {
        let suspect = self.suspect(caller, id, Action::HandleQuarantine).await?;
        self.order(caller, HubCommand::Release(suspect.id))
            .await
            .map(drop)
    }

    async fn suspect(
        &self,
        caller: &Caller,
        id: &str,
        action: Action,
    ) -> Result<SuspectView, Failure> {
        let within = allow(caller, action, Resource::Any)?;
        let id: i64 = id.parse().map_err(|_| ProblemKind::UnknownSuspect)?;
        let found = self
            .read(move |c| alert_queries::suspect(c, &within, id))
            .await?;
        Ok(found.ok_or(ProblemKind::UnknownSuspect)?)
    }

    async fn alert_reply(&self, id: Uuid) -> Answer {
        let found = self
            .read(move |c| alert_queries::alert(c, &Reach::All, id))
            .await?;
        reply(&alert_resource(found.ok_or(ProblemKind::UnknownAlert)?))
    }

    /// Places an order with the hub and waits until it is durable.
    pub(super) async fn order(
        &self,
        caller: &Caller,
        command: HubCommand,
    ) -> Result<HubAnswer, Failure> {
        let order = HubOrder {
            command,
            principal: caller.identity.principal.clone(),
            channel: caller.channel,
        };
        let ticket = within(self.parts.validator.send(PlaceHubOrder(order)))
            .await?
            .map_err(super::unwritten)?;
        within(ticket).await?.map_err(refused)
    }
}

fn answer_submitted(submitted: Submitted) -> Result<(Reply, bool), Failure> {
    let Submitted {
        reply: body,
        rejected,
    } = submitted;
    // The detail is for operators; a stranger is told no more than a device on MQTT.
    let Some(Rejected { reason, .. }) = rejected else {
        let is_new = body.estado == Outcome::Accepted.name();
        return Ok((reply(&body)?, is_new));
    };
    let kind = if reason == Why::Limit {
        ProblemKind::RateLimited
    } else {
        ProblemKind::AlertRejected
    };
    let problem = Problem::of(kind)
        .because(Reason::technical(reason.name()))
        .about_message(Rejection {
            reason: reason.name(),
            seq: body.seq,
            digest: Some(body.huella),
        });
    Err(problem.into())
}

pub(super) fn unsubmitted(error: SubmitError) -> Failure {
    match error {
        SubmitError::Overloaded => ProblemKind::Overloaded,
        SubmitError::Unavailable => ProblemKind::StorageUnavailable,
        SubmitError::ShuttingDown => ProblemKind::ShuttingDown,
    }
    .into()
}

/// What the hub's refusals are to clients.
fn refused(refusal: HubRefusal) -> Failure {
    match refusal {
        HubRefusal::UnknownCompany => ProblemKind::UnknownCompany,
        HubRefusal::CompanyExists => ProblemKind::CompanyExists,
        HubRefusal::UnknownSite => ProblemKind::SiteNotFound,
        HubRefusal::SiteExists => ProblemKind::SiteExists,
        HubRefusal::UnknownDevice => ProblemKind::UnknownDevice,
        HubRefusal::DeviceExists => ProblemKind::DeviceExists,
        HubRefusal::UnknownDeviceType => ProblemKind::UnknownDeviceType,
        HubRefusal::UnknownKey => ProblemKind::UnknownDeviceKey,
        HubRefusal::TrustNotAllowed => ProblemKind::TrustNotAllowed,
        HubRefusal::NotLegacy => ProblemKind::NotLegacy,
        HubRefusal::TooManyKeys => ProblemKind::TooManyKeys,
        HubRefusal::UnknownAlert => ProblemKind::UnknownAlert,
        HubRefusal::UnknownRule => ProblemKind::UnknownRule,
        HubRefusal::RuleChanged => ProblemKind::RuleChanged,
        HubRefusal::UnknownSuspect => ProblemKind::UnknownSuspect,
        // Names of keys are made at random: it cannot be.
        HubRefusal::KeyExists => ProblemKind::Internal,
        HubRefusal::WrongStep(state) => {
            let problem = Problem::of(ProblemKind::WrongStep);
            return problem.because(Reason::technical(state.name())).into();
        }
        HubRefusal::NotRaised(rejected) => {
            let problem = Problem::of(ProblemKind::AlertRejected)
                .because(Reason::technical(rejected.detail))
                .about_message(Rejection {
                    reason: rejected.reason.name(),
                    seq: None,
                    digest: None,
                });
            return problem.into();
        }
        HubRefusal::Write(error) => return super::unwritten(error),
    }
    .into()
}

fn manual(body: &AlertBody) -> Result<Manual, Failure> {
    let content = jws::content(
        body.descripcion.as_deref(),
        body.ubicacion.as_deref(),
        body.datos.as_deref(),
    );
    Ok(Manual {
        device: slug("hardware", &body.hardware)?,
        kind: slug("tipo_alarma", &body.tipo_alarma)?,
        content: content.ok_or_else(|| {
            invalid_value((
                "se esperan un texto (descripcion) y objetos (ubicacion, datos)",
                "expected a text (descripcion) and objects (ubicacion, datos)",
            ))
        })?,
    })
}

fn judge(body: &mut ValidationResource, novelty: Novelty, intent: &Intent, now: i64) {
    body.tardia = intent.is_late();
    if let Some(rejected) = validation::out_of_sequence(novelty) {
        return reject(body, rejected);
    }
    let outcome = match novelty {
        Novelty::Repeat => Outcome::Duplicate,
        _ => Outcome::Accepted,
    };
    body.valida = true;
    body.estado = outcome.name();
    body.prueba = trial_of(intent, now);
}

fn reject(body: &mut ValidationResource, rejected: Rejected) {
    body.estado = Outcome::Rejected(rejected.reason).name();
    body.motivo = Some(rejected.reason.name());
    body.detalle = Some(rejected.detail.to_owned());
}

fn trial_of(intent: &Intent, now: i64) -> Option<crate::wire::alerts::TrialResource> {
    match intent {
        Intent::Alert { kind, plan, .. } => Some(trial_resource(None, &kind.code, plan, now)),
        Intent::Heartbeat { .. } => None,
    }
}

fn alert_filter(query: &AlertQuery) -> Result<AlertFilter, Failure> {
    let mut states: Option<Vec<AlertState>> = match query.estado.as_str() {
        "" => None,
        names => {
            let states = names
                .split(',')
                .map(AlertState::parse)
                .collect::<Option<_>>();
            Some(states.ok_or_else(|| parameter("estado"))?)
        }
    };
    match query.abiertas.as_str() {
        "" | "false" => {}
        "true" => states
            .get_or_insert_with(|| AlertState::ALL.to_vec())
            .retain(|state| state.is_open()),
        _ => return Err(parameter("abiertas")),
    }
    let priority = match query.prioridad.as_str() {
        "" => None,
        name => Some(Priority::parse(name).ok_or_else(|| parameter("prioridad"))?),
    };
    Ok(AlertFilter {
        company: optional(&query.empresa),
        site: optional(&query.sede),
        device: optional(&query.hardware),
        states,
        kind: optional(&query.tipo_alarma),
        priority,
        from: moment("desde", &query.desde)?,
        until: moment("hasta", &query.hasta)?,
        id: None,
    })
}

/// A moment in microseconds since 1970 UTC, if one is given.
pub(super) fn moment(name: &'static str, text: &str) -> Result<Option<i64>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed: Result<jiff::Timestamp, _> = text.parse();
    let parsed = parsed.map_err(|_| {
        let reason = ("se espera una fecha RFC 3339", "expected an RFC 3339 date");
        invalid_parameter(Reason::from(reason).about(name))
    })?;
    Ok(Some(parsed.as_microsecond()))
}

pub(super) fn alert_resource(alert: AlertView) -> AlertResource {
    let raw = |text: Option<String>| RawValue::from_string(text?).ok();
    AlertResource {
        alerta_id: alert.id,
        empresa: alert.company,
        sede: alert.site,
        hardware: alert.device,
        tipo_alarma: alert.kind,
        prioridad: alert.priority.name(),
        estado: alert.state.name(),
        tardia: alert.late,
        repeticiones: alert.count,
        escaladas: alert.escalations,
        congela_retiros: alert.freezes,
        creada: Moment(alert.raised_at),
        actualizada: Moment(alert.updated_at),
        reconocida: alert.acknowledged_at.map(Moment),
        cerrada: alert.closed_at.map(Moment),
        descripcion: alert.content.description,
        ubicacion: raw(alert.content.location),
        datos: raw(alert.content.data),
    }
}

fn suspect_resource(suspect: SuspectView) -> SuspectResource {
    SuspectResource {
        id: suspect.id,
        recibida: Moment(suspect.received_at),
        canal: suspect.channel().map(Channel::name),
        tema: suspect.topic,
        hardware: suspect.device,
        motivo: suspect.reason,
        detalle: suspect.detail,
        huella: hex(&suspect.digest),
        veces: suspect.count,
        mensaje_base64: BASE64_STANDARD.encode(&suspect.message),
        mensaje: String::from_utf8(suspect.message).ok(),
        truncado: suspect.truncated,
    }
}

/// A page of what was found, which is one more than was asked for where there is more.
pub(super) fn page<T, R, C: ToString>(
    mut found: Vec<T>,
    limit: i64,
    row: impl Fn(&T) -> C,
    resource: impl Fn(T) -> R,
) -> Page<R> {
    let limit = usize::try_from(limit).unwrap_or(0);
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found
        .last()
        .filter(|_| more)
        .map(|last| row(last).to_string());
    Page {
        datos: found.into_iter().map(resource).collect(),
        siguiente: next,
    }
}

/// How many items a page has.
pub(super) fn limit(text: &str) -> Result<i64, Failure> {
    let limit = match text {
        "" => Some(PAGE),
        text => text.parse().ok(),
    };
    limit
        .filter(|limit| (1..=PAGE_MAX).contains(limit))
        .map(i64::from)
        .ok_or_else(|| {
            invalid_parameter(("limite: se espera de 1 a 200", "limite: expected 1 to 200"))
        })
}

/// Where a page starts.
pub(super) fn cursor(text: &str) -> Result<Option<i64>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let cursor = text.parse::<i64>().ok().filter(|cursor| *cursor > 0);
    cursor
        .map(Some)
        .ok_or_else(|| invalid_parameter(("cursor: no es uno nuestro", "cursor: not one of ours")))
}

pub(super) fn optional(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn parameter(name: &'static str) -> Failure {
    let reason = ("no es un valor admitido", "not a value that is known");
    Problem::of(ProblemKind::InvalidParameter)
        .because(Reason::from(reason).about(name))
        .into()
}

pub(super) fn invalid_value(reason: impl Into<Reason>) -> Failure {
    Problem::of(ProblemKind::InvalidValue)
        .because(reason)
        .into()
}

/// A name in a topic, from the field called `field`.
pub(super) fn slug(field: &str, text: &str) -> Result<Slug, Failure> {
    Slug::parse(text).map_err(|error| invalid_value(Reason::from(error).about(field)))
}

/// A text for people, from the field called `field`.
pub(super) fn prose(field: &str, text: &str) -> Result<Prose, Failure> {
    Prose::parse(text).map_err(|error| invalid_value(Reason::from(error).about(field)))
}

pub(super) fn alert_id(text: &str) -> Result<Uuid, Failure> {
    Uuid::parse_str(text).map_err(|_| ProblemKind::UnknownAlert.into())
}
