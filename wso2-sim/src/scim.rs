//! A little SCIM 2 (RFC 7644): `/scim2/Me`, `/scim2/Users`. Enough for a gateway that treats HTTP Basic as a login and locks
//! accounts.

use serde_json::Value;
use serde_json::json;

use crate::app::Ctx;
use crate::management;
use crate::response::Response;
use crate::seed::User;
use crate::users::EMAIL_DOMAIN;

const WSO2_SCHEMA: &str = "urn:scim:wso2:schema";
/// Users on one page at most.
const COUNT_MAX: usize = 100;
/// Users on one page where the client does not say.
const COUNT_DEFAULT: usize = 15;

/// The door; `path` is the full path.
pub(crate) fn answer(ctx: &Ctx<'_>, path: &str) -> Response {
    let Some(principal) = management::authenticate(ctx) else {
        return error(401, "Authorization failure")
            .with_header("WWW-Authenticate", "Basic realm=\"localhost\"");
    };
    let method = ctx.request.method.as_str();
    if path == "/scim2/Me" {
        let user = principal
            .user()
            .and_then(|user| ctx.app.users().by_id(&user.id).cloned())
            .or_else(|| {
                let (name, _) = ctx.request.basic_credentials()?;
                let users = ctx.app.users();
                users
                    .find(&ctx.realm.key, &ctx.realm.tenant, &name)
                    .cloned()
            });
        return match (method, user) {
            ("GET", Some(user)) => scim_json(200, &describe(ctx, &user)),
            ("GET", None) => error(404, "User not found"),
            _ => error(405, "Method not allowed"),
        };
    }
    let scope = match method {
        "GET" if path == "/scim2/Users" => "internal_user_mgt_list",
        "GET" => "internal_user_mgt_view",
        "PATCH" if path != "/scim2/Users" => "internal_user_mgt_update",
        _ => return error(405, "Method not allowed"),
    };
    if !principal.has_scope(scope) {
        return error(
            403,
            "Operation is not permitted. You do not have permissions to make this request.",
        );
    }
    let Some(id) = path.strip_prefix("/scim2/Users/") else {
        return list(ctx);
    };
    let user = ctx.app.users().by_id(id).cloned();
    let Some(user) = user.filter(|user| user.realm == ctx.realm.key) else {
        return error(404, "User not found");
    };
    if method == "PATCH" {
        let Some(is_locked) = wanted_lock(&ctx.request.body) else {
            return error(400, "Only accountLocked can be changed here");
        };
        ctx.app.users().set_locked(id, is_locked);
    }
    scim_json(200, &describe(ctx, &user))
}

fn list(ctx: &Ctx<'_>) -> Response {
    let params = ctx.request.params().unwrap_or_default();
    let number = |name: &str, default: usize| {
        let text = params.get(name);
        text.and_then(|text| text.parse::<usize>().ok())
            .unwrap_or(default)
    };
    let wanted = match params.get("filter") {
        None => None,
        Some(filter) => match filter
            .split_ascii_whitespace()
            .collect::<Vec<_>>()
            .as_slice()
        {
            [attribute, "eq", name] if attribute.eq_ignore_ascii_case("userName") => {
                Some(name.trim_matches('"').to_owned())
            }
            _ => return error(400, "Only filters of the form userName eq x are supported"),
        },
    };
    let mut users: Vec<User> = ctx
        .app
        .users()
        .of_realm(&ctx.realm.key)
        .filter(|user| {
            wanted
                .as_ref()
                .is_none_or(|name| user.username.eq_ignore_ascii_case(name))
        })
        .cloned()
        .collect();
    users.sort_by(|one, other| one.username.cmp(&other.username));
    let start = number("startIndex", 1).max(1);
    let count = number("count", COUNT_DEFAULT).min(COUNT_MAX);
    let page: Vec<Value> = users
        .iter()
        .skip(start - 1)
        .take(count)
        .map(|user| describe(ctx, user))
        .collect();
    scim_json(
        200,
        &json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
            "totalResults": users.len(),
            "startIndex": start,
            "itemsPerPage": page.len(),
            "Resources": page,
        }),
    )
}

/// The new state of `accountLocked` in a PATCH, with or without a path.
fn wanted_lock(body: &[u8]) -> Option<bool> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let operation = body.get("Operations")?.get(0)?;
    let value = operation.get("value")?;
    let named = value
        .get(WSO2_SCHEMA)
        .and_then(|schema| schema.get("accountLocked"))
        .or_else(|| {
            let path = operation.get("path")?.as_str()?;
            path.ends_with(":accountLocked").then_some(value)
        })?;
    match named {
        Value::Bool(is_locked) => Some(*is_locked),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

pub(crate) fn describe(ctx: &Ctx<'_>, user: &User) -> Value {
    let id = user.id();
    let is_locked = ctx.app.users().is_locked(&id, ctx.now_ms);
    let location = ctx.url(&format!("/scim2/Users/{id}"));
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User", WSO2_SCHEMA],
        "id": id,
        "userName": user.username,
        "emails": [format!("{}{EMAIL_DOMAIN}", user.username)],
        "meta": {"resourceType": "User", "location": location},
        WSO2_SCHEMA: {"accountLocked": is_locked},
    })
}

pub(crate) fn scim_json(status: u16, value: &Value) -> Response {
    let mut response = Response::json(status, value);
    response.headers = vec![("Content-Type", "application/scim+json".to_owned())];
    response
}

pub(crate) fn error(status: u16, detail: &str) -> Response {
    scim_json(
        status,
        &json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
            "detail": detail,
            "status": status.to_string(),
        }),
    )
}
