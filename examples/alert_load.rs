//! The load of `bench/alerts`: signed alerts through a Mosquitto and Atalaya, beside what the same
//! Mosquitto forwards between two plain clients, in alternating windows of one run.
//!
//! `cargo run --release --example alert_load -- --help`
//!
//! A rate counts what comes back within its window: messages at the plain subscriber, and replies
//! that say `ACEPTADA` at the devices' own connections. What is published is limited by what is
//! unanswered, so nothing piles up. Messages are signed before the window that sends them. `others`
//! is the largest share of the processors that processes besides broker, Atalaya and load had in one
//! of a row's windows: where it is not small, the row compares moments and not programs.

#![allow(clippy::print_stdout, reason = "the table is what it is for")]
#![allow(clippy::cast_precision_loss, reason = "counts become rates")]

use atalaya::wire::alerts::hex;
use awc::http::Method;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use clap::Parser;
use ed25519_dalek::{Signer, SigningKey};
use futures_util::{StreamExt, TryStreamExt, stream};
use rumqttc::NetworkOptions;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, Filter, Packet};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::time::{Instant as Clock, sleep, sleep_until};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome<T> = Result<T, Failure>;

/// Unanswered messages between the two plain clients: what Mosquitto lets be in flight.
const PLAIN_DEPTH: u64 = 1_000;

/// Unanswered alerts over all devices: what Atalaya reads ahead, and as much again at the broker.
const ALERT_DEPTH: u64 = 512;

/// Connections that the devices share.
const CONNECTIONS: usize = 4;

/// Alerts a second while the time to the answer is taken.
const PACE: u32 = 200;

/// Messages signed for each second of a window; where it takes more, it ends sooner.
const AHEAD: usize = 15_000;

/// Kinds of which each device has an open alert to repeat.
const OPEN_KINDS: usize = 40;

/// How often a connection that hears nothing looks whether the window is over.
const CHECK: Duration = Duration::from_millis(20);

/// Units of processor time in /proc, a second: `sysconf(_SC_CLK_TCK)` on every Linux.
const TICKS: f64 = 100.0;

/// How long what is unanswered at the end of a window may take to be answered.
const PATIENCE: Duration = Duration::from_secs(20);

/// The largest packet that is taken; the default is smaller than what the broker may send.
const PACKET_LIMIT: u32 = 256 * 1024;

/// The same place twice: at the second there is a light, which the preloaded rules switch on.
const SITES: [&str; 2] = ["sin-luz", "con-luz"];

const COMPANY: &str = "banco";

#[derive(Debug, Clone, Parser)]
#[command(about = "Signed alerts a second, beside what the broker forwards between plain clients")]
struct Args {
    /// Port of Atalaya's HTTP
    #[arg(long)]
    http: u16,
    /// Port of the broker
    #[arg(long)]
    mqtt: u16,
    /// Seconds a window
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Rounds
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds at 200 alerts a second
    #[arg(long, default_value_t = 20)]
    paced: u32,
    /// Devices at each of two sites
    #[arg(long, default_value_t = 50)]
    devices: usize,
    /// Kinds of alert: devices times kinds is how many alerts can be open
    #[arg(long, default_value_t = 1_500)]
    kinds: usize,
    /// Processes whose share of the processors is told
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
}

/// A registered device.
struct Device {
    address: String,
    kid: String,
    key: SigningKey,
    seq: u64,
}

/// A signed message with its topic.
#[derive(Clone)]
struct Ready {
    topic: Arc<str>,
    payload: Bytes,
}

#[derive(Deserialize)]
struct Reply<'a> {
    estado: &'a str,
    huella: &'a str,
}

