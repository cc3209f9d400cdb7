//! Signals, history and the moment, folded into one vector. What cannot be known stays missing (NaN); the model has a
//! value of its own for that. So does every feature of another kind of request.

/// The features of service accounts.
mod m2m;

/// The features of codes and tokens.
mod token;

use crate::domain::features::Feature;
use crate::domain::features::FeatureVector;
use crate::domain::features::novelty;
use crate::domain::features::novelty::Commonness;
use crate::domain::features::velocity;
use crate::domain::history::DEVICE_PROBATION;
use crate::domain::history::FailureRatio;
use crate::domain::history::Familiarity;
use crate::domain::history::History;
use crate::domain::history::KnownValues;
use crate::domain::history::Population;
use crate::domain::history::Profile;
use crate::domain::history::Provenance;
use crate::domain::ids::ValueHash;
use crate::domain::kind::RequestKind;
use crate::domain::signals::Signals;
use crate::domain::signals::Subject;
use crate::domain::signals::network::Coordinates;
use crate::domain::signals::network::NetworkKind;
use crate::domain::signals::session::DeviceCookie;
use crate::domain::time::Timestamp;

/// What stands against the request: the history as loaded, or nothing when the state did not answer.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Counters and, for a named subject, their own profile.
    pub history: Option<&'a History>,
    /// The profile to compare with: the subject's own or the one that a token or session stands for.
    pub profile: Option<&'a Profile>,
    /// Under what the code or token that is presented was given.
    pub link: Option<&'a Provenance>,
    /// The population snapshot.
    pub population: &'a Population,
}

/// How the device cookie stands to the subject.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeviceStanding {
    /// The subject has logged in with this browser.
    Known,
    /// There is no cookie, or one that could not have been sent.
    None,
    /// It belongs to somebody else or is forged.
    Foreign,
}

impl DeviceStanding {
    /// The standing as it is written in policies and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::None => "none",
            Self::Foreign => "foreign",
        }
    }

    /// How the cookie of a request stands to its subject. The cookie itself names its last subjects, so that this holds
    /// without any state; the profile adds those that were pushed out.
    pub fn of(signals: &Signals, profile: Option<&Profile>) -> Self {
        match &signals.device {
            DeviceCookie::Absent | DeviceCookie::Unsendable => Self::None,
            DeviceCookie::Forged => Self::Foreign,
            DeviceCookie::Valid(token) => {
                let in_profile = || {
                    let device = signals.hashes.familiarity.device;
                    profile.is_some_and(|profile| {
                        device.is_some_and(|device| profile.devices.find(device).is_some())
                    })
                };
                // Somebody has asked to forget the devices of before.
                let is_forgotten = || profile.is_some_and(|known| token.issued < known.forgotten);
                match signals.subject.key() {
                    // Without a name the cookie speaks for nobody in particular.
                    None => Self::None,
                    Some(_) if in_profile() => Self::Known,
                    Some(subject) if token.names(subject) && is_forgotten() => Self::None,
                    Some(subject) if token.names(subject) => Self::Known,
                    Some(_) if token.subjects.is_empty() => Self::None,
                    Some(_) => Self::Foreign,
                }
            }
        }
    }
}

/// The vector of one request, with the features of `kind`. It is the kind of the model that is to score it: a request of
/// a kind without a model of its own is described to the login model in that one's terms.
pub fn derive(
    kind: RequestKind,
    signals: &Signals,
    known: Known<'_>,
    now: Timestamp,
) -> FeatureVector {
    let mut row = FeatureVector::missing();
    match kind {
        RequestKind::Login => login(&mut row, signals, known, now),
        RequestKind::Token => token::derive(&mut row, signals, known, now),
        RequestKind::M2m => m2m::derive(&mut row, signals, known, now),
    }
    row
}

