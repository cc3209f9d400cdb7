//! What is known of the network that an address belongs to. Facts from databases; nothing here looks anything up.

use crate::domain::ids::NameSpace;
use crate::domain::ids::Pseudonymizer;
use crate::domain::ids::ValueHash;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::sync::Arc;

/// What kind of network an address belongs to, in ascending order of suspicion.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkKind {
    /// A household, an office or a mobile operator.
    Residential,
    /// A commercial VPN.
    Vpn,
    /// A data centre.
    Hosting,
    /// A Tor exit.
    Tor,
}

/// A point on the earth in degrees (WGS 84).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coordinates {
    /// North positive, -90 to 90.
    pub latitude: f32,
    /// East positive, -180 to 180.
    pub longitude: f32,
}

/// An ISO 3166-1 alpha-2 code in capitals.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CountryCode([u8; 2]);

/// Everything the databases say about one address. Each fact may be missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkFacts {
    /// The number of the autonomous system.
    pub asn: Option<u32>,
    /// The organization that runs it.
    pub as_org: Option<Arc<str>>,
    /// The country.
    pub country: Option<CountryCode>,
    /// The city.
    pub city: Option<Arc<str>>,
    /// Where the city lies.
    pub coordinates: Option<Coordinates>,
    /// The kind of network.
    pub kind: Option<NetworkKind>,
}

impl NetworkKind {
    /// The kind as it is written in policies and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Residential => "residential",
            Self::Vpn => "vpn",
            Self::Hosting => "hosting",
            Self::Tor => "tor",
        }
    }
}

impl Coordinates {
    /// Coordinates, if both are finite and in range.
    pub fn new(latitude: f32, longitude: f32) -> Option<Self> {
        ((-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude)).then_some(
            Self {
                latitude,
                longitude,
            },
        )
    }

    /// The great-circle distance in kilometres (haversine formula, mean earth radius 6,371 km).
    pub fn distance_km(self, other: Coordinates) -> f32 {
        let (a, b) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half_lat = (b - a) / 2.0;
        let half_lon = (other.longitude - self.longitude).to_radians() / 2.0;
        let h = half_lat.sin().powi(2) + a.cos() * b.cos() * half_lon.sin().powi(2);
        2.0 * 6371.0 * h.clamp(0.0, 1.0).sqrt().asin()
    }
}

impl CountryCode {
    /// Reads two ASCII letters of either case.
    pub fn parse(text: &str) -> Option<Self> {
        match text.as_bytes() {
            [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                Some(Self([a.to_ascii_uppercase(), b.to_ascii_uppercase()]))
            }
            _ => None,
        }
    }

    /// The two letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("??")
    }
}

impl fmt::Display for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An address in its one form: IPv4-mapped IPv6 becomes IPv4.
pub fn canonical_address(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The network that velocity is counted for: the /24 of an IPv4 address, the /48 of an IPv6 address.
pub fn velocity_prefix(address: IpAddr) -> IpAddr {
    match canonical_address(address) {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

/// The address that one host is counted as: an IPv4 address, the /64 of an IPv6 address (hosts rotate within it).
pub fn velocity_host(address: IpAddr) -> IpAddr {
    match canonical_address(address) {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// The hash under which the host of `address` is counted and remembered.
pub fn host_hash(people: &Pseudonymizer, address: IpAddr) -> ValueHash {
    let host = address_text(velocity_host(address));
    people.value(NameSpace::Address, host.as_bytes())
}

/// `address` as `Display` writes it. A request needs several such texts, and each number of an IPv4 address would go through
/// the machinery of `fmt`.
pub fn address_text(address: IpAddr) -> String {
    let IpAddr::V4(v4) = address else {
        return address.to_string();
    };
    let mut text = String::with_capacity("255.255.255.255".len());
    for (place, octet) in v4.octets().into_iter().enumerate() {
        if place > 0 {
            text.push('.');
        }
        if octet >= 100 {
            text.push(digit(octet / 100));
        }
        if octet >= 10 {
            text.push(digit(octet / 10 % 10));
        }
        text.push(digit(octet % 10));
    }
    text
}

fn digit(value: u8) -> char {
    char::from(b'0' + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_right() {
        let oslo = Coordinates::new(59.91, 10.75).unwrap();
        let sydney = Coordinates::new(-33.87, 151.21).unwrap();
        assert!((oslo.distance_km(sydney) - 15_960.0).abs() < 60.0);
        assert!(oslo.distance_km(oslo) < 0.01);
    }

    #[test]
    fn coordinates_out_of_range_are_none() {
        assert!(Coordinates::new(f32::NAN, 0.0).is_none());
        assert!(Coordinates::new(0.0, 200.0).is_none());
    }

    #[test]
    fn an_address_is_written_like_everywhere_else() {
        for octet in 0..=u8::MAX {
            for address in [[octet, 0, 10, 99], [255, 100, octet, octet]] {
                let address = IpAddr::from(address);
                assert_eq!(address_text(address), address.to_string());
            }
        }
        for address in ["::1", "2001:db8::7", "::ffff:192.0.2.1"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(address_text(address), address.to_string());
        }
    }

    #[test]
    fn mapped_addresses_count_with_their_ipv4_network() {
        let mapped: IpAddr = "::ffff:203.0.113.9".parse().unwrap();
        assert_eq!(velocity_prefix(mapped), IpAddr::from([203, 0, 113, 0]));
        let v6: IpAddr = "2001:db8:1:2:3::9".parse().unwrap();
        assert_eq!(
            velocity_prefix(v6),
            "2001:db8:1::".parse::<IpAddr>().unwrap()
        );
        assert_eq!(
            velocity_host(v6),
            "2001:db8:1:2::".parse::<IpAddr>().unwrap()
        );
    }
}
