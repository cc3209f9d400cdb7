//! App-native authentication: `response_mode=direct` and POST `/oauth2/authn`. Failures of the user are 200, failures of the
//! caller 400. It must not decide about credentials itself.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use crate::app::Ctx;
use crate::authorize;
use crate::authorize::BASIC;
use crate::authorize::ResponseMode;
use crate::grant_response;
use crate::identifier;
use crate::identifier::IDENTIFIER;
use crate::login;
use crate::login::Credentials;
use crate::login::Progress;
use crate::options;
use crate::response::Response;
use crate::store::Flow;
use crate::store::Step;
use crate::users::Check;

/// POST `/oauth2/authn`.
pub(crate) fn answer(ctx: &Ctx<'_>) -> Response {
    if ctx.request.media_type() != "application/json" {
        return Response::empty(415);
    }
    let Ok(body) = serde_json::from_slice::<Value>(&ctx.request.body) else {
        return bad_request(
            ctx,
            "ABA-60001",
            "Invalid request",
            "The request body is not JSON.",
        );
    };
    let Some(flow) = body
        .get("flowId")
        .and_then(Value::as_str)
        .and_then(|key| login::live_flow(ctx, key))
        .filter(|flow| flow.request.mode == ResponseMode::Direct)
    else {
        return bad_request(
            ctx,
            "ABA-60001",
            "Invalid request",
            "Invalid flow identifier.",
        );
    };
    let chosen = body
        .pointer("/selectedAuthenticator/authenticatorId")
        .and_then(Value::as_str);
    let mut options = options::of(ctx, flow.step).iter();
    let Some(chosen) = options.find(|name| chosen == Some(authenticator_id(name).as_str())) else {
        let detail = "The selected authenticator is not an option of the current step.";
        return bad_request(ctx, "ABA-60002", "Invalid authenticator.", detail);
    };
    let param = |name: &str| {
        body.pointer("/selectedAuthenticator/params")
            .and_then(|params| params.get(name))
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    // What is picked among several and not tried yet is asked for alone.
    if *chosen == options::PASSKEY || (flow.step == Step::Options && param("token").is_empty()) {
        return Response::json(200, &flow_state(ctx, &flow, "INCOMPLETE", &[chosen]));
    }
    let credentials = match flow.step {
        Step::Identifier => {
            return match identifier::named(ctx, flow, param("username")) {
                Some(flow) => {
                    let page = prompt(ctx, &flow);
                    ctx.app.store().flows.insert(flow.key.clone(), flow);
                    page
                }
                None => {
                    let detail = "A required parameter of the authenticator is missing.";
                    bad_request(ctx, "ABA-60001", "Invalid request", detail)
                }
            };
        }
        Step::Password => Credentials::Password {
            username: identifier::agreed(&flow, param("username")),
            password: param("password"),
        },
        Step::Custom | Step::Options | Step::Totp => Credentials::Totp {
            code: param("token"),
        },
    };
    let (flow, progress) = login::submit(ctx, flow, credentials, false);
    match progress {
        Progress::Done { outcome, cookie } => {
            ctx.app.store().outcomes.remove(&flow.caller_key);
            authorize::finish(ctx, *outcome).with_header("Set-Cookie", cookie)
        }
        Progress::Incomplete => {
            let detail = "A required parameter of the authenticator is missing.";
            bad_request(ctx, "ABA-60001", "Invalid request", detail)
        }
        Progress::Enrol | Progress::NoSecondFactor => no_second_factor(ctx),
        Progress::Custom => bad_request(
            ctx,
            "ABA-60003",
            "Authentication failed.",
            "not supported here",
        ),
        Progress::Refused(message) => {
            bad_request(ctx, "ABA-60003", "Authentication failed.", message)
        }
        Progress::StepTwo => prompt(ctx, &flow),
        Progress::Wrong { check, .. } => {
            let options = options::of(ctx, flow.step);
            let mut state = flow_state(ctx, &flow, "FAIL_INCOMPLETE", options);
            if let Some(step) = state.get_mut("nextStep") {
                let shows_reason = ctx.app.config.show_auth_failure_reason;
                set(step, "messages", json!([message(&check, shows_reason)]));
            }
            Response::json(200, &state)
        }
    }
}

/// 200 with the step that the login waits for.
pub(crate) fn prompt(ctx: &Ctx<'_>, flow: &Flow) -> Response {
    let options = options::of(ctx, flow.step);
    Response::json(200, &flow_state(ctx, flow, "INCOMPLETE", options))
}

/// 200 with the authorization response.
pub(crate) fn success(params: &[(String, String)]) -> Response {
    Response::json(
        200,
        &json!({
            "flowStatus": "SUCCESS_COMPLETED",
            "authData": grant_response::auth_data(params),
        }),
    )
}

/// The login cannot go on: the user has no authenticator app.
pub(crate) fn no_second_factor(ctx: &Ctx<'_>) -> Response {
    let detail = "The user has not enrolled the authenticator that the step needs.";
    bad_request(ctx, "ABA-60003", "Authentication failed.", detail)
}

fn bad_request(ctx: &Ctx<'_>, code: &str, message: &str, description: &str) -> Response {
    Response::api_error(400, code, message, description, &ctx.trace_id())
}

/// `base64url("<name>:<idp>")` without padding.
fn authenticator_id(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{name}:LOCAL"))
}

/// One of the options of a step. What it takes is said where there is no choice, and of a password.
fn option(name: &str, is_alone: bool) -> Value {
    let param = |name: &str, order: u8, key: &str, label: &str, is_confidential: bool| {
        json!({"param": name, "type": "STRING", "order": order, "i18nKey": key,
            "displayName": label, "confidential": is_confidential})
    };
    let (label, key, params, required) = match name {
        BASIC => (
            "Username & Password",
            "authenticator.basic",
            vec![
                param("username", 1, "username.param", "Username", false),
                param("password", 2, "password.param", "Password", true),
            ],
            vec!["username", "password"],
        ),
        IDENTIFIER => (
            "Identifier First",
            "authenticator.identifier",
            vec![param("username", 1, "username.param", "Username", false)],
            vec!["username"],
        ),
        options::PASSKEY => (
            "Passkey",
            "authenticator.fido",
            vec![],
            vec!["tokenResponse"],
        ),
        _ => (
            "TOTP",
            "authenticator.totp",
            vec![param(
                "token",
                1,
                "totp.authenticator.token.param",
                "Token",
                true,
            )],
            vec!["token"],
        ),
    };
    let mut option = json!({
        "authenticatorId": authenticator_id(name),
        "authenticator": label,
        "idp": "LOCAL",
        "metadata": {"i18nKey": key},
    });
    if is_alone || name == BASIC {
        let metadata = json!({"i18nKey": key, "promptType": "USER_PROMPT", "params": params});
        set(&mut option, "metadata", metadata);
        set(&mut option, "requiredParams", json!(required));
    }
    option
}

fn flow_state(ctx: &Ctx<'_>, flow: &Flow, status: &str, options: &[&str]) -> Value {
    let is_alone = options.len() == 1;
    let kind = match is_alone {
        true => "AUTHENTICATOR_PROMPT",
        false => "MULTI_OPTIONS_PROMPT",
    };
    let options: Vec<_> = options.iter().map(|name| option(name, is_alone)).collect();
    json!({
        "flowId": flow.key,
        "flowStatus": status,
        "flowType": "AUTHENTICATION",
        "nextStep": {"stepType": kind, "authenticators": options},
        "links": [{"name": "authentication", "href": ctx.url("/oauth2/authn"), "method": "POST"}],
    })
}

/// The message of a failed step. A lock looks like a wrong password unless the server shows reasons.
fn message(check: &Check, shows_reason: bool) -> Value {
    let (id, text, context) = match check {
        Check::Locked { by_admin } if shows_reason => {
            let reason = if *by_admin {
                "ADMIN_INITIATED"
            } else {
                "MAX_ATTEMPTS_EXCEEDED"
            };
            let context = json!([{"key": "lockedReason", "value": reason}]);
            ("17003", "Account is locked.", context)
        }
        Check::Wrong { remaining: 0 } if shows_reason => {
            let context = json!([
                {"key": "lockedReason", "value": "MAX_ATTEMPTS_EXCEEDED"},
                {"key": "remainingAttempts", "value": "0"},
            ]);
            ("17003", "Account is locked.", context)
        }
        Check::Wrong { remaining } if *remaining > 0 => {
            let context = json!([{"key": "remainingAttempts", "value": remaining.to_string()}]);
            ("17002", "Invalid credentials.", context)
        }
        Check::Locked { .. } | Check::Passed(_) | Check::Unknown | Check::Wrong { .. } => {
            ("17002", "Invalid credentials.", json!([]))
        }
    };
    let mut message = json!({
        "type": "ERROR", "messageId": id, "message": text, "i18nKey": format!("message.{id}"),
    });
    // Empty members are left out.
    if context.as_array().is_some_and(|items| !items.is_empty()) {
        set(&mut message, "context", context);
    }
    message
}

fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}
