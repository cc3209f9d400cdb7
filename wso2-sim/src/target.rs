//! From a raw request target to (web application, path, tenant, organization), as Tomcat 9.0.118 with WSO2's valves does
//! it, the odd spellings included: `tests/data/path-vectors.json` holds the measurements that this file reproduces.
//! It must not be cleaned up into something safer: what is in front of WSO2 is tested against exactly these oddities.

use percent_encoding::percent_decode_str;

use crate::seed::SUPER_TENANT;

/// Web applications that the tenant valve rewrites to, in the order it tries them.
const WEBAPPS: [&str; 13] = [
    "/oauth2/",
    "/scim2/",
    "/api/",
    "/myaccount/",
    "/console/",
    "/authenticationendpoint/",
    "/accountrecoveryendpoint/",
    "/lsp/",
    "/accounts/",
    "/emailotpauthenticationendpoint/",
    "/smsotpauthenticationendpoint/",
    "/totpauthenticationendpoint/",
    "/oid4vci/",
];

/// Servlet paths of the root application that the tenant valve rewrites; each is a prefix.
const SERVLETS: [&str; 11] = [
    "/identity/",
    "/commonauth",
    "/logincontext",
    "/oidc/",
    "/samlsso",
    "/samlartresolve",
    "/passivests",
    "/longwaitstatus",
    "/push-auth/",
    "/.well-known/openid-configuration",
    "/.well-known/webfinger",
];

/// Where a request ends up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Route {
    /// Web application, `/` being the root one.
    pub(crate) context: String,
    /// Decoded path inside the application.
    pub(crate) path: String,
    /// Tenant from the path, undecoded.
    pub(crate) tenant: Option<String>,
    /// Organization from the path.
    pub(crate) org: Option<String>,
}

impl Route {
    /// Application and path together, without a trailing slash, which CXF does not mind.
    pub(crate) fn full_path(&self) -> String {
        let context = self.context.trim_end_matches('/');
        let path = format!("{context}{}", self.path);
        match path.strip_suffix('/') {
            Some(shorter) if !shorter.is_empty() => shorter.to_owned(),
            _ => path,
        }
    }
}

/// Why the container or a valve refuses a target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TargetError {
    /// Tomcat: 400.
    Malformed,
    /// WSO2's authentication valve: 400, the path does not survive a second reading.
    NotAUri,
    /// WSO2's organization valve: 404.
    OrganizationPath,
    /// A percent sign without two hexadecimal digits: 500.
    Undecodable,
    /// WSO2's authentication valve: 401, dot segments or path parameters in the middle.
    Valve,
}

impl TargetError {
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::NotAUri => 400,
            Self::OrganizationPath => 404,
            Self::Undecodable => 500,
            Self::Valve => 401,
        }
    }
}

/// Resolves a raw target; `host` is the `Host` header, which an absolute-form target must agree with.
pub(crate) fn resolve(raw: &str, host: Option<&str>) -> Result<Route, TargetError> {
    if raw.chars().any(is_refused_by_tomcat) {
        return Err(TargetError::Malformed);
    }
    let uri = origin_form(raw, host).ok_or(TargetError::Malformed)?;
    let uri = uri.split('?').next().unwrap_or_default();
    let decoded = container_path(uri)?;
    authentication_valve(uri, &decoded)?;
    rewrite(uri, decoded)
}

/// Characters that Tomcat refuses anywhere in a request target (`HttpParser.isNotRequestTarget`).
fn is_refused_by_tomcat(letter: char) -> bool {
    !letter.is_ascii_graphic()
        || matches!(
            letter,
            '"' | '#' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'
        )
}

/// The target from its first slash on; an absolute-form target is accepted for the same host only.
fn origin_form<'a>(raw: &'a str, host: Option<&str>) -> Option<&'a str> {
    if raw.starts_with('/') {
        return Some(raw);
    }
    let rest = raw
        .strip_prefix("http://")
        .or_else(|| raw.strip_prefix("https://"))?;
    let (authority, _) = rest.split_once('/')?;
    (Some(authority) == host).then(|| rest.strip_prefix(authority))?
}

/// The path that Tomcat maps: parameters stripped, decoded once, normalised.
fn container_path(uri: &str) -> Result<String, TargetError> {
    let stripped: Vec<&str> = uri
        .split('/')
        .map(|segment| segment.split(';').next().unwrap_or_default())
        .collect();
    normalise(&decode(&stripped.join("/"))?)
}

