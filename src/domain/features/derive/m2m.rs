//! What a service account says against its own baseline.

use crate::domain::features::Feature;
use crate::domain::features::FeatureVector;
use crate::domain::features::derive::Known;
use crate::domain::features::derive::network_kind;
use crate::domain::features::derive::rarity;
use crate::domain::features::derive::sources;
use crate::domain::features::derive::subject_failures;
use crate::domain::features::novelty;
use crate::domain::history::ClientBaseline;
use crate::domain::history::KnownValues;
use crate::domain::history::Profile;
use crate::domain::ids::ValueHash;
use crate::domain::signals::Signals;
use crate::domain::time::Timestamp;
use std::time::Duration;

/// The age over which a value becomes familiar to a service account.
const NEWNESS_AGE: Duration = Duration::from_secs(12 * 3600);
/// Evidence counts by this part of its logarithm.
const EVIDENCE: f32 = 7.0;

/// Fills in what is to be said of a service account's request.
pub(super) fn derive(row: &mut FeatureVector, signals: &Signals, known: Known<'_>, now: Timestamp) {
    let asn = signals.hashes.familiarity.asn;
    // Data centres are where service accounts are at home; a first one must be learnt.
    let at_home = known
        .profile
        .is_none_or(|profile| asn.is_some_and(|asn| profile.asns.find(asn).is_some()));
    network_kind(row, signals, at_home);
    rarity(row, signals, known.population);
    let Some(history) = known.history else { return };
    sources(row, history);
    subject_failures(row, history);
    let settled = |baseline: &&ClientBaseline| baseline.is_settled(now);
    let Some(baseline) = history.client.as_ref().filter(settled) else {
        return;
    };
    values(row, signals, known.profile, baseline, now);
    scopes(row, &signals.grant.scopes, baseline, now);
    row.set(Feature::M2mRateZ, baseline.excess_at(now).max(0.0).ln_1p());
    for (feature, ratio) in [
        (Feature::M2mRateRatio, baseline.rate_ratio_at(now)),
        (Feature::M2mVolumeRatio, baseline.volume_ratio_at(now)),
    ] {
        if let Some(ratio) = ratio {
            row.set(feature, ratio);
        }
    }
    row.set(Feature::M2mGapShort, baseline.haste_at(now));
    row.set(
        Feature::M2mHourSurprise,
        novelty::hour_surprise(baseline.hours_like(now), now.hour_of_day()),
    );
}

fn values(
    row: &mut FeatureVector,
    signals: &Signals,
    profile: Option<&Profile>,
    baseline: &ClientBaseline,
    now: Timestamp,
) {
    let evidence = (baseline.requests as f32).ln_1p() / EVIDENCE;
    let seen = signals.hashes.familiarity;
    let mut judge = |feature, known: &KnownValues, value: Option<ValueHash>, began| {
        // An attribute of which nothing at all is known cannot be judged.
        if let Some(value) = value.filter(|_| !known.is_empty()) {
            let first = known.find(value).map(|known| known.first);
            row.set(
                feature,
                novelty::aged(first, began, now, NEWNESS_AGE) * evidence,
            );
        }
    };
    let prefix = Some(signals.hashes.prefix);
    let began = baseline.first;
    judge(Feature::M2mPrefixNew, &baseline.prefixes, prefix, began);
    judge(Feature::M2mTlsNew, &baseline.tls, seen.tls, began);
    if let Some(profile) = profile {
        let began = profile.first;
        judge(
            Feature::M2mAddressNew,
            &profile.addresses,
            seen.address,
            began,
        );
        judge(Feature::M2mAsnNew, &profile.asns, seen.asn, began);
        judge(
            Feature::M2mCountryNew,
            &profile.countries,
            seen.country,
            began,
        );
        judge(Feature::M2mAgentNew, &profile.agents, seen.agent, began);
    }
    let kinds_are_known = baseline.networks.iter().any(Option::is_some);
    if let Some(kind) = signals.network.kind.filter(|_| kinds_are_known) {
        let first = baseline.network_since(kind);
        row.set(
            Feature::M2mNetworkKindNew,
            novelty::aged(first, baseline.first, now, NEWNESS_AGE) * evidence,
        );
    }
}

fn scopes(row: &mut FeatureVector, asked: &[ValueHash], baseline: &ClientBaseline, now: Timestamp) {
    let (mut newness, mut surprise) = (0.0_f32, 0.0_f32);
    for scope in asked {
        let known = baseline.scopes.find(*scope);
        let first = known.map(|known| known.first);
        newness += novelty::aged(first, baseline.first, now, NEWNESS_AGE);
        let count = known.map_or(0, |known| known.count) as f32;
        let share = (count + 0.5) / (baseline.requests as f32 + 1.0);
        surprise = surprise.max(-share.ln());
    }
    row.set(Feature::M2mScopesNew, newness);
    row.set(Feature::M2mScopeSurprise, surprise);
}
