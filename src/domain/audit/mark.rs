//! Marks: the lines of an audit log that are about the log itself. They are chained like records, and most are signed.
//!
//! The keys that sign go forward as well: each signed mark names the public key of the next one, and its own private key is
//! given up as soon as it has signed. The first key of a boot is named by the boot before, that of boot 0 is the log's
//! public key. So a signature vouches, to anybody who holds the public key, for every line before it, and nobody who takes
//! over the machine later can make it again. (A chain of certificates is the simplest forward-secure signature scheme:
//! Bellare and Miner, "A Forward-Secure Digital Signature Scheme", CRYPTO 1999, section 2.)

use crate::domain::audit::AUDIT_SCHEMA;
use crate::domain::audit::chain::Chain;
use crate::domain::audit::chain::HASH_BYTES;
use crate::domain::audit::chain::Place;
use crate::domain::audit::chain::SIGNATURE_BYTES;
use crate::domain::hex;
use crate::domain::printable;
use aws_lc_rs::signature::ED25519;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use aws_lc_rs::signature::UnparsedPublicKey;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;
use std::fmt;

/// How every mark begins, and no record.
pub const MARK_START: &[u8] = b"{\"mark\":\"";

/// What a mark says.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkKind {
    /// Vouches for all lines before it. Signed.
    Checkpoint,
    /// The first line of a chain in a new file.
    Continued,
    /// The last line of a chain: nothing was in the queue any more. Signed.
    Ended,
    /// The keys of people's pseudonyms have changed: somebody was erased.
    Erased,
    /// Records were lost: their numbers, `from` to `to`, are in no line.
    Gap,
    /// An old file was removed.
    Retired,
    /// The last line of a chain in a file that is full or old enough. Signed.
    Rotated,
    /// The first line of a chain. Signed.
    Started,
    /// Parts of lines are in the file before this one: writing them broke off.
    Torn,
}

/// Part of a line that could not be written as a whole.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Fragment {
    /// Its bytes, without the line feed that was set behind it.
    pub bytes: u64,
    /// Their SHA-256.
    pub sha256: String,
}

/// A line about the log.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// What it says.
    pub mark: MarkKind,
    /// [`AUDIT_SCHEMA`].
    pub schema: u32,
    /// The number of the last record before it, lost ones included.
    pub seq: u64,
    /// When it was made, RFC 3339 in UTC with milliseconds.
    pub time: String,
    /// Records of this chain in the log before it.
    pub records: u64,
    /// Records of this chain that were lost before it.
    pub lost: u64,
    /// The public key of the signature, Ed25519, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The public key of the next signature in this chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_key: Option<String>,
    /// The public key of the first signature of the next boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_boot_key: Option<String>,
    /// The last line that was there when this boot began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Place>,
    /// The fragments right before it, each ended by a line feed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub torn: Vec<Fragment>,
    /// The first number of a gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// The last number of a gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// The file that was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The last line of that file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Place>,
    /// How many people were erased so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<u64>,
    /// The version of riskgate that writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// A private key that signs one mark.
pub struct Signer {
    pair: Ed25519KeyPair,
}

/// A public key.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct PublicKey(pub [u8; HASH_BYTES]);

impl Mark {
    /// A mark that says nothing but its kind, time and counts.
    pub fn new(mark: MarkKind, time: String, seq: u64, records: u64, lost: u64) -> Self {
        Self {
            mark,
            schema: AUDIT_SCHEMA,
            seq,
            time,
            records,
            lost,
            key: None,
            next_key: None,
            next_boot_key: None,
            after: None,
            torn: Vec::new(),
            from: None,
            to: None,
            file: None,
            removed: None,
            erased: None,
            version: None,
        }
    }

    /// Adds it to `lines` as the next line of `chain`, signed by `signer` if there is one.
    ///
    /// # Errors
    /// It cannot be written as JSON, which happens to no mark.
    pub fn add(
        &self,
        lines: &mut Vec<u8>,
        chain: &mut Chain,
        signer: Option<&Signer>,
    ) -> Result<(), serde_json::Error> {
        let start = lines.len();
        lines.extend_from_slice(printable::json(self)?.as_bytes());
        match signer {
            Some(signer) => chain.add(lines, start, Some(&|over| signer.sign(over))),
            None => chain.add(lines, start, None),
        }
        Ok(())
    }
}

impl Fragment {
    /// What is said of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.len() as u64,
            sha256: hex::encode(&Sha256::digest(bytes)),
        }
    }
}

impl Signer {
    /// A key from 32 random bytes (RFC 8032 section 5.1.5); `None` when the library does not take them.
    pub fn of_seed(seed: &[u8; HASH_BYTES]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        Some(Self { pair })
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        let mut key = [0; HASH_BYTES];
        for (to, from) in key.iter_mut().zip(self.pair.public_key().as_ref()) {
            *to = *from;
        }
        PublicKey(key)
    }

    fn sign(&self, over: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let signature = self.pair.sign(over);
        let mut bytes = [0; SIGNATURE_BYTES];
        for (to, from) in bytes.iter_mut().zip(signature.as_ref()) {
            *to = *from;
        }
        bytes
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public())
    }
}

impl PublicKey {
    /// A key from its 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        hex::decode(text.as_bytes()).map(Self)
    }

    /// Whether the signature is by its private key.
    pub fn verifies(&self, over: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(over, signature)
            .is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
