//! What the rows of each kind hold, and what no row may hold.

use super::*;
use crate::domain::features::FeatureSchema;
use crate::domain::history::AddressCounts;
use crate::domain::history::ClientBaseline;
use crate::domain::history::ClientUse;
use crate::domain::history::Lesson;
use crate::domain::history::Redeemed;
use crate::domain::history::SubjectCounts;
use crate::domain::history::TokenFamily;
use crate::domain::history::TokenUse;
use crate::domain::history::family::short;
use crate::domain::ids::Pseudonymizer;
use crate::domain::ids::RequestId;
use crate::domain::signals::GrantSignals;
use crate::domain::signals::SignalHashes;
use crate::domain::signals::agent::AgentFacts;
use crate::domain::signals::agent::TlsFingerprint;
use crate::domain::signals::network::CountryCode;
use crate::domain::signals::network::NetworkFacts;
use proptest::prelude::*;
use std::net::IpAddr;
use std::sync::Arc;

const HOUR: i64 = 3_600_000;
/// A Wednesday, 12:00 UTC.
const NOON: i64 = 1_762_948_800_000 - 7 * 24 * HOUR;

fn people() -> Pseudonymizer {
    Pseudonymizer::new(&[7; 32])
}

/// Where and with what somebody knocks.
struct From {
    address: [u8; 4],
    asn: u32,
    country: &'static str,
    place: (f32, f32),
    agent: &'static str,
    ja4: &'static str,
}

const HOME: From = From {
    address: [84, 208, 13, 77],
    asn: 41_164,
    country: "NO",
    place: (59.91, 10.75),
    agent: "okhttp/4.12.0",
    ja4: "t13d1516h2_8daaf6152771_02713d6af862",
};
const ABROAD: From = From {
    address: [203, 0, 113, 9],
    asn: 64_500,
    country: "BR",
    place: (-23.55, -46.63),
    agent: "python-requests/2.32",
    ja4: "t13d1812h1_85036bcba153_375ca2c5e164",
};

fn signals(from: &From, subject: Subject) -> Signals {
    let people = people();
    let address = IpAddr::from(from.address);
    let agent = AgentFacts::parse(Some(from.agent), None);
    let network = NetworkFacts {
        country: CountryCode::parse(from.country),
        coordinates: Coordinates::new(from.place.0, from.place.1),
        asn: Some(from.asn),
        kind: Some(NetworkKind::Residential),
        ..NetworkFacts::default()
    };
    let tls = TlsFingerprint {
        ja4: from.ja4.to_owned(),
        grease: false,
    };
    let device = DeviceCookie::Absent;
    let hashes = SignalHashes::of(
        &people,
        "carbon.super",
        address,
        &network,
        &agent,
        Some(&tls),
        &device,
    );
    Signals {
        subject,
        client_id: Some("app".to_owned()),
        client: Some(people.client("carbon.super", "app")),
        address,
        network,
        agent: Arc::new(agent),
        tls: Some(tls),
        http_fingerprint: 0,
        device,
        browser_door: false,
        parameters_hidden: false,
        grant: GrantSignals::default(),
        hashes,
    }
}

fn used(signals: &Signals, at: i64) -> TokenUse {
    let seen = signals.hashes.familiarity;
    TokenUse {
        at: Timestamp(at),
        address: seen.address,
        asn: seen.asn,
        country: seen.country,
        agent: seen.agent,
        browser: Some(signals.hashes.browser),
        tls: seen.tls,
        proof_key: signals.grant.proof_key,
        coordinates: signals.network.coordinates,
    }
}

fn link(issued: &Signals, at: i64) -> Provenance {
    let seen = issued.hashes.familiarity;
    Provenance {
        decision_id: RequestId::new("d".to_owned()),
        at: Timestamp(at),
        tenant: issued.hashes.tenant,
        client: issued.client,
        subject: issued.client,
        score: Some(4),
        reasons: Vec::new(),
        demanded: false,
        demanded_at: Timestamp::default(),
        barred: false,
        factors: 1,
        confirmed: true,
        issued_to: seen,
        coordinates: issued.network.coordinates,
        used_by: seen,
        used_from: issued.network.coordinates,
        evidence: 11,
        demand_keys: Vec::new(),
        application: None,
        login_score: Some(4),
        scopes: vec![short(1 << 32)],
        family: None,
        redeemed: None,
        approves: None,
        token_request: None,
    }
}

