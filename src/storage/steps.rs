//! Steps of alerts and changed settings as the journal holds them.
//!
//! The `details` of a row are JSON that is under the chain's hash for ever; what people and devices
//! said stands in `journal_texts` and is in the details by salted digest only. Field names are
//! short, since every alert writes them, and are for ever too.

use super::rows::codes;
use crate::domain::{
    AccessEvent, AccessFact, AccessTexts, AlertChange, AlertContent, AlertState, AlertStep,
    DeviceAddress, DeviceCommand, MessageRef, Priority, RuleRef, Slug, StepTexts, Subject,
};
use crate::wire::alerts::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

const TEXTS_DOMAIN: &[u8] = b"atalaya/journal/texts/v1\0";

codes!(
    pub(super) priority_code,
    priority_of,
    Priority,
    i32,
    Priority::Critical = 1,
    Priority::High = 2,
    Priority::Medium = 3,
    Priority::Low = 4,
);

codes!(
    pub(super) state_code,
    state_of,
    AlertState,
    i32,
    AlertState::New = 1,
    AlertState::Acknowledged = 2,
    AlertState::Resolved = 3,
    AlertState::Discarded = 4,
);

codes!(
    change_code,
    change_of,
    AlertChange,
    i32,
    AlertChange::Raised = 1,
    AlertChange::Repeated = 2,
    AlertChange::Acknowledged = 3,
    AlertChange::Resolved = 4,
    AlertChange::Discarded = 5,
    AlertChange::Escalated = 6,
);

codes!(
    subject_code,
    subject_of,
    Subject,
    i32,
    Subject::Company = 1,
    Subject::Site = 2,
    Subject::DeviceType = 3,
    Subject::Device = 4,
    Subject::DeviceKey = 5,
    Subject::AlertKind = 6,
    Subject::Rule = 7,
    Subject::Quarantine = 8,
    Subject::Refusals = 9,
);

codes!(
    event_code,
    event_of,
    AccessEvent,
    i32,
    AccessEvent::SignedIn = 1,
    AccessEvent::SignInFailed = 2,
    AccessEvent::Throttled = 3,
    AccessEvent::SignedOut = 4,
    AccessEvent::SessionEnded = 5,
    AccessEvent::PasswordChanged = 6,
    AccessEvent::SecondFactorChanged = 7,
    AccessEvent::PersonCreated = 8,
    AccessEvent::PersonChanged = 9,
    AccessEvent::TokenCreated = 10,
    AccessEvent::TokenRevoked = 11,
    AccessEvent::Refused = 12,
);

#[derive(Serialize, Deserialize)]
struct StepDetails {
    /// The alert: row and id.
    a: (i64, Uuid),
    /// The device's row.
    d: i64,
    /// Kind.
    k: String,
    /// Priority, late, change, state, count.
    s: (i32, bool, i32, i32, i64),
    /// Freezes withdrawals.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    f: bool,
    /// Groups to tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    n: Vec<String>,
    /// Rules: id and version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    r: Vec<(i64, i64)>,
    /// The message: kid, number, digest in hexadecimal, time of arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    m: Option<(String, u64, String, i64)>,
    /// Digest of the texts in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x: Option<String>,
}

/// The details of a step whose texts are `texts`.
pub(super) fn step_details(step: &AlertStep, texts: Option<&[u8]>) -> Vec<u8> {
    let details = StepDetails {
        a: (step.alert, step.alert_id),
        d: step.device,
        k: step.kind.to_string(),
        s: (
            priority_code(step.priority),
            step.late,
            change_code(step.change),
            state_code(step.state),
            step.count,
        ),
        f: step.freezes,
        n: step.notify.iter().map(ToString::to_string).collect(),
        r: step.rules.iter().map(|r| (r.id, r.version)).collect(),
        m: step.message.as_ref().map(|m| {
            let digest = hex(&m.digest);
            (m.key.to_string(), m.seq, digest, m.received_at)
        }),
        x: texts.map(|body| hex(&texts_digest(body))),
    };
    to_json(&details)
}

/// The step behind `details`; `texts` where they are not erased, `address` of the device's row.
pub(super) fn step_of(
    details: &[u8],
    previous: i64,
    texts: Option<&[u8]>,
    address: impl FnOnce(i64) -> Option<DeviceAddress>,
) -> Option<AlertStep> {
    let details: StepDetails = serde_json::from_slice(details).ok()?;
    let (priority, late, change, state, count) = details.s;
    let message = match details.m {
        None => None,
        Some((key, seq, digest, received_at)) => Some(MessageRef {
            key: Slug::parse(&key).ok()?,
            seq,
            digest: unhex(&digest)?,
            received_at,
        }),
    };
    Some(AlertStep {
        alert: details.a.0,
        alert_id: details.a.1,
        device: details.d,
        address: address(details.d)?,
        kind: Slug::parse(&details.k).ok()?,
        priority: priority_of(priority)?,
        late,
        change: change_of(change)?,
        state: state_of(state)?,
        count,
        freezes: details.f,
        notify: slugs(&details.n)?,
        rules: details.r.into_iter().map(rule_ref).collect(),
        message,
        texts: match texts {
            Some(body) => texts_of(body)?,
            None => StepTexts::default(),
        },
        previous,
    })
}

