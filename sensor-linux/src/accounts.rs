//! Names of accounts, from the host's `/etc/passwd`.
//!
//! The file itself is read: the name service runs others' code, asks networks, and is not in a
//! static program. So accounts that only a directory knows have no name here.
//!
//! Numbers of users mean something in one place only. A name is given to processes of the mount and
//! user namespace that the file was found in, and to services that systemd gave a mount namespace of
//! their own, but to no others: user 1000 of a container is somebody else.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use event::{Event, EventKind, Namespaces, Process};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat, openat2};
use rustix::io::Errno;

use crate::procfs;

/// The kernel's own user namespace, in whose numbers events tell of users.
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/proc_ns.h#L46>
const INITIAL_USER_NAMESPACE: u32 = 0xEFFF_FFFD;

/// The file is looked at again after this time.
const INTERVAL: Duration = Duration::from_secs(1);

/// A file that was written within this time may have been read while it was being written.
const SETTLED: Duration = Duration::from_secs(2);

/// What is read of the file.
const MAX_BYTES: u64 = 4 << 20;

const MAX_ACCOUNTS: usize = 65_536;

const MAX_NAME_BYTES: usize = 256;

/// Accounts of the host, or of where this program runs if it may not look at the first process.
#[derive(Debug)]
pub(crate) struct Accounts {
    /// None, and nobody has a name, if neither process can be looked at.
    place: Option<Place>,
    names: HashMap<u32, Bytes>,
    /// Of the file that the names are from, once it is not being written.
    version: Option<Version>,
    checked: Option<Instant>,
}

/// Where the file is, and whose processes its numbers are those of.
#[derive(Debug)]
struct Place {
    root: OwnedFd,
    namespaces: Namespaces,
}

/// What changes when the file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: i64,
    /// In ns since 1970, as the next one.
    mtime: u64,
    ctime: u64,
}

impl Accounts {
    /// To be called while there are rights: what it holds open can be read without.
    pub(crate) fn open() -> Self {
        let place = Place::of(Path::new("/proc/1")).or(Place::of(Path::new("/proc/self")));
        Self::at(place)
    }

    fn at(place: Option<Place>) -> Self {
        let mut accounts = Self {
            place,
            names: HashMap::new(),
            version: None,
            checked: None,
        };
        accounts.refresh();
        accounts
    }

    /// Gives processes of these events the names of their effective users.
    pub(crate) fn name_all(&mut self, events: &mut [Event]) {
        let processes = events.iter_mut().filter_map(|event| match &mut event.kind {
            EventKind::Exec(exec) => Some(&mut exec.process),
            EventKind::Snapshot(row) => Some(&mut row.process),
            _ => None,
        });
        let mut looked = false;
        for process in processes {
            if !std::mem::replace(&mut looked, true) {
                self.refresh_if_due();
            }
            process.user = self.name(process);
        }
    }

    fn name(&self, process: &Process) -> Option<Bytes> {
        let (of, place) = (process.namespaces?, self.place.as_ref()?.namespaces);
        let here = (of.mnt == place.mnt || is_service_of_host(process))
            && of.user == place.user
            && of.user == INITIAL_USER_NAMESPACE;
        let user = process.credentials?.euid;
        self.names.get(&user).filter(|_| here).cloned()
    }

    fn refresh_if_due(&mut self) {
        if self.checked.is_none_or(|at| at.elapsed() >= INTERVAL) {
            self.refresh();
        }
    }

    /// Reads the file if it is another one than before. Names stay while it cannot be read.
    fn refresh(&mut self) {
        self.checked = Some(Instant::now());
        let Some((file, version)) = self.place.as_ref().and_then(Place::file) else {
            return;
        };
        if self.version == Some(version) {
            return;
        }
        let mut text = Vec::new();
        if file.take(MAX_BYTES).read_to_end(&mut text).is_ok() {
            self.names = names(&text);
            self.version = Some(version).filter(Version::is_settled);
        }
    }
}

impl Place {
    /// Where a process is.
    fn of(process: &Path) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(process.join("root"), flags, Mode::empty()).ok()?;
        let namespaces = procfs::namespaces(process)?;
        Some(Self { root, namespaces })
    }

    /// A pipe or a device in its place would block, or never end.
    fn file(&self) -> Option<(File, Version)> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let (path, mode) = ("etc/passwd", Mode::empty());
        let file = match openat2(&self.root, path, flags, mode, ResolveFlags::IN_ROOT) {
            // Before Linux 5.6; a link to elsewhere is then not followed.
            Err(Errno::NOSYS) => openat(&self.root, path, flags | OFlags::NOFOLLOW, mode),
            opened => opened,
        };
        let file = File::from(file.ok()?);
        let stat = fstat(&file).ok()?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        regular.then_some((file, Version::of(&stat)))
    }
}

