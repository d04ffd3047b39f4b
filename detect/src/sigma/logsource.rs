//! Which log sources are produced here, and which column each of their fields is.

use crate::catalog::{Column, Field, Stream};
use crate::error::{ErrorKind, Place};
use crate::nearest::nearest;
use crate::sigma::header::given;
use crate::sigma::node::Node;

/// The operating systems that rules are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Os {
    /// `product: linux`
    Linux,
    /// `product: macos`
    Macos,
    /// `product: windows`
    Windows,
}

impl Os {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Linux, Self::Macos, Self::Windows];

    /// As `product` in rules.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Macos => "macos",
            Self::Windows => "windows",
        }
    }

    /// The system of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|os| os.name() == name)
    }

    /// The one that this program was built for, if it is one of them.
    #[must_use]
    pub fn here() -> Option<Self> {
        Self::from_name(std::env::consts::OS)
    }
}

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Logsource {
    pub(crate) stream: Stream,
    /// `None`: every system.
    pub(crate) os: Option<Os>,
}

/// What a field's name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A text column.
    Text(Field),
    /// The account name; on Unix the source may know its number only.
    User,
    /// A number column.
    Number(Field),
    /// A number column that Windows writes in hexadecimal, `0x3e7`.
    Hex(Field),
    /// A time.
    Time(Field),
    /// The same number in every event.
    Always(i128),
    /// A field of the source that is not produced here.
    Absent,
}

/// Fields of `process_creation`, as Sysmon's event 1 names them.
const CREATION: &[(&str, Meaning)] = &[
    ("CommandLine", Meaning::Text(Field::CommandLine)),
    ("Company", Meaning::Text(Field::Company)),
    ("CurrentDirectory", Meaning::Text(Field::WorkingDirectory)),
    ("Description", Meaning::Text(Field::Description)),
    ("EventID", Meaning::Always(1)),
    ("FileVersion", Meaning::Text(Field::FileVersion)),
    (
        "GrandParentImage",
        Meaning::Text(Field::GrandparentExecutable),
    ),
    ("Hashes", Meaning::Text(Field::Hashes)),
    ("Image", Meaning::Text(Field::Executable)),
    ("Imphash", Meaning::Text(Field::Imphash)),
    ("IntegrityLevel", Meaning::Text(Field::IntegrityLevel)),
    ("LogonGuid", Meaning::Absent),
    ("LogonId", Meaning::Hex(Field::LogonId)),
    ("OriginalFileName", Meaning::Text(Field::OriginalFileName)),
    ("ParentCommandLine", Meaning::Text(Field::ParentCommandLine)),
    ("ParentImage", Meaning::Text(Field::ParentExecutable)),
    ("ParentProcessGuid", Meaning::Text(Field::ParentEntityId)),
    ("ParentProcessId", Meaning::Number(Field::ParentPid)),
    ("ParentUser", Meaning::Text(Field::ParentUser)),
    ("ProcessGuid", Meaning::Text(Field::EntityId)),
    ("ProcessId", Meaning::Number(Field::Pid)),
    ("Product", Meaning::Text(Field::Product)),
    ("Provider_Name", Meaning::Absent),
    ("Channel", Meaning::Absent),
    ("Computer", Meaning::Absent),
    ("RuleName", Meaning::Absent),
    ("TerminalSessionId", Meaning::Number(Field::Session)),
    ("User", Meaning::User),
    ("UtcTime", Meaning::Time(Field::EventTime)),
    ("imphash", Meaning::Text(Field::Imphash)),
    ("md5", Meaning::Text(Field::Md5)),
    ("sha1", Meaning::Text(Field::Sha1)),
    ("sha256", Meaning::Text(Field::Sha256)),
];

/// Fields of `process_termination`, as Sysmon's event 5 names them, and how the process ended.
const TERMINATION: &[(&str, Meaning)] = &[
    ("EventID", Meaning::Always(5)),
    ("ExitCode", Meaning::Number(Field::ExitCode)),
    ("ExitStatus", Meaning::Number(Field::ExitCode)),
    ("Image", Meaning::Text(Field::Executable)),
    ("ParentProcessGuid", Meaning::Text(Field::ParentEntityId)),
    ("ParentProcessId", Meaning::Number(Field::ParentPid)),
    ("ProcessGuid", Meaning::Text(Field::EntityId)),
    ("ProcessId", Meaning::Number(Field::Pid)),
    ("RuleName", Meaning::Absent),
    ("User", Meaning::Absent),
    ("UtcTime", Meaning::Time(Field::EventTime)),
];

/// Columns that a keyword is looked for in: what a log line of the event would hold.
const CREATION_TEXT: &[Field] = &[
    Field::Executable,
    Field::CommandLine,
    Field::WorkingDirectory,
    Field::User,
    Field::ParentExecutable,
    Field::ParentCommandLine,
    Field::ParentUser,
    Field::OriginalFileName,
    Field::Description,
    Field::Product,
    Field::Company,
    Field::FileVersion,
    Field::IntegrityLevel,
    Field::Hashes,
];

/// What the sensor of no system but Windows can give.
const WINDOWS_ONLY: &[Field] = &[
    Field::Md5,
    Field::Sha1,
    Field::Imphash,
    Field::OriginalFileName,
    Field::Description,
    Field::Product,
    Field::Company,
    Field::FileVersion,
    Field::IntegrityLevel,
    Field::LogonId,
    Field::ParentUser,
];

