//! Keeps out of the log what has no place there. Handshakes that fail: a balancer's probe or a scanner is no error of ours,
//! and Pingora writes the client's address into the line. And what other crates write for their own developers, at `debug`
//! and `trace`: whole heads and bodies, with the passwords and tokens in them.

use std::fmt;
use tracing::Event;
use tracing::Subscriber;
use tracing::field::Field;
use tracing::field::Visit;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// How the lines begin that are left out.
const LEFT_OUT: &str = "Downstream handshake error";

/// The crate whose lines of every level are written.
const OURS: &str = "riskgate";

/// Vetoes the lines of failed handshakes, and those of other crates that are below `info`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quiet;

impl<S: Subscriber> Layer<S> for Quiet {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // What comes by way of the crate `log` has its name as target, and is never ours.
        if *metadata.level() > tracing::Level::INFO {
            return metadata.target().starts_with(OURS);
        }
        if *metadata.level() != tracing::Level::ERROR {
            return true;
        }
        let mut message = Message::default();
        event.record(&mut message);
        !message.is_left_out
    }
}

#[derive(Default)]
struct Message {
    is_left_out: bool,
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.is_left_out |= format!("{value:?}").starts_with(LEFT_OUT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::io::Write;
    use std::sync::Arc;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn failed_handshakes_are_left_out_and_other_errors_are_not() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::registry()
            .with(Quiet)
            .with(tracing_subscriber::fmt::layer().with_writer(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!("Downstream handshake error from {}: x", "192.0.2.1");
            tracing::error!("Accept() failed");
        });
        let text = String::from_utf8(buffer.0.lock().clone()).unwrap();
        assert!(
            text.contains("Accept() failed") && !text.contains("192.0.2.1"),
            "{text}"
        );
    }

    #[test]
    fn only_our_own_lines_are_written_below_info() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::registry()
            .with(tracing_subscriber::filter::LevelFilter::TRACE)
            .with(Quiet)
            .with(tracing_subscriber::fmt::layer().with_writer(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("ours at debug");
            tracing::debug!(target: "pingora_proxy::proxy_h1", "a secret at debug");
            tracing::trace!(target: "log", "a secret at trace");
            tracing::info!(target: "log", "theirs at info");
        });
        let text = String::from_utf8(buffer.0.lock().clone()).unwrap();
        assert!(
            text.contains("ours at debug")
                && text.contains("theirs at info")
                && !text.contains("secret"),
            "{text}"
        );
    }
}
