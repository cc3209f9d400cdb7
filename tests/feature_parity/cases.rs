//! Requests with histories that the gateway's own code has learnt: a user, a token family and a service account over some
//! weeks, with habits, journeys, thefts and pauses. The same in every run.

use crate::raw::RawAddress;
use crate::raw::RawCookie;
use crate::raw::RawCounts;
use crate::raw::RawDevice;
use crate::raw::RawGrant;
use crate::raw::RawHistory;
use crate::raw::RawInput;
use crate::raw::RawRatio;
use crate::raw::RawSubject;
use crate::raw::subject;
use riskgate::domain::history::ClientBaseline;
use riskgate::domain::history::ClientUse;
use riskgate::domain::history::Familiarity;
use riskgate::domain::history::Lesson;
use riskgate::domain::history::Population;
use riskgate::domain::history::Profile;
use riskgate::domain::history::Provenance;
use riskgate::domain::history::TokenFamily;
use riskgate::domain::history::WhichDevices;
use riskgate::domain::history::family::Redeemed;
use riskgate::domain::history::family::TokenUse;
use riskgate::domain::history::family::short;
use riskgate::domain::ids::RequestId;
use riskgate::domain::ids::ValueHash;
use riskgate::domain::kind::RequestKind;
use riskgate::domain::signals::network::Coordinates;
use riskgate::domain::signals::network::NetworkKind;
use riskgate::domain::time::Timestamp;

const HOUR: i64 = 3_600_000;
/// 2025-03-03 08:00 UTC, a Monday.
const START: i64 = 1_740_988_800_000;
const LOGINS: usize = 36;
const TOKENS: usize = 36;
const SERVICE: usize = 48;

/// A linear congruential generator (Knuth's MMIX constants).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A count with a fraction, as decayed counters have.
    fn count(&mut self, most: u64) -> f32 {
        if self.one_in(2) {
            return 0.0;
        }
        self.below(most * 16) as f32 / 16.0
    }

    /// One of a few values of an attribute, the first ones more often.
    fn value(&mut self, attribute: u64, usual: u64, all: u64) -> ValueHash {
        let n = if self.one_in(3) {
            self.below(all)
        } else {
            self.below(usual)
        };
        (attribute * 1_000 + n + 1) << 32 | 77
    }

    fn some(&mut self, value: ValueHash) -> Option<ValueHash> {
        (!self.one_in(12)).then_some(value)
    }

    fn place(&mut self) -> Option<Coordinates> {
        const PLACES: [(f32, f32); 5] = [
            (59.91, 10.75),
            (59.95, 10.9),
            (60.39, 5.32),
            (52.52, 13.4),
            (-33.87, 151.2),
        ];
        let (latitude, longitude) = PLACES[self.below(5) as usize % 5];
        (!self.one_in(6))
            .then(|| Coordinates::new(latitude, longitude))
            .flatten()
    }

    fn network(&mut self) -> Option<NetworkKind> {
        match self.below(8) {
            0 => Some(NetworkKind::Vpn),
            1 => Some(NetworkKind::Hosting),
            2 => Some(NetworkKind::Tor),
            3 => None,
            _ => Some(NetworkKind::Residential),
        }
    }

    fn seen(&mut self) -> Familiarity {
        Familiarity {
            address: Some(self.value(1, 3, 9)),
            asn: {
                let value = self.value(2, 2, 5);
                self.some(value)
            },
            country: {
                let value = self.value(3, 1, 3);
                self.some(value)
            },
            agent: Some(self.value(4, 2, 5)),
            platform: Some(self.value(5, 2, 3)),
            language: {
                let value = self.value(6, 1, 3);
                self.some(value)
            },
            device: None,
            tls: {
                let value = self.value(8, 2, 4);
                self.some(value)
            },
        }
    }

    fn history(&mut self) -> RawHistory {
        let ratio = |chance: &mut Self| {
            let failures = chance.count(20);
            RawRatio {
                failures,
                attempts: failures + chance.count(200),
            }
        };
        RawHistory {
            address: RawAddress {
                failures_10m: self.count(30),
                failures_24h: self.count(300),
                attempts_24h: self.count(500),
                users_1h: self.count(50),
                trusted_subjects: self.count(40),
            },
            subject: RawCounts {
                failures_10m: self.count(12),
                failures_24h: self.count(40),
                addresses_24h: self.count(9),
            },
            prefix_failures_1h: self.count(60),
            asn: ratio(self),
            asn_24h: ratio(self),
            agent: ratio(self),
            agent_24h: ratio(self),
            tenant: ratio(self),
            client: None,
        }
    }

    fn population(&mut self) -> Population {
        let mut population = Population {
            total: if self.one_in(4) { 150 } else { 12_000 },
            ..Population::default()
        };
        for attribute in [2, 3, 4, 6, 8] {
            for n in 0..3 {
                let value = (attribute * 1_000 + n + 1) << 32 | 77;
                population.counts.insert(value, 40 + self.below(5_000));
            }
        }
        population
    }

    fn request(&mut self, kind: RequestKind, now: i64) -> RawInput {
        RawInput {
            kind,
            now: Timestamp(now),
            subject: RawSubject::Named,
            browser_door: kind == RequestKind::Login,
            scripted: self.one_in(9),
            tls_contradicts: None,
            parameters_hidden: self.one_in(9),
            network_kind: self.network(),
            coordinates: self.place(),
            device: RawDevice {
                state: RawCookie::Absent,
                names_subject: false,
                subjects: 0,
                issued: Timestamp(START),
            },
            seen: self.seen(),
            prefix: self.value(9, 2, 5),
            browser: self.value(10, 1, 2),
            grant: RawGrant::default(),
            history: (!self.one_in(10)).then(|| self.history()),
            profile: None,
            link: None,
            population: self.population(),
        }
    }
}

