//! What a process started with high rights gives up once its sensor runs.

use std::path::Path;

#[cfg(target_os = "linux")]
mod linux;

/// Becomes `user` (or the default account) where this process is root, hands `dirs` over to it,
/// and gives up what is not needed any more. Must be called before any thread is started.
#[cfg(target_os = "linux")]
pub(crate) fn drop(user: Option<&str>, dirs: &[&Path]) -> anyhow::Result<()> {
    let account = linux::Account::choose(user)?;
    if let Some(account) = account {
        dirs.iter().try_for_each(|dir| account.own(dir))?;
    }
    linux::drop_to(account)
}

/// Other systems have no such step yet: see the table in the README.
#[cfg(not(target_os = "linux"))]
pub(crate) fn drop(user: Option<&str>, _dirs: &[&Path]) -> anyhow::Result<()> {
    match user {
        Some(_) => anyhow::bail!("--user is not supported on this system"),
        None => Ok(()),
    }
}
