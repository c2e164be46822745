//! A server writes a checkpoint and removes segments while a command reads them.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;

use tsdb_vfs::{Fs, RealFs};
use wal_format::{Batch, Sample, Version};
use wal_segment::{Log, LogOptions};

#[test]
fn records_starts_over_when_a_checkpoint_replaces_what_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let wal = dir.path().join("wal");
    let real: Fs = Arc::new(RealFs::new());
    let (log, _) = Log::open(real, &wal, LogOptions { segment_size: 64 * 1024, ..LogOptions::default() }).unwrap();
    for scrape in 0..400 {
        let mut batch = Batch::new(Version::V1);
        batch.samples((0..300_u64).map(|n| Sample { series: n.into(), t: scrape, v: (n * 7919) as f64 * 0.1, st: 0 }));
        log.append(batch.records()).unwrap();
    }
    log.close().unwrap();
    let segments = fs::read_dir(&wal).unwrap().filter(|e| e.as_ref().unwrap().file_name().len() == 8).count();
    assert!(segments > 10, "{segments} segments");

    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
    command.args(["records", "--json"]).arg(dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = BufReader::with_capacity(1, child.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    assert!(first.contains(r#""file":"wal/00000000","offset":0"#), "{first:.100}");

    // The pipe is full now and the program waits in the first segments. A checkpoint that stands for half of them:
    let checkpoint = wal.join("checkpoint.00000005");
    fs::create_dir(&checkpoint).unwrap();
    fs::copy(wal.join("00000000"), checkpoint.join("00000000")).unwrap();
    (0..6).for_each(|n| fs::remove_file(wal.join(format!("{n:08}"))).unwrap());

    let mut rest = String::new();
    BufReader::new(out).read_to_string(&mut rest).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    assert!(said.contains("starting over"), "{said}");
    let lines: Vec<serde_json::Value> = rest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let again =
        lines.iter().position(|line| line["file"] == "wal/checkpoint.00000005/00000000").expect("the checkpoint");
    let scrapes: Vec<_> = lines[again..].iter().map(|line| line["samples"][0]["t"].as_i64().unwrap()).collect();
    // What the checkpoint holds, then everything from segment 6 on, nothing twice.
    assert!(scrapes.is_sorted() && scrapes[0] == 0 && scrapes.last() == Some(&399), "{scrapes:?}");
    assert!(lines[again..].iter().any(|line| line["file"] == "wal/00000006"));
}
