//! A request as part of a distributed trace (W3C Trace Context): what the caller says of it, what is said to the upstream,
//! and the stages of its path as spans. No subject, address, path or query is ever in it.

use crate::domain::hex;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
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
    /// Reading the head: one target, one class, one client.
    Admit,
    /// Waiting for the client's body.
    Body,
    /// Whom and what it is about, and what it shows.
    Signals,
    /// Reading the state.
    State,
    /// Numbers for the model.
    Features,
    /// The model.
    Score,
    /// Policy, mode and permit.
    Decide,
    /// Token and risk of a request to a service of the operator's own.
    Visit,
    /// From the permit to the head of the upstream's answer.
    Upstream,
    /// From there to its last byte: how the attempt ended.
    Answer,
    /// Metrics, what is learnt, the record.
    Record,
}

/// What is known of a span, by key.
pub type Attributes = Vec<(&'static str, Attribute)>;

/// A stage that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Which.
    pub stage: Stage,
    /// When it began.
    pub begin: Instant,
    /// When it ended.
    pub end: Instant,
    /// What is known of it: keys of [`Stage::keys`].
    pub attributes: Attributes,
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
    upstream: Option<(String, u16)>,
    upstream_begin: OnceLock<Instant>,
    tries: AtomicU32,
}

impl TraceParent {
    /// Reads a field value. Anything but the form of the specification (Trace Context, section 3.2) is none: the
    /// trace is then begun anew.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let version = hex::decode::<1>(value.get(..2)?)?;
        let is_known = version == [0] && value.len() == 55;
        // Later versions may say more after another dash; `ff` is none.
        let is_later =
            !matches!(version, [0 | 0xff]) && (value.len() == 55 || value.get(55) == Some(&b'-'));
        let dashes = [2, 35, 52];
        if !(is_known || is_later) || dashes.iter().any(|at| value.get(*at) != Some(&b'-')) {
            return None;
        }
        let trace_id = hex::decode::<16>(value.get(3..35)?)?;
        let span_id = hex::decode::<8>(value.get(36..52)?)?;
        let [flags] = hex::decode::<1>(value.get(53..55)?)?;
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Self {
            trace_id,
            span_id,
            is_sampled: flags & 1 == 1,
        })
    }
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
            upstream: None,
            upstream_begin: OnceLock::new(),
            tries: AtomicU32::new(0),
        }
    }

    /// The upstream that is about to be asked, by the name and port that the configuration has for it.
    pub fn leads_to(&mut self, host: &str, port: u16) {
        if self.is_sampled {
            self.upstream = Some((host.to_owned(), port));
        }
    }

    /// The `traceparent` for the upstream, which begins to work now. A second try keeps the first's beginning. The moment is
    /// asked for only where the request is recorded.
    pub fn ask_upstream(&self, now: impl FnOnce() -> Instant) -> String {
        if self.is_sampled {
            self.upstream_begin.get_or_init(now);
            self.tries.fetch_add(1, Ordering::Relaxed);
        }
        format!(
            "00-{}-{}-{:02x}",
            hex::encode(&self.trace_id),
            hex::encode(&self.upstream_id),
            u8::from(self.is_sampled)
        )
    }

    /// A stage has ended.
    pub fn mark(&mut self, stage: Stage, begin: Instant, end: Instant, attributes: Attributes) {
        if self.is_sampled && self.marks.len() < STAGES_MAX {
            self.marks.push(Mark {
                stage,
                begin,
                end,
                attributes,
            });
        }
    }

    /// The upstream has answered with `status`, or the exchange has ended without its answer, for the reason `failure` if it
    /// is known. Only the first word counts.
    pub fn upstream_answered(
        &mut self,
        method: &'static str,
        status: Option<u16>,
        failure: Option<&'static str>,
        now: impl FnOnce() -> Instant,
    ) {
        let Some(begin) = self.upstream_begin.get().copied() else {
            return;
        };
        if self.upstream_end().is_some() {
            return;
        }
        let mut attributes = vec![("http.request.method", Attribute::text(method))];
        if let Some((host, port)) = self.upstream.take() {
            attributes.push(("server.address", Attribute::Text(host)));
            attributes.push(("server.port", Attribute::Number(i64::from(port))));
        }
        if let Some(status) = status {
            let number = Attribute::Number(i64::from(status));
            attributes.push(("http.response.status_code", number));
        }
        let repeated = self.tries.load(Ordering::Relaxed).saturating_sub(1);
        if repeated > 0 {
            let number = Attribute::Number(i64::from(repeated));
            attributes.push(("http.request.resend_count", number));
        }
        // A client's span has failed with any status of an error.
        let failed = status.filter(|status| *status >= 400);
        let failed = failed.map(|status| Attribute::Text(status.to_string()));
        if let Some(why) = failed.or(failure.map(Attribute::text)) {
            attributes.push(("error.type", why));
        }
        self.mark(Stage::Upstream, begin, now(), attributes);
    }

    /// When the upstream's answer had come, if there was one.
    pub fn upstream_end(&self) -> Option<Instant> {
        let mut marks = self.marks.iter();
        let mark = marks.find(|mark| mark.stage == Stage::Upstream)?;
        Some(mark.end)
    }

    /// The stages that have ended, in the order of their ends.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }
}

