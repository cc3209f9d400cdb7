//! Text from elsewhere where people read it: a log line, a record, a table on a terminal, a page. Characters that do something
//! to what shows them are written as escapes, so that they can be seen and do nothing.

use serde::Serialize;
use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character acts on a terminal or on the text around it: controls (C0, DEL and C1, and with them every escape
/// sequence), directions, joiners, fillers and other invisible ones, separators of lines, and tags: whatever Unicode
/// says is ignorable (`Default_Ignorable_Code_Point`), but for the sixteen selectors that say how an emoji looks.
pub fn acts(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{00AD}'
                | '\u{034F}'
                | '\u{061C}'
                | '\u{115F}'..='\u{1160}'
                | '\u{17B4}'..='\u{17B5}'
                | '\u{180B}'..='\u{180F}'
                | '\u{200B}'..='\u{200F}'
                | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}'
                | '\u{3164}'
                | '\u{FEFF}'
                | '\u{FFA0}'
                | '\u{FFF0}'..='\u{FFFB}'
                | '\u{1BCA0}'..='\u{1BCA3}'
                | '\u{1D173}'..='\u{1D17A}'
                | '\u{E0000}'..='\u{E0FFF}'
        )
}

/// A text for a part of a line: whatever acts is written as `\n`, `\u{1b}` and so on.
pub fn plain(text: &str) -> Cow<'_, str> {
    without(text, acts, |out, c| out.extend(c.escape_default()))
}

/// A text of several lines: its ends of lines and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    let acts = |c| acts(c) && !matches!(c, '\n' | '\t');
    without(text, acts, |out, c| out.extend(c.escape_default()))
}

/// JSON in which nothing acts: the same value, in other letters (RFC 8259 section 7).
///
/// # Errors
/// `value` cannot be written as JSON.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    serde_json::to_string(value).map(in_json)
}

/// The same over several lines.
///
/// # Errors
/// See [`json`].
pub fn json_pretty<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(value).map(in_json)
}

/// Escapes what acts in a text that is JSON already. Outside of its strings JSON has nothing that acts but ends of lines.
pub fn in_json(text: String) -> String {
    let escape = |out: &mut String, c: char| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string does not fail.
            write!(out, "\\u{unit:04x}").unwrap_or(());
        }
    };
    let acts = |c| acts(c) && c != '\n';
    match without(&text, acts, escape) {
        Cow::Borrowed(_) => text,
        Cow::Owned(escaped) => escaped,
    }
}

fn without(
    text: &str,
    acts: impl Fn(char) -> bool,
    escape: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    if is_plain_ascii(text.as_bytes()) || !text.contains(&acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if acts(c) {
            escape(&mut out, c);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Whether all of it is printable ASCII, of which nothing acts. Nearly every record is; by blocks, because a check of each
/// character by itself takes longer than all the rest of a record.
fn is_plain_ascii(text: &[u8]) -> bool {
    const BLOCK_BYTES: usize = 64;
    text.chunks(BLOCK_BYTES).all(|block| {
        let plain = |all, byte: &u8| all & (byte.wrapping_sub(b' ') < 0x7f - b' ');
        block.iter().fold(true, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_is_judged_alike_wherever_it_stands() {
        for c in (0..=0x7ff).filter_map(char::from_u32) {
            for before in [0, 1, 63, 64, 200] {
                let text = format!("{}{c}{}", "x".repeat(before), "y".repeat(70));
                let is_same = matches!(plain(&text), Cow::Borrowed(_));
                assert_eq!(is_same, !acts(c), "{c:?} after {before}");
                let is_ascii = is_plain_ascii(text.as_bytes());
                assert_eq!(is_ascii, c.is_ascii_graphic() || c == ' ', "{c:?}");
            }
        }
    }

    #[test]
    fn what_acts_is_seen_and_the_rest_is_as_it_was() {
        for (text, shown) in [
            ("Télécom & Söhne 電話 🙂", "Télécom & Söhne 電話 🙂"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("a\r\nb\tc\0", "a\\r\\nb\\tc\\u{0}"),
            ("\u{9b}2J\u{7f}", "\\u{9b}2J\\u{7f}"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("\u{e0041}\u{feff}", "\\u{e0041}\\u{feff}"),
            ("pay\u{ad}\u{34f}\u{3164}", "pay\\u{ad}\\u{34f}\\u{3164}"),
            ("\u{26a0}\u{fe0f}", "\u{26a0}\u{fe0f}"),
        ] {
            assert_eq!(plain(text), shown);
            assert_eq!(plain(shown), shown, "once is enough");
            assert!(!plain(text).contains(acts));
        }
        assert_eq!(lines("a\n\tb\u{1b}\r\n"), "a\n\tb\\u{1b}\\r\n");
    }

    #[test]
    fn json_keeps_its_value() {
        let all: String = (0..=0x10_ffff).filter_map(char::from_u32).collect();
        for text in [json(&all).unwrap(), json_pretty(&[&all]).unwrap()] {
            assert!(!text.contains(|c| acts(c) && c != '\n'));
        }
        assert_eq!(
            serde_json::from_str::<String>(&json(&all).unwrap()).unwrap(),
            all
        );
        assert_eq!(
            json("a\u{9b}\u{e0041}\n").unwrap(),
            r#""a\u009b\udb40\udc41\n""#
        );
    }
}
