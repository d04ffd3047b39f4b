//! Which rules run: files and directories of the operator's, those that are shipped, or both.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use detect::sigma::Os;
use detect::{Options, Place, RuleSet, Source};

use crate::Error;

/// Largest rule file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Directories below the rule directory that are followed.
pub(crate) const MAX_DEPTH: u32 = 8;

/// Stands for the shipped rules among the paths of [`load`].
pub const BUILTIN: &str = "builtin";

/// Which rules are wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Files, directories, or [`BUILTIN`].
    pub paths: Vec<PathBuf>,
    /// The system whose events they see, which rules for others are left out for; `None`: all.
    pub host: Option<Os>,
}

impl Wanted {
    /// Rules for events of this system.
    #[must_use]
    pub fn here(paths: &[PathBuf]) -> Self {
        Self {
            paths: paths.to_vec(),
            host: Os::here(),
        }
    }

    /// The same where the working directory changes.
    ///
    /// # Errors
    /// There is no working directory.
    pub fn absolute(mut self) -> std::io::Result<Self> {
        for path in self
            .paths
            .iter_mut()
            .filter(|path| path.as_os_str() != BUILTIN)
        {
            *path = std::path::absolute(&path)?;
        }
        Ok(self)
    }
}

/// Loads rule files, every rule file below directories, and the shipped rules for [`BUILTIN`].
/// Sigma rules that do not compile are left out; the set's report tells them.
///
/// # Errors
/// A file cannot be read or holds no rule, a SQL rule does not compile, or no Sigma rule does and
/// there are no others: then none is loaded.
pub fn load(wanted: &Wanted) -> Result<RuleSet, Error> {
    let mut texts = Texts::default();
    let mut lists = BTreeMap::new();
    for path in &wanted.paths {
        if path.as_os_str() == BUILTIN {
            texts.files.extend(shipped());
        } else {
            read(path)?.into_iter().for_each(|file| texts.add(file));
            read_lists(path, &mut lists)?;
        }
    }
    let (files, garbled) = texts.sound()?;
    let mut rules = compile(&files, wanted.host, lists)?;
    garbled.into_iter().for_each(|error| rules.reject(error));
    let is_empty = |(file, text): &&RuleFile| {
        let has_rules = rules.rules().iter().any(|rule| rule.file == *file);
        !has_rules && !detect::is_exceptions(file) && !detect::sigma::is_sigma(file, text)
    };
    match files.iter().find(is_empty) {
        Some((file, _)) => Err(Error::NoRuleInFile(file.into())),
        None if rules.rules().is_empty() && !rules.report().rejected.is_empty() => {
            Err(Error::RulesInvalid(rules.report().rejected.clone()))
        }
        None => Ok(rules),
    }
}

/// What was read.
#[derive(Default)]
struct Texts {
    files: Vec<RuleFile>,
    /// Of Sigma files that are no text, what is wrong with them.
    garbled: Vec<detect::Error>,
    /// The same of others.
    errors: Vec<detect::Error>,
}

impl Texts {
    fn add(&mut self, (file, bytes): (String, Vec<u8>)) {
        match String::from_utf8(bytes) {
            Ok(text) => self.files.push((file, text)),
            Err(error) => {
                let text = String::from_utf8_lossy(error.as_bytes());
                let into = if detect::sigma::is_sigma(&file, &text) {
                    &mut self.garbled
                } else {
                    &mut self.errors
                };
                into.push(no_text(file, &error));
            }
        }
    }

    fn sound(self) -> Result<(Vec<RuleFile>, Vec<detect::Error>), Error> {
        if self.errors.is_empty() {
            Ok((self.files, self.garbled))
        } else {
            Err(Error::RulesInvalid(self.errors))
        }
    }
}

/// Where a file stops being UTF-8.
fn no_text(file: String, error: &std::string::FromUtf8Error) -> detect::Error {
    let sound = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let sound = String::from_utf8_lossy(sound);
    let line = sound.rsplit('\n').next().unwrap_or_default();
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    detect::Error {
        file,
        place: Place {
            line: count(sound.matches('\n').count() + 1),
            column: count(line.chars().count() + 1),
        },
        kind: detect::ErrorKind::Yaml("the file is not UTF-8 here".to_owned()),
    }
}

