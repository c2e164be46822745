//! What this version reads past: it is looked at so that nothing of it is lost.

use std::collections::HashSet;

use tsdb_model::SeriesRef;
use wal_format::{
    DecodeError, ExemplarBatch, FloatHistogramBatch, HistogramBatch, KindSet, MetadataBatch, MmapMarkerBatch,
    RecordSink, SampleBatch, SeriesBatch, TombstoneBatch,
};
use wal_segment::{Item, SalvageReader};

use super::chunk_files::ChunksOnDisk;
use super::report::{ReplayDamage, ReplayReport};
use crate::head::Shared;
use crate::{HeadError, data_dir};

/// Looks through the out-of-order log and for snapshots. Series that out-of-order data refers to keep their records in
/// checkpoints, and their refs are not given out again.
pub(super) fn scan(shared: &Shared, chunks: &ChunksOnDisk, report: &mut ReplayReport) -> Result<(), HeadError> {
    let mut refs = Refs(chunks.out_of_order.clone());
    let wbl = data_dir::wbl(&shared.dir);
    if shared.fs.dir_exists(&wbl).map_err(HeadError::io(&wbl))? {
        let mut reader = SalvageReader::open(shared.fs.clone(), &wbl)?;
        while let Some(item) = reader.next()? {
            match item {
                Item::Record(record) => {
                    report.preserved.wbl_records += 1;
                    if let Err(error) = wal_format::dispatch(record.bytes, &mut refs) {
                        report.counts.undecodable += 1;
                        tracing::warn!(%error, position = %record.position, "a record of the out-of-order log");
                    }
                }
                Item::Damage(range) => {
                    let problem = range.damage.fault.to_string();
                    report.damage.push(ReplayDamage::new(Some(range.damage.location), problem));
                }
                Item::Gap { .. } => {}
            }
        }
    }
    for entry in shared.fs.list(&shared.dir).map_err(HeadError::io(&shared.dir))? {
        if entry.name.to_str().is_some_and(|name| name.starts_with("chunk_snapshot.")) {
            report.preserved.snapshots.push(shared.dir.join(entry.name));
        }
    }
    report.preserved.out_of_order_series = refs.0.len() as u64;
    shared.reserve_ref(refs.0.iter().copied().max().unwrap_or(0));
    shared.log_state.lock().foreign = refs.0;
    Ok(())
}

/// The refs that records speak of.
struct Refs(HashSet<u64>);

impl Refs {
    fn add(&mut self, series: SeriesRef) {
        self.0.insert(series.0);
    }
}

impl RecordSink for Refs {
    type Error = DecodeError;

    fn kinds(&self) -> KindSet {
        KindSet::ALL
    }

    fn series(&mut self, batch: SeriesBatch<'_>) -> Result<(), DecodeError> {
        batch.iter().try_for_each(|entry| entry.map(|entry| self.add(entry.series)))
    }

    fn samples(&mut self, batch: SampleBatch<'_>) -> Result<(), DecodeError> {
        batch.for_each(|sample| self.add(sample.series))
    }

    fn histograms(&mut self, batch: HistogramBatch<'_>) -> Result<(), DecodeError> {
        batch.iter().try_for_each(|entry| entry.map(|entry| self.add(entry.series)))
    }

    fn float_histograms(&mut self, batch: FloatHistogramBatch<'_>) -> Result<(), DecodeError> {
        batch.iter().try_for_each(|entry| entry.map(|entry| self.add(entry.series)))
    }

    fn tombstones(&mut self, batch: TombstoneBatch<'_>) -> Result<(), DecodeError> {
        batch.iter().try_for_each(|entry| entry.map(|entry| self.add(entry.series)))
    }

    fn exemplars(&mut self, batch: ExemplarBatch<'_>) -> Result<(), DecodeError> {
        batch.iter().try_for_each(|entry| entry.map(|entry| self.add(entry.series)))
    }

    fn metadata(&mut self, batch: MetadataBatch<'_>) -> Result<(), DecodeError> {
        batch.iter().try_for_each(|entry| entry.map(|entry| self.add(entry.series)))
    }

    fn mmap_markers(&mut self, batch: MmapMarkerBatch<'_>) -> Result<(), DecodeError> {
        batch.iter().try_for_each(|entry| entry.map(|entry| self.add(entry.series)))
    }

    fn unknown(&mut self, _tag: Option<u8>, _record: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }
}
