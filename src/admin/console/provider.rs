//! In by an OpenID Connect provider. A browser that comes back is let in only with the cookie of the attempt that it was sent
//! away for; every refusal is a page that says what to do, and names no part of what came.

use crate::admin::console::Console;
use crate::admin::console::Fields;
use crate::admin::console::cookie_value;
use crate::admin::console::layout::failed;
use crate::admin::console::layout::onward_page;
use crate::admin::console::layout::open_page;
use crate::admin::console::sign_in;
use crate::domain::jwt::TokenKind;
use crate::domain::jwt::UnverifiedHeader;
use crate::domain::operator::session::TRIES_OF_ADDRESS_MAX;
use crate::domain::operator::session::Who;
use crate::domain::page_key::PageKey;
use crate::domain::sign_in::ATTEMPT_MAX;
use crate::domain::sign_in::Admitted;
use crate::domain::sign_in::Attempt;
use crate::domain::sign_in::NotAdmitted;
use crate::domain::sign_in::ProviderRules;
use crate::domain::sign_in::Returned;
use crate::domain::sign_in::SEED_BYTES;
use crate::flow::ports::NotRedeemed;
use crate::flow::ports::ProviderAway;
use crate::flow::ports::SignInProvider;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::Response;
use maud::html;
use std::net::SocketAddr;
use std::sync::Arc;

/// The path that begins an attempt.
pub(super) const BEGIN: &str = "/console/sign-in/provider";
/// The path that the provider sends browsers back to.
pub(super) const CALLBACK: &str = "/console/sign-in/callback";

/// The provider, and what is agreed with it.
#[derive(Debug)]
pub struct Provider {
    rules: ProviderRules,
    port: Arc<dyn SignInProvider>,
    key: PageKey,
}

/// Why somebody who came back is not let in.
enum Refused {
    /// The provider does not answer.
    Away,
    /// The provider gives no token for the code.
    Redeemed(NotRedeemed),
    /// By the rules.
    Rules(NotAdmitted),
}

impl Provider {
    /// A provider at which nobody is.
    pub fn new(rules: ProviderRules, port: Arc<dyn SignInProvider>, key: PageKey) -> Self {
        Self { rules, port, key }
    }

    /// Whether it lets in the same people.
    pub(super) fn lets_in_like(&self, other: &Self) -> bool {
        self.rules.lets_in_like(&other.rules)
    }

    /// The name under which people know it: that of its machine.
    pub(super) fn host(&self) -> &str {
        let issuer = &self.rules.issuer;
        let rest = issuer.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or(rest)
    }
}

impl Refused {
    /// The reason as records, log and page name it.
    fn code(&self) -> &'static str {
        match self {
            Self::Away | Self::Redeemed(NotRedeemed::Away) => "provider_away",
            Self::Redeemed(NotRedeemed::Client) => "client_refused",
            Self::Redeemed(NotRedeemed::Code) => "code_refused",
            Self::Rules(reason) => reason.as_str(),
        }
    }

    /// Who it is, where the provider vouches for that.
    fn name(&self) -> Option<&str> {
        match self {
            Self::Rules(NotAdmitted::Role { name }) => Some(name),
            Self::Away | Self::Redeemed(_) | Self::Rules(_) => None,
        }
    }

    /// What the page says.
    fn page(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Away | Self::Redeemed(NotRedeemed::Away) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The provider does not answer as it has to. Try again in a minute, or sign in with a password of this gateway. \
                 The log of the gateway says more.",
            ),
            Self::Redeemed(NotRedeemed::Client) => (
                StatusCode::BAD_GATEWAY,
                "The provider does not know this gateway: client_id or secret under [admin.oidc] are wrong. Tell whoever runs \
                 the gateway, or sign in with a password of this gateway.",
            ),
            Self::Redeemed(NotRedeemed::Code)
            | Self::Rules(NotAdmitted::State | NotAdmitted::Malformed) => (
                StatusCode::BAD_REQUEST,
                "This sign-in was not begun here, has taken too long, or was used before. Begin it again, with cookies on.",
            ),
            Self::Rules(NotAdmitted::Denied) => (
                StatusCode::FORBIDDEN,
                "The provider did not let you in. Begin again, or ask whoever runs the provider.",
            ),
            Self::Rules(NotAdmitted::Role { .. }) => (
                StatusCode::FORBIDDEN,
                "The provider knows you, but none of your roles or groups there is one of this console. Ask for one of those \
                 under [admin.oidc.roles], then sign in again.",
            ),
            Self::Rules(NotAdmitted::Acr) => (
                StatusCode::FORBIDDEN,
                "The provider did not ask you for the factor that this console wants. Sign in again with it.",
            ),
            Self::Rules(NotAdmitted::Name) => (
                StatusCode::FORBIDDEN,
                "The provider gives no name for you that can stand in records. Tell whoever runs the gateway: name_claim under \
                 [admin.oidc] names the claim.",
            ),
            Self::Rules(NotAdmitted::Issuer | NotAdmitted::Nonce | NotAdmitted::Token(_)) => (
                StatusCode::BAD_GATEWAY,
                "What came back is not what the provider gives for this sign-in, and was refused. Begin again; if it comes \
                 back, tell whoever runs the gateway.",
            ),
        }
    }
}

impl From<ProviderAway> for Refused {
    fn from(ProviderAway: ProviderAway) -> Self {
        Self::Away
    }
}

impl From<NotAdmitted> for Refused {
    fn from(reason: NotAdmitted) -> Self {
        Self::Rules(reason)
    }
}

impl From<NotRedeemed> for Refused {
    fn from(reason: NotRedeemed) -> Self {
        Self::Redeemed(reason)
    }
}

