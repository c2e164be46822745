//! Everything that is wrong with a log's directory, as values: where, what, what the reference would do with it, what
//! repair would do.
//!
//! Nothing is changed, and one thing that is wrong does not hide the next. Records are looked at as bytes; what is in them
//! is for a layer that knows their format.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use tsdb_vfs::{DirEntry, FileKind, Fs};

use crate::error::{Damage, FrameFault, ReadError};
use crate::layout::{self, CHECKPOINT_PREFIX, SegmentRef, parse_segment_name};
use crate::ledger::{Ledger, LedgerEntry};
use crate::salvage::DamagedRange;
use crate::scan::Scan;

/// One thing that is wrong.
#[derive(Debug)]
pub struct Finding {
    /// The file or directory.
    pub path: PathBuf,
    /// Offset in the file.
    pub offset: Option<u64>,
    /// What is wrong.
    pub problem: Problem,
    /// What Prometheus 3.14 would do when it starts on it.
    pub reference: Reference,
    /// What [`repair`](crate::repair) would do.
    pub remedy: Remedy,
}

impl Finding {
    /// Whether this is worth knowing and nothing is wrong: leftovers, and what others wrote.
    pub fn is_note(&self) -> bool {
        matches!(self.problem, Problem::Leftover | Problem::Foreign)
    }
}

/// What is wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// Bytes that hold no record.
    Damage(DamagedRange),
    /// The ledger says that records were durable that are not there as they were, in a segment that reads without damage.
    Lost(Damage),
    /// A number is missing between two segments, or between the last checkpoint and the first segment behind it.
    Gap {
        /// Number that follows the one before.
        expected: u64,
        /// Number that was found.
        found: u64,
    },
    /// Two names stand for the same segment.
    Duplicate,
    /// Something else than a regular file has a segment's name.
    NotAFile(FileKind),
    /// Something else than a directory has a checkpoint's name.
    NotACheckpoint(FileKind),
    /// A name that the reference takes for a number, and this crate does not.
    OddName,
    /// The file system does not give it out.
    Unreadable(io::Error),
    /// What a checkpoint or a repair that did not finish left.
    Leftover,
    /// Others have written to the log after the ledger: what they wrote is not in it.
    Foreign,
}

/// What Prometheus 3.14 does with it when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reference {
    /// Rewrites the segment up to the damage and deletes it and every later segment.
    DeletesWhatFollows {
        /// How many later segments that is.
        segments: u64,
    },
    /// Takes the checkpoint's segment number for one of the log's, and deletes the log's segments behind that number.
    DeletesTheLog,
    /// Refuses to start.
    RefusesToStart,
    /// Reads over it without a word; records are missing, or there is one that was never written.
    Silent,
    /// Takes it for a segment.
    CountsAsSegment,
    /// Leaves it alone, or removes it as the leftover that it is.
    Ignores,
}

/// What repair does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// Puts a copy with every sound record in its place; the original goes to quarantine.
    Rewrites,
    /// Moves it to quarantine.
    MovesAway,
    /// Puts empty segments into the gap.
    FillsGap,
    /// Can't bring the records back; the ledger is brought in line, the old one goes to quarantine.
    Accepts,
    /// Nothing needs to be done.
    Nothing,
    /// Can't help: the file system has to be asked.
    Cannot,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damage(range) => write!(f, "{} ({} bytes)", range.damage.fault, range.to - range.from),
            Self::Lost(damage) => write!(f, "durable records are missing: {}", damage.fault),
            Self::Gap { expected, found } => write!(f, "expected segment {expected:08}, found {found:08}"),
            Self::Duplicate => f.write_str("another name stands for the same segment"),
            Self::NotAFile(kind) => write!(f, "expected a segment, found {kind}"),
            Self::NotACheckpoint(kind) => write!(f, "expected a checkpoint, found {kind}"),
            Self::OddName => f.write_str("a name that is a number only to Prometheus"),
            Self::Unreadable(e) => write!(f, "can't be read: {e}"),
            Self::Leftover => f.write_str("left by a checkpoint or repair that did not finish"),
            Self::Foreign => f.write_str("written by another program since the ledger was: no ledger covers it"),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeletesWhatFollows { segments: 0 } => f.write_str("deletes the segment from here on"),
            Self::DeletesWhatFollows { segments } => {
                write!(f, "deletes the segment from here on and {segments} later segments")
            }
            Self::DeletesTheLog => f.write_str("deletes the log's segments, which are sound"),
            Self::RefusesToStart => f.write_str("refuses to start"),
            Self::Silent => f.write_str("reads over it without a word"),
            Self::CountsAsSegment => f.write_str("takes it for a segment"),
            Self::Ignores => f.write_str("ignores it"),
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rewrites => "keeps every sound record, the original goes to quarantine",
            Self::MovesAway => "moves it to quarantine",
            Self::FillsGap => "puts empty segments into the gap",
            Self::Accepts => "notes the loss in the ledger",
            Self::Nothing => "nothing",
            Self::Cannot => "can't help",
        })
    }
}

