//! A log of two boots in three files, and everything that can be done to it.

use super::*;
use crate::domain::audit::AuditEvent;
use crate::domain::audit::chain::Chain;
use crate::domain::audit::journal::Found;
use crate::domain::audit::journal::Journal;
use crate::domain::audit::mark::Fragment;
use crate::domain::audit::seal::AuditorKey;
use crate::domain::audit::seal::Seal;
use crate::domain::audit::verify::report::End;
use proptest::prelude::*;

/// The lines of a log of two boots in three files, with every kind of mark, and the keys to check it.
struct Log {
    files: Vec<Vec<Vec<u8>>>,
    auditor: AuditorKey,
}

fn time() -> String {
    "2026-11-26T15:00:00.000Z".to_owned()
}

fn event(seq: u64) -> AuditEvent {
    AuditEvent {
        schema: 2,
        seq,
        time: time(),
        id: format!("id-{seq}"),
        features: vec![Some(0.25); 3],
        ..AuditEvent::default()
    }
}

fn split(lines: &[u8]) -> Vec<Vec<u8>> {
    let lines = lines.split_inclusive(|byte| *byte == b'\n');
    lines.map(<[u8]>::to_vec).collect()
}

fn log() -> Log {
    let seals: Vec<Seal> =
        (1..=2).fold(vec![Seal::first("edge", [1; 32], [2; 32])], |mut all, n| {
            let next = all.last().unwrap().next([10 + n; 32]);
            all.push(next);
            all
        });
    let (mut one, mut two, mut three) = (Vec::new(), Vec::new(), Vec::new());
    let mut journal = Journal::begin(&seals[0], &seals[1]).unwrap();
    journal
        .started(&mut one, time(), &[3; 32], Found::default())
        .unwrap();
    for seq in [1, 2, 3] {
        journal.record(&mut one, &event(seq), &time).unwrap();
    }
    journal.checkpoint(&mut one, time(), &[4; 32]).unwrap();
    journal.record(&mut one, &event(7), &time).unwrap();
    journal.rotated(&mut one, time(), &[5; 32]).unwrap();
    journal.continued(&mut two, time()).unwrap();
    journal.record(&mut two, &event(8), &time).unwrap();
    journal.erased(&mut two, time(), 1).unwrap();
    let after = journal.head();
    // Killed in the middle of a line.
    two.extend_from_slice(b"{\"schema\":2,\"se\n");
    let torn = vec![Fragment::of(b"{\"schema\":2,\"se")];
    let mut journal = Journal::begin(&seals[1], &seals[2]).unwrap();
    let found = Found { after, torn };
    journal.started(&mut two, time(), &[6; 32], found).unwrap();
    journal.record(&mut two, &event(1), &time).unwrap();
    journal.rotated(&mut two, time(), &[7; 32]).unwrap();
    journal.continued(&mut three, time()).unwrap();
    journal.record(&mut three, &event(2), &time).unwrap();
    journal.lost_up_to(&mut three, 4, &time).unwrap();
    journal.ended(&mut three, time(), &[8; 32]).unwrap();
    Log {
        files: [one, two, three].iter().map(|lines| split(lines)).collect(),
        auditor: seals[0].auditor().unwrap(),
    }
}

impl Log {
    fn trust(&self, with_key: bool) -> Trust {
        let mut trust = Trust::default();
        if with_key {
            trust
                .keys
                .insert("edge".to_owned(), self.auditor.key.clone());
        }
        trust.public.insert(self.auditor.public);
        trust
    }

    fn report(&self, with_key: bool) -> Report {
        self.report_with(self.trust(with_key), Extent::Closed)
    }

    fn report_with(&self, trust: Trust, extent: Extent) -> Report {
        let mut verifier = Verifier::new(trust, extent);
        for (place, file) in self.files.iter().enumerate() {
            verifier.begin(&format!("file-{place}"));
            // As a file would be read: what was changed may have more line feeds than before.
            for line in split(&file.concat()) {
                let (text, has_end) = match line.strip_suffix(b"\n") {
                    Some(text) => (text, true),
                    None => (line.as_slice(), false),
                };
                verifier.line(text, has_end);
            }
        }
        verifier.finish()
    }

    fn lines(&self) -> usize {
        self.files.iter().map(Vec::len).sum()
    }

    /// The file and the line of a running number.
    fn place(&self, mut at: usize) -> (usize, usize) {
        for (file, lines) in self.files.iter().enumerate() {
            match at.checked_sub(lines.len()) {
                Some(rest) => at = rest,
                None => return (file, at),
            }
        }
        unreachable!("a line of the log")
    }