/// The keys that the span of a request may have.
pub const REQUEST_KEYS: [&str; 13] = [
    "error.type",
    "http.request.method",
    "http.response.status_code",
    "http.route",
    "riskgate.action",
    "riskgate.class",
    "riskgate.door",
    "riskgate.id",
    "riskgate.level",
    "riskgate.mode",
    "riskgate.outcome",
    "riskgate.verdict",
    "url.scheme",
];

impl Stage {
    /// All of them, in the order of the path.
    pub const ALL: [Self; 11] = [
        Self::Admit,
        Self::Body,
        Self::Signals,
        Self::State,
        Self::Features,
        Self::Score,
        Self::Decide,
        Self::Visit,
        Self::Upstream,
        Self::Answer,
        Self::Record,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Body => "body",
            Self::Signals => "signals",
            Self::State => "state",
            Self::Features => "features",
            Self::Score => "score",
            Self::Decide => "decide",
            Self::Visit => "visit",
            Self::Upstream => "upstream",
            Self::Answer => "answer",
            Self::Record => "record",
        }
    }

    /// The kind of its span.
    pub fn kind(self) -> SpanKind {
        match self {
            Self::State | Self::Upstream => SpanKind::Client,
            Self::Admit
            | Self::Body
            | Self::Signals
            | Self::Features
            | Self::Score
            | Self::Decide
            | Self::Visit
            | Self::Answer
            | Self::Record => SpanKind::Internal,
        }
    }

    /// The keys that its span may have.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Admit => &["error.type", "riskgate.class"],
            Self::Body => &["http.request.body.size"],
            Self::Signals => &["riskgate.agent", "riskgate.limited", "riskgate.network"],
            Self::State => &["db.operation.name", "db.system.name", "error.type"],
            Self::Features => &["riskgate.kind", "riskgate.schema"],
            Self::Score => &[
                "error.type",
                "riskgate.fallback",
                "riskgate.kind",
                "riskgate.model",
                "riskgate.source",
            ],
            Self::Decide => &[
                "riskgate.mode",
                "riskgate.reasons",
                "riskgate.rule",
                "riskgate.verdict",
            ],
            Self::Visit => &["error.type", "riskgate.token", "riskgate.verdict"],
            Self::Upstream => &[
                "error.type",
                "http.request.method",
                "http.request.resend_count",
                "http.response.status_code",
                "server.address",
                "server.port",
            ],
            Self::Answer => &["error.type", "riskgate.outcome", "riskgate.replaced"],
            Self::Record => &["riskgate.learnt", "riskgate.recorded"],
        }
    }

    /// Whether `error.type` says that it has failed, here or behind. A request that is refused has not.
    fn can_fail(self) -> bool {
        match self {
            Self::State | Self::Score | Self::Upstream | Self::Answer => true,
            Self::Admit
            | Self::Body
            | Self::Signals
            | Self::Features
            | Self::Decide
            | Self::Visit
            | Self::Record => false,
        }
    }
}

impl Mark {
    /// Whether it failed.
    pub fn is_error(&self) -> bool {
        let mut keys = self.attributes.iter().map(|(key, _)| *key);
        self.stage.can_fail() && keys.any(|key| key == "error.type")
    }
}

