//! The reference's own tests of its checkpoint, re-enacted: `TestCheckpoint`, `TestCheckpoint_Tombstones`,
//! `TestCheckpointNoTmpFolderAfterError`. Where ours keeps a promise that theirs does not, that is what is expected.

use std::path::Path;
use std::sync::Arc;

use tsdb_model::histogram::{FloatHistogram, Histogram, Span};
use tsdb_model::{Labels, SeriesRef};
use tsdb_vfs::{Fs, SimFs, Vfs};
use wal_checkpoint::{
    DamagePolicy, Error, Options, Source, StartTimestamps, Stats, checkpoint, delete_older, remove_segments, retire,
};
use wal_format::{
    Batch, ExemplarBatch, FloatHistogramBatch, HistogramBatch, Kind, Metadata, MetadataBatch, MetricType, Sample,
    SampleBatch, Series, SeriesBatch, Tombstone, TombstoneBatch, Version, tag,
};
use wal_segment::{Compression, Log, LogOptions, LogReader, layout};

const DIR: &str = "/wal";

fn log(fs: &Fs, dir: &str, compression: Compression) -> Log {
    let options = LogOptions { segment_size: 128 * 1024, compression, background_sync: false, ..LogOptions::default() };
    Log::open(fs.clone(), Path::new(dir), options).expect("a log").0
}

fn append(log: &Log, version: Version, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new(version);
    fill(&mut batch);
    log.append(batch.records()).expect("room");
}

/// Records of a checkpoint, in order.
fn records(fs: &Fs, index: u64) -> Vec<Vec<u8>> {
    let path = Path::new(DIR).join(layout::checkpoint_name(index));
    let mut reader = LogReader::open(fs.clone(), &path).expect("a checkpoint");
    let mut records = Vec::new();
    while let Some(record) = reader.next().expect("sound") {
        records.push(record.bytes.to_vec());
    }
    records
}

fn names(disk: &SimFs) -> Vec<String> {
    let entries = disk.list(Path::new(DIR)).expect("the directory");
    entries.into_iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect()
}

fn integer(i: u64, custom: bool) -> Histogram {
    Histogram {
        count: 5 + i * 4,
        zero_count: if custom { 0 } else { 2 + i },
        zero_threshold: if custom { 0.0 } else { 0.001 },
        sum: 18.4 * (i + 1) as f64,
        schema: if custom { -53 } else { 1 },
        positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 2 }],
        positive_buckets: vec![i as i64 + 1, 1, -1, 0],
        custom_values: if custom { vec![0.0, 1.0, 2.0, 3.0, 4.0] } else { vec![] },
        ..Histogram::default()
    }
}

fn labels(last: &str) -> Labels {
    Labels::from_pairs([("a", "b"), ("c", last)])
}

/// Four samples whose times drift within the record, so that one is dropped and its neighbour is not.
fn drifting(last: i64) -> [(SeriesRef, i64); 4] {
    [0, 1, 2, 3].map(|i| (SeriesRef(i as u64), last + 10_000 * i))
}

/// What `TestCheckpoint` writes: segments 100 to 106 behind a checkpoint 99. Returns the samples written, and the last time.
fn write_test_log(fs: &Fs, compression: Compression, version: Version) -> (u64, i64) {
    let dir = Path::new(DIR);
    fs.create_dir_all(dir).expect("a disk");
    fs.write_new(&dir.join("00000100"), b"").expect("a disk");
    let old = log(fs, "/wal/checkpoint.00000099", compression);
    append(&old, version, |b| {
        let l = ["0", "1"].map(labels);
        b.series([0, 1].map(|i| Series { series: SeriesRef(i), labels: l[i as usize].pairs() }));
        // A record that a later version may write.
        b.raw(&[255]);
    });
    old.close().expect("a disk");
    let log = log(fs, DIR, compression);
    append(&log, version, |b| {
        let l = ["2", "3", "4", "5"].map(labels);
        b.series([0, 1, 2, 3].map(|i| Series { series: SeriesRef(i + 2), labels: l[i as usize].pairs() }));
        b.metadata([2, 3, 4, 5].map(|i| Metadata {
            series: SeriesRef(i),
            metric_type: MetricType::Unknown,
            unit: b"unit",
            help: b"help",
        }));
    });
    let (mut written, mut last) = (0, 0);
    for i in 0.. {
        if log.current_segment() >= 106 {
            break;
        }
        let v = i as f64;
        let histograms = [integer(i, false), integer(i, true)];
        let floats: [FloatHistogram; 2] = [histograms[0].to_float(), histograms[1].to_float()];
        append(&log, version, |b| {
            b.samples(drifting(last).map(|(series, t)| Sample { series, t, v, st: t - 1 }));
            for h in &histograms {
                b.histograms(drifting(last).map(|(series, t)| wal_format::HistogramSample {
                    series,
                    t,
                    st: t - 1,
                    histogram: h,
                }));
            }
            for h in &floats {
                b.float_histograms(drifting(last).map(|(series, t)| wal_format::FloatHistogramSample {
                    series,
                    t,
                    st: t - 1,
                    histogram: h,
                }));
            }
            let trace = Labels::from_pairs([("trace_id", format!("trace-{i}").as_str())]);
            b.exemplars([wal_format::Exemplar { series: SeriesRef(1), t: last, v, labels: trace.pairs() }]);
            let text = last.to_string();
            b.metadata([0, 1, 2, 3].map(|i| Metadata {
                series: SeriesRef(i),
                metric_type: MetricType::Unknown,
                unit: text.as_bytes(),
                help: text.as_bytes(),
            }));
        });
        written += 4 * 5;
        last += 100;
    }
    log.close().expect("a disk");
    (written, last)
}

