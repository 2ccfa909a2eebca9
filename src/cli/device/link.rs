//! A device's connection to the broker, for as long as the device runs: it connects, subscribes to
//! what is said to the device, publishes what the device says, and connects again.
//!
//! The link belongs to a task of its own, since rumqttc's poll must not be dropped half-way. The
//! device never waits for it (it asks for room first), so the two cannot wait for each other.

use super::reply::{Order, Reply};
use crate::config::Login;
use crate::domain::DeviceAddress;
use crate::mqtt::connection::transport;
use crate::tls::ClientTls;
use crate::wire::topics;
use bytes::Bytes;
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, Filter, LastWill, Packet, PubAckReason, Publish, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Messages between device and link, either way.
const CHANNEL: usize = 128;

/// Publishes handed to the event loop that it has not sent yet. Its own queue is twice as long, so
/// handing over never waits.
const HANDED: usize = 64;

/// Publishes without a PUBACK; a broker's receive maximum may be lower.
const IN_FLIGHT: u16 = 200;

/// The largest packet taken, in bytes: far above any reply. The broker is told.
const MAX_PACKET: u32 = 256 * 1024;

/// A broker that restarts is usually back within a second.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);

/// The longest that a device should be away after its broker is back.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// How often a silent connection is probed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a broker has to answer CONNECT, in seconds.
const CONNECT_TIMEOUT: u64 = 5;

/// A broker that takes a publish and acknowledges none for this long has stalled, or rumqttc has
/// (a packet id that collides waits for ever): a new connection mends both.
const STALL: Duration = Duration::from_secs(20);

/// How long a polite goodbye may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a device's `estado` says while it is there, and its last will.
const ONLINE: &str = r#"{"estado":"en_linea"}"#;
const OFFLINE: &str = r#"{"estado":"fuera_de_linea"}"#;

/// Where, as whom and how to connect.
#[derive(Debug, Clone)]
pub(super) struct LinkSettings {
    /// The broker's host.
    pub(super) host: String,
    /// The broker's port.
    pub(super) port: u16,
    /// User and password.
    pub(super) login: Login,
    /// How to speak TLS, if it is to be spoken.
    pub(super) tls: Option<ClientTls>,
    /// The device, whose name is the client id.
    pub(super) device: DeviceAddress,
    /// The address that its alerts are published under: its own, for all but impostors.
    pub(super) publishes_as: DeviceAddress,
    /// Whether its `estado` is kept at the broker, with a last will.
    pub(super) presence: bool,
    /// How long the broker keeps what is said to the device while it is away, in seconds.
    pub(super) session: u32,
}

/// What a link tells its device.
#[derive(Debug)]
pub(super) enum News {
    /// It is connected and subscribed.
    Up,
    /// The connection is over, and will be made again.
    Down(String),
    /// The broker does not let the device in, or not listen; a person has to mend that.
    Denied(String),
    /// The broker does not let it publish; likewise.
    Refused(String),
    /// An answer.
    Reply(Reply),
    /// An order.
    Order(Order),
}

/// The device's end of its link.
#[derive(Debug)]
pub(super) struct Link {
    alerts: mpsc::Sender<Bytes>,
    news: mpsc::Receiver<News>,
    task: JoinHandle<()>,
}

impl Link {
    /// Connects for as long as the link lives. The task belongs to the current thread.
    pub(super) fn open(settings: LinkSettings) -> Self {
        let (alerts, messages) = mpsc::channel(CHANNEL);
        let (told, news) = mpsc::channel(CHANNEL);
        let line = Line {
            settings,
            messages,
            told,
            acknowledged: Instant::now(),
        };
        let task = actix_web::rt::spawn(line.run());
        Self { alerts, news, task }
    }

    /// What there is to tell. Safe to drop and to ask again.
    pub(super) async fn news(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            // Only a defect ends the task while we are here: nothing will ever be told.
            None => std::future::pending().await,
        }
    }

    /// The same, or `None` once there is room for an alert.
    pub(super) async fn news_or_room(&mut self) -> Option<News> {
        tokio::select! {
            news = self.news.recv() => news,
            // Closed is as good as room: what comes next finds out.
            _ = self.alerts.reserve() => None,
        }
    }

    /// Hands an alert over; whether there was room.
    pub(super) fn send(&self, message: Bytes) -> bool {
        self.alerts.try_send(message).is_ok()
    }

    /// Says goodbye: what was handed over goes out, `estado` says so, and the broker is told.
    pub(super) async fn close(self) {
        let Self {
            alerts,
            mut news,
            mut task,
        } = self;
        drop(alerts);
        let rest = async {
            loop {
                tokio::select! {
                    _ = &mut task => break,
                    Some(_) = news.recv() => {}
                }
            }
        };
        if tokio::time::timeout(FAREWELL, rest).await.is_err() {
            task.abort();
        }
    }

    /// Pulls the plug: the broker hears nothing, and publishes the last will.
    pub(super) fn cut(self) {
        self.task.abort();
    }
}

