//! The valid name that a misspelt one was probably meant to be.

/// Names that other tools use for our columns.
const SYNONYMS: &[(&str, &str)] = &[
    ("exe", "executable"),
    ("image", "executable"),
    ("path", "executable"),
    ("executable_path", "executable"),
    ("cmdline", "command_line"),
    ("commandline", "command_line"),
    ("cmd", "command_line"),
    ("argv", "args"),
    ("arguments", "args"),
    ("argc", "args_count"),
    ("cwd", "working_directory"),
    ("username", "user"),
    ("user_id", "uid"),
    ("auid", "login_uid"),
    ("loginuid", "login_uid"),
    ("hash", "sha256"),
    ("executable_hash", "sha256"),
    ("signal", "exit_signal"),
    ("sid", "session_leader"),
    ("env", "environment"),
    ("shebang", "interpreter"),
    ("container", "container_id"),
    ("runtime", "container_runtime"),
    ("pod", "pod_uid"),
    ("service", "unit"),
    ("nspid", "namespace_pid"),
    ("vpid", "namespace_pid"),
    ("mount_ns", "mnt_ns"),
    ("network_ns", "net_ns"),
    ("secure_exec", "is_secure_exec"),
    ("file_caps", "has_file_caps"),
    ("inode", "file_inode"),
    ("device", "file_device"),
    ("nlink", "file_nlink"),
    ("size", "file_size"),
    ("mtime", "file_mtime"),
    ("ctime", "file_ctime"),
    ("duration", "run_time"),
    ("error", "errno"),
];

/// The candidate nearest to `name`, if one is near enough.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    let name: String = name.chars().take(64).collect::<String>().to_lowercase();
    let name = replace_synonym(&name);
    let same_end = candidates
        .clone()
        .find(|c| last_part(c) == last_part(&name) && close(&name, c));
    same_end.or_else(|| {
        let (distance, best) = candidates
            .map(|c| (distance(&name, c), c))
            .min_by_key(|d| d.0)?;
        (distance <= 1 + name.chars().count() / 4).then_some(best)
    })
}

/// Same qualifier, or none given: `pid` may be `process.pid`, `child.pid` is nothing.
fn close(name: &str, candidate: &str) -> bool {
    match (name.rsplit_once('.'), candidate.rsplit_once('.')) {
        (Some((a, _)), Some((b, _))) => distance(a, b) <= 2,
        _ => true,
    }
}

fn replace_synonym(name: &str) -> String {
    let last = last_part(name);
    match SYNONYMS.iter().find(|(other, _)| *other == last) {
        Some((_, ours)) => format!("{}{ours}", &name[..name.len() - last.len()]),
        None => name.to_owned(),
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Levenshtein distance, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replace = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn misspelt_and_foreign_names_find_ours() {
        let names = [
            "process.pid",
            "process.executable",
            "process.command_line",
            "parent.pid",
        ];
        let check = |name, ours| assert_eq!(nearest(name, names.into_iter()), ours, "{name}");
        check("process.exe", Some("process.executable"));
        check("pid", Some("process.pid"));
        check("parent.pidd", Some("parent.pid"));
        check("proces.executabel", Some("process.executable"));
        check("CMDLINE", Some("process.command_line"));
        check("something.else", None);
    }
}
