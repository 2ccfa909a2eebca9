//! For those who run it, and the figures for everybody: health, metrics, statistics.

use super::answer::{ApiError, respond};
use super::extract::{Query, Visitor};
use super::openapi::Problems;
use crate::actors::metrics::{AskFigures, Figures, MetricsActor, Scrape, Window};
use crate::clock::Clock;
use crate::desk::Desk;
use crate::instruments::Instruments;
use crate::storage::{self, ReadPool};
use crate::wire::events::Statistics;
use crate::wire::numbers::Moment;
use crate::wire::problem::ProblemDocument;
use crate::wire::{Problem, ProblemKind};
use actix::Addr;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long the metrics have to answer.
const METRICS_DEADLINE: Duration = Duration::from_secs(2);

/// Whether we are ready, and how we are.
#[derive(Clone)]
pub struct Readiness {
    draining: Arc<AtomicBool>,
    readers: ReadPool,
    instruments: Instruments,
    has_broker: bool,
    currency: String,
    started: i64,
    clock: Clock,
}

impl Readiness {
    /// Readiness that depends on `readers`; the broker is told and does not count.
    #[must_use]
    pub fn new(
        readers: ReadPool,
        instruments: Instruments,
        has_broker: bool,
        currency: String,
        clock: Clock,
    ) -> Self {
        let draining = Arc::new(AtomicBool::new(false));
        Self {
            draining,
            readers,
            instruments,
            has_broker,
            currency,
            started: clock.now(),
            clock,
        }
    }

    /// From now on we are not ready: we are on our way out.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    async fn database_answers(&self) -> bool {
        storage::answers(&self.readers).await
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn broker(&self) -> &'static str {
        match (self.has_broker, self.instruments.mqtt_connected.get()) {
            (false, _) => "apagado",
            (true, true) => "conectado",
            (true, false) => "desconectado",
        }
    }
}

/// How we are, for people.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(title = "Salud")]
pub(super) struct Health {
    /// `ok`, `cerrando` or `error`.
    status: &'static str,
    /// `atalaya`.
    service: &'static str,
    /// Which version.
    version: &'static str,
    /// Now.
    timestamp: Moment,
    /// `ok` or `error`.
    base_de_datos: &'static str,
    /// `conectado`, `desconectado` or `apagado`.
    broker: &'static str,
    /// The currency of all money here.
    moneda: String,
}

/// El proceso vive.
#[utoipa::path(get, path = "/livez", tag = "operaciones", operation_id = "vive",
    responses(
        (status = 200, description = "Alive", body = String, content_type = "text/plain"),
        (status = 403, description = "`origen_no_permitido`", body = ProblemDocument, content_type = "application/problem+json"),
    ))]
pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body("ok\n")
}

/// El servicio acepta trabajo.
#[utoipa::path(get, path = "/readyz", tag = "operaciones", operation_id = "listo",
    responses(
        (status = 200, description = "Ready", body = String, content_type = "text/plain"),
        (status = 403, description = "`origen_no_permitido`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Shutting down, or the database does not answer", body = ProblemDocument, content_type = "application/problem+json"),
    ))]
pub(super) async fn ready(
    readiness: web::Data<Readiness>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    if readiness.is_draining() {
        return Err(ApiError::new(&request, ProblemKind::ShuttingDown));
    }
    if !readiness.database_answers().await {
        return Err(ApiError::new(&request, ProblemKind::StorageUnavailable));
    }
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body("ok\n"))
}

/// Cómo está el servicio, para personas.
#[utoipa::path(get, path = "/health", tag = "operaciones", operation_id = "salud",
    responses(
        (status = 200, description = "All is well, whether or not the broker is there", body = Health),
        (status = 403, description = "`origen_no_permitido`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Shutting down, or the database does not answer", body = Health),
    ))]
