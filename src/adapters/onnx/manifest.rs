//! The manifest beside a model and the golden vectors that it names. Reads bounded files; evaluates nothing.

use crate::domain::features::Feature;
use crate::domain::features::FeatureVector;
use crate::domain::hex;
use crate::domain::kind::RequestKind;
use serde::Deserialize;
use sha2::Digest;
use sha2::Sha256;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Component;
use std::path::Path;

/// The name of the manifest within the model's directory.
pub const MANIFEST: &str = "manifest.toml";
/// Bytes of a manifest at most.
pub(super) const MANIFEST_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of the golden vectors at most.
pub(super) const GOLDEN_BYTES_MAX: u64 = 1024 * 1024;
/// Golden rows at most: each is evaluated at load.
const GOLDEN_ROWS_MAX: usize = 1000;

/// What `manifest.toml` says of the models in its directory.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the feature schema that they were made for.
    pub schema_version: u32,
    /// One model for logins, and at most one for each other kind of request.
    #[serde(rename = "model")]
    pub models: Vec<ManifestModel>,
}

/// What the manifest says of one model.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ManifestModel {
    /// The kind of request that the model is for.
    pub kind: RequestKind,
    /// The model's file, beside the manifest.
    pub file: String,
    /// The SHA-256 of that file in hexadecimal.
    pub sha256: String,
    /// The model's version.
    pub version: String,
    /// The file with golden vectors, beside the manifest.
    pub golden: String,
}

/// Inputs with the outputs that the trainer computed for them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// The version of the model that they belong to.
    pub model_version: String,
    /// The rows, 1 to 1000.
    pub rows: Vec<GoldenRow>,
}

/// One golden vector.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenRow {
    /// What the row stands for.
    pub name: String,
    /// The input in the order of the schema; `None` where the value is missing.
    pub features: Vec<Option<f32>>,
    /// The probability.
    pub probability: f32,
    /// The contributions in the order of the schema.
    pub contributions: Vec<f32>,
}

/// Why a manifest or its golden vectors cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A name that leads out of the directory.
    #[error("names the file `{0}`; expected a plain file name in the same directory")]
    FileName(String),
    /// There must be one model for logins and no two for one kind.
    #[error("lists {found} models for `{kind}`; expected {expected}")]
    Kinds {
        /// The kind.
        kind: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        expected: &'static str,
    },
    /// The golden vectors are none.
    #[error("is not a list of golden vectors: {0}")]
    Golden(String),
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// The manifest's text is wrong.
    #[error("is not a model manifest: {0}")]
    Text(String),
    /// The file is larger than allowed.
    #[error("is larger than the {0} bytes allowed")]
    TooLarge(u64),
}

impl Manifest {
    /// Reads the text of a manifest. Names of files may not lead out of the directory; requests of a kind that is not
    /// listed are scored as logins are, so that the model for these must be there.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text)
            .map_err(|error| ManifestError::Text(error.message().to_owned()))?;
        let names = manifest.models.iter();
        for name in names.flat_map(|model| [&model.file, &model.golden]) {
            if !is_plain_name(name) {
                return Err(ManifestError::FileName(
                    name.chars().filter(|c| !c.is_control()).take(80).collect(),
                ));
            }
        }
        for kind in RequestKind::ALL {
            let found = manifest.models.iter().filter(|model| model.kind == kind);
            let (found, is_login) = (found.count(), kind == RequestKind::Login);
            if found > 1 || (found == 0 && is_login) {
                return Err(ManifestError::Kinds {
                    kind: kind.as_str(),
                    found,
                    expected: if is_login { "one" } else { "one at most" },
                });
            }
        }
        Ok(manifest)
    }
}

impl Golden {
    /// Reads golden vectors in JSON.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let golden: Self = serde_json::from_slice(bytes)
            .map_err(|error| ManifestError::Golden(error.to_string()))?;
        let fault = if golden.rows.is_empty() || golden.rows.len() > GOLDEN_ROWS_MAX {
            Some(format!(
                "{} rows; expected 1 to {GOLDEN_ROWS_MAX}",
                golden.rows.len()
            ))
        } else {
            let fits = |row: &GoldenRow| {
                row.features.len() == Feature::COUNT && row.contributions.len() == Feature::COUNT
            };
            let odd = golden.rows.iter().find(|row| !fits(row));
            odd.map(|row| {
                format!(
                    "row `{}` has another length than {}",
                    row.name,
                    Feature::COUNT
                )
            })
        };
        fault.map_or(Ok(golden), |fault| Err(ManifestError::Golden(fault)))
    }
}

