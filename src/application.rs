//! The composition root: what is started in which order, and drained in the reverse.
//!
//! Leaves first: database, writer, broker; then the actors that follow the journal; then the
//! edges. At the end the edges close first, so that what has been let in is still committed,
//! published and told.

use crate::actors::account::AccountActor;
use crate::actors::alert_log::AlertLog;
use crate::actors::alert_validator::{AlertValidator, ValidatorParts};
use crate::actors::alert_watch::{AlertWatch, Hearing};
use crate::actors::doorkeeper::{self, Doorkeeper, DoorkeeperParts, Trail};
use crate::actors::legacy_gate::LegacyGate;
use crate::actors::metrics::{KeepHistory, MetricsActor, MetricsParts};
use crate::actors::mqtt_intake::{IntakeParts, MqttIntake, StopListening};
use crate::actors::mqtt_publisher::{Drain, MqttPublisher, PublisherParts};
use crate::actors::session::tcp::TcpParts;
use crate::actors::session::websocket::Lobby;
use crate::actors::session_hub::{CloseAll, SessionHub};
use crate::actors::statistics::StatisticsActor;
use crate::clock::Clock;
use crate::config::{Config, ConfigError, MqttConfig};
use crate::desk::{Desk, DeskParts};
use crate::domain::password::Password;
use crate::domain::token::Token;
use crate::domain::{Channel, Principal, Slug};
use crate::first_run::{self, Helpers, Welcome};
use crate::http::{self, Bridge, Door, HttpParts, Readiness};
use crate::instruments::Instruments;
use crate::limits::Limits;
use crate::log_files::LogFolder;
use crate::mqtt::broker::EmbeddedBroker;
use crate::mqtt::connection::BrokerAddress;
use crate::mqtt::people::TokenGate;
use crate::mqtt::status::StatusBoard;
use crate::storage::access::PersonPatch;
use crate::storage::bootstrap::{Wanted, bootstrap};
use crate::storage::connection::{open_readers, open_writer};
use crate::storage::vault::Vault;
use crate::storage::writer::WriterParts;
use crate::storage::{
    AccessCommand, AccessOrder, AccessSettings, AccessView, Feed, Feeds, HubSettings, HubView,
    Installation, ReadPool, StorageError, Writer, access, queries, registry_queries,
};
use crate::tcp::{Room, TcpServer};
use crate::tls;
use actix::prelude::*;
use actix_web::dev::{Server, ServerHandle};
use prometheus::Registry;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long a step of the end may take that has no deadline of its own.
const STEP_DEADLINE: Duration = Duration::from_secs(10);

/// Why it cannot start, or had to stop. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ApplicationError {
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A port.
    #[error("cannot listen on {address}: {source} ({setting} changes it)")]
    Port {
        /// Where.
        address: SocketAddr,
        /// Which setting changes it.
        setting: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Another process has the data.
    #[error(
        "another process is using {path:?}: stop it, or choose another DATA_DIR and DATABASE_URL"
    )]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// A folder or file.
    #[error("cannot write to {path:?}: {source} ({setting} chooses another place)")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Which setting changes it.
        setting: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The embedded broker.
    #[error("{0}")]
    Broker(String),
    /// A file of the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The metrics; a defect.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The writer stopped, since to go on could do harm.
    #[error("stopped, since to go on could do harm: {0}; start again when the cause is mended")]
    Writer(String),
    /// The HTTP server ended by itself.
    #[error("the HTTP server ended: {0}")]
    Http(std::io::Error),
    /// The port of terminals cannot be served.
    #[error("terminals cannot be served: {0}")]
    Tcp(std::io::Error),
    /// The first admin, or what `--demo` makes, could not be made.
    #[error("{0}")]
    FirstRun(String),
}

/// The running application.
pub struct Application {
    config: Config,
    http: SocketAddr,
    terminals: SocketAddr,
    server: Server,
    tcp: TcpServer,
    writer: Writer,
    hub: Addr<SessionHub>,
    intake: Option<Addr<MqttIntake>>,
    /// One for each lane, the one that speaks for the whole first; none without MQTT.
    publishers: Vec<Addr<MqttPublisher>>,
    broker: Option<Box<dyn EmbeddedBroker>>,
    metrics: Addr<MetricsActor>,
    readiness: Readiness,
    welcome: Welcome,
    /// Held as long as the process uses the data.
    _locks: Vec<File>,
}

