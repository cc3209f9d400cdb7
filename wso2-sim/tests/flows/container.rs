//! What the container does with raw requests: targets, headers, bodies, faults. Written byte by byte, since HTTP clients
//! tidy up what they send.

use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use wso2_sim::Outage;
use wso2_sim::Sim;

use crate::harness::start;
use crate::harness::start_with;

/// Sends bytes, reads until the connection ends; the request should ask for that.
async fn exchange(sim: &Sim, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(sim.addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
    read.expect("the server ends the connection").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u64 {
    let code = answer
        .get(9..12)
        .unwrap_or_else(|| panic!("no status in {answer:?}"));
    code.parse().unwrap()
}

async fn get(sim: &Sim, target: &str, more: &str) -> String {
    let head =
        format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{more}Connection: close\r\n\r\n");
    exchange(sim, head.as_bytes()).await
}

fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn refused_targets_are_refused_over_the_wire() {
    let sim = start().await;
    let rows: Vec<Value> = serde_json::from_str(include_str!("../data/path-vectors.json")).unwrap();
    for row in &rows {
        let raw = row["raw"].as_str().unwrap();
        let want = row["status"].as_u64().unwrap();
        let got = status(&get(&sim, raw, "").await);
        if want != 200 {
            assert_eq!(got, want, "{raw}");
        } else if row["path_info"] == "/token"
            && row["context"] == "/oauth2"
            && row["tenant"].is_null()
        {
            // The token endpoint was reached: it exists, and takes no GET.
            assert_eq!(got, 405, "{raw}");
        } else {
            // Reached something: an unknown tenant or path is 404, a page or an API its own answer.
            assert!(matches!(got, 200 | 302 | 401 | 404 | 405), "{raw} {got}");
        }
    }
}

#[tokio::test]
async fn headers_reach_the_application_as_measured() {
    let sim = start().await;
    let rows: Vec<Value> =
        serde_json::from_str(include_str!("../data/header-vectors.json")).unwrap();
    for row in &rows {
        let lines: String = row["send"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| format!("{}\r\n", line.as_str().unwrap()))
            .collect();
        let answer = get(&sim, "/sim/echo", &lines).await;
        if let Some(want) = row["status"].as_u64() {
            assert_eq!(status(&answer), want, "{row}");
            continue;
        }
        let seen = body(&answer);
        if let Some(ip) = row["client_ip"].as_str() {
            assert_eq!(seen["client_ip"], ip, "{row}");
        }
        if let Some(header) = row["header"].as_array() {
            let first = seen["headers"]
                .as_array()
                .unwrap()
                .iter()
                .find(|pair| {
                    pair[0]
                        .as_str()
                        .unwrap()
                        .eq_ignore_ascii_case(header[0].as_str().unwrap())
                })
                .unwrap();
            assert_eq!(first[1], header[1], "{row}");
        }
    }
}

#[tokio::test]
async fn everything_is_recorded_as_sent() {
    let sim = start().await;
    let head = "POST /oauth2//token?b=1&a=%2e HTTP/1.1\r\nHost: localhost\r\nX-Risk-Score: 5\r\nx-risk-score: 90\r\n\
                Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\na=b\r\n2;x=y\r\n&c\r\n0\r\nT: 1\r\n\r\n";
    exchange(&sim, head.as_bytes()).await;
    let recorded = sim.recorded();
    let last = recorded.last().unwrap();
    assert_eq!(
        (last.method.as_str(), last.target.as_str()),
        ("POST", "/oauth2//token?b=1&a=%2e")
    );
    assert_eq!(last.header_values("X-RISK-SCORE"), ["5", "90"]);
    assert_eq!(last.headers[1].0, "X-Risk-Score");
    assert_eq!(last.headers[2].0, "x-risk-score");
    assert_eq!(last.body_text(), "a=b&c");
    assert!(last.received_ms > 0);
    sim.set_recording(false);
    sim.clear_recorded();
    get(&sim, "/sim/health", "").await;
    assert!(sim.recorded().is_empty());
}

#[tokio::test]
async fn heads_and_bodies_have_limits() {
    let sim = start_with(|config| config.body_bytes_max = 1_000).await;
    let long = format!("X-Long: {}\r\n", "a".repeat(8_192));
    assert_eq!(status(&get(&sim, "/sim/health", &long).await), 400);
    let fits = format!("X-Long: {}\r\n", "a".repeat(8_000));
    assert_eq!(status(&get(&sim, "/sim/health", &fits).await), 200);
    let big = "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n";
    assert_eq!(status(&exchange(&sim, big.as_bytes()).await), 413);
    let chunk = "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n";
    assert_eq!(status(&exchange(&sim, chunk.as_bytes()).await), 413);
    let odd = "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    assert_eq!(status(&exchange(&sim, odd.as_bytes()).await), 400);
}

#[tokio::test]
async fn garbage_is_answered_or_dropped_and_never_ends_the_server() {
    let sim = start().await;
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    for round in 0..200 {
        let mut bytes =
            b"POST /commonauth HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".to_vec();
        bytes.extend_from_slice(
            b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 40\r\n\r\n",
        );
        bytes.extend_from_slice(&[b'%'; 40]);
        // A reproducible scatter of changed bytes.
        for _ in 0..=round % 8 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = (state % bytes.len() as u64) as usize;
            bytes[at] = (state >> 32) as u8;
        }
        let mut stream = TcpStream::connect(sim.addr).await.unwrap();
        // The server may refuse before everything is sent.
        drop(stream.write_all(&bytes).await);
        drop(stream.shutdown().await);
        let mut answer = Vec::new();
        drop(tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await);
    }
    assert_eq!(status(&get(&sim, "/sim/health", "").await), 200);
}

#[tokio::test]
async fn connections_are_kept_and_pipelined_requests_answered_in_order() {
    let sim = start().await;
    let two = "GET /sim/health HTTP/1.1\r\nHost: localhost\r\n\r\n\
               HEAD /sim/static HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = exchange(&sim, two.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200 \r\n").count(), 2);
    assert!(answer.ends_with("\r\n\r\n"), "no body after HEAD");
    let expect = "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: close\r\n\
                  Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=b";
    assert!(
        exchange(&sim, expect.as_bytes())
            .await
            .starts_with("HTTP/1.1 100 \r\n\r\nHTTP/1.1 401 \r\n")
    );
}

#[tokio::test]
async fn faults_are_played() {
    let sim = start().await;
    sim.set_outage(Outage::Status(503));
    assert_eq!(status(&get(&sim, "/sim/health", "").await), 503);
    sim.set_outage(Outage::Reset);
    assert_eq!(get(&sim, "/sim/health", "").await, "");
    sim.set_outage(Outage::None);
    sim.set_response_delay(Duration::from_millis(30));
    let started = std::time::Instant::now();
    assert_eq!(status(&get(&sim, "/sim/health", "").await), 200);
    assert!(started.elapsed() >= Duration::from_millis(30));
    sim.stop().await;
    assert!(TcpStream::connect(sim.addr).await.is_err());
}
