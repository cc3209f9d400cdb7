//! A tiny application on loopback to which riskgate's visitors come back after signing in: it exchanges the code and says
//! how riskgate saw the sign-in. It keeps no session, and it shows nothing but what the token and the audit record say.

use crate::audit::Records;
use crate::cast;
use crate::chapters::Chapter;
use crate::driver::ACR_MFA;
use crate::driver::Gateway;
use crate::driver::WEB;
use crate::place::Place;
use axum::Router;
use axum::extract::Query;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Redirect;
use axum::response::Response;
use axum::routing::get;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::policy::reason::Reason;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::net::TcpListener;
use uuid::Uuid;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:38rem;margin:3rem auto;padding:0 1rem;\
color:#1a1a1a;background:#fff}dt{font-weight:600;margin-top:.6rem}dd{margin:0}code{font-size:1.1em}\
a{color:#0b57d0}.big{font-size:1.25rem}";
/// No script, nothing from elsewhere, in no frame.
const SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

/// The application.
#[derive(Clone, Debug)]
pub(crate) struct App {
    gateway: Gateway,
    records: Arc<Records>,
    // The same for the whole run, so that the URL on the terminal can be used more than once.
    state: Arc<str>,
    own_url: Arc<str>,
}

impl App {
    /// The application of this run.
    pub(crate) fn new(
        place: &Place,
        gateway: Gateway,
        records: Arc<Records>,
    ) -> anyhow::Result<Self> {
        // Fails here rather than at the first visitor.
        gateway.direct()?;
        Ok(Self {
            gateway,
            records,
            state: Uuid::new_v4().simple().to_string().into(),
            own_url: place.app_url().into(),
        })
    }

    /// Where a sign-in to this application begins.
    pub(crate) fn authorize_url(&self) -> String {
        self.gateway.authorize_url(WEB, &self.state, &[])
    }
}

/// Serves until the task is aborted.
pub(crate) async fn serve(listener: TcpListener, app: App) -> std::io::Result<()> {
    let router = Router::new()
        .route("/", get(start))
        .route("/sign-in", get(sign_in))
        .route("/sign-in/two-factors", get(sign_in_with_two_factors))
        .route("/cb", get(callback))
        .with_state(app);
    axum::serve(listener, router).await
}

async fn start() -> Response {
    let (code, seconds) = cast::alice_code();
    let body = format!(
        "<p>This application trusts the simulated WSO2 Identity Server, which stands behind riskgate.</p>\
         <p class=\"big\"><a href=\"/sign-in\">Sign in through riskgate</a></p>\
         <p><a href=\"/sign-in/two-factors\">Sign in with two factors</a>, as an application asks for that needs both</p>\
         <p>Your browser will warn you once: the certificate of riskgate was made for this demo.</p>\
         <dl><dt>As somebody new</dt>\
         <dd>user <code>alice</code>, password <code>wonderland</code></dd>\
         <dd>one-time code, if asked for: <code>{code}</code> for {seconds} more seconds, \
         then <a href=\"/\">load this page again</a></dd>\
         <dt>As somebody who has got hold of a password</dt>\
         <dd>user <code>grace</code>, password <code>grace-pw-1</code>: she was seen at home elsewhere just now, \
         on another browser</dd></dl>"
    );
    page(StatusCode::OK, "riskgate demo", &body)
}

// Whoever comes back is asked for the password again, so that each visit is a new sign-in.
async fn sign_in(State(app): State<App>) -> Response {
    to_gateway(&app, &[("prompt", "login")])
}

async fn sign_in_with_two_factors(State(app): State<App>) -> Response {
    to_gateway(&app, &[("prompt", "login"), ("acr_values", ACR_MFA)])
}

fn to_gateway(app: &App, more: &[(&str, &str)]) -> Response {
    let url = app.gateway.authorize_url(WEB, &app.state, more);
    ([(header::CACHE_CONTROL, "no-store")], Redirect::to(&url)).into_response()
}

async fn callback(
    State(app): State<App>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let text = |name: &str| query.get(name).map(String::as_str);
    if text("state") != Some(&app.state) {
        return refused("The answer belongs to no sign-in of this demo.", "state");
    }
    if let Some(error) = text("error") {
        let why = text("error_description").unwrap_or("The sign-in was refused.");
        return refused(why, error);
    }
    let Some(code) = text("code") else {
        return refused("The answer holds no code.", "code");
    };
    let answer = match app.gateway.direct() {
        Ok(mut server) => app.gateway.redeem(&mut server, WEB, code, None).await,
        Err(error) => Err(error),
    };
    let answer = match answer {
        Ok(answer) if answer.status == 200 => answer,
        Ok(answer) => {
            let error = answer.text("error").unwrap_or_default();
            return refused("The code was not exchanged for tokens.", &error);
        }
        Err(error) => return refused("riskgate cannot be reached.", &error.to_string()),
    };
    app.records.settle().await;
    let events = app.records.decisions(Chapter::Visitor);
    let claim = |name: &str| answer.id_claim(name).unwrap_or_else(|| "none".to_owned());
    let mut body = match deciding(&events) {
        Some(event) => told(event),
        None => "<p role=\"alert\">There is no record of this sign-in.</p>".to_owned(),
    };
    body.push_str(&format!(
        "<h2>What WSO2 signed</h2><dl><dt>Subject</dt><dd><code>{}</code></dd>\
         <dt>Strength (acr)</dt><dd><code>{}</code></dd><dt>Methods (amr)</dt><dd>{}</dd></dl>\
         <p>The tokens carry no risk claims yet.</p><p><a href=\"{}/\">Back to the start</a></p>",
        escaped(&claim("sub")),
        escaped(&claim("acr")),
        escaped(&claim("amr")),
        escaped(&app.own_url),
    ));
    page(StatusCode::OK, "You are in", &body)
}

/// The record that says most about the latest sign-in: of the subject of the last code exchange, the last password; where
/// a session answered without one, the last authorize request.
fn deciding(events: &[AuditEvent]) -> Option<&AuditEvent> {
    let redeemed = events.iter().rev().find(|event| {
        event.door.as_deref() == Some("token")
            && event.grant_type.as_deref() == Some("authorization_code")
    })?;
    let own = |door: &'static str| {
        events.iter().rev().find(move |event| {
            event.door.as_deref() == Some(door)
                && event.subject == redeemed.subject
                && event.source.as_deref() != Some("provenance")
        })
    };
    own("login").or_else(|| own("authorize")).or(Some(redeemed))
}

