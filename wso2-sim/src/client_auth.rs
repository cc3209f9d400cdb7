//! Client authentication at the back-channel endpoints: `client_secret_basic`, `client_secret_post`, and none for public
//! clients.

use crate::app::Ctx;
use crate::oauth_error::OAuthError;
use crate::request::Params;
use crate::seed::Client;

const FAILED: &str = "Client Authentication failed.";

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

fn with_secret<'a>(ctx: &Ctx<'a>, id: &str, secret: &str) -> Result<&'a Client, OAuthError> {
    ctx.client(id)
        .filter(|client| client.client_secret.as_deref() == Some(secret))
        .ok_or_else(|| OAuthError::invalid_client(FAILED))
}
