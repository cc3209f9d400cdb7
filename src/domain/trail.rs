//! Records as analysts look through them: what lists show of one, what one may ask for, and the figures over many. Pure;
//! where records are kept is the trail's business.

/// Records of other nodes.
pub mod foreign;

/// Counts over time.
pub mod tally;

/// One user.
pub mod user;

use crate::domain::audit::AuditEvent;
use crate::domain::audit::chain::NODE_CHARS_MAX;
use crate::domain::policy::reason::Reason;
use serde::Deserialize;
use serde::Serialize;
use serde::Serializer;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;

/// The longest value that one may ask for, in bytes.
pub const ASKED_BYTES_MAX: usize = 128;

/// What lists show of a record. What a line has beyond it is passed over.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Entry {
    /// The id of exchange and decision.
    pub id: String,
    /// RFC 3339 in UTC.
    pub time: String,
    /// `scored`, `passed`, `resource`, `review` and so on.
    pub class: String,
    /// The door.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub door: Option<String>,
    /// The route pattern.
    pub route: String,
    /// The tenant domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The OAuth client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The pseudonym of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The /24 or /48.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// ISO 3166 code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The kind of network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Browser and major version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub browser: Option<String>,
    /// Operating system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// `known`, `none`, `foreign`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// `login`, `token`, `m2m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `scored`, `unscored`, `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<u8>,
    /// `low`, `medium`, `high`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Reason codes.
    pub reasons: Vec<String>,
    /// The verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// What matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched: Option<String>,
    /// The mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// What was done.
    pub action: String,
    /// How it ended.
    pub outcome: String,
    /// Whether a stronger factor was proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// Who decided, for records of operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Why, in the operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What became of a held login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub review: Option<String>,
    /// What a stage of the rollout was before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout_from: Option<String>,
    /// What it is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout_to: Option<String>,
    /// Microseconds.
    pub timing: Times,
    /// Who wrote it.
    #[serde(
        rename(serialize = "node"),
        serialize_with = "node_alone",
        skip_serializing_if = "Writer::is_unknown"
    )]
    pub chain: Writer,
}

/// The part of the chain that lists show.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Writer {
    /// The name of the node.
    pub node: String,
}

/// The part of the timing that figures need.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Times {
    /// From the head to the decision.
    pub decision: u64,
}

/// What one asks for. Everything that is asked must hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Filter {
    /// The verdict.
    pub verdict: Option<String>,
    /// The level.
    pub level: Option<String>,
    /// The door.
    pub door: Option<String>,
    /// The application.
    pub application: Option<String>,
    /// The country.
    pub country: Option<String>,
    /// The pseudonym of the user.
    pub subject: Option<String>,
    /// A reason code.
    pub reason: Option<String>,
    /// The id of the decision.
    pub id: Option<String>,
    /// The class of the record.
    pub class: Option<String>,
    /// The node that wrote it.
    pub node: Option<String>,
    /// Records without a verdict as well.
    pub all: bool,
}

/// Where a record stands among those of one source: the number of its block, and its line in it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Spot {
    /// The block.
    pub block: u64,
    /// The line in it.
    pub line: u32,
}

/// Where one is in a list, for "older than this".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Among the node's own records.
    pub own: Spot,
    /// Among those of other nodes; not begun when `None`.
    pub others: Option<Spot>,
}

/// A record as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The record.
    pub event: AuditEvent,
    /// The node that wrote it, where its line says so.
    pub node: Option<String>,
    /// Whether it is from the stream: the file of the node that wrote it is not here.
    pub is_foreign: bool,
}

/// A part of what one asked for, the latest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The records.
    pub entries: Vec<Entry>,
    /// From where older ones are to be looked for; `None` when all has been looked through.
    pub older: Option<Place>,
    /// The time of the record up to which was looked, where time ran out before the page was full.
    pub searched_to: Option<String>,
}

