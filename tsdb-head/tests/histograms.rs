//! Histograms and start timestamps: in, across restarts, out.

mod common;

use common::{dump, fs, labels, open, options};
use tsdb_head::{AppendError, FloatEncoding, Head, HeadOptions, Value};
use tsdb_model::histogram::{FloatHistogram, Histogram};
use tsdb_model::staleness::{is_stale, stale_nan};
use tsdb_model::{CounterResetHint, Span};

fn histogram(n: u64) -> Histogram {
    Histogram {
        count: 3 * n + 3,
        zero_count: n,
        sum: n as f64 * 1.5,
        zero_threshold: 0.001,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![n as i64 + 1, 0],
        negative_spans: vec![Span { offset: 1, length: 1 }],
        negative_buckets: vec![1],
        ..Histogram::default()
    }
}

fn starts() -> HeadOptions {
    HeadOptions { start_timestamps: true, float_encoding: FloatEncoding::Xor2, ..options() }
}

#[test]
fn all_kinds_survive_restarts() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = open(tmp.path());
    for t in 1..300u64 {
        let mut app = head.appender();
        let time = t as i64 * 1000;
        app.append_histogram(None, &labels(1), 0, time, histogram(t)).unwrap();
        app.append_float_histogram(None, &labels(2), 0, time, histogram(t).to_float()).unwrap();
        app.append(None, &labels(3), time, t as f64).unwrap();
        // One series that changes its type every 40 samples, and is stale in between.
        match t / 40 % 3 {
            _ if t % 40 == 39 => app.append(None, &labels(4), time, stale_nan()).unwrap(),
            0 => app.append(None, &labels(4), time, t as f64).unwrap(),
            1 => app.append_histogram(None, &labels(4), 0, time, histogram(t)).unwrap(),
            _ => app.append_float_histogram(None, &labels(4), 0, time, histogram(t).to_float()).unwrap(),
        };
        assert_eq!(app.commit().unwrap().appended, 4);
    }
    let live = dump(&head);
    assert_eq!(live.iter().map(|series| series.1.len()).collect::<Vec<_>>(), [299; 4]);
    let stale = |value: &Value| match value {
        Value::Float(v) => is_stale(*v),
        Value::Histogram(h) => is_stale(h.sum),
        Value::FloatHistogram(h) => is_stale(h.sum),
    };
    let changing = live.iter().find(|series| series.0.contains("\"4\"")).unwrap();
    assert_eq!(changing.1.iter().filter(|(_, _, value)| stale(value)).count(), 7);
    let kinds = |value: &Value| std::mem::discriminant(value);
    for pair in changing.1.windows(2).filter(|pair| stale(&pair[1].2)) {
        assert_eq!(kinds(&pair[0].2), kinds(&pair[1].2), "a marker has the type of what it ends");
    }
    drop(head);
    let (head, report) = open(tmp.path());
    assert!(report.damage.is_empty());
    // NaNs are equal to nothing: the debug text compares them by what they are.
    assert_eq!(format!("{:?}", dump(&head)), format!("{live:?}"));
    head.close().unwrap();
    let (head, report) = open(tmp.path());
    assert!(report.chunk_files.chunks > 10);
    assert_eq!(format!("{:?}", dump(&head)), format!("{live:?}"));
}

#[test]
fn refusals() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = open(tmp.path());
    let mut app = head.appender();
    let a = app.append_histogram(None, &labels(1), 0, 1_000, histogram(5)).unwrap();
    app.commit().unwrap();
    let mut app = head.appender();
    assert_eq!(app.append_histogram(Some(a), &labels(1), 0, 1_000, histogram(5)), Ok(a));
    let duplicate = Err(AppendError::Duplicate { t: 1_000 });
    assert_eq!(app.append_histogram(Some(a), &labels(1), 0, 1_000, histogram(6)), duplicate);
    assert_eq!(app.append_float_histogram(Some(a), &labels(1), 0, 1_000, histogram(5).to_float()), duplicate);
    assert_eq!(app.append(Some(a), &labels(1), 1_000, 1.0), duplicate);
    assert_eq!(app.append_histogram(Some(a), &labels(1), 0, 999, histogram(5)), Err(AppendError::OutOfOrder));
    let bad = Histogram { count: 1, ..histogram(5) };
    assert!(matches!(app.append_histogram(Some(a), &labels(1), 0, 2_000, bad), Err(AppendError::InvalidHistogram(_))));
    assert_eq!(
        app.append_start_zero(None, &labels(2), 2_000, 2_000),
        Err(AppendError::StartNotBeforeSample { start: 2_000, t: 2_000 })
    );
    assert_eq!(
        app.append_histogram_start_zero(Some(a), &labels(1), 2_000, 500, &histogram(1)),
        Err(AppendError::OutOfOrderStart)
    );
    app.append_histogram_start_zero(Some(a), &labels(1), 3_000, 2_000, &histogram(1)).unwrap();
    app.commit().unwrap();
    let samples = &dump(&head)[0].1;
    assert_eq!(samples.len(), 2);
    let Value::Histogram(zero) = &samples[1].2 else { panic!("{samples:?}") };
    assert_eq!((zero.count, zero.counter_reset_hint), (0, CounterResetHint::Unknown));
}

#[test]
fn a_fresh_head_begins_at_the_first_sample_also_if_its_zero_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = open(tmp.path());
    let mut app = head.appender();
    app.append_start_zero(None, &labels(1), 7_000, 7_000).unwrap_err();
    assert_eq!((head.min_time(), head.max_time()), (7_000, 7_000));
    app.append(None, &labels(1), 6_500, 1.0).unwrap();
    app.rollback();
    assert_eq!((head.min_time(), head.max_time()), (7_000, 7_000));
}

