//! The one canonical form of a request target. What is parsed here is what is classified, scored, logged and forwarded:
//! the gateway and the servlet container behind it can then not read one request in two ways.
//!
//! The container (Tomcat 9 with two valves of WSO2) strips path parameters, decodes once, collapses empty segments and
//! resolves dot segments, in that order and partly after a rewriting of tenant prefixes that works on the raw text.
//! Nothing of this is imitated: a target that would be changed by any of these steps is refused, except that escapes of
//! unreserved characters are decoded (RFC 3986, section 6.2.2.2) and a trailing `;jsessionid=` is removed. It must not
//! know which paths exist; that is the business of [`crate::domain::route`].

use std::fmt;
use std::ops::Range;

/// The longest target that is accepted, in bytes. The identity server takes a head of 8,192 bytes in all, so that this
/// leaves 2,048 bytes for the headers of the client and of the gateway.
pub const TARGET_BYTES_MAX: usize = 6_144;

/// The longest tenant domain in bytes: that of a domain name (RFC 1035, section 2.3.4).
pub const TENANT_BYTES_MAX: usize = 255;

/// The longest organization id in bytes. WSO2 issues UUIDs of 36.
pub const ORGANIZATION_BYTES_MAX: usize = 64;

/// The tenant of a target without a tenant prefix.
pub const SUPER_TENANT: &str = "carbon.super";

/// The only path parameter that is known, with its separator: the container's session id in a link.
const SESSION_PARAMETER: &[u8] = b";jsessionid=";

/// Contexts that take requests in the form `/t/{tenant}/o/{context}/...`, where the organization is that of the token.
const ORGANIZATION_FROM_TOKEN: [&str; 2] = ["api", "scim2"];

/// Contexts that must not come a second time after a prefix: the rewriting of prefixes cuts at the *last* occurrence.
const CONTEXTS: [&str; 8] = [
    "api",
    "commonauth",
    "oauth2",
    "passivests",
    "samlartresolve",
    "samlsso",
    "scim2",
    "t",
];

/// The one branch of the API that is itself called like a context: dynamic client registration.
const CONTEXT_WITHIN_API: &str = "/api/identity/oauth2/";

/// A request target in canonical form. Only [`CanonicalTarget::parse`] makes one.
#[derive(Clone, Eq, PartialEq)]
pub struct CanonicalTarget {
    /// Prefix, path and query as forwarded.
    text: String,
    authority: Option<String>,
    tenant: Option<Range<usize>>,
    organization: Option<Range<usize>>,
    organization_from_token: bool,
    /// Where the application path begins.
    path_start: usize,
    /// Where the path ends: at the `?` or at the end of the text.
    path_end: usize,
}

/// Why a target is refused. None of the messages repeats the target: it may carry credentials.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum TargetError {
    /// The authority of an absolute target is not `host` or `host:port`.
    #[error("the authority of the request target is not a host with an optional port")]
    Authority,
    /// A segment of dots only, plain or encoded.
    #[error("the request target contains a dot segment")]
    DotSegment,
    /// Two slashes in a row.
    #[error("the request target contains an empty segment")]
    EmptySegment,
    /// A percent sign without two hexadecimal digits.
    #[error("the request target contains a percent sign without two hexadecimal digits")]
    Escape,
    /// An escape that different readers decode differently, such as that of a slash.
    #[error("the request target contains an escape that is not accepted in a path")]
    ForbiddenEscape,
    /// A byte that may not stand in a target.
    #[error("the request target contains a character that is not accepted")]
    ForbiddenByte,
    /// A fragment.
    #[error("the request target contains a fragment")]
    Fragment,
    /// Asterisk form, authority form, or a path that does not begin with a slash.
    #[error("the request target is neither a path nor an absolute address")]
    Form,
    /// The id of an organization is not of lower-case hexadecimal digits and hyphens.
    #[error(
        "the organization in the request target is not an id of lower-case hexadecimal digits and hyphens"
    )]
    Organization,
    /// A path parameter other than the session id on the last segment.
    #[error("the request target contains a path parameter")]
    PathParameter,
    /// A tenant or organization prefix in a spelling that the identity server does not rewrite.
    #[error(
        "the tenant or organization prefix of the request target is not written as `/t/{{tenant}}` or `/o/{{id}}`"
    )]
    Prefix,
    /// A second context after a tenant or organization prefix.
    #[error("the request target names a second context after its tenant or organization prefix")]
    SecondContext,
    /// A tenant that is not a lower-case domain name.
    #[error("the tenant in the request target is not a lower-case domain name")]
    Tenant,
    /// Longer than [`TARGET_BYTES_MAX`].
    #[error("the request target is longer than {TARGET_BYTES_MAX} bytes")]
    TooLong,
}

