//! Who is let in, as of the last commit: looked at by every request, without the database.

use crate::domain::token::{Token, TokenDigest};
use crate::domain::{Identity, Slug};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

/// A person, or a program with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its row in `principals`.
    pub row: i64,
    /// Its name: a person's to sign in with.
    pub username: Slug,
    /// Whether it is a person, who can sign in.
    pub is_person: bool,
    /// Whether it is let in.
    pub active: bool,
    /// Whether it signs in with a second factor.
    pub has_second_factor: bool,
    /// Who it is and what it may.
    pub identity: Arc<Identity>,
}

/// What a token stands for.
#[derive(Debug)]
pub struct Pass {
    /// Names it: the digest of its token.
    pub digest: TokenDigest,
    /// The session's row; `None` for a program's token.
    pub session: Option<i64>,
    /// Whose it is.
    pub subject: i64,
    /// When it ends whatever happens, in microseconds since 1970 UTC.
    pub expires_at: i64,
    /// When a session was last used.
    seen_at: AtomicI64,
    /// When that was last written.
    saved_at: AtomicI64,
}

impl Pass {
    /// A pass that was last used at `seen_at`.
    #[must_use]
    pub const fn new(
        digest: TokenDigest,
        session: Option<i64>,
        subject: i64,
        expires_at: i64,
        seen_at: i64,
    ) -> Self {
        Self {
            digest,
            session,
            subject,
            expires_at,
            seen_at: AtomicI64::new(seen_at),
            saved_at: AtomicI64::new(seen_at),
        }
    }

    /// When it was last used.
    #[must_use]
    pub fn seen_at(&self) -> i64 {
        self.seen_at.load(Ordering::Relaxed)
    }
}

/// Somebody who has shown a token that is good.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The token's pass.
    pub pass: Arc<Pass>,
    /// Whose it is.
    pub subject: Arc<Subject>,
}

/// A change that becomes visible with the commit that made it.
pub(super) enum Change {
    Subject(Subject),
    Opened(Pass),
    Ended(TokenDigest),
}

#[derive(Default)]
struct Inner {
    subjects: HashMap<i64, Arc<Subject>>,
    names: HashMap<Slug, i64>,
    passes: HashMap<TokenDigest, Arc<Pass>>,
}

impl Inner {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Subject(subject) => {
                // A program may be called as somebody is, and is not found in their place.
                if subject.is_person {
                    self.names.insert(subject.username.clone(), subject.row);
                }
                self.subjects.insert(subject.row, Arc::new(subject));
            }
            Change::Opened(pass) => {
                self.passes.insert(pass.digest, Arc::new(pass));
            }
            Change::Ended(digest) => {
                self.passes.remove(&digest);
            }
        }
    }
}

/// Who is let in.
pub struct AccessView {
    inner: RwLock<Inner>,
    /// How long a session may be unused, in microseconds.
    idle: i64,
}

impl std::fmt::Debug for AccessView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessView(…)")
    }
}

impl AccessView {
    /// A view in which nobody is let in yet, and sessions end when they are unused for `idle`.
    #[must_use]
    pub fn new(idle: Duration) -> Self {
        Self {
            inner: RwLock::default(),
            idle: i64::try_from(idle.as_micros()).unwrap_or(i64::MAX),
        }
    }

    /// Who shows `token`, if it is good at `now`; it counts as used.
    #[must_use]
    pub fn identify(&self, token: &Token, now: i64) -> Option<Standing> {
        let digest = token.digest();
        let inner = self.read();
        let pass = inner.passes.get(&digest)?;
        if !self.is_good(pass, now) {
            return None;
        }
        let subject = inner.subjects.get(&pass.subject)?;
        if !subject.active {
            return None;
        }
        pass.seen_at.fetch_max(now, Ordering::Relaxed);
        Some(Standing {
            pass: Arc::clone(pass),
            subject: Arc::clone(subject),
        })
    }

    /// Whether somebody who was let in earlier would still be let in, as the same. `in_use`: an
    /// open connection counts as use.
    #[must_use]
    pub fn stands(&self, standing: &Standing, now: i64, in_use: bool) -> bool {
        let inner = self.read();
        let Some(pass) = inner.passes.get(&standing.pass.digest) else {
            return false;
        };
        if in_use {
            pass.seen_at.fetch_max(now, Ordering::Relaxed);
        }
        let subject = inner.subjects.get(&pass.subject);
        self.is_good(pass, now)
            && subject.is_some_and(|subject| {
                subject.active && subject.identity == standing.subject.identity
            })
    }

    /// The person or program with this row.
    #[must_use]
    pub fn subject(&self, row: i64) -> Option<Arc<Subject>> {
        self.read().subjects.get(&row).cloned()
    }

    /// The person called `username`.
    #[must_use]
    pub fn person(&self, username: &Slug) -> Option<Arc<Subject>> {
        let inner = self.read();
        inner.subjects.get(inner.names.get(username)?).cloned()
    }

    /// When a session was last used, if it is there.
    #[must_use]
    pub fn seen_at(&self, digest: &TokenDigest) -> Option<i64> {
        self.read().passes.get(digest).map(|pass| pass.seen_at())
    }

    /// The sessions that were used since they were last written, with when. Each is told once.
    #[must_use]
    pub fn take_seen(&self) -> Vec<(i64, i64)> {
        let inner = self.read();
        let used = inner.passes.values().filter_map(|pass| {
            let (session, seen) = (pass.session?, pass.seen_at());
            let saved = pass.saved_at.swap(seen, Ordering::Relaxed);
            (saved < seen).then_some((session, seen))
        });
        used.collect()
    }

    /// The latest time at which a session may last have been used to be over at `now`.
    #[must_use]
    pub const fn idle_since(&self, now: i64) -> i64 {
        now.saturating_sub(self.idle)
    }

    fn is_good(&self, pass: &Pass, now: i64) -> bool {
        let unused = pass.session.is_some() && pass.seen_at() <= self.idle_since(now);
        now < pass.expires_at && !unused
    }

    pub(super) fn replace(&self, changes: Vec<Change>) {
        let mut inner = Inner::default();
        for change in changes {
            inner.apply(change);
        }
        *self.write() = inner;
    }

    pub(super) fn apply(&self, changes: impl Iterator<Item = Change>) {
        let mut inner = self.write();
        for change in changes {
            inner.apply(change);
        }
    }

    /// Forgets sessions that are over at `now`.
    pub(super) fn prune(&self, now: i64) {
        self.write()
            .passes
            .retain(|_, pass| self.is_good(pass, now));
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}
