//! Collects the body of an answer that goes out changed, and exchanges it at its end. The head goes out before the body is
//! known: it names no length, and everything in it that speaks of the old body is removed. A body that is too long is let go
//! as it came, from its first byte.

use crate::flow::AuthFlow;
use crate::flow::exchange::Exchange;
use crate::flow::rewrite;
use crate::flow::rewrite::BODY_BYTES_MAX;
use crate::flow::rewrite::Rewrite;
use crate::proxy::context::RequestContext;
use crate::proxy::response;
use bytes::Bytes;
use bytes::BytesMut;
use http::HeaderName;
use http::Method;
use http::header;
use pingora::http::RequestHeader;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

/// Fields of an answer that hold for the body as the identity server has sent it (RFC 9110 section 8, RFC 9530).
const OF_THE_BODY: [HeaderName; 8] = [
    header::ACCEPT_RANGES,
    header::CONTENT_LENGTH,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    header::ETAG,
    header::LAST_MODIFIED,
    HeaderName::from_static("repr-digest"),
];
/// Fields of a request with which a part of the body, another coding of it or nothing at all would come.
const NOT_THE_WHOLE: [HeaderName; 6] = [
    header::ACCEPT_ENCODING,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::RANGE,
    HeaderName::from_static("want-repr-digest"),
];

/// A body that is being collected.
#[derive(Debug)]
pub struct Collected {
    rewrite: Rewrite,
    held: BytesMut,
}

/// Asks the identity server for the whole body where it may be changed.
pub fn ask_for_all(head: &mut RequestHeader, exchange: &Exchange) {
    if rewrite::is_possible(exchange) {
        for name in &NOT_THE_WHOLE {
            head.remove_header(name);
        }
    }
}

/// The head of an answer has come that passes: it is made fit for another body where it will have one.
pub async fn head(
    flow: &AuthFlow,
    session: &mut Session,
    context: &mut RequestContext,
    answer: &mut ResponseHeader,
) -> pingora::Result<()> {
    let Some(rewrite) = wanted(flow, context, answer).await else {
        return Ok(());
    };
    for name in &OF_THE_BODY {
        answer.remove_header(name);
    }
    let request = session.req_header();
    if request.method == Method::HEAD {
        return Ok(());
    }
    if request.version == http::Version::HTTP_10 {
        // The end of the connection is the end of the body.
        answer.remove_header(&header::TRANSFER_ENCODING);
        session.set_keepalive(None);
    } else {
        // HTTP/2 has frames instead, and drops the field.
        answer.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    context.collected = Some(Collected {
        rewrite,
        held: BytesMut::new(),
    });
    Ok(())
}

/// A piece of the body has come.
pub fn body(flow: &AuthFlow, context: &mut RequestContext, chunk: &mut Option<Bytes>, end: bool) {
    let Some(mut collected) = context.collected.take() else {
        return;
    };
    if let Some(chunk) = chunk.take() {
        collected.held.extend_from_slice(&chunk);
    }
    if collected.held.len() > BODY_BYTES_MAX {
        *chunk = Some(collected.held.freeze());
        return;
    }
    if !end {
        context.collected = Some(collected);
        return;
    }
    let new = context
        .exchange
        .as_ref()
        .and_then(|exchange| flow.rewritten(exchange, collected.rewrite, &collected.held));
    *chunk = Some(new.map_or_else(|| collected.held.freeze(), Bytes::from));
}

/// The same for an answer that is there as a whole; its length is the caller's to say.
pub async fn whole(
    flow: &AuthFlow,
    context: &RequestContext,
    answer: &mut ResponseHeader,
    body: Bytes,
) -> Bytes {
    if body.len() > BODY_BYTES_MAX {
        return body;
    }
    let Some(rewrite) = wanted(flow, context, answer).await else {
        return body;
    };
    let exchange = context.exchange.as_ref();
    let Some(new) = exchange.and_then(|exchange| flow.rewritten(exchange, rewrite, &body)) else {
        return body;
    };
    for name in &OF_THE_BODY {
        answer.remove_header(name);
    }
    Bytes::from(new)
}

async fn wanted(
    flow: &AuthFlow,
    context: &RequestContext,
    answer: &ResponseHeader,
) -> Option<Rewrite> {
    let exchange = context.exchange.as_ref()?;
    let is_plain = !answer.headers.contains_key(header::CONTENT_ENCODING);
    let length = answer.headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if !is_plain
        || !response::is_json_of_any_kind(answer)
        || length.is_some_and(|it| it > BODY_BYTES_MAX)
    {
        return None;
    }
    flow.rewrite(exchange, answer.status.as_u16()).await
}
