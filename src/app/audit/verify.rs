//! `riskgate audit verify`: whether files of an audit log are as they were written.

use crate::adapters::audit_log::segment::older;
use crate::app::RunError;
use crate::app::labels;
use crate::app::records;
use crate::config::Config;
use crate::config::ConfigError;
use crate::domain::audit::chain::Place;
use crate::domain::audit::mark::PublicKey;
use crate::domain::audit::seal::AuditorKey;
use crate::domain::audit::verify::Extent;
use crate::domain::audit::verify::Trust;
use crate::domain::audit::verify::Verifier;
use crate::domain::audit::verify::report::End;
use crate::domain::audit::verify::report::Report;
use crate::domain::audit::verify::report::Voucher;
use crate::domain::printable;
use std::fmt::Write as _;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

/// The longest line that is read as one.
const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Lines at the beginning of a file that are looked at for its place in the log.
const HEAD_LINES_MAX: usize = 100;
/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// What is to be checked, or exported.
#[derive(Debug)]
pub struct Files {
    pub(super) read: Vec<PathBuf>,
    pub(super) packed: Vec<PathBuf>,
}

impl Files {
    /// The files of the log that a configuration names: those that were put aside, and the present one.
    pub fn of(config: &Config) -> Self {
        let present = config.audit_file();
        let mut read = older(&present);
        read.push(present);
        Self {
            read,
            packed: records::packed_log(&config.audit_file()),
        }
    }

    /// Those at `paths`, files or folders of them.
    ///
    /// # Errors
    ///
    /// If there is none that can be read.
    pub fn at(paths: &[PathBuf]) -> Result<Self, RunError> {
        let packed = records::packed(paths)?;
        let is_given = |path: &&PathBuf| !packed.contains(path);
        let given: Vec<PathBuf> = paths.iter().filter(is_given).cloned().collect();
        // Nothing but packed ones is an error that says so.
        let mut read = records::files(if given.is_empty() { paths } else { &given })?;
        // The words of analysts lie beside the log, and are none of it.
        read.retain(|path| !path.ends_with(labels::FILE) || paths.contains(path));
        Ok(Self { read, packed })
    }
}

/// What is believed: files of auditors' keys, and public keys, as 64 hexadecimal digits or as files that hold them.
pub fn trust(keys: &[PathBuf], public: &[String]) -> Result<Trust, RunError> {
    let mut trust = Trust::default();
    for path in keys {
        let text = read(path, "--key")?;
        let key = AuditorKey::parse(&text)
            .ok_or_else(|| wrong(path, "--key: is no auditor's key of a node"))?;
        trust.public.insert(key.public);
        trust.keys.insert(key.node, key.key);
    }
    for given in public {
        let key = match PublicKey::parse(given) {
            Some(key) => key,
            None => {
                let path = Path::new(given);
                let text = read(path, "--public-key")?;
                PublicKey::parse(text.trim()).ok_or_else(|| {
                    wrong(
                        path,
                        "--public-key: expected 64 hexadecimal digits, or a file of them",
                    )
                })?
            }
        };
        trust.public.insert(key);
    }
    Ok(trust)
}

/// Reads the files in the order of the log and checks them. Packed ones are not read: where the whole log is asked for, it is
/// not sound without them.
pub fn verify(files: &Files, trust: Trust, extent: Extent) -> Result<Report, RunError> {
    let mut ordered = Vec::with_capacity(files.read.len());
    for path in &files.read {
        ordered.push((head(path)?, path));
    }
    // Files without a chain are from before there was one.
    ordered.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut verifier = Verifier::new(trust, extent);
    let mut line = Vec::new();
    for (_, path) in ordered {
        verifier.begin(&path.display().to_string());
        let mut lines = open(path)?;
        while let Some(has_end) =
            next(&mut lines, &mut line).map_err(|error| failed(path, &error))?
        {
            verifier.line(&line, has_end);
        }
    }
    let mut report = verifier.finish();
    match extent {
        Extent::Part => report.notes.extend(records::passed_over(&files.packed)),
        Extent::Closed | Extent::Present => {
            let packed = files.packed.iter();
            report.unread = packed.map(|path| path.display().to_string()).collect();
        }
    }
    Ok(report)
}

