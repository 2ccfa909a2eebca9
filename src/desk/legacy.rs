//! Alert clients from before Atalaya at the desk: their devices, and the people who watch them.

use super::alerts::{alert_id, alert_resource, unsubmitted};
use super::{Answer, Caller, Desk, Failure, PAGE_MAX, allow, invalid_parameter, reply, within};
use crate::actors::alert_validator::SubmitLegacyAlert;
use crate::actors::legacy_gate::{Kept, LIFE_SECONDS, LetDeviceIn, LetIn, ShowToken};
use crate::domain::token::Token;
use crate::domain::validation::{Reason as Why, Rejected, SPOKE_FOR_ANOTHER};
use crate::domain::{Action, AlertChange, Reach, Registry, Resource, Slug};
use crate::storage::alert_queries;
use crate::wire::alerts::Outcome;
use crate::wire::bridge_alerts::{
    AuthenticateBody, AuthenticatedResource, BridgeAlert, DeviceCheck, DeviceSummary, Good,
    Pagination, PlaceCheck, TakenResource, is_called,
};
use crate::wire::registry::StepBody;
use crate::wire::{Problem, ProblemKind, Reason};
use bytes::Bytes;
use std::net::IpAddr;

/// Alerts on a page where it is not said how many.
const PAGE: i64 = 20;

/// The last alert that a page may show, from the newest: whoever wants more has cursors in
/// `GET /api/v1/alertas`, which cost the same however far they have come.
const DEPTH: i64 = 100_000;

impl Desk {
    /// Gives a device from before Atalaya a token for its secret.
    ///
    /// # Errors
    /// [`Failure`]: 401 whatever is wrong.
    pub async fn let_device_in(&self, body: AuthenticateBody, address: Option<IpAddr>) -> Answer {
        let asked = LetDeviceIn { body, address };
        let let_in = within(self.parts.legacy.send(asked)).await?;
        let LetIn {
            token,
            device,
            company,
            site,
        } = let_in.map_err(|kept| -> Failure {
            match kept {
                Kept::Wrong => ProblemKind::WrongCredentials.into(),
                Kept::TooOften(seconds) => Problem::of(ProblemKind::TooManyAttempts)
                    .after_seconds(seconds)
                    .into(),
                Kept::Broken => ProblemKind::Internal.into(),
            }
        })?;
        reply(&Good::new(AuthenticatedResource {
            token: token.reveal().to_owned(),
            expires_in: LIFE_SECONDS,
            hardware: DeviceSummary::new(&device, &company, &site),
        }))
    }

    /// Takes an alert in the words of before, of the device that `token` lets in. The second value is
    /// whether it was new.
    ///
    /// # Errors
    /// [`Failure`]: 401 where the token is not good, 403 where it speaks for another device.
    pub async fn take_legacy_alert(
        &self,
        caller: &Caller,
        token: Token,
        message: Bytes,
    ) -> Result<(super::Reply, bool), Failure> {
        let pass = within(self.parts.legacy.send(ShowToken(token))).await?;
        let pass = pass.ok_or(ProblemKind::InvalidToken)?;
        let device = pass.device;
        let submitted = within(self.parts.validator.send(SubmitLegacyAlert {
            pass,
            message,
            channel: caller.channel,
            received_at: self.parts.clock.now(),
        }))
        .await?
        .map_err(unsubmitted)?;
        if let Some(rejected) = submitted.rejected {
            return Err(refused(rejected));
        }
        let told = submitted.reply;
        let is_new = told.estado == Outcome::Accepted.name();
        let alert = match told.alerta_id {
            None => None,
            Some(id) => {
                self.read(move |c| alert_queries::alert(c, &Reach::All, id))
                    .await?
            }
        };
        let registry = self.parts.view.registry();
        let address = registry
            .device_at(device)
            .and_then(|device| registry.address_of(device))
            .ok_or(ProblemKind::Internal)?;
        let answer = reply(&Good::new(TakenResource {
            id: told.alerta_id,
            estado: told.estado,
            tipo_alarma: alert.as_ref().map(|alert| alert.kind.clone()),
            prioridad: alert.as_ref().map(|alert| alert.priority.name()),
            empresa: address.company.to_string(),
            sede: address.site.to_string(),
            hardware: address.device.to_string(),
            timestamp: told.timestamp,
        }))?;
        Ok((answer, is_new))
    }

