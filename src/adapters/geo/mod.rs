//! Facts about the network of an address, from databases on disk: country, city, coordinates, operator, kind.
//!
//! The files are read into memory at the start, and again when they change. They are not memory-mapped: a file that is truncated under a mapping
//! kills the process, and mapping needs `unsafe`. A missing or corrupt file is reported as a [`GeoWarning`] and its
//! facts stay unknown; nothing here fails a request, and nothing here panics on what a file holds.

mod current;
mod manifest;
mod operators;
mod ranges;
mod records;
mod warning;

pub use crate::adapters::geo::current::CurrentGeo;
use crate::adapters::geo::manifest::Manifest;
use crate::adapters::geo::ranges::KindTable;
use crate::adapters::geo::ranges::OperatorTable;
use crate::adapters::geo::records::Database;
pub use crate::adapters::geo::warning::GeoProblem;
pub use crate::adapters::geo::warning::GeoRole;
pub use crate::adapters::geo::warning::GeoWarning;
use crate::domain::signals::network::NetworkFacts;
use crate::domain::signals::network::NetworkKind;
use crate::domain::signals::network::canonical_address;
use crate::flow::ports::GeoLookup;
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use std::collections::BTreeSet;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// The largest MMDB file that is read, in bytes.
const MAX_DATABASE_BYTES: u64 = 1 << 30;

/// The largest CSV file that is read, in bytes.
const MAX_TABLE_BYTES: u64 = 256 << 20;

/// Addresses whose facts are kept at hand. A login asks for the same address several times within a minute, and each look
/// into the databases is a walk through many megabytes.
const RECENT_MAX: usize = 20_000;

/// Where the databases lie. A path that is not given means that its facts stay unknown.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GeoSettings {
    /// MMDB with a country per network: flat (`country_code`) or MaxMind's schema.
    pub country: Option<PathBuf>,
    /// MMDBs with city and coordinates, asked in this order; a database may hold one IP version only.
    pub city: Vec<PathBuf>,
    /// Autonomous systems: a `.csv` of `first,last,asn,organization`, or an MMDB in MaxMind's schema.
    pub asn: Option<PathBuf>,
    /// Kinds of network: a CSV of `first,last,kind,provider`, kind one of `hosting`, `vpn`, `tor`, `residential`.
    pub ranges: Option<PathBuf>,
}

/// The databases in memory, ready for lookups from any thread.
#[derive(Debug)]
pub struct GeoDatabases {
    country: Option<Opened>,
    city: Vec<Opened>,
    operators: Option<Operators>,
    kinds: Option<KindTable>,
    version: Option<String>,
    failures: AtomicU64,
    /// The files with records that could not be decoded.
    damaged: Mutex<BTreeSet<PathBuf>>,
    /// What was found for the addresses that were asked for lately.
    recent: Cache<IpAddr, NetworkFacts>,
}

/// Where operators are looked up.
#[derive(Debug)]
enum Operators {
    Table(OperatorTable),
    Database(Opened),
}

/// A database and the file that it is from.
#[derive(Debug)]
struct Opened {
    path: PathBuf,
    database: Database,
}

/// What has come out since it was asked last of files that are damaged.
#[derive(Debug, Eq, PartialEq)]
pub struct Damage {
    /// How many records could not be decoded.
    pub failures: u64,
    /// The files that such records are in, as far as is known.
    pub files: Vec<PathBuf>,
}

impl GeoDatabases {
    /// Reads every file that the settings name. A file that cannot be used is left out and comes back as a warning.
    pub fn open(settings: &GeoSettings) -> (Self, Vec<GeoWarning>) {
        Self::read_all(settings, false)
    }

    /// The same, with a warning for each file whose content is not the one that its manifest states.
    pub fn checked(settings: &GeoSettings) -> (Self, Vec<GeoWarning>) {
        Self::read_all(settings, true)
    }

