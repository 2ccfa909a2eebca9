//! Companies, sites, devices, kinds of alert, rules and quarantine, as REST speaks of them.

use super::numbers::Moment;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A company (`empresa`).
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "Empresa")]
pub struct CompanyResource {
    /// Its name in topics.
    pub empresa: String,
    /// Its name for people.
    pub nombre: String,
    /// Whether anything below it is heard.
    pub activa: bool,
    /// Whether the broker may vouch for devices of this company that cannot sign.
    pub confianza_broker: bool,
    /// When it was made.
    pub creada: Moment,
}

/// A site (`sede`).
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "Sede")]
pub struct SiteResource {
    /// Its company.
    pub empresa: String,
    /// Its name in topics.
    pub sede: String,
    /// Its name for people.
    pub nombre: String,
    /// Where its clocks stand (IANA).
    pub zona_horaria: String,
    /// Whether anything below it is heard.
    pub activa: bool,
    /// When it was made.
    pub creada: Moment,
}

/// A key of a device (`clave`).
#[derive(Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "Clave")]
pub struct KeyResource {
    /// Its name, which a message's header carries.
    pub kid: String,
    /// `EdDSA` or `HS256`.
    pub alg: &'static str,
    /// When it was made.
    pub creada: Moment,
    /// When it was revoked.
    #[schema(required = true)]
    pub revocada: Option<Moment>,
    /// The shared secret (base64url), shown this once where Atalaya has made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secreto: Option<String>,
}

/// A secret may be in it.
impl std::fmt::Debug for KeyResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyResource")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// A device (`hardware`).
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "Hardware")]
pub struct DeviceResource {
    /// Its name in topics.
    pub hardware: String,
    /// Its company.
    pub empresa: String,
    /// Its site.
    pub sede: String,
    /// What it is.
    pub tipo: String,
    /// Its name for people.
    pub nombre: String,
    /// Whether it is heard.
    pub activo: bool,
    /// What proves its messages: `firma`, `broker` for one that cannot sign, or `heredada` for one
    /// from before Atalaya, which shows a secret.
    pub confianza: &'static str,
    /// When it was registered.
    pub creado: Moment,
    /// What it says of itself, unsigned: `en_linea` or `fuera_de_linea`.
    #[schema(required = true)]
    pub estado: Option<&'static str>,
    /// Since when it says so.
    #[schema(required = true)]
    pub estado_desde: Option<Moment>,
    /// When its last message was taken that was proved to be its own.
    #[schema(required = true)]
    pub ultima_senal: Option<Moment>,
    /// Whether it has been silent for too long.
    pub silencioso: bool,
    /// When its password at the broker was made; none, where it has none.
    #[schema(required = true)]
    pub contrasena_mqtt: Option<Moment>,
    /// When the secret was made that it shows for a token; none, where it has none.
    #[schema(required = true)]
    pub secreto_heredado: Option<Moment>,
    /// Its keys, revoked ones too.
    pub claves: Vec<KeyResource>,
}

/// How a device signs in at the broker; its client id is the user too.
#[derive(Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "ContrasenaMqtt")]
pub struct PasswordResource {
    /// The user.
    pub usuario: String,
    /// The password, shown this once.
    pub contrasena: String,
}

/// A secret is in it.
impl std::fmt::Debug for PasswordResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordResource")
            .field("usuario", &self.usuario)
            .finish_non_exhaustive()
    }
}

/// What a device from before Atalaya shows at `POST /api/hardware-auth/authenticate`.
#[derive(Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "SecretoHeredado")]
pub struct LegacySecretResource {
    /// The device.
    pub hardware: String,
    /// The secret, shown this once.
    pub secreto: String,
}

/// A secret is in it.
impl std::fmt::Debug for LegacySecretResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LegacySecretResource")
            .field("hardware", &self.hardware)
            .finish_non_exhaustive()
    }
}

/// A type of device (`tipo`).
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "TipoDeHardware")]
pub struct DeviceTypeResource {
    /// Its code.
    pub tipo: String,
    /// For people.
    pub descripcion: String,
    /// How long a device of this type may say nothing.
    #[schema(required = true)]
    pub silencio_segundos: Option<i64>,
}

/// A kind of alert (`tipo_alarma`).
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "TipoDeAlarma")]
pub struct KindResource {
    /// Its company.
    pub empresa: String,
    /// Its code.
    pub tipo_alarma: String,
    /// Its name for people.
    pub nombre: String,
    /// `critica`, `alta`, `media` or `baja`.
    pub prioridad: &'static str,
    /// What lights show.
    pub color: String,
    /// What it means.
    pub descripcion: String,
    /// What to do.
    pub instrucciones: String,
    /// What to bring.
    pub elementos: Vec<String>,
    /// Seconds until an alert that nobody acknowledges is escalated, and again after as many.
    #[schema(required = true)]
    pub escalar_segundos: Option<i64>,
    /// Whether it is taken.
    pub activo: bool,
}