/// How a connection ended.
enum End {
    /// The device is done with it.
    Released,
    /// It broke, for this reason.
    Lost(String),
    /// It was refused, for this reason.
    Denied(String),
}

/// The link's end of itself.
struct Line {
    settings: LinkSettings,
    messages: mpsc::Receiver<Bytes>,
    told: mpsc::Sender<News>,
    /// When the broker last acknowledged anything.
    acknowledged: Instant,
}

/// What happens next on a connection.
enum Next {
    /// Something to look at.
    Event(Box<Event>),
    /// It broke.
    Broken(ConnectionError),
    /// The event loop does not take messages any more.
    Full,
    /// The device is done, and the broker is being told.
    Goodbye,
}

/// What a connection has out.
#[derive(Default)]
struct Flight {
    /// Whether the subscriptions are granted.
    ready: bool,
    /// Handed to the event loop and not sent.
    handed: usize,
    /// Sent and not acknowledged.
    unacknowledged: usize,
}

impl Line {
    async fn run(mut self) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let began = Instant::now();
            let (news, reason) = match self.connection().await {
                End::Released => return,
                End::Lost(reason) => (News::Down as fn(String) -> News, reason),
                End::Denied(reason) => (News::Denied as fn(String) -> News, reason),
            };
            if self.told.send(news(reason)).await.is_err() || self.messages.is_closed() {
                return;
            }
            // A connection that breaks at once is no reason to be quick about the next.
            if began.elapsed() > MAX_BACKOFF {
                backoff = FIRST_BACKOFF;
            }
            tokio::time::sleep(jittered(backoff)).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// One connection, with a client of its own: what the last one had on its way is sent again by
    /// the device, under the new one's packet ids.
    async fn connection(&mut self) -> End {
        let (client, mut events) = AsyncClient::new(options(&self.settings), HANDED * 2);
        let mut flight = Flight::default();
        loop {
            match self.next(&client, &mut events, &mut flight).await {
                Next::Event(event) => {
                    if let Some(end) = self.heard(*event, &client, &mut flight).await {
                        return end;
                    }
                    // The keep-alive makes an event now and then, whatever else stands still.
                    if flight.unacknowledged > 0 && self.acknowledged.elapsed() >= STALL {
                        return End::Lost("el broker no confirma nada".to_owned());
                    }
                }
                Next::Broken(error) => {
                    let rest = self.hear_the_rest(events, &client, flight).await;
                    return rest.unwrap_or_else(|| end_of(&error));
                }
                Next::Full => {
                    return End::Lost("el cliente MQTT no acepta más mensajes".to_owned());
                }
                Next::Goodbye => {
                    wait_for_the_end(events).await;
                    return End::Released;
                }
            }
        }
    }

    /// The next event, and meanwhile whatever the device wants to send. The poll is never dropped
    /// half-way: rumqttc could lose a packet between taking it and writing it.
    async fn next(
        &mut self,
        client: &AsyncClient,
        events: &mut EventLoop,
        flight: &mut Flight,
    ) -> Next {
        let mut poll = std::pin::pin!(events.poll());
        loop {
            let room = flight.ready && flight.handed < HANDED;
            tokio::select! {
                biased;
                polled = &mut poll => return polled.map_or_else(Next::Broken, |e| Next::Event(e.into())),
                message = self.messages.recv(), if room => {
                    let Some(message) = message else {
                        self.say_goodbye(client);
                        let _ = poll.as_mut().await;
                        return Next::Goodbye;
                    };
                    let topic = topics::alert(&self.settings.publishes_as);
                    if publish(client, topic, false, message).is_err() {
                        return Next::Full;
                    }
                    flight.handed += 1;
                }
            }
        }
    }

    fn say_goodbye(&self, client: &AsyncClient) {
        if self.settings.presence {
            let topic = topics::status(&self.settings.device);
            let _ = publish(client, topic, true, OFFLINE.into());
        }
        let _ = client.try_disconnect();
    }

    /// What the broker said before the end and was read together with it.
    async fn hear_the_rest(
        &mut self,
        mut events: EventLoop,
        client: &AsyncClient,
        mut flight: Flight,
    ) -> Option<End> {
        while let Some(event) = events.state.events.pop_front() {
            if let Some(end) = self.heard(event, client, &mut flight).await {
                return Some(end);
            }
        }
        None
    }

