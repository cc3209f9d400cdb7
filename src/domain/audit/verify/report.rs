//! What a check of an audit log has found.

use serde::Serialize;
use std::fmt;

/// Findings that are kept; the others are counted.
pub const FINDINGS_MAX: usize = 1_000;

/// What is wrong at a place.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// These are not the bytes that were written.
    Changed,
    /// The beginning or the end of a chain is not there.
    Cut,
    /// The line is not where it was written, or is there twice.
    Displaced,
    /// The line was not written by this log.
    Foreign,
    /// The signature is not by the key that has to sign.
    Forged,
    /// Numbers of records do not add up.
    Miscounted,
    /// Lines that were written are not there.
    Missing,
    /// The signatures follow from no key that is trusted.
    Unvouched,
}

/// Something that is wrong.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// The line in it, counted from 1.
    pub line: u64,
    /// The node that the line names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The boot that the line names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<u64>,
    /// Its number in the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// The number of the record, or of the last one before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// What is wrong.
    pub wrong: Wrong,
    /// The same in a sentence.
    pub says: String,
}

/// How a chain ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With its own word that it ends.
    Clean,
    /// Without; the next boot has found it so. The process was killed, or the machine failed.
    Crashed,
    /// Without, and there is no next boot: the gateway runs, or the end was cut off.
    Open,
}

/// What vouches for a chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Voucher {
    /// The auditor's key: every line was checked with it.
    Key,
    /// No key that was given: only that it agrees with itself.
    Nothing,
    /// A public key: every line up to the last signature.
    PublicKey,
}

/// One chain.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ChainReport {
    /// The node.
    pub node: String,
    /// The boot.
    pub boot: u64,
    /// The first and the last line.
    pub lines: (u64, u64),
    /// The number of its last record, lost ones included.
    pub last_seq: u64,
    /// Records.
    pub records: u64,
    /// Records that were lost, by its own word.
    pub lost: u64,
    /// Lines after the last signature.
    pub unsigned: u64,
    /// How it ends.
    pub end: End,
    /// What vouches for it.
    pub vouched_by: Voucher,
}

/// Everything that was found.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Report {
    /// Files.
    pub files: u64,
    /// Lines.
    pub lines: u64,
    /// Records among them.
    pub records: u64,
    /// Records from before there was a chain: nothing can be said about them.
    pub unchained: u64,
    /// Records that were lost, by the log's own word.
    pub lost: u64,
    /// The chains, by node and boot.
    pub chains: Vec<ChainReport>,
    /// What is wrong, in the order in which it was met.
    pub findings: Vec<Finding>,
    /// How much is wrong, findings that were not kept included.
    pub wrong: u64,
    /// What to know.
    pub notes: Vec<String>,
    /// Files of the log that nothing was read of, such as packed ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
}

impl Wrong {
    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Cut => "cut",
            Self::Displaced => "displaced",
            Self::Foreign => "foreign",
            Self::Forged => "forged",
            Self::Miscounted => "miscounted",
            Self::Missing => "missing",
            Self::Unvouched => "unvouched",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.wrong.as_str())?;
        if let (Some(node), Some(boot), Some(n)) = (&self.node, self.boot, self.n) {
            write!(f, " ({node}, boot {boot}, n {n}")?;
            if let Some(seq) = self.seq {
                write!(f, ", seq {seq}")?;
            }
            f.write_str(")")?;
        }
        write!(f, ": {}", self.says)
    }
}

impl Report {
    /// Whether everything was read and nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.wrong == 0 && self.unread.is_empty()
    }
}
