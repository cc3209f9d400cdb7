//! A stream of audit records that the nodes of a fleet share: `XADD` with a length that is kept by the server, and pages of
//! it. Entries carry a seal under the secret of the fleet; what has none reads as nobody's. No request waits for any of it.

use crate::adapters::redis::RedisAuthorities;
use crate::adapters::redis::RedisSettings;
use crate::adapters::redis::RedisUrlError;
use crate::adapters::redis::endpoint;
use crate::adapters::redis::keys;
use crate::adapters::redis::link::Link;
use crate::adapters::redis::within;
use crate::adapters::store::codec::Codec;
use crate::domain::trail::foreign::StreamId;
use crate::flow::ports::RecordStream;
use crate::flow::ports::StateError;
use crate::flow::ports::StreamEntry;
use async_trait::async_trait;
use redis::Cmd;
use redis::Value;
use std::sync::Arc;
use std::time::Duration;

/// A stream to which nothing comes any more goes away.
const KEPT_FOR: Duration = Duration::from_secs(30 * 86_400);
/// The fields of an entry.
const RECORD: &str = "record";
const SEAL: &str = "seal";

/// The stream.
#[derive(Debug)]
pub struct RedisStream {
    link: Arc<Link>,
    codec: Codec,
    allowed: Duration,
    key: String,
    records_max: u64,
}

impl RedisStream {
    /// The stream of that name at `url`, some `records_max` entries long. No connection is made yet.
    ///
    /// # Errors
    ///
    /// If the URL is none of the known forms or the certificates cannot be read. The URL is not part of the message.
    pub fn connect(
        url: &str,
        settings: RedisSettings,
        name: &str,
        records_max: u64,
    ) -> Result<Self, RedisUrlError> {
        Ok(Self {
            codec: Codec::sealed_since(&settings.seal_key, settings.previous_seal_key.as_ref()),
            allowed: settings.write_timeout,
            link: Link::new(endpoint(url, &settings)?, settings),
            key: keys::stream(name),
            records_max,
        })
    }

    /// Whom its connections trust.
    pub fn authorities(&self) -> RedisAuthorities {
        self.link.authorities()
    }

    /// The name of the key.
    pub fn key(&self) -> &str {
        &self.key
    }

    fn add(&self, line: &[u8]) -> Cmd {
        let mut command = redis::cmd("XADD");
        let limit = self.records_max;
        command
            .arg(&self.key)
            .arg("MAXLEN")
            .arg("~")
            .arg(limit)
            .arg("*");
        command
            .arg(RECORD)
            .arg(line)
            .arg(SEAL)
            .arg(self.codec.seal_of_line(line));
        command
    }

    async fn page(
        &self,
        command: &str,
        [first, last]: [String; 2],
        most: usize,
    ) -> Result<Vec<StreamEntry>, StateError> {
        let mut asked = redis::cmd(command);
        asked
            .arg(&self.key)
            .arg(first)
            .arg(last)
            .arg("COUNT")
            .arg(most);
        let answer = within(&self.link, self.allowed, |mut held| async move {
            held.connection.command(&self.key, asked).await
        })
        .await?;
        let Value::Array(entries) = answer else {
            return Err(StateError::Refused("the stream has no entries".to_owned()));
        };
        Ok(entries
            .iter()
            .filter_map(|entry| self.entry(entry))
            .collect())
    }

    /// An entry: its id, then its fields and their values.
    fn entry(&self, entry: &Value) -> Option<StreamEntry> {
        let Value::Array(parts) = entry else {
            return None;
        };
        let [Value::BulkString(id), Value::Array(fields)] = parts.as_slice() else {
            return None;
        };
        let id = StreamId::parse(std::str::from_utf8(id).ok()?)?;
        let line = match fields.as_slice() {
            [
                Value::BulkString(record),
                Value::BulkString(line),
                Value::BulkString(seal),
                Value::BulkString(tag),
            ] if record == RECORD.as_bytes()
                && seal == SEAL.as_bytes()
                && self.codec.is_sealed(line, tag) =>
            {
                Some(line.clone())
            }
            _ => None,
        };
        Some(StreamEntry { id, line })
    }
}

#[async_trait]
impl RecordStream for RedisStream {
    async fn ready(&self) -> Result<(), StateError> {
        // About its key: of a cluster, other servers may be away.
        self.up_to(StreamId::LAST, 1).await.map(drop)
    }

    async fn append(&self, lines: &[Vec<u8>]) -> Result<usize, StateError> {
        let mut commands: Vec<Cmd> = lines.iter().map(|line| self.add(line)).collect();
        let mut expire = redis::cmd("PEXPIRE");
        expire
            .arg(&self.key)
            .arg(u64::try_from(KEPT_FOR.as_millis()).unwrap_or(u64::MAX));
        commands.push(expire);
        within(&self.link, self.allowed, |mut held| async move {
            let commands = commands
                .into_iter()
                .map(|command| (self.key.as_str(), command));
            let answers = held.connection.commands(commands).await?;
            let answers = answers.into_iter().take(lines.len());
            let (mut taken, mut refused) = (0, None);
            for answer in answers {
                match answer {
                    Ok(_) => taken += 1,
                    Err(error) => refused = refused.or(Some(error)),
                }
            }
            match refused {
                Some(error) if taken == 0 => Err(error),
                _ => Ok(taken),
            }
        })
        .await
    }

    async fn from(&self, from: StreamId, most: usize) -> Result<Vec<StreamEntry>, StateError> {
        let range = [from.to_string(), "+".to_owned()];
        self.page("XRANGE", range, most).await
    }

    async fn up_to(&self, to: StreamId, most: usize) -> Result<Vec<StreamEntry>, StateError> {
        let range = [to.to_string(), "-".to_owned()];
        self.page("XREVRANGE", range, most).await
    }
}
