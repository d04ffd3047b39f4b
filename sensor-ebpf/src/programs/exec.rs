//! `sched_process_exec(task, old_pid, bprm)`: runs in the new program, before its first
//! instruction. The arguments lie on its stack, the paths in `bprm` are still there.
//!
//! Where the program can be preempted, and is then left out for others on that cpu, a second one waits
//! for what it missed, and a substitute for what both did. That is attached through perf, which disables
//! preemption, and has no `bprm`.
#![expect(
    unsafe_code,
    reason = "helper calls, writes into the ring, a program by name"
)]

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::{RawTracePointContext, TracePointContext};
use sensor_ebpf::config::Field;
use sensor_ebpf::drops::Slot;
use sensor_ebpf::record::{
    ExecRecord, RecordHeader, class, flag, header_flag, identity_flag, kind,
};

use super::path::{self, NAME_CAP};
use super::{Buffer, PASS, cgroup, exec_mark, header, identify, mute, task, without_exec_mark};
use crate::maps::{PROCESSES, SUBSTITUTE_FIRST, count};
use crate::output;
use crate::read::{bit, field, is_preemptible, member, string, user_bytes};

/// A flag of the filesystem's may stand above the nanoseconds since 6.13.
/// <https://github.com/torvalds/linux/blob/v6.13/include/linux/fs.h#L1610>
const NANOS: u32 = (1 << 30) - 1;

/// `PATH_MAX`.
const PATH_CAP: u32 = 4096;

#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub(crate) fn sched_process_exec(ctx: RawTracePointContext) -> i32 {
    if is_preemptible() && last_exec(ctx.arg(0)) == LastExec::Seen {
        disregard_substitute();
    } else {
        executed(&ctx, &Source::raw(&ctx));
    }
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub(crate) fn sched_process_exec_again(ctx: RawTracePointContext) -> i32 {
    match last_exec(ctx.arg(0)) {
        LastExec::Seen => {}
        LastExec::Missed => executed(&ctx, &Source::raw(&ctx)),
        LastExec::Unknown => count(Slot::ExecWithoutEntry),
    }
    0
}

/// Spelled out, as the macro's program would return 0 whatever this does; see [`PASS`].
#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
extern "C" fn exec_substitute(ctx: *mut c_void) -> u32 {
    let ctx = TracePointContext::new(ctx);
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    if !is_disregarded() && last_exec(task) == LastExec::Missed {
        executed(&ctx, &Source::of_substitute(&ctx, task));
    }
    PASS
}

/// What became of the exec that has just been made.
#[derive(PartialEq, Eq)]
enum LastExec {
    Seen,
    Missed,
    /// The process has no entry in the map.
    Unknown,
}

#[inline(always)]
fn last_exec(task: u64) -> LastExec {
    let tgid: u32 = field(task, Field::TaskTgid);
    // SAFETY: not kept; only fork, exec and exit of this very process write the entry.
    match unsafe { PROCESSES.get(&tgid) } {
        None => LastExec::Unknown,
        Some(known) if without_exec_mark(known.flags) | exec_mark(task) == known.flags => {
            LastExec::Seen
        }
        Some(_) => LastExec::Missed,
    }
}

/// The substitute ran before the first program, and would do so always.
#[inline(always)]
fn disregard_substitute() {
    if let Some(word) = SUBSTITUTE_FIRST.get_ptr_mut(0) {
        // SAFETY: an aligned u64 of the array, which nothing resets.
        unsafe { word.write_volatile(1) };
    }
    count(Slot::SubstituteFirst);
}

#[inline(always)]
fn is_disregarded() -> bool {
    // SAFETY: an aligned u64 of the array.
    SUBSTITUTE_FIRST
        .get_ptr(0)
        .is_some_and(|word| unsafe { word.read_volatile() } != 0)
}

#[inline(always)]
fn executed(ctx: &impl EbpfContext, source: &Source) {
    let task = source.task;
    let tgid: u32 = field(task, Field::TaskTgid);
    let verdict = mute::verdict(task, source.bprm, source.file, source.cgroup_id);
    // One that ran before and whose first exec is muted stays for the snapshot to tell of.
    let announced = (verdict == 0) as u32 * identity_flag::ANNOUNCED;
    let identity = identify(task, tgid, announced);
    if mute::note(tgid, &identity, verdict, exec_mark(task)) {
        return count(Slot::MutedExec);
    }
    let header = header(kind::EXEC, source.header_flags, tgid, &identity);
    let (arg_start, arg_end) = argument_block(task);
    let arguments = Arguments {
        start: arg_start,
        total: arg_end.saturating_sub(arg_start),
    };
    #[cfg(feature = "debug-log")]
    aya_log_ebpf::debug!(ctx, "exec of {}, {} argument bytes", tgid, arguments.total);
    deliver(ctx, &header, source, &arguments);
}

