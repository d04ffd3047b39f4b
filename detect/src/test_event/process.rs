//! A process that runs a program, and its file.

use event::{Ancestor, Bytes, Container, FileIdentity, Namespaces, Process, WindowsProcess};

use super::{TestEvent, TestParent, arguments, comm, hash, key};

/// Of a parent that is not given one.
pub(super) const PARENT_PID: u32 = 999;

impl TestEvent {
    pub(super) fn process(&self) -> Result<Process, String> {
        let bytes = |text: &Option<String>| text.clone().map(Bytes::from);
        Ok(Process {
            key: self.key(),
            parent: self.parent_pid().map(key),
            comm: self.comm(),
            exe: self.exe(),
            filename: bytes(&self.filename).unwrap_or_else(|| self.exe()),
            interpreter: bytes(&self.interpreter),
            argv: arguments(self.args.as_deref(), self.exe.as_deref()),
            argv_truncated_bytes: self.args_truncated_bytes.unwrap_or(0),
            cwd: bytes(&self.cwd),
            credentials: self.credentials(),
            user: bytes(&self.user),
            login_uid: self.login_uid,
            session: self.session,
            session_leader: self.session_leader,
            tty: self.tty,
            effective_caps: self.effective_caps,
            cgroup_id: self.cgroup_id,
            namespaces: self.namespaces(),
            namespace_pid: self.namespace_pid,
            container: self.container(),
            unit: bytes(&self.unit),
            exe_file: Some(self.file()),
            secure_exec: self.secure_exec,
            file_caps: self.file_caps,
            environment: self.environment.as_ref().map(|all| all.iter().collect()),
            sha256: self.digest()?,
            exe_changed: self.exe_changed == Some(true),
            exe_touched: self.exe_touched == Some(true),
            parent_process: self
                .parent
                .as_ref()
                .map(|p| Box::new(p.ancestor(PARENT_PID))),
            ancestors: self.ancestors().collect(),
            windows: self.windows()?,
            ..Process::default()
        })
    }

    fn ancestors(&self) -> impl Iterator<Item = Ancestor> {
        let given = self.ancestors.iter().flatten();
        let pids = (0..PARENT_PID).rev();
        given.zip(pids).map(|(given, pid)| given.ancestor(pid))
    }

    fn windows(&self) -> Result<Option<Box<WindowsProcess>>, String> {
        let bytes = |text: &Option<String>| text.clone().map(Bytes::from);
        let parent_user = self.parent.as_ref().and_then(|parent| bytes(&parent.user));
        let windows = WindowsProcess {
            integrity_level: bytes(&self.integrity_level),
            logon_id: self.logon_id,
            original_file_name: bytes(&self.original_file_name),
            description: bytes(&self.description),
            product: bytes(&self.product),
            company: bytes(&self.company),
            file_version: bytes(&self.file_version),
            md5: hash("md5", self.md5.as_deref())?,
            sha1: hash("sha1", self.sha1.as_deref())?,
            imphash: hash("imphash", self.imphash.as_deref())?,
            parent_user,
        };
        let told = windows != WindowsProcess::default();
        Ok(told.then(|| Box::new(windows)))
    }

    /// Those that are not given are unknown.
    fn namespaces(&self) -> Option<Namespaces> {
        let number = |given: Option<u32>| given.unwrap_or(0);
        let namespaces = Namespaces {
            mnt: number(self.mnt_ns),
            pid: number(self.pid_ns),
            net: number(self.net_ns),
            user: number(self.user_ns),
            uts: number(self.uts_ns),
            ipc: number(self.ipc_ns),
            cgroup: number(self.cgroup_ns),
            time: number(self.time_ns),
        };
        (namespaces != Namespaces::default()).then_some(namespaces)
    }

    fn container(&self) -> Option<Container> {
        let container = Container {
            id: Bytes::from(self.container_id.clone().unwrap_or_default()),
            runtime: Bytes::from(self.container_runtime.clone().unwrap_or_default()),
            pod_uid: self.pod_uid.clone().map(Bytes::from),
        };
        (container != Container::default()).then_some(container)
    }

    pub(super) fn file(&self) -> FileIdentity {
        let set = |flag: Option<bool>, bit| if flag == Some(true) { bit } else { 0 };
        let nameless = self.memfd == Some(true) || self.deleted == Some(true);
        FileIdentity {
            inode: self.file_inode.unwrap_or(0),
            device: self.file_device.unwrap_or(0),
            nlink: self.file_nlink.unwrap_or(u32::from(!nameless)),
            size: self.file_size.unwrap_or(0),
            mtime: self.file_mtime.unwrap_or(0),
            ctime: self.file_ctime.unwrap_or(0),
            mode: 0o100_755 | set(self.setuid, 0o4000) | set(self.setgid, 0o2000),
            uid: self.file_owner.unwrap_or(0),
            memfd: self.memfd == Some(true),
        }
    }
}

impl TestParent {
    fn ancestor(&self, pid: u32) -> Ancestor {
        Ancestor {
            key: key(self.pid.unwrap_or(pid)),
            comm: comm(self.comm.as_deref(), self.exe.as_deref()),
            exe: Bytes::from(self.exe.clone().unwrap_or_default()),
            argv: arguments(self.args.as_deref(), self.exe.as_deref()),
            parent: self.ppid.map(key),
            euid: self.euid,
        }
    }
}
