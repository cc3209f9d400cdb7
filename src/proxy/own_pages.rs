//! The gateway's own pages for people: how a held login stands, and which devices a user is known by. Readable without
//! script and style. Nothing from a request enters them but numbers.

use crate::domain::review;
use crate::domain::review::Standing;
use crate::domain::route::OWN_PREFIX;
use crate::flow::desk::WaitingPage;
use crate::flow::devices::DevicesPage;
use crate::flow::devices::KnownDevice;
use crate::flow::step::ApprovePage;
use crate::flow::step::StepPage;
use crate::proxy::pages;
use std::fmt::Write;
use std::time::Duration;

/// What gives up a sign-in that waits. A link and not a form: browsers would hold the policy for forms against the
/// application to which it leads in the end.
pub const GIVE_UP: &str = "give_up=1";
/// The query with which the page of approvals says that something was approved.
pub const APPROVED: &str = "approved=1";
/// The query with which the page of devices says that something was forgotten.
pub const FORGOTTEN: &str = "forgotten=1";

/// How often a waiting page has looked, and whether it goes on by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Looks {
    /// By hand only.
    Off,
    /// This often so far.
    So(u16),
}

/// The fields of a form.
#[derive(Debug, Default, PartialEq)]
pub struct Fields {
    /// What says that the page was made for this browser.
    pub form: String,
    /// The device to forget.
    pub device: Option<String>,
    /// What else to forget.
    pub what: Option<String>,
    /// The number of a sign-in to approve.
    pub number: Option<String>,
}

impl Looks {
    /// From the query of the page; anything else begins anew.
    pub fn of(query: &str) -> Self {
        match query.split_once('=') {
            Some(("look", "off")) => Self::Off,
            Some(("look", count)) => Self::So(count.parse().unwrap_or(0)),
            _ => Self::So(0),
        }
    }

    /// Seconds until the next look and the query of it; `None` when the page no longer looks by itself: after some two
    /// hours.
    pub fn next(self) -> Option<(u16, String)> {
        let Self::So(count) = self else { return None };
        let seconds = match count {
            0..12 => 5,
            12..60 => 15,
            60..160 => 60,
            _ => return None,
        };
        Some((seconds, format!("look={}", count + 1)))
    }
}

/// How a held login stands.
pub fn waiting(page: &WaitingPage, looks: Looks) -> String {
    let (title, text) = match page.standing {
        Some(Standing::Waiting) => (
            "Sign-in held for review",
            "Your organization's security team looks at this sign-in before it can go on. Nothing is wrong with your \
             password, and nothing of it is kept. Leave this page open, or come back to it later.",
        ),
        Some(Standing::Released) => (
            "You can sign in now",
            "Your organization's security team has released this sign-in. Go back to the application and sign in again, \
             in this browser and within 15 minutes. It counts for one sign-in.",
        ),
        Some(Standing::Refused) => (
            "Sign-in refused",
            "Your organization's security team has refused this sign-in. If it was you, contact your help desk and give \
             them the reference below.",
        ),
        Some(Standing::Spent) => (
            "This release is used up",
            "The release of this sign-in has been used, or its 15 minutes are over. Go back to the application and sign \
             in again.",
        ),
        None => (
            "No longer held",
            "This sign-in is no longer waiting. Go back to the application and sign in again.",
        ),
    };
    let mut body = format!(
        "<h1>{title}</h1>\n<p role=\"status\">{text}</p>\n<p>Reference for your help desk: <code>{}</code></p>\n",
        review::reference(page.id)
    );
    if page.standing == Some(Standing::Waiting) {
        body.push_str(match looks.next() {
            Some(_) => {
                "<p>This page looks again by itself. <a href=\"?look=0\">Look now</a> or \
                 <a href=\"?look=off\">stop looking</a>.</p>\n"
            }
            None => "<p><a href=\"?look=off\">Look again</a></p>\n",
        });
    }
    pages::document(title, &body)
}

