//! By what the demands that may bind a request are found: its browser, its source, its user, or the token family that it
//! presents. Keys alone; what is under them is not read here.

use crate::domain::demand::DemandKey;
use crate::domain::demand::DemandScope;
use crate::domain::demand::sealed::BrowserDemands;
use crate::domain::enforcement::CIBA;
use crate::domain::enforcement::DEVICE_CODE;
use crate::domain::history::LinkKind;
use crate::domain::ids::NameSpace;
use crate::domain::ids::Pseudonymizer;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::ValueHash;
use crate::domain::route::Door;
use crate::domain::signals::Signals;
use crate::domain::signals::Subject;
use crate::domain::signals::session::DeviceCookie;
use crate::flow::identify::Identity;

/// By what a request's demands are found.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// What its browser brings.
    pub sealed: Option<BrowserDemands>,
    /// The ids of its browser: that of the demand cookie, that of the device cookie.
    pub(super) browsers: Vec<[u8; 16]>,
}

/// Whose demands a door asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reach {
    /// Those of the person in front of it.
    Person,
    /// Those of the token family that is presented.
    Family,
    /// None: what is presented knows for itself, or nobody is there.
    None,
}

impl Places {
    /// By what the demands of a request are found.
    pub fn of(sealed: Option<BrowserDemands>, signals: &Signals) -> Self {
        let mut browsers: Vec<[u8; 16]> = sealed.iter().map(|state| state.browser).collect();
        if let DeviceCookie::Valid(token) = &signals.device
            && !browsers.contains(&token.device)
        {
            browsers.push(token.device);
        }
        Self { sealed, browsers }
    }

    /// The keys to ask for, under the names that `people` makes.
    pub fn asked(
        &self,
        people: &Pseudonymizer,
        door: Door,
        tenant: &str,
        identity: &Identity,
        address: ValueHash,
    ) -> Vec<DemandKey> {
        let grant = identity.facts.grant_type.as_deref();
        match reach(door, grant) {
            Reach::Person => {
                let client = identity.client;
                let browsers = self.browsers.iter();
                let mut keys: Vec<DemandKey> = browsers
                    .map(|id| browser_key(people, id, tenant, client))
                    .collect();
                keys.push(source_key(people, address, tenant, client));
                if let Subject::Named { key, .. } = &identity.subject {
                    keys.push(DemandKey::user(*key));
                }
                keys
            }
            Reach::Family => family_key(people, identity, address).into_iter().collect(),
            Reach::None => Vec::new(),
        }
    }

    /// The keys under which demands of this browser are kept: with the client, and for the doors that do not know it.
    pub(super) fn of_browser(
        &self,
        people: &Pseudonymizer,
        tenant: &str,
        client: Option<SubjectKey>,
    ) -> Vec<DemandKey> {
        both(client)
            .flat_map(|client| {
                let key = move |id| browser_key(people, id, tenant, client);
                self.browsers.iter().map(key)
            })
            .collect()
    }
}

pub(super) fn both(client: Option<SubjectKey>) -> impl Iterator<Item = Option<SubjectKey>> {
    client.map(Some).into_iter().chain([None])
}

pub(super) fn reach(door: Door, grant: Option<&str>) -> Reach {
    match (door, grant) {
        (Door::Token, Some("password")) => Reach::Person,
        // A code carries the demand of its own login.
        (Door::Token, Some("authorization_code" | DEVICE_CODE | CIBA)) => Reach::None,
        (Door::Token, _) => Reach::Family,
        (
            Door::Authorize
            | Door::Login
            | Door::Authn
            | Door::Flow
            | Door::Saml
            | Door::WsFed
            | Door::Device
            | Door::CibaAuthorize
            | Door::Basic,
            _,
        ) => Reach::Person,
        (Door::Par | Door::DeviceAuthorize | Door::Ciba | Door::Pdp, _) => Reach::None,
    }
}

fn browser_key(
    people: &Pseudonymizer,
    id: &[u8; 16],
    tenant: &str,
    client: Option<SubjectKey>,
) -> DemandKey {
    key(people, DemandScope::Browser, id, tenant, client)
}

pub(super) fn source_key(
    people: &Pseudonymizer,
    address: ValueHash,
    tenant: &str,
    client: Option<SubjectKey>,
) -> DemandKey {
    let address = address.to_be_bytes();
    key(people, DemandScope::Source, &address, tenant, client)
}

fn key(
    people: &Pseudonymizer,
    scope: DemandScope,
    what: &[u8],
    tenant: &str,
    client: Option<SubjectKey>,
) -> DemandKey {
    let client = client.map_or([0; 16], |client| *client.0.as_bytes());
    DemandKey {
        scope,
        digest: people.pseudonym(
            NameSpace::Demand,
            &[scope.as_str().as_bytes(), what, tenant.as_bytes(), &client],
        ),
    }
}

/// A refresh token, or an access token that is turned in for another one, where it is used: a thief who was refused does not
/// take the token from its owner.
fn family_key(
    people: &Pseudonymizer,
    identity: &Identity,
    address: ValueHash,
) -> Option<DemandKey> {
    let link = identity
        .presented
        .filter(|link| matches!(link.kind, LinkKind::AccessToken | LinkKind::RefreshToken))?;
    Some(DemandKey {
        scope: DemandScope::Browser,
        digest: people.pseudonym(
            NameSpace::Demand,
            &[b"family", link.digest.as_bytes(), &address.to_be_bytes()],
        ),
    })
}
