//! The driver of the Go program in `interop/`: builds it, starts it, asks it.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value, json};

use crate::sh;

/// A process of the reference implementation. Dropping it ends the process.
pub(crate) struct Reference {
    child: Child,
    requests: Option<BufWriter<ChildStdin>>,
    answers: BufReader<ChildStdout>,
    /// What it wrote to standard error: Go's report when it dies.
    complaints: File,
}

/// A successful answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The header's fields.
    pub(crate) fields: Map<String, Value>,
    /// The bytes behind it.
    pub(crate) payload: Vec<u8>,
}

impl Answer {
    /// A number field; an error when it is absent or none.
    pub(crate) fn u64(&self, field: &str) -> Result<u64> {
        self.get(field)?.as_u64().with_context(|| format!("{field} is no unsigned number: {}", self.fields[field]))
    }

    /// A signed number field.
    pub(crate) fn i64(&self, field: &str) -> Result<i64> {
        self.get(field)?.as_i64().with_context(|| format!("{field} is no number: {}", self.fields[field]))
    }

    /// A number with a fraction.
    pub(crate) fn f64(&self, field: &str) -> Result<f64> {
        self.get(field)?.as_f64().with_context(|| format!("{field} is no number: {}", self.fields[field]))
    }

    /// A text field.
    pub(crate) fn str(&self, field: &str) -> Result<&str> {
        self.get(field)?.as_str().with_context(|| format!("{field} is no text: {}", self.fields[field]))
    }

    fn get(&self, field: &str) -> Result<&Value> {
        self.fields.get(field).with_context(|| format!("the answer has no field {field}"))
    }
}

/// Why a call has no answer. Reach it with `error.downcast_ref::<Refusal>()`.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// The operation that was asked for.
    pub(crate) op: String,
    /// The reference's own words.
    pub(crate) error: String,
    /// Whether it panicked rather than returned an error.
    pub(crate) panic: bool,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the reference {} at {}: {}", if self.panic { "panicked" } else { "refused" }, self.op, self.error)
    }
}

impl std::error::Error for Refusal {}

/// The process is gone: killed, out of memory, or ended by Go's runtime.
#[derive(Debug)]
pub(crate) struct Died {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// The last of what it wrote to standard error.
    pub(crate) complaints: String,
}

impl std::fmt::Display for Died {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the reference died ({}): {}", self.status, self.complaints)
    }
}

impl std::error::Error for Died {}

impl Reference {
    /// Builds the Go program when its sources changed (once per run), and starts it.
    pub(crate) fn start() -> Result<Self> {
        Self::start_with(|_| {})
    }

    /// As [`start`](Self::start), with a say in the command: environment such as `GOGC`, a CPU limit.
    pub(crate) fn start_with(adjust: impl FnOnce(&mut Command)) -> Result<Self> {
        let mut command = Command::new(binary()?);
        adjust(&mut command);
        Self::spawn(command)
    }

    /// A process of ours that answers the `dir.*` operations the same way (serve.rs): a row can then ask, and kill, both.
    pub(crate) fn ourselves() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve");
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Result<Self> {
        let complaints = tempfile::tempfile().context("cannot make a temporary file")?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints.try_clone()?);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let requests = child.stdin.take().map(BufWriter::new);
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, requests, answers, complaints })
    }

    /// Asks and waits for the answer. `args` is a JSON object of the operation's arguments.
    ///
    /// A refusal is an error that downcasts to [`Refusal`], the end of the process one that downcasts to [`Died`].
    pub(crate) fn call(&mut self, op: &str, args: Value, payload: &[u8]) -> Result<Answer> {
        self.send(op, args, payload)?;
        self.receive(op)
    }

    /// As [`call`](Self::call), where a refusal is as good an answer as any: for comparing what is accepted.
    pub(crate) fn ask(&mut self, op: &str, args: Value, payload: &[u8]) -> Result<Result<Answer, Refusal>> {
        match self.call(op, args, payload) {
            Ok(answer) => Ok(Ok(answer)),
            Err(error) => error.downcast::<Refusal>().map(Err),
        }
    }

    /// Asks without waiting: answers come in the order of the questions.
    pub(crate) fn send(&mut self, op: &str, args: Value, payload: &[u8]) -> Result<()> {
        let Value::Object(mut header) = args else { bail!("arguments of {op} are no JSON object") };
        header.insert("op".into(), json!(op));
        header.insert("payload".into(), json!(payload.len()));
        let mut line = serde_json::to_vec(&header)?;
        line.push(b'\n');
        let requests = self.requests.as_mut().context("the reference is closed")?;
        let sent = requests.write_all(&line).and_then(|()| requests.write_all(payload)).and_then(|()| requests.flush());
        match sent {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(self.obituary()),
            Err(error) => Err(error).with_context(|| format!("cannot ask the reference for {op}")),
        }
    }

    /// Waits for the answer to the oldest question that has none yet.
    pub(crate) fn receive(&mut self, op: &str) -> Result<Answer> {
        let mut line = Vec::new();
        let n = self.answers.read_until(b'\n', &mut line).context("cannot read the reference's answer")?;
        if n == 0 || line.last() != Some(&b'\n') {
            return Err(self.obituary());
        }
        let mut fields: Map<String, Value> = serde_json::from_slice(&line)
            .with_context(|| format!("answer is no JSON: {}", String::from_utf8_lossy(&line)))?;
        let length = fields.remove("payload").and_then(|n| n.as_u64()).context("answer without payload length")?;
        let mut payload = vec![0; usize::try_from(length)?];
        if self.answers.read_exact(&mut payload).is_err() {
            return Err(self.obituary());
        }
        if fields.remove("ok") == Some(Value::Bool(true)) {
            return Ok(Answer { fields, payload });
        }
        let error = fields.remove("error").and_then(|e| e.as_str().map(str::to_owned)).unwrap_or_default();
        let panic = fields.remove("panic") == Some(Value::Bool(true));
        Err(Refusal { op: op.to_owned(), error, panic }.into())
    }

    /// Ends it with SIGKILL, in the middle of whatever it does.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn obituary(&mut self) -> anyhow::Error {
        self.requests = None;
        let status = match self.child.wait() {
            Ok(status) => status,
            Err(error) => return anyhow!(error).context("cannot wait for the reference"),
        };
        let mut complaints = Vec::new();
        let read = self.complaints.seek(SeekFrom::Start(0)).and_then(|_| self.complaints.read_to_end(&mut complaints));
        if let Err(error) = read {
            complaints = error.to_string().into_bytes();
        }
        complaints.truncate(4000);
        Died { status, complaints: String::from_utf8_lossy(&complaints).into_owned() }.into()
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.requests = None;
        // Either may fail only because it is gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The built Go program. `go build` decides whether anything is to be done; it is asked once per run.
fn binary() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}"))).clone().map_err(|error| anyhow!(error))
}

fn build() -> Result<PathBuf> {
    let binary = sh::target_dir().join("interop").join("reference");
    let mut go = Command::new("go");
    go.current_dir(sh::root().join("interop"))
        .args(["build", "-trimpath", "-buildvcs=false", "-o"])
        .arg(&binary)
        .arg(".");
    sh::run(&mut go).context("cannot build the reference (Go is needed: see CONTRIBUTING.md)")?;
    Ok(binary)
}
