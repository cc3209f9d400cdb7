//! The devices that a user is known by, shown to that user and forgotten at the user's word. Who the user is says the
//! session of the identity server that the browser holds; without one a browser can only ask to be forgotten itself.
//!
//! Nothing here tells a session that is unknown from none.

use crate::domain::history::HistoryQuery;
use crate::domain::history::LinkKey;
use crate::domain::history::LinkKind;
use crate::domain::history::Profile;
use crate::domain::history::Provenance;
use crate::domain::history::WhichDevices;
use crate::domain::ids::NameSpace;
use crate::domain::ids::Pseudonym;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::ValueHash;
use crate::domain::page_key::Purpose;
use crate::domain::signals::session::DeviceCookie;
use crate::domain::signals::session::SESSION_COOKIE;
use crate::domain::signals::session::cookie_values;
use crate::domain::signals::session::device_cookie;
use crate::domain::time::Timestamp;
use crate::flow::AuthFlow;
use crate::flow::exchange::Exchange;
use crate::flow::exchange::Served;
use crate::flow::identify::link_key;
use crate::flow::ports::StateError;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// For how long a form can be sent.
const FORM_TTL: Duration = Duration::from_secs(5 * 60);
/// The longest that the store may take for a page.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the page shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DevicesPage {
    /// The user's devices, latest first; `None` without a session that leads to a user.
    pub devices: Option<Vec<KnownDevice>>,
    /// Whether this browser holds a device cookie of ours.
    pub has_cookie: bool,
    /// Goes with each form; says that the page was made for this browser a moment ago.
    pub form: String,
}

/// One device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownDevice {
    /// Stands for it in a form.
    pub handle: String,
    /// Time since its first login.
    pub first: Duration,
    /// Time since its latest login.
    pub last: Duration,
    /// Logins.
    pub logins: u32,
    /// Whether it is the one that asks.
    pub is_this: bool,
}

/// What a form asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wish<'a> {
    /// To forget the device that this stands for.
    Device(&'a str),
    /// To forget all devices but this one.
    Others,
    /// To forget the browser that asks.
    ThisBrowser,
}

/// Why nothing was forgotten.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ForgetError {
    /// The form was made for another browser or session, too long ago, or not by us.
    #[error("the form has expired")]
    Form,
    /// The store does not answer.
    #[error(transparent)]
    State(#[from] StateError),
}

/// The browser that asks.
pub(in crate::flow) struct Asking {
    session: Option<LinkKey>,
    /// The user whose session it holds.
    pub(in crate::flow) subject: Option<SubjectKey>,
    /// Under what that session was begun.
    pub(in crate::flow) link: Option<Arc<Provenance>>,
    cookie: DeviceCookie,
    /// Its device, as profiles keep it.
    device: Option<ValueHash>,
}

impl AuthFlow {
    /// What the page of devices shows to the browser that sent `headers`.
    pub async fn devices_page(
        &self,
        exchange: &Exchange,
        headers: &http::HeaderMap,
    ) -> Result<DevicesPage, StateError> {
        let asking = self.asking(exchange, headers).await?;
        let devices = match asking.subject {
            Some(subject) => Some(self.known_devices(exchange, &asking, subject).await?),
            None => None,
        };
        Ok(DevicesPage {
            devices,
            has_cookie: asking.device.is_some(),
            form: exchange.snapshot.pages.seal(
                Purpose::Form,
                &[],
                &asking.bound(),
                exchange.at.plus(FORM_TTL),
            ),
        })
    }

    /// Does what a form asks for; whether the browser's own device cookie is to be cleared.
    pub async fn forget_by_form(
        &self,
        exchange: &mut Exchange,
        headers: &http::HeaderMap,
        form: &str,
        wish: Wish<'_>,
    ) -> Result<bool, ForgetError> {
        let asking = self.asking(exchange, headers).await?;
        let pages = &exchange.snapshot.pages;
        let (now, bound) = (exchange.at, asking.bound());
        if pages.open(Purpose::Form, form, &bound, now).is_none() {
            return Err(ForgetError::Form);
        }
        let (whose, which, clears): (Vec<SubjectKey>, _, _) = match (wish, asking.subject) {
            (Wish::Device(handle), Some(subject)) => {
                let device = pages
                    .open(Purpose::Device, handle, &[subject.0.as_bytes()], now)
                    .and_then(|bytes| Some(ValueHash::from_be_bytes(bytes.try_into().ok()?)))
                    .ok_or(ForgetError::Form)?;
                let is_this = asking.device.is_some_and(|this| same(this, device));
                (vec![subject], WhichDevices::One(device), is_this)
            }
            (Wish::Others, Some(subject)) => {
                let which = asking
                    .device
                    .map_or(WhichDevices::All, WhichDevices::AllBut);
                (vec![subject], which, false)
            }
            (Wish::Device(_) | Wish::Others, None) => return Err(ForgetError::Form),
            (Wish::ThisBrowser, _) => match (&asking.cookie, asking.device) {
                (DeviceCookie::Valid(token), Some(device)) => {
                    (token.subjects.clone(), WhichDevices::One(device), true)
                }
                _ => (Vec::new(), WhichDevices::All, true),
            },
        };
        // A login of a moment ago may be on its way to the store, and would bring its device back.
        in_time(async {
            self.dependencies.observations.settled().await;
            Ok(())
        })
        .await?;
        for subject in &whose {
            let forgetting = self.dependencies.state.forget_devices(*subject, which, now);
            in_time(forgetting).await?;
        }
        exchange.served = Some(Served {
            action: match wish {
                Wish::Device(_) | Wish::ThisBrowser => "forgot_device",
                Wish::Others => "forgot_devices",
            },
            subject: asking.subject,
        });
        Ok(clears)
    }

