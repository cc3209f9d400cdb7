//! Logins by way of another identity provider, by OpenID Connect or SAML: the way there and the way back. The provider itself
//! is not simulated: who has logged in there is said by [`crate::Sim::logged_in_elsewhere`]. It must not check passwords.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::app::Ctx;
use crate::app::pairs;
use crate::authenticator;
use crate::authorize;
use crate::authorize::Purpose;
use crate::config::ProviderProtocol;
use crate::config::ProviderSettings;
use crate::login;
use crate::login::Credentials;
use crate::login::Progress;
use crate::options;
use crate::request::Params;
use crate::response::Response;
use crate::response::append_params;
use crate::script::AfterPassword;
use crate::store::Flow;
use crate::store::Step;
use crate::store::UserRef;
use crate::store::fingerprint;

/// What follows the key of the login in `state`, by which the authenticator knows its own.
const LOGIN_TYPE: &str = "OIDC";

impl ProviderProtocol {
    /// Name of the authenticator.
    pub(crate) fn authenticator(self) -> &'static str {
        match self {
            Self::Oidc => "OpenIDConnectAuthenticator",
            Self::Saml => "SAMLSSOAuthenticator",
        }
    }
}

/// The option on the login page, where there is one beside the password.
pub(crate) fn option(ctx: &Ctx<'_>, step: Step) -> Option<String> {
    let settings = ctx.app.config.provider.as_ref()?;
    let name = settings.protocol.authenticator();
    (step == Step::Password).then(|| format!("{name}:{}", settings.name))
}

/// A new login that needs no page: there is no other option, or the request names the provider.
pub(crate) fn straight(ctx: &Ctx<'_>, flow: &Flow) -> Option<Response> {
    let settings = ctx.app.config.provider.as_ref()?;
    let named = flow
        .request
        .params
        .iter()
        .any(|(name, value)| name == "fidp" && *value == settings.name);
    (flow.step == Step::Password && (settings.is_only || named))
        .then(|| redirect(ctx, settings, flow))
}

/// What a request to `/commonauth` is answered that picks the provider, or comes from there.
pub(crate) fn answer(ctx: &Ctx<'_>) -> Option<Response> {
    let settings = ctx.app.config.provider.as_ref()?;
    let params = ctx.request.params()?;
    if params.get("commonAuthLogout") == Some("true") {
        return None;
    }
    let picks = params
        .get("authenticator")
        .is_some_and(|name| name.eq_ignore_ascii_case(settings.protocol.authenticator()));
    let key = match params.get("sessionDataKey") {
        Some(key) if picks => key,
        Some(_) => return None,
        None => named(&params)?,
    };
    let Some(mut flow) = login::live_flow(ctx, key).filter(|flow| flow.step == Step::Password)
    else {
        return Some(ctx.retry("authentication.context.null"));
    };
    let nonce_cookie = format!("sessionNonceCookie-{}", flow.key);
    if ctx.request.cookie(&nonce_cookie) != Some(flow.nonce.as_str()) {
        return Some(ctx.retry("suspicious.authentication.attempts"));
    }
    if picks {
        flow.nonce = crate::seed::random_uuid();
        let response = redirect(ctx, settings, &flow);
        ctx.app.store().flows.insert(flow.key.clone(), flow);
        return Some(response);
    }
    // Any option of the step may take what it can read, whichever way the login was named.
    if let (Some(username), Some(password)) = (params.get("username"), params.get("password"))
        && !settings.is_only
    {
        let credentials = Credentials::Password { username, password };
        let (flow, progress) = login::submit(ctx, flow, credentials, false);
        return Some(login::respond(ctx, &flow, progress));
    }
    let subject = said(&params).and_then(|code| ctx.app.store().elsewhere.remove(&code));
    Some(match subject {
        Some(subject) => proved(ctx, settings, flow, &subject),
        None => failed(ctx, settings, &flow),
    })
}

/// The answer for the application where a login failed that had no other option.
pub(crate) fn refused(ctx: &Ctx<'_>, caller_key: &str) -> Option<Response> {
    let request = ctx.app.store().failed.remove(caller_key)?;
    Some(authorize::refuse(
        ctx,
        request.refusal("access_denied", "Authentication required"),
    ))
}

/// The login that a request from the provider goes on with.
fn named(params: &Params) -> Option<&str> {
    if let Some((key, kind)) = params.get("state").and_then(|state| state.split_once(',')) {
        return (kind == LOGIN_TYPE).then_some(key);
    }
    params.get("SAMLResponse").and(params.get("RelayState"))
}

