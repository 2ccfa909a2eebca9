//! Devices from before Atalaya at the desk: they show a secret, get a token for a while, and raise
//! alerts with it.
//!
//! Tokens live here and in no table: they are good for five minutes, and a device asks for another
//! when its own is not good any more, after a restart too.

use super::{Answer, Caller, Desk, Failure};
use crate::domain::device::PasswordDigest;
use crate::domain::registry::{Device, Registry};
use crate::domain::token::{Token, TokenDigest, TokenUse};
use crate::domain::{
    Action, AlertChange, DeviceAddress, Identity, Principal, Reach, Resource, Slug,
};
use crate::network::KeyedLimit;
use crate::storage::alert_queries::{self, AlertFilter, AlertView};
use crate::storage::hub::Manual;
use crate::storage::vault::random;
use crate::storage::{HubAnswer, HubCommand};
use crate::wire::bridge_alerts::{AuthenticationBody, Message, Pagination, Verified};
use crate::wire::registry::StepBody;
use crate::wire::{ProblemKind, jws};
use governor::Quota;
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// For how many seconds a token is good.
pub const TOKEN_SECONDS: i64 = 300;

/// Tokens of one device that are good at once; the oldest goes where there are more.
const TOKENS_OF_DEVICE: usize = 4;

/// Messages of a token that are remembered, so that a repeat makes no second alert.
const REMEMBERED: usize = 64;

/// Tries of one name to be let in, a second and at once. A secret cannot be guessed; this is for
/// whoever tries all the same.
const TRIES: (NonZeroU32, NonZeroU32) = (
    NonZeroU32::MIN,
    match NonZeroU32::new(10) {
        Some(burst) => burst,
        None => NonZeroU32::MIN,
    },
);

/// The furthest page of a list, in alerts: whoever looks for older ones asks for a time.
const FURTHEST: i64 = 100_000;

/// What a token stands for.
struct DevicePass {
    device: Slug,
    /// The secret that was shown for it: another one ends it.
    secret: PasswordDigest,
    expires_at: i64,
    /// The messages that were taken with it, with the alerts that they made.
    taken: VecDeque<([u8; 32], Uuid)>,
}

/// Who is let in, and how often they may try.
pub(super) struct LegacyDoor {
    passes: Mutex<HashMap<TokenDigest, DevicePass>>,
    tries: KeyedLimit<String>,
    alerts: KeyedLimit<i64>,
}

impl LegacyDoor {
    /// A door through which a device may send so many alerts.
    pub(super) fn new(rate: crate::config::DeviceRate) -> Self {
        let (per_second, burst) = TRIES;
        Self {
            passes: Mutex::default(),
            tries: KeyedLimit::new(Quota::per_second(per_second).allow_burst(burst)),
            alerts: KeyedLimit::new(Quota::per_second(rate.per_second).allow_burst(rate.burst)),
        }
    }

    fn passes(&self) -> MutexGuard<'_, HashMap<TokenDigest, DevicePass>> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A device that is let in.
pub struct LetIn {
    /// Its token.
    pub token: Token,
    /// Where it is.
    pub address: DeviceAddress,
}

/// An alert that was taken.
pub struct TakenAlert {
    /// The alert, as it is.
    pub alert: AlertView,
    /// Whether this very message was taken before.
    pub is_repeat: bool,
}

impl Desk {
    /// Lets in a device that shows its secret. Who is not there answers like whose secret is wrong.
    ///
    /// # Errors
    /// 401, 429.
    pub fn let_device_in(&self, body: &AuthenticationBody) -> Result<LetIn, Failure> {
        let tried = self.legacy.tries.check(&body.hardware_nombre);
        tried.map_err(|seconds| {
            crate::wire::Problem::of(ProblemKind::TooManyRequests).after_seconds(seconds)
        })?;
        let registry = self.parts.view.registry();
        let known = device_called(&registry, body);
        let secret = known.as_ref().map(|(_, _, secret)| *secret);
        // The same work for those who are not there.
        let shown = secret.unwrap_or(PasswordDigest::from_bytes([0; 32]));
        let admits = shown.admits(body.secreto.as_bytes());
        let Some((device, address, secret)) = known.filter(|_| admits) else {
            return Err(ProblemKind::Unauthenticated.into());
        };
        let random = random().map_err(|error| {
            log::error!("{error}");
            ProblemKind::Internal
        })?;
        let token = Token::new(TokenUse::Device, random);
        let now = self.parts.clock.now();
        let mut passes = self.legacy.passes();
        passes.retain(|_, pass| pass.expires_at > now);
        let mut own: Vec<(i64, TokenDigest)> = passes
            .iter()
            .filter(|(_, pass)| pass.device == device.slug)
            .map(|(digest, pass)| (pass.expires_at, *digest))
            .collect();
        own.sort_unstable();
        for (_, digest) in own.iter().rev().skip(TOKENS_OF_DEVICE - 1) {
            passes.remove(digest);
        }
        let pass = DevicePass {
            device: device.slug.clone(),
            secret,
            expires_at: now + TOKEN_SECONDS * 1_000_000,
            taken: VecDeque::new(),
        };
        passes.insert(token.digest(), pass);
        Ok(LetIn { token, address })
    }

