//! HTTP/1.1 on the server's side, byte for byte: the request target, the spelling, order and repetition of header lines
//! are kept as sent, which no HTTP library does. Rules are Tomcat's where they differ from each other. It must not
//! interpret paths or parameters.

use std::fmt;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

use crate::response::Response;

/// Longest line of a chunk header, its extensions included.
const CHUNK_LINE_BYTES_MAX: usize = 1_024;
/// Most bytes of trailer lines after the last chunk.
const TRAILER_BYTES_MAX: usize = 8_192;
/// Most header lines; Tomcat's `maxHeaderCount`.
const HEADERS_MAX: usize = 100;
/// Empty lines that are skipped before a request line (RFC 9112 section 2.2).
const EMPTY_LINES_MAX: usize = 8;

/// A request head and body as received.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    pub(crate) keeps_alive: bool,
}

/// Why no request could be read.
#[derive(Debug)]
pub(crate) enum WireError {
    /// The other side went away.
    Closed,
    /// The request breaks HTTP: answer with this status, then close.
    Refused(u16),
}

impl fmt::Display for WireError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => formatter.write_str("connection closed"),
            Self::Refused(status) => write!(formatter, "request refused with {status}"),
        }
    }
}

impl From<std::io::Error> for WireError {
    fn from(_: std::io::Error) -> Self {
        Self::Closed
    }
}

/// One connection: the stream and what was read ahead.
pub(crate) struct Connection<S> {
    stream: S,
    read: BytesMut,
    head_bytes_max: usize,
    body_bytes_max: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(stream: S, head_bytes_max: usize, body_bytes_max: usize) -> Self {
        Self {
            stream,
            read: BytesMut::with_capacity(4_096),
            head_bytes_max,
            body_bytes_max,
        }
    }

    /// Reads one request; `Ok(None)` is a clean end between requests.
    pub(crate) async fn read_request(&mut self) -> Result<Option<Incoming>, WireError> {
        let Some(head) = self.read_head().await? else {
            return Ok(None);
        };
        let mut head = parse_head(&head).map_err(WireError::Refused)?;
        if head.expects_continue && head.length != Length::Known(0) {
            self.stream.write_all(b"HTTP/1.1 100 \r\n\r\n").await?;
            self.stream.flush().await?;
        }
        head.incoming.body = match head.length {
            Length::Known(length) if length > self.body_bytes_max => {
                return Err(WireError::Refused(413));
            }
            Length::Known(length) => {
                self.fill(length).await?;
                self.read.split_to(length).freeze()
            }
            Length::Chunked => self.read_chunked().await?,
        };
        Ok(Some(head.incoming))
    }

