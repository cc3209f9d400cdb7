//! Whole logins through a gateway, a few at a time, and what is held of each: that it went through, what its records
//! say, and how long decisions took.

use crate::gateway::Mark;
use crate::gateway::Options;
use crate::gateway::Person;
use crate::gateway::World;
use crate::table::Tally;
use riskgate::domain::audit::AuditEvent;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Mutex;
use tokio::sync::MutexGuard;
use wso2_sim::RecordedRequest;

/// No request limits, and no reuse of scores, so that each request shows what the model does then.
const COMMON: &str = "
score.cache_seconds = 0
score.cache_entries = 0
limits.address_per_minute = 0
limits.network_per_minute = 0
limits.user_per_minute = 0
limits.client_per_minute = 0
";
/// The shipped times.
const SHIPPED_TIMES: &str = "
score.budget_ms = 20
state.response_timeout_ms = 15
state.connect_timeout_ms = 200
upstream.connect_timeout_ms = 800
";
/// Times that a busy machine keeps as well: what a request lacks then did not come at all.
const PATIENT_TIMES: &str = "
score.budget_ms = 1000
state.response_timeout_ms = 500
state.connect_timeout_ms = 2000
upstream.connect_timeout_ms = 5000
";
const IN_THE_RUNTIME: &str = "model.evaluator = 'onnx-runtime'\n";
/// A program: what the models that misbehave wait for.
pub const PROGRAM: &str = "curl/8.5.0";

/// Whether the gateway has the shipped times and is held to what the documentation says of them: `make faults`, on a machine
/// that does nothing else. Elsewhere it has longer ones, and the bars tell a wait that ends from one that does not.
pub fn is_measured() -> bool {
    std::env::var_os("RISKGATE_FAULT_SECONDS").is_some()
}

/// `shipped` where times are measured, or what is asked of any machine.
pub fn bar(shipped: Duration, anywhere: Duration) -> Duration {
    if is_measured() { shipped } else { anywhere }
}

/// The longest that a decision may take: the budget of 20 ms and 10 ms more.
pub fn decision_max() -> Duration {
    bar(Duration::from_millis(30), Duration::from_secs(5))
}

/// How soon after a fault logins must be scored as before.
pub fn recovery_max() -> Duration {
    bar(Duration::from_secs(5), Duration::from_secs(60))
}

/// What came of some logins.
pub struct Phase {
    /// Each scored request that reached the identity server, with its record.
    pub scored: Vec<Scored>,
    steps: Vec<Steps>,
}

/// A request on a scored door, as the identity server got it and as it was recorded.
pub struct Scored {
    /// As it arrived.
    pub request: RecordedRequest,
    /// Its record.
    pub record: AuditEvent,
}

/// How long the steps of one login took for the client: the first authorize request, the password, the redemption.
pub type Steps = [Duration; 3];

/// Who logs in, and how often.
#[derive(Clone, Copy)]
pub struct Crowd {
    side_by_side: usize,
    logins: usize,
    agent: Option<&'static str>,
}

/// Measured phases want the machine for themselves: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Waits for the machine.
pub async fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().await
}

/// The same outside of a runtime.
pub fn alone_without_runtime() -> MutexGuard<'static, ()> {
    ALONE.blocking_lock()
}

/// A world that enforces, whose models are in ONNX Runtime: that way there is more that can break.
/// `config` is further configuration in dotted keys.
pub async fn world(config: &str) -> World {
    native_world(&format!("{IN_THE_RUNTIME}{config}")).await
}

/// A world whose models are where they are by default; the times that `config` sets win.
pub async fn native_world(config: &str) -> World {
    let times = if is_measured() {
        SHIPPED_TIMES
    } else {
        PATIENT_TIMES
    };
    let key = |line: &str| line.split('=').next().map(|key| key.trim().to_owned());
    let set: Vec<_> = config.lines().map(key).collect();
    let kept = times.lines().filter(|line| !set.contains(&key(line)));
    let kept: Vec<_> = kept.collect();
    let config = format!("{COMMON}{}\n{config}", kept.join("\n"));
    World::start(Options {
        mode: "enforce",
        config: config.leak(),
        ..Options::default()
    })
    .await
}

