//! Against a server of a few lines that counts what it is asked.

use super::*;
use crate::domain::jwt::TokenKind;
use crate::domain::jwt::UnverifiedHeader;
use crate::domain::resource::IntrospectionClient;
use crate::domain::time::Timestamp;
use crate::flow::ports::ClientAuth;
use crate::flow::ports::IntrospectionAway;
use crate::flow::ports::Introspector;
use crate::flow::ports::IssuedToken;
use crate::flow::ports::KeySource;
use crate::flow::ports::KeysAway;
use crate::flow::ports::RevokeError;
use crate::flow::ports::Revoker;
use crate::flow::ports::SessionsOf;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

/// An Ed25519 key of RFC 8037, under an id.
fn key_set(id: &str) -> String {
    format!(
        r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}]}}"#
    )
}

fn header(id: &str) -> UnverifiedHeader {
    let head = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"EdDSA","kid":"{id}"}}"#));
    UnverifiedHeader::read(&format!("{head}.e30.AA"), TokenKind::Id).unwrap()
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// A server that answers by path, or not at all.
struct Server {
    origin: String,
    answers: Arc<Mutex<Vec<(&'static str, String)>>>,
    asked: Arc<Mutex<Vec<String>>>,
    fetched: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let answers: Arc<Mutex<Vec<(&'static str, String)>>> = Arc::default();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let fetched: Arc<AtomicUsize> = Arc::default();
        let (all, log, count) = (
            Arc::clone(&answers),
            Arc::clone(&asked),
            Arc::clone(&fetched),
        );
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (all, log, count) = (Arc::clone(&all), Arc::clone(&log), Arc::clone(&count));
                tokio::spawn(async move {
                    let mut bytes = vec![0; 16_384];
                    let mut read = 0;
                    // The bodies here are sent with the head or right after it.
                    while !bytes[..read].windows(4).any(|end| end == b"\r\n\r\n") {
                        match stream.read(&mut bytes[read..]).await {
                            Ok(0) | Err(_) => return,
                            Ok(more) => read += more,
                        }
                    }
                    let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
                    let target = text.split(' ').nth(1).unwrap_or_default().to_owned();
                    if target.ends_with("/oauth2/jwks") {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    log.lock().unwrap().push(text);
                    let answer = all
                        .lock()
                        .unwrap()
                        .iter()
                        .find(|(path, _)| target.split('?').next() == Some(*path))
                        .map(|(_, answer)| answer.clone());
                    let answer = answer.unwrap_or_else(|| {
                        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
                    });
                    drop(stream.write_all(answer.as_bytes()).await);
                    drop(stream.shutdown().await);
                });
            }
        });
        Self {
            origin,
            answers,
            asked,
            fetched,
        }
    }

    fn answer(&self, path: &'static str, answer: String) {
        let mut answers = self.answers.lock().unwrap();
        answers.retain(|(known, _)| *known != path);
        answers.push((path, answer));
    }

    fn publish(&self, id: &str) {
        self.answer("/oauth2/jwks", ok(&key_set(id)));
        self.answer(
            "/oauth2/token/.well-known/openid-configuration",
            ok(r#"{"issuer":"https://login.example.com/oauth2/token","jwks_uri":"https://evil.example/jwks"}"#),
        );
    }

    fn fetched(&self) -> usize {
        self.fetched.load(Ordering::Relaxed)
    }
}

/// A clock that a test moves.
struct Hand(Mutex<Instant>);

impl Hand {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Instant::now())))
    }

    fn forward(&self, seconds: u64) {
        *self.0.lock().unwrap() += Duration::from_secs(seconds);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn instant(&self) -> Instant {
        *self.0.lock().unwrap()
    }
}

fn client(
    origin: &str,
    clock: &Arc<Hand>,
    management: Option<ManagementCredential>,
) -> IdentityServer {
    let settings = IdentityServerSettings {
        management,
        ..IdentityServerSettings::at(origin)
    };
    IdentityServer::new(&settings, Arc::clone(clock) as Arc<dyn Clock>).unwrap()
}