impl Application {
    /// Builds and starts everything. Call it within an actix system.
    ///
    /// # Errors
    /// [`ApplicationError`] says which setting to change.
    pub async fn build(config: Config, clock: Clock) -> Result<Self, ApplicationError> {
        let locks = lock(&config)?;
        let (listener, http) = listen(config.http, "HTTP_PORT or BIND_ADDRESS")?;
        let (tcp, terminals) = listen(config.terminals, "SERVER_PORT or BIND_ADDRESS")?;
        let registry = Registry::new();
        let instruments = Instruments::new(&registry)?;
        let storage = open_storage(&config, &clock, &instruments)?;
        let people = TokenGate::new(Arc::clone(&storage.access), clock.clone());
        let (broker, address) = start_broker(&config, http, &storage, people).await?;
        let actors = start_actors(&config, &clock, &storage, address, registry, &instruments)?;
        let welcome = welcome(&config, &actors, &storage).await?;
        let Actors {
            accounts,
            statistics,
            publishers,
            hub,
            metrics,
            validator,
            intake,
            statuses,
            doorkeeper,
            legacy,
            trail,
        } = actors;
        let view = Arc::clone(&storage.hub);
        let has_broker = !publishers.is_empty();
        let readiness = Readiness::new(
            storage.readers.clone(),
            instruments.clone(),
            has_broker,
            config.currency.clone(),
            clock.clone(),
        );
        let desk = Desk::new(DeskParts {
            legacy,
            logs: LogFolder::new(config.log_dir.clone()),
            accounts,
            statistics,
            validator,
            doorkeeper,
            access: Arc::clone(&storage.access),
            view: storage.hub,
            statuses,
            readers: storage.readers.clone(),
            cedula_check: config.cedula_check,
            clock: clock.clone(),
            instruments: instruments.clone(),
            installation: config.installation.clone(),
        });
        let limits = Limits::new(config.address_rate, config.principal_rate);
        let lobby = Lobby {
            desk: desk.clone(),
            hub: hub.clone(),
            instruments: instruments.clone(),
            limits: limits.clone(),
            places: Arc::new(Semaphore::new(config.max_connections * 3 / 4)),
        };
        let door = Door {
            access: storage.access,
            trail,
            limits,
            clock: clock.clone(),
        };
        let bridge = bridge_of(&config, &view);
        let tcp = serve_terminals(&config, tcp, (&lobby, &door), view).await?;
        let parts = HttpParts {
            desk,
            lobby,
            metrics: metrics.clone(),
            instruments,
            readiness: readiness.clone(),
            door,
            bridge,
            allowed_origins: Arc::new(config.allowed_origins.clone()),
            max_connections: config.max_connections,
            max_per_address: config.max_per_address,
            tls: config.tls.as_ref().map(tls::server).transpose()?,
        };
        let server = http::server(listener, parts).map_err(ApplicationError::Http)?;
        let writer = storage.writer;
        Ok(Self {
            config,
            http,
            terminals,
            server,
            tcp,
            writer,
            hub,
            intake,
            publishers,
            broker,
            metrics,
            readiness,
            welcome,
            _locks: locks,
        })
    }

    /// Where HTTP listens.
    #[must_use]
    pub const fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where terminals are listened to.
    #[must_use]
    pub const fn terminals(&self) -> SocketAddr {
        self.terminals
    }

    /// Where the embedded broker listens: MQTT, and MQTT over WebSocket.
    #[must_use]
    pub fn broker(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.broker
            .as_ref()
            .map(|broker| (broker.tcp(), broker.websocket()))
    }

