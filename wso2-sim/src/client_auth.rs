//! Client authentication at the back-channel endpoints: `client_secret_basic`, `client_secret_post`, an assertion that is
//! good once (`client_secret_jwt`, which stands for `private_key_jwt` as well), and none for public clients.

use serde_json::Value;

use crate::app::Ctx;
use crate::keys;
use crate::oauth_error::OAuthError;
use crate::request::Params;
use crate::seed::Client;
use crate::store::fingerprint;

/// RFC 7523 section 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const FAILED: &str = "Client Authentication failed.";

/// The client that a request of unrepeated parameters proves to come from, if it may use `grant`.
///
/// # Errors
///
/// Those of [`authenticate`], `invalid_request` or `unauthorized_client`.
pub(crate) fn authenticate_for<'a>(
    ctx: &Ctx<'a>,
    params: &Params,
    grant: &str,
) -> Result<&'a Client, OAuthError> {
    if params.has_repeated() {
        return Err(OAuthError::invalid_request(
            "Invalid request with repeated parameters.",
        ));
    }
    let client = authenticate(ctx, params)?;
    if !client.allows_grant(grant) {
        return Err(OAuthError::new(
            "unauthorized_client",
            "The authenticated client is not authorized to use this authorization grant type",
        ));
    }
    Ok(client)
}

/// The client that a request proves to come from.
///
/// # Errors
///
/// `invalid_client`, or `invalid_request` when credentials are sent in two ways.
pub(crate) fn authenticate<'a>(ctx: &Ctx<'a>, params: &Params) -> Result<&'a Client, OAuthError> {
    let named = params.get("client_id");
    if ctx.request.header("authorization").is_some() {
        let (id, secret) = ctx
            .request
            .basic_credentials()
            .ok_or_else(|| OAuthError::invalid_client(FAILED))?;
        if params.get("client_secret").is_some() {
            return Err(OAuthError::invalid_request(
                "Request body and headers contain authorization information",
            ));
        }
        if named.is_some_and(|named| named != id) {
            return Err(OAuthError::invalid_client(FAILED));
        }
        return with_secret(ctx, &id, &secret);
    }
    if let Some(assertion) = params.get("client_assertion") {
        return with_assertion(ctx, params, assertion);
    }
    let id =
        named.ok_or_else(|| OAuthError::invalid_client("Client ID not found in the request."))?;
    match params.get("client_secret") {
        Some(secret) => with_secret(ctx, id, secret),
        None => ctx
            .client(id)
            .filter(|client| client.client_secret.is_none())
            .ok_or_else(|| OAuthError::invalid_client(FAILED)),
    }
}

/// RFC 7523 section 3: signed by the client, for this server, and not seen before.
fn with_assertion<'a>(
    ctx: &Ctx<'a>,
    params: &Params,
    assertion: &str,
) -> Result<&'a Client, OAuthError> {
    let failed = || OAuthError::invalid_client(FAILED);
    if params.get("client_assertion_type") != Some(ASSERTION_TYPE) {
        return Err(failed());
    }
    ctx.app
        .config
        .clients
        .iter()
        .filter(|client| client.realm == ctx.realm.key)
        .find(|client| {
            let claims = client
                .client_secret
                .as_deref()
                .and_then(|secret| keys::verify_shared(secret, assertion));
            claims.is_some_and(|claims| {
                claims.get("sub").and_then(Value::as_str) == Some(client.client_id.as_str())
                    && claims.get("aud").and_then(Value::as_str) == Some(ctx.issuer().as_str())
                    && claims
                        .get("exp")
                        .and_then(Value::as_i64)
                        .is_some_and(|exp| exp > ctx.now_s())
            })
        })
        .filter(|_| {
            let mut store = ctx.app.store();
            let key = fingerprint(assertion);
            let is_new = store.assertions.get(&key).is_none();
            store.assertions.insert(key, ());
            is_new
        })
        .ok_or_else(failed)
}

fn with_secret<'a>(ctx: &Ctx<'a>, id: &str, secret: &str) -> Result<&'a Client, OAuthError> {
    ctx.client(id)
        .filter(|client| client.client_secret.as_deref() == Some(secret))
        .ok_or_else(|| OAuthError::invalid_client(FAILED))
}