    /// Takes an alert of a device that shows its token.
    ///
    /// # Errors
    /// 401 where the token is not good, 403 where the message names another company, site or
    /// device, 422 where the kind is not one of the company's, 429.
    pub async fn take_legacy_alert(
        &self,
        caller: &Caller,
        token: &str,
        message: &Message,
        digest: [u8; 32],
    ) -> Result<TakenAlert, Failure> {
        let invalid = || Failure::from(ProblemKind::InvalidToken);
        let token = Token::parse(token).map_err(|_| invalid())?.digest();
        let registry = self.parts.view.registry();
        let (device, known) = self
            .device_of(&registry, &token, &digest)
            .ok_or_else(invalid)?;
        let reach = Reach::All;
        if let Some(id) = known {
            let alert = self.legacy_alert(&reach, id).await?;
            return Ok(TakenAlert {
                alert,
                is_repeat: true,
            });
        }
        let limited = self.legacy.alerts.check(&device.row);
        limited.map_err(|seconds| {
            crate::wire::Problem::of(ProblemKind::TooManyRequests).after_seconds(seconds)
        })?;
        let address = registry.address_of(&device).ok_or_else(invalid)?;
        if !names(&registry, &device, &address, message) {
            return Err(ProblemKind::Forbidden.into());
        }
        let command = HubCommand::Raise(manual(&device, message)?);
        let caller = Caller {
            identity: Arc::new(Identity {
                principal: Principal::Device,
                grants: Vec::new(),
                must_change: false,
            }),
            ..caller.clone()
        };
        let HubAnswer::Alert { id, .. } = self.order(&caller, command).await? else {
            return Err(ProblemKind::Internal.into());
        };
        if let Some(pass) = self.legacy.passes().get_mut(&token) {
            if pass.taken.len() >= REMEMBERED {
                pass.taken.pop_front();
            }
            pass.taken.push_back((digest, id));
        }
        let alert = self.legacy_alert(&reach, id).await?;
        Ok(TakenAlert {
            alert,
            is_repeat: false,
        })
    }

    /// The device whose token it is, if that is still good, and the alert that this very message
    /// has made.
    fn device_of(
        &self,
        registry: &Registry,
        token: &TokenDigest,
        digest: &[u8; 32],
    ) -> Option<(Arc<Device>, Option<Uuid>)> {
        let now = self.parts.clock.now();
        let passes = self.legacy.passes();
        let pass = passes.get(token).filter(|pass| pass.expires_at > now)?;
        let device = Arc::clone(registry.device(&pass.device)?);
        let secret = registry.legacy_secret_of(&device)?;
        let is_heard = device.active && secret == pass.secret;
        let made = pass.taken.iter().find(|(taken, _)| taken == digest);
        is_heard.then(|| (device, made.map(|(_, id)| *id)))
    }

    async fn legacy_alert(&self, reach: &Reach, id: Uuid) -> Result<AlertView, Failure> {
        let reach = reach.clone();
        let found = self
            .read(move |c| alert_queries::alert(c, &reach, id))
            .await?;
        Ok(found.ok_or(ProblemKind::UnknownAlert)?)
    }

    /// Resolves an alert that is open. One that is over stays so: what happens again is another.
    ///
    /// # Errors
    /// [`Failure`], 409 where it is over.
    pub async fn resolve_open(&self, caller: &Caller, id: &str) -> Answer {
        let within = super::allow(caller, Action::HandleAlert, Resource::Any)?;
        if let Ok(id) = id.parse() {
            let alert = self.legacy_alert(&within, id).await?;
            if !alert.state.is_open() {
                return Err(ProblemKind::WrongStep.into());
            }
        }
        let nothing = StepBody::default();
        self.step_alert(caller, id, AlertChange::Resolved, &nothing)
            .await
    }

    /// Whether a device is registered and heard, as far as the caller sees.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn verify_device(&self, caller: &Caller, name: &str) -> Result<Verified, Failure> {
        let within = super::allow(caller, Action::ReadRegistry, Resource::Any)?;
        let registry = self.parts.view.registry();
        let device = Slug::parse(name).ok();
        let device = device.and_then(|slug| registry.device(&slug).cloned());
        let device = device.filter(|device| within.has_company(device.company));
        Ok(Verified {
            existe: device.is_some(),
            activo: device.is_some_and(|device| is_heard(&registry, &device)),
        })
    }

