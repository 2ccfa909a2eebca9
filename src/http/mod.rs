//! HTTP: all routes on this page; one file a resource.
//!
//! A handler is: extract, ask the desk, answer. Errors become problem documents in `answer`, and
//! nowhere else.

mod accounts;
mod alerts;
mod answer;
mod audit;
mod bridge;
mod companies;
mod connections;
mod devices;
mod extract;
mod headers;
mod identify;
mod kinds;
mod logs;
mod middleware;
mod openapi;
mod operations;
mod page;
mod people;
mod quarantine;
mod rules;
mod sessions;
mod sites;
mod tokens;
mod transfers;

pub use bridge::Bridge;
pub use identify::Door;
pub use openapi::document as openapi_document;
pub use operations::Readiness;

use crate::actors::metrics::MetricsActor;
use crate::actors::session::websocket::Lobby;
use crate::desk::Desk;
use crate::instruments::Instruments;
use actix::Addr;
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Server;
use actix_web::middleware::{Compress, from_fn};
use actix_web::{App, HttpServer, Route, web};
use answer::{method_not_allowed, not_found};
use connections::Connections;
use std::any::Any;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use utoipa_swagger_ui::SwaggerUi;

/// Every route, with its methods: the one list, from which routing and its tests are made.
pub const ROUTES: &[(&str, &[&str])] = &[
    ("/api/v1/cajas", &["GET"]),
    ("/api/v1/cuentas", &["GET", "POST"]),
    ("/api/v1/cuentas/{cedula}", &["GET"]),
    ("/api/v1/cuentas/{cedula}/depositos", &["POST"]),
    ("/api/v1/cuentas/{cedula}/retiros", &["POST"]),
    ("/api/v1/cuentas/{cedula}/movimientos", &["GET"]),
    ("/api/v1/transferencias", &["POST"]),
    ("/api/v1/estadisticas", &["GET"]),
    ("/api/v1/alertas", &["GET", "POST"]),
    ("/api/v1/alertas/validacion", &["POST"]),
    ("/api/v1/alertas/{id}", &["GET"]),
    ("/api/v1/alertas/{id}/reconocer", &["POST"]),
    ("/api/v1/alertas/{id}/resolver", &["POST"]),
    ("/api/v1/alertas/{id}/descartar", &["POST"]),
    ("/api/v1/empresas", &["GET", "POST"]),
    ("/api/v1/empresas/{empresa}", &["GET", "PATCH"]),
    ("/api/v1/sedes", &["GET", "POST"]),
    ("/api/v1/sedes/{empresa}/{sede}", &["GET", "PATCH"]),
    ("/api/v1/hardware", &["GET", "POST"]),
    ("/api/v1/hardware/{hardware}", &["GET", "PATCH"]),
    ("/api/v1/hardware/{hardware}/claves", &["GET", "POST"]),
    ("/api/v1/hardware/{hardware}/claves/{kid}", &["DELETE"]),
    (
        "/api/v1/hardware/{hardware}/contrasena_mqtt",
        &["DELETE", "POST"],
    ),
    (
        "/api/v1/hardware/{hardware}/secreto_heredado",
        &["DELETE", "POST"],
    ),
    ("/api/v1/tipos_hardware", &["GET"]),
    ("/api/v1/tipos_hardware/{tipo}", &["PUT"]),
    ("/api/v1/tipos_alarma", &["GET"]),
    ("/api/v1/tipos_alarma/{empresa}/{tipo_alarma}", &["PUT"]),
    ("/api/v1/reglas", &["GET", "POST"]),
    ("/api/v1/reglas/prueba", &["POST"]),
    ("/api/v1/reglas/{id}", &["GET", "PATCH"]),
    ("/api/v1/reglas/{id}/versiones", &["GET"]),
    ("/api/v1/cuarentena", &["GET"]),
    ("/api/v1/cuarentena/{id}", &["GET", "DELETE"]),
    ("/api/v1/cuarentena/{id}/reenviar", &["POST"]),
    ("/api/v1/sesiones", &["GET", "POST"]),
    ("/api/v1/sesiones/actual", &["GET", "DELETE"]),
    ("/api/v1/sesiones/actual/contrasena", &["PUT"]),
    (
        "/api/v1/sesiones/actual/segundo_factor",
        &["POST", "PUT", "DELETE"],
    ),
    ("/api/v1/sesiones/actual/boleto", &["POST"]),
    ("/api/v1/sesiones/{id}", &["DELETE"]),
    ("/api/v1/usuarios", &["GET", "POST"]),
    ("/api/v1/usuarios/{usuario}", &["GET", "PATCH"]),
    ("/api/v1/tokens", &["GET", "POST"]),
    ("/api/v1/tokens/{id}", &["DELETE"]),
    ("/api/v1/auditoria", &["GET"]),
    ("/api/v1/metricas", &["GET"]),
    ("/api/v1/logs/{registro}", &["GET"]),
    ("/livez", &["GET"]),
    ("/readyz", &["GET"]),
    ("/health", &["GET"]),
    ("/metrics", &["GET"]),
    ("/ws", &["GET"]),
    ("/", &["GET"]),
    ("/app/{archivo}", &["GET"]),
];

