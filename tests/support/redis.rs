//! A real Redis for tests: an ephemeral loopback port, a folder of its own, ended by its process id.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;

/// How long a server may take to answer its first `PING`.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The ports of servers begin here, after those of the gateways.
const FIRST_PORT: u16 = 22_000;
/// How many there are; those that the system gives to outgoing connections begin at 32,768.
const PORTS: u32 = 10_000;

/// A running `redis-server`. Dropping it ends the process.
pub struct RedisServer {
    folder: TempDir,
    port: u16,
    /// Of a node of a cluster.
    bus: u16,
    tls: bool,
    args: Vec<String>,
    child: Option<Child>,
}

#[allow(dead_code, reason = "each test binary uses a part of the harness")]
impl RedisServer {
    /// A server with nothing but memory.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A server with further arguments, such as `["--requirepass", "secret"]`.
    pub fn start_with(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let args = args.iter().map(ToString::to_string).collect();
        let mut server = Self {
            folder,
            port: free_port(),
            bus: 0,
            tls: false,
            args,
            child: None,
        };
        server.spawn();
        server
    }

    /// A server on a port that was chosen before, such as a node of a cluster.
    pub fn start_on(port: u16, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let args = args.iter().map(ToString::to_string).collect();
        let mut server = Self {
            folder,
            port,
            bus: 0,
            tls: false,
            args,
            child: None,
        };
        server.spawn();
        server
    }

