//! The file that is a device's identity: its address, its key and its last number.
//!
//! A number that is used twice makes the second message look like a forgery, so the file is changed
//! only under a lock, and the change is on disk before the number is on the wire.

use super::jws::{Key, Signature, thirty_two};
use crate::domain::device::SEQUENCE_LIMIT;
use crate::domain::{Algorithm, DeviceAddress, Slug};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Its owner reads and writes it, nobody else.
const MODE: u32 = 0o600;

/// How often a lock that another process holds is tried again.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// Why a file of credentials is of no use; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialsError {
    /// There is no such file.
    #[error("{path} no existe: enrole el dispositivo con «atalaya device enrol»")]
    Missing {
        /// The file.
        path: String,
    },
    /// It says something else.
    #[error("{path} no es un archivo de credenciales: {reason}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong, without the file's content.
        reason: String,
    },
    /// Another process has it.
    #[error("otro proceso usa {path}; espere a que termine")]
    InUse {
        /// The file.
        path: String,
    },
    /// The counter is at its end.
    #[error("{path} no tiene más números: enrole una clave nueva con --rotar")]
    Exhausted {
        /// The file.
        path: String,
    },
    /// The file system refuses.
    #[error("no se puede {action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: String,
        /// What it said.
        error: io::Error,
    },
}

/// The identity of one device. `Debug` does not show the key.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    /// Who it is.
    pub(super) address: DeviceAddress,
    /// The installation that it talks to.
    pub(super) audience: String,
    /// The name of its key.
    pub(super) kid: String,
    /// Its key.
    pub(super) key: Key,
    /// What it signs in with at the broker, if it has anything.
    pub(super) password: Option<Password>,
    /// The last number that it used.
    pub(super) seq: u64,
}

/// A password at the broker. `Debug` keeps it to itself.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Password(pub(super) String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// The file as it is written. It has no `Debug`: it holds the secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    hardware: String,
    empresa: String,
    sede: String,
    aud: String,
    kid: String,
    alg: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    clave_privada: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secreto: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    contrasena_mqtt: Option<String>,
    seq: u64,
}

impl Credentials {
    /// What signs this device's messages.
    pub(super) fn signature(&self) -> Signature<'_> {
        Signature {
            audience: &self.audience,
            subject: &self.address,
            kid: &self.kid,
            key: &self.key,
        }
    }

    /// The password at the broker as a text.
    pub(super) fn password_text(&self) -> Option<&str> {
        self.password.as_ref().map(|Password(text)| text.as_str())
    }

    fn to_json(&self) -> io::Result<Vec<u8>> {
        let (clave_privada, secreto) = match self.key.algorithm() {
            Algorithm::EdDsa => (Some(self.key.reveal()), None),
            Algorithm::Hs256 => (None, Some(self.key.reveal())),
        };
        let stored = Stored {
            hardware: self.address.device.to_string(),
            empresa: self.address.company.to_string(),
            sede: self.address.site.to_string(),
            aud: self.audience.clone(),
            kid: self.kid.clone(),
            alg: self.key.algorithm().name().to_owned(),
            clave_privada,
            secreto,
            contrasena_mqtt: self.password.as_ref().map(|Password(text)| text.clone()),
            seq: self.seq,
        };
        let mut json = serde_json::to_vec_pretty(&stored)?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads a file's content; the error never repeats any of it.
    fn parse(json: &[u8]) -> Result<Self, String> {
        let stored: Stored = serde_json::from_slice(json).map_err(|e| match e.classify() {
            serde_json::error::Category::Data => {
                format!("falta un campo o sobra (línea {})", e.line())
            }
            _ => format!("no es JSON (línea {})", e.line()),
        })?;
        let slug = |name: &str, text: &str| Slug::parse(text).map_err(|e| format!("{name}: {e}"));
        let (algorithm, name, secret) = match (&*stored.alg, &stored.clave_privada, &stored.secreto)
        {
            ("EdDSA", Some(key), None) => (Algorithm::EdDsa, "clave_privada", key),
            ("HS256", None, Some(key)) => (Algorithm::Hs256, "secreto", key),
            _ => return Err("alg: EdDSA con clave_privada, o HS256 con secreto".to_owned()),
        };
        let bytes = thirty_two(secret)
            .ok_or_else(|| format!("{name}: se esperan 32 octetos en base64url"))?;
        Ok(Self {
            address: DeviceAddress {
                company: slug("empresa", &stored.empresa)?,
                site: slug("sede", &stored.sede)?,
                device: slug("hardware", &stored.hardware)?,
            },
            audience: stored.aud,
            kid: stored.kid,
            key: Key::new(algorithm, bytes),
            password: stored.contrasena_mqtt.map(Password),
            seq: stored.seq,
        })
    }
}

