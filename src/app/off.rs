//! `riskgate off`: writes into the configuration that nothing is scored any more, or that everybody is only watched, and
//! keeps the file as it was. Gateways that run take it over by themselves. Knows no gateway and asks none.

use crate::adapters::replace;
use crate::adapters::replace::Access;
use crate::adapters::replace::unwritten;
use crate::app::console::changes;
use crate::app::console::changes::Subject;
use crate::config::Config;
use crate::config::ConfigError;
use crate::domain::policy::decision::Mode;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use toml_edit::DocumentMut;
use toml_edit::Item;
use toml_edit::Table;
use toml_edit::Value;

/// What was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Switched {
    /// The mode for everybody, now.
    pub now: Mode,
    /// The mode for everybody, before.
    pub before: Mode,
    /// How many `[[mode.overrides]]` were set aside.
    pub overrides: usize,
    /// The file as it was.
    pub kept: PathBuf,
    /// Why the record of it will not say by whom it was done, where that could not be written.
    pub unsaid: Option<String>,
}

/// Sets `mode` for everybody in the configuration `file`, without exceptions. The file as it was before the first of several
/// such calls is kept beside it.
///
/// # Errors
///
/// If the file cannot be read or replaced, or is not a valid configuration. It is as it was then.
pub fn switch(file: &Path, mode: Mode, by: &str) -> Result<Switched, ConfigError> {
    let wrong = |problem: String| ConfigError::new(file.display().to_string(), problem);
    let (text, before) = read(file)?;
    let mut document: DocumentMut = text.parse().map_err(|error| wrong(format!("{error}")))?;
    let table = document
        .entry("mode")
        .or_insert_with(|| Item::Table(Table::new()))
        .as_table_like_mut()
        .ok_or_else(|| wrong("`mode` is not a table".to_owned()))?;
    let mut value = Value::from(mode.as_str());
    // A comment behind the value stays.
    if let Some(old) = table.get("default").and_then(Item::as_value) {
        *value.decor_mut() = old.decor().clone();
    }
    table.insert("default", Item::Value(value));
    table.remove("percentage");
    table.remove("overrides");
    let rollout = document.get_mut("rollout");
    if let Some(rollout) = rollout.and_then(Item::as_table_like_mut) {
        rollout.remove("file");
    }
    let changed = document.to_string();
    let config = Config::parse(&changed).map_err(wrong)?;
    let kept = kept(file);
    if !kept.exists() {
        replace(&kept, &text, file)?;
    }
    // Before the text is there: a gateway that runs sees it at once. What is to be turned off is turned off in any case.
    let unsaid = say(&config, &changed, by);
    replace(file, &changed, file)?;
    Ok(Switched {
        now: mode,
        before: before.mode.general(),
        overrides: before.mode.exceptions(),
        kept,
        unsaid,
    })
}

/// Says by whom `text` was written; why not, where it cannot. No folder is made for it: from elsewhere, a relative one is not
/// the gateway's.
fn say(config: &Config, text: &str, by: &str) -> Option<String> {
    let folder = &config.state.data_dir;
    if !folder.is_dir() {
        return Some(format!("`{}` is not there", folder.display()));
    }
    let said = changes::say(config, Subject::Configuration, text, by);
    said.err().map(|error| error.to_string())
}

/// Puts back the file that [`switch`] kept: what holds for everybody again, and [`Switched::unsaid`].
///
/// # Errors
///
/// If there is none, or it cannot be put back.
pub fn undo(file: &Path, by: &str) -> Result<(Mode, Option<String>), ConfigError> {
    let kept = kept(file);
    if !kept.exists() {
        return Err(ConfigError::new(
            kept.display().to_string(),
            "is not there: nothing was turned off by `riskgate off`",
        ));
    }
    let (text, config) = read(&kept)?;
    let unsaid = say(&config, &text, by);
    replace(file, &text, file)?;
    fs::remove_file(&kept).map_err(|error| {
        ConfigError::new(
            kept.display().to_string(),
            format!("cannot be removed: {error}"),
        )
    })?;
    Ok((config.mode.general(), unsaid))
}

/// Where the file is kept as it was.
fn kept(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".before-off");
    PathBuf::from(name)
}

