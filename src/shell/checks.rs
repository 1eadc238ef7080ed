//! What the host must allow before a server can start; a refusal names the command that cures it.
//!
//! Not here: everything else that a host should be (`doctor`).

use std::io;

use io_uring::IoUring;

use crate::limits::{DESCRIPTORS_SPARE, LOCKED_BYTES_PER_EXECUTOR};

/// What the host does not allow.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel refuses io_uring.
    #[error(
        "io_uring is not allowed here ({0}); try: sudo sysctl -w kernel.io_uring_disabled=0 (in a \
         container, also allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp \
         profile); fanfare doctor looks at the whole host"
    )]
    IoUring(io::Error),
    /// Too little memory may be locked.
    #[error(
        "{needed} bytes of locked memory are needed and {allowed} are allowed; try: ulimit -l {} \
         (systemd: LimitMEMLOCK={needed}); fanfare doctor looks at the whole host",
        needed / 1024
    )]
    LockedMemory {
        /// Bytes for all executors.
        needed: u64,
        /// The limit.
        allowed: u64,
    },
    /// Too few descriptors.
    #[error(
        "{allowed} file descriptors are allowed, fewer than {needed}; try: ulimit -n 1048576 \
         (systemd: LimitNOFILE=1048576); fanfare doctor looks at the whole host"
    )]
    Descriptors {
        /// The least that makes sense.
        needed: u64,
        /// The limit.
        allowed: u64,
    },
}

/// Checks the host for a server of `executors` threads, raises the soft descriptor limit to the
/// hard one, and returns how many connections the descriptors are enough for.
///
/// # Errors
/// The first thing that is not allowed.
pub fn check_host(executors: usize) -> Result<usize, HostError> {
    try_rings().map_err(HostError::IoUring)?;
    let needed = executors as u64 * LOCKED_BYTES_PER_EXECUTOR;
    let allowed = raise_limit(libc::RLIMIT_MEMLOCK);
    if allowed < needed {
        return Err(HostError::LockedMemory { needed, allowed });
    }
    let (needed, allowed) = (2 * DESCRIPTORS_SPARE, raise_limit(libc::RLIMIT_NOFILE));
    if allowed < needed {
        return Err(HostError::Descriptors { needed, allowed });
    }
    Ok(usize::try_from(allowed - DESCRIPTORS_SPARE).unwrap_or(usize::MAX))
}

/// Whether the kernel gives this process an io_uring.
///
/// # Errors
/// The kernel's reason.
pub fn try_rings() -> io::Result<()> {
    IoUring::new(8).map(drop)
}

/// Whether the kernel takes its clock for synchronised (adjtimex(2)); none if it does not say.
#[must_use]
pub fn is_clock_synchronized() -> Option<bool> {
    // SAFETY: a `timex` is integers, for all of which zero is valid.
    let mut time: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `time` is a valid place for the kernel to write; no mode is set, so nothing changes.
    match unsafe { libc::adjtimex(&raw mut time) } {
        -1 => None,
        state => Some(state != libc::TIME_ERROR),
    }
}

/// Bytes of a page.
#[must_use]
pub fn page_bytes() -> u64 {
    // SAFETY: the call reads a constant of the system.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4_096)
}

/// Raises a soft limit as far as it goes without privileges, and returns it.
fn raise_limit(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the kernel to write one `rlimit`.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
        return 0;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: `raised` is a valid `rlimit`, which the kernel only reads.
    if unsafe { libc::setrlimit(resource, &raw const raised) } == 0 {
        limit = raised;
    }
    limit.rlim_cur
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_command_that_cures_it() {
        let cases = [
            (HostError::IoUring(io::ErrorKind::PermissionDenied.into()), "sysctl -w kernel"),
            (HostError::LockedMemory { needed: 1 << 20, allowed: 0 }, "ulimit -l 1024"),
            (HostError::Descriptors { needed: 256, allowed: 64 }, "ulimit -n"),
        ];
        for (error, cure) in cases {
            let text = error.to_string();
            assert!(text.contains(cure) && text.contains("fanfare doctor"), "{text}");
        }
    }

    #[test]
    fn a_host_cannot_lock_memory_for_a_million_executors() {
        match check_host(usize::MAX / (1 << 20)) {
            Err(HostError::LockedMemory { .. }) => {}
            // An unlimited host, or one without io_uring.
            other => eprintln!("not shown on this host: {other:?}"),
        }
    }
}
