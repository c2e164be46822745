//! Random pages of both formats: mostly sound, each kind of line with the odd things the formats allow and forbid.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// A page in the text format.
pub(super) fn text(rng: &mut StdRng) -> Vec<u8> {
    Pages { rng, openmetrics: false, family: "m".into(), kind: "gauge" }.page()
}

/// A page in OpenMetrics.
pub(super) fn openmetrics(rng: &mut StdRng) -> Vec<u8> {
    Pages { rng, openmetrics: true, family: "m".into(), kind: "gauge" }.page()
}

/// Changes one to three bytes: another value, gone, or one more.
pub(super) fn mutate(rng: &mut StdRng, page: &mut Vec<u8>) {
    const TELLING: &[u8] = b"\0\t\n\r \"#+,-.0159:=EHTUa_\\{}\x80\xc3\xff";
    for _ in 0..rng.random_range(1..=3) {
        let at = rng.random_range(0..=page.len());
        let byte = if rng.random_bool(0.8) { *TELLING.choose(rng).expect("some") } else { rng.random() };
        match rng.random_range(0..3) {
            0 => page.insert(at, byte),
            1 if at < page.len() => page[at] = byte,
            _ if at < page.len() => drop(page.remove(at)),
            _ => {}
        }
    }
}

struct Pages<'a> {
    rng: &'a mut StdRng,
    openmetrics: bool,
    family: String,
    kind: &'static str,
}

