//! Cookies, and what the gateway seals into them: nothing that it has not sealed opens, and what it has sealed opens as it
//! was.

use crate::input::Input;
use http::HeaderMap;
use http::HeaderValue;
use http::header::COOKIE;
use riskgate::domain::demand::sealed::BrowserDemands;
use riskgate::domain::demand::sealed::DemandCookieKey;
use riskgate::domain::demand::sealed::browser_demands;
use riskgate::domain::ids::Pseudonym;
use riskgate::domain::ids::SubjectKey;
use riskgate::domain::page_key::PAYLOAD_MAX;
use riskgate::domain::page_key::PageKey;
use riskgate::domain::page_key::Purpose;
use riskgate::domain::signals::session::DEVICE_COOKIE;
use riskgate::domain::signals::session::DeviceCookie;
use riskgate::domain::signals::session::DeviceCookieKey;
use riskgate::domain::signals::session::DeviceToken;
use riskgate::domain::signals::session::SESSION_COOKIE;
use riskgate::domain::signals::session::cookie_values;
use riskgate::domain::signals::session::device_cookie;
use riskgate::domain::time::Timestamp;
use std::sync::LazyLock;

const NOW: Timestamp = Timestamp(1_760_000_000_000);
const LATER: Timestamp = Timestamp(1_760_000_600_000);

/// Lines, each a `Cookie` header; the whole is sealed as well.
pub(super) fn cookies(bytes: &[u8]) -> bool {
    static DEVICE: LazyLock<DeviceCookieKey> = LazyLock::new(|| DeviceCookieKey::new(b"present"));
    static DEMAND: LazyLock<DemandCookieKey> = LazyLock::new(|| DemandCookieKey::new(b"present"));
    static PAGE: LazyLock<PageKey> = LazyLock::new(|| PageKey::new(b"present"));

    check_device(&DEVICE, bytes);
    check_page(&PAGE, bytes);
    let mut headers = HeaderMap::new();
    for line in Input::new(bytes).lines() {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(COOKIE, value);
        }
    }
    for value in cookie_values(&headers, SESSION_COOKIE) {
        assert!(!value.contains(';') && value.trim() == value.trim_matches('"').trim());
        assert_eq!(PAGE.open(Purpose::Browser, value, &[], NOW), None);
    }
    match device_cookie(&headers, &DEVICE, true) {
        DeviceCookie::Valid(token) => assert_eq!(DEVICE.open(&DEVICE.seal(&token)), Some(token)),
        DeviceCookie::Absent => {
            assert_eq!(cookie_values(&headers, DEVICE_COOKIE).count(), 0);
        }
        DeviceCookie::Forged => {
            assert_ne!(cookie_values(&headers, DEVICE_COOKIE).count(), 0);
        }
        DeviceCookie::Unsendable => panic!("the connection is secure"),
    }
    if let Some(demands) = browser_demands(&headers, &DEMAND, NOW) {
        assert!(demands.until() > NOW || demands.copies.is_empty());
    }
    cookie_values(&headers, SESSION_COOKIE).next().is_some()
}

fn check_device(key: &DeviceCookieKey, bytes: &[u8]) {
    let Some((device, rest)) = bytes.split_first_chunk::<16>() else {
        return;
    };
    let Some((issued, rest)) = rest.split_first_chunk::<8>() else {
        return;
    };
    let subjects = rest.as_chunks::<16>().0.iter().take(4);
    let token = DeviceToken {
        device: *device,
        issued: Timestamp(i64::from_be_bytes(*issued)),
        subjects: subjects
            .map(|subject| SubjectKey(Pseudonym::from_bytes(*subject)))
            .collect(),
    };
    let sealed = key.seal(&token);
    assert_eq!(key.open(&sealed), Some(token));
    assert_eq!(DeviceCookieKey::new(b"before").open(&sealed), None);
    let browser = BrowserDemands::new(*device);
    assert!(browser.find(0, None).is_none());
}

fn check_page(key: &PageKey, payload: &[u8]) {
    let bound: [&[u8]; 2] = [b"tenant", payload];
    let sealed = key.seal(Purpose::Form, payload, &bound, LATER);
    let kept = payload.get(..PAYLOAD_MAX).unwrap_or(payload);
    assert_eq!(
        key.open(Purpose::Form, &sealed, &bound, NOW).as_deref(),
        Some(kept)
    );
    assert_eq!(key.open(Purpose::Device, &sealed, &bound, NOW), None);
    assert_eq!(key.open(Purpose::Form, &sealed, &bound[..1], NOW), None);
    assert_eq!(key.open(Purpose::Form, &sealed, &bound, LATER), None);
}
