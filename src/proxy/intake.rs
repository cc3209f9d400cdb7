//! From the wire to the decision: reads the head and, on scored doors, the body; hands both to the flow; says what
//! becomes of the request.

use crate::domain::enforcement::Enforcement;
use crate::domain::enforcement::Form;
use crate::domain::enforcement::Rejection;
use crate::domain::outcome::AuthOutcome;
use crate::domain::parameters::BodyHeaders;
use crate::domain::parameters::ParameterError;
use crate::domain::parameters::Parameters;
use crate::domain::pdp;
use crate::domain::policy::decision::Mode;
use crate::domain::resource::Challenge;
use crate::domain::risk::RiskScore;
use crate::domain::route::Door;
use crate::domain::signals::agent::TlsFingerprint;
use crate::domain::target::CanonicalTarget;
use crate::domain::trace::Attribute;
use crate::domain::trace::Stage;
use crate::flow::AuthFlow;
use crate::flow::admit::Knock;
use crate::flow::assess::Request;
use crate::flow::error::Refusal;
use crate::flow::exchange::Exchange;
use crate::flow::resign;
use crate::flow::review::Reviewed;
use crate::proxy::answer::Answer;
use crate::proxy::body;
use crate::proxy::connections::Drain;
use crate::proxy::context::RequestContext;
use crate::proxy::own;
use crate::proxy::shield::fault_point;
use bytes::Bytes;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::proxy::Session;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Takes one request. `None` means that it goes to the identity server.
pub async fn take(
    flow: &AuthFlow,
    session: &mut Session,
    context: &mut RequestContext,
    body_deadline: Duration,
    drain: &Drain,
) -> Option<Answer> {
    let admitted = admit(flow, session, context);
    fault_point("request_filter", session.req_header());
    let result = match admitted {
        Ok(None) if context.exchange.as_ref().is_some_and(Exchange::is_own) => {
            return Some(own::serve(flow, session, context, body_deadline, drain).await);
        }
        Ok(None) if context.exchange.as_ref().is_some_and(Exchange::is_visit) => {
            return visit(flow, session, context).await;
        }
        Ok(None) => return returning(flow, session, context, body_deadline).await,
        Ok(Some(door)) => judge(flow, session, context, door, body_deadline).await,
        Err(refusal) => Err(refusal),
    };
    let exchange = context.exchange.as_mut()?;
    if let Err(refusal) = result {
        flow.refuse(exchange, &refusal);
        let answer = Answer::refusal(&refusal, exchange.door, exchange.id.as_str());
        return Some(answer);
    }
    let decided = exchange.decided.as_ref()?;
    let answer = match &decided.enforcement {
        Enforcement::Forward(..) => return None,
        Enforcement::Rewrite(_, _, changed) => {
            if let Some(body) = &changed.body {
                context.new_body = Some(Bytes::from(body.clone()));
            }
            return None;
        }
        Enforcement::Redirect(location) => Answer::redirect(location),
        Enforcement::Reject(rejection) => held(exchange, rejection).unwrap_or_else(|| {
            let step_up = &exchange.snapshot.step_up;
            Answer::rejection(rejection, step_up, exchange.id.as_str())
        }),
    };
    exchange.outcome = AuthOutcome::RefusedHere;
    Some(answer.with_cookies(exchange.demand_cookie.take()))
}

/// A request that is not scored goes on as it came, but for tokens of ours that return in it.
async fn returning(
    flow: &AuthFlow,
    session: &mut Session,
    context: &mut RequestContext,
    body_deadline: Duration,
) -> Option<Answer> {
    let exchange = context.exchange.as_mut()?;
    let headers = &session.req_header().headers;
    context.authorization = flow.restored_authorization(exchange, headers);
    if !resign::takes_form(exchange, headers) {
        return None;
    }
    context.is_body_read = true;
    match read(flow, session, Some(exchange), body_deadline).await {
        Ok(body) => {
            let headers = &session.req_header().headers;
            let restored = flow.restored_body(exchange, headers, &body);
            context.new_body = restored.map(Bytes::from);
            flow.asked(exchange, &body).await;
            None
        }
        Err(refusal) => {
            flow.refuse(exchange, &refusal);
            Some(Answer::refusal(&refusal, None, exchange.id.as_str()))
        }
    }
}

/// A request to a service of the operator's own.
async fn visit(flow: &AuthFlow, session: &Session, context: &mut RequestContext) -> Option<Answer> {
    let exchange = context.exchange.as_mut()?;
    let head = session.req_header();
    let denial = flow
        .visit(exchange, &head.method, &head.headers)
        .await
        .err()?;
    let step_up = &exchange.snapshot.step_up;
    let visit = exchange.visit.as_ref();
    let field = visit.and_then(|visit| {
        let challenge = Challenge {
            denial,
            resource: &visit.resource,
            proves: visit.proves,
            acr: &step_up.acr,
            max_age: step_up.max_age_seconds,
        };
        challenge.field()
    });
    Some(Answer::denial(denial, field, exchange.id.as_str()))
}

/// Where a browser waits whose login is held.
fn held(exchange: &Exchange, rejection: &Rejection) -> Option<Answer> {
    let Some(Reviewed::Held { page, cookie, .. }) = &exchange.review else {
        return None;
    };
    let answer = (rejection.form == Form::Page).then(|| Answer::see_other(page))?;
    Some(match cookie {
        Some(cookie) => answer.with_cookie(cookie.clone()),
        None => answer,
    })
}

