//! Answers to WSO2's actions around a token request that was decided here, and around a change of a password. An answer is
//! never an error and never slow: WSO2 makes a failed login of both. What is not known changes nothing.
//!
//! The decision is found by its id alone, and only for the client, tenant and grant that it was taken for: what was decided
//! about somebody's login says nothing about the token that somebody else asks for.

use crate::domain::demand::Demand;
use crate::domain::demand::DemandKey;
use crate::domain::demand::Proof;
use crate::domain::enforcement::step_up::ProofKind;
use crate::domain::history::HistoryQuery;
use crate::domain::history::LinkKey;
use crate::domain::history::LinkKind;
use crate::domain::history::OwedProof;
use crate::domain::history::Provenance;
use crate::domain::history::TOKEN_REQUEST_LIFETIME;
use crate::domain::history::TokenRequest;
use crate::domain::history::Told;
use crate::domain::history::scopes::Bearers;
use crate::domain::history::scopes::Finding;
use crate::domain::history::scopes::Groups;
use crate::domain::history::scopes::Line;
use crate::domain::history::token_request::GRANT_BYTES_MAX;
use crate::domain::ids::NameSpace;
use crate::domain::ids::Pseudonymizer;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::ValueHash;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::token::Terms;
use crate::domain::risk::RiskLevel;
use crate::domain::risk_claims::RiskClaims;
use crate::domain::route::Door;
use crate::domain::target::user_domain;
use crate::domain::time::Timestamp;
use crate::domain::token_action::ActionCall;
use crate::domain::token_action::ActionReply;
use crate::domain::token_action::OPENID;
use crate::domain::token_action::Operation;
use crate::domain::token_action::PasswordCall;
use crate::domain::token_action::TokenCall;
use crate::domain::token_action::TokenKind;
use crate::flow::AuthFlow;
use crate::flow::Dependencies;
use crate::flow::actions::Found;
use crate::flow::actions::is_about;
use crate::flow::actions::taken_under;
use crate::flow::decide;
use crate::flow::exchange::Assessed;
use crate::flow::exchange::Decided;
use crate::flow::exchange::Exchange;
use crate::flow::identify::link_key;
use crate::flow::proof;
use crate::flow::snapshot::Snapshot;
use std::sync::Arc;
use std::time::Duration;

/// The longest that the memory is waited for in one answer: less than the 50 ms in which WSO2 has it.
const WAIT: Duration = Duration::from_millis(40);

