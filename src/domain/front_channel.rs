//! The authorization response in the browser: what a redirect, a self-posting form or an app-native answer hands to the
//! client (RFC 6749 section 4, OAuth 2.0 Multiple Response Type Encoding Practices, OAuth 2.0 Form Post Response Mode),
//! and the error that goes to the same place instead.
//!
//! The address is the one that the identity server named, which it has checked against the registration; nothing of a
//! request enters it.

use serde::Deserialize;

/// Members of an authorization response: they are taken out of an address before an error is put there.
const RESPONSE_NAMES: [&str; 14] = [
    "access_token",
    "code",
    "error",
    "error_description",
    "error_uri",
    "expires_in",
    "id_token",
    "iss",
    "response",
    "scope",
    "session_state",
    "state",
    "subject_token",
    "token_type",
];
/// Fields of a form that are read.
const FIELDS_MAX: usize = 64;
/// The schemes to which a page may post.
const POST_SCHEMES: [&str; 2] = ["https://", "http://"];

/// What an answer hands to the client through the browser.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct FrontChannel {
    place: Place,
    /// An authorization code.
    pub code: Option<String>,
    /// An ID token.
    pub id_token: Option<String>,
    /// An access token.
    pub access_token: Option<String>,
    /// What WSO2 hands to who may act as another user (`response_type=subject_token`), to be exchanged.
    pub subject_token: Option<String>,
    /// Whether it is an error already.
    pub is_error: bool,
    state: Option<String>,
    issuer: Option<String>,
}

/// Where the client is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
enum Place {
    /// The answer itself (JSON).
    #[default]
    Direct,
    /// An address, with the response in its fragment or its query.
    Address { base: String, in_fragment: bool },
    /// An address that a page posts to.
    Form(String),
}

/// An error in place of an authorization response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FrontChannelError {
    /// A redirect to this address.
    Redirect(String),
    /// A page that posts these fields to this address.
    Post(String, Vec<(String, String)>),
    /// There is no client to send it to: the answer itself is refused.
    Direct,
}

#[derive(Deserialize)]
struct DirectAnswer {
    #[serde(rename = "authData")]
    auth_data: Option<AuthData>,
}

#[derive(Deserialize)]
struct AuthData {
    code: Option<String>,
    id_token: Option<String>,
    access_token: Option<String>,
    subject_token: Option<String>,
}

impl std::fmt::Debug for FrontChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrontChannel")
            .field("code", &self.code.is_some())
            .field("id_token", &self.id_token.is_some())
            .field("access_token", &self.access_token.is_some())
            .field("subject_token", &self.subject_token.is_some())
            .field("is_error", &self.is_error)
            .finish_non_exhaustive()
    }
}

impl FrontChannel {
    /// What a redirect hands over; `None` when it hands over nothing, as one to a page of the identity server.
    pub fn of_location(location: &str) -> Option<Self> {
        let (rest, fragment) = location.split_once('#').unwrap_or((location, ""));
        let query = rest.split_once('?').map_or("", |(_, query)| query);
        let pairs = |text: &str| {
            form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect::<Vec<_>>()
        };
        let (from_fragment, from_query) = (pairs(fragment), pairs(query));
        let in_fragment = from_fragment
            .iter()
            .any(|(name, _)| hands_over(name) || name == "error");
        let base = rest.to_owned();
        Self::of_pairs(
            from_fragment.into_iter().chain(from_query),
            Place::Address { base, in_fragment },
        )
    }

    /// What a page posts by itself to the client.
    pub fn of_form(page: &str) -> Option<Self> {
        let (action, fields) = posted(page)?;
        Self::of_pairs(fields.into_iter(), Place::Form(action))
    }

    /// What an app-native answer hands over.
    pub fn of_json(body: &[u8]) -> Option<Self> {
        let data = serde_json::from_slice::<DirectAnswer>(body)
            .ok()?
            .auth_data?;
        let found = Self {
            place: Place::Direct,
            code: data.code,
            id_token: data.id_token,
            access_token: data.access_token,
            subject_token: data.subject_token,
            ..Self::default()
        };
        found.hands_over().then_some(found)
    }

    fn of_pairs(pairs: impl Iterator<Item = (String, String)>, place: Place) -> Option<Self> {
        let mut found = Self {
            place,
            ..Self::default()
        };
        for (name, value) in pairs {
            let member = match name.as_str() {
                "access_token" => &mut found.access_token,
                "code" => &mut found.code,
                "id_token" => &mut found.id_token,
                "iss" => &mut found.issuer,
                "state" => &mut found.state,
                "subject_token" => &mut found.subject_token,
                "error" => {
                    found.is_error = true;
                    continue;
                }
                _ => continue,
            };
            member.get_or_insert(value);
        }
        (found.hands_over() || found.is_error).then_some(found)
    }