/// Routes for the web front end and the alert clients from before Atalaya, there where `LEGACY_API` is
/// on. The session at `/socket.io/` and devices that hand in alerts show what they have by themselves.
pub const BRIDGE_ROUTES: &[(&str, &[&str])] = &[
    ("/api/consulta", &["POST"]),
    ("/api/deposito", &["POST"]),
    ("/api/retiro", &["POST"]),
    ("/api/crear", &["POST"]),
    ("/api/transferir", &["POST"]),
    ("/api/historial/{cedula}", &["GET"]),
    ("/api/stats", &["GET"]),
    ("/socket.io/", &["GET"]),
    ("/api/hardware-auth/authenticate", &["POST"]),
    ("/api/mqtt-alerts", &["GET", "POST"]),
    ("/api/mqtt-alerts/process", &["POST"]),
    ("/api/mqtt-alerts/verify-hardware", &["GET"]),
    ("/api/mqtt-alerts/verify-empresa-sede", &["GET"]),
    ("/api/mqtt-alerts/{id}/authorize", &["PATCH"]),
    ("/api/mqtt-alerts/{id}/toggle-status", &["PATCH"]),
];

/// What is answered to whoever shows no token, by path and methods; all else is 401. An alert may
/// be signed by its device, and `/ws` looks at its ticket itself.
pub const PUBLIC: &[(&str, &[&str])] = &[
    ("/api/v1/sesiones", &["POST"]),
    ("/api/v1/alertas", &["POST"]),
    ("/livez", &["GET"]),
    ("/readyz", &["GET"]),
    ("/health", &["GET"]),
    ("/ws", &["GET"]),
    ("/", &["GET"]),
    ("/app/{archivo}", &["GET"]),
];

/// Whether those who watch us ask: they are heard while others are held up.
fn is_watch(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz")
}

/// What every route of the API starts with.
const API: &str = "/api/v1/";

/// The parameters that the query of a route may have.
fn parameters_of(path: &str) -> &'static [&'static str] {
    match path {
        "/api/v1/alertas" => &[
            "empresa",
            "sede",
            "hardware",
            "estado",
            "tipo_alarma",
            "prioridad",
            "desde",
            "hasta",
            "abiertas",
            "limite",
            "cursor",
        ],
        "/api/v1/cajas" => &[],
        "/api/v1/cuentas" => &["buscar", "limite", "cursor"],
        "/api/v1/hardware" => &["empresa", "sede", "tipo", "limite", "cursor"],
        "/api/v1/sedes" | "/api/v1/tipos_alarma" | "/api/v1/reglas" => {
            &["empresa", "limite", "cursor"]
        }
        "/api/v1/cuarentena" => &["hardware", "motivo", "limite", "cursor"],
        "/api/v1/sesiones" => &["usuario", "limite", "cursor"],
        "/api/v1/metricas" => &["ventana"],
        "/api/v1/logs/{registro}" => &[
            "nivel", "texto", "desde", "hasta", "limite", "cursor", "despues",
        ],
        "/api/v1/auditoria" => &["usuario", "desde", "hasta", "limite", "cursor"],
        _ => &["limite", "cursor"],
    }
}

