//! The pre-issue ID token action (contract v1.0): the call as WSO2 makes it, and the operations of the answer on the claims.
//! It is fail-closed.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::action;
use crate::action::Action;
use crate::app::Ctx;
use crate::issue;
use crate::oauth_error::OAuthError;
use crate::request::Params;
use crate::seed::random_uuid;
use crate::store::GrantInfo;

/// Grant types for which the action runs.
pub(crate) const GRANTS: [&str; 5] = [
    "authorization_code",
    "organization_switch",
    "password",
    "refresh_token",
    "urn:ietf:params:oauth:grant-type:device_code",
];
/// Claims that are the protocol's own: the action neither sees nor changes them.
const HIDDEN: [&str; 5] = ["exp", "iat", "jti", "nbf", "nonce"];
/// Claims that it sees and cannot change.
const FIXED: [&str; 13] = [
    "acr",
    "amr",
    "at_hash",
    "aud",
    "auth_time",
    "azp",
    "c_hash",
    "expires_in",
    "isk",
    "iss",
    "s_hash",
    "sid",
    "sub",
];

/// Calls the endpoint and changes the claims as told.
///
/// # Errors
///
/// The refusal that the endpoint gives, or `server_error`.
pub(crate) async fn run(
    action: &Action,
    ctx: &Ctx<'_>,
    grant: &GrantInfo,
    grant_type: &str,
    params: &Params,
    claims: &mut Value,
) -> Result<(), OAuthError> {
    let Some(claims) = claims.as_object_mut() else {
        return Err(OAuthError::server_error());
    };
    let organization = action::organization(ctx);
    let lifetime = issue::seconds(ctx.validity().id_token);
    let known = claims
        .iter()
        .filter(|(name, _)| !HIDDEN.contains(&name.as_str()));
    let mut listed: Vec<Value> = known
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    listed.push(json!({"name": "expires_in", "value": lifetime}));
    let own: Vec<String> = claims
        .keys()
        .filter(|name| is_free(name))
        .map(|name| format!("/idToken/claims/{name}"))
        .collect();
    let paths = |fixed: &[&str]| -> Vec<String> {
        let fixed = fixed.iter().map(|path| (*path).to_owned());
        fixed.chain(own.iter().cloned()).collect()
    };
    let body = json!({
        "actionType": "PRE_ISSUE_ID_TOKEN",
        "requestId": random_uuid(),
        "event": {
            "request": {
                "grantType": grant_type,
                "clientId": grant.client_id,
                "scopes": grant.scopes,
                "additionalHeaders": action.headers(ctx),
                "additionalParams": action.params(params),
            },
            "tenant": {"id": ctx.realm.tenant_id.to_string(), "name": ctx.realm.tenant},
            "organization": organization,
            "user": {
                "id": grant.user.as_ref().map(|user| user.id.clone()),
                "organization": organization,
                "userType": "LOCAL",
            },
            "userStore": {"id": "UFJJTUFSWQ==", "name": "PRIMARY"},
            "idToken": {"claims": listed},
        },
        "allowedOperations": [
            {"op": "add", "paths": ["/idToken/claims/", "/idToken/claims/aud/"]},
            {"op": "replace", "paths": paths(&["/idToken/claims/aud/", "/idToken/claims/expires_in"])},
            {"op": "remove", "paths": paths(&["/idToken/claims/aud/"])},
        ],
    });
    let answer = action.ask(&body).await;
    let answer = answer.ok_or_else(OAuthError::server_error)?;
    for operation in action::operations(&answer)? {
        apply(operation, claims);
    }
    Ok(())
}

fn is_free(name: &str) -> bool {
    !HIDDEN.contains(&name) && !FIXED.contains(&name)
}

/// One operation; what is not allowed is dropped without an error.
fn apply(operation: &Value, claims: &mut Map<String, Value>) {
    let text = |name: &str| operation.get(name).and_then(Value::as_str);
    let path = text("path").unwrap_or_default();
    let value = operation.get("value");
    let Some(name) = path.strip_prefix("/idToken/claims/") else {
        return;
    };
    match text("op") {
        Some("add") if name == "-" => {
            if let Some((name, value)) = action::name_and_value(value)
                && action::is_claim_value(&value)
                && is_free(&name)
            {
                claims.entry(name).or_insert(value);
            }
        }
        Some("replace") if name == "expires_in" => {
            let seconds = value.and_then(Value::as_i64).filter(|seconds| *seconds > 0);
            let issued = claims.get("iat").and_then(Value::as_i64);
            if let (Some(seconds), Some(issued)) = (seconds, issued) {
                claims.insert("exp".to_owned(), json!(issued.saturating_add(seconds)));
            }
        }
        Some("replace") if is_free(name) => {
            if let (Some(known), Some(value)) = (claims.get_mut(name), value)
                && action::is_claim_value(value)
            {
                *known = value.clone();
            }
        }
        Some("remove") if is_free(name) => drop(claims.remove(name)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_free_claims_change() {
        let mut claims = json!({"sub": "u", "iat": 10, "exp": 20, "amr": ["pwd"], "risk": 1});
        let claims = claims.as_object_mut().unwrap();
        for operation in [
            json!({"op": "add", "path": "/idToken/claims/-", "value": {"name": "risk", "value": 9}}),
            json!({"op": "add", "path": "/idToken/claims/-", "value": {"name": "amr", "value": ["totp"]}}),
            json!({"op": "add", "path": "/idToken/claims/-", "value": {"name": "new", "value": true}}),
            json!({"op": "replace", "path": "/idToken/claims/risk", "value": 2}),
            json!({"op": "replace", "path": "/idToken/claims/sub", "value": "x"}),
            json!({"op": "replace", "path": "/idToken/claims/expires_in", "value": 5}),
            json!({"op": "remove", "path": "/idToken/claims/amr"}),
            json!({"op": "remove", "path": "/accessToken/claims/risk"}),
            json!(7),
        ] {
            apply(&operation, claims);
        }
        assert_eq!(
            Value::Object(claims.clone()),
            json!({"sub": "u", "iat": 10, "exp": 15, "amr": ["pwd"], "risk": 2, "new": true})
        );
    }
}
