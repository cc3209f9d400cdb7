//! Every login still goes through: each way in which something of the gateway's can fail, over real sockets, with the
//! real binary, a real Redis, the real ONNX Runtime and the simulated identity server. `docs/reference/failure.md` says
//! for each cause what a login gets; these tests hold the gateway to it.
//!
//! The times that are measured are printed: `cargo test --test faults -- --nocapture`.

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

mod setup;
mod table;
mod traffic;
mod wire;

mod disk;
mod fleet;
mod flood;
mod model;
mod own_files;
mod reuse;
mod saturation;
mod sources;
mod startup;
mod state;
mod stream;
mod trust;
mod upstream;
