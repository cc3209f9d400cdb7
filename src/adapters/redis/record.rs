//! Writing what was learnt: one call of a script per entry, many of them in one pipeline.

use crate::adapters::priority::Turns;
use crate::adapters::redis::RedisStore;
use crate::adapters::redis::cluster::Answer;
use crate::adapters::redis::connection::Connection;
use crate::adapters::redis::keys;
use crate::adapters::redis::link::Held;
use crate::adapters::redis::scripts;
use crate::adapters::redis::scripts::Call;
use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::WindowValue;
use crate::adapters::store::plan::POPULATION_MAX;
use crate::adapters::store::plan::Plan;
use crate::domain::history::Observation;
use crate::domain::history::PROFILE_TTL;
use crate::domain::history::Population;
use crate::domain::ids::ValueHash;
use crate::domain::time::AHEAD_MAX;
use redis::Cmd;
use redis::ErrorKind;
use redis::RedisError;
use redis::ServerErrorKind;
use redis::aio::MultiplexedConnection;

/// Values that one call of a script carries: what Lua can unpack at once is limited.
pub(super) const VALUES_PER_CALL: usize = 1_000;
/// Steps of which a batch makes one pipeline: the server is busy with them for some 0.3 ms.
const PIPELINE_MIN: usize = 32;
/// Steps that are made before whoever waits for the processor gets it: a batch has hundreds.
pub(super) const MADE_AT_ONCE: u32 = 8;
/// Pipelines that a batch is cut into at most: each costs one way to the server and back.
const PIPELINES_MAX: usize = 16;
/// The field of the population that counts logins.
const LOGINS: &str = "logins";

/// What the first of many steps to fail has failed by: the others are done all the same.
#[derive(Default)]
pub(super) struct Lost(Option<RedisError>);

impl Lost {
    /// What was done, if it was.
    pub(super) fn or<T>(&mut self, done: Result<T, RedisError>) -> Option<T> {
        done.map_err(|error| self.0.get_or_insert(error)).ok()
    }

    /// Whether all of it was done.
    pub(super) fn said(self) -> Result<(), RedisError> {
        self.0.map_or(Ok(()), Err)
    }
}

/// One step of a batch.
pub(super) enum Step {
    Call(Call),
    /// A plain command and its key.
    Command(String, Cmd),
}

impl Step {
    fn key(&self) -> &str {
        match self {
            Self::Call(call) => call.key(),
            Self::Command(key, _) => key,
        }
    }

    fn command(&self, known: bool) -> Cmd {
        match self {
            Self::Call(call) => call.command(known),
            Self::Command(_, command) => command.clone(),
        }
    }
}

impl RedisStore {
    /// Applies what was learnt. After an error a part of it may have been applied: in a cluster all that belongs to masters
    /// which answer. What the server did not confirm is not tried again, because it could count twice.
    pub(super) async fn write(
        &self,
        held: Held,
        observations: &[Observation],
    ) -> Result<(), RedisError> {
        let plan = Plan::of(observations);
        let mut connection = held.connection;
        let steps = self.steps(&plan);
        let mut lost = Lost::default();
        if !steps.is_empty() {
            for answer in run(&mut connection, steps).await? {
                lost.or(answer);
            }
        }
        if plan.pupils().next().is_some() {
            let _one_at_a_time = self.learning.lock().await;
            lost.or(self.learn(&mut connection, &plan).await);
        }
        lost.said()
    }

    fn steps(&self, plan: &Plan<'_>) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut turns = Turns::every(MADE_AT_ONCE);
        for (key, rates) in &plan.rates {
            turns.did();
            let mut call = scripts::RATES
                .call(vec![keys::entry(key)])
                .number(rates.at().millis())
                .number(key.kind.ttl().as_millis())
                .number(key.kind.quiet_ttl().as_millis())
                .number(AHEAD_MAX.as_millis());
            for (half_life, count) in key.kind.half_lives().iter().zip(rates.values()) {
                call = call.number(half_life.as_millis()).number(count);
            }
            steps.push(Step::Call(call));
        }
        for ((key, epoch), values) in &plan.distinct {
            turns.did();
            let values: Vec<_> = values.iter().collect();
            for some in values.chunks(VALUES_PER_CALL) {
                let ttl = key.kind.ttl().as_millis();
                steps.push(distinct_step(
                    key,
                    *epoch,
                    ttl,
                    some.iter().map(|value| **value),
                ));
            }
        }
        for (key, (provenance, at, ttl)) in &plan.links {
            turns.did();
            let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
            if let Some(value) = self.codec.link(key, provenance, at.plus(*ttl)) {
                let name = keys::entry(key);
                let mut command = redis::cmd("SET");
                command.arg(&name).arg(value).arg("PX").arg(millis);
                steps.push(Step::Command(name, command));
            }
        }
        if plan.population.total > 0 {
            steps.extend(population_steps(self.codec.names(), &plan.population));
        }
        steps
    }
}

