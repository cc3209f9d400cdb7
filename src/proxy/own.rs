//! The paths that the gateway serves itself, under `/riskgate/`. Nothing of them is ever forwarded, and nothing of them
//! may be kept by a browser or shown in a frame.

use crate::domain::enforcement::Form;
use crate::domain::enforcement::Rejection;
use crate::domain::enforcement::RejectionKind;
use crate::domain::review::Standing;
use crate::domain::route::KEYS_PATH;
use crate::domain::route::OWN_PREFIX;
use crate::domain::route::POLL_PATH;
use crate::domain::route::SIGNALS_PATH;
use crate::domain::signals::session::DEVICE_COOKIE;
use crate::domain::target::CanonicalTarget;
use crate::flow::AuthFlow;
use crate::flow::devices::ForgetError;
use crate::flow::devices::Wish;
use crate::flow::error::Refusal;
use crate::flow::ports::StateError;
use crate::flow::step::StepPage;
use crate::proxy::answer::Answer;
use crate::proxy::body;
use crate::proxy::connections::Drain;
use crate::proxy::context::RequestContext;
use crate::proxy::own_pages;
use crate::proxy::polls;
use http::HeaderMap;
use http::Method;
use http::header;
use pingora::proxy::Session;
use std::time::Duration;

/// The longest form; a real one has some 300 bytes.
const FORM_BYTES_MAX: usize = 4_096;
/// The page of devices.
const DEVICES: &str = "devices";
/// The page of approvals.
const APPROVE: &str = "approve";

/// Serves one request to a path of our own.
pub async fn serve(
    flow: &AuthFlow,
    session: &mut Session,
    context: &mut RequestContext,
    body_deadline: Duration,
    drain: &Drain,
) -> Answer {
    let Some(exchange) = context.exchange.as_mut() else {
        return Answer::refusal(&nothing(), None, "");
    };
    let published = &flow.dependencies().transmitter;
    // Whoever verifies tokens reads what is published, often many from one address; it costs nothing.
    match exchange.target.as_ref().map(CanonicalTarget::path) {
        Some(KEYS_PATH) => {
            if let Some(keys) = &exchange.snapshot.signing {
                return Answer::key_set(keys.document().to_owned());
            }
        }
        Some(SIGNALS_PATH) => {
            if let Some(metadata) = published.metadata() {
                return Answer::metadata(metadata);
            }
        }
        Some(POLL_PATH) if published.is_polled() => {
            return polls::serve(flow, published, session, context, body_deadline, drain).await;
        }
        _ => {}
    }
    let reference = exchange.id.to_string();
    if let Err(limited) = flow.limit_own(exchange) {
        let rejection = Rejection {
            status: 429,
            form: Form::Page,
            kind: RejectionKind::RateLimited,
            retry_after: Some(limited.retry_after),
        };
        return Answer::rejection(&rejection, &exchange.snapshot.step_up, &reference);
    }
    let page = page(flow, session, context, body_deadline).await;
    page.unwrap_or_else(|refusal| {
        if let Some(exchange) = context.exchange.as_mut() {
            flow.refuse(exchange, &refusal);
        }
        Answer::refusal(&refusal, None, &reference)
    })
}