/// A service that `PrivateTmp=` and the like gave its own mount namespace; its accounts are the host's.
/// What systemd-nspawn runs is a container in a service.
fn is_service_of_host(process: &Process) -> bool {
    let unit = process.unit.as_deref().unwrap_or_default();
    process.container.is_none()
        && unit.ends_with(b".service")
        && !unit.starts_with(b"systemd-nspawn@")
}

impl Version {
    fn of(stat: &rustix::fs::Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            mtime: procfs::file_time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: procfs::file_time(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    fn is_settled(&self) -> bool {
        let written = Duration::from_nanos(self.mtime.max(self.ctime));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // A time that is to come tells nothing.
        now.is_ok_and(|now| now.abs_diff(written) > SETTLED)
    }
}

/// The first name of each user, as the C library finds it. Lines of another form are nobody's.
fn names(text: &[u8]) -> HashMap<u32, Bytes> {
    let mut names = HashMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        if names.len() == MAX_ACCOUNTS {
            break;
        }
        if let Some((name, user)) = account(line) {
            names
                .entry(user)
                .or_insert_with(|| Bytes::copy_from_slice(name));
        }
    }
    names
}

/// `name:password:uid:gid:…`, of which the last fields do not matter here.
fn account(line: &[u8]) -> Option<(&[u8], u32)> {
    let mut fields = line.split(|byte| *byte == b':');
    let (name, _, user, _) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    );
    // `+` and `-` ask a directory.
    let named = !name.is_empty() && name.len() <= MAX_NAME_BYTES;
    let plain = named && !matches!(name[0], b'+' | b'-' | b'#');
    let digits = !user.is_empty() && user.iter().all(u8::is_ascii_digit);
    let user = str::from_utf8(user).ok().filter(|_| digits)?.parse().ok()?;
    plain.then_some((name, user))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use event::{Credentials, Exec, Header};

    use super::*;

    const HERE: Namespaces = Namespaces {
        mnt: 7,
        user: INITIAL_USER_NAMESPACE,
        pid: 0,
        net: 0,
        uts: 0,
        ipc: 0,
        cgroup: 0,
        time: 0,
    };

    struct Host(PathBuf);

    impl Host {
        fn new(name: &str, passwd: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("accounts-{name}-{}", std::process::id()));
            fs::create_dir_all(dir.join("etc")).unwrap();
            let host = Self(dir);
            host.write(passwd);
            host
        }

        fn write(&self, passwd: &str) {
            fs::write(self.0.join("etc/new"), passwd).unwrap();
            fs::rename(self.0.join("etc/new"), self.0.join("etc/passwd")).unwrap();
        }

