//! Every setting: an environment variable, the same as a flag, a default and its reason.
//!
//! `.env` is read first and never overrides the environment; flags override both. A secret may
//! come from a file instead, named by the variable with `_FILE` behind it.

use crate::domain::password::Password;
use crate::domain::token::Token;
use crate::domain::{CedulaCheck, Money, Slug};
use crate::limits::Rate;
use crate::storage::{DatabaseUrl, Location};
use crate::tls::{self, ClientTls};
use crate::trusted::{NotTrusted, TrustedNetwork, TrustedNetworks};
use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of `atalaya serve`, as they are typed.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Open three demo accounts with money in them, if they are not there
    #[arg(long, env = "DEMO", help_heading = "General")]
    pub demo: bool,

    /// Name of this installation, as devices and subscribers know it
    #[arg(long, env = "INSTALACION", default_value = "atalaya", value_parser = slug, help_heading = "General")]
    pub instalacion: Slug,

    /// Name of this node in `atalaya/estado` and as MQTT client; two nodes need two names
    #[arg(long, env = "NODO", default_value = "atalaya-1", value_parser = slug, help_heading = "General")]
    pub nodo: Slug,

    /// Company that accounts belong to
    #[arg(long, env = "EMPRESA", default_value = "banco", value_parser = slug, help_heading = "General")]
    pub empresa: Slug,

    /// Currency (ISO 4217), fixed when the database is created
    #[arg(long, env = "MONEDA", default_value = "USD", value_parser = currency, help_heading = "General")]
    pub moneda: String,

    /// Check of new cédulas beyond their form of 1 to 20 digits
    #[arg(long, env = "CEDULA_CHECK", value_enum, default_value_t = CedulaCheck::None, help_heading = "General")]
    pub cedula_check: CedulaCheck,

    /// A withdrawal that leaves less than this raises a low-balance alert (money, two decimals)
    #[arg(long, env = "LOW_BALANCE_THRESHOLD", default_value = "100.00", value_parser = money, help_heading = "General")]
    pub low_balance_threshold: Money,

    /// Where the database is, as `sqlite://path` or `mysql://user:password@host/database`
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite://data/atalaya.db",
        help_heading = "Storage"
    )]
    pub database_url: DatabaseUrl,

    /// Writer lanes of a database on a server, from 1 to 16: accounts are dealt out among them, and
    /// each commits by itself. Fixed when the database is created, 1 where it is not said then; a
    /// file has one
    #[arg(
        long,
        env = "WRITER_LANES",
        value_parser = clap::value_parser!(u8).range(1..=16),
        help_heading = "Storage"
    )]
    pub writer_lanes: Option<u8>,

    /// Folder for what is not in the database: the embedded broker's store, the lock and the key of
    /// devices' secrets
    #[arg(
        long,
        env = "DATA_DIR",
        default_value = "data",
        help_heading = "Storage"
    )]
    pub data_dir: PathBuf,

    /// File with the key that seals the shared secrets of devices (HS256), 32 bytes in base64; made
    /// where it is missing; `device-kek` in `DATA_DIR` where none is named. Back it up apart from the
    /// database
    #[arg(long, env = "DEVICE_KEK_FILE", help_heading = "Devices")]
    pub device_kek_file: Option<PathBuf>,

    /// How long a session may be unused before it ends, in minutes
    #[arg(
        long,
        env = "SESSION_IDLE_MINUTES",
        default_value = "60",
        help_heading = "Access"
    )]
    pub session_idle_minutes: NonZeroU32,

    /// How long a session lasts whatever happens, in hours
    #[arg(
        long,
        env = "SESSION_HOURS",
        default_value = "12",
        help_heading = "Access"
    )]
    pub session_hours: NonZeroU32,

    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would end up as a help heading")]
    pub admin: AdminArgs,

    /// Messages that a device may send, a second
    #[arg(
        long,
        env = "DEVICE_RATE",
        default_value = "20",
        help_heading = "Devices"
    )]
    pub device_rate: NonZeroU32,

    /// Messages that a device may send at once
    #[arg(
        long,
        env = "DEVICE_BURST",
        default_value = "60",
        help_heading = "Devices"
    )]
    pub device_burst: NonZeroU32,

    /// Time within which the same alert of the same device counts as one even if it was closed
    /// meanwhile, as when a button bounces, in milliseconds
    #[arg(
        long,
        env = "ALERT_BOUNCE_MS",
        default_value_t = 2_000,
        help_heading = "Devices"
    )]
    pub alert_bounce_ms: u64,

    /// Address that all ports bind to
    #[arg(
        long,
        env = "BIND_ADDRESS",
        default_value = "127.0.0.1",
        help_heading = "Network"
    )]
    pub bind_address: IpAddr,

    /// Certificate (PEM, its chain behind it) of HTTPS, and of MQTTS on the embedded broker
    #[arg(
        long,
        env = "TLS_CERT_FILE",
        requires = "tls_key_file",
        help_heading = "Network"
    )]
    pub tls_cert_file: Option<PathBuf>,

    /// Its private key (PEM)
    #[arg(
        long,
        env = "TLS_KEY_FILE",
        requires = "tls_cert_file",
        help_heading = "Network"
    )]
    pub tls_key_file: Option<PathBuf>,

    /// Must be spelt `sin-tls` to serve any address but loopback without TLS: passwords, tokens and
    /// balances are then read by whoever is on the way
    #[arg(long, env = "ALLOW_REMOTE", value_enum, help_heading = "Network")]
    pub allow_remote: Option<AllowRemote>,

    /// Port of REST, WebSocket (/ws) and the page; 0 takes a free one
    #[arg(
        long,
        env = "HTTP_PORT",
        default_value_t = 5001,
        help_heading = "Network"
    )]
    pub http_port: u16,

    /// Port of the line protocol that tellers' terminals speak over TCP; 0 takes a free one. Beside
    /// TLS it stays on loopback, unless it is `SERVER_TLS=on` or `ALLOW_REMOTE=sin-tls`
    #[arg(
        long,
        env = "SERVER_PORT",
        default_value_t = 5000,
        help_heading = "Network"
    )]
    pub server_port: u16,

    /// Whether TLS is spoken on that port, with the same certificate; most terminals cannot
    #[arg(long, env = "SERVER_TLS", value_enum, default_value_t = Switch::Off, help_heading = "Network")]
    pub server_tls: Switch,

    /// Time zone of the dates that terminals show (`America/Guayaquil`); the system's where none is
    /// named
    #[arg(long, env = "TZ", help_heading = "General")]
    pub tz: Option<String>,

    /// Origins beyond the page's own that browsers may call from, comma-separated; their hosts are
    /// accepted in Host too
    #[arg(
        long,
        env = "ALLOWED_ORIGINS",
        value_delimiter = ',',
        help_heading = "Network"
    )]
    pub allowed_origins: Vec<String>,

    /// Whether the REST and the Socket.IO of the web front end from before Atalaya are served, and the
    /// REST of the alert clients of then, to whoever comes from a network of `TCP_TRUSTED` or shows a
    /// token; off where it is not said, on under `--demo`
    #[arg(long, env = "LEGACY_API", value_enum, help_heading = "Network")]
    pub legacy_api: Option<Switch>,

    /// Networks whose clients need no token on the interfaces from before Atalaya (TCP, and REST
    /// and Socket.IO of `LEGACY_API`), each with what they may, comma-separated:
    /// `10.1.0.0/16=cajero:banco/centro`. Nobody where none is named; this machine under `--demo`
    #[arg(
        long,
        env = "TCP_TRUSTED",
        value_delimiter = ',',
        value_parser = trusted_network,
        help_heading = "Network"
    )]
    pub tcp_trusted: Vec<TrustedNetwork>,

    /// Connections at once on the HTTP port, WebSocket included, and as many on the port of
    /// terminals
    #[arg(
        long,
        env = "MAX_CONNECTIONS",
        default_value_t = 4096,
        help_heading = "Network"
    )]
    pub max_connections: usize,

    /// Connections of one address at once on either port (of a /64 of IPv6); this machine's own are
    /// not limited
    #[arg(
        long,
        env = "MAX_CONNECTIONS_PER_ADDRESS",
        default_value_t = 512,
        help_heading = "Network"
    )]
    pub max_connections_per_address: usize,

    /// Requests of one address a second, 0 for no limit; this machine's own are not limited
    #[arg(
        long,
        env = "ADDRESS_RATE",
        default_value_t = 200,
        help_heading = "Network"
    )]
    pub address_rate: u32,

    /// Requests of one address at once
    #[arg(
        long,
        env = "ADDRESS_BURST",
        default_value_t = 1_000,
        help_heading = "Network"
    )]
    pub address_burst: u32,

    /// Requests of one person or program a second, 0 for no limit: an importer may have the whole
    /// machine unless it is told otherwise
    #[arg(long, env = "HTTP_RATE", default_value_t = 0, help_heading = "Network")]
    pub http_rate: u32,

    /// Requests of one person or program at once
    #[arg(
        long,
        env = "HTTP_BURST",
        default_value_t = 1_000,
        help_heading = "Network"
    )]
    pub http_burst: u32,

    /// Whether events are published on MQTT
    #[arg(long, env = "MQTT", value_enum, default_value_t = MqttMode::On, help_heading = "MQTT")]
    pub mqtt: MqttMode,

    /// Host of an external broker; without it the embedded one is started
    #[arg(long, env = "MQTT_BROKER_HOST", help_heading = "MQTT")]
    pub mqtt_broker_host: Option<String>,

    /// Port of the broker, embedded or external; 0 takes a free one for the embedded
    #[arg(
        long,
        env = "MQTT_BROKER_PORT",
        default_value_t = 1883,
        help_heading = "MQTT"
    )]
    pub mqtt_broker_port: u16,

    /// Port of MQTT over TLS on the embedded broker, where there is a certificate; 0 takes a free one
    #[arg(
        long,
        env = "MQTT_TLS_PORT",
        default_value_t = 8883,
        help_heading = "MQTT"
    )]
    pub mqtt_tls_port: u16,

    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would end up as a help heading")]
    pub mqtt_tls: MqttTlsArgs,

    /// Port of MQTT over WebSocket on the embedded broker; 0 takes a free one
    #[arg(
        long,
        env = "MQTT_WS_PORT",
        default_value_t = 9001,
        help_heading = "MQTT"
    )]
    pub mqtt_ws_port: u16,

    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would end up as a help heading")]
    pub credentials: MqttCredentials,

    /// Time for the broker to take the backlog when shutting down, in seconds
    #[arg(
        long,
        env = "SHUTDOWN_TIMEOUT",
        default_value_t = 10,
        help_heading = "General"
    )]
    pub shutdown_timeout: u64,

    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would end up as a help heading")]
    pub logs: LogArgs,
}

