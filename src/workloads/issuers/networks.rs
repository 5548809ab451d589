//! Which addresses a JWKS may be fetched from: public ones, and the networks that the file names.
//!
//! This keeps a URL, or the DNS answer for it, from making the service call its own neighbours (OWASP: server-side request
//! forgery): cloud metadata at 169.254.169.254, a database on the loopback, a service of the cluster.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Not reachable from everywhere, or not for one host: the IANA special-purpose registry (RFC 6890).
const SPECIAL_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// The only IPv6 network that holds public addresses.
const PUBLIC_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// What in it is special: protocol assignments with Teredo, documentation, 6to4 (which carries an IPv4 address).
const SPECIAL_V6: &[(Ipv6Addr, u8)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether keys may be fetched from `address`: it is public, or in a network of `allowed`.
pub(super) fn permits(address: IpAddr, allowed: &[IpNet]) -> bool {
    // ::ffff:127.0.0.1 is 127.0.0.1.
    let address = address.to_canonical();
    if address.is_unspecified() || address.is_multicast() {
        return false;
    }
    is_public(address) || allowed.iter().any(|network| network.contains(&address))
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4
            .iter()
            .any(|(network, prefix)| Ipv4Net::new_assert(*network, *prefix).contains(&address)),
        IpAddr::V6(address) => {
            let within = |(network, prefix): (Ipv6Addr, u8)| {
                Ipv6Net::new_assert(network, prefix).contains(&address)
            };
            within(PUBLIC_V6) && !SPECIAL_V6.iter().any(|special| within(*special))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permitted(address: &str, allowed: &[&str]) -> bool {
        let allowed: Vec<IpNet> = allowed.iter().map(|text| text.parse().unwrap()).collect();
        permits(address.parse().unwrap(), &allowed)
    }

    #[test]
    fn public_addresses_are_permitted() {
        for address in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "2a00::1",
        ] {
            assert!(permitted(address, &[]), "{address}");
        }
    }

    #[test]
    fn addresses_of_special_networks_are_refused_unless_named() {
        for (address, network) in [
            ("10.0.0.1", "10.0.0.0/8"),
            ("127.0.0.1", "127.0.0.0/8"),
            ("169.254.169.254", "169.254.0.0/16"),
            ("172.16.0.1", "172.16.0.0/12"),
            ("192.168.1.1", "192.168.0.0/16"),
            ("100.64.0.1", "100.64.0.0/10"),
            ("198.18.0.1", "198.18.0.0/15"),
            ("240.0.0.1", "240.0.0.0/4"),
            ("::1", "::1/128"),
            ("fd00::1", "fd00::/8"),
            ("fe80::1", "fe80::/10"),
            ("fec0::1", "fec0::/10"),
            ("64:ff9b::7f00:1", "64:ff9b::/96"),
            ("2002:7f00:1::", "2002::/16"),
            ("2001:db8::1", "2001:db8::/32"),
            ("::ffff:10.0.0.1", "10.0.0.0/8"),
            ("::ffff:169.254.169.254", "169.254.0.0/16"),
            ("::127.0.0.1", "::/96"),
        ] {
            assert!(!permitted(address, &[]), "{address}");
            assert!(!permitted(address, &["203.0.113.0/24"]), "{address}");
            assert!(permitted(address, &[network]), "{address}");
        }
    }

    #[test]
    fn unspecified_and_multicast_addresses_are_always_refused() {
        for address in ["0.0.0.0", "::", "224.0.0.1", "ff02::1"] {
            assert!(!permitted(address, &["0.0.0.0/0", "::/0"]), "{address}");
        }
    }
}
