//! Observations and queries that read as sentences.

use riskgate::adapters::redis::RedisSettings;
use riskgate::domain::demand::DemandChange;
use riskgate::domain::demand::DemandKey;
use riskgate::domain::demand::DemandScope;
use riskgate::domain::demand::Raise;
use riskgate::domain::history::Attempt;
use riskgate::domain::history::Familiarity;
use riskgate::domain::history::HistoryQuery;
use riskgate::domain::history::Lesson;
use riskgate::domain::history::LinkKey;
use riskgate::domain::history::LinkKind;
use riskgate::domain::history::Observation;
use riskgate::domain::history::OwedProof;
use riskgate::domain::history::Provenance;
use riskgate::domain::history::Redeemed;
use riskgate::domain::history::TokenFamily;
use riskgate::domain::history::TokenRequest;
use riskgate::domain::history::TokenUse;
use riskgate::domain::history::family::short;
use riskgate::domain::ids::Pseudonym;
use riskgate::domain::ids::RequestId;
use riskgate::domain::ids::SubjectKey;
use riskgate::domain::secret::Secret;
use riskgate::domain::signals::network::Coordinates;
use riskgate::domain::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// The beginning of an hour, a day and a window of thirty days.
pub const START: Timestamp = Timestamp(660 * 30 * 24 * 3_600_000);

/// As good as the keyed hashes of the gateway (SplitMix64).
pub fn hash(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

pub fn pseudonym(n: u64) -> Pseudonym {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&hash(n).to_be_bytes());
    bytes[8..].copy_from_slice(&hash(n ^ 0xFFFF).to_be_bytes());
    Pseudonym::from_bytes(bytes)
}

pub fn subject(n: u64) -> SubjectKey {
    SubjectKey(pseudonym(n))
}

pub fn link(kind: LinkKind, n: u64) -> LinkKey {
    LinkKey {
        kind,
        digest: pseudonym(n),
    }
}

pub fn lesson(n: u64, at: Timestamp) -> Lesson {
    Lesson {
        subject: subject(n),
        at,
        familiarity: Familiarity {
            address: Some(hash(1)),
            asn: Some(hash(3)),
            country: Some(hash(6)),
            agent: Some(hash(4)),
            platform: Some(hash(7)),
            language: Some(hash(8)),
            device: Some(hash(9)),
            tls: Some(hash(10)),
        },
        coordinates: Coordinates::new(59.9, 10.7),
        cookie_known: false,
    }
}

pub fn attempt(n: u64, failed: bool, subject_known: bool) -> Attempt {
    Attempt {
        failed,
        address: hash(1),
        prefix: hash(2),
        asn: Some(hash(3)),
        agent: hash(4),
        tenant: hash(5),
        subject: Some(subject(n)),
        subject_known,
        address_known: false,
    }
}

pub fn provenance(n: u64, at: Timestamp) -> Provenance {
    Provenance {
        decision_id: RequestId::new(format!("decision-{n}")),
        at,
        tenant: hash(5),
        client: Some(subject(1_000)),
        subject: Some(subject(n)),
        score: Some(42),
        reasons: vec!["unfamiliar_device".into()],
        demanded: true,
        demanded_at: at,
        barred: false,
        factors: 2,
        confirmed: true,
        issued_to: lesson(n, at).familiarity,
        coordinates: Coordinates::new(59.9, 10.7),
        used_by: Familiarity::default(),
        used_from: Coordinates::new(40.7, -74.0),
        evidence: 12,
        demand_keys: vec![demand_key(DemandScope::Browser, n)],
        login_score: Some(17),
        scopes: vec![short(hash(11)), short(hash(12))],
        family: Some(Box::new(family(at))),
        redeemed: Some(Redeemed {
            at,
            address: Some(short(hash(1))),
        }),
        application: Some("an application".to_owned()),
        approves: Some(pseudonym(n)),
        token_request: Some(Box::new(TokenRequest {
            grant: "authorization_code".to_owned(),
            enforced: true,
            rule: Some("a-rule".to_owned()),
            owes: Some(OwedProof { at, seen: true }),
            organization: (n % 2 == 1).then_some(n),
            ..TokenRequest::default()
        })),
    }
}

pub fn demand_key(scope: DemandScope, n: u64) -> DemandKey {
    DemandKey {
        scope,
        digest: pseudonym(n),
    }
}

/// A demand of ten minutes.
pub fn raise(points: u8, at: Timestamp) -> Raise {
    Raise {
        at,
        until: at.plus(MINUTE * 10),
        points,
        about: Some(subject(1)),
    }
}

pub fn demanded(key: DemandKey, change: DemandChange) -> Observation {
    Observation {
        at: change.at(),
        demands: vec![(key, change)],
        ..Observation::default()
    }
}

/// A family with as much in it as one has after a few uses.
pub fn family(at: Timestamp) -> TokenFamily {
    let used = |n: u32| TokenUse {
        at: at.plus(Duration::from_secs(3_600) * n),
        address: Some(hash(1 + u64::from(n))),
        asn: Some(hash(3)),
        country: Some(hash(6)),
        agent: Some(hash(4)),
        browser: Some(hash(13)),
        tls: Some(hash(10)),
        proof_key: None,
        coordinates: Coordinates::new(59.9, 10.7),
    };
    let mut family = TokenFamily::begin(&used(0));
    (1..4).for_each(|n| family.record(&used(n), n != 2));
    family
}

pub fn learnt(lesson: Lesson) -> Observation {
    Observation {
        at: lesson.at,
        lesson: Some(lesson),
        ..Observation::default()
    }
}

pub fn tried(attempt: Attempt, at: Timestamp) -> Observation {
    Observation {
        at,
        attempt: Some(attempt),
        ..Observation::default()
    }
}

pub fn linked(key: LinkKey, provenance: Provenance, at: Timestamp, ttl: Duration) -> Observation {
    Observation {
        at,
        links: vec![(key, Arc::new(provenance), ttl)],
        ..Observation::default()
    }
}

pub fn query(n: u64, now: Timestamp) -> HistoryQuery {
    HistoryQuery {
        now,
        subject: Some(subject(n)),
        address: hash(1),
        prefix: hash(2),
        asn: Some(hash(3)),
        agent: hash(4),
        tenant: hash(5),
        client: None,
        scopes: None,
        links: Vec::new(),
        demands: Vec::new(),
        previous: None,
    }
}

/// Settings that do not fail on a machine that is busy with other tests.
pub fn patient() -> RedisSettings {
    RedisSettings {
        response_timeout: Duration::from_secs(5),
        connection_timeout: Duration::from_secs(5),
        write_timeout: Duration::from_secs(10),
        ..settings()
    }
}

/// The settings that the gateway ships with.
pub fn settings() -> RedisSettings {
    RedisSettings::new(Secret::new(b"a key for tests".to_vec()))
}

#[track_caller]
pub fn close(got: f32, wanted: f32) {
    assert!(
        (got - wanted).abs() <= 0.01 * wanted.abs().max(0.05),
        "got {got}, expected {wanted}"
    );
}
