//! The edge that faces clients: the only code that knows Pingora. Each hook is one call into the file that does the
//! work; read from the top, the hooks are the path of a request.

/// What travels with one request.
pub mod context;

/// The listener and its certificate.
pub mod listener;

/// Connections.
pub mod edge;

/// How many connections there may be.
pub mod places;

/// How long clients may take.
pub mod pace;

/// Certificates of listeners.
pub mod certificate;

/// What upstreams are shown.
pub mod own_certificate;

/// Open connections and their end.
pub mod connections;

/// Panics in hooks.
pub mod shield;

/// The ClientHello.
pub mod hello;

/// From the wire to the decision.
pub mod intake;

/// Reads bodies, bounded.
pub mod body;

/// Writes the gateway's own answers.
pub mod answer;

/// The pages for people.
pub mod pages;

/// The paths that the gateway serves itself.
pub mod own;

/// Their pages.
pub mod own_pages;

/// Where receivers of shared signals fetch.
pub mod polls;

/// How many requests may be under way.
pub mod under_way;

/// To the identity server.
pub mod upstream;

/// Watches the answer.
pub mod response;

/// Bodies of answers that go out changed.
pub mod rewrite;

/// Connections that send head and body together.
pub mod gathered;

/// Exchanges whose answer has to prove something.
pub mod held;

/// From failures to answers.
pub mod rescue;

use crate::flow::AuthFlow;
use async_trait::async_trait;
use bytes::Bytes;
use connections::Drain;
use context::RequestContext;
use pingora::Error;
use pingora::ErrorType;
use pingora::Result;
use pingora::connectors::TransportConnector;
use pingora::http::RequestHeader;
use pingora::http::ResponseHeader;
use pingora::prelude::HttpPeer;
use pingora::proxy::FailToProxy;
use pingora::proxy::ProxyHttp;
use pingora::proxy::ProxyWarnLogContext;
use pingora::proxy::Session;
use shield::fault_point;
use shield::shielded;
use shield::shielded_now;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use upstream::Services;
use upstream::Upstream;

/// The gateway as a Pingora application.
pub struct GatewayProxy {
    flow: Arc<AuthFlow>,
    upstream: Arc<Upstream>,
    services: Arc<Services>,
    connector: TransportConnector,
    body_deadline: Duration,
    write_deadline: Duration,
    drain: Arc<Drain>,
}

impl std::fmt::Debug for GatewayProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GatewayProxy({:?}, {:?})", self.flow, self.upstream)
    }
}

impl GatewayProxy {
    /// A gateway in front of `upstream` and `services`. A body on a scored door must be there within `body_deadline`; any
    /// other must be there by then or come at a least rate. A client must take each piece of an answer within
    /// `write_deadline`; answers part with their connections once `drain` has begun.
    pub fn new(
        flow: Arc<AuthFlow>,
        upstream: Arc<Upstream>,
        services: Arc<Services>,
        body_deadline: Duration,
        write_deadline: Duration,
        drain: Arc<Drain>,
    ) -> Self {
        Self {
            flow,
            upstream,
            services,
            connector: TransportConnector::new(None),
            body_deadline,
            write_deadline,
            drain,
        }
    }

    /// Where its requests are decided.
    pub fn flow(&self) -> Arc<AuthFlow> {
        Arc::clone(&self.flow)
    }

    /// Whether there is room for one more request to where this one goes.
    fn take_turn(&self, session: &Session, context: &mut RequestContext) -> bool {
        let Some(exchange) = context.exchange.as_ref() else {
            return true;
        };
        let service = exchange
            .permit
            .as_ref()
            .and_then(|permit| self.services.of(permit));
        let upstream = service.as_ref().unwrap_or(&self.upstream);
        context.is_fresh = upstream.is_fresh(&session.req_header().method);
        context.turn = upstream.enter(exchange.door, &self.flow.dependencies().metrics);
        context.turn.is_some()
    }

    /// A body that nobody has read goes on piece by piece, and must come at a least rate from now on. With `Expect` it
    /// begins when the upstream asks for it.
    fn pass_body(&self, session: &mut Session, context: &RequestContext) {
        let waits = session
            .req_header()
            .headers
            .contains_key(http::header::EXPECT);
        if let Some(pace) = &context.pace
            && !context.is_body_read
            && !waits
            && !session.as_downstream_mut().is_body_empty()
        {
            pace.body_begins(self.body_deadline);
        }
    }
}

