//! head-chunks beside `tsdb/chunkenc` and `tsdb/chunks` (`interop/chunks.go` has the exchange's layout).
//!
//! A *run* is a sequence of appends to one series. Both sides make chunks of it: outcomes and bytes must be equal. Then
//! each side reads them: times, start timestamps and values must be what went in, bit by bit.

use anyhow::{Context, Result, ensure};
use head_chunks::Encoding;
use head_chunks::histogram::{AppendError, Appended, Appender, Coded, HistogramIter};
use head_chunks::xor::{XorAppender, XorIter};
use head_chunks::xor2::{Xor2Appender, Xor2Iter};
use rand::Rng;
use rand::rngs::StdRng;
use tsdb_model::histogram::{FloatHistogram, Histogram, NativeHistogram};

use super::wire::{WireReader, WireWriter, split};
use super::{Coverage, Reference, Row, Session};

mod files;
mod samples;

use samples::{Floats, Histograms};

pub(in crate::interop) const ROWS: &[Row] = &[
    Row { name: "xor", about: "random runs: the same bytes, read alike", run: |s| compare(s, Encoding::Xor) },
    Row { name: "xor2", about: "random runs: the same bytes, read alike", run: |s| compare(s, Encoding::Xor2) },
    Row {
        name: "histogram",
        about: "random runs: the same outcomes, chunks and bytes, read alike",
        run: |s| compare(s, Encoding::Histogram),
    },
    Row {
        name: "float-histogram",
        about: "random runs: the same outcomes, chunks and bytes, read alike",
        run: |s| compare(s, Encoding::FloatHistogram),
    },
    Row {
        name: "histogram-st",
        about: "random runs: the same outcomes, chunks and bytes, read alike",
        run: |s| compare(s, Encoding::HistogramSt),
    },
    Row {
        name: "float-histogram-st",
        about: "random runs: the same outcomes, chunks and bytes, read alike",
        run: |s| compare(s, Encoding::FloatHistogramSt),
    },
    Row {
        name: "damaged-floats",
        about: "XOR and XOR2 with flipped bits and cut: what both read is the same, what one refuses the other does",
        run: damaged,
    },
    Row { name: "files", about: "the same chunks make the same files, and each reads the other's", run: files::run },
    Row {
        name: "healed",
        about: "damaged directories, healed by us: the reference opens them and finds every sound chunk",
        run: files::healed,
    },
];

/// Runs in one question.
const BATCH: usize = 250;
/// Questions of a full run: 100,000 runs.
const BATCHES: usize = 400;

/// What happens before a sample is appended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Action {
    Append = 0,
    Reopen = 1,
    Next = 2,
    AppendOnly = 3,
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    InPlace = 0,
    Recoded = 1,
    NewChunk = 2,
    Refused = 3,
}

#[derive(Debug, Clone)]
enum Value {
    Float(f64),
    Histogram(Histogram),
    FloatHistogram(FloatHistogram),
}

#[derive(Debug, Clone)]
struct Step {
    action: Action,
    t: i64,
    st: i64,
    value: Value,
}

fn compare(session: &mut Session, encoding: Encoding) -> Result<()> {
    let mut reference = session.reference()?;
    let mut coverage = session.coverage();
    let required = if encoding.is_float() { Floats::REQUIRED } else { Histograms::REQUIRED };
    for case in required {
        coverage.require(case, 50);
    }
    if encoding.has_start_timestamps() {
        for case in samples::ST_REQUIRED {
            coverage.require(case, 50);
        }
    }
    for round in session.rounds(BATCHES) {
        let mut rng = session.round_rng(round);
        batch(&mut reference, &mut rng, encoding, &mut coverage).with_context(|| format!("--round {round}"))?;
    }
    coverage.finish()
}

