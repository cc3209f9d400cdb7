//! What is kept with a code, token, session or login in progress that an exchange issued: whom it stands for, and what was
//! given and demanded for it.

use crate::domain::history;
use crate::domain::history::APPLICATION_BYTES_MAX;
use crate::domain::history::FACTOR_PASSWORD;
use crate::domain::history::FACTOR_STRONG;
use crate::domain::history::LinkKind;
use crate::domain::history::Provenance;
use crate::domain::history::SUBJECT_HINTED;
use crate::domain::history::family::short;
use crate::domain::ids::SubjectKey;
use crate::domain::outcome::AuthOutcome;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::decision::Verdict;
use crate::domain::risk::RiskLevel;
use crate::domain::risk::RiskScore;
use crate::domain::route::Door;
use crate::domain::time::Timestamp;
use crate::flow::decide::is_barred;
use crate::flow::demands;
use crate::flow::exchange::Assessed;
use crate::flow::exchange::Exchange;
use crate::flow::observe::is_withheld;
use crate::flow::review;
use crate::flow::turned_in;
use std::borrow::Cow;
use std::sync::Arc;

/// What is kept with something that this exchange issued.
pub(in crate::flow) fn provenance(
    exchange: &Exchange,
    assessed: &Assessed,
    door: Door,
    kind: LinkKind,
) -> Provenance {
    let begins = begins_anew(exchange, assessed, door);
    let before = assessed.provenance.as_deref().filter(|_| !begins);
    let seen = assessed.signals.hashes.familiarity;
    let decided = exchange.decided.as_ref();
    // What the history of a name says is kept with the login once it was proved; the identity server alone may know before.
    let shown = decided
        .and_then(|decided| decided.shown.as_ref())
        .filter(|_| kind != LinkKind::Decision && !exchange.accepted);
    let demands = shown.is_none()
        && decided.is_some_and(|decided| {
            decided.mode == Mode::Enforce && decided.decision.verdict == Verdict::StepUp
        });
    let demanded = demands || before.is_some_and(|link| link.demanded);
    let (subject, is_hinted) = subject(assessed, before, door, kind);
    // What goes on with a login repeats its demand; anything else raises one anew, and what was given before it is old.
    let raised = demands && !assessed.continues && door != Door::Token;
    let is_old = raised && assessed.demanded_since.is_none();
    let mut factors = factors(exchange, assessed, before, door, is_old);
    factors |= if is_hinted { SUBJECT_HINTED } else { 0 };
    // A code keeps what the front channel showed for good; who redeems it is only the latest user.
    let is_token = door == Door::Token;
    let issued_to = before
        .filter(|_| is_token)
        .map_or(seen, |link| link.issued_to);
    let low = decided.is_some_and(|decided| decided.decision.level == Some(RiskLevel::Low));
    // A refresh from a place that was not low-risk must not become familiar by being repeated.
    let kept = before.filter(|_| is_token && !low && presents_refresh(assessed));
    let used_by = kept.map_or(seen, |link| link.used_by);
    let used_from = kept.map_or(assessed.signals.network.coordinates, |link| link.used_from);
    let own = decided.map(|decided| &decided.decision);
    let reasons = shown.map(|shown| &shown.decision).or(own).map(|decision| {
        let codes = decision.reasons.iter().map(|reason| reason.code());
        codes.map(Cow::Borrowed).collect()
    });
    let assessment = shown.and(assessed.shown.as_ref());
    let own_score = assessment.unwrap_or(&assessed.assessment).score();
    let inherits = assessed.continues || (is_token && before.is_some());
    // Within one login the highest score counts; `None` is below all.
    let score = before
        .filter(|_| kind == LinkKind::Transaction || inherits)
        .and_then(|link| link.score)
        .max(own_score.map(RiskScore::points));
    let login = before.filter(|_| is_token || assessed.continues);
    Provenance {
        decision_id: before
            .filter(|_| assessed.continues)
            .map_or_else(|| exchange.id.clone(), |link| link.decision_id.clone()),
        at: exchange.at,
        tenant: assessed.signals.hashes.tenant,
        client: assessed
            .signals
            .client
            .or_else(|| before.and_then(|link| link.client)),
        subject,
        score,
        reasons: reasons.unwrap_or_default(),
        demanded,
        demanded_at: match before {
            Some(link) if !raised => link.demanded_at,
            _ if demands => assessed.demanded_since.unwrap_or(exchange.at),
            _ => Timestamp::default(),
        },
        barred: is_withheld(exchange) || is_barred(assessed),
        factors: review::factors(exchange, kind, factors),
        confirmed: before.is_some_and(|link| link.confirmed)
            || exchange.outcome == AuthOutcome::Succeeded,
        issued_to,
        coordinates: before
            .filter(|_| is_token)
            .map_or(assessed.signals.network.coordinates, |link| {
                link.coordinates
            }),
        used_by,
        used_from,
        evidence: assessed
            .profile
            .as_ref()
            .map(|profile| profile.successes)
            .or(before.map(|link| link.evidence))
            .unwrap_or(0),
        login_score: before
            .filter(|_| is_token)
            .map_or(score, |link| link.login_score),
        scopes: login.map_or_else(
            || assessed.facts.scopes.iter().copied().map(short).collect(),
            |link| link.scopes.clone(),
        ),
        family: (is_token && kind == LinkKind::RefreshToken)
            .then(|| Box::new(turned_in::family(exchange, assessed, before, low))),
        redeemed: None,
        demand_keys: demands::keys_of_login(exchange, assessed, demanded),
        application: assessed
            .signals
            .client_id
            .clone()
            .filter(|id| id.len() <= APPLICATION_BYTES_MAX),
        approves: assessed.approves.filter(|_| kind == LinkKind::Transaction),
        token_request: None,
    }
}

