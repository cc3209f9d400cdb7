//! riskgate: a reverse proxy at the edge in front of WSO2 Identity Server that scores authorize, login and token
//! requests inline and acts on the score.
//!
//! The life of a request: [`proxy`] translates Pingora's hooks; [`flow`] admits, assesses, scores, decides and
//! observes; [`domain`] holds the pure values and decisions that it speaks of; [`adapters`] keep the promises of
//! [`flow::ports`] with one vendor each.

pub mod domain;

pub mod telemetry;

pub mod flow;

pub mod adapters;

pub mod listening;

pub mod proxy;

pub mod admin;

/// The edge that faces WSO2 itself.
pub mod actions;

pub mod config;

pub mod app;
