//! Crash images: what may be left of a disk when the power goes.

use std::collections::HashMap;
use std::fmt;
use std::ops::AddAssign;

use super::block::{self, Slot};
use super::dir::{Change, Ino};
use super::disk::{Disk, Node};
use super::file::FileNode;
use super::fs::SimFs;
use crate::rng::Rng;

/// Torn versions tried per block.
const TEARS: usize = 6;

/// Which of the unsynced changes an image holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Only what is durable.
    Nothing,
    /// Everything, as if the machine had been shut down in order.
    Everything,
    /// Only the process died: readers see what they saw, and what was not durable still is not.
    ProcessOnly,
    /// Change i (of [`CrashPoint::changes`]) as a whole if bit i is set: the subsets of a small number of changes.
    Subset(u64),
    /// A random draw, also torn sectors, older versions of blocks and lengths in between.
    Random(u64),
}

/// One thing of which a crash may leave this or that.
#[derive(Debug, Clone)]
enum Uncertain {
    /// A block; in `outcomes` what the disk may have: first the durable contents, second the current ones.
    Block { file: Ino, index: usize, outcomes: Vec<(Slot, Outcome)> },
    /// A length; `outcomes` in the same order.
    Length { file: Ino, outcomes: Vec<u64> },
    /// A cut: 0 it did not happen and all that was not durable before it is lost, 1 it happened, 2 it did not happen and
    /// all from before is there.
    Cut { file: Ino },
    /// A change of names: 0 lost, 1 kept.
    Names { dir: Ino, id: u64, rename: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Durable,
    Current,
    Older,
    Torn,
}

impl Uncertain {
    fn outcomes(&self) -> usize {
        match self {
            Uncertain::Block { outcomes, .. } => outcomes.len(),
            Uncertain::Length { outcomes, .. } => outcomes.len(),
            Uncertain::Cut { .. } => 3,
            Uncertain::Names { .. } => 2,
        }
    }
}

/// What an image lost or kept of the unsynced changes: how a run shows what it has covered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Blocks written and not there.
    pub blocks: u64,
    /// Blocks of which an older version is there.
    pub older_blocks: u64,
    /// Blocks of which some sectors are there.
    pub torn_blocks: u64,
    /// Files whose length is not the one last set.
    pub lengths: u64,
    /// Files longer than before while some of their blocks are not there.
    pub size_before_data: u64,
    /// Created, moved and removed names of which nothing is there.
    pub names: u64,
    /// Renames that did not happen.
    pub renames: u64,
}

impl Losses {
    /// 1 for each kind of loss that occurred.
    pub(crate) fn at_most_one(self) -> Self {
        Losses {
            blocks: self.blocks.min(1),
            older_blocks: self.older_blocks.min(1),
            torn_blocks: self.torn_blocks.min(1),
            lengths: self.lengths.min(1),
            size_before_data: self.size_before_data.min(1),
            names: self.names.min(1),
            renames: self.renames.min(1),
        }
    }

    /// Counters with their names, for reports.
    pub fn counters(&self) -> [(&'static str, u64); 7] {
        [
            ("lost blocks", self.blocks),
            ("older blocks", self.older_blocks),
            ("torn blocks", self.torn_blocks),
            ("lost lengths", self.lengths),
            ("size before data", self.size_before_data),
            ("lost names", self.names),
            ("lost renames", self.renames),
        ]
    }
}

impl AddAssign for Losses {
    fn add_assign(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.older_blocks += other.older_blocks;
        self.torn_blocks += other.torn_blocks;
        self.lengths += other.lengths;
        self.size_before_data += other.size_before_data;
        self.names += other.names;
        self.renames += other.renames;
    }
}

/// A moment of a simulated disk from which crash images are drawn.
pub struct CrashPoint {
    disk: Disk,
    changes: Vec<Uncertain>,
}

impl fmt::Debug for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashPoint").field("changes", &self.changes.len()).finish_non_exhaustive()
    }
}

impl CrashPoint {
    pub(crate) fn new(mut disk: Disk) -> Self {
        // Handles do not survive, so what only they reach need not be considered.
        disk.collect(|_| false);
        let mut changes = Vec::new();
        for (ino, node) in disk.nodes() {
            match node {
                Node::File(file) => uncertain_in_file(ino, file, &mut changes),
                Node::Dir(dir) => changes.extend(dir.uncertain().map(|entry| Uncertain::Names {
                    dir: ino,
                    id: entry.id,
                    rename: matches!(entry.change, Change::Rename { .. } | Change::Unlink { after: Some(_), .. }),
                })),
                Node::Special(_) => {}
            }
        }
        CrashPoint { disk, changes }
    }

    /// How many blocks, lengths and names are not durable.
    pub fn changes(&self) -> usize {
        self.changes.len()
    }