        fn accounts(&self) -> Accounts {
            let root = open(&self.0, OFlags::PATH, Mode::empty()).unwrap();
            let namespaces = HERE;
            Accounts::at(Some(Place { root, namespaces }))
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn process(euid: u32, namespaces: Option<Namespaces>) -> Process {
        Process {
            credentials: Some(Credentials {
                uid: 0,
                euid,
                ..Credentials::default()
            }),
            namespaces,
            ..Process::default()
        }
    }

    fn named(accounts: &mut Accounts, process: Process) -> Option<Bytes> {
        let exec = Exec {
            process,
            old_tid: None,
        };
        let mut events = [Event {
            header: Header::default(),
            kind: EventKind::Exec(Box::new(exec)),
        }];
        accounts.name_all(&mut events);
        let [Event { kind, .. }] = events;
        match kind {
            EventKind::Exec(exec) => exec.process.user,
            other => panic!("not an exec: {other:?}"),
        }
    }

    #[test]
    fn first_line_of_a_user_names_it_and_odd_lines_name_nobody() {
        let check = |text: &str, expected: &[(u32, &str)]| {
            let names = names(text.as_bytes());
            let mut found: Vec<_> = names.iter().map(|(user, name)| (*user, name)).collect();
            found.sort_unstable();
            let found: Vec<(u32, &str)> = found
                .into_iter()
                .map(|(user, name)| (user, str::from_utf8(name).unwrap()))
                .collect();
            assert_eq!(found, expected, "{text}");
        };
        let usual = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:\n";
        check(usual, &[(0, "root"), (33, "www-data")]);
        check("toor:x:0:0:::\nroot:x:0:0:::\n", &[(0, "toor")]);
        check("a:x:1:1", &[(1, "a")]);
        check("a:x:1\nb:x\n\n:x:2:2::\n", &[]);
        check("+:x:3:3::\n-b:x:4:4::\n#c:x:5:5::\n+d::::::\n", &[]);
        check(
            "a:x:-1:1::\nb:x:+1:1::\nc:x:4294967296:1::\nd:x: 1:1::\n",
            &[],
        );
        check(&format!("{}:x:1:1::\n", "n".repeat(257)), &[]);
        let many: String = (0..MAX_ACCOUNTS + 5)
            .map(|n| format!("u{n}:x:{n}:0::\n"))
            .collect();
        assert_eq!(names(many.as_bytes()).len(), MAX_ACCOUNTS);
    }

    proptest::proptest! {
        #[test]
        fn names_are_taken_from_any_bytes(text in proptest::collection::vec(proptest::sample::select(&b"ab:0129+\n\xff "[..]), 0..200)) {
            for name in names(&text).values() {
                proptest::prop_assert!(!name.is_empty() && !name.contains(&b':'));
            }
        }
    }

    #[test]
    fn effective_user_is_named_where_the_file_is_and_nowhere_else() {
        let host = Host::new("where", "root:x:0:0::\nann:x:1000:1000::\n");
        let mut accounts = host.accounts();
        assert_eq!(
            named(&mut accounts, process(1000, Some(HERE))).unwrap(),
            "ann"
        );
        assert_eq!(named(&mut accounts, process(1001, Some(HERE))), None);
        let container = Namespaces { mnt: 8, ..HERE };
        assert_eq!(named(&mut accounts, process(1000, Some(container))), None);
        let service = |unit: &'static str| Process {
            unit: Some(unit.into()),
            ..process(1000, Some(container))
        };
        let name = named(&mut accounts, service("web.service"));
        assert_eq!(name.unwrap(), "ann");
        for unit in ["systemd-nspawn@web.service", "machine-web.scope"] {
            assert_eq!(named(&mut accounts, service(unit)), None, "{unit}");
        }
        let rootless = Namespaces { user: 9, ..HERE };
        assert_eq!(named(&mut accounts, process(1000, Some(rootless))), None);
        assert_eq!(named(&mut accounts, process(1000, None)), None);
        let without = Process {
            credentials: None,
            ..process(1000, Some(HERE))
        };
        assert_eq!(named(&mut accounts, without), None);
    }

    #[test]
    fn changed_file_is_read_again_and_a_lost_one_keeps_its_names() {
        let host = Host::new("changed", "ann:x:1000:1000::\n");
        let mut accounts = host.accounts();
        host.write("bob:x:1000:1000::\n");
        accounts.checked = Instant::now().checked_sub(INTERVAL);
        assert_eq!(
            named(&mut accounts, process(1000, Some(HERE))).unwrap(),
            "bob"
        );
        fs::remove_file(host.0.join("etc/passwd")).unwrap();
        accounts.checked = None;
        assert_eq!(
            named(&mut accounts, process(1000, Some(HERE))).unwrap(),
            "bob"
        );
        // Not looked at again so soon, however long this test stands still in between.
        let looked = accounts.checked.expect("it was looked at");
        accounts.checked = Some(looked + Duration::from_secs(600));
        host.write("eve:x:1000:1000::\n");
        assert_eq!(
            named(&mut accounts, process(1000, Some(HERE))).unwrap(),
            "bob"
        );
    }

    #[test]
    fn file_that_is_read_while_it_is_written_is_read_once_more() {
        let host = Host::new("settled", "ann:x:1000:1000::\n");
        let mut accounts = host.accounts();
        assert_eq!(accounts.version, None);
        let old = accounts.place.as_ref().unwrap().file().unwrap().1;
        let old = Version {
            mtime: 1,
            ctime: 1,
            ..old
        };
        assert!(old.is_settled());
        // In place, so that only what is in it tells.
        fs::write(host.0.join("etc/passwd"), "bob:x:1000:1000::\n").unwrap();
        accounts.checked = None;
        assert_eq!(
            named(&mut accounts, process(1000, Some(HERE))).unwrap(),
            "bob"
        );
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let host = Host::new("fifo", "");
        let passwd = host.0.join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        fs::create_dir(&passwd).unwrap();
        assert!(host.accounts().place.unwrap().file().is_none());
        fs::remove_dir(&passwd).unwrap();
        let fifo = std::process::Command::new("mkfifo").arg(&passwd).status();
        if fifo.is_ok_and(|status| status.success()) {
            assert!(host.accounts().place.unwrap().file().is_none());
        }
        let _ = fs::remove_file(&passwd);
        // A link stays below the root that it is in.
        fs::write(host.0.join("etc/other"), "ann:x:1000:1000::\n").unwrap();
        std::os::unix::fs::symlink("/etc/other", &passwd).unwrap();
        let mut accounts = host.accounts();
        assert_eq!(
            named(&mut accounts, process(1000, Some(HERE))).unwrap(),
            "ann"
        );
    }
}
