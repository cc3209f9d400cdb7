//! Records of other nodes, as a stream that they share brings them. Whoever may write to the stream may write anything: a
//! line counts once it is a record in every part, and what is kept of it is written anew.

use crate::domain::audit::AUDIT_SCHEMA;
use crate::domain::audit::AuditEvent;
use crate::domain::audit::chain::Claimed;
use crate::domain::printable;
use crate::domain::time::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// The longest line. A record with every field takes some 4 KiB.
pub const LINE_BYTES_MAX: usize = 32 * 1024;
/// How far the clock of another node may be ahead. What is later would stand above everything that comes.
const AHEAD_MAX: Duration = Duration::from_secs(300);
/// The longest id of a record.
const ID_CHARS_MAX: usize = 64;
/// The longest class.
const CLASS_CHARS_MAX: usize = 32;
/// The highest score.
const SCORE_MAX: u8 = 100;

/// Where an entry stands in a stream.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct StreamId {
    /// Milliseconds since the epoch, by the clock of the server.
    pub millis: u64,
    /// Counts within the millisecond.
    pub seq: u64,
}

/// A record of another node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Foreign {
    /// The node that it names as its own.
    pub node: String,
    /// What is kept: the record and the node, with a line end.
    pub line: String,
}

#[derive(Serialize)]
struct Kept<'e> {
    #[serde(flatten)]
    event: &'e AuditEvent,
    chain: Node<'e>,
}

#[derive(Serialize)]
struct Node<'e> {
    node: &'e str,
}

impl StreamId {
    /// After all others.
    pub const LAST: Self = Self {
        millis: u64::MAX,
        seq: u64::MAX,
    };

    /// Reads `MILLIS-SEQ`.
    pub fn parse(text: &str) -> Option<Self> {
        let (millis, seq) = text.split_once('-')?;
        Some(Self {
            millis: millis.parse().ok()?,
            seq: seq.parse().ok()?,
        })
    }

    /// The first place behind it.
    pub fn next(self) -> Self {
        match self.seq.checked_add(1) {
            Some(seq) => Self { seq, ..self },
            None => Self {
                millis: self.millis.saturating_add(1),
                seq: 0,
            },
        }
    }

    /// The last place before it; `None` when there is none.
    pub fn before(self) -> Option<Self> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Self { seq, ..self }),
            None => Some(Self {
                millis: self.millis.checked_sub(1)?,
                seq: u64::MAX,
            }),
        }
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.millis, self.seq)
    }
}

impl Foreign {
    /// Reads a line at the time `now`; `None` for what is no whole record of a node.
    pub fn parse(line: &[u8], now: Timestamp) -> Option<Self> {
        if line.len() > LINE_BYTES_MAX {
            return None;
        }
        let node = Claimed::parse(line)?.node.to_owned();
        let mut event: AuditEvent = serde_json::from_slice(line).ok()?;
        let time = Timestamp::from_rfc3339(&event.time)?;
        let is_record = event.schema <= AUDIT_SCHEMA
            && event.seq > 0
            && is_code(&event.id, ID_CHARS_MAX)
            && is_code(&event.class, CLASS_CHARS_MAX)
            && time <= now.plus(AHEAD_MAX)
            && has_numbers(&event);
        if !is_record {
            return None;
        }
        // One form, so that times compare as texts.
        event.time = time.to_rfc3339();
        let kept = Kept {
            event: &event,
            chain: Node { node: &node },
        };
        let line = printable::json(&kept).ok()? + "\n";
        Some(Self { node, line })
    }
}

fn is_code(text: &str, most: usize) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    !text.is_empty() && text.len() <= most && text.bytes().all(plain)
}

