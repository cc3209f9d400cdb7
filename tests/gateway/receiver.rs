//! A receiver on a socket of what the gateway tells others: it takes every message.

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc;

/// The head of a request and its body.
pub(crate) type Message = (String, String);

/// Answers everything with a head that begins with this status (and fields): its address at `path`, and what it gets.
pub(crate) fn receiver(path: &str, head: &str) -> (String, mpsc::Receiver<Message>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}{path}", listener.local_addr().unwrap());
    let answer = format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n");
    let (got, messages) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut text = String::new();
            while !is_whole(&text) {
                let mut piece = [0; 4096];
                let read = stream.read(&mut piece).unwrap();
                assert!(read > 0, "a whole request is sent: {text}");
                text.push_str(std::str::from_utf8(&piece[..read]).unwrap());
            }
            stream.write_all(answer.as_bytes()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            if got.send((head.to_owned(), body.to_owned())).is_err() {
                return;
            }
        }
    });
    (url, messages)
}

fn is_whole(text: &str) -> bool {
    text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
        header(head, "content-length")
            .parse()
            .is_ok_and(|length: usize| body.len() >= length)
    })
}

/// A field of a head; empty where it is not there.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> &'a str {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map_or("", |(_, value)| value)
}
