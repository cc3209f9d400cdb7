//! A cluster as one connection: a line to each master, kept open, and a map of who serves which slot.
//!
//! Commands go to their nodes in one pipeline each, side by side. A command that is sent elsewhere (`MOVED`, `ASK`) or
//! asked to wait (`TRYAGAIN`) follows alone, at once, on a line that is there already; it has not run, so that nothing
//! counts twice, and nothing else waits for it. Each of them has one slot and, but for scripts, one key: a command with
//! several keys of a slot that is moving could not be answered by either node. `MOVED` mends the map in its place; the
//! whole map is asked for in the background, now and then. A line that is lost is made again in the background, with
//! growing pauses; what needs it meanwhile is told so at once.

use crate::adapters::redis::RedisSettings;
use crate::adapters::redis::endpoint::Endpoint;
use crate::adapters::redis::link::PAUSE_MAX;
use crate::adapters::redis::link::PAUSE_MIN;
use crate::adapters::redis::link::scattered;
use crate::adapters::redis::nodes::Map;
use crate::adapters::redis::nodes::Node;
use crate::adapters::redis::slots::Address;
use crate::adapters::redis::slots::Range;
use crate::adapters::redis::slots::ranges;
use crate::adapters::redis::slots::redirected;
use parking_lot::RwLock;
use redis::Cmd;
use redis::ErrorKind;
use redis::RedisError;
use redis::ServerErrorKind;
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

/// How often a command is sent at most. The caller's time ends before that.
const ROUNDS_MAX: usize = 100;
/// The first and the longest pause before a command is tried again whose slot is moving.
const TRY_AGAIN_MIN: Duration = Duration::from_millis(1);
const TRY_AGAIN_MAX: Duration = Duration::from_millis(16);
/// The shortest time between two looks at the whole map: slots move by the hundred, and each `MOVED` says what is new.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// An answer to one command.
pub(super) type Answer = Result<Value, RedisError>;

/// The cluster. Clones share it.
#[derive(Clone)]
pub(super) struct Cluster(Arc<Inner>);

struct Inner {
    endpoint: Endpoint,
    settings: RedisSettings,
    map: RwLock<Map>,
    /// Whether somebody is looking at the whole map, or has just done so.
    looking: AtomicBool,
}

/// Where a command goes next.
#[derive(Clone)]
enum Target {
    /// To the master of its slot.
    Owner,
    /// To this node, after `ASKING` if its slot is on its way there.
    At { address: Address, asking: bool },
}

/// What goes to one node: the places of commands, and whether each is announced by `ASKING`.
struct Piece {
    node: Arc<Node>,
    places: Vec<(usize, bool)>,
}

/// What an answer asks for.
enum Next {
    Elsewhere(Target),
    Later,
}

/// Counts a call that its caller gave up.
struct Waiting<'c> {
    cluster: &'c Cluster,
    node: &'c Arc<Node>,
    generation: u64,
    answered: bool,
}

/// Says that nobody is looking any more, however that ended.
struct Looking(Weak<Inner>);

/// Says that nobody is mending the line any more, however that ended.
struct Mending(Weak<Inner>, Arc<Node>);

impl Cluster {
    /// Asks the hosts of `endpoint` for the map and connects to every master that can be reached.
    pub(super) async fn connect(
        endpoint: &Endpoint,
        settings: &RedisSettings,
    ) -> Result<Self, RedisError> {
        let cluster = Self(Arc::new(Inner {
            endpoint: endpoint.clone(),
            settings: settings.clone(),
            map: RwLock::default(),
            looking: AtomicBool::new(false),
        }));
        cluster.refresh().await?;
        let nodes = cluster.nodes();
        let joined = together(nodes.iter().map(|node| cluster.join(node)).collect()).await;
        for (node, joined) in nodes.iter().zip(joined) {
            if joined.is_err() {
                cluster.mend(node);
            }
        }
        Ok(cluster)
    }

    /// The masters, in an order that stays as long as they do.
    pub(super) fn masters(&self) -> Vec<Address> {
        let mut masters: Vec<Address> = self.nodes().iter().map(|n| n.address.clone()).collect();
        masters.sort();
        masters
    }