fn login(row: &mut FeatureVector, signals: &Signals, known: Known<'_>, now: Timestamp) {
    let device = DeviceStanding::of(signals, known.profile);
    from_request(row, signals, device, probation(signals, known, now));
    let asn = signals.hashes.familiarity.asn;
    // Data centres are where service accounts are at home: in one of their own they are no more suspect than a
    // person on a home network, and a first one must be learnt.
    let at_home = matches!(signals.subject, Subject::Client { .. })
        && known
            .profile
            .is_none_or(|profile| asn.is_some_and(|asn| profile.asns.find(asn).is_some()));
    network_kind(row, signals, at_home);
    rarity(row, signals, known.population);
    let seen = signals.hashes.familiarity;
    for (feature, value) in [
        (Feature::AgentRarity, seen.agent),
        (Feature::LanguageRarity, seen.language),
        (Feature::TlsRarity, seen.tls),
    ] {
        rarity_of(row, feature, value, known.population);
    }
    if let Some(history) = known.history {
        sources(row, history);
        more_sources(row, history);
        if signals.subject.key().is_some() {
            subject_failures(row, history);
            row.set(
                Feature::UserAddresses24h,
                velocity::log_count(history.subject.addresses_24h),
            );
        }
    }
    match known.profile {
        Some(profile) if profile.successes > 0 => {
            against_profile(row, signals, profile, known.population, device, now)
        }
        // A name that never logged in has an empty history; without a name or without state nothing is known.
        _ if known.history.is_some() && signals.subject.key().is_some() => newcomer(row),
        _ => {}
    }
}

/// A name without a confirmed login: what a strange request shows is all that there is to go by, and weighs on its own.
fn newcomer(row: &mut FeatureVector) {
    row.set(Feature::UserHistory, 0.0);
    for (feature, of) in [
        (Feature::NewcomerAsn, Feature::AsnRarity),
        (Feature::NewcomerCountry, Feature::CountryRarity),
        (Feature::NewcomerLanguage, Feature::LanguageRarity),
        (Feature::NewcomerTls, Feature::TlsRarity),
        (
            Feature::NewcomerAgentFailures,
            Feature::AgentFailureRatio24h,
        ),
    ] {
        row.set(feature, row.value(of));
    }
}

/// How much a known device lacks of an old one: a quarter when it has just become known, falling to nothing with the age
/// of thirty days. Whoever steals a password together with one second factor owns a known device from then on; this is
/// what it weighs less. Without the profile the cookie itself says since when it speaks for its subjects.
fn probation(signals: &Signals, known: Known<'_>, now: Timestamp) -> f32 {
    const NEW_DEVICE: f32 = 0.25;
    let DeviceCookie::Valid(token) = &signals.device else {
        return 0.0;
    };
    let device = signals.hashes.familiarity.device;
    let in_profile = known
        .profile
        .zip(device)
        .and_then(|(profile, device)| profile.devices.find(device));
    // The device with which the account began is as old as the account: there is none to prefer to it.
    let began_with = |first| known.profile.is_some_and(|profile| first <= profile.first);
    let since = match in_profile {
        Some(device) if began_with(device.first) => return 0.0,
        Some(device) => device.first,
        None => token.issued,
    };
    let age = now.since(since).as_secs_f32() / DEVICE_PROBATION.as_secs_f32();
    NEW_DEVICE * (1.0 - age).max(0.0)
}

fn from_request(
    row: &mut FeatureVector,
    signals: &Signals,
    device: DeviceStanding,
    probation: f32,
) {
    // Programs keep no device cookie, and without a name nobody's cookie can be missing.
    let expected = signals.browser_door && signals.subject.key().is_some();
    match device {
        DeviceStanding::Known => row.set(Feature::DeviceCookie, probation),
        DeviceStanding::Foreign => row.set(Feature::DeviceCookie, 1.0),
        DeviceStanding::None if expected => row.set(Feature::DeviceCookie, 0.5),
        DeviceStanding::None => {}
    }
    let scripted = signals.browser_door && signals.agent.is_scripted();
    row.set(Feature::ScriptedAgent, truth(scripted));
    if let Some(tls) = signals.tls.as_ref().filter(|_| signals.browser_door) {
        row.set(Feature::TlsMismatch, truth(signals.agent.contradicts(tls)));
    }
    row.set(Feature::ParametersHidden, truth(signals.parameters_hidden));
}

/// 1 for true.
fn truth(holds: bool) -> f32 {
    f32::from(u8::from(holds))
}

/// The kind of network; a data centre counts as home where `at_home` says that it is.
fn network_kind(row: &mut FeatureVector, signals: &Signals, at_home: bool) {
    if let Some(kind) = signals.network.kind {
        let suspicion = match kind {
            NetworkKind::Residential => 0.0,
            NetworkKind::Hosting if at_home => 0.0,
            NetworkKind::Vpn => 1.0,
            NetworkKind::Hosting => 2.0,
            NetworkKind::Tor => 3.0,
        };
        row.set(Feature::NetworkKind, suspicion);
    }
}

