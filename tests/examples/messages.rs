//! What the gateway sends, beside what the pages show of it: the same members, of the same types, in the same forms. What a
//! page leaves out of a value is `...` or `<...>`.

use crate::Which;
use crate::block;
use regex::Regex;
use serde_json::Value;

/// Members whose values are words of a message's own: they must be equal.
const WORDS: [&str; 15] = [
    "acr_values",
    "action",
    "code",
    "door",
    "error",
    "error_description",
    "event",
    "format",
    "initiating_entity",
    "initiator",
    "message",
    "outcome",
    "principal",
    "type",
    "verdict",
];

/// Forms of text, the first that fits.
const FORMS: [(&str, &str); 4] = [
    ("a time", r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"),
    ("an id", r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"),
    ("a number", r"^\d+$"),
    ("an address", r"^\d+(\.\d+){3}$"),
];

fn form(text: &str) -> &'static str {
    let found = FORMS
        .iter()
        .find(|(_, pattern)| Regex::new(pattern).unwrap().is_match(text));
    found.map_or("a text", |(name, _)| name)
}

/// Whether a text is what a page shows: its form, and all of it where nothing was left out.
pub(crate) fn is_alike(shown: &str, sent: &str) -> bool {
    match shown {
        "<64 digits>" => Regex::new("^[0-9a-f]{64}$").unwrap().is_match(sent),
        _ => shown.ends_with("...") || form(shown) == form(sent),
    }
}

/// What is otherwise in a message than a page shows.
pub(crate) fn differences(at: &str, shown: &Value, sent: &Value) -> Vec<String> {
    match (shown, sent) {
        (Value::Object(shown), Value::Object(sent)) => {
            // Ids that are names.
            let is_any = shown.keys().any(|name| name.ends_with("..."));
            let mut found = Vec::new();
            for (name, value) in shown {
                let real = if is_any {
                    sent.values().next()
                } else {
                    sent.get(name)
                };
                match real {
                    None => found.push(format!("{at}.{name} is not sent")),
                    Some(real) => {
                        found.extend(differences(&format!("{at}.{name}"), value, real));
                        if WORDS.contains(&name.as_str()) && value != real {
                            found.push(format!("{at}.{name} is {real}, not {value}"));
                        }
                    }
                }
            }
            let more = sent
                .keys()
                .filter(|name| !is_any && !shown.contains_key(*name));
            found.extend(more.map(|name| format!("{at}.{name} is not shown")));
            found
        }
        (Value::Array(shown), Value::Array(sent)) => {
            let mut found = Vec::new();
            for one in shown {
                let all = sent.iter().map(|real| differences(at, one, real));
                let nearest = all.min_by_key(Vec::len);
                found.extend(nearest.unwrap_or_else(|| vec![format!("{at} is empty")]));
            }
            found
        }
        (Value::String(shown), Value::String(sent)) if !is_alike(shown, sent) => {
            vec![format!("{at} is {sent}, not {}", form(shown))]
        }
        (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Bool(_), Value::Bool(_))
        | (Value::Null, Value::Null) => Vec::new(),
        _ => vec![format!("{at} is {sent}, not {shown}")],
    }
}

/// The message of a page is the one that was sent.
#[track_caller]
pub(crate) fn is_shown(which: Which, sent: &Value) {
    let shown = serde_json::from_str(&block(which).text).expect("an example is JSON");
    let found = differences("", &shown, sent);
    assert!(found.is_empty(), "{which:?}: {found:#?}\n{sent:#}");
}

#[test]
fn a_message_that_differs_is_found() {
    let shown = serde_json::json!({ "id": "0199...", "time": "2026-11-26T12:00:00.000Z", "door": "login", "list": [1] });
    let sent = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let same = sent(r#"{"id":"77","time":"2027-01-01T00:00:00.001Z","door":"login","list":[2,3]}"#);
    assert!(differences("", &shown, &same).is_empty());
    for (other, why) in [
        (
            r#"{"id":"77","time":"2027-01-01T00:00:00.001Z","door":"login"}"#,
            ".list is not sent",
        ),
        (
            r#"{"id":"7","time":"2027-01-01T00:00:00.001Z","door":"login","list":[2],"x":1}"#,
            ".x is not shown",
        ),
        (
            r#"{"id":"7","time":"yesterday","door":"login","list":[2]}"#,
            "a time",
        ),
        (
            r#"{"id":"7","time":"2027-01-01T00:00:00.001Z","door":"token","list":[2]}"#,
            "\"login\"",
        ),
        (
            r#"{"id":7,"time":"2027-01-01T00:00:00.001Z","door":"login","list":[2]}"#,
            ".id is 7",
        ),
        (
            r#"{"id":"7","time":"2027-01-01T00:00:00.001Z","door":"login","list":["2"]}"#,
            ".list is",
        ),
    ] {
        let found = differences("", &shown, &sent(other)).join("; ");
        assert!(found.contains(why), "{other}: {found}");
    }
}