/// An answer, and how it is counted.
pub type Answered = (ActionReply, &'static str);

/// What is kept of a token request for the actions that it will lead to.
pub(in crate::flow) fn request(
    exchange: &Exchange,
    assessed: &Assessed,
    decided: &Decided,
    door: Door,
) -> TokenRequest {
    let input = decide::input(
        exchange,
        assessed,
        &assessed.assessment,
        door,
        exchange.owes.is_some(),
        exchange.at,
    );
    let rule = exchange.snapshot.policy.token_rule(&input);
    let grant = assessed.facts.grant_type.as_deref().unwrap_or("");
    TokenRequest {
        // A grant type that is too long to be one is none that WSO2 knows.
        grant: Some(grant)
            .filter(|grant| grant.len() <= GRANT_BYTES_MAX)
            .map_or_else(String::new, str::to_owned),
        enforced: decided.mode == Mode::Enforce,
        rule: rule.map(|rule| rule.name.to_string()),
        owes: exchange.owes.map(|owed| OwedProof {
            at: owed.at,
            seen: owed.seen,
        }),
        organization: Some(exchange.organization())
            .filter(|id| !id.is_empty())
            .map(|id| organization(&exchange.snapshot.people, id)),
        told: Vec::new(),
        proven: None,
        groups: Groups::default(),
    }
}

/// What WSO2 was told of an exchange, as far as this node knows.
pub(in crate::flow) fn told(dependencies: &Dependencies, exchange: &Exchange) -> Vec<Told> {
    let is_asked_for = exchange.door == Some(Door::Token) && exchange.snapshot.answers_wso2;
    let request = is_asked_for
        .then(|| noted(dependencies, exchange))
        .flatten();
    request.map(|request| request.told).unwrap_or_default()
}

/// The proof that WSO2 itself gave in the call before it issued the ID token, for one that only the client can read.
pub(in crate::flow) fn proof_of(dependencies: &Dependencies, exchange: &Exchange) -> Option<Proof> {
    let proven = noted(dependencies, exchange)?.proven?;
    Some(Proof {
        subject: exchange.assessed.as_ref()?.subject()?,
        at: proven,
        acr: None,
        amr: Vec::new(),
    })
}

/// The groups of the user that WSO2 has named in its calls, as far as this node knows.
pub(in crate::flow) fn groups(dependencies: &Dependencies, exchange: &Exchange) -> Groups {
    let request = exchange
        .snapshot
        .answers_wso2
        .then(|| noted(dependencies, exchange))
        .flatten();
    request.map(|request| request.groups).unwrap_or_default()
}

fn noted(dependencies: &Dependencies, exchange: &Exchange) -> Option<TokenRequest> {
    let people = &exchange.snapshot.people;
    let key = link_key(people, LinkKind::Decision, exchange.id.as_str());
    let link = dependencies
        .recent
        .find(&key, dependencies.clock.instant())?;
    link.token_request.as_deref().cloned()
}

impl AuthFlow {
    /// Answers an action.
    pub async fn act(&self, call: &ActionCall) -> Answered {
        match call {
            ActionCall::Token(call) => self.before_token(call).await,
            ActionCall::Password(call) => self.before_password(call).await,
            ActionCall::Other => (ActionReply::unchanged(), "unchanged"),
        }
    }

    async fn before_token(&self, call: &TokenCall) -> Answered {
        let snapshot = self.snapshot();
        let Some(id) = &call.decision_id else {
            return unknown(call);
        };
        let key = link_key(&snapshot.people, LinkKind::Decision, id);
        let clock = &self.dependencies().clock;
        let (begun, now) = (clock.instant(), clock.now());
        match self.find_soon(&key).await {
            Found::Link(link) => match decided(&snapshot.people, &link, call, now) {
                Some((tenant, request)) => {
                    let left =
                        WAIT.saturating_sub(clock.instant().saturating_duration_since(begun));
                    let (claims, terms) = terms_of(&snapshot, &link, request, tenant, call);
                    let unused = if request.enforced && terms.remove_unused_scopes {
                        self.unused(&snapshot, &link, call, left).await
                    } else {
                        Vec::new()
                    };
                    let mut request = request.clone();
                    request.groups = request.groups.and(call.groups.clone());
                    let under = Under {
                        snapshot: &snapshot,
                        tenant,
                        claims: &claims,
                        terms,
                        unused: &unused,
                    };
                    let answered = reply(&under, &mut request, call, now);
                    self.note(key, &link, request);
                    answered
                }
                None => unknown(call),
            },
            Found::Nothing => unknown(call),
            Found::Away => (success(call.telling(&RiskClaims::Unscored)), "unscored"),
        }
    }

    /// Keeps what was told, for the record of the token request.
    fn note(&self, key: LinkKey, link: &Provenance, request: TokenRequest) {
        let noted = Provenance {
            token_request: Some(Box::new(request)),
            ..link.clone()
        };
        let dependencies = self.dependencies();
        let now = dependencies.clock.instant();
        dependencies.recent.insert(key, Arc::new(noted), now);
    }

    /// The watched scopes of the token to come that its client, or the groups of its user, never use. None where that cannot
    /// be said in time.
    async fn unused(
        &self,
        snapshot: &Snapshot,
        link: &Provenance,
        call: &TokenCall,
        left: Duration,
    ) -> Vec<String> {
        let policy = snapshot.policy.tokens();
        // Without this one there would be no ID token.
        let is_watched = |scope: &&String| *scope != OPENID && policy.watches(scope);
        let watched = call.scopes.iter().filter(is_watched);
        let mut unused: Vec<String> = watched.cloned().collect();
        let Some(client) = link.client.filter(|_| !unused.is_empty()) else {
            return Vec::new();
        };
        let dependencies = self.dependencies();
        let now = self.now();
        let query = HistoryQuery::of_scopes(client, now);
        let known = tokio::time::timeout(left, dependencies.state.load(&query)).await;
        let Ok(Ok(Some(usage))) = known.map(|loaded| loaded.map(|history| history.scopes)) else {
            return Vec::new();
        };
        let bearers = Bearers::of_grant(&call.grant);
        let mut usage = usage;
        if let Some(waiting) = dependencies.scopes.waiting(client, bearers) {
            usage.learn(&waiting);
        }
        let is_never_used = |line: Line<'_>, scope: &str| {
            usage.finding(line, scope, policy.patience(), now) == Finding::NeverUsed
        };
        // A scope that others use goes where none of the user's groups does, and each of them says so by itself.
        let has_groups = bearers == Bearers::Users && call.groups.is_whole();
        unused.retain(|scope| {
            is_never_used(Line::All(bearers), scope)
                || (has_groups
                    && call
                        .groups
                        .names()
                        .all(|group| is_never_used(Line::Group(group), scope)))
        });
        unused
    }

    async fn before_password(&self, call: &PasswordCall) -> Answered {
        let snapshot = self.snapshot();
        let policy = snapshot.policy.passwords();
        let unchanged = (ActionReply::unchanged(), "unchanged");
        let Some(change) = call.change.filter(|_| !call.by_admin) else {
            return unchanged;
        };
        let (on_demand, on_high) = (
            policy.demanded.contains(&change),
            policy.high.contains(&change),
        );
        if !on_demand && !on_high {
            return unchanged;
        }
        let people = &snapshot.people;
        let domain = user_domain(&call.tenant, call.organization.as_deref());
        let clock = &self.dependencies().clock;
        let begun = clock.instant();
        if let Some(id) = &call.decision_id {
            let key = link_key(people, LinkKind::Decision, id);
            if let Found::Link(link) = self.find_soon(&key).await
                && call
                    .names
                    .iter()
                    .any(|name| is_about(people, &link, domain, name))
                && let Some(tenant) =
                    taken_under(people, &link, &call.tenant, call.organization.is_some())
            {
                let application = link.application.as_deref().unwrap_or("");
                let thresholds = snapshot.policy.thresholds(tenant, application);
                let level = RiskClaims::of_link(&link, thresholds).level();
                let is_high = on_high && level == Some(RiskLevel::High);
                let owes = on_demand && link.demanded && !link.has_strong_factor();
                if is_high || owes {
                    return refused_password();
                }
            }
        }
        let keys: Vec<SubjectKey> = call
            .names
            .iter()
            .map(|name| people.user(domain, name))
            .collect();
        let left = WAIT.saturating_sub(clock.instant().saturating_duration_since(begun));
        if on_demand && self.owes_soon(&keys, left).await {
            return refused_password();
        }
        unchanged
    }

    /// Whether one of these is a user who owes a stronger factor.
    async fn owes_soon(&self, users: &[SubjectKey], left: Duration) -> bool {
        let dependencies = self.dependencies();
        let now = self.now();
        let keys: Vec<DemandKey> = users.iter().copied().map(DemandKey::user).collect();
        let is_owed =
            |demand: Option<&Demand>| demand.is_some_and(|demand| demand.is_outstanding(now));
        let recent: Vec<Option<Demand>> = keys
            .iter()
            .map(|key| dependencies.demands.find(key, now))
            .collect();
        if recent.iter().any(|demand| is_owed(demand.as_ref())) {
            return true;
        }
        let query = HistoryQuery::of_links(Vec::new(), keys.clone(), now);
        let Ok(Ok(history)) = tokio::time::timeout(left, dependencies.state.load(&query)).await
        else {
            return false;
        };
        // What this node knows is newer: a proof that the store has not heard of yet.
        keys.iter().zip(recent).any(|(key, recent)| {
            let stored = history.demands.get(key).copied();
            let merged = match (stored, recent) {
                (Some(stored), Some(recent)) => Some(stored.merged(&recent)),
                (stored, recent) => stored.or(recent),
            };
            is_owed(merged.as_ref())
        })
    }

    async fn find_soon(&self, key: &LinkKey) -> Found {
        tokio::time::timeout(WAIT, self.find(key))
            .await
            .unwrap_or(Found::Away)
    }

    fn now(&self) -> Timestamp {
        self.dependencies().clock.now()
    }
}