/// Whether every number is one that a record can have.
fn has_numbers(event: &AuditEvent) -> bool {
    let scores = [event.score, event.challenger_score, event.shown_score];
    let others = event.counterfactuals.iter().map(|other| other.score);
    let mut scores = scores.into_iter().flatten().chain(others);
    let features = event.features.iter().flatten();
    let mut numbers = features
        .chain(&event.contributions)
        .chain(&event.probability);
    scores.all(|score| score <= SCORE_MAX) && numbers.all(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::journal::Journal;
    use crate::domain::audit::seal::Seal;
    use crate::domain::trail::Entry;

    const NOW: Timestamp = Timestamp(1_795_651_200_000);

    /// The line that a node writes of a record.
    fn line(event: &AuditEvent) -> Vec<u8> {
        let seal = Seal::first("edge-2", [1; 32], [2; 32]);
        let mut journal = Journal::begin(&seal, &seal.next([3; 32])).unwrap();
        let mut lines = Vec::new();
        journal.record(&mut lines, event, &String::new).unwrap();
        assert_eq!(lines.pop(), Some(b'\n'));
        lines
    }

    fn event() -> AuditEvent {
        AuditEvent {
            schema: AUDIT_SCHEMA,
            seq: 1,
            time: NOW.to_rfc3339(),
            id: "d-1".to_owned(),
            class: "scored".into(),
            verdict: Some("block".into()),
            score: Some(88),
            features: vec![Some(1.5), None],
            ..AuditEvent::default()
        }
    }

    #[test]
    fn a_record_of_another_node_is_kept_whole() {
        let event = event();
        let foreign = Foreign::parse(&line(&event), NOW).unwrap();
        assert_eq!(foreign.node, "edge-2");
        let kept: AuditEvent = serde_json::from_str(&foreign.line).unwrap();
        assert_eq!(kept, event);
        let entry = Entry::parse(foreign.line.as_bytes()).unwrap();
        assert_eq!(
            (entry.node(), entry.id.as_str()),
            (Some("edge-2"), event.id.as_str())
        );
    }

    #[test]
    fn what_is_no_record_is_refused() {
        type Change = fn(&mut AuditEvent);
        let changes: [Change; 10] = [
            |event| event.schema = AUDIT_SCHEMA + 1,
            |event| event.seq = 0,
            |event| event.id.clear(),
            |event| event.id = "a/b".to_owned(),
            |event| event.id = "a".repeat(ID_CHARS_MAX + 1),
            |event| event.class = "<b>".into(),
            |event| event.time = "yesterday".to_owned(),
            |event| event.time = NOW.plus(AHEAD_MAX * 2).to_rfc3339(),
            |event| event.score = Some(101),
            |event| event.note = Some("x".repeat(LINE_BYTES_MAX)),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut event = event();
            change(&mut event);
            assert_eq!(Foreign::parse(&line(&event), NOW), None, "{number}");
        }
        let good = line(&event());
        let text = String::from_utf8(good.clone()).unwrap();
        for bad in [
            String::new(),
            "{}".to_owned(),
            text.replace("edge-2", "edge 2"),
            text.replace("\"seq\":1", "\"seq\":-1"),
            text.replace("1.5", "1e39"),
            text.replace("\"id\":", "\"id\":\"x\",\"id\":"),
            "[".repeat(20_000),
        ] {
            assert_eq!(Foreign::parse(bad.as_bytes(), NOW), None, "{bad}");
        }
        for end in 0..good.len() {
            assert_eq!(Foreign::parse(&good[..end], NOW), None);
        }
    }

    #[test]
    fn ids_follow_one_another() {
        let id = StreamId::parse("7-0").unwrap();
        assert_eq!(id.to_string(), "7-0");
        assert_eq!(id.next(), StreamId { millis: 7, seq: 1 });
        let before = id.before().unwrap();
        assert_eq!((before.millis, before.next()), (6, id));
        assert_eq!(StreamId::default().before(), None);
        assert!(StreamId::LAST.next() >= id);
        for bad in ["", "7", "-", "7-", "x-1", "-1-1", "18446744073709551616-0"] {
            assert_eq!(StreamId::parse(bad), None, "{bad}");
        }
    }
}
