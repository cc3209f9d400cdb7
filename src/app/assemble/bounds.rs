//! Values that no configuration can have, whatever the rest of it says: numbers out of range, host names that no request can
//! have, one address for two listeners. Reads no file and opens nothing.

use crate::config::Config;
use crate::config::ConfigError;
use crate::flow::score::breaker::BreakerSettings;
use crate::telemetry;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

/// More workers than this are a slip of the keyboard.
const THREADS_MAX: usize = 1_024;
/// More threads than this for a model that is too slow for the workers.
const POOL_THREADS_MAX: usize = 256;
/// The longest that a request waits for anything that is counted in milliseconds.
const MILLISECONDS_MAX: u64 = 60_000;
/// The longest wait for an upstream.
const UPSTREAM_SECONDS_MAX: u64 = 3_600;
/// Ninety days: the longest that a refresh token is known. Each takes its place in the state as long.
const REFRESH_TOKEN_HOURS_MAX: u64 = 2_160;
/// A day: the longest end of a process, and life of a score that is kept.
const DAY_SECONDS: u64 = 86_400;
/// The longest that a breaker stays open.
const BREAKER_MS_MAX: u64 = 3_600_000;
/// The most scores that are kept, and the most assessments in flight.
const ENTRIES_MAX: u64 = 10_000_000;

/// Every key whose value is out of its bounds.
pub(super) fn problems(config: &Config, file: &str) -> Vec<ConfigError> {
    let mut found = Found {
        file,
        problems: Vec::new(),
    };
    numbers(config, &mut found);
    hosts("server.hosts", &config.server.hosts, &mut found);
    hosts("admin.hosts", &config.admin.hosts, &mut found);
    listeners(config, &mut found);
    if let Some(problem) = telemetry::filter_problem(&config.log.filter) {
        found.add(format!("log.filter: {problem}"));
    }
    found.problems
}

struct Found<'a> {
    file: &'a str,
    problems: Vec<ConfigError>,
}

impl Found<'_> {
    fn add(&mut self, problem: String) {
        self.problems.push(ConfigError::new(self.file, problem));
    }

    fn number<N: PartialOrd + std::fmt::Display>(
        &mut self,
        key: &str,
        value: &N,
        range: &RangeInclusive<N>,
    ) {
        if !range.contains(value) {
            let (least, most) = (range.start(), range.end());
            self.add(format!("{key}: {value}, expected {least} to {most}"));
        }
    }

    fn breaker(&mut self, section: &str, breaker: &BreakerSettings) {
        self.number(
            &format!("{section}.open_ms"),
            &breaker.open_ms,
            &(1..=BREAKER_MS_MAX),
        );
    }
}

fn numbers(config: &Config, found: &mut Found<'_>) {
    let Config {
        server,
        upstream,
        score,
        state,
        ..
    } = config;
    let (milliseconds, seconds) = (1..=MILLISECONDS_MAX, 1..=UPSTREAM_SECONDS_MAX);
    let day = 0..=DAY_SECONDS;

    found.number("server.threads", &server.threads, &(0..=THREADS_MAX));
    found.number("server.drain_seconds", &server.drain_seconds, &day);
    found.number("server.grace_seconds", &server.grace_seconds, &day);

    let of_upstream = (
        "upstream".to_owned(),
        upstream.connect_timeout_ms,
        upstream.read_timeout_seconds,
        upstream.idle_timeout_seconds,
    );
    let of_resources = config.resource.iter().enumerate().map(|(place, resource)| {
        (
            format!("resource[{place}]"),
            resource.connect_timeout_ms,
            resource.read_timeout_seconds,
            resource.idle_timeout_seconds,
        )
    });
    for (section, connect, read, idle) in std::iter::once(of_upstream).chain(of_resources) {
        for (key, value, range) in [
            ("connect_timeout_ms", connect, &milliseconds),
            ("read_timeout_seconds", read, &seconds),
            ("idle_timeout_seconds", idle, &seconds),
        ] {
            found.number(&format!("{section}.{key}"), &value, range);
        }
    }

    found.number(
        "upstream.refresh_token_hours",
        &upstream.refresh_token_hours,
        &(1..=REFRESH_TOKEN_HOURS_MAX),
    );

    found.number("score.budget_ms", &score.budget_ms, &milliseconds);
    found.number("score.cache_seconds", &score.cache_seconds, &day);
    let entries = 0..=ENTRIES_MAX;
    found.number("score.cache_entries", &score.cache_entries, &entries);
    let concurrency = score.concurrency_max as u64;
    found.number("score.concurrency_max", &concurrency, &entries);
    found.number(
        "score.pool_threads",
        &score.pool_threads,
        &(0..=POOL_THREADS_MAX),
    );
    found.breaker("score.breaker", &score.breaker);
    for (key, value) in [
        ("response_timeout_ms", state.response_timeout_ms),
        ("connect_timeout_ms", state.connect_timeout_ms),
    ] {
        found.number(&format!("state.{key}"), &value, &milliseconds);
    }
    found.breaker("state.breaker", &state.breaker);

    let percent = config.model.challenger.sample_percent;
    found.number("model.challenger.sample_percent", &percent, &(0..=100));
}

/// A name that no `Host` can equal would turn everybody away.
fn hosts(key: &str, hosts: &[String], found: &mut Found<'_>) {
    for host in hosts {
        let is_name = !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
        if !is_name {
            found.add(format!(
                "{key}: `{host}`: expected a name as in `Host`, such as `login.example.com`, without scheme, path \
                 and `*`"
            ));
        }
    }
}

