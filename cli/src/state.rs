//! The state directory: where it is by default, what it must be, and what lies in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};

use crate::exit::{Code, Failure, WithCode};
use crate::privileges::{self, Account, Keep};

#[cfg(not(unix))]
use other::Top;
#[cfg(unix)]
use unix::Top;

/// A state directory.
#[derive(Debug)]
pub(crate) struct State {
    dir: PathBuf,
    top: Top,
    /// It is the working directory: whoever we became may not be able to walk to it.
    entered: bool,
}

impl State {
    /// Creates the directory, or takes one that nobody but root and `account` (or ourselves) has a
    /// hand in. Writes nothing into it: that is for the account to do.
    pub(crate) fn create(wanted: Option<&Path>, account: Option<Account>) -> Result<Self, Failure> {
        let dir = locate(wanted)?;
        // A path that was typed may be mistyped; that of the default is ours.
        let made = if wanted.is_none() {
            create_parents(&dir)
        } else {
            Ok(())
        };
        let top = made
            .and_then(|()| Top::create(&dir, account))
            .with_context(|| format!("state directory {}", dir.display()))
            .code(Code::StateUnusable)?;
        Ok(Self {
            dir,
            top,
            entered: false,
        })
    }

    /// Takes a directory that must hold a ledger.
    pub(crate) fn existing(wanted: Option<&Path>) -> Result<Self, Failure> {
        let dir = locate(wanted)?;
        let ledger = fs::metadata(dir.join("ledger"));
        if let Err(error) = ledger
            && error.kind() == std::io::ErrorKind::PermissionDenied
        {
            let error = anyhow!(error).context(format!("state directory {}", dir.display()));
            return Err(Failure::new(Code::StateUnusable, error));
        }
        if !dir.join("ledger").is_dir() {
            let error = anyhow!(
                "no ledger in {}; name the directory of `daemoneye run` with --state-dir",
                dir.display()
            );
            return Err(Failure::new(Code::StateUnusable, error));
        }
        let top = Top::open(&dir)
            .with_context(|| format!("state directory {}", dir.display()))
            .code(Code::StateUnusable)?;
        Ok(Self {
            dir,
            top,
            entered: false,
        })
    }

    /// Gives the directory to the account that is about to be taken, and goes into it.
    pub(crate) fn hand_over(&mut self, account: Option<Account>) -> Result<(), Failure> {
        let Some(account) = account else {
            return Ok(());
        };
        self.top
            .give(account)
            .and_then(|()| self.enter())
            .with_context(|| format!("state directory {}", self.dir.display()))
            .code(Code::StateUnusable)
    }

    /// For root that is to write: where the directory is somebody else's, goes on as that account,
    /// since its owner decides what any name in it means.
    pub(crate) fn become_owner(&mut self) -> Result<()> {
        let Some(account) = self.top.owner()? else {
            return Ok(());
        };
        self.enter()?;
        privileges::drop(Some(account), Keep::Nothing)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.place().join("ledger")
    }

    /// The directory, by a path that whoever we became can walk.
    pub(crate) fn place(&self) -> &Path {
        if self.entered {
            Path::new(".")
        } else {
            &self.dir
        }
    }

    fn enter(&mut self) -> Result<()> {
        self.top.enter()?;
        self.entered = true;
        // A second state directory is never entered.
        let _ = ENTERED.set(self.dir.clone());
        Ok(())
    }
}

/// The state directory that is the process's working directory.
static ENTERED: OnceLock<PathBuf> = OnceLock::new();

/// A message in which the ledger of an entered directory has the path that the operator knows.
pub(crate) fn with_real_paths(message: String) -> String {
    match ENTERED.get() {
        Some(dir) => message.replace("./ledger", &dir.join("ledger").display().to_string()),
        None => message,
    }
}

fn create_parents(dir: &Path) -> Result<()> {
    match dir.parent() {
        Some(parent) => fs::create_dir_all(parent)
            .with_context(|| format!("{} cannot be created", parent.display())),
        None => Ok(()),
    }
}

