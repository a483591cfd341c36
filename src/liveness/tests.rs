//! Tests of the machine with invented instants.

mod adaptive;
mod idle;
mod jitter;
mod misses;
mod model;
mod modes;
mod neighbours;
mod pause;
mod pings;
mod properties;
mod regressions;
mod rest;
mod sending;
mod sim;
mod spurious;
mod standing;
mod unsupported;

use std::{sync::Arc, time::Duration};

use super::{Action, Ending, Liveness, Rest, Standing};
use crate::{
    config::{Config, ConfigBuilder, Detector, Evidence, PingWhen},
    error::Failure,
    moment::Moment,
    rtt::Rtt,
};

const INTERVAL: Duration = Duration::from_secs(30);
const PONG_TIMEOUT: Duration = Duration::from_secs(10);
const READY_TIMEOUT: Duration = Duration::from_secs(5);
const NANOSECOND: Duration = Duration::from_nanos(1);

const MODES: [PingWhen; 4] = [
    PingWhen::Always,
    PingWhen::Quiet,
    PingWhen::WhileBusy,
    PingWhen::NotBusy,
];

/// 30 s, 10 s, three misses, and a ready wait that differs from the pong wait.
fn settings() -> ConfigBuilder {
    Config::builder()
        .interval(INTERVAL)
        .pong_timeout(PONG_TIMEOUT)
        .max_missed(3)
        .ready_timeout(READY_TIMEOUT)
}

fn start(settings: ConfigBuilder) -> Liveness {
    Liveness::new(Arc::new(settings.build().expect("legal")), at(0), true, 7)
}

fn start_without_pings(settings: ConfigBuilder) -> Liveness {
    Liveness::new(Arc::new(settings.build().expect("legal")), at(0), false, 7)
}

/// A machine whose first ping went out when it was due, at 30 s.
fn start_pinged(settings: ConfigBuilder) -> Liveness {
    let mut machine = start(settings);
    send_ping(&mut machine, at(30));
    machine
}

fn send_ping(machine: &mut Liveness, now: Moment) {
    assert_eq!(machine.handle_timeout(now), Some(Action::Ping));
    machine.on_ping_sent(now);
    assert_eq!(machine.handle_timeout(now), None);
}

fn at(seconds: u64) -> Moment {
    Moment::default().after(secs(seconds))
}

fn at_millis(millis: u64) -> Moment {
    Moment::default().after(Duration::from_millis(millis))
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn just_before(moment: Moment) -> Moment {
    Moment::default().after(moment.since(Moment::default()) - NANOSECOND)
}

fn just_after(moment: Moment) -> Moment {
    moment.after(NANOSECOND)
}

/// All that is due at `now`.
fn drain(machine: &mut Liveness, now: Moment) -> Vec<Action> {
    let mut actions = Vec::new();
    while let Some(action) = machine.handle_timeout(now) {
        actions.push(action);
        assert!(actions.len() <= 20, "no end of {actions:?}");
        if let Action::End(_) = action {
            break;
        }
    }
    actions
}

/// `action` is the next that is due: at `due_at`, after it, and not a nanosecond before.
#[track_caller]
fn assert_due_at(machine: &Liveness, due_at: Moment, action: Action) {
    assert_eq!(machine.next_timeout(), Some(due_at));
    assert_eq!(machine.clone().handle_timeout(just_before(due_at)), None);
    assert_eq!(machine.clone().handle_timeout(due_at), Some(action));
    assert_eq!(
        machine.clone().handle_timeout(just_after(due_at)),
        Some(action)
    );
}

/// Nothing but the verdict is due at `due_at`, after one more look.
#[track_caller]
fn assert_ends_at(machine: &Liveness, due_at: Moment, ending: Ending) {
    assert_due_at(machine, due_at, Action::LookAgain);
    assert_eq!(
        drain(&mut machine.clone(), due_at),
        [Action::LookAgain, Action::End(ending)]
    );
}

#[track_caller]
fn assert_dormant(machine: &Liveness) {
    assert_eq!(machine.next_timeout(), None);
    assert_eq!(machine.clone().handle_timeout(at(1_000_000)), None);
}

fn suspect() -> Action {
    Action::Standing(Standing::Suspect { unverified: false })
}

fn unverified() -> Action {
    Action::Standing(Standing::Unverified)
}

fn well() -> Action {
    Action::Standing(Standing::Well)
}

fn leaving() -> Action {
    Action::Standing(Standing::Leaving)
}
