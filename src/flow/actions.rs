//! Answers to what WSO2 asks while it handles a request that was decided here. A question is never an error: what is not
//! known is said to be unknown, and a store that is away reads as unscored.

use crate::domain::action::Answer;
use crate::domain::action::AuthenticationCall;
use crate::domain::action::AuthenticationReply;
use crate::domain::action::Question;
use crate::domain::demand::Proved;
use crate::domain::enforcement::step_up::ProofKind;
use crate::domain::history::FACTOR_PROVEN;
use crate::domain::history::FACTOR_SINCE;
use crate::domain::history::FACTOR_STRONG;
use crate::domain::history::LinkKey;
use crate::domain::history::LinkKind;
use crate::domain::history::Observation;
use crate::domain::history::Provenance;
use crate::domain::history::TOKEN_REQUEST_LIFETIME;
use crate::domain::ids::NameSpace;
use crate::domain::ids::Pseudonymizer;
use crate::domain::outcome::AuthOutcome;
use crate::domain::outcome::Conclusion;
use crate::domain::outcome::TRANSACTION_LIFETIME;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::decision::Verdict;
use crate::domain::policy::scope::SUPER_TENANT;
use crate::domain::route::Door;
use crate::domain::signals::network::host_hash;
use crate::domain::target::user_domain;
use crate::domain::time::Timestamp;
use crate::flow::AuthFlow;
use crate::flow::Dependencies;
use crate::flow::decide;
use crate::flow::demands;
use crate::flow::exchange::Assessed;
use crate::flow::exchange::Exchange;
use crate::flow::identify::link_key;
use crate::flow::observe::links;
use crate::flow::token_action;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// How long a decision can be asked for: WSO2 asks while the user is at the login page.
const DECISION_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// For a look into the store, and between two looks: another node may be a moment behind with its writes.
const LOOK: Duration = Duration::from_millis(25);
/// Looks before an id counts as unknown.
const LOOKS: u32 = 2;

/// What our own step proves: a stronger factor, given since it was demanded.
const PROVEN_HERE: u8 = FACTOR_STRONG | FACTOR_SINCE | FACTOR_PROVEN;

/// What was found of a decision.
pub(in crate::flow) enum Found {
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
    let mut link = links::provenance(exchange, assessed, door, LinkKind::Decision);
    link.decision_id = exchange.id.clone();
    // In `advise` nothing is demanded; the script is told all the same what the headers say.
    let told = match decided.decision.verdict {
        Verdict::Review if exchange.withheld.is_some() => decide::lifted(assessed, door),
        verdict => verdict,
    };
    link.demanded |= told > Verdict::Allow;
    // What became of our own step in this login stays so.
    link.factors |= confirmed_factors(dependencies, assessed);
    link.barred |= assessed
        .own_step
        .as_deref()
        .is_some_and(|step| step.barred && step.subject == assessed.about());
    let mut lifetime = DECISION_LIFETIME;
    if door == Door::Token {
        // A token tells of this request: neither the worst of its family nor what was known before scoring failed.
        link.score = assessed.assessment.score().map(|score| score.points());
        let request = token_action::request(exchange, assessed, decided, door);
        link.token_request = Some(Box::new(request));
        lifetime = TOKEN_REQUEST_LIFETIME;
    }
    let flow = assessed.presented.and_then(of_flow);
    // Nothing else of the link says in which organization it was.
    let organization = exchange.target.as_ref().and_then(|at| at.organization());
    let within = organization
        .filter(|_| door != Door::Token)
        .map(|id| of_organization(people, exchange.id.as_str(), id));
    let keys = [Some(key), flow, within];
    let link = Arc::new(link);
    for key in keys.into_iter().flatten() {
        dependencies
            .recent
            .insert(key, Arc::clone(&link), dependencies.clock.instant());
        write(dependencies, exchange.at, key, Arc::clone(&link), lifetime);
    }
}

