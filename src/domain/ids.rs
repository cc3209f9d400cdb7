//! Names of things, pseudonymised. Nothing here can be turned back into a username or an address without the key.

use crate::domain::mac::HmacSha256;
use crate::domain::mac::hmac_sha256;
use hmac::Mac;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use unicode_normalization::UnicodeNormalization;

/// The id of one exchange: a UUID version 7 (RFC 9562), so that ids sort by time. It is the decision id as well and
/// what WSO2 receives as `activityid`.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct RequestId(String);

/// A 128-bit keyed pseudonym, printed as 32 hexadecimal digits.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Pseudonym([u8; 16]);

/// Whose history a request touches: a user within the tenant or organization, a client (service account) within its tenant.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct SubjectKey(pub Pseudonym);

/// The first 64 bits of a pseudonym: enough to tell the few values of one subject apart, small enough for a profile.
pub type ValueHash = u64;

/// What a pseudonym is made of. The tag separates the spaces: a username never meets an equal client id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NameSpace {
    /// Whose an account is: the `sub` of its tokens, or the NameID of its assertions.
    Account,
    /// A network address, as its canonical text.
    Address,
    /// A browser and its version.
    Agent,
    /// What a held login is bound to: the id in its browser's cookie, or where it came from.
    Browser,
    /// An autonomous system number.
    AutonomousSystem,
    /// An OAuth client id.
    Client,
    /// An ISO 3166 country code.
    Country,
    /// What a demand is kept under.
    Demand,
    /// The id inside a device cookie.
    Device,
    /// A language tag.
    Language,
    /// A code, token, session or flow key of WSO2.
    Link,
    /// An operating system and kind of device.
    Platform,
    /// A /24 or /48.
    Prefix,
    /// The key of a proof of possession (RFC 9449), as the head of the proof shows it.
    ProofKey,
    /// A scope (RFC 6749 section 3.3).
    Scope,
    /// A tenant domain.
    Tenant,
    /// A TLS fingerprint (JA4).
    TlsFingerprint,
    /// A canonical username.
    User,
}

/// Makes pseudonyms: HMAC-SHA-256 (RFC 2104) over length-prefixed fields, so that no two tuples share an input.
///
/// While the secret is being exchanged it knows the previous one as well: see [`Pseudonymizer::previous`].
#[derive(Clone)]
pub struct Pseudonymizer {
    mac: HmacSha256,
    previous: Option<Box<Pseudonymizer>>,
}

impl RequestId {
    /// Wraps an id that the gateway has made.
    pub fn new(id: String) -> Self {
        Self(id)
    }

    /// The id as text: lower-case hexadecimal with hyphens.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Pseudonym {
    /// A pseudonym from its stored bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes as stored.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The first eight bytes as a number.
    pub fn value_hash(&self) -> ValueHash {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl NameSpace {
    fn tag(self) -> u8 {
        match self {
            Self::Account => b'e',
            Self::Address => b'a',
            Self::Agent => b'g',
            Self::Browser => b'b',
            Self::AutonomousSystem => b'n',
            Self::Client => b'c',
            Self::Country => b'k',
            Self::Demand => b'm',
            Self::Device => b'd',
            Self::Language => b'l',
            Self::Link => b'x',
            Self::Platform => b'o',
            Self::Prefix => b'p',
            Self::ProofKey => b'q',
            Self::Scope => b's',
            Self::Tenant => b't',
            Self::TlsFingerprint => b'f',
            Self::User => b'u',
        }
    }
}

impl Pseudonymizer {
    /// A pseudonymizer with a secret of any length (32 random bytes are what the gateway generates).
    pub fn new(key: &[u8]) -> Self {
        Self {
            mac: hmac_sha256(key),
            previous: None,
        }
    }

    /// The same, with the secret before this one.
    pub fn with_previous(mut self, previous: Option<&[u8]>) -> Self {
        self.previous = previous.map(|key| Box::new(Self::new(key)));
        self
    }

    /// Makes the names under which things were kept before the secret was exchanged; `None` when it is not being
    /// exchanged.
    pub fn previous(&self) -> Option<&Pseudonymizer> {
        self.previous.as_deref()
    }

    /// The pseudonym of `fields` within `space`.
    pub fn pseudonym(&self, space: NameSpace, fields: &[&[u8]]) -> Pseudonym {
        let mut mac = self.mac.clone();
        mac.update(&[space.tag()]);
        for field in fields {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field);
        }
        let digest: [u8; 32] = mac.finalize().into_bytes().into();
        let mut short = [0; 16];
        for (to, from) in short.iter_mut().zip(digest) {
            *to = from;
        }
        Pseudonym(short)
    }

    /// The key of a user: the domain ([`user_domain`](crate::domain::target::user_domain)) and the canonical form of the
    /// username.
    pub fn user(&self, domain: &str, username: &str) -> SubjectKey {
        let canonical = canonical_username(domain, username);
        SubjectKey(self.pseudonym(NameSpace::User, &[domain.as_bytes(), canonical.as_bytes()]))
    }

    /// The key of an account of a domain, by what the identity server calls it in what it issues. Applications may be told
    /// different names of one account, and are then different accounts here.
    pub fn account(&self, domain: &str, told: &str) -> SubjectKey {
        SubjectKey(self.pseudonym(NameSpace::Account, &[domain.as_bytes(), told.as_bytes()]))
    }

    /// The key of a client acting for itself.
    pub fn client(&self, tenant: &str, client_id: &str) -> SubjectKey {
        SubjectKey(self.pseudonym(
            NameSpace::Client,
            &[tenant.as_bytes(), client_id.as_bytes()],
        ))
    }

    /// The short hash of one value, for profiles and counters.
    pub fn value(&self, space: NameSpace, value: &[u8]) -> ValueHash {
        self.pseudonym(space, &[value]).value_hash()
    }
}

impl fmt::Debug for Pseudonymizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonymizer(…)")
    }
}

