//! One contract for every store: the same cases run over the memory store, the file and a real Redis; what only one of
//! them can suffer follows.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a panic is how a test fails; the lints' own exception does not cover functions beside the tests"
)]

#[path = "support/redis.rs"]
mod redis_server;

#[path = "stores/bundles.rs"]
mod bundles;
#[path = "stores/cluster.rs"]
mod cluster;
#[path = "stores/contract.rs"]
mod contract;
#[path = "stores/demands.rs"]
mod demands;
#[path = "stores/embedded.rs"]
mod embedded;
#[path = "stores/facts.rs"]
mod facts;
#[path = "stores/failovers.rs"]
mod failovers;
#[path = "stores/faults.rs"]
mod faults;
#[path = "stores/redis.rs"]
mod redis;
#[path = "stores/review.rs"]
mod review;
#[path = "stores/scopes.rs"]
mod scopes;
#[path = "stores/stream.rs"]
mod stream;
#[path = "stores/sweeping.rs"]
mod sweeping;
#[path = "stores/topologies.rs"]
mod topologies;
#[path = "stores/trust.rs"]
mod trust;
