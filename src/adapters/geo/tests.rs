//! Lookups against the databases of `tests/data/geo/`, and what happens with damaged ones.

use super::*;
use crate::domain::signals::network::Coordinates;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/geo")
}

fn settings() -> GeoSettings {
    GeoSettings {
        country: Some(folder().join("country.mmdb")),
        city: vec![
            folder().join("city-ipv4.mmdb"),
            folder().join("city-ipv6.mmdb"),
        ],
        asn: Some(folder().join("asn.csv")),
        ranges: Some(folder().join("network-kinds.csv")),
    }
}

fn open(settings: &GeoSettings) -> GeoDatabases {
    let (databases, warnings) = GeoDatabases::open(settings);
    assert!(warnings.is_empty(), "{warnings:?}");
    databases
}

fn look(databases: &GeoDatabases, address: &str) -> NetworkFacts {
    databases.lookup(address.parse().unwrap())
}

fn only(path: PathBuf) -> GeoSettings {
    GeoSettings {
        country: Some(path),
        ..GeoSettings::default()
    }
}

#[test]
fn every_fact_of_an_address_is_found() {
    let facts = look(&open(&settings()), "192.0.2.1");
    assert_eq!(facts.country.unwrap().as_str(), "CH");
    assert_eq!(facts.city.as_deref(), Some("Zurich"));
    assert_eq!(facts.coordinates, Coordinates::new(47.3769, 8.5417));
    assert_eq!(facts.asn, Some(64496));
    assert_eq!(facts.as_org.as_deref(), Some("Example Telecom AG"));
    assert_eq!(facts.kind, Some(NetworkKind::Residential));
}

#[test]
fn an_address_that_was_asked_for_is_at_hand_and_the_memory_is_bounded() {
    let databases = open(&settings());
    for _ in 0..3 {
        for address in ["192.0.2.1", "2001:db8:2::7", "::ffff:192.0.2.1"] {
            let address = address.parse().unwrap();
            let canonical = canonical_address(address);
            assert_eq!(databases.lookup(address), databases.read(canonical));
        }
    }
    // The same address in two forms has one place; one of nobody's in public has none.
    assert_eq!(look(&databases, "10.0.0.1"), NetworkFacts::default());
    assert_eq!(databases.recent.len(), 2);
    for number in 0..3 * u32::try_from(RECENT_MAX).unwrap() {
        databases.lookup(std::net::Ipv4Addr::from(0x5000_0000 + number).into());
    }
    assert!(databases.recent.len() <= RECENT_MAX);
}

#[test]
fn each_ip_version_is_found_in_its_own_city_database() {
    let facts = look(&open(&settings()), "2001:db8:2::7");
    assert_eq!(facts.city.as_deref(), Some("Colombo"));
    assert_eq!(facts.coordinates, Coordinates::new(6.9271, 79.8612));
    assert_eq!(facts.asn, Some(64498));
}

#[test]
fn the_kind_comes_from_the_ranges_before_the_name_of_the_operator() {
    let databases = open(&settings());
    for (address, kind) in [
        ("203.0.113.1", NetworkKind::Hosting),
        ("203.0.113.65", NetworkKind::Vpn),
        ("203.0.113.143", NetworkKind::Vpn),
        ("203.0.113.144", NetworkKind::Residential),
        ("203.0.113.199", NetworkKind::Tor),
        ("203.0.113.200", NetworkKind::Residential),
        ("2001:db8:5::1", NetworkKind::Tor),
        ("2001:db8:5:1::1", NetworkKind::Residential),
    ] {
        assert_eq!(look(&databases, address).kind, Some(kind), "{address}");
    }
}

#[test]
fn an_ipv4_mapped_address_is_its_ipv4_address() {
    let databases = open(&settings());
    assert_eq!(
        look(&databases, "::ffff:198.51.100.1"),
        look(&databases, "198.51.100.1")
    );
    assert_eq!(
        look(&databases, "::ffff:198.51.100.1").city.as_deref(),
        Some("Colombo")
    );
}

#[test]
fn an_address_that_only_the_country_database_knows_has_a_country() {
    let facts = look(&open(&settings()), "2001:db8:6::1");
    assert_eq!(facts.country.unwrap().as_str(), "JP");
    assert_eq!(
        NetworkFacts {
            country: None,
            ..facts
        },
        NetworkFacts::default()
    );
}

#[test]
fn local_and_unknown_addresses_have_no_facts() {
    let databases = open(&settings());
    for address in [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.0.1",
        "100.64.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "8.8.8.8",
        "::",
        "::1",
        "fd00::1",
        "fe80::1",
        "ff02::1",
        "2001:db8:ffff::1",
        "::ffff:127.0.0.1",
    ] {
        assert_eq!(
            look(&databases, address),
            NetworkFacts::default(),
            "{address}"
        );
    }
    assert_eq!(databases.damage(), None);
}

#[test]
fn the_schema_of_geolite2_gives_the_same_facts() {
    let flat = open(&settings());
    let nested = open(&GeoSettings {
        country: None,
        city: vec![folder().join("geolite2-city.mmdb")],
        asn: Some(folder().join("geolite2-asn.mmdb")),
        ..settings()
    });
    for address in [
        "192.0.2.1",
        "198.51.100.129",
        "198.51.100.193",
        "203.0.113.1",
        "203.0.113.65",
        "2001:db8:5::1",
    ] {
        let facts = look(&nested, address);
        assert!(facts.city.is_some() && facts.asn.is_some());
        assert_eq!(facts, look(&flat, address), "{address}");
    }
}

#[test]
fn a_nested_database_serves_as_the_country_database() {
    let databases = open(&only(folder().join("geolite2-city.mmdb")));
    assert_eq!(
        look(&databases, "198.51.100.129").country.unwrap().as_str(),
        "AU"
    );
    assert_eq!(look(&databases, "198.51.100.129").city, None);
}

