//! `/api/v1/logs`: what the service says of itself, for those who run it.

use super::answer::{ApiError, respond};
use super::extract::{Query, Visitor};
use super::openapi::Problems;
use crate::desk::{Desk, LogQuery};
use crate::log_files::LogPage;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

/// Lee un registro, de la línea más nueva hacia atrás; con `despues`, lo escrito desde entonces.
#[utoipa::path(
    get, path = "/api/v1/logs/{registro}", tag = "operaciones", operation_id = "leerRegistro",
    params(
        ("registro" = String, Path, description = "`sistema`, `alertas` or `errores`"),
        ("nivel" = Option<String>, Query, description = "This grave or graver: `error`, `warn`, `info`, `debug`, `trace`"),
        ("texto" = Option<String>, Query, description = "Containing this, whatever the case", max_length = 200),
        ("desde" = Option<String>, Query, description = "Not before this moment (RFC 3339)"),
        ("hasta" = Option<String>, Query, description = "Before this moment (RFC 3339)"),
        ("limite" = Option<u32>, Query, description = "1 to 200, 100 where none is given"),
        ("cursor" = Option<String>, Query, description = "`siguiente` of the page before"),
        ("despues" = Option<String>, Query, description = "`posicion` of an earlier answer"),
    ),
    responses((status = 200, description = "A page", body = LogPage), Problems)
)]
pub(super) async fn read(
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let text = |name| query.text(name).to_owned();
    let asked = LogQuery {
        registro: visitor.param("registro").to_owned(),
        nivel: text("nivel"),
        texto: text("texto"),
        desde: text("desde"),
        hasta: text("hasta"),
        limite: text("limite"),
        cursor: text("cursor"),
        despues: text("despues"),
    };
    let answer = desk.read_log(&visitor.caller, &asked).await;
    respond(StatusCode::OK, visitor.language, answer)
}
