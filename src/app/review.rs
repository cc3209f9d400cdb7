//! `riskgate review list | release | refuse`: speaks to the listener of the gateway that runs, since the queue is in its
//! hands. One request, one answer, both bounded.

use crate::app::RunError;
use crate::app::operators;
use crate::config::Config;
use crate::config::ConfigError;
use crate::domain::review::Answer;
use crate::domain::review::Listing;
use crate::domain::review::printable;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Duration;

/// For connecting, and for each read and write.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is read: a full queue has some 500 KiB.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What was said about a held login.
#[derive(Debug)]
pub enum Said {
    /// It is done: the whole id.
    Done(String),
    /// There is no such login, or it has been decided otherwise: why.
    Nothing(String),
}

/// The queue: those that wait, or all.
pub fn list(config: &Config, all: bool) -> Result<Listing, RunError> {
    let path = if all { "/review?all=true" } else { "/review" };
    let (status, body) = exchange(config, "GET", path, "", "")?;
    match status {
        200 => Listing::parse(&body).ok_or_else(|| foreign(config)),
        _ => Err(refused(config, status, &body)),
    }
}

/// Releases or refuses the login whose id is, or begins with, `id`.
pub fn decide(
    config: &Config,
    id: &str,
    is_release: bool,
    operator: &str,
    reason: &str,
) -> Result<Said, RunError> {
    // Anything else could not be an id, and must not become part of a path.
    if id.is_empty() || id.len() > 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong(
            "ID",
            &format!(
                "`{}`: expected the digits that `riskgate review list` prints",
                printable(id)
            ),
        ));
    }
    let word = if is_release { "release" } else { "refuse" };
    let path = format!("/review/{id}/{word}");
    let (status, body) = exchange(config, "POST", &path, operator, reason)?;
    let answer = Answer::parse(&body).unwrap_or_default();
    match (status, answer.id, answer.error) {
        (200, Some(id), _) => Ok(Said::Done(printable(&id))),
        (404 | 409, _, Some(error)) => Ok(Said::Nothing(printable(&error))),
        _ => Err(refused(config, status, &body)),
    }
}

fn exchange(
    config: &Config,
    method: &str,
    path: &str,
    operator: &str,
    body: &str,
) -> Result<(u16, String), RunError> {
    let token = operators::existing(config).map_err(|error| RunError::Config(vec![error]))?;
    let address = reachable(config.admin.listen);
    // A name goes into a header: what cannot be sent there is left out.
    let operator: String = printable(operator)
        .chars()
        .map(|c| if c.is_ascii() { c } else { '?' })
        .collect();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nX-Riskgate-Operator: {operator}\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        token.expose(),
        body.len()
    );
    let spoken = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = spoken().map_err(|error| {
        wrong(
            "admin.listen",
            &format!(
                "no gateway answers at {address}: {error}; is `riskgate run` running, with this configuration? --admin names \
                 another address"
            ),
        )
    })?;
    let text = String::from_utf8(answer).map_err(|_| foreign(config))?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| foreign(config))?;
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| foreign(config))?;
    Ok((status, body.to_owned()))
}

/// An address to which one can connect: a listener on all of them is on the loopback one as well.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let address = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(address, listen.port())
}

fn refused(config: &Config, status: u16, body: &str) -> RunError {
    let said = Answer::parse(body).and_then(|answer| answer.error);
    match status {
        401 => wrong(
            "admin.token_file",
            &format!(
                "the gateway does not take the token in `{}`; use the one of the gateway that runs (--data or --config), or \
                 restart the gateway after exchanging it",
                config.token_file().display()
            ),
        ),
        503 => RunError::System(format!(
            "the gateway cannot reach its store: {}; try again",
            said.as_deref()
                .map_or_else(|| "no reason given".to_owned(), printable)
        )),
        _ => wrong(
            "admin.listen",
            &format!(
                "the gateway answers {status}: {}",
                said.as_deref()
                    .map_or_else(|| "no reason given".to_owned(), printable)
            ),
        ),
    }
}

fn foreign(config: &Config) -> RunError {
    wrong(
        "admin.listen",
        &format!("what answers at {} is no riskgate", config.admin.listen),
    )
}

fn wrong(key: &str, problem: &str) -> RunError {
    RunError::Config(vec![ConfigError::new(key, problem)])
}
