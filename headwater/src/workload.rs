//! The benchmark's data: series and values that follow from a seed by integer arithmetic alone, so that another program
//! can make exactly the same.
//!
//! `interop/workload.go` is that other program: what changes here changes there, and the two `digest`s
//! are compared before anything is measured.

/// How values go from scrape to scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Grows by a random integer below 1,000.
    Counter,
    /// Walks at random by up to 1, three decimals.
    Gauge,
    /// Grows by 1,000.
    Trivial,
}

/// A set of series that is scraped at a fixed interval.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Series alive at any time.
    pub series: u64,
    /// Samples of a series, were it never replaced.
    pub scrapes: u64,
    /// Between two scrapes, ms.
    pub interval: i64,
    /// Time of the first scrape, ms since the epoch.
    pub start: i64,
    /// How values go.
    pub values: Values,
    /// Scrapes after which every series is replaced by another one; 0 = never.
    pub churn: u64,
    /// Everything random follows from it.
    pub seed: u64,
}

/// The values of one series, in order.
#[derive(Debug, Clone)]
pub struct Walk {
    state: u64,
    at: i64,
    values: Values,
}

/// Vigna's SplitMix64: a counter and a mixer, the same few integer operations in every language.
fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Workload {
    /// The time of a scrape, ms since the epoch.
    pub fn time(&self, scrape: u64) -> i64 {
        self.start + self.interval * scrape as i64
    }

    /// Which replacement of its series a scrape meets.
    pub fn generation(&self, scrape: u64) -> u64 {
        scrape.checked_div(self.churn).unwrap_or(0)
    }

    /// The number of a series' replacement among all series that ever exist: what its labels follow from.
    pub fn id(&self, series: u64, generation: u64) -> u64 {
        series + generation * self.series
    }

    /// Seven labels, some 130 bytes of text, sorted by name.
    pub fn labels(&self, id: u64) -> [(&'static str, String); 7] {
        let hash = mix(self.seed.wrapping_add(id.wrapping_mul(STEP)));
        let app = id % 97;
        [
            ("__name__", format!("workload_requests_{:03}_total", id / 97 % 500)),
            ("container", format!("app-{app:02}")),
            ("id", format!("{id:08}")),
            ("instance", format!("10.{}.{}.{}:9100", app, id / 250 % 250, id % 250)),
            ("job", format!("job-{:02}", app % 20)),
            ("namespace", format!("namespace-{:02}", app % 30)),
            ("pod", format!("app-{app:02}-{:08x}-{:04x}", hash >> 32, hash & 0xffff)),
        ]
    }

    /// The values of a series, from its first scrape on.
    pub fn walk(&self, id: u64) -> Walk {
        let state = mix(self.seed ^ id.wrapping_mul(STEP));
        Walk { state, at: (state % 1_000_000) as i64, values: self.values }
    }

    /// A number over every label, time and value, in a fixed order.
    pub fn digest(&self) -> u64 {
        let mut digest = 0_u64;
        let mut fold = |x: u64| digest = (digest.rotate_left(5) ^ x).wrapping_mul(STEP);
        for series in 0..self.series {
            let mut walk = self.walk(series);
            for scrape in 0..self.scrapes {
                if scrape == 0 || (self.churn > 0 && scrape % self.churn == 0) {
                    let id = self.id(series, self.generation(scrape));
                    walk = self.walk(id);
                    for (name, value) in self.labels(id) {
                        name.bytes().chain(value.bytes()).for_each(|byte| fold(u64::from(byte)));
                    }
                }
                fold(self.time(scrape) as u64);
                fold(walk.next_value().to_bits());
            }
        }
        digest
    }
}

impl Walk {
    /// The next scrape's value.
    #[inline]
    pub fn next_value(&mut self) -> f64 {
        self.state = self.state.wrapping_add(STEP);
        match self.values {
            Values::Counter => self.at += (mix(self.state) % 1000) as i64,
            Values::Gauge => self.at += (mix(self.state) % 2001) as i64 - 1000,
            Values::Trivial => self.at += 1000,
        }
        if self.values == Values::Gauge { self.at as f64 / 1000.0 } else { self.at as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(values: Values, churn: u64) -> Workload {
        Workload { series: 50, scrapes: 60, interval: 15_000, start: 1_700_000_000_000, values, churn, seed: 1 }
    }

    #[test]
    fn labels_are_sorted_unique_and_of_the_size_that_is_claimed() {
        let workload = small(Values::Counter, 20);
        let mut all = std::collections::BTreeSet::new();
        for id in 0..150 {
            let labels = workload.labels(id);
            assert!(labels.is_sorted_by(|a, b| a.0 < b.0));
            let text: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
            assert!((120..150).contains(&text), "{text} bytes");
            assert!(all.insert(labels));
        }
    }

    /// A change of these numbers is a change of the workload: figures before and after it cannot be compared.
    #[test]
    fn the_data_stays_what_it_is() {
        let digests = [(Values::Counter, 0), (Values::Gauge, 0), (Values::Trivial, 0), (Values::Counter, 20)]
            .map(|(values, churn)| small(values, churn).digest());
        assert_eq!(
            digests,
            [
                18_304_299_133_758_545_505,
                11_025_142_397_857_828_125,
                4_653_371_783_926_726_259,
                15_863_923_754_317_318_993
            ]
        );
    }
}
