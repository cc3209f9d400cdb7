//! User agents that were read lately. There are few different ones, and reading one costs more than any other signal.

use crate::domain::signals::agent::AgentFacts;
use crate::domain::signals::agent::USER_AGENT_BYTES_MAX;
use moka::sync::Cache;
use std::sync::Arc;

/// Agents kept; the least used make room.
const AGENTS_MAX: u64 = 10_000;

/// User-Agent and Accept-Language.
type AgentTexts = (Option<Box<str>>, Option<Box<str>>);

/// A bounded memory of what user agents said.
#[derive(Clone, Debug)]
pub struct KnownAgents(Cache<AgentTexts, Arc<AgentFacts>>);

impl Default for KnownAgents {
    fn default() -> Self {
        Self(Cache::new(AGENTS_MAX))
    }
}

impl KnownAgents {
    /// [`AgentFacts::parse`], from memory where it can be. Texts longer than what is read are not remembered, so that
    /// nobody fills the memory with them.
    pub fn parse(
        &self,
        user_agent: Option<&str>,
        accept_language: Option<&str>,
    ) -> Arc<AgentFacts> {
        let fresh = || Arc::new(AgentFacts::parse(user_agent, accept_language));
        let length = user_agent.map_or(0, str::len) + accept_language.map_or(0, str::len);
        if length > USER_AGENT_BYTES_MAX {
            return fresh();
        }
        let key = (user_agent.map(Box::from), accept_language.map(Box::from));
        self.0.get_with(key, fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_parser_agree() {
        let agents = KnownAgents::default();
        let long = "x".repeat(10_000);
        for user_agent in [
            None,
            Some("curl/8"),
            Some("Mozilla/5.0 Firefox/140.0"),
            Some(long.as_str()),
        ] {
            for _ in 0..2 {
                let expected = AgentFacts::parse(user_agent, Some("nb"));
                assert_eq!(*agents.parse(user_agent, Some("nb")), expected);
            }
        }
    }
}
