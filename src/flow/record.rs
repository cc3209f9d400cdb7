//! The words of a record: what was done, and what may be written of what a client sent.

use crate::domain::enforcement::Enforcement;
use crate::domain::signals::network::velocity_prefix;
use crate::flow::exchange::Exchange;
use std::net::IpAddr;

/// What was done with a request.
pub(in crate::flow) fn action(exchange: &Exchange) -> String {
    match exchange
        .decided
        .as_ref()
        .map(|decided| &decided.enforcement)
    {
        _ if exchange.error.is_some() => "refused".to_owned(),
        _ if exchange.failure.is_some() => "failed".to_owned(),
        _ if exchange.is_own() => exchange
            .served
            .map_or("served", |done| done.action)
            .to_owned(),
        _ if exchange.replaced.is_some() => exchange.replaced.unwrap_or_default().to_owned(),
        Some(Enforcement::Redirect(_)) => "redirected".to_owned(),
        Some(Enforcement::Reject(rejection)) => rejection.kind.as_str().to_owned(),
        Some(Enforcement::Rewrite(..)) => "rewritten".to_owned(),
        Some(Enforcement::Forward(..)) | None => "forwarded".to_owned(),
    }
}

/// The /24 or /48 of an address.
pub(in crate::flow) fn prefix_text(address: IpAddr) -> String {
    let bits = if address.to_canonical().is_ipv4() {
        24
    } else {
        48
    };
    format!("{}/{bits}", velocity_prefix(address))
}

/// A client-sent id, cut and without anything that a terminal or a log reader could act on.
pub(in crate::flow) fn printable(text: &str) -> String {
    const CHARS_MAX: usize = 128;
    text.chars()
        .take(CHARS_MAX)
        .map(|c| if c.is_ascii_graphic() { c } else { '?' })
        .collect()
}