/// What a set has in one line: `3 rules, 1 of them degraded, 2 rejected, 5 for other systems`.
#[must_use]
pub fn summary(rules: &RuleSet) -> String {
    let report = rules.report();
    let count = rules.rules().len();
    let noun = if count == 1 { "rule" } else { "rules" };
    let never = report.degraded.iter().filter(|rule| rule.never).count();
    let parts = [
        (report.degraded.len(), "of them degraded"),
        (never, "of those cannot fire here"),
        (report.components.len(), "only as part of others"),
        (report.rejected_documents, "rejected"),
        (report.elsewhere.len(), "for other systems"),
    ];
    let mut text = format!("{count} {noun}");
    for (count, what) in parts.iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(", {count} {what}"));
    }
    text
}

/// Writes the shipped rules to a directory, which is created if it does not exist; returns how many
/// files that are. None is overwritten.
///
/// # Errors
/// A file exists or cannot be written; those before it are.
pub fn export(dir: &Path) -> Result<usize, Error> {
    let unwritable = |path: &Path| {
        let path = path.to_owned();
        |source| Error::RulesUnwritable { path, source }
    };
    fs::create_dir_all(dir).map_err(unwritable(dir))?;
    for (file, text) in detect::shipped() {
        let path = dir.join(file);
        fs::File::create_new(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(unwritable(&path))?;
    }
    Ok(detect::shipped().len())
}

/// A rule file's name and text.
type RuleFile = (String, String);

/// Values of lists by name.
type Lists = BTreeMap<String, Vec<String>>;

fn shipped() -> impl Iterator<Item = RuleFile> {
    let files = detect::shipped().iter();
    files.map(|(file, text)| ((*file).to_owned(), (*text).to_owned()))
}

fn compile(files: &[RuleFile], host: Option<Os>, lists: Lists) -> Result<RuleSet, Error> {
    let sources: Vec<Source<'_>> = files
        .iter()
        .map(|(file, text)| Source { file, text })
        .collect();
    let options = Options { host, lists };
    RuleSet::load(&sources, &options).map_err(Error::RulesInvalid)
}

fn read(path: &Path) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut found = Found::below(path, is_rule_file);
    if let Some(error) = found.errors.pop() {
        return Err(error);
    }
    if found.files.is_empty() {
        return Err(Error::NoRules(path.to_owned()));
    }
    found.files.iter().map(|path| read_file(path)).collect()
}

/// Adds the lists beside the rules: `lists/NAME.txt` in the directory, or in that of the file.
/// Lists of one name in several directories are one.
fn read_lists(path: &Path, lists: &mut Lists) -> Result<(), Error> {
    let dir = if path.is_dir() {
        path
    } else {
        path.parent().unwrap_or(path)
    };
    let dir = dir.join("lists");
    let unreadable = |source| Error::RulesUnreadable {
        path: dir.clone(),
        source,
    };
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unreadable(error)),
    };
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(unreadable)?;
    paths.sort();
    for path in paths {
        if is_hidden(&path) || path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let (file, bytes) = read_file(&path)?;
        let text = String::from_utf8(bytes)
            .map_err(|error| Error::RulesInvalid(vec![no_text(file.clone(), &error)]))?;
        let values = detect::read_list(&Source {
            file: &file,
            text: &text,
        });
        let values = values.map_err(|error| Error::RulesInvalid(vec![error]))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        lists.entry(name.into_owned()).or_default().extend(values);
    }
    Ok(())
}

/// Files below a path, each once, however many links lead to it, and what cannot be read.
#[derive(Default)]
struct Found {
    /// Sorted.
    files: Vec<PathBuf>,
    errors: Vec<Error>,
    /// What was met, by where it really lies.
    met: HashSet<PathBuf>,
}

impl Found {
    /// The path itself if it is a file, whatever its name, or else those in it that are wanted.
    fn below(path: &Path, wanted: fn(&Path) -> bool) -> Self {
        let mut found = Self::default();
        found.add(path, 0, wanted);
        found.files.sort();
        found
    }

