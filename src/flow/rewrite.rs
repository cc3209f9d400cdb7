//! Answers whose body is another when it goes out. Whatever needs waiting for is had when the head of the answer is there;
//! the body is then changed in one step, without waiting. A body that cannot be read, or that need not be changed, stays
//! byte for byte.

use crate::domain::jwt::RealmKeys;
use crate::domain::risk_claims::RISK_CLAIMS;
use crate::domain::route::Door;
use crate::domain::route::PassedKind;
use crate::domain::route::RouteClass;
use crate::domain::signing::SigningKeys;
use crate::domain::signing::published;
use crate::flow::AuthFlow;
use crate::flow::exchange::Exchange;
use crate::flow::introspection;
use std::sync::Arc;

/// The longest body that is changed; a longer one passes as it is.
pub const BODY_BYTES_MAX: usize = 65_536;

/// What becomes of a body.
#[derive(Debug)]
pub enum Rewrite {
    /// A discovery document names the claims that tokens carry.
    Discovery,
    /// The tokens of a token answer, which these keys verify, are signed anew.
    Tokens(Arc<RealmKeys>),
    /// An introspection answer tells of the risk.
    Introspection,
    /// A key set gets these keys as well.
    Keys(Arc<SigningKeys>),
}

/// Whether the answer to a request may get another body. Such a request asks for the whole of it, not compressed, and not
/// only if it has changed.
pub fn is_possible(exchange: &Exchange) -> bool {
    let class = exchange.route.as_ref().map(|route| route.class);
    let resigns = exchange.snapshot.resign.is_some()
        && matches!(
            class,
            Some(
                RouteClass::Passed(PassedKind::Discovery | PassedKind::Jwks)
                    | RouteClass::Scored(Door::Token)
            )
        );
    resigns || introspection::is_possible(exchange)
}

impl AuthFlow {
    /// The head of an answer has come whose body is JSON, is all there and can be read: whether it is to be changed, and into
    /// what.
    pub async fn rewrite(&self, exchange: &Exchange, status: u16) -> Option<Rewrite> {
        if status != 200 || !is_possible(exchange) {
            return None;
        }
        let class = exchange.route.as_ref().map(|route| route.class)?;
        match class {
            RouteClass::Passed(PassedKind::Introspect) => {
                exchange.asked.is_some().then_some(Rewrite::Introspection)
            }
            RouteClass::Passed(PassedKind::Discovery) => Some(Rewrite::Discovery),
            RouteClass::Passed(PassedKind::Jwks) => {
                let resign = exchange.snapshot.resign.as_ref()?;
                Some(Rewrite::Keys(Arc::clone(&resign.keys)))
            }
            RouteClass::Scored(Door::Token) => {
                self.keys_of_tokens(exchange).await.map(Rewrite::Tokens)
            }
            _ => None,
        }
    }

    /// The body has come as a whole: the one that goes out instead, if any.
    pub fn rewritten(&self, exchange: &Exchange, rewrite: Rewrite, body: &[u8]) -> Option<String> {
        match rewrite {
            Rewrite::Discovery => published::with_claims(body, &RISK_CLAIMS),
            Rewrite::Introspection => introspection::answered(self.dependencies(), exchange, body),
            Rewrite::Keys(keys) => published::with_keys(body, &keys),
            Rewrite::Tokens(keys) => self.resigned(exchange, &keys, body),
        }
    }
}
