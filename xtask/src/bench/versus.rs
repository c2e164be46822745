//! Two sides, one set of data, alternating runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::time::{ClockId, clock_gettime};

use crate::interop::{Answer, Reference};

/// One measured comparison.
pub(crate) struct Contest {
    /// What is measured, e.g. "decode float samples".
    pub(crate) name: &'static str,
    /// What one unit of work is: "sample", "record", "byte".
    pub(crate) unit: &'static str,
    /// The ratio we aim for: the reference's wall time over ours.
    pub(crate) target: f64,
    /// Makes the data once and calls [`Arena::run`].
    pub(crate) run: fn(&mut Arena) -> Result<()>,
}

/// What one run of one side cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Units of work done.
    pub(crate) units: u64,
    /// Wall time.
    pub(crate) wall: Duration,
    /// CPU time, all threads.
    pub(crate) cpu: Duration,
    /// Peak resident set in bytes, where a side ran in a process of its own.
    pub(crate) peak_rss: Option<u64>,
    /// What it holds afterwards, where that was asked for.
    pub(crate) held: Option<Held>,
}

/// What a process holds when its work is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// Bytes allocated and still needed.
    pub(crate) live: u64,
    /// Resident set in bytes.
    pub(crate) rss: u64,
    /// What the bytes are divided by, for people.
    pub(crate) series: u64,
}

impl Cost {
    /// Nothing done, nothing spent.
    pub(crate) const ZERO: Self =
        Self { units: 0, wall: Duration::ZERO, cpu: Duration::ZERO, peak_rss: None, held: None };

    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            units: self.units + other.units,
            wall: self.wall + other.wall,
            cpu: self.cpu + other.cpu,
            peak_rss: self.peak_rss.max(other.peak_rss),
            held: other.held.or(self.held),
        }
    }

    /// What an operation measured with `timed` (bench.go) answered.
    pub(crate) fn of(answer: &Answer, units: u64) -> Result<Self> {
        Ok(Self {
            units,
            wall: Duration::from_secs_f64(answer.f64("seconds")?),
            cpu: Duration::from_secs_f64(answer.f64("cpu_seconds")?),
            peak_rss: answer.u64("peak_rss").ok(),
            held: None,
        })
    }

    /// Runs work of ours and measures it.
    pub(crate) fn measure(units: u64, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let cpu = cpu_time()?;
        let start = Instant::now();
        work()?;
        Ok(Self { units, wall: start.elapsed(), cpu: cpu_time()?.saturating_sub(cpu), peak_rss: None, held: None })
    }

    fn nanos_per_unit(&self) -> f64 {
        self.wall.as_secs_f64() * 1e9 / self.units as f64
    }
}

/// CPU time of this process, all threads.
fn cpu_time() -> Result<Duration> {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).context("CPU time is negative")
}

/// Where the two sides meet.
pub(crate) struct Arena {
    pub(crate) pairs: usize,
    /// Whether a pair is run that does not count, first: of no use where every run is a process of its own.
    pub(crate) warm_up: bool,
    filter: Option<String>,
    /// What else the page is to say.
    pub(crate) sections: Vec<String>,
    /// The reference, warm: one process for all pairs.
    pub(crate) reference: Reference,
    results: Vec<Outcome>,
    name: String,
    unit: &'static str,
    pub(crate) target: f64,
}

/// The pairs of one contest, summed up.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) target: f64,
    /// Median of the reference's ns per unit, and of ours.
    pub(crate) theirs: f64,
    pub(crate) ours: f64,
    /// Pairwise ratios of wall time: median, least, greatest.
    pub(crate) ratio: (f64, f64, f64),
    /// Median pairwise ratio of CPU time.
    pub(crate) cpu_ratio: f64,
    /// Median peak resident sets, where both sides ran in processes of their own.
    pub(crate) memory: Option<(u64, u64)>,
    /// What both held afterwards, those of the run with the median of live bytes.
    pub(crate) held: Option<(Held, Held)>,
    /// How often both ran.
    pub(crate) pairs: usize,
}

/// What a layer's contests came to.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) sections: Vec<String>,
}

impl Arena {
    /// The contest and its variant.
    pub(crate) fn full_name(&self, variant: &str) -> String {
        if variant.is_empty() { self.name.clone() } else { format!("{}, {variant}", self.name) }
    }

    /// Whether this variant was asked for: making its data may be most of the work.
    pub(crate) fn wants(&self, variant: &str) -> bool {
        self.filter.as_ref().is_none_or(|part| self.full_name(variant).contains(part))
    }

