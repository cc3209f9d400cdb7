//! From the configuration to what a client may take of the public listener.

use crate::config::Config;
use crate::config::ConfigError;
use crate::proxy::edge::EdgeSettings;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Descriptors for everything but clients' connections and the upstream connections that serve them: state, records,
/// model, databases, and the listeners of operators and WSO2 with theirs.
const RESERVE: usize = 96;
/// The most connections that are taken unless a number is given.
const CONNECTIONS_MAX: usize = 65_536;
/// The least that make sense.
const CONNECTIONS_MIN: usize = 16;
/// Where the system does not say.
const DESCRIPTORS: usize = 1_024;
/// What a node takes without connections, and what one takes at most (docs/guides/planning.md).
const NODE_BYTES: u64 = 850 << 20;
const CONNECTION_BYTES: u64 = 280 << 10;
/// However little memory there is: a node that has less than it needs is not helped by turning everybody away.
const CONNECTIONS_IN_MEMORY_MIN: u64 = 512;
/// Where control groups are.
const GROUPS: &str = "/sys/fs/cgroup";

/// The settings, or every key that is wrong.
pub fn settings(config: &Config, file: &str) -> Result<EdgeSettings, Vec<ConfigError>> {
    let server = &config.server;
    let mut problems = Vec::new();
    let mut seconds = |key: &str, value: u64, range: RangeInclusive<u64>| {
        if !range.contains(&value) {
            let (least, most) = (range.start(), range.end());
            let problem = format!("server.{key}: {value}, expected {least} to {most}");
            problems.push(ConfigError::new(file, problem));
        }
        Duration::from_secs(value)
    };
    let settings = EdgeSettings {
        handshake: seconds(
            "handshake_timeout_seconds",
            server.handshake_timeout_seconds,
            1..=300,
        ),
        head: seconds("head_timeout_seconds", server.head_timeout_seconds, 1..=300),
        keepalive: seconds("keepalive_seconds", server.keepalive_seconds, 1..=3600),
        connections_max: match server.connections_max {
            0 => {
                let by_files = connections_for(descriptors().unwrap_or(DESCRIPTORS));
                memory().map_or(by_files, |bytes| by_files.min(connections_in(bytes)))
            }
            given => given,
        },
        connections_per_address_max: server.connections_per_address_max,
        streams_max: server.streams_max,
    };
    seconds(
        "body_timeout_seconds",
        server.body_timeout_seconds,
        1..=3600,
    );
    seconds(
        "write_timeout_seconds",
        server.write_timeout_seconds,
        1..=3600,
    );
    if !(1..=1000).contains(&server.streams_max) {
        let found = server.streams_max;
        let problem = format!("server.streams_max: {found}, expected 1 to 1000");
        problems.push(ConfigError::new(file, problem));
    }
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(problems)
    }
}

/// Half of what is left, since a request may need a connection to an upstream.
fn connections_for(descriptors: usize) -> usize {
    let clients = descriptors.saturating_sub(RESERVE) / 2;
    clients.clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
}

/// What fits into a limit of so many bytes.
fn connections_in(bytes: u64) -> usize {
    let clients = bytes.saturating_sub(NODE_BYTES) / CONNECTION_BYTES;
    usize::try_from(clients.max(CONNECTIONS_IN_MEMORY_MIN)).unwrap_or(usize::MAX)
}

/// The memory that the control groups of this process leave it, in bytes; `None` where they set no limit.
fn memory() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let read = |path: &str| std::fs::read_to_string(path).ok();
    limits_of(&groups)
        .iter()
        .filter_map(|path| read(path)?.trim().parse().ok())
        .min()
}

/// The files in which limits of memory may stand, by what the process is told of its groups: those of each group that it is
/// in. Inside a container the groups above it are not to be seen.
fn limits_of(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(kinds), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (folder, name) = match kinds {
            "" => (GROUPS.to_owned(), "memory.max"),
            kinds if kinds.split(',').any(|kind| kind == "memory") => {
                (format!("{GROUPS}/memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        loop {
            files.push(format!("{folder}{path}/{name}"));
            let Some((above, _)) = path.rsplit_once('/') else {
                break;
            };
            path = above;
        }
    }
    files
}

/// The limit of open files of this process.
fn descriptors() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    soft_limit(&limits)
}

fn soft_limit(limits: &str) -> Option<usize> {
    let rest = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match rest.split_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_left_for_everything_else() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            256                  524288               files\n";
        assert_eq!(soft_limit(limits), Some(256));
        assert_eq!(connections_for(256), 80);
        assert_eq!(connections_for(0), 16);
        assert_eq!(connections_for(usize::MAX), 65_536);
    }

    #[test]
    fn what_does_not_fit_into_memory_is_not_taken() {
        assert_eq!(connections_in(2 << 30), 4_381);
        assert_eq!(connections_in(512 << 20), 512);
        assert_eq!(connections_in(0), 512);
        // A limit of the first kind of groups that is none.
        assert!(connections_in(0x7FFF_FFFF_FFFF_F000) > CONNECTIONS_MAX);
        assert_eq!(
            limits_of("0::/system.slice/riskgate.service\n"),
            [
                "/sys/fs/cgroup/system.slice/riskgate.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            limits_of("5:cpu,cpuacct:/a\n4:memory:/docker/1\n0::/\n"),
            [
                "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert!(limits_of("nonsense").is_empty());
    }

    #[test]
    fn every_wrong_key_is_named() {
        let text = "[server]\nhead_timeout_seconds = 0\nstreams_max = 0\n";
        let config = Config::parse(text).unwrap();
        let problems = settings(&config, "f").unwrap_err();
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "f: server.head_timeout_seconds: 0, expected 1 to 300",
                "f: server.streams_max: 0, expected 1 to 1000"
            ]
        );
    }
}
