//! The cookies that a browser brings: WSO2's session and the gateway's own device cookie.
//!
//! The device cookie proves that this browser has taken part in a confirmed login before. It holds a random id and the
//! pseudonyms of the last subjects, is authenticated with HMAC-SHA-256 and can be checked without any state.

use crate::domain::ids::Pseudonym;
use crate::domain::ids::SubjectKey;
use crate::domain::mac::HmacSha256;
use crate::domain::mac::hmac_sha256;
use crate::domain::time::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use std::fmt;

/// The name of the device cookie. The prefix binds it to this host and to TLS (RFC 6265bis section 4.1.3.2).
pub const DEVICE_COOKIE: &str = "__Host-rg_device";
/// The name of WSO2's session cookie.
pub const SESSION_COOKIE: &str = "commonAuthId";
/// How long a browser keeps the device cookie, in seconds: as long as a profile is kept.
pub const DEVICE_COOKIE_SECONDS: u64 = 180 * 24 * 3600;

const VERSION: u8 = 2;
/// Named its subjects by the first half of their pseudonyms: enough to know them again.
const VERSION_SHORT: u8 = 1;
const SUBJECTS_MAX: usize = 4;
const MAC_BYTES: usize = 16;

/// What the device cookie says once its signature is checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeviceToken {
    /// The random id of the browser.
    pub device: [u8; 16],
    /// Since when the cookie speaks for all of its subjects: when the latest of them was added.
    pub issued: Timestamp,
    /// The subjects that last logged in with it, latest first. Of those in an old cookie only the first half is known, the
    /// rest is zero.
    pub subjects: Vec<SubjectKey>,
}

/// The device cookie as it arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DeviceCookie {
    /// None was sent.
    Absent,
    /// One was sent whose signature or form is wrong, or two were.
    Forged,
    /// The connection is not known to be secure, so that a browser could not have sent one.
    Unsendable,
    /// A genuine one.
    Valid(DeviceToken),
}

/// Signs and checks device cookies.
#[derive(Clone)]
pub struct DeviceCookieKey {
    mac: HmacSha256,
    previous: Option<Box<DeviceCookieKey>>,
}

impl DeviceToken {
    /// Whether `subject` has logged in with this browser lately.
    pub fn names(&self, subject: SubjectKey) -> bool {
        let hash = subject.0.value_hash();
        self.subjects
            .iter()
            .any(|known| known.0.value_hash() == hash)
    }

    /// The token after one more login of `subject`. It grows no younger by logins of those whom it knows.
    pub fn with_subject(mut self, subject: SubjectKey, now: Timestamp) -> Self {
        if !self.names(subject) {
            self.issued = now;
        }
        let hash = subject.0.value_hash();
        self.subjects.retain(|known| known.0.value_hash() != hash);
        self.subjects.insert(0, subject);
        self.subjects.truncate(SUBJECTS_MAX);
        self
    }
}

impl DeviceCookieKey {
    /// A key from secret bytes.
    pub fn new(key: &[u8]) -> Self {
        Self {
            mac: hmac_sha256(key),
            previous: None,
        }
    }

    /// The same, opening what the secret before this one signed as well.
    pub fn with_previous(mut self, previous: Option<&[u8]>) -> Self {
        self.previous = previous.map(|key| Box::new(Self::new(key)));
        self
    }

    /// The value of the cookie for `token`.
    pub fn seal(&self, token: &DeviceToken) -> String {
        let mut bytes = Vec::with_capacity(1 + 16 + 8 + SUBJECTS_MAX * 16 + MAC_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&token.device);
        bytes.extend_from_slice(&token.issued.millis().to_be_bytes());
        for subject in token.subjects.iter().take(SUBJECTS_MAX) {
            bytes.extend_from_slice(subject.0.as_bytes());
        }
        let tag = self.tag(&bytes);
        bytes.extend_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Checks and reads a cookie value.
    pub fn open(&self, value: &str) -> Option<DeviceToken> {
        const ENCODED_BYTES_MAX: usize = 192;
        if value.len() > ENCODED_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
        let (body, tag) = bytes.split_at_checked(bytes.len().checked_sub(MAC_BYTES)?)?;
        let mut mac = self.mac.clone();
        mac.update(body);
        if mac.verify_truncated_left(tag).is_err() {
            return self.previous.as_ref()?.open(value);
        }
        let (version, rest) = body.split_first()?;
        let (device, rest) = rest.split_first_chunk::<16>()?;
        let (issued, subjects) = rest.split_first_chunk::<8>()?;
        let subjects = match *version {
            VERSION => keys(subjects.as_chunks::<16>()),
            VERSION_SHORT => keys(subjects.as_chunks::<8>()),
            _ => None,
        }?;
        (subjects.len() <= SUBJECTS_MAX).then(|| DeviceToken {
            device: *device,
            issued: Timestamp(i64::from_be_bytes(*issued)),
            subjects,
        })
    }

    fn tag(&self, body: &[u8]) -> [u8; MAC_BYTES] {
        let mut mac = self.mac.clone();
        mac.update(body);
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        let mut short = [0; MAC_BYTES];
        for (to, from) in short.iter_mut().zip(full) {
            *to = from;
        }
        short
    }
}

/// Subjects by their pseudonyms or the first bytes of them; `None` when something is left over.
fn keys<const N: usize>((chunks, remainder): (&[[u8; N]], &[u8])) -> Option<Vec<SubjectKey>> {
    let key = |chunk: &[u8; N]| {
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(chunk) {
            *to = *from;
        }
        SubjectKey(Pseudonym::from_bytes(bytes))
    };
    remainder
        .is_empty()
        .then(|| chunks.iter().map(key).collect())
}

impl fmt::Debug for DeviceCookieKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceCookieKey(…)")
    }
}

