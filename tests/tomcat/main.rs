//! The gateway against a real Tomcat 9, whose applications say what reached them. Whatever Tomcat takes to a scored
//! servlet was inspected as that door, or was refused; and what the gateway reads in forms and cookies is what the servlet
//! reads.
//!
//! `RISKGATE_SPELLINGS` sets how many spellings and forms are tried (`make hardening` tries more than the default).

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a panic is how a test reports a failure, and the figures are for people"
)]

#[path = "../support/gateway.rs"]
mod gateway;

#[path = "../support/spellings.rs"]
mod spellings;

/// Tomcat as a child process.
mod container;

/// Forms from plain to wild.
mod forms;

/// Requests as bytes over connections that are kept.
mod wire;

use container::Container;
use gateway::World;
use gateway::in_front_of;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use riskgate::domain::parameters::BodyHeaders;
use riskgate::domain::parameters::Parameters;
use riskgate::domain::route::Door;
use riskgate::domain::route::RouteTable;
use riskgate::domain::signals::session;
use riskgate::domain::target::SUPER_TENANT;
use serde_json::Value;
use spellings::Chance;
use spellings::SERVLETS;
use spellings::door_at;
use spellings::is_passed;
use spellings::spelling_of;
use spellings::verdict;
use wire::Wire;

/// Spellings, and forms, unless the environment says otherwise.
const TRIES: usize = 4_200;

fn tries() -> usize {
    std::env::var("RISKGATE_SPELLINGS").map_or(TRIES, |number| number.parse().expect("a number"))
}

/// What an application says of the request that has reached it.
#[derive(Debug)]
struct Arrival {
    /// Application and path in it.
    path: String,
    tenant: String,
    organization: Option<String>,
    /// `X-Risk-Status`, as the servlet sees it.
    status: Option<String>,
    /// The first cookie that is named as the session's is.
    session: Option<String>,
    parameters: Vec<(String, String)>,
}

impl Arrival {
    /// `None` for an answer that no application has given.
    fn of(status: u16, body: &[u8]) -> Option<Self> {
        if status != 200 {
            return None;
        }
        let said: Value = serde_json::from_slice(body).ok()?;
        let text = |name: &str| said.get(name)?.as_str().map(str::to_owned);
        let parameters = said.get("parameters")?.as_object()?;
        Some(Self {
            path: format!("{}{}", text("context")?, text("path")?),
            tenant: text("tenant").unwrap_or_else(|| SUPER_TENANT.to_owned()),
            organization: text("organization"),
            session: text("session"),
            status: said["risk"]["x-risk-status"].as_str().map(str::to_owned),
            parameters: parameters
                .iter()
                .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect(),
        })
    }
}

/// A request to `target` such as the door expects, so that it is scored rather than refused for what it lacks.
fn request(target: &str, method: &str, door: Door) -> Vec<u8> {
    let (content_type, body) = match door {
        Door::Login => (
            "application/x-www-form-urlencoded",
            "username=alice&password=p&sessionDataKey=0f1e2d3c",
        ),
        Door::Token => (
            "application/x-www-form-urlencoded",
            "grant_type=password&username=alice&password=p&client_id=app",
        ),
        Door::Authn | Door::Flow => ("application/json", "{\"flowId\":\"0f1e2d3c\"}"),
        Door::Pdp => ("application/json", "{\"Request\":{}}"),
        _ => ("application/x-www-form-urlencoded", "client_id=app"),
    };
    let (head, body) = if method == "GET" {
        (String::new(), "")
    } else {
        (
            format!(
                "Content-Type: {content_type}\r\nContent-Length: {}\r\n",
                body.len()
            ),
            body,
        )
    };
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n{body}").into_bytes()
}

