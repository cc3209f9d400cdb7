//! One row per event: a CSV with scores and verdicts, and the feature vectors as a NumPy array in the same order.

use crate::app::replay::Said;
use crate::domain::features::Feature;
use crate::domain::features::FeatureVector;
use crate::domain::kind::RequestKind;
use crate::domain::risk::RiskScore;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::path::Path;

/// The columns of the CSV.
const COLUMNS: [&str; 10] = [
    "index",
    "kind",
    "probability",
    "score",
    "verdict",
    "label",
    "attacker_kind",
    "cohort",
    "logins",
    "user",
];
/// The length of the array's header (NumPy format 1.0): the magic, the length and a padded dictionary.
const HEADER_BYTES: usize = 128;

/// What is written and counted of one event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'e> {
    /// By which the event is found again.
    pub(super) index: &'e str,
    /// The kind of request.
    pub(super) kind: RequestKind,
    /// The score.
    pub(super) score: Option<RiskScore>,
    /// The row of the model.
    pub(super) features: Option<&'e FeatureVector>,
    /// The verdict.
    pub(super) said: Said,
    /// The kind of attacker; `None` for a legitimate event.
    pub(super) attacker: Option<&'e str>,
    /// Groups of users, separated by spaces.
    pub(super) cohort: &'e str,
    /// The incident; may be empty.
    pub(super) campaign: &'e str,
    /// Confirmed logins before it.
    pub(super) logins: u32,
    /// Whom it is about.
    pub(super) whom: &'e str,
}

/// Writes scores and verdicts.
pub(super) struct ScoreRows(csv::Writer<File>);

/// Writes feature vectors.
pub(super) struct FeatureRows {
    file: BufWriter<File>,
    count: u64,
}

impl ScoreRows {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut csv = csv::Writer::from_writer(File::create(path)?);
        csv.write_record(COLUMNS)?;
        Ok(Self(csv))
    }

    pub(super) fn write(&mut self, row: &Row<'_>) -> io::Result<()> {
        let score = |text: fn(RiskScore) -> String| row.score.map_or_else(String::new, text);
        self.0.write_record([
            row.index,
            row.kind.as_str(),
            &score(|score| score.probability().to_string()),
            &score(|score| score.points().to_string()),
            row.said.as_str(),
            if row.attacker.is_some() { "1" } else { "0" },
            row.attacker.unwrap_or(""),
            row.cohort,
            &row.logins.to_string(),
            row.whom,
        ])?;
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl FeatureRows {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&header(0))?;
        Ok(Self { file, count: 0 })
    }

    /// Writes one row; without features, one of missing values.
    pub(super) fn write(&mut self, features: Option<&FeatureVector>) -> io::Result<()> {
        let missing = FeatureVector::missing();
        let row = features.unwrap_or(&missing).as_slice();
        for value in row {
            self.file.write_all(&value.to_le_bytes())?;
        }
        self.count += 1;
        Ok(())
    }

    /// The number of rows is known by now and goes into the header.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&header(self.count))?;
        self.file.flush()
    }
}

fn header(rows: u64) -> Vec<u8> {
    let before = 10;
    let dictionary = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {}), }}",
        Feature::COUNT
    );
    let length = HEADER_BYTES - before;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(length as u16).to_le_bytes());
    // The dictionary ends with a line break and is filled up with spaces before it.
    bytes.extend_from_slice(format!("{dictionary:<width$}\n", width = length - 1).as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_numpys() {
        for rows in [0, 7, u64::MAX] {
            let header = header(rows);
            assert_eq!(header.len(), HEADER_BYTES);
            assert_eq!(header.len() % 64, 0);
            assert!(header.starts_with(b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4'"));
            assert_eq!(header.last(), Some(&b'\n'));
        }
    }

    #[test]
    fn rows_are_little_endian_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let mut rows = FeatureRows::create(&path).unwrap();
        let mut row = FeatureVector::missing();
        row.set(Feature::GeoKm, 2.5);
        rows.write(Some(&row)).unwrap();
        rows.write(None).unwrap();
        rows.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), HEADER_BYTES + 2 * 4 * Feature::COUNT);
        let shape = format!("'shape': (2, {})", Feature::COUNT);
        assert!(String::from_utf8_lossy(&bytes).contains(&shape));
        let at = HEADER_BYTES + 4 * Feature::GeoKm.index();
        assert_eq!(bytes[at..at + 4], 2.5_f32.to_le_bytes());
        assert!(bytes[at + 4..at + 8] != 2.5_f32.to_le_bytes());
    }
}