/// A refresh token that has been used every hour of the last eight from home.
fn refreshed(home: &Signals) -> Provenance {
    let mut family = TokenFamily::begin(&used(home, NOON - 8 * HOUR));
    (1..8).for_each(|n| family.record(&used(home, NOON - (8 - n) * HOUR), true));
    Provenance {
        family: Some(Box::new(family)),
        ..link(home, NOON - HOUR)
    }
}

fn token_row(signals: &Signals, link: &Provenance) -> FeatureVector {
    let known = Known {
        history: None,
        profile: Some(&link.as_profile()),
        link: Some(link),
        population: &Population::default(),
    };
    derive(RequestKind::Token, signals, known, Timestamp(NOON))
}

#[test]
fn a_token_used_as_ever_has_nothing_new() {
    let home = signals(&HOME, Subject::Anonymous);
    let row = token_row(&home, &refreshed(&home));
    for feature in [
        Feature::TokenAddressNew,
        Feature::TokenAsnNew,
        Feature::TokenCountryNew,
        Feature::TokenAsnChange,
        Feature::TokenAgentChange,
        Feature::TokenTlsChange,
        Feature::TokenIssueKm,
        Feature::TokenReuse,
        Feature::TokenScopeWidening,
        Feature::GeoSpeed,
    ] {
        assert_eq!(row.value(feature), 0.0, "{}", feature.name());
    }
    assert!(row.value(Feature::TokenGapRatio).abs() < 0.01);
    assert!((row.value(Feature::TokenAsns24h) - 2.0_f32.ln()).abs() < 1e-6);
    assert!((row.value(Feature::TokenLoginRisk) - 0.04).abs() < 1e-6);
    assert_eq!(row.value(Feature::TokenKeyBinding), 0.5);
}

#[test]
fn a_token_from_elsewhere_is_new_in_everything() {
    let home = signals(&HOME, Subject::Anonymous);
    let mut thief = signals(&ABROAD, Subject::Anonymous);
    thief.grant.scopes = vec![1 << 32, 2 << 32];
    let row = token_row(&thief, &refreshed(&home));
    // Eleven logins and eight uses.
    let evidence = 20.0_f32.ln() / 5.0;
    for feature in [
        Feature::TokenAddressNew,
        Feature::TokenAsnNew,
        Feature::TokenCountryNew,
    ] {
        assert!(
            (row.value(feature) - evidence).abs() < 1e-5,
            "{}",
            feature.name()
        );
    }
    for feature in [
        Feature::TokenAsnChange,
        Feature::TokenAgentChange,
        Feature::TokenTlsChange,
        Feature::TokenScopeWidening,
    ] {
        assert_eq!(row.value(feature), 1.0, "{}", feature.name());
    }
    assert!(row.value(Feature::TokenIssueKm) > 9.0 && row.value(Feature::GeoSpeed) > 9.0);
    assert!((row.value(Feature::TokenAsns24h) - 3.0_f32.ln()).abs() < 1e-6);
}

#[test]
fn an_update_is_a_third_of_a_change() {
    let chrome = |version: &'static str| From {
        agent: version,
        ..HOME
    };
    let before = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";
    let after = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/132.0.0.0 Safari/537.36";
    let issued = refreshed(&signals(&chrome(before), Subject::Anonymous));
    let row = token_row(&signals(&chrome(after), Subject::Anonymous), &issued);
    assert_eq!(row.value(Feature::TokenAgentChange), 0.3);
}

#[test]
fn what_was_used_up_is_a_replay_but_for_a_moment() {
    let home = signals(&HOME, Subject::Anonymous);
    let mut issued = refreshed(&home);
    issued.redeemed = Some(Redeemed {
        at: Timestamp(NOON - 4_000),
        address: home.hashes.familiarity.address.map(short),
    });
    assert_eq!(token_row(&home, &issued).value(Feature::TokenReuse), 0.0);
    issued.factors |= crate::domain::history::FACTOR_STRONG;
    let risk = token_row(&home, &issued).value(Feature::TokenLoginRisk);
    assert!(risk.is_nan(), "a stronger factor has answered for it");
    let thief = signals(&ABROAD, Subject::Anonymous);
    assert_eq!(token_row(&thief, &issued).value(Feature::TokenReuse), 1.0);
    issued.redeemed = Some(Redeemed {
        at: Timestamp(NOON - 6_000),
        ..issued.redeemed.unwrap()
    });
    assert_eq!(token_row(&home, &issued).value(Feature::TokenReuse), 1.0);
}

