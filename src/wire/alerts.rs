//! What is said about alerts: the answer to a device, orders to the site's devices, and each change
//! in an alert's life.

use super::events::{Event, Qos};
use super::numbers::Moment;
use super::topics;
use crate::domain::validation::Reason;
use crate::domain::{AlertStep, DeviceAddress, DeviceCommand, Entry, RuleRef, Slug};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// Which version of which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(title = "VersionDeRegla")]
pub struct RuleVersion {
    /// The rule.
    pub id: i64,
    /// Its version.
    pub version: i64,
}

impl From<RuleRef> for RuleVersion {
    fn from(rule: RuleRef) -> Self {
        Self {
            id: rule.id,
            version: rule.version,
        }
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// `ACEPTADA`.
    Accepted,
    /// `DUPLICADA`.
    Duplicate,
    /// `RECHAZADA`.
    Rejected(Reason),
}

impl Outcome {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "ACEPTADA",
            Self::Duplicate => "DUPLICADA",
            Self::Rejected(_) => "RECHAZADA",
        }
    }
}

/// `empresas/{empresa}/{sede}/{hardware}/respuesta`, and the answer to the same over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(title = "Respuesta")]
pub struct ReplyBody {
    /// The alert that the message made or repeated; `null` for a heartbeat and a rejection.
    #[schema(required = true)]
    pub alerta_id: Option<Uuid>,
    /// `ACEPTADA`, `DUPLICADA` or `RECHAZADA`.
    pub estado: &'static str,
    /// Why it was rejected.
    #[schema(required = true)]
    pub motivo: Option<&'static str>,
    /// The number of the message, where it could be read.
    #[schema(required = true)]
    pub seq: Option<u64>,
    /// SHA-256 of the message in hexadecimal.
    pub huella: String,
    /// When it was decided.
    pub timestamp: Moment,
    /// The rules that it set off.
    pub reglas: Vec<RuleVersion>,
}

impl ReplyBody {
    /// The answer to the message with this number and digest.
    #[must_use]
    pub fn new(outcome: Outcome, seq: Option<u64>, digest: &[u8; 32], at: i64) -> Self {
        Self {
            alerta_id: None,
            estado: outcome.name(),
            motivo: match outcome {
                Outcome::Rejected(reason) => Some(reason.name()),
                Outcome::Accepted | Outcome::Duplicate => None,
            },
            seq,
            huella: hex(digest),
            timestamp: Moment(at),
            reglas: Vec::new(),
        }
    }

    /// The same answer about an alert and the rules that it set off.
    #[must_use]
    pub fn about(mut self, alert: Option<Uuid>, rules: &[RuleRef]) -> Self {
        self.alerta_id = alert;
        self.reglas = rules.iter().copied().map(Into::into).collect();
        self
    }

    /// The event that tells the device.
    #[must_use]
    pub fn event(&self, device: &DeviceAddress) -> Event {
        Event::new(topics::reply(device), self, Qos::AtLeastOnce, false)
    }
}

/// `empresas/{empresa}/alertas`.
#[derive(Debug, Clone, Serialize)]
struct AlertEvent<'a> {
    alerta_id: Uuid,
    cambio: &'static str,
    estado: &'static str,
    empresa: &'a str,
    sede: &'a str,
    hardware: &'a str,
    tipo_alarma: &'a str,
    prioridad: &'static str,
    repeticiones: i64,
    tardia: bool,
    congela_retiros: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    descripcion: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ubicacion: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datos: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    motivo: Option<&'a str>,
    por: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notificar: Vec<&'a str>,
    reglas: Vec<RuleVersion>,
    timestamp: Moment,
}

/// The events of a step in the order in which they are published: the answer to the device first,
/// since it waits; then the orders, then the news for people.
#[must_use]
pub fn events_of(entry: &Entry, step: &AlertStep) -> Vec<Event> {
    let mut events = Vec::with_capacity(2 + step.texts.commands.len());
    if let Some(message) = &step.message {
        let reply = ReplyBody::new(
            Outcome::Accepted,
            Some(message.seq),
            &message.digest,
            entry.at,
        )
        .about(Some(step.alert_id), &step.rules);
        events.push(reply.event(&step.address));
    }
    for command in step.texts.commands.iter().filter(|command| !command.held) {
        events.push(command_event(entry.at, step, command));
    }
    events.push(news(entry, step));
    events
}