/// A login that waits for our step. `address` is that of the page itself.
pub fn step(page: &StepPage, address: &str, looks: Looks) -> String {
    let mut body = "<h1>Confirm that it is you</h1>\n".to_owned();
    match page {
        StepPage::Waiting(number) => {
            let _infallible = writeln!(
                body,
                "<p>Your organization asks for a second proof of this sign-in. On a device with which you have signed in \
                 before, and on which you are signed in now, open <code>{OWN_PREFIX}/approve</code> at this address and type \
                 this number:</p>\n<p role=\"status\"><strong>{number}</strong></p>\n\
                 <p>Type it for a sign-in that you have begun yourself, and for no other: nobody will ever ask you for it.</p>"
            );
            body.push_str(match looks.next() {
                Some(_) => "<p>This page goes on by itself once that is done.</p>\n",
                None => "<p>Reload this page once that is done.</p>\n",
            });
            let _infallible = writeln!(
                body,
                "<p><a href=\"{address}&amp;{GIVE_UP}\">Give up this sign-in</a></p>"
            );
        }
        StepPage::Goes(_) => body.push_str("<p>It is confirmed.</p>\n"),
        StepPage::Ended => body.push_str(
            "<p>This page has ended. Go back to the application and sign in again.</p>\n",
        ),
    }
    pages::document("Confirm that it is you", &body)
}

/// The page on which a sign-in elsewhere is approved.
pub fn approve(page: &ApprovePage, is_done: bool) -> String {
    let mut body = "<h1>Approve a sign-in</h1>\n".to_owned();
    if is_done {
        body.push_str(
            "<p role=\"status\">Done: if the number was right, the other sign-in goes on.</p>\n",
        );
    }
    if page.may_approve {
        let _infallible = writeln!(
            body,
            "<p>Type the number that your other sign-in shows. If you have not begun one yourself, do not type anything: \
             somebody else knows your password. Change it.</p>\n\
             <form method=\"post\" action=\"{OWN_PREFIX}/approve\"><input type=\"hidden\" name=\"form\" value=\"{}\">\
             <label for=\"number\">Number</label> <input id=\"number\" name=\"number\" inputmode=\"numeric\" \
             pattern=\"[0-9]{{6}}\" maxlength=\"6\" autocomplete=\"off\" required> <button>Approve</button></form>",
            page.form
        );
    } else {
        body.push_str(
            "<p>Sign in first, in a browser in which you have signed in before. Only there can a sign-in be approved.</p>\n",
        );
    }
    pages::document("Approve a sign-in", &body)
}

/// The devices of a user, or what a browser without a session can ask for.
pub fn devices(page: &DevicesPage, forgotten: bool) -> String {
    let mut body = "<h1>Known devices</h1>\n".to_owned();
    if forgotten {
        body.push_str("<p role=\"status\">Done: it is forgotten.</p>\n");
    }
    match &page.devices {
        Some(devices) if devices.is_empty() => {
            body.push_str("<p>No device is known for your account.</p>\n");
        }
        Some(devices) => list(&mut body, devices, &page.form),
        None => {
            body.push_str("<p>Sign in to see the devices that are known for your account.</p>\n")
        }
    }
    let listed = page.devices.iter().flatten().any(|device| device.is_this);
    if page.has_cookie && !listed {
        body.push_str(
            "<p>This browser is remembered. If you forget it, the next sign-in from here may ask for a second proof.</p>\n",
        );
        form(
            &mut body,
            &page.form,
            "what",
            "this_browser",
            "Forget this browser",
            None,
        );
    } else if !page.has_cookie && page.devices.is_none() {
        body.push_str("<p>This browser is not remembered.</p>\n");
    }
    pages::document("Known devices", &body)
}

fn list(body: &mut String, devices: &[KnownDevice], token: &str) {
    body.push_str(
        "<p>These are the devices with which you have signed in. A device that you forget may be asked for a second proof \
         when it comes back.</p>\n<ol>\n",
    );
    for (number, device) in devices.iter().enumerate() {
        let name = if device.is_this {
            "This browser".to_owned()
        } else {
            format!("Device {}", number + 1)
        };
        let id = format!("device-{}", number + 1);
        let _infallible = writeln!(
            body,
            "<li><p id=\"{id}\"><strong>{name}</strong>: {}, last {}, first {}</p>",
            match device.logins {
                1 => "1 sign-in".to_owned(),
                logins => format!("{logins} sign-ins"),
            },
            ago(device.last),
            ago(device.first)
        );
        form(body, token, "device", &device.handle, "Forget", Some(&id));
        body.push_str("</li>\n");
    }
    body.push_str("</ol>\n");
    if devices.iter().any(|device| !device.is_this) {
        let text = if devices.iter().any(|device| device.is_this) {
            "Forget all others"
        } else {
            "Forget all"
        };
        form(body, token, "what", "others", text, None);
    }
}

