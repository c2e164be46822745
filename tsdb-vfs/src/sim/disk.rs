//! The simulated disk's contents: files and directories by number, cheap to copy, changed by one operation at a time.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use rustix::io::Errno;

use super::block::{self, BLOCK_SIZE};
use super::dir::{Change, DirNode, Ino, Name};
use super::file::{Dirty, FileNode};
use crate::rng::{fold, hash_bytes};
use crate::{FileKind, Metadata, NotRegular};

#[derive(Debug, Clone)]
pub(crate) enum Node {
    File(FileNode),
    Dir(DirNode),
    /// Something that no log reads: a link, a FIFO.
    Special(FileKind),
}

impl Node {
    pub(crate) fn describe(&self) -> Metadata {
        match self {
            Node::File(file) => Metadata { kind: FileKind::File, len: file.len() },
            Node::Dir(_) => Metadata { kind: FileKind::Dir, len: 0 },
            Node::Special(kind) => Metadata { kind: *kind, len: 0 },
        }
    }
}

/// All there is on a disk. A clone shares every file and directory until one of the two changes it.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    nodes: Vec<Option<Arc<Node>>>,
    next_change: u64,
}

const ROOT: Ino = 0;

fn errno(e: Errno) -> io::Error {
    e.into()
}

impl Disk {
    pub(crate) fn empty() -> Self {
        Disk { nodes: vec![Some(Arc::new(Node::Dir(DirNode::default())))], next_change: 0 }
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = (Ino, &Node)> {
        self.nodes.iter().enumerate().filter_map(|(ino, node)| Some((ino, &**node.as_ref()?)))
    }

    /// Puts what a crash made of a file or directory in its place.
    pub(crate) fn replace(&mut self, ino: Ino, node: Node) {
        self.nodes[ino] = Some(Arc::new(node));
    }

    pub(crate) fn node(&self, ino: Ino) -> &Node {
        self.nodes[ino].as_ref().expect("a name or a handle keeps its node")
    }

    fn node_mut(&mut self, ino: Ino) -> &mut Node {
        Arc::make_mut(self.nodes[ino].as_mut().expect("a name or a handle keeps its node"))
    }

    pub(crate) fn file(&self, ino: Ino) -> &FileNode {
        match self.node(ino) {
            Node::File(file) => file,
            other => unreachable!("an open handle of {}", other.describe().kind),
        }
    }

    pub(crate) fn file_mut(&mut self, ino: Ino) -> &mut FileNode {
        match self.node_mut(ino) {
            Node::File(file) => file,
            other => unreachable!("an open handle of {}", other.describe().kind),
        }
    }

    fn dir(&self, ino: Ino) -> io::Result<&DirNode> {
        match self.node(ino) {
            Node::Dir(dir) => Ok(dir),
            _ => Err(errno(Errno::NOTDIR)),
        }
    }

    fn dir_mut(&mut self, ino: Ino) -> &mut DirNode {
        match self.node_mut(ino) {
            Node::Dir(dir) => dir,
            other => unreachable!("looked up as a directory: {}", other.describe().kind),
        }
    }

    // -- names -----------------------------------------------------------------------------------------------------------

    /// The node that a path names. Relative paths start at the root.
    pub(crate) fn lookup(&self, path: &Path) -> io::Result<Ino> {
        match self.locate(path)? {
            Place { existing: Some(ino), .. } => Ok(ino),
            _ => Err(errno(Errno::NOENT)),
        }
    }

    /// The directory that a path lies in, and what is there now.
    fn locate(&self, path: &Path) -> io::Result<Place> {
        let mut trail = vec![ROOT];
        let mut place = Place { dir: ROOT, name: OsString::new(), existing: Some(ROOT) };
        for component in path.components() {
            let name = match component {
                Component::Prefix(_) | Component::RootDir | Component::CurDir => continue,
                Component::ParentDir => {
                    trail.pop();
                    let dir = *trail.last().unwrap_or(&ROOT);
                    place = Place { dir, name: OsString::new(), existing: Some(dir) };
                    continue;
                }
                Component::Normal(name) => name,
            };
            let dir = place.existing.ok_or_else(|| errno(Errno::NOENT))?;
            let existing = self.dir(dir)?.names.get(name);
            trail.extend(existing);
            place = Place { dir, name: name.to_owned(), existing };
        }
        Ok(place)
    }

    fn change(&mut self, dir: Ino, change: Change) -> u64 {
        let id = self.next_change;
        self.next_change += 1;
        self.dir_mut(dir).change(id, change);
        id
    }

    pub(crate) fn create(&mut self, path: &Path, node: Node) -> io::Result<Ino> {
        let place = self.locate(path)?;
        if place.existing.is_some() {
            return Err(errno(Errno::EXIST));
        }
        let ino = match self.nodes.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.nodes.push(None);
                self.nodes.len() - 1
            }
        };
        self.nodes[ino] = Some(Arc::new(node));
        self.change(place.dir, Change::Link { name: place.name(), ino });
        Ok(ino)
    }

    /// A regular file's number.
    pub(crate) fn open(&self, path: &Path) -> io::Result<Ino> {
        let ino = self.lookup(path)?;
        match self.node(ino).describe().kind {
            FileKind::File => Ok(ino),
            found => Err(NotRegular { found }.into()),
        }
    }

    pub(crate) fn list(&self, path: &Path) -> io::Result<Vec<crate::DirEntry>> {
        let dir = self.dir(self.lookup(path)?)?;
        let entry = |(name, ino): &(Name, Ino)| {
            let Metadata { kind, len } = self.node(*ino).describe();
            crate::DirEntry { name: name.to_os_string(), kind, len }
        };
        Ok(dir.names.iter().map(entry).collect())
    }

    pub(crate) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let place = self.locate(path)?;
        let ino = place.existing.ok_or_else(|| errno(Errno::NOENT))?;
        if matches!(self.node(ino), Node::Dir(_)) {
            return Err(errno(Errno::ISDIR));
        }
        self.change(place.dir, Change::Unlink { name: place.name(), after: None });
        Ok(())
    }

    pub(crate) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let place = self.locate(path)?;
        let ino = place.existing.ok_or_else(|| errno(Errno::NOENT))?;
        if ino == ROOT {
            return Err(errno(Errno::BUSY));
        }
        if !self.dir(ino)?.names.is_empty() {
            return Err(errno(Errno::NOTEMPTY));
        }
        self.change(place.dir, Change::Unlink { name: place.name(), after: None });
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (source, target) = (self.locate(from)?, self.locate(to)?);
        let ino = source.existing.ok_or_else(|| errno(Errno::NOENT))?;
        if target.existing == Some(ino) {
            return Ok(());
        }
        if ino == ROOT || target.existing == Some(ROOT) || (from != to && to.starts_with(from)) {
            return Err(errno(Errno::INVAL));
        }
        if from.starts_with(to) {
            return Err(errno(Errno::NOTEMPTY));
        }
        if let Some(replaced) = target.existing {
            match (self.node(ino), self.node(replaced)) {
                (Node::Dir(_), Node::Dir(old)) if old.names.is_empty() => {}
                (Node::Dir(_), Node::Dir(_)) => return Err(errno(Errno::NOTEMPTY)),
                (Node::Dir(_), _) => return Err(errno(Errno::NOTDIR)),
                (_, Node::Dir(_)) => return Err(errno(Errno::ISDIR)),
                _ => {}
            }
        }
        if source.dir == target.dir {
            self.change(source.dir, Change::Rename { from: source.name(), to: target.name(), ino });
        } else {
            let link = self.change(target.dir, Change::Link { name: target.name(), ino });
            self.change(source.dir, Change::Unlink { name: source.name(), after: Some((target.dir, link)) });
        }
        Ok(())
    }

    // -- durability ------------------------------------------------------------------------------------------------------

    pub(crate) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let ino = self.lookup(path)?;
        self.dir(ino)?;
        for (other, id) in self.dir_mut(ino).sync() {
            // The other directory may be gone, its number given to something else.
            if matches!(self.nodes[other].as_deref(), Some(Node::Dir(_))) {
                self.dir_mut(other).sync_one(id);
            }
        }
        Ok(())
    }

    pub(crate) fn fail_sync_dir(&mut self, path: &Path, dirty: Dirty) -> io::Result<()> {
        let ino = self.lookup(path)?;
        self.dir(ino)?;
        self.dir_mut(ino).fail_sync(dirty);
        Ok(())
    }

    /// Everything on the disk becomes durable.
    pub(crate) fn sync_everything(&mut self) {
        for ino in 0..self.nodes.len() {
            match self.nodes[ino].as_deref() {
                Some(Node::File(file)) if !file.is_durable() => self.file_mut(ino).sync(),
                Some(Node::Dir(dir)) if !dir.is_durable() => drop(self.dir_mut(ino).sync()),
                _ => {}
            }
        }
    }

    /// Forgets what no name, no crash and no handle can reach any more.
    pub(crate) fn collect(&mut self, is_open: impl Fn(Ino) -> bool) {
        let mut reached = vec![false; self.nodes.len()];
        let mut todo = vec![ROOT];
        while let Some(ino) = todo.pop() {
            if !std::mem::replace(&mut reached[ino], true)
                && let Node::Dir(dir) = self.node(ino)
            {
                todo.extend(dir.possible_inodes());
            }
        }
        for (ino, node) in self.nodes.iter_mut().enumerate() {
            if !reached[ino] && !is_open(ino) {
                *node = None;
            }
        }
    }

    // -- the whole -------------------------------------------------------------------------------------------------------

    /// Bytes that files take which have a name or an open handle.
    pub(crate) fn used(&self, is_open: impl Fn(Ino) -> bool) -> u64 {
        let mut named: Vec<Ino> = Vec::new();
        self.walk(&mut |_, ino, _| named.push(ino));
        let blocks: usize = self
            .nodes()
            .filter(|(ino, _)| is_open(*ino) || named.contains(ino))
            .map(|(_, node)| if let Node::File(file) = node { file.allocated() } else { 0 })
            .sum();
        (blocks * BLOCK_SIZE) as u64
    }

    /// Calls `visit` with every path (below the root), its number and its node, parents first, sorted by name.
    pub(crate) fn walk(&self, visit: &mut dyn FnMut(&Path, Ino, &Node)) {
        self.walk_from(ROOT, Path::new("/"), visit);
    }

    fn walk_from(&self, dir: Ino, at: &Path, visit: &mut dyn FnMut(&Path, Ino, &Node)) {
        let Node::Dir(node) = self.node(dir) else { return };
        for (name, ino) in node.names.iter() {
            let path = at.join(&**name);
            visit(&path, *ino, self.node(*ino));
            self.walk_from(*ino, &path, visit);
        }
    }

    /// A path for a node, for messages.
    pub(crate) fn path_of(&self, ino: Ino) -> Option<std::path::PathBuf> {
        let mut found = (ino == ROOT).then(|| "/".into());
        self.walk(&mut |path, at, _| {
            if at == ino && found.is_none() {
                found = Some(path.to_owned());
            }
        });
        found
    }

    /// A hash of everything a reader can see: equal for equal trees.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint_from(ROOT, 0)
    }

    fn fingerprint_from(&self, ino: Ino, mut h: u64) -> u64 {
        match self.node(ino) {
            Node::Dir(dir) => {
                for (name, child) in dir.names.iter() {
                    h = hash_bytes(h, name.as_encoded_bytes());
                    h = self.fingerprint_from(*child, h);
                }
                fold(h, 1)
            }
            Node::File(file) => {
                let written = file.blocks().iter().enumerate().map(|(i, slot)| (i as u64, block::hash(slot)));
                h = written.filter(|(_, hash)| *hash != 0).fold(h, |h, (i, hash)| fold(fold(h, i), hash));
                fold(fold(h, file.len()), 2)
            }
            Node::Special(kind) => fold(h, 3 + *kind as u64),
        }
    }
}

/// Where a path leads: a directory, the name in it, and what has that name. The name is empty for the root.
struct Place {
    dir: Ino,
    name: OsString,
    existing: Option<Ino>,
}

impl Place {
    fn name(&self) -> Name {
        Arc::from(OsStr::new(&self.name))
    }
}
