//! The rules in `rules/`, so that the binary works without any file.

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../rules/", $name)))),*]
    };
}

static SHIPPED: &[(&str, &str)] = files![
    "command_and_control.yaml",
    "container.yaml",
    "credential_access.yaml",
    "defense_evasion.yaml",
    "execution.yaml",
    "persistence.yaml",
    "privilege_escalation.yaml",
    "sensor.yaml",
    "series.yaml",
];

/// Name and text of every shipped rule file.
#[must_use]
pub fn shipped() -> &'static [(&'static str, &'static str)] {
    SHIPPED
}
