//! What goes wrong, as clients see it: RFC 9457 problem documents with a stable `codigo`.

use super::numbers::Decimal;
use crate::domain::account::AccountIdError;
use crate::domain::{AmountError, Money, TextError};
use serde::Serialize;
use std::borrow::Cow;

/// The language of texts that people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// The wire's own.
    #[default]
    Spanish,
    /// The other one.
    English,
}

impl Language {
    /// The preferred one of an `Accept-Language` header (RFC 9110 §12.5.4): the highest weight
    /// among `es` and `en`, the first where weights are equal, Spanish where neither is named.
    #[must_use]
    pub fn from_header(header: &str) -> Self {
        let weight = |language: &str| {
            header
                .split(',')
                .enumerate()
                .filter_map(|(order, item)| {
                    let (tag, parameters) = item.split_once(';').unwrap_or((item, ""));
                    let primary = tag.trim().split('-').next()?.to_ascii_lowercase();
                    (primary == language).then(|| (thousandths(parameters), order))
                })
                .max_by_key(|(weight, order)| (*weight, std::cmp::Reverse(*order)))
        };
        match (weight("es"), weight("en")) {
            (_, None | Some((0, _))) => Self::Spanish,
            (None, Some(_)) => Self::English,
            (Some((spanish, first)), Some((english, second))) => {
                if english > spanish || (english == spanish && second < first) {
                    Self::English
                } else {
                    Self::Spanish
                }
            }
        }
    }
}

