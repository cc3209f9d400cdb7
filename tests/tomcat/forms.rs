//! Query and body of a token request, from plain to wild: repetitions, both places, escapes, charsets, empty names, many.

use crate::spellings::Chance;
use std::fmt;

/// A form as it is sent.
pub(crate) struct Form {
    /// Without question mark; empty for none.
    pub(crate) query: String,
    /// The one `Content-Type`, if any.
    pub(crate) content_type: Option<&'static str>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

const CONTENT_TYPES: [Option<&str>; 16] = [
    Some("application/x-www-form-urlencoded"),
    Some("application/x-www-form-urlencoded"),
    Some("application/x-www-form-urlencoded"),
    Some("application/x-www-form-urlencoded"),
    Some("application/x-www-form-urlencoded;charset=utf-8"),
    Some("application/x-www-form-urlencoded; charset=UTF-8"),
    Some("Application/X-WWW-Form-Urlencoded"),
    Some("application/x-www-form-urlencoded; charset=\"utf-8\""),
    Some("application/x-www-form-urlencoded; charset=ibm037"),
    Some("application/x-www-form-urlencoded; charset=iso-8859-1"),
    Some("application/x-www-form-urlencoded; charset=utf-16"),
    Some("application/x-www-form-urlencoded, text/plain"),
    Some("multipart/form-data; boundary=x"),
    Some("application/json"),
    Some("text/plain"),
    None,
];

const NAMES: [&str; 24] = [
    "grant_type",
    "username",
    "password",
    "client_id",
    "scope",
    "resource",
    "audience",
    "user%6eame",
    "%75sername",
    "user+name",
    "user%20name",
    "user name",
    "USERNAME",
    "username%00",
    "username[]",
    "x",
    "y",
    "z",
    "",
    "%C3%A9",
    "%E9",
    "\u{e9}",
    "a.b",
    "a%3Db",
];

const VALUES: [&str; 24] = [
    "password",
    "alice",
    "p%40ss",
    "a+b",
    "a%2Bb",
    "a%20b",
    "",
    "=",
    "a=b",
    "%C3%A9",
    "%E9",
    "%c3%a9",
    "\u{e9}",
    "%00",
    "%0d%0a",
    "%",
    "%z",
    "%zz",
    "%4",
    "%25",
    "%26",
    "a;b",
    "%A4%A2%85%99",
    "\u{1f511}",
];

const SEPARATORS: [&str; 8] = ["&", "&", "&", "&", "&", "&&", ";", "&=&"];

/// The next form.
pub(crate) fn form(chance: &mut Chance) -> Form {
    let query = if chance.below(3) == 0 {
        let pairs = chance.below(3) + 1;
        pairs_of(pairs, chance)
    } else {
        String::new()
    };
    // What a target cannot hold as it is does not reach the query.
    let query: String = query
        .chars()
        .filter(|letter| letter.is_ascii_graphic())
        .collect();
    let mut body = "grant_type=client_credentials".to_owned();
    let more = match chance.below(60) {
        0 => 99,
        1 => 100,
        2 => 1_001,
        _ => chance.below(6),
    };
    if more > 10 {
        for number in 0..more {
            body += &format!("&n{number}=v");
        }
    } else if more > 0 {
        body += SEPARATORS[chance.below(SEPARATORS.len())];
        body += &pairs_of(more, chance);
    }
    Form {
        query,
        content_type: CONTENT_TYPES[chance.below(CONTENT_TYPES.len())],
        body: body.into_bytes(),
    }
}

fn pairs_of(number: usize, chance: &mut Chance) -> String {
    let mut text = String::new();
    for position in 0..number {
        if position > 0 {
            text += SEPARATORS[chance.below(SEPARATORS.len())];
        }
        // Mostly harmless pairs, so that many forms are let through with one odd thing in them.
        if chance.below(2) == 0 {
            text += &format!(
                "p{position}={}",
                ["v", "a+b", "%41", "a%20b"][chance.below(4)]
            );
            continue;
        }
        text += NAMES[chance.below(NAMES.len())];
        if chance.below(8) > 0 {
            text += "=";
            text += VALUES[chance.below(VALUES.len())];
        }
    }
    text
}

impl Form {
    /// The whole request.
    pub(crate) fn request(&self, path: &str) -> Vec<u8> {
        let mark = if self.query.is_empty() { "" } else { "?" };
        let content_type = self
            .content_type
            .map(|content_type| format!("Content-Type: {content_type}\r\n"))
            .unwrap_or_default();
        let head = format!(
            "POST {path}{mark}{} HTTP/1.1\r\nHost: localhost\r\n{content_type}Content-Length: {}\r\n\r\n",
            self.query,
            self.body.len()
        );
        [head.into_bytes(), self.body.clone()].concat()
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "?{} {:?} {:?}",
            self.query,
            self.content_type,
            String::from_utf8_lossy(&self.body)
        )
    }
}