/// `ALLOW_REMOTE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AllowRemote {
    /// Serve other machines without TLS
    SinTls,
}

/// TLS to a broker elsewhere.
#[derive(Debug, Clone, Args, Default)]
pub struct MqttTlsArgs {
    /// Whether to speak TLS to a broker elsewhere; its port is then 8883 most of the time
    #[arg(long, env = "MQTT_TLS", value_enum, default_value_t = Switch::Off, help_heading = "MQTT")]
    pub mqtt_tls: Switch,

    /// The authority (PEM) that vouches for the broker; the system's where none is named
    #[arg(long, env = "MQTT_CA_FILE", help_heading = "MQTT")]
    pub mqtt_ca_file: Option<PathBuf>,

    /// Certificate (PEM) to show to the broker
    #[arg(
        long,
        env = "MQTT_CLIENT_CERT_FILE",
        requires = "mqtt_client_key_file",
        help_heading = "MQTT"
    )]
    pub mqtt_client_cert_file: Option<PathBuf>,

    /// Its private key (PEM)
    #[arg(
        long,
        env = "MQTT_CLIENT_KEY_FILE",
        requires = "mqtt_client_cert_file",
        help_heading = "MQTT"
    )]
    pub mqtt_client_key_file: Option<PathBuf>,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Switch {
    /// On
    On,
    /// Off
    #[default]
    Off,
}

