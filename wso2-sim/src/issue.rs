//! Making tokens: access tokens (`at+jwt` or opaque), refresh tokens, ID tokens, with the pre-issue action in between.
//! It must not decide whether a grant is good.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::action::Draft;
use crate::app::Ctx;
use crate::config::SignatureFlaw;
use crate::exchange::JWT_BEARER;
use crate::exchange::TOKEN_EXCHANGE;
use crate::id_token_action;
use crate::keys;
use crate::oauth_error::OAuthError;
use crate::request::Params;
use crate::seed::Client;
use crate::seed::TokenKind;
use crate::seed::random_uuid;
use crate::store::AccessToken;
use crate::store::GrantInfo;
use crate::store::RefreshToken;
use crate::store::Reusable;
use crate::store::fingerprint;

/// Grant types for which the action runs.
const ACTION_GRANTS: [&str; 4] = [
    "authorization_code",
    "client_credentials",
    "password",
    "refresh_token",
];
/// Original grants for which the action also runs on refresh.
const ACTION_ORIGINALS: [&str; 3] = ["authorization_code", "password", "refresh_token"];

/// What the hashes in an ID token are over.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdTokenParts<'a> {
    pub(crate) access_token: Option<&'a str>,
    pub(crate) code: Option<&'a str>,
    pub(crate) state: Option<&'a str>,
}

/// Issues the tokens of a grant; `grant_type` is that of this request, `params` its parameters.
///
/// # Errors
///
/// What the action answers, or `server_error` when it does not answer well: it is fail-closed.
pub(crate) async fn issue(
    ctx: &Ctx<'_>,
    client: &Client,
    mut grant: GrantInfo,
    grant_type: &str,
    code: Option<&str>,
    params: &Params,
) -> Result<Value, OAuthError> {
    let has_refresh = grant.user.is_some()
        && client.allows_grant("refresh_token")
        && !matches!(grant_type, TOKEN_EXCHANGE | JWT_BEARER);
    if client.token_kind == TokenKind::Opaque
        && grant_type != "refresh_token"
        && let Some(same) = reuse(ctx, &grant)
    {
        return Ok(body_of_reused(ctx, &grant, &same, code));
    }
    let mut draft = Draft {
        scopes: grant.scopes.clone(),
        audience: vec![client.client_id.clone()],
        claims: grant.claims.clone(),
        expires_in_s: seconds(ctx.validity().access_token),
        refresh_expires_in_s: has_refresh.then(|| seconds(ctx.validity().refresh_token)),
        response_params: Map::new(),
        hides_refresh_token: false,
        hides_id_token: false,
    };
    if client.names_roles {
        let named = grant.user.as_ref().and_then(|user| roles(ctx, &user.id));
        if let Some(named) = named {
            draft.claims.insert("roles".to_owned(), named);
        }
    }
    let runs_action = client.token_kind == TokenKind::Jwt
        && ACTION_GRANTS.contains(&grant_type)
        && (grant_type != "refresh_token" || ACTION_ORIGINALS.contains(&grant.grant_type.as_str()));
    if runs_action && let Some(action) = ctx.app.action() {
        action
            .run(ctx, &grant, grant_type, params, &mut draft)
            .await?;
    }
    grant.scopes.clone_from(&draft.scopes);
    grant.claims.clone_from(&draft.claims);
    let access_token = mint(ctx, client, &grant, &draft).map_err(|_| OAuthError::server_error())?;
    let mut body = json!({
        "access_token": access_token,
        "scope": scope_text(&grant),
        "token_type": "Bearer",
        "expires_in": draft.expires_in_s,
    });
    let mut refresh_token = None;
    if let Some(expires_in_s) = draft.refresh_expires_in_s {
        let fresh = random_uuid();
        let record = RefreshToken {
            grant: grant.clone(),
            expires_s: ctx.now_s().saturating_add(expires_in_s),
            is_revoked: false,
        };
        ctx.app
            .store()
            .refresh_tokens
            .insert(fingerprint(&fresh), record);
        if !draft.hides_refresh_token {
            put(&mut body, "refresh_token", json!(fresh));
        }
        refresh_token = Some(fresh);
    }
    if is_openid(&grant) && !draft.hides_id_token {
        let parts = IdTokenParts {
            access_token: Some(&access_token),
            code,
            state: None,
        };
        let mut claims = id_claims(ctx, &grant, &parts);
        if id_token_action::GRANTS.contains(&grant_type)
            && let Some(action) = ctx.app.id_token_action()
        {
            id_token_action::run(&action, ctx, &grant, grant_type, params, &mut claims).await?;
        }
        let id_token =
            sign_id_token(ctx, &grant, &claims).map_err(|_| OAuthError::server_error())?;
        put(&mut body, "id_token", json!(id_token));
    }
    for (name, value) in draft.response_params {
        // The protocol's own members are never replaced.
        if body.get(&name).is_none() {
            put(&mut body, &name, value);
        }
    }
    if client.token_kind == TokenKind::Opaque {
        let reusable = Reusable {
            access_token,
            refresh_token,
        };
        ctx.app.store().reusable.insert(reuse_key(&grant), reusable);
    }
    Ok(body)
}

