//! What the identity server answers: redirects, pages that post themselves, JSON. A page or address that is refused hands
//! over nothing any more.

use crate::input::Input;
use riskgate::domain::front_channel;
use riskgate::domain::front_channel::FrontChannel;
use riskgate::domain::front_channel::FrontChannelError;
use riskgate::domain::history::LinkKind;
use riskgate::domain::outcome;
use riskgate::domain::outcome::AuthOutcome;
use riskgate::domain::outcome::HandsOver;
use riskgate::domain::outcome::ResponseHead;
use riskgate::domain::route::Door;
use riskgate::domain::saml::Handed;

/// A byte for the door, one for the status, a line for the location, and the body.
pub(super) fn answers(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let (Some(door), Some(status)) = (
        input.choice(&Door::ALL),
        input.choice(&[200, 302, 400, 401, 403, 500_u16]),
    ) else {
        return false;
    };
    let location = std::str::from_utf8(input.line()).ok().map(str::to_owned);
    for hands_over in [HandsOver::Nothing, HandsOver::OAuth, HandsOver::Saml] {
        let head = ResponseHead {
            status,
            location: location.clone(),
            session: None,
        };
        let conclusion = outcome::conclude_head(door, hands_over, &head);
        assert!(status < 500 || conclusion.issued.is_empty());
    }
    let body = input.rest();
    let conclusion = outcome::conclude_body(door, status, false, body);
    assert!(!outcome::offers_factors(body) || !body.is_empty());
    // A refusal hands over nothing; a login in progress may go on.
    let mut issued = conclusion.issued.iter().map(|issued| issued.kind);
    assert!(
        status < 400 || issued.all(|kind| kind == LinkKind::Transaction),
        "{door:?}"
    );
    let succeeded = [AuthOutcome::Succeeded, AuthOutcome::TokensIssued];
    assert!(status < 400 || !succeeded.contains(&conclusion.outcome));
    let mut found = Vec::new();
    if let Some(location) = &location {
        found.extend(FrontChannel::of_location(location));
        drop(Handed::in_location(location));
    }
    if let Some(page) = input.text() {
        let posted = front_channel::posted(page);
        assert!(posted.is_none_or(|(_, fields)| fields.len() <= 64));
        found.extend(FrontChannel::of_form(page));
        drop(Handed::in_page(page));
    }
    found.extend(FrontChannel::of_json(body));
    for handed in &found {
        check_error(handed);
    }
    !found.is_empty()
}

/// With an error in its place nothing is handed over, to nobody else, and nothing runs in the browser.
fn check_error(handed: &FrontChannel) {
    let names = ["access_token", "code", "id_token"];
    match handed.with_error("access_denied", "not now") {
        FrontChannelError::Redirect(address) => {
            let again = FrontChannel::of_location(&address).expect("it says an error");
            assert!(again.is_error, "{address}");
            assert!(again.code.is_none() && !again.has_tokens(), "{address}");
        }
        FrontChannelError::Post(action, fields) => {
            assert!(action.to_ascii_lowercase().starts_with("http"), "{action}");
            assert!(fields.iter().any(|(name, _)| name == "error"));
            assert!(
                !fields
                    .iter()
                    .any(|(name, _)| names.contains(&name.as_str()))
            );
        }
        FrontChannelError::Direct => {}
    }
}
