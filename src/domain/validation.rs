//! Whether a message proves that it comes from the device it names. Pure; the order of the checks
//! goes from cheap to dear, and nothing that fails has any effect.
//!
//! form and size (`wire::jws`) → device known and active → company and site active and equal to
//! topic and claims → rate limit (the validator's) → key and signature → time, kind and audience →
//! sequence window (the writer's, in the commit of the alert).

use super::alert::{AlertContent, legacy_name, vouched_name};
use super::device::{Algorithm, DeviceAddress, Novelty};
use super::legacy::LegacyPass;
use super::name::Slug;
use super::registry::{
    AlertKind, Company, Device, DeviceKey, HEARTBEAT, Registry, SILENT_DEVICE, Site,
};
use std::sync::Arc;

/// How far `iat` may lie in the future, and in the past before an alert is late, in seconds.
pub const CLOCK_TOLERANCE: i64 = 300;

/// What a device claims, believed or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// For which installation (`aud`).
    pub audience: String,
    /// Who it says it is (`sub`).
    pub subject: DeviceAddress,
    /// The number of the message.
    pub seq: u64,
    /// When it was made, in seconds since 1970 UTC (`iat`).
    pub issued_at: i64,
    /// What kind of alert (`tipo_alarma`).
    pub kind: Slug,
    /// What is said of it.
    pub content: AlertContent,
}

/// A message taken to pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedMessage {
    /// The algorithm that the header names. It is compared and never obeyed.
    pub algorithm: Algorithm,
    /// The key that the header names (`kid`).
    pub key: Slug,
    /// The claims.
    pub claims: Claims,
    /// What is signed.
    pub input: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
    /// SHA-256 of the whole message.
    pub digest: [u8; 32],
}

/// A message that nobody has signed, of a device for which the broker vouches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainMessage {
    /// The claims, with what it did not have to say: whom it is for, from whom, and when.
    pub claims: Claims,
    /// SHA-256 of the whole message.
    pub digest: [u8; 32],
}

/// What proves that a message is its device's, once it is known to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A signature under this key.
    Signature(Arc<DeviceKey>),
    /// The broker, which lets nobody else speak on the topic of the device at this row.
    Broker(i64),
    /// The token of a device from before Atalaya.
    Legacy(LegacyPass),
}

/// Below this are the rows under which messages of devices from before Atalaya are kept.
const LEGACY_ROWS: i64 = -(1 << 40);

impl Proof {
    /// Under which number its messages are kept: the key's row, the device's with a minus, or, far
    /// below those, the device's where it showed a token.
    #[must_use]
    pub fn row(&self) -> i64 {
        match self {
            Self::Signature(key) => key.row,
            Self::Broker(device) => -device,
            Self::Legacy(pass) => LEGACY_ROWS - pass.device,
        }
    }

    /// Under which number it is kept when its device was heard, and which numbers it has used.
    #[must_use]
    pub fn window(&self) -> i64 {
        match self {
            Self::Signature(key) => key.row,
            Self::Broker(device) => -device,
            Self::Legacy(pass) => -pass.device,
        }
    }

    /// Whether its device counts its messages.
    #[must_use]
    pub const fn is_counted(&self) -> bool {
        !matches!(self, Self::Legacy(_))
    }

    /// The name of the key, or what stands for one.
    #[must_use]
    pub fn name(&self) -> Slug {
        match self {
            Self::Signature(key) => key.kid.clone(),
            Self::Broker(device) => vouched_name(*device),
            Self::Legacy(pass) => legacy_name(pass.device),
        }
    }

    /// Whether it still proves that a message is from `device`: keys are revoked, and who cannot
    /// sign may have to.
    ///
    /// # Errors
    /// [`Reason::Identity`].
    pub fn holds(&self, registry: &Registry, device: &Device) -> Result<(), Rejected> {
        let (holds, detail) = match self {
            Self::Signature(key) => {
                let known = registry.key(&key.kid);
                let holds = known.is_some_and(|known| known.row == key.row);
                (holds, "la clave no existe o está revocada")
            }
            Self::Broker(_) => {
                let holds = registry.is_vouched_for(device);
                (holds, "el dispositivo ya no puede hablar sin firma")
            }
            Self::Legacy(pass) => {
                let holds = pass.holds(registry, device);
                (holds, "el token del dispositivo ya no vale")
            }
        };
        if holds {
            Ok(())
        } else {
            Err(Rejected::new(Reason::Identity, detail))
        }
    }
}

