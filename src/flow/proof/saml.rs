//! Whether a SAML response proves the stronger factor that is owed. It is authentic by its way: the identity server itself
//! has just answered with it, over the connection on which its certificate was checked; the browser has not had it yet.
//!
//! What cannot be read here is withheld: an assertion that only the service provider can decrypt, an artifact that it
//! would fetch from elsewhere.

use crate::domain::demand::Proof;
use crate::domain::demand::SKEW;
use crate::domain::enforcement;
use crate::domain::enforcement::RejectionKind;
use crate::domain::enforcement::step_up::ProofKind;
use crate::domain::outcome::AuthOutcome;
use crate::domain::route::Door;
use crate::domain::saml::AuthnStatement;
use crate::domain::saml::Handed;
use crate::domain::saml::SamlError;
use crate::flow::Dependencies;
use crate::flow::answer::Replacement;
use crate::flow::exchange::Assessed;
use crate::flow::exchange::Exchange;
use crate::flow::exchange::ProofDue;
use crate::flow::proof::HeldAnswer;
use crate::flow::proof::Unproven;
use crate::flow::proof::accepts;
use crate::flow::proof::note;
use std::time::Duration;

/// Judges an answer. `None` lets it through.
pub(super) fn settle(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    owed: ProofDue,
    answer: HeldAnswer<'_>,
) -> Option<Replacement> {
    if answer.status >= 400 {
        return None;
    }
    let proof = match handed(answer) {
        Ok(Handed::Nothing) => return None,
        Ok(Handed::Artifact) => Err(Unproven::Artifact),
        Ok(Handed::Encrypted) => Err(Unproven::Encrypted),
        Ok(Handed::Assertion(said)) => prove(dependencies, exchange, owed, &said),
        Err(unproven) => Err(unproven),
    };
    note(dependencies, exchange, proof)?;
    exchange.outcome = AuthOutcome::RefusedHere;
    Some(Replacement::Reject(enforcement::rejection(
        Door::Saml,
        RejectionKind::StepUpByAuthorization,
        None,
    )))
}

/// Whom the assertion in an answer is about; `None` where there is none that can be read here.
pub(in crate::flow) fn subject(answer: HeldAnswer<'_>) -> Option<String> {
    match handed(answer) {
        Ok(Handed::Assertion(said)) => said.subject,
        Ok(Handed::Artifact | Handed::Encrypted | Handed::Nothing) | Err(_) => None,
    }
}

/// What an answer hands over: by a redirect, or by a page that posts itself.
fn handed(answer: HeldAnswer<'_>) -> Result<Handed, Unproven> {
    let location = answer
        .location
        .filter(|_| (300..400).contains(&answer.status));
    let read = match (location, answer.body) {
        (Some(location), _) => Handed::in_location(location),
        (None, Some(body)) => match std::str::from_utf8(body) {
            Ok(page) => Handed::in_page(page),
            Err(_) => Err(SamlError::Xml),
        },
        (None, None) => return Err(Unproven::Unreadable),
    };
    read.map_err(|_| Unproven::Unreadable)
}

fn prove(
    dependencies: &Dependencies,
    exchange: &Exchange,
    owed: ProofDue,
    said: &AuthnStatement,
) -> Result<Proof, Unproven> {
    if !accepts(exchange, ProofKind::Saml) {
        return Err(Unproven::OtherProof);
    }
    let settings = &exchange.snapshot.step_up;
    let accepted: Vec<&String> = std::iter::once(&settings.acr)
        .chain(&settings.accepted_acr)
        .collect();
    let context = said
        .contexts
        .iter()
        .find(|context| accepted.contains(context))
        .ok_or(Unproven::Acr)?;
    let now = dependencies.clock.now();
    let authenticated = said.authenticated();
    let max_age = Duration::from_secs(settings.max_age_seconds);
    let is_fresh = owed.seen
        || authenticated
            .is_some_and(|at| at.plus(SKEW) >= owed.at || at.plus(max_age).plus(SKEW) >= now);
    if !is_fresh {
        return Err(Unproven::Stale);
    }
    let assessed = exchange.assessed.as_ref();
    let people = &exchange.snapshot.people;
    let named = || {
        let name = said.subject.as_deref()?;
        Some(people.account(exchange.user_domain(), name))
    };
    let subject = assessed
        .and_then(Assessed::subject)
        .or_else(named)
        .ok_or(Unproven::Unreadable)?;
    let seen_at = assessed
        .and_then(|assessed| assessed.provenance.as_deref())
        .map_or(owed.at, |link| link.at);
    Ok(Proof {
        subject,
        at: authenticated.unwrap_or(seen_at).max(owed.at),
        acr: Some(context.clone()),
        amr: Vec::new(),
    })
}
