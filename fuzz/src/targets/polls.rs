//! What receivers of shared signals ask for when they fetch (RFC 8936).

use riskgate::domain::shared_signal::SignalKind;
use riskgate::domain::shared_signal::Token;
use riskgate::domain::shared_signal::poll::GIVEN_MAX;
use riskgate::domain::shared_signal::poll::Outbox;
use riskgate::domain::shared_signal::poll::PollRequest;
use serde_json::Value;

/// More than an answer holds.
const TOKENS: u8 = 120;

/// A poll, asked of an outbox.
pub(super) fn poll(bytes: &[u8]) -> bool {
    let Ok(request) = PollRequest::parse(bytes) else {
        return false;
    };
    let mut outbox = Outbox::new(usize::from(TOKENS));
    for n in 0..TOKENS {
        let lost = outbox.put(Token {
            id: char::from(b'!' + n % 94).to_string() + &"'".repeat(usize::from(n / 94)),
            kind: SignalKind::SessionRevoked,
            text: n.to_string(),
        });
        assert_eq!(lost, None);
    }
    let settled = outbox.settle(&request);
    // What it has said once is said.
    assert!(outbox.settle(&request).is_empty());
    let text = outbox.give(&request).json();
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    let given = answer["sets"].as_object().expect("an object").len();
    let left = outbox.take().len();
    assert_eq!(left + settled.len(), usize::from(TOKENS));
    assert_eq!(given, left.min(request.most()));
    assert!(given <= GIVEN_MAX && (request.most() > 0 || !request.waits()));
    assert_eq!(answer["moreAvailable"], left > given);
    assert_eq!(request.at_once().most(), request.most());
    true
}
