//! The table at the end: per chapter and door how many requests, what was decided, how long it took; then what became of
//! each chapter.

use crate::audit::Records;
use crate::chapters::Chapter;
use crate::screen::Screen;
use crate::screen::grouped;
use crate::screen::padded;
use crate::verdicts::Told;
use riskgate::domain::audit::AuditEvent;
use std::collections::BTreeMap;

const HEADS: [&str; 10] = [
    "what", "door", "requests", "allow", "step_up", "review", "block", "unscored", "p50 µs",
    "p99 µs",
];
const WIDTHS: [usize; 10] = [20, 10, 8, 6, 7, 6, 6, 8, 8, 8];
/// The first column that holds numbers.
const NUMBERS_FROM: usize = 2;
/// Characters of a line of prose.
const LINE_CHARS: usize = 110;

/// Prints both.
pub(crate) fn print(screen: &Screen, records: &Records, told: &[Told]) {
    screen.heading("Summary (unscored requests count under their verdict as well)");
    screen.line(&row(&HEADS.map(str::to_owned)));
    let mut all = Vec::new();
    for chapter in Chapter::PLAYED {
        let events = records.decisions(chapter);
        let mut by_door: BTreeMap<&str, Vec<&AuditEvent>> = BTreeMap::new();
        for event in &events {
            let door = event.door.as_deref().unwrap_or("-");
            by_door.entry(door).or_default().push(event);
        }
        for (door, events) in &by_door {
            screen.line(&row(&cells(chapter.name(), door, events)));
        }
        all.extend(events);
    }
    let every: Vec<&AuditEvent> = all.iter().collect();
    screen.line(&row(&cells("all", "", &every)));

    screen.heading("What happened");
    for told in told {
        let mark = if told.holds {
            "as promised"
        } else {
            "NOT AS PROMISED"
        };
        let name = told.chapter.map_or("records", Chapter::name);
        let head = format!("{}: {}", mark, name);
        screen.line(&screen.judged(told.holds, &head));
        for line in wrapped(&told.sentence) {
            screen.line(&format!("    {line}"));
        }
    }
}

fn cells(name: &str, door: &str, events: &[&AuditEvent]) -> [String; 10] {
    let verdict = |name: &str| {
        let of_kind = events
            .iter()
            .filter(|event| event.verdict.as_deref() == Some(name));
        of_kind.count().to_string()
    };
    let unscored = events
        .iter()
        .filter(|event| event.status.as_deref() == Some("unscored"));
    let mut times: Vec<u64> = events.iter().map(|event| event.timing.decision).collect();
    times.sort_unstable();
    [
        name.to_owned(),
        door.to_owned(),
        events.len().to_string(),
        verdict("allow"),
        verdict("step_up"),
        verdict("review"),
        verdict("block"),
        unscored.count().to_string(),
        grouped(percentile(&times, 50)),
        grouped(percentile(&times, 99)),
    ]
}

/// The nearest-rank percentile of sorted values; 0 for none.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = sorted.len().saturating_mul(percent).div_ceil(100);
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

fn row(cells: &[String; 10]) -> String {
    let cells = cells.iter().zip(WIDTHS).enumerate();
    let padded = cells.map(|(index, (cell, width))| padded(cell, width, index >= NUMBERS_FROM));
    padded.collect::<Vec<_>>().join(" ").trim_end().to_owned()
}

/// Lines of at most [`LINE_CHARS`], broken at spaces.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < LINE_CHARS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
