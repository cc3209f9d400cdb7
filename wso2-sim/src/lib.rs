//! A simulated WSO2 Identity Server 7.x, for the demo, the tests and the benches of riskgate. It is never shipped.
//!
//! It answers at the HTTP level as the real server does, so that a real one can take its place by changing one URL.
//! The request's path through it is the order of the modules: bytes ([`wire`](self)), the container's rules about
//! the target (`target`), dispatch (`router`), then one file per door. It must not be used to protect anything: the
//! users and secrets are published in `seed.rs`.
//!
//! ```no_run
//! # async fn demo() -> anyhow::Result<()> {
//! let sim = wso2_sim::Sim::start(wso2_sim::SimConfig::default()).await?;
//! println!("{}", sim.url);
//! let code = wso2_sim::totp_now(wso2_sim::seed::ALICE_TOTP_SECRET);
//! # let _ = code; sim.stop().await; Ok(()) }
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod browser;
mod clock;
pub mod config;
mod record;
pub mod seed;
mod server;
mod totp;

mod request;
mod response;
mod target;
mod wire;

mod app;
mod keys;
mod router;
mod store;
mod users;

mod authenticator;
mod authn;
mod authorize;
mod federation;
mod grant_response;
mod identifier;
mod login;
mod options;
mod pages;
mod provider;
mod script;

mod action;
mod ciba;
mod client_auth;
mod device;
mod discovery;
mod exchange;
mod id_token_action;
mod introspect;
mod issue;
mod oauth_error;
mod par;
mod token;

mod logout;
mod management;
mod password;
mod saml;
mod scim;
mod sessions;
mod webhooks;

pub use config::ActionAuth;
pub use config::ActionSettings;
pub use config::AfterIdentifier;
pub use config::ClientCertificates;
pub use config::Flaws;
pub use config::Outage;
pub use config::ProviderProtocol;
pub use config::ProviderSettings;
pub use config::SignatureFlaw;
pub use config::SimConfig;
pub use config::SimTls;
pub use config::WebhookSettings;
pub use record::RecordedRequest;
pub use seed::Client;
pub use seed::Realm;
pub use seed::SamlProfile;
pub use seed::TokenKind;
pub use seed::User;
pub use server::Sim;
pub use totp::totp_at;
pub use totp::totp_now;
