//! The gateway as a whole, over real sockets: the real binary in front of a simulated identity server. Each module states
//! one part of what it promises.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test reports a failure"
)]

#[path = "../support/gateway.rs"]
mod gateway;

mod accounts;
mod actions;
mod alerts;
mod attacks;
mod audit;
mod back_channel;
mod break_glass;
mod canary;
mod certs;
mod challenger;
mod changes;
mod console;
mod console_refusals;
mod decisions;
mod demands;
mod devices;
mod doors;
mod ended;
mod enrolment;
mod factor_options;
mod federated;
mod figures;
mod front_channel;
mod headers;
mod health;
mod held;
mod hints;
mod http2;
mod http2_floods;
mod http2_heads;
mod identifier_first;
mod in_place;
mod input;
mod introspection;
mod issuing;
mod label_command;
mod labels;
mod learning;
mod lifecycle;
mod limits;
mod namesakes;
mod odd_answers;
mod open_redirects;
mod operators;
mod operators_by_provider;
mod organizations;
mod own;
mod own_step;
mod paths;
mod patience;
mod places;
mod policy_editor;
mod polls;
mod proof;
mod receiver;
mod redirects;
mod replay;
mod resign;
mod resource;
mod resource_routes;
mod review;
mod rollout;
mod rollout_page;
mod routes;
mod rulings;
mod saml;
mod scopes;
mod sessions;
mod shared_signals;
mod signals_come_and_go;
mod signals_taken_over;
mod signing;
mod smuggling;
mod step_up;
mod stream;
mod taken_over;
mod terminal;
mod tls;
mod token_actions;
mod token_answers;
mod traces;
mod turned_in;
mod usernames;
mod verdicts;
