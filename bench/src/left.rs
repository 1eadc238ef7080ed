//! What an interrupted run would leave: the processes of a server, and its folder.
//!
//! Not here: what they are for (`launch`). Invariant: what was begun here ends with its value, and
//! on SIGINT and SIGTERM before this program does. One that is killed cannot see to it; its servers
//! are sent SIGTERM then.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use fanfare::shell::signals::Stop;

/// Between two looks for a signal, which ends the wait at once.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How often a folder is removed in which processes that are ending still write, and how long
/// between.
const REMOVALS_MAX: usize = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);

static LEFT: Mutex<Left> = Mutex::new(Left { groups: Vec::new(), folders: Vec::new() });

struct Left {
    groups: Vec<u32>,
    folders: Vec<PathBuf>,
}

fn left() -> MutexGuard<'static, Left> {
    LEFT.lock().expect("nothing panics while it is held")
}

/// From here on a signal ends this program in order.
///
/// # Errors
/// When the handlers cannot be made.
pub fn end_on_signals() -> Result<(), String> {
    let stop = Stop::install().map_err(|error| format!("signals: {error}"))?;
    let watch = move || {
        while !stop.wait(PATIENCE) {}
        // It is held until the end: nothing else begins.
        let left = left();
        left.groups.iter().for_each(|&group| end(group));
        left.folders.iter().for_each(|folder| remove(folder));
        eprintln!(
            "fanfare-bench: interrupted; complete rounds are kept, and 'fanfare-bench report' \
             makes their page"
        );
        std::process::exit(128 + if stop.is_gentle() { libc::SIGTERM } else { libc::SIGINT });
    };
    let thread = thread::Builder::new().name("signals".into()).spawn(watch);
    thread.map(|_| ()).map_err(|error| format!("a thread: {error}"))
}

/// A process and all that it starts in its group.
#[derive(Debug)]
pub struct Group(pub Child);

impl Group {
    /// Starts it.
    ///
    /// # Errors
    /// The operating system's.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        command.process_group(0);
        // SAFETY: between fork and exec only a system call is made.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        let mut left = left();
        let child = command.spawn()?;
        left.groups.push(child.id());
        drop(left);
        Ok(Self(child))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let group = self.0.id();
        let mut left = left();
        // The number is the group's as long as any process of it is there.
        end(group);
        left.groups.retain(|other| *other != group);
        drop(left);
        // It was killed, and somebody else cannot have reaped it.
        let _ = self.0.wait();
    }
}

/// A new folder among those for temporary files.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self, String> {
        let number = fanfare::shell::random::number();
        let folder = std::env::temp_dir().join(format!("fanfare-bench-{number:016x}"));
        let mut left = left();
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        left.folders.push(folder.clone());
        drop(left);
        Ok(Self(folder))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.0);
        left().folders.retain(|other| *other != self.0);
    }
}

fn end(group: u32) {
    let group = i32::try_from(group).expect("process numbers fit");
    // SAFETY: a plain system call; the group was made for this process at its start.
    unsafe { libc::kill(-group, libc::SIGKILL) };
}

/// What cannot be removed is in the folder for temporary files.
fn remove(folder: &Path) {
    for _ in 0..REMOVALS_MAX {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                thread::sleep(REMOVAL_PAUSE);
            }
            _ => return,
        }
    }
}
