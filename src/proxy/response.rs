//! Watches the answer: notes its head, looks at the JSON body of the doors that need it, and carries out what the flow
//! says: cookies are added, or another answer goes out in its place. Otherwise it passes unchanged.
//!
//! An answer is replaced before its first byte is sent: the exchange with the identity server is broken off with an error
//! of our own, and [`rescue`](crate::proxy::rescue) writes the replacement. Its length, status and fields are then its own
//! in every version of HTTP, whatever the identity server has announced for its body.

use crate::domain::outcome::ResponseHead;
use crate::domain::signals::session::SESSION_COOKIE;
use crate::flow::AuthFlow;
use crate::proxy::answer::Answer;
use crate::proxy::context::RequestContext;
use bytes::Bytes;
use bytes::BytesMut;
use http::header;
use pingora::Error;
use pingora::ErrorType;
use pingora::http::RequestHeader;
use pingora::http::ResponseHeader;

/// The longest answer that is looked at; a longer one passes all the same.
const ANSWER_BYTES_MAX: usize = 65_536;

/// Says that an answer was replaced; nothing has failed.
const REPLACED: ErrorType = ErrorType::Custom("replaced");

/// The head has come.
pub async fn head(
    flow: &AuthFlow,
    request: &RequestHeader,
    context: &mut RequestContext,
    answer: &mut ResponseHeader,
) -> pingora::Result<()> {
    let status = answer.status.as_u16();
    let Some(exchange) = context.exchange.as_mut() else {
        return Ok(());
    };
    if status >= 200 {
        exchange.upstream_answered(status, flow.dependencies().clock.as_ref());
    }
    if exchange.is_visit() {
        // A service is not to set cookies that the identity server or the gateway would read.
        answer.remove_header(&header::SET_COOKIE);
    }
    // An interim answer says nothing.
    if status < 200 || exchange.door.is_none() {
        let is_read = status >= 200 && flow.passed(exchange, status, &request.headers);
        if is_read && is_readable(answer) {
            context.answer = Some(BytesMut::new());
        }
        return Ok(());
    }
    let seen = seen(answer);
    let plan = flow.answered(exchange, &seen, &request.headers).await;
    if let Some(replacement) = &plan.replace {
        context.replacement = Some(
            Answer::replacement(
                replacement,
                plan.cookies,
                &exchange.snapshot.step_up,
                exchange.id.as_str(),
            )
            .closing(),
        );
        return Error::e_explain(REPLACED, "another answer goes out");
    }
    if is_readable(answer) && flow.wants_body(exchange, status) {
        context.answer = Some(BytesMut::new());
    }
    for cookie in plan.cookies {
        answer.append_header(header::SET_COOKIE, cookie)?;
    }
    Ok(())
}

/// A piece of the body has come.
pub fn body(flow: &AuthFlow, context: &mut RequestContext, chunk: Option<&Bytes>, end: bool) {
    let Some(answer) = context.answer.as_mut() else {
        return;
    };
    if let Some(chunk) = chunk {
        if answer.len() + chunk.len() > ANSWER_BYTES_MAX {
            context.answer = None;
            return;
        }
        answer.extend_from_slice(chunk);
    }
    if end
        && let (Some(answer), Some(exchange)) = (context.answer.take(), context.exchange.as_mut())
    {
        // Before the client has the last byte, so that what was issued is known when it is used.
        flow.answered_with(exchange, &answer);
    }
}

/// Whether a body is JSON that is not compressed.
fn is_readable(answer: &ResponseHeader) -> bool {
    !answer.headers.contains_key(header::CONTENT_ENCODING) && is_json(answer)
}

/// The head of an answer, as far as the flow looks at it.
pub fn seen(answer: &ResponseHeader) -> ResponseHead {
    ResponseHead {
        status: answer.status.as_u16(),
        location: answer
            .headers
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned),
        session: session_set(answer),
    }
}

/// Whether a body is JSON.
pub fn is_json(answer: &ResponseHeader) -> bool {
    has_type(answer, b"application/json")
}

/// Whether a body is JSON or a key set, which is JSON with a name of its own (RFC 7517 section 8.5.2).
pub fn is_json_of_any_kind(answer: &ResponseHeader) -> bool {
    is_json(answer) || has_type(answer, b"application/jwk-set+json")
}

/// Whether a body is HTML.
pub fn is_page(answer: &ResponseHeader) -> bool {
    has_type(answer, b"text/html")
}

fn has_type(answer: &ResponseHeader, expected: &[u8]) -> bool {
    let content_type = answer
        .headers
        .get(header::CONTENT_TYPE)
        .map(http::HeaderValue::as_bytes);
    content_type.is_some_and(|value| {
        value
            .get(..expected.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(expected))
    })
}

/// The session cookie that an answer sets; none when it clears it.
fn session_set(answer: &ResponseHeader) -> Option<String> {
    answer
        .headers
        .get_all(header::SET_COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(|cookie| {
            let (pair, attributes) = cookie.split_once(';').unwrap_or((cookie, ""));
            let (name, value) = pair.split_once('=')?;
            let cleared = attributes
                .split(';')
                .any(|attribute| attribute.trim().eq_ignore_ascii_case("max-age=0"));
            (name.trim() == SESSION_COOKIE && !value.trim().is_empty() && !cleared)
                .then(|| value.trim().to_owned())
        })
}
