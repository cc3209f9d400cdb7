//! What the identity server says of a token that it is asked about (RFC 7662 section 2.2; the members of WSO2 IS).

use crate::domain::access_token::Binding;
use crate::domain::access_token::Grant;
use crate::domain::access_token::NAME_BYTES_MAX;
use crate::domain::history::scopes::Groups;
use crate::domain::json_text::Change;
use crate::domain::json_text::ObjectText;
use crate::domain::json_text::changed;
use crate::domain::jwt;
use crate::domain::jwt::Audience;
use crate::domain::jwt::LIST_MAX;
use crate::domain::jwt::TOKEN_BYTES_MAX;
use crate::domain::risk_claims::RiskClaims;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;

/// The longest answer that is read.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Where an answer names no end: it is asked for anew with each request anyway.
const NO_END: Timestamp = Timestamp(253_402_300_799_000);

/// A token that is active.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Introspected {
    /// What it grants.
    pub grant: Grant,
    /// Its id (`jti`), which a token that is no JWT need not have.
    pub id: Option<String>,
}

/// The answer cannot be understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the answer is no introspection answer")]
pub struct NoIntrospection;

#[derive(Deserialize)]
struct Answer {
    active: bool,
    sub: Option<String>,
    username: Option<String>,
    client_id: Option<String>,
    scope: Option<String>,
    aud: Option<Audience>,
    jti: Option<String>,
    #[serde(default, deserialize_with = "jwt::some_seconds")]
    exp: Option<Timestamp>,
    cnf: Option<Map<String, Value>>,
}

impl Introspected {
    /// Reads an answer; `None` where the token is not active.
    ///
    /// # Errors
    /// It is no such answer, or says too little of an active token.
    pub fn read(body: &[u8]) -> Result<Option<Self>, NoIntrospection> {
        let answer: Answer = serde_json::from_slice(body).map_err(|_| NoIntrospection)?;
        if !answer.active {
            return Ok(None);
        }
        let name = |name: Option<String>| {
            name.filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX)
        };
        // WSO2 says who the user is by name; of a JWT it says the subject as well.
        let subject = name(answer.sub).or_else(|| name(answer.username));
        let client_id = name(answer.client_id).ok_or(NoIntrospection)?;
        let audience = answer.aud.map(Audience::into_names);
        if audience
            .as_ref()
            .is_some_and(|names| names.len() > LIST_MAX)
        {
            return Err(NoIntrospection);
        }
        Ok(Some(Self {
            id: name(answer.jti),
            grant: Grant {
                // A client that acts for itself has no user.
                subject: subject.unwrap_or_else(|| client_id.clone()),
                client_id,
                audience,
                scope: answer.scope.unwrap_or_default(),
                expires: answer.exp.unwrap_or(NO_END),
                binding: Binding::of(answer.cnf.as_ref()),
                groups: Groups::default(),
            },
        }))
    }
}

/// The token about which a form asks; `None` where it names none or several.
pub fn asked(form: &[u8]) -> Option<String> {
    let mut tokens = form_urlencoded::parse(form).filter(|(name, _)| name == "token");
    let (token, None) = (tokens.next()?, tokens.next()) else {
        return None;
    };
    let token = token.1.into_owned();
    (!token.is_empty() && token.len() <= TOKEN_BYTES_MAX).then_some(token)
}

/// The client that holds the token, where an answer says that it is active.
pub fn active_client(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Active {
        active: bool,
        client_id: String,
    }
    let answer: Active = serde_json::from_slice(body).ok()?;
    answer.active.then_some(answer.client_id)
}

