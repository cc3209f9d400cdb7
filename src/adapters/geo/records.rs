//! MMDB files: one reader for both schemas in use. It decodes records and judges nothing.
//!
//! ip-location-db writes flat records (`country_code`, `city`, `latitude` as 32-bit float); MaxMind writes nested ones
//! (`country.iso_code`, `city.names.en`, `location.latitude` as 64-bit float). Both are read by one set of types, so no
//! setting has to name the schema.

use crate::adapters::geo::GeoProblem;
use crate::adapters::geo::GeoRole;
use crate::adapters::geo::kind_by_name;
use crate::domain::signals::network::Coordinates;
use crate::domain::signals::network::CountryCode;
use crate::domain::signals::network::NetworkKind;
use maxminddb::MaxMindDbError;
use maxminddb::Reader;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::MapAccess;
use serde::de::Visitor;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// How many records are decoded when a file is opened, to find damage and mix-ups before the first request does.
const PROBED_RECORDS: usize = 64;

/// The longest name of a city or organization that is taken over, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// One MMDB file in memory.
#[derive(Debug)]
pub(super) struct Database {
    reader: Reader<Vec<u8>>,
}

/// Where an address is.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) country: Option<CountryCode>,
    pub(super) city: Option<Arc<str>>,
    pub(super) coordinates: Option<Coordinates>,
}

/// Who runs the network of an address.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    pub(super) asn: u32,
    pub(super) organization: Option<Arc<str>>,
    pub(super) kind: NetworkKind,
}

/// A country or city record of either schema.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PlaceRecord<'a> {
    #[serde(borrow)]
    country_code: Option<&'a str>,
    #[serde(borrow)]
    country: Named<'a>,
    #[serde(borrow)]
    city: Named<'a>,
    latitude: Option<Degrees>,
    longitude: Option<Degrees>,
    location: Location,
}

/// MaxMind's schema of an autonomous system.
#[derive(Debug, Deserialize)]
struct OperatorRecord<'a> {
    autonomous_system_number: Option<Asn>,
    #[serde(borrow)]
    autonomous_system_organization: Option<&'a str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Location {
    latitude: Option<Degrees>,
    longitude: Option<Degrees>,
}

/// A plain text (flat schema), or a map with `iso_code` and `names.en` (nested schema).
#[derive(Debug, Default)]
struct Named<'a> {
    text: Option<&'a str>,
}

/// Degrees, stored as a float of either width.
#[derive(Clone, Copy, Debug)]
struct Degrees(f32);

/// The number of an autonomous system (32 bits, RFC 6793), stored as an unsigned integer of any width.
#[derive(Clone, Copy, Debug)]
struct Asn(u32);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Names<'a> {
    #[serde(borrow)]
    en: Option<&'a str>,
}

impl Database {
    /// Takes a file, after decoding some of its records.
    pub(super) fn open(bytes: Vec<u8>, role: GeoRole) -> Result<Self, GeoProblem> {
        if bytes.is_empty() {
            return Err(GeoProblem::Empty);
        }
        let database = Self {
            reader: Reader::from_source(bytes)?,
        };
        if database.holds(role)? {
            Ok(database)
        } else {
            Err(GeoProblem::WrongContent { expected: role })
        }
    }

    /// Whether one of the first records has the fact that the database is for.
    fn holds(&self, role: GeoRole) -> Result<bool, GeoProblem> {
        let mut found = false;
        for record in self
            .reader
            .networks(maxminddb::WithinOptions::default())?
            .take(PROBED_RECORDS)
        {
            let record = record?;
            found |= match role {
                GeoRole::Asn => record
                    .decode::<OperatorRecord<'_>>()?
                    .is_some_and(|record| record.autonomous_system_number.is_some()),
                GeoRole::City => record.decode::<PlaceRecord<'_>>()?.is_some_and(|record| {
                    let place = Place::from(record);
                    place.city.is_some() || place.coordinates.is_some()
                }),
                _ => record
                    .decode::<PlaceRecord<'_>>()?
                    .is_some_and(|record| Place::from(record).country.is_some()),
            };
        }
        Ok(found)
    }

    /// Where `address` is; `None` where the database has no record of it.
    pub(super) fn place(&self, address: IpAddr) -> Result<Option<Place>, MaxMindDbError> {
        Ok(self.decode::<PlaceRecord<'_>>(address)?.map(Place::from))
    }

    /// Who runs the network of `address`; `None` where the database has no record of it.
    pub(super) fn operator(&self, address: IpAddr) -> Result<Option<Operator>, MaxMindDbError> {
        let Some(record) = self.decode::<OperatorRecord<'_>>(address)? else {
            return Ok(None);
        };
        let organization = record.autonomous_system_organization.and_then(shared_name);
        let kind = kind_by_name(organization.as_deref());
        Ok(record.autonomous_system_number.map(|asn| Operator {
            asn: asn.0,
            organization,
            kind,
        }))
    }

    fn decode<'a, T: Deserialize<'a>>(
        &'a self,
        address: IpAddr,
    ) -> Result<Option<T>, MaxMindDbError> {
        // An IPv4-only database has nothing to say of an IPv6 address; its reader calls that an error.
        if address.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return Ok(None);
        }
        self.reader.lookup(address)?.decode::<T>()
    }
}

impl From<PlaceRecord<'_>> for Place {
    fn from(record: PlaceRecord<'_>) -> Self {
        let latitude = record.latitude.or(record.location.latitude);
        let longitude = record.longitude.or(record.location.longitude);
        Self {
            country: record
                .country_code
                .or(record.country.text)
                .and_then(CountryCode::parse),
            city: record.city.text.and_then(shared_name),
            coordinates: latitude
                .zip(longitude)
                .and_then(|(latitude, longitude)| Coordinates::new(latitude.0, longitude.0)),
        }
    }
}

/// A name that may be shown and stored: not empty, of bounded length, without control characters.
pub(super) fn shared_name(name: &str) -> Option<Arc<str>> {
    let usable =
        !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
    usable.then(|| Arc::from(name))
}

impl<'de: 'a, 'a> Deserialize<'de> for Named<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrMap;

        impl<'de> Visitor<'de> for TextOrMap {
            type Value = Named<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a map")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Named { text: Some(text) })
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut text = None;
                while let Some(key) = map.next_key::<&str>()? {
                    match key {
                        "iso_code" => text = Some(map.next_value::<&str>()?),
                        "names" => text = text.or(map.next_value::<Names<'_>>()?.en),
                        _ => {
                            map.next_value::<serde::de::IgnoredAny>()?;
                        }
                    }
                }
                Ok(Named { text })
            }
        }

        deserializer.deserialize_any(TextOrMap)
    }
}

impl<'de> Deserialize<'de> for Degrees {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyFloat;

        impl Visitor<'_> for AnyFloat {
            type Value = Degrees;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a float")
            }

            fn visit_f32<E>(self, degrees: f32) -> Result<Self::Value, E> {
                Ok(Degrees(degrees))
            }

            fn visit_f64<E>(self, degrees: f64) -> Result<Self::Value, E> {
                // A hundred thousandth of a degree is about a metre: nothing is lost that the data has.
                Ok(Degrees(degrees as f32))
            }
        }

        deserializer.deserialize_any(AnyFloat)
    }
}

impl<'de> Deserialize<'de> for Asn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyUnsigned;

        impl Visitor<'_> for AnyUnsigned {
            type Value = Asn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of 32 bits")
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
                u32::try_from(number).map(Asn).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(AnyUnsigned)
    }
}
