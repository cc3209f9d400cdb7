//! The check of an audit log: line by line, it finds what was changed, taken out, put in, moved or cut off since it was
//! written, as far as the keys that are given reach. Every line is taken for hostile; memory and work are bounded.

/// Where chains begin and end.
mod ends;

/// What is found.
pub mod report;

use crate::domain::audit::chain::BootKey;
use crate::domain::audit::chain::Claimed;
use crate::domain::audit::chain::LineKey;
use crate::domain::audit::chain::Link;
use crate::domain::audit::chain::Place;
use crate::domain::audit::chain::record_seq;
use crate::domain::audit::is_mark;
use crate::domain::audit::mark::Fragment;
use crate::domain::audit::mark::Mark;
use crate::domain::audit::mark::MarkKind;
use crate::domain::audit::mark::PublicKey;
use crate::domain::audit::verify::report::FINDINGS_MAX;
use crate::domain::audit::verify::report::Finding;
use crate::domain::audit::verify::report::Report;
use crate::domain::audit::verify::report::Voucher;
use crate::domain::audit::verify::report::Wrong;
use std::collections::BTreeMap;
use std::collections::HashSet;

/// Chains of one log. Each start of a node makes one.
const CHAINS_MAX: usize = 100_000;
/// Notes that are kept.
const NOTES_MAX: usize = 100;
/// Places of removed files that are kept: the first one that counts is in every later file.
const REMOVED_MAX: usize = 100_000;
/// Lines in a row that are none and may be explained by the next one.
const TORN_MAX: usize = 1_000;
/// Keys that are derived for lines that are not there, in all: some minutes of work.
const STEPS_MAX: u64 = 1 << 30;
/// Starts of one node, for each of which a key is derived.
const BOOTS_MAX: u64 = 1 << 20;

/// How much of the log is there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Extent {
    /// From its beginning, or from where old files were removed by the log itself, to the present; the last boot of a node
    /// may be running.
    #[default]
    Present,
    /// The same, and nothing is running any more.
    Closed,
    /// Some files of it: what is before and after them is not asked for.
    Part,
}

/// What is believed from the start.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Keys from which all keys of a node follow, those of its boot 0.
    pub keys: BTreeMap<String, BootKey>,
    /// Public keys that may make the first signature.
    pub public: HashSet<PublicKey>,
}

/// Checks a log. Files are begun in their order, and each line of a file is given once.
#[derive(Debug)]
pub struct Verifier {
    trust: Trust,
    extent: Extent,
    chains: BTreeMap<(String, u64), State>,
    removed: HashSet<(String, u64, u64, Link)>,
    report: Report,
    file: String,
    line: u64,
    /// Whether a line of a chain was met in this file.
    chained: bool,
    /// Lines that are none, unless the next one says how they came about.
    torn: Vec<Torn>,
    steps: u64,
}

#[derive(Debug)]
struct Torn {
    file: String,
    line: u64,
    said: Fragment,
    has_end: bool,
}

/// What is known of one chain.
#[derive(Debug)]
struct State {
    first: u64,
    /// The link before the first line.
    first_prev: Link,
    next: u64,
    /// The link of the last line; `None` when that line is not what was written.
    link: Option<Link>,
    key: Option<LineKey>,
    signer: Option<PublicKey>,
    next_boot: Option<PublicKey>,
    /// What the boot has seen before it.
    after: Option<Place>,
    last_seq: Option<u64>,
    records: u64,
    lost: u64,
    unsigned: u64,
    ended: bool,
    /// Whether the boot after it has seen the same end.
    seen: bool,
    voucher: Voucher,
    at: (String, u64),
}

impl Verifier {
    /// Begins a check.
    pub fn new(trust: Trust, extent: Extent) -> Self {
        Self {
            trust,
            extent,
            chains: BTreeMap::new(),
            removed: HashSet::new(),
            report: Report::default(),
            file: String::new(),
            line: 0,
            chained: false,
            torn: Vec::new(),
            steps: 0,
        }
    }

    /// The lines that follow are those of this file.
    pub fn begin(&mut self, file: &str) {
        self.report.files += 1;
        file.clone_into(&mut self.file);
        self.line = 0;
        self.chained = false;
    }