impl MqttTlsArgs {
    /// How to speak TLS, if it is to be spoken.
    ///
    /// # Errors
    /// [`ConfigError`] where a file is not what it should be.
    pub fn resolve(&self) -> Result<Option<ClientTls>, ConfigError> {
        if self.mqtt_tls == Switch::Off {
            return Ok(None);
        }
        let files = self
            .mqtt_client_cert_file
            .clone()
            .zip(self.mqtt_client_key_file.clone());
        let identity = files.map(|(certificate, key)| tls::Identity { certificate, key });
        let ca = self.mqtt_ca_file.as_deref();
        tls::client(
            ca.map(|path| ("MQTT_CA_FILE", path)),
            identity
                .as_ref()
                .map(|identity| (identity, "MQTT_CLIENT_CERT_FILE", "MQTT_CLIENT_KEY_FILE")),
        )
        .map(Some)
    }
}

/// How the first admin gets in.
#[derive(Clone, Args, Default)]
pub struct AdminArgs {
    /// Password of the user `admin` at the very first start; one is made and printed where there is
    /// none
    #[arg(
        long,
        env = "ADMIN_PASSWORD",
        hide_env_values = true,
        help_heading = "Access"
    )]
    pub admin_password: Option<String>,

    /// File that holds it
    #[arg(
        long,
        env = "ADMIN_PASSWORD_FILE",
        conflicts_with = "admin_password",
        help_heading = "Access"
    )]
    pub admin_password_file: Option<PathBuf>,

    /// A token with the role admin, for as long as it is set: for whatever sets up an installation
    /// without a person. At least 43 characters, such as of `openssl rand -base64 32`
    #[arg(
        long,
        env = "ADMIN_TOKEN",
        hide_env_values = true,
        help_heading = "Access"
    )]
    pub admin_token: Option<String>,

    /// File that holds it
    #[arg(
        long,
        env = "ADMIN_TOKEN_FILE",
        conflicts_with = "admin_token",
        help_heading = "Access"
    )]
    pub admin_token_file: Option<PathBuf>,
}