    fn read_all(settings: &GeoSettings, by_digest: bool) -> (Self, Vec<GeoWarning>) {
        let mut opening = Opening {
            by_digest,
            ..Opening::default()
        };
        let country = settings
            .country
            .as_deref()
            .and_then(|path| opening.database(GeoRole::Country, path));
        let city = settings
            .city
            .iter()
            .filter_map(|path| opening.database(GeoRole::City, path))
            .collect();
        let operators = settings.asn.as_deref().and_then(|path| {
            if is_csv(path) {
                opening
                    .open(GeoRole::Asn, path, OperatorTable::read)
                    .map(Operators::Table)
            } else {
                opening
                    .database(GeoRole::Asn, path)
                    .map(Operators::Database)
            }
        });
        let kinds = settings
            .ranges
            .as_deref()
            .and_then(|path| opening.open(GeoRole::Ranges, path, KindTable::read));
        let databases = Self {
            country,
            city,
            operators,
            kinds,
            version: opening.version(),
            failures: AtomicU64::new(0),
            damaged: Mutex::default(),
            recent: Cache::new(RECENT_MAX),
        };
        (databases, opening.warnings)
    }

    /// The version of the data for logs and audit records, as its manifest states it. `None` without a manifest, or
    /// where the files are not those of the manifest.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Whether there is anything to look up at all.
    pub fn is_empty(&self) -> bool {
        self.country.is_none()
            && self.city.is_empty()
            && self.operators.is_none()
            && self.kinds.is_none()
    }

    /// The records that could not be decoded since this was asked last, if there are some: a database is damaged.
    pub fn damage(&self) -> Option<Damage> {
        let failures = self.failures.swap(0, Ordering::Relaxed);
        (failures > 0).then(|| Damage {
            failures,
            files: self.damaged.lock().iter().cloned().collect(),
        })
    }

    /// Counts a record that could not be decoded; its facts stay unknown.
    fn note<T>(
        &self,
        opened: &Opened,
        read: Result<Option<T>, maxminddb::MaxMindDbError>,
    ) -> Option<T> {
        read.unwrap_or_else(|_| {
            // Named before it is counted: whoever hears of the count hears the name.
            self.damaged.lock().insert(opened.path.clone());
            self.failures.fetch_add(1, Ordering::Relaxed);
            None
        })
    }

    /// What the databases say of a public address.
    fn read(&self, address: IpAddr) -> NetworkFacts {
        let mut facts = NetworkFacts::default();
        self.add_place(address, &mut facts);
        self.add_operator(address, &mut facts);
        // A range that names the address beats what its operator's name suggests.
        if let Some(kind) = self.kinds.as_ref().and_then(|kinds| kinds.find(address)) {
            facts.kind = Some(kind);
        }
        facts
    }

    fn add_place(&self, address: IpAddr, facts: &mut NetworkFacts) {
        for city in &self.city {
            if let Some(place) = self.note(city, city.database.place(address)) {
                facts.country = place.country;
                facts.city = place.city;
                facts.coordinates = place.coordinates;
                break;
            }
        }
        // The city database knows where an address is used, the country database where it is registered: the first is
        // preferred, so that country, city and coordinates are of one place.
        if facts.country.is_none()
            && let Some(country) = &self.country
        {
            facts.country = self
                .note(country, country.database.place(address))
                .and_then(|place| place.country);
        }
    }

    fn add_operator(&self, address: IpAddr, facts: &mut NetworkFacts) {
        match &self.operators {
            Some(Operators::Table(table)) => {
                if let Some(operator) = table.find(address) {
                    facts.asn = Some(operator.asn);
                    facts.as_org = operator.organization.clone();
                    facts.kind = Some(operator.kind);
                }
            }
            Some(Operators::Database(opened)) => {
                if let Some(operator) = self.note(opened, opened.database.operator(address)) {
                    facts.asn = Some(operator.asn);
                    facts.kind = Some(operator.kind);
                    facts.as_org = operator.organization;
                }
            }
            None => {}
        }
    }
}

impl GeoLookup for GeoDatabases {
    fn lookup(&self, address: IpAddr) -> NetworkFacts {
        let address = canonical_address(address);
        if !is_public(address) {
            return NetworkFacts::default();
        }
        if let Some(facts) = self.recent.get(&address) {
            return facts;
        }
        let facts = self.read(address);
        self.recent.insert(address, facts.clone());
        facts
    }
}

