//! Answers to what WSO2 asks while it handles a request that was decided here. A question is never an error: what is not
//! known is said to be unknown, and a store that is away reads as unscored.

use crate::domain::action::Answer;
use crate::domain::action::AuthenticationCall;
use crate::domain::action::AuthenticationReply;
use crate::domain::action::Question;
use crate::domain::history::FACTOR_STRONG;
use crate::domain::history::LinkKey;
use crate::domain::history::LinkKind;
use crate::domain::history::Observation;
use crate::domain::history::Provenance;
use crate::domain::ids::NameSpace;
use crate::domain::ids::Pseudonymizer;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::decision::Verdict;
use crate::domain::signals::network::velocity_host;
use crate::domain::time::Timestamp;
use crate::flow::AuthFlow;
use crate::flow::Dependencies;
use crate::flow::exchange::Assessed;
use crate::flow::exchange::Exchange;
use crate::flow::identify::link_key;
use crate::flow::observe;
use std::sync::Arc;
use std::time::Duration;

/// How long a decision can be asked for: WSO2 asks while the user is at the login page.
const DECISION_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// For a look into the store, and between two looks: another node may be a moment behind with its writes.
const LOOK: Duration = Duration::from_millis(25);
/// Looks before an id counts as unknown.
const LOOKS: u32 = 2;

/// What was found of a decision.
enum Found {
    /// It was taken under this.
    Link(Arc<Provenance>),
    /// There is none.
    Nothing,
    /// The store did not answer.
    Away,
}

/// Keeps the decision of an exchange so that WSO2 can ask for it, before the request goes there.
pub(in crate::flow) fn remember(dependencies: &Dependencies, exchange: &Exchange) {
    let (Some(door), Some(assessed), Some(decided)) =
        (exchange.door, &exchange.assessed, &exchange.decided)
    else {
        return;
    };
    // In weaker modes WSO2 is not told the id.
    if !matches!(decided.mode, Mode::Advise | Mode::Enforce) || exchange.permit.is_none() {
        return;
    }
    let people = &exchange.snapshot.people;
    let key = link_key(people, LinkKind::Decision, exchange.id.as_str());
    let mut link = observe::provenance(exchange, assessed, door, LinkKind::Decision);
    link.decision_id = exchange.id.clone();
    // In `advise` nothing is demanded; the script is told all the same what the headers say.
    link.demanded |= decided.decision.verdict > Verdict::Allow;
    let keys = [Some(key), assessed.presented.and_then(of_flow)];
    for key in keys.into_iter().flatten() {
        dependencies.recent.insert(key, link.clone());
        write(
            dependencies,
            exchange.at,
            key,
            link.clone(),
            DECISION_LIFETIME,
        );
    }
}

/// Factors of a login in progress that WSO2 has confirmed to this node's authenticator while it handled the request.
pub(in crate::flow) fn confirmed_factors(dependencies: &Dependencies, assessed: &Assessed) -> u8 {
    assessed
        .presented
        .and_then(of_flow)
        .and_then(|key| dependencies.recent.find(&key))
        .map_or(0, |link| link.factors)
}

/// The key of the latest decision within a login in progress. The link of the login itself is not touched before WSO2
/// has answered: a request with a stranger's key must not change it.
fn of_flow(presented: LinkKey) -> Option<LinkKey> {
    (presented.kind == LinkKind::Transaction).then_some(LinkKey {
        kind: LinkKind::Decision,
        ..presented
    })
}

impl AuthFlow {
    /// Answers a script. An id that was not given for this user, tenant and address is unknown: whoever goes around the
    /// gateway cannot bring the id of somebody else's good login.
    pub async fn answer(&self, question: &Question) -> Answer {
        let snapshot = self.snapshot();
        let people = &snapshot.people;
        let key = link_key(people, LinkKind::Decision, &question.decision_id);
        let link = match self.find(&key).await {
            Found::Link(link) => link,
            Found::Nothing => return Answer::unknown(),
            Found::Away => {
                return Answer {
                    risk_status: "unscored",
                    ..Answer::unknown()
                };
            }
        };
        let of_user = question
            .username
            .as_deref()
            .is_none_or(|name| is_about(people, &link, &question.tenant, name));
        let of_address = question.address.is_none_or(|address| {
            let seen = velocity_host(address).to_string();
            link.used_by.address == Some(people.value(NameSpace::Address, seen.as_bytes()))
        });
        if !of_user || !of_address || !is_of_tenant(people, &link, &question.tenant) {
            return Answer::unknown();
        }
        let owes = link.demanded && !link.has_strong_factor();
        Answer {
            risk_status: if link.score.is_some() {
                "scored"
            } else {
                "unscored"
            },
            risk_score: link.score,
            risk_verdict: Some(if owes {
                Verdict::StepUp
            } else {
                Verdict::Allow
            }),
            risk_reasons: link.reasons.clone(),
            decision_id: Some(link.decision_id.as_str().to_owned()),
        }
    }