/// Item 11: what is dropped, what is kept, for every codec and both versions of the records.
#[test]
fn checkpoint_keeps_and_drops_what_the_references_does() {
    for compression in [Compression::None, Compression::Snappy, Compression::Zstd] {
        for version in [Version::V1, Version::V2] {
            for start_timestamps in [StartTimestamps::Keep, StartTimestamps::Drop] {
                one_checkpoint(compression, version, start_timestamps);
            }
        }
    }
}

fn one_checkpoint(compression: Compression, version: Version, start_timestamps: StartTimestamps) {
    let disk = SimFs::new(1);
    let fs: Fs = Arc::new(disk.clone());
    let (written, last) = write_test_log(&fs, compression, version);
    let mint = last / 2;

    let options = Options { compression, start_timestamps, ..Options::default() };
    let source = Source::segments(&fs, Path::new(DIR));
    let stats = checkpoint(&source, 100, 106, |s| s.0 % 2 == 0, mint, &options).expect("a sound log");
    remove_segments(&fs, Path::new(DIR), 106).expect("a sound checkpoint");
    delete_older(&fs, Path::new(DIR), 106).expect("a sound checkpoint");

    assert_eq!(stats.previous, Some(99));
    assert_eq!(stats.counts.all_samples().total, written);
    assert!(stats.counts.all_samples().dropped > 0);
    assert_eq!(stats.counts.unknown.dropped, 1);
    // Theirs removes the newest segment, too; a log without segments would start over at 0, so ours never does.
    let left: Vec<_> = names(&disk).into_iter().filter(|name| name != layout::LEDGER_NAME).collect();
    assert_eq!(left, ["00000106", "checkpoint.00000106"]);

    let (mut samples, mut series, mut metadata, mut kept) = (0, Vec::new(), Vec::new(), 0);
    let keeps_st = version == Version::V2 && start_timestamps == StartTimestamps::Keep;
    let mut timed = |t: i64, st: i64| {
        assert!(t >= mint, "{t}");
        assert_eq!(st, if keeps_st { t - 1 } else { 0 });
        kept += 1;
    };
    for record in records(&fs, 106) {
        match Kind::of_record(&record).expect("a known kind") {
            Kind::Series => {
                let batch = SeriesBatch::new(&record).expect("series");
                series.extend(batch.iter().map(|s| s.map(|s| (s.series.0, s.labels.to_labels())).expect("sound")));
            }
            Kind::Samples => {
                for s in SampleBatch::new(&record).expect("samples").iter() {
                    let s = s.expect("sound");
                    timed(s.t, s.st);
                    samples += 1;
                }
            }
            Kind::Histograms => {
                for h in HistogramBatch::new(&record).expect("histograms").iter() {
                    let h = h.expect("sound");
                    timed(h.t, h.st);
                }
            }
            Kind::FloatHistograms => {
                for h in FloatHistogramBatch::new(&record).expect("histograms").iter() {
                    let h = h.expect("sound");
                    timed(h.t, h.st);
                }
            }
            Kind::Exemplars => {
                for e in ExemplarBatch::new(&record).expect("exemplars").iter() {
                    assert!(e.expect("sound").t >= mint);
                }
            }
            Kind::Metadata => {
                for m in MetadataBatch::new(&record).expect("metadata").iter() {
                    let m = m.expect("sound");
                    metadata.push((m.series.0, m.unit.to_vec(), m.help.to_vec()));
                }
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(kept, stats.counts.all_samples().kept());
    let expected = (0..last).step_by(100).flat_map(drifting).filter(|(_, t)| *t >= mint).count();
    assert!(samples == expected && samples > 0 && samples < written as usize / 5, "{samples} of {written}");
    assert_eq!(series, [(0, labels("0")), (2, labels("2")), (4, labels("4"))]);
    let text = (last - 100).to_string().into_bytes();
    let expected = [(0, text.clone(), text.clone()), (2, text.clone(), text), (4, b"unit".to_vec(), b"help".to_vec())];
    assert_eq!(metadata, expected);
}

/// Item 12: a tombstone goes with its series, or when all of it is too old.
#[test]
fn tombstones_are_kept_with_their_series() {
    let disk = SimFs::new(1);
    let fs: Fs = Arc::new(disk);
    let log = log(&fs, DIR, Compression::None);
    let row = |series, mint, maxt| Tombstone { series: SeriesRef(series), mint, maxt };
    let rows = [
        row(1, i64::MIN, i64::MAX),
        row(2, i64::MIN, i64::MAX),
        row(3, 0, 100),
        row(4, 0, 5),
        row(5, 1000, i64::MAX),
        row(6, 0, 100),
    ];
    append(&log, Version::V1, |b| b.tombstones(rows));
    log.next_segment().expect("room");
    let source = Source::segments(&fs, Path::new(DIR));
    let keep = |series: SeriesRef| (2..=4).contains(&series.0);
    let stats = checkpoint(&source, 0, 0, keep, 10, &Options::default()).expect("a sound log");
    assert_eq!((stats.counts.tombstones.total, stats.counts.tombstones.dropped), (6, 4));
    let found: Vec<_> = records(&fs, 0)
        .iter()
        .flat_map(|record| TombstoneBatch::new(record).expect("tombstones").iter().collect::<Vec<_>>())
        .collect::<Result<_, _>>()
        .expect("sound");
    assert_eq!(found, [row(2, i64::MIN, i64::MAX), row(3, 0, 100)]);
}

/// Item 13: a failure leaves nothing behind, and here nothing else changed either.
#[test]
fn a_failure_leaves_no_temporary() {
    for version in [Version::V1, Version::V2] {
        let disk = SimFs::new(1);
        let fs: Fs = Arc::new(disk.clone());
        let log = log(&fs, DIR, Compression::None);
        let l = labels("2");
        append(&log, version, |b| b.series([Series { series: SeriesRef(0), labels: l.pairs() }]));
        log.next_segment().expect("room");
        drop(log);
        let file = disk.open_write(&Path::new(DIR).join("00000000")).expect("the segment");
        file.write_all_at(&[42], 1).expect("a disk");

        let before = names(&disk);
        let source = Source::segments(&fs, Path::new(DIR));
        let error = checkpoint(&source, 0, 0, |_| true, 0, &Options::default()).expect_err("damage");
        assert!(matches!(&error, Error::Damaged(d) if d.location.segment == 0), "{error}");
        assert_eq!(names(&disk), before);

        // And one damaged record does not stop truncation for ever.
        let options = Options { damage: DamagePolicy::Salvage, ..Options::default() };
        let stats: Stats = checkpoint(&source, 0, 0, |_| true, 0, &options).expect("salvage");
        assert_eq!(stats.damage.len(), 1);
        let removed = retire(&fs, Path::new(DIR), &stats).expect("a sound checkpoint");
        assert_eq!(removed.quarantined, [Path::new(DIR).join("quarantine/00000000")]);
    }
}

/// Where the reference loses a batch or panics: a record of version 2 that holds only custom buckets, behind another
/// record, written as version 1.
#[test]
fn custom_buckets_do_not_reset_the_batch_before_them() {
    let disk = SimFs::new(1);
    let fs: Fs = Arc::new(disk);
    let log = log(&fs, DIR, Compression::None);
    let (h, f) = (integer(1, true), integer(1, true).to_float());
    for i in 0..50 {
        append(&log, Version::V2, |b| {
            b.samples([Sample { series: SeriesRef(1), t: i, v: i as f64, st: 1 }]);
            b.histograms([wal_format::HistogramSample { series: SeriesRef(2), t: i, st: 1, histogram: &h }]);
            b.float_histograms([wal_format::FloatHistogramSample { series: SeriesRef(3), t: i, st: 1, histogram: &f }]);
        });
    }
    log.next_segment().expect("room");
    let options = Options { start_timestamps: StartTimestamps::Drop, ..Options::default() };
    let source = Source::segments(&fs, Path::new(DIR));
    let stats = checkpoint(&source, 0, 0, |_| true, 0, &options).expect("a sound log");
    assert_eq!((stats.counts.all_samples().total, stats.counts.all_samples().dropped), (150, 0));
    let records = records(&fs, 0);
    let tags: Vec<u8> = records.iter().map(|record| record[0]).collect();
    let expected = [tag::SAMPLES, tag::CUSTOM_HISTOGRAMS, tag::CUSTOM_FLOAT_HISTOGRAMS].repeat(50);
    assert_eq!(tags, expected);
    for (i, record) in records.chunks(3).map(|records| &records[1]).enumerate() {
        let found: Vec<_> =
            HistogramBatch::new(record).expect("histograms").iter().map(|h| h.expect("sound").t).collect();
        assert_eq!(found, [i as i64]);
    }
}