/// A weight `q=0.8` as thousandths; 1000 where there is none.
fn thousandths(parameters: &str) -> u16 {
    let Some(q) = parameters.trim().strip_prefix("q=") else {
        return 1_000;
    };
    let (whole, decimals) = q.trim().split_once('.').unwrap_or((q.trim(), ""));
    if whole != "0" {
        return 1_000;
    }
    format!("{decimals:0<3}")
        .get(..3)
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

macro_rules! problem_kinds {
    ($($(#[$doc:meta])* $variant:ident = $status:literal $code:literal, $spanish:literal, $english:literal;)+) => {
        /// Every way in which a request can fail, with its HTTP status and its code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemKind { $($(#[$doc])* $variant,)+ }

        impl ProblemKind {
            /// Every kind, for documents and tests.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// The stable code that programs read (`codigo`).
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The sentence that people read.
            #[must_use]
            pub const fn title(self, language: Language) -> &'static str {
                match (self, language) {
                    $((Self::$variant, Language::Spanish) => $spanish,
                      (Self::$variant, Language::English) => $english,)+
                }
            }
        }
    };
}

problem_kinds! {
    /// The body is not JSON of the right form.
    MalformedBody = 400 "cuerpo_invalido", "El cuerpo no es el JSON esperado", "The body is not the JSON that is expected";
    /// A parameter of the address is wrong.
    InvalidParameter = 400 "parametro_invalido", "Un parámetro no es válido", "A parameter is not valid";
    /// A money command without an idempotency key.
    MissingKey = 400 "falta_clave", "Falta la cabecera Idempotency-Key (en WebSocket, clave)", "The Idempotency-Key header is missing (clave, on WebSocket)";
    /// The idempotency key is not one.
    InvalidKey = 400 "clave_invalida", "La clave de idempotencia no es válida", "The idempotency key is not valid";
    /// The frame is not a request.
    MalformedFrame = 400 "mensaje_invalido", "El mensaje no es una solicitud válida", "The message is not a valid request";
    /// The action does not exist.
    UnknownAction = 400 "accion_desconocida", "La acción no existe", "The action does not exist";
    /// An MQTT filter is wrong.
    InvalidFilter = 422 "tema_invalido", "El tema no es un filtro MQTT válido", "The topic is not a valid MQTT filter";
    /// The principal may not.
    Forbidden = 403 "no_permitido", "No está permitido", "It is not allowed";
    /// Nobody has said who asks.
    Unauthenticated = 401 "no_autenticado", "Hace falta iniciar sesión o un token", "Sign in, or show a token";
    /// The token is none of ours any more.
    InvalidToken = 401 "token_invalido", "El token no existe, venció o fue revocado", "The token does not exist, has expired or was revoked";
    /// Name or password are wrong.
    WrongCredentials = 401 "credenciales_invalidas", "El usuario o la contraseña no son correctos", "The name or the password is wrong";
    /// The second factor is missing.
    CodeNeeded = 401 "falta_codigo", "Falta el código del segundo factor", "The code of the second factor is missing";
    /// The second factor is wrong.
    WrongCode = 401 "codigo_incorrecto", "El código no es correcto o ya se usó", "The code is wrong or was used";
    /// A password must be chosen first.
    PasswordMustChange = 403 "debe_cambiar_contrasena", "Antes debe elegir su contraseña: PUT /api/v1/sesiones/actual/contrasena", "Choose a password first: PUT /api/v1/sesiones/actual/contrasena";
    /// A page sent the cookie without its token.
    MissingCsrf = 403 "falta_csrf", "Falta la cabecera X-CSRF-Token de la sesión", "The session's X-CSRF-Token header is missing";
    /// Too many attempts to sign in.
    TooManyAttempts = 429 "demasiados_intentos", "Demasiados intentos; espere", "Too many attempts; wait";
    /// Too many requests from one address or of one principal.
    TooManyRequests = 429 "demasiadas_peticiones", "Demasiadas peticiones; espere", "Too many requests; wait";
    /// No such person.
    UnknownPerson = 404 "usuario_no_existe", "El usuario no existe", "The user does not exist";
    /// The person is there.
    PersonExists = 409 "usuario_existe", "El usuario ya existe", "The user exists already";
    /// The password is too easy to guess.
    WeakPassword = 422 "contrasena_debil", "La contraseña es demasiado fácil de adivinar", "The password is too easy to guess";
    /// The role cannot be given so.
    InvalidGrant = 422 "rol_invalido", "El rol no se puede otorgar así", "The role cannot be given that way";
    /// Nobody would be left who can let people in.
    LastAdmin = 409 "ultimo_admin", "No quedaría ningún admin activo", "No active admin would be left";
    /// No such session.
    UnknownSession = 404 "sesion_no_existe", "La sesión no existe", "The session does not exist";
    /// No such token.
    UnknownToken = 404 "token_no_existe", "El token no existe", "The token does not exist";
    /// A token has or had that name.
    TokenExists = 409 "token_existe", "Ya hay o hubo un token con ese nombre", "There is or was a token of that name";
    /// Host or Origin are foreign.
    ForeignOrigin = 403 "origen_no_permitido", "El Host o el Origin de la solicitud no está permitido; véase ALLOWED_ORIGINS", "The request's Host or Origin is not allowed; see ALLOWED_ORIGINS";
    /// No such account.
    UnknownAccount = 404 "cuenta_no_existe", "La cuenta no existe", "The account does not exist";
    /// A transfer to no account.
    UnknownDestination = 404 "cuenta_destino_no_existe", "La cuenta de destino no existe", "The destination account does not exist";
    /// No such address.
    NotFound = 404 "no_encontrado", "Esa dirección no existe", "There is nothing at this address";
    /// The address does not take that method.
    MethodNotAllowed = 405 "metodo_no_permitido", "Esa dirección no admite este método", "This address does not take that method";
    /// The body took too long.
    Timeout = 408 "tiempo_agotado", "La solicitud tardó demasiado en llegar", "The request took too long to arrive";
    /// The account to open is there.
    AccountExists = 409 "cuenta_existe", "La cuenta ya existe", "The account exists already";
    /// The balance does not cover the amount.
    InsufficientBalance = 409 "saldo_insuficiente", "El saldo no alcanza", "The balance does not cover it";
    /// The balance would no longer fit.
    BalanceLimit = 409 "saldo_excedido", "El saldo excedería el máximo representable", "The balance would exceed what can be represented";
    /// The body is too large.
    TooLarge = 413 "cuerpo_demasiado_grande", "El cuerpo supera 64 KiB", "The body is larger than 64 KiB";
    /// The body is not declared as JSON.
    NotJson = 415 "tipo_no_admitido", "El cuerpo debe ser application/json", "The body must be application/json";
    /// The cédula is not one.
    InvalidAccountId = 422 "cedula_invalida", "La cédula no es válida", "The cédula is not valid";
    /// The amount is not one.
    InvalidAmount = 422 "monto_invalido", "El monto no es válido", "The amount is not valid";
    /// The name is not one.
    InvalidName = 422 "nombre_invalido", "El nombre no es válido", "The name is not valid";
    /// The site is not one.
    InvalidSite = 422 "sede_invalida", "La sede no es válida", "The site is not valid";
    /// The site is not registered.
    UnknownSite = 422 "sede_no_existe", "La sede no existe", "The site does not exist";
    /// The value date is not one.
    InvalidDate = 422 "fecha_invalida", "La fecha valor no es una fecha AAAA-MM-DD entre 1900 y 2200", "The value date is not a date YYYY-MM-DD between 1900 and 2200";
    /// Origin and destination are one account.
    SameAccount = 422 "misma_cuenta", "El origen y el destino son la misma cuenta", "Origin and destination are the same account";
    /// The key was used for another command.
    KeyReused = 422 "clave_reutilizada", "La clave ya se usó con otra operación", "The key was used with another command";
    /// A value of a field or of a name in the address is wrong.
    InvalidValue = 422 "valor_invalido", "Un valor no es válido", "A value is not valid";
    /// No such company.
    UnknownCompany = 404 "empresa_no_existe", "La empresa no existe", "The company does not exist";
    /// The company is there.
    CompanyExists = 409 "empresa_existe", "La empresa ya existe", "The company exists already";
    /// No such site of the company.
    SiteNotFound = 404 "sede_no_encontrada", "La empresa no tiene esa sede", "The company has no such site";
    /// The site is there.
    SiteExists = 409 "sede_existe", "La sede ya existe", "The site exists already";
    /// No such device.
    UnknownDevice = 404 "hardware_no_existe", "El hardware no existe", "The device does not exist";
    /// The device is there.
    DeviceExists = 409 "hardware_existe", "El hardware ya existe", "The device exists already";
    /// No such type of device.
    UnknownDeviceType = 422 "tipo_hardware_no_existe", "El tipo de hardware no existe", "The type of device does not exist";
    /// No such active key of the device.
    UnknownDeviceKey = 404 "clave_no_existe", "El hardware no tiene esa clave activa", "The device has no such active key";
    /// The company does not let its broker vouch for devices.
    TrustNotAllowed = 409 "confianza_no_permitida", "La empresa no permite que el broker responda por sus dispositivos; cámbielo con confianza_broker", "The company does not let the broker vouch for its devices; change that with confianza_broker";
    /// The device does not show a secret.
    NotLegacy = 409 "no_es_heredado", "El hardware no usa un secreto; dele primero la confianza heredada", "The device shows no secret; give it the trust heredada first";
    /// Two keys are active.
    TooManyKeys = 409 "demasiadas_claves", "El hardware ya tiene dos claves activas; revoque una", "The device has two active keys already; revoke one";
    /// The key is not one.
    InvalidDeviceKey = 422 "clave_de_hardware_invalida", "La clave del hardware no es válida", "The device's key is not valid";
    /// No such alert.
    UnknownAlert = 404 "alerta_no_existe", "La alerta no existe", "The alert does not exist";
    /// The alert is where it does not take that step.
    WrongStep = 409 "paso_no_permitido", "La alerta no admite ese paso en su estado", "The alert does not take that step in its state";
    /// The alert was rejected.
    AlertRejected = 422 "alerta_rechazada", "La alerta fue rechazada", "The alert was rejected";
    /// The device sends too much.
    RateLimited = 429 "limite_excedido", "El hardware envía demasiados mensajes; reenvíe el mismo más tarde", "The device sends too many messages; send the same one again later";
    /// No such rule.
    UnknownRule = 404 "regla_no_existe", "La regla no existe", "The rule does not exist";
    /// The rule was changed meanwhile.
    RuleChanged = 409 "regla_cambiada", "La regla cambió entretanto; léala de nuevo", "The rule was changed meanwhile; read it again";
    /// The rule does not compile.
    InvalidRule = 422 "regla_invalida", "La regla no es válida", "The rule is not valid";
    /// No such message in quarantine.
    UnknownSuspect = 404 "mensaje_no_existe", "No hay tal mensaje en cuarentena", "There is no such message in quarantine";
    /// Only the beginning of the message was kept.
    TruncatedSuspect = 409 "mensaje_truncado", "Del mensaje solo se guardó el comienzo", "Only the beginning of the message was kept";
    /// A defect of ours.
    Internal = 500 "error_interno", "Error interno", "Internal error";
    /// Too much work at once.
    Overloaded = 503 "sobrecarga", "El servicio está saturado; reintente con la misma clave", "The service is overloaded; try again with the same key";
    /// The database does not take writes or reads.
    StorageUnavailable = 503 "base_no_disponible", "La base de datos no está disponible; reintente con la misma clave", "The database is unavailable; try again with the same key";
    /// Shutting down.
    ShuttingDown = 503 "cerrando", "El servicio se está cerrando; reintente con la misma clave", "The service is shutting down; try again with the same key";
}

impl ProblemKind {
    /// Whether the same request may succeed a moment later.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self.status(), 429 | 503)
    }
}

/// Why exactly something is wrong, in both languages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    spanish: Cow<'static, str>,
    english: Cow<'static, str>,
}