/// What stands before the application path.
#[derive(Default)]
struct Prefix {
    tenant: Option<Range<usize>>,
    organization: Option<Range<usize>>,
    organization_from_token: bool,
    length: usize,
}

impl CanonicalTarget {
    /// Reads a target as it stands in the request line.
    ///
    /// The origin form (RFC 9112, section 3.2.1) is accepted as it is; of the absolute form the authority is split off,
    /// for the caller to compare with the `Host`.
    ///
    /// # Errors
    /// Every spelling that two readers could take differently.
    pub fn parse(raw_target: &[u8]) -> Result<Self, TargetError> {
        if raw_target.len() > TARGET_BYTES_MAX {
            return Err(TargetError::TooLong);
        }
        let (authority, rest) = split_authority(raw_target)?;
        let (raw_path, query) = match rest.iter().position(|byte| *byte == b'?') {
            Some(at) => {
                let (path, query) = rest.split_at(at);
                (path, query.get(1..))
            }
            None => (rest, None),
        };
        let raw_path = match raw_path {
            [] if authority.is_some() => b"/",
            [b'/', ..] => raw_path,
            _ => return Err(TargetError::Form),
        };
        let raw_path = without_session_parameter(raw_path)?;
        let mut text = String::with_capacity(rest.len());
        decode_path(raw_path, &mut text)?;
        check_segments(&text)?;
        let prefix = Prefix::of(&text)?;
        // The identity server looks for the prefix in the raw text: one that only decoding reveals is not one for it.
        let plain = text
            .get(..prefix.length)
            .is_some_and(|canonical| raw_path.starts_with(canonical.as_bytes()));
        if !plain {
            return Err(TargetError::Prefix);
        }
        let path_end = text.len();
        if let Some(query) = query {
            append_query(query, &mut text)?;
        }
        Ok(Self {
            text,
            authority,
            tenant: prefix.tenant,
            organization: prefix.organization,
            organization_from_token: prefix.organization_from_token,
            path_start: prefix.length,
            path_end,
        })
    }

    /// The authority of an absolute target, in lower case; `None` where the target was a path.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// The tenant that the target names; `None` without a tenant prefix.
    pub fn tenant(&self) -> Option<&str> {
        self.slice(self.tenant.clone()?)
    }

    /// The tenant that the request belongs to: the named one, else [`SUPER_TENANT`].
    pub fn tenant_domain(&self) -> &str {
        self.tenant().unwrap_or(SUPER_TENANT)
    }

    /// The domain within which usernames are unique: that of the organization where the target names one, else that of the
    /// tenant. See [`user_domain`].
    pub fn user_domain(&self) -> &str {
        user_domain(self.tenant_domain(), self.organization())
    }

    /// The organization that the target names.
    pub fn organization(&self) -> Option<&str> {
        self.slice(self.organization.clone()?)
    }

    /// Whether the request is for the organization of its token (`/t/{tenant}/o/api/...`).
    pub fn is_organization_from_token(&self) -> bool {
        self.organization_from_token
    }

    /// Whether a tenant or organization prefix stands before the path.
    pub fn has_prefix(&self) -> bool {
        self.path_start > 0
    }

    /// The prefix, such as `/t/example.com`, without a slash at its end; empty where there is none.
    pub fn prefix(&self) -> &str {
        self.text.get(..self.path_start).unwrap_or_default()
    }

    /// The application path, such as `/oauth2/token`, without the prefix.
    pub fn path(&self) -> &str {
        self.text
            .get(self.path_start..self.path_end)
            .unwrap_or_default()
    }

    /// Prefix and path, without the query.
    pub fn resource(&self) -> &str {
        self.text.get(..self.path_end).unwrap_or_default()
    }

    /// The query, byte for byte as received, without its question mark.
    pub fn query(&self) -> Option<&str> {
        self.text.get(self.path_end + 1..)
    }

    /// The target to send upstream: prefix, path and query.
    pub fn forwarded(&self) -> &str {
        &self.text
    }

    /// The same without its query.
    #[must_use]
    pub fn without_query(mut self) -> Self {
        self.text.truncate(self.path_end);
        self
    }

