//! What came back of a question by HTTP/1.1, read no further than needed to tell WSO2 from something else. What is not understood
//! is not there; nothing here fails.

use memchr::memmem;

/// An answer, or what there is of it.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Answer {
    /// Its status; `None` where this is no HTTP.
    pub(super) status: Option<u16>,
    /// The body, taken out of its chunks.
    pub(super) body: Vec<u8>,
    /// Whether more cannot come.
    pub(super) is_whole: bool,
}

impl Answer {
    /// Reads what has come so far.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let status = bytes
            .strip_prefix(b"HTTP/1.1 ")
            .or_else(|| bytes.strip_prefix(b"HTTP/1.0 "))
            .and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok())
            .filter(|status| status.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|status| status.parse().ok());
        let (body, is_whole) = match memmem::find(bytes, b"\r\n\r\n") {
            None => (Vec::new(), false),
            Some(end) => {
                let (head, rest) = bytes.split_at(end);
                body(head, rest.get(4..).unwrap_or_default())
            }
        };
        Self {
            status,
            body,
            is_whole,
        }
    }
}

/// A body, and whether it is whole.
fn body(head: &[u8], rest: &[u8]) -> (Vec<u8>, bool) {
    if field(head, "transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    {
        return of_chunks(rest);
    }
    let length = field(head, "content-length").and_then(|length| length.parse::<usize>().ok());
    match length.and_then(|length| rest.get(..length)) {
        Some(whole) => (whole.to_owned(), true),
        // It ends with the connection.
        None => (rest.to_owned(), false),
    }
}

fn field<'h>(head: &'h [u8], name: &str) -> Option<&'h str> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (called, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        called.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn of_chunks(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some((chunk, after)) = chunk(rest) {
        if chunk.is_empty() {
            return (body, true);
        }
        body.extend_from_slice(chunk);
        rest = after;
    }
    (body, false)
}

/// The next chunk, and what is behind it.
fn chunk(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memmem::find(rest, b"\r\n")?;
    let (line, rest) = rest.split_at_checked(end)?;
    let size = std::str::from_utf8(line).ok()?.split(';').next()?.trim();
    let size = usize::from_str_radix(size, 16).ok()?;
    let rest = rest.get(2..)?;
    let chunk = rest.get(..size)?;
    Some((
        chunk,
        rest.get(size..)?.strip_prefix(b"\r\n").unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_as_it_is_framed() {
        for (bytes, status, body, is_whole) in [
            (&b""[..], None, &b""[..], false),
            (b"\x15\x03\x03", None, b"", false),
            (b"HTTP/1.1 404 \r\n", Some(404), b"", false),
            (b"HTTP/1.1 200 OK\r\n\r\n{}", Some(200), b"{}", false),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
                Some(200),
                b"{}",
                true,
            ),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}",
                Some(200),
                b"{}",
                false,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;a=b\r\n}\r\n0\r\n\r\n",
                Some(200),
                b"{}",
                true,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n2\r\n}",
                Some(200),
                b"{",
                false,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{",
                Some(200),
                b"",
                false,
            ),
        ] {
            let expected = Answer {
                status,
                body: body.to_owned(),
                is_whole,
            };
            assert_eq!(Answer::read(bytes), expected);
        }
    }
}
