//! Commands that write: what ingest takes and refuses, and that repair brings back what can be brought back.

mod common;

use std::path::PathBuf;

use common::{flip, golden, golden_dump, headwater, headwater_with_input, testdata, tree};

fn scrapes(prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(testdata("scrapes")).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(prefix);
    let mut files: Vec<_> = entries.filter(named).collect();
    files.sort();
    files
}

#[test]
fn recorded_scrapes_go_in_and_come_out() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("data");
    let files = scrapes("node-");
    let mut args: Vec<std::ffi::OsString> = vec!["ingest".into(), dir.clone().into()];
    args.extend(["--at", "1795232865971", "--every", "15s", "--label", "job=node"].map(Into::into));
    args.extend(files.iter().map(Into::into));
    let ran = headwater(&args);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.starts_with("accepted 3760 samples; the head holds 235 series"), "{}", ran.out);

    let dumped = headwater(["dump".as_ref(), dir.as_os_str()]);
    assert_eq!(dumped.out.lines().count(), 3760);
    // Against the pages themselves, read as naively as can be: name, last blank, value.
    let loads = dumped.out.lines().filter(|line| line.contains("\"node_load1\"")).map(|line| {
        let fields: Vec<_> = line.split(' ').rev().collect();
        (fields[0].parse::<i64>().unwrap(), fields[1].parse::<f64>().unwrap())
    });
    let expected = files.iter().zip(0_i64..).map(|(file, at)| {
        let page = std::fs::read_to_string(file).unwrap();
        let line = page.lines().find(|line| line.starts_with("node_load1 ")).unwrap();
        (1_795_232_865_971 + at * 15_000, line.split(' ').nth(1).unwrap().parse::<f64>().unwrap())
    });
    assert_eq!(loads.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    // The same again: all of it is there already.
    let again = headwater(&args);
    assert!(again.out.contains("already there: 3760 samples") || again.out.contains("refused"), "{}", again.out);
    assert_eq!(headwater(["dump".as_ref(), dir.as_os_str()]).out, dumped.out);
}

#[test]
fn openmetrics_is_recognised_by_its_last_line() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("data");
    let page = b"# TYPE a counter\na_total 1 1700000000.5\n# EOF\n";
    assert_eq!(headwater_with_input(["ingest".as_ref(), dir.as_os_str()], page).code, 0);
    let out = headwater(["dump".as_ref(), dir.as_os_str()]).out;
    assert_eq!(out, "{__name__=\"a_total\"} 1 1700000000500\n");
}

#[test]
fn a_line_that_does_not_parse_ends_its_file_only() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("data");
    let bad = tmp.path().join("bad.prom");
    let good = tmp.path().join("good.prom");
    let mut page = String::new();
    for n in 0..5_100 {
        page.push_str(&format!("x{{n=\"{n}\"}} {n} 1700000000000\n"));
    }
    page.push_str("x{n=oops} 1\nx{n=\"behind\"} 1 1700000000000\n");
    std::fs::write(&bad, page).unwrap();
    std::fs::write(&good, "y 1 1700000000000\n").unwrap();
    let ran = headwater(["ingest".as_ref(), dir.as_os_str(), bad.as_os_str(), good.as_os_str()]);
    assert_eq!(ran.code, 1);
    let expected = "line 5101, column 5: expected a label value in double quotes, found \"oops} 1\"";
    assert!(ran.out.contains(expected), "{}", ran.out);
    let dumped = headwater(["dump".as_ref(), dir.as_os_str()]).out;
    // The batch of 5,000 lines before stays, the one with the bad line does not, the other file is there.
    assert_eq!(dumped.lines().filter(|line| line.contains("\"x\"")).count(), 5_000);
    assert!(dumped.contains("{__name__=\"y\"} 1") && !dumped.contains("behind"));
}

