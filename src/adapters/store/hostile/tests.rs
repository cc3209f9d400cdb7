//! Values that somebody else put into the store: random bytes, real values with bits turned over, cut, glued together or
//! moved to another key. Nothing panics, whatever is read is in range, and of what carries a MAC nothing that was altered
//! is accepted.
//!
//! `RISKGATE_HOSTILE_VALUES` sets how many there are; `make fuzz-state` tries 10,000,000 in an optimised build.

use crate::adapters::store::codec::Codec;
use crate::adapters::store::codec::VALUE_BYTES_MAX;
use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::FewWindows;
use crate::adapters::store::entities::Kind;
use crate::adapters::store::entities::Rates;
use crate::adapters::store::entities::WindowCounts;
use crate::adapters::store::entries;
use crate::adapters::store::sketch::Windows;
use crate::adapters::store::transfer::Body;
use crate::domain::demand::About;
use crate::domain::demand::Demand;
use crate::domain::history::ClientBaseline;
use crate::domain::history::Familiarity;
use crate::domain::history::History;
use crate::domain::history::HistoryQuery;
use crate::domain::history::Lesson;
use crate::domain::history::LinkKey;
use crate::domain::history::LinkKind;
use crate::domain::history::Profile;
use crate::domain::history::Provenance;
use crate::domain::history::ScopeUsage;
use crate::domain::history::ScopeUse;
use crate::domain::history::scopes::Bearers;
use crate::domain::history::scopes::Groups;
use crate::domain::ids::Pseudonym;
use crate::domain::ids::RequestId;
use crate::domain::ids::SubjectKey;
use crate::domain::review::Bound;
use crate::domain::review::HeldLogin;
use crate::domain::review::ReviewQueue;
use crate::domain::secret::Secret;
use crate::domain::signals::network::Coordinates;
use crate::domain::time::Timestamp;
use std::time::Duration;

/// Within a test run.
const VALUES: u64 = 6_000;
const NOW: Timestamp = Timestamp(1_760_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);

/// SplitMix64: the same values every time, so that what is found can be found again.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// A real value and the key that it belongs to.
struct Real {
    key: EntryKey,
    value: Vec<u8>,
}

fn pseudonym(n: u8) -> Pseudonym {
    Pseudonym::from_bytes([n; 16])
}

fn familiarity(n: u64) -> Familiarity {
    Familiarity {
        address: Some(n),
        asn: Some(n ^ 1),
        country: Some(2),
        agent: Some(n ^ 3),
        platform: Some(4),
        language: Some(5),
        device: Some(n ^ 6),
        ..Familiarity::default()
    }
}

fn profile(logins: u64) -> Profile {
    let mut profile = Profile::default();
    for n in 0..logins {
        profile.learn(&Lesson {
            subject: SubjectKey(pseudonym(1)),
            at: Timestamp(NOW.0 - 86_400_000 + i64::try_from(n).unwrap() * 3_600_000),
            familiarity: familiarity(n % 5),
            coordinates: Coordinates::new(59.9, 10.7 + n as f32),
            cookie_known: n > 0,
        });
    }
    profile
}

fn provenance() -> Provenance {
    Provenance {
        decision_id: RequestId::new("01890a5d-ac96-774b-bcce-b302099a8057".to_owned()),
        at: NOW,
        tenant: 7,
        client: Some(SubjectKey(pseudonym(2))),
        subject: Some(SubjectKey(pseudonym(1))),
        score: Some(42),
        reasons: vec!["unfamiliar_device".into()],
        demanded: true,
        demanded_at: Timestamp(0),
        barred: false,
        factors: 3,
        confirmed: true,
        issued_to: familiarity(1),
        coordinates: Coordinates::new(59.9, 10.7),
        used_by: familiarity(2),
        used_from: None,
        evidence: 12,
        application: None,
        demand_keys: Vec::new(),
        login_score: Some(40),
        scopes: vec![1, 2, 3],
        family: None,
        redeemed: None,
        approves: None,
        token_request: None,
    }
}

fn scopes() -> ScopeUsage {
    let client = SubjectKey(pseudonym(2));
    let mut used = ScopeUse::new(client, "demo-web", "carbon.super", Bearers::Users, NOW).unwrap();
    let staff = Groups::of(std::iter::once(&serde_json::json!(["staff", "tellers"])));
    used.grant(["openid", "payments:write"].into_iter(), &staff, NOW);
    used.take(["openid"].into_iter(), &Groups::default(), NOW);
    used.ask(["payments:write"].into_iter(), NOW);
    let mut usage = ScopeUsage::default();
    usage.learn(&used);
    usage
}

