//! What a request says of who makes it, from its head and parameters.

use super::*;
use crate::domain::parameters::BodyHeaders;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

fn headers(authorization: &str) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    headers.insert(http::header::AUTHORIZATION, authorization.parse().unwrap());
    headers
}

#[test]
fn credentials_have_one_reading() {
    let of = |door, authorization: &str, body: &str| {
        let parameters = Parameters::parse(
            Door::Token,
            &http::Method::POST,
            None,
            BodyHeaders {
                content_type: Some("application/x-www-form-urlencoded"),
                ..BodyHeaders::default()
            },
            body.as_bytes(),
        )
        .unwrap();
        check_credentials(door, Some(&parameters), &headers(authorization))
            .map_err(|refusal| refusal.status)
    };
    let encode = |text: &str| format!("Basic {}", STANDARD.encode(text));
    for (name, body) in [
        ("app:secret", "grant_type=password"),
        ("app:secret", "client_id=app"),
        ("app:secret", "client_id="),
        ("a%20b:secret", "client_id=a%20b"),
    ] {
        assert_eq!(
            of(Door::Token, &encode(name), body),
            Ok(()),
            "{name} {body}"
        );
    }
    for door in [Door::Token, Door::Par, Door::DeviceAuthorize, Door::Ciba] {
        let two = of(door, &encode("app:secret"), "client_id=other");
        assert_eq!(two, Err(400), "{door}");
    }
    for unreadable in [
        "Basic",
        "Basic ",
        "Basic %%%",
        "Basic YTpi, Bearer x",
        "BasicYTpi",
        "Basic\tYTpi",
    ] {
        for door in [Door::Token, Door::Basic, Door::Pdp] {
            assert_eq!(of(door, unreadable, "x=y"), Err(400), "{door} {unreadable}");
        }
    }
    assert_eq!(of(Door::Token, "Bearer abc", "client_id=other"), Ok(()));
    let assertion = format!(
        "client_assertion=h.{}.s",
        URL_SAFE_NO_PAD.encode(r#"{"sub":"app"}"#)
    );
    for (client, expected) in [("app", Ok(())), ("other", Err(400)), ("", Ok(()))] {
        let body = format!("{assertion}&client_id={client}");
        assert_eq!(of(Door::Token, "Bearer abc", &body), expected, "{client}");
    }
    // A page before the login may have credentials of its own.
    assert_eq!(
        of(Door::Authorize, &encode("a:b"), "client_id=other"),
        Ok(())
    );
}

#[test]
fn a_scope_that_is_repeated_hides_no_other() {
    let people = Pseudonymizer::new(b"k");
    let domains = Domains {
        tenant: "t",
        users: "t",
    };
    let scopes = |scope: &str| {
        let body = format!("grant_type=client_credentials&client_id=app&scope={scope}");
        let head = BodyHeaders {
            content_type: Some("application/x-www-form-urlencoded"),
            ..BodyHeaders::default()
        };
        let post = http::Method::POST;
        let parameters =
            Parameters::parse(Door::Token, &post, None, head, body.as_bytes()).unwrap();
        let none = http::HeaderMap::new();
        let found = identify(
            Door::Token,
            domains,
            Some(&parameters),
            &none,
            None,
            &people,
        );
        assert_eq!(found.grant.scopes, found.facts.scopes);
        found.grant.scopes
    };
    let hidden = format!("{}admin", "read+".repeat(SCOPES_MAX));
    assert_eq!(scopes(&hidden), scopes("read+admin"));
    // Nor do many others, wherever it stands; the same scopes in another order are the same.
    let many: Vec<String> = (0..99).map(|number| number.to_string()).collect();
    let many = many.join("+");
    let usual = scopes(&many);
    assert_eq!(usual.len(), SCOPES_MAX);
    for more in ["admin", "!", "~"] {
        for asked in [format!("{many}+{more}"), format!("{more}+{many}")] {
            let found = scopes(&asked);
            assert_eq!(found.len(), SCOPES_MAX);
            assert!(found.iter().any(|scope| !usual.contains(scope)), "{asked}");
        }
    }
    let turned: Vec<&str> = many.rsplit('+').collect();
    assert_eq!(scopes(&turned.join("+")), usual);
}

#[test]
fn basic_credentials_name_the_user() {
    let encode = |text: &str| headers(&format!("bAsIc {}", STANDARD.encode(text)));
    assert_eq!(
        basic_credentials(&encode("alice:secret")).as_deref(),
        Some("alice")
    );
    assert_eq!(basic_credentials(&encode("nocolon")), None);
    assert_eq!(basic_credentials(&headers("Basic %%%")), None);
    assert_eq!(basic_credentials(&headers("Bearer abc")), None);
    assert!(
        has_basic_credentials(&encode("a:b")) && !has_basic_credentials(&headers("Bearer abc"))
    );
}
