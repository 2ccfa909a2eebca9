//! Addresses as those who limit them see them.

use std::net::{IpAddr, Ipv6Addr};

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
