//! Tokens of the identity server, signed anew with the risk in them, and had back as they were.
//!
//! The claims are added as text at the end of the payload, so that cutting them off again gives the payload back byte for
//! byte; the header and the signature that go with it travel sealed in a claim of their own. What a token was can so be told
//! from the token alone, without a memory (docs/adr/0014-the-way-back-travels-with-the-token.md). Nothing is signed that the
//! identity server has not signed before, and nothing is cut that the gateway has not signed.

/// What travels with a token, sealed.
pub mod origin;

use crate::domain::json_text::Change;
use crate::domain::json_text::ObjectText;
use crate::domain::json_text::changed;
use crate::domain::jwt::KeySet;
use crate::domain::jwt::TOKEN_BYTES_MAX;
use crate::domain::risk_claims::RISK_CLAIMS;
use crate::domain::risk_claims::RiskClaims;
use crate::domain::signing::SigningAlgorithm;
use crate::domain::signing::SigningKey;
use crate::domain::signing::SigningKeys;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use origin::NONCE_BYTES;
use origin::Origin;
use origin::OriginSeal;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use sha2::Digest;
use sha2::Sha256;
use sha2::Sha512;
use std::ops::Range;

/// The claim that holds what is needed for the way back, sealed for the gateway alone.
pub const RISK_ORIGIN: &str = "risk_origin";

/// How much longer a token may have become: what is added is a header, a signature and a few claims.
const GROWTH_BYTES_MAX: usize = 8 * 1024;

/// Parameters in which a token may return to the identity server: RFC 6750, 7009, 7521, 7662 and 8693, OpenID Connect Core
/// and RP-Initiated Logout.
pub const RETURNING: [&str; 6] = [
    "access_token",
    "actor_token",
    "assertion",
    "id_token_hint",
    "subject_token",
    "token",
];

/// Members of a header that speak of the key of the identity server (RFC 7515 section 4.1).
const OF_THE_KEY: [&str; 7] = ["jku", "jwk", "kid", "x5c", "x5t", "x5t#S256", "x5u"];

/// With what a token answer is signed anew.
#[derive(Clone, Copy, Debug)]
pub struct Resigning<'a> {
    /// The keys of the identity server.
    pub theirs: &'a KeySet,
    /// Our own.
    pub ours: Ours<'a>,
    /// The algorithm of access tokens; `None` for the one that each has.
    pub algorithm: Option<SigningAlgorithm>,
    /// Chance for the seals: that of the access token and that of the ID token.
    pub nonces: [[u8; NONCE_BYTES]; 2],
}

/// Our own keys.
#[derive(Clone, Copy, Debug)]
pub struct Ours<'a> {
    /// With which tokens are signed.
    pub keys: &'a SigningKeys,
    /// With which the way back is sealed.
    pub seal: &'a OriginSeal,
}

/// Why an answer stays as it is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Untouched {
    /// There is no key of ours for the algorithm of a token.
    Algorithm,
    /// The access token is bound to a key of the client (RFC 9449), whose proofs name its hash.
    Bound,
    /// It says something of the risk already.
    Claimed,
    /// The ID token is encrypted, signed with a shared secret or otherwise not to be signed by us.
    IdToken,
    /// The identity server publishes no key for it.
    KeyUnknown,
    /// The answer or a token in it cannot be read, or not in exactly one way.
    Malformed,
    /// The access token is opaque or encrypted.
    Opaque,
    /// Our key did not sign.
    Signing,
    /// The signature is not the identity server's.
    Unverified,
}

/// What a header names.
#[derive(Deserialize)]
struct Named {
    alg: String,
    kid: String,
}

/// A signed JWT, taken apart.
struct Signed<'a> {
    /// Header and payload, as they are signed.
    message: &'a str,
    header: &'a str,
    signature: &'a str,
    members: Map<String, Value>,
    payload: Vec<u8>,
}

impl Untouched {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Algorithm,
        Self::Bound,
        Self::Claimed,
        Self::IdToken,
        Self::KeyUnknown,
        Self::Malformed,
        Self::Opaque,
        Self::Signing,
        Self::Unverified,
    ];

    /// The reason as it is written in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Algorithm => "algorithm",
            Self::Bound => "bound",
            Self::Claimed => "claimed",
            Self::IdToken => "id_token",
            Self::KeyUnknown => "key_unknown",
            Self::Malformed => "malformed",
            Self::Opaque => "opaque",
            Self::Signing => "signing",
            Self::Unverified => "unverified",
        }
    }
}

