//! The console: what analysts see of decisions and do about them, as pages that need no script. Everything that comes from
//! records, requests or operators is escaped where it enters a page (`maud`). Nothing here decides about requests.

/// The stylesheet, the script, headers.
mod assets;

/// What a model's makers say of it.
mod card;

/// What is drawn.
mod chart;

/// One decision.
pub(in crate::admin) mod decision;

/// Decisions as they happen.
mod decisions;

/// What shows of a draft of the policy.
mod draft;

/// The policy editor.
mod editor;

/// What analysts know of decisions.
pub(in crate::admin) mod label;

/// What all pages have.
mod layout;

/// The model, and how far traffic has moved from it.
mod model;

/// What would have been done.
mod monitor;

/// Networks that a user came from.
mod networks;

/// Figures over time.
pub(in crate::admin) mod overview;

/// The rules.
mod policy;

/// In by a provider.
mod provider;

/// Held logins.
mod review;

/// Stages, and how they change.
mod rollout;

/// Who is signed in.
mod sessions;

/// In and out.
pub(in crate::admin) mod sign_in;

/// One user.
mod user;

use crate::admin::is_address;
use crate::admin::review::host;
use crate::domain::hex;
use crate::domain::operator::roster::Role;
use crate::domain::operator::roster::Roster;
use crate::domain::operator::session::Session;
use crate::domain::operator::session::SessionKey;
use crate::domain::operator::session::Sessions;
use crate::domain::operator::session::Tries;
use crate::domain::sign_in::Used;
use crate::domain::time::Timestamp;
use crate::flow::AuthFlow;
use crate::flow::ports::LabelBook;
use crate::flow::ports::PolicyDesk;
use crate::flow::ports::Trail;
use arc_swap::ArcSwap;
use arc_swap::ArcSwapOption;
use axum::Router;
use axum::body::Body;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Redirect;
use axum::response::Response;
use axum::routing::any;
use axum::routing::get;
use axum::routing::post;
use layout::TO_THE_DECISIONS;
use layout::failed;
use layout::not_taken;
use parking_lot::Mutex;
use parking_lot::MutexGuard;
pub use provider::Provider;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The longest form, in bytes.
const FORM_BYTES_MAX: usize = 8_192;
/// Pages that read records at once; the others wait.
const READERS_MAX: usize = 4;
/// How long a page looks for records before it shows what it has found.
const SEARCH_BUDGET: Duration = Duration::from_millis(150);
/// The field of a form that carries the session's token.
const TOKEN_FIELD: &str = "token";
/// Says that the script asks and no person: a session that only the script uses ends like one that nobody uses.
const BY_SCRIPT: &str = "x-riskgate-script";

/// What the pages are made from.
#[derive(Clone, Debug)]
pub struct Console {
    /// The path.
    pub flow: Arc<AuthFlow>,
    /// The records.
    pub trail: Arc<dyn Trail>,
    /// The policy file.
    pub policy: Arc<dyn PolicyDesk>,
    /// What analysts know of decisions.
    pub labels: Arc<dyn LabelBook>,
    /// Who may sign in; exchanged when the file changes.
    pub roster: Arc<ArcSwap<Roster>>,
    /// Under which name browsers reach the console, where that is not an address.
    pub origin: Option<Origin>,
    provider: Arc<ArcSwapOption<Provider>>,
    desk: Arc<Desk>,
}

/// `https://NAME[:PORT]` or `http://...`: the name of the console behind a proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    host: String,
    is_secure: bool,
}

/// What the console itself remembers.
#[derive(Debug)]
struct Desk {
    sessions: Mutex<Sessions>,
    tries: Mutex<Tries>,
    /// Attempts at a provider that have come back.
    used: Mutex<Used>,
    /// The places of these go along to the thread that works, which goes on where whoever asks has hung up.
    readers: Arc<Semaphore>,
    hashers: Arc<Semaphore>,
    drafts: Arc<Semaphore>,
    listeners: Arc<Semaphore>,
}

/// Who asks.
#[derive(Clone, Debug)]
struct Signed {
    session: Session,
    key: SessionKey,
    role: Role,
    /// Those of users at WSO2, which an analyst may end.
    sessions: crate::flow::desk::sessions::Sessions,
}

/// Why somebody who is signed in may not do something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::admin) enum NotAllowed {
    /// The role is not enough.
    Role(Role),
    /// What was sent does not carry the token of the session: somebody else may have written it.
    Token,
}

/// The fields of a form, whose token was right.
#[derive(Clone, Debug, Default)]
struct Fields(Vec<(String, String)>);

