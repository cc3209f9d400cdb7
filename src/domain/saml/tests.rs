//! Messages of both kinds, good, odd and hostile.

use super::*;
use crate::domain::time::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use std::io::Write;

const MFA: &str = "urn:riskgate:acr:mfa";

fn request(more: &str, children: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<samlp:AuthnRequest xmlns:samlp=\"{PROTOCOL}\" xmlns:saml=\"{ASSERTION}\" ID=\"_1\" \
         Version=\"2.0\"{more}><saml:Issuer>https://sp.example.com</saml:Issuer>{children}</samlp:AuthnRequest>"
    )
}

fn read(xml: &str, binding: Binding) -> AuthnRequest {
    AuthnRequest::read(&encode(xml, binding).unwrap(), binding)
        .unwrap()
        .unwrap()
}

fn posted(xml: &str) -> Result<Option<AuthnRequest>, SamlError> {
    AuthnRequest::read(&STANDARD.encode(xml), Binding::Post)
}

#[test]
fn the_demand_is_written_into_either_binding_and_read_again() {
    for binding in [Binding::Redirect, Binding::Post] {
        for (more, children, own) in [
            ("", "", vec![]),
            (" ForceAuthn=\"false\"", "<samlp:NameIDPolicy/>", vec![]),
            (" ForceAuthn = 'false'", "", vec![]),
            ("", "<samlp:NameIDPolicy/><samlp:Scoping/>", vec![]),
            (
                " IsPassive=\"true\"",
                "<samlp:RequestedAuthnContext Comparison=\"minimum\"><saml:AuthnContextClassRef>weak&amp;\
                 </saml:AuthnContextClassRef></samlp:RequestedAuthnContext>",
                vec!["weak&"],
            ),
            (" ForceAuthn=\"1\"", "<!-- c -->\n", vec![]),
        ] {
            let before = read(&request(more, children), binding);
            assert_eq!(before.application(), Some("https://sp.example.com"));
            assert_eq!(before.contexts, own);
            for anew in [false, true] {
                let after = before.demanding(MFA, anew).unwrap();
                let after = AuthnRequest::read(&after, binding).unwrap().unwrap();
                let wanted: Vec<&str> = std::iter::once(MFA).chain(own.clone()).collect();
                assert_eq!(after.contexts, wanted, "{more} {children}");
                assert_eq!(after.forces, anew || before.forces, "{more} {children}");
                assert_eq!(after.issuer, before.issuer);
                assert_eq!(after.is_passive, before.is_passive);
                let scoping = after.xml.find("<samlp:Scoping");
                assert!(scoping.is_none_or(|at| after.xml.find("RequestedAuthn") < Some(at)));
            }
        }
    }
}

#[test]
fn what_is_signed_is_left_alone() {
    let signed = format!("<ds:Signature xmlns:ds=\"{SIGNATURE}\"/>");
    let request = read(&request("", &signed), Binding::Post);
    assert!(request.is_signed);
    assert_eq!(request.demanding(MFA, false), None);
}

#[test]
fn text_in_a_class_cannot_break_out() {
    let request = read(&request("", ""), Binding::Post);
    let evil = "x</rga:AuthnContextClassRef><evil/>&";
    let after = AuthnRequest::read(&request.demanding(evil, false).unwrap(), Binding::Post);
    assert_eq!(after.unwrap().unwrap().contexts, [evil]);
}

#[test]
fn an_issuer_is_read_in_one_way_or_not_at_all() {
    let of = |issuer: &str| {
        posted(&request("", "").replace("https://sp.example.com", issuer))
            .map(|read| read.unwrap().application().map(str::to_owned))
    };
    assert_eq!(of(" sp\n"), Ok(Some("sp".to_owned())));
    assert_eq!(of("<![CDATA[sp]]>"), Ok(Some("sp".to_owned())));
    assert_eq!(of("sp@example.com"), Ok(Some("sp".to_owned())));
    assert_eq!(of(""), Ok(None));
    assert_eq!(of("s<!-- -->p"), Err(SamlError::Ambiguous));
    assert_eq!(of("s<?x?>p"), Err(SamlError::Ambiguous));
    assert_eq!(of("s<b/>p"), Err(SamlError::Ambiguous));
    assert_eq!(
        of("</saml:Issuer><saml:Issuer>b"),
        Err(SamlError::Ambiguous)
    );
    assert_eq!(of(&"x".repeat(1_025)), Err(SamlError::Length));
    // Who names no service provider at all, and where nothing could be added.
    let bare = format!("<a:AuthnRequest xmlns:a=\"{PROTOCOL}\"/>");
    let bare = posted(&bare).unwrap().unwrap();
    assert_eq!(
        (bare.application(), bare.demanding(MFA, true)),
        (None, None)
    );
}

