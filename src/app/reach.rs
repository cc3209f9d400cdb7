//! Whether the identity server answers as configured: name, port and, for `https`, a handshake that is checked in the
//! same way as the gateway's own; and whether what answers there has what WSO2 has.

mod answer;

use crate::adapters::clock::SystemClock;
use crate::domain::jwt::KeySet;
use crate::domain::jwt::KeySetError;
use crate::domain::jwt::keys::DOCUMENT_BYTES_MAX;
use crate::flow::ports::Clock;
use crate::proxy::upstream::UpstreamSettings;
use crate::telemetry::remedy;
use crate::telemetry::remedy::Side;
use answer::Answer;
use rustls::AlertDescription;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::RootCertStore;
use rustls::StreamOwned;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;

/// How long each piece of an answer may take, all of them together, and how much is read.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = DOCUMENT_BYTES_MAX + 16 * 1024;
/// What is to be done where something else answers.
const REMEDY: &str = "expected in upstream.url the host and port of WSO2 itself (9443 as it comes)";

/// What WSO2 publishes, and the gateway reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Published {
    Keys,
    Discovery,
}

/// A connection that was made as the gateway makes it.
enum Line {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// The configuration takes any certificate, so there was no handshake.
    Unchecked,
}

/// Contacts the identity server and asks for its keys and its discovery document. The error says what was wrong and what mends it.
/// That something else answers there is a warning, since WSO2 may be about to start.
pub fn identity_server(settings: &UpstreamSettings) -> Result<Option<String>, String> {
    let host = format!("{}:{}", settings.host, settings.port);
    for document in [Published::Keys, Published::Discovery] {
        let answer = match reached(settings, Side::IdentityServer)? {
            Line::Plain(mut stream) => asked(&mut stream, &host, document),
            Line::Tls(mut stream) => asked(&mut stream, &host, document),
            Line::Unchecked => return Ok(None),
        };
        let found = unlike_wso2(document, &answer, &host, settings.tls);
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Contacts a service. The error says what was wrong and what mends it.
pub fn service(settings: &UpstreamSettings) -> Result<(), String> {
    reached(settings, Side::Service).map(drop)
}

impl Published {
    fn path(self) -> &'static str {
        match self {
            Self::Keys => "/oauth2/jwks",
            Self::Discovery => "/oauth2/token/.well-known/openid-configuration",
        }
    }

    fn called(self) -> &'static str {
        match self {
            Self::Keys => "its keys",
            Self::Discovery => "its discovery document",
        }
    }

    /// What is wrong with a document, and what mends it.
    fn flaw(self, document: &[u8]) -> Option<String> {
        match self {
            Self::Keys => match KeySet::parse(document) {
                Ok(_) => None,
                Err(error @ KeySetError::Malformed) => Some(format!("{error}; {REMEDY}")),
                Err(error @ (KeySetError::Large | KeySetError::Unusable)) => Some(format!(
                    "{error}, so no token could be checked; expected a public key for signatures (RSA, P-256, P-384 or Ed25519)"
                )),
            },
            Self::Discovery => {
                let document = serde_json::from_slice::<serde_json::Value>(document);
                let has_issuer = document
                    .is_ok_and(|document| document.get("issuer").is_some_and(|it| it.is_string()));
                (!has_issuer).then(|| format!("it names no issuer; {REMEDY}"))
            }
        }
    }
}

/// What is answered to the question for a document; nothing, if nothing comes.
fn asked(stream: &mut (impl Read + Write), host: &str, document: Published) -> Answer {
    let path = document.path();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    );
    let mut bytes = Vec::new();
    let mut answer = Answer::read(&bytes);
    if stream.write_all(request.as_bytes()).is_ok() && stream.flush().is_ok() {
        let begun = SystemClock.instant();
        let mut piece = [0; 8 * 1024];
        while !answer.is_whole
            && bytes.len() < ANSWER_BYTES_MAX
            && SystemClock.instant().saturating_duration_since(begun) < ANSWER_TIME_MAX
            // What came before it broke off is what there is to judge by.
            && let Ok(count @ 1..) = stream.read(&mut piece)
        {
            bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
            answer = Answer::read(&bytes);
        }
    }
    answer
}