fn news(entry: &Entry, step: &AlertStep) -> Event {
    let content = &step.texts.content;
    let raw = |text: &'_ Option<String>| -> Option<Box<RawValue>> {
        RawValue::from_string(text.clone()?).ok()
    };
    let (location, data) = (raw(&content.location), raw(&content.data));
    let body = AlertEvent {
        alerta_id: step.alert_id,
        cambio: step.change.name(),
        estado: step.state.name(),
        empresa: step.address.company.as_str(),
        sede: step.address.site.as_str(),
        hardware: step.address.device.as_str(),
        tipo_alarma: step.kind.as_str(),
        prioridad: step.priority.name(),
        repeticiones: step.count,
        tardia: step.late,
        congela_retiros: step.freezes,
        descripcion: content.description.as_deref(),
        ubicacion: location.as_deref(),
        datos: data.as_deref(),
        motivo: step.texts.reason.as_deref(),
        por: entry.principal.name(),
        notificar: step.notify.iter().map(Slug::as_str).collect(),
        reglas: step.rules.iter().copied().map(Into::into).collect(),
        timestamp: Moment(entry.at),
    };
    let topic = topics::company_alerts(&step.address.company);
    Event::new(topic, &body, Qos::AtLeastOnce, false)
}

fn command_event(at: i64, step: &AlertStep, command: &DeviceCommand) -> Event {
    let device = DeviceAddress {
        device: command.device.clone(),
        ..step.address.clone()
    };
    Event {
        topic: topics::command(&device),
        payload: Bytes::from(command_body(at, step.alert_id, command)),
        qos: Qos::AtLeastOnce,
        retain: false,
    }
}

/// An order to a device: whose alert, which kind and how urgent first, then what the rule says in
/// the order in which it says it, then which rule and when.
#[must_use]
pub fn command_body(at: i64, step_alert: Uuid, command: &DeviceCommand) -> String {
    let alert = command.alert.unwrap_or(step_alert);
    let timestamp = Moment(at).to_string();
    let Some(payload) = &command.payload else {
        return format!(
            r#"{{"alerta_id":"{alert}","tipo_alarma":"NORMAL","timestamp":"{timestamp}"}}"#
        );
    };
    let (kind, priority) = (&command.kind, command.priority.name());
    let inner = payload
        .trim()
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap_or_default()
        .trim();
    let comma = if inner.is_empty() { "" } else { "," };
    let rule = command.rule.map_or_else(String::new, |rule| {
        format!(
            r#","regla":{{"id":{},"version":{}}}"#,
            rule.id, rule.version
        )
    });
    format!(
        r#"{{"alerta_id":"{alert}","tipo_alarma":"{kind}","prioridad":"{priority}"{comma}{inner}{rule},"timestamp":"{timestamp}"}}"#
    )
}

/// An alert (`alerta`).
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "Alerta")]
pub struct AlertResource {
    /// Names it for ever.
    pub alerta_id: Uuid,
    /// Its company.
    pub empresa: String,
    /// Its site.
    pub sede: String,
    /// Its device.
    pub hardware: String,
    /// What kind.
    pub tipo_alarma: String,
    /// `critica`, `alta`, `media` or `baja`.
    pub prioridad: &'static str,
    /// `NUEVA`, `RECONOCIDA`, `RESUELTA` or `DESCARTADA`.
    pub estado: &'static str,
    /// Whether it came too late to drive hardware.
    pub tardia: bool,
    /// How often it was raised.
    pub repeticiones: i64,
    /// How often it was escalated.
    pub escaladas: i64,
    /// Whether it freezes withdrawals at its site while it is open.
    pub congela_retiros: bool,
    /// When it was raised.
    pub creada: Moment,
    /// When it changed last.
    pub actualizada: Moment,
    /// When somebody acknowledged it.
    #[schema(required = true)]
    pub reconocida: Option<Moment>,
    /// When it was resolved or discarded.
    #[schema(required = true)]
    pub cerrada: Option<Moment>,
    /// In words.
    #[schema(required = true)]
    pub descripcion: Option<String>,
    /// Where: an object.
    #[schema(required = true, value_type = Option<Object>)]
    pub ubicacion: Option<Box<RawValue>>,
    /// Anything else: an object.
    #[schema(required = true, value_type = Option<Object>)]
    pub datos: Option<Box<RawValue>>,
}

/// An order as it stands in a history.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "ComandoDado")]
pub struct CommandResource {
    /// Which device.
    pub hardware: String,
    /// What it was told.
    #[schema(value_type = Object)]
    pub comando: Box<RawValue>,
}