#[test]
fn what_is_no_message_is_an_error() {
    let redirect = |value: &str| AuthnRequest::read(value, Binding::Redirect);
    assert_eq!(redirect("%%%"), Err(SamlError::Base64));
    assert_eq!(redirect(&STANDARD.encode("plain")), Err(SamlError::Deflate));
    for broken in [
        "",
        "<a>",
        "\u{feff}",
        "<AuthnRequest",
        "<!DOCTYPE a><a/>",
        "<!DOCTYPE a []><a/>",
        "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>",
        "<!DOCTYPE a [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><a>&b;</a>",
        "<a>&x;</a>",
        "<a x=\"1\" x=\"2\"/>",
        "<p:a/>",
    ] {
        assert_eq!(posted(broken), Err(SamlError::Xml), "{broken}");
    }
    for other in ["<a/>", "<AuthnRequest/>"] {
        assert_eq!(posted(other), Ok(None), "{other}");
    }
    let latin = STANDARD.encode([b'<', b'a', b'>', 0xe9, b'<', b'/', b'a', b'>']);
    assert_eq!(
        AuthnRequest::read(&latin, Binding::Post),
        Err(SamlError::Xml)
    );
    let wide: Vec<u8> = request("", "")
        .encode_utf16()
        .flat_map(u16::to_be_bytes)
        .collect();
    assert_eq!(
        AuthnRequest::read(&STANDARD.encode(wide), Binding::Post),
        Err(SamlError::Xml)
    );
    let two = "<samlp:RequestedAuthnContext/>".repeat(2);
    assert_eq!(posted(&request("", &two)), Err(SamlError::Ambiguous));
}

#[test]
fn whatever_is_huge_ends_early() {
    let many = request("", &"<a/>".repeat(5_000));
    assert_eq!(posted(&many), Err(SamlError::Xml));
    let deep = request("", &"<a>".repeat(16_000));
    assert_eq!(posted(&deep), Err(SamlError::Xml));
    let long = request(&format!(" x=\"{}\"", "y".repeat(60_000)), "");
    assert!(posted(&long).is_ok());
    let longer = request(&format!(" x=\"{}\"", "y".repeat(70_000)), "");
    assert_eq!(posted(&longer), Err(SamlError::Length));
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    for _ in 0..64 {
        encoder.write_all(&vec![b' '; 1024 * 1024]).unwrap();
    }
    let bomb = STANDARD.encode(encoder.finish().unwrap());
    assert!(bomb.len() < 128 * 1024);
    assert_eq!(
        AuthnRequest::read(&bomb, Binding::Redirect),
        Err(SamlError::Length)
    );
}

#[test]
fn base64_is_taken_as_libraries_write_it() {
    let value = STANDARD.encode(request(" ", ""));
    let unpadded = value.trim_end_matches('=');
    let mut broken = String::new();
    for (number, letter) in value.chars().enumerate() {
        broken.push(letter);
        if number % 76 == 75 {
            broken.push_str("\r\n");
        }
    }
    for value in [value.as_str(), unpadded, &broken] {
        assert!(AuthnRequest::read(value, Binding::Post).unwrap().is_some());
    }
}

fn response(children: &str) -> Result<Handed, SamlError> {
    let xml = format!(
        "<samlp:Response xmlns:samlp=\"{PROTOCOL}\" xmlns:saml=\"{ASSERTION}\">{children}</samlp:Response>"
    );
    Handed::read(&STANDARD.encode(xml), Binding::Post)
}

fn assertion(statements: &str) -> String {
    format!(
        "<saml:Assertion IssueInstant=\"2026-05-01T12:00:05.250Z\"><saml:Subject><saml:NameID>alice</saml:NameID>\
         </saml:Subject>{statements}</saml:Assertion>"
    )
}

fn statement(at: &str, class: &str) -> String {
    format!(
        "<saml:AuthnStatement AuthnInstant=\"{at}\"><saml:AuthnContext><saml:AuthnContextClassRef>{class}\
         </saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>"
    )
}

