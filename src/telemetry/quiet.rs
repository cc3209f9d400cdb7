//! Keeps the handshakes that fail out of the log: a balancer's probe or a scanner is no error of ours, and Pingora writes
//! the client's address into the line, which has no place there.

use std::fmt;
use tracing::Event;
use tracing::Subscriber;
use tracing::field::Field;
use tracing::field::Visit;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// How the lines begin that are left out.
const LEFT_OUT: &str = "Downstream handshake error";

/// Vetoes the lines of failed handshakes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct QuietHandshakes;

impl<S: Subscriber> Layer<S> for QuietHandshakes {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if *event.metadata().level() != tracing::Level::ERROR {
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
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::Mutex;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
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
            .with(QuietHandshakes)
            .with(tracing_subscriber::fmt::layer().with_writer(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!("Downstream handshake error from {}: x", "192.0.2.1");
            tracing::error!("Accept() failed");
        });
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert!(
            text.contains("Accept() failed") && !text.contains("192.0.2.1"),
            "{text}"
        );
    }
}
