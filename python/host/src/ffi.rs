//! The only unsafe code of the host: raw descriptors, shared memory, and C functions of Python
//! without a safe wrapper in PyO3.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_long, c_ulong};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, compiler_fence};
use std::sync::{Mutex, PoisonError};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pyserve_wire::control::STACKS_SIGNAL;
use pyserve_wire::maps;
use rustix::mm::{Advice, MapFlags, ProtFlags, mmap};

/// Takes ownership of a descriptor of this process, such as the control socket.
pub fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: pyserve opened the descriptor for the host, and `run` is called once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Inspects a descriptor that belongs to other code of this process, for one call.
///
/// If it was closed meanwhile, system calls on it return `EBADF` or describe its successor; both
/// are harmless for an inspection.
pub fn look_at<T>(fd: RawFd, look: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
    if fd < 0 {
        return None;
    }
    // SAFETY: not -1, and the borrow does not outlive the call.
    Some(look(unsafe { BorrowedFd::borrow_raw(fd) }))
}

/// Puts `stand_in` under the number `fd`, and closes the descriptor that was there. The number
/// stays valid, so that the owner's drop still closes a descriptor of the host.
pub fn replace(fd: RawFd, stand_in: &OwnedFd) -> rustix::io::Result<()> {
    // SAFETY: the caller owns the number; `ManuallyDrop` leaves the closing to the owner.
    let mut place = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(fd) });
    rustix::io::dup3(stand_in, &mut place, rustix::io::DupFlags::CLOEXEC)
}

/// Closes the number `fd`. For descriptors that a forked child may not keep and cannot [`replace`]:
/// a lowered `RLIMIT_NOFILE` forbids `dup3` to a number above it.
pub fn close(fd: RawFd) {
    // SAFETY: a number. Its owner does not use it any more, as `fork::refuse_copy` sees to.
    let _already_closed = unsafe { libc::close(fd) };
}

/// True if `descriptor` is the null device.
pub fn is_null_device(descriptor: impl AsFd) -> bool {
    let Ok(stat) = rustix::fs::fstat(descriptor) else {
        return false;
    };
    // Linux, devices.txt: character device 1, 3.
    rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice
        && (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        ) == (1, 3)
}

/// Runs `hook` in every child that this process forks through the C library, also without Python's
/// knowledge. The hook may do only what is allowed between `fork` and `exec`.
pub fn run_in_children(hook: extern "C" fn()) {
    unsafe extern "C" {
        fn pthread_atfork(
            prepare: Option<extern "C" fn()>,
            parent: Option<extern "C" fn()>,
            child: Option<extern "C" fn()>,
        ) -> c_int;
    }
    // SAFETY: the function lives as long as the process, as this library is never unloaded.
    let _no_memory = unsafe { pthread_atfork(None, None, Some(hook)) };
}

/// Memory that is zero in every forked copy of this process. `None` if the kernel has no such
/// memory (Linux before 4.14, some emulators).
pub fn memory_lost_in_copies() -> Option<&'static AtomicU64> {
    let size = rustix::param::page_size();
    // SAFETY: a fresh private mapping chosen by the kernel; nothing else is unmapped.
    let start = unsafe {
        rustix::mm::mmap_anonymous(
            ptr::null_mut(),
            size,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    }
    .ok()?;
    // SAFETY: exactly the mapping above, which is not used yet.
    if unsafe { libc::madvise(start, size, libc::MADV_WIPEONFORK) } != 0 {
        return None;
    }
    // SAFETY: page-aligned, large enough, zeroed by the kernel and never unmapped.
    Some(unsafe { &*start.cast::<AtomicU64>() })
}

/// Unmaps the pages of files that this process has not changed. The kernel maps a page again when it
/// is used. Without `smaps`, nothing changes.
pub fn unmap_clean_pages() {
    let smaps = std::fs::read("/proc/self/smaps").unwrap_or_default();
    for mapping in maps::clean_mappings(&String::from_utf8_lossy(&smaps)) {
        let length = (mapping.end - mapping.start) as usize;
        let start = ptr::without_provenance_mut(mapping.start as usize);
        // SAFETY: a private mapping without write permission, all of whose pages are those of its
        // file: a later access finds the same bytes (madvise(2)).
        let _refused = unsafe { rustix::mm::madvise(start, length, Advice::LinuxDontNeed) };
    }
}

/// The first four bytes of a word, as a futex; all processes access them only as such.
pub fn futex(word: &AtomicU64) -> &AtomicU32 {
    // SAFETY: within the word, whose alignment is larger; the reference lives as long as the word.
    unsafe { AtomicU32::from_ptr(ptr::from_ref(word).cast_mut().cast()) }
}