impl Ready {
    /// What its answer calls it.
    fn fingerprint(&self) -> String {
        hex(&Sha256::digest(&self.payload))
    }
}

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Device {
    fn topic(&self, last: &str) -> String {
        format!("empresas/{}/{last}", self.address)
    }

    fn sign(&mut self, kind: &str, iat: u64) -> Ready {
        self.seq += 1;
        let header = json!({"typ": "alerta+jws", "alg": "EdDSA", "kid": self.kid});
        let claims = json!({
            "aud": "atalaya",
            "sub": self.address,
            "seq": self.seq,
            "iat": iat,
            "tipo_alarma": kind,
            "descripcion": "Botón de pánico de la caja 3",
            "ubicacion": {"piso": 2, "puerta": "norte"},
        });
        let input = [header, claims].map(|part| encode(part.to_string().as_bytes()));
        let input = input.join(".");
        let signature = encode(&self.key.sign(input.as_bytes()).to_bytes());
        Ready {
            topic: self.topic("alerta").into(),
            payload: Bytes::from(format!("{input}.{signature}")),
        }
    }
}

/// Atalaya's API.
struct Api {
    http: awc::Client,
    base: String,
}

impl Api {
    async fn call(&self, method: Method, path: &str, body: Value) -> Outcome<Value> {
        let url = format!("{}{path}", self.base);
        let token = std::env::var("ATALAYA_TOKEN").unwrap_or_default();
        let request = self.http.request(method, url).bearer_auth(token);
        let sent = request.send_json(&body).await;
        let mut response = sent.map_err(|error| format!("{path}: {error}"))?;
        let body = response.body().await?;
        if !response.status().is_success() {
            return Err(format!("{path}: {}", String::from_utf8_lossy(&body)).into());
        }
        Ok(serde_json::from_slice(&body)?)
    }

    async fn enrol(&self, site: &str, number: usize) -> Outcome<Device> {
        let name = format!("{site}-{number}");
        let body = json!({"hardware": name, "empresa": COMPANY, "sede": site, "tipo": "BOTONERA"});
        self.call(Method::POST, "/hardware", body).await?;
        let key = SigningKey::from_bytes(&seed(&name));
        let public = encode(key.verifying_key().as_bytes());
        let body = json!({"alg": "EdDSA", "clave_publica": public});
        let path = format!("/hardware/{name}/claves");
        let answer = self.call(Method::POST, &path, body).await?;
        let kid = answer["kid"].as_str().ok_or("a key without kid")?;
        Ok(Device {
            address: format!("{COMPANY}/{site}/{name}"),
            kid: kid.to_owned(),
            key,
            seq: 0,
        })
    }

    /// Makes a site with its devices; a light where the site has one.
    async fn site(&self, site: &str, devices: usize) -> Outcome<Vec<Device>> {
        let body = json!({"empresa": COMPANY, "sede": site, "nombre": site});
        self.call(Method::POST, "/sedes", body).await?;
        if site == SITES[1] {
            let body =
                json!({"hardware": "luz", "empresa": COMPANY, "sede": site, "tipo": "SEMAFORO"});
            self.call(Method::POST, "/hardware", body).await?;
        }
        let enrolled = stream::iter(0..devices).map(|number| self.enrol(site, number));
        enrolled.buffer_unordered(32).try_collect().await
    }

    async fn kinds(&self, count: usize) -> Outcome<Vec<String>> {
        let put = |number: usize| async move {
            let code = format!("TIPO_{number}");
            let body = json!({"nombre": code, "prioridad": "alta", "color": "NARANJA"});
            let path = format!("/tipos_alarma/{COMPANY}/{code}");
            self.call(Method::PUT, &path, body).await.map(|_| code)
        };
        let made = stream::iter(0..count).map(put);
        made.buffer_unordered(32).try_collect().await
    }
}

/// Thirty-two bytes that are others for each name; nothing here is secret.
fn seed(name: &str) -> [u8; 32] {
    let mut seed = [7; 32];
    for (place, byte) in seed.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    seed
}

/// The devices that share a connection.
#[derive(Default)]
struct Fleet {
    devices: Vec<Device>,
    /// How many alerts they have raised that were new.
    raised: usize,
}

/// Which alerts a window sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    /// New ones.
    Fresh,
    /// Those that are open, again.
    Repeats,
}