fn batch(reference: &mut Reference, rng: &mut StdRng, encoding: Encoding, coverage: &mut Coverage) -> Result<()> {
    let runs: Vec<Vec<Step>> = (0..BATCH).map(|_| steps(rng, encoding, coverage)).collect();
    let mut question = WireWriter::default();
    for run in &runs {
        put_run(&mut question, encoding, run);
    }
    let answer = reference.call("chunks.append", serde_json::json!({}), &question.0)?;
    let answers = split(&answer.payload)?;
    ensure!(answers.len() == runs.len(), "{} answers to {} runs", answers.len(), runs.len());
    let mut chunks = Vec::new();
    for (n, (run, theirs)) in runs.iter().zip(answers).enumerate() {
        let about = || format!("run {n} of the round: {run:#?}");
        let (outcomes, ours) = append_all(encoding, run).with_context(about)?;
        let theirs = read_answer(theirs, run.len())?;
        if let Some(at) = (0..run.len()).find(|at| outcomes[*at] as u8 != theirs.0[*at]) {
            let found = theirs.0[at];
            return Err(anyhow::anyhow!("step {at}: {:?} here, {found} there", outcomes[at])).with_context(about);
        }
        for outcome in &outcomes {
            coverage.hit(&format!("outcome {outcome:?}"));
        }
        ensure!(ours.len() == theirs.1.len(), "{} chunks here, {} there: {}", ours.len(), theirs.1.len(), about());
        for (at, (ours, theirs)) in ours.iter().zip(&theirs.1).enumerate() {
            ensure!(theirs.0 == encoding.byte(), "chunk {at} has encoding {}", theirs.0);
            ensure!(
                *ours == theirs.1,
                "chunk {at} differs:\nours   {ours:02x?}\ntheirs {:02x?}\n{}",
                theirs.1,
                about()
            );
        }
        check_values(encoding, run, &outcomes, &ours).with_context(about)?;
        chunks.extend(ours);
    }
    // The reference's reading of them.
    let mut question = WireWriter::default();
    for chunk in &chunks {
        question.u8(encoding.byte());
        question.item(chunk);
    }
    let answer = reference.call("chunks.decode", serde_json::json!({}), &question.0)?;
    for (chunk, theirs) in chunks.iter().zip(split(&answer.payload)?) {
        ensure!(read_all(encoding, chunk) == theirs, "read differently: {chunk:02x?}");
    }
    coverage.add("chunks", chunks.len() as u64);
    Ok(())
}

fn steps(rng: &mut StdRng, encoding: Encoding, coverage: &mut Coverage) -> Vec<Step> {
    let st = encoding.has_start_timestamps();
    match encoding {
        Encoding::Xor | Encoding::Xor2 => Floats::new(rng, st).steps(rng, coverage),
        Encoding::Histogram | Encoding::HistogramSt => Histograms::new(rng, st).steps(rng, coverage, false),
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => Histograms::new(rng, st).steps(rng, coverage, true),
    }
}

fn put_run(out: &mut WireWriter, encoding: Encoding, run: &[Step]) {
    out.u8(encoding.byte());
    out.u32(run.len() as u32);
    for step in run {
        out.u8(step.action as u8);
        out.i64(step.t);
        out.i64(step.st);
        put_value(out, &step.value);
    }
}

fn put_value(out: &mut WireWriter, value: &Value) {
    match value {
        Value::Float(v) => out.f64(*v),
        Value::Histogram(h) => out.histogram(h),
        Value::FloatHistogram(h) => out.float_histogram(h),
    }
}

/// Random runs as the reference is asked for them, for goldens.
pub(crate) fn encoded_runs(rng: &mut StdRng, encoding: Encoding, runs: usize) -> Vec<Vec<u8>> {
    (0..runs)
        .map(|_| {
            let mut out = WireWriter::default();
            put_run(&mut out, encoding, &steps(rng, encoding, &mut Coverage::new(false)));
            out.0
        })
        .collect()
}

pub(crate) use files::stored_chunks;

/// Outcomes, and chunks by encoding and bytes.
type Answered<'a> = (Vec<u8>, Vec<(u8, &'a [u8])>);

fn read_answer(item: &[u8], steps: usize) -> Result<Answered<'_>> {
    let mut reader = WireReader(item);
    let outcomes = reader.take(steps)?.to_vec();
    let chunks = (0..reader.u32()?).map(|_| Ok((reader.u8()?, reader.item()?))).collect::<Result<_>>()?;
    Ok((outcomes, chunks))
}

/// Our side of a run.
fn append_all(encoding: Encoding, run: &[Step]) -> Result<(Vec<Outcome>, Vec<Vec<u8>>)> {
    match encoding {
        Encoding::Xor => append_floats(
            run,
            XorAppender::default,
            XorAppender::resume,
            |appender, &(_, t, v)| appender.append(t, v),
            |appender, all| appender.append_all(all.iter().map(|&(_, t, v)| (t, v))),
            XorAppender::to_bytes,
        ),
        Encoding::Xor2 => append_floats(
            run,
            Xor2Appender::default,
            Xor2Appender::resume,
            |appender, &(st, t, v)| appender.append(st, t, v),
            |appender, all| appender.append_all(all.iter().copied()),
            Xor2Appender::to_bytes,
        ),
        Encoding::Histogram | Encoding::HistogramSt => append_histograms::<i64>(encoding, run, |value| match value {
            Value::Histogram(h) => Some(h),
            _ => None,
        }),
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
            append_histograms::<f64>(encoding, run, |value| match value {
                Value::FloatHistogram(h) => Some(h),
                _ => None,
            })
        }
    }
}

/// Start timestamp, time and value.
type Sample = (i64, i64, f64);

