//! A configuration in a folder of its own, what `run` and `check` say of it, and how they end.

use crate::gateway::redis::free_port;
use crate::gateway::root;
use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;

/// How long a wrong configuration may take to be found.
const FOUND_WITHIN: Duration = Duration::from_secs(90);

/// A configuration in a folder of its own.
pub struct Setup {
    folder: TempDir,
    listen: u16,
    admin: u16,
}

/// How a process ended.
#[derive(Debug)]
pub struct Ending {
    pub code: Option<i32>,
    pub text: String,
}

impl Setup {
    /// A configuration that is right, with `changes` in dotted keys; `changes` wins.
    pub fn with(changes: &str) -> Self {
        Self::on(free_port(), free_port(), changes)
    }

    pub fn on(listen: u16, admin: u16, changes: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = root().display();
        let defaults = [
            format!("server.listen = \"127.0.0.1:{listen}\""),
            format!("admin.listen = \"127.0.0.1:{admin}\""),
            format!("upstream.url = \"http://127.0.0.1:{}\"", free_port()),
            format!("policy.file = '{root}/conf/policy.toml'"),
            format!("model.dir = '{root}/conf/model'"),
            format!("model.library = '{root}/vendor/onnxruntime/libonnxruntime.so'"),
            format!(
                "state.data_dir = '{}'",
                folder.path().join("data").display()
            ),
        ];
        let key = |line: &str| line.split('=').next().map(|key| key.trim().to_owned());
        let changed: Vec<_> = changes.lines().map(key).collect();
        let kept = defaults.iter().filter(|line| !changed.contains(&key(line)));
        let text = kept
            .cloned()
            .chain([changes.to_owned()])
            .collect::<Vec<_>>()
            .join("\n");
        fs::write(folder.path().join("riskgate.toml"), text).expect("a configuration file");
        Self {
            folder,
            listen,
            admin,
        }
    }

    pub fn file(&self) -> String {
        self.folder
            .path()
            .join("riskgate.toml")
            .display()
            .to_string()
    }

    pub fn start(&self, args: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_riskgate"))
            .args(args)
            .args(["-c", &self.file()])
            .current_dir(self.folder.path())
            .env_remove("ORT_DYLIB_PATH")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("riskgate starts")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The address of operators, for those who wait for it to open.
    pub fn admin(&self) -> (&'static str, u16) {
        ("127.0.0.1", self.admin)
    }

    /// `riskgate run`, knocking at both ports until it has ended: nobody may ever open.
    pub fn run(&self) -> Ending {
        let mut child = self.start(&["run"]);
        let end = Instant::now() + FOUND_WITHIN;
        while child
            .try_wait()
            .expect("the process can be asked")
            .is_none()
        {
            for port in [self.listen, self.admin] {
                let open = TcpStream::connect(("127.0.0.1", port)).is_ok();
                if open || Instant::now() > end {
                    child.kill().expect("the process can be ended");
                    panic!("port {port} open: {open}; {:?}", finish(child));
                }
            }
        }
        finish(child)
    }

    /// `riskgate run` where a port is taken, so that there is nothing to knock at.
    pub fn run_unwatched(&self) -> Ending {
        let mut child = self.start(&["run"]);
        let end = Instant::now() + FOUND_WITHIN;
        while child
            .try_wait()
            .expect("the process can be asked")
            .is_none()
        {
            if Instant::now() > end {
                child.kill().expect("the process can be ended");
                panic!("still running: {:?}", finish(child));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        finish(child)
    }

    pub fn check(&self, args: &[&str]) -> Ending {
        let mut all = vec!["check"];
        all.extend(args);
        finish(self.start(&all))
    }
}

pub fn finish(mut child: Child) -> Ending {
    let mut text = String::new();
    let (mut out, mut errors) = (
        child.stdout.take().expect("a pipe"),
        child.stderr.take().expect("a pipe"),
    );
    out.read_to_string(&mut text).expect("text");
    errors.read_to_string(&mut text).expect("text");
    let code = child.wait().expect("the process ends").code();
    Ending { code, text }
}

impl Ending {
    /// Exit code 2, and one message says all of this.
    pub fn assert_says(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(2), "{}", self.text);
        for part in parts {
            assert!(
                self.text.contains(part),
                "`{part}` is not in: {}",
                self.text
            );
        }
        assert!(!self.text.contains("panicked"), "{}", self.text);
    }

    /// What was said at the end.
    pub fn complaint(&self) -> Vec<&str> {
        let lines = self.text.lines();
        lines
            .skip_while(|line| !line.starts_with("riskgate: "))
            .collect()
    }
}
