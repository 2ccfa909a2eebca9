//! Changes of the registry: decided here, one entry of the journal each, seen by the next alert.

use super::load::{kind_of, preloaded, rule_of};
use super::rows::{AlertKindRow, Row, RuleRow, algorithm_code, trust_code};
use super::{Group, Hub, HubAnswer, HubCommand, HubRefusal, KindSpec, Patch, RuleSpec, Undecided};
use crate::domain::device::{KeyMaterial, PasswordDigest, Secret};
use crate::domain::registry::{ACTIVE_KEYS, Company, Device, DeviceKey, DeviceType, Site, Trust};
use crate::domain::rule::Rule;
use crate::domain::{Label, Prose, Slug, Subject};
use crate::storage::steps::priority_code;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::sync::Arc;

/// What the journal says of a changed setting.
pub(super) struct Setting {
    pub(super) subject: Subject,
    pub(super) change: Value,
}

/// A company and, where it is about one, a site, by their rows.
type Place = (i64, Option<i64>);

type Decided = Result<HubAnswer, Undecided>;

impl Hub {
    /// Decides a change of the registry.
    pub(super) fn change_registry(&mut self, group: &mut Group<'_>) -> Decided {
        // The order outlives the group; to borrow it from there leaves the group free.
        let order = group.order;
        match &order.command {
            HubCommand::CreateCompany { slug, name } => self.create_company(group, slug, name),
            HubCommand::PatchCompany(slug, patch) => self.patch_company(group, slug, patch),
            HubCommand::CreateSite {
                company,
                slug,
                name,
                time_zone,
            } => self.create_site(group, company, slug, name, time_zone),
            HubCommand::PatchSite(company, slug, patch) => {
                self.patch_site(group, company, slug, patch)
            }
            HubCommand::CreateDevice {
                slug,
                company,
                site,
                kind,
                name,
                trust,
            } => self.create_device(group, slug, (company, site), (kind, *trust), name),
            HubCommand::PatchDevice(slug, patch) => self.patch_device(group, slug, patch),
            HubCommand::AddKey {
                device,
                kid,
                material,
            } => self.add_key(group, device, kid, material),
            HubCommand::RevokeKey { device, kid } => self.revoke_key(group, device, kid),
            HubCommand::SetPassword { device, password } => {
                self.set_password(group, device, password.as_ref())
            }
            HubCommand::SetSecret { device, secret } => self.set_secret(group, device, *secret),
            HubCommand::PutDeviceType {
                code,
                description,
                silence,
            } => self.put_device_type(group, code, description.as_ref(), *silence),
            HubCommand::PutKind {
                company,
                code,
                spec,
            } => self.put_kind(group, company, code, spec),
            HubCommand::CreateRule { company, spec } => self.create_rule(group, company, spec),
            HubCommand::ReviseRule {
                id,
                from_version,
                spec,
            } => self.revise_rule(group, *id, *from_version, spec),
            // Decided elsewhere.
            _ => Ok(HubAnswer::Done),
        }
    }

    fn create_company(&mut self, group: &mut Group<'_>, slug: &Slug, name: &Label) -> Decided {
        if self.registry.company(slug).is_some() {
            return Err(HubRefusal::CompanyExists.into());
        }
        let id = take(&mut self.next.company);
        self.pending.push(Row::NewCompany {
            id,
            slug: slug.to_string(),
            name: name.to_string(),
            created_at: group.now,
        });
        self.registry_mut().put_company(Company {
            row: id,
            slug: slug.clone(),
            name: name.clone(),
            active: true,
            broker_trust: false,
        });
        let principal = group.order.principal.row();
        let (kinds, rules) = preloaded(id, self.next.kind, self.next.rule, principal, group.now);
        for row in kinds {
            self.next.kind += 1;
            let kind = kind_of(&row)?;
            self.registry_mut().put_kind(kind);
            self.pending.push(Row::Kind(row));
        }
        for row in rules {
            self.next.rule += 1;
            let rule = rule_of(&row)?;
            self.registry_mut().put_rule(rule);
            self.pending.push(Row::Rule(row));
        }
        let change = company_change(slug.as_str(), name.as_str(), true, false);
        note(group, (id, None), Subject::Company, change)
    }