/// Sample by sample, and all of them together that come before the chunk ends or is reopened: the bytes have to be the same.
fn append_floats<A: Clone>(
    run: &[Step],
    new: fn() -> A,
    resume: fn(&[u8]) -> Result<A, head_chunks::DecodeError>,
    append: fn(&mut A, &Sample) -> Result<(), head_chunks::ChunkFull>,
    append_together: fn(&mut A, &[Sample]) -> Result<(), head_chunks::ChunkFull>,
    bytes: fn(&A) -> Vec<u8>,
) -> Result<(Vec<Outcome>, Vec<Vec<u8>>)> {
    let mut chunks = Vec::new();
    let (mut appender, mut together, mut pending) = (new(), new(), Vec::new());
    let finish = |appender: &A, together: &mut A, pending: &mut Vec<Sample>| -> Result<Vec<u8>> {
        append_together(together, pending)?;
        pending.clear();
        let bytes_of_both = (bytes(appender), bytes(together));
        ensure!(bytes_of_both.0 == bytes_of_both.1, "appended together, not what appended one by one is");
        Ok(bytes_of_both.0)
    };
    for step in run {
        match step.action {
            Action::Reopen => {
                appender = resume(&finish(&appender, &mut together, &mut pending)?)?;
                together = appender.clone();
            }
            Action::Next => {
                chunks.push(finish(&appender, &mut together, &mut pending)?);
                (appender, together) = (new(), new());
            }
            Action::Append | Action::AppendOnly => {}
        }
        let Value::Float(v) = step.value else { unreachable!("floats only") };
        append(&mut appender, &(step.st, step.t, v))?;
        pending.push((step.st, step.t, v));
    }
    chunks.push(finish(&appender, &mut together, &mut pending)?);
    Ok((vec![Outcome::InPlace; run.len()], chunks))
}

fn append_histograms<B: Coded>(
    encoding: Encoding,
    run: &[Step],
    histogram: fn(&Value) -> Option<&NativeHistogram<B>>,
) -> Result<(Vec<Outcome>, Vec<Vec<u8>>)> {
    let st = encoding.has_start_timestamps();
    let (mut outcomes, mut chunks) = (Vec::new(), Vec::new());
    let (mut previous, mut appender) = (None, Appender::<B>::new(st));
    for step in run {
        match step.action {
            // An empty chunk has no last sample to go on from.
            Action::Reopen => appender = Appender::resume(st, &appender.to_bytes())?,
            Action::Next => {
                chunks.push(appender.to_bytes());
                previous = Some(std::mem::replace(&mut appender, Appender::new(st)));
            }
            Action::Append | Action::AppendOnly => {}
        }
        let histogram = histogram(&step.value).context("another kind of value")?;
        if step.action == Action::AppendOnly {
            outcomes.push(match appender.try_append(previous.as_ref(), step.st, step.t, histogram) {
                Ok(()) => Outcome::InPlace,
                Err(AppendError::Cut(_) | AppendError::Layout { .. }) => Outcome::Refused,
                Err(error) => return Err(error.into()),
            });
            continue;
        }
        outcomes.push(match appender.append(previous.as_ref(), step.st, step.t, histogram)? {
            Appended::InPlace => Outcome::InPlace,
            Appended::Recoded => Outcome::Recoded,
            Appended::NewChunk { finished, .. } => {
                chunks.push(finished.data);
                Outcome::NewChunk
            }
        });
        ensure!(appender.byte_len() == appender.to_bytes().len(), "another length than that of the bytes");
    }
    chunks.push(appender.to_bytes());
    Ok((outcomes, chunks))
}

/// Whether what is read is what was appended.
fn check_values(encoding: Encoding, run: &[Step], outcomes: &[Outcome], chunks: &[Vec<u8>]) -> Result<()> {
    let mut expected = run.iter().zip(outcomes).filter(|(_, outcome)| **outcome != Outcome::Refused);
    let mut next = |t: i64, st: Option<i64>| {
        let (step, _) = expected.next().context("more samples than were appended")?;
        ensure!(step.t == t && st.is_none_or(|st| st == step.st), "read t {t}, st {st:?} instead of {step:?}");
        Ok(&step.value)
    };
    let st_kept = |st: i64| encoding.has_start_timestamps().then_some(st);
    for chunk in chunks {
        match encoding {
            Encoding::Xor => {
                for sample in XorIter::new(chunk)? {
                    let (t, v) = sample?;
                    let Value::Float(wrote) = next(t, None)? else { unreachable!() };
                    ensure!(v.to_bits() == wrote.to_bits(), "{v} instead of {wrote}");
                }
            }
            Encoding::Xor2 => {
                for sample in Xor2Iter::new(chunk)? {
                    let (t, v, st) = sample?;
                    let Value::Float(wrote) = next(t, Some(st))? else { unreachable!() };
                    ensure!(v.to_bits() == wrote.to_bits(), "{v} instead of {wrote}");
                }
            }
            Encoding::Histogram | Encoding::HistogramSt => {
                for sample in HistogramIter::<i64>::new(encoding.has_start_timestamps(), chunk)? {
                    let (t, read, st) = sample?;
                    let Value::Histogram(wrote) = next(t, st_kept(st))? else { unreachable!() };
                    samples::same(&read, wrote, |sum, bucket| sum.wrapping_add(bucket))?;
                }
            }
            Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
                for sample in HistogramIter::<f64>::new(encoding.has_start_timestamps(), chunk)? {
                    let (t, read, st) = sample?;
                    let Value::FloatHistogram(wrote) = next(t, st_kept(st))? else { unreachable!() };
                    samples::same(&read, wrote, |_, bucket| bucket)?;
                }
            }
        }
    }
    ensure!(expected.next().is_none(), "samples are missing");
    Ok(())
}

