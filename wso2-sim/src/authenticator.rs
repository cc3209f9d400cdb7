//! A custom authenticator as the last step of a login (action type AUTHENTICATION): the call as WSO2 makes it, and what its
//! answer does to the login. It is fail-closed.

use serde_json::Value;
use serde_json::json;

use crate::action;
use crate::action::Action;
use crate::app::Ctx;
use crate::login;
use crate::login::Progress;
use crate::response::Response;
use crate::seed::Client;
use crate::seed::random_uuid;
use crate::store::Flow;
use crate::store::Step;
use crate::store::UserRef;

/// What the authenticator said.
enum Said {
    Failed,
    /// The browser has something to do at this address first.
    Incomplete(String),
    Success,
}

/// The custom authenticator where the application has one, else the end.
pub(crate) fn last_step(
    ctx: &Ctx<'_>,
    client: &Client,
    flow: &mut Flow,
    user: UserRef,
    remembers: bool,
) -> Progress {
    if client.has_authenticator {
        flow.step = Step::Custom;
        return Progress::Custom;
    }
    login::complete(ctx, client, flow, user, remembers)
}

/// Asks the custom authenticator, at first and when the browser comes back from where it was sent.
pub(crate) async fn step(ctx: &Ctx<'_>, flow: Flow, remembers: bool) -> Response {
    let said = call(ctx, &flow).await;
    let client = ctx.client(&flow.request.client_id);
    let (Some(client), Some(user)) = (client, flow.user.clone()) else {
        return ctx.retry("authentication.context.null");
    };
    let progress = match said {
        Said::Failed => Progress::Refused("custom authentication failed"),
        Said::Incomplete(url) => return Response::redirect(url),
        Said::Success => login::complete(ctx, client, &flow, user, remembers),
    };
    ctx.app.store().flows.remove(&flow.key);
    login::respond(ctx, &flow, progress)
}

/// Calls it for a login.
async fn call(ctx: &Ctx<'_>, flow: &Flow) -> Said {
    let settings = ctx.app.config.authenticator.clone();
    let Some(action) = settings.and_then(|settings| Action::new(settings).ok()) else {
        return Said::Failed;
    };
    let answer = action.call(&body(ctx, flow)).await.unwrap_or(Value::Null);
    match answer.get("actionStatus").and_then(Value::as_str) {
        Some("SUCCESS") => Said::Success,
        Some("INCOMPLETE") => answer
            .pointer("/operations/0/url")
            .and_then(Value::as_str)
            .map_or(Said::Failed, |url| Said::Incomplete(url.to_owned())),
        _ => Said::Failed,
    }
}

fn body(ctx: &Ctx<'_>, flow: &Flow) -> Value {
    let steps: Vec<Value> = flow
        .methods
        .iter()
        .zip(1..)
        .map(|(name, index)| json!({ "index": index, "name": name }))
        .collect();
    let user = flow.user.as_ref();
    json!({
        "actionType": "AUTHENTICATION",
        "flowId": flow.key,
        "requestId": random_uuid(),
        "event": {
            "tenant": { "id": ctx.realm.tenant_id.to_string(), "name": ctx.realm.tenant },
            "organization": action::organization(ctx),
            "user": {
                "id": user.map(|user| user.id.clone()),
                "sub": user.map(|user| user.username.clone()),
                "userIdentitySource": "LOCAL",
            },
            "userStore": { "id": "UFJJTUFSWQ==", "name": "PRIMARY" },
            "application": { "id": flow.request.client_id, "name": flow.request.client_id },
            "currentStepIndex": steps.len() + 1,
            "authenticatedSteps": steps,
        },
        "allowedOperations": [{ "op": "redirect" }],
    })
}
