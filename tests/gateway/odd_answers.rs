//! Token answers of every framing and form from an identity server that sends what it is told to: each is signed anew and
//! whole, or goes on byte for byte.

use crate::gateway::Answer;
use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::claims;
use crate::gateway::form;
use crate::gateway::listening_port;
use crate::gateway::rules;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use riskgate::domain::signing::Ring;
use riskgate::domain::signing::SigningAlgorithm;
use riskgate::domain::signing::SigningKey;
use riskgate::domain::signing::SigningKeys;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// What the identity server says.
#[derive(Debug, Default)]
struct Said {
    /// The bytes of its next token answer.
    answer: Vec<u8>,
    /// Its key set.
    keys: String,
}

/// The identity server, its key, and the gateway in front of it.
struct Odd {
    keys: SigningKeys,
    said: Arc<Mutex<Said>>,
    world: World,
}

/// Reads one request to its end, which a length names: its first line and its body.
async fn request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = stream
            .read(&mut piece)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let named = name.eq_ignore_ascii_case("content-length");
            named.then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() >= length.unwrap_or(0) {
            return Some((head.lines().next()?.to_owned(), body.to_owned()));
        }
    }
}

fn plain(kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    let mut text = "HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=UTF-8\r\nTransfer-Encoding: chunked\r\n\
                    Connection: close\r\n\r\n"
        .to_owned();
    for piece in body.as_bytes().chunks(7) {
        let piece = std::str::from_utf8(piece).unwrap();
        text.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
    }
    text.push_str("0\r\n\r\n");
    text.into_bytes()
}

fn new_key() -> SigningKeys {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let der = pair.to_pkcs8v1().unwrap();
    let ring = Ring {
        current: SigningKey::from_pkcs8(SigningAlgorithm::Es256, der.as_ref()).unwrap(),
        next: None,
        previous: None,
    };
    SigningKeys::new(SigningAlgorithm::Es256, vec![ring]).unwrap()
}

impl Odd {
    async fn start() -> Self {
        let keys = new_key();
        let said = Arc::new(Mutex::new(Said {
            keys: keys.document().to_owned(),
            ..Said::default()
        }));
        let port = listening_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let told = Arc::clone(&said);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let told = Arc::clone(&told);
                tokio::spawn(async move {
                    let Some((line, body)) = request(&mut stream).await else {
                        return;
                    };
                    let path = line.split(' ').nth(1).unwrap_or_default();
                    let bytes = match path {
                        "/oauth2/jwks" => plain("application/json", &told.lock().unwrap().keys),
                        "/oauth2/token" => told.lock().unwrap().answer.clone(),
                        // What came is told back.
                        "/oauth2/introspect" => plain("text/plain", &body),
                        _ => plain(
                            "application/json",
                            "{\"issuer\":\"https://idp.example.com\"}",
                        ),
                    };
                    drop(stream.write_all(&bytes).await);
                    drop(stream.shutdown().await);
                });
            }
        });
        let config = format!(
            "[signing]\nresign_tokens = true\n[upstream]\nurl = \"http://127.0.0.1:{port}\"\n"
        );
        let world = World::start(Options {
            mode: "enforce",
            policy: Some(rules(&[("true", "allow")])),
            config: Box::leak(config.into_boxed_str()),
            ..Options::default()
        })
        .await;
        Self { keys, said, world }
    }

    /// From now on it signs with another key, and publishes that alone.
    fn change_key(&mut self) {
        self.keys = new_key();
        self.keys
            .document()
            .clone_into(&mut self.said.lock().unwrap().keys);
    }

    fn token(&self, header: Value, payload: &str) -> String {
        let Value::Object(header) = header else {
            panic!("a header is an object")
        };
        let key = self.keys.current(SigningAlgorithm::Es256).unwrap();
        key.seal(header, payload.as_bytes()).unwrap()
    }

    async fn ask(&self, answer: Vec<u8>) -> Answer {
        self.said.lock().unwrap().answer = answer;
        let fields = [("grant_type", "client_credentials")];
        let client = Some("demo-service");
        self.world.post("/oauth2/token", client, &fields).await
    }

    /// What the identity server gets when a token returns.
    async fn returned(&self, token: &str) -> String {
        let fields = [("token", token)];
        let answer = self
            .world
            .post("/oauth2/introspect", Some("demo-service"), &fields);
        answer.await.body
    }
}