    /// What whoever started it is to be told, once.
    #[must_use]
    pub const fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// What it was built from.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Serves until `stop` resolves, then drains: unready → stop listening → end sessions → last
    /// group and outbox (bounded) → close.
    ///
    /// # Errors
    /// [`ApplicationError::Writer`] where the database has failed so that going on could do harm.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), ApplicationError> {
        let Self {
            config,
            mut server,
            tcp,
            writer,
            hub,
            intake,
            publishers,
            broker,
            metrics,
            readiness,
            ..
        } = self;
        let handle = server.handle();
        let ended = tokio::select! {
            () = stop => Ok(()),
            reason = writer.failure() => Err(ApplicationError::Writer(reason)),
            ended = &mut server => ended.map_err(ApplicationError::Http),
        };
        // After a failure what is on disk is right and nothing else is tried.
        ended?;
        log::info!("draining");
        readiness.drain();
        if let Some(intake) = intake
            && let Err(error) = intake.send(StopListening).await
        {
            log::warn!("the intake is gone: {error}");
        }
        close_edges(server, handle, &tcp, &hub).await;
        drain(&publishers, config.shutdown_timeout).await;
        let kept = async {
            if let Err(error) = metrics.send(KeepHistory).await {
                log::warn!("the metrics are gone: {error}");
            }
        };
        within("the history of metrics", kept).await;
        within("the last commit", writer.close()).await;
        if let Some(broker) = broker {
            within("the broker's end", broker.stop()).await;
        }
        log::info!("closed");
        Ok(())
    }
}

/// Lets the publishers publish what is left, the one that says goodbye last.
async fn drain(publishers: &[Addr<MqttPublisher>], within: Duration) {
    let Some((first, others)) = publishers.split_first() else {
        return;
    };
    let drain = |publisher: &Addr<MqttPublisher>| publisher.send(Drain { within });
    let mut left = futures_util::future::join_all(others.iter().map(drain)).await;
    left.push(drain(first).await);
    let behind: Result<Vec<i64>, _> = left.into_iter().collect();
    match behind.map(|behind| behind.iter().sum::<i64>()) {
        Ok(0) => log::info!("all is published"),
        Ok(behind) => log::warn!("{behind} entries are published after the next start"),
        Err(error) => log::warn!("a publisher is gone: {error}"),
    }
}

/// Binds a port before anything is started, so that one in use is told at once.
fn listen(
    address: SocketAddr,
    setting: &'static str,
) -> Result<(TcpListener, SocketAddr), ApplicationError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|source| ApplicationError::Port {
        address,
        setting,
        source,
    })
}

/// Makes what there must be at the first start.
async fn welcome(
    config: &Config,
    actors: &Actors,
    storage: &Storage,
) -> Result<Welcome, ApplicationError> {
    let helpers = Helpers {
        accounts: &actors.accounts,
        doorkeeper: &actors.doorkeeper,
        access: &storage.access,
    };
    first_run::first_run(config, &helpers).await
}

async fn serve_terminals(
    config: &Config,
    listener: TcpListener,
    (lobby, door): (&Lobby, &Door),
    view: Arc<HubView>,
) -> Result<TcpServer, ApplicationError> {
    let parts = TcpParts {
        desk: lobby.desk.clone(),
        hub: lobby.hub.clone(),
        instruments: lobby.instruments.clone(),
        limits: door.limits.clone(),
        access: Arc::clone(&door.access),
        trusted: Arc::new(config.trusted.clone()),
        view,
        trail: door.trail.clone(),
        clock: door.clock.clone(),
        zone: config.zone.clone(),
    };
    let room = Room {
        connections: config.max_connections,
        per_address: config.max_per_address,
    };
    let tls = config.terminals_tls.as_ref().map(tls::server).transpose()?;
    let served = TcpServer::start(listener, parts, room, tls).await;
    served.map_err(ApplicationError::Tcp)
}

/// Waits for one step of the end, but not for ever: what it was to do is safe to leave undone.
async fn within(what: &str, step: impl Future<Output = ()>) {
    if tokio::time::timeout(STEP_DEADLINE, step).await.is_err() {
        log::warn!("{what} was not awaited longer than {STEP_DEADLINE:?}");
    }
}

