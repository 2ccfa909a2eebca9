//! Addresses as those who limit them see them, and how they limit.

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What one subscriber of a provider has: an IPv4 address, or a /64 of IPv6 (RFC 6177).
#[must_use]
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// Whether `address` is this machine's own, also as a port that hears both families shows it
/// (`::ffff:127.0.0.1`).
#[must_use]
pub fn is_own(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// How many connections each address has of those that it may have at once; clones share them.
#[derive(Debug, Clone)]
pub struct AddressPlaces {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
}

/// The address has as many connections as it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoPlace;

impl AddressPlaces {
    /// `most` connections of one address at once; this machine's own are not limited, since a
    /// reverse proxy's clients all come from it.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            taken: Arc::default(),
            most,
        }
    }

    /// A place for one more connection of `address`; `None` where there is no limit.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub fn take(&self, address: IpAddr) -> Result<Option<AddressPlace>, NoPlace> {
        if is_own(address) {
            return Ok(None);
        }
        let address = subscriber(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_default();
        if *count >= self.most {
            if *count == 0 {
                taken.remove(&address);
            }
            return Err(NoPlace);
        }
        *count += 1;
        Ok(Some(AddressPlace {
            places: Arc::clone(&self.taken),
            address,
        }))
    }
}

/// One connection of an address, until it is dropped.
#[derive(Debug)]
pub struct AddressPlace {
    places: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = places.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                places.remove(&self.address);
            }
        }
    }
}

/// Keys after which those that nobody uses are dropped: some megabytes at most.
const KEYS: usize = 20_000;

/// How often keys are dropped at most. To drop them takes time that grows with their number, and
/// whoever has many addresses must not make every request pay it.
const SWEEP: Duration = Duration::from_secs(1);

/// So much by key. A key whose quota is whole again is dropped, so that there are never more keys
/// than were used within a second and the time in which a quota becomes whole.
#[derive(Debug)]
pub struct KeyedLimit<K: Clone + Eq + Hash> {
    limiter: RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock>,
    clock: DefaultClock,
    opened: Instant,
    /// When keys were last dropped, in milliseconds since `opened`.
    swept: AtomicU64,
}

impl<K: Clone + Eq + Hash> KeyedLimit<K> {
    /// A limit of `quota` for each key.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self {
            limiter: RateLimiter::keyed(quota),
            clock: DefaultClock::default(),
            opened: Instant::now(),
            swept: AtomicU64::new(0),
        }
    }

    /// Counts one of `key`.
    ///
    /// # Errors
    /// How many seconds to wait, at least one.
    pub fn check(&self, key: &K) -> Result<(), u64> {
        self.sweep();
        self.limiter.check_key(key).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            // Whole seconds, and never too few.
            (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
        })
    }

    fn sweep(&self) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        let swept = self.swept.load(Ordering::Relaxed);
        let is_due = u128::from(now.saturating_sub(swept)) >= SWEEP.as_millis();
        let is_mine = is_due && self.limiter.len() > KEYS;
        // One of those who find it due does it.
        if is_mine
            && self
                .swept
                .compare_exchange(swept, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    #[test]
    fn keys_that_nobody_uses_any_more_are_dropped() {
        let thousand = NonZeroU32::new(1_000).unwrap();
        let limit = KeyedLimit::new(Quota::per_second(thousand));
        for key in 0..=KEYS {
            assert_eq!(limit.check(&key), Ok(()));
        }
        assert!(limit.limiter.len() > KEYS);
        std::thread::sleep(SWEEP + Duration::from_millis(100));
        assert_eq!(limit.check(&0), Ok(()));
        assert_eq!(limit.limiter.len(), 1);
    }

    #[test]
    fn an_address_has_so_many_places_and_this_machine_any_number() {
        let places = AddressPlaces::new(2);
        let take = |text: &str| places.take(text.parse().unwrap());
        let first = take("203.0.113.7").unwrap();
        let second = take("203.0.113.7").unwrap();
        assert_eq!(take("203.0.113.7").unwrap_err(), NoPlace);
        assert!(take("203.0.113.8").is_ok());
        drop(first);
        assert!(take("203.0.113.7").is_ok());
        assert!((0..100).all(|_| take("127.0.0.1").unwrap().is_none()));
        drop(second);
        assert!(places.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn this_machine_is_known_in_both_families() {
        for own in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_own(own.parse().unwrap()), "{own}");
        }
        for foreign in ["203.0.113.7", "::ffff:203.0.113.7", "2001:db8::1", "::"] {
            assert!(!is_own(foreign.parse().unwrap()), "{foreign}");
        }
        let mapped = subscriber("::ffff:203.0.113.7".parse().unwrap());
        assert_eq!(mapped, IpAddr::from([203, 0, 113, 7]));
    }
}
