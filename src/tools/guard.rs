//! What may be reached: public addresses, and the networks that the operator has listed.
//!
//! **Invariant:** a name is looked up once for each connection, and what is connected to is what was
//! checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Networks that are not public and may be reached all the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Networks(Arc<Vec<Network>>);

#[derive(Clone, Copy, Debug)]
struct Network {
    /// As IPv6, the length of the prefix too.
    address: u128,
    prefix: u8,
}

/// A name leads to nothing that may be reached.
#[derive(Debug, thiserror::Error)]
#[error("it leads to no address that may be reached")]
pub(crate) struct Forbidden;

/// Looks names up, and leaves out what may not be reached.
#[derive(Clone, Debug)]
pub(crate) struct Resolver(pub(crate) Networks);

impl Networks {
    /// Adds `10.0.0.0/8`, or a single address.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), String> {
        let wrong = || format!("`{text}` is no network, such as 10.0.0.0/8, and no address");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let (whole, before) = match address {
            IpAddr::V4(_) => (32, 96),
            IpAddr::V6(_) => (128, 0),
        };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| wrong())?,
            None => whole,
        };
        if prefix > whole {
            return Err(wrong());
        }
        Arc::make_mut(&mut self.0).push(Network {
            address: bits(address),
            prefix: prefix + before,
        });
        Ok(())
    }

    /// Tells whether an address may be reached.
    pub(crate) fn permits(&self, address: IpAddr) -> bool {
        let listed = self.0.iter().any(|network| {
            let differing = bits(address) ^ network.address;
            differing.leading_zeros() >= u32::from(network.prefix)
        });
        listed || is_public(address)
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let networks = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let permitted: Vec<SocketAddr> = found
                .filter(|address| networks.permits(address.ip()))
                .collect();
            if permitted.is_empty() {
                return Err(Forbidden.into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

/// An address as IPv6, an IPv4 one as the mapped one.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Tells whether an address belongs to the internet at large (IANA's special-purpose registries).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match (a, b, c) {
        // This network; shared address space; protocol assignments; 6to4 relays; benchmarks; reserved.
        (0, ..) | (192, 0, 0) | (192, 88, 99) | (198, 18..=19, _) | (240..=255, ..) => true,
        (100, 64..=127, _) => true,
        _ => false,
    };
    !(special
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let low = Ipv4Addr::from_bits(address.to_bits() as u32);
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    match (a, b) {
        // NAT64 leads to the IPv4 address in its end, 6to4 to that in its beginning.
        (0x64, 0xff9b) => is_public_v4(low),
        (0x2002, _) => is_public_v4(Ipv4Addr::from_bits((address.to_bits() >> 80) as u32)),
        // Teredo and other protocol assignments, documentation.
        (0x2001, 0..=0x1ff | 0xdb8) => false,
        // What is global unicast by now.
        (0x2000..=0x3fff, _) => a != 0x3fff,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_not_public_however_they_are_written() {
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "::127.0.0.1",
            "3fff::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in [
            "1.1.1.1",
            "203.0.114.1",
            "2606:4700::1111",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn a_listed_network_is_reached_and_its_neighbors_are_not() {
        let mut networks = Networks::default();
        for text in ["10.1.0.0/16", "192.168.1.7", "fd00::/8"] {
            networks.add(text).unwrap();
        }
        let permits = |text: &str| networks.permits(text.parse().unwrap());
        assert!(permits("10.1.255.1") && !permits("10.2.0.1"));
        assert!(permits("::ffff:10.1.2.3"), "the same address");
        assert!(permits("192.168.1.7") && !permits("192.168.1.8"));
        assert!(permits("fd12::1") && !permits("fc12::1"));
        assert!(permits("1.1.1.1"));
        for wrong in ["", "10.0.0.0/33", "example.com", "10.0.0.0/x", "::/129"] {
            assert!(networks.add(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_private_address_leads_nowhere() {
        let name = || "localhost".parse().unwrap();
        let refused = Resolver(Networks::default()).resolve(name()).await;
        let error = refused.err().expect("refused");
        assert!(error.is::<Forbidden>(), "{error}");

        let mut networks = Networks::default();
        networks.add("127.0.0.0/8").unwrap();
        let found = Resolver(networks).resolve(name()).await.unwrap();
        assert!(found.count() > 0);
    }
}
