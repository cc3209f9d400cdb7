//! Which door a request goes to, and the headers that every answer carries. It must not implement a door.

use std::time::Duration;
use std::time::UNIX_EPOCH;

use serde_json::json;

use crate::app::App;
use crate::app::Ctx;
use crate::authn;
use crate::authorize;
use crate::ciba;
use crate::device;
use crate::discovery;
use crate::federation;
use crate::introspect;
use crate::login;
use crate::logout;
use crate::management;
use crate::pages;
use crate::par;
use crate::password;
use crate::provider;
use crate::request::Request;
use crate::response::Response;
use crate::scim;
use crate::seed::Realm;
use crate::seed::SUPER_TENANT;
use crate::sessions;
use crate::target;
use crate::target::Route;
use crate::target::TargetError;
use crate::token;

/// A page for benches: no parsing of parameters, no state.
const STATIC_PAGE: &str = "<!doctype html><title>static</title><p>static page of the simulator</p>";

/// Answers one request.
pub(crate) async fn answer(app: &App, request: &Request) -> Response {
    let mut response = dispatch(app, request).await;
    let now_s = u64::try_from(app.clock.now_s()).unwrap_or(0);
    let date =
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now_s.min(253_402_300_799)));
    response.headers.extend([
        ("X-Frame-Options", "DENY".to_owned()),
        ("X-Content-Type-Options", "nosniff".to_owned()),
        ("X-XSS-Protection", "1; mode=block".to_owned()),
        ("Date", date),
        ("Server", "WSO2 Carbon Server".to_owned()),
    ]);
    response
}

async fn dispatch(app: &App, request: &Request) -> Response {
    if request.target == "/sim/static" {
        return Response::html(200, STATIC_PAGE.to_owned());
    }
    let route = match target::resolve(&request.target, request.header("host")) {
        Ok(route) => route,
        Err(error) => return refuse(error),
    };
    let Some(realm) = realm_of(app, &route) else {
        let tenant = route.org.or(route.tenant).unwrap_or_default();
        return Response::json(
            404,
            &json!({
                "code": 404,
                "message": format!("invalid tenant domain : {tenant}"),
                "description": "No tenant or organization of that name is active.",
            }),
        );
    };
    let ctx = Ctx {
        app,
        request,
        realm,
        now_ms: app.clock.now_ms(),
    };
    door(&ctx, &route).await
}

/// The realm of a route; `None` when the tenant or organization does not exist.
fn realm_of<'a>(app: &'a App, route: &Route) -> Option<&'a Realm> {
    let tenant = route.tenant.as_deref().unwrap_or(SUPER_TENANT);
    let key = route.org.as_deref().unwrap_or(tenant);
    app.config
        .realms
        .iter()
        .find(|realm| realm.key == key && realm.tenant == tenant)
}

fn refuse(error: TargetError) -> Response {
    let status = error.status();
    match error {
        TargetError::OrganizationPath => Response::json(
            404,
            &json!({"code": 404, "message": "Organization specific routing failed.",
                "description": "The path cannot be served for an organization."}),
        ),
        TargetError::Valve => {
            Response::empty(status).with_header("WWW-Authenticate", "Basic realm=\"localhost\"")
        }
        TargetError::Malformed | TargetError::NotAUri | TargetError::Undecodable => Response::html(
            status,
            format!(
                "<!doctype html><title>HTTP Status {status}</title><h1>HTTP Status {status}</h1>"
            ),
        ),
    }
}