impl Reason {
    /// The same for everybody: what a parser says, which is English, or the name of a thing.
    #[must_use]
    pub fn technical(text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        Self {
            spanish: text.clone(),
            english: text,
        }
    }

    /// The same reason about the field called `name`.
    #[must_use]
    pub fn about(self, name: &str) -> Self {
        Self {
            spanish: format!("{name}: {}", self.spanish).into(),
            english: format!("{name}: {}", self.english).into(),
        }
    }

    fn in_language(&self, language: Language) -> &str {
        match language {
            Language::Spanish => &self.spanish,
            Language::English => &self.english,
        }
    }
}

/// Spanish, then English.
impl From<(&'static str, &'static str)> for Reason {
    fn from((spanish, english): (&'static str, &'static str)) -> Self {
        Self {
            spanish: spanish.into(),
            english: english.into(),
        }
    }
}

impl From<AmountError> for Reason {
    fn from(error: AmountError) -> Self {
        match error {
            AmountError::Malformed => (
                "se espera un número decimal como 150 o 150.50",
                "expected a decimal number like 150 or 150.50",
            ),
            AmountError::TooPrecise => ("más de dos decimales", "more than two decimals"),
            AmountError::NotPositive => ("debe ser mayor que cero", "it must be above zero"),
            AmountError::TooLarge => (
                "más de 15 cifras enteras",
                "more than 15 digits before the point",
            ),
        }
        .into()
    }
}