fn admit(
    flow: &AuthFlow,
    session: &Session,
    context: &mut RequestContext,
) -> Result<Option<Door>, Refusal> {
    let head = session.req_header();
    let digest = session.digest();
    let knock = Knock {
        method: &head.method,
        raw_target: head.raw_path(),
        version: head.version,
        headers: &head.headers,
        authority: head.uri.authority().map(http::uri::Authority::as_str),
        peer: peer_address(session.client_addr()),
        tls: digest.is_some_and(|digest| digest.ssl_digest.is_some()),
        has_length: names_length(session),
        has_body: has_body(session),
    };
    let (exchange, admitted) = flow.admit(&knock);
    let door = exchange.door;
    context.exchange = Some(exchange);
    admitted.map(|()| door)
}

async fn judge(
    flow: &AuthFlow,
    session: &mut Session,
    context: &mut RequestContext,
    door: Door,
    body_deadline: Duration,
) -> Result<(), Refusal> {
    // At the Basic door the body belongs to an API and is streamed unread.
    let parameters = if door == Door::Basic {
        None
    } else {
        Some(parameters(flow, session, context, door, body_deadline).await?)
    };
    context.parameters = parameters;
    let Some(exchange) = context.exchange.as_mut() else {
        return Ok(());
    };
    let head = session.req_header();
    context.authorization = flow.restored_authorization(exchange, &head.headers);
    let tls = session
        .digest()
        .and_then(|digest| digest.proxy_digest.as_ref())
        .and_then(|proxy| {
            proxy
                .user_data
                .as_ref()
                .and_then(|data| data.downcast_ref::<TlsFingerprint>())
        });
    let request = Request {
        version: head.version,
        headers: &head.headers,
        parameters: context.parameters.as_ref(),
        tls,
    };
    flow.judge(exchange, request).await?;
    if door == Door::Pdp
        && let Some(body) = pdp_body(exchange, context.parameters.as_ref())
    {
        context.new_body = Some(body);
    }
    Ok(())
}

/// An XACML request with the risk in it, where the mode lets WSO2 see the risk; never with a client's own.
fn pdp_body(exchange: &Exchange, parameters: Option<&Parameters>) -> Option<Bytes> {
    let visible = matches!(exchange.mode(), Some(Mode::Advise | Mode::Enforce));
    let score = exchange
        .assessed
        .as_ref()
        .and_then(|assessed| assessed.assessment.score());
    let points = score.filter(|_| visible).map(RiskScore::points);
    let changed = pdp::with_risk(parameters?.json()?, points)?;
    Some(Bytes::from(changed.to_string()))
}

async fn parameters(
    flow: &AuthFlow,
    session: &mut Session,
    context: &mut RequestContext,
    door: Door,
    deadline: Duration,
) -> Result<Parameters, Refusal> {
    let refuse =
        |error: ParameterError| Refusal::new(error.status(), error.as_str(), error.to_string());
    // Checked before the body is read: a wrong type needs no upload.
    let _: BodyHeaders<'_> = BodyHeaders::of(&session.req_header().headers).map_err(refuse)?;
    context.is_body_read = true;
    let exchange = context.exchange.as_mut();
    let mut body = read(flow, session, exchange, deadline).await?;
    let head = session.req_header();
    let headers = BodyHeaders::of(&head.headers).map_err(refuse)?;
    let exchange = context.exchange.as_ref();
    if let Some(restored) =
        exchange.and_then(|exchange| flow.restored_body(exchange, &head.headers, &body))
    {
        body = Bytes::from(restored);
        context.new_body = Some(body.clone());
    }
    let query = exchange
        .and_then(|exchange| exchange.target.as_ref())
        .and_then(CanonicalTarget::query);
    Parameters::parse(door, &head.method, query, headers, &body).map_err(refuse)
}

/// Reads the body, as a stage of the exchange.
async fn read(
    flow: &AuthFlow,
    session: &mut Session,
    exchange: Option<&mut Exchange>,
    deadline: Duration,
) -> Result<Bytes, Refusal> {
    let clock = flow.dependencies().clock.as_ref();
    let begin = exchange
        .as_ref()
        .and_then(|exchange| exchange.begins(clock));
    let body = body::read(session, deadline).await;
    if let Some(exchange) = exchange {
        exchange.ends(Stage::Body, begin, clock, |_| {
            let length = body
                .as_ref()
                .ok()
                .and_then(|body| i64::try_from(body.len()).ok());
            let size = length.map(|length| ("http.request.body.size", Attribute::Number(length)));
            size.into_iter().collect()
        });
    }
    body
}

/// Whether the raw head of an HTTP/1 request with a transfer coding names a length as well. Pingora removes it when it
/// parses the head; whoever sent both may hope that another parser does not.
fn names_length(session: &Session) -> bool {
    let coded = session
        .req_header()
        .headers
        .contains_key(http::header::TRANSFER_ENCODING);
    let Some(http1) = session.as_downstream().as_http1().filter(|_| coded) else {
        return false;
    };
    let raw = http1.get_headers_raw_bytes();
    raw.split(|byte| *byte == b'\n').any(|line| {
        line.get(..15)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"content-length:"))
    })
}

/// Whether a body follows the head, as far as the head says it: over HTTP/2 one may follow unless the head ends the stream.
fn has_body(session: &Session) -> bool {
    if let Some(http2) = session.as_downstream().as_http2() {
        return !http2.is_body_empty();
    }
    let headers = &session.req_header().headers;
    headers.contains_key(http::header::TRANSFER_ENCODING)
        || headers
            .get(http::header::CONTENT_LENGTH)
            .is_some_and(|length| length.as_bytes() != b"0")
}

/// A connection without an address (a Unix socket) is local.
fn peer_address(address: Option<&SocketAddr>) -> IpAddr {
    address
        .and_then(SocketAddr::as_inet)
        .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), std::net::SocketAddr::ip)
}
