//! The registry at the desk: companies, sites, devices, keys, types and kinds.

use super::alerts::{cursor, invalid_value, limit, optional, page, prose, slug};
use super::{Answer, Caller, Desk, Failure, allow, reply};
use crate::domain::device::{PasswordDigest, Secret};
use crate::domain::registry::{AlertKind, Trust};
use crate::domain::{Action, Algorithm, KeyMaterial, Label, Priority, Reach, Resource, Slug};
use crate::storage::HubCommand;
use crate::storage::hub::{KindSpec, Patch};
use crate::storage::registry_queries::{
    self as queries, CompanyView, DeviceFilter, DeviceView, KeyView, SiteView,
};
use crate::storage::vault::random;
use crate::wire::numbers::Moment;
use crate::wire::registry::{
    CompanyBody, CompanyPatch, CompanyResource, DeviceBody, DevicePatch, DeviceResource,
    DeviceTypeBody, DeviceTypeResource, KeyBody, KeyResource, KindBody, KindResource,
    LegacySecretResource, PasswordResource, SiteBody, SitePatch, SiteResource,
};
use crate::wire::resources::Page;
use crate::wire::{Problem, ProblemKind, Reason};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::tz::TimeZone;

/// The longest silence and the longest time until an escalation, in seconds: a year.
const LONGEST: i64 = 31_536_000;

/// Items that a kind of alert may ask to bring.
const ITEMS: usize = 50;

impl Desk {
    /// Makes a company.
    ///
    /// # Errors
    /// [`Failure`], as for all calls here.
    pub async fn create_company(&self, caller: &Caller, body: &CompanyBody) -> Answer {
        let slug = slug("empresa", &body.empresa)?;
        let name = label_or("nombre", body.nombre.as_deref(), &slug)?;
        allow(caller, Action::ChangePlatform, Resource::Installation)?;
        let command = HubCommand::CreateCompany {
            slug: slug.clone(),
            name,
        };
        self.order(caller, command).await?;
        self.show_company(caller, slug.as_str()).await
    }

