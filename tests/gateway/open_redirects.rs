//! No answer sends a browser anywhere but to our own origin or to the redirect URI that the application registered,
//! whatever somebody writes into a link, a form or a head.

use crate::gateway::CALLBACK;
use crate::gateway::Options;
use crate::gateway::RawAnswer;
use crate::gateway::World;
use crate::gateway::form;
use crate::gateway::rules;
use reqwest::Url;
use std::collections::BTreeSet;

/// Where nobody must be sent.
const EVIL: &str = "evil.example";

/// Ways to write a foreign place so that a careless check takes it for one of ours: each beginning with each form of the
/// place, and with what may come after it.
fn payloads() -> Vec<String> {
    let begins = [
        "//",
        "///",
        "////",
        "/\\",
        "\\\\",
        "/\\/",
        "\\/",
        "/%09/",
        "/%5c",
        "%2f%2f",
        "/%2f%2f",
        "//%5c",
        "http://",
        "https://",
        "https:",
        "http:/",
        "/https://",
        "hTTps://",
        "https:/\\",
        "//;@",
        "///\\;@",
        "/.",
        "//%00/",
        "//\t",
        "javascript://",
        "data:text/html,//",
    ];
    let places = [
        EVIL.to_owned(),
        format!("{EVIL}:443"),
        format!("app.example.com@{EVIL}"),
        format!("app.example.com%40{EVIL}"),
        format!("app.example.com.{EVIL}"),
        format!("{EVIL}%2eexample.com"),
        format!("{EVIL}#app.example.com"),
        format!("{EVIL}?app.example.com"),
        format!("{EVIL}\\@app.example.com"),
    ];
    let ends = ["", "/%2f.."];
    let mut all = BTreeSet::new();
    for begin in begins {
        for place in &places {
            for end in ends {
                all.insert(format!("{begin}{place}{end}"));
            }
        }
    }
    // What would end a header field early, and addresses that merely begin or end like the registered one.
    for place in [
        format!("{CALLBACK}\r\nLocation: https://{EVIL}"),
        format!("{CALLBACK}%0d%0aLocation:%20https://{EVIL}"),
        format!("{CALLBACK}@{EVIL}"),
        format!("{CALLBACK}/../../{EVIL}"),
        format!("{CALLBACK}.{EVIL}"),
        format!("https://{EVIL}/{CALLBACK}"),
        format!("https://{EVIL}/?{CALLBACK}"),
        "https://app.example.com:444/cb".to_owned(),
        "http://app.example.com/cb".to_owned(),
        "https://app.example.com/cb/".to_owned(),
        "https://app.example.com".to_owned(),
    ] {
        all.insert(place);
    }
    all.into_iter().collect()
}

/// Whether a browser that is at `origin` stays there or goes to the registered redirect URI.
fn is_ours(location: &str, origin: &str) -> bool {
    let base = Url::parse(origin).unwrap();
    // What a browser makes of it counts, not how it looks.
    let Ok(target) = base.join(location) else {
        return false;
    };
    let callback = Url::parse(CALLBACK).unwrap();
    let is_callback = target.origin() == callback.origin() && target.path() == callback.path();
    target.username().is_empty() && (target.origin() == base.origin() || is_callback)
}

/// Where an answer leads: its fields, and the links, forms and refreshes of its page.
fn leads_to(answer: &RawAnswer) -> Vec<String> {
    let mut found: Vec<String> = ["location", "refresh", "content-location"]
        .iter()
        .filter_map(|name| answer.header(name))
        .map(|value| value.split("url=").last().unwrap_or(value).to_owned())
        .collect();
    let body = answer.body();
    for link in ["href=\"", "src=\"", "action=\"", "; url="] {
        for (at, _) in body.match_indices(link) {
            let rest = &body[at + link.len()..];
            let target = rest.split(['"', '\'', '>']).next().unwrap_or("");
            found.push(target.replace("&amp;", "&"));
        }
    }
    found
}

/// What came of all tries, so that a test can tell that it has tried something.
#[derive(Default)]
struct Tally {
    led_somewhere: usize,
    limited: usize,
}

