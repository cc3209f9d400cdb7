//! Tickets that are redeemed once. A script marks a ticket as used in the same step in which it reads it. Replication
//! of Redis is asynchronous, so that a new master may not know of the mark: a ticket carries the id of the history of
//! the server that gave it (`master_replid`, which changes when a replica becomes master), and one of another history is
//! refused. Where there are replicas, a redemption counts once one of them has it (`WAIT`).
//!
//! Tickets have a connection of their own: `WAIT` holds up whatever is behind it.

use crate::adapters::redis::RedisStore;
use crate::adapters::redis::connection::Connection;
use crate::adapters::redis::keys;
use crate::adapters::redis::record::Step;
use crate::adapters::redis::record::one;
use crate::adapters::redis::scripts;
use crate::adapters::store::entities::EntryKey;
use crate::domain::ids::Pseudonym;
use crate::domain::time::Timestamp;
use crate::flow::ports::Redemption;
use redis::ErrorKind;
use redis::RedisError;
use std::time::Duration;

/// How long a replica may take to acknowledge, in milliseconds.
const ACKNOWLEDGE_MS: u64 = 100;

impl RedisStore {
    pub(super) async fn issue(
        &self,
        connection: &mut Connection,
        ticket: Pseudonym,
        binding: Pseudonym,
        at: Timestamp,
        ttl: Duration,
    ) -> Result<(), RedisError> {
        let key = EntryKey::ticket(ticket);
        let sealed = self
            .codec
            .ticket(&key, binding, at.plus(ttl))
            .ok_or((ErrorKind::Client, "a ticket that is too long"))?;
        let call = scripts::ISSUE
            .call(vec![keys::entry(&key)])
            .arg(sealed)
            .number(ttl.as_millis().max(1));
        one(connection, &Step::Call(call)).await.0.map(drop)
    }

    pub(super) async fn redeem(
        &self,
        connection: &mut Connection,
        ticket: Pseudonym,
        binding: Pseudonym,
        now: Timestamp,
    ) -> Result<Redemption, RedisError> {
        let key = EntryKey::ticket(ticket);
        let call = scripts::REDEEM.call(vec![keys::entry(&key)]);
        let (answer, line) = one(connection, &Step::Call(call)).await;
        let answer = answer?;
        let (said, sealed, replicas): (String, Vec<u8>, i64) = redis::from_redis_value(answer)?;
        match said.as_str() {
            "unknown" => return Ok(Redemption::Unknown),
            "redeemed" => return Ok(Redemption::AlreadyRedeemed),
            _ => {}
        }
        if replicas > 0 || self.settings.replica_required {
            // Only the server that marked the ticket, on the same line, knows who has acknowledged it.
            let mut line = line.ok_or((ErrorKind::Client, "no answer"))?;
            let acknowledged: i64 = redis::cmd("WAIT")
                .arg(1)
                .arg(ACKNOWLEDGE_MS)
                .query_async(&mut line)
                .await?;
            if acknowledged < 1 {
                return Err((
                    ErrorKind::Extension,
                    "NOREPLICA",
                    "no replica has acknowledged the redemption".to_owned(),
                )
                    .into());
            }
        }
        let good = said == "ticket" && self.codec.is_ticket(&key, &sealed, binding, now);
        Ok(if good {
            Redemption::Redeemed
        } else {
            Redemption::Unknown
        })
    }
}