impl Entry {
    /// Reads a line; `None` for one that is no record, such as a checkpoint.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let entry: Self = serde_json::from_slice(line).ok()?;
        let is_record = !entry.id.is_empty() && !entry.class.is_empty() && !entry.time.is_empty();
        is_record.then_some(entry)
    }

    /// Seconds since the epoch.
    pub fn seconds(&self) -> Option<i64> {
        self.time
            .parse::<jiff::Timestamp>()
            .ok()
            .map(jiff::Timestamp::as_second)
    }

    /// The node that wrote it, where the line says so.
    pub fn node(&self) -> Option<&str> {
        let name = self.chain.node.as_str();
        (!name.is_empty() && name.len() <= NODE_CHARS_MAX).then_some(name)
    }

    /// Whether this is somebody's decision: the policy's, an operator's, or that of the friction budget.
    pub fn is_decision(&self) -> bool {
        self.verdict.is_some() || self.operator.is_some() || self.class == "rollout"
    }

    /// Everything that one can ask for, hashed: what a block is known by without reading it.
    pub fn terms(&self, mut note: impl FnMut(u64)) {
        let fields = [
            ("id", Some(&self.id)),
            ("class", Some(&self.class)),
            ("verdict", self.verdict.as_ref()),
            ("level", self.level.as_ref()),
            ("door", self.door.as_ref()),
            ("application", self.client_id.as_ref()),
            ("country", self.country.as_ref()),
            ("subject", self.subject.as_ref()),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                note(term(name, value));
            }
        }
        if let Some(node) = self.node() {
            note(term("node", node));
        }
        for reason in &self.reasons {
            note(term("reason", reason));
        }
        if self.is_decision() {
            note(term("decision", ""));
        }
    }
}

impl Writer {
    fn is_unknown(&self) -> bool {
        self.node.is_empty()
    }
}

impl Filter {
    /// The names of what can be asked for.
    pub const NAMES: [&str; 11] = [
        "verdict",
        "level",
        "door",
        "application",
        "country",
        "subject",
        "reason",
        "id",
        "class",
        "node",
        "all",
    ];

    /// Reads what a query asks for. A name that is not known is passed over, and so is an empty value; a value that
    /// nothing could have is kept, so that nothing is found.
    pub fn from_query<'q>(pairs: impl IntoIterator<Item = (&'q str, &'q str)>) -> Self {
        let mut filter = Self::default();
        for (name, value) in pairs {
            let value = value.trim();
            let place = match name {
                "verdict" => &mut filter.verdict,
                "level" => &mut filter.level,
                "door" => &mut filter.door,
                "application" => &mut filter.application,
                "country" => &mut filter.country,
                "subject" => &mut filter.subject,
                "reason" => &mut filter.reason,
                "id" => &mut filter.id,
                "class" => &mut filter.class,
                "node" => &mut filter.node,
                "all" => {
                    filter.all = value == "1";
                    continue;
                }
                _ => continue,
            };
            *place = (!value.is_empty()).then(|| {
                let end = value.floor_char_boundary(ASKED_BYTES_MAX);
                value.get(..end).unwrap_or_default().to_owned()
            });
        }
        filter.country = filter.country.map(|country| country.to_ascii_uppercase());
        filter
    }

    /// What is asked for, as name and value.
    pub fn pairs(&self) -> Vec<(&'static str, &str)> {
        let fields = [
            ("verdict", &self.verdict),
            ("level", &self.level),
            ("door", &self.door),
            ("application", &self.application),
            ("country", &self.country),
            ("subject", &self.subject),
            ("reason", &self.reason),
            ("id", &self.id),
            ("class", &self.class),
            ("node", &self.node),
        ];
        let mut pairs: Vec<_> = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)))
            .collect();
        if self.all {
            pairs.push(("all", "1"));
        }
        pairs
    }

    /// What a block must hold to be worth reading.
    pub fn terms(&self) -> Vec<u64> {
        let asked = self.pairs().into_iter().filter(|(name, _)| *name != "all");
        let mut terms: Vec<u64> = asked.map(|(name, value)| term(name, value)).collect();
        if !self.all {
            terms.push(term("decision", ""));
        }
        terms
    }

    /// Whether a record is one of those.
    pub fn matches(&self, entry: &Entry) -> bool {
        let is = |asked: &Option<String>, has: Option<&String>| {
            asked.as_ref().is_none_or(|asked| Some(asked) == has)
        };
        (self.all || entry.is_decision())
            && is(&self.verdict, entry.verdict.as_ref())
            && is(&self.level, entry.level.as_ref())
            && is(&self.door, entry.door.as_ref())
            && is(&self.application, entry.client_id.as_ref())
            && is(&self.country, entry.country.as_ref())
            && is(&self.subject, entry.subject.as_ref())
            && is(&self.id, Some(&entry.id))
            && is(&self.class, Some(&entry.class))
            && (self.node.is_none() || self.node.as_deref() == entry.node())
            && self
                .reason
                .as_ref()
                .is_none_or(|reason| entry.reasons.contains(reason))
    }
}

