//! How much one address, and one person or program, may ask.

use crate::network::{KeyedLimit, is_own, subscriber};
use governor::Quota;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

/// So much a second, and so much at once; 0 a second is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// A second.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

impl Rate {
    fn limit<K: Clone + Eq + Hash>(self) -> Option<Arc<KeyedLimit<K>>> {
        let per_second = NonZeroU32::new(self.per_second)?;
        let burst = NonZeroU32::new(self.burst).unwrap_or(per_second);
        let quota = Quota::per_second(per_second).allow_burst(burst);
        Some(Arc::new(KeyedLimit::new(quota)))
    }
}

/// The limits; clones share them.
#[derive(Debug, Clone)]
pub struct Limits {
    addresses: Option<Arc<KeyedLimit<IpAddr>>>,
    principals: Option<Arc<KeyedLimit<i64>>>,
}

impl Limits {
    /// Limits by address and by principal.
    #[must_use]
    pub fn new(address: Rate, principal: Rate) -> Self {
        Self {
            addresses: address.limit(),
            principals: principal.limit(),
        }
    }

    /// Counts a request from an address. This machine's own is not limited: what runs here could
    /// keep the processors busy in other ways, and a reverse proxy's clients all come from it.
    ///
    /// # Errors
    /// How many seconds to wait.
    pub fn address(&self, address: Option<IpAddr>) -> Result<(), u64> {
        match (&self.addresses, address) {
            (Some(limit), Some(address)) if !is_own(address) => limit.check(&subscriber(address)),
            _ => Ok(()),
        }
    }

    /// Counts a request of whoever has this row in `principals`.
    ///
    /// # Errors
    /// How many seconds to wait.
    pub fn principal(&self, row: i64) -> Result<(), u64> {
        match &self.principals {
            Some(limit) => limit.check(&row),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_a_principal_have_limits_of_their_own() {
        let rate = |per_second, burst| Rate { per_second, burst };
        let limits = Limits::new(rate(1, 3), rate(1, 5));
        let ask = |text: &str| limits.address(Some(text.parse().unwrap()));
        let taken = (0..10).take_while(|_| ask("203.0.113.7").is_ok());
        assert_eq!(taken.count(), 3);
        assert!(ask("203.0.113.7").unwrap_err() >= 1);
        assert!(ask("203.0.113.8").is_ok());
        // A /64 is one subscriber, whatever address of it they use.
        let taken = (0..10).take_while(|n| ask(&format!("2001:db8::{n:x}")).is_ok());
        assert_eq!(taken.count(), 3);
        for own in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!((0..100).all(|_| ask(own).is_ok()), "{own}");
        }
        let taken = (0..10).take_while(|_| limits.principal(16).is_ok());
        assert_eq!(taken.count(), 5);
        assert!(limits.principal(17).is_ok());
        let none = Limits::new(rate(0, 0), rate(0, 0));
        assert!((0..1000).all(|_| none.principal(16).is_ok()));
    }
}
