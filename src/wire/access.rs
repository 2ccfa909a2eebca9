//! People, sessions, tokens and the audit, as REST speaks of them.

use super::numbers::Moment;
use crate::domain::{Entry, Fact, Grant, Scope, Subject};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;

/// A text that must not be seen. `Debug` keeps it to itself.
#[derive(Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[schema(title = "Secreto", format = Password)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(…)")
    }
}

/// `POST /sesiones`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "IniciarSesion")]
pub struct SignInBody {
    /// The name to sign in with.
    #[schema(example = "cajera-ana")]
    pub usuario: String,
    /// The password.
    #[schema(value_type = String, format = Password)]
    pub contrasena: Hidden,
    /// The code of the authenticator app, where there is one.
    #[schema(value_type = Option<String>)]
    pub codigo: Option<Hidden>,
    /// For web pages: the token goes into a cookie that scripts cannot read.
    #[serde(default)]
    pub cookie: bool,
}

/// A role and where it holds (`roles`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "Rol")]
pub struct GrantBody {
    /// `admin`, `operador`, `cajero`, `cliente` or `auditor`.
    #[schema(example = "cajero")]
    pub rol: String,
    /// The company; needed for `cajero`, possible for `operador` and `auditor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empresa: Option<String>,
    /// The site, for a `cajero` who is tied to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sede: Option<String>,
    /// The account, for a `cliente`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cedula: Option<String>,
}

impl From<&Grant> for GrantBody {
    fn from(grant: &Grant) -> Self {
        let (empresa, sede, cedula) = match &grant.scope {
            Scope::Everything => (None, None, None),
            Scope::Company(company) => (Some(company.slug.to_string()), None, None),
            Scope::Site(company, site) => {
                (Some(company.slug.to_string()), Some(site.to_string()), None)
            }
            Scope::Account(account) => (None, None, Some(account.to_string())),
        };
        Self {
            rol: grant.role.name().to_owned(),
            empresa,
            sede,
            cedula,
        }
    }
}

/// Who is in: the answer to signing in and to `GET /sesiones/actual`.
#[derive(Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "SesionActual")]
pub struct IdentityResource {
    /// The token, when it is made and not put into a cookie: `Authorization: Bearer …`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What a page that signed in with a cookie sends as `X-CSRF-Token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csrf: Option<String>,
    /// The session; `null` for a program's token.
    pub sesion: Option<i64>,
    /// The name.
    pub usuario: String,
    /// What they may do.
    pub roles: Vec<GrantBody>,
    /// Whether a password must be chosen before anything else.
    pub cambiar_contrasena: bool,
    /// Whether signing in takes a code.
    pub segundo_factor: bool,
    /// When it ends whatever happens; `null` where it does not.
    pub vence: Option<Moment>,
}

/// `PUT /sesiones/actual/contrasena`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "CambiarContrasena")]
pub struct PasswordBody {
    /// The present one.
    #[schema(value_type = String, format = Password)]
    pub actual: Hidden,
    /// The new one: 12 to 256 characters.
    #[schema(value_type = String, format = Password)]
    pub nueva: Hidden,
}

/// `PUT /sesiones/actual/segundo_factor`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "ProbarSegundoFactor")]
pub struct CodeBody {
    /// The code that the app shows.
    #[schema(value_type = String, example = "492039", pattern = "^[0-9]{6}$")]
    pub codigo: Hidden,
}

/// `POST` and `DELETE /sesiones/actual/segundo_factor`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "ConContrasena")]
pub struct OwnPasswordBody {
    /// The password.
    #[schema(value_type = String, format = Password)]
    pub contrasena: Hidden,
}

/// The beginning of a second factor.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(title = "SegundoFactor")]
pub struct SecondFactorResource {
    /// The secret in base32, to be typed into an app.
    pub secreto: String,
    /// The same as an address for a QR code.
    pub uri: String,
}

/// A ticket for one WebSocket connection: `/ws?boleto=…`.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(title = "Boleto")]
pub struct TicketResource {
    /// The ticket.
    pub boleto: String,
    /// For how many seconds it is good.
    pub segundos: i64,
}

/// A session.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "Sesion")]
pub struct SessionResource {
    /// Names it.
    pub sesion: i64,
    /// Whose.
    pub usuario: String,
    /// Whether it is the one that asks.
    pub actual: bool,
    /// When it began.
    pub inicio: Moment,
    /// When it was last used.
    pub uso: Moment,
    /// When it ends whatever happens.
    pub vence: Moment,
    /// From where it was opened.
    pub direccion: Option<String>,
    /// What the client calls itself.
    pub cliente: Option<String>,
}

/// `POST /usuarios`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "CrearUsuario")]
pub struct PersonBody {
    /// The name to sign in with: `[A-Za-z0-9_-]{1,64}`.
    #[schema(example = "cajera-ana", pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub usuario: String,
    /// The name for people.
    pub nombre: Option<String>,
    /// What they may do; nothing where none are given.
    #[serde(default)]
    pub roles: Vec<GrantBody>,
    /// A first password; made, and answered once, where there is none. Either is to be changed when
    /// it is first used.
    #[schema(value_type = Option<String>, format = Password)]
    pub contrasena: Option<Hidden>,
}

