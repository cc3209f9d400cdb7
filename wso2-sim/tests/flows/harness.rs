//! What the cases share: a started simulator, URLs, checked tokens, a tiny endpoint that answers as told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use wso2_sim::Sim;
use wso2_sim::SimConfig;
use wso2_sim::browser::Browser;
use wso2_sim::browser::Page;
use wso2_sim::seed;

/// A registered redirect URI that nobody listens on: drivers stop at it.
pub const CB: &str = "http://127.0.0.1:7777/cb";
pub const MFA: &str = "urn:riskgate:acr:mfa";
pub const PASSWORD: &str = "urn:riskgate:acr:pwd";

pub async fn start() -> Sim {
    start_with(|_| {}).await
}

pub async fn start_with(configure: impl FnOnce(&mut SimConfig)) -> Sim {
    let mut config = SimConfig::default();
    configure(&mut config);
    Sim::start(config).await.unwrap()
}

pub fn browser(sim: &Sim) -> Browser {
    Browser::new(&[sim.ca_pem()]).unwrap()
}

/// An authorization URL for the code flow; `more` replaces parameters of the same name.
pub fn authorize_url(sim: &Sim, client_id: &str, more: &[(&str, &str)]) -> String {
    authorize_url_in(sim, "", client_id, more)
}

pub fn authorize_url_in(sim: &Sim, prefix: &str, client_id: &str, more: &[(&str, &str)]) -> String {
    let mut params = vec![
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", CB),
        ("scope", "openid profile"),
        ("state", "s-1"),
        ("nonce", "n-1"),
    ];
    params.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    params.extend(more.iter().filter(|(_, value)| !value.is_empty()));
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(params)
        .finish();
    format!("{}{prefix}/oauth2/authorize?{query}", sim.url)
}

/// Signs alice in; the answer is the redirect to the client.
pub async fn sign_in(browser: &mut Browser, sim: &Sim, url: &str) -> Page {
    let now_s = sim.now_s();
    let totp = move || wso2_sim::totp_at(seed::ALICE_TOTP_SECRET, now_s);
    let page = browser
        .login(url, CB, "alice", "wonderland", Some(&totp))
        .await
        .unwrap();
    assert!(
        page.location()
            .is_some_and(|to| to.as_str().starts_with(CB)),
        "no answer to the client: {} {:?}",
        page.url,
        page.header("location")
    );
    page
}

pub async fn code_of(
    browser: &mut Browser,
    sim: &Sim,
    client_id: &str,
    more: &[(&str, &str)],
) -> String {
    let page = sign_in(browser, sim, &authorize_url(sim, client_id, more)).await;
    page.location_param("code").expect("a code")
}

/// POST to `/oauth2/token`, with HTTP Basic where a client is given.
pub async fn token(sim: &Sim, client: Option<&str>, fields: &[(&str, &str)]) -> Page {
    post(sim, "/oauth2/token", client, fields).await
}

pub async fn post(sim: &Sim, path: &str, client: Option<&str>, fields: &[(&str, &str)]) -> Page {
    let mut browser = browser(sim);
    if let Some(id) = client {
        browser.headers.push(basic(id, &format!("{id}-secret")));
    }
    browser
        .post_form(&format!("{}{path}", sim.url), fields)
        .await
        .unwrap()
}

pub fn basic(user: &str, password: &str) -> (String, String) {
    let text = STANDARD.encode(format!("{user}:{password}"));
    ("authorization".to_owned(), format!("Basic {text}"))
}

pub async fn redeem(sim: &Sim, client: &str, code: &str) -> Page {
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CB),
    ];
    token(sim, Some(client), &fields).await
}

/// Header and claims of a JWT after checking the signature with the published keys, by a library that is not the simulator's.
pub async fn checked(sim: &Sim, jwt: &str, audience: &str) -> (jsonwebtoken::Header, Value) {
    let keys = browser(sim)
        .get(&format!("{}/oauth2/jwks", sim.url))
        .await
        .unwrap()
        .json();
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_value(keys).unwrap();
    let header = jsonwebtoken::decode_header(jwt).unwrap();
    let key = keys
        .find(header.kid.as_deref().unwrap())
        .expect("the key of the token");
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.set_audience(&[audience]);
    let key = jsonwebtoken::DecodingKey::from_jwk(key).unwrap();
    let data = jsonwebtoken::decode::<Value>(jwt, &key, &validation).unwrap();
    (header, data.claims)
}

pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("no `{name}` in {value}"))
}

/// What an endpoint got: header lines (lower-case names) and JSON body.
#[derive(Clone, Debug)]
pub struct Received {
    pub headers: HashMap<String, String>,
    pub body: Value,
    pub raw_body: String,
}

/// An HTTP endpoint that answers every request with the next of the given answers, the last one again and again.
pub struct Endpoint {
    pub url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Endpoint {
    pub async fn start(answers: Vec<(u16, Value)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&received);
        tokio::spawn(async move {
            let mut answers = answers.into_iter();
            let mut answer = (200, json!({}));
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(request) = read_request(&mut stream).await else {
                    continue;
                };
                kept.lock().unwrap().push(request);
                answer = answers.next().unwrap_or(answer);
                let body = answer.1.to_string();
                let head = format!(
                    "HTTP/1.1 {} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    answer.0,
                    body.len()
                );
                // The caller may have given up already.
                drop(stream.write_all(format!("{head}{body}").as_bytes()).await);
            }
        });
        Self { url, received }
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Waits until that many requests have come.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        for _ in 0..6_000 {
            if self.received().len() >= count {
                return self.received();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("only {} of {count} requests came", self.received().len());
    }
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk).await.ok()?;
        if read == 0 {
            return None;
        }
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let headers: HashMap<String, String> = head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length: usize = headers.get("content-length")?.parse().ok()?;
        if body.len() >= length {
            return Some(Received {
                body: serde_json::from_str(body).unwrap_or_default(),
                raw_body: body.to_owned(),
                headers,
            });
        }
    }
}