/// What a device is told (`motivo`): enough for the honest, nothing for an attacker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// `FORMA`: it is not a signed alert.
    Form,
    /// `TAMANO`: it is larger than 64 KiB.
    Size,
    /// `IDENTIDAD`: it does not prove who sent it.
    Identity,
    /// `LIMITE`: too many messages at once; the same message may be sent again later.
    Limit,
    /// `SECUENCIA`: its number was used, or is too old, or runs too far ahead.
    Sequence,
    /// `FECHA`: it was made in the future.
    Date,
    /// `TIPO`: the company has no such kind of alert.
    Kind,
    /// `AUDIENCIA`: it is meant for another installation.
    Audience,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Form,
        Self::Size,
        Self::Identity,
        Self::Limit,
        Self::Sequence,
        Self::Date,
        Self::Kind,
        Self::Audience,
    ];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Form => "FORMA",
            Self::Size => "TAMANO",
            Self::Identity => "IDENTIDAD",
            Self::Limit => "LIMITE",
            Self::Sequence => "SECUENCIA",
            Self::Date => "FECHA",
            Self::Kind => "TIPO",
            Self::Audience => "AUDIENCIA",
        }
    }
}

/// A message that was refused: what the device is told, and what the operator reads besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", .reason.name())]
pub struct Rejected {
    /// For the device.
    pub reason: Reason,
    /// For the operator, in Spanish.
    pub detail: &'static str,
}

impl Rejected {
    /// A rejection.
    #[must_use]
    pub const fn new(reason: Reason, detail: &'static str) -> Self {
        Self { reason, detail }
    }
}

/// A device and all above it, active at the moment of the snapshot.
#[derive(Debug, Clone)]
pub struct Located {
    /// The device.
    pub device: Arc<Device>,
    /// Its site.
    pub site: Arc<Site>,
    /// Its company.
    pub company: Arc<Company>,
}

/// A device that showed its token spoke for another one.
pub const SPOKE_FOR_ANOTHER: Rejected = Rejected::new(
    Reason::Identity,
    "nombra otra empresa, sede u otro dispositivo que su token",
);

/// The device is not registered, as far as whoever asks may know.
pub const UNKNOWN_DEVICE: Rejected =
    Rejected::new(Reason::Identity, "el dispositivo no está registrado");

/// Finds the device that `address` names, if it and all above it are active and it is where
/// `address` says.
///
/// # Errors
/// [`Reason::Identity`].
pub fn locate(registry: &Registry, address: &DeviceAddress) -> Result<Located, Rejected> {
    let no = |detail| Rejected::new(Reason::Identity, detail);
    let device = registry.device(&address.device).ok_or(UNKNOWN_DEVICE)?;
    let inconsistent = no("el registro no es coherente");
    let site = registry.site_at(device.site).ok_or(inconsistent)?;
    let company = registry.company_at(device.company).ok_or(inconsistent)?;
    let located = Located {
        device: Arc::clone(device),
        site: Arc::clone(site),
        company: Arc::clone(company),
    };
    if !device.active {
        return Err(no("el dispositivo está desactivado"));
    }
    if site.slug != address.site || company.slug != address.company {
        return Err(no("el dispositivo es de otra empresa o sede"));
    }
    if !company.active {
        return Err(no("la empresa está desactivada"));
    }
    if !site.active {
        return Err(no("la sede está desactivada"));
    }
    Ok(located)
}

/// Finds who a message says it is from, where `topic` is the address that it arrived on, if it
/// arrived on a topic.
///
/// # Errors
/// [`Reason::Identity`].
pub fn identify(
    registry: &Registry,
    message: &SignedMessage,
    topic: Option<&DeviceAddress>,
) -> Result<Located, Rejected> {
    let subject = &message.claims.subject;
    if topic.is_some_and(|topic| topic != subject) {
        let detail = "lo firmado nombra a otro dispositivo que el tema";
        return Err(Rejected::new(Reason::Identity, detail));
    }
    locate(registry, subject)
}

