//! Records of other nodes, as the stream of a fleet brings them once their seal is right.

use riskgate::domain::audit::AuditEvent;
use riskgate::domain::time::Timestamp;
use riskgate::domain::trail::Entry;
use riskgate::domain::trail::foreign::Foreign;

const NOW: Timestamp = Timestamp(1_795_651_200_000);

/// A line of another node's audit log.
pub(super) fn record(bytes: &[u8]) -> bool {
    let Some(foreign) = Foreign::parse(bytes, NOW) else {
        return false;
    };
    // What is kept is one line, in which nothing acts, and it is read as what it was.
    let kept = foreign.line.strip_suffix('\n').expect("a line");
    assert!(!kept.contains(char::is_control), "{kept:?}");
    let entry = Entry::parse(kept.as_bytes()).expect("a record");
    assert_eq!(entry.node(), Some(foreign.node.as_str()));
    let of = |bytes| serde_json::from_slice::<AuditEvent>(bytes).expect("a record");
    let (event, mut before) = (of(kept.as_bytes()), of(bytes));
    before.time.clone_from(&event.time);
    assert_eq!(event, before);
    assert!(event.score.is_none_or(|score| score <= 100));
    true
}
