//! A simulated directory: its names, and which changes of them a crash may lose.
//!
//! Changes since the last sync survive a crash one by one, in any combination, each of them whole: a rename within a
//! directory is one change. A rename into another directory is two, of which the old name does not go before the new
//! one is there: no file system loses the file.

use std::ffi::OsStr;
use std::sync::Arc;

use super::file::Dirty;

/// Number of a file or directory, as an inode number.
pub(crate) type Ino = usize;
pub(crate) type Name = Arc<OsStr>;

/// Names and what they stand for, sorted by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(Vec<(Name, Ino)>);

impl Names {
    pub(crate) fn get(&self, name: &OsStr) -> Option<Ino> {
        self.position(name).ok().map(|i| self.0[i].1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Name, Ino)> {
        self.0.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn position(&self, name: &OsStr) -> Result<usize, usize> {
        self.0.binary_search_by(|(n, _)| (**n).cmp(name))
    }

    fn set(&mut self, name: &Name, ino: Ino) {
        match self.position(name) {
            Ok(i) => self.0[i].1 = ino,
            Err(i) => self.0.insert(i, (name.clone(), ino)),
        }
    }

    fn unset(&mut self, name: &OsStr) {
        if let Ok(i) = self.position(name) {
            self.0.remove(i);
        }
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Link { name, ino } => self.set(name, *ino),
            Change::Unlink { name, .. } => self.unset(name),
            Change::Rename { from, to, ino } => {
                self.unset(from);
                self.set(to, *ino);
            }
        }
    }
}

/// A change of a directory's names that a crash keeps or loses as one.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Link {
        name: Name,
        ino: Ino,
    },
    Unlink {
        name: Name,
        /// The change, in another directory, that must survive if this one does: the other half of a move.
        after: Option<(Ino, u64)>,
    },
    Rename {
        from: Name,
        to: Name,
        ino: Ino,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// A sync makes it durable, a crash before that may lose it.
    Pending,
    /// A failed sync gave it up: no later sync makes it durable, the disk may have it.
    Abandoned,
    /// Durable, and still listed because an earlier change is not.
    Durable,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Unique on the disk.
    pub(crate) id: u64,
    pub(crate) change: Change,
    fate: Fate,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct DirNode {
    /// What readers see.
    pub(crate) names: Names,
    /// What was durable before the first of `changes`; meaningless while there are none.
    base: Names,
    changes: Vec<Entry>,
}

impl DirNode {
    pub(crate) fn is_durable(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes that a crash may keep or lose.
    pub(crate) fn uncertain(&self) -> impl Iterator<Item = &Entry> {
        self.changes.iter().filter(|entry| entry.fate != Fate::Durable)
    }

    /// Everything that is or may come to be named here.
    pub(crate) fn possible_inodes(&self) -> impl Iterator<Item = Ino> {
        let unsynced = if self.changes.is_empty() { None } else { Some(&self.base) };
        let links = self.changes.iter().filter_map(|entry| match entry.change {
            Change::Link { ino, .. } | Change::Rename { ino, .. } => Some(ino),
            Change::Unlink { .. } => None,
        });
        self.names.iter().chain(unsynced.into_iter().flat_map(Names::iter)).map(|(_, ino)| *ino).chain(links)
    }

    pub(crate) fn change(&mut self, id: u64, change: Change) {
        if self.changes.is_empty() {
            self.base = self.names.clone();
        }
        self.names.apply(&change);
        self.changes.push(Entry { id, change, fate: Fate::Pending });
    }

    /// Makes everything durable that no failed sync has given up, and returns the halves of moves in other directories
    /// that thereby are durable too.
    pub(crate) fn sync(&mut self) -> Vec<(Ino, u64)> {
        let mut others = Vec::new();
        for entry in &mut self.changes {
            if entry.fate == Fate::Pending {
                entry.fate = Fate::Durable;
                if let Change::Unlink { after: Some(other), .. } = entry.change {
                    others.push(other);
                }
            }
        }
        self.fold();
        others
    }

    /// Makes one change durable: its other half is.
    pub(crate) fn sync_one(&mut self, id: u64) {
        if let Some(entry) = self.changes.iter_mut().find(|entry| entry.id == id) {
            entry.fate = Fate::Durable;
        }
        self.fold();
    }

    fn fold(&mut self) {
        let certain = self.changes.iter().take_while(|entry| entry.fate == Fate::Durable).count();
        for entry in self.changes.drain(..certain) {
            self.base.apply(&entry.change);
        }
    }

    pub(crate) fn fail_sync(&mut self, dirty: Dirty) {
        if dirty != Dirty::Keep {
            for entry in self.changes.iter_mut().filter(|entry| entry.fate == Fate::Pending) {
                entry.fate = Fate::Abandoned;
            }
        }
    }

    /// The directory after a crash that kept the uncertain changes for which `kept` holds.
    pub(crate) fn after_crash(&self, mut kept: impl FnMut(&Entry) -> bool) -> DirNode {
        let mut names = self.base.clone();
        for entry in &self.changes {
            if entry.fate == Fate::Durable || kept(entry) {
                names.apply(&entry.change);
            }
        }
        DirNode { names, ..Default::default() }
    }
}
