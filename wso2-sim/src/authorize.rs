//! `/oauth2/authorize`: a new request, the return from the login pages, the answer of the consent page. It must not check
//! passwords, nor build tokens.

use serde_json::Value;

use crate::app::Ctx;
use crate::app::pairs;
use crate::authn;
use crate::exchange;
use crate::grant_response;
use crate::identifier;
use crate::login;
use crate::options;
use crate::provider;
use crate::request::Params;
use crate::response::Response;
use crate::response::append_params;
use crate::script::AfterPassword;
use crate::seed::Client;
use crate::seed::random_uuid;
use crate::store::Flow;
use crate::store::Outcome;
use crate::store::Session;

/// Start of the `request_uri` values that the PAR endpoint hands out.
pub(crate) const PUSHED_PREFIX: &str = "urn:ietf:params:oauth:par:request_uri:";

/// Name of the second authenticator, as it appears in `amr`.
pub(crate) const TOTP: &str = "totp";
/// Name of the first authenticator.
pub(crate) const BASIC: &str = "BasicAuthenticator";

/// How the answer travels back (OAuth 2.0 Multiple Response Type Encoding Practices; `direct` is WSO2's).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ResponseMode {
    Direct,
    FormPost,
    Fragment,
    Query,
}

/// What a login is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    Device { device_code: String },
    Oidc,
    Saml,
}

/// A checked authorization request.
#[derive(Clone, Debug)]
pub(crate) struct AuthorizeRequest {
    pub(crate) purpose: Purpose,
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    /// Whether the client named the redirect URI, which the token request then has to repeat.
    pub(crate) is_redirect_named: bool,
    pub(crate) response_types: Vec<String>,
    pub(crate) mode: ResponseMode,
    pub(crate) scopes: Vec<String>,
    pub(crate) state: Option<String>,
    pub(crate) nonce: Option<String>,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) acr_values: Option<String>,
    pub(crate) max_age_s: Option<i64>,
    pub(crate) prompts: Vec<String>,
    /// `auth_time` goes into the ID token.
    pub(crate) wants_auth_time: bool,
    /// Parameters as sent, for the login page's URL.
    pub(crate) params: Vec<(String, String)>,
}

/// PKCE challenge (RFC 7636).
#[derive(Clone, Debug)]
pub(crate) struct Challenge {
    pub(crate) is_s256: bool,
    pub(crate) value: String,
}

/// Why a request is refused, and where the refusal goes.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The client cannot be trusted to receive it: an error page.
    Page { code: &'static str, message: String },
    /// To the redirect URI.
    Client {
        redirect_uri: String,
        mode: ResponseMode,
        state: Option<String>,
        code: &'static str,
        message: String,
    },
}

impl AuthorizeRequest {
    pub(crate) fn has_response_type(&self, name: &str) -> bool {
        self.response_types.iter().any(|known| known == name)
    }

    pub(crate) fn has_prompt(&self, name: &str) -> bool {
        self.prompts.iter().any(|known| known == name)
    }

    pub(crate) fn is_openid(&self) -> bool {
        self.scopes.iter().any(|scope| scope == "openid")
    }

    pub(crate) fn refusal(&self, code: &'static str, message: &str) -> Refusal {
        Refusal::Client {
            redirect_uri: self.redirect_uri.clone(),
            mode: self.mode,
            state: self.state.clone(),
            code,
            message: message.to_owned(),
        }
    }
}

/// The door.
pub(crate) fn answer(ctx: &Ctx<'_>) -> Response {
    let Some(params) = ctx.request.params() else {
        return Response::empty(415);
    };
    if params.has_repeated() {
        let url = ctx.url("/authenticationendpoint/oauth2_error.do");
        let location = append_params(
            &url,
            &pairs(&[
                ("oauthErrorCode", "invalid_request"),
                (
                    "oauthErrorMsg",
                    "Invalid authorization request with repeated parameters",
                ),
            ]),
            false,
        );
        return Response::empty(400).with_header("Location", location);
    }
    if let Some(key) = params.get("sessionDataKeyConsent") {
        return consent(ctx, key, params.get("consent"));
    }
    if let Some(key) = params.get("sessionDataKey") {
        return resume(ctx, key);
    }
    match begin(ctx, &params) {
        Ok(response) => response,
        Err(refusal) => refuse(ctx, refusal),
    }
}