    fn patch_company(&mut self, group: &mut Group<'_>, slug: &Slug, patch: &Patch) -> Decided {
        let mut company = Company::clone(self.company(slug)?);
        patched(&mut company.name, patch.name.as_ref());
        let wakes = patch.active == Some(true) && !company.active;
        patched(&mut company.active, patch.active.as_ref());
        patched(&mut company.broker_trust, patch.broker_trust.as_ref());
        let (row, name, active) = (company.row, company.name.to_string(), company.active);
        let change = company_change(slug.as_str(), &name, active, company.broker_trust);
        self.pending.push(Row::Company {
            id: row,
            name,
            active,
            broker_trust: company.broker_trust,
        });
        self.registry_mut().put_company(company);
        if wakes {
            self.hear_again(group.now, |device| device.company == row);
        }
        note(group, (row, None), Subject::Company, change)
    }

    fn create_site(
        &mut self,
        group: &mut Group<'_>,
        company: &Slug,
        slug: &Slug,
        name: &Label,
        time_zone: &TimeZone,
    ) -> Decided {
        let company = Arc::clone(self.company(company)?);
        if self.registry.site(company.row, slug).is_some() {
            return Err(HubRefusal::SiteExists.into());
        }
        let id = take(&mut self.next.site);
        let site = Site {
            row: id,
            company: company.row,
            slug: slug.clone(),
            name: name.clone(),
            time_zone: time_zone.clone(),
            active: true,
        };
        let change = site_change(&company, &site);
        self.pending.push(Row::NewSite {
            id,
            company: company.row,
            slug: slug.to_string(),
            name: name.to_string(),
            time_zone: zone_name(&site),
            created_at: group.now,
        });
        self.registry_mut().put_site(site);
        note(group, (company.row, Some(id)), Subject::Site, change)
    }

    fn patch_site(
        &mut self,
        group: &mut Group<'_>,
        company: &Slug,
        slug: &Slug,
        patch: &Patch,
    ) -> Decided {
        let company = Arc::clone(self.company(company)?);
        let site = self.registry.site(company.row, slug);
        let mut site = Site::clone(site.ok_or(HubRefusal::UnknownSite)?);
        let wakes = patch.active == Some(true) && !site.active;
        patched(&mut site.name, patch.name.as_ref());
        patched(&mut site.active, patch.active.as_ref());
        patched(&mut site.time_zone, patch.time_zone.as_ref());
        let (row, change) = (site.row, site_change(&company, &site));
        self.pending.push(Row::Site {
            id: row,
            name: site.name.to_string(),
            time_zone: zone_name(&site),
            active: site.active,
        });
        self.registry_mut().put_site(site);
        if wakes {
            self.hear_again(group.now, |device| device.site == row);
        }
        note(group, (company.row, Some(row)), Subject::Site, change)
    }

    fn create_device(
        &mut self,
        group: &mut Group<'_>,
        slug: &Slug,
        (company, site): (&Slug, &Slug),
        (kind, trust): (&Slug, Trust),
        name: &Label,
    ) -> Decided {
        let company = Arc::clone(self.company(company)?);
        allow_trust(&company, trust)?;
        let company = company.row;
        let site = self.registry.site(company, site);
        let site = site.ok_or(HubRefusal::UnknownSite)?.row;
        if self.registry.device_type(kind).is_none() {
            return Err(HubRefusal::UnknownDeviceType.into());
        }
        if self.registry.device(slug).is_some() {
            return Err(HubRefusal::DeviceExists.into());
        }
        let id = take(&mut self.next.device);
        let device = Device {
            row: id,
            slug: slug.clone(),
            company,
            site,
            kind: kind.clone(),
            name: name.clone(),
            active: true,
            trust,
        };
        let change = device_change(&device);
        self.pending.push(Row::NewDevice {
            id,
            slug: slug.to_string(),
            company,
            site,
            kind: kind.to_string(),
            name: name.to_string(),
            created_at: group.now,
            trust: trust_code(trust),
        });
        self.registry_mut().put_device(device);
        note(group, (company, Some(site)), Subject::Device, change)
    }

