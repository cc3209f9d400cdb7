//! The memory of what was received, so that a test can prove what a gateway forwarded.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use bytes::Bytes;

/// One request as it came over the wire.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// Method as sent.
    pub method: String,
    /// Request target as sent, undecoded.
    pub target: String,
    /// Header lines in the order received, names in the sender's spelling, duplicates kept; bytes as Latin-1.
    pub headers: Vec<(String, String)>,
    /// Body after removal of the transfer coding.
    pub body: Bytes,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// The certificate that the connection's client has shown, DER.
    pub client_certificate: Option<Bytes>,
    /// Milliseconds since the Unix epoch (simulator clock).
    pub received_ms: i64,
}

impl RecordedRequest {
    /// Every value of a header, in the order received; the name is compared without case.
    pub fn header_values(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The body as text; bytes outside UTF-8 are replaced.
    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A bounded list of requests; the oldest leaves first.
#[derive(Debug)]
pub(crate) struct Recorder {
    enabled: AtomicBool,
    kept_max: usize,
    kept: Mutex<VecDeque<RecordedRequest>>,
}

impl Recorder {
    pub(crate) fn new(enabled: bool, kept_max: usize) -> Self {
        Self {
            enabled: AtomicBool::new(enabled),
            kept_max,
            kept: Mutex::new(VecDeque::new()),
        }
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    pub(crate) fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    pub(crate) fn push(&self, request: RecordedRequest) {
        let mut kept = self.kept.lock();
        while kept.len() >= self.kept_max {
            if kept.pop_front().is_none() {
                return;
            }
        }
        kept.push_back(request);
    }

    pub(crate) fn all(&self) -> Vec<RecordedRequest> {
        let kept = self.kept.lock();
        kept.iter().cloned().collect()
    }

    pub(crate) fn clear(&self) {
        self.kept.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str) -> RecordedRequest {
        RecordedRequest {
            method: "GET".to_owned(),
            target: target.to_owned(),
            headers: vec![("X-A".to_owned(), "1".to_owned())],
            body: Bytes::new(),
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            client_certificate: None,
            received_ms: 0,
        }
    }

    #[test]
    fn the_oldest_request_leaves_first() {
        let recorder = Recorder::new(true, 2);
        for target in ["/1", "/2", "/3?q=1"] {
            recorder.push(request(target));
        }
        let kept = recorder.all();
        assert_eq!(
            kept.iter().map(RecordedRequest::path).collect::<Vec<_>>(),
            ["/2", "/3"]
        );
        assert_eq!(kept[0].header_values("x-a"), ["1"]);
    }

    #[test]
    fn a_recorder_without_room_keeps_nothing() {
        let recorder = Recorder::new(true, 0);
        recorder.push(request("/1"));
        assert!(recorder.all().is_empty());
    }
}
