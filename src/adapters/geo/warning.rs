//! What can be wrong with a database file. Said once, at start or reload; the gateway runs on.

use std::fmt;
use std::path::PathBuf;

/// Which facts a file is for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum GeoRole {
    /// Country of an address.
    Country,
    /// City and coordinates of an address.
    City,
    /// Operator of an address.
    Asn,
    /// Kind of network of an address.
    Ranges,
    /// Versions and sizes of the files.
    Manifest,
}

/// A file that cannot be used, or not fully. The facts it holds stay unknown; the gateway runs on.
#[derive(Debug, thiserror::Error)]
#[error("{role} database `{}`: {problem}", path.display())]
pub struct GeoWarning {
    /// What the file is for.
    pub role: GeoRole,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: GeoProblem,
}

/// What is wrong with a database file.
#[derive(Debug, thiserror::Error)]
pub enum GeoProblem {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// It is larger than what is accepted.
    #[error("is larger than {limit} bytes")]
    TooLarge {
        /// The accepted size in bytes.
        limit: u64,
    },
    /// It is not a usable MMDB.
    #[error("is not a usable MMDB file, fetch it again: {0}")]
    Mmdb(#[from] maxminddb::MaxMindDbError),
    /// It is an MMDB of another purpose.
    #[error("holds no {expected} in its first records")]
    WrongContent {
        /// The fact that was looked for.
        expected: GeoRole,
    },
    /// A line of a CSV is not what is expected.
    #[error("line {line}: {expected} expected")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What should have been there.
        expected: &'static str,
    },
    /// A CSV holds more ranges than are accepted.
    #[error("holds more than {limit} ranges")]
    TooManyRanges {
        /// The accepted number of ranges.
        limit: usize,
    },
    /// It holds nothing.
    #[error("is empty")]
    Empty,
    /// The manifest does not read as one.
    #[error("is not a manifest: {0}")]
    Manifest(String),
    /// A file has another content than the manifest says.
    #[error(
        "has not the content (sha256) that its manifest says: damaged, or from another set; fetch them again"
    )]
    Digest,
    /// A file has another size than the manifest says.
    #[error("has {found} bytes, its manifest says {expected}: fetch them again")]
    Size {
        /// The size that the manifest says.
        expected: u64,
        /// The size on disk.
        found: u64,
    },
}

impl GeoRole {
    /// The key of the configuration that names the file.
    pub fn key(self) -> &'static str {
        match self {
            Self::Country => "geo.country",
            Self::City => "geo.city",
            Self::Asn => "geo.asn",
            Self::Ranges => "geo.kinds",
            Self::Manifest => "geo",
        }
    }
}

impl fmt::Display for GeoRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Country => "country",
            Self::City => "city",
            Self::Asn => "autonomous system",
            Self::Ranges => "network kind",
            Self::Manifest => "manifest of the",
        })
    }
}