/// Whether the identity server begins a login anew though a session was presented: nothing of the session's goes on in it,
/// and somebody else may log in.
fn begins_anew(exchange: &Exchange, assessed: &Assessed, door: Door) -> bool {
    let is_session = match (&assessed.provenance, &assessed.session) {
        (Some(link), Some(session)) => Arc::ptr_eq(link, session),
        _ => false,
    };
    let is_begin = matches!(door, Door::Authorize | Door::Saml);
    let is_at_first_step = match exchange.outcome {
        AuthOutcome::LoginPage => true,
        // A choice of factors may be a first step without passwords.
        AuthOutcome::NextFactor => assessed.facts.prompts("login"),
        _ => false,
    };
    is_session && is_begin && is_at_first_step
}

/// Whom something stands for that this exchange issued, and whether that is only whom a login was begun for. `before` is
/// what it goes on with.
fn subject(
    assessed: &Assessed,
    before: Option<&Provenance>,
    door: Door,
    kind: LinkKind,
) -> (Option<SubjectKey>, bool) {
    if assessed.is_misnamed(door) {
        let link = assessed.provenance.as_deref();
        return link.map_or((None, false), |link| (link.subject, link.is_hinted()));
    }
    let user = assessed.subject();
    let is_anew = before.is_none() && assessed.provenance.is_some();
    if user.is_some() && !is_anew {
        return (user, false);
    }
    // While a login is in progress its user's history is looked at, whatever that user lets the browser send.
    let begun_for = || {
        let named = assessed.signals.subject.key();
        named.or_else(|| assessed.provenance.as_deref()?.subject)
    };
    let is_in_progress = matches!(kind, LinkKind::Transaction | LinkKind::Decision);
    let begun_for = is_in_progress.then(begun_for).flatten();
    (begun_for, begun_for.is_some())
}

/// The factors that were given in the login `before`, and that of this request; where `is_old`, those before it no longer
/// count.
fn factors(
    exchange: &Exchange,
    assessed: &Assessed,
    before: Option<&Provenance>,
    door: Door,
    is_old: bool,
) -> u8 {
    let misnamed = assessed.is_misnamed(door);
    let is_accepted = matches!(
        exchange.outcome,
        AuthOutcome::Succeeded | AuthOutcome::NextFactor
    );
    let given = is_accepted && assessed.facts.credentials && !misnamed;
    let step = match (given, assessed.facts.second_factor) {
        (false, _) => 0,
        (true, false) => FACTOR_PASSWORD,
        (true, true) => FACTOR_STRONG,
    };
    // What one user has proved says nothing about another who is named in the same login.
    let named = assessed
        .signals
        .subject
        .key()
        .filter(|_| !assessed.is_mere_name);
    let known = before.filter(|link| match (named, link.subject) {
        (Some(named), Some(other)) => named == other || misnamed,
        _ => true,
    });
    history::factors_after(known.map_or(0, |link| link.factors), is_old, step)
}

fn presents_refresh(assessed: &Assessed) -> bool {
    assessed.facts.grant_type.as_deref() == Some("refresh_token")
}
