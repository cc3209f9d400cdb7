//! An exchange whose answer has to prove or tell something before any of it is sent: the request goes to the identity server
//! from here, the whole answer is read and judged, and then either it or its replacement is written.
//!
//! Answers of the token endpoint come this way, and what owes a stronger factor or tells whose login it was elsewhere; every
//! other answer is passed on as it arrives.

use crate::domain::headers::OF_ONE_CONNECTION;
use crate::flow::AuthFlow;
use crate::flow::proof;
use crate::flow::proof::HeldAnswer;
use crate::proxy::answer::Answer;
use crate::proxy::context::RequestContext;
use crate::proxy::gathered::Gathered;
use crate::proxy::response;
use crate::proxy::rewrite;
use crate::proxy::upstream;
use crate::proxy::upstream::Upstream;
use bytes::Bytes;
use bytes::BytesMut;
use http::HeaderName;
use http::header;
use pingora::Error;
use pingora::ErrorType;
use pingora::Result;
use pingora::connectors::TransportConnector;
use pingora::http::RequestHeader;
use pingora::http::ResponseHeader;
use pingora::protocols::http::v1::client::HttpSession as ClientSession;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::upstreams::peer::Peer;

/// The longest answer that is held. Token responses and self-posting forms are far shorter.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Serves one request. An error is the identity server's, or the client's who has gone.
pub async fn serve(
    connector: &TransportConnector,
    upstream: &Upstream,
    flow: &AuthFlow,
    session: &mut Session,
    context: &mut RequestContext,
) -> Result<()> {
    let body = context
        .new_body
        .clone()
        .or_else(|| session.as_downstream().get_retry_buffer())
        .unwrap_or_default();
    let head = request_head(session, context, body.len())?;
    let mut asked = Asked::send(connector, upstream, context, head, body)
        .await
        .map_err(|error| error.into_up())?;
    let (head, body) = tokio::select! {
        biased;
        answer = asked.answer() => answer.map_err(|error| error.into_up())?,
        gone = left(session) => return Err(gone.into_down()),
    };
    asked.release(connector).await;
    let Some(exchange) = context.exchange.as_mut() else {
        return Err(internal("a request without an exchange"));
    };
    exchange.upstream_answered(head.status.as_u16(), flow.dependencies().clock.as_ref());
    let is_plain = !head.headers.contains_key(header::CONTENT_ENCODING);
    let seen = response::seen(&head);
    let request = &session.req_header().headers;
    let plan = flow.answered(exchange, &seen, request).await;
    let is_read = is_plain && response::is_json(&head) && flow.wants_body(exchange, seen.status);
    let mut replacement = plan.replace;
    if replacement.is_none() {
        let read = is_read.then_some(&body[..]);
        replacement = flow.answered_whole(exchange, read, request).await;
    }
    if replacement.is_none() {
        let answer = HeldAnswer {
            status: seen.status,
            location: seen.location.as_deref(),
            is_page: response::is_page(&head),
            body: is_plain.then_some(&body),
        };
        let client = proof::client_auth(request, context.parameters.as_ref());
        replacement = flow.settle(exchange, answer, client).await;
    }
    let cookies = plan
        .cookies
        .into_iter()
        .chain(exchange.demand_cookie.take());
    let cookies: Vec<String> = cookies.collect();
    match replacement {
        Some(replacement) => {
            let answer = Answer::replacement(
                &replacement,
                cookies,
                &exchange.snapshot.step_up,
                exchange.id.as_str(),
            );
            answer.write(session).await
        }
        None => {
            let mut head = head;
            let body = rewrite::whole(flow, context, &mut head, body).await;
            release(session, head, body, cookies).await
        }
    }
}

/// Waits until the client has gone: nobody else's place is kept for it.
async fn left(session: &mut Session) -> Box<Error> {
    match session.as_downstream_mut().read_body_or_idle(true).await {
        Err(error) if *error.etype() != ErrorType::ConnectError => error,
        // It has sent more than this request. What was read of that is lost, and the connection with it; the answer is not.
        Ok(_) | Err(_) => {
            session.as_downstream_mut().set_keepalive(None);
            std::future::pending().await
        }
    }
}

fn internal(problem: &'static str) -> Box<Error> {
    Error::explain(ErrorType::InternalError, problem)
}