/// What the sensor of Windows cannot give at present: its provider does not carry it.
const NOT_ON_WINDOWS: &[Field] = &[
    Field::CommandLine,
    Field::WorkingDirectory,
    Field::User,
    Field::ParentCommandLine,
];

impl Logsource {
    /// What the `logsource` of a rule or filter means, or why there is no such thing here.
    pub(crate) fn read(node: Option<&Node>, document: Place) -> Result<Self, (Place, ErrorKind)> {
        let Some(node) = node.filter(|node| node.entries().is_some()) else {
            let problem = "is missing: it must say what the rule is about".to_owned();
            let at = node.map_or(document, |node| node.at);
            return Err((
                at,
                ErrorKind::Key {
                    key: "logsource",
                    problem,
                },
            ));
        };
        let word = |key| node.get(key).and_then(Node::text);
        let (category, product) = (word("category"), word("product"));
        let stream = match category {
            Some("process_creation") => Some(Stream::Exec),
            Some("process_termination") => Some(Stream::Exit),
            _ => None,
        };
        let os = product.map(Os::from_name);
        let sysmon = matches!(word("service"), None | Some("sysmon"));
        match (stream, os) {
            (Some(stream), None | Some(Some(_))) if sysmon => Ok(Self {
                stream,
                os: os.flatten(),
            }),
            _ => Err((node.at, ErrorKind::NotProduced(describe(node)))),
        }
    }

    /// What a field's name stands for; an unknown one is [`Meaning::Absent`].
    pub(crate) fn meaning(&self, name: &str) -> Meaning {
        let found = self.fields().iter().find(|(known, _)| *known == name);
        match found.map_or(Meaning::Absent, |(_, meaning)| *meaning) {
            // Sysmon for Linux writes the user id there.
            Meaning::Hex(_) if self.os.is_some_and(|os| os != Os::Windows) => {
                Meaning::Number(Field::Euid)
            }
            meaning => meaning,
        }
    }

    /// The field that was probably meant by a name that is none.
    pub(crate) fn suggestion(&self, name: &str) -> Option<&'static str> {
        let names = self.fields().iter().map(|(known, _)| *known);
        if names.clone().any(|known| known == name) {
            return None;
        }
        let ignoring_case = names.clone().find(|known| known.eq_ignore_ascii_case(name));
        ignoring_case.or_else(|| nearest(name, names))
    }

    /// Columns that a keyword is looked for in.
    pub(crate) fn text(&self) -> &'static [Field] {
        match self.stream {
            Stream::Exec => CREATION_TEXT,
            _ => &[Field::Executable],
        }
    }

    /// Whether events of this source can have the column where the rules are to run.
    pub(crate) fn gives(&self, host: Option<Os>, field: Field) -> bool {
        match host {
            None => true,
            Some(Os::Windows) => !NOT_ON_WINDOWS.contains(&field) && !WINDOWS_ONLY.contains(&field),
            Some(Os::Linux | Os::Macos) => {
                !WINDOWS_ONLY.contains(&field)
                    && (host != Some(Os::Macos) || !matches!(field, Field::Hashes | Field::Sha256))
            }
        }
    }

    fn fields(&self) -> &'static [(&'static str, Meaning)] {
        match self.stream {
            Stream::Exec => CREATION,
            _ => TERMINATION,
        }
    }
}

/// The log sources that a filter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scope {
    /// `None`: every category.
    stream: Option<Stream>,
    pub(crate) os: Option<Os>,
}

impl Scope {
    /// As [`Logsource::read`]; a product alone is all that it produces.
    pub(crate) fn read(node: Option<&Node>, document: Place) -> Result<Self, (Place, ErrorKind)> {
        let word = |key| node.and_then(|node| node.get(key)).and_then(Node::text);
        let is_given = |key| node.is_some_and(|node| given(node, key).is_some());
        let os = word("product").and_then(Os::from_name);
        if os.is_some() && !is_given("category") && !is_given("service") {
            return Ok(Self { stream: None, os });
        }
        let Logsource { stream, os } = Logsource::read(node, document)?;
        let stream = Some(stream);
        Ok(Self { stream, os })
    }

    pub(crate) fn contains(self, source: Logsource) -> bool {
        self.stream.is_none_or(|stream| stream == source.stream)
            && (self.os.is_none() || self.os == source.os)
    }

    /// One of them, to check with what does not depend on which.
    pub(crate) fn sample(self) -> Logsource {
        Logsource {
            stream: self.stream.unwrap_or(Stream::Exec),
            os: self.os,
        }
    }
}

impl Meaning {
    /// Columns that it reads.
    pub(crate) fn field(self) -> Option<Field> {
        match self {
            Self::Text(field) | Self::Number(field) | Self::Hex(field) | Self::Time(field) => {
                Some(field)
            }
            Self::User => Some(Field::User),
            Self::Always(_) | Self::Absent => None,
        }
    }
}

/// A field and its column, for documentation.
#[must_use]
pub fn fields(stream: Stream) -> Vec<(&'static str, Option<&'static str>)> {
    let source = Logsource { stream, os: None };
    let column = |meaning: &Meaning| meaning.field().map(|field| Column::of(field).name);
    let rows = source.fields().iter();
    rows.map(|(name, meaning)| (*name, column(meaning)))
        .collect()
}

fn describe(node: &Node) -> String {
    let parts = ["category", "product", "service"]
        .into_iter()
        .filter_map(|key| {
            let value = node.get(key)?;
            Some(format!("{key} {}", value.text().unwrap_or(value.kind())))
        });
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() {
        return "without category, product and service".to_owned();
    }
    parts.join(", ")
}