/// The values of every cookie named `name`, over all Cookie headers (HTTP/2 may split them), as Tomcat reads them: it passes
/// over a cookie whose form is wrong and goes on with the next one, so that this must not take it for the first either.
pub fn cookie_values<'a>(
    headers: &'a http::HeaderMap,
    name: &'a str,
) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(http::header::COOKIE)
        .iter()
        .flat_map(|header| header.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|text| cookie(text, name.as_bytes()))
        // Bytes that are no text name no session, and are a cookie nevertheless.
        .map(|value| std::str::from_utf8(value).unwrap_or_default())
}

/// Whether a Cookie header says which form it has, by which Tomcat reads the old one (RFC 2109): cookies are parted there by
/// commas too, so that it sees others than [`cookie_values`] does.
pub fn has_version(header: &http::HeaderValue) -> bool {
    const VERSION: &[u8] = b"$version";
    let header = header.as_bytes().trim_ascii_start();
    header
        .split_at_checked(VERSION.len())
        .is_some_and(|(name, rest)| {
            name.eq_ignore_ascii_case(VERSION) && rest.trim_ascii_start().starts_with(b"=")
        })
}

/// The value of a cookie, if it has that name and the form that Tomcat takes.
fn cookie<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = split_while(text.trim_ascii(), is_token);
    if found != name {
        return None;
    }
    let rest = rest.trim_ascii_start();
    if rest.is_empty() {
        return Some(rest);
    }
    let rest = rest.strip_prefix(b"=")?.trim_ascii_start();
    let quoted = rest.strip_prefix(b"\"");
    let (value, rest) = split_while(quoted.unwrap_or(rest), is_cookie_octet);
    let is_closed = rest.is_empty() || (quoted.is_some() && rest == b"\"");
    is_closed.then_some(value)
}

fn split_while(text: &[u8], takes: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !takes(*byte));
    text.split_at_checked(end.unwrap_or(text.len()))
        .unwrap_or_default()
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 6265 section 4.1.1, and UTF-8.
fn is_cookie_octet(byte: u8) -> bool {
    byte > b' ' && !b"\",;\\\x7F".contains(&byte)
}

