//! Signals for the gateway of a world, its crash, and other processes in its place.

use super::Node;
use super::PATIENCE;
use super::World;
use super::process;
use super::process::Process;
use super::process::Sockets;
use std::time::Duration;
use std::time::Instant;

impl World {
    /// Sends the gateway a signal, such as `HUP`.
    pub fn signal(&self, name: &str) {
        self.process().signal(name);
    }

    /// Waits for the end of the gateway: its exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        self.own_process().ended().await
    }

    /// The id of the gateway's process.
    pub fn process_id(&self) -> u32 {
        self.process().id()
    }

    /// Ends the gateway with SIGTERM, and starts it again after what happens meanwhile.
    pub async fn restart_after(&mut self, meanwhile: impl FnOnce(&Self)) {
        assert_eq!(self.own_process().stop().await, Some(0), "{}", self.log());
        meanwhile(self);
        *self.own_process() = Process::start(self.folder.path(), self.admin_port).await;
    }

    /// Kills the gateway and starts it again on what it left: how long it took to be ready.
    pub async fn crash(&mut self) -> Duration {
        self.own_process().kill();
        let start = Instant::now();
        *self.own_process() = Process::start(self.folder.path(), self.admin_port).await;
        start.elapsed()
    }

    /// Ends the gateway and leaves its sockets open for the ones that come after it.
    pub async fn onto_sockets(&mut self) -> Sockets {
        assert_eq!(self.own_process().stop().await, Some(0), "{}", self.log());
        let open = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).expect("its port");
        let sockets = Sockets {
            public: open(self.port),
            admin: open(self.admin_port),
        };
        let mut process = Process::spawn(self.folder.path(), Some(&sockets));
        process.until_ready(self.admin_port).await;
        *self.own_process() = process;
        sockets
    }

    /// Starts another process on the sockets, and ends the present one once that is as far as it comes beside it: the
    /// exit code, and how long nobody accepted.
    pub async fn hand_over(&self, sockets: &Sockets) -> (Option<i32>, Duration) {
        let stage = match self.redis {
            // Nodes on Redis serve side by side.
            Some(_) => "riskgate is ready",
            None => "waiting for the process before",
        };
        let count = || self.log().matches(stage).count();
        let before = count();
        let next = Process::spawn(self.folder.path(), Some(sockets));
        let end = Instant::now() + PATIENCE;
        while count() == before {
            assert!(Instant::now() < end, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut last = std::mem::replace(&mut *self.process(), next);
        let code = last.stop().await;
        let start = Instant::now();
        while process::admin(self.admin_port, "/health/ready")
            .await
            .is_none_or(|(status, _)| status != 200)
        {
            assert!(Instant::now() < end, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (code, start.elapsed())
    }

    /// Tries to start another process on two sockets that the configuration does not name: what it says.
    pub async fn start_on_strange_sockets(&self) -> String {
        let open = || std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let sockets = Sockets {
            public: open(),
            admin: open(),
        };
        let before = self.log().len();
        let mut process = Process::spawn(self.folder.path(), Some(&sockets));
        assert_eq!(process.ended().await, Some(2), "{}", self.log());
        self.log().split_off(before)
    }

    /// Another gateway in front of the same identity server, with a configuration of its own.
    pub async fn another_node(&self) -> Node {
        Node::start(self.folder.path()).await
    }

    pub(super) fn process(&self) -> std::sync::MutexGuard<'_, Process> {
        self.process
            .lock()
            .expect("no test panics while it holds the process")
    }

    pub(super) fn own_process(&mut self) -> &mut Process {
        self.process
            .get_mut()
            .expect("no test panics while it holds the process")
    }
}
