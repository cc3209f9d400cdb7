//! A request as the application sees it: first header values, cookies, merged parameters, the client address as WSO2
//! derives it. It must not know about doors.

use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::Value;

/// Headers that WSO2 takes the client address from, first present first, without asking who set them
/// (`IdentityUtil.getClientIpAddress`).
const CLIENT_IP_HEADERS: [&str; 11] = [
    "X-Forwarded-For",
    "Proxy-Client-IP",
    "WL-Proxy-Client-IP",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED",
    "HTTP_X_CLUSTER_CLIENT_IP",
    "HTTP_CLIENT_IP",
    "HTTP_FORWARDED_FOR",
    "HTTP_FORWARDED",
    "HTTP_VIA",
    "REMOTE_ADDR",
];

/// Parameters that the specifications let a client repeat (RFC 8707 section 2, RFC 8693 section 2.1).
const REPEATABLE: [&str; 2] = ["audience", "resource"];

/// A request after the wire.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    pub(crate) peer: SocketAddr,
    pub(crate) client_certificate: Option<Bytes>,
}

impl Request {
    /// The first occurrence of a header, as `HttpServletRequest.getHeader` gives it.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The first cookie of that name.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case("cookie"))
            .flat_map(|(_, value)| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// The client address as WSO2 derives it; any client can choose it.
    pub(crate) fn client_ip(&self) -> String {
        CLIENT_IP_HEADERS
            .iter()
            .filter_map(|name| self.header(name))
            .find(|value| !value.is_empty() && !value.eq_ignore_ascii_case("unknown"))
            .and_then(|value| value.split(',').next())
            .map_or_else(|| self.peer.ip().to_string(), |ip| ip.trim().to_owned())
    }

    pub(crate) fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The media type without parameters, lower case; empty when missing.
    pub(crate) fn media_type(&self) -> String {
        self.header("content-type")
            .and_then(|value| value.split(';').next())
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
    }

    /// User and password of HTTP Basic; `None` when absent or unreadable.
    pub(crate) fn basic_credentials(&self) -> Option<(String, String)> {
        let text = self.authorization("basic")?;
        let bytes =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (user, password) = text.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    }

    /// The token of `Authorization: Bearer`.
    pub(crate) fn bearer_token(&self) -> Option<&str> {
        self.authorization("bearer")
    }

    fn authorization(&self, scheme: &str) -> Option<&str> {
        let (found, rest) = self.header("authorization")?.split_once(' ')?;
        found.eq_ignore_ascii_case(scheme).then(|| rest.trim())
    }

    /// Parameters of query and body together, as a servlet merges them; `None` for a body that is neither a form nor a JSON
    /// object (an absent body is fine).
    pub(crate) fn params(&self) -> Option<Params> {
        let mut items = pairs(self.query().as_bytes());
        let query_len = items.len();
        if !self.body.is_empty() {
            match self.media_type().as_str() {
                "application/x-www-form-urlencoded" => items.extend(pairs(&self.body)),
                "application/json" => items.extend(json_pairs(&self.body)?),
                _ => return None,
            }
        }
        Some(Params { items, query_len })
    }
}

/// Request parameters in order; the first of a name wins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params {
    items: Vec<(String, String)>,
    query_len: usize,
}

impl Params {
    pub(crate) fn from_items(items: Vec<(String, String)>) -> Self {
        let query_len = items.len();
        Self { items, query_len }
    }

    /// The first value of a name; a blank value counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.items
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.trim().is_empty())
    }

    pub(crate) fn get_owned(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    pub(crate) fn has_in_query(&self, name: &str) -> bool {
        self.items
            .iter()
            .take(self.query_len)
            .any(|(known, _)| known == name)
    }

    /// Whether a name that must be single occurs more than once, in query and body together.
    pub(crate) fn has_repeated(&self) -> bool {
        let mut names: Vec<&str> = self
            .items
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !REPEATABLE.contains(name))
            .collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair.first() == pair.last())
    }

    pub(crate) fn items(&self) -> &[(String, String)] {
        &self.items
    }
}

/// Name and value pairs of a form.
fn pairs(bytes: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(bytes)
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

fn json_pairs(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Some(
        value
            .as_object()?
            .iter()
            .flat_map(|(name, value)| match value {
                Value::Array(values) => values
                    .iter()
                    .map(|value| (name.clone(), text(value)))
                    .collect(),
                other => vec![(name.clone(), text(other))],
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn request(target: &str, headers: &[(&str, &str)], body: &str) -> Request {
        Request {
            method: "POST".to_owned(),
            target: target.to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: Bytes::from(body.to_owned()),
            peer: SocketAddr::from(([192, 0, 2, 7], 4000)),
            client_certificate: None,
        }
    }

    const FORM: (&str, &str) = (
        "content-type",
        "application/x-www-form-urlencoded; charset=UTF-8",
    );

    #[test]
    fn the_client_address_is_whatever_the_first_header_says() {
        let ip = |headers: &[(&str, &str)]| request("/", headers, "").client_ip();
        assert_eq!(ip(&[]), "192.0.2.7");
        assert_eq!(
            ip(&[("x-forwarded-for", "6.6.6.6, 203.0.113.9")]),
            "6.6.6.6"
        );
        assert_eq!(
            ip(&[("REMOTE_ADDR", "5.5.5.5"), ("Proxy-Client-IP", "4.4.4.4")]),
            "4.4.4.4"
        );
        assert_eq!(
            ip(&[("X-Forwarded-For", "unknown"), ("HTTP_VIA", "7.7.7.7")]),
            "7.7.7.7"
        );
    }

    #[test]
    fn query_and_body_are_one_set() {
        let params = request("/t?a=1&scope=x", &[FORM], "a=2&b=&resource=x&resource=y")
            .params()
            .unwrap();
        assert_eq!(params.get("a"), Some("1"));
        assert_eq!(params.get("b"), None);
        assert!(params.has_repeated());
        assert!(params.has_in_query("a") && !params.has_in_query("b"));
        let fine = request("/t", &[FORM], "resource=x&resource=y")
            .params()
            .unwrap();
        assert!(!fine.has_repeated());
    }

    #[test]
    fn json_members_are_parameters_and_other_bodies_are_none() {
        let json = ("content-type", "application/json");
        let params = request("/t", &[json], r#"{"a":"x","n":5,"l":["p","q"]}"#)
            .params()
            .unwrap();
        assert_eq!((params.get("a"), params.get("n")), (Some("x"), Some("5")));
        assert!(params.has_repeated());
        assert!(request("/t", &[json], "[1]").params().is_none());
        assert!(request("/t", &[json], "{").params().is_none());
        assert!(
            request("/t", &[("content-type", "text/xml")], "<a/>")
                .params()
                .is_none()
        );
    }

    #[test]
    fn basic_credentials_may_hold_colons_and_garbage_is_none() {
        let basic = |value: &str| request("/", &[("authorization", value)], "").basic_credentials();
        assert_eq!(
            basic("basic YTpiOmM="),
            Some(("a".to_owned(), "b:c".to_owned()))
        );
        assert_eq!(basic("Basic !!"), None);
        assert_eq!(basic("Basic"), None);
        assert_eq!(basic("Bearer x"), None);
    }
}
