//! The one way in for alerts: what does not prove who it is has no effect.
//!
//! MQTT and REST hand in messages here alike. The cheap checks are made in the handler, signatures
//! on as many threads as there are processors, and the sequence window is the writer's, in the
//! commit of the alert. Every message has an answer: an accepted one's is published with its entry
//! of the journal, all others' here, best effort, since a device sends again until it is answered.

use super::mqtt_publisher::{Answer, MqttPublisher};
use crate::clock::Clock;
use crate::config::DeviceRate;
use crate::contained::contain;
use crate::domain::legacy::LegacyPass;
use crate::domain::registry::{DeviceKey, HEARTBEAT};
use crate::domain::validation::{
    self, Claims, Located, PlainMessage, Proof, Reason, Rejected, SignedMessage,
};
use crate::domain::{Channel, DeviceAddress, Principal, Registry, RuleRef, Slug};
use crate::instruments::Instruments;
use crate::storage::hub::{Intent, Suspect, Verdict, Verified, intent_of, quarantine};
use crate::storage::{HubAnswer, HubCommand, HubOrder, HubRefusal, HubView, WriteError, Writer};
use crate::wire::alerts::{Outcome, ReplyBody};
use crate::wire::{bridge_alerts, jws, topics};
use actix::prelude::*;
use bytes::Bytes;
use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use uuid::Uuid;

/// Messages that wait for this actor; each is handled in microseconds.
const MAILBOX: usize = 1_024;

/// Messages under way at once, from the mailbox to their commit: twice what one group takes.
const UNDER_WAY: usize = 512;

/// How long a message may be under way before whoever handed it in is told to try again.
const DEADLINE: Duration = Duration::from_secs(10);

/// Messages a second that fail before they name a device of ours and are yet answered, logged and
/// kept: enough to find out what is wrong, too few to be a burden. More are counted alone.
const STRANGERS: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);

/// Signatures that one visit to a busy thread checks at most: some one and a half milliseconds. Each
/// visit costs changes of thread, and what one lets through at once shares a commit.
const VISIT: usize = 32;

/// Messages that wait for quarantine; more are counted and not kept.
const SUSPECTS: usize = 256;

/// How often what was refused is counted into the journal.
const COUNTING: Duration = Duration::from_secs(60);

/// Hands in a device's message.
#[derive(Debug, Message)]
#[rtype(result = "Result<Submitted, SubmitError>")]
pub struct SubmitAlert {
    /// The message as it arrived.
    pub message: Bytes,
    /// The device whose topic it arrived on, if it arrived on a topic.
    pub topic: Option<DeviceAddress>,
    /// Through which edge.
    pub channel: Channel,
    /// When it arrived, in microseconds since 1970 UTC.
    pub received_at: i64,
}

/// Hands in an alert of a device from before Atalaya, which has shown its token.
#[derive(Debug, Message)]
#[rtype(result = "Result<Submitted, SubmitError>")]
pub struct SubmitLegacyAlert {
    /// Whom the token lets in.
    pub pass: LegacyPass,
    /// The message, without the token.
    pub message: Bytes,
    /// Through which edge.
    pub channel: Channel,
    /// When it arrived, in microseconds since 1970 UTC.
    pub received_at: i64,
}

/// Hands in any other order to the hub. The ticket resolves when it is durable.
#[derive(Debug, Message)]
#[rtype(result = "Result<oneshot::Receiver<Result<HubAnswer, HubRefusal>>, WriteError>")]
pub struct PlaceHubOrder(pub HubOrder);

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// What it is answered.
    pub reply: ReplyBody,
    /// Why it was rejected, for the operator.
    pub rejected: Option<Rejected>,
}

/// Why a message was not decided; whoever has it tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too many messages at once.
    #[error("too many messages at once")]
    Overloaded,
    /// The database does not take writes.
    #[error("the database is unavailable")]
    Unavailable,
    /// The house is closing.
    #[error("shutting down")]
    ShuttingDown,
}