impl Origin {
    /// Reads `scheme://host[:port]`.
    pub fn parse(text: &str) -> Option<Self> {
        let (is_secure, host) = match text.split_once("://")? {
            ("https", host) => (true, host),
            ("http", host) => (false, host),
            _ => return None,
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte);
        let fits = !host.is_empty() && host.len() <= 253 && host.bytes().all(plain);
        fits.then(|| Self {
            host: host.to_ascii_lowercase(),
            is_secure,
        })
    }

    /// Whether browsers come to it over TLS.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Whether it is the browser's own machine.
    pub fn is_loopback(&self) -> bool {
        let name = self
            .host
            .rsplit_once(':')
            .map_or(&*self.host, |(name, _)| name);
        matches!(name, "localhost" | "127.0.0.1" | "[::1]")
    }

    /// The origin as it is written.
    pub fn text(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}", self.host)
    }
}

impl Console {
    /// A console in which nobody is signed in.
    pub fn new(
        flow: Arc<AuthFlow>,
        trail: Arc<dyn Trail>,
        policy: Arc<dyn PolicyDesk>,
        labels: Arc<dyn LabelBook>,
        roster: Arc<ArcSwap<Roster>>,
        origin: Option<Origin>,
    ) -> Self {
        Self {
            flow,
            trail,
            policy,
            labels,
            roster,
            origin,
            provider: Arc::default(),
            desk: Arc::new(Desk {
                sessions: Mutex::default(),
                tries: Mutex::default(),
                used: Mutex::default(),
                readers: Arc::new(Semaphore::new(READERS_MAX)),
                // A password costs memory and a processor that requests need.
                hashers: Arc::new(Semaphore::new(1)),
                // So does a replay.
                drafts: Arc::new(Semaphore::new(1)),
                listeners: Arc::new(Semaphore::new(decisions::LISTENERS_MAX)),
            }),
        }
    }

    /// The same console, in which operators sign in by a provider as well.
    #[must_use]
    pub fn with_provider(self, provider: Option<Provider>) -> Self {
        self.provider.store(provider.map(Arc::new));
        self
    }

    /// Operators sign in by this provider from now on, or by none. Who came by the one before stays as long as the same
    /// people are let in; else those sessions end, on record.
    pub fn take_provider(&self, provider: Option<Provider>) {
        let before = self.provider.swap(provider.map(Arc::new));
        if before.is_none_or(|before| self.lets_in_like(&before)) {
            return;
        }
        let ended = self.sessions().close_provided();
        for session in &ended {
            let name = session.operator.name();
            self.flow.record_operator(None, "session_ended", name);
        }
        tracing::info!(
            sessions = ended.len(),
            "other operators are let in by a provider from now on: who came by one signs in again"
        );
    }

    /// Whether the provider that there is by now lets in the same people as this one.
    fn lets_in_like(&self, before: &Provider) -> bool {
        let now = self.provider.load();
        now.as_ref().is_some_and(|now| now.lets_in_like(before))
    }

    /// Whether somebody may sign in.
    pub fn lets_in_anybody(&self) -> bool {
        self.provider.load().is_some() || !self.roster.load().operators().is_empty()
    }

    fn is_secure(&self) -> bool {
        self.origin.as_ref().is_some_and(Origin::is_secure)
    }

    fn now(&self) -> Timestamp {
        self.flow.dependencies().clock.now()
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.desk.sessions.lock()
    }

