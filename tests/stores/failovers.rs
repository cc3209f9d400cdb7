//! Tickets over failovers: whatever happens between two servers, none is redeemed twice.
//!
//! Each round some tickets are given by the master; while clients redeem them on both servers, the replica is made a
//! master without the old one being told, so that for a moment there are two. `RISKGATE_FAILOVERS` sets how many rounds
//! there are.

use crate::facts::*;
use crate::redis::connect;
use crate::redis::text;
use crate::redis_server::RedisServer;
use riskgate::adapters::redis::RedisStore;
use riskgate::flow::ports::Redemption;
use riskgate::flow::ports::StateStore;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

const ROUNDS: u64 = 5;
const TICKETS: u64 = 20;

struct Node {
    server: RedisServer,
    store: Arc<RedisStore>,
}

impl Node {
    fn start() -> Self {
        let server = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]);
        let store = Arc::new(connect(&server, patient()));
        Self { server, store }
    }

    fn follow(&self, other: &Node) {
        let port = other.server.port().to_string();
        self.server
            .command(&[b"REPLICAOF", b"127.0.0.1", port.as_bytes()]);
    }

    fn lead(&self) {
        self.server.command(&[b"REPLICAOF", b"NO", b"ONE"]);
    }

    fn says(&self, what: &str) -> bool {
        text(&self.server.command(&[b"INFO", b"replication"])).contains(what)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_ticket_is_redeemed_twice_over_failovers() {
    let rounds = std::env::var("RISKGATE_FAILOVERS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(ROUNDS);
    let (mut master, mut replica) = (Node::start(), Node::start());
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for round in 0..rounds {
        replica.follow(&master);
        let end = Instant::now() + Duration::from_secs(90);
        while !(replica.says("master_link_status:up") && master.says("connected_slaves:1")) {
            assert!(Instant::now() < end, "the replica does not follow");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let binding = pseudonym(7);
        let ticket = |n: u64| pseudonym(round * 1_000 + n);
        for n in 0..TICKETS {
            let issued = master.store.issue_ticket(ticket(n), binding, START, MINUTE);
            issued.await.unwrap();
        }
        let mut clients = tokio::task::JoinSet::new();
        for n in 0..TICKETS {
            for (node, store) in [&master.store, &replica.store].into_iter().enumerate() {
                for turn in 0..2 {
                    let store = Arc::clone(store);
                    // Some before, some during, some after the change.
                    let wait = Duration::from_micros(hash(round * 97 + n * 4 + turn) % 20_000);
                    let ticket = ticket(n);
                    clients.spawn(async move {
                        tokio::time::sleep(wait).await;
                        (n, node, store.redeem_ticket(ticket, binding, START).await)
                    });
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        replica.lead();
        let mut redeemed = BTreeMap::new();
        while let Some(done) = clients.join_next().await {
            let (n, node, result) = done.unwrap();
            let said = match result {
                Ok(Redemption::Redeemed) => {
                    redeemed.entry(n).or_insert_with(Vec::new).push(node);
                    "redeemed"
                }
                Ok(Redemption::AlreadyRedeemed) => "redeemed before",
                Ok(Redemption::Unknown) => "refused",
                // A replica takes no writes, or nobody has acknowledged: refused as well.
                Err(_) => "error",
            };
            *counts.entry(said).or_default() += 1;
        }
        for (n, nodes) in redeemed {
            assert_eq!(nodes.len(), 1, "round {round}: ticket {n} by {nodes:?}");
        }
        // The new master gives tickets that are good.
        let fresh = ticket(900);
        let end = Instant::now() + Duration::from_secs(60);
        // Its connection was lost with every attempt on a replica, and is not made again at once for ever.
        while let Err(error) = replica
            .store
            .issue_ticket(fresh, binding, START, MINUTE)
            .await
        {
            assert!(Instant::now() < end, "round {round}: {error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let good = replica.store.redeem_ticket(fresh, binding, START).await;
        assert_eq!(good, Ok(Redemption::Redeemed), "round {round}");
        std::mem::swap(&mut master, &mut replica);
    }
    let redeemed = counts.get("redeemed").copied().unwrap_or(0);
    assert!(redeemed >= rounds, "{counts:?}");
    eprintln!(
        "tickets over failovers: {rounds} failovers, {} tickets, redeemed twice: 0; attempts {counts:?}",
        rounds * TICKETS
    );
}
