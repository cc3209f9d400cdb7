//! Our own step in a login: a page that waits until the sign-in is approved on a device that is known to be the user's. The
//! page shows a number; whoever approves has to type it there, so that nobody approves what they do not see.
//!
//! Nothing that comes back in an address is believed but what the gateway has sealed itself: what was approved is kept
//! here, and the identity server asks for it once more.

use crate::domain::action::AuthenticationCall;
use crate::domain::history::Familiarity;
use crate::domain::history::LinkKey;
use crate::domain::history::LinkKind;
use crate::domain::history::Provenance;
use crate::domain::ids::NameSpace;
use crate::domain::ids::Pseudonym;
use crate::domain::ids::Pseudonymizer;
use crate::domain::ids::SubjectKey;
use crate::domain::page_key::PAYLOAD_MAX;
use crate::domain::page_key::Purpose;
use crate::domain::policy::scope::SUPER_TENANT;
use crate::domain::route::OWN_PREFIX;
use crate::flow::AuthFlow;
use crate::flow::actions::Found;
use crate::flow::devices::ForgetError;
use crate::flow::exchange::Exchange;
use crate::flow::exchange::Served;
use crate::flow::identify::link_key;
use std::time::Duration;

/// How long a page waits, and an approval holds.
const STEP_TTL: Duration = Duration::from_secs(5 * 60);
/// Between a tenant and an organization of which a page is.
const ORGANIZATION: &str = "/o/";
/// Digits of the number.
const DIGITS: u32 = 6;

/// How a login that waits for our step stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StepPage {
    /// The number to type on a known device.
    Waiting(String),
    /// It goes on there.
    Goes(String),
    /// The page has ended, or the gateway has not made it.
    Ended,
}

/// What a browser may approve.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApprovePage {
    /// Whether the browser is signed in and known to be its user's: else it cannot approve.
    pub may_approve: bool,
    /// Goes with the form.
    pub form: String,
}

