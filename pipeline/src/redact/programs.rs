//! Programs that take a password by a flag that means something else elsewhere.

/// A family of programs with the same flags.
#[derive(Debug)]
pub(super) struct Program {
    /// Place in [`PROGRAMS`].
    pub(super) number: usize,
    /// Words with which their names begin.
    begins: &'static [&'static str],
    /// Their names; empty: whatever begins so.
    names: &'static [&'static str],
    /// The flags count only after this word.
    pub(super) after: Option<&'static str>,
    /// Short flags.
    pub(super) flags: &'static [Flag],
    /// Long flags whose value is `user:password`.
    pub(super) accounts: &'static [&'static str],
    /// Its `-b` takes the password as the last of its arguments (`htpasswd`).
    pub(super) hashes: bool,
}

/// A short flag and where its secret is.
#[derive(Debug)]
pub(super) struct Flag {
    pub(super) flag: &'static str,
    /// `-pSECRET`.
    pub(super) attached: bool,
    /// `-p SECRET`.
    pub(super) separate: bool,
    /// The secret begins after the first of this byte in the value.
    pub(super) after: Option<u8>,
}

impl Program {
    pub(super) fn is(&self, name: &[u8]) -> bool {
        let name = name.strip_suffix(b".exe").unwrap_or(name);
        let any = |names: &[&str]| {
            names
                .iter()
                .any(|n| n.as_bytes().eq_ignore_ascii_case(name))
        };
        self.names.is_empty() || any(self.names)
    }
}

const fn both(flag: &'static str) -> Flag {
    Flag {
        flag,
        attached: true,
        separate: true,
        after: None,
    }
}

const fn attached(flag: &'static str) -> Flag {
    Flag {
        flag,
        attached: true,
        separate: false,
        after: None,
    }
}

const fn separate(flag: &'static str) -> Flag {
    Flag {
        flag,
        attached: false,
        separate: true,
        after: None,
    }
}

const fn part(flag: &'static str, after: u8) -> Flag {
    Flag {
        flag,
        attached: true,
        separate: true,
        after: Some(after),
    }
}

const fn program(
    number: usize,
    begins: &'static [&'static str],
    names: &'static [&'static str],
    flags: &'static [Flag],
) -> Program {
    Program {
        number,
        begins,
        names,
        after: None,
        flags,
        accounts: &[],
        hashes: false,
    }
}

pub(super) const COUNT: usize = 19;

static PROGRAMS: [Program; COUNT] = [
    // `-p name` asks and `name` is the database.
    program(0, &["mysql", "mariadb", "mycli"], &[], &[attached("-p")]),
    program(1, &["sshpass"], &["sshpass"], &[both("-p")]),
    Program {
        accounts: &["--user", "--proxy-user", "--cert"],
        ..program(
            2,
            &["curl"],
            &["curl"],
            &[part("-u", b':'), part("-U", b':'), part("-E", b':')],
        )
    },
    Program {
        after: Some("login"),
        ..program(
            3,
            &["docker", "podman", "buildah", "skopeo", "nerdctl", "helm"],
            &["docker", "podman", "buildah", "skopeo", "nerdctl", "helm"],
            &[both("-p")],
        )
    },
    program(4, &["redis-cli"], &["redis-cli"], &[separate("-a")]),
    program(
        5,
        &["mongo"],
        &[
            "mongo",
            "mongosh",
            "mongodump",
            "mongorestore",
            "mongoexport",
            "mongoimport",
        ],
        &[both("-p")],
    ),
    program(6, &["ldap"], &[], &[both("-w")]),
    program(
        7,
        &["7z", "rar", "unrar"],
        &["7z", "7za", "7zr", "rar", "unrar"],
        &[attached("-p")],
    ),
    program(8, &["zip", "unzip"], &["zip", "unzip"], &[both("-P")]),
    program(9, &["sqlcmd", "bcp"], &["sqlcmd", "bcp"], &[both("-P")]),
    program(
        10,
        &["smbclient", "rpcclient"],
        &["smbclient", "rpcclient"],
        &[part("-U", b'%')],
    ),
    Program {
        accounts: &["--auth"],
        ..program(
            11,
            &["http", "xh"],
            &["http", "https", "xh", "xhs"],
            &[part("-a", b':')],
        )
    },
    program(12, &["lftp"], &["lftp"], &[part("-u", b',')]),
    program(
        13,
        &["ssh-keygen"],
        &["ssh-keygen"],
        &[separate("-N"), separate("-P")],
    ),
    program(
        14,
        &["useradd", "usermod"],
        &["useradd", "usermod"],
        &[both("-p")],
    ),
    Program {
        after: Some("login"),
        ..program(15, &["az"], &["az"], &[both("-p")])
    },
    program(
        16,
        &["twine", "rdesktop"],
        &["twine", "rdesktop"],
        &[both("-p")],
    ),
    Program {
        after: Some("enc"),
        ..program(
            17,
            &["openssl"],
            &["openssl"],
            &[separate("-k"), separate("-K")],
        )
    },
    Program {
        hashes: true,
        ..program(18, &["htpasswd"], &["htpasswd"], &[])
    },
];

/// Every program by the words with which its names begin.
pub(super) fn all() -> impl Iterator<Item = (&'static str, &'static Program)> {
    PROGRAMS
        .iter()
        .flat_map(|program| program.begins.iter().map(move |begin| (*begin, program)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn programs_are_numbered_by_their_place() {
        assert!(
            super::PROGRAMS
                .iter()
                .enumerate()
                .all(|(i, program)| program.number == i)
        );
    }
}