    /// The next line, without its line feed; `has_end` is false where the file ends without one.
    pub fn line(&mut self, line: &[u8], has_end: bool) {
        self.line += 1;
        self.report.lines += 1;
        let claimed = Claimed::parse(line).filter(|_| has_end);
        let Some(claimed) = claimed else {
            if line.starts_with(b"{\"schema\":1,") && !self.chained {
                self.report.unchained += 1;
                return;
            }
            if self.torn.len() >= TORN_MAX {
                self.settle_torn(None);
            }
            self.torn.push(Torn {
                file: self.file.clone(),
                line: self.line,
                said: Fragment::of(line),
                has_end,
            });
            return;
        };
        self.chained = true;
        let mark = is_mark(line).then(|| serde_json::from_slice::<Mark>(line).ok());
        self.settle_torn(mark.as_ref().and_then(Option::as_ref));
        let key = (claimed.node.to_owned(), claimed.boot);
        let mut state = match self.chains.remove(&key) {
            Some(state) => state,
            None if self.chains.len() < CHAINS_MAX => self.first(&claimed),
            None => {
                self.find(
                    Some(&claimed),
                    None,
                    Wrong::Foreign,
                    "there are too many chains",
                );
                return;
            }
        };
        self.check(&mut state, line, &claimed, mark);
        self.chains.insert(key, state);
    }

    /// What can be known of a chain before its first line that is there.
    fn first(&mut self, claimed: &Claimed<'_>) -> State {
        let boot_key = self.trust.keys.get(claimed.node).cloned();
        let mut key = None;
        if let Some(boot_key) = boot_key {
            if claimed.boot <= BOOTS_MAX && self.spend(claimed.n) && self.spend(claimed.boot) {
                let mut lines = boot_key.after(claimed.boot).lines();
                (0..claimed.n).for_each(|_| lines.advance());
                key = Some(lines);
            } else {
                let (file, line) = (&self.file, self.line);
                self.note(format!(
                    "{file}:{line}: its key is too many steps away to be derived: it is not checked with it"
                ));
            }
        }
        State {
            first: claimed.n,
            first_prev: claimed.prev,
            next: claimed.n,
            link: (claimed.n == 0).then(Link::default),
            key,
            signer: None,
            next_boot: None,
            after: None,
            last_seq: (claimed.n == 0).then_some(0),
            records: 0,
            lost: 0,
            unsigned: 0,
            ended: false,
            seen: false,
            voucher: Voucher::Nothing,
            at: (self.file.clone(), self.line),
        }
    }

    fn check(
        &mut self,
        state: &mut State,
        line: &[u8],
        claimed: &Claimed<'_>,
        mark: Option<Option<Mark>>,
    ) {
        let seq = match &mark {
            Some(mark) => mark.as_ref().map(|mark| mark.seq),
            None => record_seq(line),
        };
        if state.ended {
            let says = "comes after the line with which its chain ended";
            self.find(Some(claimed), seq, Wrong::Displaced, says);
            return;
        }
        let fits = state.link == Some(claimed.prev);
        let mut jumped = false;
        if claimed.n != state.next && fits {
            let says = format!("its number was {} when it was written", state.next);
            self.find(Some(claimed), seq, Wrong::Changed, &says);
        } else if claimed.n < state.next {
            let says = format!("was there before, or belongs before line {}", state.next);
            self.find(Some(claimed), seq, Wrong::Displaced, &says);
            return;
        } else if claimed.n > state.next {
            jumped = true;
            let (from, to) = (state.next, claimed.n - 1);
            let says = if from == to {
                format!("the line before it (n {from}) is missing")
            } else {
                format!("the lines before it (n {from} to {to}) are missing")
            };
            self.find(Some(claimed), seq, Wrong::Missing, &says);
            let missing = claimed.n - state.next;
            let may = self.spend(missing);
            match &mut state.key {
                Some(key) if may => (0..missing).for_each(|_| key.advance()),
                _ => state.key = None,
            }
            state.next = claimed.n;
        } else if state.link.is_some() && !fits {
            let says = "it was chained to other bytes than those of the line before it: one of the two was changed";
            self.find(Some(claimed), seq, Wrong::Changed, says);
        }
        let is_start = matches!(&mark, Some(Some(mark)) if mark.mark == MarkKind::Started);
        if is_start != (claimed.n == 0) {
            let says = "a chain begins with its start, and nothing else does";
            self.find(Some(claimed), seq, Wrong::Foreign, says);
        }
        let is_whole = match &mut state.key {
            Some(key) => {
                let is_whole = key.mac(&claimed.digest) == claimed.mac;
                key.advance();
                is_whole
            }
            None => true,
        };
        if !is_whole {
            self.find(
                Some(claimed),
                seq,
                Wrong::Changed,
                "these are not the bytes that were written",
            );
        }
        state.link = is_whole.then(|| claimed.link());
        state.next = state.next.saturating_add(1);
        state.unsigned += 1;
        state.at = (self.file.clone(), self.line);
        if !is_whole {
            // Nothing that it says is to be believed. It was a record or a mark of the same number.
            state.records += u64::from(mark.is_none());
            state.last_seq = None;
            return;
        }
        if state.key.is_some() {
            state.voucher = Voucher::Key;
        }
        match mark {
            None => self.check_record(state, claimed, seq, jumped),
            Some(Some(mark)) => self.check_mark(state, claimed, &mark, jumped),
            Some(None) => {
                self.find(
                    Some(claimed),
                    seq,
                    Wrong::Changed,
                    "is no mark that can be read",
                );
            }
        }
    }