impl GatewayProxy {
    /// From the head to an answer of our own (`true`) or to the way to the identity server.
    async fn take(&self, session: &mut Session, context: &mut RequestContext) -> Result<bool> {
        match intake::take(
            &self.flow,
            session,
            context,
            self.body_deadline,
            &self.drain,
        )
        .await
        {
            Some(answer) => answer.write(session).await.map(|()| true),
            None if !self.take_turn(session, context) => rescue::full(&self.flow, session, context)
                .await
                .map(|()| true),
            None if context
                .exchange
                .as_ref()
                .is_some_and(|exchange| self.flow.holds(exchange)) =>
            {
                // Boxed, so that the many other requests need not carry the room for it.
                let held = held::serve(
                    &self.connector,
                    &self.upstream,
                    &self.flow,
                    session,
                    context,
                );
                Box::pin(held).await.map(|()| true)
            }
            None => {
                self.pass_body(session, context);
                Ok(false)
            }
        }
    }
}

#[async_trait]
impl ProxyHttp for GatewayProxy {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        RequestContext::new(Arc::clone(&self.flow))
    }

    async fn request_filter(
        &self,
        session: &mut Session,
        context: &mut RequestContext,
    ) -> Result<bool> {
        session
            .as_downstream_mut()
            .set_write_timeout(Some(self.write_deadline));
        if self.drain.is_draining() {
            session.set_keepalive(None);
        }
        shielded(pin!(self.take(session, context))).await
    }

    async fn upstream_peer(
        &self,
        _: &mut Session,
        context: &mut RequestContext,
    ) -> Result<Box<HttpPeer>> {
        let is_fresh = context.is_fresh;
        let Some(exchange) = context.exchange.as_mut() else {
            return Error::e_explain(ErrorType::InternalError, "a request without an exchange");
        };
        let Some(permit) = &exchange.permit else {
            return Error::e_explain(ErrorType::InternalError, "a request without a permit");
        };
        let service;
        let upstream = if permit.resource().is_some() {
            let Some(known) = self.services.of(permit) else {
                return Error::e_explain(ErrorType::InternalError, "a service that is not known");
            };
            service = known;
            &service
        } else {
            &self.upstream
        };
        let trace = exchange.trace.as_deref_mut();
        Ok(Box::new(upstream.peer(permit, is_fresh, trace)))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        context: &mut RequestContext,
    ) -> Result<()> {
        shielded_now(|| {
            fault_point("upstream_request_filter", session.req_header());
            upstream::write_head(session, head, context)
        })
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        context: &mut RequestContext,
    ) -> Result<()> {
        if let Some(pace) = context.pace.as_ref().filter(|_| !context.is_body_read) {
            let bytes = body.as_ref().map_or(0, Bytes::len);
            if bytes > 0 && !pace.body_came(bytes, self.body_deadline) {
                return Error::e_explain(ErrorType::HTTPStatus(408), body::TOO_SLOW);
            }
            if end {
                pace.body_ended();
            }
        }
        if let Some(new_body) = &context.new_body {
            *body = end.then(|| new_body.clone());
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        answer: &mut ResponseHeader,
        context: &mut RequestContext,
    ) -> Result<()> {
        shielded(pin!(async {
            fault_point("response_filter", session.req_header());
            response::head(&self.flow, session.req_header(), context, answer).await?;
            rewrite::head(&self.flow, session, context, answer).await
        }))
        .await
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        context: &mut RequestContext,
    ) -> Result<Option<Duration>> {
        shielded_now(|| {
            fault_point("response_body_filter", session.req_header());
            response::body(&self.flow, context, body.as_ref(), end);
            rewrite::body(&self.flow, context, body, end);
            Ok(None)
        })
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        context: &mut RequestContext,
    ) -> FailToProxy {
        rescue::rescue(&self.flow, session, context, error).await
    }

    async fn logging(
        &self,
        session: &mut Session,
        error: Option<&Error>,
        context: &mut RequestContext,
    ) {
        if let (Some(exchange), Some(written)) =
            (context.exchange.as_mut(), session.response_written())
        {
            exchange.response_status = written.status.as_u16();
        }
        // An answer that was replaced is one that was given.
        let replaced = context
            .exchange
            .as_ref()
            .is_some_and(|exchange| exchange.replaced.is_some());
        context.close(error.is_some() && !replaced);
    }

    fn suppress_error_log(&self, _: &Session, _: &RequestContext, _: &Error) -> bool {
        // Pingora would log the whole target with its query; `rescue` says what happened without it.
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &RequestContext,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