/// All samples of a chunk as the reference's `chunks.decode` answers them.
fn read_all(encoding: Encoding, chunk: &[u8]) -> Vec<u8> {
    let mut out = WireWriter::default();
    let mut count = 0_u32;
    let mut put = |t: i64, st: i64, value: Value| {
        count += 1;
        out.i64(t);
        out.i64(st);
        put_value(&mut out, &value);
    };
    let st = encoding.has_start_timestamps();
    let sound = match encoding {
        Encoding::Xor => {
            XorIter::new(chunk).and_then(|mut iter| iter.try_for_each(|s| s.map(|(t, v)| put(t, 0, Value::Float(v)))))
        }
        Encoding::Xor2 => Xor2Iter::new(chunk)
            .and_then(|mut iter| iter.try_for_each(|s| s.map(|(t, v, st)| put(t, st, Value::Float(v))))),
        Encoding::Histogram | Encoding::HistogramSt => HistogramIter::<i64>::new(st, chunk)
            .and_then(|mut iter| iter.try_for_each(|s| s.map(|(t, h, st)| put(t, st, Value::Histogram(h))))),
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => HistogramIter::<f64>::new(st, chunk)
            .and_then(|mut iter| iter.try_for_each(|s| s.map(|(t, h, st)| put(t, st, Value::FloatHistogram(h))))),
    };
    let mut answer = WireWriter::default();
    answer.u8(u8::from(sound.is_err()));
    answer.u32(count);
    answer.0.extend(out.0);
    answer.0
}

/// Damage in float chunks: the reference survives any bytes there (of histograms it does not).
fn damaged(session: &mut Session) -> Result<()> {
    let mut reference = session.reference()?;
    let mut coverage = session.coverage();
    for case in ["bit flipped", "cut", "both read it", "both refuse it"] {
        coverage.require(case, 50);
    }
    for round in session.rounds(40) {
        let mut rng = session.round_rng(round);
        let mut chunks = Vec::new();
        for _ in 0..1_000 {
            let encoding = if rng.random() { Encoding::Xor } else { Encoding::Xor2 };
            let run = steps(&mut rng, encoding, &mut Coverage::new(false));
            let mut chunk = append_all(encoding, &run)?.1.swap_remove(0);
            for _ in 0..rng.random_range(1..4) {
                if rng.random_bool(0.8) {
                    coverage.hit("bit flipped");
                    let at = rng.random_range(0..chunk.len() * 8);
                    chunk[at / 8] ^= 0x80 >> (at % 8);
                } else {
                    coverage.hit("cut");
                    chunk.truncate(rng.random_range(3..=chunk.len()));
                }
                if chunk.len() < 4 {
                    break;
                }
            }
            chunks.push((encoding, chunk));
        }
        let mut question = WireWriter::default();
        for (encoding, chunk) in &chunks {
            question.u8(encoding.byte());
            question.item(chunk);
        }
        let answer = reference.call("chunks.decode", serde_json::json!({}), &question.0)?;
        for ((encoding, chunk), theirs) in chunks.iter().zip(split(&answer.payload)?) {
            let ours = read_all(*encoding, chunk);
            if ours == theirs {
                coverage.hit(if ours[0] == 0 { "both read it" } else { "both refuse it" });
                continue;
            }
            // What we read before our error must be what they read.
            let stricter = ours[0] == 1 && theirs.len() >= ours.len() && theirs[5..].starts_with(&ours[5..]);
            ensure!(stricter, "--round {round}: {encoding} read differently: {chunk:02x?}");
            coverage.allowed(
                "impossible-field",
                "a window of more than 64 bits or a varint of more than 64 is an error here, and read as something there",
            );
        }
    }
    coverage.finish()
}