fn held() -> HeldLogin {
    HeldLogin {
        id: pseudonym(3),
        at: NOW,
        expires: NOW.plus(MINUTE),
        tenant: "carbon.super".to_owned(),
        client: Some(SubjectKey(pseudonym(2))),
        application: "demo-web".to_owned(),
        subject: Some(SubjectKey(pseudonym(1))),
        bound: Bound::Source(7),
        source: 7,
        known_device: false,
        door: "login".to_owned(),
        score: Some(64),
        reasons: vec!["unfamiliar_device".into()],
        decision_id: RequestId::new("01890a5d-ac96-774b-bcce-b302099a8057".to_owned()),
        country: Some("NO".to_owned()),
        network: Some("vpn".to_owned()),
        ruling: None,
        used: false,
    }
}

/// One value of every kind, as a store with this codec keeps it, and more than one where they differ much.
fn real(codec: &Codec) -> Vec<Real> {
    let mut reals = Vec::new();
    for kind in Kind::ALL {
        for n in [1, 2] {
            let id = match kind {
                Kind::Address
                | Kind::Agent
                | Kind::AutonomousSystem
                | Kind::Prefix
                | Kind::Tenant
                | Kind::Trusted
                | Kind::Users => vec![n; 8],
                _ => vec![n; 16],
            };
            // There is one queue, under a key of its own.
            let key = match (kind, n) {
                (Kind::Review, 1) => EntryKey::review(),
                (Kind::Review, _) => continue,
                _ => EntryKey::from_id(kind, &id).unwrap(),
            };
            let value = match kind {
                Kind::Profile => codec.profile(&key, &profile(u64::from(n) * 12)),
                Kind::Client => codec.client(
                    &key,
                    &ClientBaseline {
                        last: NOW,
                        ..ClientBaseline::default()
                    },
                ),
                Kind::Demand(_) => codec.demand(
                    &key,
                    &Demand {
                        at: NOW,
                        until: NOW.plus(MINUTE),
                        points: 80,
                        about: About::One(SubjectKey(pseudonym(1))),
                        challenges: 1,
                        counted_since: NOW,
                        failed: 0,
                        proved: None,
                    },
                ),
                Kind::Link(_) => codec.link(&key, &provenance(), NOW.plus(MINUTE)),
                Kind::Review => codec.queue(&ReviewQueue::from_items(vec![held()]).unwrap()),
                Kind::Scopes => codec.scopes(&key, &scopes()),
                Kind::Ticket => codec.ticket(&key, pseudonym(9), NOW.plus(MINUTE)),
                Kind::Addresses | Kind::Trusted | Kind::Users => {
                    let mut windows = Windows::default();
                    for value in 0..u64::from(n) * 15 {
                        windows.add(kind.epoch(NOW), value << 40);
                    }
                    codec.windows(&key, &windows)
                }
                _ => Some(Rates::new(NOW, [1.0, 2.0, 3.0, 4.0]).encode(kind)),
            };
            reals.push(Real {
                key,
                value: value.unwrap(),
            });
        }
    }
    reals
}

/// A value that none of `reals` is under `target`'s key.
fn hostile(chance: &mut Chance, reals: &[Real], target: &Real) -> Vec<u8> {
    loop {
        let other = &reals[chance.below(reals.len())].value;
        let mut value = target.value.clone();
        let value = match chance.below(8) {
            0 => {
                let length = chance.below(600);
                chance.bytes(length)
            }
            1 => {
                // The right version, and then anything.
                let length = chance.below(200);
                [&value[..1], &chance.bytes(length)].concat()
            }
            2 | 3 => {
                for _ in 0..=chance.below(8) {
                    let place = chance.below(value.len());
                    value[place] ^= 1 << chance.below(8);
                }
                value
            }
            4 => {
                value.truncate(chance.below(value.len()));
                value
            }
            5 => {
                let length = 1 + chance.below(40);
                value.extend(chance.bytes(length));
                value
            }
            6 => {
                // The beginning of one and the end of another, as a torn write leaves them.
                let cut = chance.below(value.len());
                [&value[..cut], &other[chance.below(other.len())..]].concat()
            }
            // Whole, but of another key or kind.
            _ => other.clone(),
        };
        if value != target.value {
            return value;
        }
    }
}

/// What the decoders of sealed values make of `value` under `key`: whether any accepts it.
fn is_accepted(codec: &Codec, key: &EntryKey, value: &[u8]) -> bool {
    codec.open_profile(key, value, NOW).is_some()
        || codec.open_client(key, value, NOW).is_some()
        || codec.open_demand(key, value, NOW).is_some()
        || codec.open_link(key, value, NOW).is_some()
        || codec.open_scopes(key, value, NOW).is_some()
        || codec.open_windows(key, value).is_some()
        || (key.kind == Kind::Review && codec.open_queue(value).is_some())
        || codec.ticket_end(key, value).is_some()
        || codec.is_ticket(key, value, pseudonym(9), NOW)
}