    /// Changes a company.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn patch_company(&self, caller: &Caller, name: &str, body: &CompanyPatch) -> Answer {
        let slug = slug("empresa", name)?;
        allow(caller, Action::ChangePlatform, Resource::Company(&slug))?;
        let patch = Patch {
            name: label("nombre", body.nombre.as_deref())?,
            active: body.activa,
            broker_trust: body.confianza_broker,
            ..Patch::default()
        };
        self.order(caller, HubCommand::PatchCompany(slug, patch))
            .await?;
        self.show_company(caller, name).await
    }

    /// One company.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn show_company(&self, caller: &Caller, name: &str) -> Answer {
        let slug = slug("empresa", name)?;
        let within = allow(caller, Action::ReadRegistry, Resource::Any)?;
        let found = self
            .read(move |c| queries::company(c, &within, slug.as_str()))
            .await?;
        reply(&company_resource(found.ok_or(ProblemKind::UnknownCompany)?))
    }

    /// Companies.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn list_companies(
        &self,
        caller: &Caller,
        limit_text: &str,
        cursor_text: &str,
    ) -> Answer {
        let within = allow(caller, Action::ReadRegistry, Resource::Any)?;
        let limit = limit(limit_text)?;
        let after = cursor(cursor_text)?.unwrap_or(0);
        let found = self
            .read(move |c| queries::companies(c, &within, after, limit + 1))
            .await?;
        reply(&rows(found, limit, company_resource))
    }

    /// Makes a site.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn create_site(&self, caller: &Caller, body: &SiteBody) -> Answer {
        let company = slug("empresa", &body.empresa)?;
        let slug = slug("sede", &body.sede)?;
        allow(caller, Action::ChangePlatform, Resource::Company(&company))?;
        let command = HubCommand::CreateSite {
            name: label_or("nombre", body.nombre.as_deref(), &slug)?,
            time_zone: zone(body.zona_horaria.as_deref())?.unwrap_or(TimeZone::UTC),
            company,
            slug,
        };
        self.order(caller, command).await?;
        self.show_site(caller, &body.empresa, &body.sede).await
    }

    /// Changes a site.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn patch_site(
        &self,
        caller: &Caller,
        company: &str,
        name: &str,
        body: &SitePatch,
    ) -> Answer {
        let (owner, site) = (slug("empresa", company)?, slug("sede", name)?);
        allow(caller, Action::ChangePlatform, Resource::Company(&owner))?;
        let patch = Patch {
            name: label("nombre", body.nombre.as_deref())?,
            active: body.activa,
            time_zone: zone(body.zona_horaria.as_deref())?,
            ..Patch::default()
        };
        self.order(caller, HubCommand::PatchSite(owner, site, patch))
            .await?;
        self.show_site(caller, company, name).await
    }

    /// One site.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn show_site(&self, caller: &Caller, company: &str, name: &str) -> Answer {
        let (company, site) = (slug("empresa", company)?, slug("sede", name)?);
        let within = allow(caller, Action::ReadRegistry, Resource::Any)?;
        let found = self
            .read(move |c| {
                queries::sites(
                    c,
                    &within,
                    Some(company.as_str()),
                    Some(site.as_str()),
                    0,
                    1,
                )
            })
            .await?;
        let (_, site) = found.into_iter().next().ok_or(ProblemKind::SiteNotFound)?;
        reply(&site_resource(site))
    }

    /// Sites, of one company or of all.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn list_sites(
        &self,
        caller: &Caller,
        company: &str,
        limit_text: &str,
        cursor_text: &str,
    ) -> Answer {
        let within = may_read(caller, company)?;
        let limit = limit(limit_text)?;
        let after = cursor(cursor_text)?.unwrap_or(0);
        let company = optional(company);
        let found = self
            .read(move |c| queries::sites(c, &within, company.as_deref(), None, after, limit + 1))
            .await?;
        reply(&rows(found, limit, site_resource))
    }

    /// Registers a device.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn create_device(&self, caller: &Caller, body: &DeviceBody) -> Answer {
        let device = slug("hardware", &body.hardware)?;
        let company = slug("empresa", &body.empresa)?;
        allow(caller, Action::ChangeRegistry, Resource::Company(&company))?;
        let command = HubCommand::CreateDevice {
            site: slug("sede", &body.sede)?,
            kind: slug("tipo", &body.tipo)?,
            name: label_or("nombre", body.nombre.as_deref(), &device)?,
            trust: trust(body.confianza.as_deref())?.unwrap_or_default(),
            slug: device,
            company,
        };
        self.order(caller, command).await?;
        self.show_device(caller, &body.hardware).await
    }

    /// Changes a device.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn patch_device(&self, caller: &Caller, name: &str, body: &DevicePatch) -> Answer {
        let device = self.device(caller, name, Action::ChangeRegistry).await?;
        let patch = Patch {
            name: label("nombre", body.nombre.as_deref())?,
            active: body.activo,
            kind: body
                .tipo
                .as_deref()
                .map(|kind| slug("tipo", kind))
                .transpose()?,
            trust: trust(body.confianza.as_deref())?,
            ..Patch::default()
        };
        let slug = slug("hardware", &device.slug)?;
        self.order(caller, HubCommand::PatchDevice(slug, patch))
            .await?;
        self.show_device(caller, name).await
    }

    /// One device.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn show_device(&self, caller: &Caller, name: &str) -> Answer {
        let device = self.device(caller, name, Action::ReadRegistry).await?;
        reply(&self.device_resource(device))
    }

    /// Devices.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn list_devices(
        &self,
        caller: &Caller,
        filter: DeviceFilter,
        limit_text: &str,
        cursor_text: &str,
    ) -> Answer {
        let within = may_read(caller, filter.company.as_deref().unwrap_or_default())?;
        let limit = limit(limit_text)?;
        let after = cursor(cursor_text)?.unwrap_or(0);
        let found = self
            .read(move |c| queries::devices(c, &within, &filter, after, limit + 1))
            .await?;
        reply(&rows(found, limit, |device| self.device_resource(device)))
    }

    /// Adds a key to a device.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn add_key(&self, caller: &Caller, name: &str, body: &KeyBody) -> Answer {
        let device = self.device(caller, name, Action::ChangeRegistry).await?;
        let (material, made) = key_material(body)?;
        // Made here, so that it names the same key whatever becomes of the answer.
        let kid = format!("k{}", uuid::Uuid::new_v4().simple());
        let command = HubCommand::AddKey {
            device: slug("hardware", &device.slug)?,
            kid: slug("kid", &kid)?,
            material,
        };
        self.order(caller, command).await?;
        let mut key = self.key(caller, name, &kid).await?;
        key.secreto = made;
        reply(&key)
    }

    /// Revokes a key.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn revoke_key(&self, caller: &Caller, name: &str, kid: &str) -> Answer {
        let device = self.device(caller, name, Action::ChangeRegistry).await?;
        let command = HubCommand::RevokeKey {
            device: slug("hardware", &device.slug)?,
            kid: Slug::parse(kid).map_err(|_| ProblemKind::UnknownDeviceKey)?,
        };
        self.order(caller, command).await?;
        reply(&self.key(caller, name, kid).await?)
    }

    /// The keys of a device.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn list_keys(&self, caller: &Caller, name: &str) -> Answer {
        let device = self.device(caller, name, Action::ReadRegistry).await?;
        reply(&Page {
            datos: device.keys.into_iter().map(key_resource).collect(),
            siguiente: None,
        })
    }

    /// Makes the password with which a device signs in at the broker, and ends the one before.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn set_mqtt_password(&self, caller: &Caller, name: &str) -> Answer {
        let device = self.device(caller, name, Action::ChangeRegistry).await?;
        let secret = Secret(random().map_err(|error| {
            log::error!("{error}");
            ProblemKind::Internal
        })?);
        let shown = PasswordResource {
            usuario: device.slug.clone(),
            contrasena: secret.reveal(),
        };
        let command = HubCommand::SetPassword {
            device: slug("hardware", &device.slug)?,
            password: Some(secret),
        };
        self.order(caller, command).await?;
        reply(&shown)
    }

    /// Ends a device's password, if it has one: the broker does not let it in any more.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn remove_mqtt_password(&self, caller: &Caller, name: &str) -> Result<(), Failure> {
        let device = self.device(caller, name, Action::ChangeRegistry).await?;
        let command = HubCommand::SetPassword {
            device: slug("hardware", &device.slug)?,
            password: None,
        };
        self.order(caller, command).await?;
        Ok(())
    }

    /// Makes the secret that a device from before Atalaya shows for a token, and ends the one before.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn set_legacy_secret(&self, caller: &Caller, name: &str) -> Answer {
        let device = self.device(caller, name, Action::ChangeRegistry).await?;
        let secret = Secret(random().map_err(|error| {
            log::error!("{error}");
            ProblemKind::Internal
        })?);
        let command = HubCommand::SetSecret {
            device: slug("hardware", &device.slug)?,
            secret: Some(PasswordDigest::of(&secret)),
        };
        self.order(caller, command).await?;
        reply(&LegacySecretResource {
            hardware: device.slug,
            secreto: secret.reveal(),
        })
    }

    /// Ends a device's secret, if it has one, and the tokens that it was given for it.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn remove_legacy_secret(&self, caller: &Caller, name: &str) -> Result<(), Failure> {
        let device = self.device(caller, name, Action::ChangeRegistry).await?;
        let command = HubCommand::SetSecret {
            device: slug("hardware", &device.slug)?,
            secret: None,
        };
        self.order(caller, command).await?;
        Ok(())
    }

    async fn key(&self, caller: &Caller, device: &str, kid: &str) -> Result<KeyResource, Failure> {
        let device = self.device(caller, device, Action::ReadRegistry).await?;
        let key = device.keys.into_iter().find(|key| key.kid == kid);
        Ok(key_resource(key.ok_or(ProblemKind::UnknownDeviceKey)?))
    }

    async fn device(
        &self,
        caller: &Caller,
        name: &str,
        action: Action,
    ) -> Result<DeviceView, Failure> {
        let wanted = DeviceFilter {
            slug: Some(slug("hardware", name)?.to_string()),
            ..DeviceFilter::default()
        };
        let within = allow(caller, action, Resource::Any)?;
        let found = self
            .read(move |c| queries::devices(c, &within, &wanted, 0, 1))
            .await?;
        let (_, device) = found.into_iter().next().ok_or(ProblemKind::UnknownDevice)?;
        Ok(device)
    }

    fn device_resource(&self, device: DeviceView) -> DeviceResource {
        let status = self.parts.statuses.get(device.row);
        DeviceResource {
            hardware: device.slug,
            empresa: device.company,
            sede: device.site,
            tipo: device.kind,
            nombre: device.name,
            activo: device.active,
            confianza: device.trust.name(),
            creado: Moment(device.created_at),
            estado: status.map(|status| {
                if status.online {
                    "en_linea"
                } else {
                    "fuera_de_linea"
                }
            }),
            estado_desde: status.map(|status| Moment(status.at)),
            ultima_senal: device.heard_at.map(Moment),
            silencioso: device.silent,
            contrasena_mqtt: device.password_changed_at.map(Moment),
            secreto_heredado: device.secret_changed_at.map(Moment),
            claves: device.keys.into_iter().map(key_resource).collect(),
        }
    }

    /// Types of device.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn list_device_types(&self, caller: &Caller) -> Answer {
        allow(caller, Action::ReadRegistry, Resource::Any)?;
        let found = self.read(queries::device_types).await?;
        let datos = found
            .into_iter()
            .map(|(tipo, descripcion, silence)| DeviceTypeResource {
                tipo,
                descripcion,
                silencio_segundos: silence,
            });
        reply(&Page {
            datos: datos.collect(),
            siguiente: None,
        })
    }

    /// Makes or changes a type of device.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn put_device_type(
        &self,
        caller: &Caller,
        code: &str,
        body: &DeviceTypeBody,
    ) -> Answer {
        let code = slug("tipo", code)?;
        allow(caller, Action::ChangePlatform, Resource::Installation)?;
        let description = body.descripcion.as_deref();
        let command = HubCommand::PutDeviceType {
            code: code.clone(),
            description: description
                .map(|text| prose("descripcion", text))
                .transpose()?,
            silence: seconds("silencio_segundos", body.silencio_segundos)?,
        };
        self.order(caller, command).await?;
        let registry = self.parts.view.registry();
        let known = registry.device_type(&code).ok_or(ProblemKind::Internal)?;
        reply(&DeviceTypeResource {
            tipo: code.to_string(),
            descripcion: known.description.as_str().to_owned(),
            silencio_segundos: known.silence,
        })
    }

    /// Kinds of alert, of one company or of all.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn list_kinds(
        &self,
        caller: &Caller,
        company: &str,
        limit_text: &str,
        cursor_text: &str,
    ) -> Answer {
        let within = may_read(caller, company)?;
        let limit = limit(limit_text)?;
        let after = cursor(cursor_text)?.unwrap_or(0);
        let company = optional(company);
        let found = self
            .read(move |c| queries::kinds(c, &within, company.as_deref(), None, after, limit + 1))
            .await?;
        reply(&rows(found, limit, |(company, kind)| {
            kind_resource(company, &kind)
        }))
    }

    /// Makes or changes a kind of alert.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn put_kind(
        &self,
        caller: &Caller,
        company: &str,
        code: &str,
        body: &KindBody,
    ) -> Answer {
        let (owner, code) = (slug("empresa", company)?, slug("tipo_alarma", code)?);
        let within = allow(caller, Action::ChangeRegistry, Resource::Company(&owner))?;
        if code.as_str() == crate::domain::registry::HEARTBEAT {
            let reason = (
                "tipo_alarma: LATIDO no es un tipo de alarma",
                "tipo_alarma: LATIDO is no kind of alert",
            );
            return Err(invalid_value(reason));
        }
        let command = HubCommand::PutKind {
            company: owner.clone(),
            code: code.clone(),
            spec: kind_spec(body)?,
        };
        self.order(caller, command).await?;
        let found = self
            .read(move |c| {
                queries::kinds(c, &within, Some(owner.as_str()), Some(code.as_str()), 0, 1)
            })
            .await?;
        let (_, (company, kind)) = found.into_iter().next().ok_or(ProblemKind::Internal)?;
        reply(&kind_resource(company, &kind))
    }
}

