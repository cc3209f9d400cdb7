//! `/oauth2/token`: the checks that come before any grant, and the grants. It must not build tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::Digest;
use sha2::Sha256;

use crate::app::Ctx;
use crate::authorize::Challenge;
use crate::authorize::words;
use crate::ciba::CIBA;
use crate::client_auth;
use crate::device;
use crate::exchange;
use crate::exchange::JWT_BEARER;
use crate::exchange::TOKEN_EXCHANGE;
use crate::grant_response;
use crate::issue;
use crate::oauth_error::OAuthError;
use crate::request::Params;
use crate::response::Response;
use crate::seed::Client;
use crate::seed::random_uuid;
use crate::store::GrantInfo;
use crate::store::fingerprint;
use crate::users::Check;
use crate::users::Proof;

/// Parameters that must not stand in the URL.
const SECRETS: [&str; 3] = ["client_secret", "password", "username"];

const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The door.
pub(crate) async fn answer(ctx: &Ctx<'_>) -> Response {
    let Some(params) = ctx.request.params() else {
        return match ctx.request.media_type().as_str() {
            "application/json" => OAuthError::invalid_request("Invalid request body").response(ctx),
            _ => Response::empty(415),
        };
    };
    match grant(ctx, &params).await {
        Ok(body) => Response::token_json(200, &body),
        Err(error) => error.response(ctx),
    }
}

async fn grant(ctx: &Ctx<'_>, params: &Params) -> Result<Value, OAuthError> {
    if SECRETS.iter().any(|name| params.has_in_query(name)) {
        return Err(OAuthError::invalid_request(
            "Invalid request with sensitive data in the URL.",
        ));
    }
    if params.has_repeated() {
        return Err(OAuthError::invalid_request(
            "Invalid request with repeated parameters.",
        ));
    }
    let client = client_auth::authenticate(ctx, params)?;
    let grant_type = params
        .get("grant_type")
        .ok_or_else(|| OAuthError::invalid_request("Missing grant_type parameter value"))?;
    let is_known = matches!(
        grant_type,
        "authorization_code"
            | "client_credentials"
            | "password"
            | "refresh_token"
            | JWT_BEARER
            | TOKEN_EXCHANGE
            | DEVICE_CODE
            | CIBA
    );
    if !is_known {
        return Err(OAuthError::new(
            "unsupported_grant_type",
            "Unsupported grant_type value",
        ));
    }
    if !client.allows_grant(grant_type) {
        return Err(OAuthError::new(
            "unauthorized_client",
            "The authenticated client is not authorized to use this authorization grant type",
        ));
    }
    let code = params
        .get("code")
        .filter(|_| grant_type == "authorization_code");
    let mut grant = match grant_type {
        "authorization_code" => by_code(ctx, client, params)?,
        "client_credentials" => by_client(ctx, client, params),
        "password" => by_password(ctx, client, params)?,
        "refresh_token" => by_refresh(ctx, client, params)?,
        TOKEN_EXCHANGE => exchange::by_exchange(ctx, client, params)?,
        JWT_BEARER => exchange::by_assertion(ctx, client, params)?,
        CIBA => {
            let outcome = device::redeem(ctx, client, required(params, "auth_req_id")?)?;
            grant_response::grant_of(&outcome, CIBA)
        }
        _ => {
            let outcome = device::redeem(ctx, client, required(params, "device_code")?)?;
            grant_response::grant_of(&outcome, DEVICE_CODE)
        }
    };
    grant.scopes.retain(|scope| may_have(client, scope));
    let mut issued = issue::issue(ctx, client, grant, grant_type, code, params).await;
    if let Ok(body) = &mut issued
        && grant_type == TOKEN_EXCHANGE
    {
        // RFC 8693 section 2.2.1.
        let kind = "urn:ietf:params:oauth:token-type:access_token";
        issue::put(body, "issued_token_type", Value::from(kind));
    }
    if issued.is_err()
        && let Some(presented) = params.get("refresh_token")
        && grant_type == "refresh_token"
    {
        keep_refresh_token(ctx, presented);
    }
    issued
}

fn by_code(ctx: &Ctx<'_>, client: &Client, params: &Params) -> Result<GrantInfo, OAuthError> {
    let presented = required(params, "code")?;
    let unknown =
        || OAuthError::invalid_grant("Invalid authorization code received from token request");
    let mut store = ctx.app.store();
    let code = store.codes.get_mut(presented).ok_or_else(unknown)?;
    if code.outcome.realm != ctx.realm.key || code.outcome.request.client_id != client.client_id {
        return Err(unknown());
    }
    if code.is_used {
        // RFC 6749 section 4.1.2: a code that is used twice takes its tokens with it.
        let family = code.family.clone();
        store.revoke_family(&family);
        return Err(OAuthError::invalid_grant(
            "Inactive authorization code received from token request",
        ));
    }
    if code.expires_ms <= ctx.now_ms {
        return Err(OAuthError::invalid_grant(
            "Expired authorization code received from token request",
        ));
    }
    let request = &code.outcome.request;
    let redirect_uri = params.get("redirect_uri");
    let is_same = redirect_uri == Some(request.redirect_uri.as_str());
    if !is_same && (request.is_redirect_named || redirect_uri.is_some()) {
        return Err(OAuthError::invalid_grant("Callback url mismatch"));
    }
    if !is_proven(request.challenge.as_ref(), params.get("code_verifier")) {
        return Err(OAuthError::invalid_grant("PKCE validation failed"));
    }
    code.is_used = true;
    let mut grant = grant_response::grant_of(&code.outcome, "authorization_code");
    grant.family.clone_from(&code.family);
    Ok(grant)
}

