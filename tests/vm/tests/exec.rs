//! All ways to run a program: which file it was, and what it was called.

use std::sync::LazyLock;

use event::Process;
use vm::{Life, Scenarios, Workload, place};

static RECORDED: LazyLock<Scenarios> = LazyLock::new(|| record().expect("a recording"));

fn record() -> anyhow::Result<Scenarios> {
    Scenarios::record_in_hindsight(&[
        ("path", &["exec", "path"]),
        ("relative", &["exec", "relative"]),
        ("dots", &["exec", "dots"]),
        ("symlink", &["exec", "symlink"]),
        ("hard-link", &["exec", "hard-link"]),
        ("descriptor", &["exec", "descriptor"]),
        ("directory", &["exec", "directory"]),
        ("proc-descriptor", &["exec", "proc-descriptor"]),
        ("deleted", &["deleted"]),
        ("memfd", &["memfd"]),
        ("script", &["script", "plain"]),
        ("script-argument", &["script", "argument"]),
        ("script-nested", &["script", "nested"]),
        ("script-descriptor", &["script", "descriptor"]),
        ("deep", &["deep", "20", "3"]),
        ("too-deep", &["deep", "80", "3"]),
        ("full", &["deep", "15", "250"]),
        ("over-full", &["deep", "20", "250"]),
        ("long", &["long", "4095"]),
    ])
}

/// The life of the workload's child, which ran one program.
fn life(name: &str) -> Life<'static> {
    let life = RECORDED.life(name, "child").expect("fork exec exit");
    assert_eq!(life.parent(), RECORDED.key(name, "self"), "{name}");
    assert_eq!(life.status().raw, 0, "{name}");
    life
}

/// What was reported of the program that the workload's child ran.
fn program(name: &str) -> (&'static Workload, &'static Process) {
    (RECORDED.workload(name), life(name).program())
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Ends with what of a path is told where it is longer than what is told.
fn check_cut(exe: &[u8], whole: &str) {
    let exe = text(exe);
    let rest = exe.strip_prefix("...");
    let rest = rest.unwrap_or_else(|| panic!("{exe} should begin with `...`"));
    assert!(rest.starts_with('/') && whole.ends_with(rest), "{exe}");
}

#[test]
fn program_is_named_as_given_and_its_file_by_its_whole_path() {
    if !place::kernel_scenarios_run() {
        return;
    }
    for name in [
        "path",
        "relative",
        "dots",
        "symlink",
        "descriptor",
        "directory",
    ] {
        let (workload, process) = program(name);
        assert_eq!(text(&process.exe), workload.text("program"), "{name}");
        assert_eq!(process.interpreter, None, "{name}");
    }
    let filename = |name| text(&program(name).1.filename);
    let dir = |name| RECORDED.workload(name).text("dir");
    let descriptor = |name| RECORDED.workload(name).number("descriptor");
    assert_eq!(filename("path"), format!("{}/tiny", dir("path")));
    assert_eq!(filename("relative"), "./tiny");
    let dots = ".././/../../../../../../../../proc/self/cwd/tiny";
    assert_eq!(filename("dots"), dots);
    assert_eq!(filename("symlink"), format!("{}/link", dir("symlink")));
    let given = format!("/dev/fd/{}", descriptor("descriptor"));
    assert_eq!(filename("descriptor"), given);
    let given = format!("/dev/fd/{}/tiny", descriptor("directory"));
    assert_eq!(filename("directory"), given);
    let given = format!("/proc/self/fd/{}", descriptor("proc-descriptor"));
    assert_eq!(filename("proc-descriptor"), given);
}

#[test]
fn program_with_two_names_has_the_one_that_was_used() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (workload, process) = program("hard-link");
    let link = format!("{}/link", workload.text("dir"));
    assert_eq!(text(&process.exe), link);
    assert_eq!(process.exe_file.unwrap().nlink, 2);
    assert_eq!(process.comm, "link");
}

#[test]
fn working_directory_is_that_at_exec() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let cwd = |name| program(name).1.cwd.as_deref().map(text);
    let ours = std::env::current_dir().unwrap().canonicalize().unwrap();
    let ours = text(ours.as_os_str().as_encoded_bytes());
    assert_eq!(cwd("path"), Some(ours));
    let dir = RECORDED.workload("relative").text("dir").to_owned();
    assert_eq!(cwd("relative"), Some(dir));
}

#[test]
fn arguments_are_those_given_whatever_the_program_is_called() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let argv = |name| program(name).1.argv.iter().collect::<Vec<_>>();
    assert_eq!(argv("path"), [&b"tiny"[..], b"a b"]);
    assert_eq!(argv("symlink"), [b"link"]);
}

