//! Writes the gateway's own answers: pages for people, OAuth errors for clients, JSON for APIs.

use crate::domain::enforcement::Form;
use crate::domain::enforcement::Rejection;
use crate::domain::enforcement::RejectionKind;
use crate::domain::enforcement::StepUpSettings;
use crate::domain::resource::Denial;
use crate::domain::route::Door;
use crate::flow::answer::Replacement;
use crate::flow::error::Refusal;
use crate::proxy::pages;
use bytes::Bytes;
use http::header;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use serde_json::json;

/// Bytes of an unread body that are drained before the connection is closed, so that the client sees the answer.
const DRAIN_MAX: std::time::Duration = std::time::Duration::from_millis(500);

/// Seconds for which the public keys may be kept. A key is published long before it signs.
const KEYS_FRESH: u32 = 300;

/// When a retry makes sense where something is away.
const RETRY_AFTER_SECONDS: &str = "5";

/// An answer that is ready to be written.
#[derive(Debug)]
pub struct Answer {
    status: u16,
    content_type: &'static str,
    body: String,
    headers: Vec<(header::HeaderName, String)>,
    cookies: Vec<String>,
    close: bool,
}

impl Answer {
    fn new(status: u16, form: Form, body: String) -> Self {
        let content_type = match form {
            Form::Page => "text/html; charset=utf-8",
            Form::OAuth | Form::Api => "application/json",
        };
        let mut headers = vec![(header::CACHE_CONTROL, "no-store".to_owned())];
        match form {
            Form::Page => headers.push((
                header::CONTENT_SECURITY_POLICY,
                pages::content_security_policy().to_owned(),
            )),
            Form::OAuth => headers.push((header::PRAGMA, "no-cache".to_owned())),
            Form::Api => {}
        }
        headers.push((header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()));
        Self {
            status,
            content_type,
            body,
            headers,
            cookies: Vec::new(),
            close: false,
        }
    }

    /// The answer to a request that cannot be admitted.
    pub fn refusal(refusal: &Refusal, door: Option<Door>, reference: &str) -> Self {
        let form = form_of(door);
        let body = match form {
            Form::Page => pages::error(refusal.status, reference),
            Form::OAuth => {
                json!({ "error": "invalid_request", "error_description": refusal.message })
                    .to_string()
            }
            Form::Api => api_error(refusal.status, &refusal.message, reference),
        };
        let mut answer = Self::new(refusal.status, form, body).told_to_nobody(form);
        answer.close = refusal.close;
        if let Some(allow) = &refusal.allow {
            answer.headers.push((header::ALLOW, allow.clone()));
        }
        answer
    }

    /// The answer that a decision gives.
    pub fn rejection(rejection: &Rejection, step_up: &StepUpSettings, reference: &str) -> Self {
        let body = match rejection.form {
            Form::Page => pages::rejection(rejection.kind, reference),
            Form::OAuth => oauth_error(rejection.kind, step_up),
            Form::Api => api_error(rejection.status, api_message(rejection.kind), reference),
        };
        let form = rejection.form;
        let mut answer = Self::new(rejection.status, form, body).told_to_nobody(form);
        if rejection.status == 401 {
            let challenge = format!(
                "Bearer error=\"insufficient_user_authentication\", acr_values=\"{}\", max_age=\"{}\"",
                step_up.acr, step_up.max_age_seconds
            );
            answer.headers.push((header::WWW_AUTHENTICATE, challenge));
        }
        if let Some(seconds) = rejection.retry_after {
            answer
                .headers
                .push((header::RETRY_AFTER, seconds.to_string()));
        }
        answer
    }

    /// A page at an address that is the client's, with what it had to say: where it leads to hears nothing of that.
    fn told_to_nobody(self, form: Form) -> Self {
        match form {
            Form::Page => self.with(header::REFERRER_POLICY, "no-referrer".to_owned()),
            Form::OAuth | Form::Api => self,
        }
    }

    /// The answer to a caller of a service who is not let through; `challenge` says what would help.
    pub fn denial(denial: Denial, challenge: Option<String>, reference: &str) -> Self {
        let body = json!({
            "error": denial.error().unwrap_or("unauthorized"),
            "error_description": denial.to_string(),
            "traceId": reference,
        });
        let mut answer = Self::new(denial.status(), Form::Api, body.to_string());
        if let Some(challenge) = challenge {
            answer.headers.push((header::WWW_AUTHENTICATE, challenge));
        }
        if denial == Denial::Away {
            answer
                .headers
                .push((header::RETRY_AFTER, RETRY_AFTER_SECONDS.to_owned()));
        }
        answer
    }