fn said(statements: &str) -> AuthnStatement {
    match response(&assertion(statements)) {
        Ok(Handed::Assertion(said)) => said,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_response_says_what_was_given_and_when() {
    let noon = Timestamp(1_777_636_800_000);
    let one = said(&statement("2026-05-01T12:00:00Z", MFA));
    assert_eq!(one.contexts, [MFA]);
    assert_eq!((one.at, one.authenticated()), (Some(noon), Some(noon)));
    assert_eq!(one.subject.as_deref(), Some("alice"));
    assert!(!format!("{one:?}").contains("alice"));
    // Several statements: all contexts, the earliest moment.
    let two = statement("2026-05-01T12:00:03Z", "weak") + &statement("2026-05-01T12:00:00Z", MFA);
    let two = said(&two);
    assert_eq!(
        (two.contexts, two.at),
        (vec!["weak".to_owned(), MFA.to_owned()], Some(noon))
    );
    // The moment of the assertion itself says nothing.
    for at in ["2026-05-01T12:00:05.250Z", "2026-05-01T12:00:06Z"] {
        assert_eq!(said(&statement(at, MFA)).authenticated(), None);
    }
    for odd in ["yesterday", "", "0", "2026-05-01"] {
        assert_eq!(said(&statement(odd, "weak")).at, None, "{odd}");
    }
    assert_eq!(said("").contexts, Vec::<String>::new());
}

#[test]
fn an_attribute_is_no_statement() {
    let nested = format!(
        "<saml:AttributeStatement><saml:Attribute><saml:AttributeValue>{}</saml:AttributeValue></saml:Attribute>\
         </saml:AttributeStatement>",
        statement("2026-05-01T12:00:00Z", MFA)
    );
    assert_eq!(said(&nested).contexts, Vec::<String>::new());
}

#[test]
fn what_hands_nothing_over_and_what_nobody_can_read() {
    assert_eq!(response("<samlp:Status/>"), Ok(Handed::Nothing));
    let logout = format!("<p:LogoutResponse xmlns:p=\"{PROTOCOL}\"/>");
    assert_eq!(
        Handed::read(&STANDARD.encode(logout), Binding::Post),
        Ok(Handed::Nothing)
    );
    assert_eq!(
        response("<saml:EncryptedAssertion/>"),
        Ok(Handed::Encrypted)
    );
    let both = assertion("") + "<saml:EncryptedAssertion/>";
    assert_eq!(response(&both), Ok(Handed::Encrypted));
    let twice = assertion("").repeat(2);
    assert_eq!(response(&twice), Err(SamlError::Ambiguous));
    let wrapped = format!("<samlp:Extensions>{}</samlp:Extensions>", assertion(""));
    assert_eq!(response(&wrapped), Err(SamlError::Ambiguous));
    for other in ["<Response/>", "<a/>"] {
        let read = Handed::read(&STANDARD.encode(other), Binding::Post);
        assert_eq!(read, Err(SamlError::Ambiguous));
    }
    let split = statement("2026-05-01T12:00:00Z", "urn:riskgate:<!-- -->acr:mfa");
    assert_eq!(response(&assertion(&split)), Err(SamlError::Ambiguous));
}

#[test]
fn an_answer_hands_over_one_message_or_says_so() {
    let bare = format!("<p:Response xmlns:p=\"{PROTOCOL}\"/>");
    let error = STANDARD.encode(&bare);
    let page = |fields: &str| {
        Handed::in_page(&format!(
            "<form method='post' action='https://sp/acs'>{fields}<button>POST</button></form>"
        ))
    };
    let field =
        |name: &str, value: &str| format!("<input type='hidden' name='{name}' value='{value}'>");
    assert_eq!(page(&field("SAMLResponse", &error)), Ok(Handed::Nothing));
    assert_eq!(
        page(&(field("SAMLResponse", &error) + &field("RelayState", "SAMLRequest"))),
        Ok(Handed::Nothing)
    );
    assert_eq!(page(&field("SAMLart", "AAQ")), Ok(Handed::Artifact));
    assert_eq!(page(&field("username", "x")), Ok(Handed::Nothing));
    assert_eq!(
        page(&field("SAMLResponse", &error).repeat(2)),
        Err(SamlError::Ambiguous)
    );
    assert_eq!(page(&field("SAMLResponse", "?")), Err(SamlError::Base64));
    for hidden in [
        "<script>post({SAMLResponse:'x'})</script>",
        "<object name=SAMLResponse value=x>",
    ] {
        assert_eq!(page(hidden), Err(SamlError::Ambiguous), "{hidden}");
    }
    let query = |name: &str, value: &str| {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair(name, value)
            .finish();
        Handed::in_location(&format!("https://sp/acs?a=b&{query}"))
    };
    let deflated = encode(&bare, Binding::Redirect).unwrap();
    for value in [&deflated, &error] {
        assert_eq!(query("SAMLResponse", value), Ok(Handed::Nothing));
    }
    assert_eq!(query("SAMLart", "AAQ"), Ok(Handed::Artifact));
    assert_eq!(query("sessionDataKey", "k"), Ok(Handed::Nothing));
    assert!(query("SAMLResponse", "k").is_err());
}

#[test]
fn noise_is_refused_without_panic() {
    let good = request(" ForceAuthn=\"0\"", "<samlp:Scoping/>");
    let bytes = good.as_bytes();
    for at in 0..bytes.len() {
        for change in [b'<', b'>', b'"', b'&', 0xff] {
            let mut noisy = bytes.to_vec();
            noisy[at] = change;
            if let Ok(Some(read)) = AuthnRequest::read(&STANDARD.encode(&noisy), Binding::Post) {
                drop(read.demanding(MFA, true));
            }
            drop(Handed::read(&STANDARD.encode(&noisy), Binding::Post));
        }
        let cut = STANDARD.encode(&bytes[..at]);
        assert!(AuthnRequest::read(&cut, Binding::Post).is_err());
    }
}