/// What keeps the directory from being created, if that is a parent that does not exist.
fn require_parent(dir: &Path) -> Result<()> {
    let missing = |parent: &&Path| !parent.as_os_str().is_empty() && !parent.exists();
    // The topmost: the others are below it.
    match dir.ancestors().skip(1).filter(missing).last() {
        Some(parent) => bail!(
            "{} does not exist, and only the last directory of the path is created",
            parent.display()
        ),
        None => Ok(()),
    }
}

fn locate(wanted: Option<&Path>) -> Result<PathBuf, Failure> {
    match wanted {
        // Without a slash at its end, which would follow a symlink.
        Some(dir) => Ok(dir.components().collect()),
        None => default_dir()
            .ok_or_else(|| anyhow!("no home directory is known; name one with --state-dir"))
            .code(Code::StateUnusable),
    }
}

/// The system's place for root, else one below the user's home.
#[cfg(unix)]
fn default_dir() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        Some(PathBuf::from(SYSTEM_DIR))
    } else {
        home_dir()
    }
}

#[cfg(target_os = "linux")]
const SYSTEM_DIR: &str = "/var/lib/daemoneye";
#[cfg(target_os = "macos")]
const SYSTEM_DIR: &str = "/Library/Application Support/daemoneye";
#[cfg(all(unix, not(any(target_os = "linux", target_os = "macos"))))]
const SYSTEM_DIR: &str = "/var/db/daemoneye";

#[cfg(unix)]
fn home_dir() -> Option<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    Some(state?.join("daemoneye"))
}

