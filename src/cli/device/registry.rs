//! The registry over REST: companies, sites, devices and their keys.

use super::credentials::Password;
use super::jws::{Key, thirty_two};
use crate::cli::api::{Answer, Api, BaseUrl, Call, Failure};
use crate::cli::text::Shown;
use crate::config::ConfigError;
use crate::domain::token::Token;
use crate::domain::{Algorithm, DeviceAddress, Slug};
use crate::wire::events::json;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How long a server that is busy is waited for, and by a scenario one that is starting.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is asked meanwhile.
const PAUSE: Duration = Duration::from_millis(500);

/// Connections at once: a scenario enrols one device after the other.
const CONNECTIONS: usize = 4;

/// Why the registry does not do what it was asked; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum RegistryError {
    /// Nobody answers.
    #[error("{url} no responde ({reason}); ¿está Atalaya en marcha? Indique otra con --url")]
    Unreachable {
        /// The address.
        url: BaseUrl,
        /// Why.
        reason: String,
    },
    /// It was refused.
    #[error("el servidor rechaza {what}: {refusal}")]
    Refused {
        /// What was asked.
        what: String,
        /// What it said.
        refusal: Box<Refusal>,
    },
    /// The answer makes no sense.
    #[error("respuesta inesperada a {what} (HTTP {status}); ¿es esta la dirección de Atalaya?")]
    Strange {
        /// What was asked.
        what: String,
        /// What came.
        status: u16,
    },
    /// The name is taken by a device elsewhere.
    #[error(
        "{device} ya está registrado en {elsewhere}; elija otro nombre, o indique esa empresa y sede"
    )]
    Elsewhere {
        /// The device.
        device: Slug,
        /// Where it is.
        elsewhere: String,
    },
    /// Two keys are active already.
    #[error(
        "{device} tiene ya dos claves activas ({kids}); revoque la que sobre con \
         curl -X DELETE {url}/api/v1/hardware/{device}/claves/KID"
    )]
    TooManyKeys {
        /// The device.
        device: Slug,
        /// Their names.
        kids: String,
        /// The address.
        url: BaseUrl,
    },
    /// The system has no random bytes to give.
    #[error("no hay números aleatorios para la clave: {0}")]
    Random(#[from] getrandom::Error),
}

/// A problem document, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    /// For programs.
    pub(super) codigo: String,
    #[serde(default)]
    detail: Option<String>,
    /// `POST /alertas`: why a message is rejected.
    #[serde(default)]
    pub(super) motivo: Option<String>,
    /// `POST /alertas`: the message's number.
    #[serde(default)]
    pub(super) seq: Option<u64>,
    /// `POST /alertas`: which message it was.
    #[serde(default)]
    pub(super) huella: Option<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", Shown::from(self.codigo.as_str()))?;
        if let Some(detail) = &self.detail {
            write!(f, ": {}", Shown::from(detail.as_str()))?;
        }
        let advice = match self.codigo.as_str() {
            "empresa_no_existe" | "sede_no_existe" | "sede_no_encontrada" => {
                "créelas con --crear, o crear = true en un escenario"
            }
            "no_autenticado" | "token_invalido" => {
                "inicie sesión: export ATALAYA_TOKEN=$(atalaya login USUARIO)"
            }
            "no_permitido" => {
                "hace falta el rol operador de esa empresa; para crear empresas y sedes, admin"
            }
            "debe_cambiar_contrasena" => "atalaya login la cambia",
            _ => return Ok(()),
        };
        write!(f, " ({advice})")
    }
}

/// A device as it is to be registered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Registration<'a> {
    /// Where.
    pub(super) address: &'a DeviceAddress,
    /// What it is (`tipo`).
    pub(super) kind: &'a Slug,
    /// What people call it.
    pub(super) name: Option<&'a str>,
}

/// How a device came to be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Registered {
    /// As it was asked.
    New,
    /// Before, and perhaps as something else.
    Already {
        /// What it is (`tipo`), a stranger's text.
        kind: Option<String>,
    },
}

#[derive(Serialize)]
struct CompanyBody<'a> {
    empresa: &'a str,
    nombre: &'a str,
}

#[derive(Serialize)]
struct SiteBody<'a> {
    empresa: &'a str,
    sede: &'a str,
    nombre: &'a str,
}

#[derive(Serialize)]
struct DeviceBody<'a> {
    hardware: &'a str,
    empresa: &'a str,
    sede: &'a str,
    tipo: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    nombre: Option<&'a str>,
}

