//! The queue of held logins: one sealed value that is read, changed and put back if nobody else was quicker.

use crate::adapters::redis::RedisStore;
use crate::adapters::redis::connection::Connection;
use crate::adapters::redis::keys;
use crate::adapters::redis::learn::ROUNDS_MAX;
use crate::adapters::redis::learn::busy;
use crate::adapters::redis::learn::bytes;
use crate::adapters::redis::learn::replace;
use crate::adapters::redis::record::one;
use crate::adapters::store::codec::Unreadable;
use crate::adapters::store::entities::EntryKey;
use crate::domain::review::QUEUE_TTL;
use crate::domain::review::ReviewQueue;
use crate::flow::ports::QueueChange;
use redis::ErrorKind;
use redis::RedisError;
use redis::Value;

/// What a queue that does not open ends in: another node has what opens it, and would do the same with ours if we wrote over
/// it.
fn unreadable(_: Unreadable) -> RedisError {
    let name = keys::entry(&EntryKey::review());
    let problem = format!(
        "the queue of held logins does not open: another secret or version wrote it; once no node has that, remove `{name}` by \
         `riskgate state forget-held`"
    );
    (ErrorKind::Extension, "UNREADABLE", problem).into()
}

impl RedisStore {
    /// The queue and the bytes that it was read from; empty for none.
    pub(super) async fn queue(
        &self,
        connection: &mut Connection,
    ) -> Result<(ReviewQueue, Vec<u8>), RedisError> {
        let name = keys::entry(&EntryKey::review());
        let mut command = redis::cmd("GET");
        command.arg(&name);
        let read = bytes(connection.command(&name, command).await?);
        Ok((self.whole_queue(&read)?, read))
    }

    /// The queue in `bytes`; empty for none.
    fn whole_queue(&self, bytes: &[u8]) -> Result<ReviewQueue, RedisError> {
        let kept = (!bytes.is_empty()).then_some(bytes);
        self.codec.kept_queue(kept).map_err(unreadable)
    }

    pub(super) async fn change_queue(
        &self,
        connection: &mut Connection,
        change: &QueueChange,
    ) -> Result<ReviewQueue, RedisError> {
        let (mut queue, mut current) = self.queue(connection).await?;
        for _ in 0..ROUNDS_MAX {
            let before = queue.clone();
            if !change(&mut queue) {
                return Ok(queue);
            }
            let Some(value) = self.codec.queue(&queue) else {
                return Ok(before);
            };
            let step = replace(&EntryKey::review(), &current, value, QUEUE_TTL);
            match one(connection, &step).await.0? {
                Value::BulkString(other) => {
                    queue = self.whole_queue(&other)?;
                    current = other;
                }
                _ => return Ok(queue),
            }
        }
        Err(busy())
    }
}