    /// In how many ways these can come out, tears and older versions included; saturates.
    pub(crate) fn outcomes(&self) -> u64 {
        self.changes.iter().fold(1, |product: u64, change| product.saturating_mul(change.outcomes() as u64))
    }

    /// The disk after a crash at this moment, everything on it durable (but see [`Kept::ProcessOnly`]).
    pub fn image(&self, kept: Kept) -> SimFs {
        self.draw(kept).0.start(0)
    }

    /// The image's contents, and what it lost.
    pub(crate) fn draw(&self, kept: Kept) -> (Image, Losses) {
        match kept {
            Kept::ProcessOnly => (Image(self.disk.clone()), Losses::default()),
            _ => self.build(&self.choose(kept)),
        }
    }

    fn choose(&self, kept: Kept) -> Vec<usize> {
        match kept {
            Kept::Nothing => vec![0; self.changes.len()],
            Kept::Everything | Kept::ProcessOnly => vec![1; self.changes.len()],
            Kept::Subset(bits) => (0..self.changes.len()).map(|i| usize::from(i < 64 && bits >> i & 1 == 1)).collect(),
            Kept::Random(seed) => {
                let mut rng = Rng::stream(seed, 0);
                // Mostly lost, mostly kept and evenly mixed find different bugs.
                let keep = [5, 20, 50, 80, 95][rng.below(5) as usize];
                let odd = [0, 10, 40][rng.below(3) as usize];
                let pick = |change: &Uncertain| {
                    if change.outcomes() > 2 && rng.percent(odd) {
                        2 + rng.below(change.outcomes() as u64 - 2) as usize
                    } else {
                        usize::from(rng.percent(keep))
                    }
                };
                self.changes.iter().map(pick).collect()
            }
        }
    }

    fn build(&self, chosen: &[usize]) -> (Image, Losses) {
        let mut losses = Losses::default();
        let mut files: HashMap<Ino, (Vec<Slot>, u64)> = HashMap::new();
        let mut kept_names: Vec<u64> = Vec::new();
        let mut dirs: Vec<Ino> = Vec::new();
        let mut uncut: Vec<(Ino, usize)> = Vec::new();
        for (change, &choice) in self.changes.iter().zip(chosen) {
            match change {
                Uncertain::Block { file, index, outcomes } => {
                    let (blocks, _) = self.touched(&mut files, *file);
                    if blocks.len() <= *index {
                        blocks.resize(*index + 1, None);
                    }
                    blocks[*index] = outcomes[choice].0.clone();
                    match outcomes[choice].1 {
                        Outcome::Durable => losses.blocks += 1,
                        Outcome::Older => losses.older_blocks += 1,
                        Outcome::Torn => losses.torn_blocks += 1,
                        Outcome::Current => {}
                    }
                }
                Uncertain::Length { file, outcomes } => {
                    self.touched(&mut files, *file).1 = outcomes[choice];
                    losses.lengths += u64::from(outcomes[choice] != outcomes[1]);
                }
                Uncertain::Cut { file } => {
                    if choice != 1 {
                        uncut.push((*file, choice));
                        losses.lengths += 1;
                    }
                }
                Uncertain::Names { dir, id, rename } => {
                    dirs.push(*dir);
                    match (choice, rename) {
                        (0, true) => losses.renames += 1,
                        (0, false) => losses.names += 1,
                        _ => kept_names.push(*id),
                    }
                }
            }
        }
        losses.size_before_data = self.count_size_before_data(chosen, &files);
        for (ino, choice) in uncut {
            let Some(before) = self.disk.file(ino).uncut() else { continue };
            files.insert(ino, if choice == 0 { before.worst() } else { (before.blocks().to_vec(), before.len()) });
        }
        let mut disk = self.disk.clone();
        for (ino, (blocks, len)) in files {
            disk.replace(ino, Node::File(FileNode::durable(blocks, len)));
        }
        self.rebuild_dirs(&mut disk, &mut dirs, &kept_names);
        disk.collect(|_| false);
        (Image(disk), losses)
    }