impl From<WriteError> for SubmitError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Overloaded => Self::Overloaded,
            WriteError::ShuttingDown => Self::ShuttingDown,
            _ => Self::Unavailable,
        }
    }
}

/// What the validator needs.
#[derive(Clone)]
pub struct ValidatorParts {
    /// Where the registry is seen.
    pub view: Arc<HubView>,
    /// Where what is verified is committed.
    pub writer: Writer,
    /// Where devices are answered; `None` without MQTT.
    pub publisher: Option<Addr<MqttPublisher>>,
    /// The installation, which messages must name as their audience.
    pub installation: Slug,
    /// How many messages a device may send.
    pub rate: DeviceRate,
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub instruments: Instruments,
}

type Limiter = RateLimiter<i64, HashMapStateStore<i64>, DefaultClock>;

/// Validates messages of devices.
///
/// * Full: a message beyond those that may be under way is refused at once (`Overloaded`): MQTT holds it and
///   tries again, REST answers 503.
/// * Panic: ends the process. Restart: holds nothing but rate limits and counts; the registry and
///   the windows are the writer's.
pub struct AlertValidator {
    desk: Arc<Checkpoint>,
    under_way: Arc<Semaphore>,
    /// How often each device may send.
    limiter: Limiter,
    /// How often a device is told that it sends too much.
    complaints: Limiter,
    /// How many messages that name no device of ours are answered, logged and kept.
    strangers: DefaultDirectRateLimiter,
    suspects: Option<mpsc::Receiver<Suspect>>,
    unverified: Option<mpsc::Receiver<Unverified>>,
}

/// What messages under way share.
struct Checkpoint {
    parts: ValidatorParts,
    unverified: mpsc::Sender<Unverified>,
    suspects: mpsc::Sender<Suspect>,
    refused: [AtomicU64; Reason::ALL.len()],
}

impl AlertValidator {
    /// A validator over `parts`.
    #[must_use]
    pub fn new(parts: ValidatorParts) -> Self {
        let quota = Quota::per_second(parts.rate.per_second).allow_burst(parts.rate.burst);
        let (sender, suspects) = mpsc::channel(SUSPECTS);
        // Whatever is under way finds room.
        let (queue, unverified) = mpsc::channel(UNDER_WAY);
        let desk = Checkpoint {
            parts,
            unverified: queue,
            suspects: sender,
            refused: Default::default(),
        };
        Self {
            desk: Arc::new(desk),
            under_way: Arc::new(Semaphore::new(UNDER_WAY)),
            limiter: RateLimiter::hashmap(quota),
            complaints: RateLimiter::hashmap(Quota::per_second(NonZeroU32::MIN)),
            strangers: RateLimiter::direct(Quota::per_second(STRANGERS)),
            suspects: Some(suspects),
            unverified: Some(unverified),
        }
    }

    /// The checks that cost next to nothing, in their order.
    fn admit(&self, submission: &SubmitAlert) -> Result<Admitted, Box<Refusal>> {
        let registry = self.desk.parts.view.registry();
        if let Some(topic) = vouched_for(&registry, submission) {
            return self.admit_plain(&registry, submission, topic);
        }
        let message = jws::parse(&submission.message).map_err(|malformed| {
            Box::new(Refusal {
                rejected: malformed.rejected(),
                envelope: Envelope {
                    seq: None,
                    digest: jws::digest(&submission.message),
                    claimed: submission.topic.clone(),
                },
                silently: self.is_crowded(),
            })
        })?;
        let refuse = |rejected, silently| {
            Box::new(Refusal {
                rejected,
                envelope: Envelope {
                    // The topic is where an answer would go; what is signed may name somebody else.
                    claimed: submission
                        .topic
                        .clone()
                        .or(Some(message.claims.subject.clone())),
                    ..Envelope::of(&message.claims, message.digest)
                },
                silently,
            })
        };
        let located = validation::identify(&registry, &message, submission.topic.as_ref())
            .map_err(|rejected| refuse(rejected, self.is_crowded()))?;
        self.throttle(&located)
            .map_err(|Throttled { rejected, silently }| refuse(rejected, silently))?;
        let key = validation::key_of(&registry, &message, &located.device)
            .map_err(|rejected| refuse(rejected, false))?;
        Ok(Admitted {
            registry,
            located,
            evidence: Evidence::Signed(message, key),
        })
    }