fn decode(text: &str) -> Result<String, TargetError> {
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        if *byte != b'%' {
            continue;
        }
        let digits = bytes.get(at + 1..at + 3).unwrap_or_default();
        if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(TargetError::Undecodable);
        }
        if digits.eq_ignore_ascii_case(b"2f") {
            return Err(TargetError::Malformed);
        }
    }
    Ok(percent_decode_str(text).decode_utf8_lossy().into_owned())
}

/// `CoyoteAdapter.normalize`: no backslash, no NUL, single slashes, dot segments resolved, nothing above the root.
fn normalise(path: &str) -> Result<String, TargetError> {
    if path.contains(['\\', '\0']) {
        return Err(TargetError::Malformed);
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_slash = false;
    for segment in path.split('/').skip(1) {
        ends_in_slash = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop().ok_or(TargetError::Malformed)?;
            }
            other => kept.push(other),
        }
    }
    let mut normal = String::with_capacity(path.len());
    for segment in &kept {
        normal.push('/');
        normal.push_str(segment);
    }
    if ends_in_slash || normal.is_empty() {
        normal.push('/');
    }
    Ok(normal)
}

/// WSO2's AuthenticationValve: `(.*)/((\.+)|(.*;+.*)|%2e.*)/(.*)` on the raw and the decoded path, then one more decoding
/// that has to give a URI.
fn authentication_valve(uri: &str, decoded: &str) -> Result<(), TargetError> {
    if is_suspicious(uri) {
        return Err(TargetError::Valve);
    }
    // Encoded twice; asked before the decoded path is matched.
    if decoded.contains('%') {
        return Err(TargetError::NotAUri);
    }
    if is_suspicious(decoded) {
        return Err(TargetError::Valve);
    }
    // `java.net.URLDecoder` turns a plus into a space, and `java.net.URI` refuses that.
    let again = decode(&uri.replace('+', " "))?;
    let is_illegal = |letter: char| {
        letter.is_control()
            || letter.is_whitespace()
            || matches!(
                letter,
                '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' | '[' | ']'
            )
    };
    if again.chars().any(is_illegal) {
        return Err(TargetError::NotAUri);
    }
    Ok(())
}

fn is_suspicious(path: &str) -> bool {
    let Some((head, _)) = path.rsplit_once('/') else {
        return false;
    };
    // Everything that the expression forbids has to stand after one slash and before another.
    let Some((_, middle)) = head.split_once('/') else {
        return false;
    };
    middle.contains(';')
        || middle.split('/').any(|segment| {
            (!segment.is_empty() && segment.bytes().all(|byte| byte == b'.'))
                || segment
                    .get(..3)
                    .is_some_and(|start| start.eq_ignore_ascii_case("%2e"))
        })
}

/// The organization and tenant valves, on the raw path; what they do not match goes where the container maps it.
fn rewrite(uri: &str, decoded: String) -> Result<Route, TargetError> {
    let from_org;
    let (subject, is_org_short) = if let Some(rest) = uri.strip_prefix("/o/") {
        if !has_known_context(after_segment(rest)) {
            return Err(TargetError::OrganizationPath);
        }
        from_org = format!("/t/{SUPER_TENANT}{uri}");
        (from_org.as_str(), true)
    } else {
        (uri, false)
    };
    match rewrite_tenant(subject) {
        Some(route) => route,
        None if is_org_short => Err(TargetError::OrganizationPath),
        None => Ok(container_route(decoded)),
    }
}