impl Spot {
    /// Before everything: nothing older is left.
    pub const END: Self = Self { block: 0, line: 0 };

    fn parse(text: &str) -> Option<Self> {
        let (block, line) = text.split_once('-')?;
        Some(Self {
            block: block.parse().ok()?,
            line: line.parse().ok()?,
        })
    }

    fn text(self) -> String {
        format!("{}-{}", self.block, self.line)
    }
}

impl Place {
    /// Reads what [`Place::text`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (own, others) = match text.split_once('.') {
            Some((own, others)) => (own, Some(Spot::parse(others)?)),
            None => (text, None),
        };
        Some(Self {
            own: Spot::parse(own)?,
            others,
        })
    }

    /// For a link.
    pub fn text(self) -> String {
        let own = self.own.text();
        match self.others {
            Some(others) => format!("{own}.{}", others.text()),
            None => own,
        }
    }
}

/// A reason in words; the code itself where it is none of ours.
pub fn sentence(code: &str) -> &str {
    match Reason::from_code(code) {
        Some(reason) => reason.sentence(),
        None => code,
    }
}

fn node_alone<S: Serializer>(writer: &Writer, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&writer.node)
}

fn term(name: &str, value: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, value).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let line = br#"{"schema":1,"seq":7,"time":"2026-11-25T23:59:59.999Z","id":"d1","class":"scored","door":"login",
            "client_id":"shop","country":"CH","level":"high","verdict":"block","reasons":["ip_velocity"],"features":[1,null],
            "action":"forwarded","outcome":"failed","subject":"abc","hash":"x","chain":{"node":"edge-1","boot":2}}"#;
        Entry::parse(line).unwrap()
    }

    #[test]
    fn a_filter_wants_all_that_it_asks_for() {
        let entry = entry();
        for (query, found) in [
            (vec![], true),
            (
                vec![("verdict", "block"), ("country", "ch"), ("door", "login")],
                true,
            ),
            (vec![("reason", "ip_velocity"), ("subject", "abc")], true),
            (vec![("reason", "ip")], false),
            (vec![("verdict", "block"), ("level", "low")], false),
            (vec![("application", "Shop")], false),
            (vec![("id", "d1"), ("unknown", "x"), ("level", " ")], true),
            (vec![("class", "scored")], true),
            (vec![("class", "rollout")], false),
            (vec![("node", "edge-1")], true),
            (vec![("node", "edge")], false),
        ] {
            let filter = Filter::from_query(query.iter().copied());
            assert_eq!(filter.matches(&entry), found, "{query:?}");
            let mut has = Vec::new();
            entry.terms(|term| has.push(term));
            assert!(!found || filter.terms().iter().all(|term| has.contains(term)));
            assert_eq!(Filter::from_query(filter.pairs()), filter);
        }
    }

    #[test]
    fn what_is_no_decision_shows_when_all_is_asked_for() {
        let passed = Entry {
            verdict: None,
            ..entry()
        };
        assert!(!Filter::default().matches(&passed));
        assert!(Filter::from_query([("all", "1")]).matches(&passed));
    }

    #[test]
    fn what_is_no_record_is_passed_over() {
        for line in [
            &b""[..],
            b"{}",
            b"[]",
            b"{\"id\":1}",
            b"{\"checkpoint\":1}",
            b"\xFF",
            b"{\"id\":\"a\"",
        ] {
            assert_eq!(Entry::parse(line), None);
        }
        assert_eq!(entry().seconds(), Some(1_795_651_199));
    }

    #[test]
    fn long_values_and_places_are_bounded() {
        for name in Filter::NAMES {
            let filter = Filter::from_query([(name, "1")]);
            assert_eq!(filter.pairs(), [(name, "1")]);
        }
        let long = "ä".repeat(500);
        let filter = Filter::from_query([("application", long.as_str())]);
        assert!(filter.application.unwrap().len() <= ASKED_BYTES_MAX);
        let own = Spot { block: 7, line: 3 };
        for others in [None, Some(Spot { block: 9, line: 0 })] {
            let place = Place { own, others };
            assert_eq!(Place::parse(&place.text()), Some(place));
        }
        for bad in [
            "",
            "7",
            "-",
            "7-",
            "x-1",
            "-1-1",
            "99999999999999999999-1",
            "7-3.",
            "7-3.9",
            "7-3.9-0.1-1",
        ] {
            assert_eq!(Place::parse(bad), None);
        }
    }
}
