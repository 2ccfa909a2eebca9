//! `atalaya monitor`: the live view of a broker in a terminal.
//!
//! [`format`] (with [`hub`] for alerts and devices) turns one message into one line, [`view`] decides which lines are news, and this
//! file connects, reconnects and writes. A slow terminal slows the reading: nothing queues here,
//! and the broker bounds what waits for us.

mod args;
mod format;
mod hub;
mod view;

pub(super) use args::MonitorArgs;

use crate::cli::text::Shown;
use anstream::eprintln;
use format::Line;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectProperties, ConnectReturnCode, Filter, Packet, Publish, SubAck, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, MqttOptions, StateError};
use std::error::Error;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use uuid::Uuid;
use view::{Message, View};

/// The largest packet taken, in bytes: far above any event of ours. The broker is told and drops
/// what is larger, so one oversized message cannot make a loop of disconnections.
const MAX_PACKET: u32 = 256 * 1024;
/// A broker that restarts is usually back within a second.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// The longest that a person should look at a dead screen after the broker is back.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// Requests that wait for the event loop: one subscription a connection is all we ever send.
const REQUESTS: usize = 1;

/// Why the monitor gives up; whatever may pass by itself is retried instead.
#[derive(Debug, thiserror::Error)]
enum MonitorError {
    /// The broker does not know this user, or wants one.
    #[error(
        "el broker {broker} rechazó el usuario o la contraseña ({code:?}): revise MQTT_USERNAME y MQTT_PASSWORD"
    )]
    SignIn {
        broker: String,
        code: ConnectReturnCode,
    },
    /// The broker is older than MQTT 5.
    #[error("el broker {broker} no habla MQTT 5")]
    Version { broker: String },
    /// Not one of the filters may be subscribed to.
    #[error("el broker {broker} no permite suscribirse a ninguno de los temas")]
    Subscription { broker: String },
    /// Standard output fails, and not because its reader has gone.
    #[error("no se puede escribir la salida: {0}")]
    Output(#[source] io::Error),
}

/// How a connection ended.
enum End {
    /// There is nothing left to show, or nobody left to show it to.
    Finished,
    /// It broke, or never came about; the text says why.
    Lost(String),
}