impl Resigning<'_> {
    /// A token answer (RFC 6749 section 5.1) whose access token tells the risk and whose ID token, if there is one, has the
    /// hash of that access token. Everything else stays byte for byte.
    ///
    /// # Errors
    /// Why the answer must stay as it is, the whole of it.
    pub fn answer(&self, body: &[u8], risk: &RiskClaims) -> Result<String, Untouched> {
        let object = ObjectText::read(body).ok_or(Untouched::Malformed)?;
        let text = std::str::from_utf8(body).map_err(|_| Untouched::Malformed)?;
        let (token, place) = object.plain("access_token").ok_or(Untouched::Malformed)?;
        let kind = object.plain("token_type").map(|(kind, _)| kind);
        if kind.is_some_and(|kind| kind.eq_ignore_ascii_case("DPoP")) {
            return Err(Untouched::Bound);
        }
        let new = self.access_token(token, risk)?;
        let mut changes: Vec<Change> = Vec::new();
        if object.contains("id_token") {
            let (id_token, place) = object.plain("id_token").ok_or(Untouched::Malformed)?;
            let changed = self.id_token(id_token, token, &new)?;
            changes.extend(changed.map(|id_token| (place, id_token)));
        }
        changes.push((place, new));
        changed(text, changes).ok_or(Untouched::Malformed)
    }

    fn access_token(&self, token: &str, risk: &RiskClaims) -> Result<String, Untouched> {
        let signed = Signed::read(token, TOKEN_BYTES_MAX).ok_or(Untouched::Opaque)?;
        let payload = ObjectText::read(&signed.payload).ok_or(Untouched::Malformed)?;
        let is_claimed = |name: &&str| payload.contains(name);
        if RISK_CLAIMS.iter().any(is_claimed) || payload.contains(RISK_ORIGIN) {
            return Err(Untouched::Claimed);
        }
        if let Some(range) = payload.range("cnf") {
            let confirmation = signed.payload.get(range).unwrap_or_default();
            let confirmation = ObjectText::read(confirmation).ok_or(Untouched::Malformed)?;
            if confirmation.contains("jkt") {
                return Err(Untouched::Bound);
            }
        }
        signed.verify(self.theirs)?;
        let algorithm = self.algorithm.or_else(|| signed.algorithm());
        let key = algorithm.and_then(|algorithm| self.ours.keys.current(algorithm));
        let key = key.ok_or(Untouched::Algorithm)?;
        let members: Vec<_> = risk
            .members()
            .map(|(name, value)| (name, value.to_string()))
            .collect();
        let [nonce, _] = &self.nonces;
        signed.with(key, (self.ours.seal, nonce), &payload, members, None)
    }

    /// The ID token with the hash of the new access token; `None` when it has no hash of the old one and stays.
    fn id_token(&self, token: &str, old: &str, new: &str) -> Result<Option<String>, Untouched> {
        let signed = Signed::read(token, TOKEN_BYTES_MAX).ok_or(Untouched::IdToken)?;
        let payload = ObjectText::read(&signed.payload).ok_or(Untouched::Malformed)?;
        if payload.contains(RISK_ORIGIN) {
            return Err(Untouched::Claimed);
        }
        if !payload.contains("at_hash") {
            return Ok(None);
        }
        // A hash that is computed with a hash that we do not know, or whose signature we could not replace, stays right
        // only with the old access token.
        let algorithm = signed.algorithm().ok_or(Untouched::IdToken)?;
        let key = self
            .ours
            .keys
            .current(algorithm)
            .ok_or(Untouched::Algorithm)?;
        let (at_hash, place) = payload.plain("at_hash").ok_or(Untouched::IdToken)?;
        if at_hash != half_hash(algorithm, old) {
            return Err(Untouched::IdToken);
        }
        signed.verify(self.theirs)?;
        let hash = half_hash(algorithm, new);
        let [_, nonce] = &self.nonces;
        let seal = (self.ours.seal, nonce);
        signed
            .with(
                key,
                seal,
                &payload,
                Vec::new(),
                Some((place, at_hash, hash)),
            )
            .map(Some)
    }
}

