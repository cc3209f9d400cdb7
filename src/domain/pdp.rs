//! The risk in an XACML request (JSON profile of XACML 3.0): one integer attribute of the environment. A client's own
//! attribute of that name is removed, whatever the mode, as its headers are.
//!
//! WSO2's parser has habits that this keeps to: a number is an integer by how it looks, `IncludeInResult` on anything but a
//! text ends in an error, and categories in a generic `Category` list lose their attributes, so that the environment
//! is named as such. Categories that come more than once make several questions (section 4.2.2 of the profile): the risk
//! joins every environment that is there, and is never one more.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// The attribute that carries the score, 0 to 100.
pub const RISK_SCORE_ATTRIBUTE: &str = "urn:riskgate:risk-score";
/// The other name of the environment.
const ENVIRONMENT_URI: &str = "urn:oasis:names:tc:xacml:3.0:attribute-category:environment";
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
    let names = ["Environment", ENVIRONMENT_URI];
    if !names.iter().any(|name| body.contains_key(*name)) {
        body.insert("Environment".to_owned(), json!({}));
    }
    for name in names {
        match body.get_mut(name) {
            Some(Value::Array(categories)) => {
                if categories.is_empty() {
                    categories.push(json!({}));
                }
                for category in categories {
                    join(category, &attribute);
                }
            }
            Some(category) => join(category, &attribute),
            None => {}
        }
    }
}

fn join(category: &mut Value, attribute: &Value) {
    let Value::Object(category) = category else {
        return;
    };
    match category.entry("Attribute").or_insert_with(|| json!([])) {
        Value::Array(attributes) => attributes.push(attribute.clone()),
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

    #[test]
    fn every_environment_gets_it_and_none_is_made_beside_one() {
        let one = json!({ "Attribute": [{ "AttributeId": "x" }] });
        for name in ["Environment", ENVIRONMENT_URI] {
            let request = json!({ "Request": { name: [one, {}], "Action": {} } });
            let changed = with_risk(&request, Some(73)).unwrap();
            let body = changed["Request"].as_object().unwrap();
            assert_eq!(body.len(), 2, "{changed}");
            let environments = body[name].as_array().unwrap();
            assert_eq!(environments.len(), 2);
            for environment in environments {
                let attributes = environment["Attribute"].as_array().unwrap();
                assert_eq!(attributes.last(), Some(&attribute(73)), "{changed}");
            }
        }
        // Where both names are used, both are environments.
        let both = json!({ "Request": { "Environment": {}, ENVIRONMENT_URI: {} } });
        let changed = with_risk(&both, Some(7)).unwrap();
        assert_eq!(changed.to_string().matches(RISK_SCORE_ATTRIBUTE).count(), 2);
        // A text in place of a category is WSO2's to refuse.
        let odd = json!({ "Request": { "Environment": "x" } });
        assert_eq!(with_risk(&odd, Some(7)), Some(odd));
    }

    #[test]
    fn what_the_parser_cannot_take_is_not_written() {
        // 0 to 100, as an integer that looks like one, and nothing that asks for it in the answer.
        for points in [0, 1, 73, 100] {
            let request = json!({ "Request": { "Action": {} } });
            let changed = with_risk(&request, Some(points)).unwrap();
            let written = &changed["Request"]["Environment"]["Attribute"][0];
            assert_eq!(written["Value"].as_u64(), Some(u64::from(points)));
            assert_eq!(written["Value"].to_string(), points.to_string());
            assert_eq!(
                written["DataType"],
                "http://www.w3.org/2001/XMLSchema#integer"
            );
            let members: Vec<&String> = written.as_object().unwrap().keys().collect();
            assert_eq!(members, ["AttributeId", "DataType", "Value"]);
            assert!(changed["Request"].get("Category").is_none());
        }
        // A forged one goes as a whole, with what would have broken the answer, also where categories are listed.
        let forged = json!({
            "AttributeId": RISK_SCORE_ATTRIBUTE, "Value": 0.0, "IncludeInResult": true,
        });
        let request = json!({ "Request": {
            "Category": [{ "CategoryId": ENVIRONMENT_URI, "Attribute": [forged] }],
            ENVIRONMENT_URI: { "Attribute": [forged, forged] },
        } });
        let changed = with_risk(&request, Some(73)).unwrap();
        assert_eq!(changed["Request"]["Category"][0]["Attribute"], json!([]));
        assert_eq!(
            changed["Request"][ENVIRONMENT_URI]["Attribute"],
            json!([attribute(73)])
        );
        assert!(!changed.to_string().contains("IncludeInResult"));
    }

    #[test]
    fn of_the_samples_only_the_decision_request_carries_it() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/xacml");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if !name.ends_with(".json") {
                continue;
            }
            let sample: Value =
                serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let changed = with_risk(&sample, Some(73));
            seen += 1;
            if name != "request-pdp-1.json" {
                // The other questions, among them by-attrib-boolean, have no environment.
                assert_eq!(changed, None, "{name}");
                continue;
            }
            let mut changed = changed.unwrap();
            let environment = changed["Request"]
                .as_object_mut()
                .unwrap()
                .remove("Environment");
            assert_eq!(environment, Some(json!({ "Attribute": [attribute(73)] })));
            assert_eq!(changed, sample);
        }
        assert_eq!(seen, 10);
    }
}
