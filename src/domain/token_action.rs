//! What WSO2 asks before it issues a token or changes a password (service extensions PRE_ISSUE_ACCESS_TOKEN of contract
//! v1.0 to v1.3, PRE_ISSUE_ID_TOKEN v1.0, PRE_UPDATE_PASSWORD v1 and v2), and the operations by which it is answered.
//!
//! Calls are read leniently: what is missing or of another form counts as not said, because WSO2 turns an error of ours
//! into a failed login. Answers are strict: an operation that the call does not allow is not made, a lifetime is only ever
//! cut, a scope only ever taken away.

use crate::domain::action::CallError;
use crate::domain::action::decision_id;
use crate::domain::action::object;
use crate::domain::action::organization;
use crate::domain::action::text;
use crate::domain::history::Told;
use crate::domain::history::scopes::Groups;
use crate::domain::history::scopes::groups::GROUP_CLAIMS;
use crate::domain::policy::scope::SUPER_TENANT;
use crate::domain::policy::token::PasswordChange;
use crate::domain::policy::token::Terms;
use crate::domain::risk_claims::RISK_CLAIMS;
use crate::domain::risk_claims::RiskClaims;
use crate::domain::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

/// Claims of a token, scopes of a token, paths of an operation that are looked at.
const ENTRIES_MAX: usize = 16_384;
/// The scope without which no ID token is issued (OpenID Connect Core section 3.1.2.1).
pub const OPENID: &str = "openid";

/// A call of one of the actions.
#[derive(Clone, Debug, PartialEq)]
pub enum ActionCall {
    /// Before an access token or an ID token is issued.
    Token(Box<TokenCall>),
    /// Before a password is changed.
    Password(PasswordCall),
    /// An action about which the gateway has nothing to say, such as PRE_UPDATE_PROFILE.
    Other,
}

/// Which token is about to be issued.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenKind {
    /// The access token.
    Access,
    /// The ID token.
    Id,
}

/// The call before a token is issued.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenCall {
    /// Which token.
    pub kind: TokenKind,
    /// The decision about the token request: `X-Risk-Decision-Id` as WSO2 passes it on.
    pub decision_id: Option<String>,
    /// The tenant domain.
    pub tenant: String,
    /// The id of the organization that the request is for, which may be the tenant itself.
    pub organization: Option<String>,
    /// The client id.
    pub client_id: String,
    /// The grant type of the token request.
    pub grant: String,
    /// The scopes of the access token, in the order by which operations name them; empty for an ID token.
    pub scopes: Vec<String>,
    /// The groups of the user, as far as the call names them.
    pub groups: Groups,
    /// The claims so far.
    claims: Vec<(String, Value)>,
    /// The lifetime of the refresh token in seconds, where there is one.
    refresh_expires_in: Option<i64>,
    /// What may be done: an operation, and where its path must begin; without a `/` at its end the path as a whole.
    allowed: Vec<(Op, String)>,
}

/// The call before a password is changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PasswordCall {
    /// The tenant domain.
    pub tenant: String,
    /// The organization that the user is of, where it is not the tenant itself.
    pub organization: Option<String>,
    /// The names by which the user may be known here: the username, if the action is given that claim.
    pub names: Vec<String>,
    /// The decision about the request, where WSO2 passes the header on.
    pub decision_id: Option<String>,
    /// What is being done.
    pub change: Option<PasswordChange>,
    /// Whether an administrator does it.
    pub by_admin: bool,
}

/// The answer to an [`ActionCall`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "actionStatus", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ActionReply {
    /// It goes on, with these changes.
    Success {
        /// In this order.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        operations: Vec<Operation>,
    },
    /// It does not go on.
    #[serde(rename_all = "camelCase")]
    Failed {
        /// The OAuth error, or a code for programs.
        failure_reason: &'static str,
        /// A sentence.
        failure_description: &'static str,
    },
}

/// One change to a token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Operation {
    op: Op,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    Add,
    Remove,
    Replace,
}

