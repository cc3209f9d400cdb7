//! Compares what clients saw, what the identity server saw, what the records say and what the store holds.

use super::Pace;
use super::traffic::Kind;
use super::traffic::Seen;
use super::traffic::Sent;
use super::traffic::USERS;
use super::trouble::Window;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::root;
use crate::load::NUMBER;
use crate::reload;
use riskgate::adapters::onnx;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::features::FeatureVector;
use riskgate::domain::kind::RequestKind;
use riskgate::domain::time::Deadline;
use riskgate::flow::ports::RiskModel;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use wso2_sim::RecordedRequest;

/// After an outage of Redis, connection and breaker find back.
const STATE_SLACK: Duration = Duration::from_secs(5);
/// Of so many scored requests one may have been without its history although nothing was wrong: on a busy machine a read
/// is late now and then.
const LATE_ONE_IN: usize = 1_000;
/// Sentences that are kept of each kind.
const KEPT_MAX: usize = 8;

/// What was found.
#[derive(Debug, Default)]
pub struct Verdict {
    figures: Vec<(&'static str, u64)>,
    wrong: BTreeMap<&'static str, Vec<String>>,
    counts: BTreeMap<&'static str, u64>,
    /// Without history although nothing was wrong.
    late: u64,
}

impl Verdict {
    fn blame(&mut self, what: &'static str, text: String) {
        *self.counts.entry(what).or_default() += 1;
        let kept = self.wrong.entry(what).or_default();
        if kept.len() < KEPT_MAX {
            kept.push(text);
        }
    }

    /// How many exchanges were lost, duplicated, unaudited or mis-scored.
    pub fn wrong(&self) -> u64 {
        self.counts.values().sum()
    }

