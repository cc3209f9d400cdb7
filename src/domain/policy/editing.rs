//! How operators change the policy: what is wrong with a draft, on which line; the versions that were in the file; what a
//! replay of a draft has found. Knows no path and no clock.

/// Where a place of a message is in the text.
pub mod lines;

use crate::domain::hex;
use crate::domain::policy::POLICY_BYTES_MAX;
use crate::domain::policy::PolicySet;
use crate::domain::policy::document::PolicyError;
use crate::domain::policy::editing::lines::line_of;
use crate::domain::policy::lint::Severity;
use crate::domain::printable::acts;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

/// Versions that are kept, the one in the file included.
pub const VERSIONS_MAX: usize = 50;
/// The longest note, in characters.
pub const NOTE_CHARS_MAX: usize = 500;
/// The longest history file, in bytes: what the most versions need.
pub const HISTORY_BYTES_MAX: u64 = 512 * 1024;

/// What the checker says about one part of a draft.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// Whether the draft cannot be used so.
    pub is_error: bool,
    /// On which line, from 1, where that can be told.
    pub line: Option<usize>,
    /// Where: a key or a rule.
    pub place: String,
    /// What was found.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

/// One version of the file.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// SHA-256 of the text, in hexadecimal.
    pub digest: String,
    /// When it came into the file, RFC 3339 in UTC; of one that was found there, when it was found.
    pub time: String,
    /// How.
    pub how: How,
    /// The operator; none for a version that was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// How a version came into the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It was there, and not by the console.
    Found,
    /// It was written in the console.
    Saved,
    /// An earlier version was put back in the console.
    Restored,
}

/// The versions, the latest last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// At most [`VERSIONS_MAX`].
    pub version: Vec<Version>,
}

/// What the records say about a draft.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replayed {
    /// Decisions that were given again.
    pub decisions: u64,
    /// Whether there were more records than were looked at.
    pub is_cut: bool,
    /// Decisions that could not be given again.
    pub left_out: u64,
    /// The first hour and the last one.
    pub hours: Option<[String; 2]>,
    /// How many get stricter.
    pub stricter: u64,
    /// How many get milder.
    pub milder: u64,
    /// The share that is not simply let through, as recorded: 0 to 1.
    pub challenged_before: f64,
    /// And by the draft.
    pub challenged_after: f64,
    /// Verdicts that change: before, after, how many.
    pub changes: Vec<(String, String, u64)>,
    /// Applications in which most changes: name, decisions, stricter, milder.
    pub applications: Vec<(String, u64, u64, u64)>,
    /// Some decisions that change: id, time, before, after, what speaks then.
    pub examples: Vec<[String; 5]>,
    /// Break-glass accounts that would not get in.
    pub break_glass: u64,
    /// Those of them that did as recorded: the draft locks them out.
    pub break_glass_new: u64,
    /// Users who would be refused or held and were not before.
    pub refused: u64,
    /// Users who would be asked for a factor, were not before, and of whom none was seen.
    pub without_factor: u64,
    /// Whether more than twice as many would be challenged, of enough to tell.
    pub doubles: bool,
}

impl How {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Saved => "saved",
            Self::Restored => "restored",
        }
    }
}

impl Versions {
    /// Reads the file of a history.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let history: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let is_digest =
            |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match history.version.iter().find(|one| !is_digest(&one.digest)) {
            Some(_) => Err("a digest is none".to_owned()),
            None => Ok(history),
        }
    }

    /// As the file has it.
    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Notes what came into the file; the oldest version goes when there are too many.
    pub fn add(&mut self, version: Version) {
        self.version.push(version);
        let over = self.version.len().saturating_sub(VERSIONS_MAX);
        self.version.drain(..over);
    }

    /// The latest version of this text.
    pub fn find(&self, digest: &str) -> Option<&Version> {
        self.version.iter().rev().find(|one| one.digest == digest)
    }
}

/// SHA-256 of a text, in hexadecimal. Its first 16 digits are the version that decisions name.
pub fn digest_of(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes()))
}

/// A draft as a form sends it: with the ends of lines of a file.
pub fn from_form(text: &str) -> String {
    text.replace("\r\n", "\n")
}

/// A digest as it is shown, and as [`PolicySet::version`] has it.
pub fn short(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
}

