//! Every key name of the Redis store: `rg:<schema>:<kind>:{<id>}`. The braces are a hash tag: what belongs to one
//! entity shares a slot in a cluster. Nobody else writes a key name.

use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::Kind;
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

/// What all keys look like, for `SCAN`.
pub(super) fn pattern() -> String {
    format!("rg:{SCHEMA}:*")
}

/// The entry under the key `name`; `None` for a window of a distinct count, the population, or a key of others.
pub(super) fn parse(name: &str) -> Option<EntryKey> {
    let rest = name.strip_prefix(&format!("rg:{SCHEMA}:"))?;
    let (kind, id) = rest.split_once(":{")?;
    let id = URL_SAFE_NO_PAD.decode(id.strip_suffix('}')?).ok()?;
    EntryKey::from_id(Kind::from_name(kind)?, &id)
}

/// The key of the population. It counts names that one secret makes, which `names` stands for.
pub(super) fn population(names: u64) -> String {
    format!("rg:{SCHEMA}:population:{{{names:016x}}}")
}

/// The key of a stream of records.
pub(super) fn stream(name: &str) -> String {
    format!("rg:{SCHEMA}:audit:{{{name}}}")
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

    #[test]
    fn what_belongs_together_shares_a_slot() {
        let users = EntryKey::value(Kind::Users, 7);
        assert_eq!(entry(&users), "rg:1:users:{AAAAAAAAAAc}");
        assert_eq!(window(&users, 3), "rg:1:users:{AAAAAAAAAAc}:3");
        assert_eq!(hash_tag(&window(&users, 3)), hash_tag(&entry(&users)));
        assert_eq!(population(7), "rg:1:population:{0000000000000007}");
    }

    #[test]
    fn names_are_read_back() {
        let users = EntryKey::value(Kind::Users, 7);
        assert_eq!(parse(&entry(&users)), Some(users));
        let ticket = EntryKey::ticket(crate::domain::ids::Pseudonym::from_bytes([9; 16]));
        assert_eq!(parse(&entry(&ticket)), Some(ticket));
        for other in [
            window(&users, 3).as_str(),
            &population(7),
            &stream("fleet"),
            "rg:2:users:{AAAAAAAAAAc}",
            "rg:1:nothing:{AAAAAAAAAAc}",
            "rg:1:users:{AAA}",
            "session:1",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
