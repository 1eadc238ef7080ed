//! What is known of a host. `None` is what could not be read.
//!
//! Not here: where it is read (`gather`) and what it should be (the rules).

use std::collections::BTreeMap;

/// What only system calls tell, and of this process only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Whether the kernel gives this process an io_uring.
    pub rings: Rings,
    /// Whether the kernel takes its clock for synchronised.
    pub clock_synchronized: Option<bool>,
    /// Bytes of a page.
    pub page_bytes: u64,
}

/// What came of asking for an io_uring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rings {
    /// It was given.
    Given,
    /// It was refused, with these words.
    Refused(String),
    /// Nobody asked: the files are not those of this host.
    NotTried,
}

/// Everything that the rules look at.
#[derive(Debug, Clone)]
pub struct Facts {
    /// What system calls told.
    pub live: Live,
    /// `uname -r`.
    pub kernel: Option<String>,
    /// Of the kernel, as it was started.
    pub command_line: String,
    /// Whether a filter of system calls holds for this process.
    pub has_filter: bool,
    /// Hard limit of descriptors.
    pub descriptors: Option<u64>,
    /// Hard limit of locked memory, bytes.
    pub locked_bytes: Option<u64>,
    /// Settings by their names; those of the kernel that are several numbers have all of them.
    pub sysctls: BTreeMap<&'static str, Vec<u64>>,
    /// Cores that this process may use.
    pub cores: Vec<Core>,
    /// Cores that the scheduler leaves alone.
    pub isolated: Vec<usize>,
    /// Cores whose timer tick stops while one thread runs.
    pub tickless: Vec<usize>,
    /// Whether two threads share a core.
    pub has_siblings: Option<bool>,
    /// Each NUMA node's cores.
    pub nodes: BTreeMap<usize, Vec<usize>>,
    /// CPU time in microseconds out of how many, if the control group has a quota.
    pub quota: Option<(u64, u64)>,
    /// Weaknesses of the CPU that nothing mitigates.
    pub vulnerable: Vec<String>,
    /// Whether this is a virtual machine.
    pub is_virtual: bool,
    /// Part of the CPU time since the start that other machines took, in a hundred.
    pub stolen_percent: Option<f64>,
    /// The network card; none was named and none has the default route.
    pub card: Option<Card>,
    /// Whether `irqbalance` runs.
    pub balances_interrupts: bool,
    /// Mode of transparent huge pages.
    pub huge_pages: Option<String>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Bytes of swap.
    pub swap_bytes: Option<u64>,
    /// What the kernel tells the time from.
    pub clock_source: Option<String>,
}

impl Facts {
    /// A setting's numbers.
    #[must_use]
    pub fn sysctl(&self, key: &str) -> Option<&[u64]> {
        self.sysctls.get(key).map(Vec::as_slice)
    }

    /// The numbers of the cores that this process may use.
    #[must_use]
    pub fn core_numbers(&self) -> Vec<usize> {
        self.cores.iter().map(|core| core.number).collect()
    }
}

/// One core, as the kernel counts them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Core {
    /// Its number.
    pub number: usize,
    /// Who chooses its frequency; none where the kernel does not.
    pub governor: Option<String>,
    /// The longest wake-up from an idle state that is on, microseconds; none without idle states.
    pub wake_us_max: Option<u64>,
}

/// A network card.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Card {
    /// Its interface.
    pub name: String,
    /// Its NUMA node, if it is known.
    pub node: Option<usize>,
    /// For each receive queue, whether packets are spread over cores by software (RPS).
    pub receive_spread: Vec<bool>,
    /// For each transmit queue, whether cores are given to it (XPS); none if that cannot be read.
    pub transmit_cores: Vec<Option<bool>>,
    /// The interrupts of its queues.
    pub interrupts: Vec<Interrupt>,
}

/// An interrupt of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupt {
    /// Its number.
    pub number: u64,
    /// The cores that may serve it.
    pub cores: Vec<usize>,
}
