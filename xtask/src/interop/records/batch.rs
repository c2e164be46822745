//! Entries of one kind, owned: on their way into a record, out of one, and over the wire (`interop/records.go` has the
//! layout).

use tsdb_model::histogram::{CounterResetHint, EXPONENTIAL_SCHEMA_MAX, is_known_schema};
use tsdb_model::labels::LabelPairs;
use tsdb_model::{Labels, SeriesRef};
use wal_format::{
    Batch, Exemplar, Metadata, MetricType, MmapMarker, NativeSample, OwnedHistogram, Record, RecordEntries, Sample,
    Series, Tombstone, Version, Wire,
};

use super::super::Coverage;
use super::super::wire::WireWriter;

/// An exemplar that owns its labels.
#[derive(Debug)]
pub(crate) struct OwnedExemplar {
    pub(crate) series: SeriesRef,
    pub(crate) t: i64,
    pub(crate) v: f64,
    pub(crate) labels: Labels,
}

/// Metadata that owns its texts.
#[derive(Debug)]
pub(crate) struct OwnedMetadata {
    pub(crate) series: SeriesRef,
    pub(crate) metric_type: MetricType,
    pub(crate) unit: Vec<u8>,
    pub(crate) help: Vec<u8>,
}

#[derive(Debug)]
pub(crate) enum Entries {
    Series(Vec<(SeriesRef, Labels)>),
    Samples(Vec<Sample>),
    Histograms(Vec<OwnedHistogram<i64>>),
    FloatHistograms(Vec<OwnedHistogram<f64>>),
    Tombstones(Vec<Tombstone>),
    Exemplars(Vec<OwnedExemplar>),
    Metadata(Vec<OwnedMetadata>),
    MmapMarkers(Vec<MmapMarker>),
}

fn native_samples<B: Wire>(owned: &[OwnedHistogram<B>]) -> impl Iterator<Item = NativeSample<'_, B>> + Clone {
    owned.iter().map(|o| NativeSample { series: o.series, t: o.t, st: o.st, histogram: &o.histogram })
}

impl Entries {
    /// The records that our encoder makes of them.
    pub(crate) fn encode(&self, version: Version) -> Vec<Vec<u8>> {
        let mut batch = Batch::new(version);
        match self {
            Self::Series(e) => {
                batch.series(e.iter().map(|(series, labels)| Series { series: *series, labels: labels.pairs() }))
            }
            Self::Samples(e) => batch.samples(e.iter().copied()),
            Self::Histograms(e) => batch.histograms(native_samples(e)),
            Self::FloatHistograms(e) => batch.float_histograms(native_samples(e)),
            Self::Tombstones(e) => batch.tombstones(e.iter().copied()),
            Self::Exemplars(e) => batch.exemplars(e.iter().map(|e| Exemplar {
                series: e.series,
                t: e.t,
                v: e.v,
                labels: e.labels.pairs(),
            })),
            Self::Metadata(e) => batch.metadata(e.iter().map(|e| Metadata {
                series: e.series,
                metric_type: e.metric_type,
                unit: &e.unit,
                help: &e.help,
            })),
            Self::MmapMarkers(e) => batch.mmap_markers(e.iter().copied()),
        }
        batch.records().map(<[u8]>::to_vec).collect()
    }

    /// Counts the cases that this batch is, encoded into `records` records.
    pub(super) fn cover(&self, version: Version, records: usize, coverage: &mut Coverage) {
        match self {
            Self::Series(e) => {
                coverage.cover_empty(e.is_empty());
                e.iter().for_each(|(_, labels)| coverage.cover_labels(labels));
            }
            Self::Samples(e) => {
                coverage.cover_stamps(version, e.iter().map(|s| (s.series, s.t, s.st)));
                let stale = e.iter().filter(|s| tsdb_model::staleness::is_stale(s.v)).count();
                coverage.add("value is the stale marker", stale as u64);
            }
            Self::Histograms(e) => coverage.cover_histograms(version, e, records),
            Self::FloatHistograms(e) => coverage.cover_histograms(version, e, records),
            Self::Tombstones(e) => {
                coverage.cover_empty(e.is_empty());
                coverage.add("tombstone over all time", e.iter().filter(|t| t.drops_series()).count() as u64);
            }
            Self::Exemplars(e) => {
                coverage.cover_stamps(Version::V1, e.iter().map(|e| (e.series, e.t, 0)));
                e.iter().for_each(|e| coverage.cover_labels(&e.labels));
            }
            Self::Metadata(e) => {
                coverage.cover_empty(e.is_empty());
                let unknown = e.iter().filter(|m| matches!(m.metric_type, MetricType::Other(_))).count();
                coverage.add("metadata type unknown", unknown as u64);
            }
            Self::MmapMarkers(e) => coverage.cover_empty(e.is_empty()),
        }
    }
}