/// The return from the login pages.
fn resume(ctx: &Ctx<'_>, key: &str) -> Response {
    let outcome = ctx.app.store().outcomes.remove(key);
    let outcome = outcome.filter(|found| {
        found.expires_ms > ctx.now_ms
            && found.realm == ctx.realm.key
            && found.request.purpose != Purpose::Saml
    });
    match outcome {
        Some(outcome) => finish(ctx, outcome),
        None => {
            provider::refused(ctx, key).unwrap_or_else(|| ctx.retry("authentication.context.null"))
        }
    }
}

/// The answer of the consent page.
fn consent(ctx: &Ctx<'_>, key: &str, answer: Option<&str>) -> Response {
    let found = ctx.app.store().consents.get(key).cloned();
    let Some(outcome) = found.filter(|found| {
        found.expires_ms > ctx.now_ms
            && found.realm == ctx.realm.key
            && has_browser_session(ctx, found)
    }) else {
        return ctx.retry("authentication.context.null");
    };
    ctx.app.store().consents.remove(key);
    match answer {
        Some("approve") => grant_response::deliver(ctx, &outcome),
        Some("approveAlways") => {
            if let Some(session) = ctx.app.store().sessions.get_mut(&outcome.session_key) {
                session.consents.push(outcome.request.client_id.clone());
            }
            grant_response::deliver(ctx, &outcome)
        }
        _ => refuse(
            ctx,
            outcome
                .request
                .refusal("access_denied", "User denied the consent"),
        ),
    }
}

/// Whether the browser that answers is the one that signed in.
fn has_browser_session(ctx: &Ctx<'_>, outcome: &Outcome) -> bool {
    ctx.session()
        .is_some_and(|(key, _)| key == outcome.session_key)
}

/// A new request.
fn begin(ctx: &Ctx<'_>, params: &Params) -> Result<Response, Refusal> {
    let pushed;
    let params = match params.get("request_uri") {
        Some(uri) => {
            pushed = take_pushed(ctx, uri, params.get("client_id"))?;
            &pushed
        }
        None => params,
    };
    let (client, request) = parse(ctx, params)?;
    start(ctx, client, request)
}

