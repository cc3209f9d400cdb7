//! What a code or a token says against the way it has been used: the first request of its family, which is never
//! overwritten, and the uses that were learnt since.

use crate::domain::features::Feature;
use crate::domain::features::FeatureVector;
use crate::domain::features::derive::Known;
use crate::domain::features::derive::address_trust;
use crate::domain::features::derive::network_kind;
use crate::domain::features::derive::place;
use crate::domain::features::derive::rarity;
use crate::domain::features::derive::sources;
use crate::domain::features::derive::truth;
use crate::domain::features::novelty;
use crate::domain::features::novelty::Commonness;
use crate::domain::features::velocity;
use crate::domain::history::NEWNESS_AGE;
use crate::domain::history::Profile;
use crate::domain::history::Provenance;
use crate::domain::history::TokenFamily;
use crate::domain::history::family::FAMILY_NETWORKS_MAX;
use crate::domain::history::family::short;
use crate::domain::signals::Signals;
use crate::domain::time::Timestamp;

/// A newer version of the same program: a part of a change.
const UPDATED: f32 = 0.3;
/// Evidence counts by this part of its logarithm.
const EVIDENCE: f32 = 5.0;

/// Fills in what is to be said of a request that presents a code or a token.
pub(super) fn derive(row: &mut FeatureVector, signals: &Signals, known: Known<'_>, now: Timestamp) {
    let family = known.link.and_then(|link| link.family.as_deref());
    let confidential = signals.grant.client_authenticates;
    let at_home = match family {
        Some(family) => {
            let asn = signals.hashes.familiarity.asn;
            asn.is_some_and(|asn| family.asns.first(asn).is_some())
        }
        // The server of an application redeems codes from where servers stand.
        None => confidential,
    };
    network_kind(row, signals, at_home);
    rarity(row, signals, known.population);
    if let Some(history) = known.history {
        sources(row, history);
        address_trust(row, history);
    }
    row.set(Feature::TokenPublicClient, truth(!confidential));
    let Some(link) = known.link else { return };
    against_login(row, signals, link, now);
    match family {
        Some(family) => against_family(row, signals, link, family, now),
        None if confidential => return,
        None => against_issue(row, signals, link, now),
    }
    if let Some(profile) = known.profile.filter(|profile| profile.successes > 0) {
        against_stand_in(row, signals, profile, known);
    }
}

fn against_login(row: &mut FeatureVector, signals: &Signals, link: &Provenance, now: Timestamp) {
    let address = signals.hashes.familiarity.address;
    let replayed = link
        .redeemed
        .is_some_and(|redeemed| redeemed.is_replay(address, now));
    row.set(Feature::TokenReuse, truth(replayed));
    // Who has passed a stronger factor has answered for the risk of the login.
    if let Some(score) = link.login_score.filter(|_| !link.has_strong_factor()) {
        row.set(Feature::TokenLoginRisk, f32::from(score) / 100.0);
    }
    if !link.scopes.is_empty() {
        let asked = signals.grant.scopes.iter();
        let more = asked.filter(|scope| !link.scopes.contains(&short(**scope)));
        row.set(Feature::TokenScopeWidening, more.count() as f32);
    }
}