impl From<AccountIdError> for Reason {
    fn from(error: AccountIdError) -> Self {
        match error {
            AccountIdError::Form => ("se esperan de 1 a 20 dígitos", "expected 1 to 20 digits"),
            AccountIdError::CheckDigit => (
                "su dígito verificador no es correcto",
                "its check digit is wrong",
            ),
        }
        .into()
    }
}

impl From<TextError> for Reason {
    fn from(error: TextError) -> Self {
        match error {
            TextError::Empty => ("no hay texto", "there is no text").into(),
            TextError::BadCharacter => (
                "tiene un carácter no permitido",
                "it has a character that is not allowed",
            )
                .into(),
            TextError::TooLong(most) => Self {
                spanish: format!("tiene más de {most} caracteres").into(),
                english: format!("it is longer than {most} characters").into(),
            },
        }
    }
}

/// One problem: what kind, why exactly, and the balance where it explains a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind.
    pub kind: ProblemKind,
    /// Why exactly, for the person who mends the request.
    pub reason: Option<Reason>,
    /// The balance that did not suffice.
    pub balance: Option<Money>,
    /// What the message was that was rejected.
    pub rejection: Option<Box<Rejection>>,
    /// Where in an expression, in lines and columns from 1.
    pub position: Option<Box<(usize, usize)>>,
    /// Seconds after which to try again, where that is known.
    pub retry_after: Option<u32>,
}

/// A message that was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Why, as the device is told.
    pub reason: &'static str,
    /// Its number, where it could be read.
    pub seq: Option<u64>,
    /// SHA-256 of it in hexadecimal; `None` where an operator raised the alert.
    pub digest: Option<String>,
}

