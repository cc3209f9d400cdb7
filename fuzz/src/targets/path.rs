//! The canonicaliser and the route table: what is forwarded is a fixed point that both read in one way.

use http::Method;
use riskgate::domain::route::RouteTable;
use riskgate::domain::target::CanonicalTarget;
use riskgate::domain::target::TARGET_BYTES_MAX;
use std::sync::LazyLock;

/// The request target as it stands in the request line.
pub(super) fn path(bytes: &[u8]) -> bool {
    static ROUTES: LazyLock<RouteTable> = LazyLock::new(RouteTable::shipped);

    let Ok(target) = CanonicalTarget::parse(bytes) else {
        return false;
    };
    let forwarded = target.forwarded();
    assert!(forwarded.len() <= TARGET_BYTES_MAX, "{target:?}");
    assert!(forwarded.starts_with('/'), "{target:?}");
    assert!(
        forwarded.bytes().all(|byte| byte.is_ascii_graphic()),
        "{target:?}"
    );
    let (path, _) = forwarded.split_once('?').unwrap_or((forwarded, ""));
    assert!(!path.contains([';', '\\', '#']), "{target:?}");
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        assert!(!segment.is_empty() || is_last, "{target:?}");
        assert!(segment != "." && segment != "..", "{target:?}");
        for escape in ["%2e", "%2f", "%5c", "%3b", "%00", "%25"] {
            assert!(!segment.to_ascii_lowercase().contains(escape), "{target:?}");
        }
    }
    let again = CanonicalTarget::parse(forwarded.as_bytes());
    let again = again.expect("what is forwarded is accepted");
    assert_eq!(again.forwarded(), forwarded);
    assert_eq!(again.tenant(), target.tenant());
    assert_eq!(again.organization(), target.organization());
    assert_eq!(again.path(), target.path());
    assert_eq!(again.query(), target.query());
    for method in [Method::GET, Method::POST, Method::DELETE] {
        assert_eq!(
            ROUTES.classify(&method, &target),
            ROUTES.classify(&method, &again)
        );
    }
    true
}