    pub(in crate::flow) async fn asking(
        &self,
        exchange: &Exchange,
        headers: &http::HeaderMap,
    ) -> Result<Asking, StateError> {
        let snapshot = &exchange.snapshot;
        let cookie = device_cookie(headers, &snapshot.device_key, exchange.client.secure);
        let device = match &cookie {
            DeviceCookie::Valid(token) => {
                Some(snapshot.people.value(NameSpace::Device, &token.device))
            }
            DeviceCookie::Absent | DeviceCookie::Forged | DeviceCookie::Unsendable => None,
        };
        let mut values = cookie_values(headers, SESSION_COOKIE);
        let session = match (values.next(), values.next()) {
            (Some(value), None) if !value.is_empty() => Some(value),
            _ => None,
        };
        let mut asking = Asking {
            session: session.map(|value| link_key(&snapshot.people, LinkKind::Session, value)),
            subject: None,
            link: None,
            cookie,
            device,
        };
        // While the secret is being exchanged a session may be known under its previous name.
        let names = [Some(&snapshot.people), snapshot.people.previous()];
        for people in names.into_iter().flatten() {
            let Some(value) = session.filter(|_| asking.subject.is_none()) else {
                break;
            };
            let key = link_key(people, LinkKind::Session, value);
            asking.link = self.session_of(key, exchange.at).await?;
            asking.subject = asking.link.as_deref().and_then(|link| link.subject);
        }
        Ok(asking)
    }

    /// Under what a session was begun that somebody has logged in to.
    async fn session_of(
        &self,
        key: LinkKey,
        now: Timestamp,
    ) -> Result<Option<Arc<Provenance>>, StateError> {
        let link = match self
            .dependencies
            .recent
            .find(&key, self.dependencies.clock.instant())
        {
            Some(link) => Some(link),
            None => {
                let query = HistoryQuery::of_link(key, now);
                let mut history = in_time(self.dependencies.state.load(&query)).await?;
                history.links.remove(&key).map(Arc::new)
            }
        };
        Ok(link.filter(|link| link.confirmed))
    }

    /// Whether the browser is known to be its user's: its device cookie speaks for the user of its session, and has not
    /// been forgotten.
    pub(in crate::flow) async fn is_at_home(
        &self,
        exchange: &Exchange,
        asking: &Asking,
    ) -> Result<bool, StateError> {
        let (DeviceCookie::Valid(token), Some(subject)) = (&asking.cookie, asking.subject) else {
            return Ok(false);
        };
        let devices = self.known_devices(exchange, asking, subject).await?;
        Ok(token.names(subject) && devices.iter().any(|device| device.is_this))
    }

    async fn known_devices(
        &self,
        exchange: &Exchange,
        asking: &Asking,
        subject: SubjectKey,
    ) -> Result<Vec<KnownDevice>, StateError> {
        let now = exchange.at;
        let query = HistoryQuery {
            subject: Some(subject),
            ..HistoryQuery::of_links(Vec::new(), Vec::new(), now)
        };
        let history = in_time(self.dependencies.state.load(&query)).await?;
        let profile: Profile = history.profile.unwrap_or_default();
        let mut devices: Vec<KnownDevice> = profile
            .devices
            .iter()
            .map(|known| KnownDevice {
                handle: exchange.snapshot.pages.seal(
                    Purpose::Device,
                    &known.value.to_be_bytes(),
                    &[subject.0.as_bytes()],
                    now.plus(FORM_TTL),
                ),
                first: now.since(known.first),
                last: now.since(known.last),
                logins: known.count,
                is_this: asking.device.is_some_and(|this| same(this, known.value)),
            })
            .collect();
        devices.sort_by_key(|device| (!device.is_this, device.last));
        Ok(devices)
    }
}

impl Asking {
    /// Its device, as profiles keep it.
    pub(in crate::flow) fn device(&self) -> Option<ValueHash> {
        self.device
    }

    /// What a form is bound to: the session and the device that it was made for.
    pub(in crate::flow) fn bound(&self) -> [&[u8]; 2] {
        let session = self.session.as_ref();
        let device: &[u8] = match &self.cookie {
            DeviceCookie::Valid(token) => &token.device,
            DeviceCookie::Absent | DeviceCookie::Forged | DeviceCookie::Unsendable => &[],
        };
        [
            session.map_or(&[], |key| Pseudonym::as_bytes(&key.digest).as_slice()),
            device,
        ]
    }
}

/// Whether two hashes are one device: profiles keep the first half.
fn same(one: ValueHash, other: ValueHash) -> bool {
    crate::domain::history::kept(one) == crate::domain::history::kept(other)
}

async fn in_time<T>(call: impl Future<Output = Result<T, StateError>>) -> Result<T, StateError> {
    tokio::time::timeout(STORE_TIMEOUT, call)
        .await
        .unwrap_or(Err(StateError::Timeout))
}
