//! SIGKILL of a real process in the middle of appends, checkpoints and removals, over and over on one directory. What the
//! process said on its standard output before it died is what must be there.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use support::{replay, scrape};
use tsdb_vfs::{Fs, RealFs};
use wal_checkpoint::{Options, Source, checkpoint, clean_up, retire, segments_to_checkpoint};
use wal_segment::{Durability, Log, LogOptions, PAGE_SIZE, layout};

const DIR: &str = "HEADWATER_KILL_DIR";
const WIDTH: u64 = 100;
const LIFE: i64 = 5;
/// Scrapes that a truncation leaves behind.
const KEPT: i64 = 40;

fn series_at(t: i64) -> std::ops::Range<u64> {
    let first = 1 + (t / LIFE) as u64 * WIDTH;
    first..first + WIDTH
}

fn is_alive(series: u64, mint: i64) -> bool {
    (((series - 1) / WIDTH) as i64 + 1) * LIFE > mint
}

/// The process that is killed: goes on where the directory's log ends, and never stops.
#[test]
#[ignore = "started by the test below"]
fn child() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let fs: Fs = Arc::new(RealFs::new());
    if fs.dir_exists(&dir).expect("a disk") {
        clean_up(&fs, &dir).expect("what an earlier process left");
    }
    // What was written survives a killed process without any fsync: the checkpoint's own are what takes the time here.
    let options =
        LogOptions { segment_size: PAGE_SIZE as u64, durability: Durability::Rotate, ..LogOptions::default() };
    let (log, _) = Log::open(fs.clone(), &dir, options).expect("what an earlier process left");
    // The test harness has begun a line.
    println!();
    let begin = replay(&fs, &dir).expect("sound").samples.last().map_or(0, |(t, _)| t + 1);
    for t in begin.. {
        println!("tries {t}");
        log.append(scrape(t, series_at(t), t % LIFE == 0 || t == begin).records()).expect("room");
        println!("durable {t}");
        log.next_segment().expect("room");
        if t % 12 != 11 {
            continue;
        }
        let mint = t - KEPT;
        println!("mint {mint}");
        let first = layout::segments(&fs, &dir).expect("a log")[0].index;
        let Some((from, to)) = segments_to_checkpoint(first, log.current_segment()) else { continue };
        let source = Source::segments(&fs, &dir);
        let stats = checkpoint(&source, from, to, |s| is_alive(s.0, mint), mint, &Options::default()).expect("sound");
        retire(&fs, &dir, &stats).expect("a disk");
        println!("truncated {to}");
    }
}

/// What a process has said: (last tried, last durable, last mint, truncations). It is killed `life` after it said its
/// first word of the kind `from`.
fn watch(dir: &Path, from: &str, life: Duration) -> (i64, i64, i64, u64) {
    let mut process = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process");
    let mut said = (-1, -1, i64::MIN, 0);
    let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
    let mut killed = false;
    // The pipe is read to its end, also what was said between the last look and the kill.
    while let Some(Ok(line)) = lines.next() {
        match line.split_once(' ') {
            Some(("tries", n)) => said.0 = n.parse().unwrap_or(said.0),
            Some(("durable", n)) => said.1 = n.parse().unwrap_or(said.1),
            Some(("mint", n)) => said.2 = n.parse().unwrap_or(said.2),
            Some(("truncated", _)) => said.3 += 1,
            _ => {}
        }
        if line.starts_with(from) && !killed {
            std::thread::sleep(life);
            process.kill().expect("it never stops by itself");
            killed = true;
        }
    }
    let status = process.wait().expect("a process");
    let mut complaints = String::new();
    process.stderr.take().expect("piped").read_to_string(&mut complaints).expect("text");
    assert!(status.code().is_none(), "it ended by itself: {status}\n{complaints}");
    said
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let kills: u64 = std::env::var("HEADWATER_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(50);
    let tmp = tempfile::tempdir().expect("a directory");
    let dir = tmp.path().join("wal");
    let fs: Fs = Arc::new(RealFs::new());
    let (mut durable, mut tried, mut mint, mut truncations) = (-1, -1, i64::MIN, 0);
    let (mut temporaries, mut leftovers) = (0, 0);
    for kill in 0..kills {
        // Most of the kills right after a truncation has begun.
        let said = match kill % 4 {
            0 => watch(&dir, "durable", Duration::from_micros(kill * 7_919 % 20_000)),
            1 => watch(&dir, "truncated", Duration::from_micros(kill * 7_919 % 20_000)),
            _ => watch(&dir, "mint", Duration::from_micros(kill * 7_919 % 12_000)),
        };
        (tried, durable, mint) = (tried.max(said.0), durable.max(said.1), mint.max(said.2));
        truncations += said.3;
        let names = fs.list(&dir).expect("a log");
        temporaries += u64::from(names.iter().any(|entry| entry.name.to_string_lossy().ends_with(".tmp")));
        if let Some(newest) = layout::last_checkpoint(&fs, &dir).expect("a log") {
            let segments = layout::segments(&fs, &dir).expect("a log");
            leftovers += u64::from(segments[0].index <= newest.index);
        }
        // Recovery as the next process does it; that it is killed too is what the loop does.
        clean_up(&fs, &dir).expect("what the killed process left");
        let options = LogOptions { segment_size: PAGE_SIZE as u64, ..LogOptions::default() };
        drop(Log::open(fs.clone(), &dir, options).expect("what the killed process left"));
        let found = replay(&fs, &dir).expect("sound");
        assert_eq!(found.foreign, None);
        for t in mint.max(0)..=durable {
            for series in series_at(t).step_by(33) {
                assert!(found.samples.contains(&(t, series)), "kill {kill}: sample of {series} at {t}, mint {mint}");
                assert!(found.series.contains_key(&series), "kill {kill}: series {series}, mint {mint}");
                assert!(found.metadata.contains_key(&series), "kill {kill}: metadata of {series}");
            }
        }
        assert!(
            found.samples.last().is_none_or(|(t, _)| *t <= tried),
            "kill {kill}: invented {:?}",
            found.samples.last()
        );
    }
    println!(
        "{kills} kills, {durable} scrapes, {truncations} truncations, {temporaries} kills left a temporary checkpoint, {leftovers} left segments"
    );
    assert!(truncations >= kills / 10, "only {truncations} truncations");
    assert!(temporaries + leftovers >= kills / 10, "only {temporaries} + {leftovers} kills inside of a truncation");
}
