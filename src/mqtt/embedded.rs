//! The embedded broker: the `mqtt5` crate behind our trait.
//!
//! It runs on a thread and a runtime of its own, so that a busy broker slows no session. MQTT over
//! WebSocket is accepted in a loop of ours: the crate's own does the handshake inline, and one idle
//! connection would keep every new client out.

use super::broker::{Admission, EmbeddedBroker, Gatekeeper};
use crate::domain::{Registry, masked_text};
use crate::tls::Identity;
use mqtt5::broker::auth::{AuthProvider, AuthResult};
use mqtt5::broker::client_handler::ClientHandler;
use mqtt5::broker::config::{BrokerConfig, StorageBackend, StorageConfig, TlsConfig};
use mqtt5::broker::router::MessageRouter;
use mqtt5::broker::storage::StorageBackend as _;
use mqtt5::broker::transport::BrokerTransport;
use mqtt5::broker::websocket_server::WebSocketStreamWrapper;
use mqtt5::broker::{BrokerShutdownHandle, DynamicStorage, MqttBroker};
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, broadcast, oneshot, watch};
use tokio_tungstenite::tungstenite::handshake::server::{
    Callback, ErrorResponse, Request, Response,
};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// The largest packet that clients may send: below what our own client takes.
const PACKET_LIMIT: usize = 128 * 1024;

/// Messages kept for a client that is away. The crate's default of 10,000 drops the oldest too
/// early for a subscriber that is restarted under load.
const QUEUED_MESSAGES: usize = 1_000_000;

/// Bytes kept for a client that is away.
const QUEUED_BYTES: usize = 256 * 1024 * 1024;

/// Clients at once.
const CLIENTS: usize = 2_000;

/// How long a WebSocket handshake may take, and how many may be under way.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HANDSHAKES: usize = 256;

/// How often those inside are asked whether they may stay, beside each change of the registry: what
/// ends is to have ended within a second.
const ROUND: Duration = Duration::from_millis(250);

/// How long somebody who was let in may take to be connected: longer than the crate's ten seconds.
const SETTLING: Duration = Duration::from_secs(15);

/// What the broker needs to start.
pub struct Settings {
    /// Where MQTT listens.
    pub tcp: SocketAddr,
    /// Where MQTT over WebSocket listens.
    pub websocket: SocketAddr,
    /// Where MQTT over TLS listens, and what it shows.
    pub tls: Option<(SocketAddr, Identity)>,
    /// Where it keeps what it must not forget.
    pub folder: PathBuf,
    /// Origins whose pages may connect over WebSocket, beyond loopback's own.
    pub allowed_origins: Vec<String>,
    /// Who may do what.
    pub gatekeeper: Arc<dyn Gatekeeper>,
    /// Tells when who may do what has changed.
    pub changes: watch::Receiver<Arc<Registry>>,
}

/// The running broker.
pub struct Mqtt5Broker {
    tcp: SocketAddr,
    websocket: SocketAddr,
    shutdown: BrokerShutdownHandle,
    clients: broadcast::Sender<()>,
    ended: oneshot::Receiver<()>,
}

/// Starts the broker and waits until it listens.
///
/// # Errors
/// A sentence that says which port or folder it cannot have.
pub async fn start(settings: Settings) -> Result<Mqtt5Broker, String> {
    let (ready, started) = oneshot::channel();
    std::thread::Builder::new()
        .name("broker".into())
        .spawn(move || run_thread(settings, ready))
        .map_err(|e| format!("no thread for the broker: {e}"))?;
    started
        .await
        .unwrap_or_else(|_| Err("the broker's thread ended at once".to_owned()))
}

fn run_thread(settings: Settings, ready: oneshot::Sender<Result<Mqtt5Broker, String>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(settings, ready)),
        Err(error) => {
            let _ = ready.send(Err(format!("no runtime for the broker: {error}")));
        }
    }
}