impl Pages<'_> {
    fn page(&mut self) -> Vec<u8> {
        let mut page = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            self.block(&mut page);
        }
        if self.openmetrics && !self.chance(0.03) {
            page.extend_from_slice(self.pick(&["# EOF\n", "# EOF\n", "# EOF", "# EOF\n\n", "# EOFx"]).as_bytes());
        }
        page
    }

    fn chance(&mut self, p: f64) -> bool {
        self.rng.random_bool(p)
    }

    fn pick<'s>(&mut self, from: &[&'s str]) -> &'s str {
        from.choose(self.rng).expect("a list to pick from")
    }

    /// A family: metadata, then samples, then perhaps `_created` lines.
    fn block(&mut self, page: &mut Vec<u8>) {
        self.family = self.name();
        self.kind = if self.openmetrics {
            self.pick(&[
                "counter",
                "counter",
                "gauge",
                "histogram",
                "histogram",
                "gaugehistogram",
                "summary",
                "info",
                "stateset",
                "unknown",
            ])
        } else {
            self.pick(&["counter", "gauge", "histogram", "histogram", "summary", "untyped"])
        };
        for _ in 0..self.rng.random_range(0..3) {
            self.metadata(page);
        }
        let suffix = match self.kind {
            "counter" => self.pick(&["_total", "_total", ""]),
            "histogram" | "gaugehistogram" => self.pick(&["_bucket", "_bucket", "_sum", "_count"]),
            "summary" => self.pick(&["", "", "_sum", "_count"]),
            _ => "",
        };
        let sets: Vec<Vec<u8>> = (0..self.rng.random_range(1..3)).map(|_| self.label_set()).collect();
        for set in &sets {
            self.sample(page, suffix, set);
        }
        if self.openmetrics && self.chance(0.5) {
            for set in &sets {
                self.sample(page, "_created", set);
            }
        }
    }

    fn name(&mut self) -> String {
        let legacy = ["m", "http_requests", "a:b", "up", "_x", "rpc_seconds", "A9"];
        let quoted = [
            "\"m.x\"",
            "\"with space\"",
            "\"esc\\\"q\\\\\"",
            "\"ü\"",
            "\"new\\nline\"",
            "\"\"",
            "\"_seconds\"",
            "\"raw\nline\"",
        ];
        if self.chance(0.75) { self.pick(&legacy).into() } else { self.pick(&quoted).into() }
    }

    fn blanks(&mut self) -> &'static str {
        if self.openmetrics {
            if self.chance(0.005) { "  " } else { " " }
        } else {
            self.pick(&[" ", " ", " ", "  ", "\t", " \t "])
        }
    }

    fn metadata(&mut self, page: &mut Vec<u8>) {
        if !self.openmetrics && self.chance(0.2) {
            let comment = [
                "# plain",
                "#",
                "#HELP x y",
                "# HELP",
                "# TYPEm counter",
                "  ",
                "",
                "#\t HELPER",
                "# UNIT m s",
                "# \\\"é",
            ];
            page.extend_from_slice(self.pick(&comment).as_bytes());
            page.push(b'\n');
            return;
        }
        let keyword = if self.openmetrics {
            self.pick(&["HELP", "TYPE", "TYPE", "UNIT", "UNIT"])
        } else {
            self.pick(&["HELP", "TYPE"])
        };
        let name =
            if self.chance(0.02) { self.pick(&["", "9x", "\"open", "-"]).to_owned() } else { self.family.clone() };
        let parts = [self.blanks(), keyword, self.blanks(), &name];
        page.push(b'#');
        parts.iter().for_each(|part| page.extend_from_slice(part.as_bytes()));
        if !self.chance(0.02) {
            page.extend_from_slice(
                if self.openmetrics { self.blanks() } else { self.pick(&[" ", " ", " ", "\t", "-"]) }.as_bytes(),
            );
        }
        match keyword {
            "TYPE" if self.chance(0.03) => {
                page.extend_from_slice(self.pick(&["", "Counter", "counter ", "info ", " gauge"]).as_bytes())
            }
            "TYPE" => page.extend_from_slice(self.kind.as_bytes()),
            "UNIT" => page.extend_from_slice(self.pick(&["seconds", "", "seconds", "bytes", "x"]).as_bytes()),
            _ => {
                let text: [&[u8]; 8] = [
                    b"some help",
                    b"",
                    b"a\\nb\\\\c\\\"d",
                    "größe 世界".as_bytes(),
                    b"bad \xff",
                    b" two  blanks ",
                    b"nul\0here",
                    b"\t",
                ];
                page.extend_from_slice(text.choose(self.rng).expect("some"));
            }
        }
        page.push(b'\n');
    }

    /// What stands between the braces.
    fn label_set(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let count = self.rng.random_range(0..4);
        for index in 0..count {
            if index > 0 && !self.chance(0.01) {
                out.push(b',');
            }
            self.pad(&mut out);
            let bound = match self.kind {
                "summary" => "quantile",
                _ => "le",
            };
            let name = if index == 0 && self.chance(0.5) {
                bound
            } else {
                self.pick(&[
                    "a",
                    "b",
                    "code",
                    "_z",
                    "A9",
                    "\"quoted\"",
                    "\"q.x\"",
                    "\"é\"",
                    "\"e\\\"s\"",
                    "__name__",
                    "\"le\"",
                ])
            };
            let name = if self.chance(0.004) { self.pick(&["", "1a", "a-b", "\"open"]) } else { name };
            out.extend_from_slice(name.as_bytes());
            self.pad(&mut out);
            if !self.chance(0.004) {
                out.push(b'=');
            }
            self.pad(&mut out);
            if name == bound {
                self.bound(&mut out)
            } else {
                self.label_value(&mut out)
            }
            self.pad(&mut out);
        }
        if count > 0 && self.chance(0.1) {
            out.push(b',');
        }
        out
    }

    fn pad(&mut self, out: &mut Vec<u8>) {
        if !self.openmetrics && self.chance(0.1) {
            out.extend_from_slice(self.blanks().as_bytes());
        }
    }

    fn label_value(&mut self, out: &mut Vec<u8>) {
        let values: [&[u8]; 14] = [
            b"x",
            b"",
            b"200",
            "über".as_bytes(),
            b"a\\nb",
            b"q\\\"q",
            b"back\\\\slash",
            b"odd\\t\\x",
            b"nul\0in",
            b"{},=#",
            b"raw\nfeed",
            b" ",
            b"esc\\\0\"x",
            b"bad\xc3",
        ];
        let common = self.chance(0.8);
        out.push(b'"');
        out.extend_from_slice(
            if common { values[..8].choose(self.rng) } else { values.choose(self.rng) }.expect("some"),
        );
        if !self.chance(0.004) {
            out.push(b'"');
        }
    }

    fn bound(&mut self, out: &mut Vec<u8>) {
        let bounds = [
            "1",
            "0.5",
            "+Inf",
            "1e6",
            "1.0",
            "0x1p-2",
            "0x1.fffffffffffff8p0",
            "1_000",
            "0X1P+4",
            "nan",
            "inf",
            "1e400",
            "-0",
            "0x1p-1075",
            "abc",
            "123456789",
            "0.00001",
            "0x1p2000",
            "5e-324",
            "0x.8p1",
            "1__0",
            "-Infinity",
            "\\n1",
            "0x1_0p0",
            "100000",
            "1e21",
        ];
        out.push(b'"');
        out.extend_from_slice(self.pick(&bounds).as_bytes());
        out.push(b'"');
    }

    fn sample(&mut self, page: &mut Vec<u8>, suffix: &str, set: &[u8]) {
        if !self.openmetrics && self.chance(0.1) {
            page.extend_from_slice(self.blanks().as_bytes());
        }
        let name = self.family.clone();
        match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
            Some(inner) => {
                let quoted = format!("\"{inner}{suffix}\"");
                let last = self.chance(0.2) && !set.is_empty() && !set.ends_with(b",");
                let none = self.chance(0.01);
                let parts: [&[u8]; 4] = match (none, last, set.is_empty()) {
                    (true, ..) => [b"{", set, b"", b"}"],
                    (_, true, _) => [set, b",", quoted.as_bytes(), b"}"],
                    (_, _, true) => [b"{", quoted.as_bytes(), b"", b"}"],
                    _ => [quoted.as_bytes(), b",", set, b"}"],
                };
                if parts[0] != b"{" {
                    page.push(b'{');
                }
                parts.iter().for_each(|part| page.extend_from_slice(part));
            }
            None => {
                page.extend_from_slice(name.as_bytes());
                page.extend_from_slice(suffix.as_bytes());
                if !set.is_empty() || self.chance(0.2) {
                    self.pad(page);
                    page.push(b'{');
                    if self.chance(0.01) {
                        page.extend_from_slice(b"\"twice\",");
                    }
                    page.extend_from_slice(set);
                    page.push(b'}');
                }
            }
        }
        self.end_of_sample(page, suffix == "_created");
    }

    fn end_of_sample(&mut self, page: &mut Vec<u8>, created: bool) {
        page.extend_from_slice(self.blanks().as_bytes());
        if created && self.chance(0.9) {
            page.extend_from_slice(self.pick(&["1.7e9", "1700000000.123", "0.5", "1e300", "nan", "-5"]).as_bytes());
        } else {
            page.extend_from_slice(self.value().as_bytes());
        }
        if self.chance(0.3) {
            page.extend_from_slice(self.blanks().as_bytes());
            let time = if self.openmetrics {
                self.seconds()
            } else {
                self.pick(&[
                    "0",
                    "1395066363000",
                    "99999999999999999999",
                    "12a",
                    "-5",
                    "9223372036854775807",
                    "1 2",
                    "1 x",
                ])
            };
            page.extend_from_slice(time.as_bytes());
        } else if !self.openmetrics && self.chance(0.1) {
            page.extend_from_slice(self.blanks().as_bytes());
        }
        if self.openmetrics && self.chance(0.25) {
            self.exemplar(page);
        }
        if self.openmetrics && self.chance(0.01) {
            page.extend_from_slice(self.pick(&[" ", " #", " # x", " # "]).as_bytes());
        }
        if !self.chance(0.005) {
            page.push(b'\n');
        }
    }

    fn exemplar(&mut self, page: &mut Vec<u8>) {
        page.extend_from_slice(if self.chance(0.02) { b" #{" } else { b" # {" });
        let kind = std::mem::replace(&mut self.kind, "gauge");
        let set = self.label_set();
        self.kind = kind;
        page.extend_from_slice(&set);
        if self.chance(0.01) {
            page.extend_from_slice(b",\"noequal\"");
        }
        page.extend_from_slice(b"} ");
        page.extend_from_slice(self.value().as_bytes());
        if self.chance(0.5) {
            page.push(b' ');
            page.extend_from_slice(self.seconds().as_bytes());
        }
        if self.chance(0.02) {
            page.extend_from_slice(self.pick(&[" 1", " ", "x"]).as_bytes());
        }
    }

    fn seconds(&mut self) -> &'static str {
        self.pick(&[
            "1",
            "1520879607.789",
            "-0.0019",
            "1e3",
            "1.7952328254111722e+09",
            "0",
            "1e300",
            "NaN",
            "+Inf",
            "x",
            "-1e16",
            "9223372036854775.5",
        ])
    }

    fn value(&mut self) -> String {
        let odd = [
            "NaN",
            "nan",
            "+Inf",
            "-Inf",
            "inf",
            "Infinity",
            "-0",
            "0",
            "1e308",
            "5e-324",
            "-2.5e-310",
            "1e400",
            "0x1p1",
            "1_0",
            "+nan",
            "",
            "abc",
            ".5",
            "5.",
            "-.5e-3",
            "1e",
            "+1",
            "0.1e+2",
            "1797693134862315700000000000000000000000000",
            "1#",
            "18446744073709551616",
        ];
        match self.rng.random_range(0..10) {
            0..3 => self.pick(&odd).into(),
            3..6 => self.rng.random_range(0..100_000).to_string(),
            6..8 => format!("{}", self.rng.random::<f64>() * 1e6),
            _ => format!("{:e}", f64::from_bits(self.rng.random())),
        }
    }
}