    fn patch_device(&mut self, group: &mut Group<'_>, slug: &Slug, patch: &Patch) -> Decided {
        let mut device = Device::clone(self.device(slug)?);
        if let Some(kind) = &patch.kind
            && self.registry.device_type(kind).is_none()
        {
            return Err(HubRefusal::UnknownDeviceType.into());
        }
        if let Some(trust) = patch.trust
            && let Some(company) = self.registry.company_at(device.company)
        {
            allow_trust(company, trust)?;
        }
        let wakes = patch.active == Some(true) && !device.active;
        let row = device.row;
        let leaves = patch.trust.is_some_and(|trust| trust != Trust::Legacy);
        if leaves && self.registry.secret_of(row).is_some() {
            // Or it would be let in again by who sets it back, without anybody making a secret.
            self.change_secret(group.now, row, None);
        }
        patched(&mut device.kind, patch.kind.as_ref());
        patched(&mut device.name, patch.name.as_ref());
        patched(&mut device.active, patch.active.as_ref());
        patched(&mut device.trust, patch.trust.as_ref());
        let place = (device.company, Some(device.site));
        let change = device_change(&device);
        self.pending.push(Row::Device {
            id: device.row,
            kind: device.kind.to_string(),
            name: device.name.to_string(),
            active: device.active,
            trust: trust_code(device.trust),
        });
        self.registry_mut().put_device(device);
        if wakes {
            self.hear_again(group.now, |device| device.row == row);
        } else if patch.kind.is_some() {
            self.watch_all(group.now);
        }
        note(group, place, Subject::Device, change)
    }

    fn add_key(
        &mut self,
        group: &mut Group<'_>,
        device: &Slug,
        kid: &Slug,
        material: &KeyMaterial,
    ) -> Decided {
        let device = Arc::clone(self.device(device)?);
        if self.registry.keys_of(device.row).len() >= ACTIVE_KEYS {
            return Err(HubRefusal::TooManyKeys.into());
        }
        if self.registry.key(kid).is_some() {
            return Err(HubRefusal::KeyExists.into());
        }
        let id = take(&mut self.next.key);
        let stored = match material {
            KeyMaterial::Ed25519(key) => key.as_bytes().to_vec(),
            KeyMaterial::Hs256(secret) => self
                .settings
                .vault
                .seal(kid.as_str(), secret)
                .map_err(crate::storage::StorageError::from)?,
        };
        self.pending.push(Row::NewKey {
            id,
            kid: kid.to_string(),
            device: device.row,
            algorithm: algorithm_code(material),
            material: stored,
            created_at: group.now,
        });
        self.registry_mut().put_key(DeviceKey {
            row: id,
            kid: kid.clone(),
            device: device.row,
            material: material.clone(),
        });
        let algorithm = material.algorithm().name();
        let change =
            json!({"hardware": device.slug.as_str(), "kid": kid.as_str(), "alg": algorithm});
        let place = (device.company, Some(device.site));
        note(group, place, Subject::DeviceKey, change)
    }

    fn revoke_key(&mut self, group: &mut Group<'_>, device: &Slug, kid: &Slug) -> Decided {
        let device = Arc::clone(self.device(device)?);
        let key = self
            .registry
            .key(kid)
            .filter(|key| key.device == device.row);
        let id = key.ok_or(HubRefusal::UnknownKey)?.row;
        self.pending.push(Row::RevokedKey { id, at: group.now });
        self.registry_mut().remove_key(kid);
        let change =
            json!({"hardware": device.slug.as_str(), "kid": kid.as_str(), "revocada": true});
        let place = (device.company, Some(device.site));
        note(group, place, Subject::DeviceKey, change)
    }