/// Where the facts about one exec are.
struct Source {
    task: u64,
    old_tid: u32,
    /// `struct linux_binprm *`; 0 for the substitute.
    bprm: u64,
    /// As it was given to exec, in kernel memory.
    filename: u64,
    /// `struct file *` of what runs.
    file: u64,
    cgroup_id: u64,
    /// See [`header_flag`].
    header_flags: u8,
}

impl Source {
    #[inline(always)]
    fn raw(ctx: &RawTracePointContext) -> Self {
        let (task, bprm) = (ctx.arg(0), ctx.arg(2));
        Self {
            task,
            old_tid: ctx.arg(1),
            bprm,
            filename: field(bprm, Field::BprmFilename),
            file: field(bprm, Field::BprmFile),
            cgroup_id: field(cgroup::node_of(task), Field::NodeId),
            header_flags: 0,
        }
    }

    #[inline(always)]
    fn of_substitute(ctx: &TracePointContext, task: u64) -> Self {
        // SAFETY: the event is longer, and its place is where the tracepoint has it.
        let (filename, old_tid): (u32, u32) = unsafe {
            let event = ctx.as_ptr().cast::<u8>();
            (
                event.add(EVENT_FILENAME).cast::<u32>().read(),
                event.add(EVENT_OLD_PID).cast::<u32>().read(),
            )
        };
        let mm: u64 = field(task, Field::TaskMm);
        Self {
            task,
            old_tid,
            bprm: 0,
            filename: ctx.as_ptr() as u64 + (filename & 0xffff) as u64,
            file: field(mm, Field::MmExeFile),
            cgroup_id: field(cgroup::node_of(task), Field::NodeId),
            header_flags: header_flag::SUBSTITUTE,
        }
    }
}

/// Where the event of the tracepoint has `__data_loc char[] filename`: its place from the start of the
/// event, and above that its length.
/// <https://github.com/torvalds/linux/blob/v6.12/include/trace/events/sched.h#L397>
const EVENT_FILENAME: usize = 8;
/// `pid_t old_pid`.
const EVENT_OLD_PID: usize = 16;

/// The argument block in the process.
struct Arguments {
    start: u64,
    total: u64,
}

enum Outcome {
    Submitted,
    /// A path did not fit: worth a larger record.
    TooSmall,
    RingFull,
}

/// Chooses the smallest record that can hold the exec.
#[inline(always)]
fn deliver(ctx: &impl EbpfContext, header: &RecordHeader, source: &Source, arguments: &Arguments) {
    let mut outcome = Outcome::TooSmall;
    if arguments.total <= class::SMALL_ARGV as u64 {
        outcome = emit::<{ class::SMALL }, { class::SMALL_ARGV }, NAME_CAP>(
            ctx, header, source, arguments, false,
        );
    }
    if matches!(outcome, Outcome::TooSmall) && arguments.total <= class::MEDIUM_ARGV as u64 {
        outcome = emit::<{ class::MEDIUM }, { class::MEDIUM_ARGV }, NAME_CAP>(
            ctx, header, source, arguments, false,
        );
    }
    if matches!(outcome, Outcome::TooSmall) {
        outcome = emit::<{ class::LARGE }, { class::LARGE_ARGV }, PATH_CAP>(
            ctx, header, source, arguments, true,
        );
    }
    if matches!(outcome, Outcome::RingFull) {
        count(Slot::ExecRingFull);
    }
}

/// Fills and submits a record of `N` bytes. The last `A` are for arguments, and at most `F` are for
/// the path given to exec. Gives up where a path does not fit, unless this is the last resort.
#[inline(always)]
fn emit<const N: usize, const A: usize, const F: u32>(
    ctx: &impl EbpfContext,
    header: &RecordHeader,
    source: &Source,
    arguments: &Arguments,
    last_resort: bool,
) -> Outcome {
    let Some(mut entry) = output::reserve::<Buffer<N>>() else {
        return Outcome::RingFull;
    };
    let base: *mut u8 = entry.as_mut_ptr().cast();
    // SAFETY: the entry has N bytes, aligned to 8, and N is larger than the record.
    let record = unsafe { &mut *base.cast::<ExecRecord>() };
    record.header = *header;
    // SAFETY: as above; the paths have the bytes between the record and the arguments.
    let complete = unsafe { write_paths::<F>(record, base, (N - A) as u32, source) };
    if !complete && !last_resort {
        entry.discard();
        return Outcome::TooSmall;
    }
    // SAFETY: the last A bytes of the entry.
    unsafe { write_argv::<A>(record, base.add(N - A), (N - A) as u32, arguments) };
    record.old_tid = source.old_tid;
    record.cgroup_id = source.cgroup_id;
    task::write(record, source.task);
    write_file(record, source);
    if entry.submit(ctx) {
        Outcome::Submitted
    } else {
        Outcome::RingFull
    }
}

