//! Forms and JSON: whatever is accepted is within its bounds, and another reader finds the same in it.

use crate::input::Input;
use http::Method;
use riskgate::domain::json_text;
use riskgate::domain::json_text::ObjectText;
use riskgate::domain::parameters::BodyHeaders;
use riskgate::domain::parameters::JSON_DEPTH_MAX;
use riskgate::domain::parameters::NAME_BYTES_MAX;
use riskgate::domain::parameters::PARAMETERS_MAX;
use riskgate::domain::parameters::Parameters;
use riskgate::domain::parameters::VALUE_BYTES_MAX;
use riskgate::domain::pdp;
use riskgate::domain::route::Door;
use serde_json::Value;

const FORM: BodyHeaders<'static> = BodyHeaders {
    content_type: Some("application/x-www-form-urlencoded"),
    has_content_encoding: false,
};
const JSON: BodyHeaders<'static> = BodyHeaders {
    content_type: Some("application/json"),
    has_content_encoding: false,
};

/// A byte for the door, the query as a line, and the body.
pub(super) fn form(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let Some(door) = input.choice(&Door::ALL) else {
        return false;
    };
    let Ok(query) = std::str::from_utf8(input.line()) else {
        return false;
    };
    let read = |body: &[u8]| Parameters::parse(door, &Method::POST, Some(query), FORM, body);
    let Ok(parameters) = read(input.rest()) else {
        return false;
    };
    check_bounds(&parameters);
    let Some(form) = parameters.form().filter(|form| !form.is_empty()) else {
        return true;
    };
    let other: Vec<(String, String)> = form_urlencoded::parse(input.rest()).into_owned().collect();
    assert_eq!(form, other, "another reader");
    let written = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(&form)
        .finish();
    let again = read(written.as_bytes()).expect("what was read is accepted");
    assert_eq!(again.form(), Some(form));
    true
}

/// A byte for the door and the body.
pub(super) fn json(bytes: &[u8]) -> bool {
    check_text(bytes);
    let mut input = Input::new(bytes);
    let Some(door) = input.choice(&Door::ALL) else {
        return false;
    };
    check_text(input.rest());
    let read = |body: &[u8]| Parameters::parse(door, &Method::POST, None, JSON, body);
    let Ok(parameters) = read(input.rest()) else {
        return false;
    };
    check_bounds(&parameters);
    let Some(value) = parameters.json() else {
        return true;
    };
    assert!(depth(value) <= JSON_DEPTH_MAX);
    let other: Value = serde_json::from_slice(input.rest()).expect("another reader takes it");
    assert_eq!(*value, other, "another reader");
    let again = read(value.to_string().as_bytes()).expect("what was read is accepted");
    assert!(again.names().eq(parameters.names()));
    for name in parameters.names() {
        assert_eq!(again.get(name), parameters.get(name));
    }
    if let Some(changed) = pdp::with_risk(value, Some(50)) {
        // Removed and added again it is the same, and removed there is none.
        assert_eq!(pdp::with_risk(&changed, Some(50)), Some(changed.clone()));
        let without = pdp::with_risk(&changed, None).unwrap_or(changed);
        assert!(!without.to_string().contains(pdp::RISK_SCORE_ATTRIBUTE) || is_elsewhere(&without));
    }
    true
}

/// The name of the attribute may stand where it is none, as in a value.
fn is_elsewhere(value: &Value) -> bool {
    pdp::with_risk(value, None).is_none()
}

fn check_bounds(parameters: &Parameters) {
    assert!(parameters.names().count() <= PARAMETERS_MAX);
    for name in parameters.names() {
        assert!(name.len() <= NAME_BYTES_MAX);
        for value in parameters.all(name) {
            assert!(value.len() <= VALUE_BYTES_MAX);
            assert!(!value.contains('\0'));
        }
    }
    let shown = format!("{parameters:?}");
    assert!(shown.len() <= PARAMETERS_MAX * (6 * NAME_BYTES_MAX + 64));
}

/// JSON as text: its members are where it says, and another one can take the place of each.
fn check_text(bytes: &[u8]) {
    let Some(object) = ObjectText::read(bytes) else {
        return;
    };
    let text = std::str::from_utf8(bytes).expect("an object is text");
    let Ok(Value::Object(members)) = serde_json::from_str::<Value>(text) else {
        // A number beyond all bounds is skipped by the one and refused by the other.
        return;
    };
    assert_eq!(object.is_empty(), members.is_empty());
    for (name, value) in &members {
        let range = object.range(name).expect("every member is there");
        let piece = text.get(range.clone()).expect("it is in the text");
        let found: Value = serde_json::from_str(piece).expect("a member is JSON");
        assert_eq!(found, *value);
        if let Some((plain, _)) = object.plain(name) {
            assert_eq!(value.as_str(), Some(plain));
        }
        let changed = json_text::changed(text, vec![(range, "[1]".to_owned())]);
        let changed = changed.expect("one change overlaps with nothing");
        let changed: Value = serde_json::from_str(&changed).expect("it stays JSON");
        let mut expected = members.clone();
        expected.insert(name.clone(), serde_json::json!([1]));
        assert_eq!(changed, Value::Object(expected));
    }
}

/// The outermost object counts as one.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