/// Each servlet with its share of the spellings.
fn each_spelling(seed: u64, mut hold: impl FnMut(&str, Door, &'static str)) {
    for (number, (servlet, door, method)) in (seed..).zip(SERVLETS) {
        let mut chance = Chance::new(number);
        for _ in 0..tries() / SERVLETS.len() {
            hold(&spelling_of(servlet, &mut chance), door, method);
        }
    }
}

/// The classification against the container that is asked directly, as somebody who can go around the gateway would.
#[test]
fn a_spelling_is_classified_as_the_container_maps_it() {
    let container = Container::start();
    let table = RouteTable::shipped();
    let mut wire = Wire::to(container.direct);
    let (mut arrived, mut agreed) = (0, 0);
    each_spelling(1, |spelling, door, method| {
        let (status, body) = wire.exchange(&request(spelling, method, door));
        let Some(arrival) = Arrival::of(status, &body) else {
            return;
        };
        let Some(door) = door_at(&arrival.path) else {
            return;
        };
        arrived += 1;
        assert!(
            !is_passed(&table, spelling),
            "`{spelling}` reaches {door} and would be passed unscored"
        );
        if let Some(verdict) = verdict(&table, spelling) {
            agreed += 1;
            assert_eq!(verdict.door, door, "`{spelling}`");
            assert_eq!(verdict.tenant, arrival.tenant, "`{spelling}`");
            assert_eq!(verdict.organization, arrival.organization, "`{spelling}`");
        }
    });
    println!(
        "{arrived} of {} spellings reach a scored servlet; {agreed} of them are accepted as its door, the others refused",
        tries()
    );
    // What is not as it should be ends the test: nothing passes wrongly where a row is printed.
    eprintln!(
        "\nhardening|B1 spellings that reach a scored servlet of a Tomcat by themselves|{arrived}|{}|0",
        arrived - agreed
    );
    // The test is only worth something if many spellings do arrive, more than those that are accepted.
    assert!(arrived > tries() / 8 && agreed > tries() / 16 && agreed < arrived);
}

/// The whole way: what the applications behind the gateway say of the requests that reached them.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_reaches_a_scored_servlet_uninspected() {
    let container = Container::start();
    let world = World::start(in_front_of(container.port)).await;
    let mut wire = Wire::to(world.port);
    let (mut refused, mut arrived, mut elsewhere) = (0, 0, 0);
    tokio::task::block_in_place(|| {
        each_spelling(1_000, |spelling, door, method| {
            let (status, body) = wire.exchange(&request(spelling, method, door));
            let Some(arrival) = Arrival::of(status, &body) else {
                refused += 1;
                return;
            };
            if door_at(&arrival.path).is_none() {
                elsewhere += 1;
                return;
            }
            arrived += 1;
            assert!(
                matches!(arrival.status.as_deref(), Some("scored" | "unscored")),
                "`{spelling}` reached {} with the status {:?}",
                arrival.path,
                arrival.status
            );
        });
    });
    println!(
        "{arrived} spellings reached a scored servlet, all inspected; {refused} were refused, {elsewhere} led elsewhere"
    );
    eprintln!(
        "\nhardening|B1 spellings through the gateway to the same Tomcat|{}|{refused}|0",
        arrived + refused + elsewhere
    );
    assert!(arrived > tries() / 16 && refused > tries() / 8);
}

/// The value of a Cookie header that may be readable in more than one way.
fn cookies(chance: &mut Chance) -> String {
    const STARTS: [&str; 8] = ["", "", "", " ", "\t", ";", "$Version", "$Version=1;"];
    const NAMES: [&str; 8] = [
        "commonAuthId",
        "commonAuthId",
        "commonAuthId",
        "commonauthid",
        "a",
        "$Path",
        "a commonAuthId",
        "",
    ];
    const EQUALS: [&str; 8] = ["=", "=", "=", "=", " = ", "=\t", "==", ""];
    const MARKS: [&str; 16] = [
        "", "", "", "", "\"", "\"", " ", "\t", ",", "\\", "=", "ä", "{", "(", "/", "\\\"",
    ];
    const ENDS: [&str; 8] = ["; ", "; ", "; ", ";", " ;", ", ", " ", ";;"];
    let mut header = STARTS[chance.below(STARTS.len())].to_owned();
    for number in 0..1 + chance.below(4) {
        header.push_str(NAMES[chance.below(NAMES.len())]);
        header.push_str(EQUALS[chance.below(EQUALS.len())]);
        header.push_str(MARKS[chance.below(MARKS.len())]);
        header.push_str(&format!("v{number}"));
        header.push_str(MARKS[chance.below(MARKS.len())]);
        if chance.below(3) == 0 {
            header.push('w');
            header.push_str(MARKS[chance.below(MARKS.len())]);
        }
        header.push_str(ENDS[chance.below(ENDS.len())]);
    }
    header
}