/// The factors that our own step has proved for the user of this login, before this request or while the identity server
/// handled it.
pub(in crate::flow) fn confirmed_factors(dependencies: &Dependencies, assessed: &Assessed) -> u8 {
    let recent = assessed
        .presented
        .and_then(of_flow)
        .and_then(|key| dependencies.recent.find(&key, dependencies.clock.instant()));
    let proven = |link: &&Arc<Provenance>| {
        link.factors & FACTOR_PROVEN != 0 && link.subject == assessed.about()
    };
    let is_proven = recent
        .iter()
        .chain(&assessed.own_step)
        .any(|link| proven(&link));
    if is_proven { PROVEN_HERE } else { 0 }
}

/// Our own step has proved the factor of a login that is at its end now: what was owed for it is met.
pub(in crate::flow) fn meet(dependencies: &Dependencies, exchange: &mut Exchange, door: Door) {
    let Some(assessed) = &exchange.assessed else {
        return;
    };
    let is_met = door == Door::Login
        && exchange.outcome == AuthOutcome::Succeeded
        && confirmed_factors(dependencies, assessed) != 0;
    // Whom it was proved for the identity server has named itself.
    let (true, Some(subject)) = (is_met, assessed.about()) else {
        return;
    };
    let keys = assessed
        .provenance
        .as_deref()
        .map_or(&[][..], |link| &link.demand_keys);
    let proof = Proved {
        subject,
        at: exchange.at,
    };
    demands::proved(dependencies, exchange, keys, Some(subject), proof);
    dependencies.metrics.proof(door.as_str(), "proven");
    exchange.proof = Some("proven");
}

/// The login goes on at the page of our own step: it is remembered as one that has named its user.
pub(in crate::flow) fn goes_on(
    exchange: &Exchange,
    assessed: &Assessed,
    door: Door,
    conclusion: &Conclusion,
) -> Option<(LinkKey, Provenance, Duration)> {
    let is_ours = door == Door::Login
        && conclusion.outcome == AuthOutcome::NextFactor
        && conclusion.issued.is_empty();
    let key = assessed
        .presented
        .filter(|key| is_ours && key.kind == LinkKind::Transaction)?;
    let link = links::provenance(exchange, assessed, door, key.kind);
    Some((key, link, TRANSACTION_LIFETIME))
}

/// The key of the latest decision within a login in progress. The link of the login itself is not touched before WSO2
/// has answered: a request with a stranger's key must not change it.
pub(in crate::flow) fn of_flow(presented: LinkKey) -> Option<LinkKey> {
    (presented.kind == LinkKind::Transaction).then_some(LinkKey {
        kind: LinkKind::Decision,
        ..presented
    })
}

