//! `/api/v1/hardware` and `/api/v1/tipos_hardware`.

use super::answer::{ApiError, respond, respond_done};
use super::extract::{JsonBody, Query, Visitor};
use super::openapi::Problems;
use crate::desk::Desk;
use crate::storage::registry_queries::DeviceFilter;
use crate::wire::registry::{
    DeviceBody, DevicePatch, DeviceResource, DeviceTypeBody, DeviceTypeResource, KeyBody,
    KeyResource, LegacySecretResource, PasswordResource,
};
use crate::wire::resources::Page;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

/// Registra un hardware. Sin claves todavía no se le escucha.
#[utoipa::path(
    post, path = "/api/v1/hardware", tag = "hardware", operation_id = "registrarHardware",
    request_body = DeviceBody,
    responses((status = 201, description = "Registered", body = DeviceResource), Problems)
)]
pub(super) async fn create(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<DeviceBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.create_device(&visitor.caller, &body).await;
    respond(StatusCode::CREATED, visitor.language, answer)
}

/// Lista el hardware.
#[utoipa::path(
    get, path = "/api/v1/hardware", tag = "hardware", operation_id = "listarHardware",
    params(
        ("empresa" = Option<String>, Query, description = "Of this company"),
        ("sede" = Option<String>, Query, description = "At this site"),
        ("tipo" = Option<String>, Query, description = "Of this type"),
        ("limite" = Option<u32>, Query, description = "1 to 200, 50 where none is given"),
        ("cursor" = Option<String>, Query, description = "`siguiente` of the page before"),
    ),
    responses((status = 200, description = "A page", body = Page<DeviceResource>), Problems)
)]
pub(super) async fn list(
    desk: web::Data<Desk>,
    visitor: Visitor,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .list_devices(
            &visitor.caller,
            filter(&query),
            query.text("limite"),
            query.text("cursor"),
        )
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Lee un hardware.
#[utoipa::path(
    get, path = "/api/v1/hardware/{hardware}", tag = "hardware", operation_id = "leerHardware",
    params(
        ("hardware" = String, Path, description = "The device"),
    ),
    responses((status = 200, description = "The device", body = DeviceResource), Problems)
)]
pub(super) async fn show(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .show_device(&visitor.caller, visitor.param("hardware"))
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Cambia un hardware.
#[utoipa::path(
    patch, path = "/api/v1/hardware/{hardware}", tag = "hardware", operation_id = "cambiarHardware",
    request_body = DevicePatch,
    params(
        ("hardware" = String, Path, description = "The device"),
    ),
    responses((status = 200, description = "The device", body = DeviceResource), Problems)
)]
pub(super) async fn patch(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<DevicePatch>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .patch_device(&visitor.caller, visitor.param("hardware"), &body)
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Agrega una clave; dos pueden estar activas, para rotarlas sin interrupción.
#[utoipa::path(
    post, path = "/api/v1/hardware/{hardware}/claves", tag = "hardware", operation_id = "agregarClave",
    request_body = KeyBody,
    params(
        ("hardware" = String, Path, description = "The device"),
    ),
    responses((status = 201, description = "Added; a secret that Atalaya has made is shown this once", body = KeyResource), Problems)
)]
pub(super) async fn add_key(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<KeyBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .add_key(&visitor.caller, visitor.param("hardware"), &body)
        .await;
    respond(StatusCode::CREATED, visitor.language, answer)
}

/// Lista las claves de un hardware.
#[utoipa::path(
    get, path = "/api/v1/hardware/{hardware}/claves", tag = "hardware", operation_id = "listarClaves",
    params(
        ("hardware" = String, Path, description = "The device"),
    ),
    responses((status = 200, description = "All keys, revoked ones too", body = Page<KeyResource>), Problems)
)]
pub(super) async fn list_keys(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .list_keys(&visitor.caller, visitor.param("hardware"))
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Revoca una clave: el próximo mensaje firmado con ella se rechaza.
#[utoipa::path(
    delete, path = "/api/v1/hardware/{hardware}/claves/{kid}", tag = "hardware", operation_id = "revocarClave",
    params(
        ("hardware" = String, Path, description = "The device"),
        ("kid" = String, Path, description = "The key"),
    ),
    responses((status = 200, description = "Revoked", body = KeyResource), Problems)
)]
pub(super) async fn revoke_key(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .revoke_key(
            &visitor.caller,
            visitor.param("hardware"),
            visitor.param("kid"),
        )
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Crea la contraseña con la que un hardware entra al broker; la anterior deja de valer.
#[utoipa::path(
    post, path = "/api/v1/hardware/{hardware}/contrasena_mqtt", tag = "hardware", operation_id = "crearContrasenaMqtt",
    params(
        ("hardware" = String, Path, description = "The device"),
    ),
    responses((status = 201, description = "Made; it is shown this once", body = PasswordResource), Problems)
)]
pub(super) async fn set_mqtt_password(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .set_mqtt_password(&visitor.caller, visitor.param("hardware"))
        .await;
    respond(StatusCode::CREATED, visitor.language, answer)
}

