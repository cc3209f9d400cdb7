//! In and out of the console. A wrong name and a wrong password are told alike and cost alike; tries are bounded by name and
//! by address.

use crate::admin::console::Console;
use crate::admin::console::FORM_BYTES_MAX;
use crate::admin::console::Fields;
use crate::admin::console::Signed;
use crate::admin::console::TOKEN_FIELD;
use crate::admin::console::cookie_value;
use crate::admin::console::is_equal;
use crate::admin::console::layout::encoded;
use crate::admin::console::layout::failed;
use crate::admin::console::layout::open_page;
use crate::admin::console::provider::BEGIN;
use crate::domain::operator::roster::NAME_BYTES_MAX;
use crate::domain::operator::roster::Operator;
use crate::domain::operator::session::Session;
use crate::domain::operator::session::SessionKey;
use crate::domain::operator::session::TRIES_OF_ADDRESS_MAX;
use crate::domain::operator::session::TRIES_OF_NAME_MAX;
use crate::domain::operator::session::Who;
use axum::Extension;
use axum::body::Body;
use axum::body::to_bytes;
use axum::extract::ConnectInfo;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Redirect;
use axum::response::Response;
use maud::html;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The cookie that binds the form to the browser before there is a session.
const FORM_COOKIE: &str = "rg_console_form";

/// Why a name and a password are not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::admin) enum Refused {
    /// There were too many tries.
    Wait(Duration),
    /// Too many are being looked at.
    Busy,
    /// One of the two is wrong.
    Wrong,
}

/// What the page says beside its form.
enum Notice {
    None,
    Wrong,
    Wait(Duration),
    Busy,
    Old,
}

impl Console {
    /// The operator of this name and password. Tries are bounded by name and by `address`, and each that fails leaves a record.
    pub(in crate::admin) async fn verify(
        &self,
        name: String,
        password: String,
        address: &str,
    ) -> Result<Operator, Refused> {
        let now = self.now();
        // Only names that could be some are remembered.
        let who = format!(
            "name {}",
            if name.len() <= NAME_BYTES_MAX {
                name.as_str()
            } else {
                ""
            }
        );
        {
            let mut tries = self.tries();
            tries
                .note(&format!("address {address}"), TRIES_OF_ADDRESS_MAX, now)
                .and_then(|()| tries.note(&who, TRIES_OF_NAME_MAX, now))
                .map_err(Refused::Wait)?;
        }
        // One at a time: a password costs memory and a processor.
        let roster = self.roster.load_full();
        let known = roster
            .find(&name)
            .map(|operator| operator.name().to_string());
        let place = Arc::clone(&self.desk.hashers).acquire_owned();
        let place = tokio::time::timeout(Duration::from_secs(5), place).await;
        let Ok(Ok(place)) = place else {
            return Err(Refused::Busy);
        };
        let flow = Arc::clone(&self.flow);
        // Whoever tries may hang up: the place is taken until the thread is through, and the record is left all the same.
        let verified = tokio::task::spawn_blocking(move || {
            let _place = place;
            let found = roster.verify(&name, &password).cloned();
            if found.is_none() {
                // What was typed as a name that nobody has may be a password: it is not recorded.
                flow.record_operator(known.as_deref(), "sign_in_failed", "");
            }
            found
        });
        let Ok(Some(operator)) = verified.await else {
            return Err(Refused::Wrong);
        };
        self.tries().forget(&who);
        Ok(operator)
    }
}

/// The path of the sign-in page, which leads back to `to`.
pub(super) fn path(to: &str) -> String {
    match to {
        "/console" => "/console/sign-in".to_owned(),
        to => format!("/console/sign-in?to={}", encoded(to)),
    }
}

/// `GET /console/sign-in`.
pub(super) async fn page(
    State(console): State<Console>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let to = inside(query.get("to"));
    if console.session(&headers).is_some() {
        return Redirect::to(&to).into_response();
    }
    form(&console, StatusCode::OK, &to, &Notice::None)
}