/// Shows a broker's messages until Ctrl-C, `--count` or the end of the output's reader.
///
/// # Errors
/// A password file that cannot be read, and every [`MonitorError`].
pub(super) fn run(args: &MonitorArgs) -> Result<ExitCode, Box<dyn Error>> {
    let mut monitor = Monitor::new(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result: Result<(), Box<dyn Error>> = runtime.block_on(async {
        tokio::select! {
            ended = monitor.watch() => Ok(ended?),
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        }
    });
    // A look-up of the host that still blocks must not hold Ctrl-C up.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

/// One run of the monitor, across its connections.
struct Monitor {
    options: MqttOptions,
    /// The broker's address, for people.
    broker: String,
    filters: Vec<String>,
    view: View,
    out: anstream::Stdout,
    /// Lines still to print; `None` is no end.
    left: Option<u64>,
    /// The last status line, so that a broker that stays away is reported once.
    last_status: Option<String>,
    /// Whether it has been subscribed before: then there is something to have missed.
    was_up: bool,
}

impl Monitor {
    fn new(args: &MonitorArgs) -> Result<Self, Box<dyn Error>> {
        let filters = args.filters();
        Ok(Self {
            options: options(args)?,
            broker: args.broker.to_string(),
            view: View::new(args.json, args.cedula.clone(), &filters),
            filters,
            out: anstream::stdout(),
            left: args.count.map(NonZeroU64::get),
            last_status: None,
            was_up: false,
        })
    }

    /// Connects over and over, each time with a fresh client: nothing of a broken session is kept.
    async fn watch(&mut self) -> Result<(), MonitorError> {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let began = Instant::now();
            let End::Lost(reason) = self.connection().await? else {
                return Ok(());
            };
            self.status(format!(
                "sin conexión con {}, se reintenta: {reason}",
                self.broker
            ));
            // A connection that breaks at once is no reason to be quick about the next.
            if began.elapsed() > MAX_BACKOFF {
                backoff = FIRST_BACKOFF;
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    async fn connection(&mut self) -> Result<End, MonitorError> {
        let (client, mut events) = AsyncClient::new(self.options.clone(), REQUESTS);
        let mut greeted = false;
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    greeted = true;
                    let filters = self
                        .filters
                        .iter()
                        .map(|f| Filter::new(f, QoS::AtLeastOnce));
                    if let Err(error) = client.try_subscribe_many(filters) {
                        return Ok(End::Lost(error.to_string()));
                    }
                }
                Ok(Event::Incoming(Packet::SubAck(ack))) => self.subscribed(&ack)?,
                Ok(Event::Incoming(Packet::Publish(message))) => {
                    if self.show(&message)? {
                        return Ok(End::Finished);
                    }
                }
                Ok(_) => {}
                Err(error) if !greeted && is_no_broker(&error) => {
                    return Ok(End::Lost(
                        "no contesta como un broker MQTT; revise --host y --port".to_owned(),
                    ));
                }
                Err(error) => return self.lost(error),
            }
        }
    }

    /// Sorts what a person must mend from what passes.
    fn lost(&self, error: ConnectionError) -> Result<End, MonitorError> {
        use ConnectReturnCode::{
            BadUserNamePassword, NotAuthorized, RefusedProtocolVersion, UnsupportedProtocolVersion,
        };
        let broker = self.broker.clone();
        match error {
            ConnectionError::ConnectionRefused(code @ (BadUserNamePassword | NotAuthorized)) => {
                Err(MonitorError::SignIn { broker, code })
            }
            ConnectionError::ConnectionRefused(
                RefusedProtocolVersion | UnsupportedProtocolVersion,
            ) => Err(MonitorError::Version { broker }),
            other => Ok(End::Lost(other.to_string())),
        }
    }

    fn subscribed(&mut self, ack: &SubAck) -> Result<(), MonitorError> {
        let (granted, refused): (Vec<_>, Vec<_>) = self
            .filters
            .iter()
            .zip(&ack.return_codes)
            .partition(|(_, code)| matches!(code, SubscribeReasonCode::Success(_)));
        if granted.is_empty() {
            return Err(MonitorError::Subscription {
                broker: self.broker.clone(),
            });
        }
        let mut status = format!("conectado a {}: {}", self.broker, names(&granted));
        if !refused.is_empty() {
            status = format!("{status}; el broker no permite {}", names(&refused));
        }
        self.status(status);
        if self.was_up {
            self.status("puede faltar lo que se publicó mientras no hubo conexión".to_owned());
        }
        self.was_up = true;
        Ok(())
    }

    /// Prints the message if it is news; whether that was all there is to do.
    fn show(&mut self, message: &Publish) -> Result<bool, MonitorError> {
        // MQTT topics are UTF-8; what is not is still shown, never trusted.
        let topic = String::from_utf8_lossy(&message.topic);
        let message = Message {
            topic: &topic,
            payload: &message.payload,
            retained: message.retain,
        };
        let Some(line) = self.view.line(&message) else {
            return Ok(false);
        };
        match self.print(&line) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(true),
            other => other.map_err(MonitorError::Output)?,
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(self.left == Some(0))
    }

    /// Not `println!`, which hides that the reader has gone. The stream takes the colours away
    /// where nobody wants them.
    fn print(&mut self, line: &Line) -> io::Result<()> {
        self.out.write_all(format!("{line}\n").as_bytes())?;
        self.out.flush()
    }

    fn status(&mut self, text: String) {
        if self.last_status.as_ref() != Some(&text) {
            // A broker's reason is a stranger's text too.
            eprintln!("atalaya monitor: {}", Shown::from(text.as_str()));
            self.last_status = Some(text);
        }
    }
}

/// Whether a connection ended before its CONNACK as one does to what speaks another protocol:
/// something was there, and it answered nonsense, nothing, or hung up.
fn is_no_broker(error: &ConnectionError) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error {
        ConnectionError::NotConnAck(_) => true,
        ConnectionError::Io(error) | ConnectionError::MqttState(StateError::Io(error)) => {
            matches!(
                error.kind(),
                BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
            )
        }
        ConnectionError::MqttState(error) => {
            matches!(
                error,
                StateError::Deserialization(_)
                    | StateError::WrongPacket
                    | StateError::ConnectionAborted
                    | StateError::IncomingPacketTooLarge { .. }
            )
        }
        _ => false,
    }
}

fn names(filters: &[(&String, &SubscribeReasonCode)]) -> String {
    filters
        .iter()
        .map(|(filter, _)| filter.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

fn options(args: &MonitorArgs) -> Result<MqttOptions, Box<dyn Error>> {
    // Random: two monitors with one client id would throw each other out for ever.
    let client_id = format!("atalaya-monitor-{}", Uuid::new_v4().simple());
    let mut options = MqttOptions::new(client_id, &args.broker.host, args.broker.port);
    options.set_clean_start(true);
    let mut properties = ConnectProperties::new();
    properties.max_packet_size = Some(MAX_PACKET);
    options.set_connect_properties(properties);
    if let Some(login) = args.broker.login_of_person(&args.token)? {
        options.set_credentials(login.user, login.password);
    }
    if let Some(tls) = args.broker.tls()? {
        options.set_transport(crate::mqtt::connection::transport(&tls));
    }
    Ok(options)
}