/// One of the pages for people, or what its form asks for.
async fn page(
    flow: &AuthFlow,
    session: &mut Session,
    context: &mut RequestContext,
    body_deadline: Duration,
) -> Result<Answer, Refusal> {
    let target = context.exchange.as_ref().and_then(|it| it.target.as_ref());
    let path = target.map_or("", CanonicalTarget::path);
    let inner = path
        .strip_prefix(OWN_PREFIX)
        .and_then(|rest| rest.strip_prefix('/'))
        .unwrap_or_default();
    let inner = inner.strip_suffix('/').unwrap_or(inner).to_owned();
    let query = target.and_then(CanonicalTarget::query);
    let query = query.unwrap_or_default().to_owned();
    let is_posted = session.req_header().method == Method::POST;
    match inner.split_once('/') {
        Some(("review", sealed)) if !sealed.contains('/') => {
            waiting(flow, context, sealed, &query).await
        }
        None if inner == DEVICES && is_posted => {
            forget(flow, session, context, body_deadline).await
        }
        None if inner == DEVICES => devices(flow, session, context, &query).await,
        Some(("step", sealed)) if !sealed.contains('/') => {
            let is_asked = session.req_header().method == Method::GET;
            step(flow, context, sealed, &query, is_asked).await
        }
        None if inner == APPROVE && is_posted => {
            approve(flow, session, context, body_deadline).await
        }
        None if inner == APPROVE => approvals(flow, session, context, &query).await,
        _ => Err(nothing()),
    }
}

/// What waits for the word of the user whose session the browser holds.
async fn approvals(
    flow: &AuthFlow,
    session: &Session,
    context: &RequestContext,
    query: &str,
) -> Result<Answer, Refusal> {
    let exchange = context.exchange.as_ref().ok_or_else(nothing)?;
    let headers = &session.req_header().headers;
    let page = flow.approve_page(exchange, headers).await;
    let html = own_pages::approve(&page.map_err(not_done)?, query == own_pages::APPROVED);
    Ok(Answer::own(200, html, "same-origin"))
}

/// How a held login stands.
async fn waiting(
    flow: &AuthFlow,
    context: &RequestContext,
    sealed: &str,
    query: &str,
) -> Result<Answer, Refusal> {
    let exchange = context.exchange.as_ref().ok_or_else(nothing)?;
    let page = flow
        .waiting_page(exchange, sealed)
        .await
        .map_err(unavailable)?
        .ok_or_else(nothing)?;
    let looks = own_pages::Looks::of(query);
    let html = own_pages::waiting(&page, looks);
    if page.standing != Some(Standing::Waiting) {
        return Ok(Answer::own(200, html, "no-referrer"));
    }
    let answer = Answer::own(202, html, "no-referrer");
    Ok(match looks.next() {
        Some((seconds, next)) => answer.with(
            header::REFRESH,
            format!("{seconds}; url={OWN_PREFIX}/review/{sealed}?{next}"),
        ),
        None => answer,
    })
}

/// A login that waits for our step, or the end of it.
async fn step(
    flow: &AuthFlow,
    context: &mut RequestContext,
    sealed: &str,
    query: &str,
    is_asked: bool,
) -> Result<Answer, Refusal> {
    let exchange = context.exchange.as_mut().ok_or_else(nothing)?;
    let (tenant, look) = query.split_once('&').unwrap_or((query, ""));
    let is_given_up = is_asked && look == own_pages::GIVE_UP;
    let tenant = tenant
        .strip_prefix("tenant=")
        .ok_or_else(nothing)?
        .to_owned();
    let looks = own_pages::Looks::of(look);
    if is_given_up {
        let back = flow.give_up_step(exchange, sealed, &tenant).await;
        return back
            .map(|back| Answer::see_other(&back))
            .ok_or_else(nothing);
    }
    let address = format!("{OWN_PREFIX}/step/{sealed}?tenant={tenant}");
    match flow.step_page(exchange, sealed, &tenant).await {
        StepPage::Goes(back) => Ok(Answer::see_other(&back)),
        StepPage::Ended => Ok(Answer::own(
            410,
            own_pages::step(&StepPage::Ended, &address, looks),
            "no-referrer",
        )),
        waiting @ StepPage::Waiting(_) => {
            let html = own_pages::step(&waiting, &address, looks);
            let answer = Answer::own(200, html, "same-origin");
            Ok(match looks.next() {
                Some((seconds, next)) => {
                    answer.with(header::REFRESH, format!("{seconds}; url={address}&{next}"))
                }
                None => answer,
            })
        }
    }
}