/// The template of the route that a request has taken, for its metrics. Each resource carries its
/// own: to ask the router afterwards would match all routes a second time.
#[derive(Debug, Clone, Copy)]
struct RouteTemplate(&'static str);

fn routes(config: &mut web::ServiceConfig, has_bridge: bool) {
    let bridged = if has_bridge { BRIDGE_ROUTES } else { &[] };
    for (path, methods) in ROUTES.iter().chain(bridged) {
        let mut resource = web::resource(*path)
            .app_data(RouteTemplate(path))
            .default_service(web::to(move |request| method_not_allowed(request, methods)));
        for method in *methods {
            resource = resource.route(handler(path, method));
        }
        if page::is_page(path) {
            config.service(resource.wrap(Compress::default()));
        } else {
            config.service(resource);
        }
    }
}

fn handler(path: &str, method: &str) -> Route {
    match (method, path) {
        ("GET", "/api/v1/cajas") => web::get().to(accounts::counters),
        ("GET", "/api/v1/cuentas") => web::get().to(accounts::search),
        ("POST", "/api/v1/cuentas") => web::post().to(accounts::open),
        ("GET", "/api/v1/cuentas/{cedula}") => web::get().to(accounts::show),
        ("POST", "/api/v1/cuentas/{cedula}/depositos") => web::post().to(accounts::deposit),
        ("POST", "/api/v1/cuentas/{cedula}/retiros") => web::post().to(accounts::withdraw),
        ("GET", "/api/v1/cuentas/{cedula}/movimientos") => web::get().to(accounts::movements),
        ("POST", "/api/v1/transferencias") => web::post().to(transfers::transfer),
        ("GET", "/api/v1/estadisticas") => web::get().to(operations::statistics),
        (_, path) if !path.starts_with(API) => {
            bridged(method, path).unwrap_or_else(|| operation(method, path))
        }
        ("POST", "/api/v1/alertas") => web::post().to(alerts::take),
        ("GET", "/api/v1/alertas") => web::get().to(alerts::list),
        ("POST", "/api/v1/alertas/validacion") => web::post().to(alerts::validate),
        ("GET", "/api/v1/alertas/{id}") => web::get().to(alerts::show),
        ("POST", "/api/v1/alertas/{id}/reconocer") => web::post().to(alerts::acknowledge),
        ("POST", "/api/v1/alertas/{id}/resolver") => web::post().to(alerts::resolve),
        ("POST", "/api/v1/alertas/{id}/descartar") => web::post().to(alerts::discard),
        ("POST", "/api/v1/cuarentena/{id}/reenviar") => web::post().to(quarantine::resubmit),
        ("GET", "/api/v1/cuarentena") => web::get().to(quarantine::list),
        ("GET", "/api/v1/cuarentena/{id}") => web::get().to(quarantine::show),
        ("DELETE", "/api/v1/cuarentena/{id}") => web::delete().to(quarantine::release),
        _ => access(method, path).unwrap_or_else(|| registry(method, path)),
    }
}

/// The handlers of sessions, people, tokens and the audit.
fn access(method: &str, path: &str) -> Option<Route> {
    Some(match (method, path) {
        ("POST", "/api/v1/sesiones") => web::post().to(sessions::sign_in),
        ("GET", "/api/v1/sesiones") => web::get().to(sessions::list),
        ("GET", "/api/v1/sesiones/actual") => web::get().to(sessions::who_am_i),
        ("DELETE", "/api/v1/sesiones/actual") => web::delete().to(sessions::sign_out),
        ("PUT", "/api/v1/sesiones/actual/contrasena") => web::put().to(sessions::choose_password),
        ("POST", "/api/v1/sesiones/actual/segundo_factor") => {
            web::post().to(sessions::begin_second_factor)
        }
        ("PUT", "/api/v1/sesiones/actual/segundo_factor") => {
            web::put().to(sessions::prove_second_factor)
        }
        ("DELETE", "/api/v1/sesiones/actual/segundo_factor") => {
            web::delete().to(sessions::remove_second_factor)
        }
        ("POST", "/api/v1/sesiones/actual/boleto") => web::post().to(sessions::ticket),
        ("DELETE", "/api/v1/sesiones/{id}") => web::delete().to(sessions::end),
        ("POST", "/api/v1/usuarios") => web::post().to(people::create),
        ("GET", "/api/v1/usuarios") => web::get().to(people::list),
        ("GET", "/api/v1/usuarios/{usuario}") => web::get().to(people::show),
        ("PATCH", "/api/v1/usuarios/{usuario}") => web::patch().to(people::patch),
        ("POST", "/api/v1/tokens") => web::post().to(tokens::create),
        ("GET", "/api/v1/tokens") => web::get().to(tokens::list),
        ("DELETE", "/api/v1/tokens/{id}") => web::delete().to(tokens::revoke),
        ("GET", "/api/v1/auditoria") => web::get().to(audit::list),
        ("GET", "/api/v1/metricas") => web::get().to(operations::figures),
        ("GET", "/api/v1/logs/{registro}") => web::get().to(logs::read),
        _ => return None,
    })
}

/// The handlers of companies, sites, devices, kinds and rules.
fn registry(method: &str, path: &str) -> Route {
    match (method, path) {
        ("POST", "/api/v1/empresas") => web::post().to(companies::create),
        ("GET", "/api/v1/empresas") => web::get().to(companies::list),
        ("GET", "/api/v1/empresas/{empresa}") => web::get().to(companies::show),
        ("PATCH", "/api/v1/empresas/{empresa}") => web::patch().to(companies::patch),
        ("POST", "/api/v1/sedes") => web::post().to(sites::create),
        ("GET", "/api/v1/sedes") => web::get().to(sites::list),
        ("GET", "/api/v1/sedes/{empresa}/{sede}") => web::get().to(sites::show),
        ("PATCH", "/api/v1/sedes/{empresa}/{sede}") => web::patch().to(sites::patch),
        ("POST", "/api/v1/hardware") => web::post().to(devices::create),
        ("GET", "/api/v1/hardware") => web::get().to(devices::list),
        ("GET", "/api/v1/hardware/{hardware}") => web::get().to(devices::show),
        ("PATCH", "/api/v1/hardware/{hardware}") => web::patch().to(devices::patch),
        ("POST", "/api/v1/hardware/{hardware}/claves") => web::post().to(devices::add_key),
        ("GET", "/api/v1/hardware/{hardware}/claves") => web::get().to(devices::list_keys),
        ("DELETE", "/api/v1/hardware/{hardware}/claves/{kid}") => {
            web::delete().to(devices::revoke_key)
        }
        ("POST", "/api/v1/hardware/{hardware}/contrasena_mqtt") => {
            web::post().to(devices::set_mqtt_password)
        }
        ("DELETE", "/api/v1/hardware/{hardware}/contrasena_mqtt") => {
            web::delete().to(devices::remove_mqtt_password)
        }
        ("POST", "/api/v1/hardware/{hardware}/secreto_heredado") => {
            web::post().to(devices::set_legacy_secret)
        }
        ("DELETE", "/api/v1/hardware/{hardware}/secreto_heredado") => {
            web::delete().to(devices::remove_legacy_secret)
        }
        ("GET", "/api/v1/tipos_hardware") => web::get().to(devices::list_types),
        ("PUT", "/api/v1/tipos_hardware/{tipo}") => web::put().to(devices::put_type),
        ("GET", "/api/v1/tipos_alarma") => web::get().to(kinds::list),
        ("PUT", "/api/v1/tipos_alarma/{empresa}/{tipo_alarma}") => web::put().to(kinds::put),
        ("POST", "/api/v1/reglas") => web::post().to(rules::create),
        ("GET", "/api/v1/reglas") => web::get().to(rules::list),
        ("POST", "/api/v1/reglas/prueba") => web::post().to(rules::try_out),
        ("GET", "/api/v1/reglas/{id}") => web::get().to(rules::show),
        ("PATCH", "/api/v1/reglas/{id}") => web::patch().to(rules::patch),
        ("GET", "/api/v1/reglas/{id}/versiones") => web::get().to(rules::versions),
        _ => web::route().to(not_found),
    }
}

/// The handlers for clients from before Atalaya.
fn bridged(method: &str, path: &str) -> Option<Route> {
    Some(match (method, path) {
        ("POST", "/api/consulta") => web::post().to(bridge::balance),
        ("POST", "/api/deposito") => web::post().to(bridge::deposit),
        ("POST", "/api/retiro") => web::post().to(bridge::withdraw),
        ("POST", "/api/crear") => web::post().to(bridge::open),
        ("POST", "/api/transferir") => web::post().to(bridge::transfer),
        ("GET", "/api/historial/{cedula}") => web::get().to(bridge::history),
        ("GET", "/api/stats") => web::get().to(bridge::statistics),
        ("GET", "/socket.io/") => web::get().to(sessions::socketio),
        _ => return bridge::alerts::route(method, path),
    })
}

/// The handlers outside the API.
fn operation(method: &str, path: &str) -> Route {
    match (method, path) {
        ("GET", "/livez") => web::get().to(operations::live),
        ("GET", "/readyz") => web::get().to(operations::ready),
        ("GET", "/health") => web::get().to(operations::health),
        ("GET", "/metrics") => web::get().to(operations::metrics),
        ("GET", "/ws") => web::get().to(sessions::websocket),
        ("GET", "/") => web::get().to(page::index),
        ("GET", "/app/{archivo}") => web::get().to(page::file),
        _ => web::route().to(not_found),
    }
}

/// How long the head of a request may take.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// How long a TLS handshake may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Connections that wait to be accepted. The 128 of the standard library are gone in an instant when
/// many come at once, and whoever comes then waits a second for the next try.
const BACKLOG: i32 = 1_024;

/// How long requests under way have when the server stops, in seconds.
const STOP_SECONDS: u64 = 5;

/// What the handlers need.
#[derive(Clone)]
pub struct HttpParts {
    /// Where requests go.
    pub desk: Desk,
    /// What a WebSocket session needs.
    pub lobby: Lobby,
    /// Where metrics come from.
    pub metrics: Addr<MetricsActor>,
    /// What is counted.
    pub instruments: Instruments,
    /// Whether we are ready, and how we are.
    pub readiness: Readiness,
    /// What it takes to tell who sends a request.
    pub door: Door,
    /// What the front end from before Atalaya needs, if it is served.
    pub bridge: Option<Bridge>,
    /// Origins beyond our own.
    pub allowed_origins: Arc<Vec<String>>,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections of one address at once.
    pub max_per_address: usize,
    /// What HTTPS shows; HTTP without it.
    pub tls: Option<rustls::ServerConfig>,
}

/// A server on `listener`. It runs when it is awaited.
///
/// # Errors
/// Where the listener cannot be used.
pub fn server(listener: TcpListener, parts: HttpParts) -> std::io::Result<Server> {
    socket2::SockRef::from(&listener).listen(BACKLOG)?;
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let tls = parts.tls.clone();
    // Those beyond the limit are let in to be told so, or to ask for our health. Twice, since whoever
    // loses a spare place still has it until their worker has looked.
    let connections = (parts.max_connections + 2 * connections::SPARE).div_ceil(workers);
    let accepted = Connections::new(parts.max_connections, parts.max_per_address);
    actix::spawn(accepted.clone().sweep(KEEP_ALIVE + HEAD_DEADLINE));
    let server = HttpServer::new(move || {
        let bridge = parts.bridge.clone().map(web::Data::new);
        let has_bridge = bridge.is_some();
        App::new()
            .configure(|config| {
                if let Some(bridge) = bridge {
                    config.app_data(bridge);
                }
            })
            .app_data(web::Data::new(parts.desk.clone()))
            .app_data(web::Data::new(parts.lobby.clone()))
            .app_data(web::Data::new(parts.door.clone()))
            .app_data(web::Data::new(parts.metrics.clone()))
            .app_data(web::Data::new(parts.readiness.clone()))
            .app_data(web::Data::new(parts.instruments.clone()))
            .app_data(web::Data::from(Arc::clone(&parts.allowed_origins)))
            .wrap(from_fn(identify::identify))
            .wrap(from_fn(bridge::share))
            .wrap(from_fn(middleware::guard))
            .wrap(from_fn(middleware::make_room))
            .wrap(from_fn(bridge::alerts::in_their_words))
            .wrap(from_fn(headers::protect))
            .wrap(from_fn(middleware::measure))
            .configure(|config| routes(config, has_bridge))
            .service(web::redirect("/api/docs", "/api/docs/"))
            .service(
                SwaggerUi::new("/api/docs/{_:.*}").url("/api/openapi.json", openapi::document()),
            )
            .default_service(web::to(not_found))
    })
    .workers(workers)
    .max_connections(connections)
    // Handshakes under way, by worker: by default 256, and whoever connects and says nothing would
    // hold up everybody else for as long as HANDSHAKE_DEADLINE.
    .max_connection_rate(connections)
    .client_request_timeout(HEAD_DEADLINE)
    .keep_alive(KEEP_ALIVE)
    .shutdown_timeout(STOP_SECONDS)
    .disable_signals()
    .tls_handshake_timeout(HANDSHAKE_DEADLINE)
    .on_connect(move |io, extensions| prepare(io, extensions, &accepted));
    let server = match tls {
        Some(tls) => server.listen_rustls_0_23(listener, tls)?,
        None => server.listen(listener)?,
    };
    Ok(server.run())
}

/// Readies a connection: small frames leave at once, and a session can be ended from outside.
fn prepare(io: &dyn Any, extensions: &mut actix_web::dev::Extensions, accepted: &Connections) {
    type Plain = actix_web::rt::net::TcpStream;
    let over_tls = || {
        let secured = io.downcast_ref::<TlsStream<Plain>>()?;
        Some(secured.get_ref().0)
    };
    if let Some(stream) = io.downcast_ref::<Plain>().or_else(over_tls) {
        let socket = socket2::SockRef::from(stream);
        // A connection that is gone already shows it when it is read.
        let _ = socket.set_tcp_nodelay(true);
        let address = stream.peer_addr().ok().map(|peer| peer.ip());
        if let Ok(socket) = socket.try_clone() {
            let socket = Arc::new(socket);
            extensions.insert(accepted.add(Arc::clone(&socket), address));
            extensions.insert(socket);
        }
    }
}