    /// The file's blocks and length as they are being put together.
    fn touched<'a>(&self, files: &'a mut HashMap<Ino, (Vec<Slot>, u64)>, ino: Ino) -> &'a mut (Vec<Slot>, u64) {
        files.entry(ino).or_insert_with(|| {
            let file = self.disk.file(ino);
            (file.blocks().to_vec(), file.len())
        })
    }

    fn rebuild_dirs(&self, disk: &mut Disk, dirs: &mut Vec<Ino>, kept: &[u64]) {
        dirs.dedup();
        for &dir in &*dirs {
            let Node::Dir(node) = self.disk.node(dir) else { continue };
            let survives = |change: &Change, id: u64| match change {
                // The old name of a moved file goes only if the new one has arrived.
                Change::Unlink { after: Some((other, link)), .. } => {
                    kept.contains(&id) && (kept.contains(link) || !self.is_uncertain(*other, *link))
                }
                _ => kept.contains(&id),
            };
            disk.replace(dir, Node::Dir(node.after_crash(|entry| survives(&entry.change, entry.id))));
        }
    }

    fn is_uncertain(&self, dir: Ino, change: u64) -> bool {
        self.changes.iter().any(|c| matches!(c, Uncertain::Names { dir: d, id, .. } if (*d, *id) == (dir, change)))
    }

    /// Files that are longer than what is durable, with a block missing in the new part.
    fn count_size_before_data(&self, chosen: &[usize], files: &HashMap<Ino, (Vec<Slot>, u64)>) -> u64 {
        let lost_in = |ino: Ino, from: u64, to: u64| {
            self.changes.iter().zip(chosen).any(|(change, &choice)| match change {
                Uncertain::Block { file, index, .. } => {
                    let start = (index * block::BLOCK_SIZE) as u64;
                    *file == ino && choice == 0 && start < to && start + block::BLOCK_SIZE as u64 > from
                }
                _ => false,
            })
        };
        let grown = |change: &Uncertain| match change {
            Uncertain::Length { file, outcomes } => {
                let len = files[file].1;
                len > outcomes[0] && lost_in(*file, outcomes[0], len)
            }
            _ => false,
        };
        self.changes.iter().filter(|change| grown(change)).count() as u64
    }
}

/// What of a file may be lost: its unsynced blocks, and its length if it changed.
fn uncertain_in_file(ino: Ino, file: &FileNode, changes: &mut Vec<Uncertain>) {
    if file.is_durable() {
        return;
    }
    for (&index, pending) in file.pending() {
        let current = file.slot(index);
        let differing = block::differing_sectors(&pending.base, &current);
        let mut outcomes = vec![(pending.base.clone(), Outcome::Durable), (current.clone(), Outcome::Current)];
        outcomes.extend(pending.versions.iter().map(|slot| (slot.clone(), Outcome::Older)));
        outcomes.extend(tears(differing).map(|mask| (block::torn(&pending.base, &current, mask), Outcome::Torn)));
        changes.push(Uncertain::Block { file: ino, index, outcomes });
    }
    if file.uncut().is_some() {
        changes.push(Uncertain::Cut { file: ino });
    }
    let outcomes = file.possible_lengths();
    if outcomes.iter().any(|&len| len != outcomes[0]) {
        changes.push(Uncertain::Length { file: ino, outcomes });
    }
}

/// Some ways in which a write of these sectors can be torn: the first of them there, the last, every other one.
fn tears(differing: u8) -> impl Iterator<Item = u8> {
    let parts = [0x01, 0x03, 0x0f, 0x7f, 0xf0, 0x55, 0xaa, 0x80].map(|mask| mask & differing);
    let mut seen = vec![0, differing];
    parts
        .into_iter()
        .filter(move |mask| {
            let new = !seen.contains(mask);
            seen.push(*mask);
            new
        })
        .take(TEARS)
}

/// A disk's contents after a crash, not yet running.
pub(crate) struct Image(Disk);

impl Image {
    pub(crate) fn fingerprint(&self) -> u64 {
        self.0.fingerprint()
    }

    pub(crate) fn start(self, seed: u64) -> SimFs {
        SimFs::with_disk(self.0, seed)
    }
}

impl CrashPoint {
    /// What the image kept and lost, one line for each change, for messages.
    pub(crate) fn describe(&self, kept: Kept) -> Vec<String> {
        let name = |ino: Ino| self.disk.path_of(ino).map_or_else(|| format!("file {ino}"), |p| p.display().to_string());
        let chosen = self.choose(kept);
        let line = |(change, &choice): (&Uncertain, &usize)| match change {
            Uncertain::Block { file, index, outcomes } => {
                format!("{} block {index}: {:?} of {} outcomes", name(*file), outcomes[choice].1, outcomes.len())
            }
            Uncertain::Length { file, outcomes } => {
                format!("{} length {} of {outcomes:?}", name(*file), outcomes[choice])
            }
            Uncertain::Cut { file } => {
                format!("{} cut: {}", name(*file), ["undone, all before it lost", "kept", "undone"][choice])
            }
            Uncertain::Names { dir, id, .. } => {
                let Node::Dir(node) = self.disk.node(*dir) else { return String::new() };
                let change = node.uncertain().find(|entry| entry.id == *id).map(|entry| &entry.change);
                format!("{} {:?}: {}", name(*dir), change, if choice == 0 { "lost" } else { "kept" })
            }
        };
        self.changes.iter().zip(&chosen).map(line).collect()
    }
}