    /// Sends each command to the master of its slot. Answers come in the order of the commands.
    pub(super) async fn run(&self, commands: &[(u16, Cmd)]) -> Vec<Answer> {
        let mut answers: Vec<Answer> = commands.iter().map(|_| Err(nobody())).collect();
        self.follow(commands, &mut answers).await;
        answers
    }

    /// The same for one command, with the line on which the answer came.
    pub(super) async fn one(
        &self,
        slot: u16,
        command: Cmd,
    ) -> (Answer, Option<MultiplexedConnection>) {
        let mut answers = [Err(nobody())];
        let line = self.follow(&[(slot, command)], &mut answers).await;
        let [answer] = answers;
        (answer, line)
    }

    /// Sends a command that has no key to the master at `address`.
    pub(super) async fn at(&self, address: &Address, command: Cmd) -> Answer {
        let nodes = self.nodes();
        let node = nodes.into_iter().find(|node| node.address == *address);
        let piece = Piece {
            node: node.ok_or_else(nobody)?,
            places: vec![(0, false)],
        };
        let (answered, _) = self.send(&piece, &[(0, command)]).await;
        let answer = answered.into_iter().next().map(|(_, answer)| answer);
        answer.unwrap_or_else(|| Err(nobody()))
    }

    /// Sends each command on from node to node until it is answered: the line of the last answer.
    async fn follow(
        &self,
        commands: &[(u16, Cmd)],
        answers: &mut [Answer],
    ) -> Option<MultiplexedConnection> {
        let mut due: Vec<(usize, Target)> = (0..commands.len())
            .map(|place| (place, Target::Owner))
            .collect();
        let mut pause = TRY_AGAIN_MIN;
        let mut last = None;
        for _ in 0..ROUNDS_MAX {
            let pieces = self.pieces(commands, &due, answers).await;
            let sent = pieces.iter().map(|piece| self.send(piece, commands));
            let answered = together(sent.collect()).await;
            let mut again = Vec::new();
            let mut wait = false;
            for (piece, (some, line)) in pieces.iter().zip(answered) {
                last = line;
                for (place, answer) in some {
                    let slot = commands.get(place).map_or(0, |(slot, _)| *slot);
                    match self.next(&piece.node, slot, &answer) {
                        Some(Next::Elsewhere(target)) => again.push((place, target)),
                        Some(Next::Later) => {
                            wait = true;
                            let target = due.iter().find(|(due, _)| *due == place);
                            again.extend(target.cloned());
                        }
                        None => {}
                    }
                    if let Some(kept) = answers.get_mut(place) {
                        *kept = answer;
                    }
                }
            }
            if again.is_empty() {
                break;
            }
            // What belongs together stays in its order.
            again.sort_by_key(|(place, _)| *place);
            due = again;
            if wait {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(TRY_AGAIN_MAX);
            }
        }
        last
    }

