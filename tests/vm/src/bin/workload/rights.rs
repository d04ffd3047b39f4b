//! Programs that give rights to whoever runs them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Error, Result};
use rustix::fs::{Gid, Uid, XattrFlags, setxattr};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::child::{self, become_program};
use crate::report;
use crate::stage::{Stage, report_path};

pub(crate) const USER: u32 = 12345;
pub(crate) const GROUP: u32 = 12346;
const OWNER: u32 = 12347;
const OWNERS_GROUP: u32 = 12348;
/// `CAP_NET_RAW`.
const CAPABILITY: u32 = 13;

/// All rights of a user, who has none; only for processes of one thread.
pub(crate) fn become_user(user: u32, group: u32) -> Result<()> {
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    set_thread_groups(&[group])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    Ok(())
}

/// A user's child runs a program of the kind named.
pub(crate) fn rights(kind: &str) -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("tiny", 0)?;
    prepare(kind, &program).with_context(|| format!("a program of kind {kind}"))?;
    report_path("program", &program);
    let child = child::run(|| {
        become_user(USER, GROUP)?;
        if kind == "no-new-privileges" {
            set_no_new_privs(true)?;
        }
        Err(become_program(&program, &["tiny"]))
    })?;
    report("child", child);
    Ok(())
}

fn prepare(kind: &str, program: &Path) -> Result<()> {
    match kind {
        "plain" => {}
        "set-uid" | "no-new-privileges" => owned(program, 0o4755)?,
        "set-gid" => owned(program, 0o2755)?,
        // Of root: the file was made by it.
        "set-uid-root" => fs::set_permissions(program, fs::Permissions::from_mode(0o4755))?,
        "file-capability" => set_capability(program)?,
        other => return Err(Error::msg(format!("unknown kind {other}"))),
    }
    Ok(())
}

/// A change of owner takes the bits away, so it comes first.
fn owned(program: &Path, mode: u32) -> Result<()> {
    std::os::unix::fs::chown(program, Some(OWNER), Some(OWNERS_GROUP))?;
    fs::set_permissions(program, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// `setcap cap_net_raw+ep`: `struct vfs_cap_data` of revision 2, effective.
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/capability.h#L73>
fn set_capability(program: &Path) -> Result<()> {
    let words = [0x0200_0001, 1 << CAPABILITY, 0, 0, 0u32];
    let value = words.map(u32::to_le_bytes).concat();
    setxattr(program, "security.capability", &value, XattrFlags::empty())?;
    Ok(())
}
