//! Values of flags, read from their texts.

use riskgate::app::replay::events;
use riskgate::app::replay::events::Label;
use riskgate::domain::time::Timestamp;

/// Who does something, for the record: as the flag says, else the user of the system.
pub(crate) fn operator(flag: Option<String>) -> String {
    flag.or_else(|| std::env::var("USER").ok())
        .filter(|name| !name.trim().is_empty())
        .unwrap_or_else(|| "operator".to_owned())
}

/// The hash of a device, as `state show` prints it.
pub(crate) fn hash(text: &str) -> Result<u64, String> {
    let expected = |_| "expected 16 hexadecimal digits, as state show prints them".to_owned();
    u64::from_str_radix(text, 16).map_err(expected)
}

/// A moment of an event file, or the midnight before a day.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    let midnight = format!("{text} 00:00:00");
    events::moment(text)
        .or_else(|| events::moment(&midnight))
        .ok_or_else(|| "expected YYYY-MM-DD or YYYY-MM-DD HH:MM:SS".to_owned())
}

/// What makes an event an attack.
pub(crate) fn label(text: &str) -> Result<Label, String> {
    match text {
        "attacker-kind" => Ok(Label::AttackerKind),
        "account-takeover" => Ok(Label::Takeover),
        "attack-ip" => Ok(Label::AttackAddress),
        _ => Err("expected attacker-kind, account-takeover or attack-ip".to_owned()),
    }
}