/// From a checked request to a login page, or, with a session, straight to the answer.
pub(crate) fn start(
    ctx: &Ctx<'_>,
    client: &Client,
    request: AuthorizeRequest,
) -> Result<Response, Refusal> {
    let script = ctx.script(client);
    let is_demanded = script.demands_mfa_at_start(request.acr_values.as_deref(), ctx.request);
    let session = ctx.session();
    let is_forced = request.has_prompt("login")
        || session
            .as_ref()
            .is_some_and(|(_, session)| is_too_old(session, request.max_age_s, ctx.now_ms));
    let mut flow = Flow {
        key: random_uuid(),
        caller_key: random_uuid(),
        nonce: random_uuid(),
        realm: ctx.realm.key.clone(),
        request,
        step: identifier::first_step(ctx),
        user: None,
        identifier: None,
        methods: Vec::new(),
        is_mfa_demanded: is_demanded,
        enrolment: None,
        session_key: session.as_ref().map(|(key, _)| key.clone()),
        started_ms: ctx.now_ms,
    };
    let needs_page = match session.filter(|_| !is_forced) {
        None => true,
        Some((key, session)) => {
            flow.user = Some(session.user.clone());
            flow.methods.clone_from(&session.methods);
            let has_second = session.methods.iter().any(|method| method == TOTP);
            match script.after_password(is_demanded, ctx.request) {
                AfterPassword::Fail => {
                    return Err(flow.request.refusal("access_denied", "not_through_gateway"));
                }
                AfterPassword::StepTwo if !has_second => {
                    flow.step = options::second_step(ctx);
                    true
                }
                AfterPassword::Finish | AfterPassword::StepTwo => {
                    let outcome = login::outcome_of_session(ctx, client, flow, key, &session);
                    return Ok(finish(ctx, outcome));
                }
            }
        }
    };
    if needs_page && flow.request.has_prompt("none") {
        return Err(flow
            .request
            .refusal("login_required", "Authentication required"));
    }
    let is_direct = flow.request.mode == ResponseMode::Direct;
    if flow.user.is_some() && needs_page && !login::has_second_factor(ctx, &flow) {
        return Ok(if is_direct {
            authn::no_second_factor(ctx)
        } else if ctx.app.config.enrols_at_login {
            login::begin_enrolment(ctx, flow)
        } else {
            login::no_second_factor(ctx, &flow)
        });
    }
    let response = if is_direct {
        authn::prompt(ctx, &flow)
    } else {
        provider::straight(ctx, &flow)
            .unwrap_or_else(|| login::to_login_page(ctx, &flow, is_forced, &[]))
    };
    ctx.app.store().flows.insert(flow.key.clone(), flow);
    Ok(response)
}

/// With the user known: the consent page, or the answer to the client.
pub(crate) fn finish(ctx: &Ctx<'_>, outcome: Outcome) -> Response {
    let has_consented = ctx
        .app
        .store()
        .sessions
        .get(&outcome.session_key)
        .is_some_and(|session| session.consents.contains(&outcome.request.client_id));
    let Some(client) = ctx.client(&outcome.request.client_id) else {
        return ctx.retry("authentication.context.null");
    };
    let asks = outcome.request.purpose == Purpose::Oidc
        && outcome.request.mode != ResponseMode::Direct
        && ((client.asks_consent && !has_consented) || outcome.request.has_prompt("consent"));
    if !asks {
        return grant_response::deliver(ctx, &outcome);
    }
    if outcome.request.has_prompt("none") {
        let refusal = outcome
            .request
            .refusal("consent_required", "Consent is required");
        return refuse(ctx, refusal);
    }
    let key = outcome.consent_key.clone();
    let page = ctx.to_page(
        "oauth2_consent.do",
        &pairs(&[
            ("loggedInUser", &outcome.user.username),
            ("application", &client.app_name),
            ("scope", &outcome.request.scopes.join(" ")),
            ("sessionDataKeyConsent", &key),
            ("spQueryParams", ""),
        ]),
    );
    ctx.app.store().consents.insert(key, outcome);
    page
}

/// The answer for a refused request.
pub(crate) fn refuse(ctx: &Ctx<'_>, refusal: Refusal) -> Response {
    match refusal {
        Refusal::Page { code, message } => ctx.to_page(
            "oauth2_error.do",
            &pairs(&[("oauthErrorCode", code), ("oauthErrorMsg", &message)]),
        ),
        Refusal::Client {
            mode: ResponseMode::Direct,
            message,
            ..
        } => Response::api_error(
            400,
            "ABA-60001",
            "Invalid request",
            &message,
            &ctx.trace_id(),
        ),
        Refusal::Client {
            redirect_uri,
            mode,
            state,
            code,
            message,
        } => {
            let mut params = pairs(&[("error_description", &message), ("error", code)]);
            params.extend(state.map(|state| ("state".to_owned(), state)));
            grant_response::send(&redirect_uri, mode, &params)
        }
    }
}