fn rarity(row: &mut FeatureVector, signals: &Signals, population: &Population) {
    let seen = signals.hashes.familiarity;
    rarity_of(row, Feature::AsnRarity, seen.asn, population);
    rarity_of(row, Feature::CountryRarity, seen.country, population);
}

fn rarity_of(
    row: &mut FeatureVector,
    feature: Feature,
    value: Option<ValueHash>,
    population: &Population,
) {
    if let Some(share) = value.and_then(|value| population.share(value)) {
        row.set(feature, -share.ln());
    }
}

/// What is counted of the sources of every kind of request.
fn sources(row: &mut FeatureVector, history: &History) {
    let address = history.address;
    for (feature, count) in [
        (Feature::AddressFailures10m, address.failures_10m),
        (Feature::AddressFailures24h, address.failures_24h),
        (Feature::PrefixFailures1h, history.prefix_failures_1h),
        (Feature::AddressUsers1h, address.users_1h),
    ] {
        row.set(feature, velocity::log_count(count));
    }
    for (feature, counts) in [
        (Feature::AsnFailureRatio, history.asn),
        (Feature::TenantFailureRatio, history.tenant),
    ] {
        row.set(feature, velocity::shared_failure_ratio(counts));
    }
}

/// What is counted of the sources of logins alone.
fn more_sources(row: &mut FeatureVector, history: &History) {
    let address = history.address;
    let counts = FailureRatio {
        failures: address.failures_24h,
        attempts: address.attempts_24h,
    };
    row.set(
        Feature::AddressFailureRatio,
        velocity::failure_ratio(counts),
    );
    for (feature, counts) in [
        (Feature::AgentFailureRatio, history.agent),
        (Feature::AgentFailureRatio24h, history.agent_24h),
        (Feature::AsnFailureRatio24h, history.asn_24h),
    ] {
        row.set(feature, velocity::shared_failure_ratio(counts));
    }
    address_trust(row, history);
}

fn address_trust(row: &mut FeatureVector, history: &History) {
    let trusted = history.address.trusted_subjects;
    row.set(Feature::AddressTrust, velocity::log_count(trusted));
}

fn subject_failures(row: &mut FeatureVector, history: &History) {
    let subject = history.subject;
    row.set(
        Feature::UserFailures10m,
        velocity::log_count(subject.failures_10m),
    );
    row.set(
        Feature::UserFailures24h,
        velocity::log_count(subject.failures_24h),
    );
}

fn against_profile(
    row: &mut FeatureVector,
    signals: &Signals,
    profile: &Profile,
    population: &Population,
    device: DeviceStanding,
    now: Timestamp,
) {
    likelihoods(row, &signals.hashes.familiarity, profile, population);
    surprises(row, signals, profile, device);
    novelty_combined(row, &signals.hashes.familiarity, profile, device, now);
    whereabouts(row, signals, profile, now);
    if matches!(
        signals.subject,
        Subject::Named { .. } | Subject::Client { .. }
    ) {
        if profile.hours.iter().any(|count| *count > 0) {
            row.set(
                Feature::HourSurprise,
                novelty::hour_surprise(&profile.hours, now.hour_of_day()),
            );
        }
        row.set(
            Feature::UserHistory,
            velocity::log_count(profile.successes as f32),
        );
        row.set(
            Feature::UserGapHours,
            (now.since(profile.last).as_secs_f32() / 3600.0).ln_1p(),
        );
    }
}

/// How much likelier each attribute is with anybody than with the subject.
fn likelihoods(
    row: &mut FeatureVector,
    seen: &Familiarity,
    profile: &Profile,
    population: &Population,
) {
    for (feature, known, value, commonness) in [
        (
            Feature::LlrAddress,
            &profile.addresses,
            seen.address,
            Commonness::Address,
        ),
        (Feature::LlrAsn, &profile.asns, seen.asn, Commonness::Many),
        (
            Feature::LlrCountry,
            &profile.countries,
            seen.country,
            Commonness::Few,
        ),
        (
            Feature::LlrAgent,
            &profile.agents,
            seen.agent,
            Commonness::Many,
        ),
        (
            Feature::LlrPlatform,
            &profile.platforms,
            seen.platform,
            Commonness::Few,
        ),
        (
            Feature::LlrLanguage,
            &profile.languages,
            seen.language,
            Commonness::Few,
        ),
        (Feature::LlrTls, &profile.tls, seen.tls, Commonness::Many),
    ] {
        // An attribute of which the profile knows nothing at all cannot be judged.
        if let Some(value) = value.filter(|_| !known.is_empty()) {
            let share = match feature {
                Feature::LlrAsn | Feature::LlrCountry | Feature::LlrAgent => {
                    population.share(value)
                }
                _ => None,
            };
            row.set(
                feature,
                novelty::likelihood_ratio(profile, known, value, share, commonness),
            );
        }
    }
}

