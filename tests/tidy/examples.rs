//! Commands that the documentation and help texts name, and their flags, are known to the program. `tests/examples` tries them.

use crate::files::Source;
use crate::files::nothing;
use crate::files::sources;
use regex::Regex;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// A fenced example.
struct Example<'a> {
    page: &'a str,
    language: &'a str,
    text: String,
}

/// The help texts of the program, by subcommand.
#[derive(Default)]
struct Helps(BTreeMap<Vec<String>, String>);

impl Helps {
    fn of(&mut self, path: &[String]) -> &str {
        self.0.entry(path.to_vec()).or_insert_with(|| {
            let answer = Command::new(env!("CARGO_BIN_EXE_riskgate"))
                .args(path)
                .arg("--help")
                .output()
                .expect("the program runs");
            String::from_utf8(answer.stdout).expect("a help text is UTF-8")
        })
    }

    /// The subcommands of `path`.
    fn commands(&mut self, path: &[String]) -> Vec<String> {
        let commands = self.of(path).split("Commands:\n").nth(1).unwrap_or("");
        commands
            .lines()
            .take_while(|line| line.starts_with("  "))
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect()
    }

    /// Whether `path` has the subcommand `word`.
    fn leads_to(&mut self, path: &[String], word: &str) -> bool {
        self.commands(path).iter().any(|command| command == word)
    }

    /// The examples in the help texts of `path` and all beneath it.
    fn examples(&mut self, path: &mut Vec<String>) -> Vec<String> {
        let help = self.of(path);
        let examples = help.split("Examples:\n").nth(1).unwrap_or("");
        let examples = examples.lines().take_while(|line| line.starts_with("  "));
        let mut found: Vec<String> = examples.map(str::to_owned).collect();
        for command in self.commands(path) {
            if command != "help" {
                path.push(command);
                found.extend(self.examples(path));
                path.pop();
            }
        }
        found
    }

    /// What is wrong with a call of the program.
    fn wrong(&mut self, words: &[&str]) -> Option<String> {
        let mut path = Vec::new();
        let mut rest = words.iter();
        for word in rest.by_ref() {
            if !self.leads_to(&path, word) {
                let wants_command = self.of(&path).contains("<COMMAND>");
                let is_flag = word.starts_with('-');
                if wants_command && !is_flag {
                    return Some(format!("no command `{word}`"));
                }
                break;
            }
            path.push((*word).to_owned());
        }
        let help = self.of(&path).to_owned();
        words.iter().find_map(|word| {
            let flag = word
                .split('=')
                .next()
                .filter(|flag| flag.starts_with("-"))?;
            let pattern = format!(r"(?m)(?:^|[\s,]){}(?:[\s,=]|$)", regex::escape(flag));
            let known = Regex::new(&pattern).expect("a pattern").is_match(&help);
            (!known).then(|| format!("`{}` has no flag `{flag}`", path.join(" ")))
        })
    }
}

/// Every command that does something teaches it by an example, and says what its exit codes mean.
#[test]
fn every_help_text_has_an_example_and_exit_codes() {
    let mut helps = Helps::default();
    let mut findings = Vec::new();
    let mut leaves = 0;
    let mut paths: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(path) = paths.pop() {
        let beneath = helps.commands(&path);
        if beneath.is_empty() {
            leaves += 1;
            let help = helps.of(&path);
            let missing = ["Examples:\n", "Exit codes"]
                .into_iter()
                .filter(|part| !help.contains(part));
            findings.extend(missing.map(|part| format!("{}: {part:?}", path.join(" "))));
            continue;
        }
        for command in beneath.into_iter().filter(|command| command != "help") {
            paths.push([path.clone(), vec![command]].concat());
        }
    }
    nothing("help texts that leave out a part", findings);
    assert!(leaves >= 25, "{leaves} commands");
}

fn pages() -> Vec<Source> {
    sources("", &[".md"])
}

fn examples(pages: &[Source]) -> Vec<Example<'_>> {
    let mut found = Vec::new();
    for page in pages {
        let mut open: Option<Example<'_>> = None;
        for line in page.text.lines() {
            let bare = line.trim_start();
            match (&mut open, bare.strip_prefix("```")) {
                (Some(_), Some("")) => found.extend(open.take()),
                (Some(example), _) => {
                    example.text.push_str(line);
                    example.text.push('\n');
                }
                (None, Some(language)) => {
                    open = Some(Example {
                        page: &page.path,
                        language,
                        text: String::new(),
                    });
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: an example does not end", page.path);
    }
    found
}

/// Lines of shell, and commands in running text.
#[test]
fn commands_in_examples_exist() {
    let pages = pages();
    let inline = Regex::new(r"`((?:[\w./-]*/)?riskgate [^`\n]*)`").expect("a pattern");
    let mut calls: Vec<(&str, String)> = Vec::new();
    for example in examples(&pages) {
        if matches!(example.language, "sh" | "console") {
            let text = example.text.replace("\\\n", " ");
            calls.extend(text.lines().map(|line| (example.page, line.to_owned())));
        }
    }
    for page in &pages {
        let found = inline.captures_iter(&page.text);
        calls.extend(found.map(|found| (page.path.as_str(), found[1].to_owned())));
    }
    let mut helps = Helps::default();
    let shown = helps.examples(&mut Vec::new());
    calls.extend(shown.into_iter().map(|line| ("a help text", line)));
    let mut findings = Vec::new();
    let mut seen = 0;
    for (page, line) in &calls {
        let line = line.split(" #").next().unwrap_or("");
        // Each part of a pipe, a list or a substitution may be a call.
        for part in line.split(['|', ';', '&', '(', ')', '>', '<', '`']) {
            let words: Vec<&str> = part.split_whitespace().collect();
            let program = words.iter().position(|word| {
                Path::new(word)
                    .file_name()
                    .is_some_and(|name| name == "riskgate")
            });
            // Only as a command: elsewhere it is the name of a user, a service, an image.
            let Some(program) = program.filter(|at| {
                let before = words.get(..*at).unwrap_or_default();
                let starts = ["$", "sudo", "time"];
                before
                    .iter()
                    .all(|word| starts.contains(word) || word.contains('='))
            }) else {
                continue;
            };
            let words = words.get(program + 1..).unwrap_or_default();
            if words.is_empty() {
                continue;
            }
            seen += 1;
            if let Some(wrong) = helps.wrong(words) {
                findings.push(format!("{page}: {wrong}: {}", part.trim()));
            }
        }
    }
    nothing("commands that the program does not have", findings);
    assert!(seen >= 100, "{seen} commands");
}