/// A step in an alert's history.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "PasoDeAlerta")]
pub struct StepResource {
    /// `CREADA`, `RECONOCIDA`, `RESUELTA`, `DESCARTADA` or `ESCALADA`.
    pub cambio: &'static str,
    /// Where it stood afterwards.
    pub estado: &'static str,
    /// By whom.
    pub por: String,
    /// Through which edge.
    pub canal: &'static str,
    /// What proved the message behind it: `firma`, `broker` or `heredada`; `null` where there is
    /// none.
    #[schema(required = true)]
    pub confianza: Option<&'static str>,
    /// Why.
    #[schema(required = true)]
    pub motivo: Option<String>,
    /// When.
    pub timestamp: Moment,
    /// The rules behind it.
    pub reglas: Vec<RuleVersion>,
    /// What devices were told.
    pub comandos: Vec<CommandResource>,
    /// Which groups were to be told.
    pub notificar: Vec<String>,
    /// Where it stands in the journal.
    pub posicion: String,
}

impl StepResource {
    /// The step of `entry`.
    #[must_use]
    pub fn new(entry: &Entry, step: &AlertStep) -> Self {
        let given = step.texts.commands.iter().filter(|command| !command.held);
        let commands = given.filter_map(|command| {
            let body = command_body(entry.at, step.alert_id, command);
            Some(CommandResource {
                hardware: command.device.to_string(),
                comando: RawValue::from_string(body).ok()?,
            })
        });
        Self {
            cambio: step.change.name(),
            estado: step.state.name(),
            por: entry.principal.name().to_owned(),
            canal: entry.channel.name(),
            confianza: step.message.as_ref().map(|message| message.trust().name()),
            motivo: step.texts.reason.clone(),
            timestamp: Moment(entry.at),
            reglas: step.rules.iter().copied().map(Into::into).collect(),
            comandos: commands.collect(),
            notificar: step.notify.iter().map(ToString::to_string).collect(),
            posicion: entry.position.to_string(),
        }
    }
}

/// One alert with its history.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "AlertaConHistoria")]
pub struct AlertDetail {
    /// The alert.
    #[serde(flatten)]
    pub alerta: AlertResource,
    /// Its steps, newest first.
    pub historia: Vec<StepResource>,
    /// The cursor of the next page of the history, `null` on the last.
    #[schema(required = true)]
    pub siguiente: Option<String>,
}

/// What a message would become.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "Validacion")]
pub struct ValidationResource {
    /// Whether it would be taken.
    pub valida: bool,
    /// `ACEPTADA`, `DUPLICADA` or `RECHAZADA`.
    pub estado: &'static str,
    /// Why it would be rejected.
    #[schema(required = true)]
    pub motivo: Option<&'static str>,
    /// The same for the person who mends it.
    #[schema(required = true)]
    pub detalle: Option<String>,
    /// Whether it would come too late to drive hardware.
    pub tardia: bool,
    /// The device, where it is known.
    #[schema(required = true)]
    pub hardware: Option<String>,
    /// The kind, where it can be read.
    #[schema(required = true)]
    pub tipo_alarma: Option<String>,
    /// The number, where it can be read.
    #[schema(required = true)]
    pub seq: Option<u64>,
    /// The alert that it made when it came before.
    #[schema(required = true)]
    pub alerta_id: Option<Uuid>,
    /// What the rules would make of it.
    #[schema(required = true)]
    pub prueba: Option<TrialResource>,
}

/// What rules make of an alert, without effect.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "PruebaDeReglas")]
pub struct TrialResource {
    /// The alert, where one is stored.
    #[schema(required = true)]
    pub alerta_id: Option<Uuid>,
    /// Whether any of the rules applies.
    pub coincide: bool,
    /// The priority in the end.
    pub prioridad: &'static str,
    /// The rules that apply.
    pub reglas: Vec<RuleVersion>,
    /// What devices would be told.
    pub comandos: Vec<CommandResource>,
    /// Which groups would be told.
    pub notificar: Vec<String>,
    /// Whether withdrawals at the site would be frozen.
    pub congela_retiros: bool,
    /// Rules that fail on this alert, and how.
    pub errores: Vec<String>,
}

/// What rules make of several alerts.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "PruebasDeReglas")]
pub struct TrialsResource {
    /// How many alerts were tried.
    pub probadas: u64,
    /// To how many any rule applies.
    pub coinciden: u64,
    /// The first two hundred to which one applies or fails.
    pub resultados: Vec<TrialResource>,
}

/// What a device says of itself on `…/estado`.
#[derive(Debug, Clone, Deserialize)]
pub struct StatusBody {
    /// `en_linea` or `fuera_de_linea`.
    pub estado: String,
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}
