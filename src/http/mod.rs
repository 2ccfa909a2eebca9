//! HTTP: all routes on this page; one file a resource.
//!
//! A handler is: extract, ask the desk, answer. Errors become problem documents in `answer`, and
//! nowhere else.

mod accounts;
mod answer;
mod connections;
mod extract;
mod middleware;
mod openapi;
mod operations;
mod sessions;
mod transfers;

pub use openapi::document as openapi_document;
pub use operations::Readiness;

use crate::actors::metrics::MetricsActor;
use crate::actors::session::websocket::Lobby;
use crate::desk::Desk;
use crate::instruments::Instruments;
use actix::Addr;
use actix_web::dev::Server;
use actix_web::middleware::from_fn;
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
    ("/api/v1/cuentas", &["POST"]),
    ("/api/v1/cuentas/{cedula}", &["GET"]),
    ("/api/v1/cuentas/{cedula}/depositos", &["POST"]),
    ("/api/v1/cuentas/{cedula}/retiros", &["POST"]),
    ("/api/v1/cuentas/{cedula}/movimientos", &["GET"]),
    ("/api/v1/transferencias", &["POST"]),
    ("/api/v1/estadisticas", &["GET"]),
    ("/livez", &["GET"]),
    ("/readyz", &["GET"]),
    ("/health", &["GET"]),
    ("/metrics", &["GET"]),
    ("/ws", &["GET"]),
    ("/", &["GET"]),
];

/// The template of the route that a request has taken, for its metrics. Each resource carries its
/// own: to ask the router afterwards would match all routes a second time.
#[derive(Debug, Clone, Copy)]
struct RouteTemplate(&'static str);

fn routes(config: &mut web::ServiceConfig) {
    for (path, methods) in ROUTES {
        let mut resource = web::resource(*path)
            .app_data(RouteTemplate(path))
            .default_service(web::to(move |request| method_not_allowed(request, methods)));
        for method in *methods {
            resource = resource.route(handler(path, method));
        }
        config.service(resource);
    }
}

fn handler(path: &str, method: &str) -> Route {
    match (method, path) {
        ("POST", "/api/v1/cuentas") => web::post().to(accounts::open),
        ("GET", "/api/v1/cuentas/{cedula}") => web::get().to(accounts::show),
        ("POST", "/api/v1/cuentas/{cedula}/depositos") => web::post().to(accounts::deposit),
        ("POST", "/api/v1/cuentas/{cedula}/retiros") => web::post().to(accounts::withdraw),
        ("GET", "/api/v1/cuentas/{cedula}/movimientos") => web::get().to(accounts::movements),
        ("POST", "/api/v1/transferencias") => web::post().to(transfers::transfer),
        ("GET", "/api/v1/estadisticas") => web::get().to(operations::statistics),
        ("GET", "/livez") => web::get().to(operations::live),
        ("GET", "/readyz") => web::get().to(operations::ready),
        ("GET", "/health") => web::get().to(operations::health),
        ("GET", "/metrics") => web::get().to(operations::metrics),
        ("GET", "/ws") => web::get().to(sessions::websocket),
        ("GET", "/") => web::get().to(operations::page),
        _ => web::route().to(not_found),
    }
}

/// How long the head of a request may take.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

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
    /// Origins beyond our own.
    pub allowed_origins: Arc<Vec<String>>,
    /// Connections at once.
    pub max_connections: usize,
}

/// A server on `listener`. It runs when it is awaited.
///
/// # Errors
/// Where the listener cannot be used.
pub fn server(listener: TcpListener, parts: HttpParts) -> std::io::Result<Server> {
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let connections = parts.max_connections.div_ceil(workers);
    let accepted = Connections::default();
    actix::spawn(accepted.clone().sweep(KEEP_ALIVE + HEAD_DEADLINE));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(parts.desk.clone()))
            .app_data(web::Data::new(parts.lobby.clone()))
            .app_data(web::Data::new(parts.metrics.clone()))
            .app_data(web::Data::new(parts.readiness.clone()))
            .app_data(web::Data::new(parts.instruments.clone()))
            .app_data(web::Data::from(Arc::clone(&parts.allowed_origins)))
            .wrap(from_fn(middleware::guard))
            .wrap(from_fn(middleware::measure))
            .configure(routes)
            .service(web::redirect("/api/docs", "/api/docs/"))
            .service(
                SwaggerUi::new("/api/docs/{_:.*}").url("/api/openapi.json", openapi::document()),
            )
            .default_service(web::to(not_found))
    })
    .workers(workers)
    .max_connections(connections)
    .client_request_timeout(HEAD_DEADLINE)
    .keep_alive(KEEP_ALIVE)
    .shutdown_timeout(STOP_SECONDS)
    .disable_signals()
    .on_connect(move |io, extensions| prepare(io, extensions, &accepted))
    .listen(listener)?;
    Ok(server.run())
}

/// Readies a connection: small frames leave at once, and a session can be ended from outside.
fn prepare(io: &dyn Any, extensions: &mut actix_web::dev::Extensions, accepted: &Connections) {
    if let Some(stream) = io.downcast_ref::<actix_web::rt::net::TcpStream>() {
        let socket = socket2::SockRef::from(stream);
        // A connection that is gone already shows it when it is read.
        let _ = socket.set_tcp_nodelay(true);
        if let Ok(socket) = socket.try_clone() {
            let socket = Arc::new(socket);
            extensions.insert(accepted.add(Arc::clone(&socket)));
            extensions.insert(socket);
        }
    }
}
