//! The writing of an audit log: which lines there are and in which order, as bytes. Files, time and chance are others'.

use crate::domain::audit::AuditEvent;
use crate::domain::audit::chain::Chain;
use crate::domain::audit::chain::Claimed;
use crate::domain::audit::chain::HASH_BYTES;
use crate::domain::audit::chain::Place;
use crate::domain::audit::chain::record_seq;
use crate::domain::audit::is_mark;
use crate::domain::audit::mark::Fragment;
use crate::domain::audit::mark::Mark;
use crate::domain::audit::mark::MarkKind;
use crate::domain::audit::mark::PublicKey;
use crate::domain::audit::mark::Signer;
use crate::domain::audit::seal::Seal;
use crate::domain::printable;
use std::sync::Arc;

/// Why a line cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It has no JSON form.
    #[error("has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
    /// The library takes no key.
    #[error("no signature can be made")]
    Key,
}

/// What a boot finds.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The last line.
    pub after: Option<Place>,
    /// Parts of lines behind it.
    pub torn: Vec<Fragment>,
}

/// The lines of one boot. A copy is the log as it was: who could not write goes back to the copy.
#[derive(Clone, Debug)]
pub struct Journal {
    chain: Chain,
    /// Signs the next signed mark, and nothing after it.
    signer: Arc<Signer>,
    next_boot: PublicKey,
    seq: u64,
    records: u64,
    lost: u64,
    unsigned: u64,
}

impl Journal {
    /// Begins the boot of `seal`; `next` is the seal of the boot after it.
    ///
    /// # Errors
    /// The library does not take the keys.
    pub fn begin(seal: &Seal, next: &Seal) -> Result<Self, JournalError> {
        let of_seed = |seed| Signer::of_seed(seed).ok_or(JournalError::Key);
        Ok(Self {
            chain: Chain::begin(&seal.node, seal.boot, &seal.key),
            signer: Arc::new(of_seed(&seal.seed)?),
            next_boot: of_seed(&next.seed)?.public(),
            seq: 0,
            records: 0,
            lost: 0,
            unsigned: 0,
        })
    }

    /// The first line. `seed` is random, as it is wherever something is signed: the key of the next signature.
    ///
    /// # Errors
    /// The line cannot be made; nothing has changed then, here as in the other methods.
    pub fn started(
        &mut self,
        lines: &mut Vec<u8>,
        time: String,
        seed: &[u8; HASH_BYTES],
        found: Found,
    ) -> Result<(), JournalError> {
        let mut mark = self.mark(MarkKind::Started, time);
        mark.next_boot_key = Some(self.next_boot.to_string());
        mark.after = found.after;
        mark.torn = found.torn;
        mark.version = Some(env!("CARGO_PKG_VERSION").to_owned());
        self.signed(lines, mark, seed)
    }

    /// A record, and before it, where numbers are missing, a mark of the gap.
    ///
    /// # Errors
    /// See [`Journal::started`].
    pub fn record(
        &mut self,
        lines: &mut Vec<u8>,
        event: &AuditEvent,
        time: &dyn Fn() -> String,
    ) -> Result<(), JournalError> {
        if event.seq > self.seq + 1 {
            self.lost_up_to(lines, event.seq - 1, time)?;
        }
        let start = lines.len();
        lines.extend_from_slice(printable::json(event)?.as_bytes());
        self.chain.add(lines, start, None);
        self.seq = event.seq;
        self.records += 1;
        self.unsigned += 1;
        Ok(())
    }

    /// A mark of the gap, where records up to `seq` have not come.
    ///
    /// # Errors
    /// See [`Journal::started`].
    pub fn lost_up_to(
        &mut self,
        lines: &mut Vec<u8>,
        seq: u64,
        time: &dyn Fn() -> String,
    ) -> Result<(), JournalError> {
        if seq <= self.seq {
            return Ok(());
        }
        let mut mark = self.mark(MarkKind::Gap, time());
        (mark.from, mark.to, mark.seq) = (Some(self.seq + 1), Some(seq), seq);
        self.plain(lines, &mark)?;
        self.lost += seq - self.seq;
        self.seq = seq;
        Ok(())
    }

    /// Vouches for what is there.
    ///
    /// # Errors
    /// See [`Journal::started`].
    pub fn checkpoint(
        &mut self,
        lines: &mut Vec<u8>,
        time: String,
        seed: &[u8; HASH_BYTES],
    ) -> Result<(), JournalError> {
        let mark = self.mark(MarkKind::Checkpoint, time);
        self.signed(lines, mark, seed)
    }

    /// The last line in a file.
    ///
    /// # Errors
    /// See [`Journal::started`].
    pub fn rotated(
        &mut self,
        lines: &mut Vec<u8>,
        time: String,
        seed: &[u8; HASH_BYTES],
    ) -> Result<(), JournalError> {
        let mark = self.mark(MarkKind::Rotated, time);
        self.signed(lines, mark, seed)
    }

    /// The first line in the next file.
    ///
    /// # Errors
    /// See [`Journal::started`].
    pub fn continued(&mut self, lines: &mut Vec<u8>, time: String) -> Result<(), JournalError> {
        let mark = self.mark(MarkKind::Continued, time);
        self.plain(lines, &mark)
    }

    /// A file was removed whose last line was `removed`.
    ///
    /// # Errors
    /// See [`Journal::started`].
    pub fn retired(
        &mut self,
        lines: &mut Vec<u8>,
        time: String,
        file: String,
        removed: Option<Place>,
    ) -> Result<(), JournalError> {
        let mut mark = self.mark(MarkKind::Retired, time);
        (mark.file, mark.removed) = (Some(file), removed);
        self.plain(lines, &mark)
    }

