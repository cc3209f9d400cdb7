//! Calls of actions, and the pre-issue access token action: the call as WSO2 makes it (contract v1.3), its timeouts and retries, and the operations
//! of the answer. It is fail-closed: whatever is not a good answer becomes `server_error`.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::app::Ctx;
use crate::config::ActionAuth;
use crate::config::ActionSettings;
use crate::issue;
use crate::oauth_error::OAuthError;
use crate::request::Params;
use crate::seed::random_uuid;
use crate::store::GrantInfo;

/// Idle connections kept to the endpoint; WSO2's pool size.
const POOL_MAX: usize = 20;
/// Headers that are never passed on.
const HIDDEN_HEADERS: [&str; 4] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
];
/// Parameters that are never passed on: secrets and what the event carries elsewhere.
const HIDDEN_PARAMS: [&str; 12] = [
    "assertion",
    "client_assertion",
    "client_id",
    "client_secret",
    "code",
    "code_verifier",
    "grant_type",
    "password",
    "redirect_uri",
    "refresh_token",
    "scope",
    "username",
];
/// Claims that an answer cannot add or replace.
const RESERVED_CLAIMS: [&str; 19] = [
    "act",
    "aud",
    "aut",
    "azp",
    "binding_ref",
    "binding_type",
    "client_id",
    "cnf",
    "exp",
    "expires_in",
    "iat",
    "iss",
    "jti",
    "nbf",
    "org_handle",
    "org_id",
    "org_name",
    "scope",
    "sub",
];

/// What is about to be issued, as the action may change it.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) scopes: Vec<String>,
    pub(crate) audience: Vec<String>,
    /// Claims beyond the standard ones.
    pub(crate) claims: Map<String, Value>,
    pub(crate) expires_in_s: i64,
    pub(crate) refresh_expires_in_s: Option<i64>,
    pub(crate) response_params: Map<String, Value>,
    pub(crate) hides_refresh_token: bool,
    pub(crate) hides_id_token: bool,
}

/// A configured action with its HTTP client.
#[derive(Debug)]
pub(crate) struct Action {
    settings: ActionSettings,
    http: reqwest::Client,
}

/// One attempt's result.
enum Attempt {
    Answer(u16, Value),
    /// Worth another attempt: connect or socket timeout, 502 to 504, 500 without a readable error.
    Retry,
    Useless,
}

impl Action {
    pub(crate) fn new(settings: ActionSettings) -> anyhow::Result<Self> {
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(settings.connect_timeout)
            .read_timeout(settings.read_timeout)
            .pool_max_idle_per_host(POOL_MAX);
        if let Some(pem) = &settings.ca_pem {
            builder = builder.tls_certs_only([reqwest::Certificate::from_pem(pem.as_bytes())?]);
        }
        Ok(Self {
            http: builder.build()?,
            settings,
        })
    }

    /// Calls the endpoint and changes the draft as told.
    ///
    /// # Errors
    ///
    /// The refusal that the endpoint gives, or `server_error`.
    pub(crate) async fn run(
        &self,
        ctx: &Ctx<'_>,
        grant: &GrantInfo,
        grant_type: &str,
        params: &Params,
        draft: &mut Draft,
    ) -> Result<(), OAuthError> {
        let body = self.request_body(ctx, grant, grant_type, params, draft);
        let answer = self.ask(&body).await;
        apply(&answer.ok_or_else(OAuthError::server_error)?, draft)
    }

    /// Calls the endpoint, more than once where that may help; the body of an answer with status 200.
    pub(crate) async fn ask(&self, body: &Value) -> Option<Value> {
        for _ in 0..self.settings.attempts_max.max(1) {
            match self.attempt(body).await {
                Attempt::Answer(200, answer) => return Some(answer),
                Attempt::Answer(..) | Attempt::Useless => break,
                Attempt::Retry => {}
            }
        }
        None
    }

    /// Claims of the user that the action is given.
    pub(crate) fn attributes(&self) -> &[String] {
        &self.settings.attributes
    }