fn body(token: &str) -> String {
    format!("{{\"access_token\":\"{token}\",\"token_type\":\"Bearer\",\"expires_in\":3600}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn framings_and_forms_of_an_answer() {
    let odd = Odd::start().await;
    let at = json!({ "typ": "at+jwt", "x5t": "a" });
    // Whatever the framing and the form of the payload: signed, whole, and had back byte for byte.
    for payload in [
        "{}",
        " { } \n",
        "{\"jti\":\"j\",\"sub\":\"\u{e4}\\u00e4\"}\t",
        "{\"a\":[{\"risk_score\":1}],\"cnf\":{\"x5t#S256\":\"q\"}}",
    ] {
        for header in [
            at.clone(),
            json!({}),
            json!({ "typ": "JWT", "jku": "https://evil.example" }),
        ] {
            let token = odd.token(header, payload);
            let body = body(&token);
            let tagged = plain("application/json\r\nETag: \"1\"\r\nDigest: x", &body);
            for answer in [plain("application/json", &body), chunked(&body), tagged] {
                let answer = odd.ask(answer).await;
                let new = answer.member("access_token");
                assert_eq!(claims(&new)["risk_status"], "scored", "{answer:?}");
                assert_eq!(answer.body.replace(&new, &token), body);
                for gone in ["etag", "digest"] {
                    assert_eq!(answer.header(gone), None);
                }
                assert_eq!(odd.returned(&new).await, form(&[("token", &token)]));
            }
        }
    }
    // Everything else goes on as it came.
    let token = odd.token(at.clone(), "{\"jti\":\"j\"}");
    let padding = format!(
        "{{\"access_token\":\"{token}\",\"x\":\"{}\"}}",
        "x".repeat(70_000)
    );
    let twice = format!("{{\"access_token\":\"{token}\",\"access_token\":\"{token}\"}}");
    let compressed = String::from_utf8(plain(
        "application/json\r\nContent-Encoding: gzip",
        &body(&token),
    ))
    .unwrap();
    for (answer, expected) in [
        (plain("application/json", &padding), padding.clone()),
        (chunked(&padding), padding),
        (chunked(&twice), twice),
        (plain("text/plain", &body(&token)), body(&token)),
        (compressed.into_bytes(), body(&token)),
        (plain("application/json", ""), String::new()),
        (plain("application/json", "[]"), "[]".to_owned()),
    ] {
        let answer = odd.ask(answer).await;
        assert!(
            answer.status == 200 && answer.body == expected,
            "{answer:?}"
        );
    }
    for payload in [
        "{\"risk_score\":5}",
        "{\"cnf\":{\"jkt\":\"k\"}}",
        "{\"a\":1,\"a\":2}",
        "[]",
    ] {
        let body = body(&odd.token(at.clone(), payload));
        let answer = odd.ask(plain("application/json", &body)).await;
        assert_eq!(answer.body, body, "{payload}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_not_made_whole() {
    let odd = Odd::start().await;
    let token = odd.token(json!({}), "{}");
    let whole = String::from_utf8(plain("application/json", &body(&token))).unwrap();
    let cut = whole.replace("Content-Length: ", "Content-Length: 9");
    odd.said.lock().unwrap().answer = cut.into_bytes();
    let body = form(&[("grant_type", "client_credentials")]);
    let request = format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = odd.world.raw(request.as_bytes()).await;
    assert!(!answer.text.ends_with("0\r\n\r\n"), "{answer:?}");
    assert!(!answer.text.contains("access_token"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_of_the_identity_server_is_learnt() {
    let mut odd = Odd::start().await;
    let at = json!({ "typ": "at+jwt" });
    let is_signed = |answer: &Answer| {
        claims(&answer.member("access_token"))
            .get("risk_status")
            .is_some()
    };
    let known = plain("application/json", &body(&odd.token(at.clone(), "{}")));
    assert!(is_signed(&odd.ask(known.clone()).await));
    odd.change_key();
    let new = plain("application/json", &body(&odd.token(at, "{}")));
    // Nobody waits for the new key: the first answer stays as it is, those after it are signed.
    let first = odd.ask(new.clone()).await;
    assert!(!is_signed(&first), "{first:?}");
    let end = Instant::now() + Duration::from_secs(60);
    while !is_signed(&odd.ask(new.clone()).await) {
        assert!(Instant::now() < end, "{}", odd.world.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // What the old key has signed is not signed anew any more.
    assert!(!is_signed(&odd.ask(known).await));
}
