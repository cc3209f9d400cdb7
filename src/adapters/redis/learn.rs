//! Learning profiles: read, learn, replace if nobody else was quicker. The learning itself is `Profile::learn`.

use crate::adapters::redis::RedisStore;
use crate::adapters::redis::endpoint::Connection;
use crate::adapters::redis::keys;
use crate::adapters::redis::record::Step;
use crate::adapters::redis::record::run;
use crate::adapters::redis::scripts;
use crate::adapters::store::codec::TAG_BYTES;
use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::Kind;
use crate::domain::history::Lesson;
use crate::domain::ids::SubjectKey;
use redis::ErrorKind;
use redis::RedisError;
use redis::Value;
use std::collections::BTreeMap;

/// How often a profile is tried that other nodes keep changing. In every round one of them gets through, so that this
/// many nodes can learn about one user at the same moment.
const ROUNDS_MAX: usize = 64;

struct Pupil<'a> {
    key: EntryKey,
    lessons: &'a [&'a Lesson],
    /// The profile as it was last read; empty for none.
    current: Vec<u8>,
}

impl RedisStore {
    /// Applies `lessons` to the profiles, each exactly once.
    pub(super) async fn learn(
        &self,
        connection: &mut Connection,
        lessons: &BTreeMap<SubjectKey, Vec<&Lesson>>,
    ) -> Result<(), RedisError> {
        let mut pupils: Vec<Pupil<'_>> = lessons
            .iter()
            .map(|(subject, lessons)| Pupil {
                key: EntryKey::subject(Kind::Profile, *subject),
                lessons,
                current: Vec::new(),
            })
            .collect();
        let mut read = redis::cmd("MGET");
        for pupil in &pupils {
            read.arg(keys::entry(&pupil.key));
        }
        let profiles: Vec<Value> = read.query_async(connection).await?;
        for (pupil, profile) in pupils.iter_mut().zip(profiles) {
            pupil.current = bytes(profile);
        }
        for _ in 0..ROUNDS_MAX {
            let (tried, steps): (Vec<_>, Vec<_>) = pupils
                .into_iter()
                .filter_map(|pupil| self.replacement(&pupil).map(|step| (pupil, step)))
                .unzip();
            if steps.is_empty() {
                return Ok(());
            }
            pupils = Vec::new();
            for (mut pupil, answer) in tried.into_iter().zip(run(connection, steps).await?) {
                match answer? {
                    Value::Int(_) => {}
                    other => {
                        pupil.current = bytes(other);
                        pupils.push(pupil);
                    }
                }
            }
        }
        if pupils.is_empty() {
            return Ok(());
        }
        Err((
            ErrorKind::Extension,
            "BUSY",
            "other nodes kept changing a profile".to_owned(),
        )
            .into())
    }

    /// The step that replaces the profile by what it becomes; `None` for nothing to learn or too much to keep.
    fn replacement(&self, pupil: &Pupil<'_>) -> Option<Step> {
        let first = pupil.lessons.first()?;
        let mut profile = self
            .codec
            .open_profile(&pupil.key, &pupil.current, first.at)
            .unwrap_or_default();
        pupil
            .lessons
            .iter()
            .for_each(|lesson| profile.learn(lesson));
        let value = self.codec.profile(&pupil.key, &profile)?;
        let end = pupil.current.len().saturating_sub(TAG_BYTES);
        let call = scripts::REPLACE
            .call(vec![keys::entry(&pupil.key)])
            .arg(pupil.current.get(end..).unwrap_or_default())
            .arg(value)
            .number(pupil.key.kind.ttl().as_millis());
        Some(Step::Call(call))
    }
}

fn bytes(value: Value) -> Vec<u8> {
    match value {
        Value::BulkString(bytes) => bytes,
        _ => Vec::new(),
    }
}