/// Within what the caller may read the registry; the company that a list is about must be a name.
pub(super) fn may_read(caller: &Caller, company: &str) -> Result<Reach, Failure> {
    if !company.is_empty() {
        slug("empresa", company)?;
    }
    Ok(allow(caller, Action::ReadRegistry, Resource::Any)?)
}

/// A page of rows with their numbers.
pub(super) fn rows<T, R>(found: Vec<(i64, T)>, limit: i64, resource: impl Fn(T) -> R) -> Page<R> {
    page(found, limit, |(row, _)| *row, |(_, item)| resource(item))
}

fn company_resource(company: CompanyView) -> CompanyResource {
    CompanyResource {
        empresa: company.slug,
        nombre: company.name,
        activa: company.active,
        confianza_broker: company.broker_trust,
        creada: Moment(company.created_at),
    }
}

fn site_resource(site: SiteView) -> SiteResource {
    SiteResource {
        empresa: site.company,
        sede: site.slug,
        nombre: site.name,
        zona_horaria: site.time_zone,
        activa: site.active,
        creada: Moment(site.created_at),
    }
}

fn key_resource(key: KeyView) -> KeyResource {
    KeyResource {
        kid: key.kid,
        alg: key.algorithm,
        creada: Moment(key.created_at),
        revocada: key.revoked_at.map(Moment),
        secreto: None,
    }
}

