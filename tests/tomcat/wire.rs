//! Requests as bytes, one after the other over one connection for as long as the other side keeps it.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

/// The longest that an answer may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client of one port.
pub(crate) struct Wire {
    port: u16,
    stream: Option<BufReader<TcpStream>>,
}

impl Wire {
    /// Connects when it is needed.
    pub(crate) fn to(port: u16) -> Self {
        Self { port, stream: None }
    }

    /// Sends a request and reads the answer: status and body. A connection that was closed meanwhile is made anew.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> (u16, Vec<u8>) {
        let is_kept = self.stream.is_some();
        if let Some(answer) = self.attempt(request) {
            return answer;
        }
        assert!(
            is_kept,
            "no answer to {:?}",
            String::from_utf8_lossy(request)
        );
        self.attempt(request)
            .unwrap_or_else(|| panic!("no answer to {:?}", String::from_utf8_lossy(request)))
    }

    fn attempt(&mut self, request: &[u8]) -> Option<(u16, Vec<u8>)> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
                stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                stream.set_nodelay(true).expect("no delay");
                BufReader::new(stream)
            }
        };
        stream.get_mut().write_all(request).ok()?;
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let (mut length, mut is_chunked, mut closes) = (None, false, false);
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).ok()?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':')?;
            match (name, value.trim()) {
                ("content-length", value) => length = value.parse::<usize>().ok(),
                ("transfer-encoding", value) => is_chunked = value.contains("chunked"),
                ("connection", value) => closes = value.contains("close"),
                _ => {}
            }
        }
        let mut body = Vec::new();
        if is_chunked {
            while let Some(chunk) = chunk(&mut stream) {
                if chunk.is_empty() {
                    break;
                }
                body.extend(chunk);
            }
        } else if let Some(length) = length {
            body.resize(length, 0);
            stream.read_exact(&mut body).ok()?;
        } else {
            closes = true;
            stream.read_to_end(&mut body).ok()?;
        }
        if !closes {
            self.stream = Some(stream);
        }
        Some((status, body))
    }
}

/// The next chunk with the line end behind it; an empty one is the last.
fn chunk(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let length = usize::from_str_radix(line.trim_end(), 16).ok()?;
    let mut chunk = vec![0; length + 2];
    stream.read_exact(&mut chunk).ok()?;
    chunk.truncate(length);
    Some(chunk)
}
