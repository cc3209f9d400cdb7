//! Learning profiles, baselines and demands: read, learn, replace if nobody else was quicker. The learning itself is pure.

use crate::adapters::priority::Turns;
use crate::adapters::redis::RedisStore;
use crate::adapters::redis::connection::Connection;
use crate::adapters::redis::keys;
use crate::adapters::redis::record::Lost;
use crate::adapters::redis::record::MADE_AT_ONCE;
use crate::adapters::redis::record::Step;
use crate::adapters::redis::record::run;
use crate::adapters::redis::scripts;
use crate::adapters::store::codec::TAG_BYTES;
use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::plan::Plan;
use crate::adapters::store::plan::Pupil;
use redis::ErrorKind;
use redis::RedisError;
use redis::Value;
use std::time::Duration;

/// How often an entry is tried that other nodes keep changing. In every round one of them gets through, so that this
/// many nodes can learn about one user at the same moment.
pub(super) const ROUNDS_MAX: usize = 64;

/// An entry that is being learnt.
struct Attempt<'p> {
    pupil: Pupil<'p>,
    /// The value as it was last read; empty for none.
    current: Vec<u8>,
    /// The value under the name that the previous secret made; empty for none.
    previous: Vec<u8>,
}

impl RedisStore {
    /// Applies what `plan` has to learn to each entry exactly once. Entries that cannot be read or written are left as they
    /// are, and the others are learnt.
    pub(super) async fn learn(
        &self,
        connection: &mut Connection,
        plan: &Plan<'_>,
    ) -> Result<(), RedisError> {
        let mut lost = Lost::default();
        let mut attempts = read(connection, plan, &mut lost).await?;
        // What was kept under a previous name and is now under the present one.
        let mut moved = Vec::new();
        let mut turns = Turns::every(MADE_AT_ONCE);
        for _ in 0..ROUNDS_MAX {
            let (tried, steps): (Vec<_>, Vec<_>) = std::mem::take(&mut attempts)
                .into_iter()
                .filter_map(|attempt| {
                    turns.did();
                    self.replacement(&attempt).map(|step| (attempt, step))
                })
                .unzip();
            if steps.is_empty() {
                break;
            }
            for (mut attempt, answer) in tried.into_iter().zip(run(connection, steps).await?) {
                match lost.or(answer) {
                    None => {}
                    Some(Value::Int(_)) if attempt.previous.is_empty() => {}
                    Some(Value::Int(_)) => moved.extend(attempt.pupil.previous.map(|(key, _)| key)),
                    Some(other) => {
                        attempt.current = bytes(other);
                        attempts.push(attempt);
                    }
                }
            }
        }
        lost.or(forget(connection, moved).await);
        if !attempts.is_empty() {
            lost.or(Err::<(), _>(busy()));
        }
        lost.said()
    }

    /// The step that replaces the entry by what it becomes; `None` for nothing to learn or too much to keep.
    fn replacement(&self, attempt: &Attempt<'_>) -> Option<Step> {
        let pupil = &attempt.pupil;
        let learnt = pupil.learnt(&self.codec, Some(&attempt.current), Some(&attempt.previous))?;
        Some(replace(
            &pupil.key,
            &attempt.current,
            learnt.bytes,
            learnt.ttl,
        ))
    }
}

/// The step that puts `value` in the place of `current`, if that is still there.
pub(super) fn replace(key: &EntryKey, current: &[u8], value: Vec<u8>, ttl: Duration) -> Step {
    let end = current.len().saturating_sub(TAG_BYTES);
    let call = scripts::REPLACE
        .call(vec![keys::entry(key)])
        .arg(current.get(end..).unwrap_or_default())
        .arg(value)
        .number(ttl.as_millis());
    Step::Call(call)
}

/// What an entry that other nodes keep changing ends in.
pub(super) fn busy() -> RedisError {
    (
        ErrorKind::Extension,
        "BUSY",
        "other nodes kept changing a profile".to_owned(),
    )
        .into()
}

async fn read<'p>(
    connection: &mut Connection,
    plan: &'p Plan<'_>,
    lost: &mut Lost,
) -> Result<Vec<Attempt<'p>>, RedisError> {
    let pupils: Vec<Pupil<'p>> = plan.pupils().collect();
    let present = pupils.iter().map(|pupil| &pupil.key);
    let previous = pupils.iter().filter_map(|pupil| pupil.previous.as_ref());
    let names = present.chain(previous.map(|(key, _)| key)).map(keys::entry);
    let values = connection.each_value(names.collect()).await?;
    // What could not be read is not the same as none: learnt anew it would be forgotten.
    let mut values = values.into_iter().map(|value| lost.or(value).map(bytes));
    let mut next = || values.next().flatten();
    let present: Vec<_> = pupils.iter().map(|_| next()).collect();
    let attempts = pupils
        .into_iter()
        .zip(present)
        .filter_map(|(pupil, current)| {
            let previous = if pupil.previous.is_some() {
                next()
            } else {
                Some(Vec::new())
            };
            Some(Attempt {
                pupil,
                current: current?,
                previous: previous?,
            })
        });
    Ok(attempts.collect())
}

async fn forget(connection: &mut Connection, moved: Vec<EntryKey>) -> Result<(), RedisError> {
    let steps: Vec<Step> = moved.iter().map(delete).collect();
    let mut lost = Lost::default();
    for answer in run(connection, steps).await? {
        lost.or(answer);
    }
    lost.said()
}

/// The step that removes an entry.
pub(super) fn delete(key: &EntryKey) -> Step {
    let name = keys::entry(key);
    let mut command = redis::cmd("DEL");
    command.arg(&name);
    Step::Command(name, command)
}

/// The text of an answer; empty for anything else.
pub(super) fn bytes(value: Value) -> Vec<u8> {
    match value {
        Value::BulkString(bytes) => bytes,
        _ => Vec::new(),
    }
}