    fn check_record(
        &mut self,
        state: &mut State,
        claimed: &Claimed<'_>,
        seq: Option<u64>,
        jumped: bool,
    ) {
        state.records += 1;
        let expected = state
            .last_seq
            .filter(|_| !jumped)
            .map(|last| last.saturating_add(1));
        if expected.is_some() && seq != expected {
            let expected = expected.unwrap_or_default();
            let says = format!("the record's number should be {expected}, and no gap is marked");
            self.find(Some(claimed), seq, Wrong::Miscounted, &says);
        }
        state.last_seq = seq;
    }

    fn check_mark(&mut self, state: &mut State, claimed: &Claimed<'_>, mark: &Mark, jumped: bool) {
        let seq = Some(mark.seq);
        if mark.mark == MarkKind::Gap {
            let (from, to) = (mark.from.unwrap_or_default(), mark.to.unwrap_or_default());
            let follows = jumped
                || state
                    .last_seq
                    .is_none_or(|last| last.saturating_add(1) == from);
            if !follows || to < from || mark.seq != to {
                self.find(
                    Some(claimed),
                    seq,
                    Wrong::Miscounted,
                    "the gap is not where it says",
                );
            }
            let lost = to.saturating_sub(from).saturating_add(1);
            state.lost = state.lost.saturating_add(lost);
        } else if !jumped && state.last_seq.is_some_and(|last| last != mark.seq) {
            self.find(
                Some(claimed),
                seq,
                Wrong::Miscounted,
                "the last record before it has another number",
            );
        }
        state.last_seq = seq;
        match mark.mark {
            MarkKind::Started | MarkKind::Checkpoint | MarkKind::Rotated | MarkKind::Ended => {
                self.check_signature(state, claimed, mark);
            }
            MarkKind::Retired => {
                if let Some(place) = &mark.removed
                    && self.removed.len() < REMOVED_MAX
                {
                    self.removed
                        .insert((place.node.clone(), place.boot, place.n, place.link));
                }
            }
            MarkKind::Continued | MarkKind::Erased | MarkKind::Gap | MarkKind::Torn => {}
        }
        match mark.mark {
            MarkKind::Started => {
                state.next_boot = mark.next_boot_key.as_deref().and_then(PublicKey::parse);
                if let Some(place) = &mark.after {
                    self.check_after(claimed, place);
                    state.after = Some(place.clone());
                }
            }
            MarkKind::Ended => state.ended = true,
            MarkKind::Checkpoint
            | MarkKind::Continued
            | MarkKind::Erased
            | MarkKind::Gap
            | MarkKind::Retired
            | MarkKind::Rotated
            | MarkKind::Torn => {}
        }
    }

    /// Whether the mark is signed by the key that has to sign it.
    fn check_signature(&mut self, state: &mut State, claimed: &Claimed<'_>, mark: &Mark) {
        let seq = Some(mark.seq);
        let key = mark.key.as_deref().and_then(PublicKey::parse);
        let is_signed = claimed
            .signed
            .zip(key)
            .is_some_and(|((over, signature), key)| key.verifies(over, &signature));
        if !is_signed {
            self.find(
                Some(claimed),
                seq,
                Wrong::Forged,
                "the signature is not by the key that it names",
            );
            return;
        }
        let named = match state.signer {
            Some(signer) => Some(signer),
            None if claimed.n == 0 => claimed.boot.checked_sub(1).and_then(|boot| {
                let before = self.chains.get(&(claimed.node.to_owned(), boot));
                // An unvouched chain names nobody.
                before
                    .filter(|before| before.voucher != Voucher::Nothing || self.trust.is_empty())
                    .and_then(|before| before.next_boot)
            }),
            None => None,
        };
        let is_trusted = key.is_some_and(|key| self.trust.public.contains(&key));
        let follows = named.is_some() && named == key;
        if named.is_some() && !follows {
            self.find(
                Some(claimed),
                seq,
                Wrong::Forged,
                "it is signed by another key than the one that has to sign it",
            );
        }
        if state.voucher == Voucher::Nothing && !self.trust.is_empty() {
            if follows || is_trusted {
                state.voucher = Voucher::PublicKey;
            } else if state.signer.is_none() {
                self.find(
                    Some(claimed),
                    seq,
                    Wrong::Unvouched,
                    "it is signed by a key that follows from none that is trusted",
                );
            }
        }
        state.signer = mark.next_key.as_deref().and_then(PublicKey::parse);
        state.unsigned = 0;
    }

