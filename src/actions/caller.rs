//! Who may ask: whoever has the shared secret. WSO2 sends it in one of three ways (`BEARER`, `BASIC`, `API_KEY` of an
//! action's endpoint; the same three of `httpPost` in a script); the gateway takes each. A webhook signs its body with it.

use crate::domain::hex;
use crate::domain::mac::hmac_sha256;
use crate::domain::secret::Secret;
use arc_swap::ArcSwap;
use axum::http::HeaderMap;
use axum::http::header;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::Mac;
use sha2::Digest;
use sha2::Sha256;
use std::sync::Arc;

/// The user name of `BASIC`.
pub const USER: &str = "wso2";
/// The header of `API_KEY`.
pub const API_KEY_HEADER: &str = "x-api-key";
/// The header of a webhook's signature.
pub const SIGNATURE_HEADER: &str = "x-hub-signature";
/// The shortest secret, in bytes.
pub const SECRET_BYTES_MIN: usize = 32;

/// Whether a caller is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Caller {
    /// It has shown the secret.
    Known,
    /// It has not.
    Unknown,
}

/// The secrets that are accepted: the present one and, while it is being exchanged, the one before.
#[derive(Debug)]
pub struct Callers(Vec<Accepted>);

/// Those of the moment. A call is judged by the ones that it met.
pub type CurrentCallers = Arc<ArcSwap<Callers>>;

#[derive(Debug)]
struct Accepted {
    secret: Secret<String>,
    digest: Secret<[u8; 32]>,
}

impl Callers {
    /// Accepts these secrets.
    pub fn new(secrets: &[Secret<String>]) -> Self {
        let accepted = secrets.iter().map(|secret| Accepted {
            secret: secret.clone(),
            digest: Secret::new(digest(secret.expose().as_bytes())),
        });
        Self(accepted.collect())
    }

    /// Whether these are the secrets that are accepted.
    pub fn accept_just(&self, secrets: &[Secret<String>]) -> bool {
        self.0.iter().map(|accepted| &accepted.secret).eq(secrets)
    }

    /// Whether a webhook's body is signed with the secret: `X-Hub-Signature: sha256=` and the HMAC-SHA-256 in hexadecimal
    /// (WebSub, W3C Recommendation, section 7), once.
    pub fn recognise_signed(&self, headers: &HeaderMap, body: &[u8]) -> Caller {
        let mut shown = headers.get_all(SIGNATURE_HEADER).iter();
        let (Some(shown), None) = (shown.next(), shown.next()) else {
            return Caller::Unknown;
        };
        let hexadecimal = shown.as_bytes().strip_prefix(b"sha256=");
        let signature = hexadecimal.map(<[u8]>::to_ascii_lowercase);
        let Some(signature) = signature.and_then(|digits| hex::decode::<32>(&digits)) else {
            return Caller::Unknown;
        };
        let is_signed = |accepted: &Accepted| {
            let mac = hmac_sha256(accepted.secret.expose().as_bytes()).chain_update(body);
            // Compares to the end, whatever differs.
            mac.verify_slice(&signature).is_ok()
        };
        if self.0.iter().any(is_signed) {
            Caller::Known
        } else {
            Caller::Unknown
        }
    }

    /// Whether a request shows the secret. A request with two credentials is not known: which of them counts would be a
    /// matter of taste.
    pub fn recognise(&self, headers: &HeaderMap) -> Caller {
        let mut shown = headers
            .get_all(header::AUTHORIZATION)
            .iter()
            .map(|value| value.to_str().ok().and_then(presented))
            .chain(
                headers
                    .get_all(API_KEY_HEADER)
                    .iter()
                    .map(|value| value.to_str().ok().map(str::to_owned)),
            );
        match (shown.next(), shown.next()) {
            (Some(Some(secret)), None) if self.accepts(&secret) => Caller::Known,
            _ => Caller::Unknown,
        }
    }

