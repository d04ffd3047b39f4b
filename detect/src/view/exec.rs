//! Columns of a process that runs a program.

use event::{Ancestor, Argv, Credentials, FileIdentity, Namespaces, Process, WindowsProcess};

use super::{Ancestors, Scratch, Value, flag, int, known, nonzero, text};
use crate::catalog::Field;
use crate::text::basename;

pub(super) fn exec<'v>(
    process: &'v Process,
    scratch: &'v Scratch,
    field: Field,
) -> Option<Value<'v>> {
    match field {
        Field::Pid => int(process.key.pid),
        Field::Ppid | Field::ParentPid => int(process.parent?.pid),
        Field::EntityId => text(&scratch.entity_id),
        Field::ParentEntityId => process.parent.and(text(&scratch.parent_entity_id)),
        Field::Name => known(basename(&process.exe)),
        Field::Comm => known(&process.comm),
        Field::Executable => known(&process.exe),
        Field::Filename => known(&process.filename),
        Field::Interpreter => known(process.interpreter.as_ref()?),
        Field::Args => list(&process.argv),
        Field::ArgsCount => list(&process.argv).and(int(process.argv.len() as u64)),
        Field::ArgsTruncatedBytes => int(process.argv_truncated_bytes),
        Field::CommandLine => list(&process.argv).and(text(&scratch.command_line)),
        Field::WorkingDirectory => known(process.cwd.as_ref()?),
        // Asked for and none set is an answer: an empty array.
        Field::Environment => process.environment.as_ref().map(Value::List),
        Field::Sha256 => process.sha256.and(text(&scratch.sha256)),
        Field::Hashes => has_digest(process).and(text(&scratch.hashes)),
        Field::AncestorPid
        | Field::AncestorEntityId
        | Field::AncestorName
        | Field::AncestorExecutable
        | Field::AncestorCommandLine
        | Field::AncestorEuid => Ancestors::of(process, field).map(Value::Ancestors),
        Field::GrandparentExecutable => known(&process.ancestors.first()?.exe),
        Field::ExeChanged if process.exe_changed => flag(true),
        Field::ExeChanged => process.sha256.and(flag(false)),
        Field::ExeTouched if process.exe_touched => flag(true),
        Field::ExeTouched => process.sha256.and(flag(false)),
        Field::Redactions => int(process.redactions),
        Field::Uid | Field::Gid | Field::Euid | Field::Egid => {
            credential(process.credentials?, field)
        }
        Field::ParentPpid
        | Field::ParentName
        | Field::ParentComm
        | Field::ParentExecutable
        | Field::ParentArgs
        | Field::ParentArgsCount
        | Field::ParentCommandLine
        | Field::ParentEuid => parent(process.parent_process.as_ref()?, scratch, field),
        Field::Md5
        | Field::Sha1
        | Field::Imphash
        | Field::OriginalFileName
        | Field::Description
        | Field::Product
        | Field::Company
        | Field::FileVersion
        | Field::IntegrityLevel
        | Field::LogonId
        | Field::ParentUser => windows(process.windows.as_ref()?, scratch, field),
        _ => rights(process, field)
            .or_else(|| confinement(process, field))
            .or_else(|| file(process.exe_file.as_ref()?, field)),
    }
}

pub(super) fn credential(ids: Credentials, field: Field) -> Option<Value<'static>> {
    match field {
        Field::Uid => int(ids.uid),
        Field::Gid => int(ids.gid),
        Field::Euid => int(ids.euid),
        Field::Egid => int(ids.egid),
        _ => None,
    }
}

fn rights(process: &Process, field: Field) -> Option<Value<'_>> {
    match field {
        Field::User => known(process.user.as_ref()?),
        Field::LoginUid => int(process.login_uid?),
        Field::Session => int(process.session?),
        Field::SessionLeader => int(process.session_leader?),
        Field::Tty => int(process.tty?),
        Field::EffectiveCaps => int(process.effective_caps?),
        Field::HasFileCaps => flag(process.file_caps?),
        Field::IsSecureExec => flag(process.secure_exec?),
        _ => None,
    }
}

fn windows<'v>(
    windows: &'v WindowsProcess,
    scratch: &'v Scratch,
    field: Field,
) -> Option<Value<'v>> {
    match field {
        Field::Md5 => windows.md5.and(text(&scratch.md5)),
        Field::Sha1 => windows.sha1.and(text(&scratch.sha1)),
        Field::Imphash => windows.imphash.and(text(&scratch.imphash)),
        Field::OriginalFileName => text(windows.original_file_name.as_ref()?),
        Field::Description => text(windows.description.as_ref()?),
        Field::Product => text(windows.product.as_ref()?),
        Field::Company => text(windows.company.as_ref()?),
        Field::FileVersion => text(windows.file_version.as_ref()?),
        Field::IntegrityLevel => text(windows.integrity_level.as_ref()?),
        Field::LogonId => int(windows.logon_id?),
        Field::ParentUser => text(windows.parent_user.as_ref()?),
        _ => None,
    }
}

