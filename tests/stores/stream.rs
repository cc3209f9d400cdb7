//! The stream of audit records that a fleet shares, on one server and in a cluster.

use crate::cluster::url;
use crate::redis::text;
use crate::redis_server::RedisServer;
use riskgate::adapters::redis::RedisSettings;
use riskgate::adapters::redis::RedisStream;
use riskgate::domain::secret::Secret;
use riskgate::domain::trail::foreign::StreamId;
use riskgate::flow::ports::RecordStream;
use riskgate::flow::ports::StateError;
use std::time::Duration;

const KEY: &[u8] = b"rg:1:audit:{fleet}";
/// Records that it is to hold, and those that the server keeps beyond it rather than take a node of it apart.
const RECORDS: u64 = 200;
const BEYOND: usize = 100;

/// Times that a busy machine keeps.
fn settings(secret: &[u8]) -> RedisSettings {
    RedisSettings {
        connection_timeout: Duration::from_secs(20),
        write_timeout: Duration::from_secs(20),
        ..RedisSettings::new(Secret::new(secret.to_vec()))
    }
}

fn connect(url: &str, settings: RedisSettings) -> RedisStream {
    RedisStream::connect(url, settings, "fleet", RECORDS).unwrap()
}

fn lines(numbers: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    numbers
        .map(|number| format!("{{\"line\":{number}}}").into_bytes())
        .collect()
}

/// Everything in it, page by page.
async fn whole(stream: &RedisStream) -> Vec<Option<Vec<u8>>> {
    let (mut from, mut found) = (StreamId::default(), Vec::new());
    loop {
        let page = stream.from(from, 64).await.unwrap();
        let Some(last) = page.last() else {
            return found;
        };
        from = last.id.next();
        found.extend(page.into_iter().map(|entry| entry.line));
    }
}

/// What holds of every form of Redis.
async fn keeps_lines_in_order(url: &str) -> RedisStream {
    let stream = connect(url, settings(b"one secret"));
    stream.ready().await.unwrap();
    assert_eq!(stream.from(StreamId::default(), 9).await.unwrap(), []);
    assert_eq!(stream.append(&lines(0..150)).await.unwrap(), 150);
    let expected: Vec<_> = lines(0..150).into_iter().map(Some).collect();
    assert_eq!(whole(&stream).await, expected);
    let back = stream.up_to(StreamId::LAST, 2).await.unwrap();
    let back: Vec<_> = back.into_iter().map(|entry| entry.line).collect();
    assert_eq!(back, [expected[149].clone(), expected[148].clone()]);
    // The oldest make room.
    for start in (150..1_000).step_by(50) {
        stream.append(&lines(start..start + 50)).await.unwrap();
    }
    let left = whole(&stream).await;
    let most = usize::try_from(RECORDS).unwrap() + BEYOND;
    assert!(left.len() <= most, "{}", left.len());
    let expected: Vec<_> = lines(1_000 - left.len()..1_000)
        .into_iter()
        .map(Some)
        .collect();
    assert_eq!(left, expected);
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_keeps_lines_in_order_and_in_bounds() {
    let servers = RedisServer::start_cluster();
    keeps_lines_in_order(&url(&servers)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_bounded_and_lets_nobody_else_in() {
    let server = RedisServer::start();
    let stream = keeps_lines_in_order(&server.url()).await;
    // What nobody writes to any more ends by itself.
    let left = text(&server.command(&[b"PTTL", KEY]));
    let left: u64 = left.trim().strip_prefix(':').unwrap().parse().unwrap();
    assert!(left > 29 * 86_400_000, "{left}");

    // The seal is that of this line under this secret, or under the one before it.
    let other = connect(&server.url(), settings(b"another secret"));
    assert!(whole(&other).await.iter().all(Option::is_none));
    let mut exchanged = settings(b"a new secret");
    exchanged.previous_seal_key = Some(Secret::new(b"one secret".to_vec()));
    let exchanged = connect(&server.url(), exchanged);
    assert!(whole(&exchanged).await.iter().all(Option::is_some));
    server.command(&[b"DEL", KEY]);
    stream.append(&lines(0..1)).await.unwrap();
    let entry = server.command(&[b"XRANGE", KEY, b"-", b"+"]);
    let head = b"seal\r\n$32\r\n";
    let at = entry.windows(head.len()).position(|part| part == head);
    let seal = &entry[at.unwrap() + head.len()..][..32];
    for fields in [
        [b"record".as_slice(), b"{\"line\":0}", b"seal", seal],
        [b"record", b"{\"line\":1}", b"seal", seal],
        [b"record", b"{\"line\":0}", b"seal", &seal[..12]],
        [b"line", b"{\"line\":0}", b"seal", seal],
    ] {
        server.command(&[&[b"XADD".as_slice(), KEY, b"*"], &fields[..]].concat());
    }
    let first = Some(b"{\"line\":0}".to_vec());
    assert_eq!(
        whole(&stream).await,
        [first.clone(), first, None, None, None]
    );

    // What refuses is named; nothing of it is there.
    server.command(&[b"CONFIG", b"SET", b"maxmemory", b"1"]);
    let error = stream.append(&lines(0..3)).await.unwrap_err();
    assert!(
        matches!(&error, StateError::Refused(why) if why.contains("OOM")),
        "{error}"
    );
    server.command(&[b"CONFIG", b"SET", b"maxmemory", b"0"]);
    server.command(&[b"DEL", KEY]);
    server.command(&[b"SADD", KEY, b"x"]);
    for error in [
        stream.append(&lines(0..3)).await.unwrap_err(),
        stream.from(StreamId::default(), 9).await.unwrap_err(),
    ] {
        assert!(
            matches!(&error, StateError::Refused(why) if why.contains("WRONGTYPE")),
            "{error}"
        );
    }
}