#[test]
fn samples_are_refused_alone_with_their_reason() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("data");
    let ingest = |page: &[u8]| headwater_with_input(["ingest".as_ref(), dir.as_os_str()], page);
    assert_eq!(ingest(b"a 1 1700000060000\nb 1 1700000060000\n").code, 0);
    let ran = ingest(b"a 2 1700000000000\nb 2 1700000060000\nc 3 1700000000000\nc{x=\"1\",x=\"2\"} 3\n");
    assert_eq!(ran.code, 1);
    for reason in ["out of order", "duplicate sample", "label name \"x\" is repeated", "accepted 1 samples"] {
        assert!(ran.out.contains(reason), "{reason}: {}", ran.out);
    }
    let dumped = headwater(["dump".as_ref(), dir.as_os_str()]).out;
    assert_eq!(dumped.lines().count(), 3, "{dumped}");
}

#[test]
fn a_locked_or_foreign_directory_is_left_alone() {
    let tmp = tempfile::tempdir().unwrap();
    std::fs::write(tmp.path().join("precious.txt"), b"x").unwrap();
    let before = tree(tmp.path());
    let ran = headwater_with_input(["ingest".as_ref(), tmp.path().as_os_str()], b"a 1\n");
    assert_eq!(ran.code, 2, "{}", ran.out);
    assert!(tree(tmp.path()) == before);

    let dir = golden("none");
    let lock = std::fs::File::create(dir.path().join("lock")).unwrap();
    lock.try_lock().unwrap();
    let before = tree(dir.path());
    for args in [&["ingest"][..], &["repair", "--apply"]] {
        let mut all: Vec<&std::ffi::OsStr> = vec![args[0].as_ref(), dir.path().as_os_str()];
        all.extend(args[1..].iter().map(std::ffi::OsStr::new));
        let ran = headwater_with_input(&all, b"a 1\n");
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.out);
        assert!(ran.err.contains("locked"), "{args:?}: {}", ran.err);
    }
    let unchanged = tree(dir.path());
    let of = |tree: &std::collections::BTreeMap<PathBuf, _>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(of(&unchanged), of(&before));
}

#[test]
fn repair_keeps_all_that_is_sound_and_destroys_nothing() {
    let dir = golden("snappy");
    let damaged = [dir.path().join("wal/00000000"), dir.path().join("chunks_head/000001")];
    flip(&damaged[0], 40_000);
    flip(&damaged[1], 5_000);
    let originals: Vec<_> = damaged.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let planned = headwater(["repair".as_ref(), dir.path().as_os_str()]);
    assert_eq!(planned.code, 1);
    assert!(planned.out.contains("would: "), "{}", planned.out);
    let ran = headwater(["repair".as_ref(), dir.path().as_os_str(), "--apply".as_ref()]);
    assert_eq!(ran.code, 1, "something was lost: {}", ran.out);
    assert!(ran.out.contains("lost: 269 bytes of log"), "{}", ran.out);
    // Whatever was replaced is in a quarantine beside it, as it was.
    for (path, original) in damaged.iter().zip(originals) {
        let quarantine = path.parent().unwrap().join("quarantine");
        let mut kept =
            std::fs::read_dir(quarantine).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
        assert!(kept.any(|bytes| bytes == original), "{}", path.display());
    }
    let verified = headwater(["verify".as_ref(), dir.path().as_os_str()]);
    assert_eq!(verified.code, 0, "{}", verified.out);
    let again = headwater(["repair".as_ref(), dir.path().as_os_str(), "--apply".as_ref()]);
    assert_eq!((again.code, &*again.out), (0, "nothing to repair\n"));
    let dumped = headwater(["dump".as_ref(), dir.path().as_os_str()]);
    let all = golden_dump();
    let whole: std::collections::HashSet<&str> = all.lines().collect();
    assert!(dumped.out.lines().all(|line| whole.contains(line)), "nothing is invented");
    assert!(dumped.out.lines().count() >= whole.len() - 150, "{} of {}", dumped.out.lines().count(), whole.len());
}

#[test]
fn a_hole_in_the_chunk_files_is_filled_from_the_log() {
    for damage in [Some(5_000), None] {
        let dir = golden("none");
        let file = dir.path().join("chunks_head/000001");
        match damage {
            Some(offset) => flip(&file, offset),
            None => std::fs::write(&file, b"not a chunk file").unwrap(),
        }
        headwater(["repair".as_ref(), dir.path().as_os_str(), "--apply".as_ref()]);
        assert_eq!(headwater(["verify".as_ref(), dir.path().as_os_str()]).code, 0);
        let dumped = headwater(["dump".as_ref(), dir.path().as_os_str()]);
        assert!(dumped.out == golden_dump(), "{damage:?}: {} lines", dumped.out.lines().count());
    }
}