#[derive(Deserialize)]
struct DeviceFound {
    empresa: String,
    sede: String,
    #[serde(default)]
    tipo: Option<String>,
    #[serde(default)]
    activo: Option<bool>,
    #[serde(default)]
    claves: Vec<KeyFound>,
}

#[derive(Deserialize)]
struct KeyFound {
    kid: String,
    #[serde(default)]
    revocada: Option<String>,
}

#[derive(Serialize)]
struct KeyBody<'a> {
    alg: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    clave_publica: Option<String>,
}

/// The answer to a new key. It has no `Debug`: it may hold the secret.
#[derive(Deserialize)]
struct KeyMade {
    kid: String,
    #[serde(default)]
    secreto: Option<String>,
}

/// The answer to a new password. It has no `Debug`: it holds the password.
#[derive(Deserialize)]
struct PasswordMade {
    contrasena: String,
}

/// A client of one server's registry.
pub(super) struct Registry {
    api: Api,
    url: BaseUrl,
    /// How long a server that does not answer is waited for.
    patience: Duration,
}

impl Registry {
    /// The registry of the server at `url`, which is shown `token` and has `patience` to begin to
    /// answer.
    ///
    /// # Errors
    /// As [`Api::new`].
    pub(super) fn new(
        url: BaseUrl,
        patience: Duration,
        token: Option<Token>,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            api: Api::new(url.clone(), CONNECTIONS, token)?,
            url,
            patience,
        })
    }

    /// Makes sure that the company and the site are there.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub(super) async fn create_place(&self, address: &DeviceAddress) -> Result<(), RegistryError> {
        let (company, site) = (address.company.as_str(), address.site.as_str());
        // To make companies and sites is an admin's; most of the time they are there.
        let what = format!("la sede {company}/{site}");
        let call = Call::get(format!("/sedes/{company}/{site}"));
        if self.ask(&call, &what).await?.status == 200 {
            return Ok(());
        }
        let body = json(&CompanyBody {
            empresa: company,
            nombre: company,
        });
        let what = format!("la empresa {company}");
        self.create(Call::post("/empresas", body), what, "empresa_existe")
            .await?;
        let body = json(&SiteBody {
            empresa: company,
            sede: site,
            nombre: site,
        });
        let what = format!("la sede {site}");
        self.create(Call::post("/sedes", body), what, "sede_existe")
            .await
            .map(|_| ())
    }

    /// Makes sure that the device is there, at this very place.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub(super) async fn register(
        &self,
        new: Registration<'_>,
    ) -> Result<Registered, RegistryError> {
        let Registration {
            address,
            kind,
            name,
        } = new;
        let body = json(&DeviceBody {
            hardware: address.device.as_str(),
            empresa: address.company.as_str(),
            sede: address.site.as_str(),
            tipo: kind.as_str(),
            nombre: name,
        });
        let what = format!("el dispositivo {}", address.device);
        let call = Call::post("/hardware", body);
        if self.create(call, what, "hardware_existe").await? {
            return Ok(Registered::New);
        }
        match self.find(&address.device).await? {
            Some(found) if is_at(&found, address) => Ok(Registered::Already { kind: found.tipo }),
            found => Err(RegistryError::Elsewhere {
                device: address.device.clone(),
                elsewhere: found.map_or_else(
                    || "otro lugar".to_owned(),
                    |f| Shown::from(&*format!("{}/{}", f.empresa, f.sede)).to_string(),
                ),
            }),
        }
    }

    /// Makes a key and registers what checks its signatures; its name (`kid`) and the key.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub(super) async fn add_key(
        &self,
        device: &Slug,
        algorithm: Algorithm,
    ) -> Result<(String, Key), RegistryError> {
        let own = match algorithm {
            Algorithm::EdDsa => Some(Key::random(algorithm)?),
            Algorithm::Hs256 => None,
        };
        let body = json(&KeyBody {
            alg: algorithm.name(),
            clave_publica: own.as_ref().and_then(Key::public),
        });
        let what = format!("una clave de {device}");
        let call = Call::post(format!("/hardware/{device}/claves"), body);
        let answer = self.ask(&call, &what).await?;
        let made: KeyMade = match expect(&answer, 201, what.clone()) {
            Err(RegistryError::Refused { refusal, .. })
                if refusal.codigo == "demasiadas_claves" =>
            {
                return Err(self.too_many_keys(device).await?);
            }
            other => other?,
        };
        let shared = || {
            let bytes = thirty_two(made.secreto.as_deref()?)?;
            Some(Key::new(algorithm, bytes))
        };
        match own.or_else(shared) {
            Some(key) => Ok((made.kid, key)),
            None => Err(RegistryError::Strange { what, status: 201 }),
        }
    }

    /// Has a password made with which the device signs in at the broker. The one before ends.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub(super) async fn new_password(&self, device: &Slug) -> Result<Password, RegistryError> {
        let what = format!("una contraseña MQTT de {device}");
        let path = format!("/hardware/{device}/contrasena_mqtt");
        let call = Call::post(path, bytes::Bytes::from_static(b"{}"));
        let answer = self.ask(&call, &what).await?;
        let made: PasswordMade = expect(&answer, 201, what)?;
        Ok(Password(made.contrasena))
    }

    async fn too_many_keys(&self, device: &Slug) -> Result<RegistryError, RegistryError> {
        let found = self.find(device).await?;
        let keys = found.map(|found| found.claves).unwrap_or_default();
        let active = keys.iter().filter(|key| key.revocada.is_none());
        let kids: Vec<String> = active
            .map(|key| Shown::from(key.kid.as_str()).to_string())
            .collect();
        Ok(RegistryError::TooManyKeys {
            device: device.clone(),
            kids: kids.join(", "),
            url: self.url.clone(),
        })
    }

    /// Revokes a key; one that is revoked already stays so.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub(super) async fn revoke(&self, device: &Slug, kid: &str) -> Result<(), RegistryError> {
        let what = format!("revocar una clave de {device}");
        let call = Call::delete(format!("/hardware/{device}/claves/{kid}"));
        let answer = self.ask(&call, &what).await?;
        expect::<serde::de::IgnoredAny>(&answer, 200, what).map(|_| ())
    }

    /// Whether the device is registered here, active, with `kid` among its active keys.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub(super) async fn knows(
        &self,
        address: &DeviceAddress,
        kid: &str,
    ) -> Result<bool, RegistryError> {
        let found = self.find(&address.device).await?;
        Ok(found.is_some_and(|found| {
            is_at(&found, address)
                && found.activo != Some(false)
                && found
                    .claves
                    .iter()
                    .any(|k| k.kid == kid && k.revocada.is_none())
        }))
    }

    async fn find(&self, device: &Slug) -> Result<Option<DeviceFound>, RegistryError> {
        let what = format!("el dispositivo {device}");
        let call = Call::get(format!("/hardware/{device}"));
        let answer = self.ask(&call, &what).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        expect(&answer, 200, what).map(Some)
    }

    /// Creates something; whether it is new. `exists` is the code of one that is there.
    async fn create(&self, call: Call, what: String, exists: &str) -> Result<bool, RegistryError> {
        let answer = self.ask(&call, &what).await?;
        match expect::<serde::de::IgnoredAny>(&answer, 201, what) {
            Ok(_) => Ok(true),
            Err(RegistryError::Refused { refusal, .. }) if refusal.codigo == exists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks until there is an answer. What may have been done is not asked again: a second key
    /// would be one too many.
    async fn ask(&self, call: &Call, what: &str) -> Result<Answer, RegistryError> {
        let began = Instant::now();
        loop {
            let trouble = match self.api.send(call).await {
                Ok(answer) if !matches!(answer.status, 429 | 503) => return Ok(answer),
                Ok(answer) if began.elapsed() >= PATIENCE => return Ok(answer),
                Ok(_) => None,
                Err(Failure::Passing(again)) => Some((again.perhaps_done, again.reason)),
                Err(Failure::Lasting(reason)) => Some((true, reason)),
            };
            if let Some((lasting, reason)) = trouble
                && (lasting || began.elapsed() >= self.patience)
            {
                log::debug!("{what}: {reason}");
                return Err(RegistryError::Unreachable {
                    url: self.url.clone(),
                    reason,
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn is_at(found: &DeviceFound, address: &DeviceAddress) -> bool {
    found.empresa == address.company.as_str() && found.sede == address.site.as_str()
}

/// The body of an answer with this status.
fn expect<T: serde::de::DeserializeOwned>(
    answer: &Answer,
    status: u16,
    what: String,
) -> Result<T, RegistryError> {
    if answer.status == status {
        return serde_json::from_slice(&answer.body)
            .map_err(|_| RegistryError::Strange { what, status });
    }
    match serde_json::from_slice(&answer.body) {
        Ok(refusal) => Err(RegistryError::Refused { what, refusal }),
        Err(_) => Err(RegistryError::Strange {
            what,
            status: answer.status,
        }),
    }
}
