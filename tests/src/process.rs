//! Processes: commands that end by themselves, and nodes that run until they are stopped. None is left behind, and those
//! of a failed test show their logs.
//!
//! Not here: which processes; see [`crate::seed`], [`crate::device`] and [`crate::client`].

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::log::Log;
use crate::wait::{self, PATIENCE};

/// What a command that ended said.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The command, for people.
    pub command: String,
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it printed as a result.
    pub stdout: String,
    /// What else it said.
    pub stderr: String,
}

impl Outcome {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it cannot be started, or does not end within [`PATIENCE`].
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = read_all(child.stdout.take().expect("stdout is a pipe"));
        let stderr = read_all(child.stderr.take().expect("stderr is a pipe"));
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                break Some(status);
            }
            if Instant::now() >= deadline {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            thread::sleep(Duration::from_millis(5));
        };
        let text = |reader: thread::JoinHandle<Vec<u8>>| String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned();
        let (stdout, stderr) = (text(stdout), text(stderr));
        let status = status.unwrap_or_else(|| panic!("{command:?} did not end\nstdout: {stdout}\nstderr: {stderr}"));
        Self { command: format!("{command:?}"), code: status.code(), stdout, stderr }
    }

    /// Itself, if the exit code is 0.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        self.exited_with(0)
    }

    /// Itself, if this is the exit code.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn exited_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\nstdout: {}\nstderr: {}", self.command, self.stdout, self.stderr);
        self
    }

    /// What it said on stderr, if it failed with exit code 1 and said something, in words for people.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn failed(self) -> String {
        let refused = self.exited_with(1);
        assert!(refused.stderr.contains("hedgerow: ") && !refused.stderr.contains("panicked"), "no clear error: {}", refused.stderr);
        refused.stderr
    }

    /// The one JSON object on the one line that it printed.
    ///
    /// # Panics
    /// When it failed or printed something else.
    #[track_caller]
    pub fn json(self) -> Value {
        let done = self.succeeded();
        assert_eq!(done.stdout.lines().count(), 1, "{} printed not one line: {}", done.command, done.stdout);
        serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{} printed no JSON ({error}): {}", done.command, done.stdout))
    }
}

/// A process that runs until it is stopped. Dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: Log,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Starts a process whose stderr goes to the end of `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command, log: &Log) -> Self {
        command.stdout(Stdio::null());
        Self::spawn(command, log)
    }

    /// Starts a node, and waits until it prints that it is ready: this JSON object.
    ///
    /// # Panics
    /// When it ends before that, or says nothing for [`PATIENCE`].
    #[track_caller]
    pub fn start_node(command: &mut Command, log: &Log) -> (Self, Value) {
        command.stdout(Stdio::piped());
        let mut running = Self::spawn(command, log);
        let stdout = running.child.stdout.take().expect("stdout is a pipe");
        let (say, said) = mpsc::channel();
        thread::spawn(move || {
            // To the end of the stream, so that the process never writes to a closed pipe.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = say.send(line);
            }
        });
        match said.recv_timeout(PATIENCE) {
            Ok(line) => {
                let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("not a line of JSON ({error}): {line}"));
                assert_eq!(ready["event"], "ready", "{line}");
                (running, ready)
            }
            Err(error) => panic!("{command:?} did not become ready ({error}):\n{}", log.tail()),
        }
    }

    #[track_caller]
    fn spawn(command: &mut Command, log: &Log) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(log.path()).expect("a log can be written");
        let child = command.stdin(Stdio::null()).stderr(file).spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child, log: log.clone(), ended: None }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
        }
        self.ended.is_none()
    }

    /// Tells it to stop (SIGTERM).
    pub fn terminate(&mut self) {
        if self.is_running() {
            let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
            assert!(told.expect("kill can be started").success(), "the process cannot be told to stop");
        }
    }

    /// Tells it to stop, and waits until it has: how it ended.
    ///
    /// # Panics
    /// When it does not stop.
    #[track_caller]
    pub fn stop(mut self) -> ExitStatus {
        self.terminate();
        self.wait()
    }

    /// Waits until it has ended: how.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        wait::until("the process to end", || !self.is_running());
        self.ended.expect("it has ended")
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    pub fn kill(mut self) {
        self.kill_now();
    }

    fn kill_now(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_now();
        if thread::panicking() {
            eprintln!("--- end of {} ---\n{}", self.log.path().display(), self.log.tail());
        }
    }
}

fn read_all(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        let _ = from.read_to_end(&mut all);
        all
    })
}
