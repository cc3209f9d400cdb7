//! Grants that turn in a token (RFC 8693, RFC 7523), and the subject tokens by which somebody acts as another user. They
//! must not build access tokens. Who may act as others is not modelled: everybody may, as who has the permission does.

use serde_json::Value;
use serde_json::json;

use crate::app::Ctx;
use crate::authorize::AuthorizeRequest;
use crate::authorize::words;
use crate::issue;
use crate::oauth_error::OAuthError;
use crate::request::Params;
use crate::seed::Client;
use crate::seed::random_uuid;
use crate::store::GrantInfo;
use crate::store::UserRef;
use crate::store::fingerprint;
use crate::token::plain_grant;
use crate::token::required;

pub(crate) const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(crate) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// The response type, and the member of the answer.
pub(crate) const SUBJECT_TOKEN: &str = "subject_token";
/// Without it nobody acts as another user.
const IMPERSONATE: &str = "internal_user_impersonate";
/// How long a subject token is good for, in seconds.
const SUBJECT_TOKEN_S: i64 = 180;

const OF_ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const OF_JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const OF_ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// What is wrong with a request for a subject token, if anything.
pub(crate) fn check_request(request: &AuthorizeRequest) -> Result<(), &'static str> {
    if !request.has_response_type(SUBJECT_TOKEN) {
        return Ok(());
    }
    if request.has_response_type("code") || request.has_response_type("token") {
        return Err("Unsupported response_type value");
    }
    if !request.scopes.iter().any(|scope| scope == IMPERSONATE) {
        return Err("The scope for impersonation is missing");
    }
    match requested_subject(request) {
        Some(_) => Ok(()),
        None => Err("Missing requested_subject parameter value"),
    }
}

fn requested_subject(request: &AuthorizeRequest) -> Option<&str> {
    let mut params = request.params.iter();
    params
        .find(|(name, _)| name == "requested_subject")
        .map(|(_, value)| value.as_str())
}

/// A token that says that the user of the grant may act as the user who is asked for.
pub(crate) fn subject_token(
    ctx: &Ctx<'_>,
    request: &AuthorizeRequest,
    grant: &GrantInfo,
) -> anyhow::Result<String> {
    let now_s = ctx.now_s();
    let claims = json!({
        "iss": ctx.issuer(),
        "sub": requested_subject(request),
        "aud": grant.client_id,
        "azp": grant.client_id,
        "client_id": grant.client_id,
        "scope": issue::scope_text(grant),
        "may_act": {"sub": issue::subject(grant)},
        "nbf": now_s,
        "iat": now_s,
        "exp": now_s.saturating_add(SUBJECT_TOKEN_S),
        "jti": random_uuid(),
    });
    ctx.app.keys().sign(None, &claims)
}

/// A token for a token: for an access token one of the same user; for a subject token one of the user it is about, whose
/// actor shows an ID token of their own.
pub(crate) fn by_exchange(
    ctx: &Ctx<'_>,
    client: &Client,
    params: &Params,
) -> Result<GrantInfo, OAuthError> {
    let subject_token = required(params, "subject_token")?;
    let kind = required(params, "subject_token_type")?;
    let mut grant = plain_grant(ctx, client, TOKEN_EXCHANGE, params);
    let subject_scopes = match kind {
        OF_ACCESS_TOKEN => {
            let store = ctx.app.store();
            let token = store
                .access_tokens
                .get(&fingerprint(subject_token))
                .filter(|token| {
                    !token.is_revoked
                        && token.expires_s > ctx.now_s()
                        && token.grant.realm == ctx.realm.key
                })
                .ok_or_else(invalid)?;
            grant.user.clone_from(&token.grant.user);
            token.grant.scopes.clone()
        }
        OF_JWT => {
            let claims = own_token(ctx, subject_token).ok_or_else(invalid)?;
            let actor = claims.pointer("/may_act/sub").and_then(Value::as_str);
            let shown = params
                .get("actor_token")
                .filter(|_| params.get("actor_token_type") == Some(OF_ID_TOKEN))
                .and_then(|token| own_token(ctx, token));
            let shown = shown.as_ref().and_then(|claims| claims.get("sub"));
            if actor.is_none() || shown.and_then(Value::as_str) != actor {
                return Err(OAuthError::invalid_grant("Invalid actor token."));
            }
            grant.user = Some(user_of(ctx, &claims).ok_or_else(invalid)?);
            words(claims.get("scope").and_then(Value::as_str))
        }
        _ => {
            return Err(OAuthError::invalid_request(
                "Unsupported subject token type",
            ));
        }
    };
    let acting = params
        .get("actor_token")
        .and_then(|actor| own_token(ctx, actor));
    grant.actor = acting.and_then(|claims| claims.get("sub")?.as_str().map(str::to_owned));
    if grant.scopes.is_empty() {
        grant.scopes = subject_scopes;
    }
    Ok(grant)
}

/// A token for an assertion. One that this server has signed is taken; it asks less of the audience than WSO2 does.
pub(crate) fn by_assertion(
    ctx: &Ctx<'_>,
    client: &Client,
    params: &Params,
) -> Result<GrantInfo, OAuthError> {
    let assertion = required(params, "assertion")?;
    let user = own_token(ctx, assertion).and_then(|claims| user_of(ctx, &claims));
    let mut grant = plain_grant(ctx, client, JWT_BEARER, params);
    grant.user = Some(user.ok_or_else(|| OAuthError::invalid_grant("Invalid assertion."))?);
    Ok(grant)
}

fn invalid() -> OAuthError {
    OAuthError::invalid_grant("Invalid subject token.")
}

/// The claims of a token of this realm that is good now.
fn own_token(ctx: &Ctx<'_>, token: &str) -> Option<Value> {
    let claims = ctx.app.keys().verify(token)?;
    let is_ours = claims.get("iss")?.as_str()? == ctx.issuer();
    (is_ours && claims.get("exp")?.as_i64()? > ctx.now_s()).then_some(claims)
}

fn user_of(ctx: &Ctx<'_>, claims: &Value) -> Option<UserRef> {
    let id = claims.get("sub")?.as_str()?;
    let users = ctx.app.users();
    let user = users.by_id(id).filter(|user| user.realm == ctx.realm.key)?;
    Some(UserRef {
        id: user.id(),
        username: user.username.clone(),
    })
}