    /// Calls the endpoint once; the answer to a call that went well.
    pub(crate) async fn call(&self, body: &Value) -> Option<Value> {
        match self.attempt(body).await {
            Attempt::Answer(200, answer) => Some(answer),
            Attempt::Answer(..) | Attempt::Retry | Attempt::Useless => None,
        }
    }

    async fn attempt(&self, body: &Value) -> Attempt {
        let mut call = self
            .http
            .post(&self.settings.url)
            .header("accept", "application/json")
            .header("content-type", "application/json")
            .header("x-wso2-api-version", &self.settings.api_version)
            .body(body.to_string());
        call = match &self.settings.auth {
            ActionAuth::ApiKey(name, value) => call.header(name, value),
            ActionAuth::Basic(user, password) => call.basic_auth(user, Some(password)),
            ActionAuth::Bearer(token) => call.bearer_auth(token),
            ActionAuth::None => call,
        };
        let Ok(response) = call.send().await else {
            return Attempt::Retry;
        };
        let status = response.status().as_u16();
        let is_json = response
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with("application/json"));
        let Ok(bytes) = response.bytes().await else {
            return Attempt::Retry;
        };
        let answer = serde_json::from_slice::<Value>(&bytes)
            .ok()
            .filter(|_| is_json);
        match (status, answer) {
            (200, Some(answer)) => Attempt::Answer(200, answer),
            (502..=504, _) | (500, None) => Attempt::Retry,
            (status @ (400 | 401 | 500), Some(answer)) => Attempt::Answer(status, answer),
            _ => Attempt::Useless,
        }
    }

    fn request_body(
        &self,
        ctx: &Ctx<'_>,
        grant: &GrantInfo,
        grant_type: &str,
        params: &Params,
        draft: &Draft,
    ) -> Value {
        let organization = organization(ctx);
        let mut parameters = vec!["access_token", "token_type", "scope", "expires_in"];
        if draft.refresh_expires_in_s.is_some() {
            parameters.push("refresh_token");
        }
        if issue::is_openid(grant) {
            parameters.push("id_token");
        }
        let mut event = json!({
            "request": {
                "grantType": grant_type,
                "clientId": grant.client_id,
                "scopes": draft.scopes,
                "additionalHeaders": self.headers(ctx),
                "additionalParams": self.params(params),
            },
            "tenant": {"id": ctx.realm.tenant_id.to_string(), "name": ctx.realm.tenant},
            "organization": organization,
            "accessToken": {
                "tokenType": "JWT",
                "scopes": draft.scopes,
                "claims": token_claims(ctx, grant, draft),
            },
            "response": {"parameters": parameters},
        });
        if let Some(user) = &grant.user {
            let user = json!({"id": user.id, "organization": organization});
            issue::put(&mut event, "user", user);
            issue::put(
                &mut event,
                "userStore",
                json!({"id": "UFJJTUFSWQ==", "name": "PRIMARY"}),
            );
        }
        if let Some(expires_in_s) = draft.refresh_expires_in_s {
            let claims = json!({"claims": [{"name": "expires_in", "value": expires_in_s}]});
            issue::put(&mut event, "refreshToken", claims);
        }
        if let Some(key) = &grant.consent_key {
            issue::put(&mut event, "session", json!({"sessionDataKeyConsent": key}));
        }
        json!({
            "actionType": "PRE_ISSUE_ACCESS_TOKEN",
            "requestId": random_uuid(),
            "event": event,
            "allowedOperations": allowed_operations(draft),
        })
    }

    /// `[{"name": <lower case>, "value": [..]}]`, repeated headers together.
    pub(crate) fn headers(&self, ctx: &Ctx<'_>) -> Value {
        let names = ctx.request.headers.iter();
        let items = names.map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()));
        let is_passed = |name: &str| match &self.settings.allowed_headers {
            Some(allowed) => allowed.iter().any(|known| known.eq_ignore_ascii_case(name)),
            None => true,
        };
        grouped(
            items.filter(|(name, _)| is_passed(name) && !HIDDEN_HEADERS.contains(&name.as_str())),
        )
    }

    pub(crate) fn params(&self, params: &Params) -> Value {
        let items = params.items().iter();
        let items = items.map(|(name, value)| (name.clone(), value.as_str()));
        let is_passed = |name: &str| match &self.settings.allowed_params {
            Some(allowed) => allowed.iter().any(|known| known == name),
            None => true,
        };
        grouped(
            items.filter(|(name, _)| is_passed(name) && !HIDDEN_PARAMS.contains(&name.as_str())),
        )
    }
}