#[test]
fn start_timestamps_are_kept_when_asked_for_and_read_back_without_asking() {
    let tmp = tempfile::tempdir().unwrap();
    let (head, _) = Head::open(fs(), tmp.path(), starts()).unwrap();
    for t in 1..200 {
        let mut app = head.appender();
        app.append_with_start(None, &labels(1), t / 50 * 1000 + 1, t * 1000, t as f64).unwrap();
        app.append_histogram(None, &labels(2), t * 1000 - 500, t * 1000, histogram(t as u64)).unwrap();
        let float: FloatHistogram = histogram(t as u64).to_float();
        app.append_float_histogram(None, &labels(3), 77, t * 1000, float).unwrap();
        app.append(None, &labels(4), t * 1000, 1.0).unwrap();
        app.commit().unwrap();
    }
    let live = dump(&head);
    assert!(live.iter().all(|series| series.1.len() == 199));
    assert_eq!(live.iter().flat_map(|series| &series.1).filter(|sample| sample.1 != 0).count(), 3 * 199);
    drop(head);
    // The log knows of them: they are read back whatever the options say.
    for options in [options(), starts(), options()] {
        let (head, _) = Head::open(fs(), tmp.path(), options).unwrap();
        assert_eq!(dump(&head), live);
        head.close().unwrap();
    }
    assert!(matches!(
        Head::open(fs(), tmp.path(), HeadOptions { start_timestamps: true, ..options() }),
        Err(tsdb_head::HeadError::Option { option: "start_timestamps", .. })
    ));
}

/// What is appended in one call is taken and refused as it is one by one.
#[test]
fn many_in_one_call_are_as_one_by_one() {
    use rand::{Rng, SeedableRng, rngs::SmallRng};
    use tsdb_model::SeriesRef;
    use wal_format::{FloatHistogramSample, HistogramSample};
    let (many_dir, one_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ((many, _), (one, _)) = (open(many_dir.path()), open(one_dir.path()));
    let series = 300;
    let mut refs = Vec::new();
    for head in [&many, &one] {
        let mut app = head.appender();
        refs = (1..=series).map(|i| app.append_histogram(None, &labels(i), 0, 1_000, histogram(0)).unwrap()).collect();
        app.commit().unwrap();
    }
    refs.push(SeriesRef(series as u64 + 9));
    let mut rng = SmallRng::seed_from_u64(8);
    let (mut taken, mut refused, mut together, mut floats) = (0, 0, 0, 0);
    for round in 2..120_u64 {
        let (mut in_one_call, mut one_by_one) = (many.appender(), one.appender());
        let clean = rng.random_bool(0.5);
        let custom = rng.random_bool(0.3);
        let all: Vec<(SeriesRef, i64, Histogram)> = refs[..refs.len() - usize::from(clean)]
            .iter()
            .filter_map(|&series| {
                let late = !clean && rng.random_bool(0.02);
                let t = if late { 1_000 } else { round as i64 * 1_000 };
                let mut h = histogram(round + rng.random_range(0..3));
                if !clean && rng.random_bool(0.02) {
                    h.count = 0;
                }
                if custom && (clean || rng.random_bool(0.5)) {
                    h = Histogram {
                        schema: -53,
                        zero_count: 0,
                        zero_threshold: 0.0,
                        count: 2 * round,
                        positive_spans: vec![Span { offset: 0, length: 2 }],
                        positive_buckets: vec![round as i64, 0],
                        custom_values: vec![0.5],
                        ..Histogram::default()
                    };
                }
                rng.random_bool(0.9).then_some((series, t, h))
            })
            .collect();
        let mut left = Vec::new();
        let float = rng.random_bool(0.3);
        let mut refuse = |i: usize, error: AppendError| left.push((i, format!("{error:?}")));
        let floats_of_all: Vec<FloatHistogram> = all.iter().map(|(.., h)| h.to_float()).collect();
        if float {
            let samples: Vec<FloatHistogramSample<'_>> = all
                .iter()
                .zip(&floats_of_all)
                .map(|(&(series, t, _), histogram)| FloatHistogramSample { series, t, st: 0, histogram })
                .collect();
            in_one_call.append_many_float_histograms(&samples, &mut refuse);
            floats += 1;
        } else {
            let samples: Vec<HistogramSample<'_>> = all
                .iter()
                .map(|(series, t, histogram)| HistogramSample { series: *series, t: *t, st: 0, histogram })
                .collect();
            in_one_call.append_many_histograms(&samples, &mut refuse);
        }
        let mut expected = Vec::new();
        let none = tsdb_model::Labels::empty();
        for (i, ((series, t, h), f)) in all.into_iter().zip(floats_of_all).enumerate() {
            let result = match float {
                true => one_by_one.append_float_histogram(Some(series), &none, 0, t, f),
                false => one_by_one.append_histogram(Some(series), &none, 0, t, h),
            };
            taken += usize::from(result.is_ok());
            if let Err(error) = result {
                expected.push((i, format!("{error:?}")));
            }
        }
        assert_eq!(left, expected, "round {round}");
        refused += left.len();
        together += usize::from(left.is_empty());
        if rng.random_bool(0.1) {
            in_one_call.rollback();
            one_by_one.rollback();
        } else {
            assert_eq!(in_one_call.commit().unwrap(), one_by_one.commit().unwrap());
        }
    }
    println!("{taken} taken, {refused} refused, {together} rounds without a refusal, {floats} of floats");
    assert!(taken > 20_000 && refused > 300 && together > 20 && floats > 20);
    let live = dump(&many);
    assert_eq!(dump(&one), live);
    drop(many);
    assert_eq!(dump(&open(many_dir.path()).0), live);
}
