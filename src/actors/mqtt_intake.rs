//! What devices say on MQTT: alerts to the validator, statuses to the board.

use super::alert_validator::{AlertValidator, SubmitAlert};
use super::alert_watch::Hearing;
use crate::clock::Clock;
use crate::domain::{Channel, masked_text};
use crate::instruments::Instruments;
use crate::mqtt::connection::{BrokerAddress, DownCause};
use crate::mqtt::status::StatusBoard;
use crate::mqtt::subscription::{self, Heard, Listener, Over};
use crate::storage::HubView;
use crate::wire::alerts::StatusBody;
use crate::wire::topics::{DeviceTopic, device_topic};
use actix::prelude::*;
use bytes::Bytes;
use futures_util::future::{LocalBoxFuture, ready};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Messages that wait for this actor: the one that ends it.
const MAILBOX: usize = 4;

/// Time between connections: it doubles from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Time until the next try where a person has to mend rights.
const UNAUTHORIZED_PAUSE: Duration = Duration::from_secs(15);

/// How long a message that the validator has no room for waits before it is tried again: it doubles
/// from the first to the second, while the broker holds back what comes after it.
const HOLD: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// Stops listening. What is under way is not acknowledged and comes again after the next start.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StopListening;

/// What the intake needs.
#[derive(Clone)]
pub struct IntakeParts {
    /// The broker, with a client id of the intake's own.
    pub broker: BrokerAddress,
    /// Where alerts go.
    pub validator: Addr<AlertValidator>,
    /// Where statuses go.
    pub statuses: Arc<StatusBoard>,
    /// Where the registry is seen.
    pub view: Arc<HubView>,
    /// Whether devices can be heard.
    pub hearing: Arc<Hearing>,
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub instruments: Instruments,
}

/// Listens to devices.
///
/// * Full: what the validator has no room for is held and tried again; the broker sends no more
///   than the receive maximum beyond what is acknowledged, so memory is bounded.
/// * Panic: ends the process; the broker keeps what was not acknowledged.
/// * Restart: as after any lost connection.
pub struct MqttIntake {
    parts: IntakeParts,
    stop: watch::Sender<bool>,
}

impl MqttIntake {
    /// An intake over `parts`.
    #[must_use]
    pub fn new(parts: IntakeParts) -> Self {
        Self {
            parts,
            stop: watch::Sender::new(false),
        }
    }
}

impl Actor for MqttIntake {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let ear = Ear(self.parts.clone());
        let mut stop = self.stop.subscribe();
        let listening = async move {
            tokio::select! {
                () = ear.listen_for_ever() => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        };
        ctx.spawn(listening.into_actor(self));
    }
}

impl Handler<StopListening> for MqttIntake {
    type Result = ();

    fn handle(&mut self, _: StopListening, _: &mut Self::Context) {
        self.parts.hearing.ends();
        self.stop.send_replace(true);
    }
}

struct Ear(IntakeParts);

impl Ear {
    async fn listen_for_ever(&self) {
        let mut pause = RETRY.0;
        loop {
            let over = subscription::listen(&self.0.broker, self).await;
            let was_hearing = self.0.instruments.devices.intake_connected.get() == 1;
            self.0.hearing.ends();
            self.0.instruments.devices.intake_connected.set(0);
            if was_hearing {
                pause = RETRY.0;
            }
            let wait = wait_after(&over, pause);
            pause = (pause * 2).min(RETRY.1);
            actix::clock::sleep(wait).await;
        }
    }
}

fn wait_after(over: &Over, pause: Duration) -> Duration {
    let reason = &over.reason;
    match over.cause {
        DownCause::Unauthorized => {
            log::error!(
                "the broker does not let us listen to devices: {reason}; check MQTT_USERNAME, \
                 MQTT_PASSWORD and the rights to empresas/#; next try in {UNAUTHORIZED_PAUSE:?}"
            );
            UNAUTHORIZED_PAUSE
        }
        DownCause::TakenOver => {
            log::error!(
                "another client listens under our client id: give each installation on this \
                 broker a NODO of its own; next try in {UNAUTHORIZED_PAUSE:?}"
            );
            UNAUTHORIZED_PAUSE
        }
        DownCause::Network | DownCause::Broker => {
            log::warn!("devices are not heard: {reason}; next try in {pause:?}");
            pause
        }
    }
}

impl Listener for Ear {
    fn hearing(&self) {
        log::info!("listening to devices");
        self.0.instruments.devices.intake_connected.set(1);
        self.0.hearing.begins(self.0.clock.now());
    }

    fn heard(&self, message: Heard) -> LocalBoxFuture<'static, ()> {
        let topic = std::str::from_utf8(&message.topic).ok();
        match topic.and_then(device_topic) {
            Some(DeviceTopic::Alert(_)) if message.retained => {
                self.0.instruments.devices.message("ignored", "RETENIDA");
                log::warn!(
                    "a retained alert is ignored: {:?}",
                    masked_text(topic.unwrap_or_default())
                );
                Box::pin(ready(()))
            }
            Some(DeviceTopic::Alert(device)) => {
                let submission = Submission {
                    message: message.payload,
                    received_at: self.0.clock.now(),
                    device,
                };
                Box::pin(submission.hand_in(self.0.validator.clone()))
            }
            Some(DeviceTopic::Status(address)) => {
                self.note_status(&address, &message.payload);
                Box::pin(ready(()))
            }
            // A topic whose levels are no slugs names no device that could be registered.
            None => {
                self.0.instruments.devices.message("ignored", "TEMA");
                Box::pin(ready(()))
            }
        }
    }
}

impl Ear {
    fn note_status(&self, address: &crate::domain::DeviceAddress, payload: &Bytes) {
        let registry = self.0.view.registry();
        let Some(device) = registry.device(&address.device) else {
            return;
        };
        let is_there = registry.address_of(device).as_ref() == Some(address);
        let said = serde_json::from_slice::<StatusBody>(payload).ok();
        let online = match said.as_ref().map(|body| body.estado.as_str()) {
            Some("en_linea") => true,
            Some("fuera_de_linea") => false,
            _ => return,
        };
        if is_there {
            self.0.statuses.set(device.row, online, self.0.clock.now());
        }
    }
}

/// An alert on its way to the validator.
struct Submission {
    message: Bytes,
    received_at: i64,
    device: crate::domain::DeviceAddress,
}

impl Submission {
    /// Hands the alert in until it is decided: nothing else may acknowledge it.
    async fn hand_in(self, validator: Addr<AlertValidator>) {
        let mut hold = HOLD.0;
        loop {
            let submit = SubmitAlert {
                message: self.message.clone(),
                topic: Some(self.device.clone()),
                channel: Channel::Mqtt,
                received_at: self.received_at,
            };
            match validator.send(submit).await {
                Ok(Ok(_)) => return,
                Ok(Err(error)) => log::debug!("an alert is held: {error}"),
                // The process is on its way out; the broker keeps the alert.
                Err(_) => return std::future::pending().await,
            }
            actix::clock::sleep(hold).await;
            hold = (hold * 2).min(HOLD.1);
        }
    }
}
