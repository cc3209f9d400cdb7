//! Requests as bytes, for what no HTTP client would send.

use super::PATIENCE;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// An answer as it came over the wire.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    /// The status; 0 when the connection was closed without an answer.
    pub status: u16,
    /// Everything that came, interim answers included.
    pub text: String,
}

impl RawAnswer {
    /// A value of a header of the final answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (head, _) = self.last().split_once("\r\n\r\n")?;
        head.lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    /// The body of the final answer.
    pub fn body(&self) -> &str {
        self.last()
            .split_once("\r\n\r\n")
            .map_or("", |(_, body)| body)
    }

    fn last(&self) -> &str {
        self.text
            .strip_prefix("HTTP/1.1 100")
            .and_then(|rest| rest.split_once("\r\n\r\n"))
            .map_or(self.text.as_str(), |(_, rest)| rest)
    }
}

/// Sends bytes and reads until the other side closes.
pub async fn exchange(port: u16, bytes: &[u8]) -> RawAnswer {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("the gateway accepts");
    // The gateway may refuse before it has read everything.
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(
        read.is_ok(),
        "the gateway does not close: {}",
        String::from_utf8_lossy(&answer)
    );
    let text = String::from_utf8_lossy(&answer).into_owned();
    let mut answer = RawAnswer { status: 0, text };
    answer.status = answer
        .last()
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    answer
}