impl ActionCall {
    /// Reads the body of a call. `AUTHENTICATION` is an error here: a step of a login must not be passed by an endpoint
    /// that knows nothing of logins.
    pub fn parse(body: &[u8]) -> Result<Self, CallError> {
        let call = object(body)?;
        match call.get("actionType").and_then(Value::as_str) {
            Some("PRE_ISSUE_ACCESS_TOKEN") => Ok(Self::token(TokenKind::Access, &call)),
            Some("PRE_ISSUE_ID_TOKEN") => Ok(Self::token(TokenKind::Id, &call)),
            Some("PRE_UPDATE_PASSWORD") => Ok(Self::Password(PasswordCall::read(&call))),
            Some("AUTHENTICATION") => Err(CallError::Endpoint),
            Some(_) => Ok(Self::Other),
            None => Err(CallError::Member("actionType")),
        }
    }

    fn token(kind: TokenKind, call: &Value) -> Self {
        Self::Token(Box::new(TokenCall::read(kind, call)))
    }
}

impl TokenKind {
    fn claims_path(self) -> &'static str {
        match self {
            Self::Access => "/accessToken/claims/",
            Self::Id => "/idToken/claims/",
        }
    }
}

impl TokenCall {
    fn read(kind: TokenKind, call: &Value) -> Self {
        let owned = |pointer| text(call, pointer).unwrap_or_default();
        let claims = match kind {
            TokenKind::Access => "/event/accessToken/claims",
            TokenKind::Id => "/event/idToken/claims",
        };
        let claims = named(call, claims);
        let of_token = claims
            .iter()
            .filter(|(name, _)| GROUP_CLAIMS.contains(&name.as_str()))
            .map(|(_, value)| value);
        let of_user = ["/event/user/groups", "/event/user/roles"];
        let of_user = of_user.iter().filter_map(|place| call.pointer(place));
        Self {
            kind,
            decision_id: decision_id(call),
            tenant: text(call, "/event/tenant/name").unwrap_or_else(|| SUPER_TENANT.to_owned()),
            organization: text(call, "/event/organization/id"),
            client_id: owned("/event/request/clientId"),
            grant: owned("/event/request/grantType"),
            scopes: list(call, "/event/accessToken/scopes")
                .map(|scope| scope.as_str().unwrap_or_default().to_owned())
                .collect(),
            groups: Groups::of(of_token.chain(of_user)),
            claims,
            refresh_expires_in: named(call, "/event/refreshToken/claims")
                .iter()
                .find(|(name, _)| name == "expires_in")
                .and_then(|(_, value)| value.as_i64()),
            allowed: list(call, "/allowedOperations")
                .filter_map(|entry| Some((Op::read(entry.get("op")?)?, entry)))
                .flat_map(|(op, entry)| {
                    list(entry, "/paths")
                        .filter_map(move |path| Some((op, path.as_str()?.to_owned())))
                })
                .collect(),
        }
    }

    /// Whether an ID token will be issued beside the access token.
    pub fn is_openid(&self) -> bool {
        self.kind == TokenKind::Id || self.scopes.iter().any(|scope| scope == OPENID)
    }

    /// The `acr` of an ID token.
    pub fn acr(&self) -> Option<&str> {
        self.claim("acr")?.as_str()
    }

    /// The `amr` of an ID token.
    pub fn amr(&self) -> Vec<String> {
        let methods = self.claim("amr").and_then(Value::as_array);
        let methods = methods.map(Vec::as_slice).unwrap_or_default();
        let texts = methods.iter().filter_map(Value::as_str);
        texts.take(ENTRIES_MAX).map(str::to_owned).collect()
    }

    /// The `auth_time` of an ID token.
    pub fn auth_time(&self) -> Option<Timestamp> {
        let seconds = self
            .claim("auth_time")?
            .as_i64()
            .filter(|seconds| *seconds > 0)?;
        Some(Timestamp(seconds.checked_mul(1000)?))
    }

    /// Whether the token carries what was told of the risk before.
    pub fn carries_risk(&self) -> bool {
        RISK_CLAIMS.iter().any(|name| self.claim(name).is_some())
    }

    /// The operations that say `claims` and nothing else of the risk: what a refreshed token carries of an earlier answer
    /// is replaced, and what is not known any more is removed.
    pub fn telling(&self, claims: &RiskClaims) -> Vec<Operation> {
        let path = self.kind.claims_path();
        let mut operations = Vec::new();
        let mut said = Vec::new();
        for (name, value) in claims.members() {
            said.push(name);
            let operation = match self.claim(name) {
                Some(known) if *known == value => continue,
                Some(_) => Operation::new(Op::Replace, format!("{path}{name}"), Some(value)),
                None => {
                    let claim = json!({ "name": name, "value": value });
                    Operation::new(Op::Add, format!("{path}-"), Some(claim))
                }
            };
            operations.push(operation);
        }
        let stale = RISK_CLAIMS
            .into_iter()
            .filter(|name| !said.contains(name) && self.claim(name).is_some());
        operations
            .extend(stale.map(|name| Operation::new(Op::Remove, format!("{path}{name}"), None)));
        operations.retain(|operation| self.allows(operation));
        operations
    }

