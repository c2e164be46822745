//! Everything that is wrong with a data directory, layer by layer, in one form.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Result;
use head_chunks::files::{self, ChunkFiles, Fault, FilesError};
use head_chunks::histogram::HistogramIter;
use head_chunks::xor::XorIter;
use head_chunks::xor2::Xor2Iter;
use head_chunks::{DecodeError, Encoding};
use serde::Serialize;
use tsdb_head::data_dir;
use tsdb_model::SeriesRef;
use tsdb_vfs::Fs;
use wal_format::{Kind, Record, RecordEntries};
use wal_segment::{layout, verify};

use crate::source::{self, LogPart, Step};

mod snapshots;

/// One thing that is wrong, or worth knowing.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Finding {
    /// The file or directory.
    pub(crate) path: String,
    /// Where in it, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<u64>,
    /// What.
    pub(crate) problem: String,
    /// What Prometheus 3.14 does with it.
    pub(crate) prometheus: String,
    /// What `repair --apply` does about it.
    pub(crate) repair: String,
    /// Worth knowing, and nothing is wrong.
    pub(crate) note: bool,
}

impl Finding {
    /// `wal/00000003:32768`
    pub(crate) fn place(&self) -> String {
        let offset = self.offset.map(|offset| format!(":{offset}")).unwrap_or_default();
        format!("{}{offset}", self.path)
    }

    /// What stands behind the place on its line.
    pub(crate) fn what(&self) -> String {
        let Self { problem, prometheus, repair, note, .. } = self;
        let note = if *note { " (note)" } else { "" };
        format!(": {problem}{note}; Prometheus 3.14: {prometheus}; repair: {repair}")
    }
}

/// Looks at all of `dir`: log, checkpoint, out-of-order log, chunk files, snapshot, blocks' metadata. `progress` is told of bytes.
pub(crate) fn find(fs: &Fs, dir: &Path, mut progress: impl FnMut(u64)) -> Result<(Vec<Finding>, Vec<Looked>)> {
    let mut findings = Vec::new();
    let mut looked = Vec::new();
    for log in ["wal", "wbl"].map(|name| dir.join(name)) {
        if fs.dir_exists(&log)? {
            findings.extend(verify::verify_judged(fs, &log, &undecodable)?.iter().map(|finding| of_log(dir, finding)));
        }
    }
    let parts = source::data_dir(fs, dir)?;
    let mut references = References::default();
    for (index, part) in parts.iter().enumerate() {
        references.part = index;
        let records = records(fs, part, &mut references, &mut findings, &mut progress)?;
        let path = part.prefix.trim_end_matches('/').to_owned();
        looked.push(Looked {
            path,
            files: part.segments.len(),
            sort: "segments",
            bytes: part.bytes(),
            found: records,
            of: "records",
        });
    }
    references.report(&parts, &mut findings);
    looked.extend(chunk_files(fs, dir, &references, &mut findings)?);
    snapshots::find(fs, dir, &mut findings)?;
    if let Err(error) = data_dir::blocks(fs, dir) {
        let (prometheus, repair) = ("refuses to start".into(), "nothing; move the block away yourself".into());
        let path = dir.display().to_string();
        findings.push(Finding { path, offset: None, problem: error.to_string(), prometheus, repair, note: false });
    }
    Ok((findings, looked))
}

/// What was looked at: one directory of files.
#[derive(Debug)]
pub(crate) struct Looked {
    path: String,
    files: usize,
    sort: &'static str,
    bytes: u64,
    /// Records or chunks that could be read.
    found: u64,
    of: &'static str,
}

impl fmt::Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, files, sort, bytes, found, of } = self;
        write!(f, "{path}: {files} {sort}, {bytes} bytes, {found} {of}")
    }
}

/// Why a sound record of a log can't be decoded, if it can't. Of records of an unknown kind nothing is known.
pub(crate) fn undecodable(record: &[u8]) -> Option<String> {
    Record::decode(record).err().map(|error| error.to_string())
}

fn of_log(dir: &Path, finding: &verify::Finding) -> Finding {
    Finding {
        path: relative(dir, &finding.path),
        offset: finding.offset,
        problem: finding.problem.to_string(),
        prometheus: finding.reference.to_string(),
        repair: finding.remedy.to_string(),
        note: finding.is_note(),
    }
}

/// `path` as it is called within the data directory.
pub(crate) fn relative(dir: &Path, path: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).display().to_string()
}

/// Which refs the logs explain, and which they use.
#[derive(Debug, Default)]
struct References {
    explained: HashSet<SeriesRef>,
    /// Entries of refs that were unknown when they came, by part and ref.
    unexplained: BTreeMap<(usize, SeriesRef), u64>,
    part: usize,
}

impl References {
    fn take(&mut self, record: &Record<'_>) {
        let mut used = |series: SeriesRef| {
            if !self.explained.contains(&series) {
                *self.unexplained.entry((self.part, series)).or_default() += 1;
            }
        };
        match &record.entries {
            RecordEntries::Series(entries) => self.explained.extend(entries.iter().map(|entry| entry.series)),
            RecordEntries::Samples(entries) => entries.iter().for_each(|entry| used(entry.series)),
            RecordEntries::Histograms(entries) => entries.iter().for_each(|entry| used(entry.series)),
            RecordEntries::FloatHistograms(entries) => entries.iter().for_each(|entry| used(entry.series)),
            RecordEntries::Exemplars(entries) => entries.iter().for_each(|entry| used(entry.series)),
            // A checkpoint keeps tombstones and metadata by other rules; markers point at chunks.
            _ => {}
        }
    }