    /// Whether the line that a boot has seen before it is there.
    fn check_after(&mut self, claimed: &Claimed<'_>, place: &Place) {
        let key = (place.node.clone(), place.boot);
        let Some(state) = self.chains.get_mut(&key) else {
            // That boots are missing is said at the end.
            return;
        };
        // A process that is being replaced may have written on meanwhile.
        let is_there = state.next > place.n;
        let is_last = state.next.checked_sub(1) == Some(place.n);
        let is_same = !is_last || state.link.is_none_or(|link| link == place.link);
        state.seen = is_there && is_same;
        if !is_there {
            let says = format!(
                "when it began there was a line {} of boot {}; that chain ends before it",
                place.n, place.boot
            );
            self.find(Some(claimed), None, Wrong::Missing, &says);
        } else if !is_same {
            let says = format!(
                "line {} of boot {} is another one than it has seen",
                place.n, place.boot
            );
            self.find(Some(claimed), None, Wrong::Changed, &says);
        }
    }

    /// Decides about lines that are none, by what the mark behind them says.
    fn settle_torn(&mut self, mark: Option<&Mark>) {
        let torn = std::mem::take(&mut self.torn);
        let said = mark.map_or(&[][..], |mark| &mark.torn);
        // The mark names those right before it.
        let unnamed = torn.len().saturating_sub(said.len());
        if said.len() > torn.len() {
            self.find(
                None,
                None,
                Wrong::Missing,
                "the part of a line that it names is not before it",
            );
        }
        for (place, torn) in torn.into_iter().enumerate() {
            let named = place.checked_sub(unnamed).and_then(|place| said.get(place));
            let Torn { file, line, .. } = torn;
            if named == Some(&torn.said) {
                self.note(format!(
                    "{file}:{line}: writing broke off in this line, as the next one says"
                ));
            } else if !torn.has_end && self.extent != Extent::Closed {
                self.note(format!(
                    "{file}:{line}: the last line is not whole: it is being written, or the process was killed"
                ));
            } else {
                self.push(Finding {
                    file,
                    line,
                    node: None,
                    boot: None,
                    n: None,
                    seq: None,
                    wrong: Wrong::Foreign,
                    says: "was not written like this by any log".to_owned(),
                });
            }
        }
    }

    fn find(&mut self, claimed: Option<&Claimed<'_>>, seq: Option<u64>, wrong: Wrong, says: &str) {
        self.push(Finding {
            file: self.file.clone(),
            line: self.line,
            node: claimed.map(|claimed| claimed.node.to_owned()),
            boot: claimed.map(|claimed| claimed.boot),
            n: claimed.map(|claimed| claimed.n),
            seq,
            wrong,
            says: says.to_owned(),
        });
    }

    fn find_at(
        &mut self,
        (file, line): &(String, u64),
        (node, boot): &(String, u64),
        n: Option<u64>,
        wrong: Wrong,
        says: &str,
    ) {
        self.push(Finding {
            file: file.clone(),
            line: *line,
            node: Some(node.clone()),
            boot: Some(*boot),
            n,
            seq: None,
            wrong,
            says: says.to_owned(),
        });
    }

    fn push(&mut self, finding: Finding) {
        self.report.wrong += 1;
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(finding);
        }
    }

    fn note(&mut self, note: String) {
        if self.report.notes.len() < NOTES_MAX {
            self.report.notes.push(note);
        }
    }

    /// Whether so many keys may still be derived.
    fn spend(&mut self, steps: u64) -> bool {
        let spent = self.steps.saturating_add(steps);
        let may = spent <= STEPS_MAX;
        if may {
            self.steps = spent;
        }
        may
    }
}

impl Trust {
    /// Whether no key was given.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.public.is_empty()
    }
}

#[cfg(test)]
mod tests;
