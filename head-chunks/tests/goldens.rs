//! What Prometheus 3.14 wrote: decoded, compared with what was appended, and written again to the same bytes.

#![allow(clippy::disallowed_methods, reason = "goldens are read from the real disk")]

mod naive;

use std::path::PathBuf;
use std::sync::Arc;

use head_chunks::Encoding;
use head_chunks::files::{ChunkFiles, ChunkRef, FilesError, NewChunk, Options};
use head_chunks::histogram::{Appended, Appender, Coded};
use head_chunks::xor::XorAppender;
use head_chunks::xor2::Xor2Appender;
use tsdb_model::SeriesRef;
use tsdb_model::histogram::{BucketValue, CounterResetHint, NativeHistogram, Span};
use tsdb_vfs::RealFs;

fn golden(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/chunks").join(path)
}

/// Values off the front of a golden: little-endian, lists with a u32 count.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(n);
        self.0 = rest;
        head
    }

    fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four"))
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().expect("eight"))
    }

    fn i64(&mut self) -> i64 {
        self.u64() as i64
    }

    fn f64(&mut self) -> f64 {
        f64::from_bits(self.u64())
    }

    fn item(&mut self) -> &'a [u8] {
        let n = self.u32() as usize;
        self.take(n)
    }

    fn list<T>(&mut self, one: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.u32()).map(|_| one(self)).collect()
    }

    fn histogram<B: BucketValue>(
        &mut self,
        count: fn(&mut Self) -> B::Count,
        bucket: fn(&mut Self) -> B,
    ) -> NativeHistogram<B> {
        let span = |r: &mut Self| Span { offset: r.u32() as i32, length: r.u32() };
        NativeHistogram {
            counter_reset_hint: CounterResetHint::from_byte(self.u8()),
            schema: self.u32() as i32,
            zero_threshold: self.f64(),
            zero_count: count(self),
            count: count(self),
            sum: self.f64(),
            positive_spans: self.list(span),
            negative_spans: self.list(span),
            positive_buckets: self.list(bucket),
            negative_buckets: self.list(bucket),
            custom_values: self.list(Self::f64),
        }
    }
}

/// Appends a golden's run and returns outcomes and chunks, as the golden has them.
fn append_floats<A: Default>(
    run: &mut Reader<'_>,
    steps: u32,
    resume: fn(&[u8]) -> A,
    append: fn(&mut A, i64, i64, f64),
    bytes: fn(&A) -> Vec<u8>,
) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (mut appender, mut chunks) = (A::default(), Vec::new());
    for _ in 0..steps {
        match run.u8() {
            1 => appender = resume(&bytes(&appender)),
            2 => chunks.push(bytes(&std::mem::take(&mut appender))),
            _ => {}
        }
        let (t, st, v) = (run.i64(), run.i64(), run.f64());
        append(&mut appender, st, t, v);
    }
    chunks.push(bytes(&appender));
    (vec![0; steps as usize], chunks)
}

fn append_histograms<B: Coded>(
    run: &mut Reader<'_>,
    steps: u32,
    start_timestamps: bool,
    histogram: fn(&mut Reader<'_>) -> NativeHistogram<B>,
) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (mut outcomes, mut chunks) = (Vec::new(), Vec::new());
    let (mut previous, mut appender) = (None, Appender::<B>::new(start_timestamps));
    for _ in 0..steps {
        let action = run.u8();
        match action {
            1 => appender = Appender::resume(start_timestamps, &appender.to_bytes()).expect("sound"),
            2 => {
                chunks.push(appender.to_bytes());
                previous = Some(std::mem::replace(&mut appender, Appender::new(start_timestamps)));
            }
            _ => {}
        }
        let (t, st) = (run.i64(), run.i64());
        let histogram = histogram(run);
        if action == 3 {
            outcomes.push(if appender.try_append(previous.as_ref(), st, t, &histogram).is_ok() { 0 } else { 3 });
            continue;
        }
        outcomes.push(match appender.append(previous.as_ref(), st, t, &histogram).expect("it is well-formed") {
            Appended::InPlace => 0,
            Appended::Recoded => 1,
            Appended::NewChunk { finished, .. } => {
                chunks.push(finished.data);
                2
            }
        });
    }
    chunks.push(appender.to_bytes());
    (outcomes, chunks)
}