impl Coverage {
    fn cover_empty(&mut self, empty: bool) {
        if empty {
            self.hit("empty batch");
        }
    }

    fn cover_labels(&mut self, labels: &Labels) {
        let pairs: Vec<_> = labels.iter().collect();
        if pairs.windows(2).any(|w| w[0].0 >= w[1].0) {
            self.hit("labels unsorted or repeated");
        }
        if pairs.iter().any(|(n, v)| std::str::from_utf8(n).is_err() || std::str::from_utf8(v).is_err()) {
            self.hit("labels not UTF-8");
        }
        if pairs.iter().any(|(n, v)| n.len().max(v.len()) > 127) {
            self.hit("label text over 127 bytes");
        }
    }

    fn cover_stamps(&mut self, version: Version, stamps: impl Iterator<Item = (SeriesRef, i64, i64)>) {
        let stamps: Vec<_> = stamps.collect();
        self.cover_empty(stamps.is_empty());
        let Some(first) = stamps.first() else { return };
        for pair in stamps.windows(2) {
            let base = if version == Version::V2 { pair[0].0 } else { first.0 };
            if (pair[1].0.0 as i64).checked_sub(base.0 as i64).is_none() {
                self.hit("ref delta wraps");
            }
            if pair[1].1.checked_sub(first.1).is_none() {
                self.hit("time delta wraps");
            }
            if version == Version::V2 {
                self.hit(match (pair[0].2, pair[1].2) {
                    (_, 0) => "start timestamp none",
                    (before, now) if before == now => "start timestamp as before",
                    _ => "start timestamp explicit",
                });
                if pair[1].2.checked_sub(first.2).is_none() {
                    self.hit("start timestamp delta wraps");
                }
            }
        }
        if version == Version::V2 && first.2 != 0 {
            self.hit("start timestamp of the first entry");
        }
    }

    fn cover_histograms<B: Wire>(&mut self, version: Version, entries: &[OwnedHistogram<B>], records: usize) {
        self.cover_stamps(version, entries.iter().map(|e| (e.series, e.t, e.st)));
        for e in entries {
            match e.histogram.schema {
                -53 => self.hit("schema -53, custom buckets"),
                -9..=-5 => self.hit("schema -9..-5"),
                -4..=EXPONENTIAL_SCHEMA_MAX => self.hit("schema -4..8"),
                schema if is_known_schema(schema) => self.hit("schema 9..52, reduced"),
                // Counted where it is skipped.
                _ => {}
            }
            if matches!(e.histogram.counter_reset_hint, CounterResetHint::Other(_)) {
                self.hit("reset hint unknown");
            }
        }
        let custom = entries.iter().filter(|e| e.histogram.uses_custom_buckets()).count();
        if version == Version::V1 && !entries.is_empty() {
            self.hit(match (records, custom) {
                (2, _) => "split: two records",
                (_, 0) => "split: one record, exponential",
                _ => "split: one record, custom",
            });
        }
    }
}

/// The number of a kind on the wire, and of a record whose tag is unknown.
const UNKNOWN: u8 = 255;

