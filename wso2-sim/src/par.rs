//! `/oauth2/par` (RFC 9126): the request is checked as the authorization endpoint would, then kept for one use.

use serde_json::json;

use crate::app::Ctx;
use crate::authorize;
use crate::authorize::PUSHED_PREFIX;
use crate::authorize::Refusal;
use crate::client_auth;
use crate::oauth_error::OAuthError;
use crate::request::Params;
use crate::response::Response;
use crate::seed::random_uuid;
use crate::store::Pushed;

/// Parameters that authenticate the client and are not part of the request.
const CLIENT_AUTH: [&str; 3] = ["client_assertion", "client_assertion_type", "client_secret"];

/// The door.
pub(crate) fn answer(ctx: &Ctx<'_>) -> Response {
    let Some(params) = ctx.request.params() else {
        return Response::empty(415);
    };
    match push(ctx, &params) {
        Ok(id) => Response::token_json(
            201,
            &json!({
                "request_uri": format!("{PUSHED_PREFIX}{id}"),
                "expires_in": ctx.validity().pushed_request.as_secs(),
            }),
        ),
        Err(error) => error.response(ctx),
    }
}

fn push(ctx: &Ctx<'_>, params: &Params) -> Result<String, OAuthError> {
    if params.has_repeated() {
        return Err(OAuthError::invalid_request(
            "Invalid request with repeated parameters.",
        ));
    }
    let client = client_auth::authenticate(ctx, params)?;
    if params.get("request_uri").is_some() {
        return Err(OAuthError::invalid_request(
            "Request does not allow request_uri parameter",
        ));
    }
    let mut items: Vec<(String, String)> = params
        .items()
        .iter()
        .filter(|(name, _)| !CLIENT_AUTH.contains(&name.as_str()) && name != "client_id")
        .cloned()
        .collect();
    items.push(("client_id".to_owned(), client.client_id.clone()));
    authorize::parse(ctx, &Params::from_items(items.clone())).map_err(|refusal| match refusal {
        Refusal::Client { code, message, .. } => OAuthError::new(code, &message),
        Refusal::Page { message, .. } => OAuthError::invalid_request(&message),
    })?;
    let id = random_uuid();
    let pushed = Pushed {
        realm: ctx.realm.key.clone(),
        client_id: client.client_id.clone(),
        params: items,
        expires_ms: ctx.expiry_ms(ctx.validity().pushed_request),
    };
    ctx.app.store().pushed.insert(id.clone(), pushed);
    Ok(id)
}