#[tokio::test]
async fn keys_are_fetched_once_and_anew_when_one_is_missing() {
    let (server, clock) = (Server::start().await, Hand::new());
    server.publish("old");
    let source = client(&server.origin, &clock, None);
    for _ in 0..50 {
        let known = source.keys("", Some(&header("old"))).await.unwrap();
        assert_eq!(
            known.issuer.as_deref(),
            Some("https://login.example.com/oauth2/token")
        );
    }
    assert_eq!(server.fetched(), 1);

    // A new key is found at once, and what is made up costs the identity server nothing more.
    server.publish("new");
    let known = source.keys("", Some(&header("new"))).await.unwrap();
    assert!(header("new").is_known_to(&known.keys));
    assert_eq!(server.fetched(), 2);
    for n in 0..50 {
        let known = source
            .keys("", Some(&header(&format!("made-up-{n}"))))
            .await
            .unwrap();
        assert!(header("new").is_known_to(&known.keys));
    }
    assert_eq!(server.fetched(), 2);
    clock.forward(11);
    source.keys("", Some(&header("made-up"))).await.unwrap();
    assert_eq!(server.fetched(), 3);
}

#[tokio::test]
async fn many_at_once_are_one_fetch() {
    let (server, clock) = (Server::start().await, Hand::new());
    server.publish("a");
    let source = Arc::new(client(&server.origin, &clock, None));
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let source = Arc::clone(&source);
            tokio::spawn(async move { source.keys("", Some(&header("a"))).await.is_ok() })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap());
    }
    assert_eq!(server.fetched(), 1);
}

#[tokio::test]
async fn old_keys_serve_while_the_server_is_away_but_not_for_ever() {
    let (server, clock) = (Server::start().await, Hand::new());
    server.publish("a");
    let source = client(&server.origin, &clock, None);
    source.keys("", None).await.unwrap();
    server.answer(
        "/oauth2/jwks",
        "HTTP/1.1 503 Away\r\ncontent-length: 0\r\n\r\n".to_owned(),
    );
    clock.forward(3_600);
    let known = source.keys("", Some(&header("a"))).await.unwrap();
    assert!(header("a").is_known_to(&known.keys));
    assert_eq!(server.fetched(), 2);
    clock.forward(24 * 3_600);
    assert_eq!(source.keys("", None).await.err(), Some(KeysAway));
}

#[tokio::test]
async fn a_server_that_is_away_is_not_asked_again_and_again() {
    let (server, clock) = (Server::start().await, Hand::new());
    let source = client(&server.origin, &clock, None);
    for _ in 0..20 {
        assert_eq!(source.keys("", None).await.err(), Some(KeysAway));
    }
    assert_eq!(server.fetched(), 2);
    server.publish("a");
    clock.forward(11);
    source.keys("", None).await.unwrap();
}

#[tokio::test]
async fn what_is_no_key_set_is_not_taken() {
    let elsewhere = Server::start().await;
    elsewhere.publish("evil");
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nlocation: {}/oauth2/jwks\r\ncontent-length: 0\r\n\r\n",
        elsewhere.origin
    );
    let long = ok(&format!("{}{}", " ".repeat(70_000), key_set("a")));
    for answer in [
        redirect,
        long,
        ok("[]"),
        ok(r#"{"keys":[]}"#),
        ok("<html>"),
        "garbage\r\n\r\n".to_owned(),
    ] {
        let (server, clock) = (Server::start().await, Hand::new());
        server.answer("/oauth2/jwks", answer.clone());
        let source = client(&server.origin, &clock, None);
        assert_eq!(
            source.keys("", None).await.err(),
            Some(KeysAway),
            "{answer:.40}"
        );
    }
    assert!(
        elsewhere.asked.lock().unwrap().is_empty(),
        "a redirect was followed"
    );
}

#[tokio::test]
async fn each_realm_has_its_own() {
    let (server, clock) = (Server::start().await, Hand::new());
    server.publish("super");
    server.answer("/t/foo/oauth2/jwks", ok(&key_set("foo")));
    let source = client(&server.origin, &clock, None);
    let known = source.keys("/t/foo", None).await.unwrap();
    assert!(header("foo").is_known_to(&known.keys) && !header("super").is_known_to(&known.keys));
    assert_eq!(known.issuer, None, "its discovery document is not there");
}

#[tokio::test]
async fn tokens_are_revoked_as_their_client() {
    let (server, clock) = (Server::start().await, Hand::new());
    server.answer("/oauth2/revoke", ok(""));
    let revoker = client(&server.origin, &clock, None);
    let token = IssuedToken {
        value: Secret::new("a+b c".to_owned()),
        is_refresh: true,
    };
    let basic = ClientAuth::Basic(Secret::new("Basic YTpi".to_owned()));
    revoker.revoke("", &token, &basic).await.unwrap();
    let seen = server.asked.lock().unwrap().pop().unwrap();
    assert!(
        seen.starts_with("POST /oauth2/revoke") && seen.contains("Basic YTpi"),
        "{seen}"
    );
    assert_eq!(
        revoker.revoke("/t/foo", &token, &basic).await,
        Err(RevokeError::Refused)
    );
    assert_eq!(
        revoker.end_sessions("", "e204849c-4ec2").await,
        Err(RevokeError::NoCredential)
    );
}