impl WireWriter {
    /// A batch on its way to the reference's encoder.
    pub(super) fn record_entries(&mut self, entries: &Entries) {
        match entries {
            Entries::Series(e) => self.entries(0, e, |w, (series, labels)| w.series(*series, &labels.pairs())),
            Entries::Samples(e) => self.entries(1, e, |w, s| w.sample(s)),
            Entries::Histograms(e) => self.entries(2, e, |w, e| {
                w.stamp(e.series, e.t, e.st);
                w.histogram(&e.histogram);
            }),
            Entries::FloatHistograms(e) => self.entries(3, e, |w, e| {
                w.stamp(e.series, e.t, e.st);
                w.float_histogram(&e.histogram);
            }),
            Entries::Tombstones(e) => self.entries(4, e, |w, t| w.stamp(t.series, t.mint, t.maxt)),
            Entries::Exemplars(e) => self.entries(5, e, |w, e| {
                w.exemplar(&Exemplar { series: e.series, t: e.t, v: e.v, labels: e.labels.pairs() });
            }),
            Entries::Metadata(e) => self.entries(6, e, |w, m| {
                w.metadata(&Metadata { series: m.series, metric_type: m.metric_type, unit: &m.unit, help: &m.help });
            }),
            Entries::MmapMarkers(e) => self.entries(7, e, |w, m| w.marker(m)),
        }
    }

    /// What we decoded, in the form in which the reference answers what it decoded.
    pub(super) fn record(&mut self, record: &Record<'_>) {
        self.u32(u32::try_from(record.skipped).expect("a record is smaller than 4 GiB"));
        match &record.entries {
            RecordEntries::Series(e) => self.entries(0, e, |w, s| w.series(s.series, &s.labels)),
            RecordEntries::Samples(e) => self.entries(1, e, |w, s| w.sample(s)),
            RecordEntries::Histograms(e) => self.entries(2, e, |w, e| {
                w.stamp(e.series, e.t, e.st);
                w.histogram(&e.histogram);
            }),
            RecordEntries::FloatHistograms(e) => self.entries(3, e, |w, e| {
                w.stamp(e.series, e.t, e.st);
                w.float_histogram(&e.histogram);
            }),
            RecordEntries::Tombstones(e) => self.entries(4, e, |w, t| w.stamp(t.series, t.mint, t.maxt)),
            RecordEntries::Exemplars(e) => self.entries(5, e, Self::exemplar),
            RecordEntries::Metadata(e) => self.entries(6, e, Self::metadata),
            RecordEntries::MmapMarkers(e) => self.entries(7, e, |w, m| w.marker(m)),
            RecordEntries::Unknown { .. } => self.u8(UNKNOWN),
        }
    }

    fn entries<T>(&mut self, kind: u8, entries: &[T], mut one: impl FnMut(&mut Self, &T)) {
        self.u8(kind);
        self.u32(u32::try_from(entries.len()).expect("a record is smaller than 4 GiB"));
        entries.iter().for_each(|entry| one(self, entry));
    }

    fn stamp(&mut self, series: SeriesRef, t: i64, st: i64) {
        self.u64(series.0);
        self.i64(t);
        self.i64(st);
    }

    fn series(&mut self, series: SeriesRef, labels: &LabelPairs<'_>) {
        self.u64(series.0);
        self.pairs(labels);
    }

    fn sample(&mut self, s: &Sample) {
        self.stamp(s.series, s.t, s.st);
        self.f64(s.v);
    }

    fn exemplar(&mut self, e: &Exemplar<'_>) {
        self.u64(e.series.0);
        self.i64(e.t);
        self.f64(e.v);
        self.pairs(&e.labels);
    }

    fn metadata(&mut self, m: &Metadata<'_>) {
        self.u64(m.series.0);
        self.u8(m.metric_type.to_byte());
        self.item(m.unit);
        self.item(m.help);
    }

    fn marker(&mut self, m: &MmapMarker) {
        self.u64(m.series.0);
        self.u64(m.chunk);
    }

    /// Label pairs as they stand.
    pub(super) fn pairs(&mut self, labels: &LabelPairs<'_>) {
        self.u32(u32::try_from(labels.len()).expect("a record is smaller than 4 GiB"));
        for (name, value) in labels.iter() {
            self.item(name);
            self.item(value);
        }
    }
}
