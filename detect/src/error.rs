use std::fmt;

/// What is wrong with a rule, and where in its file. `Display` is one line:
/// `file:line:column: message`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{place}: {}", OneLine(file), OneLine(kind))]
pub struct Error {
    /// File name as the caller gave it.
    pub file: String,
    /// Where in that file.
    pub place: Place,
    /// What is wrong.
    pub kind: ErrorKind,
}

/// A place in a file, both counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// The kinds of error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file is not YAML, or not of the shape of a rule.
    #[error("{0}")]
    Yaml(String),
    /// A key's value is not acceptable.
    #[error("`{key}` {problem}")]
    Key {
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
    /// Two rules have the same id.
    #[error("rule id `{id}` is already used at {first}")]
    DuplicateId {
        /// The id.
        id: String,
        /// File and place of the first rule with it.
        first: String,
    },
    /// The SQL text does not parse.
    #[error("SQL: {0}")]
    Syntax(String),
    /// The statement reads nothing, or there are several.
    #[error("a rule is exactly one SELECT statement; {0}")]
    NotOneSelect(String),
    /// Valid SQL that rules do not have.
    #[error("{0} is not supported in rules")]
    Unsupported(String),
    /// A name that does not exist, or not here.
    #[error("unknown {what} `{name}`{}", Suggestion(.nearest))]
    Unknown {
        /// Column, function or stream.
        what: &'static str,
        /// The name as written.
        name: String,
        /// What it may have been meant to be.
        nearest: Option<String>,
    },
    /// A column that other streams have.
    #[error("column `{column}` does not exist in stream `{stream}` (only in {only_in})")]
    NotInStream {
        /// The column.
        column: &'static str,
        /// The rule's stream.
        stream: &'static str,
        /// Streams that have it.
        only_in: String,
    },
    /// Operands of types that do not fit.
    #[error("{0}")]
    Type(String),
    /// A pattern that does not compile.
    #[error("pattern: {0}")]
    Pattern(String),
    /// A Sigma rule's detection or condition is not well formed.
    #[error("{0}")]
    Detection(String),
    /// A Sigma rule on events that there are none of.
    #[error("logsource {0} is not produced here")]
    NotProduced(String),
    /// A Sigma rule that no event here can satisfy.
    #[error("no event here can satisfy it: {0}")]
    NeverMatches(String),
    /// A placeholder without a list of that name.
    #[error("placeholder `%{0}%` has no list")]
    NoList(String),
    /// A stated bound is exceeded.
    #[error("{what} exceeds the limit of {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// Its bound.
        limit: String,
    },
}

/// Longest message: names in it come from the file.
const MAX_MESSAGE_CHARS: usize = 500;

/// Text from files cannot break the line or reach the terminal as control characters.
struct OneLine<T>(T);

impl<T: fmt::Display> fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        for (index, c) in text.chars().enumerate() {
            match c {
                _ if index == MAX_MESSAGE_CHARS => return f.write_str("…"),
                _ if c.is_control() => write!(f, "{}", c.escape_default())?,
                _ => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

struct Suggestion<'a>(&'a Option<String>);

impl fmt::Display for Suggestion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, " (did you mean `{name}`?)"),
            None => Ok(()),
        }
    }
}
