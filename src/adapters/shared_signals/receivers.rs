//! Who is told at the moment, of what and how: one value, which a reload exchanges as a whole while events wait. Who stays keeps
//! what waits for it; who goes is told what waits once more, as at the end of the gateway.

use super::Delivery;
use super::QUEUE_MAX;
use super::SignalSettings;
use super::account::Account;
use super::account::Standing;
use super::poll::Polled;
use super::push::Push;
use super::webhook::Notices;
use super::webhook::Webhook;
use crate::adapters::courier::Cargo;
use crate::adapters::courier::Courier;
use crate::adapters::courier::CurrentLine;
use crate::adapters::courier::Line;
use crate::adapters::outbound::ClientError;
use crate::domain::audit::AuditEvent;
use crate::domain::bearer_token::BearerToken;
use crate::domain::policy::decision::Mode;
use crate::domain::secret::Secret;
use crate::domain::shared_signal::SignalKind;
use crate::domain::shared_signal::Token;
use crate::domain::shared_signal::held::Held;
use crate::domain::shared_signal::watch::Seen;
use crate::domain::shared_signal::watch::Watch;
use crate::flow::ports::Clock;
use crate::flow::ports::SignalOutbox;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use parking_lot::MutexGuard;
use std::sync::Arc;
#[cfg(test)]
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::task::JoinSet;

/// The receivers that there are.
pub struct Receivers {
    telling: ArcSwapOption<Telling>,
    couriers: Mutex<JoinSet<()>>,
    runtime: Handle,
    clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    standing: Standing,
    #[cfg(test)]
    pub(super) haste: Option<(Vec<Duration>, Duration)>,
}

/// What is told, and to whom.
pub(super) struct Telling {
    pub(super) issuer: String,
    pub(super) modes: Vec<Mode>,
    /// What is known of users: for as long as somebody is told.
    pub(super) watch: Arc<Mutex<Watch>>,
    pub(super) streams: Vec<Stream>,
}

/// What one receiver is told of, and in which words.
pub(super) struct Stream {
    pub(super) events: Vec<SignalKind>,
    pub(super) named_to: Option<String>,
    /// Empty in plain JSON, which has none.
    pub(super) audience: String,
    pub(super) lane: Arc<Lane>,
}

/// What waits for one receiver, and what brings it there. It outlives what is exchanged.
pub(super) struct Lane {
    pub(super) account: Arc<Account>,
    pub(super) held: Mutex<Held>,
    pub(super) way: Way,
    stop: watch::Sender<bool>,
}

/// How events come to a receiver.
pub(super) enum Way {
    /// As tokens that are sent.
    Push(mpsc::Sender<Token>, CurrentLine<Option<Secret<String>>>),
    /// As tokens that are fetched.
    Poll(Arc<Polled>),
    /// In plain JSON that is sent.
    Webhook(Notices, CurrentLine<Secret<Vec<u8>>>),
}

/// Settings that can be used.
#[derive(Debug)]
pub struct Prepared {
    issuer: String,
    modes: Vec<Mode>,
    receivers: Vec<Ready>,
}

/// One receiver of them.
#[derive(Debug)]
struct Ready {
    name: String,
    events: Vec<SignalKind>,
    named_to: Option<String>,
    audience: String,
    reach: Reach,
}

/// Where a receiver is and what it is shown, or by what it is known.
#[derive(Debug)]
enum Reach {
    Push(Line<Option<Secret<String>>>),
    Poll(BearerToken),
    Webhook(Line<Secret<Vec<u8>>>),
}

/// What is fetched, and by which tokens.
pub type Outboxes = Vec<(BearerToken, Arc<dyn SignalOutbox>)>;

impl std::fmt::Debug for Receivers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let telling = self.telling.load();
        let streams = telling.iter().flat_map(|telling| &telling.streams);
        let names = streams.map(|stream| stream.lane.account.name());
        f.debug_list().entries(names).finish()
    }
}

impl Prepared {
    /// What can be made of settings.
    ///
    /// # Errors
    /// The place of a receiver, and what is wrong with it.
    pub fn of(settings: SignalSettings) -> Result<Self, (usize, ClientError)> {
        let mut receivers = Vec::new();
        for (place, receiver) in settings.receivers.into_iter().enumerate() {
            let ready = Reach::of(receiver.delivery).map_err(|error| (place, error))?;
            let (audience, reach) = ready;
            receivers.push(Ready {
                name: receiver.name,
                events: receiver.events,
                named_to: receiver.named_to,
                audience,
                reach,
            });
        }
        Ok(Self {
            issuer: settings.issuer,
            modes: settings.modes,
            receivers,
        })
    }