/// What is new, weighed by how seldom the subject brings anything new.
fn surprises(
    row: &mut FeatureVector,
    signals: &Signals,
    profile: &Profile,
    device: DeviceStanding,
) {
    let seen = signals.hashes.familiarity;
    let is_new = |known: &KnownValues, value: Option<ValueHash>| {
        value.is_some_and(|value| known.find(value).is_none())
    };
    let habit = profile.habit;
    // Programs keep no cookie, so that its absence is no novelty of theirs.
    let cookie_missing = signals.browser_door
        && device != DeviceStanding::Known
        && signals.device != DeviceCookie::Unsendable;
    row.set(
        Feature::SurpriseCookie,
        novelty::surprise(cookie_missing, habit.cookie, profile.successes),
    );
    row.set(
        Feature::SurpriseAddress,
        novelty::surprise(
            is_new(&profile.addresses, seen.address),
            habit.address,
            profile.successes,
        ),
    );
    row.set(
        Feature::SurpriseAgent,
        novelty::surprise(
            is_new(&profile.agents, seen.agent),
            habit.agent,
            profile.successes,
        ),
    );
    row.set(
        Feature::SurpriseAsn,
        novelty::surprise(
            is_new(&profile.asns, seen.asn),
            habit.asn,
            profile.successes,
        ),
    );

    if seen.tls.is_some() && !profile.tls.is_empty() {
        row.set(
            Feature::SurpriseTls,
            novelty::surprise(is_new(&profile.tls, seen.tls), habit.tls, profile.successes),
        );
    }
}

/// A new device in a new network at once: each by itself has many innocent causes.
fn novelty_combined(
    row: &mut FeatureVector,
    seen: &Familiarity,
    profile: &Profile,
    device: DeviceStanding,
    now: Timestamp,
) {
    let newness = |known: &KnownValues, value: Option<ValueHash>| {
        value.map(|value| novelty::newness(profile, known.find(value), now))
    };
    let agent = newness(&profile.agents, seen.agent).unwrap_or(0.0);
    let platform = newness(&profile.platforms, seen.platform).unwrap_or(0.0);
    let device_novelty = if device == DeviceStanding::Known {
        0.0
    } else {
        agent.max(platform)
    };
    let address = newness(&profile.addresses, seen.address).unwrap_or(0.0);
    let network_novelty = newness(&profile.asns, seen.asn)
        .unwrap_or(address)
        .min(address);
    row.set(
        Feature::NoveltyCombined,
        device_novelty.min(network_novelty),
    );
}

/// Whether the subject can be where the request comes from, given the logins before.
fn whereabouts(row: &mut FeatureVector, signals: &Signals, profile: &Profile, now: Timestamp) {
    if let Some(country) = signals.hashes.familiarity.country {
        let known = profile.countries.find(country);
        // Nothing is concurrent with itself: the country of the last login is where the subject is.
        let elsewhere = known.is_none_or(|known| !profile.is_latest(known));
        let hours = now.since(profile.last).as_secs_f32() / 3600.0;
        let newness = novelty::newness(profile, known, now);
        row.set(
            Feature::CountryConcurrent,
            if elsewhere {
                newness * (-hours / 6.0).exp()
            } else {
                0.0
            },
        );
    }
    if let Some(here) = place(signals) {
        if let Some(km) = velocity::nearest_place(profile, here) {
            row.set(Feature::GeoKm, km);
        }
        if let Some(speed) = velocity::travel_speed(profile, here, now) {
            row.set(Feature::GeoSpeed, speed);
        }
    }
}

/// Where the request comes from. The place of a VPN, a data centre or a Tor exit says nothing about where anybody is.
fn place(signals: &Signals) -> Option<Coordinates> {
    let placed = matches!(signals.network.kind, None | Some(NetworkKind::Residential));
    signals.network.coordinates.filter(|_| placed)
}

#[cfg(test)]
mod tests;
