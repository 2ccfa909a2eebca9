//! Before the play: every device gets its identity, from the folder or from the server.

use super::super::credentials::{Credentials, CredentialsError, Numbers, Vault};
use super::super::enrol::{Enrolment, enrol};
use super::super::jws::{Key, base64url};
use super::super::link::LinkSettings;
use super::super::registry::{Registry, RegistryError};
use super::super::scenario::{Forgery, Group, Scenario};
use super::player::Role;
use crate::cli::broker::BrokerArgs;
use crate::config::ConfigError;
use crate::domain::DeviceAddress;
use std::collections::HashSet;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Numbers that a device reserves at a time: one flush of the disk for so many messages.
const BLOCK: u64 = 500;

/// Why the play cannot begin; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum CastError {
    /// Of the server.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Of a file.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Of the command line.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Of the folder.
    #[error("no se puede crear la carpeta {path}: {error}")]
    Folder {
        /// Which.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// A device has no identity and is to get none.
    #[error("{path} no existe: enrole {device} con «atalaya device enrol», o añada [enrolar]")]
    Unknown {
        /// The device.
        device: String,
        /// Its file.
        path: String,
    },
    /// The file is of another device.
    #[error("{path} es de {found}, no de {device}")]
    AnotherDevice {
        /// The device.
        device: String,
        /// Whose it is.
        found: String,
        /// The file.
        path: String,
    },
    /// A revoked key can only be made where keys can be made.
    #[error("forjado = \"clave_revocada\" pide [enrolar]")]
    NothingToRevoke,
}

/// Gives out the identities.
pub(super) struct Casting<'a> {
    scenario: &'a Scenario,
    folder: &'a Path,
    broker: &'a BrokerArgs,
    registry: Option<Registry>,
    /// Companies and sites that are there for sure.
    places: HashSet<String>,
    enrolled: usize,
}

impl<'a> Casting<'a> {
    /// Prepares to enrol at `registry`, if the scenario asks for it.
    ///
    /// # Errors
    /// Where the folder cannot be made.
    pub(super) fn new(
        scenario: &'a Scenario,
        folder: &'a Path,
        broker: &'a BrokerArgs,
        registry: Option<Registry>,
    ) -> Result<Self, CastError> {
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder);
        made.map_err(|error| CastError::Folder {
            path: folder.display().to_string(),
            error,
        })?;
        Ok(Self {
            scenario,
            folder,
            broker,
            registry,
            places: HashSet::new(),
            enrolled: 0,
        })
    }

    /// How many devices were enrolled.
    pub(super) const fn enrolled(&self) -> usize {
        self.enrolled
    }

    /// The identity of one device, and where it connects.
    ///
    /// # Errors
    /// [`CastError`].
    pub(super) async fn role(
        &mut self,
        group: &Group,
        address: DeviceAddress,
        place: u64,
    ) -> Result<Role, CastError> {
        let numbers = match group.forjado {
            Some(Forgery::ClaveDesconocida) => {
                Numbers::ephemeral(self.unknown(group, &address).await?)
            }
            Some(Forgery::ClaveRevocada) => {
                Numbers::ephemeral(self.revoked(group, address.clone()).await?)
            }
            Some(Forgery::EmpresaAjena) | None => self.honest(group, &address).await?,
        };
        let password = numbers.credentials().password_text();
        let login = self.broker.login_of(&address.device, password)?;
        Ok(Role {
            numbers,
            settings: LinkSettings {
                host: self.broker.host.clone(),
                port: self.broker.port,
                login,
                tls: self.broker.tls()?,
                publishes_as: group.finge.clone().unwrap_or_else(|| address.clone()),
                device: address,
                presence: group.estado,
                session: u32::try_from(group.sesion.0.as_secs()).unwrap_or(u32::MAX),
            },
            forged: group.forjado.is_some(),
            place,
        })
    }

    /// A key that nobody has registered, under a name that looks like one. The device itself is
    /// registered where that can be done: otherwise its broker would not even let it in.
    async fn unknown(
        &mut self,
        group: &Group,
        address: &DeviceAddress,
    ) -> Result<Credentials, CastError> {
        let password = match self.registry {
            Some(_) => {
                let known = self.enrol(group, address.clone()).await?;
                self.revoke(&known).await?;
                known.password
            }
            None => None,
        };
        let mut name = [0; 12];
        getrandom::fill(&mut name).map_err(RegistryError::from)?;
        Ok(Credentials {
            address: address.clone(),
            audience: self.scenario.aud.clone(),
            kid: base64url(&name),
            key: Key::random(group.alg).map_err(RegistryError::from)?,
            password,
            seq: 0,
        })
    }

    /// A key that was good for a moment.
    async fn revoked(
        &mut self,
        group: &Group,
        address: DeviceAddress,
    ) -> Result<Credentials, CastError> {
        let credentials = self.enrol(group, address).await?;
        self.revoke(&credentials).await?;
        Ok(credentials)
    }

    async fn revoke(&self, credentials: &Credentials) -> Result<(), CastError> {
        let Some(registry) = &self.registry else {
            return Err(CastError::NothingToRevoke);
        };
        registry
            .revoke(&credentials.address.device, &credentials.kid)
            .await?;
        Ok(())
    }

    /// The identity in the folder, as long as the server knows it.
    async fn honest(
        &mut self,
        group: &Group,
        address: &DeviceAddress,
    ) -> Result<Numbers, CastError> {
        let path = self.folder.join(format!("{}.json", address.device));
        let vault = Vault::open(&path)?;
        if !self.is_usable(vault.read()?, address, &path).await? {
            let credentials = self.enrol(group, address.clone()).await?;
            vault.write(&credentials)?;
        }
        let mut found = vault.expect()?;
        if let (Some(registry), None) = (&self.registry, &found.password) {
            // Written before brokers asked who comes.
            found.password = Some(registry.new_password(&address.device).await?);
            vault.write(&found)?;
        }
        Ok(Numbers::open(vault, BLOCK)?)
    }

    async fn is_usable(
        &self,
        found: Option<Credentials>,
        address: &DeviceAddress,
        path: &Path,
    ) -> Result<bool, CastError> {
        let path = || path.display().to_string();
        match (found, &self.registry) {
            (Some(found), _) if found.address != *address => Err(CastError::AnotherDevice {
                device: address.to_string(),
                found: found.address.to_string(),
                path: path(),
            }),
            (Some(found), Some(registry)) => Ok(registry.knows(address, &found.kid).await?),
            (Some(_), None) => Ok(true),
            (None, Some(_)) => Ok(false),
            (None, None) => Err(CastError::Unknown {
                device: address.to_string(),
                path: path(),
            }),
        }
    }

    async fn enrol(
        &mut self,
        group: &Group,
        address: DeviceAddress,
    ) -> Result<Credentials, CastError> {
        let (Some(registry), Some(enrolment)) = (&self.registry, &self.scenario.enrolar) else {
            return Err(CastError::NothingToRevoke);
        };
        let place = format!("{}/{}", address.company, address.site);
        let enrolment = Enrolment {
            create_place: enrolment.crear && self.places.insert(place),
            address,
            kind: &group.tipo,
            name: group.nombre.as_deref(),
            algorithm: group.alg,
            audience: self.scenario.aud.clone(),
        };
        let (credentials, _) = enrol(registry, enrolment).await?;
        self.enrolled += 1;
        Ok(credentials)
    }
}

/// Where credentials are kept unless the command line says otherwise.
pub(super) fn default_folder() -> PathBuf {
    PathBuf::from("credenciales")
}
