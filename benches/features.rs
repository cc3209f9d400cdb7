//! What it costs to fold signals and history into the model's row.
//!
//! Budgets, of which the first is for the most that one request has to look at: a named user with a full profile (32 values
//! per attribute, a population of 50,000 values).
//!
//! `cargo bench --bench features`

mod budget;

use budget::step;
use criterion::Criterion;
use criterion::criterion_group;
use riskgate::domain::features::Feature;
use riskgate::domain::features::FeatureVector;
use riskgate::domain::features::derive::Known;
use riskgate::domain::features::derive::derive;
use riskgate::domain::history::AddressCounts;
use riskgate::domain::history::FailureRatio;
use riskgate::domain::history::Familiarity;
use riskgate::domain::history::History;
use riskgate::domain::history::Lesson;
use riskgate::domain::history::Population;
use riskgate::domain::history::Profile;
use riskgate::domain::history::SubjectCounts;
use riskgate::domain::history::VALUES_MAX;
use riskgate::domain::ids::Pseudonymizer;
use riskgate::domain::ids::SubjectKey;
use riskgate::domain::kind::RequestKind;
use riskgate::domain::signals::GrantSignals;
use riskgate::domain::signals::SignalHashes;
use riskgate::domain::signals::Signals;
use riskgate::domain::signals::Subject;
use riskgate::domain::signals::agent::AgentFacts;
use riskgate::domain::signals::network::Coordinates;
use riskgate::domain::signals::network::CountryCode;
use riskgate::domain::signals::network::NetworkFacts;
use riskgate::domain::signals::network::NetworkKind;
use riskgate::domain::signals::session::DeviceCookie;
use riskgate::domain::time::Timestamp;
use std::hint::black_box;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// 12 November 2025, 08:00 UTC: only differences matter.
const NOW: Timestamp = Timestamp(1_762_934_400_000);
const TENANT: &str = "carbon.super";
const AGENT: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";

fn people() -> Pseudonymizer {
    Pseudonymizer::new(&[7; 32])
}

/// A browser at home, as a login form shows it.
fn signals(people: &Pseudonymizer, subject: Subject) -> Signals {
    let address = IpAddr::from([84, 208, 13, 77]);
    let agent = AgentFacts::parse(Some(AGENT), Some("nb-NO,nb;q=0.9"));
    let network = NetworkFacts {
        country: CountryCode::parse("NO"),
        coordinates: Coordinates::new(59.91, 10.75),
        asn: Some(41_164),
        kind: Some(NetworkKind::Residential),
        ..NetworkFacts::default()
    };
    let device = DeviceCookie::Absent;
    let hashes = SignalHashes::of(people, TENANT, address, &network, &agent, None, &device);
    Signals {
        subject,
        client_id: Some("aClient".to_owned()),
        client: Some(people.client(TENANT, "aClient")),
        address,
        network,
        agent: Arc::new(agent),
        tls: None,
        http_fingerprint: 0,
        device,
        browser_door: true,
        parameters_hidden: false,
        grant: GrantSignals::default(),
        hashes,
    }
}

/// Two hundred confirmed logins that fill every list of the profile; the last ones are like the request.
fn profile(subject: SubjectKey, like: &Signals) -> Profile {
    let mut profile = Profile::default();
    let usual = like.hashes.familiarity;
    for n in 0..200_u64 {
        let other = |value: Option<u64>| {
            value.map(|value| {
                if n < VALUES_MAX as u64 {
                    value ^ (n + 1)
                } else {
                    value
                }
            })
        };
        let place = (n % 6) as f32;
        profile.learn(&Lesson {
            subject,
            at: Timestamp(NOW.millis() - (200 - n as i64) * 8 * 3_600_000),
            familiarity: Familiarity {
                address: other(usual.address),
                asn: other(usual.asn),
                country: other(usual.country),
                agent: other(usual.agent),
                platform: other(usual.platform),
                language: other(usual.language),
                device: None,
                tls: other(usual.tls),
            },
            coordinates: Coordinates::new(59.9 + place, 10.7 + place),
            cookie_known: n % 3 == 0,
        });
    }
    profile
}

fn history(profile: Profile) -> History {
    History {
        profile: Some(profile),
        address: AddressCounts {
            failures_10m: 1.2,
            failures_24h: 3.5,
            attempts_24h: 40.0,
            users_1h: 4.0,
            trusted_subjects: 12.0,
        },
        prefix_failures_1h: 6.0,
        asn: FailureRatio {
            failures: 120.0,
            attempts: 4_000.0,
        },
        asn_24h: FailureRatio {
            failures: 900.0,
            attempts: 30_000.0,
        },
        agent_24h: FailureRatio {
            failures: 600.0,
            attempts: 70_000.0,
        },
        agent: FailureRatio {
            failures: 80.0,
            attempts: 9_000.0,
        },
        tenant: FailureRatio {
            failures: 400.0,
            attempts: 20_000.0,
        },
        subject: SubjectCounts {
            failures_10m: 0.0,
            failures_24h: 1.0,
            addresses_24h: 2.0,
        },
        ..History::default()
    }
}

fn population(like: &Signals) -> Population {
    let seen = like.hashes.familiarity;
    let known = [seen.asn, seen.country, seen.agent, seen.language, seen.tls];
    let known = known.into_iter().flatten();
    Population {
        total: 1_000_000,
        counts: (0..50_000).chain(known).map(|value| (value, 20)).collect(),
    }
}

fn features(c: &mut Criterion) {
    let people = people();
    let key = people.user(TENANT, "alice");
    let named = signals(
        &people,
        Subject::Named {
            key,
            name: "alice".to_owned(),
        },
    );
    let history = history(profile(key, &named));
    let population = population(&named);
    let known = Known {
        history: Some(&history),
        profile: history.profile.as_ref(),
        link: None,
        population: &population,
    };
    let row = derive(RequestKind::Login, &named, known, NOW);
    // A row in which the costly features are missing would measure nothing.
    assert!(
        filled(&row) >= 25 && row.value(Feature::GeoSpeed).is_finite(),
        "{row:?}"
    );
    step(c, "features/full_profile", Duration::from_micros(5), |b| {
        b.iter(|| derive(RequestKind::Login, black_box(&named), known, NOW))
    });

    let nobody = signals(&people, Subject::Anonymous);
    let empty = Population::default();
    let unknown = Known {
        history: None,
        profile: None,
        link: None,
        population: &empty,
    };
    step(c, "features/no_history", Duration::from_micros(1), |b| {
        b.iter(|| derive(RequestKind::Login, black_box(&nobody), unknown, NOW))
    });

    step(c, "features/signal_hashes", Duration::from_micros(5), |b| {
        b.iter(|| {
            SignalHashes::of(
                &people,
                TENANT,
                named.address,
                &named.network,
                black_box(&named.agent),
                None,
                &named.device,
            )
        });
    });
    step(c, "features/agent", Duration::from_micros(5), |b| {
        b.iter(|| AgentFacts::parse(black_box(Some(AGENT)), Some("nb-NO,nb;q=0.9")))
    });
}

fn filled(row: &FeatureVector) -> usize {
    row.as_slice()
        .iter()
        .filter(|value| value.is_finite())
        .count()
}

criterion_group!(benches, features);

fn main() -> ExitCode {
    benches();
    budget::hold()
}
