//! Logs for the tests: numbered samples of numbered series, and what a replay finds of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tsdb_model::{Labels, SeriesRef};
use tsdb_vfs::Fs;
use wal_format::{
    Batch, DecodeError, ExemplarBatch, FloatHistogramBatch, HistogramBatch, Metadata, MetadataBatch, MetricType,
    MmapMarkerBatch, RecordSink, Sample, SampleBatch, Series, SeriesBatch, Tombstone, TombstoneBatch, Version,
    dispatch,
};
use wal_segment::{LogReader, layout};

/// What a replay finds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) series: BTreeMap<u64, Vec<u8>>,
    /// (t, ref), with a value that follows from them.
    pub(crate) samples: BTreeSet<(i64, u64)>,
    pub(crate) tombstones: BTreeSet<(u64, i64, i64)>,
    pub(crate) metadata: BTreeMap<u64, Vec<u8>>,
    /// Something that was never written.
    pub(crate) foreign: Option<String>,
}

pub(crate) fn labels(series: u64) -> Labels {
    Labels::from_pairs([("__name__", "up"), ("instance", format!("host-{series}").as_str())])
}

pub(crate) fn value(t: i64, series: u64) -> f64 {
    t as f64 * 1000.0 + series as f64
}

/// The records of one scrape at `t`: new series' records first, when `announce` says so.
pub(crate) fn scrape(t: i64, series: std::ops::Range<u64>, announce: bool) -> Batch {
    let mut batch = Batch::new(Version::V1);
    if announce {
        let all: Vec<_> = series.clone().map(|s| (s, labels(s))).collect();
        batch.series(all.iter().map(|(s, labels)| Series { series: SeriesRef(*s), labels: labels.pairs() }));
        batch.metadata(series.clone().map(|s| Metadata {
            series: SeriesRef(s),
            metric_type: MetricType::Gauge,
            unit: b"",
            help: b"help",
        }));
    }
    batch.samples(series.clone().map(|s| Sample { series: SeriesRef(s), t, v: value(t, s), st: 0 }));
    batch.tombstones(series.take(1).map(|s| Tombstone { series: SeriesRef(s), mint: t - 5, maxt: t }));
    batch
}

/// Reads what a replay reads: the newest checkpoint, then the segments behind it.
pub(crate) fn replay(fs: &Fs, dir: &Path) -> Result<Found, String> {
    let (old, live) = layout::replay_segments(fs, dir).map_err(|e| e.to_string())?;
    let mut found = Found::default();
    for group in [old, live] {
        let mut reader = LogReader::over(fs.clone(), group);
        while let Some(record) = reader.next().map_err(|e| e.to_string())? {
            dispatch(record.bytes, &mut found).map_err(|e| format!("{}: {e}", record.position))?;
        }
    }
    Ok(found)
}

impl RecordSink for Found {
    type Error = DecodeError;

    fn series(&mut self, batch: SeriesBatch<'_>) -> Result<(), DecodeError> {
        for series in batch.iter() {
            let series = series?;
            let found = series.labels.to_labels();
            if found != labels(series.series.0) {
                self.foreign = Some(format!("series {} with labels {found}", series.series));
            }
            self.series.insert(series.series.0, found.as_packed().to_vec());
        }
        Ok(())
    }

    fn samples(&mut self, batch: SampleBatch<'_>) -> Result<(), DecodeError> {
        for sample in batch.iter() {
            let Sample { series, t, v, .. } = sample?;
            if v.to_bits() != value(t, series.0).to_bits() {
                self.foreign = Some(format!("sample {series} at {t} with value {v}"));
            }
            self.samples.insert((t, series.0));
        }
        Ok(())
    }

    fn tombstones(&mut self, batch: TombstoneBatch<'_>) -> Result<(), DecodeError> {
        for row in batch.iter() {
            let Tombstone { series, mint, maxt } = row?;
            self.tombstones.insert((series.0, mint, maxt));
        }
        Ok(())
    }

    fn metadata(&mut self, batch: MetadataBatch<'_>) -> Result<(), DecodeError> {
        for entry in batch.iter() {
            let entry = entry?;
            self.metadata.insert(entry.series.0, entry.help.to_vec());
        }
        Ok(())
    }

    fn histograms(&mut self, _: HistogramBatch<'_>) -> Result<(), DecodeError> {
        self.foreign = Some("histograms".into());
        Ok(())
    }

    fn float_histograms(&mut self, _: FloatHistogramBatch<'_>) -> Result<(), DecodeError> {
        self.foreign = Some("float histograms".into());
        Ok(())
    }

    fn exemplars(&mut self, _: ExemplarBatch<'_>) -> Result<(), DecodeError> {
        self.foreign = Some("exemplars".into());
        Ok(())
    }

    fn mmap_markers(&mut self, _: MmapMarkerBatch<'_>) -> Result<(), DecodeError> {
        self.foreign = Some("mmap markers".into());
        Ok(())
    }

    fn unknown(&mut self, tag: Option<u8>, _: &[u8]) -> Result<(), DecodeError> {
        // A torn file that ends seven bytes behind a header's first reads as one with an empty record.
        if let Some(tag) = tag {
            self.foreign = Some(format!("a record with tag {tag}"));
        }
        Ok(())
    }
}