impl fmt::Debug for AdminArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminArgs").finish_non_exhaustive()
    }
}

/// A secret from its setting, or from the file that the setting with `_FILE` names.
fn secret(
    setting: &str,
    value: Option<&str>,
    file: Option<&PathBuf>,
) -> Result<Option<String>, ConfigError> {
    let text = match (value, file) {
        (_, Some(path)) => std::fs::read_to_string(path).map_err(|e| {
            ConfigError(format!(
                "{setting}_FILE: cannot read {}: {e}",
                path.display()
            ))
        })?,
        (Some(value), None) => value.to_owned(),
        (None, None) => return Ok(None),
    };
    let text = text.trim_end_matches(['\r', '\n']);
    // Compose files and `.env` pass unset variables on as empty ones.
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// How Atalaya or a client signs in at a broker.
#[derive(Clone, Args, Default)]
pub struct MqttCredentials {
    /// User at the external broker
    #[arg(long, env = "MQTT_USERNAME", help_heading = "MQTT")]
    pub mqtt_username: Option<String>,

    /// Password at the external broker
    #[arg(
        long,
        env = "MQTT_PASSWORD",
        hide_env_values = true,
        help_heading = "MQTT"
    )]
    pub mqtt_password: Option<String>,

    /// File that holds the password
    #[arg(
        long,
        env = "MQTT_PASSWORD_FILE",
        conflicts_with = "mqtt_password",
        help_heading = "MQTT"
    )]
    pub mqtt_password_file: Option<PathBuf>,
}

impl fmt::Debug for MqttCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MqttCredentials")
            .field("username", &self.mqtt_username)
            .finish_non_exhaustive()
    }
}

impl MqttCredentials {
    /// User and password, the password read from its file where one is named. `None` without a
    /// user.
    ///
    /// # Errors
    /// [`ConfigError`] where the file cannot be read.
    pub fn resolve(&self) -> Result<Option<Login>, ConfigError> {
        let password = secret(
            "MQTT_PASSWORD",
            self.mqtt_password.as_deref(),
            self.mqtt_password_file.as_ref(),
        )?;
        Ok(self.mqtt_username.clone().map(|user| Login {
            user,
            password: password.unwrap_or_default(),
        }))
    }
}

/// A user and a password; `Debug` keeps the password to itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Where logs go.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// Folder of system.log, alerts.log and errors.log, rotated at 10 MiB
    #[arg(long, env = "LOG_DIR", default_value = "logs", help_heading = "Logs")]
    pub log_dir: PathBuf,

    /// Form of the log lines
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, help_heading = "Logs")]
    pub log_format: LogFormat,

    /// What is logged: a level, or target=level,…
    #[arg(
        long,
        env = "RUST_LOG",
        default_value = "info,actix_http=off,actix_server=warn,mqtt5=warn,rumqttc=warn",
        help_heading = "Logs"
    )]
    pub rust_log: String,
}

/// `LOG_FORMAT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people
    Text,
    /// A JSON object a line
    Json,
}

/// `MQTT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MqttMode {
    /// Publish
    On,
    /// Run without a broker
    Off,
}

