//! Connections of a store, one for each runtime that asks. A read that a login waits for never stands behind a batch of
//! what was learnt, and its answer is taken in by the thread that waits for it, without waking another.

use crate::adapters::redis::RedisSettings;
use crate::adapters::redis::endpoint::Endpoint;
use crate::adapters::redis::link::Link;
use crate::adapters::redis::link::Turn;
use parking_lot::RwLock;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::runtime::Id;

/// Runtimes that get a connection of their own; others take what there is. The gateway has four that ask: of the
/// requests, of what is learnt, of the work beside them and of reloads.
const RUNTIMES_MAX: usize = 8;

/// The connections of the runtimes that have asked so far, the oldest first.
#[derive(Debug)]
pub(super) struct Links {
    endpoint: Endpoint,
    settings: RedisSettings,
    turn: Turn,
    of: RwLock<Vec<(Id, Arc<Link>)>>,
}

impl Links {
    /// None yet: each connects when its runtime first asks.
    pub(super) fn new(endpoint: Endpoint, settings: RedisSettings) -> Self {
        Self {
            endpoint,
            settings,
            turn: Turn::default(),
            of: RwLock::default(),
        }
    }

    /// What an operator should know about the server; the first connection tells.
    pub(super) fn warnings(&self) -> Vec<String> {
        let links = self.of.read();
        let first = links.first().map(|(_, link)| link.warnings());
        first.unwrap_or_default()
    }

    /// The connection of the runtime that asks. As long as that is not up another that is, or the oldest, which knows
    /// whether the server is there.
    pub(super) fn of_this_runtime(&self) -> Arc<Link> {
        let runtime = Handle::current();
        let links = self.of.read();
        if let Some(link) = serving(&links, runtime.id()) {
            return link;
        }
        drop(links);
        let mut links = self.of.write();
        if let Some(link) = serving(&links, runtime.id()) {
            return link;
        }
        let is_first = links.is_empty();
        let settings = RedisSettings {
            // It is one server: said once is enough.
            on_warning: self.settings.on_warning.clone().filter(|_| is_first),
            ..self.settings.clone()
        };
        let (id, turn) = (runtime.id(), Arc::clone(&self.turn));
        let link = Link::of(runtime, turn, self.endpoint.clone(), settings);
        links.push((id, Arc::clone(&link)));
        serving(&links, id).unwrap_or(link)
    }
}

/// The link that serves `runtime`; none when one is still to be made.
fn serving(links: &[(Id, Arc<Link>)], runtime: Id) -> Option<Arc<Link>> {
    let own = links.iter().find(|(id, _)| *id == runtime);
    match own {
        Some((_, own)) if own.is_ready() => return Some(Arc::clone(own)),
        Some((_, own)) => own.begin(),
        None if links.len() < RUNTIMES_MAX => return None,
        None => {}
    }
    let ready = links.iter().find(|(_, link)| link.is_ready());
    let (_, link) = ready.or(links.first())?;
    Some(Arc::clone(link))
}