fn against_family(
    row: &mut FeatureVector,
    signals: &Signals,
    link: &Provenance,
    family: &TokenFamily,
    now: Timestamp,
) {
    let seen = signals.hashes.familiarity;
    let evidence = weight(link.evidence.saturating_add(family.uses));
    for (feature, values, value) in [
        (Feature::TokenAddressNew, &family.addresses, seen.address),
        (Feature::TokenAsnNew, &family.asns, seen.asn),
        (Feature::TokenCountryNew, &family.countries, seen.country),
    ] {
        // An attribute of which the family knows nothing at all cannot be judged.
        if let Some(value) = value.filter(|_| !values.is_empty()) {
            let newness = novelty::aged(values.first(value), family.origin.at, now, NEWNESS_AGE);
            row.set(feature, newness * evidence);
        }
    }
    if let Some(asn) = seen.asn.filter(|_| !family.asns.is_empty()) {
        row.set(Feature::TokenAsnChange, truth(!family.asns.is_latest(asn)));
    }
    let origin = family.origin;
    if let (Some(first), Some(agent)) = (origin.agent, seen.agent.map(short)) {
        let same_browser = origin.browser == Some(short(signals.hashes.browser));
        let change = match (first == agent, same_browser) {
            (true, _) => 0.0,
            (false, true) => UPDATED,
            (false, false) => 1.0,
        };
        row.set(Feature::TokenAgentChange, change);
    }
    if let (Some(first), Some(tls)) = (origin.tls, seen.tls.map(short)) {
        row.set(Feature::TokenTlsChange, truth(first != tls));
    }
    if let Some(here) = place(signals) {
        if let Some(from) = origin.coordinates {
            row.set(Feature::TokenIssueKm, from.distance_km(here).ln_1p());
        }
        let used_from = link.used_from.or(origin.coordinates);
        let speed = used_from.and_then(|from| velocity::speed(from, family.last, here, now));
        if let Some(speed) = speed {
            row.set(Feature::GeoSpeed, speed);
        }
    }
    if let Some(haste) = family.haste_at(now) {
        row.set(Feature::TokenGapRatio, haste);
    }
    row.set(
        Feature::TokenRate10m,
        velocity::log_count(family.rate_at(now)),
    );
    let networks = family.networks.distinct_lately(seen.asn, now);
    row.set(
        Feature::TokenAsns24h,
        velocity::log_count(networks.min(FAMILY_NETWORKS_MAX) as f32),
    );
    let key = signals.grant.proof_key.map(short);
    row.set(
        Feature::TokenKeyBinding,
        match origin.proof_key {
            None => 0.5,
            same if same == key => 0.0,
            Some(_) => 1.0,
        },
    );
}

/// A code of a client that cannot keep a secret is redeemed by the browser or telephone that it was given to.
fn against_issue(row: &mut FeatureVector, signals: &Signals, link: &Provenance, now: Timestamp) {
    let (seen, issued) = (signals.hashes.familiarity, link.issued_to);
    let evidence = weight(link.evidence);
    for (feature, value, at_issue) in [
        (Feature::TokenAddressNew, seen.address, issued.address),
        (Feature::TokenAsnNew, seen.asn, issued.asn),
        (Feature::TokenCountryNew, seen.country, issued.country),
    ] {
        if let (Some(value), Some(at_issue)) = (value, at_issue) {
            row.set(feature, truth(value != at_issue) * evidence);
        }
    }
    if let (Some(asn), Some(at_issue)) = (seen.asn, issued.asn) {
        row.set(Feature::TokenAsnChange, truth(asn != at_issue));
    }
    if let Some((here, from)) = place(signals).zip(link.coordinates) {
        row.set(Feature::TokenIssueKm, from.distance_km(here).ln_1p());
        if let Some(speed) = velocity::speed(from, link.at, here, now) {
            row.set(Feature::GeoSpeed, speed);
        }
    }
}

fn against_stand_in(
    row: &mut FeatureVector,
    signals: &Signals,
    profile: &Profile,
    known: Known<'_>,
) {
    let seen = signals.hashes.familiarity;
    for (feature, values, value, commonness) in [
        (Feature::LlrAsn, &profile.asns, seen.asn, Commonness::Many),
        (
            Feature::LlrCountry,
            &profile.countries,
            seen.country,
            Commonness::Few,
        ),
    ] {
        if let Some(value) = value.filter(|_| !values.is_empty()) {
            let share = known.population.share(value);
            row.set(
                feature,
                novelty::likelihood_ratio(profile, values, value, share, commonness),
            );
        }
    }
}

fn weight(evidence: u32) -> f32 {
    (evidence as f32).ln_1p() / EVIDENCE
}
