//! Parameters of a request, parsed once and strictly, so that the identity server cannot read other values than those
//! that were scored. What the container would decode in its own way (a second charset, a malformed escape) or choose
//! among (a repetition) is refused. Values are never printed: not by an error, not by `Debug`.

use crate::domain::route::Door;
use http::HeaderMap;
use http::Method;
use http::header;
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// Why parameters are refused.
mod error;

/// The JSON side: no repeated keys, bounded depth.
mod json;

/// Which parameters matter.
mod names;

pub use error::ParameterError;
use error::shown;
use names::MULTILINE;
pub use names::SECURITY_PARAMETERS;
use names::is_barred_from_query;
use names::is_security_parameter;

/// The largest body on a scored door in bytes. Pingora's retry buffer is as large, and it is far below Tomcat's own
/// limit, above which Tomcat drops all parameters silently.
pub const BODY_BYTES_MAX: usize = 65_536;

/// How many parameters a request may have, query and body together. Tomcat drops what exceeds 1,000.
pub const PARAMETERS_MAX: usize = 100;

/// The longest name in bytes, decoded.
pub const NAME_BYTES_MAX: usize = 128;

/// The longest value in bytes, decoded.
pub const VALUE_BYTES_MAX: usize = 16_384;

/// How deep objects and arrays may nest; the outermost object counts as one.
pub const JSON_DEPTH_MAX: usize = 8;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// What the headers say about the body.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BodyHeaders<'a> {
    /// The one `Content-Type`.
    pub content_type: Option<&'a str>,
    /// Whether there is any `Content-Encoding`.
    pub has_content_encoding: bool,
}

/// Where a parameter came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// The body, as a form or as a member of a JSON object.
    Body,
    /// The query.
    Query,
}

/// All parameters of one request: those of the query first, then those of the body, as in a servlet container.
#[derive(Clone, Default, PartialEq)]
pub struct Parameters {
    list: Vec<Parameter>,
    json: Option<Value>,
    content_type: Option<&'static str>,
}

#[derive(Clone, PartialEq)]
struct Parameter {
    name: String,
    value: String,
    origin: Origin,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Format {
    Form,
    Json,
    /// Forwarded unread. The container takes no parameters from it either.
    Xml,
}

impl<'a> BodyHeaders<'a> {
    /// Reads the headers of a request.
    ///
    /// # Errors
    /// More than one `Content-Type`, or one that is not visible ASCII: readers differ in which they take.
    pub fn of(headers: &'a HeaderMap) -> Result<Self, ParameterError> {
        let mut types = headers.get_all(header::CONTENT_TYPE).iter();
        let content_type = match (types.next(), types.next()) {
            (None, _) => None,
            (Some(one), None) => Some(
                one.to_str()
                    .map_err(|_| ParameterError::ContentType("visible ASCII"))?,
            ),
            (Some(_), Some(_)) => return Err(ParameterError::ContentType("found more than one")),
        };
        Ok(Self {
            content_type,
            has_content_encoding: headers.contains_key(header::CONTENT_ENCODING),
        })
    }
}

impl Parameters {
    /// Reads the parameters of a request at `door`. The query is that of the canonical target, without question mark.
    ///
    /// # Errors
    /// Everything that is not plainly one set of parameters; see [`ParameterError`].
    pub fn parse(
        door: Door,
        method: &Method,
        query: Option<&str>,
        headers: BodyHeaders<'_>,
        body: &[u8],
    ) -> Result<Self, ParameterError> {
        if body.len() > BODY_BYTES_MAX {
            return Err(ParameterError::BodyTooLarge);
        }
        if headers.has_content_encoding {
            return Err(ParameterError::ContentEncoding);
        }
        let mut parameters = Self::default();
        if let Some(query) = query {
            parameters.append_form(query.as_bytes(), Origin::Query)?;
        }
        let media_type = headers.content_type.map(media_type).transpose()?;
        if body.is_empty() {
            if *method == Method::POST && !door.accepts_form() && door.accepts_json() {
                return Err(ParameterError::Json);
            }
        } else if *method != Method::POST {
            // The container reads parameters off the body of a POST only; the body of a GET is nobody's.
            return Err(ParameterError::BodyNotAccepted);
        } else {
            let (format, forwarded) = format_for(door, media_type.as_deref())?;
            parameters.content_type = Some(forwarded);
            match format {
                Format::Form => parameters.append_form(body, Origin::Body)?,
                Format::Json => parameters.append_json(body, door)?,
                Format::Xml => {}
            }
        }
        parameters.check(door)?;
        Ok(parameters)
    }