fn kind_resource(company: String, kind: &AlertKind) -> KindResource {
    KindResource {
        empresa: company,
        tipo_alarma: kind.code.to_string(),
        nombre: kind.name.to_string(),
        prioridad: kind.priority.name(),
        color: kind.colour.to_string(),
        descripcion: kind.description.as_str().to_owned(),
        instrucciones: kind.instructions.as_str().to_owned(),
        elementos: kind.items.iter().map(ToString::to_string).collect(),
        escalar_segundos: kind.escalation,
        activo: kind.active,
    }
}

fn kind_spec(body: &KindBody) -> Result<KindSpec, Failure> {
    if body.elementos.len() > ITEMS {
        return Err(invalid_value((
            "elementos: más de 50",
            "elementos: more than 50",
        )));
    }
    let items = body.elementos.iter();
    Ok(KindSpec {
        name: named("nombre", &body.nombre)?,
        priority: Priority::parse(&body.prioridad).ok_or_else(|| {
            invalid_value((
                "prioridad: se espera critica, alta, media o baja",
                "prioridad: expected critica, alta, media or baja",
            ))
        })?,
        colour: named("color", &body.color)?,
        description: prose("descripcion", &body.descripcion)?,
        instructions: prose("instrucciones", &body.instrucciones)?,
        items: items
            .map(|item| named("elementos", item))
            .collect::<Result<_, _>>()?,
        escalation: seconds("escalar_segundos", body.escalar_segundos)?,
        active: body.activo,
    })
}