/// The access token of a token answer.
pub fn access_token(body: &[u8]) -> Option<&str> {
    ObjectText::read(body)?
        .plain("access_token")
        .map(|(token, _)| token)
}

impl Ours<'_> {
    /// Whether a token says that it is signed with a key of ours; nothing is verified.
    pub fn are_named(&self, token: &str) -> bool {
        let named = || {
            let (header, _) = token.split_once('.')?;
            let header = URL_SAFE_NO_PAD.decode(header).ok()?;
            let header: Named = serde_json::from_slice(&header).ok()?;
            self.keys
                .verifier(&header.kid, SigningAlgorithm::named(&header.alg)?)
        };
        token.len() <= TOKEN_BYTES_MAX + GROWTH_BYTES_MAX && named().is_some()
    }

    /// The token as the identity server has signed it; `None` for one that the gateway has not signed.
    pub fn restored(&self, token: &str) -> Option<String> {
        let signed = Signed::read(token, TOKEN_BYTES_MAX + GROWTH_BYTES_MAX)?;
        let id = signed.members.get("kid")?.as_str()?;
        let key = self.keys.verifier(id, signed.algorithm()?)?;
        let payload = ObjectText::read(&signed.payload)?;
        let (sealed, _) = payload.plain(RISK_ORIGIN)?;
        if !key.verifies(signed.message, signed.signature) {
            return None;
        }
        let origin = self.seal.open(sealed)?;
        let text = std::str::from_utf8(&signed.payload).ok()?;
        let mut changes = vec![(origin.cut..payload.end(), String::new())];
        if let Some((at, hash)) = origin.hash {
            let end = at
                .checked_add(hash.len())
                .filter(|end| *end <= origin.cut)?;
            changes.push((at..end, hash));
        }
        let encoded = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
        Some(format!(
            "{}.{}.{}",
            encoded(&origin.header),
            encoded(changed(text, changes)?.as_bytes()),
            encoded(&origin.signature)
        ))
    }

    /// The value of an `Authorization` header (RFC 6750 section 2.1) with the token as the identity server has signed it.
    pub fn authorization(&self, value: &str) -> Option<String> {
        let (scheme, token) = value.split_once(' ')?;
        let takes = |name: &str| scheme.eq_ignore_ascii_case(name);
        if !takes("Bearer") && !takes("DPoP") {
            return None;
        }
        let token = self.restored(token.trim())?;
        Some(format!("{scheme} {token}"))
    }

    /// A query or form (`application/x-www-form-urlencoded`) with the tokens in [`RETURNING`] as the identity server has
    /// signed them; `None` when none of them is ours. Everything else stays byte for byte.
    pub fn pairs(&self, text: &str) -> Option<String> {
        let mut is_changed = false;
        let pairs: Vec<String> = text
            .split('&')
            .map(|pair| match self.pair(pair) {
                Some(changed) => {
                    is_changed = true;
                    changed
                }
                None => pair.to_owned(),
            })
            .collect();
        is_changed.then(|| pairs.join("&"))
    }

    fn pair(&self, pair: &str) -> Option<String> {
        let (name, token) = form_urlencoded::parse(pair.as_bytes()).next()?;
        let returns = RETURNING.contains(&name.as_ref());
        let token = returns.then(|| self.restored(&token)).flatten()?;
        Some(format!("{}={token}", pair.split('=').next()?))
    }

    /// The same for a JSON object.
    pub fn members(&self, body: &[u8]) -> Option<String> {
        let object = ObjectText::read(body)?;
        let found = RETURNING.iter().filter_map(|name| {
            let (token, place) = object.plain(name)?;
            Some((place, self.restored(token)?))
        });
        let found: Vec<Change> = found.collect();
        let text = std::str::from_utf8(body).ok()?;
        (!found.is_empty()).then(|| changed(text, found)).flatten()
    }
}

