//! Where the shared secrets of devices are sealed: under a key that is not in the database.
//!
//! XChaCha20-Poly1305 with a random nonce before the sealed bytes and the key's `kid` as
//! associated data, so that a secret moved to another key's row does not open.

use crate::domain::device::Secret;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NONCE: usize = 24;

/// Why the vault does not open.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The file is missing, and there are secrets that only it opens.
    #[error(
        "DEVICE_KEK_FILE: {path:?} is missing, and it opens the shared secrets of devices in the \
         database; restore it"
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The file is no key.
    #[error("DEVICE_KEK_FILE: {path:?} is not 32 bytes in base64")]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("DEVICE_KEK_FILE: cannot use {path:?}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No randomness could be had.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
    /// A secret does not open.
    #[error(
        "the shared secret of key {kid} does not open: DEVICE_KEK_FILE is another than it was \
         sealed under"
    )]
    Sealed {
        /// Which key.
        kid: String,
    },
}

/// Seals and opens; clones share the key. `Debug` says nothing of it.
#[derive(Clone)]
pub struct Vault(Arc<XChaCha20Poly1305>);

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(…)")
    }
}

impl Vault {
    /// Opens the vault with the key in `path`, which is made where it is missing, unless secrets
    /// are sealed already (`in_use`).
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn open(path: &Path, in_use: bool) -> Result<Self, VaultError> {
        let file = |source| VaultError::File {
            path: path.to_owned(),
            source,
        };
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let key = BASE64_STANDARD.decode(text.trim()).ok();
                key.and_then(|key| Self::from_key(&key))
                    .ok_or_else(|| VaultError::Malformed {
                        path: path.to_owned(),
                    })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && in_use => {
                Err(VaultError::Missing {
                    path: path.to_owned(),
                })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key: [u8; 32] = random()?;
                write_key(path, &key).map_err(file)?;
                Self::from_key(&key).ok_or_else(|| VaultError::Malformed {
                    path: path.to_owned(),
                })
            }
            Err(error) => Err(file(error)),
        }
    }

    fn from_key(key: &[u8]) -> Option<Self> {
        let cipher = XChaCha20Poly1305::new_from_slice(key).ok()?;
        Some(Self(Arc::new(cipher)))
    }

    /// Seals the secret of the key called `kid`.
    ///
    /// # Errors
    /// [`VaultError::Random`].
    pub fn seal(&self, kid: &str, secret: &Secret) -> Result<Vec<u8>, VaultError> {
        let nonce: [u8; NONCE] = random()?;
        let payload = Payload {
            msg: &secret.0,
            aad: kid.as_bytes(),
        };
        let sealed = self
            .0
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| VaultError::Sealed { kid: kid.into() })?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens the sealed secret of the key called `kid`.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub fn unseal(&self, kid: &str, sealed: &[u8]) -> Result<Secret, VaultError> {
        let wrong = || VaultError::Sealed { kid: kid.into() };
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>().ok_or_else(wrong)?;
        let payload = Payload {
            msg: sealed,
            aad: kid.as_bytes(),
        };
        let opened = self
            .0
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| wrong())?;
        opened.try_into().map(Secret).map_err(|_| wrong())
    }
}

/// Random bytes from the system.
///
/// # Errors
/// [`VaultError::Random`].
pub fn random<const N: usize>() -> Result<[u8; N], VaultError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| VaultError::Random(e.to_string()))?;
    Ok(bytes)
}

/// Writes a new key file that nobody else may read, whole or not at all: it is on disk before it
/// is used and before it has its name.
fn write_key(path: &Path, key: &[u8; 32]) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let fresh = PathBuf::from(name);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    writeln!(file, "{}", BASE64_STANDARD.encode(key))?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::File::open(folder)?.sync_all(),
        _ => std::fs::File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_sealed_opens_for_its_own_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        let vault = Vault::open(&path, false).unwrap();
        let secret = Secret([7; 32]);
        let sealed = vault.seal("k1", &secret).unwrap();
        assert!(!sealed.windows(8).any(|bytes| bytes == [7; 8]));
        assert_ne!(sealed, vault.seal("k1", &secret).unwrap());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let again = Vault::open(&path, true).unwrap();
        assert_eq!(again.unseal("k1", &sealed).unwrap(), secret);
        assert!(again.unseal("k2", &sealed).is_err());
        assert!(again.unseal("k1", &sealed[..40]).is_err());

        std::fs::remove_file(&path).unwrap();
        assert!(matches!(
            Vault::open(&path, true),
            Err(VaultError::Missing { .. })
        ));
        let other = Vault::open(&path, false).unwrap();
        assert!(matches!(
            other.unseal("k1", &sealed),
            Err(VaultError::Sealed { .. })
        ));
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(
            Vault::open(&path, false),
            Err(VaultError::Malformed { .. })
        ));
    }
}
