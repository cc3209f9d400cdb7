//! Every key name of the Redis store: `rg:<schema>:<kind>:{<id>}`. The braces are a hash tag: what belongs to one
//! entity shares a slot in a cluster. Nobody else writes a key name.

use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::SCHEMA;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The key of an entry.
pub(super) fn entry(key: &EntryKey) -> String {
    format!(
        "rg:{SCHEMA}:{}:{{{}}}",
        key.kind.name(),
        URL_SAFE_NO_PAD.encode(key.id())
    )
}

/// The key of the HyperLogLog of one window of an entry that counts distinct values.
pub(super) fn window(key: &EntryKey, epoch: i64) -> String {
    format!("{}:{epoch}", entry(key))
}

/// The key of the population.
pub(super) fn population() -> String {
    format!("rg:{SCHEMA}:population:{{all}}")
}

/// The part of a key that decides its slot.
pub(super) fn hash_tag(key: &str) -> &str {
    key.split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map_or(key, |(tag, _)| tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::store::entities::Kind;

    #[test]
    fn what_belongs_together_shares_a_slot() {
        let users = EntryKey::value(Kind::Users, 7);
        assert_eq!(entry(&users), "rg:1:users:{AAAAAAAAAAc}");
        assert_eq!(window(&users, 3), "rg:1:users:{AAAAAAAAAAc}:3");
        assert_eq!(hash_tag(&window(&users, 3)), hash_tag(&entry(&users)));
        assert_eq!(population(), "rg:1:population:{all}");
    }
}