    fn set_password(
        &mut self,
        group: &mut Group<'_>,
        device: &Slug,
        password: Option<&Secret>,
    ) -> Decided {
        let device = Arc::clone(self.device(device)?);
        if password.is_none() && self.registry.password_of(device.row).is_none() {
            return Ok(HubAnswer::Done);
        }
        let sealed = password
            .map(|secret| {
                let name = password_name(&device.slug);
                self.settings.vault.seal(&name, secret)
            })
            .transpose()
            .map_err(crate::storage::StorageError::from)?;
        let change = json!({
            "hardware": device.slug.as_str(),
            "contrasena_mqtt": if sealed.is_some() { "nueva" } else { "retirada" },
        });
        self.pending.push(Row::Password {
            device: device.row,
            sealed,
            changed_at: group.now,
        });
        self.registry_mut()
            .set_password(device.row, password.map(PasswordDigest::of));
        let place = (device.company, Some(device.site));
        note(group, place, Subject::Device, change)
    }

    fn set_secret(
        &mut self,
        group: &mut Group<'_>,
        device: &Slug,
        secret: Option<PasswordDigest>,
    ) -> Decided {
        let device = Arc::clone(self.device(device)?);
        if secret.is_some() && device.trust != Trust::Legacy {
            return Err(HubRefusal::NotLegacy.into());
        }
        if secret.is_none() && self.registry.secret_of(device.row).is_none() {
            return Ok(HubAnswer::Done);
        }
        let change = json!({
            "hardware": device.slug.as_str(),
            "secreto_heredado": if secret.is_some() { "nuevo" } else { "retirado" },
        });
        self.change_secret(group.now, device.row, secret);
        let place = (device.company, Some(device.site));
        note(group, place, Subject::Device, change)
    }

    fn change_secret(&mut self, now: i64, row: i64, secret: Option<PasswordDigest>) {
        self.pending.push(Row::Secret {
            device: row,
            digest: secret.map(PasswordDigest::bytes),
            changed_at: now,
        });
        self.registry_mut().set_secret(row, secret);
    }

    fn put_device_type(
        &mut self,
        group: &mut Group<'_>,
        code: &Slug,
        description: Option<&Prose>,
        silence: Option<i64>,
    ) -> Decided {
        let known = self.registry.device_type(code);
        let description = match (description, known) {
            (Some(description), _) => description.clone(),
            (None, Some(known)) => known.description.clone(),
            (None, None) => Prose::default(),
        };
        let change = json!({
            "tipo": code.as_str(),
            "descripcion": description.as_str(),
            "silencio_segundos": silence,
        });
        self.pending.push(Row::DeviceType {
            code: code.to_string(),
            description: description.as_str().to_owned(),
            silence,
        });
        self.registry_mut().put_device_type(DeviceType {
            code: code.clone(),
            description,
            silence,
        });
        self.watch_all(group.now);
        let home = group.lane.company();
        note(group, (home, None), Subject::DeviceType, change)
    }

    fn put_kind(
        &mut self,
        group: &mut Group<'_>,
        company: &Slug,
        code: &Slug,
        spec: &KindSpec,
    ) -> Decided {
        let company = self.company(company)?.row;
        let id = match self.registry.kind(company, code) {
            Some(kind) => kind.row,
            None => take(&mut self.next.kind),
        };
        let items: Vec<&str> = spec.items.iter().map(Label::as_str).collect();
        let row = AlertKindRow {
            id,
            company_id: company,
            code: code.to_string(),
            name: spec.name.to_string(),
            priority: priority_code(spec.priority),
            colour: spec.colour.to_string(),
            description: spec.description.as_str().to_owned(),
            instructions: spec.instructions.as_str().to_owned(),
            items: json!(items).to_string(),
            escalation: spec.escalation,
            active: spec.active,
        };
        let change = json!({
            "tipo_alarma": code.as_str(),
            "nombre": spec.name.as_str(),
            "prioridad": spec.priority.name(),
            "color": spec.colour.as_str(),
            "descripcion": spec.description.as_str(),
            "instrucciones": spec.instructions.as_str(),
            "elementos": items,
            "escalar_segundos": spec.escalation,
            "activo": spec.active,
        });
        let kind = kind_of(&row)?;
        self.registry_mut().put_kind(kind);
        self.pending.push(Row::Kind(row));
        note(group, (company, None), Subject::AlertKind, change)
    }

    fn create_rule(&mut self, group: &mut Group<'_>, company: &Slug, spec: &RuleSpec) -> Decided {
        let company = self.company(company)?.row;
        let id = take(&mut self.next.rule);
        self.put_rule(group, company, (id, 1), spec)
    }

