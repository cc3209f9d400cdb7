//! The server in the hands of an operator: every key, node by node. The gateway may run meanwhile. The user of these
//! commands needs `+scan +pttl` in addition.

use crate::adapters::redis::RedisStore;
use crate::adapters::redis::connection::Connection;
use crate::adapters::redis::keys;
use crate::adapters::redis::learn::ROUNDS_MAX;
use crate::adapters::redis::learn::busy;
use crate::adapters::redis::learn::bytes;
use crate::adapters::redis::learn::delete;
use crate::adapters::redis::learn::replace;
use crate::adapters::redis::link::Held;
use crate::adapters::redis::record::Step;
use crate::adapters::redis::record::VALUES_PER_CALL;
use crate::adapters::redis::record::distinct_step;
use crate::adapters::redis::record::population_steps;
use crate::adapters::redis::record::run;
use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::FewWindows;
use crate::adapters::store::entities::Kind;
use crate::adapters::store::entities::WindowCounts;
use crate::adapters::store::transfer::Body;
use crate::adapters::store::transfer::Change;
use crate::adapters::store::transfer::Cursor;
use crate::adapters::store::transfer::Distinct;
use crate::adapters::store::transfer::Imported;
use crate::adapters::store::transfer::Maintenance;
use crate::adapters::store::transfer::Members;
use crate::adapters::store::transfer::PAGE;
use crate::adapters::store::transfer::Page;
use crate::adapters::store::transfer::Portable;
use crate::domain::history::Population;
use crate::domain::time::Timestamp;
use crate::flow::ports::StateError;
use crate::flow::ports::StateStore;
use async_trait::async_trait;
use redis::RedisError;
use redis::Value;
use std::future::Future;
use std::time::Duration;

/// The time that one page may take: an operator is patient.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Sealed values that are tried before a store is called another secret's.
const SAMPLE: u64 = 16;

#[async_trait]
impl Maintenance for RedisStore {
    async fn export(&self, cursor: Cursor, now: Timestamp) -> Result<Page, StateError> {
        self.patiently(|held| self.page(held, cursor, now)).await
    }

    async fn import(&self, entries: &[Portable], now: Timestamp) -> Result<Imported, StateError> {
        self.patiently(|held| self.take(held, entries, now)).await
    }

    async fn export_population(&self) -> Result<Population, StateError> {
        self.population().await
    }

    async fn import_population(&self, population: &Population) -> Result<bool, StateError> {
        if self.population().await?.total > 0 {
            return Ok(false);
        }
        self.patiently(|mut held| async move {
            let steps = population_steps(self.codec.names(), population);
            checked(run(&mut held.connection, steps).await?).map(|_| true)
        })
        .await
    }

    async fn read(&self, key: &EntryKey, now: Timestamp) -> Result<Option<Body>, StateError> {
        self.patiently(|mut held| async move {
            let value = get(&mut held.connection, key).await?;
            Ok(self.opened(key, &value, now))
        })
        .await
    }

    async fn change(
        &self,
        key: &EntryKey,
        now: Timestamp,
        change: Change<'_>,
    ) -> Result<bool, StateError> {
        self.patiently(|mut held| async move {
            let mut current = get(&mut held.connection, key).await?;
            for _ in 0..ROUNDS_MAX {
                let Some(profile) = self.codec.open_profile(key, &current, now) else {
                    return Ok(false);
                };
                let Some(value) = self.codec.profile(key, &change(profile)) else {
                    return Ok(false);
                };
                let step = replace(key, &current, value, key.kind.ttl());
                match checked(run(&mut held.connection, vec![step]).await?)?.pop() {
                    Some(Value::BulkString(other)) => current = other,
                    _ => return Ok(true),
                }
            }
            Err(busy())
        })
        .await
    }

    async fn remove(&self, keys: &[EntryKey], now: Timestamp) -> Result<u64, StateError> {
        self.patiently(|mut held| async move {
            let mut steps: Vec<Step> = keys.iter().map(delete).collect();
            for key in keys.iter().filter(|key| !key.kind.window().is_zero()) {
                let epoch = key.kind.epoch(now);
                for window in [epoch, epoch.saturating_sub(1)] {
                    let name = keys::window(key, window);
                    let mut command = redis::cmd("DEL");
                    command.arg(&name);
                    steps.push(Step::Command(name, command));
                }
            }
            let answers = checked(run(&mut held.connection, steps).await?)?;
            let gone = |answer: &&Value| matches!(answer, Value::Int(1..));
            Ok(answers.iter().take(keys.len()).filter(gone).count() as u64)
        })
        .await
    }

    async fn is_foreign(&self, now: Timestamp) -> Result<bool, StateError> {
        let mut cursor = Some(Cursor::default());
        let mut strange = 0;
        while let Some(at) = cursor {
            let page = self.export(at, now).await?;
            let is_sealed = |entry: &Portable| {
                matches!(
                    entry.body,
                    Body::Profile(_)
                        | Body::Client(_)
                        | Body::Demand(_)
                        | Body::Link(_)
                        | Body::Review(_)
                        | Body::Scopes(_)
                )
            };
            if page.entries.iter().any(is_sealed) {
                return Ok(false);
            }
            strange += page.unreadable;
            if strange >= SAMPLE {
                return Ok(true);
            }
            cursor = page.next;
        }
        Ok(strange > 0)
    }

    fn finish(&self) -> Result<(), StateError> {
        Ok(())
    }
}

impl RedisStore {
    /// Like [`RedisStore::within`], but connecting may take its time.
    async fn patiently<T, F, Fut>(&self, call: F) -> Result<T, StateError>
    where
        F: FnOnce(Held) -> Fut,
        Fut: Future<Output = Result<T, RedisError>>,
    {
        self.within(PAGE_TIMEOUT, call).await
    }

