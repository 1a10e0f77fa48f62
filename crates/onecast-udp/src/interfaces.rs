//! The addresses of this machine.

use std::net::{IpAddr, UdpSocket};

/// Addresses at which others may reach this machine, the likeliest first: IPv4, IPv6, self-assigned IPv4 (169.254/16), loopback.
///
/// Link-local IPv6 addresses are left out: they mean nothing without the name of an interface, which a candidate cannot carry.
/// Empty when the system does not report them.
pub fn host_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let mut addresses: Vec<IpAddr> = interfaces
        .iter()
        .map(|i| i.ip().to_canonical())
        .filter(usable)
        .collect();
    addresses.sort_by_key(|address| (rank(address), *address));
    addresses.dedup();
    addresses
}

/// This machine's address towards other machines: that of the interface to its router. `None` without one.
pub fn outward_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: connecting a UDP socket only asks for the route. No host has an address of TEST-NET-1 (RFC 5737).
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (usable(&address) && !address.is_loopback()).then_some(address)
}

fn usable(address: &IpAddr) -> bool {
    let refused = match address {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !refused && !address.is_unspecified() && !address.is_multicast()
}

fn rank(address: &IpAddr) -> u8 {
    match address {
        _ if address.is_loopback() => 3,
        IpAddr::V4(v4) if v4.is_link_local() => 2,
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_last_and_link_local_ipv6_absent() {
        let addresses = host_addresses();
        let first_loopback = addresses
            .iter()
            .position(IpAddr::is_loopback)
            .expect("every machine has a loopback");
        assert!(addresses[first_loopback..].iter().all(IpAddr::is_loopback));
        assert!(addresses.iter().all(usable));
    }

    #[test]
    fn only_addresses_that_others_can_use_are_usable() {
        for (address, expected) in [
            ("192.0.2.7", true),
            ("169.254.1.1", true),
            ("2001:db8::1", true),
            ("fd00::1", true),
            ("127.0.0.1", true),
            ("fe80::1", false),
            ("0.0.0.0", false),
            ("::", false),
            ("224.0.0.1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(usable(&address.parse().unwrap()), expected, "{address}");
        }
    }
}