/// What there is to say of an answer, unless it is that of WSO2.
fn unlike_wso2(document: Published, answer: &Answer, host: &str, is_tls: bool) -> Option<String> {
    let place = format!("where WSO2 has {} ({})", document.called(), document.path());
    let said = match answer.status {
        Some(200) => {
            let flaw = document.flaw(&answer.body)?;
            return Some(format!("{host} answers 200 {place}, but {flaw}"));
        }
        Some(status) => format!("{host} answers {status} {place}"),
        None => format!("{host} does not answer by HTTP {place}"),
    };
    let tls = (!is_tls).then(|| format!("; {}", remedy::with_tls(Side::IdentityServer)));
    let tls = tls.unwrap_or_default();
    Some(format!("{said}{tls}; is it WSO2, and has it started?"))
}

fn reached(settings: &UpstreamSettings, side: Side) -> Result<Line, String> {
    let UpstreamSettings { host, port, .. } = settings;
    let addresses = (host.as_str(), *port)
        .to_socket_addrs()
        .map_err(|error| format!("`{host}` does not resolve: {error}"))?;
    let mut last = format!("`{host}` has no address");
    for address in addresses {
        match contact(settings, side, address) {
            Ok(line) => return Ok(line),
            Err(problem) => last = problem,
        }
    }
    Err(last)
}

fn contact(settings: &UpstreamSettings, side: Side, address: SocketAddr) -> Result<Line, String> {
    let mut stream = TcpStream::connect_timeout(&address, settings.connect_timeout)
        .map_err(|error| format!("{address} does not answer: {error}"))?;
    let patient = |stream: &TcpStream, timeout: Duration| {
        stream
            .set_read_timeout(Some(timeout))
            .and_then(|()| stream.set_write_timeout(Some(timeout)))
            .map_err(|error| format!("{address}: {error}"))
    };
    if !settings.tls {
        patient(&stream, ANSWER_TIMEOUT)?;
        return Ok(Line::Plain(stream));
    }
    if !settings.verify {
        return Ok(Line::Unchecked);
    }
    patient(&stream, settings.connect_timeout)?;
    let name = ServerName::try_from(settings.host.clone()).map_err(|_| {
        format!(
            "`{}` is not a name that a certificate can have",
            settings.host
        )
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(settings)?);
    let config = match &settings.certificate {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let (chain, key) = (own.present().chain(), own.present().key());
            PrivateKeyDer::try_from(key.expose().clone())
                .map_err(str::to_owned)
                .and_then(|key| {
                    let config = builder.with_client_auth_cert(chain, key);
                    config.map_err(|error| error.to_string())
                })
                .map_err(|error| format!("the client certificate cannot be used: {error}"))?
        }
    };
    let mut connection =
        ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    while connection.is_handshaking() {
        connection
            .complete_io(&mut stream)
            .map_err(|error| refused(settings, side, address, &error))?;
    }
    // With TLS 1.3 the other side looks at our certificate after our own last word. What it says then, a session ticket or
    // an alert, comes at once or not at all.
    match connection.complete_io(&mut stream) {
        Err(error) if alert(&error).is_some() => Err(refused(settings, side, address, &error)),
        _ => {
            patient(&stream, ANSWER_TIMEOUT)?;
            Ok(Line::Tls(Box::new(StreamOwned::new(connection, stream))))
        }
    }
}

/// What the other side says when it ends a handshake.
fn alert(error: &std::io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

fn refused(
    settings: &UpstreamSettings,
    side: Side,
    address: SocketAddr,
    error: &std::io::Error,
) -> String {
    let Some(alert) = alert(error) else {
        return unaccepted(side, address, error);
    };
    let remedy = remedy::of_alert(side, settings.certificate.is_some());
    let said = format!("{address} ends the handshake with `{alert:?}`");
    with_remedy(said, remedy)
}

/// Why this side ends a handshake.
fn unaccepted(side: Side, address: SocketAddr, error: &std::io::Error) -> String {
    let cause = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<rustls::Error>());
    let (said, remedy) = match cause {
        Some(rustls::Error::InvalidMessage(_)) => (
            format!("{address} does not speak TLS: {error}"),
            Some(remedy::without_tls(side)),
        ),
        Some(_) => (
            format!("the certificate of {address} is not accepted: {error}"),
            remedy::of_tls(&error.to_string(), side),
        ),
        None => (format!("{address} ends the handshake: {error}"), None),
    };
    with_remedy(said, remedy)
}

fn with_remedy(said: String, remedy: Option<String>) -> String {
    match remedy {
        Some(remedy) => format!("{said}; {remedy}"),
        None => said,
    }
}