/// The key of a body, with the secret (base64url) where it was made here.
fn key_material(body: &KeyBody) -> Result<(KeyMaterial, Option<String>), Failure> {
    let wrong = |reason: (&'static str, &'static str)| -> Failure {
        Problem::of(ProblemKind::InvalidDeviceKey)
            .because(reason)
            .into()
    };
    let form = || {
        wrong((
            "se esperan 32 bytes en base64url sin relleno",
            "expected 32 bytes in base64url without padding",
        ))
    };
    let bytes = |text: &str| -> Result<[u8; 32], Failure> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| form())?;
        bytes.try_into().map_err(|_| form())
    };
    match (
        Algorithm::parse(&body.alg),
        &body.clave_publica,
        &body.secreto,
    ) {
        (Some(Algorithm::EdDsa), Some(public), None) => {
            let key = KeyMaterial::ed25519(&bytes(public)?);
            let key = key.map_err(|_| {
                wrong((
                    "no es una clave pública de Ed25519 utilizable",
                    "not a usable Ed25519 public key",
                ))
            })?;
            Ok((key, None))
        }
        (Some(Algorithm::Hs256), None, Some(secret)) => {
            Ok((KeyMaterial::Hs256(Secret(bytes(secret)?)), None))
        }
        (Some(Algorithm::Hs256), None, None) => {
            let secret = random().map_err(|error| {
                log::error!("{error}");
                ProblemKind::Internal
            })?;
            let shown = BASE64_URL_SAFE_NO_PAD.encode(secret);
            Ok((KeyMaterial::Hs256(Secret(secret)), Some(shown)))
        }
        _ => Err(wrong((
            "se espera EdDSA con clave_publica, o HS256 con o sin secreto",
            "expected EdDSA with clave_publica, or HS256 with or without secreto",
        ))),
    }
}

fn seconds(field: &str, value: Option<i64>) -> Result<Option<i64>, Failure> {
    match value {
        Some(value) if !(1..=LONGEST).contains(&value) => {
            let reason = (
                "se espera de 1 a 31536000 segundos",
                "expected 1 to 31536000 seconds",
            );
            Err(invalid_value(Reason::from(reason).about(field)))
        }
        value => Ok(value),
    }
}

fn trust(name: Option<&str>) -> Result<Option<Trust>, Failure> {
    let Some(name) = name else { return Ok(None) };
    Trust::parse(name).map(Some).ok_or_else(|| {
        invalid_value((
            "confianza: se espera firma, broker o heredada",
            "confianza: expected firma, broker or heredada",
        ))
    })
}

fn zone(name: Option<&str>) -> Result<Option<TimeZone>, Failure> {
    let Some(name) = name else { return Ok(None) };
    let zone = TimeZone::get(name).ok();
    let known = zone.filter(|zone| zone.iana_name().is_some());
    known.map(Some).ok_or_else(|| {
        invalid_value((
            "zona_horaria: se espera un nombre como America/Guayaquil",
            "zona_horaria: expected a name like America/Guayaquil",
        ))
    })
}

pub(super) fn named(field: &str, text: &str) -> Result<Label, Failure> {
    Label::parse(text).map_err(|error| invalid_value(Reason::from(error).about(field)))
}

pub(super) fn label(field: &str, text: Option<&str>) -> Result<Option<Label>, Failure> {
    text.map(|text| named(field, text)).transpose()
}

fn label_or(field: &str, text: Option<&str>, slug: &Slug) -> Result<Label, Failure> {
    named(field, text.unwrap_or(slug.as_str()))
}
