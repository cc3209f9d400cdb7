//! What a client shows of itself: the ClientHello, `User-Agent`, `Accept-Language`.

use crate::input::Input;
use riskgate::domain::signals::agent::AgentFacts;
use riskgate::proxy::hello as tls;

/// A handshake message; the same bytes as lines are the two headers.
pub(super) fn hello(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let (agent, language) = (text(input.line()), text(input.line()));
    let facts = AgentFacts::parse(agent, language);
    assert_eq!(facts, AgentFacts::parse(agent, language));
    let shown = [&facts.release, &facts.platform];
    assert!(shown.iter().all(|text| text.len() <= 128), "{shown:?}");
    assert!(facts.language.as_ref().is_none_or(|text| text.len() <= 64));

    let Some(print) = tls::fingerprint(bytes) else {
        return false;
    };
    // JA4: `t13d1516h2`, twelve digits, twelve digits.
    let parts: Vec<&str> = print.ja4.split('_').collect();
    let [head, ciphers, extensions] = parts.as_slice() else {
        panic!("three parts: {}", print.ja4);
    };
    assert!(head.is_ascii() && head.len() == 10, "{}", print.ja4);
    for digest in [ciphers, extensions] {
        let is_hex = digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_hex && digest.len() == 12, "{}", print.ja4);
    }
    let known = facts.contradicts(&print);
    assert!(
        !known || !facts.is_scripted(),
        "a program is held against no browser"
    );
    true
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
