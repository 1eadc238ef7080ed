//! Which CPUs a thread runs on, and how many files this process may open.
//!
//! Not here: who gets which. Invariant: a wish that the kernel refuses is no error, because the
//! round's own checks (`verdict`) see what comes of it; only too few files are.

use std::io;
use std::mem::size_of;

/// Pins the calling thread to these CPUs; to none: leaves it.
pub fn pin(cpus: &[usize]) {
    if cpus.is_empty() {
        return;
    }
    // SAFETY: an all-zero set is a valid, empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in cpus {
        // SAFETY: the set is ours; CPU_SET ignores numbers beyond it.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: the set is valid for the length of the call. Safe between fork and exec as well.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
}

/// Lets the calling thread run as soon as it wants to, before those that read: it needs little, and
/// an event that leaves late spoils a round.
pub fn prefer() {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter is valid for the length of the calls; both concern this thread only.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority);
        libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64);
    }
}

/// The CPUs that this process may use.
#[must_use]
pub fn available() -> Vec<usize> {
    // SAFETY: an all-zero set is a valid, empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is writable for the length of the call.
    unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    let all = 0..usize::try_from(libc::CPU_SETSIZE).expect("a small constant");
    // SAFETY: numbers below CPU_SETSIZE are within the set.
    let is_in = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
    all.filter(is_in).collect()
}

/// Makes room for this many open files, here and in the processes that are started.
///
/// # Errors
/// When the host does not allow it, and the cure.
pub fn open_files(count: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is writable for the length of the call.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if limit.rlim_cur >= count {
        return Ok(());
    }
    limit.rlim_cur = count;
    limit.rlim_max = limit.rlim_max.max(count);
    // SAFETY: the limit is valid for the length of the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{count} open files are needed, which this user may not have; raise it: ulimit -n {count}"
    )))
}