/// A setting that cannot be; the text says which and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// Settings that have been checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whether to open the demo accounts.
    pub demo: bool,
    /// Names the installation.
    pub installation: Slug,
    /// Names the node.
    pub node: Slug,
    /// Names the company.
    pub company: Slug,
    /// Names the currency.
    pub currency: String,
    /// The check of new account ids.
    pub cedula_check: CedulaCheck,
    /// Below this a withdrawal raises an alert.
    pub low_balance_threshold: Money,
    /// Where the database is.
    pub database: Location,
    /// Among how many writer lanes accounts are dealt out, where it is said.
    pub writer_lanes: Option<usize>,
    /// Where the rest is.
    pub data_dir: PathBuf,
    /// Where the logs are, to be shown.
    pub log_dir: PathBuf,
    /// What the HTTP port binds to.
    pub http: SocketAddr,
    /// What the port of terminals binds to.
    pub terminals: SocketAddr,
    /// What terminals are shown over TLS; plain TCP without it.
    pub terminals_tls: Option<tls::Identity>,
    /// The time zone of the dates that they show.
    pub zone: TimeZone,
    /// What HTTPS shows; HTTP without it.
    pub tls: Option<tls::Identity>,
    /// Origins beyond our own.
    pub allowed_origins: Vec<String>,
    /// Whether the front end from before Atalaya is served.
    pub legacy_api: bool,
    /// Who needs no token on the interfaces from before Atalaya.
    pub trusted: TrustedNetworks,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections of one address at once.
    pub max_per_address: usize,
    /// How much one address may ask.
    pub address_rate: Rate,
    /// How much one person or program may ask.
    pub principal_rate: Rate,
    /// Which broker.
    pub mqtt: MqttConfig,
    /// Time for the backlog at the end.
    pub shutdown_timeout: Duration,
    /// What seals the shared secrets of devices.
    pub device_kek_file: PathBuf,
    /// Who is let in, and for how long.
    pub access: AccessConfig,
    /// How many messages a device may send.
    pub device_rate: DeviceRate,
    /// How long a button may bounce.
    pub alert_bounce: Duration,
}

/// Who is let in, and for how long.
#[derive(Debug, Clone)]
pub struct AccessConfig {
    /// How long a session may be unused.
    pub idle: Duration,
    /// How long it lasts whatever happens.
    pub session: Duration,
    /// The first password of the user `admin`.
    pub admin_password: Option<Password>,
    /// The token with the role admin.
    pub admin_token: Option<Token>,
}

/// How many messages a device may send.
#[derive(Debug, Clone, Copy)]
pub struct DeviceRate {
    /// A second.
    pub per_second: NonZeroU32,
    /// At once.
    pub burst: NonZeroU32,
}

/// Which broker events go to.
#[derive(Debug, Clone)]
pub enum MqttConfig {
    /// None.
    Off,
    /// One that is started here.
    Embedded {
        /// What MQTT binds to.
        tcp: SocketAddr,
        /// What MQTT over WebSocket binds to.
        websocket: SocketAddr,
        /// What MQTT over TLS binds to, where there is a certificate.
        tls: Option<SocketAddr>,
    },
    /// One that is there.
    External {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// How to sign in.
        login: Option<Login>,
        /// How to speak TLS, if it is to be spoken.
        tls: Option<ClientTls>,
    },
}

impl TryFrom<ServeArgs> for Config {
    type Error = ConfigError;

