//! What records hold, apart from bytes: `%g`, quoting, label text; histogram text, validity, conversion, reduction.
//!
//! # Rules: where we answer otherwise than the reference
//!
//! * `text-panic`: the text of a histogram that is not valid. The reference panics at a bucket beyond the custom bounds and
//!   at a schema above 8; we print NaN for a bound that does not exist.

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use serde_json::json;
use tsdb_model::gotext::{format_float_g, is_print, quote};
use tsdb_model::{FloatHistogram, Histogram, Span};

use super::super::wire::{WireReader, WireWriter, join, split};
use super::super::{Coverage, Reference, Session};
use super::generate::Generator;

const TEXT_PANIC: (&str, &str) = ("text-panic", "the reference panics on the text of a histogram that is not valid");

/// Questions of each sort in one round.
const QUESTIONS: usize = 500;

const REQUIRED: &[&str] = &[
    "integer histogram valid",
    "integer histogram not valid",
    "float histogram valid",
    "float histogram not valid",
    "integer histogram reduced",
    "integer histogram not reducible",
    "float histogram reduced",
    "float histogram not reducible",
    "text with custom buckets",
    "text with negative buckets",
    "NaN",
    "float with exponent",
    "float without exponent",
];

pub(super) fn run(session: &mut Session) -> Result<()> {
    let mut coverage = session.coverage();
    REQUIRED.iter().for_each(|case| coverage.require(case, 50));
    let mut reference = session.reference()?;
    printable(&mut reference)?;
    for round in session.rounds(100) {
        let mut generator = Generator::new(session.round_rng(round));
        floats(&mut reference, &mut generator, &mut coverage)
            .and_then(|()| texts(&mut reference, &mut generator))
            .and_then(|()| integers(&mut reference, &mut generator, &mut coverage))
            .and_then(|()| floating(&mut reference, &mut generator, &mut coverage))
            .with_context(|| format!("--round {round}"))?;
    }
    coverage.finish()
}

/// Every code point.
fn printable(reference: &mut Reference) -> Result<()> {
    let answer = reference.call("records.printable", json!({}), b"")?;
    for (code, theirs) in (0..).zip(&answer.payload) {
        let Some(c) = char::from_u32(code) else { continue };
        ensure!(is_print(c) == (*theirs == 1), "printable, U+{code:04X}: theirs {}", *theirs == 1);
    }
    ensure!(answer.payload.len() == 0x11_0000, "not every code point was answered");
    Ok(())
}

/// Asks the same question about each argument.
fn ask(reference: &mut Reference, what: u8, arguments: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let question = join(arguments.iter().map(|argument| [&[what], &argument[..]].concat()));
    let answer = reference.call("records.forms", json!({}), &question)?;
    Ok(split(&answer.payload)?.into_iter().map(<[u8]>::to_vec).collect())
}

fn floats(reference: &mut Reference, generator: &mut Generator, coverage: &mut Coverage) -> Result<()> {
    let values: Vec<f64> = (0..QUESTIONS).map(|_| generator.float()).collect();
    let answers = ask(reference, 0, &values.iter().map(|v| v.to_le_bytes().to_vec()).collect::<Vec<_>>())?;
    for (value, theirs) in values.iter().zip(answers) {
        let ours = format_float_g(*value);
        ensure!(ours.as_bytes() == theirs, "{value:?}: theirs {}, ours {ours}", String::from_utf8_lossy(&theirs));
        coverage.hit(match ours.contains('e') {
            _ if value.is_nan() => "NaN",
            true => "float with exponent",
            false => "float without exponent",
        });
    }
    Ok(())
}