    /// Who says so.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The clients by whose ID tokens receivers know users.
    pub fn clients(&self) -> impl Iterator<Item = String> {
        let receivers = self.receivers.iter();
        receivers.filter_map(|receiver| receiver.named_to.clone())
    }
}

impl Reach {
    fn of(delivery: Delivery) -> Result<(String, Self), ClientError> {
        Ok(match delivery {
            Delivery::Push {
                audience,
                destination,
                authorization,
            } => (audience, Self::Push(Line::new(destination, authorization)?)),
            Delivery::Poll { audience, token } => (audience, Self::Poll(token)),
            Delivery::Webhook {
                destination,
                secret,
            } => (
                String::new(),
                Self::Webhook(Line::new(destination, secret)?),
            ),
        })
    }
}

impl Receivers {
    /// Nobody, yet. Whatever brings events to them runs on `runtime`.
    pub fn new(
        runtime: Handle,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
    ) -> Self {
        Self {
            telling: ArcSwapOption::empty(),
            couriers: Mutex::default(),
            runtime,
            clock,
            metrics,
            standing: Standing::new(health),
            #[cfg(test)]
            haste: None,
        }
    }

    /// Who is told at the moment; `None` where it is nobody.
    pub(super) fn telling(&self) -> Option<Arc<Telling>> {
        self.telling.load_full()
    }

    /// What a record shows that somebody may be told of at the moment.
    pub(super) fn seen(&self, event: &AuditEvent) -> Option<Seen> {
        let telling = self.telling.load();
        Seen::of(event, &telling.as_ref()?.modes)
    }

    /// These are told from now on, and nobody else; nobody at all where there are none. `publish` puts in force what is
    /// fetched, before anybody who waited for something else is sent away.
    pub fn take(&self, prepared: Option<Prepared>, publish: impl FnOnce(Outboxes)) {
        // INVARIANT: one at a time, since it is held throughout.
        let mut couriers = self.couriers();
        while let Some(ended) = couriers.try_join_next() {
            report(ended);
        }
        let before = self.telling.load_full();
        let lanes = || before.iter().flat_map(|telling| &telling.streams);
        let lane_of = |name: &str| {
            let mut lanes = lanes().map(|stream| &stream.lane);
            lanes.find(|lane| lane.account.name() == name)
        };
        let mut outboxes = Outboxes::new();
        let telling = prepared.map(|prepared| {
            let streams = prepared.receivers.into_iter().map(|ready| Stream {
                lane: self.lane(
                    lane_of(&ready.name),
                    ready.name,
                    ready.reach,
                    &mut outboxes,
                    &mut couriers,
                ),
                events: ready.events,
                named_to: ready.named_to,
                audience: ready.audience,
            });
            Arc::new(Telling {
                issuer: prepared.issuer,
                modes: prepared.modes,
                watch: before
                    .as_ref()
                    .map_or_else(Arc::default, |before| Arc::clone(&before.watch)),
                streams: streams.collect(),
            })
        });
        let (came, gone) = (
            missing(telling.as_deref(), before.as_deref()),
            missing(before.as_deref(), telling.as_deref()),
        );
        // Before others of the same name begin to count.
        for lane in &gone {
            lane.account.close();
        }
        match &telling {
            Some(_) => self.standing.begin(),
            None => self.standing.end(),
        }
        if !came.is_empty() || !gone.is_empty() {
            let names = |lanes: &[Arc<Lane>]| {
                let names: Vec<&str> = lanes.iter().map(|lane| lane.account.name()).collect();
                names.join(", ")
            };
            let (came, gone) = (names(&came), names(&gone));
            tracing::info!(%came, %gone, "receivers of shared signals have come or gone");
        }
        self.telling.store(telling);
        publish(outboxes);
        for lane in gone {
            lane.end();
        }
    }