    /// The same for a message that nobody has signed, on the topic of a device for which the broker
    /// vouches. There is no signature to be dear, so it is not even read before its device's limit.
    fn admit_plain(
        &self,
        registry: &Arc<Registry>,
        submission: &SubmitAlert,
        topic: &DeviceAddress,
    ) -> Result<Admitted, Box<Refusal>> {
        let refuse = |rejected, seq, silently| {
            Box::new(Refusal {
                rejected,
                envelope: Envelope {
                    seq,
                    digest: jws::digest(&submission.message),
                    claimed: Some(topic.clone()),
                },
                silently,
            })
        };
        let located = validation::locate(registry, topic)
            .map_err(|rejected| refuse(rejected, None, self.is_crowded()))?;
        self.throttle(&located)
            .map_err(|Throttled { rejected, silently }| refuse(rejected, None, silently))?;
        let unsaid = jws::Unsaid {
            audience: &self.desk.parts.installation,
            subject: topic,
            at: submission.received_at.div_euclid(1_000_000),
        };
        let message = jws::parse_plain(&submission.message, &unsaid)
            .map_err(|malformed| refuse(malformed.rejected(), None, false))?;
        if message.claims.subject != *topic {
            let detail = "sub nombra a otro dispositivo que el tema";
            let rejected = Rejected::new(Reason::Identity, detail);
            return Err(refuse(rejected, Some(message.claims.seq), false));
        }
        let device = located.device.row;
        Ok(Admitted {
            registry: Arc::clone(registry),
            located,
            evidence: Evidence::Vouched(message, Proof::Broker(device)),
        })
    }

    /// The same for a message in the words of before, whose device has shown its token. It must be of
    /// that device; what it does not say is the device's own.
    fn admit_legacy(
        &self,
        submission: &SubmitAlert,
        pass: &LegacyPass,
    ) -> Result<Admitted, Box<Refusal>> {
        let registry = self.desk.parts.view.registry();
        let proof = Proof::Legacy(pass.clone());
        let device = registry.device_at(pass.device);
        let claimed = device.and_then(|device| registry.address_of(device));
        let digest = jws::digest(&submission.message);
        let refuse = |rejected, silently| {
            Box::new(Refusal {
                rejected,
                envelope: Envelope {
                    seq: None,
                    digest,
                    claimed: claimed.clone(),
                },
                silently,
            })
        };
        let crowded = |rejected| refuse(rejected, self.is_crowded());
        let subject = claimed
            .clone()
            .ok_or_else(|| crowded(validation::UNKNOWN_DEVICE))?;
        let located = validation::locate(&registry, &subject).map_err(crowded)?;
        proof.holds(&registry, &located.device).map_err(crowded)?;
        self.throttle(&located)
            .map_err(|Throttled { rejected, silently }| refuse(rejected, silently))?;
        let told = bridge_alerts::parse(&submission.message).map_err(|r| refuse(r, false))?;
        if !told.is_of(&located) {
            return Err(refuse(validation::SPOKE_FOR_ANOTHER, false));
        }
        let company = located.company.row;
        let kind = told.kinds().into_iter().find(|kind| {
            kind.as_str() == HEARTBEAT || validation::kind_of(&registry, company, kind).is_ok()
        });
        let unknown = Rejected::new(
            Reason::Kind,
            "la empresa no tiene ese tipo de alarma activo",
        );
        let kind = kind.ok_or_else(|| refuse(unknown, false))?;
        let claims = Claims {
            audience: self.desk.parts.installation.to_string(),
            subject,
            seq: pass.number_of(&digest),
            issued_at: submission.received_at.div_euclid(1_000_000),
            kind,
            content: told.content(),
        };
        Ok(Admitted {
            registry,
            located,
            evidence: Evidence::Vouched(PlainMessage { claims, digest }, proof),
        })
    }

