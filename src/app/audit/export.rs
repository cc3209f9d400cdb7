//! `riskgate audit export`: records in the form of other systems.

use crate::app::RunError;
use crate::app::audit::verify::Files;
use crate::app::records;
use crate::domain::audit::AuditEvent;
use crate::domain::audit::is_mark;
use crate::domain::audit::ocsf;
use crate::domain::printable;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::path::Path;

/// The longest line that is read.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// What was written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Exported {
    /// Events.
    pub events: u64,
    /// Records that are not about authentication.
    pub others: u64,
    /// Lines that are no records.
    pub unreadable: u64,
    /// A sentence about packed files, whose records are missing.
    pub passed_over: Option<String>,
}

/// Writes the records of `files` about authentication as OCSF events, one a line.
pub fn ocsf(files: &Files, out: &mut dyn Write) -> Result<Exported, RunError> {
    let mut exported = Exported {
        passed_over: records::passed_over(&files.packed),
        ..Exported::default()
    };
    let mut line = Vec::new();
    for path in &files.read {
        let of_file = |error: std::io::Error| {
            RunError::System(format!("`{}` cannot be read: {error}", path.display()))
        };
        let mut lines = open(path).map_err(of_file)?;
        while next(&mut lines, &mut line).map_err(of_file)? {
            if is_mark(&line) || line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let Ok(event) = serde_json::from_slice::<AuditEvent>(&line) else {
                exported.unreadable += 1;
                continue;
            };
            let Some(event) = ocsf::authentication(&event) else {
                exported.others += 1;
                continue;
            };
            let written = printable::json(&event)
                .map_err(std::io::Error::from)
                .and_then(|line| writeln!(out, "{line}"));
            written.map_err(|error| RunError::System(format!("cannot be written: {error}")))?;
            exported.events += 1;
        }
    }
    let flushed = out.flush();
    flushed.map_err(|error| RunError::System(format!("cannot be written: {error}")))?;
    Ok(exported)
}

fn open(path: &Path) -> std::io::Result<BufReader<Box<dyn Read>>> {
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path)?)
    };
    Ok(BufReader::new(input))
}

fn next(lines: &mut BufReader<Box<dyn Read>>, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    Ok(lines.take(LINE_BYTES_MAX).read_until(b'\n', line)? > 0)
}