/// `PATCH /usuarios/{usuario}`; what is absent stays.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "CambiarUsuario")]
pub struct PersonPatchBody {
    /// The name for people.
    pub nombre: Option<String>,
    /// Whether they are let in; `false` ends their sessions.
    pub activo: Option<bool>,
    /// All that they may do.
    pub roles: Option<Vec<GrantBody>>,
    /// Whether to set a new password, which is answered once and ends their sessions.
    #[serde(default)]
    pub nueva_contrasena: bool,
    /// `false` takes their second factor away.
    pub segundo_factor: Option<bool>,
}

/// A person.
#[derive(Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "Usuario")]
pub struct PersonResource {
    /// The name to sign in with.
    pub usuario: String,
    /// The name for people.
    pub nombre: String,
    /// Whether they are let in.
    pub activo: bool,
    /// What they may do.
    pub roles: Vec<GrantBody>,
    /// Whether a password must be chosen when they next sign in.
    pub cambiar_contrasena: bool,
    /// Whether signing in takes a code.
    pub segundo_factor: bool,
    /// Since when they are there.
    pub creado: Moment,
    /// The password that was made, told this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contrasena: Option<String>,
}

/// `POST /tokens`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(title = "CrearToken")]
pub struct TokenBody {
    /// What it is for: `[A-Za-z0-9_-]{1,64}`, used once for ever.
    #[schema(example = "importador", pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub nombre: String,
    /// What it may do.
    pub roles: Vec<GrantBody>,
    /// For how many days, 1 to 366.
    #[schema(minimum = 1, maximum = 366)]
    pub dias: i64,
}

/// A token of a program.
#[derive(Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "Token")]
pub struct TokenResource {
    /// Names it.
    pub id: i64,
    /// What it is for.
    pub nombre: String,
    /// What it may do.
    pub roles: Vec<GrantBody>,
    /// When it was made.
    pub creado: Moment,
    /// By whom.
    pub creado_por: String,
    /// When it ends.
    pub vence: Moment,
    /// When it was revoked.
    pub revocado: Option<Moment>,
    /// The token itself, told this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// One line of the audit: something that happened to somebody's access, or a changed setting.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "Auditoria")]
pub struct AuditResource {
    /// Its place in the journal.
    pub seq: i64,
    /// When.
    pub timestamp: Moment,
    /// What: `inicio_de_sesion`, `acceso_denegado`, `configuracion`, …
    pub suceso: &'static str,
    /// Who did it.
    pub por: String,
    /// Through which edge.
    pub canal: &'static str,
    /// Whom it happened to, or, of a setting, what kind of thing changed.
    pub sobre: Option<String>,
    /// As whom somebody called themselves.
    pub quien: Option<String>,
    /// From where.
    pub direccion: Option<String>,
    /// What exactly.
    pub detalle: Option<String>,
    /// What a setting is now.
    #[schema(value_type = Option<Object>)]
    pub cambio: Option<Box<RawValue>>,
    /// How often: failures are counted by the minute.
    pub veces: i64,
}

impl AuditResource {
    /// The line of an entry about access or settings; `about` is the name of whom it happened to.
    #[must_use]
    pub fn new(entry: &Entry, about: Option<String>) -> Option<Self> {
        let mut line = Self {
            seq: entry.position.seq,
            timestamp: Moment(entry.at),
            suceso: "configuracion",
            por: entry.principal.name().to_owned(),
            canal: entry.channel.name(),
            sobre: about,
            quien: None,
            direccion: None,
            detalle: None,
            cambio: None,
            veces: 1,
        };
        match &entry.fact {
            Fact::Access(access) => {
                line.suceso = access.event.name();
                line.veces = access.count;
                line.quien.clone_from(&access.texts.who);
                line.direccion.clone_from(&access.texts.address);
                line.detalle.clone_from(&access.texts.detail);
            }
            Fact::Setting { subject, change } => {
                line.sobre = Some(subject_name(*subject).to_owned());
                line.cambio = RawValue::from_string(change.clone()).ok();
            }
            _ => return None,
        }
        Some(line)
    }
}

const fn subject_name(subject: Subject) -> &'static str {
    match subject {
        Subject::Company => "empresa",
        Subject::Site => "sede",
        Subject::DeviceType => "tipo_hardware",
        Subject::Device => "hardware",
        Subject::DeviceKey => "clave",
        Subject::AlertKind => "tipo_alarma",
        Subject::Rule => "regla",
        Subject::Quarantine => "cuarentena",
        Subject::Refusals => "rechazos",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::registry::{KeyBody, KeyResource};
    use serde::de::DeserializeOwned;

    fn shown<T: DeserializeOwned + fmt::Debug>(json: &str) -> String {
        format!("{:?}", serde_json::from_str::<T>(json).unwrap())
    }

    #[test]
    fn no_secret_of_a_body_is_in_its_debug() {
        for text in [
            shown::<SignInBody>(r#"{"usuario":"ana","contrasena":"canary","codigo":"canary"}"#),
            shown::<PasswordBody>(r#"{"actual":"canary","nueva":"canary"}"#),
            shown::<CodeBody>(r#"{"codigo":"canary"}"#),
            shown::<OwnPasswordBody>(r#"{"contrasena":"canary"}"#),
            shown::<PersonBody>(r#"{"usuario":"ana","contrasena":"canary"}"#),
            shown::<KeyBody>(r#"{"alg":"HS256","secreto":"canary"}"#),
            format!(
                "{:?}",
                KeyResource {
                    kid: "k".to_owned(),
                    alg: "HS256",
                    creada: Moment(0),
                    revocada: None,
                    secreto: Some("canary".to_owned()),
                }
            ),
        ] {
            assert!(!text.contains("canary"), "{text}");
        }
    }
}
