//! A receiver on a socket of its own, for the tests of everything that is brought by a courier: it keeps what it gets and
//! answers as it is told to, also badly.

use std::sync::Arc;
use std::sync::Mutex;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// How a receiver answers.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    /// With a status and a body.
    Says(&'static str, &'static str),
    /// With 400 and a body that does not end.
    Floods,
    /// With the head of a 400 and nothing more.
    Stalls,
    /// Not at all.
    Silent,
}

/// What a receiver was sent: heads and bodies.
pub(crate) type Received = Arc<Mutex<Vec<(String, String)>>>;

/// Answers each request with the next of `answers`, the last one for ever.
pub(crate) async fn receiver(answers: Vec<Answer>) -> (String, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks/s3cret", listener.local_addr().unwrap());
    let received = Received::default();
    let kept = Arc::clone(&received);
    tokio::spawn(async move {
        let mut answered = 0;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = String::new();
            let (head, body) = loop {
                let mut piece = [0; 4096];
                let read = stream.read(&mut piece).await.unwrap();
                assert!(read > 0, "a whole request is sent");
                text.push_str(std::str::from_utf8(&piece[..read]).unwrap());
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length: usize = header(head, "content-length").parse().unwrap();
                    if body.len() >= length {
                        break (head.to_owned(), body.to_owned());
                    }
                }
            };
            kept.lock().unwrap().push((head, body));
            let answer = answers[answered.min(answers.len() - 1)];
            answered += 1;
            tokio::spawn(async move { answer.give(&mut stream).await });
        }
    });
    (url, received)
}

/// An address at which nobody is.
pub(crate) async fn nobody() -> String {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/", free.local_addr().unwrap())
}

/// A field of a head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> &'a str {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .unwrap_or_else(|| panic!("{name} is not in {head}"))
        .1
}

impl Answer {
    async fn give(self, stream: &mut TcpStream) {
        let head = |status: &str, length: usize| {
            format!(
                "HTTP/1.1 {status}\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            )
        };
        match self {
            Self::Says(status, body) => {
                let text = format!("{}{body}", head(status, body.len()));
                // Who has hung up does not read.
                drop(stream.write_all(text.as_bytes()).await);
            }
            Self::Floods => {
                drop(stream.write_all(head("400 Bad", 1 << 40).as_bytes()).await);
                while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
            }
            Self::Stalls => {
                drop(stream.write_all(head("400 Bad", 10).as_bytes()).await);
                std::future::pending::<()>().await;
            }
            Self::Silent => std::future::pending().await,
        }
    }
}