/// Says why a sound record can't be used, if it can't: what is in records is for a layer that knows their format. Given to
/// [`verify_judged`] and [`repair::plan_judged`](crate::repair::plan_judged) such a record counts as damaged.
pub type Judge<'a> = dyn Fn(&[u8]) -> Option<String> + 'a;

/// Looks at a log's directory: names, segments, the last checkpoint, the ledger. Findings come in the log's order.
pub fn verify(fs: &Fs, dir: &Path) -> Result<Vec<Finding>, ReadError> {
    verify_judged(fs, dir, &|_| None)
}

/// As [`verify`]; records that `judge` has something against are findings, too.
pub fn verify_judged(fs: &Fs, dir: &Path, judge: &Judge<'_>) -> Result<Vec<Finding>, ReadError> {
    let survey = Survey::take(fs, dir, judge)?;
    Ok(survey.findings)
}

/// Findings, and what repair needs besides.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) findings: Vec<Finding>,
    /// Segments with damage, or with records that the ledger misses: of the log, then of the last checkpoint.
    pub(crate) damaged: Vec<Scan>,
    /// Segments that are not there, with the records that were durable in them.
    pub(crate) missing: Vec<(SegmentRef, u64)>,
    pub(crate) segments: Vec<SegmentRef>,
    pub(crate) checkpoint: Option<u64>,
    pub(crate) ledger: Ledger,
}

/// One directory of segments: the log's, or a checkpoint's.
struct Looked<'a> {
    fs: &'a Fs,
    judge: &'a Judge<'a>,
    ledger: &'a Ledger,
    in_checkpoint: bool,
}

impl Survey {
    pub(crate) fn take(fs: &Fs, dir: &Path, judge: &Judge<'_>) -> Result<Self, ReadError> {
        let entries = fs.list(dir).map_err(ReadError::io(dir))?;
        let ledger = Ledger::load(fs, dir)?;
        let checkpoint = layout::last_checkpoint(fs, dir)?;
        let mut survey = Self {
            findings: Vec::new(),
            damaged: Vec::new(),
            missing: Vec::new(),
            segments: Vec::new(),
            checkpoint: None,
            ledger,
        };
        entries.iter().for_each(|entry| survey.look_at_name(dir, entry));
        if let Some(checkpoint) = checkpoint {
            survey.checkpoint = Some(checkpoint.index);
            let inner = Ledger::load(fs, &checkpoint.path)?;
            for entry in fs.list(&checkpoint.path).map_err(ReadError::io(&checkpoint.path))? {
                if parse_segment_name(&entry.name).is_some() && entry.kind != FileKind::File {
                    survey.not_a_file(checkpoint.path.join(&entry.name), entry.kind);
                }
            }
            let segments = layout::segments(fs, &checkpoint.path)?;
            let inner = inner.believed(fs, &segments);
            survey.segments(&Looked { fs, judge, ledger: &inner, in_checkpoint: true }, &segments, None);
            survey.missing(&checkpoint.path, &inner);
        }
        survey.segments = layout::segments(fs, dir)?;
        let segments = survey.segments.clone();
        let ledger = std::mem::take(&mut survey.ledger).believed(fs, &segments);
        survey.ledger = ledger.clone();
        survey.segments(&Looked { fs, judge, ledger: &ledger, in_checkpoint: false }, &segments, survey.checkpoint);
        survey.missing(dir, &ledger);
        Ok(survey)
    }

    fn add(
        &mut self,
        path: impl Into<PathBuf>,
        offset: Option<u64>,
        problem: Problem,
        reference: Reference,
        remedy: Remedy,
    ) {
        self.findings.push(Finding { path: path.into(), offset, problem, reference, remedy });
    }

    fn not_a_file(&mut self, path: PathBuf, kind: FileKind) {
        // It follows links to regular files; a directory fails when it is read, and a FIFO makes it wait for ever.
        let reference = if kind == FileKind::Symlink { Reference::CountsAsSegment } else { Reference::RefusesToStart };
        self.add(path, None, Problem::NotAFile(kind), reference, Remedy::MovesAway);
    }