/// The organization of an event.
pub(crate) fn organization(ctx: &Ctx<'_>) -> Value {
    json!({
        "id": ctx.realm.org_id, "name": ctx.realm.org_name,
        "orgHandle": ctx.realm.org_handle, "depth": i32::from(ctx.realm.key != ctx.realm.tenant),
    })
}

fn grouped<'a>(items: impl Iterator<Item = (String, &'a str)>) -> Value {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, value) in items {
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => groups.push((name, vec![value])),
        }
    }
    groups
        .into_iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect()
}

fn token_claims(ctx: &Ctx<'_>, grant: &GrantInfo, draft: &Draft) -> Value {
    let mut claims = vec![
        ("iss", json!(ctx.issuer())),
        ("client_id", json!(grant.client_id)),
        ("aut", json!(issue::authorized_type(grant))),
        ("expires_in", json!(draft.expires_in_s)),
        ("aud", json!(draft.audience)),
        ("subject_type", json!("public")),
        ("sub", json!(issue::subject(grant))),
    ];
    if let Some((kind, reference)) = issue::binding(ctx, grant) {
        claims.push(("binding_type", json!(kind)));
        claims.push(("binding_ref", json!(reference)));
    }
    claims.extend(
        draft
            .claims
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone())),
    );
    claims
        .into_iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect()
}

fn allowed_operations(draft: &Draft) -> Value {
    let own_claims = || {
        let names = draft.claims.keys();
        names.map(|name| format!("/accessToken/claims/{name}"))
    };
    let owned = |paths: &[&str]| {
        paths
            .iter()
            .map(|path| (*path).to_owned())
            .collect::<Vec<_>>()
    };
    let mut remove = owned(&["/accessToken/scopes/", "/accessToken/claims/aud/"]);
    remove.extend(own_claims());
    remove.extend(owned(&[
        "/response/parameters/refresh_token",
        "/response/parameters/id_token",
    ]));
    let mut replace = owned(&["/accessToken/scopes/", "/accessToken/claims/aud/"]);
    replace.extend(own_claims());
    replace.push("/accessToken/claims/expires_in".to_owned());
    if draft.refresh_expires_in_s.is_some() {
        replace.push("/refreshToken/claims/expires_in".to_owned());
    }
    json!([
        {"op": "add", "paths": [
            "/accessToken/claims/", "/accessToken/scopes/", "/accessToken/claims/aud/",
            "/response/parameters/",
        ]},
        {"op": "remove", "paths": remove},
        {"op": "replace", "paths": replace},
    ])
}

/// Reads an answer with status 200.
fn apply(answer: &Value, draft: &mut Draft) -> Result<(), OAuthError> {
    let before = draft.clone();
    // Indexes are those of the request, so what is removed goes only at the end.
    let mut removed = Removed::default();
    for operation in operations(answer)? {
        apply_one(operation, &before, draft, &mut removed);
    }
    removed.take_out(&before, draft);
    Ok(())
}

/// The operations of an answer with status 200.
///
/// # Errors
///
/// The refusal that it gives, or `server_error`.
pub(crate) fn operations(answer: &Value) -> Result<&[Value], OAuthError> {
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    match text("actionStatus") {
        Some("SUCCESS") => {
            let operations = answer.get("operations").and_then(Value::as_array);
            Ok(operations.map(Vec::as_slice).unwrap_or_default())
        }
        Some("FAILED") => {
            let reason = text("failureReason").unwrap_or_default();
            if matches!(
                reason,
                "" | "500" | "internal_server_error" | "server_error"
            ) {
                return Err(OAuthError::server_error());
            }
            Err(OAuthError::new(
                reason,
                text("failureDescription").unwrap_or_default(),
            ))
        }
        _ => Err(OAuthError::server_error()),
    }
}