/// What an answer goes by.
struct Under<'a> {
    snapshot: &'a Snapshot,
    tenant: &'a str,
    claims: &'a RiskClaims,
    terms: &'a Terms,
    unused: &'a [String],
}

/// What is told of a request, and what policy says of its tokens.
fn terms_of<'s>(
    snapshot: &'s Snapshot,
    link: &Provenance,
    request: &TokenRequest,
    tenant: &str,
    call: &TokenCall,
) -> (RiskClaims, &'s Terms) {
    let policy = &snapshot.policy;
    let thresholds = policy.thresholds(tenant, &call.client_id);
    let claims = RiskClaims::of_link(link, thresholds);
    let tokens = policy.tokens();
    let rule = request.rule.as_deref().and_then(|name| tokens.rule(name));
    let terms = rule.map_or_else(|| tokens.terms(claims.level()), |rule| &rule.terms);
    (claims, terms)
}

/// What is answered for a request that is known. What is told of it is noted in `request`.
fn reply(
    under: &Under<'_>,
    request: &mut TokenRequest,
    call: &TokenCall,
    now: Timestamp,
) -> Answered {
    if request.enforced && proves_nothing(under, request, call, now) {
        request.tell([Told::Unproven]);
        return (refused_token(&request.grant, true), "unproven");
    }
    if request.enforced && under.terms.refuse {
        request.tell([Told::Refused]);
        return (refused_token(&request.grant, false), "refused");
    }
    let mut operations = call.telling(under.claims);
    request.tell((!operations.is_empty()).then_some(Told::Claims));
    if request.enforced {
        let (more, told) = call.under(under.terms, under.unused);
        operations.extend(more);
        request.tell(told);
    }
    (success(operations), under.claims.status())
}