/// The key under which a decision is found by its id and the organization in which it was taken.
fn of_organization(people: &Pseudonymizer, decision: &str, organization: &str) -> LinkKey {
    let place = format!("{decision}/o/{organization}");
    link_key(people, LinkKind::Decision, &place)
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
        // A script is told the domain of the user alone, which may be that of an organization.
        let of_user = match question.username.as_deref() {
            Some(name) => is_about(people, &link, &question.tenant, name),
            None => is_of_tenant(people, &link, &question.tenant) || self.is_within(question).await,
        };
        let of_address = question
            .address
            .is_none_or(|address| link.used_by.address == Some(host_hash(people, address)));
        if !of_user || !of_address {
            return Answer::unknown();
        }
        // Within a login what was seen counts, as for the header: the proof comes when it is at its end.
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
            risk_reasons: link.reasons.iter().cloned().map(Cow::into_owned).collect(),
            decision_id: Some(link.decision_id.as_str().to_owned()),
        }
    }

    /// Whether the decision was taken in the organization that is asked for.
    async fn is_within(&self, question: &Question) -> bool {
        let people = &self.snapshot().people;
        let organization = question.tenant.to_ascii_lowercase();
        let key = of_organization(people, &question.decision_id, &organization);
        matches!(self.find(&key).await, Found::Link(_))
    }

    /// Answers a custom authenticator: passed when nothing is owed, or when a stronger authenticator has been passed in
    /// this login; an application that proves by our own step is sent to its page. `flowId` or the decision id must be
    /// known, else the login went around the gateway.
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
        let domain = user_domain(&call.tenant, call.organization.as_deref());
        let of_user = call
            .username
            .as_deref()
            .is_none_or(|name| is_about(people, &link, domain, name));
        // Whose organization it is only the name says.
        let of_organization = call.organization.is_some() && call.username.is_some();
        let tenant = taken_under(people, &link, &call.tenant, of_organization);
        let Some(tenant) = tenant.filter(|_| of_user) else {
            return refused(
                "unknown_login",
                "The sign-in did not come through the gateway.",
            );
        };
        if !link.owes_proof() {
            return AuthenticationReply::Success {};
        }
        let settings = &snapshot.step_up;
        let application = link.application.as_deref().unwrap_or("");
        let proves = settings.proof(tenant, application) == Some(ProofKind::Action);
        let passed = call
            .passed
            .iter()
            .any(|name| settings.is_strong_method(name));
        if passed {
            // WSO2 itself, authenticated, has said so. Other applications prove it by what WSO2 signs.
            if proves {
                self.prove_step(flow, &link);
            }
            return AuthenticationReply::Success {};
        }
        if link.barred {
            return refused("declined", "The sign-in was given up.");
        }
        if proves
            && call.may_redirect
            && let Some(url) = self.step_url(call, tenant, flow, &link).await
        {
            return AuthenticationReply::redirect(url);
        }
        refused(
            "insufficient_authentication",
            "A second factor is required for this sign-in.",
        )
    }

    /// Keeps that the factor of the login in progress under `flow` is proved.
    pub(in crate::flow) fn prove_step(&self, flow: LinkKey, link: &Provenance) {
        self.keep_step(
            flow,
            Provenance {
                factors: link.factors | PROVEN_HERE,
                ..link.clone()
            },
        );
    }

    /// Keeps what became of the login in progress under `flow`.
    pub(in crate::flow) fn keep_step(&self, flow: LinkKey, link: Provenance) {
        let dependencies = self.dependencies();
        let link = Arc::new(link);
        dependencies
            .recent
            .insert(flow, Arc::clone(&link), dependencies.clock.instant());
        let now = dependencies.clock.now();
        write(dependencies, now, flow, link, DECISION_LIFETIME);
    }

    pub(in crate::flow) async fn find(&self, key: &LinkKey) -> Found {
        let dependencies = self.dependencies();
        if let Some(link) = dependencies.recent.find(key, dependencies.clock.instant()) {
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
pub(in crate::flow) fn is_about(
    people: &Pseudonymizer,
    link: &Provenance,
    domain: &str,
    name: &str,
) -> bool {
    let is = |people: &Pseudonymizer| link.subject == Some(people.user(domain, name));
    is(people) || people.previous().is_some_and(is)
}

/// The tenant under which the decision was taken, if that is `tenant`. `/o/{id}` leads to an organization whatever tenant it is
/// below, and is read as one of the super tenant: what is known to be `of_organization` may have been taken under that.
pub(in crate::flow) fn taken_under<'t>(
    people: &Pseudonymizer,
    link: &Provenance,
    tenant: &'t str,
    of_organization: bool,
) -> Option<&'t str> {
    [tenant, SUPER_TENANT]
        .into_iter()
        .take(if of_organization { 2 } else { 1 })
        .find(|tenant| is_of_tenant(people, link, tenant))
}

fn is_of_tenant(people: &Pseudonymizer, link: &Provenance, tenant: &str) -> bool {
    link.tenant == people.value(NameSpace::Tenant, tenant.as_bytes())
}

fn write(
    dependencies: &Dependencies,
    at: Timestamp,
    key: LinkKey,
    link: Arc<Provenance>,
    lifetime: Duration,
) {
    let observation = Observation {
        at,
        links: vec![(key, link, lifetime)],
        ..Observation::default()
    };
    dependencies.observations.send(observation);
}