fn roots(settings: &UpstreamSettings) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if settings.authorities.is_empty() {
        for certificate in rustls_native_certs::load_native_certs().certs {
            // What the system holds beside usable authorities is no concern of ours.
            drop(roots.add(certificate));
        }
    } else {
        for der in &settings.authorities {
            roots
                .add(CertificateDer::from(der.clone()))
                .map_err(|error| format!("upstream.ca_file: {error}"))?;
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::assemble;
    use crate::config::Config;
    use rustls::CertificateError;
    use std::net::TcpListener;

    fn upstream_at(url: &str) -> UpstreamSettings {
        let config = Config::parse(&format!("upstream.url = '{url}'")).unwrap();
        assemble::upstream(&config, "f").unwrap()
    }

    #[test]
    fn a_server_without_tls_is_told_from_one_with_a_wrong_certificate() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .unwrap();
        });
        let settings = upstream_at(&format!("https://127.0.0.1:{port}"));
        let found = identity_server(&settings).unwrap_err();
        assert!(
            found.contains("does not speak TLS") && found.contains("http:// in upstream.url"),
            "{found}"
        );
        server.join().unwrap();
    }

    /// What is said of a server that answers each question with the next of `answers`.
    fn said_of(answers: &'static [&'static str]) -> Option<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut question = [0; 1024];
                let length = stream.read(&mut question).unwrap();
                asked.push(String::from_utf8(question[..length].to_vec()).unwrap());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        let found = identity_server(&upstream_at(&format!("http://127.0.0.1:{port}"))).unwrap();
        let asked = server.join().unwrap();
        let paths = [
            "GET /oauth2/jwks HTTP/1.1\r\n",
            "GET /oauth2/token/.well-known/openid-configuration HTTP/1.1\r\n",
        ];
        for (question, path) in asked.iter().zip(paths) {
            assert!(question.starts_with(path), "{question}");
        }
        found
    }

    const WITH_KEYS: &str = "HTTP/1.1 200 OK\r\n\r\n{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\
        \"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\",\"use\":\"sig\",\"kid\":\"a\"}]}";

    #[test]
    fn what_answers_in_place_of_wso2_is_told_of() {
        const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>";
        let cases: [(&'static [&'static str], &str); 9] = [
            (&["HTTP/1.1 404 Not Found\r\n\r\n"], "answers 404"),
            // As Tomcat answers at a port of TLS.
            (&["HTTP/1.1 400 \r\n\r\n"], "https:// in upstream.url"),
            (&["\u{15}\u{3}\u{3}"], "https:// in upstream.url"),
            (&[""], "does not answer by HTTP"),
            // One that has a page for everything.
            (
                &[PAGE],
                "answers 200 where WSO2 has its keys (/oauth2/jwks), but the key set is not a JSON Web Key Set; \
                 expected in upstream.url the host and port of WSO2 itself",
            ),
            (
                &["HTTP/1.1 200 OK\r\n\r\n{\"keys\":[]}"],
                "the key set has no usable key",
            ),
            // One that has keys at this very path.
            (
                &[WITH_KEYS, PAGE],
                "but it names no issuer; expected in upstream.url",
            ),
            (
                &[WITH_KEYS, "HTTP/1.1 404 \r\n\r\n"],
                "answers 404 where WSO2 has its discovery document",
            ),
            (
                &[WITH_KEYS, "HTTP/1.1 200 OK\r\n\r\n{\"issuer\":1}"],
                "names no issuer",
            ),
        ];
        for (answers, part) in cases {
            let said = said_of(answers).unwrap_or_else(|| panic!("{part} is not said"));
            assert!(said.contains(part), "{said}");
        }
        let issuer = "HTTP/1.1 200 OK\r\n\r\n{\"issuer\":\"https://sso.example.com/oauth2/token\"}";
        assert_eq!(said_of(Box::leak(Box::new([WITH_KEYS, issuer]))), None);
        // Behind a handshake the address cannot lack its `https://`.
        let answer = Answer::read(b"HTTP/1.1 404 \r\n");
        let found = unlike_wso2(Published::Keys, &answer, "wso2.internal:9443", true).unwrap();
        assert!(
            found.ends_with("is it WSO2, and has it started?"),
            "{found}"
        );
    }

    #[test]
    fn an_unknown_authority_leads_to_the_key() {
        let address = "127.0.0.1:9443".parse().unwrap();
        let error = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let error = std::io::Error::other(error);
        for (side, key) in [
            (Side::IdentityServer, "upstream.ca_file"),
            (Side::Service, "resource.ca_file"),
        ] {
            let found = unaccepted(side, address, &error);
            assert!(
                found.contains("UnknownIssuer; name the authority") && found.ends_with(key),
                "{found}"
            );
        }
    }
}