impl GoldenRow {
    /// The input as the model takes it.
    pub fn vector(&self) -> FeatureVector {
        let values: Vec<_> = self
            .features
            .iter()
            .map(|value| value.unwrap_or(f32::NAN))
            .collect();
        // INVARIANT: `Golden::parse` checked the length.
        FeatureVector::from_slice(&values).unwrap_or_else(FeatureVector::missing)
    }
}

/// The whole file, if it is no larger than `bytes_max`.
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, ManifestError> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= bytes_max) {
        return Ok(bytes);
    }
    Err(ManifestError::TooLarge(bytes_max))
}

/// The SHA-256 in lower-case hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes))
}

fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let single = matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == name);
    single && !name.contains(['\\', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, file: &str) -> String {
        format!(
            "[[model]]\nkind = \"{kind}\"\nfile = {file:?}\nsha256 = \"00\"\nversion = \"1\"\ngolden = \"g.json\"\n"
        )
    }

    fn parse(entries: &[String]) -> Result<Manifest, ManifestError> {
        Manifest::parse(&format!("schema_version = 1\n{}", entries.concat()))
    }

    fn with(file: &str) -> Result<Manifest, ManifestError> {
        parse(&[entry("login", file)])
    }

    #[test]
    fn there_is_one_model_for_logins_and_one_at_most_for_others() {
        let of = |kinds: &[&str]| {
            let entries: Vec<_> = kinds.iter().map(|kind| entry(kind, "a.onnx")).collect();
            parse(&entries).map(|manifest| manifest.models.len())
        };
        assert_eq!(of(&["login", "token", "m2m"]).unwrap(), 3);
        for (kinds, fault) in [
            (&["token"][..], "lists 0 models for `login`; expected one"),
            (
                &["login", "login"],
                "lists 2 models for `login`; expected one",
            ),
            (
                &["login", "m2m", "m2m"],
                "lists 2 models for `m2m`; expected one at most",
            ),
            (&["login", "sso"], "unknown variant `sso`"),
        ] {
            let found = of(kinds).unwrap_err().to_string();
            assert!(found.contains(fault), "{found}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [
            "../x.onnx",
            "/etc/passwd",
            "a/b.onnx",
            "..",
            ".",
            "",
            "a/",
            "./a",
            "..\\x",
        ] {
            assert!(
                matches!(with(name), Err(ManifestError::FileName(_))),
                "{name:?}"
            );
        }
        assert!(!is_plain_name("a\0b"));
        assert_eq!(
            with("risk-login-0.1.0.onnx").unwrap().models[0].file,
            "risk-login-0.1.0.onnx"
        );
    }

    #[test]
    fn unknown_keys_are_refused() {
        let text = entry("login", "a") + "x = 1\n";
        assert!(
            matches!(parse(&[text]), Err(ManifestError::Text(text)) if text.contains("unknown field `x`"))
        );
    }

    #[test]
    fn golden_rows_have_the_schemas_length() {
        let short = br#"{"model_version":"1","rows":[{"name":"a","features":[1.0],"probability":0.5,"contributions":[]}]}"#;
        assert!(
            matches!(Golden::parse(short), Err(ManifestError::Golden(text)) if text.contains("row `a`"))
        );
        let none = br#"{"model_version":"1","rows":[]}"#;
        assert!(
            matches!(Golden::parse(none), Err(ManifestError::Golden(text)) if text.contains("0 rows"))
        );
    }

    #[test]
    fn a_file_over_the_limit_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0; 11]).unwrap();
        assert!(matches!(
            read_bounded(file.path(), 10),
            Err(ManifestError::TooLarge(10))
        ));
        assert_eq!(read_bounded(file.path(), 11).unwrap().len(), 11);
    }
}
