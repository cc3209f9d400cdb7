//! Authentication in the background (OpenID CIBA Core, poll mode): a client names a user and polls; the user approves in a
//! browser of their own. Polling is that of the device grant. It must not notify anybody: the driver opens the link.

use serde_json::json;

use crate::app::Ctx;
use crate::app::pairs;
use crate::client_auth;
use crate::device;
use crate::oauth_error::OAuthError;
use crate::request::Params;
use crate::response::Response;
use crate::response::append_params;
use crate::seed::random_uuid;
use crate::store::Device;
use crate::store::DeviceState;

/// The grant type.
pub(crate) const CIBA: &str = "urn:openid:params:grant-type:ciba";
/// Pause between polls that the client is told.
const INTERVAL_S: i64 = 2;

/// POST `/oauth2/ciba`.
pub(crate) fn authorize(ctx: &Ctx<'_>) -> Response {
    let Some(params) = ctx.request.params() else {
        return Response::empty(415);
    };
    match hand_out(ctx, &params) {
        Ok((id, key)) => {
            let mut answer = json!({
                "auth_req_id": id,
                "expires_in": ctx.validity().device_code.as_secs(),
                "interval": INTERVAL_S,
            });
            // Without a channel of the server's own the client passes the link on.
            if params.get("notification_channel") == Some("external")
                && let Some(members) = answer.as_object_mut()
            {
                let url = ctx.url("/oauth2/ciba_authorize");
                let url = append_params(&url, &pairs(&[("authCodeKey", &key)]), false);
                members.insert("auth_url".to_owned(), json!(url));
            }
            Response::token_json(200, &answer)
        }
        Err(error) => error.response(ctx),
    }
}

fn hand_out(ctx: &Ctx<'_>, params: &Params) -> Result<(String, String), OAuthError> {
    let client = client_auth::authenticate_for(ctx, params, CIBA)?;
    let hint = params.get("login_hint").unwrap_or_default();
    let users = ctx.app.users();
    if users
        .find(&ctx.realm.key, &ctx.realm.tenant, hint)
        .is_none()
    {
        return Err(OAuthError::new("unknown_user_id", "Unknown user."));
    }
    drop(users);
    let (id, key) = (random_uuid(), random_uuid());
    let request = Device {
        realm: ctx.realm.key.clone(),
        client_id: client.client_id.clone(),
        user_code: key.clone(),
        scope: params.get("scope").unwrap_or_default().to_owned(),
        state: DeviceState::Pending,
        expires_ms: ctx.expiry_ms(ctx.validity().device_code),
        polled_ms: 0,
    };
    ctx.app.store().devices.insert(id.clone(), request);
    Ok((id, key))
}

/// GET `/oauth2/ciba_authorize`: the user follows the link.
pub(crate) fn open_link(ctx: &Ctx<'_>) -> Response {
    let params = ctx.request.params().unwrap_or_default();
    let key = params.get("authCodeKey").unwrap_or_default();
    device::begin(ctx, key, "cibaAuthCode").unwrap_or_else(|| {
        ctx.to_page(
            "device_success.do",
            &pairs(&[("error", "invalid.authCodeKey")]),
        )
    })
}
