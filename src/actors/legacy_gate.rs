//! Lets devices from before Atalaya in: a secret for a token, and a token for a few minutes.
//!
//! What lets them in is the registry's: who is switched off, is to prove itself otherwise or has a new
//! secret is out with the next message, whatever token it holds.

use super::doorkeeper::{Throttle, Trail};
use crate::clock::Clock;
use crate::domain::device::PasswordDigest;
use crate::domain::legacy::LegacyPass;
use crate::domain::registry::{Company, Device, Registry, Site, Trust};
use crate::domain::token::{Token, TokenDigest, TokenUse};
use crate::domain::{AccessEvent, Slug};
use crate::storage::HubView;
use crate::storage::vault::random;
use crate::wire::bridge_alerts::{AuthenticateBody, is_called};
use actix::prelude::*;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Messages that wait for this actor; each is handled in microseconds.
const MAILBOX: usize = 256;

/// How long a token is good, in microseconds.
const LIFE: i64 = 300_000_000;

/// The same in seconds.
pub const LIFE_SECONDS: i64 = LIFE / 1_000_000;

/// Tokens that a device may hold at once: one of a client that was started again does not end the one
/// before, and many clients that share a device's name do not fill our memory.
const EACH: usize = 4;

/// How often tokens that are over are let go.
const SWEEP: Duration = Duration::from_secs(60);

/// A device asks for a token.
#[derive(Debug, Message)]
#[rtype(result = "Result<LetIn, Kept>")]
pub struct LetDeviceIn {
    /// Who it says it is, and its secret.
    pub body: AuthenticateBody,
    /// From where.
    pub address: Option<IpAddr>,
}

/// A device is in.
#[derive(Debug)]
pub struct LetIn {
    /// What it shows from now on.
    pub token: Token,
    /// The device.
    pub device: Arc<Device>,
    /// Its company.
    pub company: Arc<Company>,
    /// Its site.
    pub site: Arc<Site>,
}

/// Why a device is not in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Kept {
    /// Something of what it said is wrong; which is not told.
    #[error("not authorised")]
    Wrong,
    /// It tried too often; seconds to wait.
    #[error("too many attempts")]
    TooOften(u64),
    /// There is no randomness to be had.
    #[error("no random bytes")]
    Broken,
}

/// Asks whom a token lets in, if it still does.
#[derive(Debug, Message)]
#[rtype(result = "Option<LegacyPass>")]
pub struct ShowToken(pub Token);

/// Lets devices from before Atalaya in.
///
/// * Full: the edge answers 503.
/// * Panic: ends the process. Restart: tokens are gone with the process; devices ask for others.
pub struct LegacyGate {
    view: Arc<HubView>,
    clock: Clock,
    trail: Trail,
    throttle: Throttle,
    /// What each token lets in and until when, in microseconds since 1970 UTC.
    tokens: HashMap<TokenDigest, (LegacyPass, i64)>,
    /// The tokens of each device, the oldest first.
    held: HashMap<i64, VecDeque<TokenDigest>>,
}

impl LegacyGate {
    /// A gate for the devices that `view` shows.
    #[must_use]
    pub fn new(view: Arc<HubView>, clock: Clock, trail: Trail) -> Self {
        Self {
            view,
            clock,
            trail,
            throttle: Throttle::of_devices(),
            tokens: HashMap::new(),
            held: HashMap::new(),
        }
    }

    fn keep(&mut self, digest: TokenDigest, pass: LegacyPass) {
        let held = self.held.entry(pass.device).or_default();
        held.push_back(digest);
        while held.len() > EACH {
            if let Some(oldest) = held.pop_front() {
                self.tokens.remove(&oldest);
            }
        }
        let until = self.clock.now().saturating_add(LIFE);
        self.tokens.insert(digest, (pass, until));
    }

    fn sweep(&mut self) {
        let now = self.clock.now();
        self.tokens.retain(|_, (_, until)| now < *until);
        let tokens = &self.tokens;
        self.held.retain(|_, held| {
            held.retain(|digest| tokens.contains_key(digest));
            !held.is_empty()
        });
    }
}

/// A device that has said who it is, and what it has shown.
struct Proved {
    device: Arc<Device>,
    company: Arc<Company>,
    site: Arc<Site>,
    secret: PasswordDigest,
}

