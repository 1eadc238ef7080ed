//! Which of the listeners that share an address gets a connection: that of the core whose CPU the
//! network card gave it to.
//!
//! A program for the kernel's packet filter, in place of the hash of addresses
//! (`SO_ATTACH_REUSEPORT_CBPF`). It pays where the card has a queue for each core. Not here: the
//! listeners. Invariant: a CPU without a shard gets one all the same.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use libc::{sock_filter, sock_fprog};

/// Loads a word; jumps if equal; remainder; returns a constant, or what was computed.
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const REMAINDER: u16 = 0x94;
const RETURN_CONSTANT: u16 = 0x06;
const RETURN_RESULT: u16 = 0x16;

/// Where the filter finds the number of the CPU it runs on (`SKF_AD_OFF + SKF_AD_CPU`).
const CPU: u32 = (-0x1000_i32 + 36).cast_unsigned();

/// Gives connections that share the address of `listener` to the listener at the place that the
/// CPU has in `cores`; each other CPU to one of them by its number.
///
/// # Errors
/// The kernel's reason.
pub fn steer(listener: &OwnedFd, cores: &[usize]) -> io::Result<()> {
    let mut filter = program(cores);
    let len = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = sock_fprog { len, filter: filter.as_mut_ptr() };
    let size = u32::try_from(size_of::<sock_fprog>()).expect("some bytes");
    // SAFETY: `program` is a valid `sock_fprog` whose `len` instructions live until the call, which
    // only reads them, returns.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Leaves the choice to the kernel's hash again.
pub fn release(listener: &OwnedFd) {
    let nothing: libc::c_int = 0;
    let size = u32::try_from(size_of::<libc::c_int>()).expect("some bytes");
    // SAFETY: `nothing` is a valid integer, which the call only reads. It fails if there is no
    // program, which is what is wanted.
    let _ = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_REUSEPORT_BPF,
            (&raw const nothing).cast(),
            size,
        )
    };
}

fn program(cores: &[usize]) -> Vec<sock_filter> {
    let number = |number: usize| u32::try_from(number).expect("cores are few");
    let step = |code, k| sock_filter { code, jt: 0, jf: 0, k };
    let mut program = vec![step(LOAD_WORD, CPU)];
    for (place, &core) in cores.iter().enumerate() {
        program.push(sock_filter { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: number(core) });
        program.push(step(RETURN_CONSTANT, number(place)));
    }
    program.push(step(REMAINDER, number(cores.len())));
    program.push(step(RETURN_RESULT, 0));
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::listener::shared;

    #[test]
    fn the_kernel_takes_the_program_and_gives_it_up() {
        let listeners = shared("127.0.0.1:0".parse().unwrap(), 2).unwrap().listeners;
        steer(&listeners[0], &[0, 5]).unwrap();
        release(&listeners[0]);
        release(&listeners[0]);
        let most: Vec<_> = (0..1_024).collect();
        steer(&listeners[1], &most).unwrap();
    }
}
