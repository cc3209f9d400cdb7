//! What a start needs beyond a snapshot, looked at without starting anything: a reload takes a configuration over and leaves
//! all of this as it is, so that a mistake in it would come to light with the restart.

use crate::app::actions;
use crate::app::alerts;
use crate::app::assemble;
use crate::app::assemble::Problems;
use crate::app::audit;
use crate::app::edge;
use crate::app::keys::Keys;
use crate::config::Config;

/// What the next start would refuse, as far as that shows without opening anything.
pub(in crate::app) fn problems(config: &Config, file: &str, keys: &Keys) -> Problems {
    let mut found = Problems::new();
    found.extend(
        assemble::can_be_written(config, file)
            .err()
            .into_iter()
            .flatten(),
    );
    found.extend(assemble::upstream(config, file).err());
    found.extend(edge::settings(config, file).err().into_iter().flatten());
    found.extend(actions::prepare(&config.actions, file).err());
    found.extend(assemble::store(config, file, keys).err());
    found.extend(audit::settings(config, file).err());
    found.extend(alerts::settings(config, file).err());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_next_start_refuses_is_named() {
        let of = |text: &str| -> Vec<String> {
            let config = Config::parse(text).unwrap();
            let found = problems(&config, "f", &Keys::throwaway(0));
            found.iter().map(ToString::to_string).collect()
        };
        let data = std::env::temp_dir();
        let data = format!("state.data_dir = '{}'\n", data.display());
        assert_eq!(of(&data), Vec::<String>::new());
        for (text, expected) in [
            (
                "server.head_timeout_seconds = 0",
                "f: server.head_timeout_seconds: 0, expected 1 to 300",
            ),
            (
                "upstream.url = 'wso2:9443'",
                "f: upstream.url: `wso2:9443`: expected https://host:port",
            ),
            (
                "audit.checkpoint_seconds = 0",
                "f: audit.checkpoint_seconds: 0, expected 1 to 86400",
            ),
            (
                "alerts.url = 'https://a.example'",
                "f: alerts.secret_file: missing",
            ),
            (
                "state.sentinel_username = 'a'",
                "f: state.sentinel_username: there is no",
            ),
        ] {
            let found = of(&format!("{data}{text}"));
            assert!(
                found.len() == 1 && found[0].starts_with(expected),
                "{text}: {found:?}"
            );
        }
    }
}