/// The device that `body` names, by either of its names; by the one for people where one device of
/// that site alone has it.
fn named<'a>(registry: &'a Registry, body: &AuthenticateBody) -> Option<&'a Arc<Device>> {
    let said = body.hardware_nombre.trim();
    let called = Slug::parse(said).ok();
    if let Some(device) = called.and_then(|slug| registry.device(&slug)) {
        return Some(device);
    }
    let company = registry
        .companies()
        .find(|known| is_called(&known.slug, known.name.as_str(), &body.empresa_nombre))?;
    let site = registry.sites().find(|known| {
        known.company == company.row && is_called(&known.slug, known.name.as_str(), &body.sede)
    })?;
    let mut found = registry
        .active_devices_at(site.row)
        .filter(|device| device.name.as_str() == said);
    found.next().filter(|_| found.next().is_none())
}

/// The device that `body` is about, if all that it says is right. What is wrong takes the same time
/// whatever it is: a digest is made and compared in any case, which is what takes time.
fn proved(registry: &Registry, body: &AuthenticateBody) -> Option<Proved> {
    let device = named(registry, body);
    let known = device.and_then(|device| registry.secret_of(device.row));
    // No secret of ours has this digest.
    let secret = known.unwrap_or(PasswordDigest::from_bytes([0; 32]));
    let is_right = secret.admits(body.secreto.as_bytes());
    let device = device?;
    let company = registry.company_at(device.company)?;
    let site = registry.site_at(device.site)?;
    let is_there = is_called(&company.slug, company.name.as_str(), &body.empresa_nombre)
        && is_called(&site.slug, site.name.as_str(), &body.sede);
    let may = known.is_some() && device.trust == Trust::Legacy && registry.is_heard(device);
    (is_right && is_there && may).then(|| Proved {
        device: Arc::clone(device),
        company: Arc::clone(company),
        site: Arc::clone(site),
        secret,
    })
}

impl Actor for LegacyGate {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(SWEEP, |gate, _| gate.sweep());
    }
}

impl Handler<LetDeviceIn> for LegacyGate {
    type Result = Result<LetIn, Kept>;

    fn handle(&mut self, asked: LetDeviceIn, _: &mut Self::Context) -> Self::Result {
        let LetDeviceIn { body, address } = asked;
        let name = body.hardware_nombre.trim();
        // Only what is wrong is counted. Whoever guesses must not keep a device from calling for
        // help, and what they might learn from it is what cannot be guessed.
        let Some(proved) = proved(&self.view.registry(), &body) else {
            let (event, kept) = match self.throttle.attempt(name, address) {
                Ok(()) => (AccessEvent::SignInFailed, Kept::Wrong),
                Err(seconds) => (AccessEvent::Throttled, Kept::TooOften(seconds)),
            };
            self.trail.failed(event, None, name, address);
            return Err(kept);
        };
        let random = random().map_err(|error| {
            log::error!("{error}");
            Kept::Broken
        })?;
        let token = Token::new(TokenUse::Device, random);
        let digest = token.digest();
        let Proved {
            device,
            company,
            site,
            secret,
        } = proved;
        let pass = LegacyPass {
            device: device.row,
            secret,
            token: digest,
        };
        self.keep(digest, pass);
        Ok(LetIn {
            token,
            device,
            company,
            site,
        })
    }
}

impl Handler<ShowToken> for LegacyGate {
    type Result = Option<LegacyPass>;

    fn handle(&mut self, ShowToken(token): ShowToken, _: &mut Self::Context) -> Self::Result {
        let (pass, until) = self.tokens.get(&token.digest())?;
        let registry = self.view.registry();
        let device = registry.device_at(pass.device)?;
        let is_good =
            self.clock.now() < *until && registry.is_heard(device) && pass.holds(&registry, device);
        is_good.then(|| pass.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};

    fn pass(device: i64, token: u8) -> LegacyPass {
        LegacyPass {
            device,
            secret: PasswordDigest::from_bytes([1; 32]),
            token: [token; 32],
        }
    }

    #[test]
    fn a_device_holds_few_tokens_and_they_end() {
        let now = Arc::new(AtomicI64::new(0));
        let told = Arc::clone(&now);
        let clock = Clock::from_fn(move || told.load(Ordering::Relaxed));
        let mut gate = LegacyGate::new(Arc::default(), clock, Trail::nowhere());
        for token in 0..100 {
            gate.keep([token; 32], pass(1, token));
        }
        gate.keep([200; 32], pass(2, 200));
        assert_eq!(gate.tokens.len(), EACH + 1);
        assert!(gate.tokens.contains_key(&[99; 32]) && !gate.tokens.contains_key(&[95; 32]));
        now.store(LIFE - 1, Ordering::Relaxed);
        gate.sweep();
        assert_eq!(gate.tokens.len(), EACH + 1);
        now.store(LIFE, Ordering::Relaxed);
        gate.sweep();
        assert!(gate.tokens.is_empty() && gate.held.is_empty());
    }
}