/// The row of the alert that a step is of, without reading the rest.
pub(super) fn alert_in(details: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct OnlyAlert {
        a: (i64, Uuid),
    }
    serde_json::from_slice(details)
        .ok()
        .map(|OnlyAlert { a: (row, _) }| row)
}

/// The row of the device that a step is about, without reading the rest.
pub(super) fn device_in(details: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct OnlyDevice {
        d: i64,
    }
    serde_json::from_slice(details)
        .ok()
        .map(|OnlyDevice { d }| d)
}

#[derive(Serialize, Deserialize)]
struct Texts {
    /// Salt in hexadecimal.
    s: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    descripcion: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ubicacion: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    datos: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    motivo: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    comandos: Vec<CommandText>,
}

#[derive(Serialize, Deserialize)]
struct CommandText {
    h: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    c: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r: Option<(i64, i64)>,
    k: String,
    p: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    a: Option<Uuid>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    w: bool,
}

/// The body of a step's row in `journal_texts`; `None` where there is nothing to hold.
pub(super) fn texts_body(texts: &StepTexts) -> Option<Vec<u8>> {
    if texts.is_empty() {
        return None;
    }
    let content = &texts.content;
    let comandos = texts.commands.iter().map(|command| CommandText {
        h: command.device.to_string(),
        c: command.payload.as_deref().map(str::to_owned),
        r: command.rule.map(|r| (r.id, r.version)),
        k: command.kind.to_string(),
        p: priority_code(command.priority),
        a: command.alert,
        w: command.held,
    });
    Some(to_json(&Texts {
        s: hex(&texts.salt),
        descripcion: content.description.clone(),
        ubicacion: content.location.clone(),
        datos: content.data.clone(),
        motivo: texts.reason.clone(),
        comandos: comandos.collect(),
    }))
}

/// The texts of a row in `journal_texts`.
pub(super) fn texts_of(body: &[u8]) -> Option<StepTexts> {
    let texts: Texts = serde_json::from_slice(body).ok()?;
    let command = |text: CommandText| {
        Some(DeviceCommand {
            device: Slug::parse(&text.h).ok()?,
            payload: text.c.map(Into::into),
            rule: text.r.map(rule_ref),
            kind: Slug::parse(&text.k).ok()?,
            priority: priority_of(text.p)?,
            alert: text.a,
            held: text.w,
        })
    };
    Some(StepTexts {
        salt: unhex(&texts.s)?,
        content: AlertContent {
            description: texts.descripcion,
            location: texts.ubicacion,
            data: texts.datos,
        },
        reason: texts.motivo,
        commands: texts
            .comandos
            .into_iter()
            .map(command)
            .collect::<Option<_>>()?,
    })
}

fn texts_digest(body: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(TEXTS_DOMAIN);
    hasher.update(body);
    hasher.finalize().into()
}

#[derive(Serialize, Deserialize)]
struct AccessDetails {
    /// Event.
    e: i32,
    /// Row of whom it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<i64>,
    /// How often.
    n: i64,
    /// Digest of the texts in hexadecimal.
    x: String,
}

#[derive(Serialize, Deserialize)]
struct AccessBody {
    /// Salt in hexadecimal.
    s: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quien: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    direccion: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detalle: Option<String>,
}

/// The details of a fact of access, and the body of its row in `journal_texts`.
pub(super) fn access_details(fact: &AccessFact) -> (Vec<u8>, Vec<u8>) {
    let body = to_json(&AccessBody {
        s: hex(&fact.texts.salt),
        quien: fact.texts.who.clone(),
        direccion: fact.texts.address.clone(),
        detalle: fact.texts.detail.clone(),
    });
    let details = AccessDetails {
        e: event_code(fact.event),
        p: fact.subject,
        n: fact.count,
        x: hex(&texts_digest(&body)),
    };
    (to_json(&details), body)
}

/// The fact behind `details`; its texts where they are not erased.
pub(super) fn access_of(details: &[u8], body: Option<&[u8]>) -> Option<AccessFact> {
    let details: AccessDetails = serde_json::from_slice(details).ok()?;
    let texts = match body {
        None => AccessTexts::default(),
        Some(body) => {
            let body: AccessBody = serde_json::from_slice(body).ok()?;
            AccessTexts {
                salt: unhex(&body.s)?,
                who: body.quien,
                address: body.direccion,
                detail: body.detalle,
            }
        }
    };
    Some(AccessFact {
        event: event_of(details.e)?,
        subject: details.p,
        count: details.n,
        texts,
    })
}

/// The details of a changed setting.
pub(super) fn setting_details(subject: Subject, change: &str) -> Vec<u8> {
    let mut details = subject_code(subject).to_string().into_bytes();
    details.push(b' ');
    details.extend_from_slice(change.as_bytes());
    details
}

/// What [`setting_details`] wrote.
pub(super) fn setting_of(details: &[u8]) -> Option<(Subject, String)> {
    let (code, change) = std::str::from_utf8(details).ok()?.split_once(' ')?;
    Some((subject_of(code.parse().ok()?)?, change.to_owned()))
}

const fn rule_ref((id, version): (i64, i64)) -> RuleRef {
    RuleRef { id, version }
}

fn slugs(names: &[String]) -> Option<Vec<Slug>> {
    names.iter().map(|name| Slug::parse(name).ok()).collect()
}

/// Our own structures always serialise; if one ever did not, an empty row would show it.
fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}
