//! What this repository believes of itself, as tests: which module may name which, what production code never does,
//! and that the documentation says what the code does. Reads files; of the program it runs the help texts alone.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test reports a failure"
)]

#[path = "tidy/files.rs"]
mod files;

#[path = "tidy/api.rs"]
mod api;
#[path = "tidy/commit.rs"]
mod commit;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/examples.rs"]
mod examples;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/order.rs"]
mod order;
#[path = "tidy/reference.rs"]
mod reference;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;