/// Whether the tokens would not prove a factor that they must prove, so that they need not be issued at all. Where the
/// claims of the ID token prove it, that is noted.
fn proves_nothing(
    under: &Under<'_>,
    request: &mut TokenRequest,
    call: &TokenCall,
    now: Timestamp,
) -> bool {
    let Some(owed) = request.owes else {
        return false;
    };
    let settings = &under.snapshot.step_up;
    let by = settings.proof(under.tenant, &call.client_id);
    if !call.is_openid() || by.is_some_and(|kind| kind != ProofKind::IdToken) {
        return true;
    }
    if call.kind == TokenKind::Access {
        // The ID token is made after it.
        return false;
    }
    let authenticated = call.auth_time();
    let judged = proof::judge(settings, call.acr(), &call.amr(), authenticated, owed, now);
    if judged.is_ok() {
        request.proven = Some(authenticated.unwrap_or(owed.at).max(owed.at));
        request.tell([Told::Proven]);
    }
    judged.is_err()
}

/// The request that this call belongs to, if a decision was taken about it, and the tenant under which it was.
fn decided<'r>(
    people: &Pseudonymizer,
    link: &'r Provenance,
    call: &'r TokenCall,
    now: Timestamp,
) -> Option<(&'r str, &'r TokenRequest)> {
    let request = link.token_request.as_deref()?;
    let asked = call.organization.as_deref();
    let of_organization =
        asked.is_some_and(|id| request.organization == Some(organization(people, id)));
    let tenant = taken_under(people, link, &call.tenant, of_organization)?;
    let is_client =
        |people: &Pseudonymizer| link.client == Some(people.client(tenant, &call.client_id));
    let is_its = (is_client(people) || people.previous().is_some_and(is_client))
        && request.grant == call.grant
        && link.is_within(TOKEN_REQUEST_LIFETIME, now);
    is_its.then_some((tenant, request))
}

fn organization(people: &Pseudonymizer, id: &str) -> ValueHash {
    people.value(NameSpace::Tenant, id.as_bytes())
}

/// A token request that is not known here changes nothing; but a token that carries what was told of an earlier one must
/// not go on saying it.
fn unknown(call: &TokenCall) -> Answered {
    let operations = if call.carries_risk() {
        call.telling(&RiskClaims::Unscored)
    } else {
        Vec::new()
    };
    (success(operations), "unknown")
}

fn success(operations: Vec<Operation>) -> ActionReply {
    ActionReply::Success { operations }
}

/// In the words of OAuth: `invalid_grant` makes a standard client begin a new authorization.
fn refused_token(grant: &str, unproven: bool) -> ActionReply {
    let renews = matches!(grant, "authorization_code" | "refresh_token");
    ActionReply::Failed {
        failure_reason: if renews {
            "invalid_grant"
        } else {
            "access_denied"
        },
        failure_description: match (unproven, renews) {
            (true, true) => "a stronger authentication is required; start a new authorization",
            (true, false) => "a stronger authentication is required and was not given",
            (false, true) => "the grant was refused; start a new authorization",
            (false, false) => "the request was refused",
        },
    }
}

fn refused_password() -> Answered {
    let reply = ActionReply::Failed {
        failure_reason: "risk_too_high",
        failure_description: "The password cannot be changed now. Sign in with a second factor first.",
    };
    (reply, "refused")
}