fn listeners(config: &Config, found: &mut Found<'_>) {
    let mut taken: Vec<(&str, SocketAddr)> = vec![("server.listen", config.server.listen)];
    let asked = config.actions.secret_file.is_some();
    let others = [
        Some(("admin.listen", config.admin.listen)),
        asked.then_some(("actions.listen", config.actions.listen)),
    ];
    for (key, address) in others.into_iter().flatten() {
        // With port 0 each listener gets one of its own.
        let other = taken.iter().find(|(_, other)| overlap(*other, address));
        match other.filter(|_| address.port() != 0) {
            Some((other, taken)) if *taken == address => found.add(format!(
                "{key}: {address} is that of {other} already; give each listener a port of its own"
            )),
            Some((other, taken)) => found.add(format!(
                "{key}: {address} cannot be bound beside {other} {taken}; give each listener a port of its own"
            )),
            None => {}
        }
        taken.push((key, address));
    }
}

/// Whether the system lets only one of two listeners have its address: one for every address of a family takes the port
/// from all of it.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let is_every = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port()
        && (one.ip() == other.ip() || (is_every && one.is_ipv4() == other.is_ipv4()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        let config = Config::parse(text).unwrap();
        let problems = problems(&config, "f");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_shipped_is_within_its_bounds() {
        assert_eq!(of(""), Vec::<String>::new());
    }

    #[test]
    fn numbers_that_cannot_work_are_named_with_their_bounds() {
        let text = format!(
            "[server]\nthreads = 100000\ndrain_seconds = {most}\n[upstream]\nconnect_timeout_ms = 0\n\
             [score]\nbudget_ms = 0\ncache_seconds = {most}\nconcurrency_max = {most}\n[state.breaker]\nopen_ms = 0\n\
             [model.challenger]\nsample_percent = 101\n\
             [[resource]]\nprefix = '/a'\nupstream = 'http://a'\naudience = 'a'\nread_timeout_seconds = 0\n",
            most = i64::MAX
        );
        let most = i64::MAX;
        assert_eq!(
            of(&text),
            [
                "f: server.threads: 100000, expected 0 to 1024".to_owned(),
                format!("f: server.drain_seconds: {most}, expected 0 to 86400"),
                "f: upstream.connect_timeout_ms: 0, expected 1 to 60000".to_owned(),
                "f: resource[0].read_timeout_seconds: 0, expected 1 to 3600".to_owned(),
                "f: score.budget_ms: 0, expected 1 to 60000".to_owned(),
                format!("f: score.cache_seconds: {most}, expected 0 to 86400"),
                format!("f: score.concurrency_max: {most}, expected 0 to 10000000"),
                "f: state.breaker.open_ms: 0, expected 1 to 3600000".to_owned(),
                "f: model.challenger.sample_percent: 101, expected 0 to 100".to_owned(),
            ]
        );
    }

    #[test]
    fn a_host_that_no_request_can_name_is_refused() {
        for good in ["login.example.com", "login.example.com:8443", "[::1]"] {
            assert!(
                of(&format!("server.hosts = ['{good}']")).is_empty(),
                "{good}"
            );
        }
        for wrong in ["https://login.example.com", "*.example.com", "", "a b"] {
            for key in ["server.hosts", "admin.hosts"] {
                let found = of(&format!("{key} = ['{wrong}']"));
                let [problem] = found.as_slice() else {
                    panic!("{wrong}: {found:?}");
                };
                assert!(problem.starts_with(&format!("f: {key}: `{wrong}`: expected a name")));
            }
        }
    }

    #[test]
    fn two_listeners_do_not_share_an_address() {
        let both = "server.listen = '127.0.0.1:9'\nadmin.listen = '127.0.0.1:9'\n";
        assert_eq!(
            of(both),
            [
                "f: admin.listen: 127.0.0.1:9 is that of server.listen already; give each listener a port of its own"
            ]
        );
        assert!(of(&both.replace(":9", ":0")).is_empty());
        for (one, other) in [("0.0.0.0", "127.0.0.1"), ("[::1]", "[::]")] {
            let beside = format!("server.listen = '{one}:9'\nadmin.listen = '{other}:9'\n");
            let found = of(&beside);
            let expected = format!("cannot be bound beside server.listen {one}:9");
            assert!(
                found.len() == 1 && found[0].contains(&expected),
                "{found:?}"
            );
        }
        let apart = "server.listen = '0.0.0.0:9'\nadmin.listen = '[::1]:9'\n";
        assert!(of(apart).is_empty());
        // Where WSO2 does not ask, nothing listens for it.
        let actions = "admin.listen = '127.0.0.1:9'\nactions.listen = '127.0.0.1:9'\n";
        assert!(of(actions).is_empty());
        let asked = format!("{actions}actions.secret_file = 's'\n");
        assert!(
            of(&asked)[0].starts_with("f: actions.listen: 127.0.0.1:9 is that of admin.listen")
        );
    }

    #[test]
    fn a_word_that_is_no_level_does_not_silence_the_log() {
        let found = of("log.filter = 'inof'");
        assert!(
            found[0].starts_with("f: log.filter: `inof`: expected a level"),
            "{found:?}"
        );
    }
}
