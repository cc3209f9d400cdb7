//! The driven edges. Each keeps a port's promise with one vendor and names no other edge.

/// Spans to a collector.
pub mod otlp;

/// Tells of decisions by webhook.
pub mod alerts;

/// Brings messages to receivers.
pub mod courier;

/// Tells other products of users.
pub mod shared_signals;

/// Audit records in a file.
pub mod audit_log;

/// Audit records on their way to a stream.
pub mod audit_stream;

/// The system's clocks.
pub mod clock;

/// The default store: one node, on a file.
pub mod embedded;

/// Random bytes.
pub mod entropy;

/// Address databases.
pub mod geo;

/// The identity server as the gateway itself calls it.
pub mod identity_server;

/// Labels of analysts.
pub mod label_file;

/// Stores for tests and simulations.
pub mod memory;

/// Issues certificates for development.
pub mod issuer;

/// Addresses behind names.
pub mod names;

/// The model, evaluated without a runtime.
pub mod native;

/// The model in ONNX Runtime.
pub mod onnx;

/// The provider by which operators sign in.
pub mod oidc_provider;

/// HTTP clients of ours.
pub mod outbound;

/// Files that are short.
pub mod short_file;

/// The store that a fleet shares.
pub mod redis;

/// The rollout file.
pub mod plan_files;

/// Threads that step back behind those that serve requests.
pub mod priority;

/// What this user may do with a file.
pub mod access;

/// Files replaced in one step.
pub mod replace;

/// Addresses of the operator's choice.
pub mod target;

/// Opens the store that a URL names.
pub mod store;

/// The way through audit files, for the console.
pub mod trail;
