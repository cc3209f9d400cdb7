//! Start, exchange and end of the gateway under traffic: certificates, configurations, binaries, crashes, panics. Clients
//! count every request; what is lost is a fault.
//!
//! `make hardening` runs the same with larger numbers (`RISKGATE_HARDENING=1`).

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a panic is how a test reports a failure"
)]

#[path = "../support/gateway.rs"]
mod gateway;

mod client;
mod issuer;
mod load;

mod certificates;
mod clock;
mod crash;
mod drain;
mod names;
mod own_certificates;
mod panics;
mod reload;
mod secrets;
mod soak;
mod trust;
mod upgrade;