/// The report as a text.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut say = |line: String| {
        let _infallible = writeln!(text, "{}", printable::plain(&line));
    };
    for finding in &report.findings {
        say(finding.to_string());
    }
    let kept = report.findings.len() as u64;
    if report.wrong > kept {
        say(format!("... and {} more", report.wrong - kept));
    }
    for chain in &report.chains {
        let end = match chain.end {
            End::Clean => "ended",
            End::Crashed => "broke off",
            End::Open => "not ended",
        };
        let voucher = match chain.vouched_by {
            Voucher::Key => "vouched for by the auditor's key",
            Voucher::PublicKey if chain.unsigned > 0 => {
                "vouched for by the public key up to the last signature"
            }
            Voucher::PublicKey => "vouched for by the public key",
            Voucher::Nothing => "vouched for by nothing",
        };
        let (first, last) = chain.lines;
        say(format!(
            "{}, boot {}: lines {first} to {last}, {} records, {} lost, {end}, {voucher}",
            chain.node, chain.boot, chain.records, chain.lost
        ));
    }
    for note in &report.notes {
        say(format!("note: {note}"));
    }
    for path in &report.unread {
        say(format!("not checked: `{path}` is packed: unpack it first"));
    }
    let (lines, files, records) = (report.lines, report.files, report.records);
    let unread = report.unread.len();
    if report.is_sound() {
        say(format!(
            "sound: {lines} lines in {files} files, {records} records"
        ));
    } else if report.wrong == 0 {
        say(format!(
            "NOT ALL CHECKED: nothing wrong in {lines} lines in {files} files, {records} records; {unread} packed files were not read"
        ));
    } else {
        say(format!(
            "NOT SOUND: {} findings in {lines} lines in {files} files, {records} records",
            report.wrong
        ));
    }
    text
}

/// The report as JSON.
pub fn json(report: &Report) -> Result<String, RunError> {
    printable::json_pretty(report).map_err(|error| RunError::System(error.to_string()))
}

/// Where a file stands in the log: the first line of a chain in it.
fn head(path: &Path) -> Result<Option<(String, u64, u64)>, RunError> {
    let mut lines = open(path)?;
    let mut line = Vec::new();
    for _ in 0..HEAD_LINES_MAX {
        if next(&mut lines, &mut line)
            .map_err(|error| failed(path, &error))?
            .is_none()
        {
            break;
        }
        if let Some(place) = Place::of_line(&line) {
            return Ok(Some((place.node, place.boot, place.n)));
        }
    }
    Ok(None)
}

/// The next line without its line feed, and whether it had one; `None` at the end. What is longer than can be a line comes
/// in pieces, none of which is one.
fn next(lines: &mut BufReader<File>, line: &mut Vec<u8>) -> std::io::Result<Option<bool>> {
    line.clear();
    let taken = lines.take(LINE_BYTES_MAX).read_until(b'\n', line)?;
    if taken == 0 {
        return Ok(None);
    }
    let has_end = line.last() == Some(&b'\n');
    if has_end {
        line.pop();
    }
    Ok(Some(has_end || taken as u64 == LINE_BYTES_MAX))
}

fn open(path: &Path) -> Result<BufReader<File>, RunError> {
    let file = File::open(path).map_err(|error| failed(path, &error))?;
    Ok(BufReader::with_capacity(BUFFER_BYTES, file))
}

fn read(path: &Path, flag: &str) -> Result<String, RunError> {
    std::fs::read_to_string(path)
        .map_err(|error| wrong(path, &format!("{flag}: cannot be read: {error}")))
}

fn failed(path: &Path, error: &std::io::Error) -> RunError {
    RunError::System(format!("`{}` cannot be read: {error}", path.display()))
}

fn wrong(path: &Path, problem: &str) -> RunError {
    RunError::Config(vec![ConfigError::new(path.display().to_string(), problem)])
}
