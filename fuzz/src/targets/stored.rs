//! Values of the store. Under a secret nothing that was altered opens (`hostile_values_read_as_missing` tries that); here a
//! file without one is read, so that the decoders see every byte.

use crate::input::Input;
use riskgate::adapters::store::codec::Codec;
use riskgate::adapters::store::entities::EntryKey;
use riskgate::adapters::store::entities::Kind;
use riskgate::adapters::store::entities::Rates;
use riskgate::adapters::store::entities::WindowCounts;
use riskgate::adapters::store::transfer::Body;
use riskgate::domain::history::PLACES_MAX;
use riskgate::domain::secret::Secret;
use riskgate::domain::time::Timestamp;
use std::sync::LazyLock;
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_760_000_000_000);

/// A byte for the kind, and the value.
pub(super) fn stored(bytes: &[u8]) -> bool {
    static PLAIN: LazyLock<Codec> = LazyLock::new(Codec::plain);
    static SEALED: LazyLock<Codec> = LazyLock::new(|| Codec::sealed(&Secret::new(b"key".to_vec())));

    let mut input = Input::new(bytes);
    let Some(kind) = input.choice(&Kind::ALL) else {
        return false;
    };
    let value = input.rest();
    let key = if kind == Kind::Review {
        Some(EntryKey::review())
    } else {
        // The length of an id depends on the kind.
        [16, 8]
            .into_iter()
            .find_map(|length| EntryKey::from_id(kind, &vec![1; length]))
    };
    let key = key.expect("every kind has a key");
    check_numbers(&key, value);
    let Some(body) = Body::open(&PLAIN, &key, value, NOW) else {
        return PLAIN.ticket_end(&key, value).is_some();
    };
    if let Body::Profile(profile) = &body {
        assert!(profile.places.len() <= PLACES_MAX);
    }
    let is_counter = matches!(body, Body::Rates(_));
    assert!(
        is_counter || Body::open(&SEALED, &key, value, NOW).is_none(),
        "no MAC"
    );
    // What is read can be written, and is read again as the same.
    let expires = NOW.plus(Duration::from_secs(60));
    if let Some(written) = body.seal(&PLAIN, &key, expires) {
        let again = Body::open(&PLAIN, &key, &written, NOW).expect("it is read again");
        assert_eq!(again.seal(&PLAIN, &key, expires), Some(written));
    }
    true
}

/// Whatever is read is a number that a counter can have.
fn check_numbers(key: &EntryKey, value: &[u8]) {
    if let Some(rates) = Rates::decode(key.kind, value) {
        for number in rates.decayed_to(key.kind, NOW) {
            assert!(number.is_finite() && number >= 0.0);
        }
    }
    if let Some(counts) = WindowCounts::decode(value)
        && !key.kind.window().is_zero()
    {
        let number = counts.estimate(key.kind, NOW);
        assert!(number.is_finite() && number >= 0.0);
    }
}