#[test]
fn a_bound_token_without_its_key_says_so() {
    let mut home = signals(&HOME, Subject::Anonymous);
    home.grant.proof_key = Some(5 << 32);
    let issued = refreshed(&home);
    assert_eq!(
        token_row(&home, &issued).value(Feature::TokenKeyBinding),
        0.0
    );
    for key in [None, Some(6 << 32)] {
        home.grant.proof_key = key;
        assert_eq!(
            token_row(&home, &issued).value(Feature::TokenKeyBinding),
            1.0
        );
    }
}

#[test]
fn the_server_of_a_confidential_client_is_not_the_browser() {
    let browser = signals(&HOME, Subject::Anonymous);
    let code = link(&browser, NOON - 2_000);
    let mut server = signals(&ABROAD, Subject::Anonymous);
    server.network.kind = Some(NetworkKind::Hosting);
    server.grant.client_authenticates = true;
    let row = token_row(&server, &code);
    assert_eq!(row.value(Feature::NetworkKind), 0.0);
    assert!(row.value(Feature::TokenAddressNew).is_nan() && row.value(Feature::LlrAsn).is_nan());
    // Without a secret it is somebody who has picked the code up.
    server.grant.client_authenticates = false;
    let row = token_row(&server, &code);
    assert_eq!(row.value(Feature::NetworkKind), 2.0);
    assert!((row.value(Feature::TokenCountryNew) - 12.0_f32.ln() / 5.0).abs() < 1e-5);
}

/// A service account that asks for one scope every ten minutes of its working days.
fn account(home: &Signals, days: i64) -> History {
    let key = home.client.unwrap();
    let mut history = History::default();
    let (mut baseline, mut profile) = (ClientBaseline::default(), Profile::default());
    for day in (0..days).rev() {
        for n in 0..24 {
            let at = Timestamp(NOON - day * 24 * HOUR - (24 - n) * HOUR / 6);
            baseline.learn(&ClientUse {
                client: key,
                at,
                scopes: vec![1 << 32],
                prefix: Some(home.hashes.prefix),
                tls: home.hashes.familiarity.tls,
                network: home.network.kind,
                learns: true,
            });
            profile.learn(&Lesson {
                subject: key,
                at,
                familiarity: home.hashes.familiarity,
                coordinates: None,
                cookie_known: true,
            });
        }
    }
    history.client = Some(baseline);
    history.profile = Some(profile);
    history
}

fn m2m_row(signals: &Signals, history: &History) -> FeatureVector {
    let known = Known {
        history: Some(history),
        profile: history.profile.as_ref(),
        link: None,
        population: &Population::default(),
    };
    derive(RequestKind::M2m, signals, known, Timestamp(NOON))
}

fn client(from: &From, scopes: &[u64]) -> Signals {
    let key = people().client("carbon.super", "app");
    let mut signals = signals(from, Subject::Client { key });
    signals.grant.scopes = scopes.iter().map(|scope| scope << 32).collect();
    signals
}

#[test]
fn a_service_account_at_work_has_nothing_new() {
    let home = client(&HOME, &[1]);
    let row = m2m_row(&home, &account(&home, 3));
    for feature in [
        Feature::M2mAddressNew,
        Feature::M2mPrefixNew,
        Feature::M2mAsnNew,
        Feature::M2mCountryNew,
        Feature::M2mAgentNew,
        Feature::M2mTlsNew,
        Feature::M2mNetworkKindNew,
        Feature::M2mScopesNew,
    ] {
        assert_eq!(row.value(feature), 0.0, "{}", feature.name());
    }
    // The nights make the usual gap a little longer than the ten minutes of the day.
    assert!(row.value(Feature::M2mGapShort) < 0.2);
    assert!(row.value(Feature::M2mScopeSurprise) < 0.01);
    assert!(row.value(Feature::M2mRateRatio) < 0.1);
    // Its size is the weight of the evidence and nothing else.
    assert!(row.value(Feature::UserHistory).is_nan());
}