    fn report(&self, parts: &[LogPart], findings: &mut Vec<Finding>) {
        for (index, part) in parts.iter().enumerate() {
            let of_part = self.unexplained.iter().filter(|((at, _), _)| *at == index);
            let (refs, entries) = of_part.fold((0_u64, 0), |(refs, entries), (_, count)| (refs + 1, entries + count));
            if refs > 0 {
                findings.push(Finding {
                    path: part.prefix.trim_end_matches('/').to_owned(),
                    offset: None,
                    problem: format!(
                        "{entries} entries of {refs} series refs that no series record before them explains"
                    ),
                    prometheus: "skips them, with a warning".into(),
                    repair: "nothing: their labels are not in the log".into(),
                    note: false,
                });
            }
        }
    }
}

/// Decodes every record that can be framed, and says how many; what cannot be framed is found elsewhere.
fn records(
    fs: &Fs,
    part: &LogPart,
    references: &mut References,
    findings: &mut Vec<Finding>,
    progress: &mut impl FnMut(u64),
) -> Result<u64> {
    let mut found = 0;
    let walked = source::walk(fs, part, |step| {
        let Step::Record(record) = step else { return Ok(ControlFlow::Continue(())) };
        progress(record.stored.len() as u64);
        found += 1;
        // One that can't be decoded is found with the damage.
        if let Ok(decoded) = Record::decode(record.bytes) {
            references.take(&decoded);
        }
        if Kind::of_record(record.bytes).is_none() {
            findings.push(Finding {
                path: format!("{}{}", part.prefix, layout::segment_name(record.position.segment)),
                offset: Some(record.position.offset),
                problem: "a record of no known kind".into(),
                prometheus: "ignores it".into(),
                repair: "nothing".into(),
                note: true,
            });
        }
        Ok(ControlFlow::Continue(()))
    })?;
    debug_assert!(walked.is_continue(), "nothing ends the walk");
    Ok(found)
}

fn chunk_files(fs: &Fs, dir: &Path, references: &References, findings: &mut Vec<Finding>) -> Result<Option<Looked>> {
    let (files, report) = ChunkFiles::open_read_only(fs.clone(), &dir.join("chunks_head"))?;
    let last = report.files.last().map_or(0, |file| file.number);
    let mut chunks = Vec::new();
    let scan = files.iterate(|chunk| {
        chunks.push(*chunk);
        Ok::<(), FilesError>(())
    })?;
    for damage in report.damages.iter().chain(&scan.damages) {
        findings.push(Finding {
            path: relative(dir, &damage.path),
            offset: Some(damage.offset),
            problem: format!("{} ({} bytes)", damage.fault, damage.len),
            prometheus: reference_on(&damage.fault, damage.file == last).into(),
            repair: "keeps every sound chunk, the original goes to quarantine; the log has the samples while it reaches back".into(),
            note: false,
        });
    }
    for gap in &report.gaps {
        findings.push(Finding {
            path: "chunks_head".into(),
            offset: None,
            problem: format!(
                "chunk files {} to {} are missing",
                files::file_name(gap.start),
                files::file_name(gap.end - 1)
            ),
            prometheus: "refuses to start".into(),
            repair: "puts files without chunks in their place".into(),
            note: false,
        });
    }
    let looked = Looked {
        path: "chunks_head".into(),
        files: report.files.len(),
        sort: "files",
        bytes: report.files.iter().map(|file| file.len).sum(),
        found: chunks.len() as u64,
        of: "chunks",
    };
    for meta in chunks {
        let path = format!("chunks_head/{}", files::file_name(meta.chunk_ref.file));
        let mut finding = |problem: String, prometheus: &str, note: bool| {
            let (offset, repair) = (Some(u64::from(meta.chunk_ref.offset)), "nothing".to_owned());
            let prometheus = prometheus.to_owned();
            findings.push(Finding { path: path.clone(), offset, problem, prometheus, repair, note });
        };
        if !references.explained.contains(&meta.series) {
            let problem = format!("a chunk of series ref {}, which no series record explains", meta.series);
            finding(problem, "ignores it", true);
        }
        match files.read(meta.chunk_ref) {
            Ok(chunk) => {
                if let Err(error) = decode(chunk.encoding, &chunk.data) {
                    finding(
                        format!("a sound record with a chunk that does not decode: {error}"),
                        "fails queries that need it",
                        false,
                    );
                }
            }
            Err(error) => finding(error.to_string(), "fails queries that need it", false),
        }
    }
    Ok((looked.files > 0).then_some(looked))
}

/// What Prometheus 3.14 makes of damage in a chunk file.
fn reference_on(fault: &Fault, in_last_file: bool) -> &'static str {
    match fault {
        Fault::FileHeaderLength { .. } | Fault::Magic { .. } | Fault::Version { .. } | Fault::Unreadable => {
            if in_last_file {
                "removes an empty last file, refuses to start on another one"
            } else {
                "refuses to start"
            }
        }
        Fault::Hole { .. } => "skips what follows in the file without a word",
        _ => "deletes this file and all later ones, and reads the samples from the log again",
    }
}

fn decode(encoding: Encoding, data: &[u8]) -> Result<(), DecodeError> {
    match encoding {
        Encoding::Xor => XorIter::new(data)?.try_for_each(|sample| sample.map(|_| ())),
        Encoding::Xor2 => Xor2Iter::new(data)?.try_for_each(|sample| sample.map(|_| ())),
        Encoding::Histogram | Encoding::HistogramSt => {
            let st = encoding.has_start_timestamps();
            HistogramIter::<i64>::new(st, data)?.try_for_each(|sample| sample.map(|_| ()))
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
            let st = encoding.has_start_timestamps();
            HistogramIter::<f64>::new(st, data)?.try_for_each(|sample| sample.map(|_| ()))
        }
    }
}