/// An answer with the risk among its members, in place of what it says of it. Everything else stays as it is, byte for
/// byte; `None` when it cannot be read.
pub fn with_risk(body: &[u8], risk: &RiskClaims) -> Option<String> {
    let object = ObjectText::read(body)?;
    let text = std::str::from_utf8(body).ok()?;
    let mut changes: Vec<Change> = Vec::new();
    let mut added = String::new();
    for (name, value) in risk.members() {
        match object.range(name) {
            Some(range) => changes.push((range, value.to_string())),
            None => added.push_str(&format!(",\"{name}\":{value}")),
        }
    }
    // An answer is never empty: it says at least whether the token is active.
    changes.push((object.end()..object.end(), added));
    changed(text, changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::reason::Reason;
    use crate::domain::risk::RiskLevel;
    use serde_json::json;

    fn read(answer: Value) -> Result<Option<Introspected>, NoIntrospection> {
        Introspected::read(answer.to_string().as_bytes())
    }

    #[test]
    fn an_active_token_grants_what_wso2_says() {
        let found = read(json!({
            "aut": "APPLICATION_USER", "nbf": 1_770_000_000, "scope": "openid orders:read", "active": true,
            "token_type": "Bearer", "exp": 1_770_003_600, "iat": 1_770_000_000, "client_id": "1u31",
            "username": "alice@carbon.super", "org_name": "Super", "binding_type": "sso-session",
        }));
        let found = found.unwrap().unwrap();
        assert_eq!(found.grant.subject, "alice@carbon.super");
        assert_eq!(found.grant.audience, None);
        assert_eq!(found.grant.expires, Timestamp(1_770_003_600_000));
        assert!(found.grant.has_scope("orders:read"));
        assert_eq!(found.grant.binding, Binding::None);
        assert_eq!(found.id, None);
    }

    #[test]
    fn nothing_but_the_word_true_is_active() {
        assert_eq!(read(json!({"active": false, "client_id": "c"})), Ok(None));
        for wrong in [
            json!({"active": "true", "client_id": "c"}),
            json!({"active": 1, "client_id": "c"}),
            json!({"active": null}),
            json!({"client_id": "c"}),
            json!({"active": true}),
            json!({"active": true, "client_id": ""}),
            json!({"active": true, "client_id": "c", "exp": "soon"}),
            json!({"active": true, "client_id": "c", "aud": vec!["a"; LIST_MAX + 1]}),
            json!([]),
            json!({"error": "Invalid input"}),
        ] {
            assert_eq!(read(wrong.clone()), Err(NoIntrospection), "{wrong}");
        }
        let twice = br#"{"active": false, "active": true, "client_id": "c"}"#;
        assert_eq!(Introspected::read(twice), Err(NoIntrospection));
    }

    #[test]
    fn an_answer_gets_the_risk_and_keeps_everything_else() {
        let body = "{ \"active\" : true,\"client_id\":\"c\", \"exp\":1.770003600E9 }\n";
        assert_eq!(active_client(body.as_bytes()).as_deref(), Some("c"));
        let unscored = with_risk(body.as_bytes(), &RiskClaims::Unscored).unwrap();
        assert_eq!(
            unscored,
            "{ \"active\" : true,\"client_id\":\"c\", \"exp\":1.770003600E9 ,\"risk_status\":\"unscored\"}\n"
        );
        // What it says already is not said twice.
        let scored = RiskClaims::Scored {
            score: 63,
            level: RiskLevel::Medium,
            reasons: vec![Reason::UnfamiliarDevice],
        };
        let again: Value =
            serde_json::from_str(&with_risk(unscored.as_bytes(), &scored).unwrap()).unwrap();
        assert_eq!(again["risk_status"], "scored");
        assert_eq!(
            (&again["risk_score"], &again["risk_level"]),
            (&json!(63), &json!("medium"))
        );
        for other in [
            "[]",
            "",
            "{\"active\":true",
            "{\"active\":true,\"active\":true}",
        ] {
            assert_eq!(with_risk(other.as_bytes(), &scored), None, "{other}");
        }
        for other in [
            "{\"active\":false,\"client_id\":\"c\"}",
            "{\"active\":true}",
            "[]",
        ] {
            assert_eq!(active_client(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_form_asks_about_one_token() {
        assert_eq!(
            asked(b"token=a%2Eb&token_type_hint=x").as_deref(),
            Some("a.b")
        );
        for other in [&b""[..], b"token=", b"token=a&token=b", b"tokens=a"] {
            assert_eq!(asked(other), None);
        }
    }

    #[test]
    fn what_binds_a_token_is_seen() {
        let found =
            read(json!({"active": true, "client_id": "c", "jti": "j", "cnf": {"jkt": "x"}}));
        let found = found.unwrap().unwrap();
        assert_eq!(found.grant.binding, Binding::ProofKey);
        assert_eq!(found.grant.subject, "c");
        assert_eq!(found.id.as_deref(), Some("j"));
    }
}