/// What the file at `path` says; `None` where there is no file. It is only read: other people's
/// files stay as they are, and have nothing put beside them.
///
/// # Errors
/// Where it cannot be read, or says something else.
fn read(path: &Path) -> Result<Option<Credentials>, CredentialsError> {
    let json = match std::fs::read(path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("leer", path)(error)),
    };
    match Credentials::parse(&json) {
        Ok(credentials) => Ok(Some(credentials)),
        Err(reason) => Err(CredentialsError::Malformed {
            path: path.display().to_string(),
            reason,
        }),
    }
}

/// What the file at `path` must say, only read.
///
/// # Errors
/// As [`read`], and [`CredentialsError::Missing`].
pub(super) fn expect(path: &Path) -> Result<Credentials, CredentialsError> {
    read(path)?.ok_or_else(|| CredentialsError::Missing {
        path: path.display().to_string(),
    })
}

/// A file of credentials that no other process of ours reads or changes while this lives.
#[derive(Debug)]
pub(super) struct Vault {
    path: PathBuf,
    /// The lock is on a file beside it, since the file itself is replaced at each change.
    beside: PathBuf,
    _lock: File,
}

impl Vault {
    /// Takes the file at `path`, whether it is there or not. Who must not touch what is no file of
    /// credentials asks [`expect`] first.
    ///
    /// # Errors
    /// [`CredentialsError::InUse`] where another process has it.
    pub(super) fn open(path: &Path) -> Result<Self, CredentialsError> {
        // Where the path is a link, its target is what is replaced.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let beside = lock_of(&path);
        loop {
            // The lock's own name is nothing to a person: errors tell of the file.
            let lock = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(MODE)
                .open(&beside)
                .map_err(io_error("escribir", &path))?;
            match lock.try_lock() {
                // Whoever had it removed it before letting go: that file holds nobody off.
                Ok(()) if !is_still_at(&lock, &beside) => {}
                Ok(()) => {
                    return Ok(Self {
                        path,
                        beside,
                        _lock: lock,
                    });
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(CredentialsError::InUse {
                        path: path.display().to_string(),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(io_error("bloquear", &path)(error)),
            }
        }
    }

    /// Takes the file of credentials at `path`, waiting for whoever has it.
    ///
    /// # Errors
    /// As [`expect`], and [`CredentialsError::InUse`] where it is not free within `patience`.
    pub(super) async fn wait_for(
        path: &Path,
        patience: Duration,
    ) -> Result<Self, CredentialsError> {
        expect(path)?;
        let end = Instant::now() + patience;
        loop {
            match Self::open(path) {
                Err(CredentialsError::InUse { .. }) if Instant::now() < end => {
                    tokio::time::sleep(LOCK_POLL).await;
                }
                other => return other,
            }
        }
    }

    /// What the file says; `None` where there is no file.
    ///
    /// # Errors
    /// Where it cannot be read, or says something else.
    pub(super) fn read(&self) -> Result<Option<Credentials>, CredentialsError> {
        read(&self.path)
    }

    /// What the file must say.
    ///
    /// # Errors
    /// As [`Vault::read`], and [`CredentialsError::Missing`].
    pub(super) fn expect(&self) -> Result<Credentials, CredentialsError> {
        expect(&self.path)
    }

    /// Finds out whether [`Vault::write`] will work, before anything is asked of the server.
    ///
    /// # Errors
    /// Where the folder cannot be written to.
    pub(super) fn rehearse(&self) -> Result<(), CredentialsError> {
        let path = with_suffix(&self.path, ".tmp");
        create_new(&path)?;
        std::fs::remove_file(&path).map_err(io_error("borrar", &path))
    }

    /// Replaces the file as a whole; when it returns, the new one is on disk. Until then the old
    /// one is.
    ///
    /// # Errors
    /// Where the file system refuses.
    pub(super) fn write(&self, credentials: &Credentials) -> Result<(), CredentialsError> {
        let path = with_suffix(&self.path, ".tmp");
        let mut file = create_new(&path)?;
        credentials
            .to_json()
            .and_then(|json| file.write_all(&json))
            .and_then(|()| file.sync_all())
            .map_err(io_error("escribir", &path))?;
        std::fs::rename(&path, &self.path).map_err(io_error("reemplazar", &self.path))?;
        // The rename itself must survive a power cut as well.
        let folder = match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(io_error("guardar", folder))
    }
}

impl Drop for Vault {
    /// Nothing is left beside the file. The lock is still held, so nobody else's is removed.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.beside);
    }
}

/// The lock of the file at `path`: hidden, and by a name that no other program gives its own.
fn lock_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".atalaya-lock");
    path.with_file_name(name)
}