    /// Writes a response; `with_body` is false for HEAD, whose length is still told.
    pub(crate) async fn write_response(
        &mut self,
        response: &Response,
        with_body: bool,
        keeps_alive: bool,
    ) -> Result<(), WireError> {
        let mut bytes = BytesMut::with_capacity(512 + response.body.len());
        // Tomcat sends no reason phrase, only the space before it.
        bytes.extend_from_slice(format!("HTTP/1.1 {} \r\n", response.status).as_bytes());
        for (name, value) in &response.headers {
            // INVARIANT: no CR or LF from user text reaches a header line.
            let value: String = value
                .chars()
                .map(|letter| if letter.is_control() { ' ' } else { letter })
                .collect();
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        let bodiless = matches!(response.status, 100..=199 | 204 | 304);
        if !bodiless {
            bytes.extend_from_slice(
                format!("Content-Length: {}\r\n", response.body.len()).as_bytes(),
            );
        }
        if !keeps_alive {
            bytes.extend_from_slice(b"Connection: close\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        if with_body && !bodiless {
            bytes.extend_from_slice(&response.body);
        }
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Ends the connection politely.
    pub(crate) async fn close(mut self) {
        // The other side may be gone already; there is nobody to tell.
        drop(self.stream.shutdown().await);
    }

    async fn read_more(&mut self) -> Result<usize, WireError> {
        Ok(self.stream.read_buf(&mut self.read).await?)
    }

    async fn fill(&mut self, length: usize) -> Result<(), WireError> {
        while self.read.len() < length {
            if self.read_more().await? == 0 {
                return Err(WireError::Closed);
            }
        }
        Ok(())
    }

    async fn read_head(&mut self) -> Result<Option<Bytes>, WireError> {
        let mut empty_lines = 0;
        loop {
            while self.read.starts_with(b"\r\n") || self.read.starts_with(b"\n") {
                let width = if self.read.starts_with(b"\n") { 1 } else { 2 };
                self.read.advance(width);
                empty_lines += 1;
                if empty_lines > EMPTY_LINES_MAX {
                    return Err(WireError::Refused(400));
                }
            }
            if let Some(end) = head_end(&self.read) {
                if end > self.head_bytes_max {
                    return Err(WireError::Refused(400));
                }
                return Ok(Some(self.read.split_to(end).freeze()));
            }
            if self.read.len() > self.head_bytes_max {
                return Err(WireError::Refused(400));
            }
            if self.read_more().await? == 0 {
                return if self.read.is_empty() {
                    Ok(None)
                } else {
                    Err(WireError::Closed)
                };
            }
        }
    }

    async fn read_line(&mut self, bytes_max: usize) -> Result<Bytes, WireError> {
        loop {
            if let Some(at) = self.read.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(at + 1).freeze();
                return Ok(line);
            }
            if self.read.len() > bytes_max {
                return Err(WireError::Refused(400));
            }
            if self.read_more().await? == 0 {
                return Err(WireError::Closed);
            }
        }
    }

    async fn read_chunked(&mut self) -> Result<Bytes, WireError> {
        let mut body = BytesMut::new();
        loop {
            let line = self.read_line(CHUNK_LINE_BYTES_MAX).await?;
            let size = chunk_size(&line).ok_or(WireError::Refused(400))?;
            if size == 0 {
                break;
            }
            if body.len().saturating_add(size) > self.body_bytes_max {
                return Err(WireError::Refused(413));
            }
            self.fill(size + 2).await?;
            body.extend_from_slice(&self.read.split_to(size));
            if !self.read.starts_with(b"\r\n") {
                return Err(WireError::Refused(400));
            }
            self.read.advance(2);
        }
        let mut trailer_bytes = 0;
        loop {
            let line = self.read_line(TRAILER_BYTES_MAX).await?;
            trailer_bytes += line.len();
            if line.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
                return Ok(body.freeze());
            }
            if trailer_bytes > TRAILER_BYTES_MAX {
                return Err(WireError::Refused(400));
            }
        }
    }
}

#[derive(Debug, Eq, PartialEq)]
enum Length {
    Chunked,
    Known(usize),
}

#[derive(Debug)]
struct Head {
    incoming: Incoming,
    length: Length,
    expects_continue: bool,
}

/// Where the empty line that ends a head ends; bare LF counts as a line end, as in Tomcat.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let mut line_is_empty = true;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' if line_is_empty && at > 0 => return Some(at + 1),
            b'\n' => line_is_empty = true,
            b'\r' => {}
            _ => line_is_empty = false,
        }
    }
    None
}

