//! What the terminal shows: progress, one row per decision, a status line. Colour only on a terminal, and never as the
//! only sign of anything.

use crate::stop::Stop;
use parking_lot::Mutex;
use riskgate::domain::audit::AuditEvent;
use std::io::IsTerminal as _;
use std::io::Write as _;

/// Reasons that a row has room for.
const REASONS_SHOWN: usize = 3;
/// Characters of a pseudonym that are shown.
const PSEUDONYM_CHARS: usize = 8;
/// The heads of a row's columns.
const HEADS: [&str; 9] = [
    "time (UTC)",
    "door",
    "who",
    "from",
    "score",
    "level",
    "verdict",
    "µs",
    "reasons",
];
/// Their widths; the last one is open.
const WIDTHS: [usize; 8] = [12, 10, 9, 15, 5, 7, 8, 7];
/// The columns of numbers.
const NUMBERS: [usize; 2] = [4, 7];

/// Standard output.
#[derive(Debug)]
pub(crate) struct Screen {
    is_terminal: bool,
    has_colour: bool,
    has_status: Mutex<bool>,
    stop: Stop,
}

/// What a text stands for, as a colour.
#[derive(Clone, Copy, Debug)]
enum Paint {
    Good,
    Warning,
    Bad,
    Faint,
    Strong,
}

impl Screen {
    /// Standard output as it is. When its reader goes away, the end is asked for.
    pub(crate) fn new(stop: Stop) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            is_terminal,
            has_colour: is_terminal && !is_plain,
            has_status: Mutex::new(false),
            stop,
        }
    }

    /// Whether somebody watches.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// One line.
    pub(crate) fn line(&self, text: &str) {
        let mut has_status = self.has_status.lock();
        let clear = if std::mem::take(&mut *has_status) {
            "\r\u{1b}[K"
        } else {
            ""
        };
        self.write(&format!("{clear}{text}\n"));
    }

    /// A long step begins.
    pub(crate) fn progress(&self, doing: &str) {
        self.line(&format!("--> {doing}"));
    }

    /// A heading.
    pub(crate) fn heading(&self, text: &str) {
        self.line("");
        self.line(&self.strong(text));
    }

    /// A line that the next one replaces; nothing where it could not be replaced.
    pub(crate) fn status(&self, text: &str) {
        if self.is_terminal {
            let mut has_status = self.has_status.lock();
            *has_status = true;
            self.write(&format!("\r\u{1b}[K{text}"));
        }
    }

    /// A text that stands out.
    pub(crate) fn strong(&self, text: &str) -> String {
        self.paint(Paint::Strong, text)
    }

    /// A text that tells of something that holds, or does not.
    pub(crate) fn judged(&self, holds: bool, text: &str) -> String {
        self.paint(if holds { Paint::Good } else { Paint::Bad }, text)
    }

    /// The row of one decision.
    pub(crate) fn row(&self, event: &AuditEvent) {
        let text = |value: Option<&str>| value.unwrap_or("-").to_owned();
        let time = event.time.split('T').nth(1).unwrap_or(&event.time);
        let who = text(event.subject.as_deref())
            .chars()
            .take(PSEUDONYM_CHARS)
            .collect();
        let from = format!(
            "{} {}",
            event.country.as_deref().unwrap_or("--"),
            event.network.as_deref().unwrap_or("unknown")
        );
        let score = event
            .score
            .map_or("-".to_owned(), |score| score.to_string());
        let verdict = match event.status.as_deref() {
            Some("unscored") => format!("{}?", text(event.verdict.as_deref())),
            _ => text(event.verdict.as_deref()),
        };
        let cells = [
            time.trim_end_matches('Z').to_owned(),
            text(event.door.as_deref()),
            who,
            from,
            score,
            text(event.level.as_deref()),
            verdict,
            grouped(event.timing.decision),
        ];
        let first = event.reasons.iter().take(REASONS_SHOWN);
        let mut reasons: Vec<String> = first.map(ToString::to_string).collect();
        let more = event.reasons.len().saturating_sub(REASONS_SHOWN);
        if more > 0 {
            reasons.push(format!("+{more}"));
        }
        let paint = match event.verdict.as_deref() {
            Some("allow") => Paint::Good,
            Some("block") => Paint::Bad,
            _ => Paint::Warning,
        };
        let cells = cells.iter().zip(WIDTHS).enumerate();
        let mut line = String::new();
        for (index, (cell, width)) in cells {
            let cell = padded(cell, width, NUMBERS.contains(&index));
            // The verdict is the one that is looked for.
            line.push_str(&if index == 6 {
                self.paint(paint, &cell)
            } else {
                cell
            });
            line.push(' ');
        }
        line.push_str(&self.paint(Paint::Faint, &reasons.join(" ")));
        self.line(line.trim_end());
    }

    fn paint(&self, paint: Paint, text: &str) -> String {
        if !self.has_colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Good => "32",
            Paint::Warning => "33",
            Paint::Bad => "31;1",
            Paint::Faint => "2",
            Paint::Strong => "1",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        if out
            .write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
            && !self.stop.is_set()
        {
            self.stop.set();
        }
    }
}

/// The heads of the rows.
pub(crate) fn print_heads(screen: &Screen) {
    let mut line = String::new();
    for (index, head) in HEADS.iter().enumerate() {
        let width = WIDTHS.get(index).copied().unwrap_or(0);
        line.push_str(&padded(head, width, NUMBERS.contains(&index)));
        line.push(' ');
    }
    screen.line("");
    screen.line("Every decision as it is recorded (µs: from the first byte to the decision):");
    screen.line(line.trim_end());
}

/// A cell of a table.
pub(crate) fn padded(text: &str, width: usize, to_the_right: bool) -> String {
    let gap = " ".repeat(width.saturating_sub(text.chars().count()));
    if to_the_right {
        format!("{gap}{text}")
    } else {
        format!("{text}{gap}")
    }
}

/// A number with thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digits.len().saturating_sub(index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
