//! What a request says of who makes it, from its head and parameters.

use super::*;
use crate::domain::authenticator::Unread;
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

fn form(door: Door, body: &str) -> Parameters {
    let headers = BodyHeaders {
        content_type: Some("application/x-www-form-urlencoded"),
        ..BodyHeaders::default()
    };
    Parameters::parse(door, &http::Method::POST, None, headers, body.as_bytes()).unwrap()
}

fn json(body: &str) -> Parameters {
    let headers = BodyHeaders {
        content_type: Some("application/json"),
        ..BodyHeaders::default()
    };
    Parameters::parse(
        Door::Authn,
        &http::Method::POST,
        None,
        headers,
        body.as_bytes(),
    )
    .unwrap()
}

fn facts_of(door: Door, parameters: &Parameters) -> RequestFacts {
    let domains = Domains {
        tenant: "carbon.super",
        users: "carbon.super",
    };
    let people = Pseudonymizer::new(b"k");
    let headers = http::HeaderMap::new();
    identify(door, domains, Some(parameters), &headers, None, &people).facts
}

#[test]
fn a_password_beside_a_pick_is_read_only_by_what_reads_passwords() {
    // Whether there are credentials, and whether they are a second factor.
    let of = |door, parameters: &Parameters| {
        let facts = facts_of(door, parameters);
        (facts.credentials, facts.second_factor)
    };
    for (more, expected) in [
        ("", (true, false)),
        ("&authenticator=", (true, false)),
        ("&authenticator=BasicAuthenticator", (true, false)),
        ("&authenticator=SomebodysAuthenticator", (true, false)),
        ("&authenticator=FIDOAuthenticator&idp=LOCAL", (false, false)),
        ("&authenticator=fidoauthenticator", (false, false)),
        ("&authenticator=totp&token=123456", (true, true)),
        ("&token=123456", (true, false)),
        // Then the login begins anew, with the password.
        ("&authenticator=totp&restart_flow=true", (true, false)),
        ("&authenticator=totp&authType=idf", (true, false)),
    ] {
        let body = format!("username=u&password=p{more}");
        assert_eq!(
            of(Door::Login, &form(Door::Login, &body)),
            expected,
            "{more}"
        );
    }
    for (id, expected) in [
        ("QmFzaWNBdXRoZW50aWNhdG9yOkxPQ0FM", (true, false)),
        ("dG90cDpMT0NBTA", (false, false)),
        ("dG90cDpMT0NBTA==", (false, false)),
        ("?", (true, false)),
    ] {
        let body = format!(
            r#"{{"flowId":"f","selectedAuthenticator":{{"authenticatorId":"{id}","params":{{"password":"p"}}}}}}"#
        );
        assert_eq!(of(Door::Authn, &json(&body)), expected, "{id}");
    }
}

#[test]
fn what_the_page_does_not_read_is_no_credential() {
    // What is a credential at a page that reads a name alone, a password alone, and a code alone.
    let pages = [
        "IdentifierExecutor:LOCAL",
        "BasicAuthenticator:LOCAL",
        "totp",
    ];
    for (body, expected) in [
        ("password=p", "- password -"),
        ("token=1", "- - factor"),
        ("password=p&token=1", "- password factor"),
        ("password=p&authenticator=", "- password -"),
        // The form of the page for a name says so itself.
        ("password=p&authType=idf", "- password password"),
        ("password=p&restart_flow=true", "- password password"),
        // What is picked says what it reads.
        (
            "password=p&authenticator=BasicAuthenticator",
            "password password password",
        ),
        (
            "password=p&token=1&authenticator=totp",
            "factor factor factor",
        ),
        (
            "password=p&token=1&authenticator=IdentifierExecutor",
            "- - -",
        ),
    ] {
        let body = format!("sessionDataKey=k&username=u&{body}");
        let said = pages.map(|page| {
            let mut facts = facts_of(Door::Login, &form(Door::Login, &body));
            facts.leave(Unread::at(page));
            match (facts.credentials, facts.second_factor) {
                (false, _) => "-",
                (true, false) => "password",
                (true, true) => "factor",
            }
        });
        assert_eq!(said.join(" "), expected, "{body}");
    }
}

#[test]
fn what_the_framework_is_told_is_left_to_the_identity_server() {
    for word in ["authFailure", "authenticators", "errorCode", "lockedReason"] {
        let body = format!("client_id=a&{word}=");
        for door in [Door::Authorize, Door::Par, Door::Saml, Door::WsFed] {
            let refused = check_framework(door, Some(&form(door, &body)));
            assert_eq!(refused.unwrap_err().status, 400, "{door} {word}");
        }
        let login = check_framework(Door::Login, Some(&form(Door::Login, &body)));
        assert_eq!(login, Ok(()), "{word}");
    }
    let of = |params: &str| {
        let body = format!(r#"{{"flowId":"f","selectedAuthenticator":{{"params":{params}}}}}"#);
        check_framework(Door::Authn, Some(&json(&body))).map_err(|refusal| refusal.status)
    };
    assert_eq!(of(r#"{"username":"u","password":"p"}"#), Ok(()));
    for params in [
        r#"{"sessionDataKey":"other"}"#,
        r#"{"authenticator":""}"#,
        r#"{"restart_flow":"true"}"#,
        r#"{"type":"oauth2"}"#,
    ] {
        assert_eq!(of(params), Err(400), "{params}");
    }
}

#[test]
fn a_request_is_of_the_login_that_the_identity_server_takes() {
    let people = Pseudonymizer::new(b"k");
    let domains = Domains {
        tenant: "carbon.super",
        users: "carbon.super",
    };
    let of = |body: &str| {
        let parameters = form(Door::Login, body);
        check_framework(Door::Login, Some(&parameters)).map_err(|refusal| refusal.code)?;
        let headers = http::HeaderMap::new();
        let presented = identify(
            Door::Login,
            domains,
            Some(&parameters),
            &headers,
            None,
            &people,
        )
        .presented;
        Ok::<_, &str>(presented)
    };
    let login = link_key(&people, LinkKind::Transaction, "K");
    for body in [
        "sessionDataKey=K&username=u",
        "flowId=K",
        "state=K,OIDC&code=c",
        "state=K&password=p",
        "RelayState=K&SAMLResponse=r",
        "RelayState=%254B&SAMLResponse=r",
        "promptId=K&promptResp=true",
        "promptId=K&promptResp=&sessionDataKey=K",
        // Without an answer to a prompt its name is only a name.
        "promptId=other&sessionDataKey=K",
        "promptId=&promptResp=true&sessionDataKey=K",
    ] {
        assert_eq!(of(body), Ok(Some(login)), "{body}");
    }
    for body in [
        "sessionDataKey=K&promptId=other&promptResp=x",
        "sessionDataKey=K&flowId=other",
        "sessionDataKey=K&state=other,OIDC",
        "state=K,OIDC&RelayState=other",
        "state=K,OIDC&promptId=other&promptResp=true",
    ] {
        assert_eq!(of(body), Err("framework_parameter"), "{body}");
    }
    assert_eq!(of("promptId=K"), Ok(None));
}