fn texts(reference: &mut Reference, generator: &mut Generator) -> Result<()> {
    let mut texts: Vec<Vec<u8>> = (0..QUESTIONS).map(|_| generator.text()).collect();
    // Characters from everywhere, so that every branch of the escapes is taken.
    texts.extend((0..QUESTIONS).map(|_| {
        let any = (0..4).filter_map(|_| {
            char::from_u32(generator.rng.random_range(0..0x11_0000) >> generator.rng.random_range(0..16))
        });
        any.collect::<String>().into_bytes()
    }));
    for (text, theirs) in texts.iter().zip(ask(reference, 1, &texts)?) {
        let ours = quote(text);
        ensure!(ours.as_bytes() == theirs, "{text:02x?}: theirs {}, ours {ours}", String::from_utf8_lossy(&theirs));
    }
    let labels: Vec<_> = (0..QUESTIONS).map(|_| generator.labels()).collect();
    let arguments: Vec<_> = labels
        .iter()
        .map(|labels| {
            let mut writer = WireWriter::default();
            writer.pairs(&labels.pairs());
            writer.0
        })
        .collect();
    for (labels, theirs) in labels.iter().zip(ask(reference, 2, &arguments)?) {
        let ours = labels.to_string();
        ensure!(ours.as_bytes() == theirs, "labels: theirs {}, ours {ours}", String::from_utf8_lossy(&theirs));
    }
    Ok(())
}

/// The schemas that the Go side reduces to.
fn targets(schema: i32) -> impl Iterator<Item = i32> {
    (-9..schema).rev().take(6)
}

fn check_text(theirs: &[u8], ours: &str, valid: bool, custom: bool, coverage: &mut Coverage) -> Result<()> {
    if theirs == b"panic" {
        ensure!(!valid, "the reference panicked on the text of a valid histogram: {ours}");
        coverage.allowed(TEXT_PANIC.0, TEXT_PANIC.1);
        return Ok(());
    }
    ensure!(ours.as_bytes() == theirs, "text: theirs {}\n  ours {ours}", String::from_utf8_lossy(theirs));
    if custom {
        coverage.hit("text with custom buckets");
    }
    if ours.contains(", [-") || ours.contains("-Inf,-") {
        coverage.hit("text with negative buckets");
    }
    Ok(())
}

fn check_valid(theirs: u8, ours: bool, why: &str, what: &str, coverage: &mut Coverage) -> Result<()> {
    ensure!(ours == (theirs == 1), "validity: theirs {}, ours {ours} ({why})", theirs == 1);
    coverage.hit(&format!("{what} {}", if ours { "valid" } else { "not valid" }));
    Ok(())
}

fn integers(reference: &mut Reference, generator: &mut Generator, coverage: &mut Coverage) -> Result<()> {
    let histograms: Vec<Histogram> = (0..QUESTIONS).map(|_| generator.plausible()).collect();
    let wire = |h: &Histogram| {
        let mut writer = WireWriter::default();
        writer.histogram(h);
        writer.0
    };
    for (h, answer) in histograms.iter().zip(ask(reference, 3, &histograms.iter().map(wire).collect::<Vec<_>>())?) {
        let mut theirs = WireReader(&answer);
        let ours = h.validate();
        let text = theirs.item()?;
        check_text(text, &h.to_string(), ours.is_ok(), h.uses_custom_buckets(), coverage)?;
        check_valid(theirs.u8()?, ours.is_ok(), &format!("{ours:?}"), "integer histogram", coverage)
            .with_context(|| format!("{h:?}"))?;
        let (float, ours) = (theirs.float_histogram()?, h.to_float());
        ensure!(float.same_bits(&ours), "to float: {h:?}\n  theirs {float:?}\n  ours {ours:?}");
        for target in targets(h.schema) {
            let mut ours = h.clone();
            let result = ours.reduce_resolution(target);
            let accepted = theirs.u8()? == 1;
            ensure!(result.is_ok() == accepted, "reduction to {target} of {h:?}: theirs {accepted}, ours {result:?}");
            coverage.hit(if accepted { "integer histogram reduced" } else { "integer histogram not reducible" });
            if accepted {
                let theirs = theirs.histogram()?;
                ensure!(
                    theirs.same_bits(&ours),
                    "reduction to {target} of {h:?}\n  theirs {theirs:?}\n  ours {ours:?}"
                );
            } else if !ours.same_bits(h) {
                bail!("a failed reduction changed {h:?} to {ours:?}");
            }
        }
    }
    Ok(())
}