/// What is durable, open.
struct Storage {
    hub: Arc<HubView>,
    access: Arc<AccessView>,
    vault: Vault,
    writer: Writer,
    feeds: Feeds,
    readers: ReadPool,
    installation: Installation,
    /// How far the outbox of each lane has come.
    positions: Vec<i64>,
}

fn open_storage(
    config: &Config,
    clock: &Clock,
    instruments: &Instruments,
) -> Result<Storage, ApplicationError> {
    let mut connection = open_writer(&config.database)?;
    let wanted = Wanted {
        name: config.installation.as_str(),
        currency: &config.currency,
        company: &config.company,
        lanes: config.writer_lanes,
    };
    let installation = bootstrap(&mut connection, &wanted, clock.now())?;
    let positions = queries::outbox_positions(&mut connection)?;
    let sealed = registry_queries::has_sealed_secrets(&mut connection)?
        || access::queries::has_sealed_secrets(&mut connection)?;
    let vault = Vault::open(&config.device_kek_file, sealed).map_err(StorageError::Vault)?;
    drop(connection);
    let hub = Arc::new(HubView::default());
    let access = Arc::new(AccessView::new(config.access.idle));
    let readers = open_readers(&config.database)?;
    let feeds = Feeds::new(installation.lanes, &readers, config.low_balance_threshold);
    let writer = Writer::start(WriterParts {
        location: config.database.clone(),
        company: installation.company,
        feeds: feeds.clone(),
        clock: clock.clone(),
        instruments: instruments.clone(),
        access: AccessSettings {
            view: Arc::clone(&access),
            automation: config.access.admin_token.as_ref().map(Token::digest),
        },
        hub: HubSettings {
            vault: vault.clone(),
            bounce: config.alert_bounce,
            view: Arc::clone(&hub),
        },
    })?;
    Ok(Storage {
        hub,
        access,
        vault,
        writer,
        feeds,
        readers,
        installation,
        positions,
    })
}

/// The actors that edges and the end need to know.
struct Actors {
    accounts: Addr<AccountActor>,
    statistics: Addr<StatisticsActor>,
    publishers: Vec<Addr<MqttPublisher>>,
    hub: Addr<SessionHub>,
    metrics: Addr<MetricsActor>,
    validator: Addr<AlertValidator>,
    intake: Option<Addr<MqttIntake>>,
    statuses: Arc<StatusBoard>,
    doorkeeper: Addr<Doorkeeper>,
    legacy: Addr<LegacyGate>,
    trail: Trail,
}

/// Starts the actors, leaves first: each knows only those that were started before it.
fn start_actors(
    config: &Config,
    clock: &Clock,
    storage: &Storage,
    broker: Option<BrokerAddress>,
    registry: Registry,
    instruments: &Instruments,
) -> Result<Actors, ApplicationError> {
    let Storage {
        hub: view,
        writer,
        feeds,
        readers,
        ..
    } = storage;
    let intake_broker = broker.clone().map(|broker| BrokerAddress {
        client_id: intake_id(&broker.client_id),
        ..broker
    });
    let (publishers, outbox) = start_publishers(config, clock, storage, broker, instruments);
    let publisher = publishers.first().cloned();
    let mut hub = SessionHub::new(feeds.clone(), instruments.clone());
    // Sessions see the same retained presence as subscribers of the broker.
    hub.retain(MqttPublisher::presence_of(config.node.as_str(), "en_linea", clock.now()).event());
    let hub = on_own_thread(move |_| hub);
    let threshold = config.low_balance_threshold;
    for feed in feeds {
        let alerts = AlertLog::new(feed.clone(), threshold, instruments.clone());
        // Writing a log blocks, and must not hold up money.
        on_own_thread(move |_| alerts);
    }
    let statistics =
        StatisticsActor::new(feeds.clone(), hub.clone(), publisher.clone(), clock.clone()).start();
    let accounts = AccountActor::new(writer.clone(), readers.clone()).start();
    let (doorkeeper, trail) = start_doorkeeper(config, clock, storage);
    let legacy = LegacyGate::new(Arc::clone(view), clock.clone(), trail.clone());
    let statuses = Arc::new(StatusBoard::default());
    let hearing = Arc::new(Hearing::deaf());
    let validator = AlertValidator::new(ValidatorParts {
        view: Arc::clone(view),
        writer: writer.clone(),
        publisher: publisher.clone(),
        installation: config.installation.clone(),
        rate: config.device_rate,
        clock: clock.clone(),
        instruments: instruments.clone(),
    });
    let validator = on_own_thread(move |_| validator);
    if intake_broker.is_none() {
        // Without MQTT devices speak over HTTP alone, and they are heard there from the start.
        hearing.begins(clock.now());
    }
    let heard = Arc::clone(&hearing);
    AlertWatch::new(Arc::clone(view), writer.clone(), clock.clone(), heard).start();
    let intake = intake_broker.map(|broker| {
        let intake = MqttIntake::new(IntakeParts {
            broker,
            validator: validator.clone(),
            statuses: Arc::clone(&statuses),
            view: Arc::clone(view),
            hearing,
            clock: clock.clone(),
            instruments: instruments.clone(),
        });
        on_own_thread(move |_| intake)
    });
    let metrics = MetricsActor::new(MetricsParts {
        registry,
        feeds: feeds.clone(),
        writer: writer.clone(),
        hub: hub.clone(),
        view: Arc::clone(view),
        statuses: Arc::clone(&statuses),
        outbox: publisher.is_some().then_some(outbox),
        readers: storage.readers.clone(),
        folder: config.data_dir.clone(),
        clock: clock.clone(),
    })?
    .start();
    Ok(Actors {
        accounts,
        statistics,
        publishers,
        hub,
        metrics,
        validator,
        intake,
        statuses,
        doorkeeper,
        legacy: legacy.start(),
        trail,
    })
}