/// What the checker of `riskgate check` says, with lines, and the policy where it can be read. `present` is the one in the
/// file: break-glass accounts that the draft no longer names are pointed out.
pub fn check(text: &str, present: Option<&PolicySet>) -> (Option<PolicySet>, Vec<Finding>) {
    let mut findings = Vec::new();
    let invisible = |c: char| acts(c) && !matches!(c, '\n' | '\t' | '\r');
    if text.len() <= POLICY_BYTES_MAX
        && let Some((at, c)) = text.char_indices().find(|(_, c)| invisible(*c))
    {
        let line = text
            .get(..at)
            .map(|before| before.matches('\n').count() + 1);
        findings.push(Finding {
            is_error: true,
            line,
            place: "the file".to_owned(),
            problem: format!("has the invisible character `{}`", c.escape_unicode()),
            remedy: "remove it, or write it in TOML's form `\\u....`".to_owned(),
        });
    }
    let policy = match PolicySet::parse(text) {
        Ok(policy) => policy,
        Err(errors) => {
            findings.extend(errors.0.into_iter().map(|error| mistake(text, error)));
            return (None, findings);
        }
    };
    findings.extend(policy.lint().into_iter().map(|found| {
        let place = found.rule.map(|rule| format!("rule `{rule}`"));
        Finding {
            is_error: found.severity == Severity::Error,
            line: place.as_ref().and_then(|place| line_of(text, place)),
            place: place.unwrap_or_else(|| "the policy".to_owned()),
            problem: found.problem,
            remedy: found.remedy,
        }
    }));
    if let Some(present) = present {
        let named = policy.break_glass().accounts();
        let before = present.break_glass().accounts();
        let gone = before.iter().filter(|account| !named.contains(account));
        let gone: Vec<&str> = gone.map(|account| account.name.as_str()).collect();
        if !gone.is_empty() {
            findings.push(Finding {
                is_error: false,
                line: line_of(text, "key `break_glass`"),
                place: "key `break_glass`".to_owned(),
                problem: format!("no longer names {}", gone.join(", ")),
                remedy: "make sure that nobody depends on it".to_owned(),
            });
        }
    }
    findings.sort_by_key(|finding| !finding.is_error);
    (Some(policy), findings)
}

fn mistake(text: &str, error: PolicyError) -> Finding {
    Finding {
        is_error: true,
        line: line_of(text, &error.place),
        place: error.place,
        problem: error.problem,
        remedy: error.remedy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "version = 1\nbreak_glass = [\"admin\"]\n\n[[rule]]\nname = \"a\"\nwhen = \"true\"\nverdict = \"allow\"\n";

    fn version(digest: &str) -> Version {
        Version {
            digest: digest.to_owned(),
            time: "2026-11-26T10:00:00.000Z".to_owned(),
            how: How::Saved,
            operator: Some("ada".to_owned()),
            note: "a <b>note</b>".to_owned(),
        }
    }

    #[test]
    fn a_history_is_bounded_and_comes_back() {
        let mut history = Versions::default();
        for number in 0..VERSIONS_MAX + 3 {
            history.add(version(&digest_of(&number.to_string())));
        }
        assert_eq!(history.version.len(), VERSIONS_MAX);
        assert!(history.find(&digest_of("2")).is_none());
        assert!(history.find(&digest_of("3")).is_some());
        let text = history.to_text();
        assert!((text.len() as u64) < HISTORY_BYTES_MAX);
        assert_eq!(Versions::parse(&text), Ok(history));
        for bad in [
            "",
            "{}",
            "{\"version\":1}",
            "{\"version\":[{\"digest\":\"../../x\",\"time\":\"\",\"how\":\"saved\"}]}",
        ] {
            assert!(Versions::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_draft_has_its_line() {
        let (policy, findings) = check(GOOD, None);
        assert_eq!(
            digest_of(GOOD).get(..16),
            policy.as_ref().map(|policy| &**policy.version())
        );
        assert!(findings.iter().all(|one| !one.is_error), "{findings:?}");
        let (none, findings) = check(&GOOD.replace("allow", "maybe"), None);
        assert!(none.is_none());
        assert!(
            findings[0].is_error && findings[0].line == Some(7),
            "{findings:?}"
        );
        // Valid TOML, and nobody would see it.
        let (_, findings) = check(
            &GOOD.replace("version = 1\n", "version = 1\n# \u{202e}\n"),
            None,
        );
        assert!(
            findings[0].is_error && findings[0].line == Some(2),
            "{findings:?}"
        );
        let long = format!("{GOOD}{}", "#".repeat(POLICY_BYTES_MAX));
        assert!(check(&long, None).1[0].problem.contains("bytes"));
    }

    #[test]
    fn an_account_that_is_no_longer_named_is_pointed_out() {
        let present = PolicySet::parse(GOOD).unwrap();
        let without = GOOD.replace("break_glass = [\"admin\"]\n", "");
        let (_, findings) = check(&without, Some(&present));
        let found = findings
            .iter()
            .any(|one| one.problem.contains("no longer names admin"));
        assert!(found, "{findings:?}");
        assert!(
            check(GOOD, Some(&present))
                .1
                .iter()
                .all(|one| one.place != "key `break_glass`")
        );
    }

    #[test]
    fn ends_of_lines_are_those_of_a_file() {
        assert_eq!(from_form("a\r\nb\nc\r\n"), "a\nb\nc\n");
    }
}
