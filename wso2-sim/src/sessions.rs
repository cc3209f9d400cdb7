//! `/api/users/v1/.../sessions`: list and end sessions. This is the lever by which a gateway ends a session on high risk.

use serde_json::Value;
use serde_json::json;

use crate::app::Ctx;
use crate::logout;
use crate::management;
use crate::response::Response;
use crate::store::Session;

const VIEW: &str = "internal_session_view";
const DELETE: &str = "internal_session_delete";

/// The part of the path after `/api/users/v1/`.
pub(crate) fn answer(ctx: &Ctx<'_>, rest: &str) -> Response {
    let Some(principal) = management::authenticate(ctx) else {
        return management::unauthorized(ctx);
    };
    let is_delete = match ctx.request.method.as_str() {
        "GET" => false,
        "DELETE" => true,
        _ => return Response::empty(405),
    };
    let is_allowed = principal.has_scope(if is_delete { DELETE } else { VIEW });
    let segments: Vec<&str> = rest.split('/').collect();
    let (user_id, session_id) = match segments.as_slice() {
        ["sessions"] if !is_delete => {
            return if is_allowed {
                search(ctx)
            } else {
                management::forbidden(ctx)
            };
        }
        ["me", "sessions"] => (None, None),
        ["me", "sessions", id] => (None, Some(*id)),
        [user, "sessions"] => (Some((*user).to_owned()), None),
        [user, "sessions", id] => (Some((*user).to_owned()), Some(*id)),
        _ => return management::not_found(ctx),
    };
    let user_id = match (user_id, principal.user()) {
        (None, Some(user)) => user.id.clone(),
        (Some(id), _) if is_allowed => id,
        _ => return management::forbidden(ctx),
    };
    if is_delete {
        return delete(ctx, &user_id, session_id);
    }
    let sessions = of_user(ctx, &user_id);
    match session_id {
        None if ctx.app.users().by_id(&user_id).is_none() => management::not_found(ctx),
        None => {
            let list: Vec<Value> = sessions
                .iter()
                .map(|(key, session)| describe(ctx, key, session))
                .collect();
            Response::json(200, &json!({"userId": user_id, "sessions": list}))
        }
        Some(id) => match sessions.iter().find(|(key, _)| key == id) {
            Some((key, session)) => Response::json(200, &describe(ctx, key, session)),
            None => management::not_found(ctx),
        },
    }
}

fn delete(ctx: &Ctx<'_>, user_id: &str, session_id: Option<&str>) -> Response {
    for (key, _) in of_user(ctx, user_id) {
        if session_id.is_none_or(|id| id == key) {
            logout::end(ctx, &key, "ADMIN");
        }
    }
    Response::empty(204)
}

/// Every session of the realm, newest login first.
fn search(ctx: &Ctx<'_>) -> Response {
    let mut found = matching(ctx, |_| true);
    found.sort_by_key(|(_, session)| std::cmp::Reverse(session.login_ms));
    let limit = ctx
        .request
        .params()
        .and_then(|params| params.get("limit")?.parse::<usize>().ok())
        .unwrap_or(20);
    let resources: Vec<Value> = found
        .iter()
        .take(limit)
        .map(|(key, session)| {
            let mut item = describe(ctx, key, session);
            crate::issue::put(&mut item, "userId", json!(session.user.id));
            json!({"session": item})
        })
        .collect();
    Response::json(200, &json!({"Resources": resources}))
}

fn of_user(ctx: &Ctx<'_>, user_id: &str) -> Vec<(String, Session)> {
    matching(ctx, |session| session.user.id == user_id)
}

fn matching(ctx: &Ctx<'_>, condition: impl Fn(&Session) -> bool) -> Vec<(String, Session)> {
    let store = ctx.app.store();
    store
        .sessions
        .iter()
        .filter(|(_, session)| session.realm == ctx.realm.key && condition(session))
        .map(|(key, session)| (key.clone(), session.clone()))
        .collect()
}

fn describe(ctx: &Ctx<'_>, key: &str, session: &Session) -> Value {
    let applications: Vec<Value> = session
        .clients
        .iter()
        .filter_map(|id| ctx.client(id))
        .map(|client| {
            let id = client.app_id();
            json!({"id": id, "subject": session.user.username, "appName": client.app_name, "appId": id})
        })
        .collect();
    json!({
        "id": key,
        "applications": applications,
        "userAgent": session.user_agent,
        "ip": session.client_ip,
        "loginTime": session.login_ms.to_string(),
        "lastAccessTime": session.last_ms.to_string(),
    })
}