impl Fleet {
    /// The next messages, made now, in turns over the devices.
    fn sign(&mut self, load: Load, count: usize, kinds: &[String]) -> VecDeque<Ready> {
        let devices = self.devices.len();
        let iat = since_1970().as_secs();
        let first = match load {
            Load::Fresh => self.raised,
            Load::Repeats => 0,
        };
        let kind = |number: usize| match load {
            Load::Fresh => kinds.get(number / devices),
            Load::Repeats => kinds.get(number / devices % OPEN_KINDS),
        };
        (first..first + count)
            .map_while(|number| {
                let kind = kind(number)?;
                Some(self.devices[number % devices].sign(kind, iat))
            })
            .collect()
    }

    fn replies(&self) -> Vec<String> {
        let topic = |device: &Device| device.topic("respuesta");
        self.devices.iter().map(topic).collect()
    }
}

fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// When a window is over, and how much of it may be unanswered.
#[derive(Clone, Copy)]
struct Window {
    start: Instant,
    end: Instant,
    depth: u64,
}

impl Window {
    /// A window that begins when every thread has had time to.
    fn new(seconds: u64, depth: u64) -> Self {
        let start = Instant::now() + Duration::from_millis(100);
        let end = start + Duration::from_secs(seconds);
        Self { start, end, depth }
    }
}

/// What a window counts.
#[derive(Default)]
struct Tally {
    sent: AtomicU64,
    answered: AtomicU64,
    answered_in_time: AtomicU64,
    /// The moment of the last answer in time, in microseconds from the start.
    last: AtomicU64,
    /// Nothing more is sent.
    complete: AtomicBool,
    more_room: Notify,
}

impl Tally {
    fn unanswered(&self) -> u64 {
        let answered = self.answered.load(Ordering::Acquire);
        self.sent.load(Ordering::Acquire).saturating_sub(answered)
    }

    fn answer(&self, window: &Window) {
        let now = Instant::now();
        if now < window.end {
            let micros = now.saturating_duration_since(window.start).as_micros();
            let micros = u64::try_from(micros).unwrap_or(u64::MAX);
            self.answered_in_time.fetch_add(1, Ordering::Relaxed);
            self.last.fetch_max(micros, Ordering::Relaxed);
        }
        self.answered.fetch_add(1, Ordering::Release);
        self.more_room.notify_one();
    }

    fn is_over(&self) -> bool {
        self.complete.load(Ordering::Acquire) && self.unanswered() == 0
    }
}

/// What a connection publishes in a window.
enum Source {
    /// The same again and again.
    Same(Ready),
    Each(VecDeque<Ready>),
}

impl Source {
    fn next(&mut self) -> Option<Ready> {
        match self {
            Self::Same(ready) => Some(ready.clone()),
            Self::Each(queue) => queue.pop_front(),
        }
    }
}

/// What an incoming message means.
#[derive(Clone, Copy)]
enum Answers {
    /// Nothing.
    No,
    /// Each is one.
    Any,
    /// Each is one and must say `ACEPTADA`.
    Accepted,
}

impl Answers {
    fn is_answer(self, payload: &[u8]) -> Outcome<bool> {
        match self {
            Self::No => Ok(false),
            Self::Any => Ok(true),
            Self::Accepted => accepted(payload).map(|_| true),
        }
    }
}

/// The reply, which must say that the message was accepted.
fn accepted(payload: &[u8]) -> Outcome<Reply<'_>> {
    let reply: Reply<'_> = serde_json::from_slice(payload)?;
    if reply.estado == "ACEPTADA" {
        return Ok(reply);
    }
    Err(String::from_utf8_lossy(payload).into())
}

/// One connection to the broker.
struct Link {
    outlet: Outlet,
    events: EventLoop,
}

/// The end of a connection that messages go into.
struct Outlet(AsyncClient);

impl Outlet {
    /// Publishes as much as may be unanswered.
    fn top_up(&self, source: &mut Source, window: &Window, tally: &Tally) -> Outcome<()> {
        while !tally.complete.load(Ordering::Relaxed) && tally.unanswered() < window.depth {
            let next = (Instant::now() < window.end).then(|| source.next());
            let Some(ready) = next.flatten() else {
                tally.complete.store(true, Ordering::Release);
                break;
            };
            tally.sent.fetch_add(1, Ordering::Release);
            self.publish(&ready)?;
        }
        Ok(())
    }

