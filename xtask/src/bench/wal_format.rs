//! wal-format beside `tsdb/record`: the same records, decoded into reused memory and encoded into a reused buffer by both.

use std::hint::black_box;

use anyhow::{Result, ensure};
use benches::records::{self, BATCH, Data};
use serde_json::json;
use tsdb_model::{FloatHistogram, Histogram};
use wal_format::{
    Batch, ExemplarBatch, FloatHistogramBatch, HistogramBatch, MetadataBatch, SampleBatch, SeriesBatch, Version,
};

use super::versus::{Arena, Contest, Cost};
use crate::interop::wire::join;

pub(super) const CONTESTS: &[Contest] = &[
    Contest { name: "decode float samples", unit: "sample", target: 3.0, run: decode_samples },
    Contest { name: "encode float samples", unit: "sample", target: 3.0, run: encode_samples },
    Contest { name: "decode histograms", unit: "histogram", target: 2.0, run: decode_histograms },
    Contest { name: "encode histograms", unit: "histogram", target: 2.0, run: encode_histograms },
    Contest { name: "decode float histograms", unit: "histogram", target: 2.0, run: decode_float_histograms },
    Contest { name: "encode float histograms", unit: "histogram", target: 2.0, run: encode_float_histograms },
    Contest { name: "decode other records", unit: "entry", target: 2.0, run: decode_others },
    Contest { name: "encode other records", unit: "entry", target: 2.0, run: encode_others },
];

/// Scrapes in the data: large enough that nothing is remembered by a branch predictor, small enough for the cache.
const SCRAPES: usize = 50;
const VERSIONS: [Version; 2] = [Version::V1, Version::V2];

fn name(version: Version) -> &'static str {
    match version {
        Version::V1 => "V1",
        Version::V2 => "V2",
    }
}

/// Runs one contest: theirs on the records, ours by `once` (which answers how many entries it went through).
fn contest(
    arena: &mut Arena,
    variant: &str,
    records: &[Vec<u8>],
    encode: Option<Version>,
    repeat: u64,
    mut once: impl FnMut() -> Result<u64>,
) -> Result<()> {
    let payload = join(records);
    let entries = once()? * repeat;
    let args = json!({ "encode": encode.is_some(), "v2": encode == Some(Version::V2), "repeat": repeat });
    arena.run(
        variant,
        |reference| {
            let answer = reference.call("records.bench", args.clone(), &payload)?;
            ensure!(answer.u64("entries")? == entries, "not the same entries");
            if encode.is_some() {
                let bytes: usize = records.iter().map(Vec::len).sum();
                ensure!(answer.u64("bytes")? == bytes as u64 * repeat, "not the same bytes");
            }
            Cost::of(&answer, entries)
        },
        || {
            Cost::measure(entries, || {
                let mut done = 0;
                for _ in 0..repeat {
                    done += once()?;
                }
                ensure!(done == entries, "not the same entries");
                Ok(())
            })
        },
    )
}

/// Into a reused vector: what the reference's decoder does. (Replay, which hands samples on one by one, saves even that.)
fn decode_samples(arena: &mut Arena) -> Result<()> {
    let data = Data::new(1, SCRAPES);
    for version in VERSIONS {
        let records = data.sample_records(version);
        let mut samples = Vec::with_capacity(BATCH);
        contest(arena, name(version), &records, None, 100, || {
            let mut entries = 0;
            for record in &records {
                samples.clear();
                SampleBatch::new(black_box(record))?.for_each(|sample| samples.push(sample))?;
                entries += black_box(&samples).len() as u64;
            }
            Ok(entries)
        })?;
    }
    Ok(())
}

fn encode_samples(arena: &mut Arena) -> Result<()> {
    let data = Data::new(1, SCRAPES);
    for version in VERSIONS {
        let records = data.sample_records(version);
        let mut batch = Batch::new(version);
        contest(arena, name(version), &records, Some(version), 100, || {
            for samples in &data.samples {
                batch.clear();
                batch.samples(black_box(samples).iter().copied());
                black_box(batch.byte_len());
            }
            Ok((SCRAPES * BATCH) as u64)
        })?;
    }
    Ok(())
}

