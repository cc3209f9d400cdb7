//! Parameters as they come from clients and as they come from attackers.

use super::ParameterError as E;
use super::names::CREDENTIALS;
use super::names::SECRETS;
use super::*;

const FORM_TYPE: BodyHeaders<'static> = BodyHeaders {
    content_type: Some(FORM),
    has_content_encoding: false,
};
const JSON_TYPE: BodyHeaders<'static> = BodyHeaders {
    content_type: Some(JSON),
    has_content_encoding: false,
};
const NO_TYPE: BodyHeaders<'static> = BodyHeaders {
    content_type: None,
    has_content_encoding: false,
};

fn form(door: Door, body: &str) -> Result<Parameters, E> {
    Parameters::parse(door, &Method::POST, None, FORM_TYPE, body.as_bytes())
}

fn query(door: Door, query: &str) -> Result<Parameters, E> {
    Parameters::parse(door, &Method::GET, Some(query), NO_TYPE, b"")
}

fn json(door: Door, body: &str) -> Result<Parameters, E> {
    Parameters::parse(door, &Method::POST, None, JSON_TYPE, body.as_bytes())
}

fn typed(door: Door, content_type: &str, body: &str) -> Result<Parameters, E> {
    let headers = BodyHeaders {
        content_type: Some(content_type),
        has_content_encoding: false,
    };
    Parameters::parse(door, &Method::POST, None, headers, body.as_bytes())
}

fn named(name: &str) -> String {
    name.to_owned()
}

#[test]
fn a_form_is_decoded_as_the_container_does() {
    let parsed = form(
        Door::Login,
        "user%6eame=ren%C3%A9+x&password=a%2Bb%26c%3dd&flag&&sessionDataKey=1;2&",
    )
    .unwrap();
    assert_eq!(parsed.get("username"), Some("ren\u{e9} x"));
    assert_eq!(parsed.get("password"), Some("a+b&c=d"));
    assert_eq!(parsed.get("flag"), Some(""));
    assert_eq!(parsed.get("sessionDataKey"), Some("1;2"));
    assert_eq!(parsed.get("absent"), None);
    assert_eq!(
        parsed.names().collect::<Vec<_>>(),
        ["username", "password", "flag", "sessionDataKey"]
    );
    assert_eq!(
        parsed.forwarded_content_type(),
        Some("application/x-www-form-urlencoded; charset=UTF-8")
    );
    assert!(!parsed.is_in_query("username"));
}

#[test]
fn a_well_formed_form_means_what_a_second_parser_reads() {
    for body in [
        "a=1&b=2",
        "a=%41+%42&%43=d",
        "x=%F0%9F%94%91&y",
        "client_id=a%20b&scope=openid+email",
    ] {
        let ours: Vec<_> = form(Door::Par, body)
            .unwrap()
            .list
            .into_iter()
            .map(|p| (p.name, p.value))
            .collect();
        let theirs: Vec<_> = form_urlencoded::parse(body.as_bytes())
            .into_owned()
            .collect();
        assert_eq!(ours, theirs, "{body}");
    }
}