/// What is gathered while the files are opened.
#[derive(Default)]
struct Opening {
    /// Whether contents are compared with their digests, beside the sizes.
    by_digest: bool,
    warnings: Vec<GeoWarning>,
    manifest: Option<(PathBuf, Option<Manifest>)>,
    /// Whether every file that was opened is the one that the manifest lists.
    listed: Option<bool>,
}

impl Opening {
    fn database(&mut self, role: GeoRole, path: &Path) -> Option<Opened> {
        let database = self.open(role, path, |bytes| Database::open(bytes, role))?;
        let path = path.to_owned();
        Some(Opened { path, database })
    }

    fn open<T>(
        &mut self,
        role: GeoRole,
        path: &Path,
        read: impl FnOnce(Vec<u8>) -> Result<T, GeoProblem>,
    ) -> Option<T> {
        let limit = if is_csv(path) {
            MAX_TABLE_BYTES
        } else {
            MAX_DATABASE_BYTES
        };
        let opened = read_bounded(path, limit).and_then(|bytes| {
            self.compare(role, path, &bytes);
            read(bytes)
        });
        match opened {
            Ok(database) => Some(database),
            Err(problem) => {
                self.warnings.push(GeoWarning {
                    role,
                    path: path.to_owned(),
                    problem,
                });
                None
            }
        }
    }

    /// Compares a file with what the manifest in its folder says of it.
    fn compare(&mut self, role: GeoRole, path: &Path, content: &[u8]) {
        let manifest_path = path.with_file_name(manifest::FILE_NAME);
        if self
            .manifest
            .as_ref()
            .is_none_or(|(known, _)| *known != manifest_path)
        {
            let manifest = match Manifest::read(&manifest_path) {
                Ok(manifest) => manifest,
                Err(problem) => {
                    let path = manifest_path.clone();
                    self.warnings.push(GeoWarning {
                        role: GeoRole::Manifest,
                        path,
                        problem,
                    });
                    None
                }
            };
            // Files from two folders have no version in common.
            if self.manifest.is_some() {
                self.listed = Some(false);
            }
            self.manifest = Some((manifest_path, manifest));
        }
        let manifest = self.manifest.as_ref().and_then(|(_, known)| known.as_ref());
        let found = content.len() as u64;
        let expected = manifest.and_then(|manifest| manifest.bytes_of(path));
        let problem = match expected {
            Some(expected) if expected != found => Some(GeoProblem::Size { expected, found }),
            _ => manifest
                .filter(|manifest| self.by_digest && manifest.is_other(path, content))
                .map(|_| GeoProblem::Digest),
        };
        let is_listed = expected.is_some() && problem.is_none();
        self.listed = Some(self.listed.unwrap_or(true) && is_listed);
        self.warnings.extend(problem.map(|problem| GeoWarning {
            role,
            path: path.to_owned(),
            problem,
        }));
    }

    fn version(&self) -> Option<String> {
        match &self.manifest {
            Some((_, Some(manifest))) if self.listed == Some(true) => {
                Some(manifest.version().to_owned())
            }
            _ => None,
        }
    }
}

fn is_csv(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
}

/// Reads a file of at most `limit` bytes.
fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, GeoProblem> {
    let file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    let mut bytes = Vec::with_capacity(usize::try_from(size.min(limit)).unwrap_or(0));
    // The size is checked on what was read, so that a file that grows meanwhile is no way around the limit.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(GeoProblem::TooLarge { limit });
    }
    Ok(bytes)
}

/// Whether an address can have facts: private, local and multicast ones belong to no network that a database knows.
/// Documentation ranges count as public; no real client has such an address, and tests do.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b); // RFC 6598
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || a == 0
                || a >= 240
                || shared)
        }
        IpAddr::V6(v6) => {
            !(v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.is_multicast())
        }
    }
}

/// The kind of a network that no range names, from the name of its operator.
fn kind_by_name(organization: Option<&str>) -> NetworkKind {
    organization.map_or(NetworkKind::Residential, operators::classify)
}

#[cfg(test)]
mod tests;