    fn look_at_name(&mut self, dir: &Path, entry: &DirEntry) {
        let path = dir.join(&entry.name);
        let Some(name) = entry.name.to_str() else { return };
        if parse_segment_name(&entry.name).is_some() {
            if entry.kind != FileKind::File {
                self.not_a_file(path, entry.kind);
            }
        } else if is_number_to_reference(name) {
            self.add(path, None, Problem::OddName, Reference::CountsAsSegment, Remedy::MovesAway);
        } else if name.starts_with(CHECKPOINT_PREFIX) && entry.kind != FileKind::Dir {
            let problem = Problem::NotACheckpoint(entry.kind);
            self.add(path, None, problem, Reference::RefusesToStart, Remedy::MovesAway);
        } else if name.ends_with(".tmp") || name.ends_with(".repair") || name.ends_with(".salvage") {
            self.add(path, None, Problem::Leftover, Reference::Ignores, Remedy::Nothing);
        }
    }

    fn segments(&mut self, at: &Looked<'_>, segments: &[SegmentRef], checkpoint: Option<u64>) {
        let ledger = at.ledger;
        let mut before = checkpoint;
        for (i, segment) in segments.iter().enumerate() {
            let superseded = checkpoint.is_some_and(|checkpoint| segment.index <= checkpoint);
            if let Some(before) = before.filter(|_| !superseded) {
                self.sequence(before, segment);
            } else if superseded && i > 0 {
                self.sequence(segments[i - 1].index, segment);
            }
            // The ledger speaks of the first of two names.
            let duplicate = i > 0 && segments[i - 1].index == segment.index;
            before = Some(segment.index.max(before.unwrap_or(0)));
            if !duplicate && ledger.others_from() == Some(segment.index) {
                self.add(&segment.path, None, Problem::Foreign, Reference::Ignores, Remedy::Nothing);
            }
            let later = (segments.len() - 1 - i) as u64;
            let entry = if duplicate { None } else { ledger.get(segment.index) };
            self.scan(at, segment, entry, later);
        }
    }

    /// What should stand behind the last segment.
    fn missing(&mut self, dir: &Path, ledger: &Ledger) {
        for (lost, entry) in ledger.missing_from(dir).zip(ledger.missing()) {
            let path = dir.join(layout::segment_name(entry.segment));
            self.add(&path, None, Problem::Lost(lost), Reference::Silent, Remedy::Accepts);
            self.missing.push((SegmentRef { index: entry.segment, path, len: 0 }, entry.records));
        }
    }

    fn sequence(&mut self, before: u64, segment: &SegmentRef) {
        let (expected, found) = (before + 1, segment.index);
        if found == before {
            self.add(&segment.path, None, Problem::Duplicate, Reference::RefusesToStart, Remedy::MovesAway);
        } else if found != expected {
            let problem = Problem::Gap { expected, found };
            self.add(&segment.path, None, problem, Reference::RefusesToStart, Remedy::FillsGap);
        }
    }

    fn scan(&mut self, at: &Looked<'_>, segment: &SegmentRef, entry: Option<LedgerEntry>, later: u64) {
        let scan = match Scan::run_judged(at.fs, segment, entry, at.judge) {
            Ok(scan) => scan,
            // Said already, by its name.
            Err(ReadError::Io { source, .. }) if tsdb_vfs::is_not_regular(&source) => return,
            Err(ReadError::Io { source, path }) => {
                let problem = Problem::Unreadable(source);
                return self.add(path, None, problem, Reference::RefusesToStart, Remedy::Cannot);
            }
            Err(e) => {
                let problem = Problem::Unreadable(io::Error::other(e));
                return self.add(&segment.path, None, problem, Reference::RefusesToStart, Remedy::Cannot);
            }
        };
        for range in &scan.damage {
            let reference = match at.in_checkpoint {
                _ if is_silent(&range.damage.fault) => Reference::Silent,
                true => Reference::DeletesTheLog,
                false => Reference::DeletesWhatFollows { segments: later },
            };
            let offset = Some(range.damage.location.offset);
            self.add(&segment.path, offset, Problem::Damage(range.clone()), reference, Remedy::Rewrites);
        }
        if let Some(lost) = &scan.disputed {
            let offset = Some(lost.location.offset);
            self.add(&segment.path, offset, Problem::Lost(lost.clone()), Reference::Silent, Remedy::Accepts);
        }
        if !scan.damage.is_empty() || scan.disputed.is_some() {
            self.damaged.push(scan);
        }
    }
}

/// What the reference's number parser takes: a sign is fine.
fn is_number_to_reference(name: &str) -> bool {
    let digits = name.strip_prefix(['+', '-']).unwrap_or(name);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && name.parse::<i64>().is_ok()
}

/// Whether the reference's reader goes on as if nothing were wrong.
fn is_silent(fault: &FrameFault) -> bool {
    match fault {
        // It looks at the three lowest bits only, and at one compression bit.
        FrameFault::Type { found } => (1..=4).contains(&(found & 0b111)),
        FrameFault::ZeroPage { .. }
        | FrameFault::PaddingInsideRecord
        | FrameFault::MixedCompression { .. }
        | FrameFault::Ledger { .. } => true,
        _ => false,
    }
}