#[test]
fn bench_ingest_and_replay_agree() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("out");
    for (values, committers) in [("counter", "2"), ("gauge", "3"), ("trivial", "1")] {
        let dir = dir.with_extension(values);
        let args = ["--series", "500", "--scrapes", "150", "--json", "--values", values, "--committers", committers];
        let args = args.iter().map(std::ffi::OsStr::new);
        let ran = headwater(["bench".as_ref(), "ingest".as_ref(), dir.as_os_str()].into_iter().chain(args));
        assert_eq!(ran.code, 0, "{}", ran.err);
        let made: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!((made["series"].as_u64(), made["samples"].as_u64()), (Some(500), Some(75_000)));
        for log_only in [false, true] {
            let mut args = vec!["bench".as_ref(), "replay".as_ref(), dir.as_os_str(), "--json".as_ref()];
            args.extend(log_only.then_some(std::ffi::OsStr::new("--log-only")));
            let read: serde_json::Value = serde_json::from_str(&headwater(args).out).unwrap();
            assert_eq!((read["series"].as_u64(), read["samples_read"].as_u64()), (Some(500), Some(75_000)));
            assert_eq!(read["samples_applied"] == 75_000, log_only, "{read}");
        }
    }
}

/// Prometheus parsed the same pages with its own parser and appended them to its own database.
#[test]
fn recorded_scrapes_become_what_prometheus_makes_of_them() {
    let golden = testdata("golden-head-scrapes");
    let expected = std::fs::read_to_string(golden.join("dump.txt")).unwrap();
    let theirs = headwater(["dump".as_ref(), golden.join("data").as_os_str()]);
    assert!(theirs.code == 0 && theirs.out == expected, "its directory, read by us: {}", theirs.err);

    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("data");
    for job in ["node", "rpc", "created"] {
        let label = format!("job={job}");
        let mut args: Vec<std::ffi::OsString> =
            vec!["ingest".into(), dir.clone().into(), "--label".into(), label.into()];
        args.extend(["--at", "1795232865971", "--every", "15s"].map(Into::into));
        args.extend(scrapes(&format!("{job}-")).into_iter().map(Into::into));
        let ran = headwater(&args);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    }
    let ours = headwater(["dump".as_ref(), dir.as_os_str()]);
    assert!(ours.out == expected, "{} lines of {}", ours.out.lines().count(), expected.lines().count());
}

#[test]
fn created_lines_are_series_zeros_or_start_timestamps() {
    let dump = |choice: Option<&str>| {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("data");
        let mut args: Vec<std::ffi::OsString> = vec!["ingest".into(), dir.clone().into()];
        args.extend(["--at", "1795232865971", "--every", "15s"].map(Into::into));
        args.extend(choice.map(|choice| format!("--start-timestamps={choice}").into()));
        args.extend(scrapes("created-").iter().map(Into::into));
        let ran = headwater(&args);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        headwater(["dump".as_ref(), dir.as_os_str(), "--st".as_ref()]).out
    };
    // Sixteen pages of one histogram: six buckets, sum, count and the time at which it was created.
    const START: &str = "1795232854962";
    let with = |out: &str, what: &str| out.lines().filter(|line| line.contains(what)).count();
    let (series, zero, store) = (dump(None), dump(Some("zero")), dump(Some("store")));
    assert_eq!((series.lines().count(), with(&series, "_created"), with(&series, START)), (16 * 9, 16, 0));
    assert_eq!((zero.lines().count(), with(&zero, "_created"), with(&zero, START)), (16 * 8 + 8, 0, 8));
    assert_eq!(with(&zero, &format!(" 0 {START}")), 8);
    assert_eq!((store.lines().count(), with(&store, "_created")), (16 * 8, 0));
    assert!(store.lines().all(|line| line.ends_with(START)), "{store}");
}