/// Maps shared words for the lifetime of this process.
pub fn map_words(memory: impl AsFd) -> rustix::io::Result<&'static [AtomicU64]> {
    let size = usize::try_from(rustix::fs::fstat(&memory)?.st_size)
        .map_err(|_| rustix::io::Errno::INVAL)?;
    let words = size / size_of::<AtomicU64>();
    if words == 0 {
        return Ok(&[]);
    }
    // SAFETY: a fresh shared mapping chosen by the kernel; nothing else is unmapped.
    let start = unsafe {
        mmap(
            ptr::null_mut(),
            size,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            memory,
            0,
        )
    }?;
    // SAFETY: page-aligned, `size` bytes long, never unmapped; every process touches it
    // through atomics only, and pyserve sealed the size of the file.
    Ok(unsafe { std::slice::from_raw_parts(start.cast::<AtomicU64>(), words) })
}

/// Writes bytes into shared words.
///
/// # Panics
/// If there are fewer words than the bytes need.
pub fn copy_in(words: &[AtomicU64], bytes: &[u8]) {
    assert!(bytes.len() <= size_of_val(words), "bytes beyond the words");
    let to = words.as_ptr().cast_mut().cast::<u8>();
    // SAFETY: the words are at least as long, may be written through a shared reference, and do not
    // overlap with `bytes`, because no slice of bytes is ever made of them. No other thread of this
    // process accesses them: each has a ring of its own. The front reads them later, and accepts
    // any bytes.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
    compiler_fence(SeqCst);
}

/// A `bytes` object of the first `length` bytes of shared words.
///
/// # Errors
/// `MemoryError`.
///
/// # Panics
/// If there are fewer words than that.
pub fn bytes_of<'py>(
    py: Python<'py>,
    words: &[AtomicU64],
    length: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    assert!(length <= size_of_val(words), "bytes beyond the words");
    // SAFETY: without a source, a new object whose bytes are not set; or null with an exception set.
    let bytes = unsafe {
        let object = ffi::PyBytes_FromStringAndSize(ptr::null(), length as ffi::Py_ssize_t);
        Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked::<PyBytes>()
    };
    // SAFETY: a `bytes` object.
    let to = unsafe { ffi::PyBytes_AsString(bytes.as_ptr()) }.cast::<u8>();
    // SAFETY: the object has `length` bytes, and no other code has it yet; the words are at least as
    // long. The front does not write to them while this thread has the claim. If another worker
    // does, the application gets some of its bytes, all of which are valid.
    unsafe { ptr::copy_nonoverlapping(words.as_ptr().cast::<u8>(), to, length) }
    compiler_fence(SeqCst);
    Ok(bytes)
}

/// The memory with the arguments of this process, which the kernel reads for `ps` and
/// `/proc/PID/cmdline`. `None` if `/proc` does not show it.
pub fn arguments() -> Option<&'static [AtomicU8]> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // proc(5), stat: the third field follows the name in parentheses; arg_start is field 48.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(48 - 3);
    let mut address = || fields.next()?.parse::<usize>().ok();
    let (start, end) = (address()?, address()?);
    let length = end.checked_sub(start)?;
    // Emulators omit the addresses, or give those of another address space.
    let shown = std::fs::read("/proc/self/cmdline").ok()?;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    if start == 0 || length == 0 || shown.len() != length || !is_on_stack(&maps, start, end) {
        return None;
    }
    // SAFETY: mapped and writable for the life of the process, and no C code writes there; all
    // Rust code uses these atomics.
    let arguments =
        unsafe { std::slice::from_raw_parts(ptr::with_exposed_provenance(start), length) };
    let bytes = arguments.iter().map(|byte: &AtomicU8| byte.load(Relaxed));
    bytes.eq(shown).then_some(arguments)
}

/// True if this range lies within a writable mapping, according to proc(5), maps.
fn is_on_stack(maps: &str, start: usize, end: usize) -> bool {
    let number = |text| usize::from_str_radix(text, 16).ok();
    maps.lines().any(|line| {
        let mut fields = line.split(' ');
        let range = fields.next().and_then(|range| range.split_once('-'));
        let Some((low, high)) = range.and_then(|(low, high)| Some((number(low)?, number(high)?)))
        else {
            return false;
        };
        let is_writable = fields.next().is_some_and(|rights| rights.starts_with("rw"));
        is_writable && (low..high).contains(&start) && end <= high
    })
}

