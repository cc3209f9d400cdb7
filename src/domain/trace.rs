//! A request as part of a distributed trace (W3C Trace Context): what the caller says of it, what is said to the upstream,
//! and the stages of its path as spans. No subject, address, path or query is ever in it.

use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;

/// Stages of one request at most: what comes beyond is left out.
pub const STAGES_MAX: usize = 16;

/// The bytes of chance that a context is made of.
pub const CHANCE_BYTES: usize = 40;

/// What `traceparent` says: the trace, the caller's span, whether the caller records it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceParent {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The caller's span.
    pub span_id: [u8; 8],
    /// Whether the caller records it.
    pub is_sampled: bool,
}

/// A stage of the path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Waiting for the client's body.
    Body,
    /// Reading the state.
    State,
    /// Features and model.
    Score,
    /// From the permit to the head of the upstream's answer.
    Upstream,
}

/// A stage that has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mark {
    /// Which.
    pub stage: Stage,
    /// When it began.
    pub begin: Instant,
    /// When it ended.
    pub end: Instant,
}

/// The trace of one request.
#[derive(Debug)]
pub struct Trace {
    /// The trace that it is part of: the caller's, or a new one.
    pub trace_id: [u8; 16],
    /// The caller's span, when there is one.
    pub parent: Option<[u8; 8]>,
    /// The span of the request.
    pub span_id: [u8; 8],
    /// The span of the call to the upstream, which the upstream gets as its parent.
    pub upstream_id: [u8; 8],
    /// Whether it is recorded.
    pub is_sampled: bool,
    marks: Vec<Mark>,
    upstream_begin: OnceLock<Instant>,
}

impl TraceParent {
    /// Reads a field value. Anything but the form of the specification (Trace Context, section 3.2) is none: the
    /// trace is then begun anew.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let version = hex::<1>(value.get(..2)?)?;
        let is_known = version == [0] && value.len() == 55;
        // Later versions may say more after another dash; `ff` is none.
        let is_later =
            !matches!(version, [0 | 0xff]) && (value.len() == 55 || value.get(55) == Some(&b'-'));
        let dashes = [2, 35, 52];
        if !(is_known || is_later) || dashes.iter().any(|at| value.get(*at) != Some(&b'-')) {
            return None;
        }
        let trace_id = hex::<16>(value.get(3..35)?)?;
        let span_id = hex::<8>(value.get(36..52)?)?;
        let [flags] = hex::<1>(value.get(53..55)?)?;
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Self {
            trace_id,
            span_id,
            is_sampled: flags & 1 == 1,
        })
    }
}

/// Lower-case hexadecimal, exactly `N` bytes of it.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else {
            return None;
        };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// An id in hexadecimal.
pub fn hex_of(id: &[u8]) -> String {
    let mut text = String::with_capacity(id.len() * 2);
    for byte in id {
        for half in [byte >> 4, byte & 0xf] {
            text.push(char::from_digit(u32::from(half), 16).unwrap_or('0'));
        }
    }
    text
}

impl Trace {
    /// Goes on with the caller's trace, or begins one. `share` of the requests, 0 to 1, are recorded by chance; and those
    /// that the caller records, where its word counts.
    pub fn begin(
        parent: Option<TraceParent>,
        is_trusted: bool,
        share: f64,
        chance: &[u8; CHANCE_BYTES],
    ) -> Self {
        let (ids, rest) = chance.split_at(16);
        let (own, rest) = rest.split_at(8);
        let (upstream, roll) = rest.split_at(8);
        let array8 = |bytes: &[u8]| {
            let mut id = [0; 8];
            id.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            // All zero is no id.
            if id == [0; 8] { [1; 8] } else { id }
        };
        let mut fresh = [0; 16];
        fresh.iter_mut().zip(ids).for_each(|(to, from)| *to = *from);
        if fresh == [0; 16] {
            fresh = [1; 16];
        }
        let mut bits = [0; 4];
        bits.iter_mut().zip(roll).for_each(|(to, from)| *to = *from);
        let is_drawn = f64::from(u32::from_be_bytes(bits)) < share * (f64::from(u32::MAX) + 1.0);
        let is_asked = is_trusted && parent.is_some_and(|parent| parent.is_sampled);
        Self {
            trace_id: parent.map_or(fresh, |parent| parent.trace_id),
            parent: parent.map(|parent| parent.span_id),
            span_id: array8(own),
            upstream_id: array8(upstream),
            is_sampled: is_drawn || is_asked,
            marks: Vec::new(),
            upstream_begin: OnceLock::new(),
        }
    }

    /// The `traceparent` for the upstream, which begins to work now. A second try keeps the first's beginning.
    pub fn ask_upstream(&self, now: Instant) -> String {
        self.upstream_begin.get_or_init(|| now);
        format!(
            "00-{}-{}-{:02x}",
            hex_of(&self.trace_id),
            hex_of(&self.upstream_id),
            u8::from(self.is_sampled)
        )
    }

    /// A stage has ended.
    pub fn mark(&mut self, stage: Stage, begin: Instant, end: Instant) {
        if self.is_sampled && self.marks.len() < STAGES_MAX {
            self.marks.push(Mark { stage, begin, end });
        }
    }