    fn remove(&mut self, at: usize) -> Vec<u8> {
        let (file, line) = self.place(at);
        self.files[file].remove(line)
    }

    /// Puts a line before that of a running number, or behind the last.
    fn insert(&mut self, at: usize, line: Vec<u8>) {
        if at == self.lines() {
            self.files.last_mut().unwrap().push(line);
        } else {
            let (file, before) = self.place(at);
            self.files[file].insert(before, line);
        }
    }
}

#[test]
fn numbers_of_a_forged_gap_do_not_run_over() {
    let mut chain = Chain::begin("edge", 0, &BootKey::new([1; 32]));
    let mut lines = Vec::new();
    for _ in 0..2 {
        let mut gap = Mark::new(MarkKind::Gap, time(), u64::MAX, 0, 0);
        (gap.from, gap.to) = (Some(0), Some(u64::MAX));
        gap.add(&mut lines, &mut chain, None).unwrap();
    }
    let mut verifier = Verifier::new(Trust::default(), Extent::Present);
    verifier.begin("forged");
    for line in split(&lines) {
        verifier.line(line.strip_suffix(b"\n").unwrap(), true);
    }
    let report = verifier.finish();
    assert_eq!(report.lost, u64::MAX);
    assert!(!report.is_sound());
}

#[test]
fn a_log_as_it_was_written_is_sound() {
    for with_key in [true, false] {
        let report = log().report(with_key);
        assert!(report.is_sound(), "{:#?}", report.findings);
        assert_eq!((report.files, report.records, report.lost), (3, 7, 5));
        let [first, second] = report.chains.as_slice() else {
            panic!("{:?}", report.chains);
        };
        assert_eq!(
            (first.boot, first.end, first.unsigned),
            (0, End::Crashed, 3)
        );
        assert_eq!(
            (second.boot, second.end, second.unsigned),
            (1, End::Clean, 0)
        );
        let voucher = if with_key {
            Voucher::Key
        } else {
            Voucher::PublicKey
        };
        assert!(first.vouched_by == voucher && second.vouched_by == voucher);
        assert!(
            report.notes.iter().any(|note| note.contains("broke off")),
            "{:?}",
            report.notes
        );
    }
}

/// What is after the last signature of a boot that was killed has none to vouch for it, but the next boot has seen its end.
#[test]
fn every_line_is_vouched_for_without_the_auditors_key() {
    let whole = log();
    for at in 0..whole.lines() {
        let mut log = log();
        log.remove(at);
        for with_key in [true, false] {
            let report = log.report(with_key);
            assert!(!report.is_sound(), "line {at}");
        }
    }
}

#[test]
fn what_was_done_is_named_with_its_place() {
    let mut changed = log();
    let line = &mut changed.files[0][2];
    let text = String::from_utf8(line.clone()).unwrap();
    *line = text.replace("id-2", "id-9").into_bytes();
    let report = changed.report(true);
    let [finding] = report.findings.as_slice() else {
        panic!("{:#?}", report.findings);
    };
    assert_eq!((finding.wrong, finding.line), (Wrong::Changed, 3));
    assert_eq!(
        finding.to_string(),
        "file-0:3: changed (edge, boot 0, n 2, seq 2): these are not the bytes that were written"
    );
    // Without the key it can be either of two lines.
    let report = changed.report(false);
    assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
    assert_eq!(
        (report.findings[0].wrong, report.findings[0].line),
        (Wrong::Changed, 4)
    );

    let mut removed = log();
    removed.files[0].remove(2);
    let report = removed.report(true);
    let [finding] = report.findings.as_slice() else {
        panic!("{:#?}", report.findings);
    };
    assert_eq!((finding.wrong, finding.n), (Wrong::Missing, Some(3)));
    assert!(finding.says.contains("(n 2)"));

    let mut doubled = log();
    let line = doubled.files[0][2].clone();
    doubled.files[0].insert(3, line);
    let report = doubled.report(true);
    let [finding] = report.findings.as_slice() else {
        panic!("{:#?}", report.findings);
    };
    assert_eq!((finding.wrong, finding.line), (Wrong::Displaced, 4));

    let mut inserted = log();
    inserted.files[0].insert(3, b"{\"schema\":1,\"seq\":2}\n".to_vec());
    let report = inserted.report(true);
    assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
    assert_eq!(
        (report.findings[0].wrong, report.findings[0].line),
        (Wrong::Foreign, 4)
    );
}

#[test]
fn a_file_that_is_gone_is_missed() {
    for file in 0..3 {
        let mut log = log();
        log.files.remove(file);
        for with_key in [true, false] {
            assert!(!log.report(with_key).is_sound(), "file {file}");
        }
        let report = log.report_with(log.trust(true), Extent::Part);
        assert!(report.is_sound(), "{:#?}", report.findings);
    }
}