/// Bytes of a header or path as a `str` of PEP 3333: one character per byte.
pub fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: pointer and length belong together; a slice is never over `isize::MAX`.
    let text = unsafe {
        let start = bytes.as_ptr().cast::<c_char>();
        ffi::PyUnicode_DecodeLatin1(start, bytes.len() as ffi::Py_ssize_t, ptr::null())
    };
    // SAFETY: a new reference to a `str`, or null with an exception set.
    unsafe {
        Bound::from_owned_ptr_or_err(py, text).map(|text| text.cast_into_unchecked::<PyString>())
    }
}

/// The reverse of [`latin1`]. The error is Python's `UnicodeEncodeError`, a `ValueError`.
pub fn to_latin1<'py>(text: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyBytes>> {
    // SAFETY: `text` is a `str`; the result is a new reference to `bytes`, or null with an
    // exception set.
    unsafe {
        let bytes = ffi::PyUnicode_AsLatin1String(text.as_ptr());
        Bound::from_owned_ptr_or_err(text.py(), bytes)
            .map(|bytes| bytes.cast_into_unchecked::<PyBytes>())
    }
}

/// The kernel's id of the calling thread.
pub fn thread_number() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Python's id of the calling thread, even if `threading` is patched.
pub fn thread_ident() -> u64 {
    unsafe extern "C" {
        // Part of the stable ABI; PyO3 does not declare it.
        fn PyThread_get_thread_ident() -> c_ulong;
    }
    // SAFETY: no arguments, and no state but the calling thread's own.
    let ident = unsafe { PyThread_get_thread_ident() };
    // An unsigned long has the width of a pointer on Linux.
    ident as u64
}

/// Sends a signal to one thread of this process; nothing happens if it has ended.
pub fn signal_thread(number: i32, signal: c_int) {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: three numbers, no memory. The signal stays within our own process.
    let _gone = unsafe { libc::syscall(libc::SYS_tgkill, process, number, signal) };
}

/// Blocks all signals but `signal` in the calling thread: the others are for Python's threads.
pub fn take_only(signal: c_int) {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: fills the set, which is large enough by its type.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: initialised above.
    let mut set = unsafe { set.assume_init() };
    // SAFETY: an initialised set of our own.
    unsafe { libc::sigdelset(&mut set, signal) };
    // SAFETY: an initialised set; the old one is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &set, ptr::null_mut()) };
}

/// Ends this process at once, from any thread: nothing is flushed and no exit function runs.
pub fn exit_now(status: c_int) -> ! {
    // SAFETY: a number; the call does not return.
    unsafe { libc::_exit(status) }
}

/// The two signals that the host uses among its own threads: the first interrupts a thread, the
/// second makes `faulthandler` write the stacks of all threads.
pub fn signals() -> (c_int, c_int) {
    (libc::SIGRTMAX() - 1, STACKS_SIGNAL)
}

/// Signals with which people, service managers and terminals control the server. They also reach
/// its Python processes when they are sent to a whole cgroup or to all processes of a name.
const COMMANDS: [c_int; 9] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTERM,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];
/// Other signals that end a process by default. The kernel sends them on request of the process
/// (`signal.alarm`, `O_ASYNC`, `RLIMIT_CPU`); then they keep their action.
const NOTICES: [c_int; 7] = [
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
    libc::SIGXCPU,
];
/// The actions that [`pass_over_signals`] replaced.
static REPLACED: Mutex<Vec<(c_int, libc::sigaction)>> = Mutex::new(Vec::new());

thread_local! {
    /// The signal mask of a thread that is about to fork.
    static HELD_BACK: std::cell::Cell<Option<libc::sigset_t>> = const { std::cell::Cell::new(None) };
}

/// All signals that Python processes ignore. Real-time signals are among them.
fn passed_over() -> impl Iterator<Item = c_int> {
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    COMMANDS.into_iter().chain(NOTICES).chain(real_time)
}

extern "C" fn take_no_notice(
    signal: c_int,
    info: *mut libc::siginfo_t,
    _context: *mut std::ffi::c_void,
) {
    // SAFETY: the kernel passes a valid record to a handler with SA_SIGINFO.
    let code = unsafe { (*info).si_code };
    // sigaction(2): sent by kill, sigqueue or tgkill of any process.
    if [libc::SI_USER, libc::SI_QUEUE, libc::SI_TKILL].contains(&code) {
        return;
    }
    if [libc::SIGTTIN, libc::SIGTTOU].contains(&signal) {
        // A background process uses its terminal. The call is restarted and sends the signal again
        // until it is ignored; then it writes, or reads nothing. SAFETY: a valid action; `signal`
        // is async-signal-safe.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    } else if !COMMANDS.contains(&signal) {
        // SAFETY: a valid action; `signal` is async-signal-safe.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        // SAFETY: async-signal-safe. The signal is delivered when the handler has returned.
        unsafe { libc::raise(signal) };
    }
}