impl AuthFlow {
    /// Where the browser of a call is sent; `None` when no page could lead it back.
    pub(in crate::flow) async fn step_url(
        &self,
        call: &AuthenticationCall,
        tenant: &str,
        flow: LinkKey,
        link: &Provenance,
    ) -> Option<String> {
        let snapshot = self.snapshot();
        let is_short = call.flow_id.len() <= PAYLOAD_MAX;
        let is_plain = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        };
        if !is_short
            || !is_plain(&call.flow_id)
            || !is_plain(tenant)
            || !call.organization.as_deref().is_none_or(is_plain)
            || link.subject.is_none()
        {
            return None;
        }
        let origin = self.origin(tenant).await?;
        // Under its own name the login is found again, also where the call has named the decision.
        self.keep_step(flow, link.clone());
        let now = self.dependencies().clock.now();
        let place = match &call.organization {
            Some(id) => format!("{tenant}{ORGANIZATION}{id}"),
            None => tenant.to_owned(),
        };
        let expires = now.plus(STEP_TTL);
        let sealed = snapshot.pages.seal(
            Purpose::Step,
            call.flow_id.as_bytes(),
            &[place.as_bytes()],
            expires,
        );
        Some(format!("{origin}{OWN_PREFIX}/step/{sealed}?tenant={place}"))
    }

    /// The public origin: that of the issuer, which is configured or the identity server's own word.
    async fn origin(&self, tenant: &str) -> Option<String> {
        let snapshot = self.snapshot();
        if let Some(origin) = &snapshot.step_up.issuer {
            return Some(origin.clone());
        }
        let known = self
            .dependencies()
            .keys
            .keys(&realm(tenant), None)
            .await
            .ok()?;
        let issuer = known.issuer.as_deref()?;
        let (scheme, rest) = issuer.split_once("://")?;
        let host = rest.split('/').next().filter(|host| !host.is_empty())?;
        Some(format!("{scheme}://{host}"))
    }

    /// How the login behind a page stands. An approval is taken here, once the page looks.
    pub async fn step_page(&self, exchange: &mut Exchange, sealed: &str, tenant: &str) -> StepPage {
        let Some((flow_id, flow, link)) = self.step(exchange, sealed, tenant).await else {
            return StepPage::Ended;
        };
        let Some(subject) = link.subject.filter(|_| !link.barred) else {
            return StepPage::Ended;
        };
        exchange.served = Some(Served {
            action: "served",
            subject: Some(subject),
        });
        let back = format!("{}/commonauth?flowId={flow_id}", realm(tenant));
        if !link.owes_proof() {
            return StepPage::Goes(back);
        }
        let people = &exchange.snapshot.people;
        let number = number(people, flow);
        let approval = approval(people, subject, &number);
        let is_approved = match self.find(&approval).await {
            Found::Link(approved) => approves(&approved, &link),
            Found::Nothing | Found::Away => false,
        };
        if !is_approved {
            return StepPage::Waiting(number);
        }
        self.prove_step(flow, &link);
        exchange.served = Some(Served {
            action: "approved",
            subject: Some(subject),
        });
        StepPage::Goes(back)
    }

    /// The user gives up: where the browser goes; `None` for a page that has ended.
    pub async fn give_up_step(
        &self,
        exchange: &mut Exchange,
        sealed: &str,
        tenant: &str,
    ) -> Option<String> {
        let (flow_id, flow, link) = self.step(exchange, sealed, tenant).await?;
        self.keep_step(
            flow,
            Provenance {
                barred: true,
                ..link.clone()
            },
        );
        exchange.served = Some(Served {
            action: "declined",
            subject: link.subject,
        });
        Some(format!("{}/commonauth?flowId={flow_id}", realm(tenant)))
    }

    async fn step(
        &self,
        exchange: &Exchange,
        sealed: &str,
        tenant: &str,
    ) -> Option<(String, LinkKey, Provenance)> {
        let snapshot = &exchange.snapshot;
        let bound = [tenant.as_bytes()];
        let opened = snapshot
            .pages
            .open(Purpose::Step, sealed, &bound, exchange.at)?;
        let flow_id = String::from_utf8(opened).ok()?;
        let flow = LinkKey {
            kind: LinkKind::Decision,
            ..link_key(&snapshot.people, LinkKind::Transaction, &flow_id)
        };
        match self.find(&flow).await {
            Found::Link(link) => Some((flow_id, flow, Provenance::clone(&link))),
            Found::Nothing | Found::Away => None,
        }
    }

    /// What the page of approvals shows to the browser that sent `headers`.
    pub async fn approve_page(
        &self,
        exchange: &Exchange,
        headers: &http::HeaderMap,
    ) -> Result<ApprovePage, ForgetError> {
        let asking = self.asking(exchange, headers).await?;
        Ok(ApprovePage {
            may_approve: self.is_at_home(exchange, &asking).await?,
            form: exchange.snapshot.pages.seal(
                Purpose::Form,
                APPROVE,
                &asking.bound(),
                exchange.at.plus(STEP_TTL),
            ),
        })
    }

    /// Approves the sign-in of this browser's user that shows `number`. Whether there is one is not said: who types a wrong
    /// number learns nothing, and approves nothing.
    pub async fn approve(
        &self,
        exchange: &mut Exchange,
        headers: &http::HeaderMap,
        form: &str,
        typed: &str,
    ) -> Result<(), ForgetError> {
        let asking = self.asking(exchange, headers).await?;
        let opened =
            exchange
                .snapshot
                .pages
                .open(Purpose::Form, form, &asking.bound(), exchange.at);
        let number: String = typed.chars().filter(char::is_ascii_digit).collect();
        let is_ours = opened.is_some_and(|payload| payload == APPROVE);
        let is_at_home = self.is_at_home(exchange, &asking).await?;
        let (true, Some(subject), true) = (is_ours, asking.subject, is_at_home) else {
            return Err(ForgetError::Form);
        };
        let link = asking.link.as_deref().cloned().ok_or(ForgetError::Form)?;
        let people = &exchange.snapshot.people;
        let key = approval(people, subject, &number);
        let device = asking.device();
        let approved = Provenance {
            at: exchange.at,
            used_by: Familiarity {
                device,
                ..link.used_by
            },
            ..link
        };
        self.keep_step(key, approved);
        exchange.served = Some(Served {
            action: "approved_elsewhere",
            subject: Some(subject),
        });
        Ok(())
    }
}