#[test]
fn a_stolen_secret_is_new_in_everything_once_the_account_is_known() {
    let home = client(&HOME, &[1]);
    let mut thief = client(&ABROAD, &[1, 2, 3]);
    thief.network.kind = Some(NetworkKind::Vpn);
    let row = m2m_row(&thief, &account(&home, 3));
    let evidence = 73.0_f32.ln() / 7.0;
    for feature in [
        Feature::M2mAddressNew,
        Feature::M2mPrefixNew,
        Feature::M2mAsnNew,
        Feature::M2mCountryNew,
        Feature::M2mAgentNew,
        Feature::M2mTlsNew,
        Feature::M2mNetworkKindNew,
    ] {
        assert!(
            (row.value(feature) - evidence).abs() < 1e-5,
            "{}",
            feature.name()
        );
    }
    assert_eq!(row.value(Feature::M2mScopesNew), 2.0);
    assert!(row.value(Feature::M2mScopeSurprise) > 4.9);
    // Of an account of which nothing is known yet nothing is said.
    let mut young = account(&home, 1);
    young.client.as_mut().unwrap().requests = 4;
    let row = m2m_row(&thief, &young);
    assert!(row.value(Feature::M2mAddressNew).is_nan() && row.value(Feature::M2mRateZ).is_nan());
}

#[test]
fn a_burst_is_seen_although_nothing_is_learnt_from_it() {
    let home = client(&HOME, &[1]);
    let mut history = account(&home, 3);
    let quiet = m2m_row(&home, &history).value(Feature::M2mRateZ);
    let baseline = history.client.as_mut().unwrap();
    let (peak, mean) = (baseline.peak, baseline.mean);
    for n in 0..200 {
        baseline.learn(&ClientUse {
            client: home.client.unwrap(),
            at: Timestamp(NOON - 60_000 + n * 300),
            scopes: vec![9 << 32],
            prefix: None,
            tls: None,
            network: None,
            learns: false,
        });
    }
    assert!(baseline.peak == peak && (baseline.mean - mean).abs() < 1e-6);
    assert_eq!(baseline.scopes.count(9 << 32), 0);
    let row = m2m_row(&home, &history);
    assert!(row.value(Feature::M2mRateZ) > quiet + 2.0);
    assert!(row.value(Feature::M2mRateRatio) > 3.0);
    assert!(row.value(Feature::M2mVolumeRatio) > 2.0);
    assert!(row.value(Feature::M2mGapShort) > 5.0);
}

prop_compose! {
    /// Any state that a store could hand over, and some that none should.
    fn any_history()(
        numbers in prop::array::uniform12(prop_oneof![
            0.0_f32..1e6,
            Just(f32::NAN),
            Just(f32::INFINITY),
            Just(-5.0_f32),
        ]),
        days in 0..3_i64,
        gap in any::<f32>(),
    ) -> History {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = numbers;
        let mut history = account(&client(&HOME, &[1]), days);
        history.address = AddressCounts {
            failures_10m: a,
            failures_24h: b,
            attempts_24h: c,
            users_1h: d,
            trusted_subjects: e,
        };
        history.subject = SubjectCounts { failures_10m: f, failures_24h: g, addresses_24h: h };
        history.prefix_failures_1h = i;
        history.asn = FailureRatio { failures: j, attempts: k };
        if let Some(client) = &mut history.client {
            client.rate = l;
            client.mean_square = j;
            client.gap = gap;
        }
        history
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_value_is_in_range_and_of_its_kind(
        history in any_history(),
        from_home in any::<bool>(),
        with_link in any::<bool>(),
        authenticates in any::<bool>(),
        now in prop_oneof![Just(NOON), any::<i64>(), 0..4_000_000_000_000_i64],
        asked in prop::collection::vec(0..4_u64, 0..5),
    ) {
        let home = client(&HOME, &[1]);
        let mut asking = client(if from_home { &HOME } else { &ABROAD }, &asked);
        asking.grant.client_authenticates = authenticates;
        let link = with_link.then(|| refreshed(&home));
        for kind in RequestKind::ALL {
            let known = Known {
                history: Some(&history),
                profile: history.profile.as_ref(),
                link: link.as_ref(),
                population: &Population::default(),
            };
            let row = derive(kind, &asking, known, Timestamp(now));
            for feature in Feature::ALL {
                let entry = FeatureSchema::current().entry(feature);
                let value = row.value(feature);
                let in_range = value.is_nan() || (entry.clip.0..=entry.clip.1).contains(&value);
                prop_assert!(in_range, "{} = {value}", entry.name);
                let of_kind = value.is_nan() || entry.kinds.contains(&kind);
                prop_assert!(of_kind, "{} in a row of {}", entry.name, kind.as_str());
            }
        }
    }
}