/// A rule (`regla`) in one of its versions.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "Regla")]
pub struct RuleResource {
    /// Names it for ever.
    pub id: i64,
    /// Its company.
    pub empresa: String,
    /// Its name for people.
    pub nombre: String,
    /// When it applies, in CEL.
    pub condicion: String,
    /// What it does.
    #[schema(value_type = Vec<Object>)]
    pub acciones: Box<RawValue>,
    /// Rules are tried in this order.
    pub orden: i32,
    /// Whether it is tried.
    pub activa: bool,
    /// Counts its changes, from 1.
    pub version: i64,
    /// When this version was made.
    pub modificada: Moment,
}

/// A message in quarantine.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "MensajeEnCuarentena")]
pub struct SuspectResource {
    /// Names it.
    pub id: i64,
    /// When it last came.
    pub recibida: Moment,
    /// `mqtt` or `http`.
    #[schema(required = true)]
    pub canal: Option<&'static str>,
    /// On which topic.
    #[schema(required = true)]
    pub tema: Option<String>,
    /// Which device it claims to be from.
    #[schema(required = true)]
    pub hardware: Option<String>,
    /// What the device was told.
    pub motivo: String,
    /// Why exactly.
    pub detalle: String,
    /// SHA-256 of it in hexadecimal.
    pub huella: String,
    /// How often it came.
    pub veces: i64,
    /// The message, where it is text.
    #[schema(required = true)]
    pub mensaje: Option<String>,
    /// Its bytes.
    pub mensaje_base64: String,
    /// Whether only its beginning was kept.
    pub truncado: bool,
}

/// `POST /empresas`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "CrearEmpresa")]
pub struct CompanyBody {
    /// Its name in topics.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$", example = "acme")]
    pub empresa: String,
    /// Its name for people; the same where there is none.
    pub nombre: Option<String>,
}

/// `PATCH /empresas/{empresa}`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "CambiarEmpresa")]
pub struct CompanyPatch {
    /// Its name for people.
    pub nombre: Option<String>,
    /// Whether anything below it is heard.
    pub activa: Option<bool>,
    /// Whether the broker may vouch for devices that cannot sign. It must let in each device by its
    /// own password, and nobody else speak on its topics.
    pub confianza_broker: Option<bool>,
}

/// `POST /sedes`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "CrearSede")]
pub struct SiteBody {
    /// Its company.
    #[schema(example = "banco")]
    pub empresa: String,
    /// Its name in topics.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$", example = "norte")]
    pub sede: String,
    /// Its name for people; the same where there is none.
    pub nombre: Option<String>,
    /// Where its clocks stand (IANA); UTC where there is none.
    #[schema(example = "America/Guayaquil")]
    pub zona_horaria: Option<String>,
}

/// `PATCH /sedes/{empresa}/{sede}`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "CambiarSede")]
pub struct SitePatch {
    /// Its name for people.
    pub nombre: Option<String>,
    /// Where its clocks stand (IANA).
    pub zona_horaria: Option<String>,
    /// Whether anything below it is heard.
    pub activa: Option<bool>,
}

/// `POST /hardware`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "RegistrarHardware")]
pub struct DeviceBody {
    /// Its name in topics, unique in the installation.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$", example = "boton-1")]
    pub hardware: String,
    /// Its company.
    #[schema(example = "banco")]
    pub empresa: String,
    /// Its site.
    #[schema(example = "principal")]
    pub sede: String,
    /// What it is.
    #[schema(example = "BOTONERA")]
    pub tipo: String,
    /// Its name for people; the same where there is none.
    pub nombre: Option<String>,
    /// `firma` where nothing is said, `broker` where its company allows that, or `heredada`.
    #[schema(example = "firma")]
    pub confianza: Option<String>,
}

/// `PATCH /hardware/{hardware}`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "CambiarHardware")]
pub struct DevicePatch {
    /// Its name for people.
    pub nombre: Option<String>,
    /// What it is.
    pub tipo: Option<String>,
    /// Whether it is heard.
    pub activo: Option<bool>,
    /// What proves its messages: `firma`, `broker` where its company allows that, or
    /// `heredada`. Whatever it is changed to, a secret that it had for the last is over.
    #[schema(example = "firma")]
    pub confianza: Option<String>,
}