/// By what the simulator knows who logged in there; none where it is an error.
fn said(params: &Params) -> Option<String> {
    if params.get("error").is_some() {
        return None;
    }
    if let Some(code) = params.get("code") {
        return Some(code.to_owned());
    }
    let message = STANDARD.decode(params.get("SAMLResponse")?).ok()?;
    let message = String::from_utf8(message).ok()?;
    let (_, rest) = message.split_once("ID=\"")?;
    rest.split_once('"').map(|(id, _)| id.to_owned())
}

/// To the provider. The key of the login is in `state` or `RelayState` alone.
fn redirect(ctx: &Ctx<'_>, settings: &ProviderSettings, flow: &Flow) -> Response {
    let params = match settings.protocol {
        ProviderProtocol::Oidc => pairs(&[
            ("response_type", "code"),
            ("redirect_uri", &ctx.url("/commonauth")),
            ("state", &format!("{},{LOGIN_TYPE}", flow.key)),
            ("nonce", &crate::seed::random_uuid()),
            ("client_id", "wso2-at-the-provider"),
            ("scope", "openid"),
        ]),
        ProviderProtocol::Saml => pairs(&[
            ("SAMLRequest", &STANDARD.encode("<samlp:AuthnRequest/>")),
            ("RelayState", &flow.key),
        ]),
    };
    let nonce_cookie = format!("sessionNonceCookie-{}", flow.key);
    Response::redirect(append_params(&settings.url, &params, false)).with_header(
        "Set-Cookie",
        ctx.cookie(&nonce_cookie, &flow.nonce, true, None),
    )
}

/// The step is passed; the script says what is next, as after a password.
fn proved(ctx: &Ctx<'_>, settings: &ProviderSettings, mut flow: Flow, subject: &str) -> Response {
    let Some(client) = ctx.client(&flow.request.client_id) else {
        return ctx.retry("authentication.context.null");
    };
    let user = user(ctx, settings, subject);
    flow.user = Some(user.clone());
    flow.methods = vec![settings.protocol.authenticator().to_owned()];
    let script = ctx.script(client);
    let progress = match script.after_password(flow.is_mfa_demanded, ctx.request) {
        AfterPassword::Fail => Progress::Refused("not_through_gateway"),
        AfterPassword::Finish => authenticator::last_step(ctx, client, &mut flow, user, false),
        AfterPassword::StepTwo if login::has_second_factor(ctx, &flow) => {
            flow.step = options::second_step(ctx);
            Progress::StepTwo
        }
        AfterPassword::StepTwo => Progress::NoSecondFactor,
    };
    if matches!(progress, Progress::Done { .. } | Progress::Refused(_)) {
        ctx.app.store().flows.remove(&flow.key);
    } else {
        let kept = flow.clone();
        ctx.app.store().flows.insert(flow.key.clone(), kept);
    }
    login::respond(ctx, &flow, progress)
}

/// The local account that is linked with a user of the provider; the identity server makes one up for anybody else.
fn user(ctx: &Ctx<'_>, settings: &ProviderSettings, subject: &str) -> UserRef {
    let mut linked = settings.linked.iter();
    let linked = linked.find(|(of_provider, _)| of_provider == subject);
    let users = ctx.app.users();
    let local = linked.and_then(|(_, name)| users.find(&ctx.realm.key, &ctx.realm.tenant, name));
    match local {
        Some(user) => UserRef {
            id: user.id(),
            username: user.username.clone(),
        },
        None => UserRef {
            id: fingerprint(&format!("{}/{subject}", settings.name)),
            username: subject.to_owned(),
        },
    }
}

/// The provider has proved nobody: the page again where there are other options, else the application is told.
fn failed(ctx: &Ctx<'_>, settings: &ProviderSettings, flow: &Flow) -> Response {
    if !settings.is_only {
        let failure = [
            ("authFailure", "true"),
            ("authFailureMsg", "login.fail.message"),
        ];
        return login::next_page(ctx, flow, &pairs(&failure));
    }
    let mut store = ctx.app.store();
    store.flows.remove(&flow.key);
    store
        .failed
        .insert(flow.caller_key.clone(), flow.request.clone());
    drop(store);
    let path = match flow.request.purpose {
        Purpose::Saml => "/samlsso",
        Purpose::Device { .. } | Purpose::Oidc => "/oauth2/authorize",
    };
    let params = pairs(&[("sessionDataKey", &flow.caller_key)]);
    Response::redirect(append_params(&ctx.url(path), &params, false))
}