/// Starts a publisher for each lane; none without MQTT. With them, where their positions are seen.
fn start_publishers(
    config: &Config,
    clock: &Clock,
    storage: &Storage,
    broker: Option<BrokerAddress>,
    instruments: &Instruments,
) -> (Vec<Addr<MqttPublisher>>, Vec<Arc<AtomicI64>>) {
    // The embedded broker acknowledges first and writes within a quarter of a second; a crash of
    // this process takes it too. A broker elsewhere is not taken by our crash.
    let settles_in = match config.mqtt {
        MqttConfig::Embedded { .. } => Duration::from_secs(1),
        MqttConfig::External { .. } | MqttConfig::Off => Duration::ZERO,
    };
    let Some(broker) = broker else {
        return (Vec::new(), Vec::new());
    };
    let start = |(feed, position): (&Feed, &i64)| {
        let gauge = Arc::new(AtomicI64::new(*position));
        let parts = PublisherParts {
            broker: BrokerAddress {
                client_id: publisher_id(&broker.client_id, feed.lane()),
                ..broker.clone()
            },
            feed: feed.clone(),
            writer: storage.writer.clone(),
            position: *position,
            database_id: storage.installation.database_id,
            node: config.node.to_string(),
            clock: clock.clone(),
            instruments: instruments.clone(),
            settles_in,
            gauge: Arc::clone(&gauge),
        };
        (on_own_thread(move |_| MqttPublisher::new(parts)), gauge)
    };
    storage
        .feeds
        .iter()
        .zip(&storage.positions)
        .map(start)
        .unzip()
}

/// The client id of a lane's publisher: of the first the one that stands for us.
fn publisher_id(client_id: &str, lane: i32) -> String {
    match lane {
        0 => client_id.to_owned(),
        lane => format!("{client_id}-carril-{lane}"),
    }
}

/// What clients from before Atalaya are served with, if they are.
fn bridge_of(config: &Config, view: &Arc<HubView>) -> Option<Bridge> {
    config.legacy_api.then(|| Bridge {
        trusted: Arc::new(config.trusted.clone()),
        view: Arc::clone(view),
        zone: config.zone.clone(),
    })
}

fn start_doorkeeper(
    config: &Config,
    clock: &Clock,
    storage: &Storage,
) -> (Addr<Doorkeeper>, Trail) {
    let (doorkeeper, trail) = Doorkeeper::new(DoorkeeperParts {
        writer: storage.writer.clone(),
        readers: storage.readers.clone(),
        vault: storage.vault.clone(),
        view: Arc::clone(&storage.access),
        clock: clock.clone(),
        session: config.access.session,
    });
    (doorkeeper.start(), trail)
}