    /// Takes what was admitted further, and tells of what was not.
    fn decide(
        &self,
        submission: SubmitAlert,
        permit: OwnedSemaphorePermit,
        admitted: Result<Admitted, Box<Refusal>>,
    ) -> ResponseFuture<Result<Submitted, SubmitError>> {
        let desk = Arc::clone(&self.desk);
        match admitted {
            Ok(admitted) => Box::pin(async move {
                let _permit = permit;
                desk.pass(submission, admitted).await
            }),
            Err(refusal) => {
                let Refusal {
                    rejected,
                    envelope,
                    silently,
                } = *refusal;
                let submitted = desk.refuse(&submission, &envelope, rejected, silently);
                Box::pin(std::future::ready(Ok(submitted)))
            }
        }
    }

    /// Whether a device sends too much.
    fn throttle(&self, located: &Located) -> Result<(), Throttled> {
        let device = located.device.row;
        if self.limiter.check_key(&device).is_ok() {
            return Ok(());
        }
        Err(Throttled {
            rejected: Rejected::new(Reason::Limit, "demasiados mensajes seguidos"),
            silently: self.complaints.check_key(&device).is_err(),
        })
    }

    /// Whether there are too many messages that fail before the limit of any device is asked.
    fn is_crowded(&self) -> bool {
        self.strangers.check().is_err()
    }
}

/// A message that has passed the cheap checks.
struct Admitted {
    registry: Arc<Registry>,
    located: Located,
    evidence: Evidence,
}

/// What a message has to show for itself.
enum Evidence {
    /// A signature, to be checked with this key.
    Signed(SignedMessage, Arc<DeviceKey>),
    /// That somebody vouches for it: the broker, which let it through, or a token.
    Vouched(PlainMessage, Proof),
}

impl Evidence {
    fn claims(&self) -> &Claims {
        match self {
            Self::Signed(message, _) => &message.claims,
            Self::Vouched(message, _) => &message.claims,
        }
    }

    const fn digest(&self) -> [u8; 32] {
        match self {
            Self::Signed(message, _) => message.digest,
            Self::Vouched(message, _) => message.digest,
        }
    }
}

/// A device that sends too much.
struct Throttled {
    rejected: Rejected,
    /// Whether it was told so a moment ago.
    silently: bool,
}

/// The topic of a message that nobody has signed, if the broker vouches for its device. Only what
/// has come over MQTT has been let through by a broker.
fn vouched_for<'a>(registry: &Registry, submission: &'a SubmitAlert) -> Option<&'a DeviceAddress> {
    if submission.channel != Channel::Mqtt || !jws::is_plain(&submission.message) {
        return None;
    }
    let topic = submission.topic.as_ref()?;
    let device = registry.device(&topic.device)?;
    registry.is_vouched_for(device).then_some(topic)
}

/// A message that waits for its signature to be checked.
struct Unverified {
    admitted: Admitted,
    received_at: i64,
    verdict: oneshot::Sender<Result<Verified, Rejected>>,
}

/// What an answer to a message needs to know of it.
struct Envelope {
    seq: Option<u64>,
    digest: [u8; 32],
    /// The device that it claims to be from.
    claimed: Option<DeviceAddress>,
}

impl Envelope {
    fn of(claims: &Claims, digest: [u8; 32]) -> Self {
        Self {
            seq: Some(claims.seq),
            digest,
            claimed: Some(claims.subject.clone()),
        }
    }
}

/// A message that has failed a cheap check.
struct Refusal {
    rejected: Rejected,
    envelope: Envelope,
    /// Whether even the answer is spared, and with it the log and quarantine.
    silently: bool,
}

