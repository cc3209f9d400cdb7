//! The chain of an audit log: each line carries the hash of the line before it and a MAC under a key that is used once.
//!
//! A chain is what one node writes from one start to its end (its *boot*). A line is a JSON object whose last member is
//! `chain`, and whose bytes end in exactly this form:
//!
//! ```text
//! ...,"chain":{"node":"NODE","boot":B,"n":N,"prev":"P"[,"signature":"S"],"mac":"M"}}
//! ```
//!
//! `N` counts the lines of the chain from 0. With `T` the bytes of the line up to `,"mac":` and `K(N)` the key of the line:
//!
//! - `M = HMAC-SHA-256(K(N), SHA-256(T))`
//! - the *link* of the line is `SHA-256(SHA-256(T) || M)`, and `P` is the link of line `N-1` (zeros for the first)
//! - `S` is an Ed25519 signature (RFC 8032) over the bytes of the line up to `,"signature":`
//!
//! The keys go forward only (`K(N+1)` is a hash of `K(N)`), and each is given up once its line is made: whoever takes over
//! the machine finds keys for lines to come and none for lines that are written. This is the scheme of Schneier and Kelsey,
//! "Secure Audit Logs to Support Computer Forensics", ACM TISSEC 2(2), 1999, and of Bellare and Yee, "Forward Integrity for
//! Secure Audit Logs", UCSD technical report, 1997. Nothing here reads a clock, a file or chance.

use crate::domain::hex;
use crate::domain::mac::hmac_sha256;
use hmac::Mac;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;
use std::fmt;

/// Bytes of a hash, a key, a MAC.
pub const HASH_BYTES: usize = 32;
/// Bytes of an Ed25519 signature (RFC 8032 section 5.1.6).
pub const SIGNATURE_BYTES: usize = 64;
/// The longest name of a node.
pub const NODE_CHARS_MAX: usize = 64;

/// `,"mac":"` and 64 digits and `"}}`.
const TAIL_BYTES: usize = MAC_MEMBER.len() + 2 * HASH_BYTES + 3;
const CHAIN_MEMBER: &[u8] = b",\"chain\":{\"node\":\"";
const MAC_MEMBER: &[u8] = b",\"mac\":\"";
const SIGNATURE_MEMBER: &[u8] = b",\"signature\":\"";
/// The chain member of a line is at most this long, so that no more is searched for it.
const MEMBER_BYTES_MAX: usize = 640;

/// The hash that ties the next line to this one.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct Link(pub [u8; HASH_BYTES]);

/// From which the MAC keys of one boot follow, and the boot key of the next one. Whoever knows that of boot 0 knows all.
#[derive(Clone, Eq, PartialEq)]
pub struct BootKey([u8; HASH_BYTES]);

/// The MAC key of the next line.
#[derive(Clone, Eq, PartialEq)]
pub struct LineKey([u8; HASH_BYTES]);

/// The writing end of a chain. A copy is the chain as it was: who could not write a line goes back to the copy.
#[derive(Clone, Debug)]
pub struct Chain {
    node: Box<str>,
    boot: u64,
    next: u64,
    prev: Link,
    key: LineKey,
}

/// Signs bytes.
pub type Sign<'a> = &'a dyn Fn(&[u8]) -> [u8; SIGNATURE_BYTES];

/// The chain member of a line, as it is written. Nothing is known yet to be true.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claimed<'a> {
    /// The node.
    pub node: &'a str,
    /// Its start, counted from 0.
    pub boot: u64,
    /// The line within the chain, counted from 0.
    pub n: u64,
    /// The link of the line before.
    pub prev: Link,
    /// What is signed, and the signature.
    pub signed: Option<(&'a [u8], [u8; SIGNATURE_BYTES])>,
    /// The hash of everything that the MAC is over.
    pub digest: [u8; HASH_BYTES],
    /// The MAC.
    pub mac: [u8; HASH_BYTES],
}

/// A place in a chain: a line and what it must be.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The node.
    pub node: String,
    /// The boot.
    pub boot: u64,
    /// The line.
    pub n: u64,
    /// Its link.
    pub link: Link,
}