#[test]
fn file_of_the_program_is_identified_as_stat_does() {
    if !place::kernel_scenarios_run() {
        return;
    }
    for name in ["path", "relative", "descriptor", "proc-descriptor"] {
        let (workload, process) = program(name);
        let file = process.exe_file.expect("the executable file is known");
        let stat = |name| workload.number(name);
        assert_eq!(file.inode, stat("inode"), "{name}");
        assert_eq!(u64::from(file.device), stat("device"), "{name}");
        assert_eq!(u64::from(file.nlink), stat("nlink"), "{name}");
        assert_eq!(file.size, stat("size"), "{name}");
        assert_eq!(file.mtime, stat("mtime"), "{name}");
        assert_eq!(file.ctime, stat("ctime"), "{name}");
        assert_eq!(u64::from(file.mode), stat("mode"), "{name}");
        assert_eq!(u64::from(file.uid), stat("uid"), "{name}");
        assert!(
            !file.memfd && !file.is_setuid() && !file.is_setgid(),
            "{name}"
        );
    }
}

#[test]
fn program_whose_file_is_gone_has_its_path_and_no_links() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (workload, process) = program("deleted");
    assert_eq!(text(&process.exe), workload.text("program"));
    let file = process.exe_file.expect("the executable file is known");
    assert_eq!((file.nlink, file.memfd), (0, false));
}

#[test]
fn program_in_a_memfd_is_called_that() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (_, process) = program("memfd");
    assert_eq!(process.exe, "memfd:workload");
    let file = process.exe_file.expect("the executable file is known");
    assert_eq!((file.nlink, file.memfd), (0, true));
}

/// A script is what was given to exec; what runs is the interpreter, with its own arguments first.
fn check_script(name: &str, filename: &str, argv: &[&str]) {
    let (workload, process) = program(name);
    assert_eq!(text(&process.filename), filename, "{name}");
    assert_eq!(text(&process.exe), workload.text("interpreter"), "{name}");
    let interpreter = process.interpreter.as_deref().map(text);
    assert_eq!(interpreter.as_deref(), Some(workload.text("interpreter")));
    let got: Vec<_> = process.argv.iter().map(text).collect();
    assert_eq!(got, argv, "{name}");
}

#[test]
fn script_is_one_exec_of_its_interpreter() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let path = |name, file| RECORDED.workload(name).text(file);
    let (tool, script) = (path("script", "interpreter"), path("script", "script"));
    check_script("script", script, &[tool, script, "x"]);
    let name = "script-argument";
    let (tool, script) = (path(name, "interpreter"), path(name, "script"));
    // All that follows the interpreter is one argument.
    check_script(name, script, &[tool, "one argument", script, "x"]);
}

#[test]
fn script_run_by_a_script_is_one_exec_of_the_last_interpreter() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let path = |file| RECORDED.workload("script-nested").text(file);
    let (tool, inner, outer) = (path("interpreter"), path("script"), path("outer"));
    check_script("script-nested", outer, &[tool, inner, "-o", outer, "x"]);
}

#[test]
fn script_run_by_descriptor_is_called_by_it() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let workload = RECORDED.workload("script-descriptor");
    let given = format!("/dev/fd/{}", workload.number("descriptor"));
    let tool = workload.text("interpreter");
    check_script("script-descriptor", &given, &[tool, &given, "x"]);
}

#[test]
fn paths_of_any_bytes_are_whole_also_beyond_what_the_kernel_takes_at_once() {
    if !place::kernel_scenarios_run() {
        return;
    }
    for name in ["deep", "full", "over-full"] {
        let (workload, process) = program(name);
        assert_eq!(text(&process.exe), workload.text("program"), "{name}");
        assert_eq!(text(&process.filename), r"t\xffny\n\xc3");
        assert_eq!(text(&process.comm), r"t\xffny\n\xc3");
    }
    let (workload, process) = program("long");
    assert_eq!(text(&process.filename), workload.text("given"));
    assert_eq!(process.filename.len(), 4095);
    assert_eq!(text(&process.exe), workload.text("program"));
}

#[test]
fn paths_that_are_too_deep_lack_their_outermost_directories_and_begin_with_dots() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (workload, process) = program("too-deep");
    let whole = workload.text("program");
    check_cut(&process.exe, whole);
    let (dir, _) = whole.rsplit_once('/').unwrap();
    check_cut(process.cwd.as_ref().unwrap(), dir);
}