impl Checkpoint {
    /// Verifies, commits and answers a message that has passed the cheap checks.
    async fn pass(
        self: Arc<Self>,
        submission: SubmitAlert,
        admitted: Admitted,
    ) -> Result<Submitted, SubmitError> {
        let envelope = Envelope::of(admitted.evidence.claims(), admitted.evidence.digest());
        let verdict = match self.verify(admitted, submission.received_at).await? {
            Ok(verified) => {
                self.note_failed_rules(&verified.intent);
                self.commit(verified, submission.channel).await?
            }
            Err(rejected) => Verdict::Rejected(rejected),
        };
        let devices = &self.parts.instruments.devices;
        let to = envelope.claimed.as_ref();
        Ok(match verdict {
            Verdict::Rejected(rejected) => self.refuse(&submission, &envelope, rejected, false),
            Verdict::Accepted {
                alert,
                rules,
                at,
                journaled,
            } => {
                devices.message("accepted", "");
                devices.committed(self.since(submission.received_at));
                let to = to.filter(|_| !journaled);
                self.conclude(Outcome::Accepted, &envelope, at, (alert, &rules), to)
            }
            Verdict::Duplicate { alert } => {
                devices.message("duplicate", "");
                let now = self.parts.clock.now();
                self.conclude(Outcome::Duplicate, &envelope, now, (alert, &[]), to)
            }
        })
    }

    /// Checks the signature and plans what the rules want, on a thread that may be busy.
    async fn verify(
        &self,
        admitted: Admitted,
        received_at: i64,
    ) -> Result<Result<Verified, Rejected>, SubmitError> {
        let (verdict, decided) = oneshot::channel();
        let unverified = Unverified {
            admitted,
            received_at,
            verdict,
        };
        self.unverified
            .try_send(unverified)
            .map_err(|_| SubmitError::Overloaded)?;
        decided.await.map_err(|_| SubmitError::ShuttingDown)
    }

    fn note_failed_rules(&self, intent: &Intent) {
        let Intent::Alert { plan, .. } = intent else {
            return;
        };
        for (rule, error) in &plan.errors {
            self.parts.instruments.devices.rules_failed.inc();
            log::warn!("rule {} version {} failed: {error}", rule.id, rule.version);
        }
    }

    async fn commit(&self, verified: Verified, channel: Channel) -> Result<Verdict, SubmitError> {
        let order = HubOrder {
            command: HubCommand::Message(Box::new(verified)),
            principal: Principal::Device,
            channel,
        };
        let ticket = self.parts.writer.submit_to_hub(order)?;
        match tokio::time::timeout(DEADLINE, ticket).await {
            Ok(Ok(Ok(HubAnswer::Message(verdict)))) => Ok(verdict),
            Ok(Ok(Err(HubRefusal::Write(error)))) => Err(error.into()),
            Ok(Err(_)) => Err(SubmitError::ShuttingDown),
            Ok(Ok(_)) | Err(_) => Err(SubmitError::Unavailable),
        }
    }