#[test]
fn query_and_body_are_one_set_in_which_the_query_comes_first() {
    let headers = FORM_TYPE;
    let parsed = Parameters::parse(
        Door::Token,
        &Method::POST,
        Some("x=1&resource=q"),
        headers,
        b"x=2&resource=b&resource=c",
    )
    .unwrap();
    assert_eq!(parsed.all("x").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(parsed.get("x"), Some("1"));
    assert_eq!(parsed.all("resource").count(), 3);
    assert!(parsed.is_in_query("x"));
}

#[test]
fn repetition_is_refused_where_it_matters() {
    assert_eq!(
        form(Door::Token, "scope=a&scope=b"),
        Err(E::Repeated(named("scope")))
    );
    assert_eq!(
        form(Door::Token, "scope=a&s%63ope=a"),
        Err(E::Repeated(named("scope")))
    );
    assert_eq!(
        query(Door::Authorize, "client_id=a&state=x&client_id=a"),
        Err(E::Repeated(named("client_id")))
    );
    let both = Parameters::parse(
        Door::Authorize,
        &Method::POST,
        Some("client_id=a"),
        FORM_TYPE,
        b"client_id=a",
    );
    assert_eq!(both, Err(E::QueryAndBody(named("client_id"))));
    assert!(
        form(
            Door::Token,
            "resource=a&resource=b&audience=a&audience=b&custom=1&custom=2"
        )
        .is_ok()
    );
}

#[test]
fn secrets_do_not_come_in_the_query() {
    for name in ["username", "password", "client_secret", "OTPCode"] {
        for door in [Door::Token, Door::Login] {
            let found = Parameters::parse(
                door,
                &Method::POST,
                Some(&format!("{name}=x")),
                FORM_TYPE,
                b"a=b",
            );
            assert_eq!(
                found,
                Err(E::CredentialInQuery(named(name))),
                "{door} {name}"
            );
        }
    }
    assert_eq!(
        query(Door::Authorize, "password=x"),
        Err(E::CredentialInQuery(named("password")))
    );
    assert!(query(Door::Authorize, "username=x&login_hint=y").is_ok());
    assert!(
        query(Door::Login, "code=x&state=y").is_ok(),
        "the return from another identity provider"
    );
}

#[test]
fn what_two_readers_would_decode_differently_is_refused() {
    for (body, expected) in [
        (&b"username=a%"[..], E::Escape(named("username"))),
        (b"username=a%4", E::Escape(named("username"))),
        (b"username=a%zz", E::Escape(named("username"))),
        (b"username=%u0041", E::Escape(named("username"))),
        (b"user%zzname=a", E::Escape(named("user%zzname"))),
        (b"username=%c0%af", E::NotUtf8(named("username"))),
        (b"username=ren\xe9", E::NotUtf8(named("username"))),
        (b"user%ffname=x", E::NotUtf8(named("user%ffname"))),
        (b"username=a%00", E::ControlCharacter(named("username"))),
        (b"username=a%0d%0a", E::ControlCharacter(named("username"))),
        (b"username=a%c2%85", E::ControlCharacter(named("username"))),
        (b"user%00name=a", E::ControlCharacter(named("user?name"))),
        (b"username=a\n", E::ControlCharacter(named("username"))),
        (b"=a", E::EmptyName),
        (b"a=b&=", E::EmptyName),
    ] {
        let found = Parameters::parse(Door::Login, &Method::POST, None, FORM_TYPE, body);
        assert_eq!(found, Err(expected), "{:?}", String::from_utf8_lossy(body));
    }
}

#[test]
fn encoded_messages_may_break_lines() {
    assert!(form(Door::Saml, "SAMLRequest=PHNhbWw%0D%0AQQ%3D%3D&RelayState=x").is_ok());
    assert_eq!(
        form(Door::Saml, "RelayState=a%0Ab"),
        Err(E::ControlCharacter(named("RelayState")))
    );
}

#[test]
fn exactly_one_content_type_is_accepted() {
    for accepted in [
        "application/x-www-form-urlencoded",
        "Application/X-WWW-Form-Urlencoded",
        "application/x-www-form-urlencoded;charset=utf-8",
        "application/x-www-form-urlencoded; charset=\"UTF-8\"",
    ] {
        assert!(typed(Door::Token, accepted, "a=b").is_ok(), "{accepted}");
    }
    for (refused, label) in [
        (
            "application/x-www-form-urlencoded; charset=ibm037",
            "charset",
        ),
        (
            "application/x-www-form-urlencoded; charset=utf-16",
            "charset",
        ),
        ("application/x-www-form-urlencoded; charset=", "charset"),
        (
            "application/x-www-form-urlencoded; charset=utf-8; charset=ibm037",
            "content_type",
        ),
        ("application/x-www-form-urlencoded;", "content_type"),
        (
            "application/x-www-form-urlencoded; boundary=x",
            "content_type",
        ),
        (
            "application/x-www-form-urlencoded, application/json",
            "content_type",
        ),
        (
            "application/x-www-form-urlencoded\t; charset=utf-8",
            "content_type",
        ),
        ("application/x-www-form-urlencodedx", "content_type"),
        ("multipart/form-data", "content_type"),
        ("text/plain", "content_type"),
        ("text/xml", "content_type"),
        ("", "content_type"),
    ] {
        let error = typed(Door::Token, refused, "a=b").unwrap_err();
        assert_eq!((error.as_str(), error.status()), (label, 415), "{refused}");
    }
    let untyped = Parameters::parse(Door::Token, &Method::POST, None, NO_TYPE, b"a=b").unwrap_err();
    assert_eq!(untyped.status(), 415);
    let encoded = BodyHeaders {
        has_content_encoding: true,
        ..FORM_TYPE
    };
    assert_eq!(
        Parameters::parse(Door::Token, &Method::POST, None, encoded, b"a=b"),
        Err(E::ContentEncoding)
    );
    // A charset that is not for the body still says how the sender means the request.
    let headers = BodyHeaders {
        content_type: Some("text/plain; charset=ibm037"),
        has_content_encoding: false,
    };
    assert_eq!(
        Parameters::parse(Door::Authorize, &Method::GET, Some("a=b"), headers, b""),
        Err(E::Charset)
    );
}

#[test]
fn each_door_takes_its_own_formats() {
    for door in Door::ALL {
        assert_eq!(
            typed(door, FORM, "a=b").is_ok(),
            door.accepts_form(),
            "{door}"
        );
        assert_eq!(
            typed(door, JSON, "{\"a\":\"b\"}").is_ok(),
            door.accepts_json(),
            "{door}"
        );
    }
    let soap = typed(Door::Saml, "text/xml; charset=utf-8", "<Envelope/>").unwrap();
    assert_eq!(
        (soap.names().count(), soap.forwarded_content_type()),
        (0, Some("text/xml; charset=UTF-8"))
    );
    assert_eq!(
        json(Door::Authn, "{}").unwrap().forwarded_content_type(),
        Some("application/json")
    );
}

#[test]
fn headers_are_read_for_repetition() {
    let mut headers = HeaderMap::new();
    assert_eq!(BodyHeaders::of(&headers), Ok(NO_TYPE));
    headers.append("content-type", FORM.parse().unwrap());
    assert_eq!(BodyHeaders::of(&headers), Ok(FORM_TYPE));
    headers.append("content-type", FORM.parse().unwrap());
    assert_eq!(BodyHeaders::of(&headers).unwrap_err().status(), 415);
    headers.remove("content-type");
    headers.append("content-encoding", "identity".parse().unwrap());
    assert!(BodyHeaders::of(&headers).unwrap().has_content_encoding);
}

#[test]
fn a_body_belongs_to_a_post() {
    let found = Parameters::parse(
        Door::Authorize,
        &Method::GET,
        Some("a=b"),
        FORM_TYPE,
        b"client_id=x",
    );
    assert_eq!(found, Err(E::BodyNotAccepted));
    assert_eq!(
        Parameters::parse(Door::Authn, &Method::POST, None, JSON_TYPE, b""),
        Err(E::Json)
    );
    assert!(Parameters::parse(Door::Token, &Method::POST, None, NO_TYPE, b"").is_ok());
}

#[test]
fn limits_are_exact() {
    let pairs = |count: usize| {
        (0..count)
            .map(|n| format!("p{n}="))
            .collect::<Vec<_>>()
            .join("&")
    };
    assert!(form(Door::Token, &pairs(PARAMETERS_MAX)).is_ok());
    assert_eq!(
        form(Door::Token, &pairs(PARAMETERS_MAX + 1)),
        Err(E::TooMany)
    );
    let split = Parameters::parse(
        Door::Token,
        &Method::POST,
        Some("q=1"),
        FORM_TYPE,
        pairs(PARAMETERS_MAX).as_bytes(),
    );
    assert_eq!(split, Err(E::TooMany));

    assert!(form(Door::Token, &"n".repeat(NAME_BYTES_MAX)).is_ok());
    assert_eq!(
        form(Door::Token, &"n".repeat(NAME_BYTES_MAX + 1)),
        Err(E::NameTooLong)
    );
    assert!(form(Door::Token, &format!("a={}", "v".repeat(VALUE_BYTES_MAX))).is_ok());
    let long = "v".repeat(VALUE_BYTES_MAX + 1);
    assert_eq!(
        form(Door::Token, &format!("a={long}")),
        Err(E::ValueTooLong(named("a")))
    );
    assert_eq!(
        json(Door::Token, &format!("{{\"a\":\"{long}\"}}")),
        Err(E::ValueTooLong(named("a")))
    );

    let value = "v".repeat(16_381);
    let body = [
        format!("a={value}"),
        format!("b={value}"),
        format!("c={value}"),
        format!("d={value}"),
    ]
    .join("&")
        + "&";
    assert_eq!(body.len(), BODY_BYTES_MAX);
    assert!(form(Door::Token, &body).is_ok());
    let error = form(Door::Token, &(body + "&")).unwrap_err();
    assert_eq!((&error, error.status()), (&E::BodyTooLarge, 413));

    let members = |count: usize| {
        let list: Vec<_> = (0..count).map(|n| format!("\"p{n}\":\"\"")).collect();
        format!("{{{}}}", list.join(","))
    };
    assert!(json(Door::Token, &members(PARAMETERS_MAX)).is_ok());
    assert_eq!(
        json(Door::Token, &members(PARAMETERS_MAX + 1)),
        Err(E::TooMany)
    );
    let nested =
        |depth: usize| format!("{}{}", "{\"a\":".repeat(depth - 1) + "{", "}".repeat(depth));
    assert!(json(Door::Authn, &nested(JSON_DEPTH_MAX)).is_ok());
    assert_eq!(
        json(Door::Authn, &nested(JSON_DEPTH_MAX + 1)),
        Err(E::JsonDepth)
    );
    assert_eq!(
        json(
            Door::Authn,
            &format!("{{\"a\":{}1{}}}", "[".repeat(5000), "]".repeat(5000))
        ),
        Err(E::JsonDepth)
    );
    let wide = format!("{{\"a\":[{}0]}}", "0,".repeat(500));
    assert_eq!(json(Door::Authn, &wide), Err(E::TooMany));
}

#[test]
fn the_json_of_the_token_endpoint_is_a_set_of_parameters() {
    let parsed = json(
        Door::Token,
        "{\"grant_type\":\"password\",\"username\":\"alice\"}",
    )
    .unwrap();
    assert_eq!(parsed.get("username"), Some("alice"));
    assert_eq!(parsed.json_text(&["grant_type"]), Some("password"));
    assert_eq!(
        json(Door::Token, "{\"username\":[\"alice\"]}"),
        Err(E::NotText(named("username")))
    );
    assert_eq!(
        json(Door::Token, "{\"max_age\":5}"),
        Err(E::NotText(named("max_age")))
    );
    let both = Parameters::parse(
        Door::Token,
        &Method::POST,
        Some("scope=a"),
        JSON_TYPE,
        b"{\"scope\":\"b\"}",
    );
    assert_eq!(both, Err(E::QueryAndBody(named("scope"))));
}

#[test]
fn app_native_authentication_is_read_by_path() {
    let body = "{\"flowId\":\"f\",\"selectedAuthenticator\":{\"authenticatorId\":\"QmFz\",\
                \"params\":{\"username\":\"ren\\u00e9\",\"password\":\"x\"}}}";
    let parsed = json(Door::Authn, body).unwrap();
    assert_eq!(parsed.get("flowId"), Some("f"));
    assert_eq!(
        parsed.json_text(&["selectedAuthenticator", "params", "username"]),
        Some("ren\u{e9}")
    );
    assert_eq!(parsed.json_text(&["selectedAuthenticator", "params"]), None);
    assert_eq!(parsed.json_text(&["selectedAuthenticator", "absent"]), None);
    let beside = Parameters::parse(
        Door::Authn,
        &Method::POST,
        Some("username=eve"),
        JSON_TYPE,
        body.as_bytes(),
    );
    assert_eq!(beside, Err(E::QueryAndBody(named("username"))));
}

#[test]
fn what_a_user_typed_is_text() {
    for username in ["5", "[\"alice\"]", "{\"a\":\"b\"}", "null"] {
        let authn = format!(
            "{{\"flowId\":\"f\",\"selectedAuthenticator\":{{\"params\":{{\"username\":{username}}}}}}}"
        );
        assert_eq!(
            json(Door::Authn, &authn),
            Err(E::NotText(named("username"))),
            "{username}"
        );
        let flow = format!("{{\"flowId\":\"f\",\"inputs\":{{\"username\":{username}}}}}");
        assert_eq!(
            json(Door::Flow, &flow),
            Err(E::NotText(named("username"))),
            "{username}"
        );
    }
    assert!(
        json(
            Door::Flow,
            "{\"inputs\":{\"username\":\"a\",\"consent\":true}}"
        )
        .is_ok()
    );
}

#[test]
fn json_of_two_meanings_is_refused() {
    for (body, expected) in [
        (
            "{\"flowId\":\"a\",\"flowId\":\"b\"}",
            E::Repeated(named("flowId")),
        ),
        (
            "{\"a\":{\"b\":\"1\",\"\\u0062\":\"2\"}}",
            E::Repeated(named("b")),
        ),
        ("{\"a\":\"x\\u0000\"}", E::ControlCharacter(named("a"))),
        ("{\"a\":\"x\\ny\"}", E::ControlCharacter(named("a"))),
        ("{\"\":\"x\"}", E::EmptyName),
        ("{\"a\":\"\\ud800\"}", E::Json),
        ("{\"a\":1e999}", E::Json),
        ("{\"a\":1,}", E::Json),
        ("{\"a\":1}{}", E::Json),
        ("{'a':1}", E::Json),
        ("\u{feff}{}", E::Json),
        ("[\"a\"]", E::Json),
        ("\"a\"", E::Json),
        ("null", E::Json),
        ("{", E::Json),
        (" ", E::Json),
    ] {
        assert_eq!(json(Door::Authn, body), Err(expected), "{body}");
    }
    let not_utf8 = Parameters::parse(
        Door::Authn,
        &Method::POST,
        None,
        JSON_TYPE,
        b"{\"a\":\"\xff\"}",
    );
    assert_eq!(not_utf8, Err(E::Json));
    assert!(
        json(
            Door::Pdp,
            "{\"Request\":{\"Environment\":{\"Attribute\":[{\"Value\":73,\"Note\":\"a\\nb\"}]}}}"
        )
        .is_ok()
    );
}

#[test]
fn nothing_prints_a_value() {
    let parsed = form(Door::Login, "username=canary&password=canary").unwrap();
    assert!(!format!("{parsed:?}").contains("canary"));
    for error in [
        form(Door::Login, "username=canary%zz"),
        form(Door::Login, "username=canary&username=canary"),
        json(Door::Authn, "{\"password\":\"canary\\u0001\"}"),
        json(Door::Authn, "{\"password\":\"canary"),
        query(Door::Token, "password=canary"),
    ] {
        let error = error.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        assert_eq!(error.oauth_code(), "invalid_request");
    }
    let error = form(Door::Login, "a`<b>%22\u{e9}=%zz").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the parameter `a??b???` contains a percent sign without two hexadecimal digits"
    );
}

