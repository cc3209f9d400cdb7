//! `riskgate keys`: what is exchanged, and what to do with it.

use super::Place;
use clap::Subcommand;
use riskgate::adapters::clock::SystemClock;
use riskgate::adapters::entropy::OsEntropy;
use riskgate::app;
use riskgate::app::RunError;
use riskgate::config::Config;
use riskgate::flow::ports::Clock;

/// Which keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a new secret and keep the present one as the previous one
    ///
    /// While both are there, what is known under the previous secret is found and moves to the new one with the next login.
    /// Copy both files to every node, then restart the nodes. Remove the previous secret after some weeks.
    ///
    /// Examples:
    ///   riskgate keys rotate -c conf/mine.toml
    ///   riskgate keys rotate --signing
    ///
    /// Exit codes: 0 exchanged, 2 it cannot be done now: the line says why.
    #[command(verbatim_doc_comment)]
    Rotate {
        #[command(flatten)]
        place: Place,
        /// Exchange the keys that sign tokens and assertions instead: the next ones sign, and new next ones are made
        ///
        /// The gateway takes them over while it runs. Copy the folder to every node. Refused within 24 hours of the last
        /// time: tokens of the keys that would be given up are still about.
        #[arg(long)]
        signing: bool,
        /// Give up a previous secret, or previous signing keys, that may still be in use
        #[arg(long)]
        force: bool,
    },
}

/// Does what the command says.
pub(crate) fn rotate(command: &KeysCommand) -> Result<(), RunError> {
    let KeysCommand::Rotate {
        place,
        signing,
        force,
    } = command;
    let (config, _) = place.config()?;
    if *signing {
        return rotate_signing(&config, *force);
    }
    let rotated = app::keys::rotate(&config, &OsEntropy, *force)
        .map_err(|error| RunError::Config(vec![error]))?;
    println!("new secret       {}", rotated.secret.display());
    println!("previous secret  {}", rotated.previous.display());
    println!("restart every node of the fleet with both files");
    Ok(())
}

fn rotate_signing(config: &Config, force: bool) -> Result<(), RunError> {
    let rotated = app::signing::rotate(config, SystemClock.now(), force)
        .map_err(|error| RunError::Config(vec![error]))?;
    for ring in rotated {
        let name = ring.algorithm.as_str();
        println!("{name:<5}  signs  {}", ring.current);
        println!("{name:<5}  next   {}", ring.next);
        if !ring.is_changed {
            println!(
                "{name:<5}  there was no next key: rotate again once the new one is known everywhere"
            );
        }
    }
    println!("copy {} to every node", config.signing_dir().display());
    Ok(())
}