fn take_pushed(ctx: &Ctx<'_>, uri: &str, client_id: Option<&str>) -> Result<Params, Refusal> {
    let bad = || Refusal::Page {
        code: "invalid_request",
        message: "Invalid request_uri".to_owned(),
    };
    let id = uri.strip_prefix(PUSHED_PREFIX).ok_or_else(bad)?;
    let pushed = ctx.app.store().pushed.remove(id).ok_or_else(bad)?;
    let is_good = pushed.expires_ms > ctx.now_ms
        && pushed.realm == ctx.realm.key
        && client_id == Some(pushed.client_id.as_str());
    if !is_good {
        return Err(bad());
    }
    Ok(Params::from_items(pushed.params))
}

fn is_too_old(session: &Session, max_age_s: Option<i64>, now_ms: i64) -> bool {
    max_age_s.is_some_and(|max| now_ms.saturating_sub(session.auth_ms) / 1000 > max || max == 0)
}

/// Checks a request; also used by the PAR endpoint.
pub(crate) fn parse<'a>(
    ctx: &Ctx<'a>,
    params: &Params,
) -> Result<(&'a Client, AuthorizeRequest), Refusal> {
    let page = |code, message: &str| Refusal::Page {
        code,
        message: message.to_owned(),
    };
    let client_id = params
        .get("client_id")
        .ok_or_else(|| page("invalid_request", "Missing client_id parameter"))?;
    let client = ctx.client(client_id).ok_or_else(|| {
        page(
            "invalid_client",
            "Cannot find an application associated with the given client_id",
        )
    })?;
    let redirect_uri = match params.get("redirect_uri") {
        Some(uri) if client.allows_redirect(uri) => uri,
        Some(_) => {
            return Err(page(
                "invalid_callback",
                "Registered callback does not match with the provided url.",
            ));
        }
        None => match client.redirect_uris.as_slice() {
            [only] if !only.contains('*') => only,
            _ => {
                return Err(page(
                    "invalid_request",
                    "Redirect URI is not present in the authorization request",
                ));
            }
        },
    };
    let response_types: Vec<String> = words(params.get("response_type"));
    let mode = mode_of(params.get("response_mode"), &response_types);
    let mut request = AuthorizeRequest {
        purpose: Purpose::Oidc,
        client_id: client_id.to_owned(),
        redirect_uri: redirect_uri.to_owned(),
        is_redirect_named: params.get("redirect_uri").is_some(),
        mode: mode.unwrap_or(ResponseMode::Query),
        scopes: words(params.get("scope")),
        state: params.get_owned("state"),
        nonce: params.get_owned("nonce"),
        challenge: None,
        acr_values: acr_values(params),
        max_age_s: None,
        prompts: words(params.get("prompt")),
        wants_auth_time: params.get("max_age").is_some() || asks_essential(params, "auth_time"),
        params: login::page_params(params),
        response_types,
    };
    check(client, params, mode, &mut request)?;
    Ok((client, request))
}

/// The checks whose refusals go back to the client.
fn check(
    client: &Client,
    params: &Params,
    mode: Option<ResponseMode>,
    request: &mut AuthorizeRequest,
) -> Result<(), Refusal> {
    if request.response_types.is_empty() {
        return Err(request.refusal("invalid_request", "Missing response_type parameter value"));
    }
    let is_known = |name: &String| {
        matches!(
            name.as_str(),
            "code" | "id_token" | "subject_token" | "token"
        )
    };
    if !request.response_types.iter().all(is_known) {
        return Err(request.refusal(
            "unsupported_response_type",
            "Unsupported response_type value",
        ));
    }
    if let Err(problem) = exchange::check_request(request) {
        return Err(request.refusal("invalid_request", problem));
    }
    if mode.is_none() {
        return Err(request.refusal("invalid_request", "Invalid response_mode"));
    }
    if !client.allows_grant("authorization_code") {
        return Err(request.refusal(
            "unauthorized_client",
            "The client is not authorized to use requested response type",
        ));
    }
    if request.mode == ResponseMode::Direct && !client.is_app_native {
        return Err(request.refusal(
            "invalid_request",
            "App native authentication is not enabled for the application",
        ));
    }
    if request.has_response_type("id_token") && request.nonce.is_none() {
        return Err(request.refusal(
            "invalid_request",
            "'response_type' contains 'id_token'; but 'nonce' parameter not found",
        ));
    }
    let has_odd_prompt = request.prompts.iter().any(|prompt| {
        !matches!(
            prompt.as_str(),
            "consent" | "login" | "none" | "select_account"
        )
    });
    if has_odd_prompt || (request.has_prompt("none") && request.prompts.len() > 1) {
        return Err(request.refusal("invalid_request", "Invalid prompt variable combination. The value 'none' cannot be used with others prompts."));
    }
    if let Some(text) = params.get("max_age") {
        let max_age_s = text.parse::<i64>().ok().filter(|age| *age >= 0);
        if max_age_s.is_none() {
            return Err(request.refusal("invalid_request", "Invalid max_age value"));
        }
        request.max_age_s = max_age_s;
    }
    request.challenge = challenge(client, params, request)?;
    Ok(())
}