    fn hands_over(&self) -> bool {
        self.code.is_some() || self.has_tokens()
    }

    /// Whether it is a page: its code is not in the head of the answer.
    pub fn is_page(&self) -> bool {
        matches!(self.place, Place::Form(_))
    }

    /// Whether tokens are handed over, not only a code.
    pub fn has_tokens(&self) -> bool {
        self.id_token.is_some() || self.access_token.is_some() || self.subject_token.is_some()
    }

    /// The same answer with an error in place of what it hands over: to the same address, in the same way, with `state`
    /// and `iss` and nothing else of it.
    pub fn with_error(&self, error: &str, description: &str) -> FrontChannelError {
        let mut members = vec![
            ("error".to_owned(), error.to_owned()),
            ("error_description".to_owned(), description.to_owned()),
        ];
        let more = [("state", &self.state), ("iss", &self.issuer)];
        members.extend(
            more.into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))),
        );
        match &self.place {
            Place::Direct => FrontChannelError::Direct,
            Place::Form(action) => {
                let may_be_posted_to = POST_SCHEMES.iter().any(|scheme| {
                    action
                        .get(..scheme.len())
                        .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
                });
                if may_be_posted_to {
                    FrontChannelError::Post(action.clone(), members)
                } else {
                    FrontChannelError::Direct
                }
            }
            Place::Address { base, in_fragment } => {
                let added = form_urlencoded::Serializer::new(String::new())
                    .extend_pairs(members)
                    .finish();
                let own = without_response(base);
                FrontChannelError::Redirect(if *in_fragment {
                    format!("{own}#{added}")
                } else {
                    let joint = if own.contains('?') { '&' } else { '?' };
                    format!("{own}{joint}{added}")
                })
            }
        }
    }
}

/// The address of the form in a page, and the fields that the page has.
pub fn posted(page: &str) -> Option<(String, Vec<(String, String)>)> {
    let form = tags(page, "form").next()?;
    let action = attribute(form, "action")?;
    let fields = tags(page, "input")
        .take(FIELDS_MAX)
        .filter_map(|input| Some((attribute(input, "name")?, attribute(input, "value")?)));
    Some((action, fields.collect()))
}

fn hands_over(name: &str) -> bool {
    matches!(name, "access_token" | "code" | "id_token" | "subject_token")
}

/// The address with what it had before the response was added to its query.
fn without_response(base: &str) -> String {
    let Some((address, query)) = base.split_once('?') else {
        return base.to_owned();
    };
    let own: Vec<&str> = query
        .split('&')
        .filter(|pair| {
            let name = form_urlencoded::parse(pair.as_bytes())
                .next()
                .map(|(name, _)| name.into_owned());
            name.is_some_and(|name| !RESPONSE_NAMES.contains(&name.as_str()))
        })
        .collect();
    if own.is_empty() {
        address.to_owned()
    } else {
        format!("{address}?{}", own.join("&"))
    }
}

/// The tags of a name, as their text between the angle brackets. Good enough for the small pages that the identity
/// server makes of its own template; values in them are escaped.
fn tags<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    page.split('<').skip(1).filter_map(move |piece| {
        let start = piece.get(..name.len())?;
        let rest = piece.get(name.len()..)?;
        let is_named = start.eq_ignore_ascii_case(name)
            && rest.starts_with(|c: char| c.is_ascii_whitespace() || c == '/' || c == '>');
        if is_named {
            Some(rest.split_once('>').map_or(rest, |(inside, _)| inside))
        } else {
            None
        }
    })
}

/// The value of an attribute of a tag.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let mut rest = tag;
    while let Some((before, after)) = rest.split_once('=') {
        let found = before.trim_end().rsplit(char::is_whitespace).next()?;
        let after = after.trim_start();
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (value, left) = match quote {
            Some(quote) => after.get(1..)?.split_once(quote)?,
            None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
        };
        if found.eq_ignore_ascii_case(name) {
            return Some(unescaped(value));
        }
        rest = left;
    }
    None
}