impl Tally {
    async fn try_one(&mut self, world: &World, head: &str, body: &str) {
        let request = format!("{head}\r\nConnection: close\r\n\r\n{body}");
        let answer = world.raw(request.as_bytes()).await;
        assert!(answer.status < 500, "{} for {head}", answer.status);
        let places = leads_to(&answer);
        for place in &places {
            assert!(
                is_ours(place, &world.url),
                "{place:?} for {head}\n{body}\n{}",
                answer.text
            );
        }
        self.led_somewhere += usize::from(!places.is_empty());
        self.limited += usize::from(answer.status == 429);
    }

    async fn try_all(&mut self, world: &World, tried: &[String], target: impl Fn(&str) -> String) {
        for payload in tried {
            let target = target(payload);
            let head = format!("GET {target} HTTP/1.1\r\nHost: {}", host(world));
            self.try_one(world, &head, "").await;
        }
    }
}

fn host(world: &World) -> String {
    format!("127.0.0.1:{}", world.port)
}

/// A world that answers itself as much as it can: it sends authorize requests round, holds logins, refuses front-channel
/// answers.
async fn world() -> World {
    World::start(Options {
        mode: "enforce",
        policy: Some(rules(&[
            ("client.id == \"demo-consent\"", "review"),
            ("client.id == \"demo-opaque\"", "allow"),
            ("request.door == \"authorize\"", "step_up"),
        ])),
        // Thousands of requests from one address are what this is.
        config: "[limits]\naddress_per_minute = 0\nclient_per_minute = 0\nuser_per_minute = 0",
        ..Options::default()
    })
    .await
}

fn authorize(client: &str, more: &[(&str, &str)]) -> String {
    let mut fields = vec![
        ("client_id", client),
        ("response_type", "code"),
        ("scope", "openid"),
    ];
    fields.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    fields.extend_from_slice(more);
    format!("/oauth2/authorize?{}", form(&fields))
}

