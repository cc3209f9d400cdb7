//! The pages that people see when the gateway answers in place of the identity server. Plain, readable without script
//! and style, and silent about the reasons: they would teach an attacker more than a user.

use crate::domain::enforcement::RejectionKind;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::Digest;
use sha2::Sha256;
use std::sync::LazyLock;

const STYLE: &str = ":root{color-scheme:light dark}body{font:1.1rem/1.6 system-ui,sans-serif;max-width:38rem;margin:12vh auto;padding:0 1.5rem;\
color:#1b1f24;background:#fff}h1{font-size:1.6rem;line-height:1.25}code{font-size:.95em;color:#444b54}a{color:#0b57d0}button,input{font:inherit;padding:.3rem .8rem}\
@media(prefers-color-scheme:dark){body{color:#e6e9ee;background:#14171b}code{color:#b3bac4}a{color:#8ab4f8}}";

/// A Content-Security-Policy that allows the page's own style and nothing else.
pub fn content_security_policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let hash = STANDARD.encode(Sha256::digest(STYLE));
        format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    });
    &POLICY
}

/// The same for a page that has forms of ours.
pub fn content_security_policy_with_forms() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        content_security_policy().replace("form-action 'none'", "form-action 'self'")
    });
    &POLICY
}

const POST_SCRIPT: &str = "document.forms[0].submit()";

/// A Content-Security-Policy that allows the script of [`self_posting`] and the style of the page. Where the form may
/// lead is left open: browsers hold `form-action` against the redirects that the client answers with as well. So is who may
/// frame it (`frame-ancestors`): applications renew sessions in hidden frames (`prompt=none`), and it stands in for an answer
/// of WSO2's that they may frame. There is nothing on it that a tricked click could decide.
pub fn self_posting_policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
        format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'",
            hash(POST_SCRIPT),
            hash(STYLE)
        )
    });
    &POLICY
}

/// A page that posts its fields to `action` by itself, or by its button where scripts are off.
pub fn self_posting(action: &str, fields: &[(String, String)]) -> String {
    let inputs: String = fields
        .iter()
        .map(|(name, value)| {
            format!(
                "<input type=\"hidden\" name=\"{}\" value=\"{}\">\n",
                escaped(name),
                escaped(value)
            )
        })
        .collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"robots\" content=\"noindex\">\n<title>Back to the application</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>Back to the application</h1>\n<form method=\"post\" action=\"{}\">\n{inputs}<button type=\"submit\">Continue</button>\n</form>\n\
         </main>\n<script>{POST_SCRIPT}</script>\n</body>\n</html>\n",
        escaped(action)
    )
}

/// Text in an attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// The page for a decision.
pub fn rejection(kind: RejectionKind, reference: &str) -> String {
    let (title, text) = match kind {
        RejectionKind::Blocked | RejectionKind::GrantRefused => (
            "Sign-in refused",
            "This sign-in was refused because it does not look like you. If it was you, contact your help desk and give them the reference below.",
        ),
        RejectionKind::Held => (
            "Sign-in held for review",
            "This sign-in is being looked at by your organization's security team. Nothing is wrong with your password. Try again in a while, or contact your help desk with the reference below.",
        ),
        RejectionKind::ReviewFull => (
            "Sign-in not possible now",
            "This sign-in would have to be looked at by your organization's security team, and too many wait already. Try again in a while, or contact your help desk with the reference below.",
        ),
        RejectionKind::RateLimited => (
            "Too many attempts",
            "There were too many attempts in a short time. Wait a moment, then try again.",
        ),
        RejectionKind::ChallengesExhausted => (
            "Too many sign-ins",
            "Somebody has asked for a second proof of this account several times within a few minutes. Wait ten minutes, or sign in on a device that you have used before. If you did not do this, change your password.",
        ),
        RejectionKind::StepUpHidden => (
            "A further proof is needed",
            "This sign-in needs a second proof that it is you, and the application has asked in a way that does not allow for it. Contact your help desk with the reference below.",
        ),
        RejectionKind::StepUpLooped => (
            "A further proof is needed",
            "This sign-in needs a second proof that it is you, and none was given. Close this window, wait five minutes and sign in again with your second proof at hand. If you were never asked for one, contact your help desk with the reference below.",
        ),
        RejectionKind::StepUpByAuthorization
        | RejectionKind::StepUpDenied
        | RejectionKind::StepUpImpossible => (
            "A further proof is needed",
            "This sign-in needs a second proof that it is you. Go back to the application and sign in again.",
        ),
    };
    page(title, text, reference)
}

/// The page for an error.
pub fn error(status: u16, reference: &str) -> String {
    let (title, text) = match status {
        403 => (
            "This form is too old",
            "The form was not sent from a page that was just opened here. Open the page again and try once more.",
        ),
        404 => ("Nothing here", "There is no page at this address."),
        429 => (
            "Too many attempts",
            "There were too many attempts in a short time. Wait a moment, then try again.",
        ),
        502..=504 => (
            "Sign-in is not available",
            "The sign-in service does not answer at the moment. Try again in a while.",
        ),
        500..=599 => (
            "Something went wrong",
            "The request could not be served. Try again in a while.",
        ),
        _ => (
            "The request could not be read",
            "The request is not one that can be served. Go back to the application and start again.",
        ),
    };
    page(title, text, reference)
}

fn page(title: &str, text: &str, reference: &str) -> String {
    // The reference is made here; the rest is written above. Nothing from the request enters the page.
    document(
        title,
        &format!("<h1>{title}</h1>\n<p>{text}</p>\n<p>Reference: <code>{reference}</code></p>\n"),
    )
}

/// A whole page around `body`, which is HTML of our own.
pub fn document(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"robots\" content=\"noindex\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n\
         {body}</main>\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_posting_page_escapes_what_it_carries() {
        let fields = [(
            "state".to_owned(),
            "\"><script>alert(1)</script>&'".to_owned(),
        )];
        let page = self_posting("https://app/cb?a=1&b=\"", &fields);
        assert_eq!(page.matches("<script").count(), 1);
        assert!(page.contains("action=\"https://app/cb?a=1&amp;b=&quot;\""));
        assert!(
            page.contains("value=\"&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;&#39;\"")
        );
    }

    #[test]
    fn pages_say_no_reason_and_carry_no_script() {
        for kind in [
            RejectionKind::Blocked,
            RejectionKind::Held,
            RejectionKind::RateLimited,
            RejectionKind::StepUpImpossible,
        ] {
            let page = rejection(kind, "ref");
            assert!(page.contains("<html lang=\"en\">") && page.matches("<h1>").count() == 1);
            assert!(!page.contains("<script") && !page.contains("score"));
        }
    }
}