    /// Answers a message that was refused, counts it and keeps it for an operator.
    fn refuse(
        &self,
        submission: &SubmitAlert,
        envelope: &Envelope,
        rejected: Rejected,
        silently: bool,
    ) -> Submitted {
        let reason = rejected.reason;
        self.parts
            .instruments
            .devices
            .message("rejected", reason.name());
        let index = Reason::ALL.iter().position(|known| *known == reason);
        if let Some(count) = index.and_then(|index| self.refused.get(index)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if reason != Reason::Limit && !silently {
            let claimed = envelope.claimed.as_ref();
            let claimed = claimed.map_or_else(String::new, ToString::to_string);
            log::warn!(target: crate::logging::ALERTS, "RECHAZADA {claimed}: {rejected}");
            self.suspect(submission, envelope, rejected);
        }
        let to = envelope.claimed.as_ref().filter(|_| !silently);
        let now = self.parts.clock.now();
        let outcome = Outcome::Rejected(reason);
        let mut submitted = self.conclude(outcome, envelope, now, (None, &[]), to);
        submitted.rejected = Some(rejected);
        submitted
    }

    fn suspect(&self, submission: &SubmitAlert, envelope: &Envelope, rejected: Rejected) {
        let kept = submission.message.len().min(quarantine::BYTES);
        let suspect = Suspect {
            digest: envelope.digest,
            received_at: submission.received_at,
            channel: submission.channel,
            topic: submission.topic.as_ref().map(topics::alert),
            device: envelope.claimed.as_ref().map(|from| from.device.clone()),
            rejected,
            message: submission.message[..kept].to_vec(),
            truncated: kept < submission.message.len(),
        };
        if self.suspects.try_send(suspect).is_err() {
            self.parts.instruments.devices.suspects_dropped.inc();
        }
    }

    /// The answer, published to `device` where it is one that we know by that very address.
    fn conclude(
        &self,
        outcome: Outcome,
        envelope: &Envelope,
        at: i64,
        (alert, rules): (Option<Uuid>, &[RuleRef]),
        device: Option<&DeviceAddress>,
    ) -> Submitted {
        let reply = ReplyBody::new(outcome, envelope.seq, &envelope.digest, at).about(alert, rules);
        if let (Some(device), Some(publisher)) = (device, &self.parts.publisher) {
            let registry = self.parts.view.registry();
            let known = registry.device(&device.device);
            let address = known.and_then(|known| registry.address_of(known));
            if address.as_ref() == Some(device) {
                let answer = Answer(Arc::new(reply.event(device)));
                if publisher.try_send(answer).is_err() {
                    self.parts.instruments.devices.answers_dropped.inc();
                }
            }
        }
        Submitted {
            reply,
            rejected: None,
        }
    }

    fn since(&self, moment: i64) -> Duration {
        let micros = self.parts.clock.now().saturating_sub(moment);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// Counts what was refused since the last time into the journal.
    fn count_refusals(&self) {
        let counts: Vec<(Reason, u64)> = Reason::ALL
            .into_iter()
            .zip(
                self.refused
                    .iter()
                    .map(|count| count.swap(0, Ordering::Relaxed)),
            )
            .filter(|(_, count)| *count > 0)
            .collect();
        if counts.is_empty() {
            return;
        }
        let order = internal(HubCommand::CountRefusals(counts));
        if self.parts.writer.submit_to_hub(order).is_err() {
            log::warn!("a minute's refusals are not counted in the journal: the writer is busy");
        }
    }
}

/// An order of Atalaya itself.
pub(super) const fn internal(command: HubCommand) -> HubOrder {
    HubOrder {
        command,
        principal: Principal::System,
        channel: Channel::Internal,
    }
}

fn verified(
    admitted: Admitted,
    installation: &Slug,
    received_at: i64,
) -> Result<Verified, Rejected> {
    let Admitted {
        registry,
        located,
        evidence,
    } = admitted;
    let now = received_at.div_euclid(1_000_000);
    let company = &located.company;
    let (purpose, claims, digest, proof) = match evidence {
        Evidence::Signed(message, key) => {
            let purpose =
                validation::verify(&registry, &message, &key, company, installation, now)?;
            let proof = Proof::Signature(key);
            (purpose, message.claims, message.digest, proof)
        }
        Evidence::Vouched(PlainMessage { claims, digest }, proof) => {
            let purpose = validation::purpose_of(&registry, &claims, company, installation, now)?;
            (purpose, claims, digest, proof)
        }
    };
    let intent: Intent = intent_of(&registry, &located, purpose, &claims.content, received_at);
    Ok(Verified {
        registry,
        claims,
        digest,
        proof,
        intent,
        received_at,
    })
}

/// Verifies messages on as many threads as there are processors. While all are busy messages gather,
/// and each thread takes its share of them; while one is idle none waits.
async fn verify_all(installation: Slug, mut unverified: mpsc::Receiver<Unverified>) {
    let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let permits = Arc::new(Semaphore::new(processors));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let share = unverified.len().div_ceil(processors).clamp(1, VISIT);
        let mut visit = Vec::with_capacity(share);
        if unverified.recv_many(&mut visit, share).await == 0 {
            return;
        }
        let installation = installation.clone();
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            verify_some(visit, &installation);
        });
    }
}