    /// Digests of equal length are compared, all of them and to their ends: how long it takes says nothing.
    fn accepts(&self, secret: &str) -> bool {
        let shown = digest(secret.as_bytes());
        self.0.iter().fold(false, |known, accepted| {
            let differing = accepted
                .digest
                .expose()
                .iter()
                .zip(shown)
                .fold(0, |differing, (one, other)| differing | (one ^ other));
            known | (differing == 0)
        })
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The secret in an `Authorization` header (RFC 6750 section 2.1, RFC 7617).
fn presented(value: &str) -> Option<String> {
    let (scheme, credentials) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(credentials.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    (user == USER).then(|| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;
    use axum::http::HeaderValue;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn recognised(headers: &[(&str, &str)]) -> bool {
        let callers = Callers::new(&[
            Secret::new(SECRET.to_owned()),
            Secret::new("the one before, which is long enough".to_owned()),
        ]);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        callers.recognise(&map) == Caller::Known
    }

    #[test]
    fn each_of_wso2s_ways_is_taken() {
        let basic = format!("Basic {}", STANDARD.encode(format!("wso2:{SECRET}")));
        assert!(recognised(&[(
            "authorization",
            &format!("Bearer {SECRET}")
        )]));
        assert!(recognised(&[("authorization", &basic)]));
        assert!(recognised(&[("X-API-Key", SECRET)]));
        assert!(recognised(&[(
            "x-api-key",
            "the one before, which is long enough"
        )]));
    }

    #[test]
    fn a_webhook_signs_its_body() {
        let callers = Callers::new(&[
            Secret::new(SECRET.to_owned()),
            Secret::new("the one before, which is long enough".to_owned()),
        ]);
        let signed = |secret: &str, body: &[u8]| {
            let mac = hmac_sha256(secret.as_bytes());
            let tag = mac.chain_update(body).finalize().into_bytes();
            format!("sha256={}", hex::encode(&tag))
        };
        let known = |values: &[&str]| {
            let mut map = HeaderMap::new();
            for value in values {
                map.append(SIGNATURE_HEADER, HeaderValue::from_str(value).unwrap());
            }
            callers.recognise_signed(&map, b"body") == Caller::Known
        };
        let good = signed(SECRET, b"body");
        assert!(known(&[&good]));
        assert!(known(&[&signed(
            "the one before, which is long enough",
            b"body"
        )]));
        let bare = good.trim_start_matches("sha256=");
        for wrong in [
            vec![],
            vec![""],
            vec!["sha256="],
            vec![bare],
            vec![&good[..good.len() - 2]],
            vec![&signed(SECRET, b"other")],
            vec![&signed("another secret of the same length", b"body")],
            vec![&good.replace("sha256", "sha1")],
            vec![&good, &good],
        ] {
            assert!(!known(&wrong), "{wrong:?}");
        }
    }

    #[test]
    fn nobody_else_is_known() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let other_user = basic(&format!("admin:{SECRET}"));
        let no_colon = basic(SECRET);
        for headers in [
            vec![],
            vec![("authorization", "")],
            vec![("authorization", "Bearer")],
            vec![("authorization", "Bearer ")],
            vec![("authorization", "Bearer 0123456789abcdef0123456789abcdeX")],
            vec![("authorization", "Bearer 0123456789abcdef")],
            vec![("authorization", SECRET)],
            vec![("authorization", "Digest 0123456789abcdef0123456789abcdef")],
            vec![("authorization", other_user.as_str())],
            vec![("authorization", no_colon.as_str())],
            vec![("authorization", "Basic ***")],
            vec![("x-api-key", "")],
            vec![("x-api-key", SECRET), ("x-api-key", SECRET)],
            vec![("x-api-key", SECRET), ("authorization", "Bearer x")],
        ] {
            assert!(!recognised(&headers), "{headers:?}");
        }
    }
}