    fn publish(&self, ready: &Ready) -> Outcome<()> {
        let (topic, payload) = (ready.topic.to_string(), ready.payload.clone());
        self.0
            .try_publish(topic, QoS::AtLeastOnce, false, payload)
            .map_err(|_| "the client does not take a message".into())
    }
}

impl Link {
    async fn open(port: u16, name: &str, filters: Vec<String>) -> Outcome<Self> {
        let mut options = MqttOptions::new(format!("load-{name}"), "127.0.0.1", port);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options
            .set_clean_start(true)
            .set_network_options(network)
            .set_outgoing_inflight_upper_limit(1_000)
            .set_connect_properties(ConnectProperties {
                max_packet_size: Some(PACKET_LIMIT),
                ..ConnectProperties::new()
            });
        let (client, mut events) = AsyncClient::new(options, 2_048);
        let filter = |filter| Filter::new(filter, QoS::AtLeastOnce);
        client.try_subscribe_many(filters.into_iter().map(filter))?;
        while !matches!(events.poll().await?, Event::Incoming(Packet::SubAck(_))) {}
        let outlet = Outlet(client);
        Ok(Self { outlet, events })
    }

    /// Publishes what `source` has, or nothing, and counts answers until all is answered.
    async fn run(
        mut self,
        mut source: Option<Source>,
        answers: Answers,
        window: Window,
        tally: &Tally,
    ) -> Outcome<()> {
        let give_up = window.end + PATIENCE;
        sleep_until(window.start.into()).await;
        while !tally.is_over() {
            // The poll is never dropped half-way: a packet could be lost.
            let mut poll = std::pin::pin!(self.events.poll());
            let polled = loop {
                if let Some(source) = &mut source {
                    self.outlet.top_up(source, &window, tally)?;
                }
                tokio::select! {
                    biased;
                    polled = &mut poll => break polled?,
                    () = tally.more_room.notified(), if source.is_some() => {}
                    () = sleep(CHECK) => {
                        if tally.is_over() {
                            return Ok(());
                        }
                        if Instant::now() > give_up {
                            return Err(format!("{} unanswered", tally.unanswered()).into());
                        }
                    }
                }
            };
            if let Event::Incoming(Packet::Publish(publish)) = polled
                && answers.is_answer(&publish.payload)?
            {
                tally.answer(&window);
            }
        }
        Ok(())
    }

    /// Publishes at a steady pace and takes the time from each message to its answer.
    async fn pace(mut self, messages: VecDeque<Ready>, every: Duration) -> Outcome<Vec<Duration>> {
        let mut waiting: HashMap<String, Instant> = HashMap::new();
        let mut times = Vec::with_capacity(messages.len());
        let mut due = Clock::now();
        let (count, mut messages) = (messages.len(), messages.into_iter().peekable());
        while times.len() < count {
            let mut poll = std::pin::pin!(self.events.poll());
            let polled = loop {
                tokio::select! {
                    polled = &mut poll => break polled?,
                    () = sleep_until(due), if messages.peek().is_some() => {
                        if let Some(ready) = messages.next() {
                            waiting.insert(ready.fingerprint(), Instant::now());
                            self.outlet.publish(&ready)?;
                        }
                        due += every;
                    }
                    () = sleep(PATIENCE) => return Err("no answer".into()),
                }
            };
            if let Event::Incoming(Packet::Publish(publish)) = polled {
                let reply = accepted(&publish.payload)?;
                let sent = waiting.remove(reply.huella).ok_or("an answer to nothing")?;
                times.push(sent.elapsed());
            }
        }
        Ok(times)
    }
}