fn form(
    body: &mut String,
    token: &str,
    name: &str,
    value: &str,
    text: &str,
    described_by: Option<&str>,
) {
    let described =
        described_by.map_or_else(String::new, |id| format!(" aria-describedby=\"{id}\""));
    let _infallible = writeln!(
        body,
        "<form method=\"post\" action=\"{OWN_PREFIX}/devices\"><input type=\"hidden\" name=\"form\" value=\"{token}\">\
         <button name=\"{name}\" value=\"{value}\"{described}>{text}</button></form>"
    );
}

fn ago(span: Duration) -> String {
    let count = |number: u64, unit: &str| match number {
        1 => format!("1 {unit} ago"),
        number => format!("{number} {unit}s ago"),
    };
    match span.as_secs() {
        0..3_600 => "within the last hour".to_owned(),
        seconds @ 3_600..172_800 => count(seconds / 3_600, "hour"),
        seconds => count(seconds / 86_400, "day"),
    }
}

/// The fields of a form's body; `None` for fields that no form of ours has, or has twice.
pub fn fields(body: &[u8]) -> Option<Fields> {
    let text = std::str::from_utf8(body).ok()?;
    let mut form = None;
    let mut fields = Fields::default();
    for pair in text.split('&') {
        let (name, value) = pair.split_once('=')?;
        // What we give away needs no escapes.
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        if !value.bytes().all(plain) {
            return None;
        }
        let place = match name {
            "form" => &mut form,
            "device" => &mut fields.device,
            "number" => &mut fields.number,
            "what" => &mut fields.what,
            _ => return None,
        };
        if place.replace(value.to_owned()).is_some() {
            return None;
        }
    }
    fields.form = form?;
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Pseudonym;

    #[test]
    fn a_waiting_page_looks_for_some_two_hours() {
        let (mut looks, mut total, mut steps) = (Looks::of(""), 0, 0);
        while let Some((seconds, next)) = looks.next() {
            total += u64::from(seconds);
            steps += 1;
            looks = Looks::of(&next);
        }
        assert!(
            (6_000..9_000).contains(&total) && steps == 160,
            "{total} {steps}"
        );
        assert_eq!(Looks::of("look=off").next(), None);
        for noise in ["look=-1", "look=99999999", "look=<script>", "x=1", "look"] {
            assert_eq!(Looks::of(noise), Looks::So(0), "{noise}");
        }
        assert_eq!(Looks::of("look=65535").next(), None);
    }

    #[test]
    fn each_standing_says_what_to_do() {
        let id = Pseudonym::from_bytes([0xAB; 16]);
        for standing in [
            Some(Standing::Waiting),
            Some(Standing::Released),
            Some(Standing::Refused),
            Some(Standing::Spent),
            None,
        ] {
            let html = waiting(&WaitingPage { id, standing }, Looks::So(0));
            assert!(
                html.contains("abababab") && !html.contains("ababababab"),
                "{html}"
            );
            assert!(html.matches("<h1>").count() == 1 && !html.contains("<script"));
        }
    }

    #[test]
    fn forms_are_read_strictly() {
        let read = fields(b"form=abc&device=d_-9").unwrap();
        assert_eq!(
            (read.form.as_str(), read.device.as_deref()),
            ("abc", Some("d_-9"))
        );
        for bad in [
            &b""[..],
            b"device=d",
            b"form=a&form=b",
            b"form=a&x=1",
            b"form",
            b"form=%41",
            b"form=a&device=d&device=e",
            b"form=\xFF",
        ] {
            assert_eq!(fields(bad), None, "{bad:?}");
        }
    }
}
