//! How often somebody may try to sign in.

use crate::network::subscriber;
use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

type Limiter<K> = RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock>;

/// Keys after which those that nobody uses are dropped: some megabytes at most.
const KEYS: usize = 20_000;

/// Attempts to sign in, limited by account and address. All attempts count, the good ones too, so
/// that the answer does not tell them apart; people sign in a few times a day.
///
/// By account and address together first: whoever guesses somebody's password locks out themselves
/// and not its owner, who comes from elsewhere.
pub(super) struct Throttle {
    pair: Limiter<(String, IpAddr)>,
    account: Limiter<String>,
    address: Limiter<IpAddr>,
    clock: DefaultClock,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self {
            pair: RateLimiter::keyed(quota(Duration::from_secs(20), 10)),
            account: RateLimiter::keyed(quota(Duration::from_secs(4), 60)),
            address: RateLimiter::keyed(quota(Duration::from_secs(1), 60)),
            clock: DefaultClock::default(),
        }
    }

    /// Counts an attempt.
    ///
    /// # Errors
    /// How many seconds to wait.
    pub(super) fn attempt(&self, username: &str, address: Option<IpAddr>) -> Result<(), u64> {
        let address = subscriber(address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        self.check(&self.address, &address)?;
        self.check(&self.pair, &(username.to_owned(), address))?;
        self.check(&self.account, &username.to_owned())
    }

    fn check<K: Clone + Eq + Hash>(&self, limiter: &Limiter<K>, key: &K) -> Result<(), u64> {
        if limiter.len() > KEYS {
            limiter.retain_recent();
        }
        limiter.check_key(key).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            wait.as_secs() + 1
        })
    }
}

/// One attempt every `period`, and `burst` at once.
fn quota(period: Duration, burst: u32) -> Quota {
    let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
    Quota::with_period(period)
        .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
        .allow_burst(burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guesser_is_stopped_and_the_owner_is_not() {
        let throttle = Throttle::new();
        let guesser = Some("203.0.113.7".parse().unwrap());
        let owner = Some("198.51.100.1".parse().unwrap());
        let taken = (0..30).take_while(|_| throttle.attempt("ana", guesser).is_ok());
        assert_eq!(taken.count(), 10);
        assert!(throttle.attempt("ana", guesser).unwrap_err() >= 1);
        assert!(throttle.attempt("ana", owner).is_ok());
    }

    #[test]
    fn many_addresses_do_not_help_against_one_account() {
        let throttle = Throttle::new();
        let from = |n: u8| Some(IpAddr::from([203, 0, 113, n]));
        let taken = (0..200).filter(|n| throttle.attempt("ana", from(*n)).is_ok());
        assert_eq!(taken.count(), 60);
        // Nor does an address of IPv6 for each attempt.
        let within = |n: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]));
        let taken = (0..200).filter(|n| throttle.attempt(&format!("p{n}"), within(*n)).is_ok());
        assert_eq!(taken.count(), 60);
    }
}