fn rewrite_tenant(uri: &str) -> Option<Result<Route, TargetError>> {
    let rest = uri.strip_prefix("/t/")?;
    let after_tenant = after_segment(rest);
    let tenant = rest.strip_suffix(after_tenant)?;
    if tenant.is_empty() {
        return None;
    }
    let org = org_perspective(after_tenant);
    let after_org = org.map_or(after_tenant, |org| {
        after_tenant.get(3 + org.len()..).unwrap_or_default()
    });
    let route = |context: &str, dispatched: &str| {
        let path = container_path(dispatched).map_err(|_| TargetError::Malformed)?;
        Ok(Route {
            context: context.to_owned(),
            path,
            tenant: Some(tenant.to_owned()),
            org: org.map(str::to_owned),
        })
    };
    for webapp in WEBAPPS {
        let context = webapp.trim_end_matches('/');
        // `"/" + uri.replaceAll("/t/.*" + context, "")`: greedy, so the last occurrence counts.
        let tail = || uri.rsplit_once(webapp).map_or("", |(_, tail)| tail);
        if after_tenant.starts_with(webapp) || (org.is_some() && after_org.starts_with(webapp)) {
            return Some(route(context, &format!("/{}", tail())));
        }
        if let Some(after_o) = after_tenant.strip_prefix("/o")
            && after_o.starts_with(webapp)
        {
            return Some(route(context, &format!("/o/{}", tail())));
        }
    }
    SERVLETS
        .iter()
        .any(|servlet| after_org.starts_with(servlet))
        .then(|| route("/", after_org))
}

/// The organization of `/o/<lower-case hexadecimal and hyphens>` at the start.
fn org_perspective(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/o/")?;
    let org = rest.strip_suffix(after_segment(rest))?;
    (!org.is_empty()
        && org
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'f' | b'0'..=b'9' | b'-')))
    .then_some(org)
}

fn has_known_context(path: &str) -> bool {
    WEBAPPS
        .iter()
        .chain(SERVLETS.iter())
        .any(|known| path.starts_with(known))
}

/// From the next slash on.
fn after_segment(text: &str) -> &str {
    text.find('/')
        .and_then(|at| text.get(at..))
        .unwrap_or_default()
}

fn container_route(decoded: String) -> Route {
    for webapp in WEBAPPS {
        let context = webapp.trim_end_matches('/');
        if let Some(path) = decoded.strip_prefix(context)
            && (path.is_empty() || path.starts_with('/'))
        {
            return Route {
                context: context.to_owned(),
                path: if path.is_empty() { "/" } else { path }.to_owned(),
                tenant: None,
                org: None,
            };
        }
    }
    Route {
        context: "/".to_owned(),
        path: decoded,
        tenant: None,
        org: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_measured_target_goes_where_tomcat_sent_it() {
        let rows: Vec<Value> =
            serde_json::from_str(include_str!("../tests/data/path-vectors.json")).unwrap();
        assert_eq!(rows.len(), 97);
        for row in &rows {
            let raw = row["raw"].as_str().unwrap();
            let want_status = row["status"].as_u64().unwrap();
            let ascii = |text: &str| {
                text.chars()
                    .map(|letter| if letter.is_ascii() { letter } else { '?' })
                    .collect::<String>()
            };
            match resolve(raw, Some("localhost")) {
                Err(error) => assert_eq!(u64::from(error.status()), want_status, "{raw}"),
                Ok(route) => {
                    assert_eq!(want_status, 200, "{raw} reached {route:?}");
                    let context = percent_decode_str(row["context"].as_str().unwrap())
                        .decode_utf8()
                        .unwrap();
                    assert_eq!(route.context, context, "{raw}");
                    assert_eq!(ascii(&route.path), row["path_info"], "{raw}");
                    assert_eq!(route.tenant.as_deref(), row["tenant"].as_str(), "{raw}");
                    assert_eq!(route.org.as_deref(), row["org"].as_str(), "{raw}");
                }
            }
        }
    }

    #[test]
    fn what_is_above_the_root_or_no_organization_path_is_refused() {
        for (raw, error) in [
            ("/..", TargetError::Malformed),
            ("/a/..%2e", TargetError::Malformed),
            ("/o/0a1b/unknown", TargetError::OrganizationPath),
            ("/o/", TargetError::OrganizationPath),
            ("", TargetError::Malformed),
            ("\u{e9}", TargetError::Malformed),
            ("/oauth2/%5btoken", TargetError::NotAUri),
        ] {
            match resolve(raw, None) {
                Err(found) => assert_eq!(found, error, "{raw}"),
                // `..%2e` decodes to three dots, which is a name.
                Ok(route) => assert_eq!(route.path, "/a/...", "{raw}"),
            }
        }
    }

    #[test]
    fn an_absolute_target_must_name_the_host() {
        assert!(resolve("http://localhost/oauth2/token", Some("localhost")).is_ok());
        assert!(resolve("http://localhost/oauth2/token", Some("other")).is_err());
        assert!(resolve("http://localhost", Some("localhost")).is_err());
    }
}