    fn tries(&self) -> MutexGuard<'_, Tries> {
        self.desk.tries.lock()
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.desk.used.lock()
    }

    /// Random text that fits into a cookie, a field and a link.
    fn random(&self) -> String {
        let mut bytes = [0; 32];
        self.flow.dependencies().entropy.fill(&mut bytes);
        hex::encode(&bytes)
    }

    /// Whether a request comes from an operator who is signed in.
    pub(in crate::admin) fn is_signed_in(&self, headers: &HeaderMap) -> bool {
        self.session(headers)
            .is_some_and(|signed| signed.role >= Role::Viewer)
    }

    /// The operator who is signed in and may do what `role` may, whose form carries `token`. `None` when nobody is signed in.
    pub(in crate::admin) fn operator(
        &self,
        headers: &HeaderMap,
        role: Role,
        token: &str,
    ) -> Option<Result<Arc<str>, NotAllowed>> {
        let signed = self.session(headers)?;
        Some(if signed.role < role {
            Err(NotAllowed::Role(signed.role))
        } else if is_equal(token, &signed.session.form_token) {
            Ok(Arc::clone(signed.session.operator.name()))
        } else {
            Err(NotAllowed::Token)
        })
    }

    /// Whether a request names the console: by an address, as localhost, or by the name that is configured.
    pub(in crate::admin) fn is_named_by(&self, headers: &HeaderMap) -> bool {
        let host = host(headers).to_ascii_lowercase();
        let is_ours = |origin: &Origin| origin.host == host;
        self.origin.as_ref().is_some_and(is_ours) || is_address(&host)
    }

    /// Reads records away from the threads of the listener. `None` when that thread failed.
    pub(in crate::admin) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Trail, &mut dyn FnMut() -> bool) -> T + Send + 'static,
    ) -> Option<T> {
        let place = Arc::clone(&self.desk.readers).acquire_owned().await.ok()?;
        let trail = Arc::clone(&self.trail);
        let clock = Arc::clone(&self.flow.dependencies().clock);
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            let start = clock.instant();
            read(trail.as_ref(), &mut || {
                clock.instant().duration_since(start) < SEARCH_BUDGET
            })
        });
        done.await.ok()
    }

    /// The name of the session's cookie, and what else it says.
    fn cookie(&self) -> (&'static str, &'static str) {
        if self.is_secure() {
            (
                "__Host-rg_console",
                "; Path=/; HttpOnly; SameSite=Strict; Secure",
            )
        } else {
            ("rg_console", "; Path=/; HttpOnly; SameSite=Strict")
        }
    }

    /// The open session of a request.
    fn session(&self, headers: &HeaderMap) -> Option<Signed> {
        let value = cookie_value(headers, self.cookie().0)?;
        let key = SessionKey::of(value);
        let now = self.now();
        let session = if headers.contains_key(BY_SCRIPT) {
            self.sessions().look(key, now)
        } else {
            self.sessions().find(key, now)
        }?;
        // What the file says by now counts: a role that was taken away, a password that was exchanged.
        let Some(role) = session.operator.role(&self.roster.load()) else {
            self.sessions().close(key);
            return None;
        };
        Some(Signed {
            role,
            session,
            key,
            sessions: self.flow.dependencies().sessions.clone(),
        })
    }
}

impl Fields {
    fn parse(body: &[u8]) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    fn get(&self, name: &str) -> &str {
        let mut found = self.0.iter().filter(|(field, _)| field == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => value,
            _ => "",
        }
    }
}

/// The routes.
pub(in crate::admin) fn router(console: Console) -> Router {
    let lets_in = |role: Role, most: usize| {
        middleware::from_fn_with_state((console.clone(), role, most), signed_in)
    };
    let viewer = Router::new()
        .route("/console", get(decisions::list))
        .route("/console/events", get(decisions::events))
        .route("/console/decisions/{id}", get(decision::show))
        .route("/console/users/{subject}", get(user::show))
        .route("/console/review", get(review::list))
        .route("/console/overview", get(overview::show))
        .route("/console/monitor", get(monitor::show))
        .route("/console/model", get(model::show))
        .route("/console/policy", get(policy::show))
        .route("/console/rollout", get(rollout::show))
        .route("/console/sign-out", post(sign_in::sign_out))
        .route("/console/{*rest}", any(nothing))
        .layer(lets_in(Role::Viewer, FORM_BYTES_MAX));
    let analyst = Router::new()
        .route("/console/review/{id}/{word}", post(review::decide))
        .route("/console/decisions/{id}/label", post(label::say))
        .layer(lets_in(Role::Analyst, FORM_BYTES_MAX));
    let admin = Router::new()
        .route("/console/rollout/{word}", post(rollout::change))
        .route("/console/sessions", get(sessions::list))
        .route("/console/sessions/{front}/end", post(sessions::end))
        .layer(lets_in(Role::Admin, FORM_BYTES_MAX));
    let editor = Router::new()
        .route("/console/policy/edit", get(editor::edit))
        .route("/console/policy/check", post(editor::look))
        .route("/console/policy/save", post(editor::save))
        .route("/console/policy/restore", post(editor::restore))
        .route("/console/policy/versions/{digest}", get(editor::version))
        .layer(lets_in(Role::Admin, editor::DRAFT_BYTES_MAX));
    Router::new()
        .route("/", get(|| async { Redirect::to("/console") }))
        .route(
            "/console/sign-in",
            get(sign_in::page).post(sign_in::sign_in),
        )
        .route(provider::BEGIN, post(provider::begin))
        .route(provider::CALLBACK, get(provider::back))
        .route("/console/assets/{name}", get(assets::serve))
        .merge(viewer)
        .merge(analyst)
        .merge(admin)
        .merge(editor)
        .layer(middleware::from_fn_with_state(console.clone(), named_well))
        .layer(middleware::map_response(assets::guarded))
        .with_state(console)
}

