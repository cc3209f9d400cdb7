//! A replay is as good as the traffic itself: what the running gateway recorded of logins, codes, refreshes and sessions is
//! what `riskgate model eval` makes of the same events.

use crate::gateway::CHROME_ON_WINDOWS;
use crate::gateway::FAR;
use crate::gateway::HOME;
use crate::gateway::HOME_NEIGHBOUR;
use crate::gateway::HOSTING;
use crate::gateway::Options;
use crate::gateway::Person;
use crate::gateway::World;
use crate::gateway::root;
use crate::gateway::shipped_policy;
use riskgate::app::model::eval::Evaluation;
use riskgate::app::model::eval::Evaluator;
use riskgate::app::model::eval::Input;
use riskgate::app::model::eval::eval;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::features::Feature;
use std::fmt::Write;

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const HEADER: &str = "Login Timestamp,User ID,IP Address,User Agent String,Login Successful,Event Kind,Client ID,\
                      Confidential,Scopes,Device ID,Language,Family ID,Token ID\n";
/// How far a feature or a probability may be from the recorded one.
const TOLERANCE: f64 = 1e-6;

/// What was done so far: the events as a file, and the record of each.
struct Journal<'w> {
    world: &'w World,
    events: String,
    records: Vec<AuditEvent>,
}

/// What stays the same in the events of one person.
#[derive(Clone, Copy)]
struct Visitor<'a> {
    user: &'a str,
    address: &'a str,
    agent: &'a str,
    device: &'a str,
    family: &'a str,
}

impl<'w> Journal<'w> {
    fn new(world: &'w World) -> Self {
        Self {
            world,
            events: HEADER.to_owned(),
            records: Vec::new(),
        }
    }

    /// Keeps the event whose record is the first since `mark` at `door`, and waits until it is learnt.
    async fn keep(
        &mut self,
        mark: crate::gateway::Mark,
        door: &str,
        kind: &str,
        visitor: Visitor<'_>,
        succeeded: bool,
        token: &str,
    ) {
        let records = self.world.records_since(mark).await;
        let record = records
            .into_iter()
            .find(|record| record.door.as_deref() == Some(door))
            .unwrap_or_else(|| panic!("no record of {door}"));
        let time = record.time.replace('T', " ").replace('Z', "");
        let succeeded = if succeeded { "True" } else { "False" };
        let Visitor {
            user,
            address,
            agent,
            device,
            family,
        } = visitor;
        writeln!(
            self.events,
            "{time},{user},{address},\"{agent}\",{succeeded},{kind},demo-web,True,openid profile,{device},\
             \"de-CH,de;q=0.8,en;q=0.5\",{family},{token}"
        )
        .unwrap();
        self.records.push(record);
        self.world.settle().await;
    }

    /// A login to the end, its code redeemed, the token refreshed once.
    async fn visit(&mut self, person: &mut Person<'_>, visitor: Visitor<'_>) -> String {
        person.forget_session();
        let mark = self.world.mark().await;
        let code = person.sign_in().await;
        self.keep(mark, "login", "login", visitor, true, "").await;
        let mark = self.world.mark().await;
        let tokens = person.redeem(&code).await;
        self.keep(mark, "token", "code", visitor, true, "").await;
        let token = tokens.member("refresh_token");
        self.refresh(person, visitor, &token, true).await
    }

