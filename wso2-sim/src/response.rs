//! Answers: status, headers, body, and the few shapes that the doors share. It must not decide anything.

use bytes::Bytes;
use serde_json::Value;

/// An answer before it is written.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

impl Response {
    pub(crate) fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub(crate) fn json(status: u16, value: &Value) -> Self {
        Self {
            status,
            headers: vec![
                ("Content-Type", "application/json".to_owned()),
                (
                    "Cache-Control",
                    "no-store, no-cache, must-revalidate, private".to_owned(),
                ),
            ],
            body: Bytes::from(value.to_string()),
        }
    }

    /// JSON under the headers of RFC 6749 section 5.1.
    pub(crate) fn token_json(status: u16, value: &Value) -> Self {
        let mut response = Self::json(status, value);
        response.headers = vec![
            ("Content-Type", "application/json".to_owned()),
            ("Cache-Control", "no-store".to_owned()),
            ("Pragma", "no-cache".to_owned()),
        ];
        response
    }

    pub(crate) fn html(status: u16, page: String) -> Self {
        Self {
            status,
            headers: vec![
                ("Content-Type", "text/html;charset=UTF-8".to_owned()),
                (
                    "Cache-Control",
                    "no-store, no-cache, must-revalidate, private".to_owned(),
                ),
            ],
            body: Bytes::from(page),
        }
    }

    pub(crate) fn redirect(location: String) -> Self {
        Self::empty(302).with_header("Location", location)
    }

    /// An error of the server's management APIs: code, message, description and trace id.
    pub(crate) fn api_error(
        status: u16,
        code: &str,
        message: &str,
        description: &str,
        trace_id: &str,
    ) -> Self {
        Self::json(
            status,
            &serde_json::json!({
                "code": code, "message": message, "description": description, "traceId": trace_id,
            }),
        )
    }

    #[must_use]
    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Appends parameters to a URL, in the query or in the fragment; a query that is there already is kept.
pub(crate) fn append_params(url: &str, params: &[(String, String)], in_fragment: bool) -> String {
    let encoded = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(params)
        .finish();
    if in_fragment {
        return format!("{url}#{encoded}");
    }
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}{encoded}")
}

/// Text for HTML element content and quoted attributes.
pub(crate) fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_appended_encoded() {
        let params = [("state".to_owned(), "a b&c".to_owned())];
        assert_eq!(
            append_params("https://a/cb?x=1", &params, false),
            "https://a/cb?x=1&state=a+b%26c"
        );
        assert_eq!(
            append_params("https://a/cb", &params, true),
            "https://a/cb#state=a+b%26c"
        );
        assert_eq!(escape_html("<a href='\"&"), "&lt;a href=&#39;&quot;&amp;");
    }
}