#[tokio::test]
async fn sessions_are_ended_with_a_token_of_the_gateways_own() {
    let (server, clock) = (Server::start().await, Hand::new());
    server.answer(
        "/oauth2/token",
        ok(r#"{"access_token":"T","expires_in":9}"#),
    );
    server.answer(
        "/api/users/v1/e204849c-4ec2/sessions",
        "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_owned(),
    );
    let credential = ManagementCredential {
        client_id: "ops".to_owned(),
        secret: Secret::new("s".to_owned()),
    };
    let revoker = client(&server.origin, &clock, Some(credential));
    revoker.end_sessions("", "e204849c-4ec2").await.unwrap();
    let seen = server.asked.lock().unwrap().pop().unwrap();
    assert!(
        seen.starts_with("DELETE ") && seen.contains("Bearer T"),
        "{seen}"
    );
    for odd in ["", "..", "a/../../x", "a?b", "alice@example.com"] {
        assert_eq!(
            revoker.end_sessions("", odd).await,
            Err(RevokeError::Refused),
            "{odd}"
        );
    }
}

/// A server that gives the gateway a token and these answers, and what becomes of the sessions of a user there.
async fn ended(
    users: &str,
    sessions: Option<String>,
    name: &str,
) -> (Result<SessionsOf, RevokeError>, Vec<String>) {
    let (server, clock) = (Server::start().await, Hand::new());
    server.answer("/t/foo/oauth2/token", ok(r#"{"access_token":"T"}"#));
    server.answer("/t/foo/scim2/Users", users.to_owned());
    if let Some(sessions) = sessions {
        server.answer("/t/foo/api/users/v1/1-a/sessions", sessions);
    }
    let credential = ManagementCredential {
        client_id: "ops".to_owned(),
        secret: Secret::new("s".to_owned()),
    };
    let revoker = client(&server.origin, &clock, Some(credential));
    let name = Secret::new(name.to_owned());
    let result = revoker.end_sessions_of("/t/foo", "foo", &name).await;
    let asked = server.asked.lock().unwrap().clone();
    (result, asked)
}

fn users(list: &str) -> String {
    ok(&format!(r#"{{"totalResults":9,"Resources":[{list}]}}"#))
}

#[tokio::test]
async fn the_user_whose_sessions_end_is_the_one_of_that_name() {
    let alice = r#"{"id":"1-a","userName":"Alice"}"#;
    let second = r#"{"id":"2-b","userName":"SECOND/alice"}"#;
    let both = users(&format!("{second},{alice}"));
    let empty = ok(r#"{"userId":"1-a","sessions":[]}"#);
    let (result, asked) = ended(&both, Some(empty), "alice").await;
    assert_eq!(result, Ok(SessionsOf::Nobody));
    assert!(
        asked[1].starts_with("GET /t/foo/scim2/Users?filter=userName+eq+%22alice%22&"),
        "{asked:?}"
    );
    assert!(asked[2].starts_with("GET /t/foo/api/users/v1/1-a/sessions"));
    assert_eq!(asked.len(), 3, "nothing is deleted where nothing is");
    // A user who has none may be none to that API.
    let (result, _) = ended(&users(alice), None, "alice").await;
    assert_eq!(result, Ok(SessionsOf::Nobody));
    for list in [
        "",
        second,
        &format!("{alice},{alice}"),
        r#"{"id":"../../x","userName":"alice"}"#,
        r#"{"id":"","userName":"alice"}"#,
    ] {
        let (result, asked) = ended(&users(list), None, "alice").await;
        assert_eq!(result, Ok(SessionsOf::UnknownUser), "{list}");
        assert_eq!(asked.len(), 2, "{asked:?}");
    }
    // Where there is none at all, WSO2 leaves the list out.
    let (result, _) = ended(&ok(r#"{"totalResults":0}"#), None, "alice").await;
    assert_eq!(result, Ok(SessionsOf::UnknownUser));
}

#[tokio::test]
async fn a_name_cannot_change_the_question() {
    for name in ["", "a\" or userName sw \"", "a\\", "a\nb", &"a".repeat(256)] {
        let (result, asked) = ended(&users(""), None, name).await;
        assert_eq!(result, Ok(SessionsOf::UnknownUser), "{name}");
        assert!(asked.is_empty(), "{asked:?}");
    }
    let (_, asked) = ended(&users(""), None, "a&count=0#é").await;
    assert!(
        asked[1].contains("%22a%26count%3D0%23%C3%A9%22&attributes="),
        "{asked:?}"
    );
}

#[tokio::test]
async fn who_is_away_is_told_from_who_refuses() {
    let status = |status: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    };
    let alice = users(r#"{"id":"1-a","userName":"alice"}"#);
    for (answer, expected) in [
        (status("503 Service Unavailable"), RevokeError::Away),
        (status("429 Too Many Requests"), RevokeError::Away),
        (status("403 Forbidden"), RevokeError::Refused),
        (
            status("302 Found\r\nlocation: http://127.0.0.1:1/"),
            RevokeError::Refused,
        ),
        (ok("nonsense"), RevokeError::Refused),
    ] {
        let (result, _) = ended(&answer, None, "alice").await;
        assert_eq!(result, Err(expected), "{answer}");
        let (result, asked) = ended(&alice, Some(answer.clone()), "alice").await;
        assert_eq!(result, Err(expected), "{answer}");
        assert!(!asked.iter().any(|asked| asked.starts_with("DELETE")));
    }
    // A list that is too long to be read is one.
    let long = ok(&format!(r#"{{"x":"{}"}}"#, "x".repeat(300_000)));
    let (result, asked) = ended(&alice, Some(long), "alice").await;
    assert!(asked[3].starts_with("DELETE /t/foo/api/users/v1/1-a/sessions"));
    assert_eq!(
        result,
        Err(RevokeError::Refused),
        "200 is no end of sessions"
    );
    let without = client("http://127.0.0.1:1", &Hand::new(), None);
    let name = Secret::new("alice".to_owned());
    assert_eq!(
        without.end_sessions_of("", "carbon.super", &name).await,
        Err(RevokeError::NoCredential)
    );
}

fn introspecting() -> IntrospectionClient {
    IntrospectionClient {
        client_id: "ops".to_owned(),
        secret: Secret::new("ops-secret".to_owned()),
    }
}

#[tokio::test]
async fn simultaneous_questions_about_a_token_are_one_and_no_answer_is_kept() {
    let server = Server::start().await;
    let source = client(&server.origin, &Hand::new(), None);
    let path = "/t/a.example/oauth2/introspect";
    server.answer(
        path,
        ok(r#"{"active":true,"client_id":"c","username":"alice"}"#),
    );
    let asks = |token: &'static str| {
        let source = &source;
        async move {
            source
                .introspect("/t/a.example", &introspecting(), token)
                .await
        }
    };
    let (one, two, other) = tokio::join!(asks("t&1"), asks("t&1"), asks("t2"));
    for answer in [one, two, other] {
        assert_eq!(answer.unwrap().unwrap().grant.subject, "alice");
    }
    {
        let asked = server.asked.lock().unwrap();
        assert_eq!(asked.len(), 2, "{asked:?}");
        let first = asked.iter().find(|text| text.contains("t%261")).unwrap();
        assert!(
            first.starts_with(&format!("POST {path} HTTP/1.1")),
            "{first}"
        );
        let credential = base64::engine::general_purpose::STANDARD.encode("ops:ops-secret");
        assert!(
            first.contains(&format!("authorization: Basic {credential}")),
            "{first}"
        );
    }
    // What was taken back a moment later is not good any more.
    server.answer(path, ok(r#"{"active":false}"#));
    assert_eq!(asks("t&1").await, Ok(None));
}

#[tokio::test]
async fn what_is_no_answer_is_no_word_about_a_token() {
    let server = Server::start().await;
    let source = client(&server.origin, &Hand::new(), None);
    let long = format!(
        r#"{{"active":true,"client_id":"c","x":"{}"}}"#,
        "x".repeat(70_000)
    );
    let unauthorized =
        "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let redirect = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    for answer in [
        ok("{}"),
        ok("nonsense"),
        ok(&long),
        unauthorized.to_owned(),
        redirect.to_owned(),
    ] {
        server.answer("/oauth2/introspect", answer.clone());
        let found = source.introspect("", &introspecting(), "t").await;
        assert_eq!(found, Err(IntrospectionAway), "{answer:.80}");
    }
    let gone = client("http://127.0.0.1:1", &Hand::new(), None);
    let found = gone.introspect("", &introspecting(), "t").await;
    assert_eq!(found, Err(IntrospectionAway));
}