/// The key that a message names, if it is an active one of `device` for the algorithm that the
/// header names.
///
/// # Errors
/// [`Reason::Identity`].
pub fn key_of(
    registry: &Registry,
    message: &SignedMessage,
    device: &Device,
) -> Result<Arc<DeviceKey>, Rejected> {
    let no = |detail| Rejected::new(Reason::Identity, detail);
    let key = registry
        .key(&message.key)
        .ok_or(no("la clave no existe o está revocada"))?;
    if key.device != device.row {
        return Err(no("la clave es de otro dispositivo"));
    }
    if key.material.algorithm() != message.algorithm {
        return Err(no("la clave es para otro algoritmo"));
    }
    Ok(Arc::clone(key))
}

/// What a message is good for once its signature is known to be right.
#[derive(Debug, Clone)]
pub enum Purpose {
    /// It shows that the device lives.
    Heartbeat {
        /// Whether it was made too long ago to show that.
        late: bool,
    },
    /// It is an alert of this kind.
    Alert {
        /// The kind.
        kind: Arc<AlertKind>,
        /// Whether it was made so long ago that people see it and hardware is not driven by it.
        late: bool,
    },
}

/// Whether what was made at `issued_at` comes too late at `now`, both in seconds since 1970 UTC.
#[must_use]
pub const fn is_late(issued_at: i64, now: i64) -> bool {
    issued_at < now.saturating_sub(CLOCK_TOLERANCE)
}

/// Checks the signature, the dear part, and then what is signed. `now` is in seconds since 1970
/// UTC.
///
/// # Errors
/// [`Rejected`].
pub fn verify(
    registry: &Registry,
    message: &SignedMessage,
    key: &DeviceKey,
    company: &Company,
    installation: &Slug,
    now: i64,
) -> Result<Purpose, Rejected> {
    if !key.material.verifies(&message.input, &message.signature) {
        let detail = "la firma no corresponde";
        return Err(Rejected::new(Reason::Identity, detail));
    }
    purpose_of(registry, &message.claims, company, installation, now)
}

/// Checks what a message says, once it is known to be its device's. `now` is in seconds since 1970
/// UTC.
///
/// # Errors
/// [`Rejected`].
pub fn purpose_of(
    registry: &Registry,
    claims: &Claims,
    company: &Company,
    installation: &Slug,
    now: i64,
) -> Result<Purpose, Rejected> {
    if claims.audience != installation.as_str() {
        let detail = "aud nombra otra instalación";
        return Err(Rejected::new(Reason::Audience, detail));
    }
    if claims.issued_at > now.saturating_add(CLOCK_TOLERANCE) {
        let detail = "iat está en el futuro";
        return Err(Rejected::new(Reason::Date, detail));
    }
    let late = is_late(claims.issued_at, now);
    if claims.kind.as_str() == HEARTBEAT {
        return Ok(Purpose::Heartbeat { late });
    }
    let kind = kind_of(registry, company.row, &claims.kind)?;
    Ok(Purpose::Alert { kind, late })
}

/// Why a number is refused, where it is.
#[must_use]
pub const fn out_of_sequence(novelty: Novelty) -> Option<Rejected> {
    let detail = match novelty {
        Novelty::New | Novelty::Repeat => return None,
        Novelty::Conflict => "seq ya se usó con otro mensaje",
        Novelty::TooOld => "seq es más antiguo que la ventana",
        Novelty::TooFar => "seq salta demasiado",
    };
    Some(Rejected::new(Reason::Sequence, detail))
}

/// The kind of alert that a device or an operator may raise.
///
/// # Errors
/// [`Reason::Kind`].
pub fn kind_of(registry: &Registry, company: i64, code: &Slug) -> Result<Arc<AlertKind>, Rejected> {
    let no = |detail| Rejected::new(Reason::Kind, detail);
    if code.as_str() == SILENT_DEVICE {
        return Err(no("ese tipo lo genera Atalaya misma"));
    }
    match registry.kind(company, code) {
        Some(kind) if kind.active => Ok(Arc::clone(kind)),
        Some(_) => Err(no("el tipo de alarma está desactivado")),
        None => Err(no("la empresa no tiene ese tipo de alarma")),
    }
}
