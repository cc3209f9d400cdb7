//! What `riskgate label` says goes by the gateway that runs, so that it is on record, receivers of shared signals are told and
//! sessions end, as with a word in the console. Where none answers it is kept in the file alone.

use crate::app::RunError;
use crate::app::admin_client::NoAnswer;
use crate::app::admin_client::Question;
use crate::app::admin_client::Silence;
use crate::app::admin_client::with_token;
use crate::app::labels;
use crate::app::labels::Word;
use crate::app::review::refused;
use crate::config::Config;
use crate::domain::label::Label;
use crate::domain::label::NAME_CHARS_MAX;
use crate::domain::label::NOTE_CHARS_MAX;
use crate::domain::label::Truth;
use crate::domain::printable;
use crate::domain::review::Answer;
use serde::Deserialize;
use std::time::Duration;

/// The longest id of a decision.
const ID_BYTES_MAX: usize = 64;
/// How often a gateway that still reads its records is asked again.
const READING_TRIES: u32 = 120;
/// How often one is asked again that does not know a decision which is in its log: it follows the log a moment behind.
const BEHIND_TRIES: u32 = 8;
/// How long between two of them.
const PAUSE: Duration = Duration::from_millis(250);

/// What became of a word.
#[derive(Debug)]
pub enum Said {
    /// The gateway has taken it.
    ByGateway {
        /// The label.
        label: Label,
        /// Whether it ends the sessions of the user.
        ends_sessions: bool,
    },
    /// It is in the file and nowhere else.
    InFile {
        /// The label.
        label: Label,
        /// Why.
        why: String,
    },
    /// No record has the id.
    Nothing,
}

/// What a gateway answers to a word that it takes.
#[derive(Deserialize)]
struct Taken {
    label: Label,
    ends_sessions: bool,
}

/// What came of asking it.
enum Asked {
    Taken(Taken),
    /// It does not know the decision.
    Unknown,
    /// It does not know all of them yet.
    Reading,
    /// There is none, for this reason.
    Nobody(String),
}

/// Says a word: to the gateway that runs, else to the file.
///
/// # Errors
/// The gateway refuses it, or the file cannot be written.
pub fn say(config: &Config, word: &Word, keeps_sessions: bool) -> Result<Said, RunError> {
    let in_file = |why: String| {
        let label = labels::add(config, word)?;
        Ok(label.map_or(Said::Nothing, |label| Said::InFile { label, why }))
    };
    if !word.audit.is_empty() {
        return in_file("other audit files are named than those of the gateway".to_owned());
    }
    // It becomes a part of a path.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if word.id.is_empty() || word.id.len() > ID_BYTES_MAX || !word.id.bytes().all(is_plain) {
        return Ok(Said::Nothing);
    }
    let mut tries = 0;
    loop {
        let most = match asked(config, word, keeps_sessions)? {
            Asked::Taken(Taken {
                label,
                ends_sessions,
            }) => {
                return Ok(Said::ByGateway {
                    label,
                    ends_sessions,
                });
            }
            Asked::Nobody(why) => return in_file(why),
            Asked::Unknown if !labels::is_known(config, word)? => return Ok(Said::Nothing),
            Asked::Unknown => BEHIND_TRIES,
            Asked::Reading => READING_TRIES,
        };
        tries += 1;
        if tries > most {
            return in_file("the gateway that runs does not know this decision".to_owned());
        }
        std::thread::sleep(PAUSE);
    }
}

fn asked(config: &Config, word: &Word, keeps_sessions: bool) -> Result<Asked, RunError> {
    let path = format!("/api/decisions/{}/label", word.id);
    // A name goes into a header.
    let operator = short(&printable::plain(&word.operator), NAME_CHARS_MAX);
    let headers = format!("X-Riskgate-Operator: {operator}\r\n");
    let body = form(word, keeps_sessions);
    let answer = with_token(
        config,
        Question {
            method: "POST",
            path: &path,
            headers: &headers,
            body: &body,
        },
    );
    let listen = config.admin.listen;
    let (status, body) = match answer {
        Ok(answer) => answer,
        Err(NoAnswer::Token(error)) => {
            return Ok(Asked::Nobody(format!("no gateway has run here: {error}")));
        }
        Err(NoAnswer::Silent(Silence::Away(address, error))) => {
            return Ok(Asked::Nobody(format!(
                "no gateway answers at {address}: {error}"
            )));
        }
        Err(NoAnswer::Silent(Silence::Foreign)) => return Ok(foreign(listen)),
    };
    if let (200, Ok(taken)) = (status, serde_json::from_str(&body)) {
        return Ok(Asked::Taken(taken));
    }
    let Some(Answer { error: Some(_), .. }) = Answer::parse(&body) else {
        return Ok(foreign(listen));
    };
    match status {
        404 => Ok(Asked::Unknown),
        503 => Ok(Asked::Reading),
        _ => Err(refused(config, status, &body)),
    }
}

