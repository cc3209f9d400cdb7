//! The databases of the moment: read again once their files have changed and have come to rest. New ones are taken as a whole,
//! and only where every file that could be used before still can be.

use crate::adapters::geo::Damage;
use crate::adapters::geo::GeoDatabases;
use crate::adapters::geo::GeoProblem;
use crate::adapters::geo::GeoRole;
use crate::adapters::geo::GeoSettings;
use crate::adapters::geo::GeoWarning;
use crate::adapters::geo::manifest;
use crate::domain::signals::network::NetworkFacts;
use crate::flow::ports::GeoLookup;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;

/// Which file is where, how long and since when; `None` for one that is not there.
type Stamp = BTreeMap<PathBuf, Option<(u64, u64, SystemTime)>>;

/// The databases, for lookups from any thread while they are exchanged. A lookup ends in the ones that it began in.
#[derive(Debug)]
pub struct CurrentGeo {
    settings: GeoSettings,
    databases: ArcSwap<GeoDatabases>,
    watched: Mutex<Watched>,
}

#[derive(Debug)]
struct Watched {
    /// The files when they were last read.
    read: Stamp,
    /// The files when they were last looked at.
    seen: Stamp,
    /// What could not be used of those that are in use.
    missing: Vec<Place>,
}

/// A file with which something is wrong, and whether it is in use all the same.
type Place = (GeoRole, PathBuf, bool);

impl CurrentGeo {
    /// Reads every file that the settings name, as [`GeoDatabases::open`] does.
    pub fn open(settings: GeoSettings) -> (Self, Vec<GeoWarning>) {
        // From before they are read, so that an edit in between is seen as one.
        let read = stamp(&settings);
        let (databases, warnings) = GeoDatabases::open(&settings);
        let current = Self {
            settings,
            databases: ArcSwap::from_pointee(databases),
            watched: Mutex::new(Watched {
                seen: read.clone(),
                read,
                missing: places(&warnings),
            }),
        };
        (current, warnings)
    }

    /// Reads the files again if they have changed, and since the look before not any more; `at_once` without waiting for that.
    /// `None` if there is nothing to read. For a moment both sets are in memory.
    ///
    /// # Errors
    /// What cannot be used of the new files, though it could before: the old ones stay.
    pub fn look(&self, at_once: bool) -> Option<Result<Vec<GeoWarning>, Vec<GeoWarning>>> {
        let mut watched = self.watched.lock();
        let now = stamp(&self.settings);
        let is_at_rest = at_once || now == watched.seen;
        watched.seen.clone_from(&now);
        if now == watched.read || !is_at_rest {
            return None;
        }
        watched.read = now;
        let (databases, warnings) = GeoDatabases::checked(&self.settings);
        let missing = places(&warnings);
        if missing.iter().any(|place| !watched.missing.contains(place)) {
            return Some(Err(warnings));
        }
        watched.missing = missing;
        self.databases.store(databases.into());
        Some(Ok(warnings))
    }

    /// Records that could not be decoded, as [`GeoDatabases::damage`] says it, of those in use.
    pub fn damage(&self) -> Option<Damage> {
        self.databases.load().damage()
    }

    /// The version of the data, as [`GeoDatabases::version`] says it.
    pub fn version(&self) -> Option<String> {
        self.databases.load().version().map(str::to_owned)
    }
}

impl GeoLookup for CurrentGeo {
    fn lookup(&self, address: IpAddr) -> NetworkFacts {
        self.databases.load().lookup(address)
    }
}

fn places(warnings: &[GeoWarning]) -> Vec<Place> {
    let place = |warning: &GeoWarning| {
        let is_used = matches!(
            warning.problem,
            GeoProblem::Digest | GeoProblem::Size { .. }
        );
        (warning.role, warning.path.clone(), is_used)
    };
    warnings.iter().map(place).collect()
}