/// What says in a form that it is for an approval.
const APPROVE: &[u8] = b"approve";

/// Whether an approval is for this login: of the same user, after it began, from another device. The key of a user has its
/// domain in it; by which tenant's path an organization was reached on either side is no matter.
fn approves(approved: &Provenance, waiting: &Provenance) -> bool {
    let device = approved.used_by.device;
    approved.subject == waiting.subject
        && approved.at >= waiting.at
        && device.is_some()
        && device != waiting.used_by.device
}

/// The number that a page shows: it goes with the login, and only the gateway can work it out.
fn number(people: &Pseudonymizer, flow: LinkKey) -> String {
    let digest = people.pseudonym(NameSpace::Link, &[b"step number", flow.digest.as_bytes()]);
    let number = digest.value_hash() % 10_u64.pow(DIGITS);
    format!("{number:06}")
}

/// Under what an approval is kept.
fn approval(people: &Pseudonymizer, subject: SubjectKey, number: &str) -> LinkKey {
    let digest: Pseudonym = people.pseudonym(
        NameSpace::Link,
        &[b"step approval", subject.0.as_bytes(), number.as_bytes()],
    );
    LinkKey {
        kind: LinkKind::Decision,
        digest,
    }
}

/// The front of the paths of a tenant, or of an organization that is named behind it.
fn realm(place: &str) -> String {
    let tenant = place.split('/').next().unwrap_or_default();
    if tenant.is_empty() || tenant.eq_ignore_ascii_case(SUPER_TENANT) {
        place.split_at(tenant.len()).1.to_owned()
    } else {
        format!("/t/{place}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::RequestId;
    use crate::domain::target::user_domain;
    use crate::domain::time::Timestamp;

    #[test]
    fn an_organization_is_the_same_by_whatever_path() {
        let people = Pseudonymizer::new(&[7; 32]);
        let organization = Some("10084a8d-113f-4211-a0d5-efe36b0822ff");
        let at = |tenant: &str, organization, device| Provenance {
            decision_id: RequestId::new("d".to_owned()),
            at: Timestamp(0),
            tenant: people.value(NameSpace::Tenant, tenant.as_bytes()),
            client: None,
            subject: Some(people.user(user_domain(tenant, organization), "alice")),
            score: None,
            reasons: Vec::new(),
            demanded: true,
            demanded_at: Timestamp(0),
            barred: false,
            factors: 0,
            confirmed: true,
            issued_to: Familiarity::default(),
            coordinates: None,
            used_by: Familiarity {
                device: Some(device),
                ..Familiarity::default()
            },
            used_from: None,
            evidence: 0,
            demand_keys: Vec::new(),
            login_score: None,
            scopes: Vec::new(),
            family: None,
            redeemed: None,
            application: None,
            approves: None,
            token_request: None,
        };
        let waiting = at(SUPER_TENANT, organization, 1);
        assert!(approves(&at("acme.example", organization, 2), &waiting));
        // Neither on the same device, nor her namesake in the tenant.
        assert!(!approves(&at("acme.example", organization, 1), &waiting));
        assert!(!approves(&at(SUPER_TENANT, None, 2), &waiting));
        let of_tenant = at("acme.example", None, 1);
        assert!(!approves(&at(SUPER_TENANT, None, 2), &of_tenant));
    }
}