fn by_client(ctx: &Ctx<'_>, client: &Client, params: &Params) -> GrantInfo {
    plain_grant(ctx, client, "client_credentials", params)
}

fn by_password(ctx: &Ctx<'_>, client: &Client, params: &Params) -> Result<GrantInfo, OAuthError> {
    let username = required(params, "username")?;
    let password = required(params, "password")?;
    let tenant = &ctx.realm.tenant;
    let check = ctx.app.users().check(
        &ctx.realm.key,
        tenant,
        username,
        Proof::Password(password),
        ctx.now_ms,
    );
    match check {
        Check::Passed(user) => {
            let mut grant = plain_grant(ctx, client, "password", params);
            grant.user = Some(user);
            Ok(grant)
        }
        Check::Locked { .. } if ctx.app.config.show_auth_failure_reason => {
            Err(OAuthError::invalid_grant(&format!(
                "17003 - User account is locked for user: {username}"
            )))
        }
        Check::Locked { .. } | Check::Unknown | Check::Wrong { .. } => Err(
            OAuthError::invalid_grant(&format!("Authentication failed for {username}")),
        ),
    }
}

fn by_refresh(ctx: &Ctx<'_>, client: &Client, params: &Params) -> Result<GrantInfo, OAuthError> {
    let presented = required(params, "refresh_token")?;
    let unknown = || OAuthError::invalid_grant("Persisted access token data not found");
    let mut store = ctx.app.store();
    let token = store
        .refresh_tokens
        .get_mut(&fingerprint(presented))
        .ok_or_else(unknown)?;
    let is_good = !token.is_revoked
        && token.expires_s > ctx.now_s()
        && token.grant.realm == ctx.realm.key
        && token.grant.client_id == client.client_id;
    if !is_good {
        return Err(unknown());
    }
    let mut grant = token.grant.clone();
    let narrowed = words(params.get("scope"));
    if narrowed.iter().any(|scope| !grant.scopes.contains(scope)) {
        return Err(OAuthError::new(
            "invalid_scope",
            "The requested scope exceeds the scope granted by the resource owner",
        ));
    }
    if !narrowed.is_empty() {
        grant.scopes = narrowed;
    }
    // Rotation: the presented token is worth nothing from now on.
    token.is_revoked = true;
    grant.nonce = None;
    Ok(grant)
}

/// An action that refuses leaves the presented token as it was: WSO2 stores the new one only after the action.
fn keep_refresh_token(ctx: &Ctx<'_>, presented: &str) {
    let mut store = ctx.app.store();
    if let Some(token) = store.refresh_tokens.get_mut(&fingerprint(presented)) {
        token.is_revoked = false;
    }
}

pub(crate) fn plain_grant(
    ctx: &Ctx<'_>,
    client: &Client,
    grant_type: &str,
    params: &Params,
) -> GrantInfo {
    GrantInfo {
        realm: ctx.realm.key.clone(),
        client_id: client.client_id.clone(),
        grant_type: grant_type.to_owned(),
        user: None,
        scopes: words(params.get("scope")),
        // Grants without interaction name themselves as the method.
        methods: vec![grant_type.to_owned()],
        acr: None,
        auth_time_s: None,
        nonce: None,
        session_key: None,
        consent_key: None,
        family: random_uuid(),
        claims: serde_json::Map::new(),
        actor: None,
    }
}

pub(crate) fn required<'a>(params: &'a Params, name: &str) -> Result<&'a str, OAuthError> {
    params
        .get(name)
        .ok_or_else(|| OAuthError::invalid_request(&format!("Missing parameters: {name}")))
}

fn may_have(client: &Client, scope: &str) -> bool {
    let is_oidc = matches!(
        scope,
        "openid" | "profile" | "email" | "address" | "phone" | "offline_access"
    );
    // Internal scopes are only for who has them by name.
    let by_star = !scope.starts_with("internal_") && client.scopes.iter().any(|known| known == "*");
    is_oidc || by_star || client.scopes.iter().any(|known| known == scope)
}

/// RFC 7636 section 4.6; a verifier without a challenge is an attack of its own (RFC 9700 section 2.1.1).
fn is_proven(challenge: Option<&Challenge>, verifier: Option<&str>) -> bool {
    match (challenge, verifier) {
        (None, None) => true,
        (Some(challenge), Some(verifier)) if challenge.is_s256 => {
            URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())) == challenge.value
        }
        (Some(challenge), Some(verifier)) => challenge.value == verifier,
        (None, Some(_)) | (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pkce_is_the_example_of_the_rfc() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let challenge = Challenge {
            is_s256: true,
            value: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".to_owned(),
        };
        assert!(is_proven(Some(&challenge), Some(verifier)));
        assert!(!is_proven(Some(&challenge), Some("other")));
        assert!(!is_proven(Some(&challenge), None));
        assert!(!is_proven(None, Some(verifier)));
        assert!(is_proven(None, None));
    }
}
