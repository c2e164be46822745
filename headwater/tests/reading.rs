//! Reading commands: what they print of directories that Prometheus made, and that they leave them alone.

mod common;

use common::{Ran, flip, golden, golden_dump, headwater, testdata, tree};

const CODECS: [&str; 3] = ["none", "snappy", "zstd"];

fn on(dir: &std::path::Path, args: &[&str]) -> Ran {
    let (command, rest) = args.split_first().unwrap();
    let dir = dir.to_str().unwrap();
    headwater([command, &dir].into_iter().chain(rest))
}

#[test]
fn dump_prints_what_prometheus_prints() {
    for codec in CODECS {
        let ran = headwater(["dump".as_ref(), testdata("dirs").join(codec).as_os_str()]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(ran.out == golden_dump(), "{codec}: another dump");
    }
}

#[test]
fn no_reading_command_changes_anything() {
    let commands: &[&[&str]] = &[
        &["dump"],
        &["dump", "--format", "json"],
        &["dump", "--format", "openmetrics"],
        &["records"],
        &["records", "--json"],
        &["inspect"],
        &["inspect", "--json"],
        &["top"],
        &["top", "--segments"],
        &["verify"],
        &["repair"],
        &["tail", "--from", "start", "--once"],
        &["bench", "replay"],
        &["bench", "replay", "--log-only"],
    ];
    for damaged in [false, true] {
        let dir = golden("snappy");
        if damaged {
            flip(&dir.path().join("wal/00000000"), 40_000);
            flip(&dir.path().join("chunks_head/000001"), 5_000);
        }
        let before = tree(dir.path());
        for command in commands {
            let ran = match command {
                ["bench", what, rest @ ..] => {
                    headwater(["bench", what, dir.path().to_str().unwrap()].iter().chain(rest))
                }
                _ => on(dir.path(), command),
            };
            assert_eq!(ran.code, i32::from(damaged && findings(command)), "{command:?}: {}", ran.err);
            assert!(tree(dir.path()) == before, "{command:?} changed the directory");
        }
    }
}

/// Which commands look at what is damaged in that test: a replay of the log alone does not see chunk files, but the log.
fn findings(_command: &[&str]) -> bool {
    true
}

#[test]
fn records_have_the_shape_of_the_contract() {
    let ran = on(&testdata("dirs/snappy"), &["records", "--json", "--kind", "samples"]);
    let first: serde_json::Value = serde_json::from_str(ran.out.lines().next().unwrap()).unwrap();
    assert_eq!(first["file"], "wal/00000000");
    assert_eq!((first["tag"].as_u64(), first["kind"].as_str()), (Some(2), Some("samples")));
    assert!(first["samples"][0]["ref"].is_u64() && first["samples"][0]["t"].is_i64());
    let counted: usize = ran.out.lines().map(|line| line.matches("\"t\":").count()).sum();
    assert_eq!(counted, 8317, "one entry for each sample of the log");

    // In wal/ itself the file is the bare name, and a filter by ref leaves only that series' entries.
    let ran = on(&testdata("dirs/snappy/wal"), &["records", "--json", "--kind", "samples", "--ref", "3"]);
    let line: serde_json::Value = serde_json::from_str(ran.out.lines().next().unwrap()).unwrap();
    assert_eq!(line["file"], "00000000");
    assert!(ran.out.lines().count() > 100 && !ran.out.contains("\"ref\":4"));
}

#[test]
fn filters_agree_with_each_other() {
    let dir = testdata("dirs/zstd");
    let selector = r#"up{instance="Žluťoučký kůň"}"#;
    let dumped = on(&dir, &["dump", "--match", selector]).out;
    assert!(!dumped.is_empty());
    let filtered = golden_dump()
        .lines()
        .filter(|line| line.contains(r#"__name__="up""#) && line.contains(r#"instance="Žluťoučký kůň""#))
        .count();
    assert_eq!(dumped.lines().count(), filtered);

    let (since, until) = ("1451191700000", "1451191800000");
    let text = on(&dir, &["records", "--kind", "samples", "--since", since, "--until", until]).out;
    let times = text.lines().filter_map(|line| line.split(" t=").nth(1)?.split(' ').next()?.parse::<i64>().ok());
    let times: Vec<i64> = times.collect();
    assert!(!times.is_empty() && times.iter().all(|t| (1_451_191_700_000..=1_451_191_800_000).contains(t)));
}

#[test]
fn damage_ends_reading_or_is_passed_over() {
    let dir = golden("none");
    flip(&dir.path().join("wal/00000000"), 40_000);
    let strict = on(dir.path(), &["records", "--json"]);
    let salvaged = on(dir.path(), &["records", "--json", "--salvage"]);
    assert_eq!((strict.code, salvaged.code), (1, 1));
    let last: serde_json::Value = serde_json::from_str(strict.out.lines().last().unwrap()).unwrap();
    assert!(last["error"].is_string() && last["file"] == "wal/00000000");
    assert!(last["offset"].as_u64().unwrap() <= 40_000);
    assert!(salvaged.out.starts_with(&strict.out), "what strict reading gives comes first");
    assert!(salvaged.out.lines().count() > strict.out.lines().count() + 50);
}

#[test]
fn verify_says_what_prometheus_would_do() {
    let dir = golden("none");
    let clean = on(dir.path(), &["verify"]);
    assert_eq!(clean.code, 0, "{}", clean.out);
    let says = ["looked at wal: 2 segments, ", "looked at chunks_head: ", " chunks\n", "\nsound: nothing is wrong\n"];
    says.iter().for_each(|part| assert!(clean.out.contains(part), "no {part:?} in {}", clean.out));
    let clean = on(dir.path(), &["verify", "--json"]);
    assert_eq!((clean.code, &*clean.out), (0, ""), "as JSON only what is wrong");
    flip(&dir.path().join("wal/00000000"), 40_000);
    let ran = on(dir.path(), &["verify", "--json"]);
    assert_eq!(ran.code, 1);
    let finding: serde_json::Value = serde_json::from_str(ran.out.lines().next().unwrap()).unwrap();
    assert_eq!(finding["path"], "wal/00000000");
    assert!(finding["prometheus"].as_str().unwrap().contains("deletes"), "{finding}");
}

#[test]
fn a_record_that_does_not_decode_is_found_and_goes_to_quarantine() {
    let dir = golden("none");
    let wal = dir.path().join("wal");
    let fs: tsdb_vfs::Fs = std::sync::Arc::new(tsdb_vfs::RealFs::new());
    let (log, _) = wal_segment::Log::open(fs, &wal, wal_segment::LogOptions::default()).unwrap();
    // A series record whose one entry ends in the middle.
    let place = log.append([[1_u8, 0, 0, 0, 0].as_slice()]).unwrap();
    log.close().unwrap();
    let place = format!("wal/{place}");

    let ran = on(dir.path(), &["verify"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    let finding = ran.out.lines().find(|line| line.starts_with(&place)).expect("its place");
    assert!(finding.contains("can be decoded") && finding.contains("deletes the segment from here on"), "{finding}");
    assert!(ran.out.ends_with("\n1 thing is wrong\n"), "{}", ran.out);

    let ran = on(dir.path(), &["repair", "--apply"]);
    assert!(ran.out.contains(&format!("{place}: leave a record to quarantine")), "{}", ran.out);
    assert!(ran.out.contains("original kept: wal/quarantine/"), "{}", ran.out);
    assert_eq!(on(dir.path(), &["verify"]).code, 0);
    let dumped = on(dir.path(), &["dump"]);
    assert!(dumped.code == 0 && dumped.out == golden_dump(), "nothing else is gone: {}", dumped.err);
}

#[test]
fn inspect_counts() {
    let ran = on(&testdata("dirs/snappy"), &["inspect", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(found["kinds"]["samples"]["entries"], 8317);
    assert_eq!(found["series"]["refs"], 35);
    assert_eq!(found["segments"], 2);
    assert_eq!(found["chunk_files"]["encodings"]["XOR"]["chunks"], 68);
}

#[test]
fn a_path_that_is_none_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    for command in ["dump", "records", "inspect", "top", "verify", "repair"] {
        let ran = on(empty.path(), &[command]);
        assert_eq!(ran.code, 2, "{command}: {}", ran.out);
        assert!(ran.err.contains("not a") && ran.err.contains("data directory"), "{command}: {}", ran.err);
        let ran = headwater([command, "/no/such/directory"]);
        assert_eq!(ran.code, 2, "{command}");
        assert!(ran.err.contains("/no/such/directory"), "{command}: {}", ran.err);
        assert_eq!(headwater([command]).code, 2, "{command} without a path");
    }
}

#[test]
fn an_empty_segment_is_no_damage() {
    let dir = golden("none");
    std::fs::write(dir.path().join("wal/00000002"), b"").unwrap();
    assert_eq!(on(dir.path(), &["verify"]).code, 0);
    let ran = on(dir.path(), &["dump"]);
    assert!(ran.code == 0 && ran.out == golden_dump(), "{}", ran.err);
    let ran = on(&dir.path().join("wal/00000002"), &["records"]);
    assert_eq!((ran.code, &*ran.out), (0, ""));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let program = env!("CARGO_BIN_EXE_headwater");
    let dir = testdata("dirs/none");
    let command = format!("{program} dump {} | head -n 1; echo ${{PIPESTATUS[0]}}", dir.display());
    let output = std::process::Command::new("bash").args(["-c", &command]).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(out.lines().last(), Some("0"));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn dump_selects_by_regular_expression() {
    let dir = golden("none");
    let all = golden_dump();
    let pattern = "{__name__=~\"up|http_.*\"}";
    let ran = on(dir.path(), &["dump", "--match", pattern]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let selected = |line: &&str| ["__name__=\"up\"", "__name__=\"http_"].iter().any(|name| line.contains(name));
    assert!(ran.out.lines().eq(all.lines().filter(selected)), "{}", ran.out.lines().count());
    let not = on(dir.path(), &["dump", "--match", &pattern.replace("=~", "!~")]);
    assert!(ran.out.lines().count() > 1000 && not.out.lines().count() > 1000);
    assert_eq!(ran.out.lines().count() + not.out.lines().count(), all.lines().count());
    assert!(on(dir.path(), &["dump", "--match", "{a=~\"(\"}"]).err.contains("regular expression"));
}