/// Adds values to a distinct count.
pub(super) fn distinct_step(
    key: &EntryKey,
    epoch: i64,
    ttl: u128,
    values: impl Iterator<Item = ValueHash>,
) -> Step {
    let windows = [epoch, epoch.saturating_sub(1), epoch.saturating_add(1)];
    let names = std::iter::once(keys::entry(key))
        .chain(windows.map(|window| keys::window(key, window)))
        .collect();
    let call = scripts::DISTINCT.call(names).number(epoch).number(ttl);
    Step::Call(values.fold(call, |call, value| call.arg(WindowValue::of(value).bytes())))
}

/// Adds `more` to the population.
pub(super) fn population_steps(names: u64, more: &Population) -> Vec<Step> {
    let counts: Vec<_> = more.counts.iter().collect();
    let mut logins = more.total;
    let mut chunks: Vec<_> = counts.chunks(VALUES_PER_CALL).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    let call = |some: &[(&ValueHash, &u64)]| {
        let call = scripts::POPULATION
            .call(vec![keys::population(names)])
            .number(POPULATION_MAX)
            .number(PROFILE_TTL.as_millis())
            .number(std::mem::take(&mut logins));
        let call = some.iter().fold(call, |call, (value, count)| {
            call.arg(format!("{value:016x}")).number(count)
        });
        Step::Call(call)
    };
    chunks.into_iter().map(call).collect()
}

/// Runs `steps` and answers in their order. They go in pipelines, in a cluster to the nodes side by side, each when the one
/// before was answered: in between the server serves those who read.
pub(super) async fn run(
    connection: &mut Connection,
    steps: Vec<Step>,
) -> Result<Vec<Answer>, RedisError> {
    let mut answers = Vec::with_capacity(steps.len());
    for some in steps.chunks(PIPELINE_MIN.max(steps.len().div_ceil(PIPELINES_MAX))) {
        answers.append(&mut pipeline(connection, some).await?);
    }
    Ok(answers)
}

/// Runs `steps` in one pipeline. Those whose script the server did not know are sent once more with its text.
async fn pipeline(connection: &mut Connection, steps: &[Step]) -> Result<Vec<Answer>, RedisError> {
    let mut turns = Turns::every(MADE_AT_ONCE);
    let known = steps.iter().map(|step| {
        turns.did();
        (step.key(), step.command(true))
    });
    let mut answers = connection.commands(known).await?;
    let unknown: Vec<usize> = answers
        .iter()
        .enumerate()
        .filter(|(_, answer)| is_unknown(answer))
        .map(|(place, _)| place)
        .collect();
    if !unknown.is_empty() {
        let again = unknown
            .iter()
            .filter_map(|place| steps.get(*place))
            .map(|step| (step.key(), step.command(false)));
        for (place, answer) in unknown.iter().zip(connection.commands(again).await?) {
            if let Some(slot) = answers.get_mut(*place) {
                *slot = answer;
            }
        }
    }
    Ok(answers)
}

/// Runs one step, and says on which line it was answered.
pub(super) async fn one(
    connection: &mut Connection,
    step: &Step,
) -> (Answer, Option<MultiplexedConnection>) {
    let answered = connection.on_its_line(step.key(), step.command(true)).await;
    if is_unknown(&answered.0) {
        return connection
            .on_its_line(step.key(), step.command(false))
            .await;
    }
    answered
}

fn is_unknown(answer: &Answer) -> bool {
    matches!(answer, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
}

/// The population from the fields of its hash. Fields that make no sense are left out.
pub(super) fn population(fields: &[(Vec<u8>, Vec<u8>)], values_max: usize) -> Population {
    let mut population = Population::default();
    for (field, count) in fields {
        let (Ok(field), Ok(count)) = (std::str::from_utf8(field), std::str::from_utf8(count))
        else {
            continue;
        };
        let Ok(count) = count.parse::<u64>() else {
            continue;
        };
        if field == LOGINS {
            population.total = count;
        } else if let Ok(value) = u64::from_str_radix(field, 16)
            && population.counts.len() < values_max
        {
            population.counts.insert(value, count);
        }
    }
    population
}
