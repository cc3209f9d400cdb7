//! What is counted of connections and upstreams: the methods of these metrics, which are declared with the others.

use crate::telemetry::metrics::Metrics;

impl Metrics {
    /// The address of a login page does not say what is read in it.
    pub fn login_page_bare(&self) {
        self.bare_pages.inc();
    }

    /// A client has connected.
    pub fn connection_opened(&self) {
        self.connections.inc();
    }

    /// A client's connection is closed.
    pub fn connection_closed(&self) {
        self.connections.dec();
    }

    /// There was no place for a connection: of `all`, or of its `address`.
    pub fn connection_refused(&self, full: &'static str) {
        self.connections_refused.with_label_values(&[full]).inc();
    }

    /// A client did not send its `handshake`, `head`, next head (`idle`) or `body` in time.
    pub fn connection_given_up(&self, missing: &'static str) {
        self.connections_given_up
            .with_label_values(&[missing])
            .inc();
    }

    /// A request goes to an upstream.
    pub fn upstream_begins(&self) {
        self.upstream_requests.inc();
    }

    /// Its answer has come to its end.
    pub fn upstream_ends(&self) {
        self.upstream_requests.dec();
    }

    /// The identity server failed.
    pub fn upstream_error(&self, kind: &'static str) {
        self.upstream_errors.with_label_values(&[kind]).inc();
    }
}
