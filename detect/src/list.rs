//! Named lists of values: text files, one value on each line.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Place};
use crate::rule::Source;

/// Values of lists by name.
pub(crate) type Lists = BTreeMap<String, Vec<String>>;

/// Longest list file.
const MAX_FILE_BYTES: usize = 1 << 20;
/// Values of one list.
const MAX_VALUES: usize = 65_536;

/// The values of a list file. White space around them, empty lines, and lines that begin with `#`
/// are none.
///
/// # Errors
/// The file is longer than 1 MiB or has more than 65,536 values.
pub fn read_list(source: &Source<'_>) -> Result<Vec<String>, Error> {
    let limit = |line: usize, what, limit: String| Error {
        file: source.file.to_owned(),
        place: Place {
            line: line as u64,
            column: 1,
        },
        kind: ErrorKind::Limit { what, limit },
    };
    if source.text.len() > MAX_FILE_BYTES {
        return Err(limit(1, "list file", format!("{MAX_FILE_BYTES} bytes")));
    }
    let lines = (1..).zip(source.text.lines().map(str::trim));
    let mut values = Vec::new();
    for (line, value) in lines.filter(|(_, value)| !value.is_empty() && !value.starts_with('#')) {
        if values.len() == MAX_VALUES {
            return Err(limit(
                line,
                "number of values in a list",
                MAX_VALUES.to_string(),
            ));
        }
        values.push(value.to_owned());
    }
    Ok(values)
}