/// `POST /hardware/{hardware}/claves`.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "AgregarClave")]
pub struct KeyBody {
    /// `EdDSA` or `HS256`.
    #[schema(example = "EdDSA")]
    pub alg: String,
    /// The 32 bytes of an Ed25519 public key (base64url).
    pub clave_publica: Option<String>,
    /// The 32 bytes of a shared secret (base64url); Atalaya makes one where there is none.
    pub secreto: Option<String>,
}

/// A secret may be in it.
impl std::fmt::Debug for KeyBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyBody")
            .field("alg", &self.alg)
            .finish_non_exhaustive()
    }
}

/// `PUT /tipos_hardware/{tipo}`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "DefinirTipoDeHardware")]
pub struct DeviceTypeBody {
    /// For people.
    pub descripcion: Option<String>,
    /// How long a device of this type may say nothing; for ever where there is none.
    #[schema(minimum = 1, maximum = 31_536_000)]
    pub silencio_segundos: Option<i64>,
}

/// `PUT /tipos_alarma/{empresa}/{tipo_alarma}`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "DefinirTipoDeAlarma")]
pub struct KindBody {
    /// Its name for people.
    pub nombre: String,
    /// `critica`, `alta`, `media` or `baja`.
    pub prioridad: String,
    /// What lights show: a word or `#rrggbb`.
    pub color: String,
    /// What it means.
    #[serde(default)]
    pub descripcion: String,
    /// What to do.
    #[serde(default)]
    pub instrucciones: String,
    /// What to bring.
    #[serde(default)]
    pub elementos: Vec<String>,
    /// Seconds until an alert that nobody acknowledges is escalated; never where there are none.
    #[schema(minimum = 1, maximum = 31_536_000)]
    pub escalar_segundos: Option<i64>,
    /// Whether it is taken.
    #[serde(default = "yes")]
    pub activo: bool,
}

/// `POST /reglas`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "CrearRegla")]
pub struct RuleBody {
    /// Its company.
    #[schema(example = "banco")]
    pub empresa: String,
    /// Its name for people.
    pub nombre: String,
    /// When it applies, in CEL.
    #[schema(example = "alerta.prioridad == 'critica' && hora >= 20")]
    pub condicion: String,
    /// What it does.
    #[schema(value_type = Vec<Object>)]
    pub acciones: Box<RawValue>,
    /// Rules are tried in this order; 50 where there is none.
    pub orden: Option<i32>,
    /// Whether it is tried.
    #[serde(default = "yes")]
    pub activa: bool,
}

/// `PATCH /reglas/{id}`: a new version.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "CambiarRegla")]
pub struct RulePatch {
    /// Its name for people.
    pub nombre: Option<String>,
    /// When it applies, in CEL.
    pub condicion: Option<String>,
    /// What it does.
    #[schema(value_type = Option<Vec<Object>>)]
    pub acciones: Option<Box<RawValue>>,
    /// Its place in the order.
    pub orden: Option<i32>,
    /// Whether it is tried.
    pub activa: Option<bool>,
    /// The version that this change was made from; the newest where there is none.
    pub version: Option<i64>,
}

/// `POST /reglas/prueba`: one rule or all, on one alert or on those of some days.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "ProbarReglas")]
pub struct TrialBody {
    /// A rule that is not stored; all of the alert's company where neither this nor `regla_id`.
    pub regla: Option<RuleBody>,
    /// A stored rule.
    pub regla_id: Option<i64>,
    /// A stored alert.
    pub alerta_id: Option<uuid::Uuid>,
    /// All alerts of so many days.
    #[schema(minimum = 1, maximum = 90)]
    pub dias: Option<i64>,
}

/// `POST /alertas` from an operator who acts for a device.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "CrearAlerta")]
pub struct AlertBody {
    /// The device.
    #[schema(example = "boton-1")]
    pub hardware: String,
    /// The kind.
    #[schema(example = "ROJO")]
    pub tipo_alarma: String,
    /// In words.
    pub descripcion: Option<String>,
    /// Where: an object.
    #[schema(value_type = Option<Object>)]
    pub ubicacion: Option<Box<RawValue>>,
    /// Anything else: an object.
    #[schema(value_type = Option<Object>)]
    pub datos: Option<Box<RawValue>>,
}

/// `POST /alertas/{id}/reconocer`, `/resolver` and `/descartar`.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "PasoDeAlertaPedido")]
pub struct StepBody {
    /// Why; a false alarm needs a reason.
    pub motivo: Option<String>,
}

const fn yes() -> bool {
    true
}
