//! Who may use the server's APIs, and the small parts of them that a gateway meets: XACML decisions, the flow API.

use serde_json::Value;
use serde_json::json;

use crate::app::Ctx;
use crate::introspect;
use crate::response::Response;
use crate::store::UserRef;
use crate::users::Check;
use crate::users::Proof;

/// Identifier of the risk attribute in a XACML request's environment.
const RISK_SCORE_ATTRIBUTE: &str = "urn:riskgate:risk-score";
/// Score from which the stand-in policy denies.
const RISK_SCORE_DENIED: i64 = 50;

/// Who calls an API.
#[derive(Clone, Debug)]
pub(crate) enum Principal {
    Admin,
    /// A token: its user, if any, and its scopes.
    Token(Option<UserRef>, Vec<String>),
    User(UserRef),
}

impl Principal {
    /// Whether the caller may do what the scope stands for; an administrator may.
    pub(crate) fn has_scope(&self, scope: &str) -> bool {
        match self {
            Self::Admin => true,
            Self::Token(_, scopes) => scopes.iter().any(|known| known == scope),
            Self::User(_) => false,
        }
    }

    /// The user that the caller is.
    pub(crate) fn user(&self) -> Option<&UserRef> {
        match self {
            Self::Admin => None,
            Self::Token(user, _) => user.as_ref(),
            Self::User(user) => Some(user),
        }
    }
}

/// The caller, by HTTP Basic with a user's password (which counts as a login attempt) or by bearer token.
pub(crate) fn authenticate(ctx: &Ctx<'_>) -> Option<Principal> {
    if let Some(token) = ctx.request.bearer_token() {
        let record = introspect::access_token(ctx, token)?;
        return Some(Principal::Token(record.grant.user, record.grant.scopes));
    }
    let (username, password) = ctx.request.basic_credentials()?;
    let (realm, tenant) = (&ctx.realm.key, &ctx.realm.tenant);
    let mut users = ctx.app.users();
    let proof = Proof::Password(&password);
    match users.check(realm, tenant, &username, proof, ctx.now_ms) {
        Check::Passed(user) => {
            let is_admin = users.by_id(&user.id).is_some_and(|user| user.is_admin);
            Some(if is_admin {
                Principal::Admin
            } else {
                Principal::User(user)
            })
        }
        Check::Locked { .. } | Check::Unknown | Check::Wrong { .. } => None,
    }
}

/// 401 in the form of the server APIs.
pub(crate) fn unauthorized(ctx: &Ctx<'_>) -> Response {
    Response::api_error(
        401,
        "401",
        "Unauthorized",
        "Authorization failure. Authorization information was invalid or missing from your request.",
        &ctx.trace_id(),
    )
    .with_header("WWW-Authenticate", "Basic realm=\"localhost\"")
}

/// 403 in the form of the server APIs.
pub(crate) fn forbidden(ctx: &Ctx<'_>) -> Response {
    Response::api_error(
        403,
        "403",
        "Forbidden",
        "Operation is not permitted. You do not have permissions to make this request.",
        &ctx.trace_id(),
    )
}

/// 404 in the form of the server APIs.
pub(crate) fn not_found(ctx: &Ctx<'_>) -> Response {
    Response::api_error(
        404,
        "404",
        "Not Found",
        "The resource does not exist.",
        &ctx.trace_id(),
    )
}

/// An API path that this server does not have: the caller is still asked who they are.
pub(crate) fn unknown(ctx: &Ctx<'_>) -> Response {
    match authenticate(ctx) {
        Some(_) => not_found(ctx),
        None => unauthorized(ctx),
    }
}

/// POST `/api/identity/entitlement/decision/pdp`: permits unless the environment carries a high risk score.
pub(crate) fn decide(ctx: &Ctx<'_>) -> Response {
    if authenticate(ctx).is_none() {
        return unauthorized(ctx);
    }
    // WSO2 compares the whole header, parameters included.
    if ctx.request.header("content-type") != Some("application/json") {
        return Response::json(
            400,
            &json!({"code": "40010", "message": "Unsupported content type"}),
        );
    }
    let body: Option<Value> = serde_json::from_slice(&ctx.request.body).ok();
    let Some(request) = body.as_ref().and_then(|body| body.get("Request")) else {
        return Response::json(
            400,
            &json!({"code": "40020", "message": "Malformed request"}),
        );
    };
    let attributes = request
        .pointer("/Environment/Attribute")
        .and_then(Value::as_array);
    let score = attributes
        .into_iter()
        .flatten()
        .find(|item| item.get("AttributeId").and_then(Value::as_str) == Some(RISK_SCORE_ATTRIBUTE))
        .and_then(|item| item.get("Value"));
    let is_denied = match score {
        None => false,
        Some(score) => match score.as_i64() {
            Some(score) => score >= RISK_SCORE_DENIED,
            // The parser takes 73.0 for a double, which no integer comparison accepts.
            None => {
                return Response::json(
                    400,
                    &json!({"code": "40030", "message": "Invalid data type"}),
                );
            }
        },
    };
    Response::json(
        200,
        &json!({"Response": [{
            "Decision": if is_denied { "Deny" } else { "Permit" },
            "Status": {"StatusCode": {"Value": "urn:oasis:names:tc:xacml:1.0:status:ok"}},
        }]}),
    )
}

/// POST `/api/server/v1/flow/execute`: the first step of a registration, and its end.
pub(crate) fn flow(ctx: &Ctx<'_>) -> Response {
    let body: Option<Value> = serde_json::from_slice(&ctx.request.body).ok();
    let Some(body) = body.filter(Value::is_object) else {
        let trace_id = ctx.trace_id();
        return Response::api_error(
            400,
            "FE-60001",
            "Invalid request",
            "Not a JSON object.",
            &trace_id,
        );
    };
    let flow_id = body.get("flowId").and_then(Value::as_str);
    let answer = match flow_id {
        Some(id) => json!({"flowId": id, "flowStatus": "COMPLETE", "type": "REDIRECTION",
            "data": {"url": ctx.url("/authenticationendpoint/login.do")}}),
        None => json!({
            "flowId": crate::seed::random_uuid(),
            "flowStatus": "INCOMPLETE",
            "type": "VIEW",
            "data": {"requiredParams": ["http://wso2.org/claims/username", "password"], "components": []},
        }),
    };
    Response::json(200, &answer)
}
