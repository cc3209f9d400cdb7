//! Pure values and decisions, in the order in which a request meets them. No async, no clock, no IO, no log.

/// Bytes in hexadecimal.
pub mod hex;

/// Message authentication codes.
pub mod mac;

/// Names of things, pseudonymised.
pub mod ids;

/// Instants and spans as values.
pub mod time;

/// Values that must not print.
pub mod secret;

/// Tokens of programs.
pub mod bearer_token;

/// Whose fault a failure is.
pub mod fault;

/// The one canonical form of a request target.
pub mod target;

/// Which door a request knocks at.
pub mod route;

/// What kind of request is scored.
pub mod kind;

/// Parameters of a request, parsed once and strictly.
pub mod parameters;

/// Header names that only the gateway may set.
pub mod headers;

/// Text from elsewhere, for people.
pub mod printable;

/// What the steps of a login read.
pub mod authenticator;

/// What this one request shows.
pub mod signals;

/// The memory of a stronger factor that is owed.
pub mod demand;

/// What was known before this request.
pub mod history;

/// Numbers for the model.
pub mod features;

/// Whether traffic has moved away from what a model was made for.
pub mod drift;

/// How risky.
pub mod risk;

/// What to do about it.
pub mod policy;

/// How much of it known-good users may meet.
pub mod friction;

/// From being watched to being enforced.
pub mod rollout_plan;

/// The risk as members of tokens.
pub mod risk_claims;

/// The signature over the risk headers.
pub mod signature;

/// JSON that is changed without being written anew.
pub mod json_text;

/// The keys that sign tokens and assertions.
pub mod signing;

/// What every signed JWT has in common.
pub mod jwt;

/// What an ID token proves.
pub mod id_token;

/// What an access token grants.
pub mod access_token;

/// Tokens signed anew, and had back.
pub mod resign;

/// What the identity server says of a token.
pub mod introspection;

/// What services of the operator's own ask for, and what they are told.
pub mod resource;

/// What the browser hands to the client.
pub mod front_channel;

/// The messages of SAML single sign-on.
pub mod saml;

/// The risk in an XACML request.
pub mod pdp;

/// The decision as concrete effects.
pub mod enforcement;

/// What WSO2 asks beside the requests of browsers.
pub mod action;

/// What WSO2 asks before it issues a token or changes a password.
pub mod token_action;

/// What WSO2 tells of users after the fact.
pub mod identity_event;

/// Which scopes a request to WSO2 uses.
pub mod scope_use;

/// Logins that wait for an analyst.
pub mod review;

/// Who may use the operators' listener.
pub mod operator;

/// Seals for the gateway's own pages.
pub mod page_key;

/// Operators who sign in by an OpenID Connect provider.
pub mod sign_in;

/// How the attempt ended and what is learnt from it.
pub mod outcome;

/// The record.
pub mod audit;

/// Records as analysts look through them.
pub mod trail;

/// A decision given again from its record.
pub mod recorded;

/// One decision explained.
pub mod explain;

/// What is known of decisions afterwards.
pub mod label;

/// What somebody is told at once.
pub mod alert;

/// What other products are told of users.
pub mod shared_signal;

/// A request as part of a trace.
pub mod trace;