/// The device cookie of a request. `secure` says whether the browser's connection is known to be TLS.
pub fn device_cookie(
    headers: &http::HeaderMap,
    key: &DeviceCookieKey,
    secure: bool,
) -> DeviceCookie {
    let mut values = cookie_values(headers, DEVICE_COOKIE);
    match (values.next(), values.next()) {
        (None, _) if !secure => DeviceCookie::Unsendable,
        (None, _) => DeviceCookie::Absent,
        // A browser holds one cookie of a `__Host-` name; two are an attempt to shadow it.
        (Some(_), Some(_)) => DeviceCookie::Forged,
        (Some(value), None) => key
            .open(value)
            .map_or(DeviceCookie::Forged, DeviceCookie::Valid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Pseudonymizer;

    fn token() -> DeviceToken {
        DeviceToken {
            device: [7; 16],
            issued: Timestamp(1_700_000_000_000),
            subjects: [1, 2]
                .map(|n| SubjectKey(Pseudonym::from_bytes([n; 16])))
                .to_vec(),
        }
    }

    #[test]
    fn a_sealed_token_opens_again() {
        let key = DeviceCookieKey::new(b"k");
        assert_eq!(key.open(&key.seal(&token())), Some(token()));
    }

    #[test]
    fn an_old_cookie_still_names_its_subjects() {
        let key = DeviceCookieKey::new(b"k");
        let mut body = vec![VERSION_SHORT];
        body.extend([7; 16]);
        body.extend(1_700_000_000_000_i64.to_be_bytes());
        let alice = Pseudonymizer::new(b"k").user("t", "alice");
        body.extend(alice.0.value_hash().to_be_bytes());
        let tag = key.tag(&body);
        body.extend(tag);
        let token = key.open(&URL_SAFE_NO_PAD.encode(&body)).unwrap();
        assert!(token.names(alice));
        // The next login writes the new form.
        let token = token.with_subject(alice, Timestamp(9));
        assert_eq!(key.open(&key.seal(&token)), Some(token.clone()));
        assert_eq!(token.subjects, [alice]);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let key = DeviceCookieKey::new(b"k");
        let sealed = URL_SAFE_NO_PAD.decode(key.seal(&token())).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut bytes = sealed.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(&URL_SAFE_NO_PAD.encode(bytes)), None, "bit {bit}");
        }
        assert_eq!(
            DeviceCookieKey::new(b"other").open(&key.seal(&token())),
            None
        );
        assert_eq!(key.open(&"A".repeat(100_000)), None);
    }

    #[test]
    fn two_device_cookies_are_forged() {
        let key = DeviceCookieKey::new(b"k");
        let mut headers = http::HeaderMap::new();
        assert_eq!(device_cookie(&headers, &key, true), DeviceCookie::Absent);
        assert_eq!(
            device_cookie(&headers, &key, false),
            DeviceCookie::Unsendable
        );
        headers.append(
            http::header::COOKIE,
            format!("a=b; {DEVICE_COOKIE}={}", key.seal(&token()))
                .parse()
                .unwrap(),
        );
        assert_eq!(
            device_cookie(&headers, &key, true),
            DeviceCookie::Valid(token())
        );
        headers.append(
            http::header::COOKIE,
            format!("{DEVICE_COOKIE}=x").parse().unwrap(),
        );
        assert_eq!(device_cookie(&headers, &key, true), DeviceCookie::Forged);
    }

    fn sessions(fields: &[&[u8]]) -> Vec<String> {
        let mut headers = http::HeaderMap::new();
        for field in fields {
            let value = http::HeaderValue::from_bytes(field).unwrap();
            headers.append(http::header::COOKIE, value);
        }
        cookie_values(&headers, SESSION_COOKIE)
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn the_first_session_is_the_one_that_tomcat_reads() {
        for (fields, first) in [
            (&[&b"a=b;commonAuthId=1; c=d"[..]] as &[&[u8]], "1"),
            (&[b"a=b", b"commonAuthId=1"], "1"),
            (&[b"commonAuthId = \"1\" ;commonAuthId=2"], "1"),
            (&[b"commonAuthId=\"1; commonAuthId=2"], "1"),
            (&[b"commonAuthId; commonAuthId=2"], ""),
            // Another cookie that is not ASCII hides none.
            (&["a=ä; commonAuthId=1".as_bytes()], "1"),
            (&[b"a=\xFF; commonAuthId=1"], "1"),
            (&[b"commonAuthId=\xFF; commonAuthId=2"], ""),
            // One that is passed over is not the first.
            (&[b"commonAuthId=1 1; commonAuthId=2"], "2"),
            (&[b"commonAuthId=1,1; commonAuthId=2"], "2"),
            (&[b"commonAuthId=1\\1; commonAuthId=2"], "2"),
            (&[b"commonAuthId=1\"; commonAuthId=2"], "2"),
            (&[b"commonAuthId=\"1\"1; commonAuthId=2"], "2"),
            (&[b"commonAuthId=\"1\"\"", b"commonAuthId=2"], "2"),
            (&[b"commonAuthId 1=1; commonAuthId=2"], "2"),
            (&[b"(commonAuthId=1; commonAuthId=2"], "2"),
        ] {
            let seen = sessions(fields);
            assert_eq!(seen.first().map(String::as_str), Some(first), "{fields:?}");
        }
        assert!(sessions(&[b"a=commonAuthId=1; commonAuthId2=1; =commonAuthId"]).is_empty());
    }

    #[test]
    fn a_version_of_cookies_is_known() {
        for (field, has) in [
            ("$Version=1; a=b", true),
            (" $version = 0, a=b", true),
            ("a=b; $Version=1", false),
            ("$Version", false),
            ("$Versions=1", false),
            ("a=b", false),
            ("", false),
        ] {
            assert_eq!(has_version(&field.parse().unwrap()), has, "{field}");
        }
    }

    #[test]
    fn the_latest_subjects_are_kept() {
        let people = Pseudonymizer::new(b"k");
        let alice = people.user("t", "alice");
        let mut token = DeviceToken {
            device: [0; 16],
            issued: Timestamp(0),
            subjects: Vec::new(),
        };
        token = token.with_subject(alice, Timestamp(1));
        for name in ["b", "c", "d"] {
            token = token.with_subject(people.user("t", name), Timestamp(2));
        }
        assert!(token.names(alice));
        token = token.with_subject(people.user("t", "e"), Timestamp(3));
        assert!(!token.names(alice) && token.subjects.len() == SUBJECTS_MAX);
        assert_eq!(token.issued, Timestamp(3));
        let again = token.with_subject(people.user("t", "b"), Timestamp(9));
        assert_eq!(again.issued, Timestamp(3));
    }
}