/// Character references of HTML as templates write them.
fn unescaped(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        result.push_str(before);
        let reference = after.split_once(';').filter(|(name, _)| name.len() <= 8);
        let read = reference.and_then(|(name, left)| Some((referenced(name)?, left)));
        match read {
            Some((character, left)) => {
                result.push(character);
                rest = left;
            }
            None => {
                result.push('&');
                rest = after;
            }
        }
    }
    result.push_str(rest);
    result
}

fn referenced(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "apos" => '\'',
        "gt" => '>',
        "lt" => '<',
        "quot" => '"',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirected(location: &str) -> String {
        let found = FrontChannel::of_location(location).expect("a response");
        match found.with_error("login_required", "d") {
            FrontChannelError::Redirect(to) => to,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_error_goes_where_the_response_would_have_gone() {
        for (location, expected) in [
            (
                "https://app/cb?code=C&session_state=x.y&state=s%201",
                "https://app/cb?error=login_required&error_description=d&state=s+1",
            ),
            (
                "https://app/cb?a=1&code=C&b=2&iss=https%3A%2F%2Fi",
                "https://app/cb?a=1&b=2&error=login_required&error_description=d&iss=https%3A%2F%2Fi",
            ),
            (
                "https://app/cb?a=1#access_token=T&id_token=I&state=s&token_type=Bearer&expires_in=9",
                "https://app/cb?a=1#error=login_required&error_description=d&state=s",
            ),
            (
                "com.example.app:/cb?code=C",
                "com.example.app:/cb?error=login_required&error_description=d",
            ),
            // A name in another spelling is taken out as well.
            (
                "https://app/cb?c%6fde=C",
                "https://app/cb?error=login_required&error_description=d",
            ),
        ] {
            let to = redirected(location);
            assert_eq!(to, expected);
            let again = FrontChannel::of_location(&to).expect("an error");
            assert!(again.is_error && !again.hands_over());
        }
    }

    #[test]
    fn what_hands_nothing_over_is_no_response() {
        for location in [
            "https://idp/authenticationendpoint/login.do?sessionDataKey=K&state=s",
            "https://app/cb",
            "https://app/cb?state=s#x",
            "",
        ] {
            assert_eq!(FrontChannel::of_location(location), None, "{location}");
        }
        assert!(FrontChannel::of_json(b"{\"flowStatus\":\"INCOMPLETE\"}").is_none());
        assert!(FrontChannel::of_json(b"<html>").is_none());
    }

    #[test]
    fn a_form_is_read_and_answered_with_a_form() {
        let page = "<!doctype html><html><body onload=\"document.forms[0].submit()\"><form method='post' \
                    action=\"https://app/cb?x=1&amp;y=2\"><INPUT type=\"hidden\" name=\"id_token\" value=\"a.b.c\"/>\
                    <input value='s&quot;&#39;&#x3c;&amp;amp;' type=hidden name=state>\
                    <input type=\"hidden\" name=\"code\" value=\"C\"></form></body></html>";
        let found = FrontChannel::of_form(page).expect("a response");
        assert_eq!(found.id_token.as_deref(), Some("a.b.c"));
        assert_eq!(found.code.as_deref(), Some("C"));
        let FrontChannelError::Post(action, fields) = found.with_error("e", "d") else {
            panic!("a form is expected");
        };
        assert_eq!(action, "https://app/cb?x=1&y=2");
        assert_eq!(
            fields.last(),
            Some(&("state".to_owned(), "s\"'<&amp;".to_owned()))
        );
        assert_eq!(fields.len(), 3);
    }

    #[test]
    fn nothing_is_posted_to_a_script() {
        let page = "<form action=\"javascript:alert(1)\"><input name=\"code\" value=\"C\"></form>";
        let found = FrontChannel::of_form(page).expect("a response");
        assert_eq!(found.with_error("e", "d"), FrontChannelError::Direct);
        assert!(
            FrontChannel::of_form("<formula action=\"x\"><input name=\"code\" value=\"C\">")
                .is_none()
        );
        assert!(
            FrontChannel::of_form("<form action=\"x\"><input name=\"q\" value=\"C\">").is_none()
        );
    }

    #[test]
    fn it_does_not_print() {
        let found = FrontChannel::of_location("https://app/cb?code=canary#id_token=canary");
        assert!(!format!("{found:?}").contains("canary"));
    }

    #[test]
    fn an_app_native_answer() {
        let found = FrontChannel::of_json(
            br#"{"flowStatus":"SUCCESS_COMPLETED","authData":{"code":"C","session_state":"x"}}"#,
        );
        let found = found.expect("a response");
        assert!(!found.has_tokens());
        assert_eq!(found.with_error("e", "d"), FrontChannelError::Direct);
    }
}
