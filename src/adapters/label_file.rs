//! What analysts know of decisions, on disk: a line for each word, the latest of a decision counts. Written by the console and by
//! `riskgate label`, which may be at it at once.

use crate::domain::label::Label;
use crate::domain::label::Truth;
use crate::domain::printable;
use crate::flow::ports::LabelBook;
use parking_lot::Mutex;
use parking_lot::MutexGuard;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Labels that are remembered; beyond them those that were said first no longer show. The file keeps all.
const LABELS_MAX: usize = 100_000;

/// The file.
#[derive(Debug)]
pub struct LabelFile {
    path: PathBuf,
    known: Mutex<Known>,
}

/// What was read of the file.
#[derive(Debug, Default)]
struct Known {
    inode: u64,
    bytes: u64,
    lines: u64,
    /// By decision: the latest word, and its number.
    latest: HashMap<String, (u64, Label)>,
    /// By number: whose decision's word that is.
    order: BTreeMap<u64, String>,
}

impl LabelFile {
    /// The file at `path`, which need not be there.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            known: Mutex::default(),
        }
    }

    /// What the file holds by now; `None` where there is none.
    fn read(&self) -> io::Result<Option<MutexGuard<'_, Known>>> {
        let mut known = self.known.lock();
        match File::open(&self.path) {
            Ok(mut file) => known.read_on(&mut file)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        Ok(Some(known))
    }
}

impl LabelBook for LabelFile {
    fn add(&self, label: &Label) -> io::Result<bool> {
        let mut known = self.known.lock();
        let mut options = OpenOptions::new();
        options.create(true).append(true).read(true).mode(0o600);
        let mut file = options.open(&self.path)?;
        // The command line may add one at the same moment.
        match file.lock() {
            Err(error) if error.kind() != ErrorKind::Unsupported => return Err(error),
            _ => {}
        }
        known.read_on(&mut file)?;
        if known
            .latest
            .get(&label.id)
            .is_some_and(|(_, last)| last.says_as(label))
        {
            return Ok(false);
        }
        let mut line = printable::json(label)?;
        line.push('\n');
        // Half a line of somebody who was ended in the middle.
        if file.metadata()?.len() > known.bytes {
            line.insert(0, '\n');
        }
        file.write_all(line.as_bytes())?;
        file.sync_data()?;
        Ok(true)
    }

    fn of(&self, ids: &[&str]) -> io::Result<HashMap<String, Label>> {
        let Some(known) = self.read()? else {
            return Ok(HashMap::new());
        };
        let found = ids.iter().filter_map(|id| known.latest.get(*id));
        Ok(found
            .map(|(_, label)| (label.id.clone(), label.clone()))
            .collect())
    }

    fn page(
        &self,
        truth: Option<Truth>,
        older: Option<u64>,
        most: usize,
    ) -> io::Result<(Vec<Label>, Option<u64>)> {
        let Some(known) = self.read()? else {
            return Ok((Vec::new(), None));
        };
        let mut wanted = known
            .order
            .range(..older.unwrap_or(u64::MAX))
            .rev()
            .filter_map(|(number, id)| Some((*number, &known.latest.get(id)?.1)))
            .filter(|(_, label)| truth.is_none_or(|truth| label.label == truth));
        let mut labels = Vec::new();
        let mut last = None;
        for (number, label) in wanted.by_ref().take(most) {
            labels.push(label.clone());
            last = Some(number);
        }
        Ok((labels, wanted.next().and(last)))
    }
}

