//! `headwater checkpoint` from outside: what it keeps, what it leaves alone, how it ends.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const START: i64 = 1_700_000_000_000;
const MINUTE: i64 = 60_000;
const SCRAPES: i64 = 90;

fn headwater(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_headwater")).args(args).output().expect("the program")
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// 90 scrapes, a minute apart, of one series that goes on and one that ends after 20.
fn made(tmp: &Path) -> PathBuf {
    let mut page = String::from("# TYPE goes_on gauge\n# TYPE ends gauge\n");
    for n in 0..SCRAPES {
        let t = START + n * MINUTE;
        writeln!(page, "goes_on {n} {t}").expect("a string");
        if n < 20 {
            writeln!(page, "ends {n} {t}").expect("a string");
        }
    }
    ingested(tmp, &page)
}

fn ingested(tmp: &Path, page: &str) -> PathBuf {
    let (file, data) = (tmp.join("page.txt"), tmp.join("data"));
    fs::write(&file, page).expect("a disk");
    let output = headwater(&["ingest", data.to_str().expect("text"), file.to_str().expect("text")]);
    assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    data
}

fn samples(data: &Path, name: &str) -> Vec<i64> {
    let output = headwater(&["dump", data.to_str().expect("text")]);
    assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    let dump = String::from_utf8(output.stdout).expect("text");
    let of = dump.lines().filter(|line| line.contains(name));
    of.map(|line| line.rsplit(' ').next().expect("a time").parse().expect("a time")).collect()
}

/// Every file with its bytes.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.append(&mut tree(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    files
}

#[test]
fn what_is_young_enough_stays() {
    let tmp = tempfile::tempdir().expect("a directory");
    let data = made(tmp.path());
    let dir = data.to_str().expect("text");
    assert_eq!(samples(&data, "goes_on").len() as i64, SCRAPES);

    let before = tree(&data);
    let output = headwater(&["checkpoint", dir, "--keep", "30m", "--dry-run", "--json"]);
    assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    let would: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(would["dry_run"], true);
    assert_eq!(tree(&data), before, "a dry run changes nothing");

    let output = headwater(&["checkpoint", dir, "--keep", "30m", "--json"]);
    assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    let did: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(did["samples"], would["samples"]);
    assert_eq!(did["samples"]["kept"], 31);
    let mint = START + (SCRAPES - 31) * MINUTE;
    assert_eq!(did["mint"], mint);

    let expected: Vec<i64> = (SCRAPES - 31..SCRAPES).map(|n| START + n * MINUTE).collect();
    assert_eq!(samples(&data, "goes_on"), expected);
    assert_eq!(samples(&data, "ends"), [0; 0]);
    let names: Vec<_> =
        fs::read_dir(data.join("wal")).expect("a log").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(names.iter().filter(|name| name.to_string_lossy().starts_with("checkpoint.")).count(), 1);

    // Nothing is left to do, and the log goes on from here.
    let before = tree(&data);
    assert_eq!(code(&headwater(&["checkpoint", dir, "--keep", "30m"])), 0);
    assert_eq!(tree(&data), before);
    let more = tmp.path().join("more.txt");
    fs::write(&more, format!("goes_on 1 {}\n", START + SCRAPES * MINUTE)).expect("a disk");
    assert_eq!(code(&headwater(&["ingest", dir, more.to_str().expect("text")])), 0);
    assert_eq!(samples(&data, "goes_on").len(), 32);
}

