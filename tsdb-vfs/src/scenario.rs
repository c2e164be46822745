//! What a driver visits: a program that writes, how it recovers, and what must then be true.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use crate::sim::SimFs;

/// A workload with its recovery and its invariant, for the drivers [`crash`](crate::crash) and
/// [`failpoints`](crate::failpoints).
///
/// ```
/// use std::path::Path;
/// use tsdb_vfs::{Journal, Scenario, SimFs, Vfs, crash::Enumerator};
///
/// /// A counter in a file, replaced by rename.
/// struct Counter;
///
/// impl Scenario for Counter {
///     type Note = u8;
///     type Recovered = Option<u8>;
///
///     fn run(&self, disk: &SimFs, journal: &Journal<u8>) {
///         let step = |n| {
///             journal.intend(n);
///             disk.write_new(Path::new("/new"), &[n])?;
///             disk.rename(Path::new("/new"), Path::new("/counter"))?;
///             disk.sync_dir(Path::new("/"))?;
///             journal.promise(n);
///             Ok::<_, std::io::Error>(())
///         };
///         (1..4).try_for_each(step).expect("no failure was injected");
///     }
///
///     fn recover(&self, disk: &SimFs) -> Result<Option<u8>, String> {
///         match disk.read(Path::new("/counter")) {
///             Ok(bytes) => Ok(bytes.first().copied()),
///             Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
///             Err(e) => Err(e.to_string()),
///         }
///     }
///
///     fn check(&self, _: &SimFs, found: Option<u8>, notes: &[u8]) -> Result<(), String> {
///         // Each number is noted twice: intended, then promised.
///         let promised = notes.len() as u8 / 2;
///         let possible = promised..=promised + (notes.len() % 2) as u8;
///         match possible.contains(&found.unwrap_or(0)) {
///             true => Ok(()),
///             false => Err(format!("found {found:?}, expected {possible:?}")),
///         }
///     }
/// }
///
/// let report = Enumerator::new(1).run(&Counter);
/// report.assert_clean();
/// ```
pub trait Scenario: Sync {
    /// What the program tells the outside world, see [`Journal`].
    type Note: Clone + Send + Sync + fmt::Debug;
    /// What recovery found, handed to the check.
    type Recovered;

    /// Puts on the disk what is there before the program starts. All of it becomes durable, and no crash happens here.
    fn prepare(&self, _disk: &SimFs) {}

    /// The program. Under [`failpoints`](crate::failpoints) any operation may fail, and it has to go on or stop as it
    /// would in earnest; it must not panic.
    fn run(&self, disk: &SimFs, journal: &Journal<Self::Note>);

    /// Starts again on what a crash left. May itself be interrupted by a crash and started again.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the program: recovery has to succeed.
    fn recover(&self, disk: &SimFs) -> Result<Self::Recovered, String>;

    /// Compares what was recovered with what had been promised (and intended) when the crash came. What is written here
    /// is not part of recovery: no crash happens in it.
    ///
    /// # Errors
    /// A sentence that says what was lost or invented.
    fn check(&self, disk: &SimFs, recovered: Self::Recovered, notes: &[Self::Note]) -> Result<(), String>;
}

/// What the program has told the outside world, in order: it survives the crash and is what the check goes by.
#[derive(Debug)]
pub struct Journal<N> {
    disk: SimFs,
    notes: Mutex<Vec<N>>,
}

impl<N: Clone> Journal<N> {
    pub(crate) fn new(disk: &SimFs) -> Self {
        Journal { disk: disk.clone(), notes: Mutex::new(Vec::new()) }
    }

    /// Notes what from now on *may* be on the disk. To be called before the first operation that could put it there.
    pub fn intend(&self, note: N) {
        self.push(note, false);
    }

    /// Notes what from now on *must* be on the disk.
    pub fn promise(&self, note: N) {
        self.push(note, true);
    }

    /// All notes so far.
    pub fn notes(&self) -> Vec<N> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn push(&self, note: N, promise: bool) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(note);
        // Under the lock, so that the disk's count never runs ahead of the notes' order.
        self.disk.note(promise);
    }
}

/// Recovers and checks; a panic counts as a failure with its message.
pub(crate) fn examine<S: Scenario>(scenario: &S, disk: &SimFs, notes: &[S::Note], nested: bool) -> Examined {
    let recovered = guarded(|| {
        if nested {
            disk.start_trace();
        }
        scenario.recover(disk)
    });
    let trace = if nested { disk.end_trace() } else { Vec::new() };
    let outcome = recovered.and_then(|recovered| guarded(|| scenario.check(disk, recovered, notes)));
    Examined { outcome, trace }
}

pub(crate) struct Examined {
    pub(crate) outcome: Result<(), String>,
    /// The moments of the recovery at which it could have crashed itself.
    pub(crate) trace: Vec<crate::sim::TracePoint>,
}

pub(crate) fn guarded<T>(act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| Err(format!("panic: {}", panic_message(&*panic))))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}
