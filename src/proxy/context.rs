//! What travels with one request through Pingora's hooks. Whatever happens, the exchange inside is closed exactly once:
//! by the `logging` hook at a normal end, by the drop guard here when the request was abandoned or a hook panicked.

use crate::domain::parameters::Parameters;
use crate::flow::AuthFlow;
use crate::flow::exchange::Exchange;
use crate::proxy::answer::Answer;
use crate::proxy::body;
use crate::proxy::pace::Pace;
use crate::proxy::rewrite::Collected;
use crate::proxy::under_way::Turn;
use bytes::Bytes;
use bytes::BytesMut;
use std::sync::Arc;
use std::time::Instant;

/// The context of one request.
#[derive(Debug)]
pub struct RequestContext {
    flow: Arc<AuthFlow>,
    /// How long the client may take; `None` where nobody watches.
    pub pace: Option<Arc<Pace>>,
    /// The exchange, from its admission to its end.
    pub exchange: Option<Exchange>,
    /// What the body holds, where it was read.
    pub parameters: Option<Parameters>,
    /// Whether the body was read here: the client was told to go on with it.
    pub is_body_read: bool,
    /// Its turn at the upstream, from the decision to forward to the end of the answer.
    pub turn: Option<Turn>,
    /// Whether it goes over a connection of its own.
    pub is_fresh: bool,
    /// An `Authorization` header that replaces the client's.
    pub authorization: Option<String>,
    /// A body that replaces the client's.
    pub new_body: Option<Bytes>,
    /// The body of the answer, as long as it is wanted and not too long.
    pub answer: Option<BytesMut>,
    /// The body of an answer that goes out changed.
    pub collected: Option<Collected>,
    /// What goes out in place of the identity server's answer.
    pub replacement: Option<Answer>,
}

impl RequestContext {
    /// A context without an exchange, of the task that serves it.
    pub fn new(flow: Arc<AuthFlow>) -> Self {
        Self {
            flow,
            pace: Pace::of_this_exchange(),
            exchange: None,
            parameters: None,
            is_body_read: false,
            turn: None,
            is_fresh: false,
            authorization: None,
            new_body: None,
            answer: None,
            collected: None,
            replacement: None,
        }
    }

    /// The moment, by the clock of the path.
    pub fn now(&self) -> Instant {
        self.flow.dependencies().clock.instant()
    }

    /// The exchange has come to its end.
    pub fn close(&mut self, abandoned: bool) {
        if let Some(mut exchange) = self.exchange.take() {
            if self.pace.as_ref().is_some_and(|pace| pace.is_out()) {
                exchange.failure = Some(body::TOO_SLOW);
            }
            self.flow.close(exchange, abandoned);
        }
    }
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        self.close(true);
    }
}