fn floating(reference: &mut Reference, generator: &mut Generator, coverage: &mut Coverage) -> Result<()> {
    let histograms: Vec<FloatHistogram> = (0..QUESTIONS)
        .map(|_| if generator.rng.random() { generator.plausible().to_float() } else { generator.floating_any() })
        .collect();
    let wire = |h: &FloatHistogram| {
        let mut writer = WireWriter::default();
        writer.float_histogram(h);
        writer.0
    };
    for (h, answer) in histograms.iter().zip(ask(reference, 4, &histograms.iter().map(wire).collect::<Vec<_>>())?) {
        let mut theirs = WireReader(&answer);
        let ours = h.validate();
        let text = theirs.item()?;
        check_text(text, &h.to_string(), ours.is_ok(), h.uses_custom_buckets(), coverage)?;
        check_valid(theirs.u8()?, ours.is_ok(), &format!("{ours:?}"), "float histogram", coverage)
            .with_context(|| format!("{h:?}"))?;
        for target in targets(h.schema) {
            let mut ours = h.clone();
            let result = ours.reduce_resolution(target);
            let accepted = theirs.u8()? == 1;
            ensure!(result.is_ok() == accepted, "reduction to {target} of {h:?}: theirs {accepted}, ours {result:?}");
            coverage.hit(if accepted { "float histogram reduced" } else { "float histogram not reducible" });
            if accepted {
                let theirs = theirs.float_histogram()?;
                ensure!(
                    theirs.same_bits(&ours),
                    "reduction to {target} of {h:?}\n  theirs {theirs:?}\n  ours {ours:?}"
                );
            }
        }
    }
    Ok(())
}

impl Generator {
    fn floating_any(&mut self) -> FloatHistogram {
        let schema = self.plausible_schema();
        self.floating(schema)
    }

    fn plausible_schema(&mut self) -> i32 {
        if self.rng.random_ratio(1, 4) { -53 } else { self.rng.random_range(-9..=10) }
    }

    /// An integer histogram that is valid but for one thing, or two, or none.
    fn plausible(&mut self) -> Histogram {
        let schema = self.plausible_schema();
        if self.rng.random_ratio(1, 8) {
            return self.integer(schema);
        }
        let mut h = Histogram { schema: schema.clamp(-53, 8), sum: self.float(), ..Histogram::default() };
        let mut total = 0;
        let custom = h.uses_custom_buckets();
        let first = if custom { self.rng.random_range(0..3) } else { self.rng.random_range(-20..20) };
        (h.positive_spans, h.positive_buckets) = self.side(first, &mut total);
        if custom {
            let covered: i64 = h.positive_spans.iter().map(|s| i64::from(s.offset) + i64::from(s.length)).sum();
            h.custom_values = (0..covered.max(1) - 1).map(|i| i as f64 * 1.5 - 2.0).collect();
        } else {
            (h.negative_spans, h.negative_buckets) = self.side(first, &mut total);
            h.zero_threshold = 0.001;
            h.zero_count = self.rng.random_range(0..5);
        }
        h.count = total + h.zero_count;
        for _ in 0..self.rng.random_range(0..3u32).saturating_sub(1) {
            self.spoil(&mut h);
        }
        h
    }

    fn side(&mut self, first: i32, total: &mut u64) -> (Vec<Span>, Vec<i64>) {
        let (mut spans, mut buckets, mut last) = (Vec::new(), Vec::new(), 0);
        for i in 0..self.rng.random_range(0..3) {
            let offset = if i == 0 { first } else { self.rng.random_range(0..4) };
            let length = self.rng.random_range(0..5);
            spans.push(Span { offset, length });
            for _ in 0..length {
                let count = self.rng.random_range(0..6);
                buckets.push(count - last);
                *total += count as u64;
                last = count;
            }
        }
        (spans, buckets)
    }

    /// Breaks one rule.
    fn spoil(&mut self, h: &mut Histogram) {
        match self.rng.random_range(0..11) {
            0 => h.count += 1,
            1 => h.count = h.count.saturating_sub(1),
            2 => h.schema = self.rng.random_range(-60..60),
            3 => h.positive_buckets.push(0),
            4 => h.positive_spans.push(Span { offset: -1, length: 0 }),
            5 => h.negative_buckets.push(-100),
            6 => h.custom_values.push(f64::NAN),
            7 => h.custom_values.push(self.rng.random_range(-5..5) as f64),
            8 => h.zero_count += 1,
            9 => h.zero_threshold = 1.0,
            _ => h.custom_values.push(f64::INFINITY),
        }
    }
}
