//! What no compiler checks: file lengths, and traces of a private machine.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::sh;

/// Past this many lines a file has to say why it is one room and not two.
const LONGEST: usize = 500;

/// Files that are longer, with the length they may not exceed: a ratchet that only goes down.
const RATCHET: &str = "xtask/length-ratchet.txt";

pub(crate) fn check() -> Result<()> {
    let files = tracked_files()?;
    let mut violations = lengths(&line_counts(&files)?, &read_ratchet()?);
    for path in &files {
        // Binary goldens may contain any bytes by chance.
        if let Ok(text) = std::fs::read_to_string(sh::root().join(path)) {
            let traces = private_traces(&text, &private_words());
            violations.extend(traces.iter().map(|trace| format!("{}:{trace}", path.display())));
        }
    }
    if violations.is_empty() { Ok(()) } else { bail!("\n  {}", violations.join("\n  ")) }
}

/// Rewrites the ratchet: entries go down or away; a new one needs `--allow`'s honesty, an edit by hand.
pub(crate) fn bless() -> Result<()> {
    let counts = line_counts(&tracked_files()?)?;
    let ratchet = read_ratchet()?.into_iter().filter_map(|(path, allowed)| {
        let now = counts.get(&path).copied().filter(|now| *now > LONGEST)?;
        Some(format!("{path} {}\n", now.min(allowed)))
    });
    std::fs::write(sh::root().join(RATCHET), ratchet.collect::<String>()).context(RATCHET)
}

/// Everything git knows about, except what other tools own.
fn tracked_files() -> Result<Vec<PathBuf>> {
    let mut git = std::process::Command::new("git");
    let listed =
        sh::output(git.current_dir(sh::root()).args(["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    Ok(listed.lines().map(PathBuf::from).filter(|path| sh::root().join(path).is_file()).collect())
}

/// Lines of every source file.
fn line_counts(files: &[PathBuf]) -> Result<BTreeMap<String, usize>> {
    let sources = files.iter().filter(|path| path.extension().is_some_and(|e| e == "rs" || e == "go"));
    sources
        .map(|path| {
            let text = std::fs::read_to_string(sh::root().join(path)).with_context(|| path.display().to_string())?;
            Ok((path.display().to_string(), text.lines().count()))
        })
        .collect()
}

/// The ratchet's lines: path, lines.
fn read_ratchet() -> Result<BTreeMap<String, usize>> {
    let text = std::fs::read_to_string(sh::root().join(RATCHET)).unwrap_or_default();
    text.lines()
        .map(|line| {
            let (path, lines) = line.rsplit_once(' ').with_context(|| format!("{RATCHET}: {line}"))?;
            Ok((path.to_owned(), lines.parse()?))
        })
        .collect()
}

fn lengths(counts: &BTreeMap<String, usize>, ratchet: &BTreeMap<String, usize>) -> Vec<String> {
    let mut violations = Vec::new();
    for (path, &lines) in counts {
        let allowed = ratchet.get(path).copied().unwrap_or(LONGEST);
        if lines > allowed {
            violations.push(format!("{path}: {lines} lines, {allowed} allowed: is it two rooms? (else: {RATCHET})"));
        }
    }
    violations
}

/// Words that name the machine this runs on: its host name, and where the repository and the home folder are.
fn private_words() -> Vec<String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let home = std::env::var("HOME").unwrap_or_default();
    let words = [host.trim().to_owned(), home, sh::root().display().to_string()];
    // Short or general names would be found in ordinary text.
    words.into_iter().filter(|word| word.len() >= 6 && word != "localhost").collect()
}

/// Places that only exist on somebody's machine, as "line: what".
fn private_traces(text: &str, words: &[String]) -> Vec<String> {
    let mut traces = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let folder = ["home", "root", "Users", "work", "tmp"].iter().find(|folder| mentions_folder(line, folder));
        let found = folder.map(|folder| format!("a path below /{folder}"));
        let found = found.or_else(|| words.iter().find(|word| line.contains(word.as_str())).cloned());
        traces.extend(found.map(|what| format!("{}: {what}: nothing of a private machine belongs here", n + 1)));
    }
    traces
}

/// Whether a line has an absolute path below this top-level folder.
fn mentions_folder(line: &str, folder: &str) -> bool {
    let path = format!("/{folder}/");
    line.match_indices(&path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        // Within a longer path or an address it is somebody else's folder; a name must follow.
        let starts = before.is_none_or(|c| !c.is_alphanumeric() && !"./_-~}>*".contains(c));
        starts && after.is_some_and(|c| c.is_alphanumeric() || c == '.' || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_grows_past_the_limit_or_its_ratchet_is_found() {
        let counts = |lines| BTreeMap::from([("a.rs".to_owned(), lines)]);
        let ratchet = BTreeMap::from([("a.rs".to_owned(), 700)]);
        assert!(lengths(&counts(LONGEST), &BTreeMap::new()).is_empty());
        assert_eq!(lengths(&counts(LONGEST + 1), &BTreeMap::new()).len(), 1);
        assert!(lengths(&counts(700), &ratchet).is_empty());
        assert_eq!(lengths(&counts(701), &ratchet).len(), 1);
    }

    #[test]
    fn paths_of_a_machine_are_found_and_others_are_not() {
        let (home, work) = (format!("/{}/", "home"), format!("/{}/", "work"));
        let found = |line: &str| !private_traces(line, &["builder-7".to_owned()]).is_empty();
        assert!(found(&format!("see {home}ann/x")) && found(&format!("\"{work}main\"")) && found("on builder-7"));
        assert!(!found(&format!("https://x.org{home}page")) && !found(&format!("data{work}x")) && !found(&home));
    }
}
