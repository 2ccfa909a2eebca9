//! How often somebody may try to sign in.

use crate::network::{KeyedLimit, subscriber};
use governor::Quota;
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

/// Attempts to sign in, limited by account and address. All attempts count, the good ones too, so
/// that the answer does not tell them apart; people sign in a few times a day.
///
/// By account and address together first: whoever guesses somebody's password locks out themselves
/// and not its owner, who comes from elsewhere.
pub(in crate::actors) struct Throttle {
    pair: KeyedLimit<(NameDigest, IpAddr)>,
    account: KeyedLimit<NameDigest>,
    address: KeyedLimit<IpAddr>,
}

impl Throttle {
    pub(in crate::actors) fn new() -> Self {
        Self {
            pair: KeyedLimit::new(quota(Duration::from_secs(20), 10)),
            account: KeyedLimit::new(quota(Duration::from_secs(4), 60)),
            address: KeyedLimit::new(quota(Duration::from_secs(1), 60)),
        }
    }

    /// The same for devices from before Atalaya, many of which may come by one gateway. Of theirs the
    /// wrong attempts are counted alone: secrets that nobody can guess need no more, and an alarm must
    /// not fail because of somebody else's attempts.
    pub(in crate::actors) fn of_devices() -> Self {
        Self {
            pair: KeyedLimit::new(quota(Duration::from_secs(1), 60)),
            account: KeyedLimit::new(quota(Duration::from_secs(1), 120)),
            address: KeyedLimit::new(quota(Duration::from_millis(50), 300)),
        }
    }

    /// Counts an attempt.
    ///
    /// # Errors
    /// How many seconds to wait.
    pub(in crate::actors) fn attempt(
        &self,
        username: &str,
        address: Option<IpAddr>,
    ) -> Result<(), u64> {
        let address = subscriber(address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        self.address.check(&address)?;
        let name = digest(username);
        self.pair.check(&(name, address))?;
        self.account.check(&name)
    }
}

/// What is remembered of a name: as much of a long one as of a short one, since anybody may make
/// them up.
type NameDigest = [u8; 32];

fn digest(username: &str) -> NameDigest {
    Sha256::digest(username.as_bytes()).into()
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