fn challenge(
    client: &Client,
    params: &Params,
    request: &AuthorizeRequest,
) -> Result<Option<Challenge>, Refusal> {
    let Some(value) = params.get("code_challenge") else {
        return if client.is_pkce_required && request.has_response_type("code") {
            Err(request.refusal("invalid_request", "PKCE is mandatory for this application. PKCE Challenge is not provided or is not upto RFC 7636 specification."))
        } else {
            Ok(None)
        };
    };
    let is_s256 = match params.get("code_challenge_method") {
        Some("S256") => true,
        Some("plain") | None => false,
        Some(_) => {
            return Err(request.refusal("invalid_request", "Unsupported PKCE Challenge Method"));
        }
    };
    // RFC 7636 section 4.2: 43 to 128 unreserved characters.
    let is_shaped = (43..=128).contains(&value.len())
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    if !is_shaped {
        return Err(request.refusal(
            "invalid_request",
            "Code challenge used is not up to RFC 7636 specifications.",
        ));
    }
    Ok(Some(Challenge {
        is_s256,
        value: value.to_owned(),
    }))
}

fn mode_of(requested: Option<&str>, response_types: &[String]) -> Option<ResponseMode> {
    let is_front_channel = response_types.iter().any(|name| name != "code");
    match requested {
        None if is_front_channel => Some(ResponseMode::Fragment),
        None => Some(ResponseMode::Query),
        Some("query") if !is_front_channel => Some(ResponseMode::Query),
        Some("fragment") => Some(ResponseMode::Fragment),
        Some("form_post") => Some(ResponseMode::FormPost),
        Some("direct") if !is_front_channel => Some(ResponseMode::Direct),
        Some(_) => None,
    }
}

/// `acr_values`, and the values of an essential `acr` in the `claims` parameter (OpenID Connect Core section 5.5.1.1).
fn acr_values(params: &Params) -> Option<String> {
    let mut values = words(params.get("acr_values"));
    let claims = claims_parameter(params);
    if let Some(acr) = claims.pointer("/id_token/acr") {
        let listed = acr.get("values").and_then(Value::as_array);
        values.extend(
            listed
                .into_iter()
                .flatten()
                .chain(acr.get("value"))
                .filter_map(Value::as_str)
                .map(str::to_owned),
        );
    }
    (!values.is_empty()).then(|| values.join(" "))
}

fn asks_essential(params: &Params, claim: &str) -> bool {
    claims_parameter(params)
        .pointer(&format!("/id_token/{claim}/essential"))
        .and_then(Value::as_bool)
        .unwrap_or(false)
}

fn claims_parameter(params: &Params) -> Value {
    params
        .get("claims")
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or(Value::Null)
}

/// The words of a space-separated list.
pub(crate) fn words(text: Option<&str>) -> Vec<String> {
    text.unwrap_or_default()
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect()
}
