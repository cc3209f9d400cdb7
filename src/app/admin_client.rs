//! Speaks to the operators' listener of the gateway that runs, for the commands that need its word: one request, one
//! answer, both bounded. It decides nothing.

use crate::app::RunError;
use crate::app::operators;
use crate::config::Config;
use crate::config::ConfigError;
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
/// The longest answer that is read: a full review queue has some 500 KiB.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What is asked. No part may hold a line end: all come from this program or are made printable before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// `GET` or `POST`.
    pub(crate) method: &'a str,
    /// The path with its query.
    pub(crate) path: &'a str,
    /// Further header lines, each with its line end.
    pub(crate) headers: &'a str,
    /// The body, plain text.
    pub(crate) body: &'a str,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Silence {
    /// Nobody listens at the address, or not in time.
    Away(SocketAddr, std::io::Error),
    /// What answers does not speak HTTP/1.1.
    Foreign,
}

/// Asks the gateway whose admin listener is `listen`: its status and body.
pub(crate) fn ask(listen: SocketAddr, question: Question<'_>) -> Result<(u16, String), Silence> {
    let address = reachable(listen);
    let Question {
        method,
        path,
        headers,
        body,
    } = question;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
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
    let answer = spoken().map_err(|error| Silence::Away(address, error))?;
    let text = String::from_utf8(answer).map_err(|_| Silence::Foreign)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(Silence::Foreign)?;
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or(Silence::Foreign)?;
    Ok((status, body.to_owned()))
}

/// Why the gateway of a configuration did not answer.
#[derive(Debug)]
pub(in crate::app) enum NoAnswer {
    /// There is no token to show it.
    Token(ConfigError),
    /// Nobody answers who is one.
    Silent(Silence),
}

/// Asks the gateway of this configuration, with its token beside the headers of the question.
pub(in crate::app) fn with_token(
    config: &Config,
    question: Question<'_>,
) -> Result<(u16, String), NoAnswer> {
    let token = operators::existing(config).map_err(NoAnswer::Token)?;
    let headers = format!(
        "Authorization: Bearer {}\r\n{}",
        token.expose(),
        question.headers
    );
    let question = Question {
        headers: &headers,
        ..question
    };
    ask(config.admin.listen, question).map_err(NoAnswer::Silent)
}

/// The same for commands that can do nothing without it.
///
/// # Errors
/// There is no token, nobody answers, or what answers is no riskgate.
pub(in crate::app) fn ask_with_token(
    config: &Config,
    question: Question<'_>,
) -> Result<(u16, String), RunError> {
    with_token(config, question).map_err(|error| match error {
        NoAnswer::Token(error) => RunError::Config(vec![error]),
        NoAnswer::Silent(Silence::Away(address, error)) => wrong(
            "admin.listen",
            &format!(
                "no gateway answers at {address}: {error}; is `riskgate run` running, with this configuration? --admin names \
                 another address"
            ),
        ),
        NoAnswer::Silent(Silence::Foreign) => foreign(config),
    })
}

/// What answers at the address of the gateway is something else.
pub(in crate::app) fn foreign(config: &Config) -> RunError {
    wrong(
        "admin.listen",
        &format!("what answers at {} is no riskgate", config.admin.listen),
    )
}

/// A key, and what is wrong with it.
pub(in crate::app) fn wrong(key: &str, problem: &str) -> RunError {
    RunError::Config(vec![ConfigError::new(key, problem)])
}

/// An address to which one can connect: a listener on all of them is on the loopback one as well.
pub(in crate::app) fn reachable(listen: SocketAddr) -> SocketAddr {
    let address = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(address, listen.port())
}
