//! The addresses of this machine.

use std::net::IpAddr;

/// Addresses under which others may reach this machine: interface addresses first, loopback last, no link-local ones. Empty when
/// they cannot be read.
pub fn host_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let mut addresses: Vec<IpAddr> = interfaces
        .into_iter()
        .map(|interface| interface.ip())
        .filter(|ip| !is_link_local(*ip))
        .collect();
    addresses.sort_by_key(|ip| (ip.is_loopback(), ip.is_ipv6()));
    addresses.dedup();
    addresses
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_and_comes_last() {
        let addresses = host_addresses();
        let first_loopback = addresses
            .iter()
            .position(IpAddr::is_loopback)
            .expect("there is a loopback interface");
        assert!(addresses[first_loopback..].iter().all(IpAddr::is_loopback));
    }
}