    /// Returns the next token; empty when it was refused.
    async fn refresh(
        &mut self,
        person: &mut Person<'_>,
        visitor: Visitor<'_>,
        token: &str,
        succeeds: bool,
    ) -> String {
        let mark = self.world.mark().await;
        let answer = person
            .token(&[("grant_type", "refresh_token"), ("refresh_token", token)])
            .await;
        self.keep(mark, "token", "refresh", visitor, succeeds, token)
            .await;
        if succeeds {
            answer.member("refresh_token")
        } else {
            String::new()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_makes_the_rows_that_were_recorded() {
    let world = World::start(Options {
        mode: "enforce",
        ..Options::default()
    })
    .await;
    let mut journal = Journal::new(&world);
    let at_home = Visitor {
        user: "alice",
        address: HOME,
        agent: FIREFOX,
        device: "alice-pc",
        family: "alice-1",
    };
    let mut alice = world.person("alice");
    journal.visit(&mut alice, at_home).await;
    let next_door = Visitor {
        user: "bob",
        address: HOME_NEIGHBOUR,
        agent: CHROME_ON_WINDOWS,
        device: "bob-pc",
        family: "bob-1",
    };
    let mut bob = world
        .person("bob")
        .from(HOME_NEIGHBOUR)
        .with(CHROME_ON_WINDOWS);
    journal.visit(&mut bob, next_door).await;

    // The same browser, still signed in: an authorize request without credentials.
    let mark = world.mark().await;
    alice.open().await;
    journal
        .keep(mark, "authorize", "sso", at_home, true, "")
        .await;

    // Somebody guesses Alice's password.
    for _ in 0..3 {
        let mut thief = world.person("alice").from(FAR).guessing("guess");
        let mark = world.mark().await;
        thief.try_password().await;
        let guess = Visitor {
            address: FAR,
            device: "",
            family: "",
            ..at_home
        };
        journal.keep(mark, "login", "login", guess, false, "").await;
    }
    let again = Visitor {
        family: "alice-2",
        ..at_home
    };
    let token = journal.visit(&mut alice, again).await;

    // Her token is used from a data centre.
    let mut thief = world.person("alice").from(HOSTING).with("curl/8.5.0");
    let theft = Visitor {
        address: HOSTING,
        agent: "curl/8.5.0",
        device: "",
        ..again
    };
    let mark = world.mark().await;
    let answer = thief
        .token(&[("grant_type", "refresh_token"), ("refresh_token", &token)])
        .await;
    let went_through = answer.status == 200;
    journal
        .keep(mark, "token", "refresh", theft, went_through, &token)
        .await;

    // Bob on another browser in another place, without his cookie.
    let mut travelling = world.person("bob").from(FAR);
    let mark = world.mark().await;
    travelling.try_password().await;
    let elsewhere = Visitor {
        address: FAR,
        agent: FIREFOX,
        device: "",
        family: "",
        ..next_door
    };
    journal
        .keep(mark, "login", "login", elsewhere, true, "")
        .await;
    let Journal {
        events, records, ..
    } = journal;

    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = |name: &str| folder.path().join(name);
    std::fs::write(place("events.csv"), &events).expect("a file");
    std::fs::write(place("policy.toml"), shipped_policy()).expect("a file");
    let evaluation = Evaluation {
        model: root().join("tests/data/models/starter"),
        input: Input::Events(place("events.csv")),
        geo: Some(root().join("tests/data/geo")),
        scores: Some(place("scores.csv")),
        features: Some(place("features.npy")),
        json: None,
        from: None,
        policy: Some(place("policy.toml")),
        label: None,
        evaluator: Some(Evaluator::OnnxRuntime),
        library: Some(root().join("vendor/onnxruntime/libonnxruntime.so")),
        skip_bad: 0,
    };
    // It has a runtime of its own, which must not begin within this one.
    let done = std::thread::spawn(move || eval(&evaluation, &mut |_| {}));
    done.join().expect("no panic").expect("an evaluation");
    compare(
        &records,
        &place("scores.csv"),
        &place("features.npy"),
        &events,
    );
}

fn compare(
    records: &[AuditEvent],
    scores: &std::path::Path,
    features: &std::path::Path,
    events: &str,
) {
    let bytes = std::fs::read(features).expect("features");
    let mut scores = csv::Reader::from_path(scores).expect("scores");
    let scores: Vec<_> = scores.records().map(|row| row.expect("a row")).collect();
    assert_eq!(scores.len(), records.len());
    let header = bytes.len() - records.len() * 4 * Feature::COUNT;
    let (values, _) = bytes[header..].as_chunks::<4>();
    let mut compared = 0;
    for (number, record) in records.iter().enumerate() {
        let event = events.lines().nth(number + 1).unwrap_or("");
        let row = &values[number * Feature::COUNT..(number + 1) * Feature::COUNT];
        for (feature, bytes) in Feature::ALL.into_iter().zip(row) {
            let replayed = f32::from_le_bytes(*bytes);
            let recorded = record
                .features
                .get(feature.index())
                .copied()
                .flatten()
                .unwrap_or(f32::NAN);
            let same = (replayed.is_nan() && recorded.is_nan())
                || f64::from(replayed - recorded).abs() <= TOLERANCE;
            assert!(
                same,
                "{}: recorded {recorded}, replayed {replayed}\n{event}\n{record:#?}",
                feature.name()
            );
            compared += usize::from(!replayed.is_nan());
        }
        let probability: f64 = scores[number][2].parse().expect("a probability");
        let recorded = f64::from(record.probability.expect("a probability"));
        assert!(
            (probability - recorded).abs() <= TOLERANCE,
            "{event}\n{record:#?}"
        );
        assert_eq!(
            Some(&scores[number][4]),
            record.verdict.as_deref(),
            "{event}"
        );
    }
    assert!(compared > 150, "{compared} values were compared");
}