    /// A Sentinel with this configuration.
    pub fn start_sentinel(configuration: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let file = folder.path().join("sentinel.conf");
        let text = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\n{configuration}",
            folder.path().display()
        );
        fs::write(&file, text).expect("a configuration file");
        let args = vec![file.display().to_string(), "--sentinel".to_owned()];
        let mut server = Self {
            folder,
            port,
            bus: 0,
            tls: false,
            args,
            child: None,
        };
        server.spawn();
        server
    }

    /// A node of a cluster, without slots and without friends.
    pub fn start_cluster_node() -> Self {
        // A node writes its file, and waits for the disk, whenever a slot moves: in memory, where there is some.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        // The bus port is the port plus 10,000 unless said otherwise.
        let bus = free_port();
        let args = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "15000",
        ];
        let args = args.map(str::to_owned).into_iter();
        let mut node = Self {
            folder: folder.expect("a temporary folder"),
            port: free_port(),
            bus,
            tls: false,
            args: args
                .chain(["--cluster-port".to_owned(), bus.to_string()])
                .collect(),
            child: None,
        };
        node.spawn();
        node
    }

    /// A replica of this master of a cluster; in step when it returns.
    pub fn start_cluster_replica(&self) -> Self {
        let replica = Self::start_cluster_node();
        let (port, bus) = (self.port.to_string(), self.bus.to_string());
        replica.command(&[
            b"CLUSTER",
            b"MEET",
            b"127.0.0.1",
            port.as_bytes(),
            bus.as_bytes(),
        ]);
        let answer = self.command(&[b"CLUSTER", b"MYID"]);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let id = answer.lines().nth(1).expect("an id").trim().to_owned();
        let end = Instant::now() + START_TIMEOUT * 3;
        let mut follows = false;
        let is_in_step = || {
            let info = replica.command(&[b"INFO", b"replication"]);
            String::from_utf8_lossy(&info).contains("master_link_status:up")
        };
        while !is_in_step() {
            // It has to hear of its master first.
            let follow: [&[u8]; 3] = [b"CLUSTER", b"REPLICATE", id.as_bytes()];
            follows = follows || replica.command(&follow) == b"+OK\r\n";
            assert!(Instant::now() < end, "the replica does not follow");
            std::thread::sleep(Duration::from_millis(100));
        }
        replica
    }

    /// Three masters of a cluster that share all slots.
    pub fn start_cluster() -> Vec<Self> {
        let servers: Vec<Self> = (0..3).map(|_| Self::start_cluster_node()).collect();
        let bus = servers[0].bus.to_string();
        let first = servers[0].port.to_string();
        for (n, server) in servers.iter().enumerate() {
            let (from, to) = (n * 5_462, ((n + 1) * 5_462 - 1).min(16_383));
            let range = [from.to_string(), to.to_string()];
            server.command(&[
                b"CLUSTER",
                b"ADDSLOTSRANGE",
                range[0].as_bytes(),
                range[1].as_bytes(),
            ]);
            if n > 0 {
                server.command(&[
                    b"CLUSTER",
                    b"MEET",
                    b"127.0.0.1",
                    first.as_bytes(),
                    bus.as_bytes(),
                ]);
            }
        }
        let end = Instant::now() + START_TIMEOUT * 3;
        let is_ok = |server: &Self| {
            let info = server.command(&[b"CLUSTER", b"INFO"]);
            let info = String::from_utf8_lossy(&info).into_owned();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        };
        while !servers.iter().all(is_ok) {
            assert!(Instant::now() < end, "the cluster does not come up");
            std::thread::sleep(Duration::from_millis(100));
        }
        servers
    }

    /// Masters of a cluster are patient with each other, so that a busy machine changes nothing; from now on these miss one that
    /// is gone within seconds.
    pub fn fail_over_soon(servers: &[Self]) {
        for server in servers {
            let set: [&[u8]; 4] = [b"CONFIG", b"SET", b"cluster-node-timeout", b"2000"];
            assert_eq!(server.command(&set), b"+OK\r\n");
        }
    }

    /// A server that speaks TLS only, with the certificate and key at these paths.
    pub fn start_tls(certificate: &Path, key: &Path, authority: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let text = |path: &Path| path.display().to_string();
        let args = [
            "--tls-cert-file",
            &text(certificate),
            "--tls-key-file",
            &text(key),
            "--tls-ca-cert-file",
            &text(authority),
            "--tls-auth-clients",
            "no",
        ]
        .map(str::to_owned)
        .to_vec();
        let mut server = Self {
            folder,
            port: free_port(),
            bus: 0,
            tls: true,
            args,
            child: None,
        };
        server.spawn();
        server
    }

    /// `redis://127.0.0.1:PORT`, or `rediss://localhost:PORT` with TLS.
    pub fn url(&self) -> String {
        if self.tls {
            format!("rediss://localhost:{}", self.port)
        } else {
            format!("redis://127.0.0.1:{}", self.port)
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Stops the process where it stands (SIGSTOP): connections stay open and nothing answers.
    pub fn stop(&self) {
        self.signal("STOP");
    }

    /// Lets a stopped process go on.
    pub fn cont(&self) {
        self.signal("CONT");
    }

    /// Ends the process at once (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the server can be killed");
            child.wait().expect("the server ends");
        }
    }

    /// Starts the server again on the same port, empty.
    pub fn restart(&mut self) {
        self.kill();
        self.spawn();
    }

    /// The answer to one command, as text of the protocol (RESP2).
    pub fn command(&self, args: &[&[u8]]) -> Vec<u8> {
        self.try_command(args).expect("the server answers")
    }

    /// The same, once the password is said.
    pub fn command_as(&self, password: &str, args: &[&[u8]]) -> Vec<u8> {
        self.exchange(&[&[b"AUTH", password.as_bytes()], args])
            .expect("the server answers")
    }

    fn try_command(&self, args: &[&[u8]]) -> io::Result<Vec<u8>> {
        self.exchange(&[args])
    }

    fn exchange(&self, commands: &[&[&[u8]]]) -> io::Result<Vec<u8>> {
        let mut request = Vec::new();
        for args in commands {
            request.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
            for arg in *args {
                request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
                request.extend_from_slice(arg);
                request.extend_from_slice(b"\r\n");
            }
        }
        let mut answer = Vec::new();
        // The server answers what it has read before it notices the end.
        if self.tls {
            let mut stream = UnixStream::connect(self.socket())?;
            stream.set_read_timeout(Some(START_TIMEOUT))?;
            stream.write_all(&request)?;
            stream.shutdown(Shutdown::Write)?;
            stream.read_to_end(&mut answer)?;
        } else {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(START_TIMEOUT))?;
            stream.write_all(&request)?;
            stream.shutdown(Shutdown::Write)?;
            stream.read_to_end(&mut answer)?;
        }
        Ok(answer)
    }

    /// Where a server with TLS is asked by the tests themselves.
    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// Where the connections of others come from.
    pub fn peers(&self) -> BTreeSet<String> {
        let answer = self.command(&[b"CLIENT", b"LIST"]);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let addresses = text.lines().filter_map(|line| {
            let (_, rest) = line.split_once(" addr=127.0.0.1:")?;
            rest.split(' ').next().map(str::to_owned)
        });
        addresses.collect()
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.pid().to_string()])
            .status();
        assert!(
            status.expect("kill runs").success(),
            "SIG{name} for the server"
        );
    }

    fn spawn(&mut self) {
        let log = fs::File::create(self.folder.path().join("redis.log")).expect("a log file");
        let port = self.port.to_string();
        let (plain, tls) = if self.tls {
            ("0", port.as_str())
        } else {
            (port.as_str(), "0")
        };
        let mut command = Command::new("redis-server");
        // A Sentinel has all it needs in its file, which must come first.
        if !self.args.iter().any(|arg| arg == "--sentinel") {
            command.args(["--bind", "127.0.0.1", "--port", plain, "--tls-port", tls]);
            command
                .args(["--save", "", "--appendonly", "no", "--dir"])
                .arg(self.folder.path());
        }
        if self.tls {
            command.arg("--unixsocket").arg(self.socket());
        }
        let child = command
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => self.child = Some(child),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                panic!("redis-server is missing: install the Debian package `redis-server`")
            }
            Err(error) => panic!("redis-server cannot be started: {error}"),
        }
        let end = Instant::now() + START_TIMEOUT;
        while !self.is_up() {
            assert!(
                Instant::now() < end,
                "redis-server does not answer: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_up(&self) -> bool {
        if self.tls {
            return TcpStream::connect(("127.0.0.1", self.port)).is_ok() && self.socket().exists();
        }
        // With a password the answer is an error, and it is an answer.
        self.try_command(&[b"PING"])
            .is_ok_and(|answer| !answer.is_empty() && !answer.starts_with(b"-LOADING"))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("redis.log")).unwrap_or_default()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that was free a moment ago, below those that the system gives to outgoing connections: none of them takes it before
/// the server does, or while the server is away.
pub fn free_port() -> u16 {
    free_port_from(FIRST_PORT)
}

/// The same, of those that begin at `first`.
pub fn free_port_from(first: u16) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test binaries that run side by side begin at different places.
    let offset = std::process::id().wrapping_mul(61);
    for _ in 0..PORTS {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = first + u16::try_from(offset.wrapping_add(step) % PORTS).expect("a port");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