#[cfg(windows)]
fn default_dir() -> Option<PathBuf> {
    let base = std::env::var_os("ProgramData").or_else(|| std::env::var_os("LOCALAPPDATA"))?;
    Some(PathBuf::from(base).join("daemoneye"))
}

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::io::{Error, ErrorKind};
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::DirBuilderExt;
    use std::path::Path;

    use anyhow::{Context, Result, anyhow, bail};
    use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
    use rustix::fs::{fstat, lstat, open, openat, statat};
    use rustix::io::Errno;
    use rustix::process::{fchdir, getegid, geteuid};

    use crate::holder::Holder;
    use crate::privileges::Account;

    const DIRECTORY: OFlags = OFlags::RDONLY
        .union(OFlags::DIRECTORY)
        .union(OFlags::CLOEXEC);

    /// The directory itself, opened: its path may come to mean another one.
    #[derive(Debug)]
    pub(super) struct Top(OwnedFd);

    impl Top {
        pub(super) fn create(dir: &Path, account: Option<Account>) -> Result<Self> {
            let user = User::of(account);
            match lstat(dir) {
                Ok(found) => require_directory(&found)?,
                Err(Errno::NOENT) => {
                    super::require_parent(dir)?;
                    create_private(dir)
                        .context("it cannot be created (choose another with --state-dir)")?;
                }
                Err(error) => return Err(error.into()),
            }
            let top = match open(dir, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(top) => top,
                Err(Errno::ACCESS) => {
                    user.require_owner(&lstat(dir)?, dir)?;
                    return Err(Errno::ACCESS.into());
                }
                Err(error) => return Err(error.into()),
            };
            let found = fstat(&top)?;
            // In this order, so that nobody is told to take over a directory of something else.
            require_ours(&top)?;
            user.require_owner(&found, dir)?;
            if let Ok(ledger) = statat(&top, "ledger", AtFlags::SYMLINK_NOFOLLOW) {
                user.require_owner(&ledger, dir)?;
            }
            require_private(&found, dir)?;
            Ok(Self(top))
        }

        pub(super) fn open(dir: &Path) -> Result<Self> {
            Ok(Self(open(dir, DIRECTORY, Mode::empty())?))
        }

        pub(super) fn give(&self, account: Account) -> Result<()> {
            account.own(&self.0)
        }

        pub(super) fn enter(&self) -> Result<()> {
            Ok(fchdir(&self.0)?)
        }

        /// The account that owns it or the ledger in it, if that is not root but we are.
        pub(super) fn owner(&self) -> Result<Option<Account>> {
            let mut found = fstat(&self.0)?;
            if found.st_uid == 0 {
                found = statat(&self.0, "ledger", AtFlags::empty())?;
            }
            Ok(Account::of_owner(found.st_uid, found.st_gid))
        }
    }

    /// Who is going to write there.
    struct User {
        uid: u32,
        gid: u32,
    }

    impl User {
        fn of(account: Option<Account>) -> Self {
            match account {
                Some(account) => Self {
                    uid: account.uid(),
                    gid: account.gid(),
                },
                None => Self {
                    uid: geteuid().as_raw(),
                    gid: getegid().as_raw(),
                },
            }
        }

        fn require_owner(&self, found: &Stat, dir: &Path) -> Result<()> {
            let (owner, Self { uid, gid }) = (found.st_uid, self);
            if owner == 0 || owner == *uid {
                return Ok(());
            }
            if !geteuid().is_root() {
                bail!(
                    "it belongs to uid {owner}, and this process runs as uid {uid}; choose another \
                     with --state-dir"
                );
            }
            if let Some(holder) = Holder::of(&dir.join("ledger")) {
                bail!(
                    "it belongs to uid {owner}, and {holder} writes there; choose another with \
                     --state-dir"
                );
            }
            bail!(
                "it belongs to uid {owner}, and what writes there is to run as uid {uid}; \
                 choose another with --state-dir, or, if no daemon of that user uses it, hand it \
                 over: chown -R {uid}:{gid} {}",
                dir.display()
            )
        }
    }

    /// Readable by the owner alone: it holds the signing key.
    fn create_private(dir: &Path) -> Result<(), Error> {
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            // Somebody else did: it is looked at as any other that exists.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            created => created,
        }
    }

    fn require_directory(found: &Stat) -> Result<()> {
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => Ok(()),
            FileType::Symlink => bail!("it is a symbolic link; name the directory itself"),
            _ => bail!("it is no directory"),
        }
    }

    fn require_private(found: &Stat, dir: &Path) -> Result<()> {
        if Mode::from_raw_mode(found.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
            bail!(
                "others than its owner can write there; take that away: chmod go-w {}",
                dir.display()
            );
        }
        Ok(())
    }

    /// Nothing in it, or a ledger.
    fn require_ours(top: &OwnedFd) -> Result<()> {
        let names = names(top)?;
        if names.iter().any(|name| name == "ledger") {
            return require_ledger(top);
        }
        match names.iter().find(|name| *name != "lost+found") {
            None => Ok(()),
            Some(other) => Err(anyhow!(
                "it holds other things ({other}) and no ledger; \
                 choose an empty or a new directory with --state-dir"
            )),
        }
    }

    /// A directory that is empty or was made by us.
    fn require_ledger(top: &OwnedFd) -> Result<()> {
        let flags = DIRECTORY | OFlags::NOFOLLOW;
        let ledger = match openat(top, "ledger", flags, Mode::empty()) {
            Ok(ledger) => ledger,
            // Its owner is told of later.
            Err(Errno::ACCESS) => return Ok(()),
            Err(Errno::LOOP | Errno::NOTDIR) => bail!("its `ledger` is no directory"),
            Err(error) => return Err(error).context("its `ledger`"),
        };
        let names = names(&ledger)?;
        let known = |name: &String| name == "lock" || name == "ledger.pub";
        if names.is_empty() || names.iter().any(known) {
            return Ok(());
        }
        bail!(
            "its `ledger` was not made by DaemonEye; \
             choose an empty or a new directory with --state-dir"
        )
    }

    fn names(dir: &OwnedFd) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

#[cfg(not(unix))]
mod other {
    use std::fs;
    use std::path::Path;

    use anyhow::{Context, Result};

    use crate::privileges::Account;

    /// Nothing is known of owners here.
    #[derive(Debug)]
    pub(super) struct Top;

    impl Top {
        pub(super) fn create(dir: &Path, _: Option<Account>) -> Result<Self> {
            if !dir.is_dir() {
                super::require_parent(dir)?;
                fs::create_dir(dir)
                    .context("it cannot be created (choose another with --state-dir)")?;
            }
            Ok(Self)
        }

        pub(super) fn open(_: &Path) -> Result<Self> {
            Ok(Self)
        }

        pub(super) fn give(&self, account: Account) -> Result<()> {
            match account {}
        }

        pub(super) fn enter(&self) -> Result<()> {
            Ok(())
        }

        pub(super) fn owner(&self) -> Result<Option<Account>> {
            Ok(None)
        }
    }
}
