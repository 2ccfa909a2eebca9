//! Addresses whose clients are let in without a token: terminals and web front ends from before
//! Atalaya, which cannot show one.

use crate::domain::registry::Registry;
use crate::domain::{CompanyRef, Grant, Identity, Principal, Role, Scope, Slug};
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network, and what whoever comes from it may: `10.1.0.0/16=cajero:banco/centro`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedNetwork {
    network: IpNet,
    role: Role,
    company: Slug,
    site: Option<Slug>,
}

/// It is not a trusted network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; expected NETWORK=ROLE:COMPANY or NETWORK=cajero:COMPANY/SITE, such as 10.1.0.0/16=cajero:banco/centro"
)]
pub struct NotTrusted(String);

impl FromStr for TrustedNetwork {
    type Err = NotTrusted;

    fn from_str(text: &str) -> Result<Self, NotTrusted> {
        let wrong = |what: &str| NotTrusted(format!("{text:?}: {what}"));
        let (network, rest) = text.split_once('=').ok_or_else(|| wrong("no role"))?;
        let (role, place) = rest.split_once(':').ok_or_else(|| wrong("no company"))?;
        let (company, site) = match place.split_once('/') {
            Some((company, site)) => (company, Some(site)),
            None => (place, None),
        };
        let slug = |text: &str| Slug::parse(text).map_err(|e| wrong(&e.to_string()));
        let role = match Role::parse(role) {
            Some(role @ Role::Teller) => role,
            Some(role @ (Role::Operator | Role::Auditor)) if site.is_none() => role,
            Some(Role::Operator | Role::Auditor) => {
                return Err(wrong("this role holds in a company, not at a site"));
            }
            _ => return Err(wrong("the role is one of cajero, operador, auditor")),
        };
        Ok(Self {
            network: network_of(network.trim()).ok_or_else(|| wrong("not a network"))?,
            role,
            company: slug(company)?,
            site: site.map(slug).transpose()?,
        })
    }
}

/// A network in CIDR form, or a single address.
fn network_of(text: &str) -> Option<IpNet> {
    let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(single)
}

impl fmt::Display for TrustedNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (network, role, company) = (self.network, self.role.name(), &self.company);
        write!(f, "{network}={role}:{company}")?;
        match &self.site {
            Some(site) => write!(f, "/{site}"),
            None => Ok(()),
        }
    }
}

impl TrustedNetwork {
    /// This machine, as a teller of `company`.
    #[must_use]
    pub fn loopback(company: &Slug) -> Vec<Self> {
        [
            IpAddr::from([127, 0, 0, 1]),
            IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ]
        .into_iter()
        .map(|address| Self {
            network: IpNet::from(address),
            role: Role::Teller,
            company: company.clone(),
            site: None,
        })
        .collect()
    }
}

/// All networks that are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedNetworks(pub Vec<TrustedNetwork>);

impl TrustedNetworks {
    /// Who comes from `address`, as of `registry`: the smallest network that holds it decides.
    /// `None` where none does, or its company or site is not there or not active.
    #[must_use]
    pub fn identity_of(&self, address: IpAddr, registry: &Registry) -> Option<Identity> {
        let address = address.to_canonical();
        let holding = self.0.iter().filter(|one| one.network.contains(&address));
        let one = holding.max_by_key(|one| one.network.prefix_len())?;
        let company = registry.company(&one.company).filter(|c| c.active)?;
        let reference = CompanyRef {
            row: company.row,
            slug: company.slug.clone(),
        };
        let scope = match &one.site {
            None => Scope::Company(reference),
            Some(site) => {
                registry.site(company.row, site).filter(|s| s.active)?;
                Scope::Site(reference, site.clone())
            }
        };
        Some(Identity {
            principal: Principal::Terminal,
            grants: vec![Grant::new(one.role, scope).ok()?],
            must_change: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Label;
    use crate::domain::registry::Company;

    fn networks(texts: &[&str]) -> TrustedNetworks {
        TrustedNetworks(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn registry(active: bool) -> Registry {
        let mut registry = Registry::default();
        registry.put_company(Company {
            row: 1,
            slug: Slug::parse("banco").unwrap(),
            name: Label::parse("Banco").unwrap(),
            active,
            broker_trust: false,
        });
        registry
    }

    #[test]
    fn the_smallest_network_decides() {
        let trusted = networks(&["10.0.0.0/8=cajero:banco", "10.1.0.0/16=auditor:banco"]);
        let role = |address: &str| {
            let identity = trusted.identity_of(address.parse().unwrap(), &registry(true));
            identity.map(|identity| identity.grants[0].role)
        };
        assert_eq!(role("10.2.3.4"), Some(Role::Teller));
        assert_eq!(role("10.1.3.4"), Some(Role::Auditor));
        assert_eq!(role("::ffff:10.1.3.4"), Some(Role::Auditor));
        assert_eq!(role("11.1.3.4"), None);
    }

    #[test]
    fn nobody_comes_from_a_company_that_is_not_there_or_not_active() {
        let trusted = networks(&["127.0.0.1=cajero:banco", "127.0.0.2=cajero:banco/centro"]);
        let who = |address: &str, registry: &Registry| {
            trusted.identity_of(address.parse().unwrap(), registry)
        };
        assert!(who("127.0.0.1", &registry(true)).is_some());
        assert!(who("127.0.0.1", &registry(false)).is_none());
        assert!(who("127.0.0.1", &Registry::default()).is_none());
        assert!(who("127.0.0.2", &registry(true)).is_none(), "no such site");
    }

    #[test]
    fn what_is_no_trust_is_refused_and_named() {
        for text in [
            "10.0.0.0/8",
            "10.0.0.0/8=cajero",
            "10.0.0.0/33=cajero:banco",
            "10.0.0.0/8=admin:banco",
            "10.0.0.0/8=cliente:banco",
            "10.0.0.0/8=auditor:banco/centro",
            "10.0.0.0/8=cajero:ban co",
        ] {
            let error = text.parse::<TrustedNetwork>().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        let text = "10.1.0.0/16=cajero:banco/centro";
        assert_eq!(text.parse::<TrustedNetwork>().unwrap().to_string(), text);
    }
}