/// Whether `file` is the one that is at `path` now.
fn is_still_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// A file that was not there and that its owner alone may read. Under our lock one that is there
/// was left behind by a process that died.
fn create_new(path: &Path) -> Result<File, CredentialsError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("borrar", path)(error));
        }
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)
        .map_err(io_error("crear", path))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CredentialsError {
    let path = path.display().to_string();
    move |error| CredentialsError::Io {
        action,
        path,
        error,
    }
}

/// The numbers of one device, in blocks: the file says the last one of the block before the first
/// one is used. Atalaya takes gaps, so a crash in the middle of a block costs nothing.
#[derive(Debug)]
pub(super) struct Numbers {
    /// `None` for a device that has no file.
    vault: Option<Vault>,
    credentials: Credentials,
    /// The last number that the file says is used.
    reserved: u64,
    block: u64,
}

impl Numbers {
    /// The numbers of the device in `vault`, reserved `block` at a time.
    ///
    /// # Errors
    /// As [`Vault::expect`].
    pub(super) fn open(vault: Vault, block: u64) -> Result<Self, CredentialsError> {
        let credentials = vault.expect()?;
        Ok(Self {
            reserved: credentials.seq,
            vault: Some(vault),
            credentials,
            block,
        })
    }

    /// The numbers of a device that nobody will remember.
    pub(super) const fn ephemeral(credentials: Credentials) -> Self {
        Self {
            vault: None,
            reserved: u64::MAX,
            credentials,
            block: 1,
        }
    }

    /// Whose numbers they are.
    pub(super) const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The next number, which nobody else will have.
    ///
    /// # Errors
    /// Where the file cannot be written, or the numbers have run out.
    pub(super) fn take(&mut self) -> Result<u64, CredentialsError> {
        let next = self.credentials.seq.saturating_add(1);
        if next >= SEQUENCE_LIMIT {
            let path = self
                .vault
                .as_ref()
                .map(|vault| vault.path.display().to_string());
            return Err(CredentialsError::Exhausted {
                path: path.unwrap_or_default(),
            });
        }
        if next > self.reserved
            && let Some(vault) = &self.vault
        {
            let last = self.credentials.seq.saturating_add(self.block);
            let seq = last.min(SEQUENCE_LIMIT - 1);
            vault.write(&Credentials {
                seq,
                ..self.credentials.clone()
            })?;
            self.reserved = seq;
        }
        self.credentials.seq = next;
        Ok(next)
    }

    /// Gives back what was reserved and not used, and the file with it.
    ///
    /// # Errors
    /// Where the file cannot be written; the numbers are lost then, which does no harm.
    pub(super) fn close(self) -> Result<(), CredentialsError> {
        match &self.vault {
            Some(vault) if self.reserved != self.credentials.seq => vault.write(&self.credentials),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn credentials(algorithm: Algorithm) -> Credentials {
        Credentials {
            address: "banco/principal/boton-1".parse().unwrap(),
            audience: "atalaya".to_owned(),
            kid: "k1".to_owned(),
            key: Key::new(algorithm, [7; 32]),
            password: (algorithm == Algorithm::EdDsa).then(|| Password("palabra".to_owned())),
            seq: 41,
        }
    }

    #[test]
    fn files_are_read_back_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boton-1.json");
        for algorithm in [Algorithm::EdDsa, Algorithm::Hs256] {
            let vault = Vault::open(&path).unwrap();
            let written = credentials(algorithm);
            vault.write(&written).unwrap();
            let read = vault.expect().unwrap();
            assert_eq!(read.to_json().unwrap(), written.to_json().unwrap());
            assert_eq!(read.password, written.password);
            assert!(!format!("{read:?}").contains("palabra"));
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, MODE);
            let lock = std::fs::metadata(folder.path().join(".boton-1.json.atalaya-lock"));
            assert_eq!(lock.unwrap().permissions().mode() & 0o777, MODE);
        }
        assert_eq!(names_in(folder.path()), ["boton-1.json"]);
    }

    fn names_in(folder: &Path) -> Vec<OsString> {
        std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect()
    }

    #[tokio::test]
    async fn what_is_no_file_of_credentials_has_nothing_put_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwd");
        std::fs::write(&path, "root:x:0:0").unwrap();
        let error = Vault::wait_for(&path, Duration::ZERO).await.unwrap_err();
        assert!(
            matches!(error, CredentialsError::Malformed { .. }),
            "{error}"
        );
        let missing = folder.path().join("d.json");
        let error = Vault::wait_for(&missing, Duration::ZERO).await.unwrap_err();
        assert!(matches!(error, CredentialsError::Missing { .. }), "{error}");
        assert_eq!(names_in(folder.path()), ["passwd"]);