/// Retira la contraseña con la que un hardware entra al broker.
#[utoipa::path(
    delete, path = "/api/v1/hardware/{hardware}/contrasena_mqtt", tag = "hardware", operation_id = "retirarContrasenaMqtt",
    params(
        ("hardware" = String, Path, description = "The device"),
    ),
    responses((status = 204, description = "Gone"), Problems)
)]
pub(super) async fn remove_mqtt_password(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let removed = desk
        .remove_mqtt_password(&visitor.caller, visitor.param("hardware"))
        .await;
    removed.map_err(|failure| ApiError::in_language(failure, visitor.language))?;
    Ok(HttpResponse::NoContent().finish())
}

/// Crea el secreto con el que un hardware de antes de Atalaya obtiene sus tokens; el anterior deja de
/// valer.
#[utoipa::path(
    post, path = "/api/v1/hardware/{hardware}/secreto_heredado", tag = "hardware", operation_id = "crearSecretoHeredado",
    params(
        ("hardware" = String, Path, description = "The device, of `confianza: \"heredada\"`"),
    ),
    responses((status = 201, description = "Made; it is shown this once", body = LegacySecretResource), Problems)
)]
pub(super) async fn set_legacy_secret(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .set_legacy_secret(&visitor.caller, visitor.param("hardware"))
        .await;
    respond(StatusCode::CREATED, visitor.language, answer)
}

/// Retira el secreto de un hardware de antes de Atalaya, y los tokens que obtuvo con él.
#[utoipa::path(
    delete, path = "/api/v1/hardware/{hardware}/secreto_heredado", tag = "hardware", operation_id = "retirarSecretoHeredado",
    params(
        ("hardware" = String, Path, description = "The device"),
    ),
    responses((status = 204, description = "Gone"), Problems)
)]
pub(super) async fn remove_legacy_secret(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let removed = desk
        .remove_legacy_secret(&visitor.caller, visitor.param("hardware"))
        .await;
    respond_done(visitor.language, removed)
}

/// Lista los tipos de hardware.
#[utoipa::path(
    get, path = "/api/v1/tipos_hardware", tag = "hardware", operation_id = "listarTiposDeHardware",
    responses((status = 200, description = "All types", body = Page<DeviceTypeResource>), Problems)
)]
pub(super) async fn list_types(
    desk: web::Data<Desk>,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let answer = desk.list_device_types(&visitor.caller).await;
    respond(StatusCode::OK, visitor.language, answer)
}

/// Crea o cambia un tipo de hardware.
#[utoipa::path(
    put, path = "/api/v1/tipos_hardware/{tipo}", tag = "hardware", operation_id = "definirTipoDeHardware",
    request_body = DeviceTypeBody,
    params(
        ("tipo" = String, Path, description = "The type of device"),
    ),
    responses((status = 200, description = "The type", body = DeviceTypeResource), Problems)
)]
pub(super) async fn put_type(
    desk: web::Data<Desk>,
    visitor: Visitor,
    JsonBody(body): JsonBody<DeviceTypeBody>,
) -> Result<HttpResponse, ApiError> {
    let answer = desk
        .put_device_type(&visitor.caller, visitor.param("tipo"), &body)
        .await;
    respond(StatusCode::OK, visitor.language, answer)
}

fn filter(query: &Query) -> DeviceFilter {
    let wanted = |name| Some(query.text(name).to_owned()).filter(|text| !text.is_empty());
    DeviceFilter {
        company: wanted("empresa"),
        site: wanted("sede"),
        kind: wanted("tipo"),
        slug: None,
    }
}