/// An access token in the front channel (`response_type=token`), without refresh token and action.
pub(crate) fn front_channel_token(ctx: &Ctx<'_>, grant: &GrantInfo) -> anyhow::Result<String> {
    let client = ctx
        .client(&grant.client_id)
        .ok_or_else(|| anyhow::anyhow!("unknown client"))?;
    let draft = Draft {
        scopes: grant.scopes.clone(),
        audience: vec![grant.client_id.clone()],
        claims: Map::new(),
        expires_in_s: seconds(ctx.validity().access_token),
        refresh_expires_in_s: None,
        response_params: Map::new(),
        hides_refresh_token: false,
        hides_id_token: false,
    };
    mint(ctx, client, grant, &draft)
}

/// An ID token (OpenID Connect Core section 2) with WSO2's further members.
pub(crate) fn id_token(
    ctx: &Ctx<'_>,
    grant: &GrantInfo,
    parts: &IdTokenParts<'_>,
) -> anyhow::Result<String> {
    sign_id_token(ctx, grant, &id_claims(ctx, grant, parts))
}

fn id_claims(ctx: &Ctx<'_>, grant: &GrantInfo, parts: &IdTokenParts<'_>) -> Value {
    let now_s = ctx.now_s();
    let user = grant.user.as_ref();
    let flaws = ctx.app.flaws();
    let audience = if flaws.has_wrong_audience {
        "another-client"
    } else {
        &grant.client_id
    };
    let back_s = seconds(flaws.auth_time_back);
    let mut claims = json!({
        "iss": ctx.issuer(),
        "sub": user.map(|user| user.id.clone()),
        "aud": audience,
        "azp": audience,
        "iat": now_s,
        "nbf": now_s,
        "exp": now_s.saturating_add(seconds(ctx.validity().id_token)),
        "jti": random_uuid(),
        "amr": grant.methods,
        "org_id": ctx.realm.org_id,
        "org_name": ctx.realm.org_name,
        "org_handle": ctx.realm.org_handle,
    });
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            put(&mut claims, name, value);
        }
    };
    let hash = |text: Option<&str>| text.map(|text| json!(keys::left_half_hash(text)));
    add("at_hash", hash(parts.access_token));
    add("c_hash", hash(parts.code));
    add("s_hash", hash(parts.state));
    add("acr", grant.acr.as_ref().map(|acr| json!(acr)));
    add(
        "auth_time",
        grant
            .auth_time_s
            .map(|at_s| json!(at_s.saturating_sub(back_s))),
    );
    let nonce = match &grant.nonce {
        Some(_) if flaws.has_wrong_nonce => Some("another"),
        nonce => nonce.as_deref(),
    };
    add("nonce", nonce.map(|nonce| json!(nonce)));
    let has_scope = |name: &str| grant.scopes.iter().any(|scope| scope == name);
    if has_scope("profile") {
        add("username", user.map(|user| json!(user.username)));
    }
    if has_scope("roles") {
        add("roles", user.and_then(|user| roles(ctx, &user.id)));
    }
    let session = grant.session_key.as_deref();
    add(
        "sid",
        session.map(|key| json!(key.get(..32).unwrap_or(key))),
    );
    add("isk", session.map(|key| json!(fingerprint(key))));
    claims
}

/// The roles of a user; one alone is a text and no list, as WSO2 writes it.
fn roles(ctx: &Ctx<'_>, id: &str) -> Option<Value> {
    let users = ctx.app.users();
    match users.by_id(id)?.roles.as_slice() {
        [] => None,
        [one] => Some(json!(one)),
        several => Some(json!(several)),
    }
}

fn sign_id_token(ctx: &Ctx<'_>, grant: &GrantInfo, claims: &Value) -> anyhow::Result<String> {
    match ctx.app.flaws().signature {
        SignatureFlaw::None => ctx.app.keys().sign(None, claims),
        SignatureFlaw::ForeignKey => keys::Keys::foreign()?.sign_as(&ctx.app.keys(), claims),
        SignatureFlaw::SharedSecret => {
            let client = ctx.client(&grant.client_id);
            let secret = client.and_then(|client| client.client_secret.as_deref());
            keys::sign_shared(secret.unwrap_or_default(), claims)
        }
    }
}

/// Whether an ID token belongs to the grant.
pub(crate) fn is_openid(grant: &GrantInfo) -> bool {
    grant.user.is_some() && grant.scopes.iter().any(|scope| scope == "openid")
}

/// `APPLICATION_USER`, or `APPLICATION` where no user takes part.
pub(crate) fn authorized_type(grant: &GrantInfo) -> &'static str {
    if grant.user.is_some() {
        "APPLICATION_USER"
    } else {
        "APPLICATION"
    }
}

