//! Receivers of shared signals fetch what waits for them (RFC 8936). They come from outside, so that it is on the public
//! listener; nothing of a body is read before the token is known.

use crate::domain::shared_signal::poll::PollRequest;
use crate::flow::AuthFlow;
use crate::flow::error::Refusal;
use crate::flow::shared_signals::NoOutbox;
use crate::flow::shared_signals::Published;
use crate::proxy::answer::Answer;
use crate::proxy::body;
use crate::proxy::connections::Drain;
use crate::proxy::context::RequestContext;
use http::HeaderMap;
use http::header;
use pingora::proxy::Session;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Serves one poll.
pub async fn serve(
    flow: &AuthFlow,
    published: &Published,
    session: &mut Session,
    context: &mut RequestContext,
    body_deadline: Duration,
    drain: &Drain,
) -> Answer {
    // Also who guesses is counted.
    if let Some(Err(limited)) = context
        .exchange
        .as_ref()
        .map(|exchange| flow.limit_own(exchange))
    {
        return Answer::json(429, said("access_denied", "too many requests"))
            .with(header::RETRY_AFTER, limited.retry_after.to_string());
    }
    let outbox = match published.outbox(&session.req_header().headers) {
        Ok(outbox) => outbox,
        Err(why) => return stranger(flow, context, why),
    };
    let request = match asked(session, body_deadline).await {
        Ok(request) => request,
        Err(refusal) => return refused(flow, context, &refusal, "invalid_request"),
    };
    let given = tokio::select! {
        // In this order: what is acknowledged is taken in any case.
        biased;
        given = outbox.poll(&request) => given,
        // The end of the gateway does not wait for it.
        () = drain.begun() => {
            session.set_keepalive(None);
            outbox.poll(&request.at_once()).await
        }
    };
    // Who has waited may have lost his token meanwhile; what he is not given waits on.
    match published.outbox(&session.req_header().headers) {
        Ok(now) if Arc::ptr_eq(&now, &outbox) => Answer::json(200, given.json()),
        Ok(_) => stranger(flow, context, NoOutbox::Wrong),
        Err(why) => stranger(flow, context, why),
    }
}

async fn asked(session: &mut Session, body_deadline: Duration) -> Result<PollRequest, Refusal> {
    if !is_json(&session.req_header().headers) {
        return Err(Refusal::closing(
            415,
            "content_type",
            "expected application/json, as it is",
        ));
    }
    let body = body::read(session, body_deadline).await?;
    PollRequest::parse(&body).map_err(|error| Refusal::new(400, "poll", error.to_string()))
}

/// Who shows no token, or one that nobody has (RFC 6750 section 3).
fn stranger(flow: &AuthFlow, context: &mut RequestContext, why: NoOutbox) -> Answer {
    let refusal = Refusal::closing(401, "poll_token", "the token is missing or wrong");
    let challenge = match why {
        NoOutbox::Missing => "Bearer realm=\"riskgate\"",
        NoOutbox::Wrong => "Bearer realm=\"riskgate\", error=\"invalid_token\"",
    };
    refused(flow, context, &refusal, "authentication_failed")
        .with(header::WWW_AUTHENTICATE, challenge.to_owned())
}

fn refused(
    flow: &AuthFlow,
    context: &mut RequestContext,
    refusal: &Refusal,
    error: &str,
) -> Answer {
    if let Some(exchange) = context.exchange.as_mut() {
        flow.refuse(exchange, refusal);
    }
    let answer = Answer::json(refusal.status, said(error, &refusal.message));
    if refusal.close {
        answer.closing()
    } else {
        answer
    }
}

/// An error in the words of RFC 8935 section 2.3, which this one takes over.
fn said(error: &str, description: &str) -> String {
    json!({ "err": error, "description": description }).to_string()
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next(), kinds.next()) else {
        return false;
    };
    let kind = kind.to_str().unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    kind.eq_ignore_ascii_case("application/json") && !headers.contains_key(header::CONTENT_ENCODING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;
    use http::HeaderValue;

    #[test]
    fn only_plain_json_is_read() {
        let read = |fields: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(name, HeaderValue::from_str(value).unwrap());
            }
            is_json(&headers)
        };
        let kind = "content-type";
        assert!(read(&[(kind, "application/json")]));
        assert!(read(&[(kind, "Application/JSON ; charset=utf-8")]));
        for fields in [
            vec![],
            vec![(kind, "")],
            vec![(kind, "text/plain")],
            vec![(kind, "application/jsonx")],
            vec![(kind, "application/json"), (kind, "application/json")],
            vec![(kind, "application/json"), ("content-encoding", "gzip")],
        ] {
            assert!(!read(&fields), "{fields:?}");
        }
    }
}
