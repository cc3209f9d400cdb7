//! `/oauth2/introspect` (RFC 7662), `/oauth2/revoke` (RFC 7009) and `/oauth2/userinfo`.

use serde_json::Value;
use serde_json::json;

use crate::app::Ctx;
use crate::client_auth;
use crate::issue;
use crate::management;
use crate::management::Principal;
use crate::oauth_error::OAuthError;
use crate::response::Response;
use crate::store::AccessToken;
use crate::store::fingerprint;

/// POST `/oauth2/introspect`.
pub(crate) fn introspect(ctx: &Ctx<'_>) -> Response {
    let Some(params) = ctx.request.params() else {
        return Response::empty(415);
    };
    let is_caller_known = client_auth::authenticate(ctx, &params).is_ok()
        || match management::authenticate(ctx) {
            Some(Principal::Admin) => true,
            Some(principal) => principal.has_scope("internal_oauth2_introspect"),
            None => false,
        };
    if !is_caller_known {
        return Response::api_error(
            401,
            "401",
            "Unauthorized",
            "Authorization failure. Authorization information was invalid or missing from your request.",
            &ctx.trace_id(),
        )
        .with_header("WWW-Authenticate", "Basic realm=\"localhost\"");
    }
    let Some(token) = params.get("token") else {
        return Response::json(400, &json!({"error": "Invalid input"}));
    };
    let body = access_token(ctx, token)
        .map(|record| describe(ctx, &record))
        .or_else(|| describe_refresh(ctx, token))
        .unwrap_or_else(|| json!({"active": false}));
    Response::json(200, &body)
}

/// POST `/oauth2/revoke`.
pub(crate) fn revoke(ctx: &Ctx<'_>) -> Response {
    let Some(params) = ctx.request.params() else {
        return Response::empty(415);
    };
    let client = match client_auth::authenticate(ctx, &params) {
        Ok(client) => client,
        Err(error) => return error.response(ctx),
    };
    let Some(token) = params.get("token") else {
        return OAuthError::invalid_request("Missing token parameter").response(ctx);
    };
    let key = fingerprint(token);
    let mut store = ctx.app.store();
    let is_own = |realm: &str, id: &str| realm == ctx.realm.key && id == client.client_id;
    let family = if let Some(found) = store.refresh_tokens.get(&key) {
        is_own(&found.grant.realm, &found.grant.client_id).then(|| found.grant.family.clone())
    } else {
        None
    };
    if let Some(family) = family {
        store.revoke_family(&family);
    } else if let Some(found) = store.access_tokens.get_mut(&key)
        && is_own(&found.grant.realm, &found.grant.client_id)
    {
        found.is_revoked = true;
    }
    Response::empty(200)
        .with_header("Cache-Control", "no-store")
        .with_header("Pragma", "no-cache")
}

/// GET and POST `/oauth2/userinfo`.
pub(crate) fn userinfo(ctx: &Ctx<'_>) -> Response {
    let Some(token) = ctx.request.bearer_token() else {
        return Response::json(
            400,
            &json!({"error": "invalid_request", "error_description": "Bearer token missing"}),
        );
    };
    let record = access_token(ctx, token);
    let user = record
        .as_ref()
        .and_then(|record| record.grant.user.as_ref())
        .and_then(|user| ctx.app.users().by_id(&user.id).cloned());
    let (Some(record), Some(user)) = (record, user) else {
        let body = json!({"error": "invalid_token", "error_description": "Access token validation failed"});
        return Response::json(401, &body)
            .with_header("WWW-Authenticate", "Bearer error=\"invalid_token\"");
    };
    let has = |scope: &str| record.grant.scopes.iter().any(|known| known == scope);
    if !has("openid") {
        let body = json!({"error": "insufficient_scope",
            "error_description": "Access token does not have the openid scope"});
        return Response::json(403, &body)
            .with_header("WWW-Authenticate", "Bearer error=\"insufficient_scope\"");
    }
    let mut body = json!({
        "sub": user.id(),
        "org_id": ctx.realm.org_id,
        "org_name": ctx.realm.org_name,
        "org_handle": ctx.realm.org_handle,
    });
    if has("profile") {
        issue::put(&mut body, "username", json!(user.username));
        issue::put(&mut body, "given_name", json!(user.username));
    }
    if has("email") {
        issue::put(
            &mut body,
            "email",
            json!(format!("{}@users.example", user.username)),
        );
    }
    Response::json(200, &body)
}

/// A live access token of this realm.
pub(crate) fn access_token(ctx: &Ctx<'_>, token: &str) -> Option<AccessToken> {
    let store = ctx.app.store();
    store
        .access_tokens
        .get(&fingerprint(token))
        .filter(|record| {
            !record.is_revoked
                && record.expires_s > ctx.now_s()
                && record.grant.realm == ctx.realm.key
        })
        .cloned()
}

fn describe(ctx: &Ctx<'_>, record: &AccessToken) -> Value {
    let grant = &record.grant;
    let mut body = json!({
        "active": true,
        "scope": issue::scope_text(grant),
        "client_id": grant.client_id,
        "token_type": "Bearer",
        "aut": issue::authorized_type(grant),
        "nbf": record.issued_s,
        "iat": record.issued_s,
        "exp": record.expires_s,
        "org_id": ctx.realm.org_id,
        "org_name": ctx.realm.org_name,
        "org_handle": ctx.realm.org_handle,
    });
    if let Some(user) = &grant.user {
        let name = format!("{}@{}", user.username, ctx.realm.tenant);
        issue::put(&mut body, "username", json!(name));
    }
    if let Some((kind, reference)) = issue::binding(ctx, grant) {
        issue::put(&mut body, "binding_type", json!(kind));
        issue::put(&mut body, "binding_ref", json!(reference));
    }
    if let Some(actor) = &grant.actor {
        issue::put(&mut body, "act", json!({"sub": actor}));
    }
    if record.is_jwt {
        issue::put(&mut body, "jti", json!(record.jti));
        issue::put(&mut body, "sub", json!(issue::subject(grant)));
        issue::put(&mut body, "iss", json!(ctx.issuer()));
        issue::put(&mut body, "aud", json!(grant.client_id));
    }
    body
}

fn describe_refresh(ctx: &Ctx<'_>, token: &str) -> Option<Value> {
    let store = ctx.app.store();
    let record = store.refresh_tokens.get(&fingerprint(token))?;
    let is_live =
        !record.is_revoked && record.expires_s > ctx.now_s() && record.grant.realm == ctx.realm.key;
    is_live.then(|| {
        json!({
            "active": true,
            "scope": issue::scope_text(&record.grant),
            "client_id": record.grant.client_id,
            "token_type": "Refresh",
            "exp": record.expires_s,
        })
    })
}