    fn slice(&self, range: Range<usize>) -> Option<&str> {
        self.text.get(range)
    }
}

/// The domain within which usernames are unique: the id of the organization, else the tenant domain. `admin` of an
/// organization is not `admin` of the tenant that it belongs to, by whichever prefix the id is named.
pub fn user_domain<'d>(tenant: &'d str, organization: Option<&'d str>) -> &'d str {
    organization.filter(|id| !id.is_empty()).unwrap_or(tenant)
}

impl fmt::Debug for CanonicalTarget {
    /// Without the query, which may carry codes and hints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CanonicalTarget")
            .field("resource", &self.resource())
            .field("tenant", &self.tenant())
            .field("organization", &self.organization())
            .finish_non_exhaustive()
    }
}

impl TargetError {
    /// The status that the client gets.
    pub fn status(self) -> u16 {
        match self {
            Self::TooLong => 414,
            Self::Authority
            | Self::DotSegment
            | Self::EmptySegment
            | Self::Escape
            | Self::ForbiddenByte
            | Self::ForbiddenEscape
            | Self::Form
            | Self::Fragment
            | Self::Organization
            | Self::PathParameter
            | Self::Prefix
            | Self::SecondContext
            | Self::Tenant => 400,
        }
    }

    /// The name in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authority => "target_authority",
            Self::DotSegment => "target_dot_segment",
            Self::EmptySegment => "target_empty_segment",
            Self::Escape => "target_escape",
            Self::ForbiddenByte => "target_forbidden_byte",
            Self::ForbiddenEscape => "target_forbidden_escape",
            Self::Form => "target_form",
            Self::Fragment => "target_fragment",
            Self::Organization => "target_organization",
            Self::PathParameter => "target_path_parameter",
            Self::Prefix => "target_prefix",
            Self::SecondContext => "target_second_context",
            Self::Tenant => "target_tenant",
            Self::TooLong => "target_too_long",
        }
    }
}

impl Prefix {
    /// Reads `/t/{tenant}`, `/t/{tenant}/o/{id}`, `/t/{tenant}/o` before an API, or `/o/{id}` off a canonical path.
    fn of(path: &str) -> Result<Self, TargetError> {
        let mut segments = path.split('/').skip(1);
        let mut prefix = Self::default();
        let mut next = segments.next();
        match next {
            Some("t") => {
                let tenant = segments
                    .next()
                    .filter(|name| is_tenant(name))
                    .ok_or(TargetError::Tenant)?;
                prefix.tenant = Some(3..3 + tenant.len());
                prefix.length = 3 + tenant.len();
                next = segments.next();
                if next == Some("o") {
                    next = segments.next();
                    if next.is_some_and(|context| ORGANIZATION_FROM_TOKEN.contains(&context)) {
                        prefix.organization_from_token = true;
                        prefix.length += 2;
                    } else {
                        prefix.take_organization(next)?;
                        next = segments.next();
                    }
                }
            }
            Some("o") => {
                prefix.take_organization(segments.next())?;
                next = segments.next();
            }
            Some("T" | "O") => return Err(TargetError::Prefix),
            _ => return Ok(prefix),
        }
        let context = next
            .filter(|segment| !segment.is_empty())
            .ok_or(TargetError::Prefix)?;
        if context == "t" || context == "o" {
            return Err(TargetError::SecondContext);
        }
        let application_path = path.get(prefix.length..).unwrap_or_default();
        let named_like_a_context = application_path.starts_with(CONTEXT_WITHIN_API);
        let mut position = 0;
        for segment in segments {
            position += 1;
            let is_known = segment == "oauth2" && position == 2 && named_like_a_context;
            let is_second_o = segment == "o" && position == 1 && prefix.organization_from_token;
            if segment == context || is_second_o || (CONTEXTS.contains(&segment) && !is_known) {
                return Err(TargetError::SecondContext);
            }
        }
        Ok(prefix)
    }

    fn take_organization(&mut self, segment: Option<&str>) -> Result<(), TargetError> {
        let id = segment
            .filter(|id| is_organization(id))
            .ok_or(TargetError::Organization)?;
        let start = self.length + "/o/".len();
        self.length = start + id.len();
        self.organization = Some(start..self.length);
        Ok(())
    }
}