    /// Whether a device is there, as far as the caller may know.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn check_device(&self, caller: &Caller, name: &str) -> Answer {
        let within = allow(caller, Action::ReadRegistry, Resource::Any)?;
        let registry = self.parts.view.registry();
        let found = Slug::parse(name.trim()).ok();
        let hardware = found.and_then(|name| summary(&registry, &within, &name));
        reply(&Good::new(DeviceCheck {
            existe: hardware.is_some(),
            activo: hardware.as_ref().is_some_and(|device| device.activo),
            hardware,
        }))
    }

    /// Whether a company and its site are there, as far as the caller may know. Each may be called by
    /// either of its names.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn check_place(&self, caller: &Caller, company: &str, site: &str) -> Answer {
        let within = allow(caller, Action::ReadRegistry, Resource::Any)?;
        let registry = self.parts.view.registry();
        let company = registry.companies().find(|known| {
            within.has_company(known.row) && is_called(&known.slug, known.name.as_str(), company)
        });
        let Some(company) = company else {
            return reply(&Good::new(PlaceCheck::default()));
        };
        let site = registry.sites().find(|known| {
            known.company == company.row && is_called(&known.slug, known.name.as_str(), site)
        });
        reply(&Good::new(PlaceCheck {
            existe: site.is_some(),
            activo: site.is_some_and(|site| site.active && company.active),
            empresa: Some(company.slug.to_string()),
            sede: site.map(|site| site.slug.to_string()),
        }))
    }

    /// A page of alerts by its number, newest first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn page_alerts(&self, caller: &Caller, page: &str, limit: &str) -> Answer {
        let within = allow(caller, Action::ReadAlerts, Resource::Any)?;
        let page = positive("page", page, 1)?;
        // Clients from before ask for as many as they like, and are told how many they get.
        let limit = positive("limit", limit, PAGE)?.min(i64::from(PAGE_MAX));
        if page.saturating_mul(limit) > DEPTH {
            return Err(invalid_parameter((
                "page: más allá de las últimas 100000 alertas; use GET /api/v1/alertas",
                "page: beyond the last 100000 alerts; use GET /api/v1/alertas",
            )));
        }
        let (found, total) = self
            .read(move |c| alert_queries::alert_page(c, &within, page - 1, limit))
            .await?;
        let alerts: Vec<BridgeAlert> = found
            .into_iter()
            .map(|alert| alert_resource(alert).into())
            .collect();
        let pages = Pagination {
            page,
            limit,
            total,
            pages: total.saturating_add(limit - 1) / limit,
        };
        reply(&Good::page(alerts, pages))
    }

    /// Acknowledges an alert, or resolves one that is open.
    ///
    /// # Errors
    /// [`Failure`]: 409 where it is over.
    pub async fn step_legacy_alert(
        &self,
        caller: &Caller,
        id: &str,
        change: AlertChange,
    ) -> Answer {
        let within = allow(caller, Action::HandleAlert, Resource::Any)?;
        let id = alert_id(id)?;
        let find = move |c: &mut _| alert_queries::alert(c, &Reach::All, id);
        let found = self
            .read(move |c| alert_queries::alert(c, &within, id))
            .await?;
        let state = found.ok_or(ProblemKind::UnknownAlert)?.state;
        // To resolve twice is no mistake elsewhere; here it would be to open it again.
        if !state.is_open() {
            let reason = Reason::technical(state.name());
            return Err(Problem::of(ProblemKind::WrongStep).because(reason).into());
        }
        let body = StepBody::default();
        self.step_alert(caller, &id.to_string(), change, &body)
            .await?;
        let alert = self.read(find).await?.ok_or(ProblemKind::UnknownAlert)?;
        reply(&Good::new(BridgeAlert::from(alert_resource(alert))))
    }
}

/// The device called `name`, if it is within reach.
fn summary(registry: &Registry, within: &Reach, name: &Slug) -> Option<DeviceSummary> {
    let device = registry.device(name)?;
    let company = registry.company_at(device.company)?;
    let site = registry.site_at(device.site)?;
    within
        .has_company(company.row)
        .then(|| DeviceSummary::new(device, company, site))
}

/// A number from 1 on, from the parameter called `name`.
fn positive(name: &str, text: &str, unsaid: i64) -> Result<i64, Failure> {
    if text.is_empty() {
        return Ok(unsaid);
    }
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| {
        let reason = ("se espera un número desde 1", "expected a number from 1 on");
        invalid_parameter(Reason::from(reason).about(name))
    })
}

/// Why an alert was not taken, to a client that knows nothing of reasons.
fn refused(rejected: Rejected) -> Failure {
    let kind = match rejected.reason {
        Why::Limit => ProblemKind::RateLimited,
        Why::Form => ProblemKind::MalformedBody,
        Why::Size => ProblemKind::TooLarge,
        Why::Identity if rejected == SPOKE_FOR_ANOTHER => ProblemKind::Forbidden,
        Why::Identity => ProblemKind::InvalidToken,
        _ => ProblemKind::AlertRejected,
    };
    Problem::of(kind)
        .because(Reason::technical(rejected.reason.name()))
        .into()
}