/// The files as they are now, with the manifests beside them.
fn stamp(settings: &GeoSettings) -> Stamp {
    let GeoSettings {
        country,
        city,
        asn,
        ranges,
    } = settings;
    let named = [country, asn, ranges].into_iter().flatten().chain(city);
    let named = named.flat_map(|path| [path.clone(), path.with_file_name(manifest::FILE_NAME)]);
    let stamped = named.map(|path| {
        let data = std::fs::metadata(&path).ok();
        let found = data.and_then(|data| Some((data.ino(), data.len(), data.modified().ok()?)));
        (path, found)
    });
    stamped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::signals::network::NetworkKind;
    use std::fs;

    const TOR: &str = "192.0.2.0,192.0.2.255,tor,Tor\n";
    const VPN: &str = "192.0.2.0,192.0.2.255,vpn,Another and a longer name\n";

    #[test]
    fn other_files_are_taken_once_they_are_at_rest_and_damaged_ones_never() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kinds.csv");
        let missing = folder.path().join("asn.csv");
        fs::write(&path, TOR).unwrap();
        let (geo, warnings) = CurrentGeo::open(GeoSettings {
            ranges: Some(path.clone()),
            asn: Some(missing.clone()),
            ..GeoSettings::default()
        });
        assert_eq!(places(&warnings), [(GeoRole::Asn, missing.clone(), false)]);
        let kind = || geo.lookup("192.0.2.1".parse().unwrap()).kind;
        assert_eq!(kind(), Some(NetworkKind::Tor));
        assert!(geo.look(false).is_none() && geo.look(true).is_none());
        // Not while somebody may still be writing. What was missing before is no reason to refuse the rest.
        fs::write(&path, VPN).unwrap();
        assert!(geo.look(false).is_none());
        assert_eq!(kind(), Some(NetworkKind::Tor));
        assert_eq!(geo.look(false).unwrap().unwrap().len(), 1);
        assert_eq!(kind(), Some(NetworkKind::Vpn));
        assert!(geo.look(false).is_none());
        for damage in [Some("canary, and nothing else"), None] {
            match damage {
                Some(text) => fs::write(&path, text).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let refused = geo.look(true).unwrap().unwrap_err();
            let said = refused.iter().map(ToString::to_string).collect::<String>();
            assert!(said.contains("kinds.csv"), "{said}");
            assert_eq!(kind(), Some(NetworkKind::Vpn));
            // Once is enough.
            assert!(geo.look(true).is_none());
        }
        fs::write(&path, TOR).unwrap();
        fs::write(&missing, "192.0.2.0,192.0.2.255,64496,Example\n").unwrap();
        assert_eq!(geo.look(true).unwrap().unwrap().len(), 0);
        assert_eq!(kind(), Some(NetworkKind::Tor));
        // What could be used once must not go.
        fs::remove_file(&missing).unwrap();
        assert!(geo.look(true).unwrap().is_err());
    }

    /// A database that opens is not yet whole: past its first records nothing but the digest tells.
    #[test]
    fn a_file_that_is_damaged_past_its_first_records_is_never_taken_for_a_good_one() {
        let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/geo");
        let folder = tempfile::tempdir().unwrap();
        for name in ["country.mmdb", "manifest.toml"] {
            fs::copy(from.join(name), folder.path().join(name)).unwrap();
        }
        let path = folder.path().join("country.mmdb");
        let (geo, warnings) = CurrentGeo::open(GeoSettings {
            country: Some(path.clone()),
            ..GeoSettings::default()
        });
        assert!(warnings.is_empty(), "{warnings:?}");
        let whole = fs::read(&path).unwrap();
        let country = || geo.lookup("192.0.2.1".parse().unwrap()).country.unwrap();
        let place = whole.windows(2).position(|two| two == b"CH").unwrap();
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let refused = geo.look(true).unwrap().unwrap_err();
        assert!(refused[0].to_string().contains("manifest"), "{refused:?}");
        assert_eq!(country().as_str(), "CH");
        fs::write(&path, &whole).unwrap();
        assert_eq!(geo.look(true).unwrap().unwrap().len(), 0);
        // `riskgate check` says it of the files at hand.
        fs::write(&path, &damaged).unwrap();
        let settings = &geo.settings;
        let (databases, warnings) = GeoDatabases::checked(settings);
        assert_eq!((warnings.len(), databases.version()), (1, None));
    }
}
