//! The drivers find bugs: a small log, right and with one thing wrong at a time.

use std::io;
use std::path::Path;

use tsdb_vfs::crash::{Enumerator, Report};
use tsdb_vfs::failpoints::Sweep;
use tsdb_vfs::sim::{Kept, OpKind};
use tsdb_vfs::{Journal, Scenario, SimFs, Vfs, VfsFile};

/// What is wrong with a [`Toy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// A record is promised without a sync.
    NoSync,
    /// The log's name is never made durable.
    NoDirSync,
    /// A sync that failed is tried again and believed.
    RetriesSync,
    /// After a failed write the rest of the record stays in the log.
    KeepsHalfRecords,
    /// Recovery believes a record by its length alone.
    NoChecksum,
    /// Recovery does not make durable what it returns.
    RecoveryUnsynced,
    /// Recovery syncs what it has read and believes that it thereby is on the disk. The pages may count as clean since a
    /// sync failed in the process before: they have to be written again.
    RecoveryTrustsCache,
    /// Recovery cuts the log to nothing before it writes it anew.
    RecoveryInPlace,
    /// A panic, when something fails.
    Panics,
}

/// Records of `SIZE` bytes in one file; each is its number, repeated, and a checksum.
struct Toy {
    bug: Bug,
    records: u8,
}

const LOG: &str = "/log";
const SIZE: usize = 700;
/// Records written before each sync.
const BATCH: usize = 3;
/// Stands for a record that is none.
const GARBAGE: u8 = 255;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Note {
    Intends(u8),
    Promises(u8),
}

fn record(n: u8) -> Vec<u8> {
    let mut bytes = vec![n; SIZE];
    bytes[SIZE - 1] = n ^ 0x5a;
    bytes
}

impl Toy {
    fn create(&self, disk: &SimFs) -> io::Result<Box<dyn VfsFile>> {
        let file = disk.create_new(Path::new(LOG))?;
        if self.bug != Bug::NoDirSync {
            disk.sync_dir(Path::new("/"))?;
        }
        Ok(file)
    }

    /// Whether the record is in the file; an error if the file can no longer be trusted.
    fn append(&self, file: &dyn VfsFile, at: &mut u64, bytes: &[u8]) -> io::Result<bool> {
        if let Err(e) = file.write_all_at(bytes, *at) {
            assert!(self.bug != Bug::Panics, "unexpected: {e}");
            if self.bug == Bug::KeepsHalfRecords {
                *at = file.len()?;
            } else {
                file.set_len(*at)?;
            }
            return Ok(false);
        }
        *at += SIZE as u64;
        Ok(true)
    }

    fn sync(&self, file: &dyn VfsFile) -> io::Result<()> {
        match self.bug {
            Bug::NoSync => Ok(()),
            Bug::RetriesSync => file.sync_data().or_else(|_| file.sync_data()),
            _ => file.sync_data(),
        }
    }

    fn valid(&self, bytes: &[u8]) -> Vec<u8> {
        let good = |chunk: &&[u8]| {
            let n = chunk[0];
            chunk.len() == SIZE && n != 0 && (self.bug == Bug::NoChecksum || **chunk == record(n))
        };
        let number = |chunk: &[u8]| if chunk == record(chunk[0]) { chunk[0] } else { GARBAGE };
        bytes.chunks(SIZE).take_while(good).map(number).collect()
    }
}

impl Scenario for Toy {
    type Note = Note;
    type Recovered = Vec<u8>;

    fn run(&self, disk: &SimFs, journal: &Journal<Note>) {
        let Ok(file) = self.create(disk) else { return };
        let mut at = 0;
        for batch in (1..=self.records).collect::<Vec<u8>>().chunks(BATCH) {
            let mut written = Vec::new();
            for &n in batch {
                journal.intend(Note::Intends(n));
                match self.append(&*file, &mut at, &record(n)) {
                    Ok(true) => written.push(n),
                    Ok(false) => {}
                    Err(_) => return,
                }
            }
            if self.sync(&*file).is_err() {
                return;
            }
            written.into_iter().for_each(|n| journal.promise(Note::Promises(n)));
        }
    }

