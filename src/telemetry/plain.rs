//! The last step before a log line is written: whatever acts on a terminal, or would begin a line of its own, is escaped. A
//! line is one event and nothing else, wherever its texts come from.

use crate::domain::printable;
use crate::telemetry::LogFormat;
use std::borrow::Cow;
use std::io;
use std::io::Write;

/// What the formatter puts behind ESC: plain, bold, dim, italic, and the colours of levels.
const COLOURS: [&str; 9] = [
    "[0m", "[1m", "[2m", "[3m", "[31m", "[32m", "[33m", "[34m", "[35m",
];

/// Writes each event, which comes as a whole, on one line.
#[derive(Debug)]
pub(super) struct Plain<W> {
    inner: W,
    format: LogFormat,
    /// Whether the formatter colours lines.
    has_colours: bool,
}

impl<W> Plain<W> {
    /// In front of `inner`.
    pub(super) fn new(inner: W, format: LogFormat, has_colours: bool) -> Self {
        Self {
            inner,
            format,
            has_colours,
        }
    }

    fn escaped<'t>(&self, line: &'t str) -> Cow<'t, str> {
        if !line.contains(printable::acts) {
            return Cow::Borrowed(line);
        }
        match self.format {
            LogFormat::Json => Cow::Owned(printable::in_json(line.replace('\n', "\\n"))),
            LogFormat::Text if self.has_colours => Cow::Owned(coloured(line)),
            LogFormat::Text => printable::plain(line),
        }
    }
}

/// The formatter's own colours stay. A text may have them too: they do nothing but look like that.
fn coloured(line: &str) -> String {
    let mut pieces = line.split('\u{1b}');
    let mut out = printable::plain(pieces.next().unwrap_or_default()).into_owned();
    for piece in pieces {
        let is_colour = COLOURS.iter().any(|colour| piece.starts_with(colour));
        out.push_str(if is_colour { "\u{1b}" } else { "\\u{1b}" });
        out.push_str(&printable::plain(piece));
    }
    out
}

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let mut out = self.escaped(line).into_owned();
        out.push('\n');
        // At once, so that lines of several threads stay whole.
        self.inner.write_all(out.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const HOSTILE: &str =
        "a\u{1b}[2J\u{9b}31m\r\n2026-11-26T00:00:00Z  INFO forged\u{202e}\u{7}\u{7f}\u{2028}";

    fn logged(format: LogFormat, has_colours: bool) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let make = move || Plain::new(writer.clone(), format, has_colours);
        let layer = tracing_subscriber::fmt::layer().with_ansi(has_colours);
        let registry = tracing_subscriber::registry();
        let log = || {
            let _span = tracing::info_span!("request", of = HOSTILE).entered();
            let error = io::Error::other(HOSTILE);
            tracing::warn!(error = %error, debug = ?HOSTILE, plain = HOSTILE, "{HOSTILE}");
            tracing::info!("second");
        };
        match format {
            LogFormat::Json => {
                let subscriber = registry.with(layer.json().with_writer(make));
                tracing::subscriber::with_default(subscriber, log);
            }
            LogFormat::Text => {
                let subscriber = registry.with(layer.with_writer(make));
                tracing::subscriber::with_default(subscriber, log);
            }
        }
        String::from_utf8(buffer.0.lock().clone()).unwrap()
    }

    #[test]
    fn an_event_is_one_line_in_which_nothing_acts() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(format, false);
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(text.contains("forged") && text.ends_with('\n'), "{text}");
            let acting = text.chars().find(|c| printable::acts(*c) && *c != '\n');
            assert_eq!(acting, None, "{text}");
        }
        let text = logged(LogFormat::Json, false);
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(line["fields"]["plain"], HOSTILE, "the value stays");
        assert_eq!(line["fields"]["message"], HOSTILE);
    }

    #[test]
    fn colours_are_those_of_the_formatter() {
        let text = logged(LogFormat::Text, true);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("\u{1b}["), "it is coloured");
        for sequence in text.split('\u{1b}').skip(1) {
            let end = sequence.find(|c: char| !matches!(c, '[' | '0'..='9'));
            assert!(
                end.is_some_and(|end| sequence[end..].starts_with('m')),
                "{sequence:?}"
            );
        }
        assert!(
            !text.contains("[2J\u{9b}") && !text.contains("\u{1b}[2J"),
            "{text}"
        );
        let acting = text
            .chars()
            .find(|c| printable::acts(*c) && !matches!(c, '\n' | '\u{1b}'));
        assert_eq!(acting, None, "{text}");
    }
}