    async fn page(&self, held: Held, cursor: Cursor, now: Timestamp) -> Result<Page, RedisError> {
        let mut connection = held.connection;
        let mut scan = redis::cmd("SCAN");
        let at = if cursor.at.is_empty() {
            b"0".as_slice()
        } else {
            &cursor.at
        };
        scan.arg(at)
            .arg("MATCH")
            .arg(keys::pattern())
            .arg("COUNT")
            .arg(PAGE);
        let (answer, parts) = match &mut connection {
            Connection::Single(line) => (scan.query_async(line).await?, 1),
            Connection::Cluster(cluster) => {
                let masters = cluster.masters();
                let Some(master) = masters.get(cursor.part) else {
                    return Ok(Page::default());
                };
                (cluster.at(master, scan).await?, masters.len())
            }
        };
        let (next, names): (Vec<u8>, Vec<String>) = redis::from_redis_value(answer)?;
        let mut page = Page {
            next: match (next.as_slice(), cursor.part + 1 < parts) {
                (b"0", true) => Some(Cursor {
                    part: cursor.part + 1,
                    at: Vec::new(),
                }),
                (b"0", false) => None,
                _ => Some(Cursor {
                    part: cursor.part,
                    at: next,
                }),
            },
            ..Page::default()
        };
        let found: Vec<EntryKey> = names
            .iter()
            .filter_map(|name| keys::parse(name))
            .filter(|key| key.kind != Kind::Ticket)
            .collect();
        let steps = found.iter().flat_map(|key| {
            ["GET", "PTTL"].map(|word| {
                let name = keys::entry(key);
                let mut command = redis::cmd(word);
                command.arg(&name);
                Step::Command(name, command)
            })
        });
        let mut answers = run(&mut connection, steps.collect()).await?.into_iter();
        for key in found {
            // A key of another type answers with an error: nothing of ours.
            let value = answers.next().and_then(Result::ok).map(bytes);
            let left = match answers.next() {
                Some(Ok(Value::Int(millis @ 1..))) => Duration::from_millis(millis.unsigned_abs()),
                // Without a time to live: not written by the gateway, and not kept longer than what it writes.
                Some(Ok(Value::Int(-1))) => key.kind.ttl(),
                _ => continue,
            };
            match value.and_then(|value| self.opened(&key, &value, now)) {
                Some(body) => page.entries.push(Portable {
                    key,
                    expires: now.plus(left),
                    body,
                }),
                None => page.unreadable += 1,
            }
        }
        Ok(page)
    }

    fn opened(&self, key: &EntryKey, value: &[u8], now: Timestamp) -> Option<Body> {
        match key.kind {
            Kind::Addresses | Kind::Trusted | Kind::Users => {
                let distinct = match FewWindows::decode(value) {
                    Some(few) => Distinct {
                        epoch: few.epoch,
                        current: Members::Values(few.current),
                        previous: Members::Values(few.previous),
                    },
                    None => {
                        let counts = WindowCounts::decode(value)?;
                        Distinct {
                            epoch: counts.epoch,
                            current: Members::Number(counts.current),
                            previous: Members::Number((counts.both - counts.current).max(0.0)),
                        }
                    }
                };
                Some(Body::Distinct(distinct))
            }
            _ => Body::open(&self.codec, key, value, now),
        }
    }

    async fn take(
        &self,
        held: Held,
        entries: &[Portable],
        now: Timestamp,
    ) -> Result<Imported, RedisError> {
        let mut connection = held.connection;
        let mut steps = Vec::new();
        // How many steps each entry takes: the answer to its last one says what became of it.
        let mut spans = Vec::new();
        for Portable { key, expires, body } in entries {
            let before = steps.len();
            let left = expires.since(now).as_millis().max(1);
            let name = keys::entry(key);
            if let Body::Distinct(distinct) = body {
                distinct_steps(&mut steps, key, distinct, left);
            } else if let Some(value) = body.seal(&self.codec, key, *expires) {
                let mut command = redis::cmd("SET");
                command.arg(&name).arg(value).arg("PX");
                command
                    .arg(u64::try_from(left).unwrap_or(u64::MAX))
                    .arg("NX");
                steps.push(Step::Command(name, command));
            }
            spans.push(steps.len() - before);
        }
        let mut answers = checked(run(&mut connection, steps).await?)?.into_iter();
        let mut imported = Imported::default();
        for span in spans.into_iter().filter(|span| *span > 0) {
            match answers.by_ref().take(span).last() {
                Some(Value::Nil) | None => imported.kept += 1,
                Some(_) => imported.written += 1,
            }
        }
        Ok(imported)
    }
}

fn distinct_steps(steps: &mut Vec<Step>, key: &EntryKey, distinct: &Distinct, left: u128) {
    let before = distinct.epoch.saturating_sub(1);
    for (epoch, members) in [
        (before, &distinct.previous),
        (distinct.epoch, &distinct.current),
    ] {
        for some in members.values(key, epoch).chunks(VALUES_PER_CALL) {
            steps.push(distinct_step(key, epoch, left, some.iter().copied()));
        }
    }
}

async fn get(connection: &mut Connection, key: &EntryKey) -> Result<Vec<u8>, RedisError> {
    let name = keys::entry(key);
    let mut get = redis::cmd("GET");
    get.arg(&name);
    Ok(bytes(connection.command(&name, get).await?))
}

fn checked(answers: Vec<Result<Value, RedisError>>) -> Result<Vec<Value>, RedisError> {
    answers.into_iter().collect()
}
