//! Why parameters are refused. Messages name the parameter, never its value.

use super::BODY_BYTES_MAX;
use super::JSON_DEPTH_MAX;
use super::NAME_BYTES_MAX;
use super::PARAMETERS_MAX;
use super::VALUE_BYTES_MAX;

/// How much of a name an error repeats, in bytes.
const NAME_SHOWN_MAX: usize = 64;

/// Why a request's parameters are refused. The messages name the parameter, never its value.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParameterError {
    /// A body with a method that takes none.
    #[error("a body is not accepted with this method")]
    BodyNotAccepted,
    /// More than [`BODY_BYTES_MAX`].
    #[error("the body is larger than {BODY_BYTES_MAX} bytes")]
    BodyTooLarge,
    /// A charset other than UTF-8.
    #[error("the charset of the body must be utf-8")]
    Charset,
    /// A `Content-Encoding`, whichever.
    #[error("a content encoding is not accepted")]
    ContentEncoding,
    /// A missing, repeated or unreadable `Content-Type`, or one that the door does not take.
    #[error("expected exactly one content type: {0}")]
    ContentType(&'static str),
    /// A control character in a name or value.
    #[error("the parameter `{0}` contains a control character")]
    ControlCharacter(String),
    /// A secret in the query.
    #[error("the parameter `{0}` must not be sent in the query")]
    CredentialInQuery(String),
    /// A name without characters.
    #[error("a parameter has no name")]
    EmptyName,
    /// A percent sign without two hexadecimal digits.
    #[error("the parameter `{0}` contains a percent sign without two hexadecimal digits")]
    Escape(String),
    /// Not JSON, or not an object.
    #[error("the body is not a JSON object")]
    Json,
    /// More than [`JSON_DEPTH_MAX`] levels.
    #[error("the body nests deeper than {JSON_DEPTH_MAX} levels")]
    JsonDepth,
    /// A name longer than [`NAME_BYTES_MAX`].
    #[error("the name of a parameter is longer than {NAME_BYTES_MAX} bytes")]
    NameTooLong,
    /// Bytes that are not UTF-8.
    #[error("the parameter `{0}` is not utf-8")]
    NotUtf8(String),
    /// A member of the JSON object whose value is not a string.
    #[error("the parameter `{0}` must be a string")]
    NotText(String),
    /// A security parameter in the query and in the body, or in the query of a door that takes it from JSON only.
    #[error("the parameter `{0}` must be sent in the body only")]
    QueryAndBody(String),
    /// A security parameter, or a key of a JSON object, that comes twice.
    #[error("the parameter `{0}` is repeated")]
    Repeated(String),
    /// More than [`PARAMETERS_MAX`].
    #[error("more than {PARAMETERS_MAX} parameters")]
    TooMany,
    /// A value longer than [`VALUE_BYTES_MAX`].
    #[error("the value of the parameter `{0}` is longer than {VALUE_BYTES_MAX} bytes")]
    ValueTooLong(String),
}

impl ParameterError {
    /// The status that the client gets.
    pub fn status(&self) -> u16 {
        match self {
            Self::BodyTooLarge => 413,
            Self::Charset | Self::ContentEncoding | Self::ContentType(_) => 415,
            Self::BodyNotAccepted
            | Self::ControlCharacter(_)
            | Self::CredentialInQuery(_)
            | Self::EmptyName
            | Self::Escape(_)
            | Self::Json
            | Self::JsonDepth
            | Self::NameTooLong
            | Self::NotText(_)
            | Self::NotUtf8(_)
            | Self::QueryAndBody(_)
            | Self::Repeated(_)
            | Self::TooMany
            | Self::ValueTooLong(_) => 400,
        }
    }

    /// The error code of OAuth 2.0 (RFC 6749, section 5.2).
    pub fn oauth_code(&self) -> &'static str {
        "invalid_request"
    }

    /// The name in records and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::BodyNotAccepted => "body_not_accepted",
            Self::BodyTooLarge => "body_too_large",
            Self::Charset => "charset",
            Self::ContentEncoding => "content_encoding",
            Self::ContentType(_) => "content_type",
            Self::ControlCharacter(_) => "parameter_control_character",
            Self::CredentialInQuery(_) => "parameter_credential_in_query",
            Self::EmptyName => "parameter_empty_name",
            Self::Escape(_) => "parameter_escape",
            Self::Json => "json",
            Self::JsonDepth => "json_depth",
            Self::NameTooLong => "parameter_name_too_long",
            Self::NotText(_) => "parameter_not_text",
            Self::NotUtf8(_) => "parameter_not_utf8",
            Self::QueryAndBody(_) => "parameter_query_and_body",
            Self::Repeated(_) => "parameter_repeated",
            Self::TooMany => "parameter_too_many",
            Self::ValueTooLong(_) => "parameter_value_too_long",
        }
    }
}

/// A name as an error repeats it: short and without characters that could pass for something else.
pub(super) fn shown(name: &str) -> String {
    let printable = |c: char| {
        if c.is_ascii_graphic() && !matches!(c, '`' | '"' | '\\' | '<' | '>') {
            c
        } else {
            '?'
        }
    };
    name.chars().take(NAME_SHOWN_MAX).map(printable).collect()
}
