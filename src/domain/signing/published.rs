//! What the identity server publishes of itself, with what the gateway adds to it: a key set with the keys of both, and a
//! discovery document that names the claims. A document that cannot be read stays as it is.

use crate::domain::json_text::ObjectText;
use crate::domain::json_text::changed;
use crate::domain::signing::SigningKeys;
use serde_json::Value;

/// A key set (RFC 7517 section 5) with the keys of the gateway after those that are in it. A key whose id is there already
/// is not added: ids are what tells keys apart, and the identity server's own come first.
pub fn with_keys(document: &[u8], keys: &SigningKeys) -> Option<String> {
    let object = ObjectText::read(document)?;
    let text = std::str::from_utf8(document).ok()?;
    let range = object.range("keys")?;
    let known: Vec<Value> = serde_json::from_str(text.get(range.clone())?).ok()?;
    let is_new = |key: &&Value| known.iter().all(|other| other.get("kid") != key.get("kid"));
    let ours: Vec<String> = keys
        .jwks()
        .get("keys")?
        .as_array()?
        .iter()
        .filter(is_new)
        .map(Value::to_string)
        .collect();
    appended(text, range.end, known.is_empty(), ours)
}

/// A discovery document (OpenID Connect Discovery section 3) whose `claims_supported` names these claims as well. Without
/// such a list it stays as it is.
pub fn with_claims(document: &[u8], claims: &[&str]) -> Option<String> {
    let object = ObjectText::read(document)?;
    let text = std::str::from_utf8(document).ok()?;
    if !object.contains("issuer") {
        return None;
    }
    let range = object.range("claims_supported")?;
    let known: Vec<String> = serde_json::from_str(text.get(range.clone())?).ok()?;
    let new = claims
        .iter()
        .filter(|claim| known.iter().all(|other| other != *claim));
    let new = new.map(|claim| Value::from(*claim).to_string()).collect();
    appended(text, range.end, known.is_empty(), new)
}

/// The text with further items in an array that ends at `end`; `None` when there are none.
fn appended(text: &str, end: usize, is_empty: bool, items: Vec<String>) -> Option<String> {
    if items.is_empty() {
        return None;
    }
    let joined = items.join(",");
    let new = if is_empty {
        joined
    } else {
        format!(",{joined}")
    };
    let at = end.checked_sub(1)?;
    changed(text, vec![(at..at, new)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::signing::tests::keys;
    use serde_json::json;

    fn ids(document: &str) -> Vec<String> {
        let document: Value = serde_json::from_str(document).unwrap();
        let keys = document["keys"].as_array().unwrap();
        keys.iter()
            .map(|key| key["kid"].as_str().unwrap_or("none").to_owned())
            .collect()
    }

    #[test]
    fn both_key_sets_are_in_one() {
        let keys = keys();
        let own = ids(keys.document());
        let theirs =
            "{ \"keys\" : [ {\"kty\":\"RSA\",\"kid\":\"wso2\",\"x5t\":\"a\"} ] , \"x\": 1 }\n";
        let merged = with_keys(theirs.as_bytes(), &keys).unwrap();
        assert_eq!(
            ids(&merged),
            [vec!["wso2".to_owned()], own.clone()].concat()
        );
        // Everything else is as it was.
        assert!(
            merged
                .starts_with("{ \"keys\" : [ {\"kty\":\"RSA\",\"kid\":\"wso2\",\"x5t\":\"a\"} ,{"),
            "{merged}"
        );
        assert!(merged.ends_with("] , \"x\": 1 }\n"), "{merged}");
        assert_eq!(ids(&with_keys(b"{\"keys\":[]}", &keys).unwrap()), own);
        // Merging twice adds nothing.
        assert_eq!(with_keys(merged.as_bytes(), &keys), None);
        // A key without an id is no other key's namesake.
        let nameless = with_keys(b"{\"keys\":[{\"kty\":\"RSA\"}]}", &keys).unwrap();
        assert_eq!(ids(&nameless).len(), own.len() + 1);
        let first = json!({ "keys": [{ "kid": own[0], "kty": "RSA" }] }).to_string();
        let merged = with_keys(first.as_bytes(), &keys).unwrap();
        assert_eq!(ids(&merged), own);
        for other in [
            "",
            "[]",
            "{}",
            "{\"keys\":{}}",
            "{\"keys\":[],\"keys\":[]}",
            "{\"keys\":null}",
            "<html>",
        ] {
            assert_eq!(with_keys(other.as_bytes(), &keys), None, "{other}");
        }
    }

    #[test]
    fn discovery_names_the_claims() {
        let with = |document: &str| with_claims(document.as_bytes(), &["sub", "risk_score"]);
        assert_eq!(
            with("{\"issuer\":\"i\", \"claims_supported\": [\"sub\"], \"z\": 1}").unwrap(),
            "{\"issuer\":\"i\", \"claims_supported\": [\"sub\",\"risk_score\"], \"z\": 1}"
        );
        assert_eq!(
            with("{\"issuer\":\"i\",\"claims_supported\":[]}").unwrap(),
            "{\"issuer\":\"i\",\"claims_supported\":[\"sub\",\"risk_score\"]}"
        );
        for other in [
            "{\"issuer\":\"i\"}",
            "{\"claims_supported\":[]}",
            "{\"issuer\":\"i\",\"claims_supported\":[1]}",
            "{\"issuer\":\"i\",\"claims_supported\":[\"risk_score\",\"sub\"]}",
            "{\"subject\":\"acct:a@b\",\"links\":[]}",
            "<xml/>",
        ] {
            assert_eq!(with(other), None, "{other}");
        }
    }
}