impl<'a> Signed<'a> {
    /// Takes a token apart; nothing is verified. `None` when it is not three parts, of which the first is a JSON header
    /// without extensions that must be understood.
    fn read(token: &'a str, longest: usize) -> Option<Self> {
        if token.len() > longest {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        if payload.contains('.') || signature.is_empty() {
            return None;
        }
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let head = decoded(header)?;
        ObjectText::read(&head)?;
        let members: Map<String, Value> = serde_json::from_slice(&head).ok()?;
        if ["b64", "crit", "enc"]
            .iter()
            .any(|name| members.contains_key(*name))
        {
            return None;
        }
        // What is no text would read as if it were not there.
        let is_text = |name: &&str| members.get(*name).is_none_or(Value::is_string);
        if !["alg", "kid", "typ"].iter().all(is_text) {
            return None;
        }
        decoded(signature)?;
        Some(Self {
            message,
            header,
            signature,
            members,
            payload: decoded(payload)?,
        })
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name)?.as_str()
    }

    /// Its algorithm, if it is one of ours.
    fn algorithm(&self) -> Option<SigningAlgorithm> {
        SigningAlgorithm::named(self.text("alg")?)
    }

    /// Whether it is signed with a published key. A shared secret is never one.
    fn verify(&self, keys: &KeySet) -> Result<(), Untouched> {
        let algorithm = self.text("alg").and_then(|name| name.parse().ok());
        let algorithm: Algorithm = algorithm.ok_or(Untouched::Unverified)?;
        let mut found = keys.find(self.text("kid"), algorithm).peekable();
        if found.peek().is_none() {
            return Err(Untouched::KeyUnknown);
        }
        let message = self.message.as_bytes();
        let verifies = |key| {
            jsonwebtoken::crypto::verify(self.signature, message, key, algorithm).unwrap_or(false)
        };
        if found.any(verifies) {
            Ok(())
        } else {
            Err(Untouched::Unverified)
        }
    }

    /// The token under another key, with further members, the way back, and perhaps another hash in the place of one.
    fn with(
        &self,
        key: &SigningKey,
        (seal, nonce): (&OriginSeal, &[u8; NONCE_BYTES]),
        payload: &ObjectText<'_>,
        members: Vec<(&'static str, String)>,
        hash: Option<(Range<usize>, &str, String)>,
    ) -> Result<String, Untouched> {
        let text = std::str::from_utf8(&self.payload).map_err(|_| Untouched::Malformed)?;
        let decoded = |part: &str| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| Untouched::Malformed)
        };
        let mut origin = Origin {
            cut: payload.end(),
            header: decoded(self.header)?,
            signature: decoded(self.signature)?,
            hash: None,
        };
        let mut changes: Vec<Change> = Vec::new();
        if let Some((place, old, new)) = hash {
            // Lengths that stay keep the places that are noted.
            if old.len() != new.len() {
                return Err(Untouched::IdToken);
            }
            origin.hash = Some((place.start, old.to_owned()));
            changes.push((place, new));
        }
        let sealed = seal.seal(&origin, nonce).ok_or(Untouched::Signing)?;
        let sealed = (RISK_ORIGIN, Value::from(sealed).to_string());
        let mut added = String::new();
        for (number, (name, value)) in members.into_iter().chain([sealed]).enumerate() {
            if number > 0 || !payload.is_empty() {
                added.push(',');
            }
            added.push_str(&format!("\"{name}\":{value}"));
        }
        changes.push((origin.cut..origin.cut, added));
        let payload = changed(text, changes).ok_or(Untouched::Malformed)?;
        let mut header = self.members.clone();
        header.retain(|name, _| !OF_THE_KEY.contains(&name.as_str()));
        key.seal(header, payload.as_bytes())
            .map_err(|_| Untouched::Signing)
    }
}

/// The left half of the hash of a token, with the hash of the signature's algorithm (OpenID Connect Core section 3.1.3.6;
/// for Ed25519 it is SHA-512).
fn half_hash(algorithm: SigningAlgorithm, token: &str) -> String {
    let hash = match algorithm {
        SigningAlgorithm::Es256 | SigningAlgorithm::Rs256 => Sha256::digest(token).to_vec(),
        SigningAlgorithm::EdDsa => Sha512::digest(token).to_vec(),
    };
    URL_SAFE_NO_PAD.encode(hash.get(..hash.len() / 2).unwrap_or_default())
}

#[cfg(test)]
mod tests;