/// The head as the proxy would send it.
fn request_head(
    session: &Session,
    context: &RequestContext,
    length: usize,
) -> Result<RequestHeader> {
    let mut head = session.req_header().clone();
    head.set_version(http::Version::HTTP_11);
    // What the client has named for its own connection goes no further.
    let nominated: Vec<HeaderName> = head
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in &nominated {
        head.remove_header(name);
    }
    head.remove_header(&header::CONNECTION);
    for name in OF_ONE_CONNECTION {
        head.remove_header(name);
    }
    upstream::write_head(session, &mut head, context)?;
    head.remove_header(&header::EXPECT);
    if length > 0 || head.headers.contains_key(header::CONTENT_LENGTH) {
        head.insert_header(header::CONTENT_LENGTH, length)?;
    }
    Ok(head)
}

/// A request that was sent. Nothing is tried twice: a code is good once.
struct Asked {
    server: ClientSession,
    peer: HttpPeer,
    is_fresh: bool,
}

impl Asked {
    async fn send(
        connector: &TransportConnector,
        upstream: &Upstream,
        context: &mut RequestContext,
        head: RequestHeader,
        body: Bytes,
    ) -> Result<Self> {
        let without = || internal("a request without a permit");
        let exchange = context.exchange.as_mut().ok_or_else(without)?;
        let permit = exchange.permit.as_ref().ok_or_else(without)?;
        // What may be sent twice would be, over a connection that has ended meanwhile: it has one of its own.
        let is_fresh = context.is_fresh || head.method.is_idempotent();
        let peer = upstream.peer(permit, is_fresh, exchange.trace.as_deref_mut());
        let stream = match connector.reused_stream(&peer).await {
            Some(stream) => stream,
            // Boxed, so that the many requests over a connection that is there need not carry the room for it.
            None => Box::pin(connector.new_stream(&peer)).await?,
        };
        let stream = Box::new(Gathered::new(stream, !body.is_empty()));
        let mut server = ClientSession::new_with_options(stream, &peer);
        server.read_timeout = peer.options.read_timeout;
        server.write_timeout = peer.options.write_timeout;
        server.write_request_header(Box::new(head)).await?;
        if !body.is_empty() {
            server.write_body(&body).await?;
        }
        server.finish_body().await?;
        Ok(Self {
            server,
            peer,
            is_fresh,
        })
    }

    /// The whole answer.
    async fn answer(&mut self) -> Result<(ResponseHeader, Bytes)> {
        let server = &mut self.server;
        let head = loop {
            server.read_response().await?;
            let read = server
                .resp_header()
                .ok_or_else(|| internal("an answer without a head"))?;
            // An interim answer says nothing.
            if !read.status.is_informational() {
                break read.clone();
            }
        };
        let mut held = BytesMut::new();
        while let Some(chunk) = server.read_body_bytes().await? {
            if held.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Error::e_explain(ErrorType::ReadError, "the answer is too long to be held");
            }
            held.extend_from_slice(&chunk);
        }
        Ok((head, held.freeze()))
    }

    /// Gives the connection back for the next request, where there may be one on it.
    async fn release(mut self, connector: &TransportConnector) {
        if self.is_fresh {
            return;
        }
        self.server.respect_keepalive();
        if let Some(stream) = self.server.reuse().await
            && let Ok(stream) = stream.into_any().downcast::<Gathered>()
        {
            let idle = self.peer.options.idle_timeout;
            connector.release_stream(stream.into_inner(), self.peer.reuse_hash(), idle);
        }
    }
}

/// Writes the answer as it came.
async fn release(
    session: &mut Session,
    mut head: ResponseHeader,
    body: Bytes,
    cookies: Vec<String>,
) -> Result<()> {
    head.remove_header(&header::CONNECTION);
    for name in OF_ONE_CONNECTION {
        head.remove_header(name);
    }
    let is_bodiless = session.req_header().method == http::Method::HEAD
        || matches!(head.status.as_u16(), 204 | 304);
    if !is_bodiless {
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    for cookie in cookies {
        head.append_header(header::SET_COOKIE, cookie)?;
    }
    let ends = is_bodiless || body.is_empty();
    session.write_response_header(Box::new(head), ends).await?;
    if !ends {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}
