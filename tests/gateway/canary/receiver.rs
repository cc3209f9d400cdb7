//! Somebody who is told by webhook and collects spans, and keeps all of it.

use crate::gateway::PATIENCE;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

/// A receiver of webhooks and spans: its address, and everything that it got.
pub(super) fn receiver() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let got: Arc<Mutex<Vec<u8>>> = Arc::default();
    let kept = Arc::clone(&got);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, kept) = (stream.unwrap(), Arc::clone(&kept));
            std::thread::spawn(move || {
                let (mut message, mut piece) = (Vec::new(), [0; 16 * 1024]);
                while !is_whole(&message) {
                    match stream.read(&mut piece) {
                        Ok(read @ 1..) => message.extend_from_slice(&piece[..read]),
                        _ => return,
                    }
                }
                kept.lock().unwrap().extend(message);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                // The gateway may have ended.
                drop(stream.write_all(answer));
            });
        }
    });
    (url, got)
}

fn is_whole(message: &[u8]) -> bool {
    let text = String::from_utf8_lossy(message);
    let Some((head, _)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    message.len() >= head.len() + 4 + length.unwrap_or(0)
}

/// Waits until alerts and spans have arrived.
pub(super) async fn until_told(told: &Mutex<Vec<u8>>) {
    let end = Instant::now() + PATIENCE;
    let has = |text: &str| String::from_utf8_lossy(&told.lock().unwrap()).contains(text);
    while !has("\"alerts\"") || !has("\"resourceSpans\"") {
        assert!(Instant::now() < end, "nobody is told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