impl Link {
    /// The link of a line of which `digest` is the hash of what its MAC is over.
    fn of(digest: &[u8; HASH_BYTES], mac: &[u8; HASH_BYTES]) -> Self {
        let mut hash = Sha256::new();
        hash.update(digest);
        hash.update(mac);
        Self(hash.finalize().into())
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Link {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Link {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode(text.as_bytes())
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("expected 64 hexadecimal digits"))
    }
}

impl BootKey {
    /// The key from its bytes.
    pub fn new(bytes: [u8; HASH_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes. Each call is a place to review.
    pub fn expose(&self) -> &[u8; HASH_BYTES] {
        &self.0
    }

    /// The key of the next boot.
    pub fn next(&self) -> Self {
        Self(mac(&self.0, b"riskgate audit: next boot"))
    }

    /// The key of the boot that comes `boots` later.
    pub fn after(&self, boots: u64) -> Self {
        (0..boots).fold(self.clone(), |key, _| key.next())
    }

    /// The key of this boot's first line.
    pub fn lines(&self) -> LineKey {
        LineKey(mac(&self.0, b"riskgate audit: lines"))
    }
}

impl fmt::Debug for BootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BootKey(…)")
    }
}

impl Place {
    /// The place that a line claims to have, without its line feed; `None` when it is of no chain.
    pub fn of_line(line: &[u8]) -> Option<Self> {
        let claimed = Claimed::parse(line)?;
        Some(Self {
            node: claimed.node.to_owned(),
            boot: claimed.boot,
            n: claimed.n,
            link: claimed.link(),
        })
    }
}

impl LineKey {
    /// The MAC of a line.
    pub fn mac(&self, digest: &[u8; HASH_BYTES]) -> [u8; HASH_BYTES] {
        mac(&self.0, digest)
    }

    /// Takes the key of the next line in the place of this one, which is then nowhere.
    pub fn advance(&mut self) {
        let mut hash = Sha256::new();
        hash.update(b"riskgate audit: next line");
        hash.update(self.0);
        self.0 = hash.finalize().into();
    }
}

impl fmt::Debug for LineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LineKey(…)")
    }
}

impl Chain {
    /// The chain of a boot, before its first line. `node` must be a [`node_name`].
    pub fn begin(node: &str, boot: u64, key: &BootKey) -> Self {
        Self {
            node: node.into(),
            boot,
            next: 0,
            prev: Link::default(),
            key: key.lines(),
        }
    }

    /// Ends the object that begins at `start` of `lines` with its chain member and a line feed. Where it is to be signed,
    /// `sign` gets the bytes that the signature is over.
    pub fn add(&mut self, lines: &mut Vec<u8>, start: usize, sign: Option<Sign<'_>>) {
        // The brace that ends the object.
        lines.pop();
        lines.extend_from_slice(CHAIN_MEMBER);
        lines.extend_from_slice(self.node.as_bytes());
        lines.extend_from_slice(b"\",\"boot\":");
        push_number(lines, self.boot);
        lines.extend_from_slice(b",\"n\":");
        push_number(lines, self.next);
        lines.extend_from_slice(b",\"prev\":\"");
        hex::push(lines, &self.prev.0);
        lines.push(b'"');
        if let Some(sign) = sign {
            let signature = sign(lines.get(start..).unwrap_or_default());
            lines.extend_from_slice(SIGNATURE_MEMBER);
            hex::push(lines, &signature);
            lines.push(b'"');
        }
        let digest = Sha256::digest(lines.get(start..).unwrap_or_default()).into();
        let mac = self.key.mac(&digest);
        lines.extend_from_slice(MAC_MEMBER);
        hex::push(lines, &mac);
        lines.extend_from_slice(b"\"}}\n");
        self.prev = Link::of(&digest, &mac);
        self.next += 1;
        self.key.advance();
    }

    /// The node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The boot.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// Takes over a line that was written by a copy of this chain.
    pub(in crate::domain::audit) fn accept(&mut self, link: Link) {
        self.prev = link;
        self.next += 1;
        self.key.advance();
    }

    /// How many lines there are.
    pub fn lines(&self) -> u64 {
        self.next
    }

    /// The link of the last line.
    pub fn head(&self) -> Link {
        self.prev
    }
}

