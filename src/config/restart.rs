//! Which keys are read at the start alone: what a reload does not take over, and says so.

use crate::config::ActionsSettings;
use crate::config::AdminSettings;
use crate::config::Config;
use crate::config::ScoreSettings;
use crate::config::ServerSettings;
use crate::config::UpstreamSettings;
use crate::config::alerts::AlertSettings;
use crate::config::audit::AuditSettings;

/// Pushes the keys of a section that differ and are read at the start alone. Every key of it is named once, so that a new one
/// asks for its place.
macro_rules! differing {
    ($found:ident, $section:literal, $of:ident, $old:expr, $new:expr,
     start: [$($start:ident),*], reload: [$($reload:ident),*]) => {{
        let ($of { $($start,)* $($reload: _,)* }, new) = ($old, $new);
        $(if *$start != new.$start {
            $found.push(concat!($section, ".", stringify!($start)));
        })*
    }};
}

/// The keys in which `new` differs from what the process began with, and which it would have to be restarted for.
pub fn keys(began: &Config, new: &Config) -> Vec<&'static str> {
    let mut found = Vec::new();
    // A new section asks for its place as well.
    let Config {
        server,
        upstream,
        admin,
        actions,
        mode: _,
        rollout: _,
        step_up: _,
        review: _,
        policy: _,
        model: _,
        score,
        state,
        geo,
        limits,
        routes: _,
        resource: _,
        headers: _,
        keys,
        signing: _,
        audit,
        alerts,
        shared_signals: _,
        traces,
        log,
    } = began;
    differing!(found, "server", ServerSettings, server, &new.server,
        start: [listen, threads, handshake_timeout_seconds, head_timeout_seconds, body_timeout_seconds,
            write_timeout_seconds, keepalive_seconds, connections_max, connections_per_address_max, streams_max,
            drain_seconds, grace_seconds],
        reload: [hosts, trusted_proxies, tls]);
    differing!(found, "upstream", UpstreamSettings, upstream, &new.upstream,
        start: [url, connect_timeout_ms, read_timeout_seconds, idle_timeout_seconds, requests_max,
            reuse_for_posts, danger],
        reload: [ca_file, client_certificate, client_key, management, refresh_token_hours]);
    differing!(found, "admin", AdminSettings, admin, &new.admin,
        start: [listen, token_file, operators_file, origin, hosts], reload: [oidc]);
    differing!(found, "actions", ActionsSettings, actions, &new.actions,
        start: [listen], reload: [secret_file, previous_secret_file, tls]);
    differing!(found, "score", ScoreSettings, score, &new.score,
        start: [concurrency_max, cache_seconds, cache_entries, pool_threads, breaker], reload: [budget_ms]);
    differing!(found, "audit", AuditSettings, audit, &new.audit,
        start: [file, mode, node, people_key_file, checkpoint_records, checkpoint_seconds, rotate_mib, rotate_hours,
            keep_files, keep_days],
        reload: [passed, stream]);
    differing!(found, "alerts", AlertSettings, alerts, &new.alerts,
        start: [url, secret_file, verdicts, score_min], reload: [ca_file]);
    // Of the sections below nothing is taken over but the authorities that they trust.
    let mut others = new.clone();
    others.state.redis_ca_file.clone_from(&state.redis_ca_file);
    others.traces.ca_file.clone_from(&traces.ca_file);
    others
        .audit
        .stream
        .ca_file
        .clone_from(&audit.stream.ca_file);
    let whole = [
        ("state", *state != others.state),
        ("audit.stream", audit.stream != others.audit.stream),
        ("geo", *geo != new.geo),
        ("limits", *limits != new.limits),
        ("keys", *keys != new.keys),
        ("traces", *traces != others.traces),
        ("log", *log != new.log),
        // It leads browsers back to the console by its name.
        (
            "admin.oidc",
            admin.oidc != new.admin.oidc && admin.origin != new.admin.origin,
        ),
        // Other files are taken over where there were some.
        (
            "server.tls",
            server.tls.is_some() != new.server.tls.is_some(),
        ),
        (
            "actions.secret_file",
            actions.secret_file.is_some() != new.actions.secret_file.is_some(),
        ),
        (
            "actions.tls",
            actions.tls.is_some() != new.actions.tls.is_some(),
        ),
        (
            "upstream.client_certificate",
            upstream.client_certificate.is_some() != new.upstream.client_certificate.is_some(),
        ),
    ];
    found.extend(whole.iter().filter(|(_, is)| *is).map(|(key, _)| key));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(began: &str, new: &str) -> Vec<&'static str> {
        let of = |text: &str| Config::parse(text).unwrap();
        keys(&of(began), &of(new))
    }

    #[test]
    fn what_needs_a_restart_is_named_key_by_key() {
        let oidc = "[admin.oidc]\nissuer = 'https://a'\nclient_id = 'a'\n";
        for (began, new, expected) in [
            ("", "", &[][..]),
            (
                "",
                &format!("[admin]\norigin = 'https://b'\n{oidc}"),
                &["admin.origin", "admin.oidc"],
            ),
            (
                "",
                "[upstream]\nclient_certificate = 'a'\nclient_key = 'a'",
                &["upstream.client_certificate"],
            ),
            (
                "[limits]\nuser_per_minute = 1",
                "[limits]\nuser_per_minute = 2\n[server]\nthreads = 3\nkeepalive_seconds = 1\n[alerts]\nscore_min = 3",
                &[
                    "server.threads",
                    "server.keepalive_seconds",
                    "alerts.score_min",
                    "limits",
                ],
            ),
            (
                "",
                "[server.tls]\ncertificate = 'a'\nkey = 'a'",
                &["server.tls"],
            ),
            (
                "",
                "[actions.tls]\ncertificate = 'a'\nkey = 'a'",
                &["actions.tls"],
            ),
        ] {
            assert_eq!(changed(began, new), expected, "{new}");
            // Also what is taken away.
            assert_eq!(changed(new, began), expected, "{new}");
        }
    }

    #[test]
    fn what_is_taken_over_is_not_named() {
        let management = "[upstream.management]\nclient_id = 'a'\nsecret_file = 'a'\n";
        let ends = format!("{management}end_sessions = true\n");
        let receiver = "[shared_signals]\nissuer = 'a'\n[[shared_signals.receivers]]\nname = 'a'\n";
        let other = "[shared_signals]\nissuer = 'b'\nmodes = ['monitor']\n[[shared_signals.receivers]]\nname = 'b'\n\
                     delivery = 'poll'\ntoken_file = 'b'\nevents = []\n";
        for (began, new) in [
            ("", management),
            ("", receiver),
            (receiver, other),
            (receiver, ""),
            (management, ends.as_str()),
            ("", "[admin.oidc]\nissuer = 'https://a'\nclient_id = 'a'\n"),
            (
                "",
                "[mode]\ndefault = 'advise'\n[score]\nbudget_ms = 9\n[audit]\npassed = false",
            ),
            (
                "",
                "[server]\nhosts = ['a']\ntrusted_proxies = ['10.0.0.0/8']\n[signing]\nenabled = true",
            ),
            (
                "[server.tls]\ncertificate = 'a'\nkey = 'a'\n[upstream]\nclient_certificate = 'a'\nclient_key = 'a'",
                "[server.tls]\ncertificate = 'b'\nkey = 'b'\n[upstream]\nclient_certificate = 'b'\nclient_key = 'b'",
            ),
            (
                "[upstream]\nca_file = 'a'",
                "[upstream]\nca_file = 'b'\n[state]\nredis_ca_file = 'b'\n[alerts]\nca_file = 'b'\n[traces]\nca_file = 'b'\n\
                 [audit.stream]\nca_file = 'b'",
            ),
            (
                "[server.tls]\ncertificate = 'a'\nkey = 'a'",
                "[server.tls]\ncertificate = 'a'\nkey = 'a'\nclient_ca_file = 'a'\nclient_certificates = 'optional'",
            ),
        ] {
            assert_eq!(changed(began, new), [""; 0], "{new}");
        }
    }
}
