//! A closed loop of clients over HTTP/1.1 with keep-alive: each connection sends its next request when it has the answer
//! to the last one. Raw sockets, so that the load costs little beside what it measures.

use crate::traffic::Requests;
use crate::traffic::Traffic;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::task::LocalSet;

/// The longest head that is read.
const HEAD_BYTES_MAX: usize = 16_384;
/// What a round may take beyond its length before it counts as hung.
const GRACE: Duration = Duration::from_secs(5);

/// What one round came to.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// From the first request to the last answer.
    pub(crate) took: Duration,
    /// The time of every answer in nanoseconds, ascending.
    pub(crate) nanos: Vec<u64>,
    /// Answers by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
}

/// The head of a message, as far as its end matters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// Its bytes, the empty line included.
    pub(crate) bytes: usize,
    /// Bytes of the body; 0 when no length is given.
    pub(crate) content_length: usize,
    /// The status of an answer; 0 for a request.
    pub(crate) status: u16,
    /// Whether the sender closes the connection after this message.
    pub(crate) closes: bool,
}

/// Keeps `connections` busy with `traffic` for `length`.
pub(crate) async fn run(
    address: SocketAddr,
    traffic: Traffic,
    connections: usize,
    length: Duration,
) -> Result<Round> {
    let requests = Rc::new(Requests::of(traffic));
    let start = Instant::now();
    let end = start + length;
    let local = LocalSet::new();
    let clients = local.run_until(async {
        let mut clients = JoinSet::new();
        for seed in 0..connections as u64 {
            clients.spawn_local(client(address, Rc::clone(&requests), seed + 1, end));
        }
        let mut all = Round::default();
        while let Some(round) = clients.join_next().await {
            let round = round.context("a client ended early")??;
            all.nanos.extend(round.nanos);
            for (status, count) in round.statuses {
                *all.statuses.entry(status).or_default() += count;
            }
        }
        anyhow::Ok(all)
    });
    let mut all = tokio::time::timeout(length + GRACE, clients)
        .await
        .with_context(|| format!("{address} did not answer in time"))??;
    all.took = start.elapsed();
    all.nanos.sort_unstable();
    Ok(all)
}

async fn client(
    address: SocketAddr,
    requests: Rc<Requests>,
    seed: u64,
    end: Instant,
) -> Result<Round> {
    let mut round = Round::default();
    let mut stream = connect(address).await?;
    let mut buffer = Vec::with_capacity(8_192);
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while Instant::now() < end {
        // xorshift: which user comes next must cost nothing.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let sent = Instant::now();
        stream.write_all(requests.pick(random)).await?;
        let Some(head) = read_head(&mut stream, &mut buffer).await? else {
            bail!("{address} closed without an answer")
        };
        while buffer.len() < head.bytes + head.content_length {
            if stream.read_buf(&mut buffer).await? == 0 {
                bail!("{address} closed within an answer");
            }
        }
        round.nanos.push(u64::try_from(sent.elapsed().as_nanos())?);
        *round.statuses.entry(head.status).or_default() += 1;
        buffer.drain(..head.bytes + head.content_length);
        if head.closes {
            stream = connect(address).await?;
            buffer.clear();
        }
    }
    Ok(round)
}

/// One GET; the body of the answer.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = connect(address).await?;
    stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("no answer to {path}"))?;
    Ok(body.to_owned())
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("{address} cannot be reached"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads until `buffer` begins with a whole head. `None` when the connection ended before one began.
pub(crate) async fn read_head(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> Result<Option<Head>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            return parse_head(buffer.get(..end).unwrap_or_default(), end + 4).map(Some);
        }
        if buffer.len() > HEAD_BYTES_MAX {
            bail!("a head of more than {HEAD_BYTES_MAX} bytes");
        }
        if stream.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() {
                Ok(None)
            } else {
                bail!("the connection ended within a head")
            };
        }
    }
}

fn parse_head(head: &[u8], bytes: usize) -> Result<Head> {
    let text = std::str::from_utf8(head)?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = match first.strip_prefix("HTTP/1.1 ") {
        Some(rest) => rest.get(..3).unwrap_or_default().parse()?,
        None => 0,
    };
    let mut parsed = Head {
        bytes,
        content_length: 0,
        status,
        closes: false,
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            parsed.content_length = value.trim().parse()?;
        } else if name.eq_ignore_ascii_case("connection") {
            parsed.closes = value.trim().eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("a message without a length: `{first}`");
        }
    }
    Ok(parsed)
}
