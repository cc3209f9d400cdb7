//! Spellings that are brought into one form, and spellings that are refused.

use super::*;

fn parse(target: &str) -> Result<CanonicalTarget, TargetError> {
    CanonicalTarget::parse(target.as_bytes())
}

#[test]
fn an_organization_has_users_of_its_own_by_every_prefix() {
    for (target, domain) in [
        ("/oauth2/token", "carbon.super"),
        ("/t/example.com/oauth2/token", "example.com"),
        ("/o/0a1b-2c/oauth2/token", "0a1b-2c"),
        ("/t/carbon.super/o/0a1b-2c/oauth2/token", "0a1b-2c"),
        ("/t/example.com/o/0a1b-2c/oauth2/token", "0a1b-2c"),
        // Without a handle the id is the domain of the organization's own tenant.
        ("/t/0a1b-2c/oauth2/token", "0a1b-2c"),
    ] {
        let read = CanonicalTarget::parse(target.as_bytes()).unwrap();
        assert_eq!(read.user_domain(), domain, "{target}");
    }
    assert_eq!(user_domain("example.com", Some("")), "example.com");
}

#[test]
fn the_parts_of_a_target_are_told_apart() {
    // (target, tenant, organization, from token, path, query)
    let cases = [
        ("/", None, None, false, "/", None),
        ("/oauth2/token", None, None, false, "/oauth2/token", None),
        (
            "/oauth2/token/?",
            None,
            None,
            false,
            "/oauth2/token/",
            Some(""),
        ),
        (
            "/oauth2/authorize?a=%2F..//;x&b=+",
            None,
            None,
            false,
            "/oauth2/authorize",
            Some("a=%2F..//;x&b=+"),
        ),
        (
            "/t/foo.com/oauth2/token?x",
            Some("foo.com"),
            None,
            false,
            "/oauth2/token",
            Some("x"),
        ),
        (
            "/t/a_b/o/0a-1b/oauth2/token",
            Some("a_b"),
            Some("0a-1b"),
            false,
            "/oauth2/token",
            None,
        ),
        (
            "/t/foo/o/api/server/v1/x",
            Some("foo"),
            None,
            true,
            "/api/server/v1/x",
            None,
        ),
        (
            "/t/foo/o/scim2/Users",
            Some("foo"),
            None,
            true,
            "/scim2/Users",
            None,
        ),
        (
            "/o/0a1b/scim2/Users",
            None,
            Some("0a1b"),
            false,
            "/scim2/Users",
            None,
        ),
        (
            "/t/foo/api/identity/oauth2/dcr/v1.1/register",
            Some("foo"),
            None,
            false,
            "/api/identity/oauth2/dcr/v1.1/register",
            None,
        ),
        (
            "/tea/oauth2/token",
            None,
            None,
            false,
            "/tea/oauth2/token",
            None,
        ),
    ];
    for (target, tenant, organization, from_token, path, query) in cases {
        let parsed = parse(target).unwrap_or_else(|error| panic!("{target}: {error}"));
        assert_eq!(parsed.tenant(), tenant, "{target}");
        assert_eq!(parsed.organization(), organization, "{target}");
        assert_eq!(parsed.is_organization_from_token(), from_token, "{target}");
        assert_eq!(parsed.path(), path, "{target}");
        assert_eq!(parsed.query(), query, "{target}");
        assert_eq!(parsed.forwarded(), target);
        assert_eq!(
            format!("{}{}", parsed.prefix(), parsed.path()),
            parsed.resource()
        );
    }
}

#[test]
fn spellings_with_one_meaning_are_brought_into_one_form() {
    let cases = [
        ("/oauth2/%74oken", "/oauth2/token"),
        ("/%6Fauth2/toke%6e", "/oauth2/token"),
        ("/commonauth;jsessionid=0A.node1", "/commonauth"),
        ("/console/;jsessionid=1?x=1", "/console/?x=1"),
        ("/scim2/Users/%40%c3%a9", "/scim2/Users/%40%C3%A9"),
        ("/oauth2/token%2e", "/oauth2/token."),
        ("/t/foo/%6fauth2/token", "/t/foo/oauth2/token"),
        ("http://idp.example.com", "/"),
        (
            "HTTPS://Idp.example.com:9443/oauth2/token?x=y",
            "/oauth2/token?x=y",
        ),
        ("http://[2001:db8::1]:80?x", "/?x"),
    ];
    for (raw, canonical) in cases {
        let parsed = parse(raw).unwrap_or_else(|error| panic!("{raw}: {error}"));
        assert_eq!(parsed.forwarded(), canonical, "{raw}");
        assert_eq!(
            parse(canonical).map(|again| again.forwarded().to_owned()),
            Ok(canonical.to_owned())
        );
    }
    assert_eq!(
        parse("HTTPS://Idp.example.com:9443/").unwrap().authority(),
        Some("idp.example.com:9443")
    );
}