impl Problem {
    /// A problem of `kind`.
    #[must_use]
    pub const fn of(kind: ProblemKind) -> Self {
        Self {
            kind,
            reason: None,
            balance: None,
            rejection: None,
            position: None,
            retry_after: None,
        }
    }

    /// The same problem, which is over in so many seconds.
    #[must_use]
    pub fn after_seconds(self, seconds: u64) -> Self {
        Self {
            retry_after: Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
            ..self
        }
    }

    /// The same problem, because of `reason`.
    #[must_use]
    pub fn because(mut self, reason: impl Into<Reason>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// The same problem, explained by a balance.
    #[must_use]
    pub const fn with_balance(mut self, balance: Money) -> Self {
        self.balance = Some(balance);
        self
    }

    /// The same problem, about a message.
    #[must_use]
    pub fn about_message(mut self, rejection: Rejection) -> Self {
        self.rejection = Some(Box::new(rejection));
        self
    }

    /// The same problem, at a place in an expression.
    #[must_use]
    pub fn at(mut self, position: Option<(usize, usize)>) -> Self {
        self.position = position.map(Box::new);
        self
    }

    /// The detail for people in `language`.
    #[must_use]
    pub fn detail(&self, language: Language) -> String {
        let title = self.kind.title(language);
        match &self.reason {
            Some(reason) => format!("{title}: {}", reason.in_language(language)),
            None => title.to_owned(),
        }
    }

    /// The problem document in `language`.
    #[must_use]
    pub fn document(&self, language: Language) -> ProblemDocument {
        ProblemDocument {
            kind: "about:blank",
            title: self.kind.title(language),
            status: self.kind.status(),
            detail: self.detail(language),
            codigo: self.kind.code(),
            saldo: self.balance.map(Decimal),
            motivo: self.rejection.as_ref().map(|rejection| rejection.reason),
            seq: self.rejection.as_ref().and_then(|rejection| rejection.seq),
            huella: self.rejection.as_ref().and_then(|r| r.digest.clone()),
            linea: self.position.as_deref().map(|(line, _)| *line),
            columna: self.position.as_deref().map(|(_, column)| *column),
        }
    }
}

impl From<ProblemKind> for Problem {
    fn from(kind: ProblemKind) -> Self {
        Self::of(kind)
    }
}

/// An RFC 9457 problem document, `application/problem+json`.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(title = "Problema")]
pub struct ProblemDocument {
    /// `about:blank`: the code says what it is.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The kind of problem, for people.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// This problem, for people.
    pub detail: String,
    /// The kind of problem, for programs.
    pub codigo: &'static str,
    /// The balance that did not suffice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saldo: Option<Decimal>,
    /// Why a message was rejected, as its device is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub motivo: Option<&'static str>,
    /// The number of a message that was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// SHA-256 in hexadecimal of a message that was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub huella: Option<String>,
    /// The line of a mistake in an expression, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linea: Option<usize>,
    /// The column of a mistake in an expression, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columna: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_preferred_one() {
        for (header, language) in [
            ("", Language::Spanish),
            ("en", Language::English),
            ("en-GB,en;q=0.9,es;q=0.8", Language::English),
            ("es-EC,en", Language::Spanish),
            ("en;q=0.2, es;q=0.9", Language::Spanish),
            ("es;q=0.2, en;q=0.25", Language::English),
            ("fr, de", Language::Spanish),
            ("en;q=0", Language::Spanish),
        ] {
            assert_eq!(Language::from_header(header), language, "{header}");
        }
    }

    #[test]
    fn a_reason_is_in_the_language_of_its_title() {
        let problem = Problem::of(ProblemKind::InvalidAmount).because(AmountError::TooPrecise);
        assert_eq!(
            problem.detail(Language::Spanish),
            "El monto no es válido: más de dos decimales"
        );
        assert_eq!(
            problem.detail(Language::English),
            "The amount is not valid: more than two decimals"
        );
    }

    #[test]
    fn codes_are_unique() {
        let codes: std::collections::HashSet<_> =
            ProblemKind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(codes.len(), ProblemKind::ALL.len());
    }
}
