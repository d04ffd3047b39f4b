//! The process message, which several bodies hold.

use bytes::Bytes;

use super::{key, key_message, message as pb, required_key};
use crate::{
    Ancestor, Argv, BootId, Container, Credentials, Error, FileIdentity, Namespaces, Process,
    WindowsProcess,
};

pub(super) fn message(process: &Process) -> pb::Process {
    let container = process.container.as_ref();
    pb::Process {
        key: Some(key_message(process.key)),
        parent: process.parent.map(key_message),
        comm: process.comm.clone(),
        exe: process.exe.clone(),
        filename: process.filename.clone(),
        args: entries(&process.argv),
        argv_truncated_bytes: process.argv_truncated_bytes,
        cwd: process.cwd.clone(),
        credentials: process.credentials.map(credentials_message),
        user: process.user.clone(),
        login_uid: process.login_uid,
        session: process.session,
        tty: process.tty,
        effective_caps: process.effective_caps,
        cgroup_id: process.cgroup_id,
        container_id: container.map(|c| c.id.clone()),
        exe_file: process.exe_file.map(file_message),
        sha256: process.sha256.map(|hash| Bytes::copy_from_slice(&hash)),
        parent_process: process.parent_process.as_deref().map(ancestor_message),
        redactions: process.redactions,
        args_cut: is_cut(&process.argv),
        interpreter: process.interpreter.clone(),
        session_leader: process.session_leader,
        namespaces: process.namespaces.map(namespaces_message),
        namespace_pid: process.namespace_pid,
        container_runtime: container.map(|c| c.runtime.clone()).unwrap_or_default(),
        pod_uid: container.and_then(|c| c.pod_uid.clone()),
        unit: process.unit.clone(),
        secure_exec: process.secure_exec,
        file_caps: process.file_caps,
        environment: process.environment.as_ref().map(|block| pb::Environment {
            entries: entries(block),
            cut: is_cut(block),
        }),
        exe_changed: process.exe_changed,
        exe_touched: process.exe_touched,
        ancestors: process.ancestors.iter().map(ancestor_message).collect(),
        environment_truncated_bytes: process.environment_truncated_bytes,
        windows: process.windows.as_deref().map(windows_message),
    }
}

pub(super) fn credentials_message(ids: Credentials) -> pb::Credentials {
    pb::Credentials {
        uid: ids.uid,
        gid: ids.gid,
        euid: ids.euid,
        egid: ids.egid,
    }
}

pub(super) fn file_message(file: FileIdentity) -> pb::FileIdentity {
    pb::FileIdentity {
        inode: file.inode,
        device: file.device,
        nlink: file.nlink,
        mtime: file.mtime,
        mode: file.mode,
        uid: file.uid,
        memfd: file.memfd,
        size: file.size,
        ctime: file.ctime,
    }
}

fn namespaces_message(of: Namespaces) -> pb::Namespaces {
    pb::Namespaces {
        mnt: of.mnt,
        pid: of.pid,
        net: of.net,
        user: of.user,
        uts: of.uts,
        ipc: of.ipc,
        cgroup: of.cgroup,
        time: of.time,
    }
}

fn windows_message(of: &WindowsProcess) -> pb::WindowsProcess {
    pb::WindowsProcess {
        integrity_level: of.integrity_level.clone(),
        logon_id: of.logon_id,
        original_file_name: of.original_file_name.clone(),
        description: of.description.clone(),
        product: of.product.clone(),
        company: of.company.clone(),
        file_version: of.file_version.clone(),
        md5: of.md5.map(|hash| Bytes::copy_from_slice(&hash)),
        sha1: of.sha1.map(|hash| Bytes::copy_from_slice(&hash)),
        imphash: of.imphash.map(|hash| Bytes::copy_from_slice(&hash)),
        parent_user: of.parent_user.clone(),
    }
}

fn ancestor_message(ancestor: &Ancestor) -> pb::Ancestor {
    pb::Ancestor {
        key: Some(key_message(ancestor.key)),
        comm: ancestor.comm.clone(),
        exe: ancestor.exe.clone(),
        args: entries(&ancestor.argv),
        parent: ancestor.parent.map(key_message),
        euid: ancestor.euid,
        args_cut: is_cut(&ancestor.argv),
    }
}

/// The strings of a block, each sharing its bytes.
fn entries(argv: &Argv) -> Vec<Bytes> {
    argv.iter()
        .map(|argument| argv.as_block().slice_ref(argument))
        .collect()
}

/// Whether the last string lost its end, which the array alone cannot show.
fn is_cut(argv: &Argv) -> bool {
    argv.as_block().last().is_some_and(|byte| *byte != 0)
}