/// Type and reference of the token binding, for tokens that belong to a session.
pub(crate) fn binding(ctx: &Ctx<'_>, grant: &GrantInfo) -> Option<(&'static str, String)> {
    let is_bound = ctx
        .client(&grant.client_id)
        .is_some_and(|client| client.is_session_bound);
    let key = grant.session_key.as_deref().filter(|_| is_bound)?;
    let reference = fingerprint(key);
    Some((
        "sso-session",
        reference.get(..32).unwrap_or(&reference).to_owned(),
    ))
}

/// Space-separated scopes; WSO2 says `default` where none is asked for.
pub(crate) fn scope_text(grant: &GrantInfo) -> String {
    if grant.scopes.is_empty() {
        "default".to_owned()
    } else {
        grant.scopes.join(" ")
    }
}

/// `sub` of an access token: the user's id, or the client id.
pub(crate) fn subject(grant: &GrantInfo) -> String {
    grant
        .user
        .as_ref()
        .map_or_else(|| grant.client_id.clone(), |user| user.id.clone())
}

fn mint(
    ctx: &Ctx<'_>,
    client: &Client,
    grant: &GrantInfo,
    draft: &Draft,
) -> anyhow::Result<String> {
    let now_s = ctx.now_s();
    let jti = random_uuid();
    let is_jwt = client.token_kind == TokenKind::Jwt;
    let expires_s = now_s.saturating_add(draft.expires_in_s);
    let token = if is_jwt {
        let audience = match draft.audience.as_slice() {
            [only] => json!(only),
            several => json!(several),
        };
        let mut claims = json!({
            "iss": ctx.issuer(),
            "sub": subject(grant),
            "aut": authorized_type(grant),
            "aud": audience,
            "azp": grant.client_id,
            "client_id": grant.client_id,
            "scope": scope_text(grant),
            "nbf": now_s,
            "iat": now_s,
            "exp": expires_s,
            "jti": jti,
            "org_id": ctx.realm.org_id,
            "org_name": ctx.realm.org_name,
            "org_handle": ctx.realm.org_handle,
        });
        if let Some((kind, reference)) = binding(ctx, grant) {
            put(&mut claims, "binding_type", json!(kind));
            put(&mut claims, "binding_ref", json!(reference));
        }
        if let Some(actor) = &grant.actor {
            put(&mut claims, "act", json!({"sub": actor}));
        }
        for (name, value) in &draft.claims {
            put(&mut claims, name, value.clone());
        }
        ctx.app.keys().sign(Some("at+jwt"), &claims)?
    } else {
        random_uuid()
    };
    let record = AccessToken {
        grant: grant.clone(),
        jti,
        is_jwt,
        issued_s: now_s,
        expires_s,
        is_revoked: false,
    };
    ctx.app
        .store()
        .access_tokens
        .insert(fingerprint(&token), record);
    Ok(token)
}

/// The still-valid tokens that the same client, user and scopes got before.
fn reuse(ctx: &Ctx<'_>, grant: &GrantInfo) -> Option<Reusable> {
    let store = ctx.app.store();
    let found = store.reusable.get(&reuse_key(grant))?;
    let token = store.access_tokens.get(&fingerprint(&found.access_token))?;
    let is_same_session = token.grant.session_key == grant.session_key;
    (!token.is_revoked && token.expires_s > ctx.now_s() && is_same_session).then(|| found.clone())
}

/// Every input of the answer, unambiguously.
fn reuse_key(grant: &GrantInfo) -> String {
    json!([
        grant.realm,
        grant.client_id,
        grant.user.as_ref().map(|user| user.id.clone()),
        grant.scopes,
    ])
    .to_string()
}

fn body_of_reused(ctx: &Ctx<'_>, grant: &GrantInfo, same: &Reusable, code: Option<&str>) -> Value {
    let expires_s = ctx
        .app
        .store()
        .access_tokens
        .get(&fingerprint(&same.access_token))
        .map_or(0, |token| token.expires_s);
    let mut body = json!({
        "access_token": same.access_token,
        "scope": scope_text(grant),
        "token_type": "Bearer",
        "expires_in": expires_s.saturating_sub(ctx.now_s()),
    });
    if let Some(refresh_token) = &same.refresh_token {
        put(&mut body, "refresh_token", json!(refresh_token));
    }
    if is_openid(grant) {
        let parts = IdTokenParts {
            access_token: Some(&same.access_token),
            code,
            state: None,
        };
        if let Ok(id_token) = id_token(ctx, grant, &parts) {
            put(&mut body, "id_token", json!(id_token));
        }
    }
    body
}

/// Whole seconds of a configured lifetime.
pub(crate) fn seconds(lifetime: std::time::Duration) -> i64 {
    i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX / 4)
}

/// Sets a member of a JSON object.
pub(crate) fn put(object: &mut Value, name: &str, value: Value) {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}
