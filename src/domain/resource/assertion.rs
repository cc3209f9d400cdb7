//! What a service is told of the risk: the claims of the `X-Risk-Assertion`. They are signed elsewhere, for each request
//! anew, and hold for half a minute.

use crate::domain::ids::RequestId;
use crate::domain::resource::Resource;
use crate::domain::risk_claims::RISK_STATUS;
use crate::domain::risk_claims::RiskClaims;
use crate::domain::time::Timestamp;
use serde_json::Map;
use serde_json::Value;
use std::time::Duration;

/// The type in the head of an assertion: nothing that expects another kind of token takes it (RFC 8725 section 3.11).
pub const ASSERTION_TYPE: &str = "risk-assertion+jwt";

/// How long an assertion holds.
pub const ASSERTION_LIFETIME: Duration = Duration::from_secs(30);

/// What is asserted.
#[derive(Clone, Copy, Debug)]
pub struct Assertion<'a> {
    /// To which service.
    pub resource: &'a Resource,
    /// Whom the token is about.
    pub subject: &'a str,
    /// Who holds it.
    pub client_id: &'a str,
    /// The SHA-256 of the token in Base64url: the assertion is about this token and no other (`ath`, RFC 9449 section 4.2).
    pub token_hash: &'a str,
    /// The exchange: the id of the assertion.
    pub id: &'a RequestId,
    /// The decision under which the token was issued, if one is known.
    pub decision: Option<&'a RequestId>,
    /// The risk as of now; `None` where the mode keeps it from everybody.
    pub risk: Option<&'a RiskClaims>,
    /// What is said in place of it: `scored`, `unscored` or `off`.
    pub status: &'static str,
    /// The moment.
    pub now: Timestamp,
}

impl Assertion<'_> {
    /// The claims. With a mode that tells nobody of the risk, the status alone shows that the gateway was passed.
    pub fn claims(&self) -> Map<String, Value> {
        let issued = self.now.millis().div_euclid(1000);
        let lifetime = i64::try_from(ASSERTION_LIFETIME.as_secs()).unwrap_or(0);
        let mut claims = Map::new();
        let mut add = |name: &str, value: Value| {
            claims.insert(name.to_owned(), value);
        };
        add("iss", self.resource.issuer.as_str().into());
        add("aud", self.resource.audience.as_str().into());
        add("sub", self.subject.into());
        add("client_id", self.client_id.into());
        add("jti", self.id.as_str().into());
        add("iat", issued.into());
        add("exp", issued.saturating_add(lifetime).into());
        add("ath", self.token_hash.into());
        match self.risk {
            Some(risk) => {
                for (name, value) in risk.members() {
                    add(name, value);
                }
                if let Some(decision) = self.decision {
                    add("decision_id", decision.as_str().into());
                }
            }
            None => add(RISK_STATUS, self.status.into()),
        }
        claims
    }
}