#[test]
fn the_list_of_security_parameters_can_be_searched() {
    assert!(SECURITY_PARAMETERS.is_sorted());
    assert!(!is_security_parameter("resource") && !is_security_parameter("audience"));
    for name in SECRETS.iter().chain(&CREDENTIALS) {
        assert!(is_security_parameter(name), "{name}");
    }
}

proptest::proptest! {
    #[test]
    fn no_body_makes_the_parser_panic(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        for door in Door::ALL {
            for headers in [FORM_TYPE, JSON_TYPE] {
                drop(Parameters::parse(door, &Method::POST, None, headers, &body));
            }
        }
    }

    #[test]
    fn what_is_accepted_means_what_a_second_parser_reads(body in "[a-c=&%+0-9;]{0,24}") {
        if let Ok(parsed) = form(Door::Par, &body) {
            let ours: Vec<_> = parsed.list.into_iter().map(|p| (p.name, p.value)).collect();
            let theirs: Vec<_> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
            proptest::prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn every_set_of_texts_survives(pairs in proptest::collection::vec(("[a-z]{1,8}", "[ -~\u{e0}-\u{ff}]{0,20}"), 0..8)) {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
        match form(Door::Basic, &body).or_else(|_| form(Door::Par, &body)) {
            Ok(parsed) => {
                let ours: Vec<_> = parsed.list.into_iter().map(|p| (p.name, p.value)).collect();
                proptest::prop_assert_eq!(ours, pairs);
            }
            Err(error) => proptest::prop_assert!(matches!(error, E::Repeated(_)), "{}", error),
        }
    }
}