pub(super) fn process(message: Option<pb::Process>, boot: BootId) -> Result<Process, Error> {
    let message = message.ok_or(Error::Missing("process"))?;
    let (runtime, pod_uid) = (message.container_runtime, message.pod_uid);
    let container = message.container_id.map(|id| Container {
        id,
        runtime,
        pod_uid,
    });
    Ok(Process {
        key: required_key(message.key, boot, "process.key")?,
        parent: message.parent.map(|m| key(m, boot)),
        comm: message.comm,
        exe: message.exe,
        filename: message.filename,
        argv: block(&message.args, message.args_cut),
        argv_truncated_bytes: message.argv_truncated_bytes,
        cwd: message.cwd,
        credentials: message.credentials.map(credentials),
        user: message.user,
        login_uid: message.login_uid,
        session: message.session,
        tty: message.tty,
        effective_caps: message.effective_caps,
        cgroup_id: message.cgroup_id,
        namespaces: message.namespaces.map(namespaces),
        namespace_pid: message.namespace_pid,
        container,
        unit: message.unit,
        interpreter: message.interpreter,
        session_leader: message.session_leader,
        secure_exec: message.secure_exec,
        file_caps: message.file_caps,
        environment: message.environment.map(|e| block(&e.entries, e.cut)),
        environment_truncated_bytes: message.environment_truncated_bytes,
        exe_changed: message.exe_changed,
        exe_touched: message.exe_touched,
        exe_file: message.exe_file.map(file),
        sha256: digest(message.sha256.as_ref(), "sha256")?,
        parent_process: message
            .parent_process
            .map(|m| ancestor(m, boot).map(Box::new))
            .transpose()?,
        ancestors: message
            .ancestors
            .into_iter()
            .map(|m| ancestor(m, boot))
            .collect::<Result<_, _>>()?,
        redactions: message.redactions,
        windows: message
            .windows
            .map(|m| windows(m).map(Box::new))
            .transpose()?,
    })
}

pub(super) fn credentials(ids: pb::Credentials) -> Credentials {
    Credentials {
        uid: ids.uid,
        gid: ids.gid,
        euid: ids.euid,
        egid: ids.egid,
    }
}

pub(super) fn file(of: pb::FileIdentity) -> FileIdentity {
    FileIdentity {
        inode: of.inode,
        device: of.device,
        nlink: of.nlink,
        mtime: of.mtime,
        mode: of.mode,
        uid: of.uid,
        memfd: of.memfd,
        size: of.size,
        ctime: of.ctime,
    }
}

fn namespaces(of: pb::Namespaces) -> Namespaces {
    Namespaces {
        mnt: of.mnt,
        pid: of.pid,
        net: of.net,
        user: of.user,
        uts: of.uts,
        ipc: of.ipc,
        cgroup: of.cgroup,
        time: of.time,
    }
}

fn ancestor(message: pb::Ancestor, boot: BootId) -> Result<Ancestor, Error> {
    Ok(Ancestor {
        key: required_key(message.key, boot, "ancestor.key")?,
        comm: message.comm,
        exe: message.exe,
        argv: block(&message.args, message.args_cut),
        parent: message.parent.map(|m| key(m, boot)),
        euid: message.euid,
    })
}

fn block(strings: &[Bytes], cut: bool) -> Argv {
    let whole: Argv = strings.iter().collect();
    if !cut {
        return whole;
    }
    let block = whole.as_block();
    Argv::from_block(block.slice(..block.len().saturating_sub(1)))
}

fn windows(message: pb::WindowsProcess) -> Result<WindowsProcess, Error> {
    Ok(WindowsProcess {
        integrity_level: message.integrity_level,
        logon_id: message.logon_id,
        original_file_name: message.original_file_name,
        description: message.description,
        product: message.product,
        company: message.company,
        file_version: message.file_version,
        md5: digest(message.md5.as_ref(), "md5")?,
        sha1: digest(message.sha1.as_ref(), "sha1")?,
        imphash: digest(message.imphash.as_ref(), "imphash")?,
        parent_user: message.parent_user,
    })
}

pub(super) fn digest<const N: usize>(
    bytes: Option<&Bytes>,
    field: &'static str,
) -> Result<Option<[u8; N]>, Error> {
    let Some(bytes) = bytes else { return Ok(None) };
    let hash = <[u8; N]>::try_from(bytes.as_ref());
    hash.map(Some).map_err(|_| Error::Invalid {
        field,
        value: bytes.len() as u64,
    })
}