/// Who takes the machine over has the keys of what is to come, and makes a new past with them.
#[test]
fn a_past_that_is_written_anew_is_not_believed() {
    let real = log();
    let mut forged = log();
    // The whole log under keys of the forger's own.
    let seal = Seal::first("edge", [66; 32], [67; 32]);
    let mut lines = Vec::new();
    let mut journal = Journal::begin(&seal, &seal.next([68; 32])).unwrap();
    journal
        .started(&mut lines, time(), &[69; 32], Found::default())
        .unwrap();
    journal.record(&mut lines, &event(1), &time).unwrap();
    journal.ended(&mut lines, time(), &[70; 32]).unwrap();
    forged.files = vec![split(&lines)];
    let report = forged.report_with(real.trust(true), Extent::Closed);
    assert!(
        report
            .findings
            .iter()
            .any(|found| found.wrong == Wrong::Changed)
    );
    let report = forged.report_with(real.trust(false), Extent::Closed);
    assert!(
        report
            .findings
            .iter()
            .any(|found| found.wrong == Wrong::Unvouched)
    );
    // Only who asks for no key is content.
    let report = forged.report_with(Trust::default(), Extent::Closed);
    assert!(
        report.is_sound()
            && report
                .notes
                .iter()
                .any(|note| note.contains("no key was given"))
    );
    // With the seal of the next boot, which is on the disk, boot 0 cannot be made again.
    let next = Seal::first("edge", [1; 32], [2; 32]).next([11; 32]);
    let stolen = Seal { boot: 0, ..next };
    let mut lines = Vec::new();
    let mut journal = Journal::begin(&stolen, &stolen.next([68; 32])).unwrap();
    journal
        .started(&mut lines, time(), &[69; 32], Found::default())
        .unwrap();
    journal.ended(&mut lines, time(), &[70; 32]).unwrap();
    forged.files = vec![split(&lines)];
    for with_key in [true, false] {
        assert!(
            !forged
                .report_with(real.trust(with_key), Extent::Closed)
                .is_sound()
        );
    }
}

#[test]
fn old_files_that_the_log_has_removed_itself_are_not_missed() {
    let whole = log();
    let last = whole.files[0].last().unwrap();
    let claimed = Claimed::parse(last.strip_suffix(b"\n").unwrap()).unwrap();
    let place = Place {
        node: "edge".to_owned(),
        boot: claimed.boot,
        n: claimed.n,
        link: claimed.link(),
    };
    // The same log, in which the first file is removed after the first record of the second.
    for (removed, is_sound) in [
        (Some(place.clone()), true),
        (Some(Place { n: 3, ..place }), false),
        (None, false),
    ] {
        let seals = [Seal::first("edge", [1; 32], [2; 32])];
        let next = seals[0].next([11; 32]);
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let mut journal = Journal::begin(&seals[0], &next).unwrap();
        journal
            .started(&mut one, time(), &[3; 32], Found::default())
            .unwrap();
        for seq in [1, 2, 3] {
            journal.record(&mut one, &event(seq), &time).unwrap();
        }
        journal.checkpoint(&mut one, time(), &[4; 32]).unwrap();
        journal.record(&mut one, &event(7), &time).unwrap();
        journal.rotated(&mut one, time(), &[5; 32]).unwrap();
        assert_eq!(one, whole.files[0].concat());
        journal.continued(&mut two, time()).unwrap();
        journal
            .retired(&mut two, time(), "audit.1.jsonl".to_owned(), removed)
            .unwrap();
        journal.ended(&mut two, time(), &[6; 32]).unwrap();
        let log = Log {
            files: vec![split(&two)],
            auditor: seals[0].auditor().unwrap(),
        };
        let report = log.report(true);
        assert_eq!(report.is_sound(), is_sound, "{:#?}", report.findings);
    }
}

#[test]
fn records_from_before_the_chain_are_counted_and_not_believed() {
    let mut log = log();
    log.files[0].insert(0, b"{\"schema\":1,\"seq\":1,\"time\":\"\"}\n".to_vec());
    let report = log.report(true);
    assert!(
        report.is_sound() && report.unchained == 1,
        "{:#?}",
        report.findings
    );
}