impl<'a> Claimed<'a> {
    /// Reads the chain member of a line without its line feed. `None` when its form is not exactly that of the module's
    /// description: then it was not written by [`Chain::add`].
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (body, tail) = line.split_at_checked(line.len().checked_sub(TAIL_BYTES)?)?;
        let digits = tail.strip_prefix(MAC_MEMBER)?.strip_suffix(b"\"}}")?;
        let mac = hex::decode(digits)?;
        let from = body.len().saturating_sub(MEMBER_BYTES_MAX);
        let at = find_last(body.get(from..)?, CHAIN_MEMBER)?;
        let rest = body.get(from + at + CHAIN_MEMBER.len()..)?;
        let quote = rest.iter().position(|byte| *byte == b'"')?;
        let (node, rest) = rest.split_at_checked(quote)?;
        let node = std::str::from_utf8(node)
            .ok()
            .filter(|name| node_name(name))?;
        let (boot, rest) = number(rest.strip_prefix(b"\",\"boot\":")?)?;
        let (n, rest) = number(rest.strip_prefix(b",\"n\":")?)?;
        let rest = rest.strip_prefix(b",\"prev\":\"")?;
        let (prev, rest) = rest.split_at_checked(2 * HASH_BYTES)?;
        let rest = rest.strip_prefix(b"\"")?;
        let signed = match rest {
            [] => None,
            rest => {
                let digits = rest.strip_prefix(SIGNATURE_MEMBER)?.strip_suffix(b"\"")?;
                let over = body.get(..body.len() - rest.len())?;
                Some((over, hex::decode(digits)?))
            }
        };
        Some(Self {
            node,
            boot,
            n,
            prev: Link(hex::decode(prev)?),
            signed,
            digest: Sha256::digest(body).into(),
            mac,
        })
    }

    /// The link of the line.
    pub fn link(&self) -> Link {
        Link::of(&self.digest, &self.mac)
    }
}

/// Whether a node may be called so: letters, digits, `.`, `_` and `-` of ASCII, 64 at most.
pub fn node_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.len() <= NODE_CHARS_MAX && name.bytes().all(plain)
}

fn push_number(line: &mut Vec<u8>, number: u64) {
    line.extend_from_slice(number.to_string().as_bytes());
}

/// A decimal number in its only spelling, and what follows it.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(digits)?;
    if digits.len() > 1 && digits.first() == Some(&b'0') {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((number, rest))
}

/// The number of a record, which stands second in it.
pub(in crate::domain::audit) fn record_seq(line: &[u8]) -> Option<u64> {
    let (_, rest) = number(line.strip_prefix(b"{\"schema\":")?)?;
    let (seq, rest) = number(rest.strip_prefix(b",\"seq\":")?)?;
    rest.starts_with(b",").then_some(seq)
}

fn find_last(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len())
        .rposition(|window| window == wanted)
}

fn mac(key: &[u8], message: &[u8]) -> [u8; HASH_BYTES] {
    hmac_sha256(key)
        .chain_update(message)
        .finalize()
        .into_bytes()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_it_was_written_with() {
        let key = BootKey::new([7; 32]);
        let mut chain = Chain::begin("edge-1", 3, &key);
        let mut lines = b"before\n".to_vec();
        for (place, sign) in [false, true].into_iter().enumerate() {
            let start = lines.len();
            let before = chain.head();
            lines.extend_from_slice(br#"{"a":",\"chain\":{"}"#);
            let signer = |over: &[u8]| {
                assert!(over.ends_with(b"\"") && over.starts_with(b"{\"a\""));
                [9; SIGNATURE_BYTES]
            };
            chain.add(&mut lines, start, sign.then_some(&signer));
            let line = lines[start..].strip_suffix(b"\n").unwrap();
            assert!(serde_json::from_slice::<serde_json::Value>(line).is_ok());
            let claimed = Claimed::parse(line).unwrap();
            assert_eq!((claimed.node, claimed.boot), ("edge-1", 3));
            assert_eq!((claimed.n, claimed.prev), (place as u64, before));
            assert_eq!(claimed.signed.is_some(), sign);
            assert_eq!(claimed.link(), chain.head());
            let mut expected = key.lines();
            (0..place).for_each(|_| expected.advance());
            assert_eq!(claimed.mac, expected.mac(&claimed.digest));
        }
    }

    #[test]
    fn other_spellings_are_not_read() {
        let mut line = b"{\"a\":1}".to_vec();
        Chain::begin("n", 0, &BootKey::new([1; 32])).add(&mut line, 0, None);
        line.pop();
        let text = String::from_utf8(line).unwrap();
        assert!(Claimed::parse(text.as_bytes()).is_some());
        for other in [
            text.replace("\"n\":0", "\"n\":00"),
            text.replace("\"n\":0", "\"n\": 0"),
            text.replace("\"node\":\"n\"", "\"node\":\"\\u006e\""),
            text.replace(",\"mac\":\"", ",\"mac\": \""),
            text.to_uppercase(),
            format!("{text} "),
            text[1..].to_owned() + "x",
            String::new(),
        ] {
            assert_eq!(Claimed::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn keys_go_forward_alone() {
        let first = BootKey::new([1; 32]);
        assert_eq!(first.after(2), first.next().next());
        assert_ne!(first.next().lines(), first.lines());
        assert_eq!(
            format!("{:?} {:?}", first, first.lines()),
            "BootKey(…) LineKey(…)"
        );
    }
}