    /// The lane of a receiver: that which it has, where it is told in the same way as before, or one of its own.
    fn lane(
        &self,
        before: Option<&Arc<Lane>>,
        name: String,
        reach: Reach,
        outboxes: &mut Outboxes,
        couriers: &mut JoinSet<()>,
    ) -> Arc<Lane> {
        let way = before.map(|lane| (lane, &lane.way));
        let account = || Account::new(name, Arc::clone(&self.metrics), self.standing.clone());
        let (stop, stopped) = watch::channel(false);
        match reach {
            Reach::Push(line) => {
                if let Some((lane, Way::Push(_, current))) = way {
                    current.store(Arc::new(line));
                    return Arc::clone(lane);
                }
                let (queue, waiting) = mpsc::channel(QUEUE_MAX);
                let account = account();
                let push = Push {
                    account: Arc::clone(&account),
                };
                let courier = Courier::new(line, push, waiting);
                let current = courier.line();
                self.begin(courier, stopped, couriers);
                Lane::new(account, Way::Push(queue, current), stop)
            }
            Reach::Poll(token) => {
                if let Some((lane, Way::Poll(polled))) = way {
                    outboxes.push((token, Arc::clone(polled) as _));
                    return Arc::clone(lane);
                }
                let account = account();
                let polled = Arc::new(Polled::new(Arc::clone(&account)));
                outboxes.push((token, Arc::clone(&polled) as _));
                Lane::new(account, Way::Poll(polled), stop)
            }
            Reach::Webhook(line) => {
                if let Some((lane, Way::Webhook(_, current))) = way {
                    current.store(Arc::new(line));
                    return Arc::clone(lane);
                }
                let (queue, waiting) = mpsc::channel(QUEUE_MAX);
                let (account, lost) = (account(), Arc::default());
                let webhook = Webhook {
                    account: Arc::clone(&account),
                    lost: Arc::clone(&lost),
                };
                let courier = Courier::new(line, webhook, waiting);
                let current = courier.line();
                self.begin(courier, stopped, couriers);
                Lane::new(
                    account,
                    Way::Webhook(Notices { queue, lost }, current),
                    stop,
                )
            }
        }
    }

    fn begin<C: Cargo>(
        &self,
        courier: Courier<C>,
        stopped: watch::Receiver<bool>,
        couriers: &mut JoinSet<()>,
    ) {
        #[cfg(test)]
        let courier = match &self.haste {
            Some((retries, attempt)) => courier.hastily(retries, *attempt),
            None => courier,
        };
        couriers.spawn_on(courier.run(Arc::clone(&self.clock), stopped), &self.runtime);
    }

    /// The gateway ends: what waits is tried once more.
    pub(super) async fn end(&self) {
        if let Some(telling) = self.telling() {
            for stream in &telling.streams {
                stream.lane.end();
            }
        }
        let mut couriers = std::mem::take(&mut *self.couriers());
        // Each bounds its own farewell.
        while let Some(ended) = couriers.join_next().await {
            report(ended);
        }
    }

    fn couriers(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.couriers.lock()
    }
}

impl Lane {
    fn new(account: Arc<Account>, way: Way, stop: watch::Sender<bool>) -> Arc<Self> {
        Arc::new(Self {
            account,
            held: Mutex::default(),
            way,
            stop,
        })
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock()
    }

    /// Nothing more comes: what can be sent is tried once more, and the rest is lost.
    fn end(&self) {
        let held = self.held().end();
        for signal in &held {
            self.account.count(signal.kind(), "subject_unknown");
        }
        if !held.is_empty() {
            tracing::warn!(
                receiver = %self.account.name(),
                events = held.len(),
                "shared signals are lost: the receiver's names for their users did not become known"
            );
        }
        if let Way::Poll(polled) = &self.way {
            polled.end();
        }
        self.stop.send_replace(true);
    }
}

/// The lanes of `these` that `others` do not have.
fn missing(these: Option<&Telling>, others: Option<&Telling>) -> Vec<Arc<Lane>> {
    let lanes = |of: Option<&Telling>| -> Vec<Arc<Lane>> {
        let streams = of.iter().flat_map(|telling| &telling.streams);
        streams.map(|stream| Arc::clone(&stream.lane)).collect()
    };
    let others = lanes(others);
    let mut these = lanes(these);
    these.retain(|lane| !others.iter().any(|other| Arc::ptr_eq(lane, other)));
    these
}

fn report(ended: Result<(), JoinError>) {
    if ended.is_err() {
        tracing::error!("what tells a receiver of shared signals panicked");
    }
}