/// The address of [`take_no_notice`] for `sigaction`.
fn no_notice() -> usize {
    take_no_notice as extern "C" fn(c_int, *mut libc::siginfo_t, *mut std::ffi::c_void) as usize
}

/// Ignores signals that other processes send to this one, until the application sets handlers of
/// its own. `signal.getsignal` returns the same values as before.
///
/// The handler does nothing: `exec` resets handlers to the default, whereas an ignored signal stays
/// ignored in every program that the application starts.
pub fn pass_over_signals() {
    let mut replaced = REPLACED.lock().unwrap_or_else(PoisonError::into_inner);
    for signal in passed_over() {
        let Some(old) = action(signal) else { continue };
        // Ignored already, as by `nohup`, or handled by `sitecustomize`.
        if old.sa_sigaction != libc::SIG_DFL {
            continue;
        }
        if pass_over(signal, old) {
            replaced.push((signal, old));
        }
    }
}

/// Signals that a terminal sends. A debugger has handlers for them while it prompts.
const FROM_TERMINAL: [c_int; 4] = [libc::SIGINT, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// Does [`pass_over_signals`] again for the signals of the terminal, after Python has set the
/// default action.
pub fn pass_over_terminal_signals() {
    for signal in FROM_TERMINAL {
        if let Some(now) = action(signal).filter(|now| now.sa_sigaction == libc::SIG_DFL) {
            pass_over(signal, now);
        }
    }
}

/// Replaces the present action `now`; true if that is done.
fn pass_over(signal: c_int, now: libc::sigaction) -> bool {
    let mut new = now;
    new.sa_sigaction = no_notice();
    new.sa_flags = libc::SA_RESTART | libc::SA_SIGINFO;
    // SAFETY: a valid action; what its function does is async-signal-safe.
    unsafe { libc::sigaction(signal, &new, ptr::null_mut()) == 0 }
}

/// Undoes [`pass_over_signals`], except where the application has set a handler since.
pub fn obey_signals() {
    // The lock is held only before there are other threads.
    let Ok(replaced) = REPLACED.try_lock() else {
        return;
    };
    for (signal, old) in replaced.iter() {
        if action(*signal).is_some_and(|now| now.sa_sigaction == no_notice()) {
            // SAFETY: the action that this process had before.
            unsafe { libc::sigaction(*signal, old, ptr::null_mut()) };
        }
    }
}

/// Blocks the signals meant for the server in this thread until [`release_signals`]: one that is
/// sent to a child right after the fork must find its final action.
pub fn hold_signals() {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: fills in the set that it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised above.
    let mut set = unsafe { set.assume_init() };
    for signal in passed_over() {
        // SAFETY: an initialised set of our own.
        unsafe { libc::sigaddset(&mut set, signal) };
    }
    let mut before = std::mem::MaybeUninit::uninit();
    // SAFETY: both sets are valid for the call, which fills in the second.
    let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, before.as_mut_ptr()) };
    if result == 0 {
        // SAFETY: filled in by the call that succeeded.
        HELD_BACK.set(Some(unsafe { before.assume_init() }));
    }
}

/// Undoes [`hold_signals`] in the thread that called it, or in its copy in a child.
pub fn release_signals() {
    if let Some(before) = HELD_BACK.take() {
        // SAFETY: the previous mask of this thread; the current one is not requested.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut()) };
    }
}

fn action(signal: c_int) -> Option<libc::sigaction> {
    let mut action = std::mem::MaybeUninit::uninit();
    // SAFETY: asks only, and writes to memory of the right type.
    let result = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: filled in by the call that succeeded.
    (result == 0).then(|| unsafe { action.assume_init() })
}

/// Makes Python raise `exception` in the thread with id `ident`, at its next bytecode. `None`
/// withdraws an exception that was not raised yet.
pub fn raise_in_thread(_py: Python<'_>, ident: u64, exception: Option<&Bound<'_, PyAny>>) {
    let exception = exception.map_or(ptr::null_mut(), Bound::as_ptr);
    // SAFETY: we are attached (`_py`); the exception is borrowed for the call, which takes a
    // reference of its own. The number goes over as the unsigned long that Python reads.
    let _threads = unsafe { ffi::PyThreadState_SetAsyncExc(ident as c_long, exception) };
}
