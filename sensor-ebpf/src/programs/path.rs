//! Walks from a dentry up to the root of its mount namespace.
#![expect(unsafe_code, reason = "writes into the ring")]

use sensor_ebpf::config::Field;

use crate::read::{field, member, string};

/// Steps of one walk: components and mount points. The verifier follows each: with 128 the one of
/// 6.1 gives up after a million instructions.
const MAX_STEPS: u32 = 64;

/// `NAME_MAX` and its NUL.
pub(crate) const NAME_CAP: u32 = 256;

/// Appends the components of a `struct path`, innermost first, each with its NUL, to a record of
/// which the paths may use the first `limit` bytes. `cursor` is where the next byte goes. True if
/// components are missing, for lack of room or of steps.
///
/// The cursor lives in the record and is read back at every step: the verifier then knows nothing
/// of it but the bound that was just checked, and has one state to follow instead of one for every
/// length. (With the cursor in a register 6.18 gives up after a million instructions.)
///
/// # Safety
/// `base` points to `limit` bytes, and `cursor` into the record.
#[inline(always)]
pub(crate) unsafe fn append(base: *mut u8, limit: u32, cursor: *mut u32, path: u64) -> bool {
    let mut mount: u64 = field(path, Field::PathMount);
    let mut dentry: u64 = field(path, Field::PathDentry);
    if path == 0 || mount == 0 || dentry == 0 {
        return false;
    }
    for _ in 0..MAX_STEPS {
        let root: u64 = field(mount, Field::VfsmountRoot);
        if dentry == root {
            let Some((upper, mountpoint)) = cross(mount) else {
                return false;
            };
            mount = upper;
            dentry = mountpoint;
            continue;
        }
        // SAFETY: by contract.
        if !unsafe { push_name(base, limit, cursor, field(dentry, Field::DentryName)) } {
            return true;
        }
        let parent: u64 = field(dentry, Field::DentryParent);
        if parent == dentry {
            return false;
        }
        dentry = parent;
    }
    true
}

/// Copies one component. False if there is no room for the longest possible one.
///
/// # Safety
/// As [`append`].
#[inline(always)]
pub(crate) unsafe fn push_name(base: *mut u8, limit: u32, cursor: *mut u32, name: u64) -> bool {
    // SAFETY: the cursor lies in the record.
    let at = unsafe { cursor.read_volatile() };
    if at > limit - NAME_CAP {
        return false;
    }
    // SAFETY: at + NAME_CAP <= limit was just checked.
    let written = unsafe { string(base.add(at as usize), NAME_CAP, name) };
    if written > 0 {
        // SAFETY: the cursor lies in the record.
        unsafe { cursor.write_volatile(at + written as u32) };
    }
    true
}

/// From the root of a mount to where it is mounted; `None` at the top of the namespace.
#[inline(always)]
fn cross(vfsmount: u64) -> Option<(u64, u64)> {
    let embedded = member(1, Field::MountVfsmount).wrapping_sub(1);
    let mount = vfsmount.wrapping_sub(embedded);
    let parent: u64 = field(mount, Field::MountParent);
    if parent == mount || parent == 0 {
        return None;
    }
    Some((parent + embedded, field(mount, Field::MountMountpoint)))
}