/// Runs `work` on a thread and a runtime of its own, as another process would.
fn on_thread<T, F>(work: impl FnOnce() -> F + Send + 'static) -> thread::JoinHandle<Outcome<T>>
where
    T: Send + 'static,
    F: Future<Output = Outcome<T>>,
{
    thread::spawn(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build()?.block_on(work())
    })
}

fn join<T>(thread: thread::JoinHandle<Outcome<T>>) -> Outcome<T> {
    thread.join().map_err(|_| "a thread has panicked")?
}

/// What a window showed.
struct Shown {
    rate: f64,
    /// Seconds of processors for each message: of each process that was asked for, and our own.
    busy: Vec<f64>,
    /// The share of all processors that other processes had.
    others: f64,
}

/// Measures one window that the threads of `start` fill.
fn measure(
    args: &Args,
    tallies: &[Arc<Tally>],
    start: impl FnOnce(Window) -> Vec<thread::JoinHandle<Outcome<()>>>,
    depth: u64,
) -> Outcome<Shown> {
    let window = Window::new(args.seconds, depth);
    let before = Spent::now(&args.pids)?;
    start(window).into_iter().try_for_each(join)?;
    let spent = before.until(&Spent::now(&args.pids)?);
    let sum = |of: fn(&Tally) -> &AtomicU64| -> u64 {
        let values = tallies
            .iter()
            .map(|tally| of(tally).load(Ordering::Relaxed));
        values.sum()
    };
    let last = tallies.iter().map(|t| t.last.load(Ordering::Relaxed)).max();
    let answered = sum(|tally| &tally.answered) as f64;
    // Where the messages ran out before the time, the rest of the window does not count.
    let length = Duration::from_micros(last.unwrap_or_default()).as_secs_f64();
    Ok(Shown {
        rate: sum(|tally| &tally.answered_in_time) as f64 / length,
        busy: spent.ours.iter().map(|time| time / answered).collect(),
        others: spent.others()?,
    })
}

/// Seconds of time: on the clock, of all processors that were busy, and of our processes.
struct Spent {
    clock: f64,
    all: f64,
    /// Of each process that was asked for, and our own.
    ours: Vec<f64>,
}

impl Spent {
    fn now(pids: &[u32]) -> Outcome<Self> {
        Ok(Self {
            clock: since_1970().as_secs_f64(),
            all: all_busy()?,
            ours: busy(pids)?,
        })
    }

    fn until(&self, later: &Self) -> Self {
        let ours = self.ours.iter().zip(&later.ours);
        Self {
            clock: later.clock - self.clock,
            all: later.all - self.all,
            ours: ours.map(|(before, after)| after - before).collect(),
        }
    }

    /// The share of all processors that other processes had.
    fn others(&self) -> Outcome<f64> {
        let processors = thread::available_parallelism()?.get() as f64;
        let others = self.all - self.ours.iter().sum::<f64>();
        Ok(others.max(0.0) / (self.clock * processors))
    }
}

/// Seconds of processor time that all processes together have had.
fn all_busy() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    // user, nice, system; what interrupts take belongs to no process.
    let ticks = stat.split_ascii_whitespace().skip(1).take(3);
    let ticks = ticks.map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS)
}

/// Seconds of processor time that each process has had, ours last.
fn busy(pids: &[u32]) -> Outcome<Vec<f64>> {
    let ours = std::process::id();
    let of = |pid: &u32| -> Outcome<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat.rsplit_once(") ").ok_or("an odd /proc")?;
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
        Ok(ticks.sum::<Result<f64, _>>()? / TICKS)
    };
    pids.iter().chain([&ours]).map(of).collect()
}

/// One client publishes what another receives.
fn plain(args: &Args, payload: &Bytes) -> Outcome<Shown> {
    let tally: Arc<Tally> = Arc::default();
    let ready = Ready {
        topic: "load/plain".into(),
        payload: payload.clone(),
    };
    let port = args.mqtt;
    let start = |window| {
        let (sending, receiving) = (Arc::clone(&tally), Arc::clone(&tally));
        let together = Arc::new(Barrier::new(2));
        let also = Arc::clone(&together);
        vec![
            on_thread(move || async move {
                let link = Link::open(port, "plain-in", vec!["load/nothing".into()]).await?;
                together.wait();
                let source = Some(Source::Same(ready));
                link.run(source, Answers::No, window, &sending).await
            }),
            on_thread(move || async move {
                let link = Link::open(port, "plain-out", vec!["load/plain".into()]).await?;
                also.wait();
                link.run(None, Answers::Any, window, &receiving).await
            }),
        ]
    };
    measure(args, &[Arc::clone(&tally)], start, PLAIN_DEPTH)
}

