//! User agents that were read lately. There are few different ones, and reading one costs more than any other signal.

use crate::domain::signals::agent::AgentFacts;
use crate::domain::signals::agent::USER_AGENT_BYTES_MAX;
use quick_cache::Equivalent;
use quick_cache::sync::Cache;
use std::sync::Arc;

/// Agents kept; the least used make room.
const AGENTS_MAX: usize = 10_000;

/// User-Agent and Accept-Language.
type AgentTexts = (Option<Box<str>>, Option<Box<str>>);

/// The same as they stand in a request: looked up without a copy.
#[derive(Hash)]
struct Texts<'r>(Option<&'r str>, Option<&'r str>);

impl Equivalent<AgentTexts> for Texts<'_> {
    fn equivalent(&self, key: &AgentTexts) -> bool {
        self.0 == key.0.as_deref() && self.1 == key.1.as_deref()
    }
}

/// A bounded memory of what user agents said.
#[derive(Clone, Debug)]
pub struct KnownAgents(Arc<Cache<AgentTexts, Arc<AgentFacts>>>);

impl Default for KnownAgents {
    fn default() -> Self {
        Self(Arc::new(Cache::new(AGENTS_MAX)))
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
        let texts = Texts(user_agent, accept_language);
        if let Some(known) = self.0.get(&texts) {
            return known;
        }
        let facts = Arc::new(AgentFacts::parse(user_agent, accept_language));
        let length = user_agent.map_or(0, str::len) + accept_language.map_or(0, str::len);
        if length <= USER_AGENT_BYTES_MAX {
            let key = (user_agent.map(Box::from), accept_language.map(Box::from));
            self.0.insert(key, Arc::clone(&facts));
        }
        facts
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
        // Found by what was borrowed, and only where both texts are the same.
        assert_eq!(agents.0.len(), 3);
        agents.parse(Some("nb"), Some("curl/8"));
        assert_eq!(agents.0.len(), 4);
    }

    #[test]
    fn whoever_sends_many_agents_fills_no_memory() {
        let agents = KnownAgents::default();
        for number in 0..3 * AGENTS_MAX {
            agents.parse(Some(&format!("agent/{number}")), None);
        }
        assert!(agents.0.len() <= AGENTS_MAX);
    }
}