/// The fields of a form of this page, and where it leads to; or the answer to what is none.
pub(super) async fn sent(
    console: &Console,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Fields, String), Response> {
    let body = to_bytes(body, FORM_BYTES_MAX).await.map_err(|_| {
        failed(
            StatusCode::PAYLOAD_TOO_LARGE,
            "Too long",
            "The form is longer than it may be.",
        )
    })?;
    let fields = Fields::parse(&body);
    let to = inside(fields.get("to"));
    if !is_bound(headers, &fields) {
        return Err(too_old(console, &to));
    }
    Ok((fields, to))
}

/// `POST /console/sign-in`.
pub(super) async fn sign_in(
    State(console): State<Console>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let (fields, to) = match sent(&console, &headers, body).await {
        Ok(sent) => sent,
        Err(refused) => return refused,
    };
    let (name, password) = (
        fields.get("name").trim().to_owned(),
        fields.get("password").to_owned(),
    );
    let address = peer.ip().to_string();
    let operator = match console.verify(name, password, &address).await {
        Ok(operator) => operator,
        Err(Refused::Wait(wait)) => {
            let notice = Notice::Wait(wait);
            return form(&console, StatusCode::TOO_MANY_REQUESTS, &to, &notice);
        }
        Err(Refused::Busy) => {
            let notice = Notice::Busy;
            return form(&console, StatusCode::SERVICE_UNAVAILABLE, &to, &notice);
        }
        Err(Refused::Wrong) => {
            return form(&console, StatusCode::UNAUTHORIZED, &to, &Notice::Wrong);
        }
    };
    let cookie = open(&console, &headers, Who::Local(operator), address, "");
    let mut response = Redirect::to(&to).into_response();
    for text in [
        cookie,
        format!("{FORM_COOKIE}=; Path=/console/sign-in; Max-Age=0"),
    ] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }
    response
}

/// Whether a form for signing in was given to the browser that sends it.
fn is_bound(headers: &HeaderMap, fields: &Fields) -> bool {
    let bound = cookie_value(headers, FORM_COOKIE).filter(|value| !value.is_empty());
    bound.is_some_and(|bound| is_equal(bound, fields.get(TOKEN_FIELD)))
}

/// The page for a form that was not.
fn too_old(console: &Console, to: &str) -> Response {
    form(console, StatusCode::FORBIDDEN, to, &Notice::Old)
}

/// Opens a session and leaves its record. Returns what the browser is to keep.
pub(super) fn open(
    console: &Console,
    headers: &HeaderMap,
    operator: Who,
    address: String,
    note: &str,
) -> String {
    let now = console.now();
    // A session always has a value of its own: one that was planted before is worth nothing.
    if let Some(old) = cookie_value(headers, console.cookie().0) {
        console.sessions().close(SessionKey::of(old));
    }
    let value = console.random();
    let name = operator.name().to_string();
    console.sessions().open(
        SessionKey::of(&value),
        Session {
            operator,
            form_token: console.random(),
            opened: now,
            used: now,
            address,
        },
    );
    console.flow.record_operator(Some(&name), "signed_in", note);
    let (cookie, attributes) = console.cookie();
    format!("{cookie}={value}{attributes}")
}

/// Ends the session that was just opened with this cookie.
pub(super) fn shut(console: &Console, cookie: &str) {
    let pair = cookie.split(';').next().unwrap_or(cookie);
    if let Some((_, value)) = pair.split_once('=') {
        console.sessions().close(SessionKey::of(value));
    }
}

