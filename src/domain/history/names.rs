//! The names of one account. A login form may take an e-mail address or a telephone number for the username (WSO2's
//! multi-attribute login): each of them is a subject of its own here until the identity server has said of both whose
//! they are.

use crate::domain::ids::SubjectKey;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// The names that one account can have. What the identity server says of more is said of more than one person: an
/// application whose `sub` does not tell its users apart, against OpenID Connect Core section 2.
pub const NAMES_MAX: usize = 8;

/// The names of one account, the longest known first. One more than [`NAMES_MAX`] is kept, which says that there are too
/// many.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Names(Vec<SubjectKey>);

/// What the identity server has said of whose names are, as a profile learns it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Joined {
    /// Whose profile: that of one of the names, or that of the account.
    pub subject: SubjectKey,
    /// Whether it is the account's. It has no logins; its profile is made with the first name. That of a name is not: there
    /// is one for users who have logged in.
    pub is_account: bool,
    /// When it was said.
    pub at: Timestamp,
    /// The names of the account, at most one more than [`NAMES_MAX`].
    pub names: Vec<SubjectKey>,
}

impl Names {
    /// Names from a store; `None` for more than are kept.
    pub fn from_names(names: Vec<SubjectKey>) -> Option<Self> {
        (names.len() <= NAMES_MAX + 1).then_some(Self(names))
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that are kept.
    pub fn kept(&self) -> &[SubjectKey] {
        &self.0
    }

    /// The names, where they are those of one account; none where there are too many for that.
    pub fn of_one_account(&self) -> &[SubjectKey] {
        if self.0.len() > NAMES_MAX {
            return &[];
        }
        &self.0
    }

    /// The names of the same account beside `name`.
    pub fn beside(&self, name: SubjectKey) -> impl Iterator<Item = SubjectKey> + '_ {
        let names = self.of_one_account().iter().copied();
        names.filter(move |other| *other != name)
    }

    /// Adds a name. Where there are too many, nothing changes any more.
    pub fn add(&mut self, name: SubjectKey) {
        if self.0.len() <= NAMES_MAX && !self.0.contains(&name) {
            self.0.push(name);
        }
    }

    /// Forgets a name. Returns whether it was there.
    pub fn remove(&mut self, name: SubjectKey) -> bool {
        let before = self.0.len();
        self.0.retain(|known| *known != name);
        self.0.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Pseudonym;

    fn name(number: u8) -> SubjectKey {
        SubjectKey(Pseudonym::from_bytes([number; 16]))
    }

    #[test]
    fn more_names_than_one_person_has_are_nobodys() {
        let mut names = Names::default();
        for number in 1..=8 {
            names.add(name(number));
            names.add(name(1));
        }
        assert_eq!(names.of_one_account().len(), NAMES_MAX);
        assert_eq!(names.beside(name(3)).count(), NAMES_MAX - 1);
        assert_eq!(names.beside(name(99)).count(), NAMES_MAX);
        for number in 9..99 {
            names.add(name(number));
        }
        assert_eq!(names.kept().len(), NAMES_MAX + 1);
        assert!(names.of_one_account().is_empty());
        assert_eq!(names.beside(name(3)).count(), 0);
        assert_eq!(Names::from_names(vec![name(1); NAMES_MAX + 2]), None);
    }

    #[test]
    fn a_name_that_is_forgotten_makes_room() {
        let mut names = Names::default();
        (1..=9).for_each(|number| names.add(name(number)));
        assert!(names.remove(name(4)) && !names.remove(name(4)));
        assert_eq!(names.of_one_account().len(), NAMES_MAX);
    }
}
