//! A complete segment that another program wrote just before it ended: it reads well, and nothing says that it is on the disk.
//!
//! Its bytes are read and written once more and synced, as those of the log's end are when it is opened. That takes as long as
//! opening all the rest, and of what is appended nothing depends on it: so it may come later, see
//! [`Check::Torn`](crate::Check::Torn).

use std::sync::Arc;

use parking_lot::Mutex;
use tsdb_vfs::Fs;

use crate::error::Error;
use crate::layout::SegmentRef;
use crate::ledger::LedgerEntry;
use crate::log::writer::Writer;
use crate::scan::Scan;
use crate::write_again::WriteAgain;

/// The segment, until somebody has proven it.
#[derive(Debug)]
pub(super) struct Unproven {
    fs: Fs,
    segment: SegmentRef,
    /// What is known of the segment behind it, which the ledger calls incomplete until then: so the next one to open the log
    /// knows where to begin.
    behind: Option<LedgerEntry>,
    /// Whoever comes second waits, and has nothing to do.
    proven: Mutex<Option<Vec<LedgerEntry>>>,
}

impl Unproven {
    pub(super) fn new(fs: Fs, segment: SegmentRef, behind: Option<LedgerEntry>) -> Self {
        Self { fs, segment, behind, proven: Mutex::default() }
    }

    pub(super) fn index(&self) -> u64 {
        self.segment.index
    }

    pub(super) fn len(&self) -> u64 {
        self.segment.len
    }

    /// Makes it durable, and says what the ledger may say then. Of a segment that is damaged nothing is written: what may be
    /// so in the cache only would go to the disk, and saying so is for who reads it.
    fn prove(&self) -> std::io::Result<Vec<LedgerEntry>> {
        let mut proven = self.proven.lock();
        if let Some(entries) = &*proven {
            return Ok(entries.clone());
        }
        let mut again = Some(WriteAgain::from(&self.fs, &self.segment.path, 0)?);
        let scan = Scan::run_tail(&self.fs, &self.segment, None, false, &mut again).map_err(std::io::Error::other)?;
        let mut entries: Vec<LedgerEntry> = self.behind.into_iter().collect();
        match (scan.damage.first(), again) {
            (None, Some(again)) => {
                again.finish(scan.segment.len)?;
                entries.insert(0, LedgerEntry::of(self.segment.index, scan.tally, true));
            }
            (damage, _) => {
                let path = self.segment.path.display();
                tracing::warn!(%path, damage = damage.map(|range| range.damage.to_string()), "left as it is, not durable");
            }
        }
        Ok(proven.insert(entries).clone())
    }
}

/// Proves what is unproven, without holding up those who append meanwhile.
pub(super) fn prove_outside(writer: &Mutex<Writer>) -> Result<(), Error> {
    let Some(unproven) = writer.lock().unproven.clone() else { return Ok(()) };
    let proven = unproven.prove();
    let mut writer = writer.lock();
    writer.proven(&unproven, proven)?;
    writer.write_notes();
    Ok(())
}

impl Writer {
    fn proven(&mut self, which: &Arc<Unproven>, proven: std::io::Result<Vec<LedgerEntry>>) -> Result<(), Error> {
        // A checkpoint may stand for it by now, or somebody else was here.
        if !self.unproven.as_ref().is_some_and(|unproven| Arc::ptr_eq(unproven, which)) {
            return Ok(());
        }
        let entries = proven.map_err(Error::io(&which.segment.path))?;
        self.unproven = None;
        self.notes.extend(entries);
        Ok(())
    }
}