/// Reads a head; the error is the status to refuse with.
fn parse_head(bytes: &[u8]) -> Result<Head, u16> {
    let mut lines = bytes
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let request_line = lines.next().unwrap_or_default();
    let mut parts = request_line.splitn(3, |byte| *byte == b' ');
    let method = parts.next().unwrap_or_default();
    let target = parts.next().unwrap_or_default();
    let version = parts.next().unwrap_or_default();
    if method.is_empty() || !method.iter().copied().all(is_token) || target.is_empty() {
        return Err(400);
    }
    let is_11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        other if other.starts_with(b"HTTP/") => return Err(505),
        _ => return Err(400),
    };
    let headers = parse_headers(lines)?;
    let values = |name: &str| {
        headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect::<Vec<_>>()
    };
    if values("host").len() != 1 && (is_11 || values("host").len() > 1) {
        return Err(400);
    }
    let lengths = values("content-length");
    let codings = values("transfer-encoding");
    let connection = values("connection").join(",").to_ascii_lowercase();
    let has_option = |option: &str| connection.split(',').any(|item| item.trim() == option);
    let mut keeps_alive = if is_11 {
        !has_option("close")
    } else {
        has_option("keep-alive")
    };
    let length = if codings.is_empty() {
        match lengths.as_slice() {
            [] => Length::Known(0),
            [one] if !one.is_empty() && one.bytes().all(|byte| byte.is_ascii_digit()) => {
                Length::Known(one.parse().map_err(|_| 400_u16)?)
            }
            _ => return Err(400),
        }
    } else {
        if codings.len() != 1
            || !codings
                .iter()
                .all(|one| one.eq_ignore_ascii_case("chunked"))
        {
            return Err(501);
        }
        // Tomcat ignores the length beside a transfer coding and does not reuse such a connection.
        keeps_alive &= lengths.is_empty();
        Length::Chunked
    };
    let expects_continue = is_11
        && values("expect")
            .iter()
            .any(|one| one.eq_ignore_ascii_case("100-continue"));
    Ok(Head {
        incoming: Incoming {
            method: latin_1(method),
            target: latin_1(target),
            headers,
            body: Bytes::new(),
            keeps_alive,
        },
        length,
        expects_continue,
    })
}

fn parse_headers<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Vec<(String, String)>, u16> {
    let mut headers: Vec<(String, String)> = Vec::with_capacity(16);
    for line in lines {
        if line.is_empty() {
            continue;
        }
        if line
            .iter()
            .any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f)
        {
            return Err(400);
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            // obs-fold: Tomcat joins it to the line before.
            let (_, value) = headers.last_mut().ok_or(400_u16)?;
            value.push(' ');
            value.push_str(latin_1(line).trim());
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(400_u16)?;
        let (name, value) = line.split_at(colon);
        if name.is_empty() || !name.iter().copied().all(is_token) || headers.len() >= HEADERS_MAX {
            return Err(400);
        }
        let value = latin_1(value.get(1..).unwrap_or_default());
        headers.push((latin_1(name), value.trim().to_owned()));
    }
    Ok(headers)
}

fn chunk_size(line: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(line).ok()?;
    let digits = text.split(';').next()?.trim();
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return None;
    }
    usize::from_str_radix(digits, 16).ok()
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Bytes as the characters of the same number, as servlets see them.
fn latin_1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Head, u16> {
        parse_head(text.as_bytes())
    }

    #[test]
    fn headers_keep_order_spelling_and_repetition() {
        let head =
            head("GET /a//b HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a:  2 \r\n 3\r\n\r\n").unwrap();
        assert_eq!(head.incoming.target, "/a//b");
        let seen: Vec<_> = head
            .incoming
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(seen, [("Host", "x"), ("X-A", "1"), ("x-a", "2 3")]);
    }

    #[test]
    fn broken_heads_are_refused() {
        for (text, status) in [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n X: 1\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            ("GET /\r\nHost: a\r\n\r\n", 400),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
                501,
            ),
        ] {
            assert_eq!(head(text).unwrap_err(), status, "{text:?}");
        }
    }

    #[test]
    fn a_length_beside_a_transfer_coding_ends_the_connection() {
        let head = head(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .unwrap();
        assert_eq!(head.length, Length::Chunked);
        assert!(!head.incoming.keeps_alive);
    }

    #[test]
    fn chunk_sizes_are_hexadecimal_and_bounded() {
        assert_eq!(chunk_size(b"1f;x=y\r\n"), Some(31));
        for bad in [
            &b"\r\n"[..],
            b"-1\r\n",
            b"0x1\r\n",
            b"fffffffff\r\n",
            b"\xff\r\n",
        ] {
            assert_eq!(chunk_size(bad), None);
        }
    }
}