fn read(file: &Path) -> Result<(String, Config), ConfigError> {
    let wrong = |problem: String| ConfigError::new(file.display().to_string(), problem);
    let text =
        fs::read_to_string(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let config = Config::parse(&text).map_err(wrong)?;
    Ok((text, config))
}

/// Writes `text` to `path` in one step, for the owner and with the permissions of `like`: a gateway that looks meanwhile sees
/// the one or the other.
fn replace(path: &Path, text: &str, like: &Path) -> Result<(), ConfigError> {
    replace::replace(path, text.as_bytes(), Access::Like(like))
        .map_err(|error| ConfigError::new(path.display().to_string(), unwritten(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::fs::PermissionsExt;

    const FILE: &str = "# ours\n[server]\nlisten = \"127.0.0.1:1\"\n\n[mode]\ndefault = \"enforce\" # since May\npercentage = 50\n\n[[mode.overrides]]\napplication = \"expenses\"\nmode = \"enforce\"\n\n[log]\nfilter = \"warn\"\n";

    /// A file in a folder of its own, and beside that folder the one of what is written.
    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("conf/riskgate.toml");
        fs::create_dir(folder.path().join("conf")).unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        let text = format!("{text}\n[state]\ndata_dir = '{}'\n", data.display());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        (folder, path)
    }

    #[test]
    fn everything_is_turned_off_and_back() {
        let (folder, path) = file(FILE);
        let before = fs::read_to_string(&path).unwrap();
        let switched = switch(&path, Mode::Off, "ada").unwrap();
        assert_eq!(switched.before, Mode::Enforce);
        assert_eq!((switched.overrides, switched.unsaid), (1, None));
        let changed = fs::read_to_string(&path).unwrap();
        let (ours, _) = changed.split_once("\n[state]").unwrap();
        assert_eq!(
            ours,
            "# ours\n[server]\nlisten = \"127.0.0.1:1\"\n\n[mode]\ndefault = \"off\" # since May\n\n[log]\nfilter = \"warn\"\n"
        );
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        // A second thought does not lose what was there before the first.
        assert_eq!(
            switch(&path, Mode::Monitor, "ada").unwrap().before,
            Mode::Off
        );
        assert_eq!(undo(&path, "ada").unwrap().0, Mode::Enforce);
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
        assert_eq!(fs::read_dir(folder.path().join("conf")).unwrap().count(), 1);
        let error = undo(&path, "ada").unwrap_err().to_string();
        assert!(error.contains("riskgate.toml.before-off"), "{error}");
    }

    #[test]
    fn a_file_without_a_mode_gets_one() {
        for text in [
            "",
            "[log]\nfilter = \"warn\"\n",
            "mode = { default = \"enforce\" }\n",
            "mode.default = \"advise\"\n",
        ] {
            let (_folder, path) = file(text);
            switch(&path, Mode::Off, "ada").unwrap();
            let changed = fs::read_to_string(&path).unwrap();
            let config = Config::parse(&changed).unwrap();
            assert_eq!(config.mode.general(), Mode::Off, "{changed}");
        }
    }

    #[test]
    fn what_cannot_be_read_stays() {
        for text in ["[mode\n", "[mode]\ndefault = \"loud\"\n"] {
            let (folder, path) = file(text);
            let before = fs::read_to_string(&path).unwrap();
            switch(&path, Mode::Off, "ada").unwrap_err();
            assert_eq!(fs::read_to_string(&path).unwrap(), before);
            assert_eq!(fs::read_dir(folder.path().join("conf")).unwrap().count(), 1);
            assert_eq!(fs::read_dir(folder.path().join("data")).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_link_is_followed() {
        let (folder, path) = file(FILE);
        let link = folder.path().join("link.toml");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        switch(&link, Mode::Off, "ada").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&path).unwrap().contains("\"off\""));
        undo(&link, "ada").unwrap();
        assert!(fs::read_to_string(&path).unwrap().starts_with(FILE));
    }

    #[test]
    fn what_is_to_be_off_is_off_where_nobodys_name_can_be_kept() {
        let (folder, path) = file(FILE);
        fs::remove_dir(folder.path().join("data")).unwrap();
        let switched = switch(&path, Mode::Off, "ada").unwrap();
        assert!(switched.unsaid.unwrap().ends_with("data` is not there"));
        assert!(fs::read_to_string(&path).unwrap().contains("\"off\""));
        let (mode, unsaid) = undo(&path, "ada").unwrap();
        assert!(mode == Mode::Enforce && unsaid.is_some());
        assert!(!folder.path().join("data").exists());
    }
}