    /// Whether a site of a company is registered and active, as far as the caller sees.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn verify_site(
        &self,
        caller: &Caller,
        company: &str,
        site: &str,
    ) -> Result<Verified, Failure> {
        let within = super::allow(caller, Action::ReadRegistry, Resource::Any)?;
        let registry = self.parts.view.registry();
        let found = registry.sites().find(|known| {
            let above = registry.company_at(known.company);
            let is_of =
                above.is_some_and(|above| is_called(company, &above.slug, above.name.as_str()));
            is_of && is_called(site, &known.slug, known.name.as_str())
        });
        let found = found.filter(|site| within.has_company(site.company));
        let above = found.and_then(|site| registry.company_at(site.company));
        Ok(Verified {
            existe: found.is_some(),
            activo: found.is_some_and(|site| site.active) && above.is_some_and(|c| c.active),
        })
    }

    /// A page of alerts, newest first, with how many there are.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn page_of_alerts(
        &self,
        caller: &Caller,
        page: i64,
        limit: i64,
    ) -> Result<(Vec<AlertView>, Pagination), Failure> {
        let within = super::allow(caller, Action::ReadAlerts, Resource::Any)?;
        let skipped = (page - 1).saturating_mul(limit);
        if page < 1 || !(1..=100).contains(&limit) || skipped > FURTHEST {
            return Err(super::invalid_parameter((
                "page: desde 1; limit: de 1 a 100",
                "page: from 1 on; limit: 1 to 100",
            )));
        }
        let (found, total) = self
            .read(move |c| {
                let total = alert_queries::count(c, &within)?;
                let Some(first) = alert_queries::row_after(c, &within, skipped)? else {
                    return Ok((Vec::new(), total));
                };
                let all = AlertFilter::default();
                let found = alert_queries::alerts(c, &within, &all, first + 1, limit)?;
                Ok((found, total))
            })
            .await?;
        Ok((found, Pagination::new(page, limit, total)))
    }
}

fn is_heard(registry: &Registry, device: &Device) -> bool {
    let address = registry.address_of(device);
    address.is_some_and(|address| crate::domain::validation::locate(registry, &address).is_ok())
}

/// Whether `text` is the name in topics or the name for people.
fn is_called(text: &str, slug: &Slug, name: &str) -> bool {
    text == slug.as_str() || text == name
}

/// The device that is asked for, if it is one of those and heard, with what it must show.
fn device_called(
    registry: &Registry,
    body: &AuthenticationBody,
) -> Option<(Arc<Device>, DeviceAddress, PasswordDigest)> {
    let slug = Slug::parse(&body.hardware_nombre).ok()?;
    let device = Arc::clone(registry.device(&slug)?);
    let secret = registry.legacy_secret_of(&device)?;
    let address = registry.address_of(&device)?;
    let company = registry.company_at(device.company)?;
    let site = registry.site(device.company, &address.site)?;
    let is_there = is_called(&body.empresa_nombre, &company.slug, company.name.as_str())
        && is_called(&body.sede, &site.slug, site.name.as_str());
    let is_let_in = is_there && is_heard(registry, &device);
    is_let_in.then_some((device, address, secret))
}

/// Whether a message names the device that it comes from, as far as it names any.
fn names(registry: &Registry, device: &Device, address: &DeviceAddress, message: &Message) -> bool {
    let Some(company) = registry.company_at(device.company) else {
        return false;
    };
    let Some(site) = registry.site(device.company, &address.site) else {
        return false;
    };
    let own = |text: &Option<String>, slug: &Slug, name: &str| {
        text.as_deref()
            .is_none_or(|text| is_called(text, slug, name))
    };
    let details = &message.details;
    is_called(&message.company, &company.slug, company.name.as_str())
        && own(&details.sede, &site.slug, site.name.as_str())
        && own(&details.hardware_id, &device.slug, device.name.as_str())
        && (details.hardware_id.is_some()
            || own(&details.nombre, &device.slug, device.name.as_str()))
}

fn manual(device: &Device, message: &Message) -> Result<Manual, Failure> {
    let location = message.location().map(|location| location.to_string());
    let location = location.and_then(|text| serde_json::value::RawValue::from_string(text).ok());
    let described = message.details.descripcion.as_deref();
    let content = jws::content(described, location.as_deref(), None);
    Ok(Manual {
        device: device.slug.clone(),
        kind: Slug::parse(message.kind()).map_err(|_| ProblemKind::MalformedBody)?,
        content: content.ok_or(ProblemKind::MalformedBody)?,
    })
}