/// Verifies messages and then tells of all of them, so that who waits is woken once.
fn verify_some(visit: Vec<Unverified>, installation: &Slug) {
    let decided: Vec<_> = visit
        .into_iter()
        .map(|message| {
            let Unverified {
                admitted,
                received_at,
                verdict: waiting,
            } = message;
            // A library that panicked on one message would do so again whenever it comes again.
            let verdict = contain(|| verified(admitted, installation, received_at));
            let verdict = verdict.unwrap_or_else(|panic| {
                log::error!("a message made its check panic: {panic}");
                let detail = "no se pudo comprobar";
                Err(Rejected::new(Reason::Form, detail))
            });
            (waiting, verdict)
        })
        .collect();
    for (waiting, verdict) in decided {
        // Nobody waits where the house is closing.
        let _ = waiting.send(verdict);
    }
}

/// Takes suspects to quarantine, several in one commit, at the pace of the writer.
async fn keep_suspects(
    writer: Writer,
    instruments: Instruments,
    mut suspects: mpsc::Receiver<Suspect>,
) {
    let mut batch = Vec::new();
    while suspects.recv_many(&mut batch, SUSPECTS / 16).await > 0 {
        let count = batch.len();
        let order = internal(HubCommand::Quarantine(std::mem::take(&mut batch)));
        let kept = match writer.submit_to_hub(order) {
            Ok(ticket) => matches!(ticket.await, Ok(Ok(_))),
            Err(_) => false,
        };
        if !kept {
            instruments
                .devices
                .suspects_dropped
                .inc_by(u64::try_from(count).unwrap_or(0));
        }
    }
}

impl Actor for AlertValidator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        if let Some(suspects) = self.suspects.take() {
            let parts = &self.desk.parts;
            let kept = keep_suspects(parts.writer.clone(), parts.instruments.clone(), suspects);
            ctx.spawn(kept.into_actor(self));
        }
        if let Some(unverified) = self.unverified.take() {
            let installation = self.desk.parts.installation.clone();
            ctx.spawn(verify_all(installation, unverified).into_actor(self));
        }
        ctx.run_interval(COUNTING, |validator, _| {
            validator.desk.count_refusals();
            // What a limiter remembers of devices that have been quiet since is let go.
            validator.limiter.retain_recent();
            validator.complaints.retain_recent();
        });
    }
}

impl Handler<SubmitAlert> for AlertValidator {
    type Result = ResponseFuture<Result<Submitted, SubmitError>>;

    fn handle(&mut self, submission: SubmitAlert, _: &mut Self::Context) -> Self::Result {
        fail::fail_point!("validator::submit", |_| Box::pin(async {
            Err(SubmitError::Overloaded)
        }));
        let Ok(permit) = Arc::clone(&self.under_way).try_acquire_owned() else {
            return Box::pin(async { Err(SubmitError::Overloaded) });
        };
        let admitted = self.admit(&submission);
        self.decide(submission, permit, admitted)
    }
}

impl Handler<SubmitLegacyAlert> for AlertValidator {
    type Result = ResponseFuture<Result<Submitted, SubmitError>>;

    fn handle(&mut self, asked: SubmitLegacyAlert, _: &mut Self::Context) -> Self::Result {
        let Ok(permit) = Arc::clone(&self.under_way).try_acquire_owned() else {
            return Box::pin(async { Err(SubmitError::Overloaded) });
        };
        let submission = SubmitAlert {
            message: asked.message,
            topic: None,
            channel: asked.channel,
            received_at: asked.received_at,
        };
        let admitted = self.admit_legacy(&submission, &asked.pass);
        self.decide(submission, permit, admitted)
    }
}

impl Handler<PlaceHubOrder> for AlertValidator {
    type Result = Result<oneshot::Receiver<Result<HubAnswer, HubRefusal>>, WriteError>;

    fn handle(
        &mut self,
        PlaceHubOrder(order): PlaceHubOrder,
        _: &mut Self::Context,
    ) -> Self::Result {
        self.desk.parts.writer.submit_to_hub(order)
    }
}
