//! A network namespace with a loopback interface, and rules that drop what is sent there.

use std::{
    env, fs,
    process::{Command, Stdio},
};

use super::skip::skip;

/// Names the network of the process that asked for another one.
const OUTSIDE: &str = "HEARTBEAT_TEST_OUTSIDE";

/// Runs `test` in a network of its own; `name` is the test's that calls this, with its path.
pub(crate) fn alone<F: Future<Output = ()>>(name: &str, test: F) {
    if let Some(outside) = env::var_os(OUTSIDE) {
        assert_ne!(outside, this_network(), "it must not touch the machine's");
        must_run("ip", &["link", "set", "lo", "up"]);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(test);
    }
    let Some(unshare) = way_in() else {
        return skip(
            "netns",
            "no network namespace, or no `ip` or `iptables` in it",
        );
    };
    let output = Command::new("timeout")
        .args(["60", "unshare"])
        .args(unshare)
        .arg(env::current_exe().expect("it runs"))
        .args(["--exact", name, "--nocapture"])
        .env(OUTSIDE, this_network())
        .output()
        .expect("it ran before");
    let told = String::from_utf8_lossy(&output.stdout);
    print!("{told}");
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{name}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Drops what arrives and fits `rule`; empty, it is everything.
pub(crate) fn drop_packets(rule: &[&str]) {
    let rule = [&["-w", "-A", "INPUT"], rule, &["-j", "DROP"]].concat();
    must_run("iptables", &rule);
}

/// Lets everything through again.
pub(crate) fn let_through() {
    must_run("iptables", &["-w", "-F", "INPUT"]);
}

/// How `unshare` gets there: as root, or as one who is root there only.
fn way_in() -> Option<&'static [&'static str]> {
    const WAYS: [&[&str]; 2] = [&["--net"], &["--net", "--map-root-user"]];
    let tries = "ip link set lo up && iptables -w -A INPUT -j DROP";
    WAYS.into_iter().find(|way| {
        let mut command = Command::new("timeout");
        let command = command.args(["10", "unshare"]).args(*way);
        runs(command.args(["sh", "-c", tries]))
    })
}

fn this_network() -> std::ffi::OsString {
    let network = fs::read_link("/proc/self/ns/net").expect("Linux has it");
    network.into()
}

fn must_run(program: &str, arguments: &[&str]) {
    assert!(runs(Command::new(program).args(arguments)), "{arguments:?}");
}

fn runs(command: &mut Command) -> bool {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