#[test]
fn there_are_enough_of_them_and_the_judge_is_strict() {
    let all = payloads();
    assert!(all.len() >= 200, "{}", all.len());
    let here = "http://127.0.0.1:1";
    for bad in [
        "//evil.example/cb",
        "/\\evil.example",
        "\\\\evil.example",
        "https:evil.example",
        "https://app.example.com@evil.example/cb",
        "https://evil.example@app.example.com/cb",
        "https://app.example.com/cb/../elsewhere",
        "http://app.example.com/cb",
        "https://app.example.com:444/cb",
        "javascript:alert(1)",
        "http://127.0.0.1:2/",
    ] {
        assert!(!is_ours(bad, here), "{bad}");
    }
    for good in [
        "/oauth2/authorize?x=//evil.example",
        "http://127.0.0.1:1/x",
        "https://app.example.com/cb?error=x",
        "https://app.example.com/cb#error=x",
    ] {
        assert!(is_ours(good, here), "{good}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_the_redirect_uri_the_state_or_a_parameter_of_ours() {
    let world = world().await;
    let all = payloads();
    let mut tally = Tally::default();
    let asked = |client: &'static str, more: &'static [(&str, &str)]| {
        move |evil: &str| {
            let mut fields = vec![("redirect_uri", evil)];
            fields.extend_from_slice(more);
            authorize(client, &fields)
        }
    };
    // Sent round, held, forwarded; asked in silence, so that the answer goes to the application at once.
    tally.try_all(&world, &all, asked("demo-web", &[])).await;
    tally
        .try_all(&world, &all, asked("demo-consent", &[]))
        .await;
    tally
        .try_all(
            &world,
            &all,
            asked(
                "demo-web",
                &[
                    ("prompt", "none"),
                    ("response_type", "id_token"),
                    ("nonce", "n"),
                ],
            ),
        )
        .await;
    // A value with a control character in it is refused before anything is looked at.
    let readable = all.iter().filter(|evil| !evil.contains(char::is_control));
    let readable = readable.count();
    assert_eq!(tally.led_somewhere, 3 * readable);

    let mut tally = Tally::default();
    for mode in ["query", "fragment", "form_post"] {
        for client in ["demo-web", "demo-opaque"] {
            tally
                .try_all(&world, &all, |evil| {
                    authorize(
                        client,
                        &[
                            ("redirect_uri", CALLBACK),
                            ("response_mode", mode),
                            ("prompt", "none"),
                            ("state", evil),
                            ("acr_values", evil),
                            ("max_age", evil),
                        ],
                    )
                })
                .await;
        }
    }
    assert_eq!(tally.led_somewhere, 6 * readable);
    assert_eq!(tally.limited, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_the_path_or_under_our_own_doors() {
    let world = world().await;
    let all = payloads();
    let mut tally = Tally::default();
    let raw: Vec<String> = all
        .iter()
        .filter(|payload| payload.starts_with('/') && !payload.contains(['\t', ' ', '\r']))
        .cloned()
        .collect();
    assert!(raw.len() >= 200, "{}", raw.len());
    tally.try_all(&world, &raw, str::to_owned).await;
    // Before, within and after the path of a door that sends its request round.
    let query = authorize("demo-web", &[("redirect_uri", CALLBACK)]);
    tally
        .try_all(&world, &raw, |evil| format!("{evil}{query}"))
        .await;
    tally
        .try_all(&world, &raw, |evil| {
            query.replacen("/authorize?", &format!("/authorize{evil}?"), 1)
        })
        .await;
    tally
        .try_all(&world, &raw, |evil| format!("/t/x{evil}/..{query}"))
        .await;
    let few: Vec<String> = all.into_iter().step_by(4).collect();
    for door in [
        "/riskgate/devices",
        "/riskgate/review/x",
        "/riskgate/",
        "/oidc/logout",
        "/commonauth",
    ] {
        tally
            .try_all(&world, &few, |evil| {
                let query = form(&[
                    ("return_to", evil),
                    ("url", evil),
                    ("next", evil),
                    ("redirect_uri", evil),
                    ("commonAuthCallerPath", evil),
                    ("sessionDataKey", evil),
                ]);
                format!("{door}?{query}")
            })
            .await;
    }
    assert!(tally.led_somewhere > few.len(), "{}", tally.led_somewhere);
    assert_eq!(tally.limited, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_form_that_is_posted() {
    let world = world().await;
    let few: Vec<String> = payloads().into_iter().step_by(2).collect();
    let mut tally = Tally::default();
    for payload in &few {
        for (path, client) in [
            ("/oauth2/authorize", "demo-web"),
            ("/oauth2/authorize", "demo-consent"),
            ("/commonauth", "demo-web"),
            ("/riskgate/devices", "demo-web"),
        ] {
            let fields = form(&[
                ("client_id", client),
                ("response_type", "code"),
                ("scope", "openid"),
                ("redirect_uri", payload),
                ("return_to", payload),
                ("username", "alice"),
                ("password", "no"),
                ("state", payload),
            ]);
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}",
                host(&world),
                fields.len()
            );
            tally.try_one(&world, &head, &fields).await;
        }
    }
    assert!(tally.led_somewhere > few.len(), "{}", tally.led_somewhere);
    assert_eq!(tally.limited, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_head_of_a_request() {
    let world = world().await;
    let mut tally = Tally::default();
    let web = authorize("demo-web", &[("redirect_uri", CALLBACK)]);
    let held = authorize("demo-consent", &[("redirect_uri", CALLBACK)]);
    let forwarded = authorize("demo-opaque", &[("redirect_uri", CALLBACK)]);
    for target in [&web, &held, &forwarded] {
        for evil in [
            EVIL.to_owned(),
            format!("{EVIL}:443"),
            format!("127.0.0.1:{}@{EVIL}", world.port),
            format!("127.0.0.1:{}.{EVIL}", world.port),
        ] {
            let hosts = [
                format!("Host: {evil}"),
                format!("Host: {}\r\nX-Forwarded-Host: {evil}", host(&world)),
                format!(
                    "Host: {}\r\nForwarded: host={evil};proto=https",
                    host(&world)
                ),
                format!("Host: {}\r\nX-Original-URL: //{evil}/", host(&world)),
                format!("Host: {}\r\nReferer: https://{evil}/", host(&world)),
                format!("Host: {}\r\nOrigin: https://{evil}", host(&world)),
            ];
            for fields in hosts {
                let head = format!("GET {target} HTTP/1.1\r\n{fields}");
                tally.try_one(&world, &head, "").await;
            }
            // The absolute form of a target.
            let head = format!("GET http://{evil}{target} HTTP/1.1\r\nHost: {evil}");
            tally.try_one(&world, &head, "").await;
        }
    }
    assert!(tally.led_somewhere > 40, "{}", tally.led_somewhere);
    assert_eq!(tally.limited, 0);
}