#[test]
fn damage_stops_it_and_salvage_keeps_the_evidence() {
    let tmp = tempfile::tempdir().expect("a directory");
    let data = made(tmp.path());
    let dir = data.to_str().expect("text");
    let segment = data.join("wal/00000000");
    let mut bytes = fs::read(&segment).expect("a segment");
    bytes[20] ^= 1;
    fs::write(&segment, &bytes).expect("a disk");

    let before = tree(&data);
    assert_eq!(code(&headwater(&["checkpoint", dir])), 2);
    let names = |tree: &BTreeMap<PathBuf, Vec<u8>>| {
        tree.keys().filter(|p| !p.ends_with("00000001")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(&tree(&data)), names(&before), "only an empty segment may be new");
    assert_eq!(fs::read(&segment).expect("a segment"), bytes);

    assert_eq!(code(&headwater(&["checkpoint", dir, "--salvage"])), 1);
    assert_eq!(fs::read(data.join("wal/quarantine/00000000")).expect("the evidence"), bytes);
}

/// Cuts the last record off the first segment, which is complete, so that what is left reads without an error.
fn cut(data: &Path) {
    let more = data.with_file_name("more.txt");
    fs::write(&more, format!("goes_on 1 {}\n", START + SCRAPES * MINUTE)).expect("a disk");
    let output = headwater(&["ingest", data.to_str().expect("text"), more.to_str().expect("text")]);
    assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    let output = headwater(&["records", "--json", data.join("wal/00000000").to_str().expect("text")]);
    let text = String::from_utf8(output.stdout).expect("text");
    let last: serde_json::Value = serde_json::from_str(text.lines().last().expect("a record")).expect("JSON");
    let offset = last["offset"].as_u64().expect("an offset");
    File::options().write(true).open(data.join("wal/00000000")).and_then(|f| f.set_len(offset)).expect("a disk");
}

#[test]
fn what_only_the_ledger_misses_is_damage_to_every_command() {
    let tmp = tempfile::tempdir().expect("a directory");
    let data = made(tmp.path());
    let dir = data.to_str().expect("text");
    cut(&data);
    let before = tree(&data);
    let says = |args: &[&str]| {
        let output = headwater(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (code(&output), text.contains("the ledger says"))
    };
    assert_eq!(says(&["inspect", dir]), (1, true));
    assert_eq!(says(&["dump", dir]), (1, true));
    assert_eq!(says(&["records", dir]), (1, true));
    assert_eq!(says(&["checkpoint", "--dry-run", dir]), (2, true));
    assert_eq!(tree(&data), before);
    assert_eq!(says(&["checkpoint", dir]), (2, true));
    assert_eq!(says(&["checkpoint", "--salvage", dir]), (1, true));
    let kept = fs::read(data.join("wal/quarantine/00000000")).expect("the evidence");
    assert_eq!(kept, before[&data.join("wal/00000000")]);
    assert_eq!(says(&["dump", dir]), (0, false));
}

#[test]
fn a_segment_that_another_program_cut_is_whole_also_when_it_is_looked_at_alone() {
    let tmp = tempfile::tempdir().expect("a directory");
    let data = made(tmp.path());
    cut(&data);
    let wal = data.join("wal");
    let alone = wal.join("00000000");
    let records = |path: &Path| code(&headwater(&["records", path.to_str().expect("text")]));
    assert_eq!((records(&wal), records(&alone)), (1, 1));
    // As after the reference's repair, which removes what lies behind and goes on in segments of its own.
    let behind: Vec<PathBuf> =
        (1..).map(|n| wal.join(format!("{n:08}"))).take_while(|segment| segment.exists()).collect();
    behind.iter().for_each(|segment| fs::remove_file(segment).expect("a segment"));
    let elsewhere = tempfile::tempdir().expect("a directory");
    let others = ingested(elsewhere.path(), &format!("another 1 {START}\n"));
    fs::copy(others.join("wal/00000000"), &behind[0]).expect("room");
    assert_eq!((records(&wal), records(&alone)), (0, 0));
}

#[test]
fn it_refuses_what_is_locked_and_what_is_no_data_directory() {
    let tmp = tempfile::tempdir().expect("a directory");
    assert_eq!(code(&headwater(&["checkpoint", tmp.path().to_str().expect("text")])), 2);
    let data = made(tmp.path());
    let lock =
        File::options().create(true).truncate(false).write(true).open(data.join("lock")).expect("the lock's file");
    lock.lock().expect("nobody has it");
    let before = tree(&data);
    assert_eq!(code(&headwater(&["checkpoint", data.to_str().expect("text")])), 2);
    assert_eq!(tree(&data), before);
    // Looking needs no lock.
    assert_eq!(code(&headwater(&["checkpoint", data.to_str().expect("text"), "--dry-run"])), 0);
}