    /// The upstream has answered, or the exchange has ended without its answer. Only the first word counts.
    pub fn upstream_answered(&mut self, now: Instant) {
        if let Some(begin) = self.upstream_begin.get().copied()
            && !self.marks.iter().any(|mark| mark.stage == Stage::Upstream)
        {
            self.mark(Stage::Upstream, begin, now);
        }
    }

    /// The stages that have ended, in the order of their ends.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }
}

impl Stage {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::State => "state",
            Self::Score => "score",
            Self::Upstream => "upstream",
        }
    }
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its id.
    pub id: [u8; 8],
    /// The one that it is part of.
    pub parent: Option<[u8; 8]>,
    /// What it is called: of a bounded set.
    pub name: String,
    /// Its kind, as OTLP numbers it: 1 internal, 2 server, 3 client.
    pub kind: u8,
    /// From the beginning of the request to its own.
    pub begin: Duration,
    /// From the beginning of the request to its end.
    pub end: Duration,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// Whether it failed on our side or behind.
    pub is_error: bool,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// A word of a closed set, or an id of our own.
    Text(String),
    /// A number.
    Number(i64),
}

/// A request that has ended, as spans.
#[derive(Clone, Debug, PartialEq)]
pub struct FinishedTrace {
    /// The trace.
    pub trace_id: [u8; 16],
    /// When the request began, in nanoseconds since the epoch.
    pub began_nanos: u128,
    /// The spans; the first is the request.
    pub spans: Vec<Span>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_caller_is_read_as_the_specification_has_it() {
        let parent = TraceParent::parse(PARENT.as_bytes()).unwrap();
        assert_eq!(hex_of(&parent.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(hex_of(&parent.span_id), "00f067aa0ba902b7");
        assert!(parent.is_sampled);
        let unsampled = PARENT.replace("-01", "-00");
        assert!(!TraceParent::parse(unsampled.as_bytes()).unwrap().is_sampled);
        // Other flags are for later.
        let flags = PARENT.replace("-01", "-ff");
        assert!(TraceParent::parse(flags.as_bytes()).unwrap().is_sampled);
        let later = PARENT.replacen("00-", "cc-", 1);
        for text in [later.clone(), format!("{later}-what-comes")] {
            assert!(TraceParent::parse(text.as_bytes()).is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_not_of_the_form_is_none() {
        let later = PARENT.replacen("00-", "cc-", 1);
        for text in [
            "",
            "00",
            "00-",
            &PARENT[..54],
            &format!("{PARENT}-x"),
            &format!("{PARENT} "),
            &format!("{later}x"),
            &PARENT.to_uppercase(),
            &PARENT.replacen("00-", "ff-", 1),
            &PARENT.replacen("00-", "0x-", 1),
            &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &PARENT.replacen('-', "_", 1),
            &PARENT.replace("4b", "\u{e9}"),
        ] {
            assert_eq!(TraceParent::parse(text.as_bytes()), None, "{text}");
        }
    }

    fn chance(roll: u8) -> [u8; CHANCE_BYTES] {
        let mut chance = [7; CHANCE_BYTES];
        chance[32..].fill(roll);
        chance
    }

    #[test]
    fn the_share_is_drawn_and_a_callers_wish_counts_where_it_is_trusted() {
        let parent = TraceParent::parse(PARENT.as_bytes());
        for (parent, is_trusted, share, roll, expected) in [
            (None, true, 0.0, 0, false),
            (None, true, 1.0, 255, true),
            (None, true, 0.5, 127, true),
            (None, true, 0.5, 128, false),
            (parent, true, 0.0, 0, true),
            (parent, false, 0.0, 0, false),
            (parent, false, 1.0, 255, true),
        ] {
            let trace = Trace::begin(parent, is_trusted, share, &chance(roll));
            assert_eq!(trace.is_sampled, expected, "{is_trusted} {share} {roll}");
        }
    }

    #[test]
    fn the_upstream_gets_the_trace_and_a_span_of_ours() {
        let now = Instant::now();
        let parent = TraceParent::parse(PARENT.as_bytes());
        let mut trace = Trace::begin(parent, true, 0.0, &chance(255));
        let said = TraceParent::parse(trace.ask_upstream(now).as_bytes()).unwrap();
        assert_eq!(said.trace_id, parent.unwrap().trace_id);
        assert_eq!(said.span_id, trace.upstream_id);
        assert!(said.is_sampled);
        assert_eq!(trace.parent, Some(parent.unwrap().span_id));
        let later = now + Duration::from_millis(5);
        trace.ask_upstream(later);
        trace.upstream_answered(later);
        trace.upstream_answered(later + Duration::from_secs(1));
        let expected = Mark {
            stage: Stage::Upstream,
            begin: now,
            end: later,
        };
        assert_eq!(trace.marks(), [expected]);

        let mut silent = Trace::begin(None, true, 0.0, &[0; CHANCE_BYTES]);
        assert!(silent.ask_upstream(now).ends_with("-00"));
        assert!(TraceParent::parse(silent.ask_upstream(now).as_bytes()).is_some());
        silent.mark(Stage::State, now, later);
        silent.upstream_answered(later);
        assert!(silent.marks().is_empty());
    }

    #[test]
    fn a_request_has_a_bound_of_stages() {
        let now = Instant::now();
        let mut trace = Trace::begin(None, true, 1.0, &chance(0));
        for _ in 0..100 {
            trace.mark(Stage::State, now, now);
        }
        assert_eq!(trace.marks().len(), STAGES_MAX);
    }
}
