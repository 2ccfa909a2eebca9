//! Hashing passwords: slow on purpose, so a bounded number at a time and never in a handler.

use crate::domain::password::Password;
use crate::storage::access::PasswordHash;
use argon2::password_hash::{PasswordHash as Parsed, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Memory in KiB, passes and lanes of Argon2id: what OWASP's cheat sheet asks for at least. A hash
/// takes some 20 ms and 19 MiB.
const MEMORY: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Hashes at once: two processors, and the rest of the house wants some of them.
const AT_ONCE: usize = 2;

/// Who may wait for one; more are told to come again.
const WAITING: usize = 64;

/// How long anybody waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Too many passwords at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords at once")]
pub struct Busy;

/// Hashes and checks passwords on threads that may block.
#[derive(Debug, Clone)]
pub(super) struct Hashing {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// The hash of a password that nobody has, checked where there is nobody, so that it takes as
    /// long.
    nobody: Arc<OnceLock<String>>,
}

impl Hashing {
    pub(super) fn new() -> Self {
        Self {
            running: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            nobody: Arc::new(OnceLock::new()),
        }
    }

    /// The hash of a password.
    pub(super) async fn hash(&self, password: Password) -> Result<PasswordHash, Busy> {
        self.run(move || hash(&password)).await?.ok_or(Busy)
    }

    /// Whether `password` is the one behind `hash`. `None` is never right, and takes as long.
    pub(super) async fn verify(
        &self,
        password: Password,
        hash_of: Option<String>,
    ) -> Result<bool, Busy> {
        let nobody = Arc::clone(&self.nobody);
        self.run(move || {
            let of_nobody = || {
                let made = || hash(&Password::typed("nobody's")).map_or_else(String::new, |h| h.0);
                nobody.get_or_init(made).clone()
            };
            let is_somebody = hash_of.is_some();
            let hash = hash_of.unwrap_or_else(of_nobody);
            verify(&password, &hash) && is_somebody
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let _place = self.waiting.try_acquire().map_err(|_| Busy)?;
        let running = Arc::clone(&self.running).acquire_owned();
        let permit = tokio::time::timeout(PATIENCE, running)
            .await
            .map_err(|_| Busy)?
            .map_err(|_| Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            // Held until the work is done, even if whoever waits for it goes away.
            let _permit = permit;
            work()
        });
        done.await.map_err(|_| Busy)
    }
}

fn argon2() -> Option<Argon2<'static>> {
    let params = Params::new(MEMORY, PASSES, LANES, None).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// The hash of a password, in PHC form. Takes some 20 ms, so not in a handler.
#[must_use]
pub fn hash(password: &Password) -> Option<PasswordHash> {
    let random: [u8; 16] = crate::storage::vault::random().ok()?;
    let salt = SaltString::encode_b64(&random).ok()?;
    let hash = argon2()?.hash_password(password.reveal().as_bytes(), &salt);
    hash.ok().map(|hash| PasswordHash(hash.to_string()))
}

fn verify(password: &Password, hash: &str) -> bool {
    let Ok(parsed) = Parsed::new(hash) else {
        return false;
    };
    argon2().is_some_and(|argon2| {
        argon2
            .verify_password(password.reveal().as_bytes(), &parsed)
            .is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn a_password_opens_its_own_hash_and_nobodys_opens_none() {
        let hashing = Hashing::new();
        let password = Password::typed("correct horse battery");
        let hash = hashing.hash(password.clone()).await.unwrap().0;
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        assert!(hashing.verify(password, Some(hash.clone())).await.unwrap());
        let other = Password::typed("correct horse staple");
        assert!(!hashing.verify(other, Some(hash)).await.unwrap());
        let guess = Password::typed("nobody's");
        assert!(!hashing.verify(guess, None).await.unwrap());
    }
}