    /// JSON for a program, which nobody keeps.
    pub fn json(status: u16, json: String) -> Self {
        Self::new(status, Form::Api, json)
    }

    /// One of the gateway's own pages. With `no-referrer` a browser hides the origin of forms as well, so that pages with
    /// forms say `same-origin`.
    pub fn own(status: u16, html: String, referrer: &'static str) -> Self {
        let mut answer = Self::new(status, Form::Page, html);
        for (name, value) in &mut answer.headers {
            if *name == header::CONTENT_SECURITY_POLICY {
                pages::content_security_policy_with_forms().clone_into(value);
            }
        }
        answer.with(header::REFERRER_POLICY, referrer.to_owned())
    }

    /// A JSON Web Key Set (RFC 7517 section 8.5.2), which whoever verifies may keep for a while.
    pub fn key_set(json: String) -> Self {
        let mut answer = Self::metadata(json);
        answer.content_type = "application/jwk-set+json";
        answer
    }

    /// What the gateway says of itself to everybody, as JSON that may be kept for a while.
    pub fn metadata(json: String) -> Self {
        let mut answer = Self::new(200, Form::Api, json);
        answer
            .headers
            .retain(|(name, _)| name != header::CACHE_CONTROL);
        answer
            .with(
                header::CACHE_CONTROL,
                format!("public, max-age={KEYS_FRESH}"),
            )
            .with(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*".to_owned())
    }

    /// A redirect (303) to a page of our own.
    pub fn see_other(location: &str) -> Self {
        Self::new(303, Form::Page, String::new())
            .with(header::LOCATION, location.to_owned())
            .with(header::REFERRER_POLICY, "no-referrer".to_owned())
    }

    /// The same with another header.
    pub fn with(mut self, name: header::HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same with a cookie.
    pub fn with_cookie(mut self, cookie: String) -> Self {
        self.cookies.push(cookie);
        self
    }

    /// The redirect to the same request with a demand for a stronger factor.
    pub fn redirect(location: &str) -> Self {
        let mut answer = Self::new(302, Form::Page, String::new());
        answer.headers.push((header::LOCATION, location.to_owned()));
        answer
    }

    /// What goes out in place of the identity server's answer.
    pub fn replacement(
        replacement: &Replacement,
        cookies: Vec<String>,
        step_up: &StepUpSettings,
        reference: &str,
    ) -> Self {
        let answer = match replacement {
            Replacement::Reject(rejection) => Self::rejection(rejection, step_up, reference),
            Replacement::Held { page, cookie } => {
                Self::see_other(page).with_cookies(cookie.iter().cloned())
            }
            Replacement::Redirect(location) => Self::redirect(location),
            Replacement::Post { action, fields } => Self::self_posting(action, fields),
        };
        answer.with_cookies(cookies)
    }

    /// The same, with values of Set-Cookie headers.
    pub fn with_cookies(mut self, cookies: impl IntoIterator<Item = String>) -> Self {
        self.cookies.extend(cookies);
        self
    }

    /// A page that posts its fields by itself.
    fn self_posting(action: &str, fields: &[(String, String)]) -> Self {
        let mut answer = Self::new(200, Form::Page, pages::self_posting(action, fields));
        answer
            .headers
            .retain(|(name, _)| name != header::CONTENT_SECURITY_POLICY);
        answer.headers.push((
            header::CONTENT_SECURITY_POLICY,
            pages::self_posting_policy().to_owned(),
        ));
        answer
            .headers
            .push((header::REFERRER_POLICY, "no-referrer".to_owned()));
        answer
    }

    /// The same answer, with the connection closed after it.
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// A service of the operator's own failed.
    pub fn service_failure(status: u16, reference: &str) -> Self {
        let message = "the service does not answer";
        let mut answer = Self::new(status, Form::Api, api_error(status, message, reference));
        if status >= 502 {
            answer
                .headers
                .push((header::RETRY_AFTER, RETRY_AFTER_SECONDS.to_owned()));
        }
        answer.close = true;
        answer
    }

    /// The identity server failed.
    pub fn upstream_failure(status: u16, door: Option<Door>, reference: &str) -> Self {
        let form = form_of(door);
        let message = if status < 500 {
            "the request did not come as it should"
        } else {
            "the identity server does not answer"
        };
        let body = match form {
            Form::Page => pages::error(status, reference),
            Form::OAuth => {
                json!({ "error": "temporarily_unavailable", "error_description": message })
                    .to_string()
            }
            Form::Api => api_error(status, message, reference),
        };
        let mut answer = Self::new(status, form, body);
        if status >= 502 {
            answer
                .headers
                .push((header::RETRY_AFTER, RETRY_AFTER_SECONDS.to_owned()));
        }
        answer.close = true;
        answer
    }

    /// Writes the answer.
    pub async fn write(self, session: &mut Session) -> pingora::Result<()> {
        let is_head = session.req_header().method == http::Method::HEAD;
        let mut head = ResponseHeader::build(self.status, Some(self.headers.len() + 3))?;
        head.insert_header(header::CONTENT_TYPE, self.content_type)?;
        head.insert_header(header::CONTENT_LENGTH, self.body.len())?;
        for (name, value) in self.headers {
            head.insert_header(name, value)?;
        }
        for cookie in self.cookies {
            head.append_header(header::SET_COOKIE, cookie)?;
        }
        if self.close {
            session.set_keepalive(None);
        } else {
            // What is left of a body would be read as the next request.
            let drained =
                tokio::time::timeout(DRAIN_MAX, session.as_downstream_mut().drain_request_body())
                    .await;
            if !matches!(drained, Ok(Ok(()))) {
                session.set_keepalive(None);
            }
        }
        let empty = is_head || self.body.is_empty();
        session.write_response_header(Box::new(head), empty).await?;
        if !empty {
            session
                .write_response_body(Some(Bytes::from(self.body)), true)
                .await?;
        }
        Ok(())
    }
}

/// The form in which the clients of a door read errors.
pub fn form_of(door: Option<Door>) -> Form {
    door.map_or(Form::Page, |door| {
        crate::domain::enforcement::rejection(door, RejectionKind::Blocked, None).form
    })
}

/// RFC 6749 section 5.2; `acr_values` and `max_age` tell the client what to ask for in a new authorization (RFC 9470).
fn oauth_error(kind: RejectionKind, step_up: &StepUpSettings) -> String {
    match kind {
        RejectionKind::StepUpByAuthorization => json!({
            "error": "invalid_grant",
            "error_description": "a stronger authentication is required; start a new authorization",
            "acr_values": step_up.acr,
            "max_age": step_up.max_age_seconds,
        }),
        // RFC 8628 section 3.5, CIBA Core section 11: the client stops polling and may begin anew.
        RejectionKind::StepUpDenied => json!({
            "error": "access_denied",
            "error_description": "a stronger authentication is required and was not given; begin anew",
            "acr_values": step_up.acr,
            "max_age": step_up.max_age_seconds,
        }),
        RejectionKind::StepUpImpossible => json!({
            "error": "interaction_required",
            "error_description": "a stronger authentication is required, which this grant cannot give",
            "acr_values": step_up.acr,
            "max_age": step_up.max_age_seconds,
        }),
        RejectionKind::Held => json!({
            "error": "invalid_grant",
            "error_description": "the sign-in is held for review",
        }),
        RejectionKind::ReviewFull => json!({
            "error": "temporarily_unavailable",
            "error_description": "the sign-in would have to be reviewed, and too many wait already",
        }),
        RejectionKind::GrantRefused => json!({
            "error": "invalid_grant",
            "error_description": "the grant was refused; start a new authorization",
        }),
        RejectionKind::Blocked | RejectionKind::StepUpHidden | RejectionKind::StepUpLooped => json!({
            "error": "access_denied",
            "error_description": "the request was refused",
        }),
        RejectionKind::RateLimited | RejectionKind::ChallengesExhausted => json!({
            "error": "temporarily_unavailable",
            "error_description": "too many requests",
        }),
    }
    .to_string()
}

fn api_message(kind: RejectionKind) -> &'static str {
    match kind {
        RejectionKind::Blocked | RejectionKind::GrantRefused => "the request was refused",
        RejectionKind::Held => "the sign-in is held for review",
        RejectionKind::ReviewFull => "too many sign-ins wait for review",
        RejectionKind::RateLimited => "too many requests",
        RejectionKind::ChallengesExhausted => "too many sign-ins asked for a second proof",
        RejectionKind::StepUpByAuthorization
        | RejectionKind::StepUpDenied
        | RejectionKind::StepUpHidden
        | RejectionKind::StepUpImpossible
        | RejectionKind::StepUpLooped => "a stronger authentication is required",
    }
}

/// The error form of WSO2's APIs: code, message, description, trace id.
fn api_error(status: u16, message: &str, reference: &str) -> String {
    json!({ "code": format!("RG-{status}"), "message": message, "description": message, "traceId": reference }).to_string()
}
