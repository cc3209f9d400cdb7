//! The groups and roles of the user behind a token, as the token or the identity server's call names them. They are names
//! that others have chosen: bounded in length and number, and nothing but text.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// Groups that are read of one token.
pub const TOKEN_GROUPS_MAX: usize = 16;
/// The longest name of a group that is kept, in bytes.
pub const GROUP_BYTES_MAX: usize = 96;
/// The claims that name them.
pub const GROUP_CLAIMS: [&str; 2] = ["groups", "roles"];
/// Roles that WSO2 gives to every user: a line of theirs would be that of the whole application.
const OF_EVERYBODY: [&str; 2] = ["everyone", "Internal/everyone"];

/// The groups and roles of a user.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Groups {
    names: BTreeSet<String>,
    is_whole: bool,
}

/// The claims of a token that name groups (WSO2 writes a list, or one name alone as a text).
#[derive(Debug, Default, Deserialize)]
pub struct GroupClaims {
    #[serde(default)]
    groups: Value,
    #[serde(default)]
    roles: Value,
}

impl Groups {
    /// Those in `values`, each a name or a list of names. What is neither names nobody.
    pub fn of<'v>(values: impl Iterator<Item = &'v Value>) -> Self {
        let mut names = BTreeSet::new();
        let mut is_whole = true;
        for value in values {
            let one = std::slice::from_ref(value);
            let listed = value.as_array().map_or(one, Vec::as_slice);
            for name in listed.iter().filter_map(Value::as_str) {
                if OF_EVERYBODY
                    .iter()
                    .any(|every| every.eq_ignore_ascii_case(name))
                {
                    continue;
                }
                if is_group(name) && names.len() < TOKEN_GROUPS_MAX {
                    names.insert(name.to_owned());
                } else if !names.contains(name) {
                    is_whole = false;
                }
            }
        }
        Self {
            is_whole: is_whole && !names.is_empty(),
            names,
        }
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether any is named and none is left out. A token that names no group says nothing about those of its user.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Those of either.
    pub fn and(self, other: Self) -> Self {
        let is_whole =
            (self.is_whole || self.names.is_empty()) && (other.is_whole || other.names.is_empty());
        let mut names = self.names;
        names.extend(other.names);
        Self {
            is_whole: is_whole && !names.is_empty() && names.len() <= TOKEN_GROUPS_MAX,
            names: names.into_iter().take(TOKEN_GROUPS_MAX).collect(),
        }
    }
}

impl GroupClaims {
    /// The groups that they name.
    pub fn groups(&self) -> Groups {
        Groups::of([&self.groups, &self.roles].into_iter())
    }
}

/// Whether a text is a name that is kept.
pub(super) fn is_group(text: &str) -> bool {
    !text.is_empty() && text.len() <= GROUP_BYTES_MAX && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(claims: Value) -> (Vec<String>, bool) {
        let claims: GroupClaims = serde_json::from_value(claims).unwrap();
        let groups = claims.groups();
        (
            groups.names().map(str::to_owned).collect(),
            groups.is_whole(),
        )
    }

    #[test]
    fn groups_and_roles_are_read_in_every_form_of_wso2() {
        for (claims, names) in [
            (json!({"groups": ["staff", "it"]}), vec!["it", "staff"]),
            (json!({"groups": "staff"}), vec!["staff"]),
            (
                json!({"roles": "admin", "groups": ["staff"]}),
                vec!["admin", "staff"],
            ),
            (
                json!({"roles": ["Internal/everyone", "PRIMARY/tellers"]}),
                vec!["PRIMARY/tellers"],
            ),
            (json!({"groups": ["staff", "staff"]}), vec!["staff"]),
        ] {
            assert_eq!(
                read(claims.clone()),
                (names.into_iter().map(str::to_owned).collect(), true),
                "{claims}"
            );
        }
    }

    #[test]
    fn who_names_no_group_says_nothing_of_them() {
        for claims in [
            json!({}),
            json!({"groups": []}),
            json!({"groups": {"a": "b"}, "roles": 7}),
            json!({"groups": null, "roles": "everyone"}),
        ] {
            assert_eq!(read(claims.clone()), (Vec::new(), false), "{claims}");
        }
    }

    #[test]
    fn hostile_names_are_left_out_and_that_is_known() {
        let long = "g".repeat(GROUP_BYTES_MAX + 1);
        for bad in [long.as_str(), "a\u{1b}[31m", "a\nb", ""] {
            let (names, is_whole) = read(json!({"groups": ["staff", bad]}));
            assert_eq!(
                (names, is_whole),
                (vec!["staff".to_owned()], false),
                "{bad:?}"
            );
        }
        let many: Vec<String> = (0..200).map(|n| format!("group-{n:03}")).collect();
        let (names, is_whole) = read(json!({ "groups": many }));
        assert_eq!((names.len(), is_whole), (TOKEN_GROUPS_MAX, false));
    }

    #[test]
    fn what_two_say_is_said_together() {
        let of = |names: Value| Groups::of(std::iter::once(&names));
        let none = || of(json!([]));
        assert_eq!(of(json!(["a"])).and(none()), of(json!(["a"])));
        assert_eq!(none().and(of(json!(["a"]))), of(json!(["a"])));
        assert_eq!(none().and(none()), none());
        assert_eq!(
            of(json!(["a"])).and(of(json!(["b"]))),
            of(json!(["a", "b"]))
        );
        assert!(!of(json!(["a", ""])).and(of(json!(["b"]))).is_whole());
        let many: Vec<String> = (0..TOKEN_GROUPS_MAX).map(|n| format!("g{n}")).collect();
        assert!(of(json!(many)).is_whole());
        assert!(!of(json!(many)).and(of(json!(["another"]))).is_whole());
    }
}