/// The client id under which devices are listened to, beside the publisher's own.
fn intake_id(publisher: &str) -> String {
    format!("{publisher}-intake")
}

/// Stops listening, lets requests under way finish and tells sessions to leave.
async fn close_edges(
    server: Server,
    handle: ServerHandle,
    tcp: &TcpServer,
    hub: &Addr<SessionHub>,
) {
    tcp.close();
    let stopping = actix::spawn(async move { tokio::join!(handle.stop(true), server).1 });
    if let Err(error) = hub.send(CloseAll).await {
        log::warn!("the hub is gone: {error}");
    }
    match stopping.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::warn!("the HTTP server ended badly: {error}"),
        Err(error) => log::warn!("the HTTP server was not awaited: {error}"),
    }
    within("the end of terminals' sessions", tcp.closed()).await;
}

/// Starts an actor on a thread of its own, so that a busy one holds up no other.
fn on_own_thread<A>(make: impl FnOnce(&mut Context<A>) -> A + Send + 'static) -> Addr<A>
where
    A: Actor<Context = Context<A>>,
{
    A::start_in_arbiter(&Arbiter::new().handle(), make)
}

/// Two processes on one database would each believe their own memory of it.
fn lock(config: &Config) -> Result<Vec<File>, ApplicationError> {
    let folder = |path: &Path, setting| {
        let made = std::fs::create_dir_all(path);
        made.map_err(|source| ApplicationError::Folder {
            path: path.to_owned(),
            setting,
            source,
        })
    };
    folder(&config.data_dir, "DATA_DIR")?;
    let mut locks = vec![(config.data_dir.join("atalaya.lock"), "DATA_DIR")];
    // A server has a lock of its own, which the writer holds.
    if let Some(database) = config.database.path() {
        if let Some(parent) = database
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            folder(parent, "DATABASE_URL")?;
        }
        let mut name = database.to_owned().into_os_string();
        name.push(".lock");
        locks.push((PathBuf::from(name), "DATABASE_URL"));
    }
    locks
        .into_iter()
        .map(|(path, setting)| {
            let file = File::create(&path).map_err(|source| {
                let path = path.clone();
                ApplicationError::Folder {
                    path,
                    setting,
                    source,
                }
            })?;
            file.try_lock()
                .map_err(|_| ApplicationError::Locked { path })?;
            Ok(file)
        })
        .collect()
}

type Started = (Option<Box<dyn EmbeddedBroker>>, Option<BrokerAddress>);

async fn start_broker(
    config: &Config,
    http: SocketAddr,
    storage: &Storage,
    people: TokenGate,
) -> Result<Started, ApplicationError> {
    let client_id = format!("atalaya-{}", config.node);
    match &config.mqtt {
        MqttConfig::Off => Ok((None, None)),
        MqttConfig::External {
            host,
            port,
            login,
            tls,
        } => {
            let (host, port, login) = (host.clone(), *port, login.clone());
            Ok((
                None,
                Some(BrokerAddress {
                    host,
                    port,
                    login,
                    tls: tls.clone(),
                    client_id,
                }),
            ))
        }
        MqttConfig::Embedded {
            tcp,
            websocket,
            tls,
        } => {
            let gates = (&storage.hub, people);
            let lanes = 0..i32::try_from(storage.installation.lanes).unwrap_or(1);
            let mut own: Vec<String> = lanes.map(|lane| publisher_id(&client_id, lane)).collect();
            own.push(intake_id(&client_id));
            start_embedded(
                config,
                http,
                (gates, own),
                (*tcp, *websocket, *tls),
                client_id,
            )
            .await
        }
    }
}

