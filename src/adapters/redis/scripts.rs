//! The scripts that run within Redis, so that an update of one node never overwrites another's. Sent by their digest;
//! a server that does not know one yet gets the text.

use redis::Cmd;
use redis::Script;
use std::sync::LazyLock;

/// One script.
pub(super) struct ServerScript {
    text: &'static str,
    digest: String,
}

/// One call of a script.
pub(super) struct Call {
    script: &'static ServerScript,
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
}

/// Adds distinct values: see the script.
pub(super) static DISTINCT: LazyLock<ServerScript> =
    LazyLock::new(|| ServerScript::new(include_str!("scripts/distinct.lua")));
/// Keeps a ticket: see the script.
pub(super) static ISSUE: LazyLock<ServerScript> =
    LazyLock::new(|| ServerScript::new(include_str!("scripts/issue.lua")));
/// Redeems a ticket: see the script.
pub(super) static REDEEM: LazyLock<ServerScript> =
    LazyLock::new(|| ServerScript::new(include_str!("scripts/redeem.lua")));
/// Counts logins and their values: see the script.
pub(super) static POPULATION: LazyLock<ServerScript> =
    LazyLock::new(|| ServerScript::new(include_str!("scripts/population.lua")));
/// Adds decayed counters: see the script.
pub(super) static RATES: LazyLock<ServerScript> =
    LazyLock::new(|| ServerScript::new(include_str!("scripts/rates.lua")));
/// Replaces a profile: see the script.
pub(super) static REPLACE: LazyLock<ServerScript> =
    LazyLock::new(|| ServerScript::new(include_str!("scripts/replace.lua")));

impl ServerScript {
    fn new(text: &'static str) -> Self {
        Self {
            text,
            digest: Script::new(text).get_hash().to_owned(),
        }
    }

    /// A call with `keys`, of which there is at least one; all share a slot.
    pub(super) fn call(&'static self, keys: Vec<String>) -> Call {
        Call {
            script: self,
            keys,
            args: Vec::new(),
        }
    }
}

impl Call {
    /// Adds an argument.
    pub(super) fn arg(mut self, arg: impl Into<Vec<u8>>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds a number.
    pub(super) fn number(self, number: impl ToString) -> Self {
        self.arg(number.to_string())
    }

    /// The first key.
    pub(super) fn key(&self) -> &str {
        self.keys.first().map_or("", String::as_str)
    }

    /// The command for a server that knows the script, or for one that does not.
    pub(super) fn command(&self, known: bool) -> Cmd {
        let mut command = redis::cmd(if known { "EVALSHA" } else { "EVAL" });
        command
            .arg(if known {
                self.script.digest.as_str()
            } else {
                self.script.text
            })
            .arg(self.keys.len());
        command.arg(&self.keys).arg(&self.args);
        command
    }
}
