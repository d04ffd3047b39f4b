//! Programs that give rights to whoever runs them: under whose ids they run, and with what
//! capabilities.

use std::sync::LazyLock;

use event::Process;
use vm::{Scenarios, place};

static RECORDED: LazyLock<Scenarios> = LazyLock::new(|| record().expect("a recording"));

fn record() -> anyhow::Result<Scenarios> {
    Scenarios::record_in_hindsight(&[
        ("plain", &["rights", "plain"]),
        ("set-uid", &["rights", "set-uid"]),
        ("set-uid-root", &["rights", "set-uid-root"]),
        ("set-gid", &["rights", "set-gid"]),
        ("no-new-privileges", &["rights", "no-new-privileges"]),
        ("file-capability", &["rights", "file-capability"]),
    ])
}

const NET_RAW: u64 = 1 << 13;
/// The user and its group, and the owner of programs and its group.
const IDS: [u32; 4] = [12345, 12346, 12347, 12348];

/// The program that a user ran.
fn program(name: &str) -> &'static Process {
    let life = RECORDED.life(name, "child").expect("fork exec exit");
    assert_eq!(life.status().raw, 0, "{name}");
    life.program()
}

/// Real and effective ids, effective capabilities, and where they came from.
fn check(name: &str, [uid, euid, gid, egid]: [u32; 4], capabilities: u64) {
    let process = program(name);
    let ids = process.credentials.expect("the ids are known");
    assert_eq!([ids.uid, ids.euid], [uid, euid], "{name}");
    assert_eq!([ids.gid, ids.egid], [gid, egid], "{name}");
    let got = process.effective_caps.expect("capabilities are known");
    assert_eq!(got, capabilities, "{name}");
    // The kernel mistrusts the caller where it gave anything.
    let given = uid != euid || gid != egid || capabilities != 0;
    assert_eq!(process.secure_exec, Some(given), "{name}");
    let from_file = capabilities == NET_RAW;
    assert_eq!(process.file_caps, Some(from_file), "{name}");
}

#[test]
fn user_without_rights_runs_a_program_with_its_own_ids() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let [user, group, ..] = IDS;
    check("plain", [user, user, group, group], 0);
    let file = program("plain").exe_file.unwrap();
    assert!(!file.is_setuid() && !file.is_setgid());
}

#[test]
fn set_uid_program_runs_with_its_owners_id() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let [user, group, owner, _] = IDS;
    check("set-uid", [user, owner, group, group], 0);
    let file = program("set-uid").exe_file.unwrap();
    assert!(file.is_setuid() && !file.is_setgid());
    assert_eq!(file.uid, owner);
}

#[test]
fn set_uid_program_of_root_runs_with_all_capabilities() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let [user, group, ..] = IDS;
    let all = all_capabilities();
    check("set-uid-root", [user, 0, group, group], all);
    assert!(program("set-uid-root").exe_file.unwrap().is_setuid());
}

/// What root may have at most here (`CapBnd`).
fn all_capabilities() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounds = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    u64::from_str_radix(bounds.unwrap().trim(), 16).unwrap()
}

#[test]
fn set_gid_program_runs_with_its_files_group() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let [user, group, _, owners_group] = IDS;
    check("set-gid", [user, user, group, owners_group], 0);
    let file = program("set-gid").exe_file.unwrap();
    assert!(file.is_setgid() && !file.is_setuid());
}

#[test]
fn set_uid_bit_that_has_no_effect_is_told_with_unchanged_ids() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let [user, group, ..] = IDS;
    check("no-new-privileges", [user, user, group, group], 0);
    assert!(program("no-new-privileges").exe_file.unwrap().is_setuid());
}

#[test]
fn program_with_a_file_capability_has_it_and_no_other() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let [user, group, ..] = IDS;
    check("file-capability", [user, user, group, group], NET_RAW);
}