    /// The first value of a parameter, which is the one that a servlet gets.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.list
            .iter()
            .find(|parameter| parameter.name == name)
            .map(|parameter| parameter.value.as_str())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.list
            .iter()
            .filter(move |parameter| parameter.name == name)
            .map(|parameter| parameter.value.as_str())
    }

    /// Whether a parameter came in the query.
    pub fn is_in_query(&self, name: &str) -> bool {
        self.list
            .iter()
            .any(|parameter| parameter.name == name && parameter.origin == Origin::Query)
    }

    /// The names, in order, repeated ones repeated.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|parameter| parameter.name.as_str())
    }

    /// The JSON object, where the body was one.
    pub fn json(&self) -> Option<&Value> {
        self.json.as_ref()
    }

    /// The string at `path` in the JSON object, such as `["selectedAuthenticator", "params", "username"]`.
    pub fn json_text(&self, path: &[&str]) -> Option<&str> {
        path.iter()
            .try_fold(self.json.as_ref()?, |value, key| value.get(key))?
            .as_str()
    }

    /// The parameters of a form in the body, in order; `None` for no body or another kind of it.
    pub fn form(&self) -> Option<Vec<(String, String)>> {
        self.content_type
            .filter(|content_type| content_type.starts_with(FORM))?;
        let body = self
            .list
            .iter()
            .filter(|parameter| parameter.origin == Origin::Body);
        Some(
            body.map(|parameter| (parameter.name.clone(), parameter.value.clone()))
                .collect(),
        )
    }

    /// The `Content-Type` to forward in place of the client's, so that the identity server decodes as was decoded here.
    /// `None` where there is no body.
    pub fn forwarded_content_type(&self) -> Option<&'static str> {
        self.content_type
    }

    fn append_form(&mut self, encoded: &[u8], origin: Origin) -> Result<(), ParameterError> {
        // Like the container: only `&` separates, a field without `=` is a name without a value, nothing at all between
        // two separators is skipped.
        for field in encoded
            .split(|byte| *byte == b'&')
            .filter(|field| !field.is_empty())
        {
            if self.list.len() >= PARAMETERS_MAX {
                return Err(ParameterError::TooMany);
            }
            let at = field
                .iter()
                .position(|byte| *byte == b'=')
                .unwrap_or(field.len());
            let (name, value) = field.split_at(at);
            let value = value.strip_prefix(b"=").unwrap_or(value);
            let shown = String::from_utf8_lossy(name);
            let name = decode(name, &shown)?;
            check_name(&name)?;
            let value = decode(value, &name)?;
            check_text(&name, &value, false)?;
            self.list.push(Parameter {
                name: name.into_owned(),
                value: value.into_owned(),
                origin,
            });
        }
        Ok(())
    }

    fn append_json(&mut self, body: &[u8], door: Door) -> Result<(), ParameterError> {
        let value = json::parse(body, door == Door::Pdp)?;
        let members = value.as_object().ok_or(ParameterError::Json)?;
        for (name, member) in members {
            match member {
                Value::String(text) => self.list.push(Parameter {
                    name: name.clone(),
                    value: text.clone(),
                    origin: Origin::Body,
                }),
                // The token endpoint turns its JSON into the same parameters as a form, which knows only text.
                _ if door == Door::Token => return Err(ParameterError::NotText(shown(name))),
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Array(_)
                | Value::Object(_) => {}
            }
        }
        if self.list.len() > PARAMETERS_MAX {
            return Err(ParameterError::TooMany);
        }
        // What a user typed arrives as a map of texts. A number or a list in its place would be turned into text there
        // but not here.
        let typed = if door == Door::Authn {
            members
                .get("selectedAuthenticator")
                .and_then(|chosen| chosen.get("params"))
        } else {
            members.get("inputs").filter(|_| door == Door::Flow)
        };
        let mut inputs = typed.and_then(Value::as_object).into_iter().flatten();
        if let Some((name, _)) =
            inputs.find(|(_, input)| !matches!(input, Value::String(_) | Value::Bool(_)))
        {
            return Err(ParameterError::NotText(shown(name)));
        }
        self.json = Some(value);
        Ok(())
    }

    /// The rules about parameters as a set. The number of parameters is bounded, so that the square of it is as well.
    fn check(&self, door: Door) -> Result<(), ParameterError> {
        let takes_json_only = door.accepts_json() && !door.accepts_form();
        for (at, parameter) in self.list.iter().enumerate() {
            let name = parameter.name.as_str();
            if parameter.origin == Origin::Query && is_barred_from_query(door, name) {
                return Err(ParameterError::CredentialInQuery(shown(name)));
            }
            if !is_security_parameter(name) {
                continue;
            }
            if parameter.origin == Origin::Query && takes_json_only {
                return Err(ParameterError::QueryAndBody(shown(name)));
            }
            if let Some(other) = self
                .list
                .iter()
                .skip(at + 1)
                .find(|other| other.name == name)
            {
                return Err(if other.origin == parameter.origin {
                    ParameterError::Repeated(shown(name))
                } else {
                    ParameterError::QueryAndBody(shown(name))
                });
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Parameters {
    /// Names and origins only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.list
                    .iter()
                    .map(|parameter| (&parameter.name, parameter.origin)),
            )
            .finish()
    }
}

/// The media type in lower case, once its parameters are known to say nothing but `charset=utf-8`.
fn media_type(content_type: &str) -> Result<String, ParameterError> {
    let unreadable = ParameterError::ContentType("a media type with no parameter but a charset");
    if content_type
        .bytes()
        .any(|byte| byte == b',' || byte == b'\t')
    {
        return Err(unreadable);
    }
    let mut parts = content_type.split(';').map(|part| part.trim_matches(' '));
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let Some(parameter) = parts.next() else {
        return Ok(name);
    };
    let Some((key, value)) = parameter.split_once('=') else {
        return Err(unreadable);
    };
    if !key.eq_ignore_ascii_case("charset") || parts.next().is_some() {
        return Err(unreadable);
    }
    let value = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(value);
    value
        .eq_ignore_ascii_case("utf-8")
        .then_some(name)
        .ok_or(ParameterError::Charset)
}

/// How to read the body, and the content type to forward.
fn format_for(
    door: Door,
    media_type: Option<&str>,
) -> Result<(Format, &'static str), ParameterError> {
    let takes_xml = door == Door::Saml;
    match media_type {
        Some(FORM) if door.accepts_form() => Ok((
            Format::Form,
            "application/x-www-form-urlencoded; charset=UTF-8",
        )),
        // Without a charset: JSON has none (RFC 8259, section 11), and the decision point compares the whole value.
        Some(JSON) if door.accepts_json() => Ok((Format::Json, JSON)),
        Some("text/xml") if takes_xml => Ok((Format::Xml, "text/xml; charset=UTF-8")),
        Some("application/soap+xml") if takes_xml => {
            Ok((Format::Xml, "application/soap+xml; charset=UTF-8"))
        }
        _ => Err(ParameterError::ContentType(
            match (door.accepts_form(), door.accepts_json()) {
                (true, true) => "application/x-www-form-urlencoded or application/json",
                (true, false) => FORM,
                (false, true) => JSON,
                (false, false) => "this path takes no body here",
            },
        )),
    }
}

/// Decodes one name or value as the container does: `+` is a space, escapes are bytes, bytes are UTF-8.
fn decode<'a>(encoded: &'a [u8], name: &str) -> Result<Cow<'a, str>, ParameterError> {
    if !encoded.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return std::str::from_utf8(encoded)
            .map(Cow::Borrowed)
            .map_err(|_| ParameterError::NotUtf8(shown(name)));
    }
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.iter().copied();
    let digit = |byte: Option<u8>| {
        byte.and_then(|byte| char::from(byte).to_digit(16))
            .and_then(|value| u8::try_from(value).ok())
    };
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => match (digit(bytes.next()), digit(bytes.next())) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(ParameterError::Escape(shown(name))),
            },
            other => other,
        });
    }
    String::from_utf8(decoded)
        .map(Cow::Owned)
        .map_err(|_| ParameterError::NotUtf8(shown(name)))
}

fn check_name(name: &str) -> Result<(), ParameterError> {
    if name.is_empty() {
        return Err(ParameterError::EmptyName);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(ParameterError::NameTooLong);
    }
    if name.chars().any(char::is_control) {
        return Err(ParameterError::ControlCharacter(shown(name)));
    }
    Ok(())
}

fn check_text(
    name: &str,
    value: &str,
    line_breaks_are_accepted: bool,
) -> Result<(), ParameterError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(ParameterError::ValueTooLong(shown(name)));
    }
    let breaks_lines = line_breaks_are_accepted || MULTILINE.contains(&name);
    let is_refused = |c: char| c.is_control() && !(breaks_lines && matches!(c, '\r' | '\n' | '\t'));
    if value.chars().any(is_refused) {
        return Err(ParameterError::ControlCharacter(shown(name)));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
