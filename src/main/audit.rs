//! `riskgate audit`: the flags, and what is printed.

use super::NOT_ALL;
use super::Place;
use super::Whom;
use clap::Subcommand;
use clap::ValueEnum;
use riskgate::app::RunError;
use riskgate::app::audit::erase;
use riskgate::app::audit::export;
use riskgate::app::audit::verify;
use riskgate::domain::audit::verify::Extent;
use riskgate::domain::printable::plain;
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code when records are not what was written.
const NOT_SOUND: u8 = 4;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check that records are as they were written: nothing changed, taken out, put in, moved or cut off
    ///
    /// Every line carries the hash of the line before it and a code under a key that was used once and is gone; signed marks
    /// stand between the records (docs/AUDIT.md). Each finding names the file, the line, the record and what is wrong.
    ///
    /// With --key, the auditor's key that was made at the first start and is kept elsewhere, each line is checked by itself.
    /// With --public-key, everybody can check the lines up to the last signature. Without either it is only known that the
    /// log agrees with itself. Without FILES: the log of the configuration, with the files that were put aside. Packed files
    /// (.gz, .zst and such) are not read: each is named, and the log is not sound without them, unless --part says that it is
    /// a part.
    ///
    /// Examples:
    ///   riskgate audit verify --key /safe/audit-auditor.edge-1.key
    ///   riskgate audit verify --public-key 3b6a27bc...29 /archive/audit.*.jsonl audit.jsonl
    ///   riskgate audit verify --part --json audit.20261126T000000.000Z.jsonl
    ///
    /// Exit codes: 0 sound, 1 a file cannot be read, 2 the command is wrong, 4 not sound, or not all was checked.
    #[command(verbatim_doc_comment)]
    Verify {
        #[command(flatten)]
        place: Place,
        /// Files of the log, or folders of them; their order is found out
        #[arg(value_name = "FILES")]
        files: Vec<PathBuf>,
        /// The auditor's key of a node (audit-auditor.NODE.key); once for each node
        #[arg(long, value_name = "FILE")]
        key: Vec<PathBuf>,
        /// A public key of a node (audit-public.NODE.key): the file, or its 64 digits
        #[arg(long, value_name = "KEY")]
        public_key: Vec<String>,
        /// The files are a part of the log: what is before and after them is not asked for
        #[arg(long, conflicts_with = "closed")]
        part: bool,
        /// Nothing runs any more: a chain without its own end counts as cut off
        #[arg(long)]
        closed: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write records in the form of another system, one a line, to the standard output
    ///
    /// Records of requests at scored doors become events; other records and marks are left out, and counted. The records stay
    /// the evidence: check them first (riskgate audit verify). Without FILES: the log of the configuration, with the files that
    /// were put aside. Packed files (.gz, .zst and such) are not read.
    ///
    /// Examples:
    ///   riskgate audit export --format ocsf data/audit.jsonl > events.jsonl
    ///   tail -f data/audit.jsonl | riskgate audit export --format ocsf -
    ///
    /// Exit codes: 0 done, 1 a file cannot be read, 2 the command is wrong, 4 done, but for files that are packed.
    #[command(verbatim_doc_comment)]
    Export {
        #[command(flatten)]
        place: Place,
        /// Files of the log, or folders of them, or - for the standard input
        #[arg(value_name = "FILES")]
        files: Vec<PathBuf>,
        /// The form
        #[arg(long, value_enum)]
        format: Format,
    },
    /// Print the name under which somebody is in records
    ///
    /// Records name people by a pseudonym that only the deployment's secret and the key of people's names lead to. Two lines
    /// while the secret is being exchanged. With the pseudonym the console lists every decision about this person.
    ///
    /// Examples:
    ///   riskgate audit subject --user alice
    ///   grep "$(riskgate audit subject --user alice --tenant example.com)" data/audit.jsonl
    ///
    /// Exit codes: 0 printed, 2 there is no key, or no secret.
    #[command(verbatim_doc_comment)]
    Subject {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        whom: Whom,
    },
    /// Erase somebody from records: what was written about them leads to nobody any more
    ///
    /// The key from which their name in records is made gives up exactly that name. The records and the chain stay as they
    /// are. It cannot be undone, and a gateway that runs takes it over with its next record. Copy the key to every node, and let
    /// no older copy of it be left (docs/AUDIT.md). What is remembered of them goes by itself: riskgate state forget.
    ///
    /// Examples:
    ///   riskgate audit erase --user alice
    ///   riskgate audit erase --user alice --tenant example.com
    ///
    /// Exit codes: 0 erased, 1 the key cannot be changed, 2 there is no key, or no secret.
    #[command(verbatim_doc_comment)]
    Erase {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        whom: Whom,
    },
}

/// The form of an export.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// Open Cybersecurity Schema Framework, class Authentication (3002) with the profile security_control
    Ocsf,
}

/// Does what the command says.
pub(crate) fn run(command: AuditCommand) -> Result<ExitCode, RunError> {
    match command {
        AuditCommand::Verify {
            place,
            files,
            key,
            public_key,
            part,
            closed,
            json,
        } => {
            let files = given_or_configured(&files, &place)?;
            let extent = match (part, closed) {
                (true, _) => Extent::Part,
                (false, true) => Extent::Closed,
                (false, false) => Extent::Present,
            };
            let report = verify::verify(&files, verify::trust(&key, &public_key)?, extent)?;
            if json {
                println!("{}", verify::json(&report)?);
            } else {
                print!("{}", verify::text(&report));
            }
            Ok(if report.is_sound() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(NOT_SOUND)
            })
        }
        AuditCommand::Export {
            place,
            files,
            format: Format::Ocsf,
        } => {
            let files = given_or_configured(&files, &place)?;
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            let exported = export::ocsf(&files, &mut out)?;
            eprintln!(
                "{} events, {} other records, {} unreadable lines",
                exported.events, exported.others, exported.unreadable
            );
            let Some(packed) = &exported.passed_over else {
                return Ok(ExitCode::SUCCESS);
            };
            eprintln!("riskgate: {}", plain(packed));
            Ok(ExitCode::from(NOT_ALL))
        }
        AuditCommand::Subject { place, whom } => {
            for name in erase::names(&place.config()?.0, &whom.named())? {
                println!("{name}");
            }
            Ok(ExitCode::SUCCESS)
        }
        AuditCommand::Erase { place, whom } => {
            let erased = erase::erase(&place.config()?.0, &whom.named())?;
            for name in &erased.names {
                println!("{name} leads to nobody any more");
            }
            println!(
                "copy {} to every node, and keep no older copy of it",
                erased.file.display()
            );
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn given_or_configured(files: &[PathBuf], place: &Place) -> Result<verify::Files, RunError> {
    match files {
        [] => Ok(verify::Files::of(&place.config()?.0)),
        given => verify::Files::at(given),
    }
}
