//! Header names that only the gateway may set, and those by which a client could pass for another one. They are removed
//! from every request on every route, in every spelling.
//!
//! The identity server reads a client's address from the first of eleven headers without asking who sent it, takes a
//! username and a certificate from others, and its script believes `X-Risk-*`. Some programs behind it turn `-` and `_`
//! in names into one another, so that both count as the same here.

/// Fields that belong to one connection and go no further, beside `Connection` itself and what that names
/// (RFC 9110 section 7.6.1).
pub const OF_ONE_CONNECTION: [&str; 6] = [
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The risk, 0 to 100.
pub const X_RISK_SCORE: &str = "x-risk-score";

/// `low`, `medium` or `high`.
pub const X_RISK_LEVEL: &str = "x-risk-level";

/// `allow`, `step_up`, `review` or `block`.
pub const X_RISK_VERDICT: &str = "x-risk-verdict";

/// Reason codes, separated by commas.
pub const X_RISK_REASONS: &str = "x-risk-reasons";

/// `scored`, `unscored` or `off`.
pub const X_RISK_STATUS: &str = "x-risk-status";

/// The id of the decision, by which actions and records find it again.
pub const X_RISK_DECISION_ID: &str = "x-risk-decision-id";

/// A short-lived signature over the other risk headers and the request.
pub const X_RISK_SIGNATURE: &str = "x-risk-signature";

/// A signed statement of the risk for downstream APIs.
pub const X_RISK_ASSERTION: &str = "x-risk-assertion";

/// All names of the gateway's own risk headers.
pub const RISK_HEADERS: [&str; 8] = [
    X_RISK_SCORE,
    X_RISK_LEVEL,
    X_RISK_VERDICT,
    X_RISK_REASONS,
    X_RISK_STATUS,
    X_RISK_DECISION_ID,
    X_RISK_SIGNATURE,
    X_RISK_ASSERTION,
];

/// The client's address as the gateway decided it: always exactly one.
pub const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The scheme that the client used.
pub const X_FORWARDED_PROTO: &str = "x-forwarded-proto";

/// The host that the client asked for.
pub const X_FORWARDED_HOST: &str = "x-forwarded-host";

/// The request id, which WSO2 takes over into its logs as correlation id.
pub const ACTIVITY_ID: &str = "activityid";

/// How many further names a configuration may reserve.
pub const EXTRA_HEADERS_MAX: usize = 32;

/// The longest name that can be reserved, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Fronts of reserved names, in lower case, with hyphens.
const PREFIXES: [&str; 4] = ["x-forwarded-", "x-risk-", "x-ssl-", "x-wso2-"];

/// Further reserved names, in lower case, with hyphens, in alphabetical order: what the identity server and proxies of
/// all kinds take a client's address, name, certificate, method or target from.
const NAMES: [&str; 38] = [
    "activityid",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "client-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "http-client-ip",
    "http-forwarded",
    "http-forwarded-for",
    "http-via",
    "http-x-cluster-client-ip",
    "http-x-forwarded",
    "http-x-forwarded-for",
    "proxy-client-ip",
    "remote-addr",
    "remote-host",
    "remote-user",
    "true-client-ip",
    "username",
    "wl-proxy-client-ip",
    "x-azure-clientip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-forwarded",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-forwarded-for",
    "x-original-uri",
    "x-original-url",
    "x-originating-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-user",
    "x-rewrite-url",
    "x-risk",
];

/// Names without which a request does not work; to reserve them would be a mistake.
const NEEDED: [&str; 9] = [
    "accept",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "transfer-encoding",
    "user-agent",
];

/// The shipped names with those of a configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReservedHeaders {
    names: Vec<String>,
    prefixes: Vec<String>,
}

/// A configured name that cannot be reserved.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HeaderNameError {
    /// More than [`EXTRA_HEADERS_MAX`].
    #[error("expected at most {EXTRA_HEADERS_MAX} header names, found {0}")]
    TooMany(usize),
    /// Not a header name (RFC 9110, section 5.1), or too long.
    #[error(
        "`{0}` is not a header name of at most {NAME_BYTES_MAX} characters, with an optional `*` at its end"
    )]
    Name(String),
    /// A header that requests need.
    #[error("`{0}` is needed by requests and cannot be reserved")]
    Needed(String),
}

impl ReservedHeaders {
    /// The shipped names and `extra`, each a name or the front of names with `*` at its end.
    ///
    /// # Errors
    /// Names the entry that is no header name or that would break requests.
    pub fn new(extra: &[String]) -> Result<Self, HeaderNameError> {
        if extra.len() > EXTRA_HEADERS_MAX {
            return Err(HeaderNameError::TooMany(extra.len()));
        }
        let mut reserved = Self::default();
        for entry in extra {
            let (name, is_prefix) = entry
                .strip_suffix('*')
                .map_or((entry.as_str(), false), |front| (front, true));
            let folded = name.to_ascii_lowercase().replace('_', "-");
            if name.is_empty()
                || name.len() > NAME_BYTES_MAX
                || http::HeaderName::from_bytes(name.as_bytes()).is_err()
            {
                return Err(HeaderNameError::Name(entry.clone()));
            }
            if NEEDED
                .iter()
                .any(|needed| *needed == folded || (is_prefix && needed.starts_with(&folded)))
            {
                return Err(HeaderNameError::Needed(entry.clone()));
            }
            if is_prefix {
                reserved.prefixes.push(folded);
            } else {
                reserved.names.push(folded);
            }
        }
        Ok(reserved)
    }