/// Devices raise alerts, at most `most` on each connection, and are answered.
fn alerts(
    args: &Args,
    fleets: &mut [Fleet],
    load: Load,
    kinds: &[String],
    most: usize,
) -> Outcome<Shown> {
    let tallies: Vec<Arc<Tally>> = fleets.iter().map(|_| Arc::default()).collect();
    let sources: Vec<_> = fleets
        .iter_mut()
        .map(|fleet| (fleet.replies(), fleet.sign(load, most, kinds)))
        .collect();
    if sources.iter().any(|(_, messages)| messages.is_empty()) {
        return Err("no alert is left that would be new: more --kinds".into());
    }
    let port = args.mqtt;
    let start = |window| {
        let together = Arc::new(Barrier::new(sources.len()));
        let pairs = sources.into_iter().zip(&tallies).enumerate();
        pairs
            .map(|(number, ((replies, messages), tally))| {
                let (tally, together) = (Arc::clone(tally), Arc::clone(&together));
                on_thread(move || async move {
                    let link = Link::open(port, &format!("devices-{number}"), replies).await?;
                    together.wait();
                    let source = Some(Source::Each(messages));
                    link.run(source, Answers::Accepted, window, &tally).await
                })
            })
            .collect()
    };
    let depth = ALERT_DEPTH / CONNECTIONS as u64;
    let shown = measure(args, &tallies, start, depth)?;
    if load == Load::Fresh {
        for (fleet, tally) in fleets.iter_mut().zip(&tallies) {
            fleet.raised += usize::try_from(tally.sent.load(Ordering::Relaxed))?;
        }
    }
    Ok(shown)
}

/// Devices raise alerts at a steady pace; the times to their answers, in order of length.
fn paced(args: &Args, fleets: &mut [Fleet], kinds: &[String]) -> Outcome<Vec<Duration>> {
    let share = fleets.len();
    let count = usize::try_from(args.paced * PACE)? / share;
    let every = Duration::from_secs(1) * u32::try_from(share)? / PACE;
    let port = args.mqtt;
    let threads: Vec<_> = fleets
        .iter_mut()
        .enumerate()
        .map(|(number, fleet)| {
            let (replies, messages) = (fleet.replies(), fleet.sign(Load::Repeats, count, kinds));
            // One after the other, or all connections would send at the same moments.
            let late =
                every * u32::try_from(number).unwrap_or(0) / u32::try_from(share).unwrap_or(1);
            on_thread(move || async move {
                let link = Link::open(port, &format!("devices-{number}"), replies).await?;
                sleep(late).await;
                link.pace(messages, every).await
            })
        })
        .collect();
    let mut times = Vec::new();
    for thread in threads {
        times.extend(join(thread)?);
    }
    times.sort_unstable();
    Ok(times)
}

async fn prepare(args: &Args) -> Outcome<(Vec<Vec<Fleet>>, Vec<String>)> {
    let api = Api {
        http: awc::Client::builder().timeout(PATIENCE).finish(),
        base: format!("http://127.0.0.1:{}/api/v1", args.http),
    };
    let kinds = api.kinds(args.kinds).await?;
    let mut sites = Vec::new();
    for site in SITES {
        let mut fleets: Vec<Fleet> = Vec::new();
        fleets.resize_with(CONNECTIONS, Fleet::default);
        let devices = api.site(site, args.devices).await?;
        for (number, device) in devices.into_iter().enumerate() {
            fleets[number % CONNECTIONS].devices.push(device);
        }
        sites.push(fleets);
    }
    Ok((sites, kinds))
}