    fn try_from(args: ServeArgs) -> Result<Self, ConfigError> {
        let files = args.tls_cert_file.clone().zip(args.tls_key_file.clone());
        let tls = files.map(|(certificate, key)| tls::Identity { certificate, key });
        if !args.bind_address.is_loopback() && tls.is_none() && args.allow_remote.is_none() {
            return Err(ConfigError(format!(
                "BIND_ADDRESS={} is open to other machines, and without TLS whoever is on the way \
                 reads passwords, tokens and balances; set TLS_CERT_FILE and TLS_KEY_FILE, or \
                 ALLOW_REMOTE=sin-tls if something else protects the way",
                args.bind_address
            )));
        }
        if !args.bind_address.is_loopback() && args.demo {
            return Err(ConfigError(format!(
                "BIND_ADDRESS={} is open to other machines, and everybody knows the passwords of \
                 --demo; leave one of them out",
                args.bind_address
            )));
        }
        let access = access(&args)?;
        for origin in &args.allowed_origins {
            if origin_host(origin).is_none() {
                return Err(ConfigError(format!(
                    "ALLOWED_ORIGINS: {origin:?} is not an origin like https://example.com:8443"
                )));
            }
        }
        let database = args
            .database_url
            .location()
            .map_err(|e| ConfigError(e.to_string()))?;
        let ports = Ports::new(&args, tls.is_some());
        let (terminals, terminals_tls) = terminals(&args, &ports, tls.as_ref())?;
        let mqtt = broker(&args, &ports, tls.is_some())?;
        let trusted = if args.demo && args.tcp_trusted.is_empty() {
            TrustedNetwork::loopback(&args.empresa)
        } else {
            args.tcp_trusted
        };
        let device_kek_file = args
            .device_kek_file
            .unwrap_or_else(|| args.data_dir.join("device-kek"));
        Ok(Self {
            demo: args.demo,
            installation: args.instalacion,
            node: args.nodo,
            company: args.empresa,
            currency: args.moneda,
            cedula_check: args.cedula_check,
            low_balance_threshold: args.low_balance_threshold,
            writer_lanes: lanes(args.writer_lanes, &database)?,
            database,
            data_dir: args.data_dir,
            log_dir: args.logs.log_dir,
            http: ports.at(args.http_port),
            terminals,
            terminals_tls,
            zone: zone(args.tz.as_deref())?,
            tls,
            allowed_origins: args.allowed_origins,
            legacy_api: args
                .legacy_api
                .map_or(args.demo, |switch| switch == Switch::On),
            trusted: TrustedNetworks(trusted),
            max_connections: args.max_connections,
            max_per_address: args.max_connections_per_address,
            address_rate: Rate {
                per_second: args.address_rate,
                burst: args.address_burst,
            },
            principal_rate: Rate {
                per_second: args.http_rate,
                burst: args.http_burst,
            },
            mqtt,
            shutdown_timeout: Duration::from_secs(args.shutdown_timeout),
            device_kek_file,
            access,
            device_rate: DeviceRate {
                per_second: args.device_rate,
                burst: args.device_burst,
            },
            alert_bounce: Duration::from_millis(args.alert_bounce_ms),
        })
    }
}

/// What ports bind to.
struct Ports {
    all: IpAddr,
    /// Those on which no TLS is spoken.
    plain: IpAddr,
}

impl Ports {
    /// Beside TLS the plain ports are for this machine alone.
    fn new(args: &ServeArgs, has_tls: bool) -> Self {
        let is_open = !args.bind_address.is_loopback();
        let plain = if is_open && has_tls && args.allow_remote.is_none() {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            args.bind_address
        };
        Self {
            all: args.bind_address,
            plain,
        }
    }

    const fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.all, port)
    }

    const fn plain(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.plain, port)
    }
}

/// What the port of terminals binds to, and what it shows over TLS.
fn terminals(
    args: &ServeArgs,
    ports: &Ports,
    tls: Option<&tls::Identity>,
) -> Result<(SocketAddr, Option<tls::Identity>), ConfigError> {
    match (args.server_tls, tls) {
        (Switch::Off, _) => Ok((ports.plain(args.server_port), None)),
        (Switch::On, Some(identity)) => Ok((ports.at(args.server_port), Some(identity.clone()))),
        (Switch::On, None) => Err(ConfigError(
            "SERVER_TLS=on needs TLS_CERT_FILE and TLS_KEY_FILE".to_owned(),
        )),
    }
}

fn broker(args: &ServeArgs, ports: &Ports, has_tls: bool) -> Result<MqttConfig, ConfigError> {
    let elsewhere = args.mqtt_broker_host.clone();
    match (args.mqtt, elsewhere.filter(|host| !host.is_empty())) {
        (MqttMode::Off, _) => Ok(MqttConfig::Off),
        (MqttMode::On, Some(host)) => Ok(MqttConfig::External {
            host,
            port: args.mqtt_broker_port,
            login: args.credentials.resolve()?,
            tls: args.mqtt_tls.resolve()?,
        }),
        (MqttMode::On, None) if cfg!(feature = "embedded-broker") => Ok(MqttConfig::Embedded {
            tcp: ports.plain(args.mqtt_broker_port),
            websocket: ports.plain(args.mqtt_ws_port),
            tls: has_tls.then(|| ports.at(args.mqtt_tls_port)),
        }),
        (MqttMode::On, None) => Err(ConfigError(
            "this build has no embedded broker; set MQTT_BROKER_HOST, or MQTT=off".into(),
        )),
    }
}

