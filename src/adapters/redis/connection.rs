//! One connection for every form of Redis: commands about keys go where the keys are. Errors are the server's own.

use crate::adapters::redis::cluster::Answer;
use crate::adapters::redis::cluster::Cluster;
use crate::adapters::redis::slots::slot;
use redis::Cmd;
use redis::ErrorKind;
use redis::RedisError;
use redis::Value;
use redis::aio::MultiplexedConnection;

/// A connection that many tasks share.
#[derive(Clone)]
pub(super) enum Connection {
    /// To a cluster: it finds the node for each key by itself, and mends what breaks.
    Cluster(Cluster),
    /// To one server.
    Single(MultiplexedConnection),
}

impl Connection {
    /// The values under `keys`, nil for none and for those of another type: one `MGET`, in a cluster one pipeline of
    /// `GET` per node, side by side.
    pub(super) async fn values(&mut self, keys: Vec<String>) -> Result<Vec<Value>, RedisError> {
        match self {
            Self::Single(line) => all_values(line, keys).await,
            Self::Cluster(_) => self.each_value(keys).await?.into_iter().collect(),
        }
    }

    /// The same, with an error for each value alone whose master is away.
    pub(super) async fn each_value(
        &mut self,
        keys: Vec<String>,
    ) -> Result<Vec<Answer>, RedisError> {
        match self {
            Self::Single(line) => {
                let values = all_values(line, keys).await?;
                Ok(values.into_iter().map(Ok).collect())
            }
            Self::Cluster(cluster) => {
                let gets: Vec<(u16, Cmd)> = keys
                    .iter()
                    .map(|key| {
                        let mut get = redis::cmd("GET");
                        get.arg(key);
                        (slot(key), get)
                    })
                    .collect();
                let answers = cluster.run(&gets).await;
                let answers = answers.into_iter().map(|answer| match answer {
                    Err(error) if error.code() == Some("WRONGTYPE") => Ok(Value::Nil),
                    other => other,
                });
                Ok(answers.collect())
            }
        }
    }

    /// Commands and the key of each: one pipeline, in a cluster one per node side by side. Answers come in their order.
    pub(super) async fn commands(
        &mut self,
        commands: impl Iterator<Item = (&str, Cmd)>,
    ) -> Result<Vec<Answer>, RedisError> {
        match self {
            Self::Single(line) => {
                let mut pipe = redis::pipe();
                for (_, command) in commands {
                    pipe.add_command(command);
                }
                pipe.ignore_errors().query_async(line).await
            }
            Self::Cluster(cluster) => {
                let commands: Vec<(u16, Cmd)> = commands
                    .map(|(key, command)| (slot(key), command))
                    .collect();
                Ok(cluster.run(&commands).await)
            }
        }
    }

    /// One command about `key`.
    pub(super) async fn command(&mut self, key: &str, command: Cmd) -> Answer {
        self.on_its_line(key, command).await.0
    }

    /// The same, with the line to the server that answered: what is said there next comes after it.
    pub(super) async fn on_its_line(
        &mut self,
        key: &str,
        command: Cmd,
    ) -> (Answer, Option<MultiplexedConnection>) {
        match self {
            Self::Single(line) => (command.query_async(line).await, Some(line.clone())),
            Self::Cluster(cluster) => cluster.one(slot(key), command).await,
        }
    }

    /// A command without a key, to the server or to each master of the cluster.
    pub(super) async fn everywhere(&mut self, command: &Cmd) -> Result<Vec<Value>, RedisError> {
        match self {
            Self::Single(line) => Ok(vec![command.query_async(line).await?]),
            Self::Cluster(cluster) => {
                let mut answers = Vec::new();
                for master in cluster.masters() {
                    answers.push(cluster.at(&master, command.clone()).await?);
                }
                if answers.is_empty() {
                    return Err((ErrorKind::Io, "the cluster has no masters").into());
                }
                Ok(answers)
            }
        }
    }
}

/// One value for each key. What stands between and answers with another number of them must not make users strangers.
async fn all_values(
    line: &mut MultiplexedConnection,
    keys: Vec<String>,
) -> Result<Vec<Value>, RedisError> {
    let asked = keys.len();
    let values: Vec<Value> = redis::cmd("MGET").arg(keys).query_async(line).await?;
    if values.len() == asked {
        return Ok(values);
    }
    let kind = ErrorKind::UnexpectedReturnType;
    Err((
        kind,
        "MGET was answered with another number of values than keys",
    )
        .into())
}