/// Numbers of counters carry no MAC: whatever is read is a number that a counter can have.
fn assert_in_range(key: &EntryKey, value: &[u8]) {
    if let Some(rates) = Rates::decode(key.kind, value) {
        for number in rates.decayed_to(key.kind, NOW) {
            assert!(number.is_finite() && number >= 0.0, "{value:?}");
        }
        let now = Rates::new(NOW, [1.0; 4]);
        assert!(
            rates
                .merged(key.kind, &now)
                .values()
                .iter()
                .all(|n| n.is_finite())
        );
    }
    if let Some(counts) = WindowCounts::decode(value)
        && !key.kind.window().is_zero()
    {
        let number = counts.estimate(key.kind, NOW);
        assert!(number.is_finite() && number >= 0.0, "{value:?}");
    }
    drop(FewWindows::decode(value));
}

/// What a scored request makes of it: whatever lies under its keys, the history is one.
fn assert_history(codec: &Codec, query: &HistoryQuery, value: &[u8]) {
    let distinct = |_: &Codec, key: &EntryKey, value: &[u8], now: Timestamp| {
        WindowCounts::decode(value).map(|counts| counts.estimate(key.kind, now))
    };
    let keys = entries::keys(query);
    let history = entries::history(query, codec, distinct, keys.iter().map(|_| Some(value)));
    assert!(history.profile.is_none() && history.client.is_none() && history.links.is_empty());
    let History {
        subject, address, ..
    } = &history;
    for number in [
        subject.failures_10m,
        subject.failures_24h,
        subject.addresses_24h,
        address.failures_10m,
        address.attempts_24h,
        address.users_1h,
        address.trusted_subjects,
        history.prefix_failures_1h,
        history.asn.failures,
        history.tenant.attempts,
    ] {
        assert!(number.is_finite() && number >= 0.0, "{value:?}");
    }
}

fn try_values(
    seed: u64,
    values: u64,
    [sealed, plain]: [&Codec; 2],
    [reals, plains]: [&[Real]; 2],
    query: &HistoryQuery,
) {
    let mut chance = Chance(seed);
    for n in 0..values {
        let place = chance.below(reals.len());
        let target = &reals[place];
        let value = hostile(&mut chance, reals, target);
        assert!(
            !is_accepted(sealed, &target.key, &value),
            "value {n} of {seed}: {value:?} opens under {:?}",
            target.key
        );
        assert_in_range(&target.key, &value);
        if n % 8 == 0 {
            assert_history(sealed, query, &value);
        }
        // A file without MACs may hold what a bad disk made of it: nothing panics, and nothing is out of range.
        let target = &plains[place];
        let value = hostile(&mut chance, plains, target);
        is_accepted(plain, &target.key, &value);
        if let Some(Body::Profile(profile)) = Body::open(plain, &target.key, &value, NOW) {
            let places = profile.places.len();
            assert!(
                places <= crate::domain::history::PLACES_MAX,
                "value {n} of {seed}: {value:?}"
            );
        }
    }
}

#[test]
fn hostile_values_read_as_missing() {
    let set = std::env::var("RISKGATE_HOSTILE_VALUES").ok();
    let values = set.and_then(|text| text.parse().ok()).unwrap_or(VALUES);
    let (present, before) = (
        Secret::new(b"the present secret".to_vec()),
        Secret::new(b"the secret before".to_vec()),
    );
    let sealed = Codec::sealed_since(&present, Some(&before));
    let plain = Codec::plain();
    let (reals, plains) = (real(&sealed), real(&plain));
    // What is real opens, or this would prove nothing.
    for real in &reals {
        let has_mac = !matches!(
            Body::open(&plain, &real.key, &real.value, NOW),
            Some(Body::Rates(_))
        );
        assert_eq!(
            is_accepted(&sealed, &real.key, &real.value),
            has_mac,
            "{:?}",
            real.key
        );
    }
    let query = HistoryQuery {
        subject: Some(SubjectKey(pseudonym(3))),
        address: 1,
        prefix: 2,
        asn: Some(3),
        agent: 4,
        tenant: 5,
        client: Some(SubjectKey(pseudonym(4))),
        ..HistoryQuery::of_link(
            LinkKey {
                kind: LinkKind::Code,
                digest: pseudonym(5),
            },
            NOW,
        )
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (sealed, plain, query) = (&sealed, &plain, &query);
            let (reals, plains) = (&reals, &plains);
            let share = values / threads + u64::from(thread < values % threads);
            scope.spawn(move || try_values(thread, share, [sealed, plain], [reals, plains], query));
        }
    });
    // What is too long is not looked at.
    let long = Chance(1).bytes(VALUE_BYTES_MAX + 1);
    assert!(
        reals
            .iter()
            .all(|real| !is_accepted(&sealed, &real.key, &long))
    );
    eprintln!(
        "hostile values: {values} under sealed keys and {values} in a plain file; accepted: 0, panics: 0"
    );
}