fn access(args: &ServeArgs) -> Result<AccessConfig, ConfigError> {
    let admin = &args.admin;
    let password = secret(
        "ADMIN_PASSWORD",
        admin.admin_password.as_deref(),
        admin.admin_password_file.as_ref(),
    )?;
    let token = secret(
        "ADMIN_TOKEN",
        admin.admin_token.as_deref(),
        admin.admin_token_file.as_ref(),
    )?;
    let username = Slug::constant("admin");
    Ok(AccessConfig {
        idle: Duration::from_secs(u64::from(args.session_idle_minutes.get()) * 60),
        session: Duration::from_secs(u64::from(args.session_hours.get()) * 3_600),
        admin_password: password
            .map(|text| Password::choose(&text, &username))
            .transpose()
            .map_err(|error| ConfigError(format!("ADMIN_PASSWORD: {error}")))?,
        admin_token: token
            .map(|text| Token::parse(&text))
            .transpose()
            .map_err(|_| {
                ConfigError(
                    "ADMIN_TOKEN: expected 43 to 256 visible ASCII characters, such as of \
                     `openssl rand -base64 32`"
                        .to_owned(),
                )
            })?,
    })
}

/// The time zone that `TZ` names as the C library would have it (POSIX.1-2017 §8.3): a name of the
/// IANA database, a POSIX rule or a file. The system's where there is none.
fn zone(text: Option<&str>) -> Result<TimeZone, ConfigError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(TimeZone::system());
    };
    let name = text.strip_prefix(':').unwrap_or(text);
    let found = if name.starts_with('/') {
        let file = std::fs::read(name).ok();
        file.and_then(|bytes| TimeZone::tzif(name, &bytes).ok())
    } else {
        TimeZone::get(name).or_else(|_| TimeZone::posix(name)).ok()
    };
    found.ok_or_else(|| {
        ConfigError(format!(
            "TZ={text}: not a time zone; expected a name such as America/Guayaquil"
        ))
    })
}

/// The host and port of an origin, as a `Host` header would have it.
#[must_use]
pub fn origin_host(origin: &str) -> Option<&str> {
    let (scheme, host) = origin.split_once("://")?;
    let fine = matches!(scheme, "http" | "https")
        && !host.is_empty()
        && !host.contains(['/', '@', '?', '#', ' ']);
    fine.then_some(host)
}

fn trusted_network(text: &str) -> Result<TrustedNetwork, NotTrusted> {
    text.parse()
}

/// A file has one writer at a time, so that more lanes would wait for each other.
fn lanes(wanted: Option<u8>, database: &Location) -> Result<Option<usize>, ConfigError> {
    match wanted {
        Some(2..) if database.path().is_some() => Err(ConfigError(
            "WRITER_LANES: a file has one writer at a time; more lanes need a server \
             (DATABASE_URL=mysql://…)"
                .to_owned(),
        )),
        wanted => Ok(wanted.map(usize::from)),
    }
}

fn slug(text: &str) -> Result<Slug, String> {
    Slug::parse(text).map_err(|e| format!("{e}; expected [A-Za-z0-9_-]{{1,64}}"))
}

fn money(text: &str) -> Result<Money, String> {
    let money = Money::parse(text).map_err(|e| e.to_string())?;
    if money < Money::ZERO {
        return Err("expected zero or more".to_owned());
    }
    Ok(money)
}