#[test]
fn hostile_lines_cost_no_more_than_a_bound() {
    let mut verifier = Verifier::new(log().trust(true), Extent::Closed);
    verifier.begin("hostile");
    let hash = "0".repeat(64);
    for n in [u64::MAX, u64::MAX - 1, 1 << 40, 1 << 12, 0] {
        for boot in [0, u64::MAX, 1 << 29, 1 << 8] {
            let line = format!(
                "{{\"mark\":\"started\",\"chain\":{{\"node\":\"edge\",\"boot\":{boot},\"n\":{n},\"prev\":\"{hash}\",\"mac\":\"{hash}\"}}}}"
            );
            verifier.line(line.as_bytes(), true);
        }
    }
    assert!(!verifier.finish().is_sound());
}

/// Where the code of the last line is in it. Without the auditor's secret key nobody can tell one such code from another, and
/// no line comes after that would hold the hash of this one.
fn last_code(line: &[u8]) -> std::ops::Range<usize> {
    let text = std::str::from_utf8(line).unwrap();
    let begin = text.rfind("\"mac\":\"").unwrap() + "\"mac\":\"".len();
    begin..begin + text[begin..].find('"').unwrap()
}

#[test]
fn with_the_public_key_every_byte_counts_but_the_code_of_the_last_line() {
    let mut log = log();
    let last = log.place(log.lines() - 1);
    let code = last_code(&log.files[last.0][last.1]);
    assert_eq!(code.len(), 64);
    for file in 0..log.files.len() {
        for line in 0..log.files[file].len() {
            for byte in 0..log.files[file][line].len() {
                let was = std::mem::replace(&mut log.files[file][line][byte], b'0');
                let is_code = (file, line) == last && code.contains(&byte);
                assert_eq!(
                    log.report(false).is_sound(),
                    was == b'0' || is_code,
                    "file {file}, line {line}, byte {byte}"
                );
                log.files[file][line][byte] = was;
            }
        }
    }
    let digit = &mut log.files[last.0][last.1][code.start];
    *digit = if *digit == b'0' { b'1' } else { b'0' };
    assert!(!log.report(true).is_sound());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_changed_byte_is_found(at in any::<prop::sample::Index>(), byte in any::<prop::sample::Index>(), to in any::<u8>(), with_key: bool) {
        let mut log = log();
        let at = at.index(log.lines());
        let is_last = at + 1 == log.lines();
        let (file, line) = log.place(at);
        let line = &mut log.files[file][line];
        let byte = byte.index(line.len());
        prop_assume!(line[byte] != to);
        prop_assume!(with_key || !is_last || !last_code(line).contains(&byte));
        line[byte] = to;
        prop_assert!(!log.report(with_key).is_sound());
    }

    #[test]
    fn any_byte_taken_out_or_put_in_is_found(at in any::<prop::sample::Index>(), byte in any::<prop::sample::Index>(), put: Option<u8>, with_key: bool) {
        let mut log = log();
        let (file, line) = log.place(at.index(log.lines()));
        let line = &mut log.files[file][line];
        let byte = byte.index(line.len());
        match put {
            Some(put) => line.insert(byte, put),
            None => drop(line.remove(byte)),
        }
        prop_assert!(!log.report(with_key).is_sound());
    }

    #[test]
    fn any_line_taken_out_is_found(at in any::<prop::sample::Index>(), with_key: bool) {
        let mut log = log();
        log.remove(at.index(log.lines()));
        prop_assert!(!log.report(with_key).is_sound());
    }

    #[test]
    fn any_line_moved_or_repeated_is_found(from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>(), repeat: bool, with_key: bool) {
        let mut log = log();
        let all = log.files.concat();
        let from = from.index(log.lines());
        let line = if repeat {
            let (file, line) = log.place(from);
            log.files[file][line].clone()
        } else {
            log.remove(from)
        };
        let to = to.index(log.lines() + 1);
        log.insert(to, line);
        prop_assume!(log.files.concat() != all);
        prop_assert!(!log.report(with_key).is_sound());
    }

    #[test]
    fn two_lines_that_change_places_are_found(one in any::<prop::sample::Index>(), two in any::<prop::sample::Index>(), with_key: bool) {
        let mut log = log();
        let (one, two) = (one.index(log.lines()), two.index(log.lines()));
        prop_assume!(one != two);
        let (one, two) = (log.place(one), log.place(two));
        let first = log.files[one.0][one.1].clone();
        let second = std::mem::replace(&mut log.files[two.0][two.1], first);
        log.files[one.0][one.1] = second;
        prop_assert!(!log.report(with_key).is_sound());
    }

    #[test]
    fn any_end_that_is_cut_off_is_found(bytes in any::<prop::sample::Index>(), file in 0_usize..3, with_key: bool) {
        let mut log = log();
        let mut text = log.files[file].concat();
        // At least the last line feed.
        text.truncate(bytes.index(text.len()));
        log.files[file] = split(&text);
        prop_assert!(!log.report(with_key).is_sound());
    }
}