    /// None was.
    pub fn assert(&self, log: &str) {
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        assert!(
            self.counts.is_empty(),
            "{:#?}\n{self}\n{lines:#?}",
            self.wrong
        );
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures: Vec<_> = self
            .figures
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        write!(f, "{}; wrong: {:?}", figures.join(", "), self.counts)
    }
}

/// Looks at all four.
pub async fn reach(world: &World, sent: &[Sent], windows: &[Window], pace: Pace) -> Verdict {
    let mut verdict = Verdict::default();
    let count = |wanted: fn(&Seen) -> bool| sent.iter().filter(|sent| wanted(&sent.seen)).count();
    let answered = count(|seen| matches!(seen, Seen::Answer(_)));
    let left = count(|seen| matches!(seen, Seen::Left));
    let idle = count(|seen| matches!(seen, Seen::Idle));
    // What clients have left comes to its end after they have: their connections are counted until then.
    let end = Instant::now() + PATIENCE;
    while world.metric("riskgate_connections", &[]).await > 0.5 {
        assert!(Instant::now() < end, "connections stay\n{}", world.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut arrived: HashMap<u64, Vec<RecordedRequest>> = HashMap::new();
    for request in world.received() {
        let number = request
            .header_values(NUMBER)
            .first()
            .and_then(|text| text.parse().ok());
        if let Some(number) = number {
            arrived.entry(number).or_default().push(request);
        }
    }
    let left_and_arrived = sent
        .iter()
        .filter(|sent| matches!(sent.seen, Seen::Left) && arrived.contains_key(&sent.number))
        .count();
    let due = answered + left_and_arrived;
    let records = reload::until_recorded(world, due as u64).await;
    clients(&mut verdict, sent, windows, pace);
    let joined = exchanges(&mut verdict, sent, &arrived, &records, windows, pace);
    let possible = due..=answered + left;
    audit(&mut verdict, &records, possible, &joined, sent);
    let stateless = scores(&mut verdict, &records, windows, pace);
    let learnt = store(&mut verdict, world, sent, &joined, &records).await;
    for name in [
        "riskgate_panics_total",
        "riskgate_audit_events_dropped_total",
    ] {
        if world.metric(name, &[]).await > 0.5 {
            verdict.blame("counted", name.to_owned());
        }
    }
    verdict.figures = vec![
        ("exchanges", sent.len() as u64),
        ("answered", answered as u64),
        ("left by the client", left as u64),
        ("closed while idle", idle as u64),
        ("arrived", arrived.len() as u64),
        ("records", records.len() as u64),
        ("scored without history", stateless),
        ("of these outside of a fault", verdict.late),
        ("logins learnt", learnt),
    ];
    verdict
}

fn is_within(
    windows: &[Window],
    wanted: fn(&Window) -> bool,
    time: (SystemTime, SystemTime),
    slack: Duration,
) -> bool {
    windows
        .iter()
        .filter(|window| wanted(window))
        .any(|window| window.time.0 <= time.1 && time.0 <= window.time.1 + slack)
}

/// Each request was answered, and as it should be unless WSO2 was in trouble.
fn clients(verdict: &mut Verdict, sent: &[Sent], windows: &[Window], pace: Pace) {
    for sent in sent {
        let is_trouble = || {
            is_within(
                windows,
                |window| window.fault.is_upstream(),
                sent.time,
                pace.upstream_slack,
            )
        };
        match &sent.seen {
            Seen::Failed(why) => verdict.blame("lost", format!("{}: {why}", sent.number)),
            Seen::Answer(status) if sent.kind.expects(*status) => {}
            Seen::Answer(502..=504) if is_trouble() => {}
            Seen::Answer(status) => {
                verdict.blame("answered wrongly", format!("{sent:?}: {status}"));
            }
            Seen::Left | Seen::Idle => {}
        }
    }
}

/// What arrived did so once and has its record, which says what the client saw. The records by number.
fn exchanges<'a>(
    verdict: &mut Verdict,
    sent: &[Sent],
    arrived: &HashMap<u64, Vec<RecordedRequest>>,
    records: &'a [AuditEvent],
    windows: &[Window],
    pace: Pace,
) -> HashMap<u64, &'a AuditEvent> {
    let mut by_id: HashMap<&str, &AuditEvent> = HashMap::new();
    for record in records {
        if by_id.insert(&record.id, record).is_some() {
            verdict.blame("recorded twice", record.id.clone());
        }
    }
    let mut joined = HashMap::new();
    for sent in sent {
        let number = sent.number;
        let Some(requests) = arrived.get(&number) else {
            if matches!(sent.seen, Seen::Answer(status) if status < 500) {
                verdict.blame("answered without WSO2", format!("{sent:?}"));
            }
            continue;
        };
        // A GET may be repeated when a used connection breaks; nothing else may.
        let may_repeat = sent.kind == Kind::Keys
            && is_within(
                windows,
                |window| window.fault.is_upstream(),
                sent.time,
                pace.upstream_slack,
            );
        if requests.len() > 1 && !may_repeat {
            verdict.blame("arrived twice", format!("{sent:?}: {}", requests.len()));
        }
        if matches!(sent.seen, Seen::Idle) && sent.kind != Kind::Keys {
            verdict.blame("lost", format!("arrived on a closed connection: {sent:?}"));
        }
        for request in requests {
            let id = request.header_values("activityid");
            let Some(record) = id.first().and_then(|id| by_id.get(*id)) else {
                verdict.blame("unaudited", format!("{sent:?}"));
                continue;
            };
            joined.insert(number, *record);
            match sent.seen {
                Seen::Answer(status) if status != record.response_status => {
                    verdict.blame("recorded wrongly", format!("{sent:?}: {record:?}"));
                }
                _ => {}
            }
        }
    }
    joined
}

/// As many records as exchanges, numbered without a gap.
fn audit(
    verdict: &mut Verdict,
    records: &[AuditEvent],
    possible: RangeInclusive<usize>,
    joined: &HashMap<u64, &AuditEvent>,
    sent: &[Sent],
) {
    if !possible.contains(&records.len()) {
        verdict.blame(
            "unaudited",
            format!("{} records, expected {possible:?}", records.len()),
        );
    }
    let numbers: BTreeSet<u64> = records.iter().map(|record| record.seq).collect();
    if numbers.len() != records.len() || numbers.last() != Some(&(records.len() as u64)) {
        verdict.blame(
            "unaudited",
            format!("{} numbers up to {:?}", numbers.len(), numbers.last()),
        );
    }
    // Of what did not arrive, the statuses agree in number.
    let mut here: BTreeMap<u16, i64> = BTreeMap::new();
    for sent in sent
        .iter()
        .filter(|sent| !joined.contains_key(&sent.number))
    {
        if let Seen::Answer(status) = sent.seen {
            *here.entry(status).or_default() += 1;
        }
    }
    let known: BTreeSet<&str> = joined.values().map(|record| record.id.as_str()).collect();
    for record in records
        .iter()
        .filter(|record| !known.contains(record.id.as_str()))
    {
        *here.entry(record.response_status).or_default() -= 1;
    }
    for (status, difference) in here.into_iter().filter(|(_, difference)| *difference > 0) {
        verdict.blame(
            "recorded wrongly",
            format!("{difference} answers with {status} have no record"),
        );
    }
}

/// Every scored request has the score that its model gives to its recorded row, and its history unless Redis was in
/// trouble. How many had none.
fn scores(verdict: &mut Verdict, records: &[AuditEvent], windows: &[Window], pace: Pace) -> u64 {
    let models = models();
    let (mut stateless, mut late) = (0, Vec::new());
    for record in records.iter().filter(|record| record.door.is_some()) {
        let Some(probability) = record.probability else {
            verdict.blame("unscored", format!("{record:?}"));
            continue;
        };
        let values: Vec<f32> = record
            .features
            .iter()
            .map(|value| value.unwrap_or(f32::NAN))
            .collect();
        let key = (
            record.model.clone().unwrap_or_default(),
            record.kind.clone().unwrap_or_default().into_owned(),
        );
        let again = models.get(&key).and_then(|model| {
            let row = FeatureVector::from_slice(&values)?;
            let deadline = Deadline::after(Instant::now(), Duration::from_secs(5));
            model.run(&row, deadline).ok()
        });
        let is_same = again
            .as_ref()
            .is_some_and(|output| (output.score.probability() - probability).abs() <= 1e-6);
        if !is_same || record.verdict.as_deref() != Some("allow") {
            let again = again.map(|output| output.score.probability());
            verdict.blame(
                "mis-scored",
                format!(
                    "{again:?} is not {probability}, or {:?} is not to allow: {} of {key:?}, {:?}",
                    record.verdict, record.id, record.reasons
                ),
            );
        }
        if record
            .reasons
            .iter()
            .any(|reason| reason == "state_unavailable")
        {
            stateless += 1;
            let time = record.time.parse::<jiff::Timestamp>().map(SystemTime::from);
            let time = time.unwrap_or(SystemTime::UNIX_EPOCH);
            let is_trouble = is_within(
                windows,
                |window| window.fault.is_state(),
                (time, time),
                STATE_SLACK,
            );
            if !is_trouble {
                late.push(format!("{} at {}", record.id, record.time));
            }
        }
    }
    let scored = records
        .iter()
        .filter(|record| record.door.is_some())
        .count();
    if late.len() > (scored / LATE_ONE_IN).max(pace.late_min) {
        late.into_iter()
            .for_each(|text| verdict.blame("without history", text));
    } else {
        verdict.late = late.len() as u64;
    }
    stateless
}

/// The models of both configurations, by version and kind of request.
fn models() -> HashMap<(String, String), Arc<dyn RiskModel>> {
    let mut models = HashMap::new();
    for dir in ["tests/data/models/starter", "conf/model"] {
        for kind in RequestKind::ALL {
            let loaded = onnx::load(&root().join(dir), None).expect("a model");
            if let Some(model) = loaded.into_kind(kind)
                && let Some(native) = model.native
            {
                let version = model.identity.version.clone();
                models.insert((version, kind.as_str().to_owned()), native);
            }
        }
    }
    models
}

/// The store knows of each user as many logins as the records say were learnt, but for those whose writing is counted as
/// failed, and never more. How many were learnt.
async fn store(
    verdict: &mut Verdict,
    world: &World,
    sent: &[Sent],
    joined: &HashMap<u64, &AuditEvent>,
    records: &[AuditEvent],
) -> u64 {
    let lost = world.metric("riskgate_state_writes_lost_total", &[]).await;
    let mut subjects: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for sent in sent {
        if let (Kind::Password(who, true), Some(record)) = (sent.kind, joined.get(&sent.number))
            && let Some(subject) = record.subject.as_deref()
        {
            subjects.entry(USERS[who].0).or_default().insert(subject);
        }
    }
    let (mut learnt, mut missing) = (0, 0);
    for (user, subjects) in subjects {
        if subjects.len() != 1 {
            verdict.blame("mistaken", format!("{user} is {subjects:?}"));
        }
        let told = records
            .iter()
            .filter(|record| record.learnt)
            .filter(|record| {
                record
                    .subject
                    .as_deref()
                    .is_some_and(|id| subjects.contains(id))
            })
            .count() as i64;
        let (_, text, errors) = world.command(&["state", "show", "--user", user]);
        let held = text
            .lines()
            .find_map(|line| line.strip_prefix("profile"))
            .and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok())
            .unwrap_or(0);
        if held > told {
            verdict.blame("learnt twice", format!("{user}: {held} of {told} {errors}"));
        }
        learnt += u64::try_from(told).unwrap_or(0);
        missing += told - held;
    }
    if missing as f64 > lost {
        verdict.blame(
            "not learnt",
            format!("{missing} logins, {lost} writes are counted as lost"),
        );
    }
    if learnt == 0 {
        verdict.blame("not learnt", "no login at all".to_owned());
    }
    learnt
}