/// What a site showed in one round, for the table.
struct Row {
    plain: f64,
    repeats: f64,
    fresh: f64,
    others: f64,
}

impl Row {
    fn print(&self, site: &str, round: u32) {
        let Self {
            plain,
            repeats,
            fresh,
            others,
        } = self;
        println!(
            "| {site} | {round} | {plain:.0} | {repeats:.0} | {:.2} | {fresh:.0} | {:.2} | {:.0} % |",
            repeats / plain,
            fresh / plain,
            others * 100.0
        );
    }
}

/// What a message cost in processor time, over all rounds.
#[derive(Default)]
struct Costs(Vec<(String, Vec<f64>, u32)>);

impl Costs {
    fn add(&mut self, window: String, busy: &[f64]) {
        if let Some((_, sums, count)) = self.0.iter_mut().find(|(name, ..)| *name == window) {
            sums.iter_mut()
                .zip(busy)
                .for_each(|(sum, more)| *sum += more);
            *count += 1;
        } else {
            self.0.push((window, busy.to_vec(), 1));
        }
    }

    fn print(&self) {
        for (window, sums, count) in &self.0 {
            let micros = sums.iter().map(|sum| sum / f64::from(*count) * 1e6);
            let micros: Vec<String> = micros.map(|micros| format!("{micros:.0} µs")).collect();
            println!("| {window} | {} |", micros.join(" | "));
        }
    }
}

fn print_times(site: &str, times: &[Duration], others: f64) {
    let at = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100);
        let time = times.get(rank.saturating_sub(1)).copied();
        time.unwrap_or_default().as_secs_f64() * 1e3
    };
    let [p50, p95, p99, max] = [50, 95, 99, 100].map(at);
    let others = others * 100.0;
    println!("| {site} | {p50:.1} ms | {p95:.1} ms | {p99:.1} ms | {max:.1} ms | {others:.0} % |");
}

fn main() -> Outcome<()> {
    let args = Args::parse();
    let (mut sites, kinds) = actix_web::rt::System::new().block_on(prepare(&args))?;
    for fleets in &mut sites {
        // What is repeated later is open from here on.
        let open = OPEN_KINDS * args.devices / CONNECTIONS;
        alerts(&args, fleets, Load::Fresh, &kinds, open)?;
    }
    let ahead = usize::try_from(args.seconds)? * AHEAD / CONNECTIONS;
    // What a plain message is as long as.
    let sample = sites[0][0].sign(Load::Repeats, 1, &kinds).pop_front();
    let payload = sample.ok_or("no device")?.payload;
    println!("{} bytes a message", payload.len());
    println!("| site | round | plain /s | repeats /s | ratio | new /s | ratio | others |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut costs = Costs::default();
    for round in 1..=args.rounds {
        for (site, fleets) in SITES.iter().zip(&mut sites) {
            let plain = plain(&args, &payload)?;
            let repeats = alerts(&args, fleets, Load::Repeats, &kinds, ahead)?;
            let fresh = alerts(&args, fleets, Load::Fresh, &kinds, ahead)?;
            costs.add("plain".to_owned(), &plain.busy);
            costs.add(format!("repeats, {site}"), &repeats.busy);
            costs.add(format!("new, {site}"), &fresh.busy);
            let row = Row {
                plain: plain.rate,
                repeats: repeats.rate,
                fresh: fresh.rate,
                others: plain.others.max(repeats.others).max(fresh.others),
            };
            row.print(site, round);
        }
    }
    println!("\n| processor time a message | broker | atalaya | load |");
    println!("| --- | --- | --- | --- |");
    costs.print();
    println!("\n| 200 alerts/s | p50 | p95 | p99 | max | others |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (site, fleets) in SITES.iter().zip(&mut sites) {
        let before = Spent::now(&args.pids)?;
        let times = paced(&args, fleets, &kinds)?;
        let spent = before.until(&Spent::now(&args.pids)?);
        print_times(site, &times, spent.others()?);
    }
    Ok(())
}
