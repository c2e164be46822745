//! Both formats by example, their errors by line and column, and any bytes at all.

use exposition::{Entry, Error, Expected, parse_openmetrics, parse_text};
use proptest::prelude::*;

fn text_error(page: &str) -> Error {
    parse_text(page.as_bytes()).find_map(Result::err).unwrap_or_else(|| panic!("{page:?} parses"))
}

fn openmetrics_error(page: &str) -> Error {
    parse_openmetrics(page.as_bytes()).find_map(Result::err).unwrap_or_else(|| panic!("{page:?} parses"))
}

#[test]
fn errors_say_line_column_and_what_was_expected() {
    let cases = [
        ("up 1\n up{} x\n", 2, 7, Expected::Float),
        ("up\n", 1, 3, Expected::Value),
        ("up 1 x", 1, 6, Expected::TimestampOrEnd),
        ("up 1 99999999999999999999", 1, 6, Expected::Milliseconds),
        ("up 1 2 3", 1, 8, Expected::EndOfLine),
        ("# TYPE up speed\n", 1, 10, Expected::MetricType),
        ("{a=\"b\"} 1", 1, 8, Expected::MetricName),
        ("up{\"again\"} 1", 1, 4, Expected::OneMetricName),
        ("up{a \"b\"} 1", 1, 6, Expected::Equal),
        ("up{a=b} 1", 1, 6, Expected::LabelValue),
        ("up{,} 1", 1, 4, Expected::LabelName),
        ("\n\n\0up 1", 3, 1, Expected::StartOfLine),
    ];
    for (page, line, column, expected) in cases {
        let error = text_error(page);
        assert_eq!((error.line, error.column, error.expected), (line, column, expected), "{page:?}: {error}");
    }
    let cases = [
        ("up 1\n", 2, 1, Expected::EofLine),
        ("# EOF\nup 1\n", 2, 1, Expected::NothingAfterEof),
        ("# comment\n# EOF", 1, 1, Expected::MetadataKeyword),
        ("up  1\n# EOF", 1, 3, Expected::Value),
        ("up 1 1e300\n# EOF", 1, 5, Expected::Seconds),
        ("up 1 # {a=\"b\"\n# EOF", 1, 14, Expected::CommaOrBrace),
        ("# UNIT a_seconds bytes\n# EOF", 1, 17, Expected::UnitSuffix),
        ("\n# EOF", 1, 1, Expected::StartOfLine),
    ];
    for (page, line, column, expected) in cases {
        let error = openmetrics_error(page);
        assert_eq!((error.line, error.column, error.expected), (line, column, expected), "{page:?}: {error}");
    }
}

#[test]
fn lines_are_counted_from_one() {
    let mut page = parse_text(b"\n# c\n\na 1\nb 2\n");
    let mut lines = Vec::new();
    while page.next().is_some() {
        lines.push(page.line());
    }
    assert_eq!(lines, [2, 4, 5]);
}

#[test]
fn start_timestamps_are_found_for_each_series_of_a_family() {
    let page = b"# TYPE a counter\na_total{x=\"1\"} 1\na_total{x=\"2\"} 2\na_created{x=\"1\"} 1.5\na_created{x=\"2\"} 2.5\n# EOF\n";
    let samples = parse_openmetrics(page).with_start_timestamps().filter_map(|entry| match entry.unwrap() {
        Entry::Sample(sample) => Some((sample.value, sample.start_timestamp)),
        _ => None,
    });
    assert_eq!(samples.collect::<Vec<_>>(), [(1.0, Some(1500)), (2.0, Some(2500))]);
    assert_eq!(parse_openmetrics(page).count(), 5, "without asking they are samples");
}

/// Reads everything there is to read of a page, and returns how many entries that was.
fn read<'a>(mut next: impl FnMut() -> Option<Result<Entry<'a>, Error>>, page: &[u8]) -> usize {
    let mut entries = 0;
    while let Some(entry) = next() {
        match entry {
            Ok(Entry::Sample(sample)) => {
                assert!(!sample.series().is_empty());
                assert!(sample.pairs().any(|(name, _)| &*name == b"__name__"), "{}", page.escape_ascii());
                drop(sample.to_labels());
                drop(sample.exemplar.map(|exemplar| exemplar.to_labels()));
            }
            Ok(_) => {}
            Err(error) => {
                assert!(error.line <= page.iter().filter(|byte| **byte == b'\n').count() + 1);
                assert!(!error.to_string().is_empty());
            }
        }
        entries += 1;
    }
    entries
}

/// Pieces that pages are made of, so that random pages get far.
fn page() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        5 => prop::sample::select(vec![
            "# TYPE ", "# HELP ", "# UNIT ", "# EOF", "\n", " ", "{", "}", "=", ",", "\"", "\\", "a", "le", "1", "0.5", "NaN",
            " # {", "_created", "counter\n", "histogram\n", "a_total{x=\"1\"} 1\n", "\t", "#", "a 1 2\n",
        ]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_bytes_end_in_entries_or_an_error(page in page()) {
        let mut text = parse_text(&page);
        read(|| text.next(), &page);
        prop_assert!(text.next().is_none(), "nothing comes behind the end or an error");
        let mut openmetrics = parse_openmetrics(&page);
        let plain = read(|| openmetrics.next(), &page);
        let mut with_starts = parse_openmetrics(&page).with_start_timestamps();
        prop_assert!(read(|| with_starts.next(), &page) <= plain, "asking only takes lines away");
    }
}