    /// Parts of lines are in the file, right before the end.
    ///
    /// # Errors
    /// See [`Journal::started`].
    pub fn torn(
        &mut self,
        lines: &mut Vec<u8>,
        time: String,
        fragments: Vec<Fragment>,
    ) -> Result<(), JournalError> {
        let mut mark = self.mark(MarkKind::Torn, time);
        mark.torn = fragments;
        self.plain(lines, &mark)
    }

    /// Somebody was erased; `erased` counts all of them.
    ///
    /// # Errors
    /// See [`Journal::started`].
    pub fn erased(
        &mut self,
        lines: &mut Vec<u8>,
        time: String,
        erased: u64,
    ) -> Result<(), JournalError> {
        let mut mark = self.mark(MarkKind::Erased, time);
        mark.erased = Some(erased);
        self.plain(lines, &mark)
    }

    /// The last line.
    ///
    /// # Errors
    /// See [`Journal::started`].
    pub fn ended(
        &mut self,
        lines: &mut Vec<u8>,
        time: String,
        seed: &[u8; HASH_BYTES],
    ) -> Result<(), JournalError> {
        let mark = self.mark(MarkKind::Ended, time);
        self.signed(lines, mark, seed)
    }

    /// The log after a write that broke off: of the lines that made `whole` out of `before`, `landed` is in the file. Also
    /// the part of a line at the end of it.
    pub fn landed(before: &Self, whole: &Self, landed: &[u8]) -> (Self, Option<Fragment>) {
        let mut journal = before.clone();
        let mut fragment = None;
        for line in landed.split_inclusive(|byte| *byte == b'\n') {
            let Some(claimed) = line.strip_suffix(b"\n").and_then(Claimed::parse) else {
                fragment = Some(Fragment::of(line));
                continue;
            };
            journal.chain.accept(claimed.link());
            journal.unsigned += 1;
            if claimed.signed.is_some() {
                // One at most: what is signed stands first, or alone.
                journal.signer = Arc::clone(&whole.signer);
                journal.unsigned = 0;
            }
            if is_mark(line) {
                let mark = serde_json::from_slice::<Mark>(line).ok();
                let gap = mark.filter(|mark| mark.mark == MarkKind::Gap);
                if let Some(gap) = gap {
                    journal.lost += gap.seq.saturating_sub(journal.seq);
                    journal.seq = gap.seq;
                }
            } else {
                journal.records += 1;
                journal.seq = record_seq(line).unwrap_or(journal.seq);
            }
        }
        (journal, fragment)
    }

    /// Lines that no signature vouches for yet.
    pub fn unsigned(&self) -> u64 {
        self.unsigned
    }

    /// How many records there are.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// How many lines there are.
    pub fn lines(&self) -> u64 {
        self.chain.lines()
    }

    /// The last line.
    pub fn head(&self) -> Option<Place> {
        Some(Place {
            node: self.chain.node().to_owned(),
            boot: self.chain.boot(),
            n: self.chain.lines().checked_sub(1)?,
            link: self.chain.head(),
        })
    }

    fn mark(&self, kind: MarkKind, time: String) -> Mark {
        Mark::new(kind, time, self.seq, self.records, self.lost)
    }

    fn plain(&mut self, lines: &mut Vec<u8>, mark: &Mark) -> Result<(), JournalError> {
        mark.add(lines, &mut self.chain, None)?;
        self.unsigned += 1;
        Ok(())
    }

    fn signed(
        &mut self,
        lines: &mut Vec<u8>,
        mut mark: Mark,
        seed: &[u8; HASH_BYTES],
    ) -> Result<(), JournalError> {
        let next = Signer::of_seed(seed).ok_or(JournalError::Key)?;
        mark.key = Some(self.signer.public().to_string());
        mark.next_key = Some(next.public().to_string());
        mark.add(lines, &mut self.chain, Some(&self.signer))?;
        self.signer = Arc::new(next);
        self.unsigned = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time() -> String {
        "2026-11-26T15:00:00.000Z".to_owned()
    }

    /// Wherever a write breaks off: what is in the file counts, and the next line follows it.
    #[test]
    fn what_has_landed_is_what_the_log_goes_on_from() {
        let seal = Seal::first("edge", [1; 32], [2; 32]);
        let before = Journal::begin(&seal, &seal.next([3; 32])).unwrap();
        let mut whole = before.clone();
        let mut lines = Vec::new();
        whole
            .started(&mut lines, time(), &[4; 32], Found::default())
            .unwrap();
        for seq in [1, 2, 5] {
            let event = AuditEvent {
                schema: 2,
                seq,
                ..AuditEvent::default()
            };
            whole.record(&mut lines, &event, &time).unwrap();
        }
        let (all, none) = Journal::landed(&before, &whole, &lines);
        assert!(none.is_none());
        assert_eq!(
            (all.head(), all.records, all.lost, all.seq),
            (whole.head(), 3, 2, 5)
        );
        assert_eq!(all.unsigned, whole.unsigned);
        for landed in 0..lines.len() {
            let landed = &lines[..landed];
            let (mut journal, fragment) = Journal::landed(&before, &whole, landed);
            let ends = landed.is_empty() || landed.ends_with(b"\n");
            assert_eq!(fragment.is_none(), ends);
            let feeds = landed.iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(journal.lines(), feeds as u64);
            if feeds > 0 {
                let mut more = Vec::new();
                journal.ended(&mut more, time(), &[5; 32]).unwrap();
                let mark: Mark = serde_json::from_slice(&more).unwrap();
                // The key that was announced in the line that has landed.
                assert_eq!(mark.key, Some(whole.signer.public().to_string()));
            }
        }
    }
}