/// `POST /console/sign-out`. Who came by a provider is still signed in there, and is told how to end that as well.
pub(super) async fn sign_out(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
) -> Response {
    console.sessions().close(signed.key);
    console
        .flow
        .record_operator(Some(signed.session.operator.name()), "signed_out", "");
    let (cookie, attributes) = console.cookie();
    let mut response = match &signed.session.operator {
        Who::Provided {
            sign_out: Some(address),
            ..
        } => open_page(
            StatusCode::OK,
            "Signed out",
            html! {
                h1 { "Signed out" }
                p { "You are signed out of this console. At the provider you are still signed in, and the next sign-in here may ask for nothing." }
                p { a href=(address) { "Sign out of the provider" } }
                p { a href="/console/sign-in" { "To the sign-in page" } }
            },
        ),
        Who::Provided { sign_out: None, .. } | Who::Local(_) => {
            Redirect::to("/console/sign-in").into_response()
        }
    };
    if let Ok(value) = HeaderValue::from_str(&format!("{cookie}={attributes}; Max-Age=0")) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

fn form(console: &Console, status: StatusCode, to: &str, notice: &Notice) -> Response {
    let token = console.random();
    let provider = console.provider.load();
    let body = html! {
        div class="narrow" {
            h1 { "Sign in" }
            @match notice {
                Notice::None => {}
                Notice::Wrong => { p class="notice bad" role="alert" { "Name or password is wrong." } }
                Notice::Wait(span) => {
                    p class="notice bad" role="alert" { "There were too many attempts. Try again in " (span.as_secs() + 1) " seconds." }
                }
                Notice::Busy => { p class="notice bad" role="alert" { "Too many sign in at this moment. Try again." } }
                Notice::Old => { p class="notice bad" role="alert" { "The form was too old, or cookies are off. Try again." } }
            }
            @if !console.lets_in_anybody() {
                p class="notice" {
                    "There is no operator yet. Make one on the machine of the gateway: "
                    code { "riskgate operator add NAME --role analyst" }
                }
            }
            @if let Some(provider) = provider.as_ref() {
                form method="post" action=(BEGIN) {
                    input type="hidden" name=(TOKEN_FIELD) value=(token);
                    input type="hidden" name="to" value=(to);
                    button class="primary" { "Sign in with " (provider.host()) }
                }
                h2 { "With a password of this gateway" }
            }
            form method="post" action="/console/sign-in" {
                input type="hidden" name=(TOKEN_FIELD) value=(token);
                input type="hidden" name="to" value=(to);
                label for="name" { "Name" }
                input id="name" name="name" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus[provider.is_none()] maxlength="64";
                label for="password" { "Password" }
                input id="password" name="password" type="password" autocomplete="current-password" required maxlength="1024";
                button class="primary" { "Sign in" }
            }
        }
    };
    let mut response = open_page(status, "Sign in", body);
    let secure = if console.is_secure() { "; Secure" } else { "" };
    let cookie =
        format!("{FORM_COOKIE}={token}; Path=/console/sign-in; HttpOnly; SameSite=Strict{secure}");
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    if let Notice::Wait(span) = notice
        && let Ok(value) = HeaderValue::from_str(&(span.as_secs() + 1).to_string())
    {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

/// A page of the console to go back to; its first one for anything else.
pub(super) fn inside(to: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    let rest = to.strip_prefix("/console");
    let is_inside = rest.is_some_and(|rest| {
        rest.is_empty() || rest.starts_with('/') && !rest.starts_with("//") || rest.starts_with('?')
    });
    if is_inside && to.len() <= 2_048 && to.bytes().all(plain) {
        to.to_owned()
    } else {
        "/console".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_comes_back_to_pages_of_the_console_alone() {
        for good in [
            "/console",
            "/console/review",
            "/console?verdict=block",
            "/console/users/ab?older=1-2",
        ] {
            assert_eq!(inside(good), good);
        }
        for bad in [
            "",
            "/",
            "//evil.example",
            "/consolex",
            "/console//evil.example",
            "https://evil.example/console",
            "/console\\evil",
            "/console/\r\nset-cookie:x",
            "/console/\u{e4}",
        ] {
            assert_eq!(inside(bad), "/console", "{bad}");
        }
    }
}
