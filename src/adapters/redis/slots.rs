//! The slots of a cluster: which one a key belongs to, and which node serves which, as `CLUSTER SLOTS` tells it. Pure;
//! the connections are in `cluster.rs`. What a node says is checked: a bad answer is no answer.

use crate::adapters::redis::keys;
use redis::Value;

/// Slots of a cluster (Redis cluster specification, "Key distribution model").
pub(super) const SLOTS: u16 = 16_384;
/// Nodes that a map may name; a cluster is said to work well up to a thousand.
pub(super) const NODES_MAX: usize = 1_024;

/// Host and port of a node.
pub(super) type Address = (String, u16);

/// Slots in a row that one master serves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) master: Address,
}

/// The slot of a key: CRC16 (XMODEM) of its hash tag, modulo 16,384.
pub(super) fn slot(key: &str) -> u16 {
    let crc = keys::hash_tag(key).bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    });
    crc % SLOTS
}

/// The ranges in an answer to `CLUSTER SLOTS` of the node at `asked`; `None` if it makes no sense or names nobody.
pub(super) fn ranges(answer: &Value, asked: &str) -> Option<Vec<Range>> {
    let Value::Array(rows) = answer else {
        return None;
    };
    if rows.is_empty() || rows.len() > usize::from(SLOTS) {
        return None;
    }
    let mut ranges = Vec::with_capacity(rows.len());
    let mut masters = std::collections::BTreeSet::new();
    for row in rows {
        let Value::Array(row) = row else { return None };
        let [
            Value::Int(first),
            Value::Int(last),
            Value::Array(master),
            ..,
        ] = row.as_slice()
        else {
            return None;
        };
        let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
        if first > last || last >= SLOTS {
            return None;
        }
        // A node whose name is not known to the cluster serves nobody yet.
        let Some(master) = address(master, asked) else {
            continue;
        };
        masters.insert(master.clone());
        ranges.push(Range {
            first,
            last,
            master,
        });
    }
    (!ranges.is_empty() && masters.len() <= NODES_MAX).then_some(ranges)
}

fn address(node: &[Value], asked: &str) -> Option<Address> {
    let [host, Value::Int(port), ..] = node else {
        return None;
    };
    let host = match host {
        // The node at which the question was asked.
        Value::Nil => asked.to_owned(),
        Value::BulkString(host) => String::from_utf8(host.clone()).ok()?,
        Value::SimpleString(host) => host.clone(),
        _ => return None,
    };
    let host = if host.is_empty() {
        asked.to_owned()
    } else {
        host
    };
    let port = u16::try_from(*port).ok().filter(|port| *port > 0)?;
    (host != "?").then_some((host, port))
}

/// The address in a redirection, such as `10.0.0.1:6379` or `::1:6379`. Without a host it is the node that answered.
pub(super) fn redirected(text: &str, asked: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() { asked } else { host };
    (host != "?").then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_slots_that_redis_gives_them() {
        // `CLUSTER KEYSLOT` of Redis 7.0 says the same.
        assert_eq!(slot("123456789"), 0x31C3);
        assert_eq!(slot("foo"), 12_182);
        assert_eq!(slot("rg:1:profile:{foo}"), 12_182);
        assert_eq!(slot("bar"), 5_061);
    }

    fn node(host: &str, port: i64) -> Value {
        Value::Array(vec![
            Value::BulkString(host.as_bytes().to_vec()),
            Value::Int(port),
            Value::BulkString(b"id".to_vec()),
            Value::Array(Vec::new()),
        ])
    }

    fn row(first: i64, last: i64, master: Value) -> Value {
        Value::Array(vec![
            Value::Int(first),
            Value::Int(last),
            master,
            node("r", 1),
        ])
    }

    #[test]
    fn answers_are_read_and_nonsense_is_none() {
        let whole = Value::Array(vec![
            row(0, 5_460, node("a", 7_000)),
            row(5_461, 10_922, node("", 7_001)),
            row(10_923, 16_383, node("?", 7_002)),
        ]);
        let expected = [(0, 5_460, "a", 7_000), (5_461, 10_922, "asked", 7_001)];
        let expected: Vec<Range> = expected
            .into_iter()
            .map(|(first, last, host, port)| Range {
                first,
                last,
                master: (host.to_owned(), port),
            })
            .collect();
        assert_eq!(ranges(&whole, "asked"), Some(expected));
        for bad in [
            Value::Nil,
            Value::Array(Vec::new()),
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![row(0, 16_384, node("a", 1))]),
            Value::Array(vec![row(5, 4, node("a", 1))]),
            Value::Array(vec![row(-1, 4, node("a", 1))]),
            Value::Array(vec![row(0, 4, Value::Nil)]),
            Value::Array(vec![row(0, 4, node("a", 0))]),
            Value::Array(vec![row(0, 4, node("a", 70_000))]),
        ] {
            assert_eq!(ranges(&bad, "asked"), None, "{bad:?}");
        }
    }

    #[test]
    fn redirections_name_a_node() {
        let at = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(redirected("127.0.0.1:7000", "x"), at("127.0.0.1", 7_000));
        assert_eq!(redirected("::1:7000", "x"), at("::1", 7_000));
        assert_eq!(redirected(":7000", "x"), at("x", 7_000));
        for bad in ["", "a", "a:", "a:0", "a:70000", "?:7000"] {
            assert_eq!(redirected(bad, "x"), None, "{bad}");
        }
    }
}