    fn add(&mut self, path: &Path, depth: u32, wanted: fn(&Path) -> bool) {
        if let Err(source) = self.add_readable(path, depth, wanted) {
            let path = path.to_owned();
            self.errors.push(Error::RulesUnreadable { path, source });
        }
    }

    fn add_readable(
        &mut self,
        path: &Path,
        depth: u32,
        wanted: fn(&Path) -> bool,
    ) -> std::io::Result<()> {
        let is_dir = fs::metadata(path)?.is_dir();
        if !is_dir && depth > 0 && !wanted(path) || is_dir && depth > MAX_DEPTH {
            return Ok(());
        }
        if !self.met.insert(fs::canonicalize(path)?) {
            return Ok(());
        }
        if !is_dir {
            self.files.push(path.to_owned());
            return Ok(());
        }
        let entries: std::io::Result<Vec<PathBuf>> =
            fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect();
        let mut entries = entries?;
        // Of several links to one file, the same one always counts.
        entries.sort();
        for entry in entries.iter().filter(|entry| !is_hidden(entry)) {
            self.add(entry, depth + 1, wanted);
        }
        Ok(())
    }
}

/// What rules are read from, as a number: it differs where that differs. What cannot be read counts
/// as absent.
#[must_use]
pub fn stamp(wanted: &Wanted) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in wanted
        .paths
        .iter()
        .filter(|path| path.as_os_str() != BUILTIN)
    {
        for file in Found::below(path, is_read).files {
            let bytes = read_file(&file).map(|(_, bytes)| bytes);
            (&file, bytes.unwrap_or_default()).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Whether something is read from a file of that name in a directory of rules: rules, their tests and
/// exceptions, lists.
pub(crate) fn is_read(path: &Path) -> bool {
    !is_hidden(path)
        && (is_rule_file(path) || path.extension().is_some_and(|extension| extension == "txt"))
}

/// Where editors, version control and Kubernetes keep what is theirs.
pub(crate) fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(b".")
}

fn is_rule_file(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Only of files: a pipe would wait for its other end, and a device may have no end.
fn read_file(path: &Path) -> Result<(String, Vec<u8>), Error> {
    let unreadable = |source| Error::RulesUnreadable {
        path: path.to_owned(),
        source,
    };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Error::RulesNoFile(path.to_owned()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::RuleFileTooLarge {
            path: path.to_owned(),
            bytes: metadata.len(),
            limit: MAX_FILE,
        });
    }
    Ok((path.display().to_string(), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_all(paths: &[PathBuf]) -> Result<RuleSet, Error> {
        load(&Wanted {
            paths: paths.to_vec(),
            host: Some(Os::Linux),
        })
    }

    fn load_one(path: &Path) -> Result<RuleSet, Error> {
        load_all(&[path.to_owned()])
    }

    fn sigma(title: &str, product: &str, selection: &str) -> String {
        format!(
            "title: {title}\nlogsource:\n  category: process_creation\n  product: {product}\n\
             detection:\n  selection:\n    {selection}\n  condition: selection\n"
        )
    }

    #[test]
    fn a_rejected_sigma_rule_does_not_stop_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| fs::write(dir.path().join(name), text).unwrap();
        write("bad.yml", sigma("Bad", "linux", "Image|endwith: /a"));
        let rejected = load_one(dir.path()).err().unwrap().to_string();
        assert!(
            rejected.contains("bad.yml:7:5: unknown modifier `endwith`"),
            "{rejected}"
        );

        fs::create_dir(dir.path().join("sub")).unwrap();
        write("sub/good.yml", sigma("Good", "linux", "Image|endswith: /a"));
        write(
            "other.yml",
            sigma("Other", "windows", "Image|endswith: a.exe"),
        );
        write(
            "part.yml",
            sigma("Part", "linux", "Image: /a\n  other:\n    Product: x\n")
                .replace("condition: selection", "condition: selection and not other"),
        );
        let rules = load_one(dir.path()).unwrap();
        let ids: Vec<&str> = rules.rules().iter().map(|rule| rule.id.as_str()).collect();
        assert_eq!(ids, ["part", "good"]);
        assert_eq!(
            summary(&rules),
            "2 rules, 1 of them degraded, 1 rejected, 1 for other systems"
        );
        let degraded = &rules.report().degraded[0];
        assert_eq!(
            degraded.to_string(),
            "no Product here; exceptions on Product do not hold, so it can fire wrongly"
        );
    }

    #[test]
    fn an_empty_directory_or_file_is_an_error_and_not_an_empty_rule_set() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(load_one(dir.path()), Err(Error::NoRules(_))));
        let file = dir.path().join("empty.yaml");
        for text in ["", "# nothing yet\n", "---\n"] {
            fs::write(&file, text).unwrap();
            // Beside sound ones as well: a rule that was there is missed by nobody else.
            for paths in [&[file.clone()][..], &[BUILTIN.into(), dir.path().into()]] {
                let error = load_all(paths).err().unwrap();
                assert!(matches!(&error, Error::NoRuleInFile(path) if *path == file));
            }
        }
    }

    #[test]
    fn lists_and_exceptions_stand_beside_the_rules() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        fs::create_dir(dir.path().join("lists")).unwrap();
        write("lists/shells.txt", "# shells\nsh\n\n bash \n");
        write("lists/notes.md", "no list");
        write(
            "mine.yaml",
            "id: mine\ntitle: Mine\nlevel: low\nsql: |\n  SELECT process.pid FROM exec WHERE \
             process.name IN LIST('shells')\ntests:\n  fires: [{exe: /bin/sh}, {exe: /bin/bash}]\n  \
             silent: [{exe: /bin/zsh}, {exe: /bin/sh, cwd: /srv}]\n",
        );
        write(
            "exceptions.yaml",
            "- {rule: mine, name: of the service, when: process.working_directory = '/srv'}\n",
        );
        for path in [dir.path().to_owned(), dir.path().join("mine.yaml")] {
            let rules = load_one(&path).unwrap();
            let failed = detect::run_tests(&rules)
                .into_iter()
                .filter(|o| !o.passed)
                .count();
            // Named outright, the rule file stands alone but for its lists.
            assert_eq!(failed, usize::from(!path.is_dir()), "{}", path.display());
        }
        write("exceptions.yaml", "- {rule: mime, name: x, when: 'TRUE'}\n");
        let error = load_one(dir.path()).err().unwrap().to_string();
        assert!(
            error.contains("unknown rule `mime` (did you mean `mine`?)"),
            "{error}"
        );
        write("exceptions.yaml", "# none yet\n");
        fs::remove_file(dir.path().join("lists/shells.txt")).unwrap();
        let error = load_one(dir.path()).err().unwrap().to_string();
        assert!(error.contains("unknown list `shells`"), "{error}");
    }

    #[test]
    fn placeholders_of_sigma_rules_stand_for_the_same_lists() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lists")).unwrap();
        fs::write(dir.path().join("lists/tools.txt"), "/nc\n/nc?t\n").unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let rule = sigma("T", "linux", "Image|expand|endswith: '%tools%'");
        write("t.yml", &rule);
        write(
            "t.tests.yml",
            "fires: [{Image: /bin/nc}, {Image: /bin/ncat}]\nsilent: [{Image: /bin/cat}]\n",
        );
        let rules = load_one(dir.path()).unwrap();
        let outcomes = detect::run_tests(&rules);
        assert_eq!(outcomes.len(), 3);
        assert!(outcomes.iter().all(|outcome| outcome.passed));
        write("t.yml", &rule.replace("tools", "others"));
        let error = load_one(dir.path()).err().unwrap().to_string();
        assert!(
            error.contains("placeholder `%others%` has no list"),
            "{error}"
        );
    }

    #[cfg(unix)]
    fn link(target: &str, link: PathBuf) {
        std::os::unix::fs::symlink(target, link).unwrap();
    }

    /// A pipe was waited for, `/dev/zero` read until memory was full, and links to the directory
    /// itself followed as often as they could be combined.
    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_told_and_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a.yml"), sigma("A", "linux", "Image: /a")).unwrap();
        for name in ["b", "c", "d", "e", "f", "g"] {
            link(".", at(name));
        }
        assert_eq!(load_one(dir.path()).unwrap().rules().len(), 1);
        link("/dev/zero", at("zero.yml"));
        let socket = std::os::unix::net::UnixListener::bind(at("socket.yml")).unwrap();
        let check = |name: &str| {
            let error = load_one(dir.path()).err().unwrap();
            assert!(matches!(&error, Error::RulesNoFile(path) if path.ends_with(name)));
            let _ = stamp(&Wanted::here(&[dir.path().to_owned()]));
            fs::remove_file(at(name)).unwrap();
        };
        check("socket.yml");
        check("zero.yml");
        drop(socket);
        assert_eq!(load_one(dir.path()).unwrap().rules().len(), 1);
    }

    /// As a ConfigMap is mounted; each rule was there three times.
    #[cfg(unix)]
    #[test]
    fn a_file_that_several_links_lead_to_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("..2026")).unwrap();
        fs::write(at("..2026/a.yml"), sigma("A", "linux", "Image: /a")).unwrap();
        link("..2026", at("..data"));
        link("..data/a.yml", at("a.yml"));
        link("a.yml", at("z.yml"));
        // An editor's lock, which leads nowhere.
        link("somebody@somewhere", at(".#a.yml"));
        let rules = load_one(dir.path()).unwrap();
        assert!(rules.report().rejected.is_empty());
        assert_eq!(rules.rules()[0].file, at("a.yml").display().to_string());
    }

    #[test]
    fn a_file_that_is_no_text_is_told_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| fs::write(dir.path().join(name), text).unwrap();
        write("good.yml", sigma("Good", "linux", "Image: /a").as_bytes());
        let garbled = sigma("Gut", "linux", "Image: /\u{e4}?");
        let garbled: Vec<u8> = garbled.chars().map(|c| c as u8).collect();
        write("bad.yml", &garbled);
        let rules = load_one(dir.path()).unwrap();
        assert_eq!(
            (rules.rules().len(), rules.report().rejected_documents),
            (1, 1)
        );
        let rejected = rules.report().rejected[0].to_string();
        assert!(
            rejected.contains("bad.yml:7:13: the file is not UTF-8"),
            "{rejected}"
        );
        write("sql.yaml", b"id: x\ntitle: \xff\n");
        let error = load_one(dir.path()).err().unwrap().to_string();
        assert!(
            error.contains("sql.yaml:2:8: the file is not UTF-8"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = load_one(Path::new("/nonexistent/rules")).err().unwrap();
        assert!(error.to_string().contains("/nonexistent/rules"), "{error}");
    }

    #[test]
    fn shipped_rules_and_others_load_together() {
        let shipped = load_one(Path::new(BUILTIN)).unwrap().rules().len();
        assert!(shipped >= 15);
        let dir = tempfile::tempdir().unwrap();
        let text = "id: mine\ntitle: Mine\ndescription: Mine.\nlevel: low\nsql: |\n  SELECT \
                    process.pid FROM exec WHERE process.executable = '/x'\ntests:\n  fires:\n    \
                    - exe: /x\n  silent:\n    - exe: /y\n";
        fs::write(dir.path().join("mine.yaml"), text).unwrap();
        let both = load_all(&[BUILTIN.into(), dir.path().into()]).unwrap();
        assert_eq!(both.rules().len(), shipped + 1);
        // Twice the same id is an error, not a choice.
        let twice = load_all(&[dir.path().into(), dir.path().into()]);
        assert!(matches!(twice, Err(Error::RulesInvalid(_))));
    }

    #[test]
    fn exported_rules_load_and_are_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let rules = dir.path().join("a/rules");
        export(&rules).unwrap();
        let exported = load_one(&rules).unwrap().rules().len();
        assert_eq!(
            exported,
            load_one(Path::new(BUILTIN)).unwrap().rules().len()
        );
        assert!(matches!(export(&rules), Err(Error::RulesUnwritable { .. })));
    }
}
