//! Tomcat 9 from its Debian package, with the applications of `Container.java`.

use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;

/// Where Debian puts the libraries.
const LIBRARIES: &str = "/usr/share/java";

/// A running container. Dropping it ends the process.
pub(crate) struct Container {
    child: Child,
    /// Where the gateway goes.
    pub(crate) port: u16,
    /// Where a client goes that has found a way around the gateway.
    pub(crate) direct: u16,
}

impl Container {
    /// Starts it; ready when it returns.
    pub(crate) fn start() -> Self {
        let mut child = Command::new("java")
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-cp"])
            .arg(format!("{}:{}", class_path(), classes().display()))
            .arg("Container")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("java is there: scripts/setup.sh installs it");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("Tomcat says its ports");
        let ports: Vec<u16> = line
            .split_whitespace()
            .map(|port| port.parse().expect("a port"))
            .collect();
        assert_eq!(ports.len(), 2, "Tomcat has not started: {line:?}");
        Self {
            child,
            port: ports[0],
            direct: ports[1],
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Tomcat's libraries, without translations.
fn class_path() -> String {
    let libraries = std::fs::read_dir(LIBRARIES).expect("Debian's Java libraries");
    let mut paths: Vec<String> = libraries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            let bare = name.trim_end_matches(".jar");
            name.starts_with("tomcat9-")
                && name.ends_with(".jar")
                && !name.contains("i18n")
                && !bare.ends_with(|last: char| last.is_ascii_digit())
        })
        .map(|name| format!("{LIBRARIES}/{name}"))
        .collect();
    assert!(
        !paths.is_empty(),
        "libtomcat9-java is not installed: scripts/setup.sh test installs it"
    );
    paths.sort_unstable();
    paths.join(":")
}

/// The compiled applications, once per run.
fn classes() -> &'static Path {
    static CLASSES: OnceLock<PathBuf> = OnceLock::new();
    CLASSES.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tomcat");
        std::fs::create_dir_all(&folder).expect("a folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tomcat/Container.java");
        let compiled = Command::new("javac")
            .args(["-cp", &class_path(), "-d"])
            .arg(&folder)
            .arg(source)
            .output()
            .expect("javac is there: scripts/setup.sh installs it");
        assert!(
            compiled.status.success(),
            "{}",
            String::from_utf8_lossy(&compiled.stderr)
        );
        folder
    })
}