/// Positions of the request's lists that are to go.
#[derive(Debug, Default)]
struct Removed {
    scopes: Vec<usize>,
    audience: Vec<usize>,
}

impl Removed {
    fn take_out(&self, before: &Draft, draft: &mut Draft) {
        let filter = |list: &mut Vec<String>, removed: &[usize], known: usize| {
            let mut at = 0;
            list.retain(|_| {
                let stays = at >= known || !removed.contains(&at);
                at += 1;
                stays
            });
        };
        filter(&mut draft.scopes, &self.scopes, before.scopes.len());
        filter(&mut draft.audience, &self.audience, before.audience.len());
    }
}

/// One operation; what is not allowed is dropped without an error, as in WSO2.
fn apply_one(operation: &Value, before: &Draft, draft: &mut Draft, removed: &mut Removed) {
    let op = operation
        .get("op")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let path = operation
        .get("path")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let value = operation.get("value");
    let text = || value.and_then(Value::as_str).map(str::to_owned);
    let seconds = || value.and_then(Value::as_i64).filter(|seconds| *seconds > 0);
    match (op, path) {
        ("add", "/accessToken/claims/-") => add_claim(value, draft),
        ("add", "/accessToken/scopes/-") => {
            let scope = text().filter(|scope| !draft.scopes.contains(scope));
            draft.scopes.extend(scope);
        }
        ("add", "/accessToken/claims/aud/-") => {
            let audience = text().filter(|audience| !draft.audience.contains(audience));
            draft.audience.extend(audience);
        }
        ("add", "/response/parameters/-") => {
            if let Some((name, value)) = name_and_value(value) {
                draft.response_params.entry(name).or_insert(value);
            }
        }
        ("replace", "/accessToken/claims/expires_in") => {
            draft.expires_in_s = seconds().unwrap_or(draft.expires_in_s);
        }
        ("replace", "/refreshToken/claims/expires_in") => {
            if let (Some(old), Some(new)) = (draft.refresh_expires_in_s.as_mut(), seconds()) {
                *old = new;
            }
        }
        ("remove", "/response/parameters/refresh_token") => draft.hides_refresh_token = true,
        ("remove", "/response/parameters/id_token") => draft.hides_id_token = true,
        ("remove" | "replace", _) => {
            if let Some(index) = path.strip_prefix("/accessToken/scopes/") {
                let at = position(index, before.scopes.len());
                edit(op, at, text(), &mut draft.scopes, &mut removed.scopes);
            } else if let Some(index) = path.strip_prefix("/accessToken/claims/aud/") {
                let at = position(index, before.audience.len());
                edit(op, at, text(), &mut draft.audience, &mut removed.audience);
            } else if let Some(name) = path.strip_prefix("/accessToken/claims/") {
                match (op, value) {
                    ("remove", _) => drop(draft.claims.remove(name)),
                    (_, Some(value)) if is_claim_value(value) => {
                        if let Some(old) = draft.claims.get_mut(name) {
                            *old = value.clone();
                        }
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn edit(
    op: &str,
    at: Option<usize>,
    value: Option<String>,
    list: &mut [String],
    removed: &mut Vec<usize>,
) {
    match (op, at, value) {
        ("remove", Some(at), _) => removed.push(at),
        ("replace", Some(at), Some(value)) => {
            if let Some(old) = list.get_mut(at) {
                *old = value;
            }
        }
        _ => {}
    }
}

/// An index into a list of the request; `-` is the last.
fn position(text: &str, length: usize) -> Option<usize> {
    let at = match text {
        "-" => length.checked_sub(1)?,
        digits => digits.parse().ok()?,
    };
    (at < length).then_some(at)
}

fn add_claim(value: Option<&Value>, draft: &mut Draft) {
    let Some((name, value)) = name_and_value(value) else {
        return;
    };
    // An existing or reserved claim is skipped in silence; the token is issued all the same.
    if is_claim_value(&value) && !RESERVED_CLAIMS.contains(&name.as_str()) {
        draft.claims.entry(name).or_insert(value);
    }
}

pub(crate) fn name_and_value(value: Option<&Value>) -> Option<(String, Value)> {
    let name = value?
        .get("name")?
        .as_str()
        .filter(|name| !name.is_empty())?;
    Some((name.to_owned(), value?.get("value")?.clone()))
}

/// String, number, boolean or list of strings.
pub(crate) fn is_claim_value(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().all(Value::is_string),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        Value::Null | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> Draft {
        Draft {
            scopes: vec!["openid".to_owned(), "read".to_owned(), "write".to_owned()],
            audience: vec!["app".to_owned()],
            claims: Map::new(),
            expires_in_s: 3_600,
            refresh_expires_in_s: Some(86_400),
            response_params: Map::new(),
            hides_refresh_token: false,
            hides_id_token: false,
        }
    }

    fn applied(operations: Value) -> Draft {
        let mut draft = draft();
        apply(
            &json!({"actionStatus": "SUCCESS", "operations": operations}),
            &mut draft,
        )
        .unwrap();
        draft
    }

    #[test]
    fn scopes_are_removed_by_their_place_in_the_request() {
        let draft = applied(json!([
            {"op": "remove", "path": "/accessToken/scopes/1"},
            {"op": "remove", "path": "/accessToken/scopes/2"},
            {"op": "add", "path": "/accessToken/scopes/-", "value": "added"},
            {"op": "remove", "path": "/accessToken/scopes/3"},
            {"op": "remove", "path": "/accessToken/scopes/99999999999999999999"},
        ]));
        assert_eq!(draft.scopes, ["openid", "added"]);
    }

    #[test]
    fn claims_are_added_once_and_only_with_simple_values() {
        let add = |name: &str, value: Value| json!({"op": "add", "path": "/accessToken/claims/-", "value": {"name": name, "value": value}});
        let draft = applied(json!([
            add("risk_score", json!(73)),
            add("risk_score", json!(1)),
            add("risk_reasons", json!(["a", "b"])),
            add("scope", json!("all")),
            add("nested", json!({"a": 1})),
            add("mixed", json!(["a", 1])),
            {"op": "add", "path": "/accessToken/claims/-", "value": "no"},
            {"op": "replace", "path": "/accessToken/claims/risk_reasons", "value": "x"},
            {"op": "replace", "path": "/accessToken/claims/unknown", "value": "x"},
        ]));
        assert_eq!(
            Value::Object(draft.claims),
            json!({"risk_score": 73, "risk_reasons": "x"})
        );
    }

    #[test]
    fn lifetimes_and_response_members_change() {
        let draft = applied(json!([
            {"op": "replace", "path": "/accessToken/claims/expires_in", "value": 300},
            {"op": "replace", "path": "/refreshToken/claims/expires_in", "value": -1},
            {"op": "add", "path": "/response/parameters/-", "value": {"name": "risk", "value": {"a": [1]}}},
            {"op": "remove", "path": "/response/parameters/refresh_token"},
            {"op": "replace", "path": "/accessToken/claims/aud/-", "value": "z"},
            {"op": "destroy", "path": "/"},
            7,
        ]));
        assert_eq!(
            (draft.expires_in_s, draft.refresh_expires_in_s),
            (300, Some(86_400))
        );
        assert_eq!(draft.response_params["risk"], json!({"a": [1]}));
        assert!(draft.hides_refresh_token && !draft.hides_id_token);
        assert_eq!(draft.audience, ["z"]);
    }

    #[test]
    fn anything_but_success_refuses() {
        for (answer, code) in [
            (
                json!({"actionStatus": "FAILED", "failureReason": "access_denied"}),
                "access_denied",
            ),
            (
                json!({"actionStatus": "FAILED", "failureReason": "server_error"}),
                "server_error",
            ),
            (
                json!({"actionStatus": "INCOMPLETE", "operations": []}),
                "server_error",
            ),
            (json!([]), "server_error"),
        ] {
            assert_eq!(apply(&answer, &mut draft()).unwrap_err().code, code);
        }
    }
}