/// The form under which WSO2's user stores would find the same user: NFC, lower case, without the domain as its suffix and
/// without the name of the primary user store, and without white space around it or between it and these: directories
/// and databases take no notice of that at the ends of a name.
pub fn canonical_username(domain: &str, username: &str) -> String {
    const PRIMARY: &str = "primary/";
    let name = username.trim();
    // Nearly every name is ASCII, and has one form.
    let mut folded = if name.is_ascii() {
        name.to_ascii_lowercase()
    } else {
        name.nfc().collect::<String>().to_lowercase()
    };
    if folded.contains('@') {
        let domain = domain.to_lowercase();
        let user = folded.strip_suffix(domain.as_str());
        if let Some(user) = user.and_then(|user| user.strip_suffix('@')) {
            folded.truncate(user.trim_end().len());
        }
    }
    if let Some(user) = folded.strip_prefix(PRIMARY) {
        let before = folded.len() - user.trim_start().len();
        folded.drain(..before);
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_together() {
        let p = Pseudonymizer::new(b"key");
        let one = p.pseudonym(NameSpace::User, &[b"a|b", b"c"]);
        let two = p.pseudonym(NameSpace::User, &[b"a", b"b|c"]);
        let three = p.pseudonym(NameSpace::Client, &[b"a", b"b|c"]);
        assert_ne!(one, two);
        assert_ne!(two, three);
    }

    #[test]
    fn spellings_of_one_user_share_a_key() {
        let p = Pseudonymizer::new(b"key");
        let alice = p.user("carbon.super", "alice");
        for spelling in [
            "Alice",
            " alice ",
            "alice@carbon.super",
            "PRIMARY/alice",
            "primary/ALICE@carbon.super",
            "\u{3000}alice@Carbon.Super\u{a0}",
            "alice @carbon.super",
            "PRIMARY/ alice",
            " primary/\talice\u{a0}@Carbon.Super ",
        ] {
            assert_eq!(p.user("carbon.super", spelling), alice, "{spelling}");
        }
        assert_eq!(p.user("t", "ren\u{e9}"), p.user("t", "rene\u{301}"));
        assert_ne!(p.user("other", "alice"), alice);
        // An address of e-mail is a name of its own.
        assert_eq!(canonical_username("t", "A@Example.com"), "a@example.com");
        assert_eq!(canonical_username("t", "A@b@T"), "a@b");
        assert_eq!(canonical_username("t", "at"), "at");
        assert_eq!(canonical_username("T\u{c9}", "x@t\u{e9}"), "x");
    }

    #[test]
    fn debug_never_prints_the_key() {
        assert!(!format!("{:?}", Pseudonymizer::new(b"canary-secret")).contains("canary"));
    }
}