#[test]
fn without_settings_there_are_no_facts_and_no_warnings() {
    let databases = open(&GeoSettings::default());
    assert!(databases.is_empty());
    assert_eq!(databases.version(), None);
    assert_eq!(look(&databases, "192.0.2.1"), NetworkFacts::default());
}

#[test]
fn the_version_is_that_of_the_manifest() {
    assert_eq!(open(&settings()).version(), Some("test-1"));
}

#[test]
fn a_missing_file_is_a_warning_and_the_others_still_answer() {
    let (databases, warnings) = GeoDatabases::open(&GeoSettings {
        city: vec![folder().join("absent.mmdb")],
        ..settings()
    });
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}")
    };
    assert_eq!(warning.role, GeoRole::City);
    assert!(
        warning
            .to_string()
            .contains("absent.mmdb`: cannot be read: "),
        "{warning}"
    );
    let facts = look(&databases, "192.0.2.1");
    assert_eq!((facts.city, facts.asn), (None, Some(64496)));
    assert_eq!(facts.country.unwrap().as_str(), "CH");
}

#[test]
fn a_database_of_another_purpose_is_refused() {
    let (databases, warnings) = GeoDatabases::open(&only(folder().join("geolite2-asn.mmdb")));
    assert!(databases.is_empty());
    assert!(
        matches!(
            warnings[0].problem,
            GeoProblem::WrongContent {
                expected: GeoRole::Country
            }
        ),
        "{warnings:?}"
    );
}

#[test]
fn text_and_empty_files_are_refused_as_databases() {
    let place = tempfile::tempdir().unwrap();
    for (name, content) in [("text.mmdb", "not a database"), ("empty.mmdb", "")] {
        let path = place.path().join(name);
        std::fs::write(&path, content).unwrap();
        let (databases, warnings) = GeoDatabases::open(&only(path));
        assert!(databases.is_empty() && warnings.len() == 1, "{warnings:?}");
    }
}

#[test]
fn a_file_that_was_cut_short_is_told_by_its_manifest() {
    let place = tempfile::tempdir().unwrap();
    for name in ["asn.csv", "manifest.toml"] {
        std::fs::copy(folder().join(name), place.path().join(name)).unwrap();
    }
    let path = place.path().join("asn.csv");
    let whole = std::fs::read_to_string(&path).unwrap();
    let cut = whole.lines().next().unwrap();
    std::fs::write(&path, cut).unwrap();

    let (databases, warnings) = GeoDatabases::open(&GeoSettings {
        asn: Some(path),
        ..GeoSettings::default()
    });
    assert!(
        matches!(
            warnings.as_slice(),
            [GeoWarning {
                problem: GeoProblem::Size { .. },
                ..
            }]
        ),
        "{warnings:?}"
    );
    assert_eq!(
        databases.version(),
        None,
        "a version must not be claimed for other files"
    );
    assert_eq!(look(&databases, "192.0.2.1").asn, Some(64496));
}

#[test]
fn a_bad_manifest_is_a_warning() {
    let place = tempfile::tempdir().unwrap();
    std::fs::copy(folder().join("asn.csv"), place.path().join("asn.csv")).unwrap();
    let asn = Some(place.path().join("asn.csv"));
    for content in [
        "version = 3",
        "version = \"two words\"",
        "version = \"\"",
        "\u{0}",
    ] {
        std::fs::write(place.path().join("manifest.toml"), content).unwrap();
        let (databases, warnings) = GeoDatabases::open(&GeoSettings {
            asn: asn.clone(),
            ..GeoSettings::default()
        });
        assert!(
            matches!(
                warnings.as_slice(),
                [GeoWarning {
                    role: GeoRole::Manifest,
                    ..
                }]
            ),
            "{warnings:?}"
        );
        assert_eq!(databases.version(), None);
    }
}

#[test]
fn records_that_cannot_be_decoded_are_counted_and_their_file_is_named() {
    let databases = open(&settings());
    let country = databases.country.as_ref().unwrap();
    let broken = || Err::<Option<()>, _>(maxminddb::MaxMindDbError::decoding("broken"));
    for _ in 0..3 {
        assert_eq!(databases.note(country, broken()), None);
    }
    let files = vec![folder().join("country.mmdb")];
    let damage = |failures, files| Some(Damage { failures, files });
    assert_eq!(databases.damage(), damage(3, files.clone()));
    assert_eq!(databases.damage(), None);
    // Another one later: both are known to be damaged.
    assert_eq!(databases.note(&databases.city[1], broken()), None);
    let both = [vec![folder().join("city-ipv6.mmdb")], files].concat();
    assert_eq!(databases.damage(), damage(1, both));
}

/// Every byte of a database is damaged in turn, and the file cut at every length: nothing may panic or hang.
#[test]
fn no_damage_to_a_database_causes_a_panic() {
    let whole = std::fs::read(folder().join("geolite2-city.mmdb")).unwrap();
    let addresses =
        ["192.0.2.1", "203.0.113.1", "2001:db8:1::1", "8.8.8.8"].map(|text| text.parse().unwrap());
    let mut refused = 0;
    let mut try_out = |bytes: Vec<u8>| match Database::open(bytes, GeoRole::City) {
        Ok(database) => {
            for address in addresses {
                let _answer_or_error = database.place(address);
            }
        }
        Err(_) => refused += 1,
    };
    for index in 0..whole.len() {
        for flipped in [0x01, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[index] ^= flipped;
            try_out(damaged);
        }
        try_out(whole[..index].to_vec());
    }
    assert!(
        refused > whole.len(),
        "only {refused} damaged files were refused"
    );
}
