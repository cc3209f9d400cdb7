//! `riskgate keys`: what is exchanged, and what to do with it.

use super::KeysCommand;
use riskgate::adapters::clock::SystemClock;
use riskgate::adapters::entropy::OsEntropy;
use riskgate::app;
use riskgate::app::RunError;
use riskgate::config::Config;
use riskgate::flow::ports::Clock;

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
