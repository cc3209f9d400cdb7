//! A user changes the password (`PATCH /scim2/Me`), with the pre-update password action (contract v2) in between. It is
//! fail-closed: without a good answer the password stays.

use serde_json::Value;
use serde_json::json;

use crate::action;
use crate::action::Action;
use crate::app::Ctx;
use crate::management;
use crate::response::Response;
use crate::scim;
use crate::seed::User;
use crate::seed::random_uuid;
use crate::store::UserRef;
use crate::webhooks::Event;

/// The claim by which a user is known at the login form.
const USERNAME_CLAIM: &str = "http://wso2.org/claims/username";

/// The door.
pub(crate) async fn change(ctx: &Ctx<'_>) -> Response {
    let Some(principal) = management::authenticate(ctx) else {
        return scim::error(401, "Authorization failure")
            .with_header("WWW-Authenticate", "Basic realm=\"localhost\"");
    };
    let user = principal
        .user()
        .and_then(|user| ctx.app.users().by_id(&user.id).cloned());
    let Some(user) = user else {
        return scim::error(404, "User not found");
    };
    let Some(password) = wanted(&ctx.request.body) else {
        return scim::error(400, "Only the password can be changed here");
    };
    if let Some(action) = ctx.app.password_action() {
        let answer = action.ask(&body(&action, ctx, &user, &password)).await;
        let refusal = match answer.as_ref().map(action::operations) {
            Some(Ok(_)) => None,
            Some(Err(error)) if error.code != "server_error" => {
                Some(scim::error(400, &error.description))
            }
            Some(Err(_)) | None => {
                Some(scim::error(500, "Error while updating attributes of user"))
            }
        };
        if let Some(refusal) = refusal {
            return refusal;
        }
    }
    ctx.app.users().set_password(&user.id(), &password);
    let changed = UserRef {
        id: user.id(),
        username: user.username.clone(),
    };
    ctx.app
        .webhooks
        .publish(ctx, &Event::CredentialUpdated { user: &changed });
    scim::scim_json(200, &scim::describe(ctx, &user))
}

/// The new password in a PATCH.
fn wanted(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let password = body.pointer("/Operations/0/value/password")?.as_str()?;
    (!password.is_empty()).then(|| password.to_owned())
}

fn body(action: &Action, ctx: &Ctx<'_>, user: &User, password: &str) -> Value {
    let organization = action::organization(ctx);
    let claims: Vec<Value> = action
        .attributes()
        .iter()
        .filter(|uri| *uri == USERNAME_CLAIM)
        .map(|uri| json!({"uri": uri, "value": user.username}))
        .collect();
    json!({
        "actionType": "PRE_UPDATE_PASSWORD",
        "requestId": random_uuid(),
        "event": {
            "tenant": {"id": ctx.realm.tenant_id.to_string(), "name": ctx.realm.tenant},
            "organization": organization,
            "user": {
                "id": user.id(),
                "organization": organization,
                "claims": claims,
                "groups": [],
                "updatingCredential": {"type": "PASSWORD", "format": "PLAIN_TEXT", "value": password},
            },
            "userStore": {"id": "UFJJTUFSWQ==", "name": "PRIMARY"},
            "initiatorType": "USER",
            "action": "UPDATE",
        },
        "allowedOperations": [],
    })
}