async fn door(ctx: &Ctx<'_>, route: &Route) -> Response {
    let path = route.full_path();
    let method = ctx.request.method.as_str();
    let is_get = matches!(method, "GET" | "HEAD");
    let is_post = method == "POST";
    let is_protocol = matches!(
        path.as_str(),
        "/oauth2/authorize"
            | "/oauth2/ciba_authorize"
            | "/oauth2/device"
            | "/samlsso"
            | "/passivests"
    );
    if is_protocol && (is_get || is_post) && login::is_asked_in_place(ctx.request) {
        return login::answer(ctx).await;
    }
    match path.as_str() {
        "/oauth2/authorize" if is_get || is_post => authorize::answer(ctx),
        "/oauth2/token" if is_post => token::answer(ctx).await,
        "/oauth2/authn" if is_post => authn::answer(ctx),
        "/oauth2/introspect" if is_post => introspect::introspect(ctx),
        "/oauth2/revoke" if is_post => introspect::revoke(ctx),
        "/oauth2/userinfo" if is_get || is_post => introspect::userinfo(ctx),
        "/oauth2/jwks" if is_get => discovery::jwks(ctx),
        "/oauth2/par" if is_post => par::answer(ctx),
        "/oauth2/device_authorize" if is_post => device::authorize(ctx),
        "/oauth2/device" if is_post => device::enter_code(ctx),
        "/oauth2/ciba" if is_post => ciba::authorize(ctx),
        "/oauth2/ciba_authorize" if is_get => ciba::open_link(ctx),
        "/oauth2/token/.well-known/openid-configuration"
        | "/oauth2/oidcdiscovery/.well-known/openid-configuration"
        | "/oauth2/token/.well-known/oauth-authorization-server"
        | "/.well-known/openid-configuration"
            if is_get =>
        {
            discovery::configuration(ctx)
        }
        "/commonauth" if is_get || is_post => match provider::answer(ctx) {
            Some(answer) => answer,
            None => login::answer(ctx).await,
        },
        "/logincontext" if is_get => login::context(ctx),
        "/oidc/logout" if is_get || is_post => logout::answer(ctx),
        "/samlsso" | "/passivests" if is_get || is_post => federation::answer(ctx, &path),
        "/scim2/Me" if method == "PATCH" => password::change(ctx).await,
        "/scim2/Me" | "/scim2/Users" => scim::answer(ctx, &path),
        "/api/identity/entitlement/decision/pdp" if is_post => management::decide(ctx),
        "/api/server/v1/flow/execute" if is_post => management::flow(ctx),
        "/sim/echo" => echo(ctx, route),
        "/sim/health" => Response::json(200, &json!({"status": "up"})),
        "/oauth2/authorize"
        | "/oauth2/token"
        | "/oauth2/authn"
        | "/oauth2/introspect"
        | "/oauth2/revoke"
        | "/oauth2/userinfo"
        | "/oauth2/jwks"
        | "/oauth2/par"
        | "/oauth2/device_authorize"
        | "/oauth2/device" => Response::empty(405),
        other => other_doors(ctx, other, is_get),
    }
}

/// The doors whose paths have variable parts.
fn other_doors(ctx: &Ctx<'_>, path: &str, is_get: bool) -> Response {
    if path.starts_with("/scim2/Users/") {
        return scim::answer(ctx, path);
    }
    if let Some(rest) = path.strip_prefix("/api/users/v1/") {
        return sessions::answer(ctx, rest);
    }
    if path.starts_with("/api/") || path.starts_with("/scim2/") {
        return management::unknown(ctx);
    }
    if let Some(page) = path.strip_prefix("/authenticationendpoint/")
        && is_get
    {
        return pages::answer(ctx, page);
    }
    let is_portal = ["/console", "/myaccount", "/carbon", "/services"]
        .iter()
        .any(|portal| path == *portal || path.starts_with(&format!("{portal}/")));
    if is_portal && is_get {
        return pages::portal(path);
    }
    Response::html(
        404,
        "<!doctype html><title>Not found</title><h1>Not found</h1>".to_owned(),
    )
}

/// The simulator's own debugging door: what the application saw.
fn echo(ctx: &Ctx<'_>, route: &Route) -> Response {
    let headers: Vec<_> = ctx
        .request
        .headers
        .iter()
        .map(|(name, value)| json!([name, value]))
        .collect();
    Response::json(
        200,
        &json!({
            "method": ctx.request.method,
            "target": ctx.request.target,
            "context": route.context,
            "path": route.path,
            "tenant": route.tenant,
            "org": route.org,
            "headers": headers,
            "body": String::from_utf8_lossy(&ctx.request.body),
            "client_ip": ctx.request.client_ip(),
            "peer": ctx.request.peer.to_string(),
        }),
    )
}