/// Waits until the readiness report says of `part` what `wanted` accepts: `None` when it is as it should be. On a busy
/// machine another part may be degraded as well.
pub async fn until_part(world: &World, part: &str, wanted: impl Fn(Option<&str>) -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let (status, body) = world.admin("/health/ready").await;
        assert_eq!(status, 200, "a degraded node serves: {body}");
        let report: serde_json::Value = serde_json::from_str(&body).expect("a JSON report");
        let found = &report["parts"][part];
        let detail =
            (found["status"] == "degraded").then(|| found["detail"].as_str().expect("a detail"));
        if wanted(detail) {
            assert!(detail.is_none() || report["status"] == "degraded", "{body}");
            return;
        }
        assert!(Instant::now() < end, "{part}: {body}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Crowd {
    /// Two people at a time with a browser that nobody knows, `logins` each.
    pub fn people(logins: usize) -> Self {
        Self {
            side_by_side: 2,
            logins,
            agent: None,
        }
    }

    /// Programs in place of browsers, one after the other.
    pub fn programs(logins: usize) -> Self {
        Self {
            side_by_side: 1,
            logins,
            agent: Some(PROGRAM),
        }
    }

    /// Logs in. Every login must end with tokens, every request must be recorded.
    pub async fn log_in(self, world: &World) -> Phase {
        let mark = world.mark().await;
        let steps = self.steps(world).await;
        Phase::since(world, mark, steps).await
    }

    /// Logs in again and again until `done`.
    pub async fn until(self, world: &World, done: impl Fn() -> bool) -> Phase {
        let mark = world.mark().await;
        let steps = self.steps_until(world, done).await;
        Phase::since(world, mark, steps).await
    }

    async fn steps_until(self, world: &World, done: impl Fn() -> bool) -> Vec<Steps> {
        let mut steps = Vec::new();
        while !done() {
            steps.extend(self.steps(world).await);
        }
        steps
    }

    /// The same for when there are no records to read.
    pub async fn steps(self, world: &World) -> Vec<Steps> {
        let workers = (0..self.side_by_side).map(|_| async {
            let mut steps = Vec::new();
            for _ in 0..self.logins {
                let alice = world.person("alice");
                steps.push(match self.agent {
                    Some(agent) => log_in(alice.with(agent)).await,
                    None => log_in(alice).await,
                });
            }
            steps
        });
        join_all(workers.collect())
            .await
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Programs that ask for a login and never come to it, one after the other.
pub async fn knocks(world: &World, count: usize) -> Phase {
    let mark = world.mark().await;
    for _ in 0..count {
        let mut program = world.person("alice").with(PROGRAM);
        let path = program.authorize_path(&[]);
        let answer = program.get(&path).await;
        assert_eq!(answer.status, 302, "{answer:?}");
    }
    Phase::since(world, mark, Vec::new()).await
}

/// A few who log in, while a hundred others come to the door and are asked for their password, until `done`: many
/// people, of whom each has other entries in the store.
pub async fn many(world: &World, done: impl Fn() -> bool) -> Phase {
    const OTHERS: usize = 100;
    let mark = world.mark().await;
    let knocks = (0..2).map(|side| {
        let done = &done;
        async move {
            let mut turn = side;
            while !done() {
                let name = format!("somebody-{}", turn % OTHERS);
                let mut person = world
                    .person(&name)
                    .from(&format!("198.51.100.{}", 1 + turn % OTHERS));
                let path = person.authorize_path(&[("login_hint", &name)]);
                let answer = person.get(&path).await;
                assert_eq!(answer.status, 302, "{answer:?}");
                turn += 2;
            }
        }
    });
    let logins = Crowd {
        side_by_side: 1,
        ..Crowd::people(1)
    };
    let (steps, _) = tokio::join!(
        logins.steps_until(world, &done),
        join_all(knocks.collect::<Vec<_>>())
    );
    Phase::since(world, mark, steps).await
}

/// One login: authorize, password, one-time code where asked, redemption of the code. Panics unless it ends with tokens.
async fn log_in(mut person: Person<'_>) -> Steps {
    let path = person.authorize_path(&[]);
    let start = Instant::now();
    let answer = person.get(&path).await;
    let authorize = start.elapsed();
    let page = person.follow(answer).await;
    assert!(page.is_page("login.do"), "{page:?}");

    let start = Instant::now();
    let answer = person.submit_password(&page).await;
    let password = start.elapsed();
    let mut answer = person.follow(answer).await;
    if answer.is_page("totp.do") {
        answer = person.submit_code(&answer).await;
        answer = person.follow(answer).await;
    }
    let code = answer
        .code()
        .unwrap_or_else(|| panic!("no code: {answer:?}"));

    let start = Instant::now();
    let tokens = person.redeem(&code).await;
    let redemption = start.elapsed();
    assert_eq!(tokens.status, 200, "{tokens:?}");
    assert!(!tokens.member("access_token").is_empty());
    [authorize, password, redemption]
}

impl Phase {
    async fn since(world: &World, mark: Mark, steps: Vec<Steps>) -> Self {
        let records = world.records_since(mark).await;
        let records: HashMap<&str, &AuditEvent> = records
            .iter()
            .map(|record| (record.id.as_str(), record))
            .collect();
        let scored = world
            .received_since(mark)
            .into_iter()
            .filter_map(|request| {
                let record = match request.header_values("activityid").as_slice() {
                    [id] => records.get(id).copied(),
                    _ => None,
                };
                let record = record
                    .unwrap_or_else(|| panic!("no record of {request:?}"))
                    .clone();
                record.door.is_some().then_some(Scored { request, record })
            });
        Phase {
            scored: scored.collect(),
            steps,
        }
    }

    /// The records of one door.
    pub fn at<'a>(&'a self, door: &'a str) -> impl Iterator<Item = &'a AuditEvent> {
        let records = self.scored.iter().map(|scored| &scored.record);
        records.filter(move |record| record.door.as_deref() == Some(door))
    }

    /// How often each cause was recorded for requests of this status, `scored` or `unscored`.
    pub fn causes(&self, status: &str) -> BTreeMap<String, usize> {
        let mut causes = BTreeMap::new();
        for Scored { record, .. } in &self.scored {
            if let (Some(cause), Some(found)) = (&record.fallback, &record.status)
                && found == status
            {
                *causes.entry(cause.to_string()).or_default() += 1;
            }
        }
        causes
    }

    /// What came of it.
    pub fn tally(&self) -> Tally {
        let records = self.scored.iter().map(|scored| &scored.record);
        Tally::of(self.steps.len(), records)
    }

    /// Whether nothing fell back.
    pub fn is_normal(&self) -> bool {
        self.scored
            .iter()
            .all(|scored| scored.record.fallback.is_none())
    }

    /// Prints the times under `name`; the client's against `usual`, the same logins without fault.
    pub fn print(&self, name: &str, usual: Option<&Phase>) {
        let decisions = self.decisions();
        let mut text = format!(
            "{name}: {} logins, {} scored requests; decision median {:?}, p99 {:?}, max {:?}; client",
            self.steps.len(),
            decisions.len(),
            quantile(&decisions, 50),
            quantile(&decisions, 99),
            self.slowest(),
        );
        for (step, name) in ["authorize", "password", "redemption"].iter().enumerate() {
            text += &format!(" {name} {:.1?}", self.median(step));
            if let Some(usual) = usual {
                text += &format!(" (without fault {:.1?})", usual.median(step));
            }
        }
        for status in ["scored", "unscored"] {
            let causes = self.causes(status);
            if !causes.is_empty() {
                text += &format!("; {status} {causes:?}");
            }
        }
        eprintln!("{text}");
    }

    /// Every request told the identity server what its record says: the status, and nothing that could be taken for a
    /// score where there is none.
    pub fn assert_marked(&self) {
        for Scored { request, record } in &self.scored {
            let status = record.status.as_deref().expect("a status");
            assert_eq!(
                request.header_values("x-risk-status"),
                [status],
                "{record:?}"
            );
            assert_eq!(record.mode.as_deref(), Some("enforce"));
            if status == "unscored" {
                assert!(record.fallback.is_some(), "{record:?}");
                assert_eq!(record.grounds.as_deref(), Some("failed_open"), "{record:?}");
                assert_eq!(
                    (record.score, &record.level, &record.source),
                    (None, &None, &None),
                    "{record:?}"
                );
                assert!(
                    request.header_values("x-risk-score").is_empty(),
                    "{request:?}"
                );
                assert!(
                    request.header_values("x-risk-level").is_empty(),
                    "{request:?}"
                );
            } else {
                assert_eq!(status, "scored");
                let score = record.score.expect("a score").to_string();
                assert_eq!(request.header_values("x-risk-score"), [score]);
                assert!(record.source.is_some(), "{record:?}");
            }
        }
    }

    /// Every request was scored by the model or by an earlier decision.
    pub fn assert_normal(&self) {
        self.assert_marked();
        for Scored { record, .. } in &self.scored {
            let source = record.source.as_deref();
            assert!(
                record.fallback.is_none() && matches!(source, Some("model" | "provenance")),
                "{record:?}"
            );
        }
    }

    /// State and model gave scores at both doors of a login, and nothing was unscored.
    fn assert_used(&self) {
        self.assert_marked();
        assert!(
            self.causes("unscored").is_empty(),
            "{:?}",
            self.causes("unscored")
        );
        for door in ["authorize", "login"] {
            let mut sources = self.at(door).map(|record| record.source.as_deref());
            assert!(
                sources.any(|source| source == Some("model")),
                "{door}: {:?}",
                self.causes("scored")
            );
        }
    }

    /// Clients do not notice: no step of a login is slower by more than a decision may take.
    pub fn assert_not_felt(&self, usual: &Phase) {
        for step in 0..3 {
            let (now, before) = (self.median(step), usual.median(step));
            assert!(
                now <= before + decision_max(),
                "step {step}: {now:?}, without fault {before:?}"
            );
        }
    }

    /// Whether a decision took longer than it may.
    pub fn is_late(&self) -> bool {
        self.slowest() > decision_max()
    }

    /// Every single decision was in time.
    pub fn assert_in_time(&self, name: &str) {
        if self.is_late() {
            self.print(name, None);
            panic!("{name}: a decision took {:?}", self.slowest());
        }
    }

    fn slowest(&self) -> Duration {
        self.decisions().last().copied().unwrap_or_default()
    }

    /// In ascending order.
    fn decisions(&self) -> Vec<Duration> {
        let timings = self.scored.iter().map(|scored| scored.record.timing);
        let mut decisions: Vec<_> = timings
            .map(|timing| Duration::from_micros(timing.decision))
            .collect();
        decisions.sort();
        decisions
    }

    fn median(&self, step: usize) -> Duration {
        let mut took: Vec<_> = self.steps.iter().map(|steps| steps[step]).collect();
        took.sort();
        quantile(&took, 50)
    }
}

/// Runs a phase, and once more if a decision was late: the machine may have been busy with something else. The bar
/// stays. Returns the phase that was in time.
pub async fn in_time(name: &str, mut phase: impl AsyncFnMut() -> Phase) -> Phase {
    let first = phase().await;
    if !first.is_late() {
        return first;
    }
    first.print(&format!("{name} (late, so once more)"), None);
    let second = phase().await;
    second.assert_in_time(name);
    second
}

/// Runs a phase that must be in time and scored as ever, and once more if it was not: on a busy machine a healthy store
/// or model may take longer than it is allowed to, and then it is only held to what it can do.
pub async fn normal(name: &str, mut phase: impl AsyncFnMut() -> Phase) -> Phase {
    let first = phase().await;
    let phase = if first.is_late() || !first.is_normal() {
        first.print(&format!("{name} (not as ever, so once more)"), None);
        phase().await
    } else {
        first
    };
    phase.assert_in_time(name);
    phase.assert_used();
    phase
}

/// Logs in until a login is scored as ever; says how long that took.
pub async fn recovered(world: &World) -> Duration {
    let start = Instant::now();
    let one = Crowd {
        side_by_side: 1,
        ..Crowd::people(1)
    };
    loop {
        let phase = one.log_in(world).await;
        let took = start.elapsed();
        if phase.is_normal() {
            phase.assert_normal();
            assert!(took <= recovery_max(), "recovered only after {took:?}");
            return took;
        }
        assert!(
            took <= 3 * recovery_max(),
            "still degraded after {took:?}: {:?}",
            phase.causes("scored")
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The value at or below which `percent` of 100 lie.
fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

/// Waits for all at once, on this task.
pub async fn join_all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (future, result) in waiting.iter_mut().zip(&mut done) {
            if result.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *result = Some(value);
            }
        }
        if done.iter().any(Option::is_none) {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(done.iter_mut().filter_map(Option::take).collect())
    })
    .await
}