#[test]
fn ambiguous_spellings_are_refused() {
    use TargetError as E;
    let cases = [
        ("", E::Form),
        ("*", E::Form),
        ("oauth2/token", E::Form),
        ("idp.example.com:443", E::Form),
        ("ftp://x/oauth2/token", E::Form),
        ("http:///oauth2/token", E::Authority),
        ("http://a@b/oauth2/token", E::Authority),
        ("//oauth2/token", E::EmptySegment),
        ("/oauth2//token", E::EmptySegment),
        ("/oauth2/token//", E::EmptySegment),
        ("/oauth2/./token", E::DotSegment),
        ("/oauth2/token/..", E::DotSegment),
        ("/oauth2/.../token", E::DotSegment),
        ("/oauth2/.%2e/oauth2/token", E::DotSegment),
        ("/oauth2/token/%2E", E::DotSegment),
        ("/oauth2;x=y/token", E::PathParameter),
        ("/oauth2/token;", E::PathParameter),
        ("/oauth2/token;x=y", E::PathParameter),
        ("/oauth2/token;JSESSIONID=1", E::PathParameter),
        ("/oauth2/token;jsessionid=1;x=y", E::PathParameter),
        ("/oauth2/token;jsessionid=1/x", E::PathParameter),
        ("/oauth2;jsessionid=1/token", E::PathParameter),
        ("/oauth2/token%3bx", E::ForbiddenEscape),
        ("/oauth2%2ftoken", E::ForbiddenEscape),
        ("/oauth2%5Ctoken", E::ForbiddenEscape),
        ("/oauth2/%2574oken", E::ForbiddenEscape),
        ("/oauth2/token%00", E::ForbiddenEscape),
        ("/oauth2/token%20", E::ForbiddenEscape),
        ("/oauth2/token%2b", E::ForbiddenEscape),
        ("/oauth2/token%7f", E::ForbiddenEscape),
        ("/oauth2/token%c0%af", E::ForbiddenEscape),
        ("/oauth2/token%c2%85", E::ForbiddenEscape),
        ("/oauth2/to+ken", E::ForbiddenByte),
        ("/oauth2\\token", E::ForbiddenByte),
        ("/oauth2/token ", E::ForbiddenByte),
        ("/oauth2/tok\u{e9}n", E::ForbiddenByte),
        ("/oauth2/token\t", E::ForbiddenByte),
        ("/oauth2/token?a b", E::ForbiddenByte),
        ("/oauth2/token?\u{e9}", E::ForbiddenByte),
        ("/oauth2/token%", E::Escape),
        ("/oauth2/token%7", E::Escape),
        ("/oauth2/token%zz", E::Escape),
        ("/oauth2/%u0074oken", E::Escape),
        ("/oauth2/token#x", E::Fragment),
        ("/oauth2/token?x#y", E::Fragment),
        ("/t", E::Tenant),
        ("/t/", E::Tenant),
        ("/t/FOO/oauth2/token", E::Tenant),
        ("/t/a@b/oauth2/token", E::Tenant),
        ("/t/%C3%A9/oauth2/token", E::Tenant),
        ("/t/f%6fo/oauth2/token", E::Prefix),
        ("/%74/foo/oauth2/token", E::Prefix),
        ("/T/foo/oauth2/token", E::Prefix),
        ("/t/foo", E::Prefix),
        ("/t/foo/", E::Prefix),
        ("/t/foo/o/0a1b", E::Prefix),
        ("/t/foo/o/oauth2/token", E::Organization),
        ("/t/foo/o/0A1B/oauth2/token", E::Organization),
        ("/o/xyz/oauth2/token", E::Organization),
        ("/o", E::Organization),
        ("/t/foo/t/bar/oauth2/token", E::SecondContext),
        ("/t/foo/o/0a/o/0b/oauth2/token", E::SecondContext),
        ("/t/foo/oauth2/x/oauth2/token", E::SecondContext),
        ("/t/foo/o/api/o/server/v1/flow/execute", E::SecondContext),
        ("/t/foo/console/console/x", E::SecondContext),
        ("/t/foo/scim2/oauth2/token", E::SecondContext),
        ("/t/foo/api/oauth2/token", E::SecondContext),
        ("/t/foo/api/identity/oauth2/oauth2/token", E::SecondContext),
        ("/o/0a1b/oauth2/x/oauth2/token", E::SecondContext),
    ];
    for (target, expected) in cases {
        assert_eq!(
            parse(target).map(|parsed| parsed.forwarded().to_owned()),
            Err(expected),
            "{target:?}"
        );
    }
}

#[test]
fn the_length_limit_is_exact() {
    let longest = format!("/{}", "a".repeat(TARGET_BYTES_MAX - 1));
    assert!(parse(&longest).is_ok());
    let error = parse(&format!("{longest}a")).unwrap_err();
    assert_eq!((error, error.status()), (TargetError::TooLong, 414));
}

#[test]
fn debug_does_not_print_the_query() {
    assert!(!format!("{:?}", parse("/oauth2/authorize?code=canary").unwrap()).contains("canary"));
}