/// Approves the sign-in whose number was typed, and leads back to the page.
async fn approve(
    flow: &AuthFlow,
    session: &mut Session,
    context: &mut RequestContext,
    body_deadline: Duration,
) -> Result<Answer, Refusal> {
    let fields = form(session, body_deadline).await?;
    let number = fields.number.as_deref().ok_or_else(expired)?;
    let exchange = context.exchange.as_mut().ok_or_else(nothing)?;
    let headers = &session.req_header().headers;
    flow.approve(exchange, headers, &fields.form, number)
        .await
        .map_err(not_done)?;
    Ok(Answer::see_other(&format!(
        "{OWN_PREFIX}/{APPROVE}?{}",
        own_pages::APPROVED
    )))
}

/// The devices of the user whose session the browser holds.
async fn devices(
    flow: &AuthFlow,
    session: &Session,
    context: &RequestContext,
    query: &str,
) -> Result<Answer, Refusal> {
    let exchange = context.exchange.as_ref().ok_or_else(nothing)?;
    let page = flow
        .devices_page(exchange, &session.req_header().headers)
        .await
        .map_err(unavailable)?;
    let html = own_pages::devices(&page, query == own_pages::FORGOTTEN);
    Ok(Answer::own(200, html, "same-origin"))
}

/// Does what a form of that page asks for, and leads back to it.
async fn forget(
    flow: &AuthFlow,
    session: &mut Session,
    context: &mut RequestContext,
    body_deadline: Duration,
) -> Result<Answer, Refusal> {
    let fields = form(session, body_deadline).await?;
    let wish = match (fields.device.as_deref(), fields.what.as_deref()) {
        (Some(handle), None) => Wish::Device(handle),
        (None, Some("others")) => Wish::Others,
        (None, Some("this_browser")) => Wish::ThisBrowser,
        _ => return Err(expired()),
    };
    let exchange = context.exchange.as_mut().ok_or_else(nothing)?;
    let clears = flow
        .forget_by_form(exchange, &session.req_header().headers, &fields.form, wish)
        .await
        .map_err(not_done)?;
    let answer = Answer::see_other(&format!("{OWN_PREFIX}/{DEVICES}?{}", own_pages::FORGOTTEN));
    Ok(if clears {
        answer.with_cookie(format!(
            "{DEVICE_COOKIE}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=None"
        ))
    } else {
        answer
    })
}

/// The fields of a form of ours.
async fn form(
    session: &mut Session,
    body_deadline: Duration,
) -> Result<own_pages::Fields, Refusal> {
    let headers = &session.req_header().headers;
    if !is_form(headers) {
        return Err(Refusal::closing(
            415,
            "content_type",
            "expected application/x-www-form-urlencoded",
        ));
    }
    if is_from_elsewhere(headers) {
        return Err(expired());
    }
    let body = body::read(session, body_deadline).await?;
    if body.len() > FORM_BYTES_MAX {
        return Err(Refusal::new(413, "body_size", "the form is too large"));
    }
    own_pages::fields(&body).ok_or_else(expired)
}

fn not_done(error: ForgetError) -> Refusal {
    match error {
        ForgetError::Form => expired(),
        ForgetError::State(error) => unavailable(error),
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|value| value.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        && !headers.contains_key(header::CONTENT_ENCODING)
}

/// Whether the browser says that another site sends the form. The seal in the form decides by itself; this catches what
/// the browser knows in addition.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let site = text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let host = text("host");
    let origin = text("origin").is_some_and(|origin| {
        let named = origin.split_once("://").map(|(_, host)| host);
        // Over HTTP/2 the host is not among the fields.
        host.is_some() && named != host
    });
    site || origin
}

fn nothing() -> Refusal {
    Refusal::new(404, "not_found", "there is nothing here")
}

fn expired() -> Refusal {
    Refusal::new(403, "form", "the form has expired")
}

fn unavailable(error: StateError) -> Refusal {
    tracing::warn!(error = %error, "an own page could not be served");
    Refusal::new(503, "state", "the memory does not answer")
}
