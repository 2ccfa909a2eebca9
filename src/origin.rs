//! Whether a browser's request comes from a page that may make it.
//!
//! Any page that a person visits can reach loopback. What gives it away is what the browser adds:
//! a foreign `Origin`, or (in DNS rebinding, where the attacker's own name is made to point at
//! loopback) a foreign name in `Host`. Programs send no `Origin` and the name they were given.

use crate::config::origin_host;
use std::net::{IpAddr, Ipv6Addr};

/// Whether a request with these headers may come in. `allowed` holds origins such as
/// `https://bank.example:8443`; the page's own origin and names of loopback need no mention. An IP
/// address in `Host` is fine, since rebinding needs a name.
#[must_use]
pub fn is_allowed(allowed: &[String], host: &str, origin: Option<&str>) -> bool {
    let host_allowed = is_local(host)
        || allowed
            .iter()
            .filter_map(|origin| origin_host(origin))
            .any(|known| known.eq_ignore_ascii_case(host));
    let origin_allowed = origin.is_none_or(|origin| {
        let same = origin_host(origin).is_some_and(|from| from.eq_ignore_ascii_case(host));
        same || allowed
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(origin))
    });
    host_allowed && origin_allowed
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => {
            return rest
                .split_once(']')
                .is_some_and(|(ip, port)| ip.parse::<Ipv6Addr>().is_ok() && is_port(port));
        }
        None => match host.split_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => name,
            Some(_) => return false,
            None => host,
        },
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn is_port(text: &str) -> bool {
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_pages_and_programs() {
        let allowed = ["https://bank.example:8443".to_owned()];
        for (host, origin, fine) in [
            ("localhost:5001", None, true),
            ("127.0.0.1:5001", None, true),
            ("[::1]:5001", Some("http://[::1]:5001"), true),
            ("localhost:5001", Some("http://localhost:5001"), true),
            ("localhost:5001", Some("https://bank.example:8443"), true),
            ("bank.example:8443", None, true),
            ("localhost:5001", Some("http://evil.example"), false),
            ("localhost:5001", Some("http://localhost:3000"), false),
            ("localhost:5001", Some("null"), false),
            ("evil.example:5001", None, false),
            ("evil.example:5001", Some("http://evil.example:5001"), false),
            ("localhost.evil.example", None, false),
            ("", None, false),
            ("localhost:x", None, false),
        ] {
            assert_eq!(
                is_allowed(&allowed, host, origin),
                fine,
                "{host} {origin:?}"
            );
        }
    }
}
