//! How many crash states of a small log are visited per second: `cargo run --release --example states_per_second`.

use std::path::Path;
use std::time::Instant;

use tsdb_vfs::crash::{Enumerator, Report};
use tsdb_vfs::{Journal, Scenario, SimFs, Vfs};

/// Appends numbered records of 1,000 bytes to a file and syncs every fifth.
struct Log;

const SIZE: usize = 1000;

impl Scenario for Log {
    type Note = u8;
    type Recovered = usize;

    fn run(&self, disk: &SimFs, journal: &Journal<u8>) {
        let appended = || {
            let file = disk.create_new(Path::new("/log"))?;
            disk.sync_dir(Path::new("/"))?;
            for n in 1..=100 {
                file.write_all_at(&[n; SIZE], (usize::from(n) - 1) as u64 * SIZE as u64)?;
                if n % 5 == 0 {
                    file.sync_data()?;
                    journal.promise(n);
                }
            }
            Ok::<_, std::io::Error>(())
        };
        appended().expect("no failure was injected");
    }

    fn recover(&self, disk: &SimFs) -> Result<usize, String> {
        let bytes =
            if disk.exists(Path::new("/log")).unwrap_or(false) { disk.read(Path::new("/log")) } else { Ok(vec![]) };
        let bytes = bytes.map_err(|e| e.to_string())?;
        let whole =
            |(i, record): &(usize, &[u8])| record.len() == SIZE && record.iter().all(|&b| usize::from(b) == i + 1);
        Ok(bytes.chunks(SIZE).enumerate().take_while(whole).count())
    }

    fn check(&self, _: &SimFs, records: usize, promised: &[u8]) -> Result<(), String> {
        let promised = promised.last().map_or(0, |&n| usize::from(n));
        if records < promised { Err(format!("{records} records, promised {promised}")) } else { Ok(()) }
    }
}

fn main() {
    let start = Instant::now();
    let mut report = Report::default();
    for seed in 0..200 {
        report += Enumerator::new(seed).samples(200).run(&Log);
    }
    report.assert_clean();
    println!("{report}");
    let rate = report.states as f64 / start.elapsed().as_secs_f64();
    println!("{rate:.0} states a second on one thread");
}
