//! JSON as text: where the members of an object stand, so that one of them can be exchanged while everything else stays byte
//! for byte as its author wrote it. What two readers could read in different ways is not read at all.

use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::ops::Range;

/// The most members that an object may have.
const MEMBERS_MAX: usize = 256;

/// A JSON object and where its members stand.
#[derive(Debug)]
pub struct ObjectText<'a> {
    text: &'a str,
    members: Vec<(Cow<'a, str>, Range<usize>)>,
    /// Where its closing brace stands.
    end: usize,
}

/// A piece of text and what takes its place.
pub type Change = (Range<usize>, String);

impl<'a> ObjectText<'a> {
    /// Reads an object. `None` when the bytes are not exactly one JSON object in UTF-8, when a member of it stands twice, or
    /// when it has more than 256.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        serde_json::from_str::<IgnoredAny>(text).ok()?;
        let mut reader = Reader {
            bytes: text.as_bytes(),
            at: 0,
        };
        let mut members: Vec<(Cow<'a, str>, Range<usize>)> = Vec::new();
        reader.space();
        reader.take(b'{')?;
        loop {
            reader.space();
            if reader.peek() == Some(b'}') {
                break;
            }
            if !members.is_empty() {
                reader.take(b',')?;
                reader.space();
            }
            let name = name(text.get(reader.value()?)?)?;
            if members.len() == MEMBERS_MAX || members.iter().any(|(known, _)| *known == name) {
                return None;
            }
            reader.space();
            reader.take(b':')?;
            reader.space();
            members.push((name, reader.value()?));
        }
        Some(Self {
            text,
            members,
            end: reader.at,
        })
    }

    /// Whether it has a member of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.members.iter().any(|(known, _)| known == name)
    }

    /// Whether it has no member at all.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Where its closing brace stands.
    pub fn end(&self) -> usize {
        self.end
    }

    /// Where the value of a member stands.
    pub fn range(&self, name: &str) -> Option<Range<usize>> {
        let member = self.members.iter().find(|(known, _)| known == name);
        member.map(|(_, range)| range.clone())
    }

    /// The value of a member that is a text without escapes: itself, and where it stands between its quotes.
    pub fn plain(&self, name: &str) -> Option<(&'a str, Range<usize>)> {
        let range = self.range(name)?;
        let value = self.text.get(range.clone())?;
        let inner = value.strip_prefix('"')?.strip_suffix('"')?;
        (!inner.contains('\\')).then_some((inner, range.start + 1..range.end - 1))
    }
}

/// A text with pieces of it exchanged. They must not overlap; `None` when they do or lie outside of it.
pub fn changed(text: &str, mut changes: Vec<Change>) -> Option<String> {
    changes.sort_by_key(|(range, _)| range.start);
    let more: usize = changes.iter().map(|(_, new)| new.len()).sum();
    let mut result = String::with_capacity(text.len() + more);
    let mut at = 0;
    for (range, new) in changes {
        result.push_str(text.get(at..range.start)?);
        result.push_str(&new);
        at = range.end.max(at);
    }
    result.push_str(text.get(at..)?);
    Some(result)
}

/// The name of a member, from its text with quotes.
fn name(quoted: &str) -> Option<Cow<'_, str>> {
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(quoted).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// Walks over text that is known to be JSON.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, expected: u8) -> Option<()> {
        (self.peek()? == expected).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Passes over one value: where it stood.
    fn value(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => self.string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                // A number, a word, or what stands between values of an array or object.
                _ if depth > 0 => self.at += 1,
                _ => {
                    while !matches!(
                        self.peek(),
                        None | Some(b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r')
                    ) {
                        self.at += 1;
                    }
                    if self.at == start {
                        return None;
                    }
                }
            }
            if depth == 0 {
                return Some(start..self.at);
            }
        }
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            match self.peek()? {
                b'\\' => self.at += 2,
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                _ => self.at += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_are_found_where_they_stand() {
        let text = " {\"a\" : 1 , \"b\\u0063\":[{\"a\":\"}\\\"\"},2], \"d\":\"x\",\"e\":{} ,\"f\":-1.5e3}\n";
        let object = ObjectText::read(text.as_bytes()).unwrap();
        let value = |name: &str| object.range(name).map(|range| &text[range]);
        assert_eq!(value("a"), Some("1"));
        assert_eq!(value("bc"), Some("[{\"a\":\"}\\\"\"},2]"));
        assert_eq!(value("e"), Some("{}"));
        assert_eq!(value("f"), Some("-1.5e3"));
        assert_eq!(value("g"), None);
        assert_eq!(object.plain("d").map(|(text, _)| text), Some("x"));
        assert!(object.plain("a").is_none() && object.contains("e") && !object.is_empty());
        assert_eq!(&text[object.end()..], "}\n");
        let (_, range) = object.plain("d").unwrap();
        let new = changed(
            text,
            vec![
                (object.end()..object.end(), ",\"z\":0".into()),
                (range, "yy".into()),
            ],
        );
        let new = new.unwrap();
        assert!(
            new.contains("\"d\":\"yy\"") && new.ends_with("e3,\"z\":0}\n"),
            "{new}"
        );
    }

    #[test]
    fn what_is_not_one_object_is_not_read() {
        for text in [
            "",
            " ",
            "[]",
            "1",
            "\"a\"",
            "{",
            "{}x",
            "{}{}",
            "{\"a\":1,}",
            "{\"a\":1,\"a\":2}",
            "{'a':1}",
            "{\"a\":01}",
            "{\"a\":1,\"\\u0061\":2}",
            "{\"a\" 1}",
            "{,}",
            "\u{feff}{}",
        ] {
            assert!(ObjectText::read(text.as_bytes()).is_none(), "{text}");
        }
        assert!(ObjectText::read(b"{\"a\":\"\xff\"}").is_none());
        assert!(ObjectText::read(b"{ }\t").unwrap().is_empty());
        let many = |count: usize| {
            let members: Vec<String> = (0..count).map(|number| format!("\"{number}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(ObjectText::read(many(MEMBERS_MAX).as_bytes()).is_some());
        assert!(ObjectText::read(many(MEMBERS_MAX + 1).as_bytes()).is_none());
        assert!(changed("abc", vec![(0..2, String::new()), (1..3, String::new())]).is_none());
        assert!(changed("abc", vec![(2..9, String::new())]).is_none());
        // Depth costs nothing here.
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
        assert!(ObjectText::read(deep.as_bytes()).is_some());
    }

    proptest! {
        #[test]
        fn hostile_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(ObjectText::read(&bytes));
        }

        #[test]
        fn it_finds_what_the_parser_finds(
            members in proptest::collection::btree_map("\\PC{0,6}", "\\PC{0,8}", 0..6),
            space in "[ \t\n\r]{0,2}",
        ) {
            let body: Vec<String> = members
                .iter()
                .map(|(name, value)| {
                    let [name, value] = [name, value].map(|text| serde_json::to_string(text).unwrap());
                    format!("{space}{name}{space}:{space}{value}{space}")
                })
                .collect();
            let text = format!("{space}{{{}}}{space}", body.join(","));
            let object = ObjectText::read(text.as_bytes()).unwrap();
            for (name, value) in &members {
                let found: String = serde_json::from_str(&text[object.range(name).unwrap()]).unwrap();
                prop_assert_eq!(&found, value);
            }
            prop_assert_eq!(object.members.len(), members.len());
            prop_assert_eq!(text.as_bytes()[object.end()], b'}');
        }
    }
}
