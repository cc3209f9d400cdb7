//! The device grant (RFC 8628): codes for the device, the page where the user enters one, polling.

use serde_json::json;

use crate::app::Ctx;
use crate::app::pairs;
use crate::authorize;
use crate::authorize::AuthorizeRequest;
use crate::authorize::Purpose;
use crate::authorize::ResponseMode;
use crate::authorize::words;
use crate::client_auth;
use crate::oauth_error::OAuthError;
use crate::request::Params;
use crate::response::Response;
use crate::seed::Client;
use crate::seed::random_uuid;
use crate::store::Device;
use crate::store::DeviceState;
use crate::store::Outcome;

/// Pause between polls that the device is told.
const INTERVAL_S: i64 = 5;
/// Length of a user code.
const USER_CODE_LEN: usize = 6;
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// POST `/oauth2/device_authorize`.
pub(crate) fn authorize(ctx: &Ctx<'_>) -> Response {
    let Some(params) = ctx.request.params() else {
        return Response::empty(415);
    };
    match hand_out(ctx, &params) {
        Ok((device_code, user_code)) => {
            let page = ctx.url("/authenticationendpoint/device.do");
            Response::token_json(
                200,
                &json!({
                    "device_code": device_code,
                    "user_code": user_code,
                    "verification_uri": page,
                    "verification_uri_complete": format!("{page}?user_code={user_code}"),
                    "expires_in": ctx.validity().device_code.as_secs(),
                    "interval": INTERVAL_S,
                }),
            )
        }
        Err(error) => error.response(ctx),
    }
}

fn hand_out(ctx: &Ctx<'_>, params: &Params) -> Result<(String, String), OAuthError> {
    let client = client_auth::authenticate_for(ctx, params, GRANT_TYPE)?;
    let device_code = random_uuid();
    let user_code: String = random_uuid()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(USER_CODE_LEN)
        .collect();
    let device = Device {
        realm: ctx.realm.key.clone(),
        client_id: client.client_id.clone(),
        user_code: user_code.clone(),
        scope: params.get("scope").unwrap_or_default().to_owned(),
        state: DeviceState::Pending,
        expires_ms: ctx.expiry_ms(ctx.validity().device_code),
        polled_ms: 0,
    };
    ctx.app.store().devices.insert(device_code.clone(), device);
    Ok((device_code, user_code))
}

/// POST `/oauth2/device`: the user typed a code; a login for the device's client begins.
pub(crate) fn enter_code(ctx: &Ctx<'_>) -> Response {
    let Some(params) = ctx.request.params() else {
        return Response::empty(415);
    };
    let typed = params.get("user_code").unwrap_or_default().to_owned();
    begin(ctx, &typed, "device")
        .unwrap_or_else(|| ctx.to_page("device.do", &pairs(&[("error", "invalid.code")])))
}

/// Begins the login that approves what was handed out with `key`; `None` when nothing was, or somebody has begun before.
/// As in the real server the nonce of that login is what will be approved.
pub(crate) fn begin(ctx: &Ctx<'_>, key: &str, response_type: &str) -> Option<Response> {
    let found = ctx
        .app
        .store()
        .devices
        .iter()
        .find(|(_, device)| {
            device.user_code == key
                && device.realm == ctx.realm.key
                && device.expires_ms > ctx.now_ms
                && matches!(device.state, DeviceState::Pending)
        })
        .map(|(code, device)| (code.clone(), device.clone()));
    let (device_code, device) = found?;
    let client = ctx.client(&device.client_id)?;
    if let Some(device) = ctx.app.store().devices.get_mut(&device_code) {
        device.state = DeviceState::Entered;
    }
    let nonce = match response_type {
        "device" => device.user_code.clone(),
        _ => device_code.clone(),
    };
    let request = AuthorizeRequest {
        purpose: Purpose::Device { device_code },
        client_id: device.client_id,
        redirect_uri: ctx.url("/authenticationendpoint/device_success.do"),
        is_redirect_named: false,
        response_types: vec![response_type.to_owned()],
        mode: ResponseMode::Query,
        scopes: words(Some(&device.scope)),
        state: None,
        nonce: None,
        challenge: None,
        acr_values: None,
        max_age_s: None,
        prompts: Vec::new(),
        wants_auth_time: false,
        params: pairs(&[
            ("client_id", &client.client_id),
            ("nonce", &nonce),
            ("response_type", response_type),
            ("scope", &device.scope),
        ]),
    };
    Some(
        authorize::start(ctx, client, request)
            .unwrap_or_else(|refusal| authorize::refuse(ctx, refusal)),
    )
}

/// The user signed in for a device.
pub(crate) fn approve(ctx: &Ctx<'_>, device_code: &str, outcome: &Outcome) -> Response {
    if let Some(device) = ctx.app.store().devices.get_mut(device_code)
        && matches!(device.state, DeviceState::Entered)
    {
        device.state = DeviceState::Approved(Box::new(outcome.clone()));
    }
    ctx.to_page(
        "device_success.do",
        &pairs(&[("app_name", &outcome.request.client_id)]),
    )
}

/// A poll of the device (RFC 8628 section 3.5).
///
/// # Errors
///
/// `authorization_pending`, `slow_down`, `expired_token` or `invalid_grant`.
pub(crate) fn redeem(
    ctx: &Ctx<'_>,
    client: &Client,
    device_code: &str,
) -> Result<Outcome, OAuthError> {
    let mut store = ctx.app.store();
    let device = store
        .devices
        .get_mut(device_code)
        .filter(|device| device.realm == ctx.realm.key && device.client_id == client.client_id)
        .ok_or_else(|| OAuthError::invalid_grant("Invalid device code."))?;
    if device.expires_ms <= ctx.now_ms {
        return Err(OAuthError::new("expired_token", "Device code is expired."));
    }
    let since_poll_ms = ctx.now_ms.saturating_sub(device.polled_ms);
    device.polled_ms = ctx.now_ms;
    match std::mem::replace(&mut device.state, DeviceState::Used) {
        DeviceState::Approved(outcome) => Ok(*outcome),
        state @ (DeviceState::Entered | DeviceState::Pending) => {
            device.state = state;
            Err(if since_poll_ms < INTERVAL_S * 1000 {
                OAuthError::new("slow_down", "Polling too frequently.")
            } else {
                OAuthError::new("authorization_pending", "Precondition required")
            })
        }
        DeviceState::Used => Err(OAuthError::invalid_grant("Invalid device code.")),
    }
}