    /// Whether a header of this name is removed from requests.
    pub fn contains(&self, name: &str) -> bool {
        is_reserved(name)
            || self
                .names
                .iter()
                .any(|reserved| is_same(name.as_bytes(), reserved))
            || self
                .prefixes
                .iter()
                .any(|front| begins_with(name.as_bytes(), front))
    }
}

/// Whether a header of this name is removed from requests as shipped. It is called for each header of each request and
/// allocates nothing.
pub fn is_reserved(name: &str) -> bool {
    let name = name.as_bytes();
    let Some(first) = name.first().map(folded) else {
        return false;
    };
    // The list is sorted: only the names with the same first letter are compared.
    let begin = NAMES.partition_point(|reserved| reserved.as_bytes().first() < Some(&first));
    let mut alike = NAMES
        .iter()
        .skip(begin)
        .take_while(|reserved| reserved.as_bytes().first() == Some(&first));
    alike.any(|reserved| is_same(name, reserved))
        || PREFIXES.iter().any(|front| begins_with(name, front))
}

fn is_same(name: &[u8], reserved: &str) -> bool {
    name.len() == reserved.len() && begins_with(name, reserved)
}

fn begins_with(name: &[u8], front: &str) -> bool {
    name.get(..front.len())
        .is_some_and(|start| start.iter().map(folded).eq(front.bytes()))
}

/// A byte of a name without regard to case and to the difference between `-` and `_`.
fn folded(byte: &u8) -> u8 {
    if *byte == b'_' {
        b'-'
    } else {
        byte.to_ascii_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_risk_header_is_reserved() {
        for name in RISK_HEADERS {
            assert!(is_reserved(name), "{name}");
        }
        for name in [
            "X-Risk-Score",
            "X_Risk_Score",
            "x-RISK_score",
            "X-Risk-Anything",
            "x_risk_",
            "X-Risk",
            "X_RISK",
        ] {
            assert!(is_reserved(name), "{name}");
        }
    }

    #[test]
    fn everything_that_names_a_client_is_reserved() {
        for name in [
            // The eleven of the identity server, in its order and spelling (the last falls back to the socket).
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
            // Others.
            "X_Forwarded_For",
            "X-Forwarded-Host",
            "X-Forwarded-Server",
            "X-Forwarded-Proto",
            "X-Forwarded-Port",
            "X-Forwarded-User-Agent",
            "X-Forwarded",
            "Forwarded",
            "X-Real-IP",
            "X_Real_IP",
            "True-Client-IP",
            "CF-Connecting-IP",
            "X-SSL-CERT",
            "x-wso2-mtls-cert",
            "x-wso2-mtls-request",
            "UserName",
            "activityid",
            "ActivityID",
            "X-HTTP-Method-Override",
            "X-Original-URL",
            "X-Rewrite-URL",
        ] {
            assert!(is_reserved(name), "{name}");
        }
    }

    #[test]
    fn what_requests_need_passes() {
        for name in [
            "accept",
            "Accept-Language",
            "authorization",
            "content-length",
            "content-type",
            "cookie",
            "dpop",
            "host",
            "origin",
            "referer",
            "sec-ch-ua",
            "user-agent",
            "via",
            "x-client-attestation",
            "x-request-id",
            "x-risky",
            "x-riskgate",
            "xrisk-score",
            "forwarded-by",
            "usernames",
            "",
        ] {
            assert!(!is_reserved(name), "{name}");
        }
        assert!(NEEDED.iter().all(|name| !is_reserved(name)));
    }

    #[test]
    fn the_lists_are_in_the_form_that_names_are_compared_in() {
        for name in NAMES.iter().chain(&PREFIXES) {
            assert_eq!(name.to_ascii_lowercase().replace('_', "-"), **name);
        }
        assert!(NAMES.is_sorted());
    }

    #[test]
    fn configured_names_are_added() {
        let extra = ["X_Auth-Cert".to_owned(), "X-Corp-*".to_owned()];
        let reserved = ReservedHeaders::new(&extra).unwrap();
        for name in [
            "x-auth-cert",
            "X-AUTH_CERT",
            "x-corp-user",
            "X_Corp_",
            "x-risk-score",
        ] {
            assert!(reserved.contains(name), "{name}");
        }
        assert!(!reserved.contains("x-auth-certs") && !reserved.contains("x-corp"));
    }

    #[test]
    fn a_wrong_configured_name_is_named() {
        let new = |entry: &str| ReservedHeaders::new(&[entry.to_owned()]).unwrap_err();
        for entry in [
            "",
            "*",
            "a b",
            "a:b",
            "x\u{e9}",
            &"x".repeat(NAME_BYTES_MAX + 1),
        ] {
            assert_eq!(new(entry), HeaderNameError::Name(entry.to_owned()));
        }
        for entry in ["Cookie", "host", "c*", "content_type", "Content-*"] {
            assert_eq!(new(entry), HeaderNameError::Needed(entry.to_owned()));
        }
        let many = vec!["x".to_owned(); EXTRA_HEADERS_MAX + 1];
        assert_eq!(
            ReservedHeaders::new(&many),
            Err(HeaderNameError::TooMany(EXTRA_HEADERS_MAX + 1))
        );
    }
}