/// Every case with its name.
pub(crate) fn all() -> Vec<(String, RawInput)> {
    [logins(), tokens(), service()].concat()
}

fn logins() -> Vec<(String, RawInput)> {
    let mut chance = Chance(11);
    let mut profile: Option<Profile> = None;
    let mut now = START;
    let mut found = Vec::new();
    for n in 0..LOGINS {
        now += HOUR / 4 + chance.below(40 * HOUR as u64) as i64;
        let mut raw = chance.request(RequestKind::Login, now);
        raw.subject = match chance.below(12) {
            0 => RawSubject::Anonymous,
            1 => RawSubject::Client,
            _ => RawSubject::Named,
        };
        raw.browser_door = !chance.one_in(8);
        // A program is not held to a browser's handshake.
        raw.tls_contradicts = (!chance.one_in(4)).then(|| !raw.scripted && chance.one_in(4));
        raw.device.state = match chance.below(8) {
            0 | 1 => RawCookie::Absent,
            2 => RawCookie::Forged,
            3 => RawCookie::Unsendable,
            _ => RawCookie::Valid,
        };
        if raw.device.state == RawCookie::Valid {
            raw.seen.device = Some(chance.value(7, 2, 4));
            raw.device.subjects = chance.below(4) as usize;
            raw.device.names_subject = raw.device.subjects > 0 && !chance.one_in(4);
        }
        // Now and then a stranger comes.
        if n % 4 != 3 {
            raw.profile.clone_from(&profile);
        }
        if chance.one_in(3) {
            let lesson = Lesson {
                subject: subject(),
                at: raw.now,
                familiarity: raw.seen,
                coordinates: raw.coordinates,
                cookie_known: chance.one_in(2),
            };
            for _ in 0..=chance.below(3) {
                profile.get_or_insert_default().learn(&lesson);
            }
        }
        if n == LOGINS / 2
            && let Some(profile) = &mut profile
        {
            profile.forget_devices(WhichDevices::All, raw.now);
        }
        found.push((format!("login {n}"), raw));
    }
    found
}

fn provenance(raw: &RawInput, scopes: &[ValueHash]) -> Provenance {
    Provenance {
        decision_id: RequestId::new("00000000-0000-7000-8000-000000000000".to_owned()),
        at: raw.now,
        tenant: 1 << 32,
        client: None,
        subject: Some(subject()),
        score: Some(12),
        reasons: Vec::new(),
        demanded: false,
        demanded_at: Timestamp::default(),
        barred: false,
        approves: None,
        token_request: None,
        factors: 1,
        confirmed: true,
        issued_to: raw.seen,
        coordinates: raw.coordinates,
        used_by: raw.seen,
        used_from: None,
        evidence: 7,
        login_score: Some(12),
        scopes: scopes.iter().map(|scope| short(*scope)).collect(),
        family: None,
        redeemed: None,
        demand_keys: Vec::new(),
        application: None,
    }
}

