//! A process that a test freezes and thaws, and that ends with this value.

use std::{
    env, fs,
    process::{Child, Command, Stdio},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::support::millis;

pub(crate) struct Process {
    pub(crate) child: Child,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Process {
        let child = command.spawn().expect("it ran before");
        Process { child }
    }

    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        // The signal is out; a thread on another core stops when it takes it.
        for _ in 0..5_000 {
            if self.has_stopped() {
                return;
            }
            thread::sleep(millis(1));
        }
        panic!("it does not stop");
    }

    fn has_stopped(&self) -> bool {
        let tasks = format!("/proc/{}/task", self.child.id());
        fs::read_dir(tasks).expect("it runs").all(|task| {
            let stat = task.expect("readable").path().join("stat");
            let stat = fs::read_to_string(stat).unwrap_or_default();
            // The state follows the name, which stands in parentheses.
            let state = stat.rsplit(") ").next().unwrap_or_default();
            state.starts_with('T')
        })
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(id), signal).expect("it runs");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL, which also ends a frozen one.
        let _ended_before = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Python that has what the scripts beside this file import.
pub(crate) fn python() -> String {
    env::var("PEERS_PYTHON").unwrap_or_else(|_| "python3".into())
}

pub(crate) fn script(name: &str) -> String {
    format!("{}/tests/real_peers/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn has_python_with(imports: &str) -> bool {
    runs(Command::new(python()).args(["-c", imports]))
}

pub(crate) fn runs(command: &mut Command) -> bool {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
