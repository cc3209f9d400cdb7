//! The authorization response: code and tokens for a user that is known, in the mode that was asked for. It must not decide
//! whether the user may have them.

use serde_json::json;
use sha2::Digest;
use sha2::Sha256;

use crate::app::Ctx;
use crate::app::pairs;
use crate::authn;
use crate::authorize::AuthorizeRequest;
use crate::authorize::Purpose;
use crate::authorize::ResponseMode;
use crate::device;
use crate::exchange;
use crate::federation;
use crate::issue;
use crate::response::Response;
use crate::response::append_params;
use crate::response::escape_html;
use crate::seed::random_uuid;
use crate::store::Code;
use crate::store::GrantInfo;
use crate::store::Outcome;
use crate::store::hex;

/// Gives the client, or the device or service provider, what it waits for.
pub(crate) fn deliver(ctx: &Ctx<'_>, outcome: &Outcome) -> Response {
    match &outcome.request.purpose {
        Purpose::Device { device_code } => return device::approve(ctx, device_code, outcome),
        Purpose::Saml => return federation::deliver(ctx, outcome),
        Purpose::Oidc => {}
    }
    let request = &outcome.request;
    let Ok((mut params, opbs)) = response_params(ctx, outcome) else {
        return Response::empty(500);
    };
    params.extend(
        request
            .state
            .clone()
            .map(|state| ("state".to_owned(), state)),
    );
    let response = if request.mode == ResponseMode::Direct {
        authn::success(&params)
    } else {
        send(&request.redirect_uri, request.mode, &params)
    };
    response.with_header("Set-Cookie", ctx.cookie("opbs", &opbs, false, None))
}

/// Sends parameters to a redirect URI.
pub(crate) fn send(
    redirect_uri: &str,
    mode: ResponseMode,
    params: &[(String, String)],
) -> Response {
    match mode {
        ResponseMode::Direct | ResponseMode::Query => {
            Response::redirect(append_params(redirect_uri, params, false))
        }
        ResponseMode::Fragment => Response::redirect(append_params(redirect_uri, params, true)),
        ResponseMode::FormPost => Response::html(200, self_posting_form(redirect_uri, params)),
    }
}

/// A page that posts its fields at once, or by its button where scripts are off.
pub(crate) fn self_posting_form(action: &str, fields: &[(String, String)]) -> String {
    let inputs: String = fields
        .iter()
        .map(|(name, value)| {
            format!(
                "<input type=\"hidden\" name=\"{}\" value=\"{}\">",
                escape_html(name),
                escape_html(value)
            )
        })
        .collect();
    format!(
        "<!doctype html><html lang=\"en\"><head><title>Submit this form</title></head>\
         <body onload=\"document.forms[0].submit()\"><form method=\"post\" action=\"{}\">{inputs}\
         <noscript><button type=\"submit\">Continue</button></noscript></form></body></html>",
        escape_html(action)
    )
}

/// The response's parameters but `state`, and the value of the `opbs` cookie.
fn response_params(
    ctx: &Ctx<'_>,
    outcome: &Outcome,
) -> anyhow::Result<(Vec<(String, String)>, String)> {
    let request = &outcome.request;
    let grant = grant_of(outcome, "implicit");
    let mut params = Vec::new();
    let mut code = None;
    if request.has_response_type("code") {
        let fresh = random_uuid();
        ctx.app.store().codes.insert(
            fresh.clone(),
            Code {
                outcome: outcome.clone(),
                expires_ms: ctx.expiry_ms(ctx.validity().code),
                is_used: false,
                family: random_uuid(),
            },
        );
        params.push(("code".to_owned(), fresh.clone()));
        code = Some(fresh);
    }
    let mut access_token = None;
    if request.has_response_type("token") {
        let token = issue::front_channel_token(ctx, &grant)?;
        let expires_s = ctx.validity().access_token.as_secs();
        params.extend(pairs(&[
            ("access_token", &token),
            ("token_type", "Bearer"),
            ("expires_in", &expires_s.to_string()),
            ("scope", &grant.scopes.join(" ")),
        ]));
        access_token = Some(token);
    }
    if request.has_response_type("id_token") {
        let claims = issue::IdTokenParts {
            access_token: access_token.as_deref(),
            code: code.as_deref(),
            state: request.state.as_deref(),
        };
        let id_token = issue::id_token(ctx, &grant, &claims)?;
        params.push(("id_token".to_owned(), id_token));
    }
    if request.has_response_type(exchange::SUBJECT_TOKEN) {
        let token = exchange::subject_token(ctx, request, &grant)?;
        params.push((exchange::SUBJECT_TOKEN.to_owned(), token));
    }
    let opbs = opbs(ctx, outcome);
    params.push((
        "session_state".to_owned(),
        session_state(request, &opbs, &random_uuid()),
    ));
    Ok((params, opbs))
}

/// The grant that an authentication gives rise to.
pub(crate) fn grant_of(outcome: &Outcome, grant_type: &str) -> GrantInfo {
    GrantInfo {
        realm: outcome.realm.clone(),
        client_id: outcome.request.client_id.clone(),
        grant_type: grant_type.to_owned(),
        user: Some(outcome.user.clone()),
        scopes: outcome.request.scopes.clone(),
        methods: outcome.methods.clone(),
        acr: outcome.acr.clone(),
        auth_time_s: outcome
            .request
            .wants_auth_time
            .then_some(outcome.auth_time_s),
        nonce: outcome.request.nonce.clone(),
        session_key: Some(outcome.session_key.clone()),
        consent_key: Some(outcome.consent_key.clone()),
        family: random_uuid(),
        claims: serde_json::Map::new(),
        actor: None,
    }
}

fn opbs(ctx: &Ctx<'_>, outcome: &Outcome) -> String {
    ctx.app
        .store()
        .sessions
        .get(&outcome.session_key)
        .map_or_else(random_uuid, |session| session.opbs.clone())
}

/// `session_state` (OpenID Connect Session Management section 2): hash over client, origin, browser state and salt.
fn session_state(request: &AuthorizeRequest, opbs: &str, salt: &str) -> String {
    let origin: String = request
        .redirect_uri
        .splitn(4, '/')
        .take(3)
        .collect::<Vec<_>>()
        .join("/");
    let text = format!("{} {origin} {opbs} {salt}", request.client_id);
    format!("{}.{salt}", hex(&Sha256::digest(text.as_bytes())))
}

/// The `authData` of an app-native success.
pub(crate) fn auth_data(params: &[(String, String)]) -> serde_json::Value {
    let members: serde_json::Map<_, _> = params
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    serde_json::Value::Object(members)
}