/// Writes the four paths back to back. False if one of them is cut.
///
/// # Safety
/// `base` points to `limit` bytes that begin with `record`.
#[inline(always)]
unsafe fn write_paths<const F: u32>(
    record: &mut ExecRecord,
    base: *mut u8,
    limit: u32,
    source: &Source,
) -> bool {
    let start = size_of::<ExecRecord>() as u32;
    let filename = source.filename;
    // SAFETY: F bytes fit between `start` and `limit` in every class (asserted there).
    let written = unsafe { string(base.add(start as usize), F, filename) };
    let written = if written > 0 { written as u32 } else { 0 };
    let mut cut = if written >= F { flag::FILENAME_CUT } else { 0 };
    record.filename_end = start + written;
    record.interpreter_end = start + written;
    // SAFETY: by contract.
    if unsafe { append_interpreter::<F>(record, base, limit, source.bprm, filename) } {
        cut |= flag::FILENAME_CUT;
    }

    let exe = member(source.file, Field::FilePath);
    // SAFETY: the field lies in the record.
    record.exe_end = unsafe { (&raw const record.interpreter_end).read_volatile() };
    // SAFETY: by contract.
    if unsafe { path::append(base, limit, &raw mut record.exe_end, exe) } {
        cut |= flag::EXE_CUT;
    }
    let pwd = member(field(source.task, Field::TaskFs), Field::FsPwd);
    // SAFETY: the field lies in the record.
    record.cwd_end = unsafe { (&raw const record.exe_end).read_volatile() };
    // SAFETY: by contract.
    if unsafe { path::append(base, limit, &raw mut record.cwd_end, pwd) } {
        cut |= flag::CWD_CUT;
    }
    let unnamed = is_unnamed(exe) as u32 * flag::EXE_UNNAMED;
    record.flags = cut | unnamed | secure(source.bprm);
    cut == 0
}

/// The interpreter, where a script was executed. True if it is cut.
///
/// # Safety
/// As [`write_paths`].
#[inline(always)]
unsafe fn append_interpreter<const F: u32>(
    record: &mut ExecRecord,
    base: *mut u8,
    limit: u32,
    bprm: u64,
    filename: u64,
) -> bool {
    let interpreter: u64 = field(bprm, Field::BprmInterp);
    if interpreter == filename || interpreter == 0 {
        return false;
    }
    // SAFETY: the field lies in the record. Read back, so that the verifier forgets its history.
    let at = unsafe { (&raw const record.interpreter_end).read_volatile() };
    if at > limit - F {
        return true;
    }
    // SAFETY: at + F <= limit was just checked.
    let written = unsafe { string(base.add(at as usize), F, interpreter) };
    if written > 0 {
        record.interpreter_end = at + written as u32;
    }
    written >= F as i64
}

#[inline(always)]
fn secure(bprm: u64) -> u32 {
    if bprm == 0 {
        return 0;
    }
    match bit(bprm, Field::BprmSecureExec) {
        Some(true) => flag::SECURE_KNOWN | flag::SECURE,
        Some(false) => flag::SECURE_KNOWN,
        None => 0,
    }
}

/// The filesystem makes the path up: it must not be walked as one.
#[inline(always)]
fn is_unnamed(path: u64) -> bool {
    let dentry: u64 = field(path, Field::PathDentry);
    let operations: u64 = field(dentry, Field::DentryOperations);
    operations != 0 && field::<u64>(operations, Field::OperationsDname) != 0
}

/// # Safety
/// `to` points to `A` bytes.
#[inline(always)]
unsafe fn write_argv<const A: usize>(
    record: &mut ExecRecord,
    to: *mut u8,
    offset: u32,
    arguments: &Arguments,
) {
    let mut len = if arguments.total > A as u64 {
        A as u32
    } else {
        arguments.total as u32
    };
    // SAFETY: len <= A.
    if unsafe { user_bytes(to, len, arguments.start) } < 0 {
        len = 0;
        record.flags |= flag::ARGV_UNREADABLE;
        count(Slot::ArgvUnreadable);
    }
    record.argv_offset = offset;
    record.argv_len = len;
    record.argv_total = arguments.total;
}

#[inline(always)]
fn write_file(record: &mut ExecRecord, source: &Source) {
    let inode: u64 = field(source.file, Field::FileInode);
    let super_block: u64 = field(inode, Field::InodeSuper);
    record.inode = field(inode, Field::InodeNumber);
    record.size = field(inode, Field::InodeSize);
    record.ctime_seconds = field(inode, Field::InodeCtimeSeconds);
    record.ctime_nanos = field::<u32>(inode, Field::InodeCtimeNanos) & NANOS;
    record.nlink = field(inode, Field::InodeNlink);
    record.mode = field::<u16>(inode, Field::InodeMode) as u32;
    record.file_uid = field(inode, Field::InodeUid);
    record.mtime_seconds = field(inode, Field::InodeMtimeSeconds);
    record.mtime_nanos = field::<u32>(inode, Field::InodeMtimeNanos) & NANOS;
    record.exec_id = field(source.task, Field::TaskExecId);
    record.device = field(super_block, Field::SuperDevice);
}

#[inline(always)]
fn argument_block(task: u64) -> (u64, u64) {
    let mm: u64 = field(task, Field::TaskMm);
    (field(mm, Field::MmArgStart), field(mm, Field::MmArgEnd))
}