    /// Runs both sides alternately, one unmeasured pair first. `variant` is added to the contest's name when not empty.
    ///
    /// Both sides must do the same units of work: that they work on the same data is the caller's to prove.
    pub(crate) fn run(
        &mut self,
        variant: &str,
        mut theirs: impl FnMut(&mut Reference) -> Result<Cost>,
        mut ours: impl FnMut() -> Result<Cost>,
    ) -> Result<()> {
        if !self.wants(variant) {
            return Ok(());
        }
        let mut pairs = Vec::with_capacity(self.pairs);
        for n in usize::from(!self.warm_up)..=self.pairs {
            let pair = (theirs(&mut self.reference)?, ours()?);
            ensure!(
                pair.0.units == pair.1.units,
                "not the same work: {} against {} {}s",
                pair.0.units,
                pair.1.units,
                self.unit
            );
            if n > 0 {
                pairs.push(pair);
            }
        }
        let outcome = Outcome::new(self.full_name(variant), self.unit, self.target, &pairs);
        println!("{}", outcome.line());
        self.results.push(outcome);
        Ok(())
    }
}

impl Outcome {
    fn new(name: String, unit: &'static str, target: f64, pairs: &[(Cost, Cost)]) -> Self {
        let of = |f: &dyn Fn(&(Cost, Cost)) -> f64| {
            let mut all: Vec<f64> = pairs.iter().map(f).collect();
            all.sort_by(f64::total_cmp);
            all
        };
        let ratios = of(&|(theirs, ours)| theirs.wall.as_secs_f64() / ours.wall.as_secs_f64());
        let cpu = of(&|(theirs, ours)| theirs.cpu.as_secs_f64() / ours.cpu.as_secs_f64().max(1e-9));
        let rss = |f: fn(&(Cost, Cost)) -> Option<u64>| {
            let mut all: Vec<u64> = pairs.iter().filter_map(f).collect();
            all.sort_unstable();
            all.get(all.len() / 2).copied()
        };
        let held = |f: fn(&(Cost, Cost)) -> Option<Held>| {
            let mut all: Vec<Held> = pairs.iter().filter_map(f).collect();
            all.sort_unstable_by_key(|held| held.live);
            all.get(all.len() / 2).copied()
        };
        Self {
            name,
            unit,
            target,
            pairs: pairs.len(),
            theirs: median(&of(&|(theirs, _)| theirs.nanos_per_unit())),
            ours: median(&of(&|(_, ours)| ours.nanos_per_unit())),
            ratio: (median(&ratios), ratios[0], ratios[ratios.len() - 1]),
            cpu_ratio: median(&cpu),
            held: held(|(theirs, _)| theirs.held).zip(held(|(_, ours)| ours.held)),
            memory: rss(|(theirs, _)| theirs.peak_rss).zip(rss(|(_, ours)| ours.peak_rss)),
        }
    }

    fn line(&self) -> String {
        let (median, least, greatest) = self.ratio;
        let verdict = if median >= self.target { "met" } else { "MISSED" };
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let memory = self.memory.map_or(String::new(), |(theirs, ours)| {
            format!("   peak RSS {:.1} MiB theirs {:.1} ours", mib(theirs), mib(ours))
        });
        format!(
            "{:<56} {:>9.2} ns/{} theirs {:>9.2} ours   {median:>6.2}× ({least:.2}–{greatest:.2})  CPU {:.2}×   target {}× {verdict}{memory}",
            self.name, self.theirs, self.unit, self.ours, self.cpu_ratio, self.target
        )
    }
}

/// The middle of a sorted list, or between the two that are.
fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

/// Runs a layer's contests and returns what came out.
pub(crate) fn run(layer: &str, contests: &[Contest], pairs: usize, filter: Option<&str>) -> Result<Results> {
    ensure!(pairs > 0, "at least one pair");
    println!("{layer}: {pairs} pairs, reference and ours alternately");
    let mut results = Results::default();
    // A filter that begins with a contest's name goes on with that of its variants.
    let wanted = |c: &&Contest| filter.is_none_or(|part| c.name.contains(part) || part.starts_with(c.name));
    for contest in contests.iter().filter(wanted) {
        let mut arena = Arena {
            pairs,
            warm_up: true,
            filter: filter.map(str::to_owned),
            sections: Vec::new(),
            reference: Reference::start()?,
            results: Vec::new(),
            name: contest.name.to_owned(),
            unit: contest.unit,
            target: contest.target,
        };
        (contest.run)(&mut arena).with_context(|| format!("{layer}: {}", contest.name))?;
        results.outcomes.append(&mut arena.results);
        results.sections.append(&mut arena.sections);
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_pairwise_ratios_is_not_the_ratio_of_medians() {
        let cost =
            |ms| Cost { units: 10, wall: Duration::from_millis(ms), cpu: Duration::from_millis(ms), ..Cost::ZERO };
        // The machine was three times slower during the second pair; the ratio does not see that.
        let pairs = [(cost(200), cost(100)), (cost(600), cost(300)), (cost(210), cost(100))];
        let outcome = Outcome::new("x".into(), "sample", 2.0, &pairs);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6 * b;
        assert!(near(outcome.ratio.0, 2.0) && near(outcome.ratio.1, 2.0) && near(outcome.ratio.2, 2.1), "{outcome:?}");
        assert!(near(outcome.ours, 1e7), "{outcome:?}");
        // Of two, neither.
        let outcome = Outcome::new("x".into(), "sample", 2.0, &pairs[1..]);
        assert!(near(outcome.ratio.0, 2.05), "{outcome:?}");
    }
}