    /// The operations that policy's terms come to, and what was done. `unused` are scopes that are never used.
    pub fn under(&self, terms: &Terms, unused: &[String]) -> (Vec<Operation>, Vec<Told>) {
        let mut operations = Vec::new();
        let mut told = Vec::new();
        if self.kind == TokenKind::Id {
            return (operations, told);
        }
        // The indexes are those of the call whatever was done before; from the last one they hold either way.
        let scopes = self.scopes.iter().enumerate().rev();
        for (index, _) in scopes.filter(|(_, scope)| terms.removes(scope) || unused.contains(scope))
        {
            let operation =
                Operation::new(Op::Remove, format!("/accessToken/scopes/{index}"), None);
            if self.allows(&operation) {
                operations.push(operation);
                told.push(Told::Scopes);
            }
        }
        let access = self.claim("expires_in").and_then(Value::as_i64);
        for (now, most, path, what) in [
            (
                access,
                terms.expires_in,
                "/accessToken/claims/expires_in",
                Told::Lifetime,
            ),
            (
                self.refresh_expires_in,
                terms.refresh_expires_in,
                "/refreshToken/claims/expires_in",
                Told::RefreshLifetime,
            ),
        ] {
            let (Some(now), Some(most)) = (now, most.map(i64::from)) else {
                continue;
            };
            let operation = Operation::new(Op::Replace, path.to_owned(), Some(most.into()));
            if most < now && self.allows(&operation) {
                operations.push(operation);
                told.push(what);
            }
        }
        (operations, told)
    }

    fn claim(&self, name: &str) -> Option<&Value> {
        self.claims
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    fn allows(&self, operation: &Operation) -> bool {
        self.allowed.iter().any(|(op, path)| {
            *op == operation.op
                && match path.ends_with('/') {
                    true => operation.path.starts_with(path.as_str()),
                    false => operation.path == *path,
                }
        })
    }
}

impl PasswordCall {
    fn read(call: &Value) -> Self {
        const USERNAME_CLAIM: &str = "http://wso2.org/claims/username";
        let change = text(call, "/event/action");
        let named = list(call, "/event/user/claims")
            .filter(|claim| claim.get("uri").and_then(Value::as_str) == Some(USERNAME_CLAIM))
            .filter_map(|claim| text(claim, "/value"));
        Self {
            tenant: text(call, "/event/tenant/name").unwrap_or_else(|| SUPER_TENANT.to_owned()),
            organization: call.pointer("/event").and_then(organization),
            // Where users are named by their ids, that is the name.
            names: named.take(1).chain(text(call, "/event/user/id")).collect(),
            decision_id: decision_id(call),
            change: change.as_deref().and_then(PasswordChange::from_name),
            by_admin: text(call, "/event/initiatorType")
                .is_some_and(|initiator| initiator.eq_ignore_ascii_case("admin")),
        }
    }
}

impl ActionReply {
    /// Nothing is changed.
    pub fn unchanged() -> Self {
        Self::Success {
            operations: Vec::new(),
        }
    }
}

impl Operation {
    fn new(op: Op, path: String, value: Option<Value>) -> Self {
        Self { op, path, value }
    }
}

impl Op {
    fn read(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "add" => Some(Self::Add),
            "remove" => Some(Self::Remove),
            "replace" => Some(Self::Replace),
            _ => None,
        }
    }
}

fn list<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    let entries = value.pointer(pointer).and_then(Value::as_array);
    let entries = entries.map(Vec::as_slice).unwrap_or_default();
    entries.iter().take(ENTRIES_MAX)
}

/// A list of `{name, value}`.
fn named(value: &Value, pointer: &str) -> Vec<(String, Value)> {
    list(value, pointer)
        .filter_map(|entry| {
            let name = entry.get("name")?.as_str()?.to_owned();
            Some((name, entry.get("value")?.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests;