/// `POST /console/sign-in/provider`. Its answer is a page that leads on, since browsers hold the redirect of a form to the
/// addresses that forms may be sent to.
pub(super) async fn begin(
    State(console): State<Console>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Some(provider) = console.provider.load_full() else {
        return absent();
    };
    let to = match sign_in::sent(&console, &headers, body).await {
        Ok((_, to)) => to,
        Err(refused) => return refused,
    };
    let Ok(endpoints) = provider.port.endpoints().await else {
        return refused(&Refused::Away);
    };
    let mut seed = [0; SEED_BYTES];
    console.flow.dependencies().entropy.fill(&mut seed);
    let (attempt, cookie) = provider
        .rules
        .begin(&provider.key, &seed, &to, console.now());
    let address = provider.rules.address(&endpoints, &attempt);
    let text = format!("Sign in at {}", provider.host());
    let mut response = onward_page("To sign in", &address, &text);
    let (name, attributes) = cookie_form(&console);
    let cookie = format!(
        "{name}={cookie}{attributes}; Max-Age={}",
        ATTEMPT_MAX.as_secs()
    );
    set_cookie(&mut response, &cookie);
    response
}

/// `GET /console/sign-in/callback`.
pub(super) async fn back(
    State(console): State<Console>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let Some(provider) = console.provider.load_full() else {
        return absent();
    };
    let now = console.now();
    let (name, attributes) = cookie_form(&console);
    let cookie = cookie_value(&headers, name);
    let attempt = cookie.and_then(|cookie| provider.rules.resume(&provider.key, cookie, now));
    let Some(attempt) = attempt else {
        // Whoever followed somebody else's link. It costs nothing and leaves nothing.
        return refused(&Refused::Rules(NotAdmitted::State));
    };
    let address = peer.ip().to_string();
    let tried = console
        .tries()
        .note(&format!("address {address}"), TRIES_OF_ADDRESS_MAX, now);
    if let Err(wait) = tried {
        return too_many(wait.as_secs() + 1);
    }
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let mut response = match admit(&console, &provider, &attempt, &query).await {
        Ok((admitted, sign_out)) => {
            tracing::info!(operator = %admitted.name, "an operator has signed in by the provider");
            let note = format!(
                "{}, subject {} of {}",
                admitted.role, admitted.subject, provider.rules.issuer
            );
            let who = Who::Provided {
                name: admitted.name,
                role: admitted.role,
                sign_out,
            };
            let cookie = sign_in::open(&console, &headers, who, address, &note);
            // The provider may have been exchanged meanwhile, and those sessions ended before this one was there.
            if !console.lets_in_like(&provider) {
                sign_in::shut(&console, &cookie);
                return refused(&Refused::Rules(NotAdmitted::State));
            }
            // A redirect would count as one from the provider's site, for which the session's cookie is not sent.
            let mut response = onward_page("Signed in", attempt.to(), "Go on to the console");
            set_cookie(&mut response, &cookie);
            response
        }
        Err(reason) => {
            let note = format!("by the provider: {}", reason.code());
            console
                .flow
                .record_operator(reason.name(), "sign_in_failed", &note);
            tracing::warn!(
                reason = reason.code(),
                "nobody is let in by what came back from the provider"
            );
            refused(&reason)
        }
    };
    set_cookie(&mut response, &format!("{name}={attributes}; Max-Age=0"));
    response
}

/// Whom the provider vouches for, and where they sign out of it.
async fn admit(
    console: &Console,
    provider: &Provider,
    attempt: &Attempt,
    query: &Fields,
) -> Result<(Admitted, Option<String>), Refused> {
    let returned = Returned {
        code: query.get("code"),
        state: query.get("state"),
        issuer: query.get("iss"),
        error: query.get("error"),
    };
    if !attempt.is_of(returned.state) || !console.used().take(returned.state, console.now()) {
        return Err(NotAdmitted::State.into());
    }
    let endpoints = provider.port.endpoints().await?;
    let code = provider.rules.code(&endpoints, &returned)?;
    let token = provider.port.redeem(code, attempt.verifier()).await?;
    // What no key can verify is refused below, under its own name.
    let wanted = UnverifiedHeader::read(token.expose(), TokenKind::Id).ok();
    let keys = provider.port.keys(wanted.as_ref()).await?;
    let admitted = provider
        .rules
        .admit(token.expose(), &keys, attempt, console.now())?;
    Ok((admitted, provider.rules.sign_out_address(&endpoints)))
}

/// The name of the attempt's cookie, and what else it says. It comes back from another site, by a link.
fn cookie_form(console: &Console) -> (&'static str, &'static str) {
    if console.is_secure() {
        (
            "__Host-rg_console_oidc",
            "; Path=/; HttpOnly; SameSite=Lax; Secure",
        )
    } else {
        ("rg_console_oidc", "; Path=/; HttpOnly; SameSite=Lax")
    }
}

fn set_cookie(response: &mut Response, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

fn absent() -> Response {
    failed(
        StatusCode::NOT_FOUND,
        "Nothing here",
        "Operators sign in with a password: no provider is configured under [admin.oidc].",
    )
}

fn too_many(seconds: u64) -> Response {
    let text = format!("There were too many attempts. Try again in {seconds} seconds.");
    let mut response = failed(StatusCode::TOO_MANY_REQUESTS, "Too many attempts", &text);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// The page that says why somebody is not let in, and what to do.
fn refused(reason: &Refused) -> Response {
    let (status, text) = reason.page();
    let body = html! {
        h1 { "Not signed in" }
        p class="notice bad" role="alert" { (text) }
        p class="soft" { "Reason: " code { (reason.code()) } }
        p { a href="/console/sign-in" { "To the sign-in page" } }
    };
    open_page(status, "Not signed in", body)
}
