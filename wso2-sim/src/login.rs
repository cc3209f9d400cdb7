//! The login itself: steps, nonce cookie, sessions, `/commonauth` and `/logincontext`. The engine ([`submit`]) is shared with
//! the app-native API; only the wording of the answers differs. It must not issue codes or tokens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::app::Ctx;
use crate::app::pairs;
use crate::authenticator;
use crate::authorize;
use crate::authorize::BASIC;
use crate::authorize::Purpose;
use crate::authorize::ResponseMode;
use crate::authorize::TOTP;
use crate::federation;
use crate::grant_response;
use crate::identifier;
use crate::logout;
use crate::options;
use crate::request::Params;
use crate::request::Request;
use crate::response::Response;
use crate::response::append_params;
use crate::saml::Status;
use crate::script::AfterPassword;
use crate::seed::Client;
use crate::seed::random_uuid;
use crate::store::Enrolment;
use crate::store::Flow;
use crate::store::Outcome;
use crate::store::Session;
use crate::store::Step;
use crate::store::UserRef;
use crate::store::fingerprint;
use crate::totp;
use crate::users::Check;
use crate::users::Proof;
use crate::webhooks::Event;

/// Parameters that never travel to the login page's URL.
const HIDDEN_PARAMS: [&str; 3] = ["SAMLRequest", "password", "username"];
/// How long "remember me" keeps the session cookie: 14 days, WSO2's default.
const REMEMBER_S: u32 = 14 * 24 * 3_600;

/// What the user proves a step with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Credentials<'a> {
    Password {
        username: &'a str,
        password: &'a str,
    },
    Totp {
        code: &'a str,
    },
}