pub(super) async fn health(readiness: web::Data<Readiness>) -> HttpResponse {
    let database = readiness.database_answers().await;
    let status = match (readiness.is_draining(), database) {
        (true, _) => "cerrando",
        (false, true) => "ok",
        (false, false) => "error",
    };
    let code = if status == "ok" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    HttpResponse::build(code).json(Health {
        status,
        service: "atalaya",
        version: env!("CARGO_PKG_VERSION"),
        timestamp: Moment(readiness.clock.now()),
        base_de_datos: if database { "ok" } else { "error" },
        broker: readiness.broker(),
        moneda: readiness.currency.clone(),
    })
}

/// Métricas en el formato de texto de Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operaciones", operation_id = "metricas",
    responses(
        (status = 200, description = "Prometheus text", body = String, content_type = "text/plain"),
        (status = 403, description = "`origen_no_permitido`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "5XX", description = "The metrics cannot be rendered", body = ProblemDocument, content_type = "application/problem+json"),
    ))]
pub(super) async fn metrics(
    metrics: web::Data<Addr<MetricsActor>>,
    desk: web::Data<Desk>,
    visitor: Visitor,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    desk.may_read_metrics(&visitor.caller)
        .map_err(|problem| ApiError::new(&request, problem))?;
    let scraped = metrics.send(Scrape).timeout(METRICS_DEADLINE).await;
    match scraped {
        Ok(Ok(text)) => Ok(HttpResponse::Ok()
            .content_type("text/plain; version=0.0.4; charset=utf-8")
            .body(text)),
        Ok(Err(error)) => {
            log::error!("metrics cannot be rendered: {error}");
            Err(ApiError::new(&request, ProblemKind::Internal))
        }
        Err(_) => Err(ApiError::new(&request, ProblemKind::Overloaded)),
    }
}

/// Cómo ha estado el servicio: series de los últimos minutos a los últimos días.
#[utoipa::path(get, path = "/api/v1/metricas", tag = "operaciones", operation_id = "historiaDeMetricas",
    params(("ventana" = Option<String>, Query, description = "`15m`, `1h` (where none is given), `6h`, `1d` or `7d`")),
    responses((status = 200, description = "The series; `null` where nothing is known", body = FiguresResource), Problems))]
pub(super) async fn figures(
    metrics: web::Data<Addr<MetricsActor>>,
    desk: web::Data<Desk>,
    readiness: web::Data<Readiness>,
    visitor: Visitor,
    query: Query,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let failed = |problem: Problem| ApiError::new(&request, problem);
    desk.may_read_metrics(&visitor.caller).map_err(failed)?;
    let window = match query.text("ventana") {
        "" => Some(Window::Hour),
        name => Window::parse(name),
    };
    let window = window.ok_or_else(|| {
        let reason = (
            "ventana: 15m, 1h, 6h, 1d o 7d",
            "ventana: 15m, 1h, 6h, 1d or 7d",
        );
        failed(Problem::of(ProblemKind::InvalidParameter).because(reason))
    })?;
    let asked = metrics
        .send(AskFigures(window))
        .timeout(METRICS_DEADLINE)
        .await;
    let figures = asked.map_err(|_| failed(ProblemKind::Overloaded.into()))?;
    Ok(HttpResponse::Ok().json(FiguresResource {
        figures: *figures,
        version: env!("CARGO_PKG_VERSION"),
        arranque: Moment(readiness.started),
    }))
}

/// How it has been, and which process says so.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(title = "Metricas")]
pub(super) struct FiguresResource {
    #[serde(flatten)]
    figures: Figures,
    /// Which version runs.
    version: &'static str,
    /// Since when it runs.
    arranque: Moment,
}

/// Toma las estadísticas, que además se publican en `banco/estadisticas`.
#[utoipa::path(get, path = "/api/v1/estadisticas", tag = "estadisticas", operation_id = "estadisticas",
    responses(
        (status = 200, description = "The statistics", body = Statistics),
        (status = 403, description = "`origen_no_permitido`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Try again", body = ProblemDocument, content_type = "application/problem+json"),
    ))]
pub(super) async fn statistics(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    respond(
        StatusCode::OK,
        visitor.language,
        desk.statistics(&visitor.caller).await,
    )
}
