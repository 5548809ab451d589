//! The client's address, on both ports: that of the peer, or the one that trusted proxies forward.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's address. An IPv4-mapped IPv6 address is kept as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// The client of a request that `peer` sent: `x-forwarded-for` is read only where a proxy in `trusted` wrote it.
    pub fn behind(peer: Self, trusted: &[IpNet], headers: &HeaderMap) -> Self {
        forwarded(peer, trusted, headers)
    }

    /// The address.
    pub const fn ip(self) -> IpAddr {
        self.0
    }

    /// The key of rate limits: an IPv6 client owns a whole /64 network, so that counts as one client.
    pub fn rate_key(self) -> IpAddr {
        const NETWORK: u128 = !(u64::MAX as u128);
        match self.0 {
            IpAddr::V4(_) => self.0,
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK)),
        }
    }
}

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }
}

/// Reads `x-forwarded-for` from the right, for as long as the address that wrote an entry is trusted.
fn forwarded(peer: ClientAddress, trusted: &[IpNet], headers: &HeaderMap) -> ClientAddress {
    let is_trusted =
        |address: ClientAddress| trusted.iter().any(|network| network.contains(&address.0));
    let mut client = peer;
    let mut entries = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .rev()
        .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','))
        // A list may have empty elements, which do not count (RFC 9110 section 5.6.1.2).
        .filter(|entry| !entry.trim_ascii().is_empty());
    while is_trusted(client) {
        match entries.next().and_then(parse) {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// Parses one entry: an address, perhaps in brackets, perhaps with a port.
fn parse(entry: &[u8]) -> Option<ClientAddress> {
    let text = str::from_utf8(entry).ok()?.trim_ascii();
    let in_brackets = || {
        text.strip_prefix('[')?
            .strip_suffix(']')?
            .parse::<Ipv6Addr>()
            .ok()
    };
    let address = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
        .or_else(|| in_brackets().map(IpAddr::V6))?;
    Some(address.into())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> ClientAddress {
        ClientAddress::from(text.parse::<IpAddr>().unwrap())
    }

    fn client(peer: &str, lines: &[&str]) -> ClientAddress {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        forwarded(address(peer), &trusted, &headers)
    }

    #[test]
    fn only_a_trusted_peer_can_forward_an_address() {
        assert_eq!(client("192.0.2.1", &["198.51.100.7"]), address("192.0.2.1"));
        assert_eq!(
            client("10.0.0.1", &["198.51.100.7"]),
            address("198.51.100.7")
        );
        assert_eq!(
            client("::ffff:10.0.0.1", &["198.51.100.7"]),
            address("198.51.100.7")
        );
        assert_eq!(client("10.0.0.1", &[]), address("10.0.0.1"));
    }

    #[test]
    fn the_right_most_untrusted_entry_wins() {
        let expected = address("198.51.100.7");
        assert_eq!(
            client("10.0.0.1", &["1.1.1.1, 198.51.100.7, 10.9.9.9"]),
            expected
        );
        assert_eq!(
            client("fd00::1", &["1.1.1.1", "198.51.100.7", "10.9.9.9,fd00::2"]),
            expected
        );
        // Trusted all the way: the first hop is the client.
        assert_eq!(
            client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]),
            address("10.0.0.3")
        );
    }

    #[test]
    fn entries_left_of_one_that_is_no_address_are_ignored() {
        assert_eq!(
            client("10.0.0.1", &["198.51.100.7, unknown"]),
            address("10.0.0.1")
        );
        assert_eq!(
            client("10.0.0.1", &["198.51.100.7,unknown,10.0.0.2"]),
            address("10.0.0.2")
        );
        assert_eq!(client("10.0.0.1", &["", "10.0.0.2"]), address("10.0.0.2"));
    }

    #[test]
    fn empty_entries_do_not_count() {
        for lines in [
            &["198.51.100.7,"][..],
            &["198.51.100.7, ,,10.0.0.2"],
            &["198.51.100.7", ", ", ""],
            &[",198.51.100.7 ,"],
        ] {
            assert_eq!(
                client("10.0.0.1", lines),
                address("198.51.100.7"),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn ports_brackets_and_mapped_addresses_are_parsed() {
        for (entry, meant) in [
            ("198.51.100.7:4711", "198.51.100.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("\t::ffff:198.51.100.7 ", "198.51.100.7"),
            ("[::ffff:198.51.100.7]:1", "198.51.100.7"),
        ] {
            assert_eq!(parse(entry.as_bytes()), Some(address(meant)), "{entry}");
        }
        for malformed in [
            "",
            "[198.51.100.7]",
            "198.51.100.7:",
            "[::1",
            "fe80::1%eth0",
            "\u{e9}",
        ] {
            assert_eq!(parse(malformed.as_bytes()), None, "{malformed}");
        }
    }

    #[test]
    fn an_ipv6_client_counts_by_its_64_bit_network() {
        let one = address("2001:db8:1:2:3:4:5:6").rate_key();
        assert_eq!(one, address("2001:db8:1:2::").ip());
        assert_eq!(one, address("2001:db8:1:2:ffff::1").rate_key());
        assert_ne!(one, address("2001:db8:1:3::").rate_key());
        assert_eq!(address("192.0.2.1").rate_key(), address("192.0.2.1").ip());
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..4)) {
            let mut headers = HeaderMap::new();
            for line in lines {
                if let Ok(value) = HeaderValue::from_bytes(&line) {
                    headers.append(FORWARDED_FOR, value);
                }
            }
            let everyone = ["0.0.0.0/0", "::/0"].map(|network| network.parse().unwrap());
            forwarded(address("10.0.0.1"), &everyone, &headers);
        }

        #[test]
        fn an_untrusted_peer_cannot_choose_its_address(line in "[0-9a-f.:, \\[\\]]{0,64}") {
            prop_assert_eq!(client("192.0.2.1", &[&line]), address("192.0.2.1"));
        }

        #[test]
        fn every_address_is_parsed_back(bits: u128, port: u16) {
            let v6 = IpAddr::V6(Ipv6Addr::from_bits(bits));
            let socket = SocketAddr::new(v6, port);
            prop_assert_eq!(parse(v6.to_string().as_bytes()), Some(v6.into()));
            prop_assert_eq!(parse(socket.to_string().as_bytes()), Some(v6.into()));
        }
    }
}