async fn run(settings: Settings, ready: oneshot::Sender<Result<Mqtt5Broker, String>>) {
    let (tell_end, ended) = oneshot::channel();
    let (mut broker, websocket, config, gate) = match bind(&settings).await {
        Ok(bound) => bound,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let (clients, _) = broadcast::channel(1);
    let addresses = broker.local_addr().zip(websocket.local_addr().ok());
    let Some((tcp, websocket_address)) = addresses else {
        let _ = ready.send(Err("the broker does not say where it listens".to_owned()));
        return;
    };
    let door = Door {
        config: Arc::new(config),
        router: broker.router(),
        auth: broker.auth_provider(),
        storage: broker.storage(),
        stats: broker.stats(),
        resources: broker.resource_monitor(),
        clients: clients.clone(),
        origins: Arc::new(settings.allowed_origins),
    };
    let mut is_ready = broker.ready_receiver();
    let running = Mqtt5Broker {
        tcp,
        websocket: websocket_address,
        shutdown: broker.shutdown_handle(),
        clients,
        ended,
    };
    let showing_out = tokio::spawn(show_out(gate, broker.router(), settings.changes));
    let accepting = tokio::spawn(accept(websocket, door));
    let mut serving = tokio::spawn(async move { broker.run().await });
    tokio::select! {
        _ = is_ready.wait_for(|ready| *ready) => {
            let _ = ready.send(Ok(running));
            if let Ok(Err(error)) = serving.await {
                log::error!("the embedded broker ended: {error}");
            }
        }
        ended = &mut serving => {
            let reason = match ended {
                Ok(Err(error)) => error.to_string(),
                _ => "it ended before it was ready".to_owned(),
            };
            let _ = ready.send(Err(format!("the embedded broker cannot start: {reason}")));
        }
    }
    accepting.abort();
    showing_out.abort();
    let _ = tell_end.send(());
}

/// A broker that is not running yet, where WebSocket listens, how it is set and who guards it.
type Bound = (MqttBroker, TcpListener, BrokerConfig, Arc<Gate>);

async fn bind(settings: &Settings) -> Result<Bound, String> {
    let config = config(settings);
    // The crate tells a taken port from a bad folder only in an error of several lines.
    TcpListener::bind(settings.tcp)
        .await
        .map(drop)
        .map_err(|e| {
            format!(
                "the embedded broker cannot listen on {}: {e} (MQTT_BROKER_PORT changes it; \
             MQTT_BROKER_HOST uses another broker)",
                settings.tcp
            )
        })?;
    let broker = MqttBroker::with_config(config.clone()).await.map_err(|e| {
        let (address, folder) = (settings.tcp, settings.folder.display());
        let reason = e.to_string().replace('\n', " ");
        format!(
            "the embedded broker cannot listen on {address} or store in {folder}: {reason} \
                 (MQTT_BROKER_PORT and DATA_DIR change them; MQTT_BROKER_HOST uses another broker)"
        )
    })?;
    let gate = Arc::new(Gate {
        keeper: Arc::clone(&settings.gatekeeper),
        storage: broker.storage(),
        inside: Mutex::default(),
    });
    let auth: Arc<dyn AuthProvider> = Arc::<Gate>::clone(&gate);
    let broker = broker.with_auth_provider(auth);
    let websocket = TcpListener::bind(settings.websocket).await.map_err(|e| {
        format!(
            "the embedded broker cannot listen on {} for WebSocket: {e} (MQTT_WS_PORT changes it)",
            settings.websocket
        )
    })?;
    Ok((broker, websocket, config, gate))
}

fn config(settings: &Settings) -> BrokerConfig {
    let storage = StorageConfig::new()
        .with_backend(StorageBackend::File)
        .with_base_dir(settings.folder.clone())
        .with_max_queued_messages_per_client(QUEUED_MESSAGES)
        .with_max_queued_bytes_per_client(QUEUED_BYTES);
    let mut config = BrokerConfig::new();
    config.bind_addresses = vec![settings.tcp];
    config.max_clients = CLIENTS;
    config.max_packet_size = PACKET_LIMIT;
    config.max_retained_message_size = PACKET_LIMIT;
    config.sys_topics_enabled = false;
    config.storage_config = storage;
    config.tls_config = settings.tls.as_ref().map(|(address, identity)| {
        TlsConfig::new(identity.certificate.clone(), identity.key.clone())
            .with_bind_addresses(vec![*address])
    });
    config
}

/// What a WebSocket client needs to become a client of the broker.
#[derive(Clone)]
struct Door {
    config: Arc<BrokerConfig>,
    router: Arc<MessageRouter>,
    auth: Arc<dyn AuthProvider>,
    storage: Option<Arc<DynamicStorage>>,
    stats: Arc<mqtt5::broker::sys_topics::BrokerStats>,
    resources: Arc<mqtt5::broker::ResourceMonitor>,
    clients: broadcast::Sender<()>,
    origins: Arc<Vec<String>>,
}

async fn accept(listener: TcpListener, door: Door) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let door = door.clone();
                tokio::spawn(async move {
                    let shaken = door.shake_hands(stream, peer).await;
                    drop(permit);
                    if let Some(client) = shaken
                        && let Err(error) = client.run().await
                    {
                        log::debug!("an MQTT client over WebSocket left: {error}");
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: give some time to be returned.
                log::warn!("a WebSocket client of the broker was not accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Door {
    async fn shake_hands(&self, stream: TcpStream, peer: SocketAddr) -> Option<ClientHandler> {
        if !self.resources.can_accept_connection(peer.ip()).await {
            return None;
        }
        let callback = Handshake {
            origins: Arc::clone(&self.origins),
        };
        let limits = WebSocketConfig::default()
            .max_message_size(Some(PACKET_LIMIT * 2))
            .max_frame_size(Some(PACKET_LIMIT * 2));
        let accepted =
            tokio_tungstenite::accept_hdr_async_with_config(stream, callback, Some(limits));
        let socket = tokio::time::timeout(HANDSHAKE, accepted).await.ok()?.ok()?;
        Some(ClientHandler::new(
            BrokerTransport::websocket(WebSocketStreamWrapper::new(socket)),
            peer,
            Arc::clone(&self.config),
            Arc::clone(&self.router),
            Arc::clone(&self.auth),
            self.storage.clone(),
            Arc::clone(&self.stats),
            Arc::clone(&self.resources),
            self.clients.subscribe(),
        ))
    }
}

/// Checks a WebSocket handshake. A page from anywhere can reach loopback, so a foreign `Origin` is
/// turned away, and so is a `Host` that loopback does not go by, as in DNS rebinding.
struct Handshake {
    origins: Arc<Vec<String>>,
}

impl Callback for Handshake {
    fn on_request(
        self,
        request: &Request,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        let named = |name| {
            request
                .headers()
                .get(name)
                .and_then(|v: &HeaderValue| v.to_str().ok())
        };
        let host = named(header::HOST).unwrap_or_default();
        let origin = named(header::ORIGIN);
        if !crate::origin::is_allowed(&self.origins, host, origin) {
            return Err(turned_away(
                StatusCode::FORBIDDEN,
                "Host or Origin is not allowed",
            ));
        }
        let speaks_mqtt = named(header::SEC_WEBSOCKET_PROTOCOL)
            .is_some_and(|all| all.split(',').any(|one| one.trim() == "mqtt"));
        if speaks_mqtt {
            let mqtt = HeaderValue::from_static("mqtt");
            response
                .headers_mut()
                .insert(header::SEC_WEBSOCKET_PROTOCOL, mqtt);
        }
        Ok(response)
    }
}

fn turned_away(status: StatusCode, why: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(why.to_owned()));
    *response.status_mut() = status;
    response
}

/// Our gatekeeper in the crate's terms, with who is inside.
struct Gate {
    keeper: Arc<dyn Gatekeeper>,
    /// Sessions that the broker keeps.
    storage: Option<Arc<DynamicStorage>>,
    /// Who has come in under which client id: as many as there may be clients, and those who came a
    /// moment ago and are not, or no longer, connected.
    inside: Mutex<HashMap<String, Inside>>,
}

/// Somebody who has come in.
struct Inside {
    admission: Admission,
    since: Instant,
}

/// What is to be done about those inside.
#[derive(Default)]
struct Review {
    /// They may not stay.
    out: Vec<String>,
    /// They came some time ago, and may be gone.
    settled: Vec<String>,
}

impl Gate {
    fn inside(&self) -> MutexGuard<'_, HashMap<String, Inside>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a client in, or not. A last will is published when nobody is there to be told of a
    /// refusal, so it is judged here.
    async fn admit(&self, connect: &ConnectPacket) -> Option<Admission> {
        let admission = self.keeper.authenticate(
            &connect.client_id,
            connect.username.as_deref(),
            connect.password.as_deref(),
        )?;
        if self.is_taken(&connect.client_id, &admission.user).await {
            return None;
        }
        if let Some(will) = &connect.will
            && !self.keeper.may_publish(Some(&admission.user), &will.topic)
        {
            log::warn!(
                "{} may not leave a last will on {:?}",
                masked_text(&admission.user),
                masked_text(&will.topic)
            );
            return None;
        }
        let inside = Inside {
            admission: admission.clone(),
            since: Instant::now(),
        };
        self.inside().insert(connect.client_id.clone(), inside);
        Some(admission)
    }

    /// Whether a client id is somebody else's, whom a client would throw out or whose session it would
    /// end. A device and Atalaya have their ids whoever was there before.
    async fn is_taken(&self, client_id: &str, user: &str) -> bool {
        if !self.keeper.shares_ids(user) {
            return false;
        }
        let there = {
            let inside = self.inside();
            let found = inside.get(client_id);
            found.map(|inside| inside.admission.clone())
        };
        if let Some(there) = there
            && !self.keeper.is_same(&there.user, user)
            && self.keeper.still_admits(client_id, &there)
        {
            return true;
        }
        let Some(storage) = &self.storage else {
            return false;
        };
        let kept = storage.get_session(client_id).await;
        let owner = kept.ok().flatten().and_then(|session| session.user_id);
        owner.is_some_and(|owner| !self.keeper.is_same(&owner, user))
    }

    /// A session that somebody else has left under a client id is not resumed and not in the way:
    /// the broker would turn away whom the id belongs to.
    async fn clear_foreign_session(&self, client_id: &str, user: &str) {
        let Some(storage) = &self.storage else { return };
        if let Ok(Some(session)) = storage.get_session(client_id).await
            && session.user_id.as_deref() != Some(user)
            && let Err(error) = storage.remove_session(client_id).await
        {
            let client_id = masked_text(client_id);
            log::warn!("the session of another user under {client_id:?} stays: {error}");
        }
    }

    fn review(&self) -> Review {
        let mut review = Review::default();
        for (client_id, inside) in self.inside().iter() {
            if !self.keeper.still_admits(client_id, &inside.admission) {
                review.out.push(client_id.clone());
            }
            if inside.since.elapsed() > SETTLING {
                review.settled.push(client_id.clone());
            }
        }
        review
    }

    /// Forgets who is gone, unless they have just come again.
    fn forget(&self, client_id: &str) {
        let mut inside = self.inside();
        let is_settled = inside
            .get(client_id)
            .is_some_and(|inside| inside.since.elapsed() > SETTLING);
        if is_settled {
            inside.remove(client_id);
        }
    }
}

/// Shows those out who may not stay. Somebody who was let in a moment before that ended may not be
/// connected yet, so they are looked after until they would be.
async fn show_out(
    gate: Arc<Gate>,
    router: Arc<MessageRouter>,
    mut changes: watch::Receiver<Arc<Registry>>,
) {
    loop {
        let Review { out, settled } = gate.review();
        for client_id in out {
            if router.is_connected(&client_id).await {
                log::info!("the MQTT client {:?} may not stay", masked_text(&client_id));
                router.unregister_client(&client_id).await;
            }
        }
        for client_id in settled {
            if !router.is_connected(&client_id).await {
                gate.forget(&client_id);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(ROUND) => {}
            newer = changes.changed() => if newer.is_err() {
                tokio::time::sleep(ROUND).await;
            },
        }
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl AuthProvider for Gate {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        _peer: SocketAddr,
    ) -> Answer<'a, mqtt5::Result<AuthResult>> {
        Box::pin(async move {
            let Some(admission) = self.admit(connect).await else {
                return Ok(AuthResult::fail(ReasonCode::NotAuthorized));
            };
            self.clear_foreign_session(&connect.client_id, &admission.user)
                .await;
            Ok(AuthResult::success_with_user(admission.user))
        })
    }

    fn authorize_publish<'a>(
        &'a self,
        _client_id: &str,
        user: Option<&'a str>,
        topic: &'a str,
    ) -> Answer<'a, bool> {
        Box::pin(std::future::ready(self.keeper.may_publish(user, topic)))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        _client_id: &str,
        user: Option<&'a str>,
        filter: &'a str,
    ) -> Answer<'a, bool> {
        Box::pin(std::future::ready(self.keeper.may_subscribe(user, filter)))
    }
}

impl EmbeddedBroker for Mqtt5Broker {
    fn tcp(&self) -> SocketAddr {
        self.tcp
    }

    fn websocket(&self) -> SocketAddr {
        self.websocket
    }

    fn stop(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let _ = self.clients.send(());
        self.shutdown.shutdown();
        Box::pin(async move {
            let _ = self.ended.await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt5::broker::storage::{ClientSession, MemoryBackend};
    use mqtt5::protocol::v5::properties::Properties;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Lets everybody in by the user they name, until it is told to show a client out.
    #[derive(Default)]
    struct Open {
        out: Mutex<Option<String>>,
        asked: AtomicUsize,
    }

    impl Gatekeeper for Open {
        fn authenticate(
            &self,
            _client_id: &str,
            user: Option<&str>,
            _password: Option<&[u8]>,
        ) -> Option<Admission> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Some(Admission {
                user: user?.to_owned(),
                grant: [0; 32],
            })
        }

        fn still_admits(&self, client_id: &str, _admission: &Admission) -> bool {
            self.out.lock().unwrap().as_deref() != Some(client_id)
        }

        fn may_publish(&self, _user: Option<&str>, topic: &str) -> bool {
            topic == "own"
        }

        fn may_subscribe(&self, _user: Option<&str>, _filter: &str) -> bool {
            true
        }

        fn shares_ids(&self, user: &str) -> bool {
            user.starts_with("guest")
        }

        fn is_same(&self, one: &str, other: &str) -> bool {
            one == other
        }
    }

    fn gate(keeper: Arc<Open>) -> Gate {
        Gate {
            keeper,
            storage: Some(Arc::new(DynamicStorage::Memory(MemoryBackend::new()))),
            inside: Mutex::default(),
        }
    }

    #[tokio::test]
    async fn a_session_is_of_who_made_it() {
        let gate = gate(Arc::default());
        let storage = gate.storage.clone().unwrap();
        for (owner, stays) in [
            (Some("hardware/b"), true),
            (Some("guest"), false),
            (None, false),
        ] {
            let mut session = ClientSession::new("b", true, Some(60));
            session.user_id = owner.map(str::to_owned);
            storage.store_session(session).await.unwrap();
            gate.clear_foreign_session("b", "hardware/b").await;
            let found = storage.get_session("b").await.unwrap();
            assert_eq!(found.is_some(), stays, "{owner:?}");
        }
    }

    fn connect(client_id: &str, user: &str) -> ConnectPacket {
        ConnectPacket {
            protocol_version: 5,
            clean_start: true,
            keep_alive: 30,
            client_id: client_id.to_owned(),
            username: Some(user.to_owned()),
            password: None,
            will: None,
            properties: Properties::default(),
            will_properties: Properties::default(),
        }
    }

    /// A gatekeeper may refuse somebody once, since they have changed: asked twice, it would let them
    /// in.
    #[tokio::test]
    async fn who_comes_is_asked_for_once_and_takes_nobodys_id() {
        let keeper = Arc::new(Open::default());
        let gate = gate(Arc::clone(&keeper));
        assert!(gate.admit(&connect("bridge", "guest-1")).await.is_some());
        assert_eq!(keeper.asked.load(Ordering::Relaxed), 1);
        assert!(gate.admit(&connect("bridge", "guest-2")).await.is_none());
        assert!(gate.admit(&connect("bridge", "guest-1")).await.is_some());
        // Whose the id is has it, whoever was there before.
        assert!(
            gate.admit(&connect("bridge", "hardware/bridge"))
                .await
                .is_some()
        );
        assert_eq!(keeper.asked.load(Ordering::Relaxed), 4);
    }

    #[tokio::test]
    async fn who_may_not_stay_is_known_before_they_are_connected() {
        let keeper = Arc::new(Open::default());
        let gate = gate(Arc::clone(&keeper));
        for id in ["a", "b"] {
            assert!(gate.admit(&connect(id, id)).await.is_some());
        }
        assert!(gate.review().out.is_empty());
        *keeper.out.lock().unwrap() = Some("b".to_owned());
        assert_eq!(gate.review().out, ["b"]);
        gate.forget("b");
        assert_eq!(gate.review().out, ["b"], "too early to be forgotten");
        assert!(gate.review().settled.is_empty());
    }
}
