//! The nodes of a cluster as this gateway knows them: who serves which slot, and the line to each. Nothing here waits.

use crate::adapters::redis::slots::Address;
use crate::adapters::redis::slots::NODES_MAX;
use crate::adapters::redis::slots::Range;
use crate::adapters::redis::slots::SLOTS;
use parking_lot::Mutex;
use redis::ErrorKind;
use redis::RedisError;
use redis::aio::MultiplexedConnection;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// Calls in a row that a node left unanswered until its line is given up.
const SILENT_MAX: u32 = 8;

/// Who serves which slot.
#[derive(Default)]
pub(super) struct Map {
    /// Every node that is known.
    pub(super) nodes: Vec<Arc<Node>>,
    /// For each slot the place of its master in `nodes`.
    owners: Vec<Option<usize>>,
}

/// A node and the line to it.
pub(super) struct Node {
    /// Where it is.
    pub(super) address: Address,
    line: Mutex<Line>,
    /// Held while a line is made, so that a node gets one at a time.
    pub(super) joining: tokio::sync::Mutex<()>,
    /// Whether somebody sees to the line being made again.
    pub(super) mending: AtomicBool,
    silent: AtomicU32,
}

#[derive(Default)]
struct Line {
    connection: Option<MultiplexedConnection>,
    generation: u64,
}

impl Map {
    /// The map that `ranges` make, with the nodes that are known already.
    pub(super) fn of(ranges: &[Range], known: &[Arc<Node>]) -> Self {
        let mut map = Self {
            nodes: Vec::new(),
            owners: vec![None; usize::from(SLOTS)],
        };
        let known: BTreeMap<&Address, &Arc<Node>> =
            known.iter().map(|node| (&node.address, node)).collect();
        let mut places = BTreeMap::new();
        for range in ranges {
            let place = *places.entry(&range.master).or_insert_with(|| {
                let node = known.get(&range.master).copied().map(Arc::clone);
                map.add(&node.unwrap_or_else(|| Node::new(range.master.clone())))
            });
            let slots = usize::from(range.first)..=usize::from(range.last);
            if let Some(owners) = map.owners.get_mut(slots) {
                owners.fill(place);
            }
        }
        map
    }

    /// The place of a node, which is put there if it is new; `None` when there are too many.
    pub(super) fn add(&mut self, node: &Arc<Node>) -> Option<usize> {
        let known = self.nodes.iter().position(|n| n.address == node.address);
        known.or_else(|| {
            (self.nodes.len() < NODES_MAX).then(|| {
                self.nodes.push(Arc::clone(node));
                self.nodes.len() - 1
            })
        })
    }

    /// The master of `slot`.
    pub(super) fn owner(&self, slot: u16) -> Option<Arc<Node>> {
        let place = self.owners.get(usize::from(slot)).copied().flatten()?;
        self.nodes.get(place).cloned()
    }

    /// Notes that `node` serves `slot` now.
    pub(super) fn give(&mut self, slot: u16, node: &Arc<Node>) {
        let place = self.add(node);
        if let Some(owner) = self.owners.get_mut(usize::from(slot)) {
            *owner = place;
        }
    }
}

impl Node {
    /// A node without a line.
    pub(super) fn new(address: Address) -> Arc<Self> {
        Arc::new(Self {
            address,
            line: Mutex::default(),
            joining: tokio::sync::Mutex::new(()),
            mending: AtomicBool::new(false),
            silent: AtomicU32::new(0),
        })
    }

    /// The line and which one of all it is; `None` while there is none.
    pub(super) fn line(&self) -> Option<(MultiplexedConnection, u64)> {
        let line = self.line.lock();
        let connection = line.connection.clone()?;
        Some((connection, line.generation))
    }

    /// Takes a new line.
    pub(super) fn take(&self, connection: MultiplexedConnection) {
        self.answered();
        let mut line = self.line.lock();
        line.generation += 1;
        line.connection = Some(connection);
    }

    /// Notes that a call was answered.
    pub(super) fn answered(&self) {
        // Read first: a shared line of memory that nobody writes costs nothing.
        if self.silent.load(Ordering::Relaxed) != 0 {
            self.silent.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that a caller gave up waiting; whether there were so many in a row that the line is of no use.
    pub(super) fn unanswered(&self) -> bool {
        self.silent.fetch_add(1, Ordering::Relaxed) + 1 >= SILENT_MAX
    }

    /// Gives up the line, unless it has been replaced meanwhile.
    pub(super) fn lose(&self, generation: u64) {
        let mut line = self.line.lock();
        if line.generation == generation {
            line.connection = None;
        }
    }

    /// The error of a call that has no line to go on.
    pub(super) fn away(&self) -> RedisError {
        let (host, port) = &self.address;
        let detail = format!("no connection to {host}:{port}");
        (ErrorKind::Io, "a node of the cluster is away", detail).into()
    }
}