/// Where a login stands after a submission.
#[derive(Debug)]
pub(crate) enum Progress {
    /// All steps are passed; resume with the caller key. The header value sets `commonAuthId`.
    Done {
        outcome: Box<Outcome>,
        cookie: String,
    },
    /// What WSO2 itself asks for is passed; the custom authenticator is next.
    Custom,
    /// The submission does not fit the step that the login waits for, or lacks a value.
    Incomplete,
    /// The second step is needed and the user has no authenticator app: one is enrolled.
    Enrol,
    /// The second step is needed and the user has no authenticator app.
    NoSecondFactor,
    /// The script refused: error code and description for the client.
    Refused(&'static str),
    /// The password was right: the second step is next.
    StepTwo,
    /// Not proven.
    Wrong { check: Check, username: String },
}

/// Whether a request to an endpoint of a protocol is meant for the login (`tocommonauth`).
pub(crate) fn is_asked_in_place(request: &Request) -> bool {
    request
        .params()
        .is_some_and(|params| params.get("tocommonauth") == Some("true"))
}

/// POST and GET `/commonauth`, and the same at the endpoint of a protocol, where a finished login is answered at once.
pub(crate) async fn answer(ctx: &Ctx<'_>) -> Response {
    let Some(params) = ctx.request.params() else {
        return Response::empty(415);
    };
    if params.get("commonAuthLogout") == Some("true") {
        return logout::common(ctx, &params);
    }
    let Some(flow) = params
        .get("sessionDataKey")
        .or_else(|| params.get("flowId"))
        .and_then(|key| live_flow(ctx, key))
    else {
        return ctx.retry("authentication.context.null");
    };
    let nonce_cookie = format!("sessionNonceCookie-{}", flow.key);
    if ctx.request.cookie(&nonce_cookie) != Some(flow.nonce.as_str()) {
        return ctx.retry("suspicious.authentication.attempts");
    }
    if params.get("restart_flow") == Some("true") {
        return restart(ctx, flow);
    }
    if let Some(answer) = params.get("ENABLE_TOTP")
        && flow.step == Step::Totp
    {
        return answer_enrolment(ctx, flow, answer);
    }
    // Without JavaScript the login page cannot copy the visible field to the hidden one.
    let username = params
        .get("username")
        .or_else(|| params.get("usernameUserInput"))
        .unwrap_or_default();
    let remembers = params.get("chkRemember") == Some("on");
    if let Some(page) = options::picked(ctx, &flow, &params) {
        return page;
    }
    let credentials = match flow.step {
        Step::Custom => return authenticator::step(ctx, flow, remembers).await,
        Step::Identifier => return identifier::answer(ctx, flow, username),
        Step::Password => Credentials::Password {
            username: identifier::agreed(&flow, username),
            password: params.get("password").unwrap_or_default(),
        },
        Step::Options | Step::Totp => Credentials::Totp {
            code: params.get("token").unwrap_or_default(),
        },
    };
    let (flow, progress) = submit(ctx, flow, credentials, remembers);
    if let Progress::Custom = progress {
        return authenticator::step(ctx, flow, remembers).await;
    }
    respond(ctx, &flow, progress)
}

/// GET `/logincontext`: whether the login page that is about to submit is still good.
pub(crate) fn context(ctx: &Ctx<'_>) -> Response {
    let params = ctx.request.params().unwrap_or_default();
    let flow = params
        .get("sessionDataKey")
        .and_then(|key| live_flow(ctx, key));
    if flow.is_some() {
        return Response::json(200, &json!({"status": "success"}));
    }
    let redirect = append_params(
        &ctx.url("/authenticationendpoint/retry.do"),
        &pairs(&[("status", "authentication.context.null")]),
        false,
    );
    Response::json(200, &json!({"status": "redirect", "redirectUrl": redirect}))
}

/// A login under way in this realm, unless it took too long.
pub(crate) fn live_flow(ctx: &Ctx<'_>, key: &str) -> Option<Flow> {
    let store = ctx.app.store();
    let flow = store.flows.get(key)?;
    let age_ms = ctx.now_ms.saturating_sub(flow.started_ms);
    let age_ms_max = i64::try_from(ctx.validity().login.as_millis()).unwrap_or(i64::MAX);
    (flow.realm == ctx.realm.key && age_ms <= age_ms_max).then(|| flow.clone())
}

/// Takes a login one step further.
pub(crate) fn submit(
    ctx: &Ctx<'_>,
    mut flow: Flow,
    credentials: Credentials<'_>,
    remembers: bool,
) -> (Flow, Progress) {
    let Some(client) = ctx.client(&flow.request.client_id) else {
        return (flow, Progress::Incomplete);
    };
    let typed = match (flow.step, credentials) {
        (Step::Password, Credentials::Password { username, password })
            if !username.is_empty() && !password.is_empty() =>
        {
            username.to_owned()
        }
        (Step::Options | Step::Totp, Credentials::Totp { code }) if !code.is_empty() => {
            identifier::user(&flow)
        }
        _ => return (flow, Progress::Incomplete),
    };
    // As in WSO2 the app counts as enrolled once a code of it is sent, be the code right or wrong.
    if flow.step == Step::Totp
        && let (Some(enrolment), Some(user)) = (&flow.enrolment, &flow.user)
        && enrolment.is_agreed
    {
        let mut users = ctx.app.users();
        users.set_totp_secret(&user.id, &enrolment.secret);
    }
    let proof = match credentials {
        Credentials::Password { password, .. } => Proof::Password(password),
        Credentials::Totp { code } => Proof::Totp {
            code,
            now_s: ctx.now_s(),
        },
    };
    let tenant = &ctx.realm.tenant;
    let check = ctx
        .app
        .users()
        .check(&ctx.realm.key, tenant, &typed, proof, ctx.now_ms);
    let user = match check {
        Check::Passed(user) => user,
        other => {
            report_failure(ctx, client, &flow, &typed, &other);
            let progress = Progress::Wrong {
                check: other,
                username: typed,
            };
            return (flow, progress);
        }
    };
    let progress = match flow.step {
        Step::Password => after_password(ctx, client, &mut flow, user, remembers),
        Step::Options | Step::Totp => {
            flow.methods.push(TOTP.to_owned());
            authenticator::last_step(ctx, client, &mut flow, user, remembers)
        }
        Step::Custom | Step::Identifier => Progress::Incomplete,
    };
    let mut store = ctx.app.store();
    if matches!(progress, Progress::Done { .. } | Progress::Refused(_)) {
        store.flows.remove(&flow.key);
    } else {
        store.flows.insert(flow.key.clone(), flow.clone());
    }
    drop(store);
    (flow, progress)
}

fn after_password(
    ctx: &Ctx<'_>,
    client: &Client,
    flow: &mut Flow,
    user: UserRef,
    remembers: bool,
) -> Progress {
    flow.methods = vec![BASIC.to_owned()];
    flow.user = Some(user.clone());
    match ctx
        .script(client)
        .after_password(flow.is_mfa_demanded, ctx.request)
    {
        AfterPassword::Fail => Progress::Refused("not_through_gateway"),
        AfterPassword::Finish => authenticator::last_step(ctx, client, flow, user, remembers),
        AfterPassword::StepTwo if has_second_factor(ctx, flow) => {
            flow.step = options::second_step(ctx);
            Progress::StepTwo
        }
        AfterPassword::StepTwo if enrols(ctx, flow) => {
            flow.step = Step::Totp;
            flow.enrolment = Some(fresh_enrolment());
            Progress::Enrol
        }
        AfterPassword::StepTwo => Progress::NoSecondFactor,
    }
}

/// The app-native API has no page on which anything could be enrolled.
fn enrols(ctx: &Ctx<'_>, flow: &Flow) -> bool {
    ctx.app.config.enrols_at_login && flow.request.mode != ResponseMode::Direct
}

fn fresh_enrolment() -> Enrolment {
    Enrolment {
        secret: totp::fresh_secret(),
        is_agreed: false,
    }
}

/// The user of a login that waits for the second step has no authenticator app: to the page on which one is enrolled.
pub(crate) fn begin_enrolment(ctx: &Ctx<'_>, mut flow: Flow) -> Response {
    flow.enrolment = Some(fresh_enrolment());
    let page = enrolment_page(ctx, &flow);
    ctx.app.store().flows.insert(flow.key.clone(), flow);
    page
}

/// What the user has answered on that page. The second step is due whatever the answer.
fn answer_enrolment(ctx: &Ctx<'_>, mut flow: Flow, answer: &str) -> Response {
    let Some(enrolment) = flow
        .enrolment
        .as_mut()
        .filter(|_| answer.eq_ignore_ascii_case("true"))
    else {
        return no_second_factor(ctx, &flow);
    };
    enrolment.is_agreed = true;
    next_page(ctx, &flow, &[])
}

/// The key of an app (`otpauth`) travels in the page's URL, Base64.
fn enrolment_page(ctx: &Ctx<'_>, flow: &Flow) -> Response {
    let secret = flow
        .enrolment
        .as_ref()
        .map_or("", |enrolment| enrolment.secret.as_str());
    let user = flow.user.as_ref().map_or("", |user| user.username.as_str());
    let key = format!(
        "otpauth://totp/{tenant}:{user}?secret={secret}&issuer={tenant}&period=30",
        tenant = ctx.realm.tenant
    );
    let params = pairs(&[
        ("sessionDataKey", &flow.key),
        ("authenticators", TOTP),
        ("type", TOTP),
        ("ske", &STANDARD.encode(key)),
    ]);
    let nonce_cookie = format!("sessionNonceCookie-{}", flow.key);
    ctx.to_page("totp_enroll.do", &params).with_header(
        "Set-Cookie",
        ctx.cookie(&nonce_cookie, &flow.nonce, true, None),
    )
}

/// Whether the user of a login has an authenticator app.
pub(crate) fn has_second_factor(ctx: &Ctx<'_>, flow: &Flow) -> bool {
    let users = ctx.app.users();
    flow.user
        .as_ref()
        .and_then(|user| users.by_id(&user.id))
        .is_some_and(|user| user.totp_secret.is_some())
}

/// All steps are passed: makes or renews the session and remembers the outcome.
pub(crate) fn complete(
    ctx: &Ctx<'_>,
    client: &Client,
    flow: &Flow,
    user: UserRef,
    remembers: bool,
) -> Progress {
    let known_cookie = ctx.request.cookie("commonAuthId").map(str::to_owned);
    let mut store = ctx.app.store();
    // The browser keeps its session when the same user proves more in it; anybody else gets a new one.
    let kept = known_cookie.filter(|cookie| {
        let key = fingerprint(cookie);
        flow.session_key.as_deref() == Some(key.as_str())
            && store
                .sessions
                .get(&key)
                .is_some_and(|session| session.user == user && session.realm == flow.realm)
    });
    let cookie = kept.clone().unwrap_or_else(random_uuid);
    let session_key = fingerprint(&cookie);
    match store
        .sessions
        .get_mut(&session_key)
        .filter(|_| kept.is_some())
    {
        Some(session) => {
            session.methods.clone_from(&flow.methods);
            session.auth_ms = ctx.now_ms;
            session.last_ms = ctx.now_ms;
            note_client(session, &client.client_id);
        }
        None => {
            let session = Session {
                realm: flow.realm.clone(),
                user: user.clone(),
                methods: flow.methods.clone(),
                login_ms: ctx.now_ms,
                auth_ms: ctx.now_ms,
                last_ms: ctx.now_ms,
                user_agent: ctx
                    .request
                    .header("user-agent")
                    .unwrap_or_default()
                    .to_owned(),
                client_ip: ctx.request.client_ip(),
                clients: vec![client.client_id.clone()],
                consents: Vec::new(),
                opbs: random_uuid(),
            };
            store.sessions.insert(session_key.clone(), session);
        }
    }
    let outcome = Outcome {
        realm: flow.realm.clone(),
        request: flow.request.clone(),
        user,
        acr: selected_acr(ctx, client, &flow.methods),
        methods: flow.methods.clone(),
        auth_time_s: ctx.now_s(),
        session_key: session_key.clone(),
        expires_ms: ctx.expiry_ms(ctx.validity().login),
        consent_key: random_uuid(),
    };
    store
        .outcomes
        .insert(flow.caller_key.clone(), outcome.clone());
    drop(store);
    ctx.app.webhooks.publish(
        ctx,
        &Event::LoginSuccess {
            user: &outcome.user,
            client,
            methods: &outcome.methods,
        },
    );
    let max_age_s = remembers.then_some(REMEMBER_S);
    Progress::Done {
        outcome: Box::new(outcome),
        cookie: ctx.cookie("commonAuthId", &cookie, true, max_age_s),
    }
}

/// The outcome of a request that a live session answers without a login.
pub(crate) fn outcome_of_session(
    ctx: &Ctx<'_>,
    client: &Client,
    flow: Flow,
    session_key: String,
    session: &Session,
) -> Outcome {
    if let Some(live) = ctx.app.store().sessions.get_mut(&session_key) {
        live.last_ms = ctx.now_ms;
        note_client(live, &client.client_id);
    }
    Outcome {
        realm: flow.realm,
        request: flow.request,
        user: session.user.clone(),
        acr: selected_acr(ctx, client, &session.methods),
        methods: session.methods.clone(),
        auth_time_s: session.auth_ms / 1000,
        session_key,
        expires_ms: ctx.expiry_ms(ctx.validity().login),
        consent_key: random_uuid(),
    }
}

fn note_client(session: &mut Session, client_id: &str) {
    if !session.clients.iter().any(|known| known == client_id) {
        session.clients.push(client_id.to_owned());
    }
}

fn selected_acr(ctx: &Ctx<'_>, client: &Client, methods: &[String]) -> Option<String> {
    ctx.script(client)
        .selected_acr(methods.iter().any(|method| method == TOTP))
}

fn report_failure(ctx: &Ctx<'_>, client: &Client, flow: &Flow, typed: &str, check: &Check) {
    let (step, authenticator) = match flow.step {
        Step::Identifier | Step::Password => (1, BASIC),
        Step::Custom | Step::Options | Step::Totp => (2, TOTP),
    };
    ctx.app.webhooks.publish(
        ctx,
        &Event::LoginFailed {
            username: typed,
            client,
            step,
            authenticator,
        },
    );
    if matches!(check, Check::Wrong { remaining: 0 }) {
        let users = ctx.app.users();
        let user = users.find(&ctx.realm.key, &ctx.realm.tenant, typed);
        let user = user.map(|user| UserRef {
            id: user.id(),
            username: user.username.clone(),
        });
        drop(users);
        if let Some(user) = user {
            ctx.app
                .webhooks
                .publish(ctx, &Event::AccountLocked { user: &user });
        }
    }
}

/// Back to the first step ("back" on the second page).
fn restart(ctx: &Ctx<'_>, mut flow: Flow) -> Response {
    flow.step = identifier::first_step(ctx);
    flow.user = None;
    flow.identifier = None;
    flow.enrolment = None;
    flow.methods.clear();
    next_page(ctx, &flow, &[])
}

/// The answer of `/commonauth`.
pub(crate) fn respond(ctx: &Ctx<'_>, flow: &Flow, progress: Progress) -> Response {
    match progress {
        Progress::Done { outcome, cookie } if is_asked_in_place(ctx.request) => {
            ctx.app.store().outcomes.remove(&flow.caller_key);
            authorize::finish(ctx, *outcome).with_header("Set-Cookie", cookie)
        }
        Progress::Done { cookie, .. } => {
            let path = match flow.request.purpose {
                Purpose::Saml => "/samlsso",
                Purpose::Device { .. } | Purpose::Oidc => "/oauth2/authorize",
            };
            let params = pairs(&[("sessionDataKey", &flow.caller_key)]);
            let used_nonce = format!("sessionNonceCookie-{}", flow.key);
            Response::redirect(append_params(&ctx.url(path), &params, false))
                .with_header("Set-Cookie", cookie)
                .with_header("Set-Cookie", ctx.cookie(&used_nonce, "", true, Some(0)))
        }
        Progress::Custom | Progress::Incomplete => {
            next_page(ctx, flow, &failure_params(flow.step, None))
        }
        Progress::Enrol => enrolment_page(ctx, flow),
        Progress::NoSecondFactor => no_second_factor(ctx, flow),
        Progress::Refused(message) => {
            if flow.request.purpose == Purpose::Saml {
                let request = &flow.request;
                let id = request.nonce.as_deref();
                let (acs, relay) = (&request.redirect_uri, request.state.clone());
                return federation::refuse(ctx, acs, id, relay, Status::AuthnFailed);
            }
            let mut params = pairs(&[("error_description", message), ("error", "access_denied")]);
            let state = flow.request.state.clone();
            params.extend(state.map(|state| ("state".to_owned(), state)));
            grant_response::send(&flow.request.redirect_uri, flow.request.mode, &params)
        }
        Progress::StepTwo => next_page(ctx, flow, &[]),
        Progress::Wrong { check, username } => {
            let reason = ctx.app.config.show_auth_failure_reason;
            let reason = reason.then(|| reason_params(&check, &username));
            let is_lock = matches!(check, Check::Locked { .. } | Check::Wrong { remaining: 0 });
            let params = failure_params(flow.step, reason.as_deref());
            if is_lock && reason.is_some() {
                let mut all = pairs(&[("sessionDataKey", &flow.key)]);
                all.extend(params);
                return ctx.to_page("retry.do", &all);
            }
            next_page(ctx, flow, &params)
        }
    }
}

/// The page for a user who cannot do the second step.
pub(crate) fn no_second_factor(ctx: &Ctx<'_>, flow: &Flow) -> Response {
    let params = pairs(&[
        ("sessionDataKey", &flow.key),
        ("authenticators", TOTP),
        ("type", "totp_error"),
    ]);
    ctx.to_page("totp_error.do", &params)
}

fn failure_params(step: Step, reason: Option<&[(String, String)]>) -> Vec<(String, String)> {
    let message = match step {
        Step::Identifier | Step::Password => "login.fail.message",
        Step::Custom | Step::Options | Step::Totp => "authentication.fail.message",
    };
    let mut params = pairs(&[("authFailure", "true"), ("authFailureMsg", message)]);
    params.extend(reason.into_iter().flatten().cloned());
    params
}

/// What `showAuthFailureReason` adds.
fn reason_params(check: &Check, username: &str) -> Vec<(String, String)> {
    let mut params = match check {
        Check::Locked { by_admin: true } => {
            pairs(&[("errorCode", "17003"), ("lockedReason", "ADMIN_INITIATED")])
        }
        Check::Locked { by_admin: false } | Check::Wrong { remaining: 0 } => pairs(&[
            ("errorCode", "17003"),
            ("lockedReason", "MAX_ATTEMPTS_EXCEEDED"),
            ("remainingAttempts", "0"),
        ]),
        Check::Wrong { remaining } => pairs(&[
            ("errorCode", "17002"),
            ("remainingAttempts", &remaining.to_string()),
        ]),
        Check::Passed(_) | Check::Unknown => pairs(&[("errorCode", "17001")]),
    };
    params.insert(1, ("failedUsername".to_owned(), username.to_owned()));
    params
}

/// To the page of the current step, with a fresh nonce.
pub(crate) fn next_page(ctx: &Ctx<'_>, flow: &Flow, extra: &[(String, String)]) -> Response {
    let mut flow = flow.clone();
    flow.nonce = random_uuid();
    let response = to_login_page(ctx, &flow, false, extra);
    ctx.app.store().flows.insert(flow.key.clone(), flow);
    response
}

/// 302 to `login.do` or `totp.do`, with the nonce cookie.
pub(crate) fn to_login_page(
    ctx: &Ctx<'_>,
    flow: &Flow,
    is_forced: bool,
    extra: &[(String, String)],
) -> Response {
    let Some(client) = ctx.client(&flow.request.client_id) else {
        return ctx.retry("authentication.context.null");
    };
    let (caller, kind) = match flow.request.purpose {
        Purpose::Saml => ("/samlsso", "samlsso"),
        Purpose::Device { .. } | Purpose::Oidc if flow.request.is_openid() => {
            ("/oauth2/authorize", "oidc")
        }
        Purpose::Device { .. } | Purpose::Oidc => ("/oauth2/authorize", "oauth2"),
    };
    let (page, authenticators) = options::page(ctx, flow.step);
    let mut params = match page {
        "login.do" => flow.request.params.clone(),
        _ => Vec::new(),
    };
    params.extend(pairs(&[
        ("commonAuthCallerPath", caller),
        ("forceAuth", if is_forced { "true" } else { "false" }),
        ("passiveAuth", "false"),
        ("tenantDomain", &ctx.realm.tenant),
    ]));
    params.sort();
    params.extend(pairs(&[
        ("sessionDataKey", &flow.key),
        ("relyingParty", &flow.request.client_id),
        ("type", kind),
        ("sp", &client.app_name),
        ("spId", &client.app_id()),
        ("isSaaSApp", "false"),
        ("authenticators", &authenticators),
    ]));
    params.extend(identifier::page_params(flow.step));
    params.extend(extra.iter().cloned());
    let hidden = &ctx.app.config.hidden_page_params;
    params.retain(|(name, _)| !hidden.contains(name));
    let nonce_cookie = format!("sessionNonceCookie-{}", flow.key);
    ctx.to_page(page, &params).with_header(
        "Set-Cookie",
        ctx.cookie(&nonce_cookie, &flow.nonce, true, None),
    )
}

/// The request's parameters as the login page's URL carries them.
pub(crate) fn page_params(params: &Params) -> Vec<(String, String)> {
    params
        .items()
        .iter()
        .filter(|(name, _)| !HIDDEN_PARAMS.contains(&name.as_str()))
        .cloned()
        .collect()
}