/// The session that the gateway looks at is the one that a servlet is given.
#[test]
fn the_session_is_the_first_cookie_that_the_servlet_is_given() {
    let container = Container::start();
    let mut wire = Wire::to(container.direct);
    let mut chance = Chance::new(11);
    let (mut refused, mut none, mut read) = (0, 0, 0);
    for _ in 0..tries() {
        let fields: Vec<String> = (0..1 + chance.below(2))
            .map(|_| cookies(&mut chance))
            .collect();
        let mut request = "GET /commonauth HTTP/1.1\r\nHost: localhost\r\n".to_owned();
        let mut headers = HeaderMap::new();
        for field in &fields {
            request.push_str(&format!("Cookie: {field}\r\n"));
            // Blanks around the value belong to no field.
            let value = HeaderValue::from_bytes(field.trim().as_bytes()).expect("a value");
            headers.append(http::header::COOKIE, value);
        }
        request.push_str("\r\n");
        if headers.values().any(session::has_version) {
            refused += 1;
            continue;
        }
        let (status, body) = wire.exchange(request.as_bytes());
        let arrival = Arrival::of(status, &body).expect("an arrival");
        let ours = session::cookie_values(&headers, session::SESSION_COOKIE).next();
        assert_eq!(ours, arrival.session.as_deref(), "{fields:?}");
        if ours.is_some() {
            read += 1;
        } else {
            none += 1;
        }
    }
    println!("{read} sessions were read alike, {none} headers name none, {refused} are refused");
    assert!(read > tries() / 8 && none > tries() / 16 && refused > tries() / 16);
}

/// What the gateway reads in query and body is what the servlet reads, for every form that is let through.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_read_as_the_servlet_reads_it() {
    let container = Container::start();
    let world = World::start(in_front_of(container.port)).await;
    let mut wire = Wire::to(world.port);
    let mut chance = Chance::new(7);
    let (mut refused, mut read) = (0, 0);
    tokio::task::block_in_place(|| {
        for _ in 0..tries() {
            let form = forms::form(&mut chance);
            let (status, body) = wire.exchange(&form.request("/oauth2/token"));
            let Some(arrival) = Arrival::of(status, &body) else {
                refused += 1;
                continue;
            };
            read += 1;
            let headers = BodyHeaders {
                content_type: form.content_type,
                has_content_encoding: false,
            };
            let query = (!form.query.is_empty()).then_some(form.query.as_str());
            let ours = Parameters::parse(Door::Token, &Method::POST, query, headers, &form.body)
                .unwrap_or_else(|error| panic!("{form:?} was let through: {error}"));
            for (name, value) in &arrival.parameters {
                assert_eq!(ours.get(name), Some(value.as_str()), "`{name}` in {form:?}");
            }
            let mut names: Vec<&str> = ours.names().collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(
                names.len(),
                arrival.parameters.len(),
                "{names:?} against {:?} in {form:?}",
                arrival.parameters
            );
            assert_eq!(arrival.status.as_deref(), Some("scored"), "{form:?}");
        }
    });
    println!("{read} forms were read alike, {refused} were refused");
    eprintln!(
        "\nhardening|P1 forms through the gateway to the same Tomcat|{}|{refused}|0",
        read + refused
    );
    assert!(read > tries() / 16 && refused > tries() / 16);
}