fn currency(text: &str) -> Result<String, String> {
    let fine = text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase());
    if fine {
        Ok(text.to_owned())
    } else {
        Err("expected three letters like USD".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn config(flags: &[&str]) -> Result<Config, String> {
        let words = std::iter::once("atalaya").chain(flags.iter().copied());
        let wrapper = Wrapper::try_parse_from(words).map_err(|e| e.to_string())?;
        Config::try_from(wrapper.serve).map_err(|e| e.to_string())
    }

    #[test]
    fn only_loopback_without_a_word() {
        assert!(config(&[]).is_ok());
        assert!(config(&["--bind-address", "::1"]).is_ok());
        let open = ["--bind-address", "0.0.0.0"];
        assert!(config(&open).unwrap_err().contains("ALLOW_REMOTE"));
        let said = |word| config(&[&open[..], &["--allow-remote", word]].concat());
        assert!(said("sin-tls").is_ok());
        assert!(said("true").is_err());
    }

    #[test]
    fn bad_values_name_their_setting() {
        for (flags, named) in [
            (["--moneda", "dollars"], "MONEDA"),
            (["--empresa", "a/b"], "EMPRESA"),
            (["--http-port", "70000"], "HTTP_PORT"),
            (["--server-port", "70000"], "SERVER_PORT"),
            (["--server-tls", "on"], "SERVER_TLS"),
            (["--tz", "America/Nowhere"], "TZ"),
            (["--low-balance-threshold", "1e2"], "LOW_BALANCE_THRESHOLD"),
            (
                ["--low-balance-threshold=-1", "--demo"],
                "LOW_BALANCE_THRESHOLD",
            ),
            (["--allowed-origins", "example.com"], "ALLOWED_ORIGINS"),
            (["--database-url", "postgres://x"], "DATABASE_URL"),
        ] {
            let error = config(&flags).unwrap_err().to_uppercase().replace('-', "_");
            assert!(error.contains(named), "{flags:?}: {error}");
        }
    }

    #[test]
    fn beside_tls_the_port_of_terminals_is_for_this_machine_unless_told() {
        let tls = ["--tls-cert-file", "c", "--tls-key-file", "k"];
        let open = [&tls[..], &["--bind-address", "0.0.0.0"]].concat();
        let with = |more: &[&str]| config(&[&open[..], more].concat()).unwrap();
        assert!(with(&[]).terminals.ip().is_loopback());
        assert!(
            !with(&["--allow-remote", "sin-tls"])
                .terminals
                .ip()
                .is_loopback()
        );
        let secured = with(&["--server-tls", "on"]);
        assert!(!secured.terminals.ip().is_loopback() && secured.terminals_tls.is_some());
    }

    #[test]
    fn a_time_zone_is_named_in_any_form_of_posix() {
        let offset = |text: &str| {
            let zone = config(&["--tz", text]).unwrap().zone;
            zone.to_offset(jiff::Timestamp::UNIX_EPOCH).seconds()
        };
        for text in ["America/Guayaquil", ":America/Guayaquil", "<-05>5", "EST5"] {
            assert_eq!(offset(text), -5 * 3_600, "{text}");
        }
        assert!(config(&["--tz", ""]).is_ok());
    }

    const CANARY: &str = "canary-canary-canary-canary-canary-canary-canary";

    #[test]
    fn no_secret_in_debug() {
        let words = [
            "--mqtt-broker-host",
            "h",
            "--mqtt-username",
            "u",
            "--mqtt-password",
            CANARY,
            "--admin-password",
            CANARY,
            "--admin-token",
            CANARY,
        ];
        let words = std::iter::once("atalaya").chain(words);
        let typed = Wrapper::try_parse_from(words).unwrap().serve;
        assert!(!format!("{typed:?}").contains("canary"), "{typed:?}");
        let config = Config::try_from(typed).unwrap();
        assert!(!format!("{config:?}").contains("canary"), "{config:?}");
        let MqttConfig::External { login, .. } = &config.mqtt else {
            panic!("{config:?}");
        };
        // They are there all the same.
        assert_eq!(
            login.as_ref().map(|login| login.password.as_str()),
            Some(CANARY)
        );
        let token = config.access.admin_token.as_ref().map(Token::reveal);
        assert_eq!(token, Some(CANARY));
    }

    /// Every setting that is a secret, and how to see what it came to.
    #[test]
    fn every_secret_may_come_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, format!("{CANARY}\r\n")).unwrap();
        let (file, host) = (
            file.to_str().unwrap(),
            ["--mqtt-broker-host", "h", "--mqtt-username", "u"],
        );
        let from = |flag: &str, file: &str| config(&[&host[..], &[flag, file]].concat());
        let found = |config: &Config, flag: &str| match (flag, &config.mqtt) {
            ("--mqtt-password-file", MqttConfig::External { login, .. }) => {
                login.as_ref().map(|login| login.password.clone())
            }
            ("--admin-token-file", _) => {
                let token = config.access.admin_token.as_ref();
                token.map(|token| token.reveal().to_owned())
            }
            _ => config
                .access
                .admin_password
                .as_ref()
                .map(|_| CANARY.to_owned()),
        };
        for flag in [
            "--mqtt-password-file",
            "--admin-token-file",
            "--admin-password-file",
        ] {
            let resolved = from(flag, file).unwrap();
            assert_eq!(found(&resolved, flag).as_deref(), Some(CANARY), "{flag}");
            let missing = from(flag, "/nowhere/secret").unwrap_err();
            let setting = flag[2..].to_uppercase().replace('-', "_");
            assert!(missing.starts_with(&format!("{setting}: ")), "{missing}");
            let both = [flag.trim_end_matches("-file"), CANARY];
            let both = [&host[..], &both, &[flag, file]].concat();
            assert!(config(&both).is_err(), "{flag}: both at once");
        }
    }
}