fn told(event: &AuditEvent) -> String {
    let score = event
        .score
        .map_or("none".to_owned(), |score| score.to_string());
    let verdict = event.verdict.as_deref().unwrap_or("none");
    let reasons: String = event
        .reasons
        .iter()
        .map(|code| {
            let sentence = Reason::from_code(code).map_or("", Reason::sentence);
            format!(
                "<li><code>{}</code>: {}</li>",
                escaped(code),
                escaped(sentence)
            )
        })
        .collect();
    let reasons = if reasons.is_empty() {
        "<p>Nothing spoke against it.</p>".to_owned()
    } else {
        format!("<ul>{reasons}</ul>")
    };
    format!(
        "<p class=\"big\">Score <strong>{score}</strong> of 100, verdict <strong>{verdict}</strong>.</p>\
         <h2>Why</h2>{reasons}\
         <dl><dt>Level</dt><dd>{level}</dd><dt>Decided by</dt><dd><code>{matched}</code></dd>\
         <dt>Time to the decision</dt><dd>{micros} µs</dd><dt>Record</dt><dd><code>{id}</code></dd></dl>",
        verdict = escaped(verdict),
        level = escaped(event.level.as_deref().unwrap_or("none")),
        matched = escaped(event.matched.as_deref().unwrap_or("none")),
        micros = event.timing.decision,
        id = escaped(&event.id),
    )
}

fn refused(why: &str, code: &str) -> Response {
    let body = format!(
        "<p role=\"alert\">{}</p><p><code>{}</code></p><p><a href=\"/\">Back to the start</a></p>",
        escaped(why),
        escaped(code)
    );
    page(StatusCode::BAD_REQUEST, "Not signed in", &body)
}

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, SECURITY_POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // The code in the URL is nobody else's business.
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (status, headers, html).into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