impl Known {
    /// Reads what has come since, up to the last whole line.
    fn read_on(&mut self, file: &mut File) -> io::Result<()> {
        let data = file.metadata()?;
        if data.ino() != self.inode || data.len() < self.bytes {
            *self = Self {
                inode: data.ino(),
                ..Self::default()
            };
        }
        if data.len() == self.bytes {
            return Ok(());
        }
        let mut fresh = Vec::new();
        file.seek(SeekFrom::Start(self.bytes))?;
        file.take(data.len() - self.bytes).read_to_end(&mut fresh)?;
        let whole = fresh
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let lines = fresh.get(..whole).unwrap_or_default();
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            self.lines += 1;
            self.bytes += line.len() as u64;
            if line.trim_ascii().is_empty() {
                continue;
            }
            // One line that is none does not hide the others: the export names it.
            match serde_json::from_slice::<Label>(line) {
                Ok(label) => self.note(label),
                Err(error) => {
                    tracing::warn!(line = self.lines, %error, "a line of the labels is none");
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, label: Label) {
        // Lines only come: their numbers are in the order in which the words were said.
        let (number, id) = (self.lines, label.id.clone());
        if let Some((before, _)) = self.latest.insert(id.clone(), (number, label)) {
            self.order.remove(&before);
        }
        self.order.insert(number, id);
        while self.order.len() > LABELS_MAX {
            if let Some((_, oldest)) = self.order.pop_first() {
                self.latest.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(id: &str, truth: Truth, note: &str) -> Label {
        Label::of_analyst(
            id,
            truth,
            "ann",
            None,
            Some(note),
            "2026-11-26T10:00:00.000Z".to_owned(),
        )
    }

    fn place() -> (tempfile::TempDir, LabelFile) {
        let folder = tempfile::tempdir().unwrap();
        let book = LabelFile::new(folder.path().join("labels.jsonl"));
        (folder, book)
    }

    #[test]
    fn the_latest_word_counts_and_the_same_word_twice_is_one() {
        let (folder, book) = place();
        assert!(book.of(&["a"]).unwrap().is_empty());
        assert!(book.add(&label("a", Truth::Safe, "x")).unwrap());
        assert!(!book.add(&label("a", Truth::Safe, "x")).unwrap());
        assert!(book.add(&label("a", Truth::Compromised, "x")).unwrap());
        assert!(book.add(&label("a", Truth::Safe, "x")).unwrap());
        // Another process, such as the command line.
        let other = LabelFile::new(folder.path().join("labels.jsonl"));
        assert!(!other.add(&label("a", Truth::Safe, "x")).unwrap());
        assert!(other.add(&label("b", Truth::Compromised, "y")).unwrap());
        let found = book.of(&["a", "b", "c"]).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found["a"].label, found["b"].label),
            (Truth::Safe, Truth::Compromised)
        );
        let text = std::fs::read_to_string(folder.path().join("labels.jsonl")).unwrap();
        assert_eq!(text.lines().count(), 4);
    }

    #[test]
    fn many_who_say_the_same_at_once_leave_one_line() {
        let (folder, _) = place();
        let path = folder.path().join("labels.jsonl");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let path = path.clone();
                scope.spawn(move || {
                    LabelFile::new(path)
                        .add(&label("a", Truth::Safe, "x"))
                        .unwrap()
                });
            }
        });
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 1);
    }

    #[test]
    fn labels_are_listed_by_their_latest_word() {
        let (_folder, book) = place();
        assert_eq!(book.page(None, None, 5).unwrap(), (Vec::new(), None));
        for (id, truth) in [
            ("a", Truth::Safe),
            ("b", Truth::Compromised),
            ("c", Truth::Safe),
            ("a", Truth::Compromised),
        ] {
            book.add(&label(id, truth, "x")).unwrap();
        }
        let ids = |truth, older, most| {
            let (labels, older) = book.page(truth, older, most).unwrap();
            let ids: Vec<String> = labels.into_iter().map(|label| label.id).collect();
            (ids.join(","), older)
        };
        assert_eq!(ids(None, None, 5), ("a,c,b".to_owned(), None));
        let (first, older) = ids(None, None, 2);
        assert_eq!(first, "a,c");
        assert_eq!(ids(None, older, 2), ("b".to_owned(), None));
        assert_eq!(ids(None, Some(0), 2), (String::new(), None));
        let attacks = Some(Truth::Compromised);
        let (first, older) = ids(attacks, None, 1);
        assert_eq!(first, "a");
        assert_eq!(ids(attacks, older, 1), ("b".to_owned(), None));
        assert_eq!(ids(Some(Truth::Safe), None, 1), ("c".to_owned(), None));
    }

    #[test]
    fn what_is_broken_hides_nothing_else() {
        let (folder, book) = place();
        let path = folder.path().join("labels.jsonl");
        book.add(&label("a", Truth::Safe, "x")).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"id\":\"b\"}\n\n{\"id\":").unwrap();
        assert!(book.add(&label("c", Truth::Safe, "x")).unwrap());
        let found = book.of(&["a", "b", "c"]).unwrap();
        assert_eq!(found.len(), 2);
        // Another file in its place is read from its beginning.
        let line = printable::json(&label("d", Truth::Safe, "x")).unwrap() + "\n";
        std::fs::write(folder.path().join("new"), line).unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert_eq!(book.of(&["a", "c", "d"]).unwrap().len(), 1);
    }
}