fn decode_histograms(arena: &mut Arena) -> Result<()> {
    let data = Data::new(2, SCRAPES);
    let mut scratch = Histogram::default();
    for version in VERSIONS {
        let records = data.histogram_records(version);
        contest(arena, name(version), &records, None, 10, || {
            let mut entries = 0;
            for record in &records {
                let each = |series, t, st, h: &Histogram| {
                    black_box((series, t, st, h));
                };
                entries += HistogramBatch::new(black_box(record))?.for_each(&mut scratch, each)?.entries as u64;
            }
            Ok(entries)
        })?;
        // Kept, as a queue of histograms would keep them: each in memory of its own, like the reference's.
        contest(arena, &format!("{}, owned", name(version)), &records, None, 10, || {
            let mut entries = 0;
            for record in &records {
                for entry in HistogramBatch::new(black_box(record))? {
                    black_box(entry?.histogram.to_histogram());
                    entries += 1;
                }
            }
            Ok(entries)
        })?;
    }
    Ok(())
}

fn encode_histograms(arena: &mut Arena) -> Result<()> {
    let data = Data::new(2, SCRAPES);
    for version in VERSIONS {
        let records = data.histogram_records(version);
        let mut batch = Batch::new(version);
        contest(arena, name(version), &records, Some(version), 10, || {
            for histograms in &data.histograms {
                batch.clear();
                records::put_histograms(&mut batch, black_box(histograms));
                black_box(batch.byte_len());
            }
            Ok((SCRAPES * BATCH) as u64)
        })?;
    }
    Ok(())
}

fn decode_float_histograms(arena: &mut Arena) -> Result<()> {
    let data = Data::new(2, SCRAPES);
    let mut scratch = FloatHistogram::default();
    for version in VERSIONS {
        let records = data.float_histogram_records(version);
        contest(arena, name(version), &records, None, 10, || {
            let mut entries = 0;
            for record in &records {
                let each = |series, t, st, h: &FloatHistogram| {
                    black_box((series, t, st, h));
                };
                entries += FloatHistogramBatch::new(black_box(record))?.for_each(&mut scratch, each)?.entries as u64;
            }
            Ok(entries)
        })?;
    }
    Ok(())
}

fn encode_float_histograms(arena: &mut Arena) -> Result<()> {
    let data = Data::new(2, SCRAPES);
    for version in VERSIONS {
        let records = data.float_histogram_records(version);
        let mut batch = Batch::new(version);
        contest(arena, name(version), &records, Some(version), 10, || {
            for histograms in &data.float_histograms {
                batch.clear();
                records::put_float_histograms(&mut batch, black_box(histograms));
                black_box(batch.byte_len());
            }
            Ok((SCRAPES * BATCH) as u64)
        })?;
    }
    Ok(())
}

type Put = fn(&Data, &mut Batch);
const OTHERS: [(&str, Put); 3] =
    [("series", Data::put_series), ("exemplars", Data::put_exemplars), ("metadata", Data::put_metadata)];

/// Into labels and texts that are kept, as the reference's decoder gives them.
fn decode_others(arena: &mut Arena) -> Result<()> {
    let data = Data::new(3, 1);
    for (kind, put) in OTHERS {
        let mut batch = Batch::default();
        put(&data, &mut batch);
        let records: Vec<_> = batch.records().map(<[u8]>::to_vec).collect();
        contest(arena, kind, &records, None, 500, || Ok(decode_owned(kind, black_box(&records[0]))? as u64))?;
    }
    Ok(())
}

fn decode_owned(kind: &str, record: &[u8]) -> Result<usize> {
    let mut entries = 0;
    match kind {
        "series" => {
            for entry in SeriesBatch::new(record)? {
                black_box(entry?.labels.to_labels());
                entries += 1;
            }
        }
        "exemplars" => {
            for entry in ExemplarBatch::new(record)? {
                black_box(entry?.labels.to_labels());
                entries += 1;
            }
        }
        _ => {
            for entry in MetadataBatch::new(record)? {
                let entry = entry?;
                black_box((entry.unit.to_vec(), entry.help.to_vec()));
                entries += 1;
            }
        }
    }
    Ok(entries)
}

fn encode_others(arena: &mut Arena) -> Result<()> {
    let data = Data::new(3, 1);
    for (kind, put) in OTHERS {
        let mut batch = Batch::default();
        put(&data, &mut batch);
        let records: Vec<_> = batch.records().map(<[u8]>::to_vec).collect();
        contest(arena, kind, &records, Some(Version::V1), 500, || {
            batch.clear();
            put(black_box(&data), &mut batch);
            black_box(batch.byte_len());
            Ok(BATCH as u64)
        })?;
    }
    Ok(())
}