#[cfg(feature = "embedded-broker")]
async fn start_embedded(
    config: &Config,
    http: SocketAddr,
    ((view, people), own): ((&Arc<HubView>, TokenGate), Vec<String>),
    (tcp, websocket, tls): (SocketAddr, SocketAddr, Option<SocketAddr>),
    client_id: String,
) -> Result<Started, ApplicationError> {
    use crate::config::Login;
    use crate::mqtt::broker::{OWN_USER, RegistryGate};
    use crate::mqtt::embedded;

    let password = uuid::Uuid::new_v4().to_string();
    let mut origins = config.allowed_origins.clone();
    // Our own page comes from the HTTP port and connects to the broker's.
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let scheme = if config.tls.is_some() {
            "https"
        } else {
            "http"
        };
        origins.push(format!("{scheme}://{host}:{}", http.port()));
    }
    let broker = embedded::start(embedded::Settings {
        tcp,
        websocket,
        tls: tls.zip(config.tls.clone()),
        folder: config.data_dir.join("mqtt"),
        allowed_origins: origins,
        gatekeeper: Arc::new(RegistryGate::new(
            password.clone(),
            own,
            Arc::clone(view),
            Arc::new(people),
        )),
        changes: view.changes(),
    })
    .await
    .map_err(ApplicationError::Broker)?;
    let address = BrokerAddress {
        host: broker.tcp().ip().to_string(),
        port: broker.tcp().port(),
        login: Some(Login {
            user: OWN_USER.to_owned(),
            password,
        }),
        tls: None,
        client_id,
    };
    Ok((Some(Box::new(broker)), Some(address)))
}

#[cfg(not(feature = "embedded-broker"))]
#[allow(clippy::unused_async, reason = "the same signature as with the broker")]
async fn start_embedded(
    _config: &Config,
    _http: SocketAddr,
    _gates: ((&Arc<HubView>, TokenGate), Vec<String>),
    _listen: (SocketAddr, SocketAddr, Option<SocketAddr>),
    _client_id: String,
) -> Result<Started, ApplicationError> {
    Err(ApplicationError::Broker(
        "this build has no embedded broker".to_owned(),
    ))
}

/// The database of a server that is stopped, with the one writer that it has: for commands that work
/// on it themselves. No server starts on it meanwhile.
#[derive(Debug)]
pub struct Offline {
    /// The way to write.
    pub writer: Writer,
    /// The way to read.
    pub readers: ReadPool,
    _locks: Vec<File>,
}

impl Offline {
    /// Opens it, making it where it is missing.
    ///
    /// # Errors
    /// [`ApplicationError::Locked`] while a server runs, or what is wrong with the database.
    pub fn open(config: &Config, clock: &Clock) -> Result<Self, ApplicationError> {
        let locks = lock(config)?;
        let instruments = Instruments::new(&Registry::new())?;
        let storage = open_storage(config, clock, &instruments)?;
        Ok(Self {
            writer: storage.writer,
            readers: storage.readers,
            _locks: locks,
        })
    }
}

/// Gives the person called `username` a new password, which must be changed, lets them in again and
/// takes their second factor away. Works on the database itself, whose server must be stopped.
///
/// # Errors
/// [`ApplicationError::Locked`] while a server runs, [`ApplicationError::FirstRun`] where there is no
/// such person.
pub async fn reset_password(
    config: &Config,
    clock: &Clock,
    username: Slug,
) -> Result<String, ApplicationError> {
    let storage = Offline::open(config, clock)?;
    let failed =
        |what: &dyn std::fmt::Display| ApplicationError::FirstRun(format!("{username}: {what}"));
    let text = first_run::made_password().map_err(|e| failed(&e))?;
    let hashed = doorkeeper::hash(&Password::typed(&text));
    let patch = PersonPatch {
        active: Some(true),
        password: Some(hashed.ok_or_else(|| failed(&"the password cannot be hashed"))?),
        forget_second_factor: true,
        ..PersonPatch::default()
    };
    let order = AccessOrder {
        command: AccessCommand::PatchPerson(username.clone(), patch),
        principal: Principal::System,
        channel: Channel::Internal,
        address: None,
    };
    let ticket = storage
        .writer
        .submit_access(order)
        .map_err(|e| failed(&e))?;
    let changed = ticket.await.map_err(|e| failed(&e))?;
    storage.writer.close().await;
    changed.map_err(|e| failed(&e))?;
    Ok(text)
}