fn confinement(process: &Process, field: Field) -> Option<Value<'_>> {
    match field {
        Field::CgroupId => int(process.cgroup_id?),
        Field::Unit => known(process.unit.as_ref()?),
        Field::ContainerId => known(&process.container.as_ref()?.id),
        Field::ContainerRuntime => known(&process.container.as_ref()?.runtime),
        Field::PodUid => known(process.container.as_ref()?.pod_uid.as_ref()?),
        Field::NamespacePid => int(process.namespace_pid?),
        _ => namespace(process.namespaces?, field),
    }
}

fn namespace(of: Namespaces, field: Field) -> Option<Value<'static>> {
    nonzero(match field {
        Field::MntNs => of.mnt,
        Field::PidNs => of.pid,
        Field::NetNs => of.net,
        Field::UserNs => of.user,
        Field::UtsNs => of.uts,
        Field::IpcNs => of.ipc,
        Field::CgroupNs => of.cgroup,
        Field::TimeNs => of.time,
        _ => return None,
    })
}

/// A column that is the text of a digest.
#[derive(Debug)]
pub(crate) struct Digest {
    pub(crate) field: Field,
    /// What Sysmon calls it.
    pub(crate) name: &'static [u8],
    pub(crate) bytes: usize,
}

/// In the order of Sysmon.
pub(crate) const DIGESTS: [Digest; 4] = [
    Digest {
        field: Field::Sha1,
        name: b"SHA1",
        bytes: 20,
    },
    Digest {
        field: Field::Md5,
        name: b"MD5",
        bytes: 16,
    },
    Digest {
        field: Field::Sha256,
        name: b"SHA256",
        bytes: 32,
    },
    Digest {
        field: Field::Imphash,
        name: b"IMPHASH",
        bytes: 16,
    },
];

pub(super) fn digest(process: &Process, field: Field) -> Option<&[u8]> {
    let windows = process.windows.as_deref();
    match field {
        Field::Sha1 => Some(windows?.sha1.as_ref()?),
        Field::Md5 => Some(windows?.md5.as_ref()?),
        Field::Sha256 => Some(process.sha256.as_ref()?),
        Field::Imphash => Some(windows?.imphash.as_ref()?),
        _ => None,
    }
}

fn has_digest(process: &Process) -> Option<()> {
    let mut digests = DIGESTS.iter();
    digests.find_map(|of| digest(process, of.field)).map(|_| ())
}

/// No file that can be executed has inode 0, device 0, no length or a change time of 1970: there
/// the source filled the rest only.
pub(super) fn file(file: &FileIdentity, field: Field) -> Option<Value<'static>> {
    match field {
        Field::IsMemfd => flag(file.memfd),
        Field::IsDeleted => flag(file.nlink == 0 && !file.memfd),
        Field::IsSetuid => flag(file.is_setuid()),
        Field::IsSetgid => flag(file.is_setgid()),
        Field::FileOwner => int(file.uid),
        Field::FileMode => int(file.mode),
        Field::FileInode => nonzero(file.inode),
        Field::FileDevice => nonzero(file.device),
        Field::FileNlink => int(file.nlink),
        Field::FileSize => nonzero(file.size),
        Field::FileMtime => int(file.mtime),
        Field::FileCtime => nonzero(file.ctime),
        _ => None,
    }
}

fn parent<'v>(parent: &'v Ancestor, scratch: &'v Scratch, field: Field) -> Option<Value<'v>> {
    match field {
        Field::ParentPpid => int(parent.parent?.pid),
        Field::ParentName => known(basename(&parent.exe)),
        Field::ParentComm => known(&parent.comm),
        Field::ParentExecutable => known(&parent.exe),
        Field::ParentArgs => list(&parent.argv),
        Field::ParentArgsCount => list(&parent.argv).and(int(parent.argv.len() as u64)),
        Field::ParentCommandLine => list(&parent.argv).and(text(&scratch.parent_command_line)),
        Field::ParentEuid => int(parent.euid?),
        _ => None,
    }
}

fn list(argv: &Argv) -> Option<Value<'_>> {
    (!argv.is_empty()).then_some(Value::List(argv))
}