/// Answers requests that name this listener: by an address, as localhost, or by the name that is configured. A name that
/// somebody else lets resolve to it does not (DNS rebinding), and forms of other sites do not.
async fn named_well(State(console): State<Console>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = host(headers).to_ascii_lowercase();
    if !console.is_named_by(headers) {
        return failed(
            StatusCode::MISDIRECTED_REQUEST,
            "Another name",
            "The console is reached by its address, as localhost, or by the name in admin.origin.",
        );
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let is_same_site = text("sec-fetch-site").is_none_or(|site| site == "same-origin");
        let is_same_origin = text("origin").is_none_or(|origin| {
            origin
                .split_once("://")
                .is_some_and(|(_, named)| named.eq_ignore_ascii_case(&host))
        });
        if !is_same_site || !is_same_origin {
            return failed(
                StatusCode::FORBIDDEN,
                "From elsewhere",
                "The form was not sent from a page of this console.",
            );
        }
    }
    next.run(request).await
}

/// Lets operators of a role in, and nobody else. A form must carry the token of its session, and have so many bytes at most.
async fn signed_in(
    State((console, role, most)): State<(Console, Role, usize)>,
    request: Request,
    next: Next,
) -> Response {
    let is_read = request.method() == Method::GET || request.method() == Method::HEAD;
    let Some(signed) = console.session(request.headers()) else {
        return if is_read && !request.headers().contains_key(BY_SCRIPT) {
            let to = request.uri().path_and_query();
            let to = to.map_or("/console", |to| to.as_str());
            Redirect::to(&sign_in::path(to)).into_response()
        } else {
            // Whoever has written for longer than a session lasts gets the text back, and nothing else.
            let body = to_bytes(request.into_body(), most).await;
            let fields = Fields::parse(&body.unwrap_or_default());
            not_taken(
                StatusCode::UNAUTHORIZED,
                "Not signed in",
                "The session has ended. Sign in again, then repeat what you did.",
                fields.get("text"),
                TO_THE_DECISIONS,
            )
        };
    };
    let answer = let_in(&signed, role, most, request, next).await;
    layout::with_navigation(&signed, answer)
}

async fn let_in(
    signed: &Signed,
    role: Role,
    most: usize,
    request: Request,
    next: Next,
) -> Response {
    let is_read = request.method() == Method::GET || request.method() == Method::HEAD;
    if signed.role < role {
        return failed(
            StatusCode::FORBIDDEN,
            "Not for this role",
            &format!(
                "This needs the role {role}; yours is {}. Somebody with that role can do it, or give it to you.",
                signed.role
            ),
        );
    }
    let (mut parts, body) = request.into_parts();
    let mut body = body;
    if !is_read {
        let Ok(bytes) = to_bytes(std::mem::take(&mut body), most).await else {
            return failed(
                StatusCode::PAYLOAD_TOO_LARGE,
                "Too long",
                "The form is longer than forms of the console are.",
            );
        };
        let fields = Fields::parse(&bytes);
        if !is_equal(fields.get(TOKEN_FIELD), &signed.session.form_token) {
            return not_taken(
                StatusCode::FORBIDDEN,
                "This form is too old",
                "Open the page again and try once more.",
                fields.get("text"),
                TO_THE_DECISIONS,
            );
        }
        parts.extensions.insert(fields);
    }
    parts.extensions.insert(signed.clone());
    next.run(Request::from_parts(parts, Body::new(body))).await
}

async fn nothing() -> Response {
    failed(
        StatusCode::NOT_FOUND,
        "Nothing here",
        "There is no page at this address.",
    )
}

/// Compares secrets in a time that does not tell where they differ.
fn is_equal(one: &str, other: &str) -> bool {
    let pairs = one.bytes().zip(other.bytes());
    one.len() == other.len() && pairs.fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// The value of a cookie that is there once.
fn cookie_value<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(other, _)| *other == name)
        .map(|(_, value)| value);
    match (found.next(), found.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_and_host() {
        let origin = Origin::parse("https://Risk.example:8443").unwrap();
        assert!(origin.is_secure && origin.host == "risk.example:8443");
        assert!(Origin::parse("http://localhost").is_some());
        for bad in [
            "",
            "risk.example",
            "ftp://x",
            "https://",
            "https://x/y",
            "https://a@b",
            "https://a b",
        ] {
            assert_eq!(Origin::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn cookies_and_fields_that_are_there_twice_are_none() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, "a=1; rg_console=x; b".parse().unwrap());
        assert_eq!(cookie_value(&headers, "rg_console"), Some("x"));
        headers.append(header::COOKIE, "rg_console=y".parse().unwrap());
        assert_eq!(cookie_value(&headers, "rg_console"), None);
        let fields = Fields::parse(b"a=1&b=x%20y&a=2");
        assert_eq!(
            (fields.get("a"), fields.get("b"), fields.get("c")),
            ("", "x y", "")
        );
        assert!(is_equal("abc", "abc") && !is_equal("abc", "abx") && !is_equal("abc", ""));
    }
}
