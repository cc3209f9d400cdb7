//! Every flow of the simulator over real sockets, as a client sees it.

mod action;
mod app_native;
mod authorize;
mod browser_login;
mod container;
mod harness;
mod management;
mod saml;
mod token;
mod webhooks;
