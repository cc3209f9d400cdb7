//! The record of one exchange: an allow-list of fields, pseudonymous, with a version. No raw username, address, code,
//! token, cookie or query ever enters it.
//!
//! Between records there are [marks](mark), lines about the log itself: who reads records passes them over ([`is_mark`]).

/// How lines are tied together.
pub mod chain;

/// The lines in their order.
pub mod journal;

/// Lines about the log itself.
pub mod mark;

/// Records as events of another schema.
pub mod ocsf;

/// Names that can be forgotten.
pub mod people;

/// The keys as they are kept.
pub mod seal;

/// Whether a log is as it was written.
pub mod verify;

use serde::Deserialize;
use serde::Serialize;
use std::borrow::Cow;

/// The version of the record's schema. It grows when a field changes its meaning or goes away.
pub const AUDIT_SCHEMA: u32 = 2;

/// A word of a fixed vocabulary: borrowed from the program where it is written, owned where it was read.
pub type Word = Cow<'static, str>;

/// What is recorded of one exchange.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// [`AUDIT_SCHEMA`].
    pub schema: u32,
    /// Counts the records of one boot of a node from 1. What is missing was lost, and a mark says so. Set by the sink.
    pub seq: u64,
    /// When the exchange began, RFC 3339 in UTC with milliseconds.
    pub time: String,
    /// The id of exchange and decision.
    pub id: String,
    /// `scored`, `passed`, `resource`, `blocked`, `own` or `unknown`; `operator`, `review` and `rollout` for what operators
    /// do, and what becomes of it.
    pub class: Word,
    /// The door, when it is a scored one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub door: Option<Word>,
    /// The route pattern: a bounded set, never the raw path.
    pub route: String,
    /// The method, when it is a known one.
    pub method: Word,
    /// The tenant domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The organization id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// The OAuth client id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The grant type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant_type: Option<String>,
    /// How an access token at an API route was checked: `jwt` or `introspection`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Word>,
    /// The id of the decision under which that token was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_decision: Option<String>,
    /// The pseudonym of user or service account: in the log another one than elsewhere, which can be forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The pseudonym of the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The /24 or /48.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// ISO 3166 country code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The autonomous system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// Its organization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_org: Option<String>,
    /// The kind of network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Word>,
    /// Browser and major version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub browser: Option<String>,
    /// Operating system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// The kind of device or program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_kind: Option<Word>,
    /// JA4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ja4: Option<String>,
    /// The HTTP fingerprint in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_fingerprint: Option<String>,
    /// `known`, `none` or `foreign`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Word>,
    /// Whether the request itself names the user.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub named: bool,
    /// Whether the account has logged in before.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub known: bool,
    /// How many confirmed logins of it are remembered.
    #[serde(default, skip_serializing_if = "is_none")]
    pub logins: u32,
    /// Whether it is a break-glass account.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub break_glass: bool,
    /// Whether a session that is known was presented at the authorize door.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub session: bool,
    /// `response_type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_type: Option<String>,
    /// `prompt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// `acr_values`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr_values: Option<String>,
    /// `login`, `token` or `m2m`: whose features and model were used. A kind without a model of its own is `login`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Word>,
    /// The version of the feature schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_schema: Option<u32>,
    /// The feature vector in the order of the schema; missing values are null.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<Option<f32>>,
    /// `scored`, `unscored` or `off`; absent where nothing is scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Word>,
    /// The score, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<u8>,
    /// The probability behind it, for recomputing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f32>,
    /// `low`, `medium` or `high`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Word>,
    /// Which rung of the ladder answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Word>,
    /// Why no better rung did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Word>,
    /// Contributions in log-odds, in the order of the schema.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contributions: Vec<f32>,
    /// What the score would have been without each of the first reasons, for a score that was not low.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counterfactuals: Vec<AuditCounterfactual>,
    /// The version of the challenger, where one was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub challenger_model: Option<String>,
    /// Its score, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub challenger_score: Option<u8>,
    /// What policy would have said to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub challenger_verdict: Option<Word>,
    /// Reason codes, strongest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Word>,
    /// Of these, those of the decision that the score is from, where it is from one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inherited_reasons: Vec<Word>,
    /// The first scores that are medium and high, for this tenant and application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<[u8; 2]>,
    /// How many requests had no score of late, in percent, where this one had none either.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub unscored_percent: u8,
    /// What stood beside the policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standing: Vec<Word>,
    /// The verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Word>,
    /// What showed as long as the name was not proved, where that was another verdict: what a name that nobody has gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Word>,
    /// The score behind it, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown_score: Option<u8>,
    /// What happened to a demand for a stronger factor: `raised` by this request, or `outstanding` from before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demand: Option<Word>,
    /// Where the outstanding demands that bound it are kept: `browser`, `source`, `user`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub demand_scopes: Vec<Word>,
    /// The rule or default that gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched: Option<String>,
    /// Rules that failed at run time and were passed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped_rules: Vec<String>,
    /// `off`, `monitor`, `advise` or `enforce`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Word>,
    /// What was done: `forwarded`, `redirected`, `rejected` and the kind.
    pub action: Word,
    /// Why it was forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grounds: Option<Word>,
    /// The status that the client got; 0 when none was sent.
    pub response_status: u16,
    /// How the attempt ended.
    pub outcome: Word,
    /// Whether an answer that had to prove a stronger factor did: `proven`, or why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Word>,
    /// What became of tokens that were withheld: `revoked`, `sessions_ended`, `barred`, `none` (nothing was issued) or
    /// `pending`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<Word>,
    /// What WSO2 was told to do with the tokens while it issued them, by its actions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_actions: Vec<Word>,
    /// Whether the subject's profile learnt from it.
    pub learnt: bool,
    /// What was wrong with a request that was refused before scoring: a code, never its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Word>,
    /// The id of the held login that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub review: Option<String>,
    /// What became of it: `held`, `expected`, `used`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub review_state: Option<Word>,
    /// The operator who decided, as named on the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Why, in the operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What a stage of the rollout was before: mode and percentage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_from: Option<String>,
    /// What it is now, or is asked to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_to: Option<String>,
    /// The id of the decision of which an operator has said what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labelled: Option<String>,
    /// Which policy was in the file before an operator wrote another: its SHA-256 in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_from: Option<String>,
    /// Which one is since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_to: Option<String>,
    /// The version of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Which file that was: the first 16 hexadecimal digits of its SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_digest: Option<String>,
    /// The version of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The version of the configuration snapshot.
    pub config: u64,
    /// Microseconds.
    pub timing: AuditTiming,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde calls"
)]
fn is_unset(flag: &bool) -> bool {
    !flag
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde calls"
)]
fn is_none(count: &u32) -> bool {
    *count == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde calls"
)]
fn is_nothing(percent: &u8) -> bool {
    *percent == 0
}

/// Whether a line is a mark and no record.
pub fn is_mark(line: &[u8]) -> bool {
    line.starts_with(mark::MARK_START)
}

/// A score without one reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AuditCounterfactual {
    /// The code of the reason that is taken away.
    pub without: Word,
    /// The score that is left, 0 to 100.
    pub score: u8,
}

/// Where the time went, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AuditTiming {
    /// Reading the state.
    pub state: u64,
    /// Features and model.
    pub score: u64,
    /// From the first byte to the decision, reading the body included.
    pub decision: u64,
    /// The whole exchange.
    pub total: u64,
}