#[test]
fn every_run_gives_the_same_outcomes_and_bytes() {
    let mut seen = [0; 4];
    for encoding in Encoding::ALL {
        let name = format!("encodings/{}.bin", encoding.name().to_lowercase());
        let bytes = std::fs::read(golden(&name)).expect(&name);
        let mut golden = Reader(&bytes);
        let mut runs = 0;
        while !golden.0.is_empty() {
            let (mut run, mut given) = (Reader(golden.item()), Reader(golden.item()));
            assert_eq!(run.u8(), encoding.byte());
            let steps = run.u32();
            let st = encoding.has_start_timestamps();
            let (outcomes, chunks) = match encoding {
                Encoding::Xor => append_floats(
                    &mut run,
                    steps,
                    |bytes| XorAppender::resume(bytes).expect("sound"),
                    |appender, _, t, v| appender.append(t, v).expect("there is room"),
                    XorAppender::to_bytes,
                ),
                Encoding::Xor2 => append_floats(
                    &mut run,
                    steps,
                    |bytes| Xor2Appender::resume(bytes).expect("sound"),
                    |appender, st, t, v| appender.append(st, t, v).expect("there is room"),
                    Xor2Appender::to_bytes,
                ),
                Encoding::Histogram | Encoding::HistogramSt => {
                    append_histograms(&mut run, steps, st, |r| r.histogram::<i64>(Reader::u64, Reader::i64))
                }
                Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
                    append_histograms(&mut run, steps, st, |r| r.histogram::<f64>(Reader::f64, Reader::f64))
                }
            };
            assert_eq!(outcomes, given.take(steps as usize), "run {runs} of {name}");
            outcomes.iter().for_each(|outcome| seen[usize::from(*outcome)] += 1);
            assert_eq!(given.u32() as usize, chunks.len());
            for (n, chunk) in chunks.iter().enumerate() {
                assert_eq!(given.u8(), encoding.byte());
                assert_eq!(chunk, given.item(), "chunk {n} of run {runs} of {name}");
                let (real, naive) = (naive::real(encoding.byte(), chunk), naive::decode(encoding.byte(), chunk));
                assert!(real.sound);
                assert_eq!(real, naive, "chunk {n} of run {runs} of {name}");
            }
            runs += 1;
        }
        assert_eq!(runs, 40, "{name}");
    }
    println!("in place, recoded, new chunk, refused: {seen:?}");
    assert!(seen.iter().all(|seen| *seen > 20), "a case hardly occurred: {seen:?}");
}

#[test]
fn every_bit_flip_and_truncation_is_read_as_the_naive_decoder_does() {
    let (mut sound, mut refused) = (0, 0);
    for encoding in Encoding::ALL {
        let bytes = std::fs::read(golden(&format!("encodings/{}.bin", encoding.name().to_lowercase()))).expect("there");
        let mut golden = Reader(&bytes);
        for _ in 0..12 {
            let (mut run, mut given) = (Reader(golden.item()), Reader(golden.item()));
            run.u8();
            let steps = run.u32() as usize;
            given.take(steps + 4 + 1);
            let chunk = given.item();
            if chunk.len() > 400 {
                continue;
            }
            let mut check = |damaged: &[u8], what: &dyn Fn() -> String| {
                let (real, naive) = (naive::real(encoding.byte(), damaged), naive::decode(encoding.byte(), damaged));
                assert!(real == naive, "{encoding}, {}: {real:?} instead of {naive:?}", what());
                *(if real.sound { &mut sound } else { &mut refused }) += 1;
            };
            for len in 0..chunk.len() {
                check(&chunk[..len], &|| format!("cut at {len}"));
            }
            for bit in 0..chunk.len() * 8 {
                let mut damaged = chunk.to_vec();
                damaged[bit / 8] ^= 0x80 >> (bit % 8);
                check(&damaged, &|| format!("bit {bit}"));
            }
        }
    }
    println!("read to the end {sound}, refused {refused}");
    assert!(sound > 1_000 && refused > 1_000, "{sound}, {refused}");
}

/// A chunk in a file: ref, series, mint, maxt, encoding, out of order, bytes.
type Stored = (ChunkRef, SeriesRef, i64, i64, Encoding, bool, Vec<u8>);

fn stored() -> Vec<Stored> {
    let bytes = std::fs::read(golden("files/chunks.bin")).expect("there");
    let mut golden = Reader(&bytes);
    let mut all = Vec::new();
    while !golden.0.is_empty() {
        let chunk_ref = ChunkRef::from_u64(golden.u64());
        let (series, mint, maxt) = (SeriesRef(golden.u64()), golden.i64(), golden.i64());
        let encoding = Encoding::from_byte(golden.u8()).expect("known");
        all.push((chunk_ref, series, mint, maxt, encoding, golden.u8() != 0, golden.item().to_vec()));
    }
    all
}

#[test]
fn the_files_hold_what_was_written() {
    let (files, report) =
        ChunkFiles::open_read_only(Arc::new(RealFs::new()), &golden("files/chunks_head")).expect("opens");
    assert!(report.is_sound());
    let mut read = Vec::new();
    let report = files
        .for_each::<FilesError>(|meta, data| {
            assert_eq!(files.read(meta.chunk_ref).expect("there").data, data);
            let ooo = meta.out_of_order;
            read.push((meta.chunk_ref, meta.series, meta.mint, meta.maxt, meta.encoding, ooo, data.to_vec()));
            Ok(())
        })
        .expect("readable");
    assert_eq!(report.damages, []);
    assert_eq!(read, stored());
    assert_eq!(report.chunks, 120);
}

#[test]
fn writing_the_same_chunks_makes_the_same_files() {
    let tmp = tempfile::tempdir().expect("a directory");
    let (files, _) = ChunkFiles::open(Arc::new(RealFs::new()), tmp.path(), Options::default()).expect("opens");
    for (n, (chunk_ref, series, mint, maxt, encoding, out_of_order, data)) in stored().into_iter().enumerate() {
        if n == 40 || n == 80 {
            files.cut_new_file();
        }
        let chunk = NewChunk { series, mint, maxt, encoding, data: &data, out_of_order };
        assert_eq!(files.write(&chunk).expect("written"), chunk_ref);
    }
    files.close().expect("closes");
    for name in ["000001", "000002", "000003"] {
        let golden = std::fs::read(golden("files/chunks_head").join(name)).expect("there");
        assert!(std::fs::read(tmp.path().join(name)).expect("there") == golden, "{name}");
    }
}