        let nowhere = folder.path().join("none/d.json");
        let error = Vault::open(&nowhere).unwrap_err().to_string();
        assert!(error.contains("none/d.json:"), "{error}");
    }

    #[test]
    fn what_is_left_of_a_dead_process_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.json");
        std::fs::write(with_suffix(&path, ".tmp"), "half").unwrap();
        let vault = Vault::open(&path).unwrap();
        vault.rehearse().unwrap();
        vault.write(&credentials(Algorithm::EdDsa)).unwrap();
        assert_eq!(vault.expect().unwrap().seq, 41);
    }

    #[test]
    fn errors_name_the_trouble_and_keep_the_secret() {
        let good = String::from_utf8(credentials(Algorithm::EdDsa).to_json().unwrap()).unwrap();
        let secret = credentials(Algorithm::EdDsa).key.reveal();
        for (bad, reason) in [
            (good.replace("\"seq\"", "\"sec\""), "falta un campo"),
            (good.replace("EdDSA", "none"), "alg"),
            (good.replace("clave_privada", "secreto"), "alg"),
            (good.replace(&secret, &secret[1..]), "clave_privada"),
            (good.replace("principal", "a/b"), "sede"),
            (good.replace('}', ""), "no es JSON"),
            (String::new(), "no es JSON"),
        ] {
            let error = Credentials::parse(bad.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{error}");
            assert!(!error.contains(&secret[1..]));
        }
    }

    #[test]
    fn a_number_is_on_disk_before_it_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.json");
        Vault::open(&path)
            .unwrap()
            .write(&credentials(Algorithm::EdDsa))
            .unwrap();
        let on_disk = || {
            Credentials::parse(&std::fs::read(&path).unwrap())
                .unwrap()
                .seq
        };

        let mut one = Numbers::open(Vault::open(&path).unwrap(), 1).unwrap();
        assert_eq!((one.take().unwrap(), on_disk()), (42, 42));
        assert_eq!((one.take().unwrap(), on_disk()), (43, 43));
        drop(one);

        let mut block = Numbers::open(Vault::open(&path).unwrap(), 10).unwrap();
        assert_eq!((block.take().unwrap(), on_disk()), (44, 53));
        assert_eq!((block.take().unwrap(), on_disk()), (45, 53));
        block.close().unwrap();
        assert_eq!(on_disk(), 45, "what was not used is given back");

        let mut killed = Numbers::open(Vault::open(&path).unwrap(), 10).unwrap();
        assert_eq!(killed.take().unwrap(), 46);
        drop(killed);
        let mut next = Numbers::open(Vault::open(&path).unwrap(), 1).unwrap();
        assert_eq!(next.take().unwrap(), 56, "after a crash none is used again");
    }

    #[test]
    fn two_never_have_one_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.json");
        Vault::open(&path)
            .unwrap()
            .write(&credentials(Algorithm::EdDsa))
            .unwrap();
        let take = |path: PathBuf| {
            move || {
                let mut taken = Vec::new();
                while taken.len() < 25 {
                    if let Ok(vault) = Vault::open(&path) {
                        taken.push(Numbers::open(vault, 1).unwrap().take().unwrap());
                    } else {
                        std::thread::yield_now();
                    }
                }
                taken
            }
        };
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(take(path.clone())))
            .collect();
        let mut all: Vec<u64> = threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect();
        all.sort_unstable();
        assert_eq!(all, (42..142).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn who_comes_second_waits_or_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.json");
        let held = Vault::open(&path).unwrap();
        held.write(&credentials(Algorithm::EdDsa)).unwrap();
        let patience = Duration::from_millis(1);
        let error = Vault::wait_for(&path, patience).await.unwrap_err();
        assert!(matches!(error, CredentialsError::InUse { .. }), "{error}");
        drop(held);
        assert!(Vault::wait_for(&path, patience).await.is_ok());
        let missing = folder.path().join("none.json");
        assert!(matches!(
            Vault::open(&missing).unwrap().expect(),
            Err(CredentialsError::Missing { .. })
        ));
    }

    #[test]
    fn numbers_end() {
        let mut numbers = Numbers::ephemeral(Credentials {
            seq: SEQUENCE_LIMIT - 2,
            ..credentials(Algorithm::EdDsa)
        });
        assert_eq!(numbers.take().unwrap(), SEQUENCE_LIMIT - 1);
        assert!(numbers.take().is_err());
    }
}