    fn revise_rule(
        &mut self,
        group: &mut Group<'_>,
        id: i64,
        from_version: i64,
        spec: &RuleSpec,
    ) -> Decided {
        let rule = self.registry.rule(id).ok_or(HubRefusal::UnknownRule)?;
        if rule.version != from_version {
            return Err(HubRefusal::RuleChanged.into());
        }
        let company = rule.company;
        self.put_rule(group, company, (id, from_version + 1), spec)
    }

    fn put_rule(
        &mut self,
        group: &mut Group<'_>,
        company: i64,
        (id, version): (i64, i64),
        spec: &RuleSpec,
    ) -> Decided {
        self.pending.push(Row::Rule(RuleRow {
            id,
            version,
            company_id: company,
            name: spec.name.to_string(),
            position: spec.order,
            condition: spec.condition.source().to_owned(),
            actions: spec.actions_source.clone(),
            active: spec.active,
            principal: group.order.principal.row(),
            changed_at: group.now,
        }));
        self.registry_mut().put_rule(Rule {
            id,
            company,
            name: spec.name.clone(),
            order: spec.order,
            condition: spec.condition.clone(),
            actions: spec.actions.clone(),
            active: spec.active,
            version,
        });
        let change = json!({
            "id": id,
            "version": version,
            "nombre": spec.name.as_str(),
            "orden": spec.order,
            "condicion": spec.condition.source(),
            "acciones": serde_json::from_str::<Value>(&spec.actions_source).unwrap_or_default(),
            "activa": spec.active,
        });
        note(group, (company, None), Subject::Rule, change)?;
        Ok(HubAnswer::Rule(id))
    }

    fn company(&self, slug: &Slug) -> Result<&Arc<Company>, HubRefusal> {
        self.registry
            .company(slug)
            .ok_or(HubRefusal::UnknownCompany)
    }

    fn device(&self, slug: &Slug) -> Result<&Arc<Device>, HubRefusal> {
        self.registry.device(slug).ok_or(HubRefusal::UnknownDevice)
    }
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "it ends decisions that answer `Decided`"
)]
fn note(group: &mut Group<'_>, place: Place, subject: Subject, change: Value) -> Decided {
    group.set(Some(place.0), place.1, Setting { subject, change });
    Ok(HubAnswer::Done)
}

/// Under which name a device's password is sealed: no key is called so, since names have no slash.
pub(in crate::storage) fn password_name(device: &Slug) -> String {
    format!("mqtt/{device}")
}

fn take(next: &mut i64) -> i64 {
    let taken = *next;
    *next += 1;
    taken
}

fn patched<T: Clone>(value: &mut T, patch: Option<&T>) {
    if let Some(patch) = patch {
        value.clone_from(patch);
    }
}

/// The name of a site's time zone. Only zones with a name are let in.
fn zone_name(site: &Site) -> String {
    site.time_zone.iana_name().unwrap_or("UTC").to_owned()
}

/// Whether a company lets the broker vouch for its devices, where that is asked for.
fn allow_trust(company: &Company, trust: Trust) -> Result<(), HubRefusal> {
    if trust == Trust::Broker && !company.broker_trust {
        return Err(HubRefusal::TrustNotAllowed);
    }
    Ok(())
}

fn company_change(slug: &str, name: &str, active: bool, broker_trust: bool) -> Value {
    json!({
        "empresa": slug,
        "nombre": name,
        "activa": active,
        "confianza_broker": broker_trust,
    })
}

fn site_change(company: &Company, site: &Site) -> Value {
    json!({
        "empresa": company.slug.as_str(),
        "sede": site.slug.as_str(),
        "nombre": site.name.as_str(),
        "zona_horaria": zone_name(site),
        "activa": site.active,
    })
}

fn device_change(device: &Device) -> Value {
    json!({
        "hardware": device.slug.as_str(),
        "tipo": device.kind.as_str(),
        "nombre": device.name.as_str(),
        "activo": device.active,
        "confianza": device.trust.name(),
    })
}
