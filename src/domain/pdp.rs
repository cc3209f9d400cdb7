//! The risk in an XACML request (JSON profile of XACML 3.0): one integer attribute of the environment. A client's own
//! attribute of that name is removed, whatever the mode, as its headers are.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// The attribute that carries the score, 0 to 100.
pub const RISK_SCORE_ATTRIBUTE: &str = "urn:riskgate:risk-score";
/// WSO2's parser takes a number by its value: an integer must look like one.
const INTEGER: &str = "http://www.w3.org/2001/XMLSchema#integer";

/// The request with `points` as the only risk attribute, or with none. `None` when nothing has to change.
pub fn with_risk(request: &Value, points: Option<u8>) -> Option<Value> {
    let mut changed = request.clone();
    let body = changed.get_mut("Request")?.as_object_mut()?;
    let removed = body
        .values_mut()
        .fold(false, |removed, category| remove(category) | removed);
    match points {
        Some(points) => add(body, points),
        None if !removed => return None,
        None => {}
    }
    Some(changed)
}

/// Removes the attribute from a category, which may be one object or a list of them.
fn remove(category: &mut Value) -> bool {
    match category {
        Value::Array(categories) => categories
            .iter_mut()
            .fold(false, |removed, one| remove(one) | removed),
        Value::Object(category) => match category.get_mut("Attribute") {
            Some(Value::Array(attributes)) => {
                let before = attributes.len();
                attributes.retain(|attribute| !is_ours(attribute));
                attributes.len() != before
            }
            Some(attribute) if is_ours(attribute) => category.remove("Attribute").is_some(),
            _ => false,
        },
        _ => false,
    }
}

fn is_ours(attribute: &Value) -> bool {
    attribute
        .get("AttributeId")
        .and_then(Value::as_str)
        .is_some_and(|id| id.trim() == RISK_SCORE_ATTRIBUTE)
}

fn add(body: &mut Map<String, Value>, points: u8) {
    let attribute =
        json!({ "AttributeId": RISK_SCORE_ATTRIBUTE, "DataType": INTEGER, "Value": points });
    let environment = body.entry("Environment").or_insert_with(|| json!({}));
    let category = match environment {
        Value::Array(categories) => {
            if categories.is_empty() {
                categories.push(json!({}));
            }
            categories.first_mut()
        }
        other => Some(other),
    };
    let Some(Value::Object(category)) = category else {
        return;
    };
    match category.entry("Attribute").or_insert_with(|| json!([])) {
        Value::Array(attributes) => attributes.push(attribute),
        one => *one = json!([one.take(), attribute]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(value: u8) -> Value {
        json!({ "AttributeId": RISK_SCORE_ATTRIBUTE, "DataType": INTEGER, "Value": value })
    }

    #[test]
    fn the_score_joins_the_environment() {
        for (before, after) in [
            (
                json!({ "Action": {} }),
                json!({ "Action": {}, "Environment": { "Attribute": [attribute(73)] } }),
            ),
            (
                json!({ "Environment": [] }),
                json!({ "Environment": [{ "Attribute": [attribute(73)] }] }),
            ),
            (
                json!({ "Environment": { "Attribute": { "AttributeId": "x" } } }),
                json!({ "Environment": { "Attribute": [{ "AttributeId": "x" }, attribute(73)] } }),
            ),
        ] {
            assert_eq!(
                with_risk(&json!({ "Request": before }), Some(73)),
                Some(json!({ "Request": after }))
            );
        }
    }

    #[test]
    fn a_forged_score_is_removed_in_every_place() {
        let forged = json!({ "Request": {
            "Environment": [{ "Attribute": [attribute(0), { "AttributeId": "x" }] }],
            "Action": { "Attribute": attribute(0) },
        } });
        let clean = json!({ "Request": { "Environment": [{ "Attribute": [{ "AttributeId": "x" }] }], "Action": {} } });
        assert_eq!(with_risk(&forged, None), Some(clean.clone()));
        assert_eq!(with_risk(&clean, None), None);
        let scored = with_risk(&forged, Some(90)).unwrap();
        assert_eq!(scored.to_string().matches(RISK_SCORE_ATTRIBUTE).count(), 1);
    }
}