    async fn heard(
        &mut self,
        event: Event,
        client: &AsyncClient,
        flight: &mut Flight,
    ) -> Option<End> {
        let news = match event {
            Event::Outgoing(Outgoing::Publish(_)) => {
                flight.handed = flight.handed.saturating_sub(1);
                if flight.unacknowledged == 0 {
                    self.acknowledged = Instant::now();
                }
                flight.unacknowledged += 1;
                return None;
            }
            Event::Incoming(Packet::ConnAck(_)) => return self.subscribe(client),
            Event::Incoming(Packet::SubAck(ack)) => {
                let granted = |code| matches!(code, &SubscribeReasonCode::Success(_));
                if !ack.return_codes.iter().all(granted) {
                    return Some(End::Denied(
                        "el broker no permite suscribirse a respuesta y comando".to_owned(),
                    ));
                }
                flight.ready = true;
                self.announce(client, flight);
                News::Up
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                self.acknowledged = Instant::now();
                flight.unacknowledged = flight.unacknowledged.saturating_sub(1);
                match ack.reason {
                    PubAckReason::Success | PubAckReason::NoMatchingSubscribers => return None,
                    reason => News::Refused(format!("el broker rechaza lo publicado ({reason:?})")),
                }
            }
            Event::Incoming(Packet::Publish(message)) => read(&message)?,
            _ => return None,
        };
        let heard = self.told.send(news).await;
        heard.is_err().then_some(End::Released)
    }

    fn subscribe(&self, client: &AsyncClient) -> Option<End> {
        let device = &self.settings.device;
        let filters = [topics::reply(device), topics::command(device)]
            .map(|topic| Filter::new(topic, QoS::AtLeastOnce));
        let asked = client.try_subscribe_many(filters);
        asked.err().map(|error| End::Lost(error.to_string()))
    }

    fn announce(&self, client: &AsyncClient, flight: &mut Flight) {
        let topic = topics::status(&self.settings.device);
        if self.settings.presence && publish(client, topic, true, ONLINE.into()).is_ok() {
            flight.handed += 1;
        }
    }
}

/// What a message says; nothing where it is not what its topic promises.
fn read(message: &Publish) -> Option<News> {
    let leaf = message.topic.rsplit(|&b| b == b'/').next()?;
    match leaf {
        b"respuesta" => Reply::parse(&message.payload).map(News::Reply),
        b"comando" => Order::parse(&message.payload).map(News::Order),
        _ => None,
    }
}

fn publish(client: &AsyncClient, topic: String, retain: bool, payload: Bytes) -> Result<(), ()> {
    client
        .try_publish(topic, QoS::AtLeastOnce, retain, payload)
        .map_err(|_| ())
}

/// Polls until everything handed over is written and DISCONNECT with it.
async fn wait_for_the_end(mut events: EventLoop) {
    let rest = async {
        while let Ok(event) = events.poll().await {
            if matches!(event, Event::Outgoing(Outgoing::Disconnect)) {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(FAREWELL, rest).await;
}

fn end_of(error: &ConnectionError) -> End {
    use ConnectReturnCode::{BadUserNamePassword, Banned, ClientIdentifierNotValid, NotAuthorized};
    match error {
        ConnectionError::ConnectionRefused(
            code @ (BadUserNamePassword | NotAuthorized | Banned | ClientIdentifierNotValid),
        ) => End::Denied(format!(
            "el broker no deja entrar al dispositivo ({code:?}); enrólelo de nuevo para darle una \
             contraseña, o revise --mqtt-username y --mqtt-password"
        )),
        other => End::Lost(other.to_string()),
    }
}

/// Between half of `wait` and all of it, so that a thousand devices do not return together.
fn jittered(wait: Duration) -> Duration {
    let mut byte = [0];
    // Without random bytes they do return together.
    let _ = getrandom::fill(&mut byte);
    wait / 2 + wait * u32::from(byte[0]) / 512
}

fn options(settings: &LinkSettings) -> MqttOptions {
    let device = settings.device.device.to_string();
    let mut options = MqttOptions::new(device, settings.host.clone(), settings.port);
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_connection_timeout(CONNECT_TIMEOUT)
        .set_clean_start(settings.session == 0)
        .set_outgoing_inflight_upper_limit(IN_FLIGHT)
        .set_max_packet_size(Some(MAX_PACKET))
        .set_session_expiry_interval(Some(settings.session))
        .set_credentials(settings.login.user.clone(), settings.login.password.clone());
    if let Some(tls) = &settings.tls {
        options.set_transport(transport(tls));
    }
    if settings.presence {
        let topic = topics::status(&settings.device);
        let will = LastWill::new(topic, OFFLINE, QoS::AtLeastOnce, true, None);
        options.set_last_will(will);
    }
    options
}