fn foreign(listen: std::net::SocketAddr) -> Asked {
    Asked::Nobody(format!("what answers at {listen} is no riskgate"))
}

/// The word as a form.
fn form(word: &Word, keeps_sessions: bool) -> String {
    let is_attack = word.truth.is_attack();
    let kind = word.attacker_kind.as_deref().filter(|_| is_attack);
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("truth", word.truth.as_str());
    let fields = [
        ("kind", kind, NAME_CHARS_MAX),
        ("note", word.note.as_deref(), NOTE_CHARS_MAX),
    ];
    for (name, text, most) in fields {
        if let Some(text) = text {
            form.append_pair(name, &short(text, most));
        }
    }
    if is_attack && !keeps_sessions {
        form.append_pair("sessions", "end");
    }
    form.finish()
}

fn short(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

impl Said {
    /// What is to be said of it beside the label itself.
    pub fn remark(&self) -> Option<String> {
        match self {
            Self::ByGateway {
                ends_sessions: true,
                ..
            } => Some("the sessions of this user at WSO2 are being ended".to_owned()),
            Self::InFile { label, why } => {
                let missed = match label.label {
                    Truth::Safe => "it leaves no record",
                    Truth::Compromised => {
                        "it leaves no record, no receiver is told and no session is ended"
                    }
                };
                Some(format!(
                    "kept in the file alone, {missed}: {}; once a gateway runs, say it again with another --note to make up for that",
                    printable::plain(why)
                ))
            }
            Self::ByGateway { .. } | Self::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::AuditEvent;

    fn word(truth: Truth) -> Word {
        Word {
            id: "0199".to_owned(),
            truth,
            operator: "ann".to_owned(),
            attacker_kind: Some("phishing & more".to_owned()),
            note: Some("x".repeat(NOTE_CHARS_MAX + 1)),
            audit: Vec::new(),
        }
    }

    #[test]
    fn a_form_says_what_the_flags_say_and_is_bounded() {
        let note = format!("&note={}", "x".repeat(NOTE_CHARS_MAX));
        let attack = word(Truth::Compromised);
        let kind = "truth=compromised&kind=phishing+%26+more";
        assert_eq!(form(&attack, false), format!("{kind}{note}&sessions=end"));
        assert_eq!(form(&attack, true), format!("{kind}{note}"));
        // Neither a kind of attack nor the end of sessions belongs to what was the user.
        assert_eq!(form(&word(Truth::Safe), false), format!("truth=safe{note}"));
    }

    #[test]
    fn without_a_gateway_the_file_has_it_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.state.data_dir = folder.path().to_owned();
        let record = AuditEvent {
            id: "0199".to_owned(),
            class: "scored".into(),
            ..AuditEvent::default()
        };
        let record = serde_json::to_string(&record).unwrap() + "\n";
        std::fs::write(config.audit_file(), record).unwrap();
        let said = say(&config, &word(Truth::Compromised), false).unwrap();
        let Said::InFile { label, .. } = &said else {
            panic!("{said:?}");
        };
        assert_eq!(label.id, "0199");
        let remark = said.remark().unwrap();
        assert!(
            remark.contains("no session is ended: no gateway has run here"),
            "{remark}"
        );
        for id in ["", "..", "a/b", "a\r\nb", &"0".repeat(ID_BYTES_MAX + 1)] {
            let other = Word {
                id: id.to_owned(),
                ..word(Truth::Safe)
            };
            assert!(matches!(say(&config, &other, false), Ok(Said::Nothing)));
        }
    }
}