/// What a span is beside its neighbours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SpanKind {
    /// Work within the gateway.
    Internal,
    /// A request that it serves.
    Server,
    /// A call of its own.
    Client,
}

impl SpanKind {
    /// As OTLP numbers it.
    pub fn number(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Server => 2,
            Self::Client => 3,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
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
    /// Its kind.
    pub kind: SpanKind,
    /// From the beginning of the request to its own.
    pub begin: Duration,
    /// From the beginning of the request to its end.
    pub end: Duration,
    /// What is known of it.
    pub attributes: Attributes,
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
    /// Yes or no.
    Flag(bool),
}

impl Attribute {
    /// A word.
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
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
        assert_eq!(
            hex::encode(&parent.trace_id),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert_eq!(hex::encode(&parent.span_id), "00f067aa0ba902b7");
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
        trace.leads_to("is.example.com", 9443);
        let said = TraceParent::parse(trace.ask_upstream(|| now).as_bytes()).unwrap();
        assert_eq!(said.trace_id, parent.unwrap().trace_id);
        assert_eq!(said.span_id, trace.upstream_id);
        assert!(said.is_sampled);
        assert_eq!(trace.parent, Some(parent.unwrap().span_id));
        let later = now + Duration::from_millis(5);
        trace.ask_upstream(|| later);
        assert_eq!(trace.upstream_end(), None);
        trace.upstream_answered("POST", Some(503), None, || later);
        let last = later + Duration::from_secs(1);
        trace.upstream_answered("POST", None, Some("closed"), || last);
        let number = Attribute::Number;
        let expected = Mark {
            stage: Stage::Upstream,
            begin: now,
            end: later,
            attributes: vec![
                ("http.request.method", Attribute::text("POST")),
                ("server.address", Attribute::text("is.example.com")),
                ("server.port", number(9443)),
                ("http.response.status_code", number(503)),
                ("http.request.resend_count", number(1)),
                ("error.type", Attribute::text("503")),
            ],
        };
        assert!(expected.is_error());
        assert_eq!(trace.marks(), [expected]);
        assert_eq!(trace.upstream_end(), Some(later));
    }

    #[test]
    fn what_is_not_recorded_asks_for_no_moment_and_keeps_no_stage() {
        let unasked = || -> Instant { panic!("the clock is looked at") };
        let now = Instant::now();
        let mut silent = Trace::begin(None, true, 0.0, &[0; CHANCE_BYTES]);
        silent.leads_to("is.example.com", 9443);
        assert!(silent.ask_upstream(unasked).ends_with("-00"));
        assert!(TraceParent::parse(silent.ask_upstream(unasked).as_bytes()).is_some());
        silent.mark(Stage::State, now, now, Vec::new());
        silent.upstream_answered("GET", Some(200), None, unasked);
        assert!(silent.marks().is_empty());
        assert_eq!(silent.marks.capacity(), 0);
    }

    #[test]
    fn a_request_that_never_reached_the_upstream_has_no_span_of_it() {
        let mut trace = Trace::begin(None, true, 1.0, &chance(0));
        trace.upstream_answered("GET", None, Some("full"), Instant::now);
        assert!(trace.marks().is_empty());
    }

    #[test]
    fn a_refusal_is_no_failure_and_a_missing_score_is() {
        let now = Instant::now();
        let failed = |stage, key| {
            let attributes = vec![(key, Attribute::text("a"))];
            let mark = Mark {
                stage,
                begin: now,
                end: now,
                attributes,
            };
            mark.is_error()
        };
        assert!(failed(Stage::Score, "error.type"));
        assert!(!failed(Stage::Score, "riskgate.fallback"));
        assert!(!failed(Stage::Admit, "error.type"));
        assert!(!failed(Stage::Visit, "error.type"));
    }

    #[test]
    fn the_keys_of_spans_are_in_order_and_named_once() {
        let sets = Stage::ALL.iter().map(|stage| stage.keys());
        for keys in sets.chain([&REQUEST_KEYS[..]]) {
            assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
        }
    }

    #[test]
    fn a_request_has_a_bound_of_stages() {
        let now = Instant::now();
        let mut trace = Trace::begin(None, true, 1.0, &chance(0));
        for _ in 0..100 {
            trace.mark(Stage::State, now, now, Vec::new());
        }
        assert_eq!(trace.marks().len(), STAGES_MAX);
    }
}