    /// Answers a custom authenticator: passed when nothing is owed, or when a stronger authenticator has been passed in
    /// this login. `flowId` or the decision id must be known, else the login went around the gateway.
    pub async fn authenticate(&self, call: &AuthenticationCall) -> AuthenticationReply {
        let snapshot = self.snapshot();
        let people = &snapshot.people;
        let flow = LinkKey {
            kind: LinkKind::Decision,
            ..link_key(people, LinkKind::Transaction, &call.flow_id)
        };
        let decision = call
            .decision_id
            .as_deref()
            .map(|id| link_key(people, LinkKind::Decision, id));
        let mut found = self.find(&flow).await;
        if let (Found::Nothing, Some(decision)) = (&found, &decision) {
            found = self.find(decision).await;
        }
        let link = match found {
            Found::Link(link) => link,
            // Without the store nothing can be said: the login goes on, as it does at the edge.
            Found::Away => return AuthenticationReply::Success {},
            Found::Nothing => {
                return refused(
                    "unknown_login",
                    "The sign-in did not come through the gateway.",
                );
            }
        };
        let of_user = call
            .username
            .as_deref()
            .is_none_or(|name| is_about(people, &link, &call.tenant, name));
        if !of_user || !is_of_tenant(people, &link, &call.tenant) {
            return refused(
                "unknown_login",
                "The sign-in did not come through the gateway.",
            );
        }
        if !link.demanded || link.has_strong_factor() {
            return AuthenticationReply::Success {};
        }
        let passed = call
            .passed
            .iter()
            .any(|name| snapshot.step_up.is_strong_method(name));
        if !passed {
            return refused(
                "insufficient_authentication",
                "A second factor is required for this sign-in.",
            );
        }
        // WSO2 itself, authenticated, has said so.
        let proven = Provenance {
            factors: link.factors | FACTOR_STRONG,
            ..Provenance::clone(&link)
        };
        self.dependencies().recent.insert(flow, proven);
        AuthenticationReply::Success {}
    }

    async fn find(&self, key: &LinkKey) -> Found {
        let dependencies = self.dependencies();
        if let Some(link) = dependencies.recent.find(key) {
            return Found::Link(link);
        }
        let now = dependencies.clock.now();
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(LOOK).await;
            }
            match tokio::time::timeout(LOOK, dependencies.state.link(key, now)).await {
                Ok(Ok(Some(link))) => return Found::Link(Arc::new(link)),
                Ok(Ok(None)) => {}
                Ok(Err(_)) | Err(_) => return Found::Away,
            }
        }
        Found::Nothing
    }
}

fn refused(reason: &'static str, description: &'static str) -> AuthenticationReply {
    AuthenticationReply::Failed {
        failure_reason: reason,
        failure_description: description,
    }
}

/// Whether the decision was about this user. WSO2 names users in forms of its own; the key is made of the canonical one.
fn is_about(people: &Pseudonymizer, link: &Provenance, tenant: &str, name: &str) -> bool {
    let is = |people: &Pseudonymizer| link.subject == Some(people.user(tenant, name));
    is(people) || people.previous().is_some_and(is)
}

fn is_of_tenant(people: &Pseudonymizer, link: &Provenance, tenant: &str) -> bool {
    link.tenant == people.value(NameSpace::Tenant, tenant.as_bytes())
}

fn write(
    dependencies: &Dependencies,
    at: Timestamp,
    key: LinkKey,
    link: Provenance,
    lifetime: Duration,
) {
    let observation = Observation {
        at,
        links: vec![(key, link, lifetime)],
        ..Observation::default()
    };
    if dependencies.observations.try_send(observation).is_err() {
        dependencies.metrics.state_writes_lost(1);
    }
}