    fn recover(&self, disk: &SimFs) -> Result<Vec<u8>, String> {
        let recovered = || {
            if !disk.exists(Path::new(LOG))? {
                return Ok(Vec::new());
            }
            let records = self.valid(&disk.read(Path::new(LOG))?);
            let whole = (records.len() * SIZE) as u64;
            let file = disk.open_write(Path::new(LOG))?;
            match self.bug {
                Bug::RecoveryUnsynced => {}
                Bug::RecoveryInPlace => {
                    file.set_len(0)?;
                    file.write_all_at(&records.iter().flat_map(|&n| record(n)).collect::<Vec<_>>(), 0)?;
                    file.sync_data()?;
                }
                _ => {
                    if self.bug != Bug::RecoveryTrustsCache {
                        file.write_all_at(&records.iter().flat_map(|&n| record(n)).collect::<Vec<_>>(), 0)?;
                    }
                    file.set_len(whole)?;
                    file.sync_data()?;
                }
            }
            disk.sync_dir(Path::new("/"))?;
            Ok(records)
        };
        recovered().map_err(|e: io::Error| format!("recovery failed: {e}"))
    }

    fn check(&self, disk: &SimFs, recovered: Vec<u8>, notes: &[Note]) -> Result<(), String> {
        let promised: Vec<u8> =
            notes.iter().filter_map(|n| if let Note::Promises(n) = n { Some(*n) } else { None }).collect();
        if let Some(lost) = promised.iter().find(|n| !recovered.contains(n)) {
            return Err(format!("record {lost} was lost: {recovered:?}"));
        }
        if let Some(invented) = recovered.iter().find(|n| !notes.contains(&Note::Intends(**n))) {
            return Err(format!("record {invented} was invented"));
        }
        let again = self.recover(&disk.crash_point().image(Kept::Nothing))?;
        if again != recovered {
            return Err(format!("recovered {recovered:?}, and after another crash {again:?}"));
        }
        Ok(())
    }
}

fn enumerate(bug: Bug) -> Report {
    let mut report = Report::default();
    for seed in 0..4 {
        report += Enumerator::new(seed).nested(3, 5, 2).run(&Toy { bug, records: 24 });
    }
    report
}

#[test]
fn a_right_log_passes_and_everything_is_covered() {
    let report = enumerate(Bug::None);
    println!("{report}");
    report.assert_clean();
    assert!(report.states > 800, "{report}");
    // It renames nothing and creates one name.
    let rare: Vec<_> =
        report.states_with.counters().into_iter().filter(|(_, n)| *n < 30).map(|(name, _)| name).collect();
    assert_eq!(rare, ["lost names", "lost renames"], "{report}");
    assert!(report.nested > 150, "{report}");

    let mut swept = tsdb_vfs::failpoints::SweepReport::default();
    for seed in 0..3 {
        swept += Sweep::new(seed).run(&Toy { bug: Bug::None, records: 24 });
    }
    println!("{swept}");
    swept.assert_clean();
    assert_eq!(swept.leaked_handles, 0);
    for kind in [OpKind::Create, OpKind::Write, OpKind::SyncData, OpKind::SyncDir] {
        assert!(swept.failed.get(kind) > 0, "{kind} never failed: {swept}");
    }
}

#[test]
fn crashes_show_what_is_wrong() {
    for (bug, said) in [
        (Bug::NoSync, "was lost"),
        (Bug::NoDirSync, "was lost"),
        (Bug::NoChecksum, "invented"),
        (Bug::RecoveryUnsynced, "after another crash"),
        (Bug::RecoveryInPlace, "was lost"),
    ] {
        let report = enumerate(bug);
        let found = report.failures.first().unwrap_or_else(|| panic!("{bug:?} was not found\n{report}"));
        assert!(found.message.contains(said), "{bug:?}: {found}");
        assert!(!found.ops.is_empty() && found.place.contains("crash with"), "{found}");
    }
}

#[test]
fn failures_show_what_is_wrong() {
    for bug in [Bug::RetriesSync, Bug::KeepsHalfRecords, Bug::RecoveryTrustsCache, Bug::Panics] {
        assert!(enumerate(bug).failures.is_empty(), "{bug:?} shows only when something fails");
        let report = Sweep::new(1).run(&Toy { bug, records: 24 });
        let found = report.crashes.failures.first().unwrap_or_else(|| panic!("{bug:?} was not found\n{report}"));
        assert!(found.place.contains("failed with"), "{found}");
        assert_eq!(bug == Bug::Panics, found.message.contains("panic"), "{found}");
    }
}

#[test]
fn a_seed_visits_the_same_states_again_on_any_number_of_threads() {
    let toy = Toy { bug: Bug::None, records: 8 };
    let plan = Enumerator::new(7).nested(1, 1, 0);
    let (one, two) = (plan.run(&toy), plan.clone().threads(3).run(&toy));
    assert_eq!((one.states, one.states_with), (two.states, two.states_with));
    let other = Enumerator::new(8).nested(1, 1, 0).run(&toy);
    assert_ne!((one.states, one.states_with), (other.states, other.states_with));
}