fn is_tenant(name: &str) -> bool {
    (1..=TENANT_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'))
}

fn is_organization(id: &str) -> bool {
    (1..=ORGANIZATION_BYTES_MAX).contains(&id.len())
        && id
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'f' | b'0'..=b'9' | b'-'))
}

/// Splits `http://authority` or `https://authority` off an absolute target.
fn split_authority(raw: &[u8]) -> Result<(Option<String>, &[u8]), TargetError> {
    if raw.first() == Some(&b'/') {
        return Ok((None, raw));
    }
    let scheme_length = ["http://", "https://"]
        .iter()
        .find(|scheme| {
            raw.get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
        })
        .map(|scheme| scheme.len())
        .ok_or(TargetError::Form)?;
    let rest = raw.get(scheme_length..).unwrap_or_default();
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'))
        .unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    // User information is not among the accepted characters: it only serves to mislead.
    let accepted = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
    };
    let authority = std::str::from_utf8(authority)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| accepted(&byte)))
        .ok_or(TargetError::Authority)?;
    Ok((Some(authority.to_ascii_lowercase()), rest))
}

/// Removes `;jsessionid=...` from the last segment; any other path parameter is an error.
fn without_session_parameter(path: &[u8]) -> Result<&[u8], TargetError> {
    let Some(at) = path.iter().position(|byte| *byte == b';') else {
        return Ok(path);
    };
    let (path, parameter) = path.split_at(at);
    let id = parameter
        .strip_prefix(SESSION_PARAMETER)
        .ok_or(TargetError::PathParameter)?;
    let is_id = id
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'!'));
    is_id.then_some(path).ok_or(TargetError::PathParameter)
}

/// Appends the path with escapes of unreserved characters decoded and all others in upper case.
fn decode_path(path: &[u8], text: &mut String) -> Result<(), TargetError> {
    let mut bytes = path.iter().copied();
    let mut has_text_beyond_ascii = false;
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            if !is_path_byte(byte) {
                return Err(if byte == b'#' {
                    TargetError::Fragment
                } else {
                    TargetError::ForbiddenByte
                });
            }
            text.push(char::from(byte));
            continue;
        }
        let (Some(high), Some(low)) = (
            bytes.next().and_then(hex_value),
            bytes.next().and_then(hex_value),
        ) else {
            return Err(TargetError::Escape);
        };
        let decoded = high << 4 | low;
        match decoded {
            _ if is_unreserved(decoded) => text.push(char::from(decoded)),
            // Controls, space, percent, plus, slash, semicolon, backslash, delete.
            0..=0x20 | b'%' | b'+' | b'/' | b';' | b'\\' | 0x7f => {
                return Err(TargetError::ForbiddenEscape);
            }
            _ => {
                has_text_beyond_ascii |= !decoded.is_ascii();
                text.push('%');
                text.push(hex_digit(high));
                text.push(hex_digit(low));
            }
        }
    }
    if has_text_beyond_ascii {
        check_utf8(text)?;
    }
    Ok(())
}

/// Refuses escapes that do not add up to UTF-8 text without control characters, such as overlong forms.
fn check_utf8(text: &str) -> Result<(), TargetError> {
    let is_text = percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .is_ok_and(|decoded| !decoded.chars().any(char::is_control));
    is_text.then_some(()).ok_or(TargetError::ForbiddenEscape)
}

fn check_segments(path: &str) -> Result<(), TargetError> {
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return Err(TargetError::EmptySegment);
        }
        if !segment.is_empty() && segment.bytes().all(|byte| byte == b'.') {
            return Err(TargetError::DotSegment);
        }
    }
    Ok(())
}

/// Appends the query as it is, once it is certain that it is of visible ASCII characters without a fragment.
fn append_query(query: &[u8], text: &mut String) -> Result<(), TargetError> {
    if query.contains(&b'#') {
        return Err(TargetError::Fragment);
    }
    let visible = query.iter().all(u8::is_ascii_graphic);
    let query = std::str::from_utf8(query)
        .ok()
        .filter(|_| visible)
        .ok_or(TargetError::ForbiddenByte)?;
    text.push('?');
    text.push_str(query);
    Ok(())
}

/// Characters of a path (RFC 3986, section 3.3) without `;`, which is dealt with before, and `+`, which the identity
/// server's first valve reads as a space.
fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'/' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b',' | b'=' | b':' | b'@'
        )
}

/// RFC 3986, section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn hex_digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16)
        .unwrap_or('0')
        .to_ascii_uppercase()
}

#[cfg(test)]
mod tests;