    /// What goes to each node. Who serves nobody's slot gets an error.
    async fn pieces(
        &self,
        commands: &[(u16, Cmd)],
        due: &[(usize, Target)],
        answers: &mut [Answer],
    ) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for (place, target) in due {
            let slot = commands.get(*place).map_or(0, |(slot, _)| *slot);
            let (node, asking) = match target {
                Target::Owner => (self.owner(slot), false),
                Target::At { address, asking } => (self.reached(address).await, *asking),
            };
            let Some(node) = node else {
                if let Some(answer) = answers.get_mut(*place) {
                    *answer = Err(nobody());
                }
                self.look();
                continue;
            };
            match pieces
                .iter_mut()
                .find(|piece| Arc::ptr_eq(&piece.node, &node))
            {
                Some(piece) => piece.places.push((*place, asking)),
                None => pieces.push(Piece {
                    node,
                    places: vec![(*place, asking)],
                }),
            }
        }
        pieces
    }

    /// Sends the commands of one node in one pipeline. A line that is lost is not waited for.
    async fn send(
        &self,
        piece: &Piece,
        commands: &[(u16, Cmd)],
    ) -> (Vec<(usize, Answer)>, Option<MultiplexedConnection>) {
        let failed = |error: &RedisError| {
            let places = piece.places.iter();
            let answers = places.map(|(place, _)| (*place, Err(error.clone())));
            (answers.collect(), None)
        };
        let Some((mut line, generation)) = piece.node.line() else {
            self.mend(&piece.node);
            return failed(&piece.node.away());
        };
        let mut pipe = redis::pipe();
        for (place, asking) in &piece.places {
            if *asking {
                // It holds for the one command that follows, which nobody else can come before in a pipeline.
                pipe.cmd("ASKING");
            }
            if let Some((_, command)) = commands.get(*place) {
                pipe.add_command(command.clone());
            }
        }
        let mut waiting = Waiting {
            cluster: self,
            node: &piece.node,
            generation,
            answered: false,
        };
        let result: Result<Vec<Answer>, _> = pipe.ignore_errors().query_async(&mut line).await;
        waiting.answered = true;
        drop(waiting);
        match result {
            Ok(values) => {
                piece.node.answered();
                let mut values = values.into_iter();
                let places = piece.places.iter().map(|(place, asking)| {
                    if *asking {
                        values.next();
                    }
                    (*place, values.next().unwrap_or_else(|| Err(nobody())))
                });
                (places.collect(), Some(line))
            }
            Err(error) => {
                self.lose(&piece.node, generation);
                failed(&error)
            }
        }
    }

    /// What the answer of `node` about `slot` asks for; `None` when it is final.
    fn next(&self, node: &Node, slot: u16, answer: &Answer) -> Option<Next> {
        let error = answer.as_ref().err()?;
        let ErrorKind::Server(kind) = error.kind() else {
            return None;
        };
        let named = || {
            let (named, _) = error.redirect_node()?;
            redirected(named, &node.address.0)
        };
        match kind {
            ServerErrorKind::Moved => {
                let address = named()?;
                let node = self.node_at(&address);
                self.write_map(|map| map.give(slot, &node));
                self.look();
                Some(Next::Elsewhere(Target::At {
                    address,
                    asking: false,
                }))
            }
            ServerErrorKind::Ask => Some(Next::Elsewhere(Target::At {
                address: named()?,
                asking: true,
            })),
            ServerErrorKind::TryAgain => Some(Next::Later),
            ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown => {
                self.look();
                None
            }
            _ => None,
        }
    }

    fn owner(&self, slot: u16) -> Option<Arc<Node>> {
        let map = self.0.map.read();
        map.owner(slot)
    }

    fn nodes(&self) -> Vec<Arc<Node>> {
        let map = self.0.map.read();
        map.nodes.clone()
    }

    /// The node at `address`, new to the map or not.
    fn node_at(&self, address: &Address) -> Arc<Node> {
        let known = self.nodes().into_iter().find(|n| n.address == *address);
        known.unwrap_or_else(|| Node::new(address.clone()))
    }

    /// The node that a redirection names, connected if that can be done.
    async fn reached(&self, address: &Address) -> Option<Arc<Node>> {
        let node = self.node_at(address);
        if node.line().is_none() {
            // Known or not, it is kept: the next redirection goes there as well.
            self.write_map(|map| {
                map.add(&node);
            });
            self.join(&node).await.ok()?;
        }
        Some(node)
    }

    fn write_map(&self, change: impl FnOnce(&mut Map)) {
        change(&mut self.0.map.write());
    }

    /// Makes the line to `node`, unless it has one.
    async fn join(&self, node: &Node) -> Result<(), RedisError> {
        let _one_at_a_time = node.joining.lock().await;
        if node.line().is_some() {
            return Ok(());
        }
        let connection = self.line_to(&node.address).await?;
        node.take(connection);
        Ok(())
    }

    /// A connection over which a first question was answered.
    async fn line_to(&self, address: &Address) -> Result<MultiplexedConnection, RedisError> {
        let Inner {
            endpoint, settings, ..
        } = &*self.0;
        let made = async {
            let mut connection = endpoint.node(address, settings).await?;
            let _: Value = redis::cmd("PING").query_async(&mut connection).await?;
            Ok(connection)
        };
        match tokio::time::timeout(self.node_timeout(), made).await {
            Ok(made) => made,
            Err(_) => Err(late()),
        }
    }

    /// Looking at the map and connecting to the masters are part of one attempt to connect.
    fn node_timeout(&self) -> Duration {
        self.0.settings.connection_timeout / 3
    }

    /// Takes the map anew.
    async fn refresh(&self) -> Result<(), RedisError> {
        let ranges = self.ask_for_map().await?;
        self.write_map(|map| *map = Map::of(&ranges, &map.nodes));
        Ok(())
    }

    async fn ask_for_map(&self) -> Result<Vec<Range>, RedisError> {
        // Not on a line that reads go over: the answer of a large cluster is long.
        for node in self.nodes().iter().filter(|node| node.line().is_some()) {
            if let Ok(ranges) = self.map_at(&node.address).await {
                return Ok(ranges);
            }
        }
        let hosts = self.0.endpoint.hosts();
        let asked = together(hosts.iter().map(|host| self.map_at(host)).collect()).await;
        let mut reason = nobody();
        for ranges in asked {
            match ranges {
                Ok(ranges) => return Ok(ranges),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    async fn map_at(&self, host: &Address) -> Result<Vec<Range>, RedisError> {
        let mut line = self.line_to(host).await?;
        let mut question = redis::cmd("CLUSTER");
        question.arg("SLOTS");
        let answer = question.query_async(&mut line);
        let Ok(answer) = tokio::time::timeout(self.node_timeout(), answer).await else {
            return Err(late());
        };
        ranges(&answer?, &host.0).ok_or_else(|| {
            (
                ErrorKind::UnexpectedReturnType,
                "the cluster names no masters",
            )
                .into()
        })
    }

    /// Looks at the whole map in the background, at most every [`LOOK_PAUSE`].
    fn look(&self) {
        if !self.0.looking.swap(true, Ordering::AcqRel) {
            let guard = Looking(Arc::downgrade(&self.0));
            tokio::spawn(async move { look(&guard).await });
        }
    }

    /// Makes the line to `node` again in the background.
    fn mend(&self, node: &Arc<Node>) {
        if !node.mending.swap(true, Ordering::AcqRel) {
            let guard = Mending(Arc::downgrade(&self.0), Arc::clone(node));
            tokio::spawn(async move { mend(&guard).await });
        }
    }

    /// Gives up a line of `node`: another is made, and perhaps somebody else serves its slots by now.
    fn lose(&self, node: &Arc<Node>, generation: u64) {
        node.lose(generation);
        self.mend(node);
        self.look();
    }
}

async fn look(guard: &Looking) {
    // The store may be dropped meanwhile.
    if let Some(inner) = guard.0.upgrade() {
        let cluster = Cluster(inner);
        if cluster.refresh().await.is_ok() {
            // Masters that are new are connected to before they are needed.
            for node in cluster.nodes().iter().filter(|node| node.line().is_none()) {
                cluster.mend(node);
            }
        }
    }
    tokio::time::sleep(scattered(LOOK_PAUSE)).await;
}

async fn mend(guard: &Mending) {
    let mut pause = PAUSE_MIN;
    while let Some(inner) = guard.0.upgrade() {
        let cluster = Cluster(inner);
        let node = &guard.1;
        let is_known = cluster.nodes().iter().any(|known| Arc::ptr_eq(known, node));
        if !is_known || cluster.join(node).await.is_ok() {
            return;
        }
        // Whoever does not come back may have been replaced.
        cluster.look();
        drop(cluster);
        tokio::time::sleep(scattered(pause)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        if let Some(inner) = self.0.upgrade() {
            inner.looking.store(false, Ordering::Release);
        }
    }
}

impl Drop for Mending {
    fn drop(&mut self) {
        self.1.mending.store(false, Ordering::Release);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered && self.node.unanswered() {
            self.cluster.lose(self.node, self.generation);
        }
    }
}

/// Nobody serves the slot, or nobody answered.
fn nobody() -> RedisError {
    (ErrorKind::Io, "no node of the cluster answers").into()
}

fn late() -> RedisError {
    (ErrorKind::Io, "a node of the cluster does not answer").into()
}

/// Waits for all at once, on this task.
async fn together<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut waiting: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut left = false;
        for (future, result) in waiting.iter_mut().zip(&mut done) {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => *result = Some(value),
                    Poll::Pending => left = true,
                }
            }
        }
        if left { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    done.into_iter().flatten().collect()
}
