//! Which rules run: a directory of the operator's, or those that are shipped.

use std::fs;
use std::path::{Path, PathBuf};

use detect::{RuleSet, Source};

use crate::Error;

/// Largest rule file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Directories below the rule directory that are followed.
const MAX_DEPTH: u32 = 8;

/// Loads a rule file or every rule file below a directory, or the shipped rules for `None`.
///
/// # Errors
/// A file cannot be read, or a rule does not compile: then none is loaded.
pub fn load(path: Option<&Path>) -> Result<RuleSet, Error> {
    let Some(path) = path else {
        return compile(&shipped());
    };
    compile(&read(path)?)
}

/// A rule file's name and text.
type File = (String, String);

fn shipped() -> Vec<File> {
    detect::shipped()
        .iter()
        .map(|(file, text)| ((*file).into(), (*text).into()))
        .collect()
}

fn compile(files: &[File]) -> Result<RuleSet, Error> {
    let sources: Vec<Source<'_>> = files
        .iter()
        .map(|(file, text)| Source { file, text })
        .collect();
    RuleSet::compile(&sources).map_err(Error::RulesInvalid)
}

fn read(path: &Path) -> Result<Vec<File>, Error> {
    let mut paths = Vec::new();
    collect(path, 0, &mut paths)?;
    if paths.is_empty() {
        return Err(Error::NoRules(path.to_owned()));
    }
    paths.sort();
    paths.iter().map(|path| read_file(path)).collect()
}

fn collect(path: &Path, depth: u32, out: &mut Vec<PathBuf>) -> Result<(), Error> {
    let unreadable = |source| Error::RulesUnreadable {
        path: path.to_owned(),
        source,
    };
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        // A file that is named outright counts whatever its name.
        if depth == 0 || is_rule_file(path) {
            out.push(path.to_owned());
        }
        return Ok(());
    }
    if depth > MAX_DEPTH {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(unreadable)? {
        collect(&entry.map_err(unreadable)?.path(), depth + 1, out)?;
    }
    Ok(())
}

fn is_rule_file(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn read_file(path: &Path) -> Result<File, Error> {
    let unreadable = |source| Error::RulesUnreadable {
        path: path.to_owned(),
        source,
    };
    let bytes = fs::metadata(path).map_err(unreadable)?.len();
    if bytes > MAX_FILE {
        return Err(Error::RuleFileTooLarge {
            path: path.to_owned(),
            bytes,
            limit: MAX_FILE,
        });
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    Ok((path.display().to_string(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_directory_is_an_error_and_not_an_empty_rule_set() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(load(Some(dir.path())), Err(Error::NoRules(_))));
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = load(Some(Path::new("/nonexistent/rules"))).err().unwrap();
        assert!(error.to_string().contains("/nonexistent/rules"), "{error}");
    }

    #[test]
    fn the_shipped_rules_load() {
        assert!(load(None).unwrap().rules().len() >= 15);
    }
}