fn tokens() -> Vec<(String, RawInput)> {
    let mut chance = Chance(23);
    let mut now = START;
    let mut found = Vec::new();
    let mut link: Option<Provenance> = None;
    for n in 0..TOKENS {
        now += 20_000 + chance.below(9 * HOUR as u64) as i64;
        let mut raw = chance.request(RequestKind::Token, now);
        raw.grant = RawGrant {
            scopes: (0..chance.below(4)).map(|n| (500 + n) << 32).collect(),
            client_authenticates: chance.one_in(3),
            proof_key: chance.one_in(2).then(|| chance.value(11, 1, 2)),
        };
        // Every ninth request begins a family; the code before it has none yet.
        if n % 9 == 0 {
            let mut issued = provenance(&raw, &[500 << 32, 501 << 32]);
            issued.login_score = (!chance.one_in(4)).then(|| chance.below(101) as u8);
            issued.evidence = chance.below(40) as u32;
            issued.redeemed = (n % 18 == 0).then_some(Redeemed {
                at: Timestamp(now - 3_000),
                address: raw.seen.address.map(short),
            });
            link = Some(issued);
            let mut code = chance.request(RequestKind::Token, now + 2_000);
            code.grant.client_authenticates = n % 18 == 0;
            code.link.clone_from(&link);
            code.profile = link.as_ref().map(Provenance::as_profile);
            found.push((format!("code {n}"), code));
        }
        raw.link.clone_from(&link);
        raw.profile = link.as_ref().map(Provenance::as_profile);
        if n % 9 == 8 {
            raw.link = None;
            raw.profile = None;
        }
        let used = TokenUse {
            at: raw.now,
            address: raw.seen.address,
            asn: raw.seen.asn,
            country: raw.seen.country,
            agent: raw.seen.agent,
            browser: Some(raw.browser),
            tls: raw.seen.tls,
            proof_key: raw.grant.proof_key,
            coordinates: raw.coordinates,
        };
        if let Some(link) = &mut link {
            match &mut link.family {
                Some(family) => family.record(&used, !chance.one_in(4)),
                None => link.family = Some(Box::new(TokenFamily::begin(&used))),
            }
            link.used_from = raw.coordinates;
        }
        found.push((format!("token {n}"), raw));
    }
    found
}

fn service() -> Vec<(String, RawInput)> {
    let mut chance = Chance(37);
    let mut baseline: Option<ClientBaseline> = None;
    let mut profile: Option<Profile> = None;
    let mut now = START;
    let mut found = Vec::new();
    for n in 0..SERVICE {
        now += if chance.one_in(3) {
            2_000
        } else {
            60_000 + chance.below(30 * HOUR as u64) as i64
        };
        let mut raw = chance.request(RequestKind::M2m, now);
        raw.subject = RawSubject::Client;
        raw.grant = RawGrant {
            scopes: (0..chance.below(4))
                .map(|_| chance.value(12, 2, 5))
                .collect(),
            client_authenticates: true,
            proof_key: None,
        };
        if let Some(history) = &mut raw.history {
            history.client.clone_from(&baseline);
        }
        raw.profile.clone_from(&profile);
        let learns = !chance.one_in(5);
        baseline.get_or_insert_default().learn(&ClientUse {
            client: subject(),
            at: raw.now,
            scopes: raw.grant.scopes.clone(),
            prefix: Some(raw.prefix),
            tls: raw.seen.tls,
            network: raw.network_kind,
            learns,
        });
        if learns {
            profile.get_or_insert_default().learn(&Lesson {
                subject: subject(),
                at: raw.now,
                familiarity: raw.seen,
                coordinates: raw.coordinates,
                cookie_known: true,
            });
        }
        found.push((format!("service {n}"), raw));
    }
    found
}
