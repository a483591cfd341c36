//! The table, row by row, at the nanosecond.

use std::{sync::Arc, time::Duration};

use super::{Action, Machine, State};
use crate::{
    moment::Moment,
    server::{limits::Limits, reason::Reason},
};

#[test]
fn a_client_that_begins_no_request_is_cut_off_at_its_limit() {
    let mut machine = machine();
    is_due_at(&mut machine, at(100), Action::Force(Reason::Handshake));
    assert_eq!(machine.state(), over(Reason::Handshake, true));
}

#[test]
fn opening_turns_the_handshake_limit_off_and_is_news_once() {
    let mut machine = machine();
    assert!(machine.on_opened(at(99)));
    assert!(!machine.on_opened(at(99)));
    is_due_at(&mut machine, at(1_000), Action::Drain(Reason::Idle));
}

#[test]
fn idle_counts_from_the_end_of_the_last_of_requests_uploads_and_streams() {
    let mut machine = opened();
    machine.on_streams(true, at(10));
    machine.on_request_start(false, at(10));
    machine.on_request_start(false, at(10));
    machine.on_upload_start(at(10));
    for step in [
        Machine::on_request_end,
        Machine::on_request_end,
        Machine::on_upload_end,
    ] {
        assert_eq!(machine.idle_since(), None);
        step(&mut machine, at(2_000));
    }
    assert_eq!(machine.idle_since(), None, "a stream is open");
    machine.on_streams(false, at(3_000));
    is_due_at(&mut machine, at(4_000), Action::Drain(Reason::Idle));
}

#[test]
fn a_response_that_is_still_written_is_not_idle() {
    let mut machine = opened();
    machine.on_request_start(false, at(0));
    machine.on_request_end(at(10));
    machine.on_blocked(at(30));
    assert_eq!(machine.idle_since(), None);
    machine.on_written(true, at(40));
    is_due_at(&mut machine, at(1_040), Action::Drain(Reason::Idle));
}

#[test]
fn what_is_written_beside_a_response_is_no_use() {
    let mut machine = opened();
    machine.on_written(false, at(500));
    is_due_at(&mut machine, at(1_000), Action::Drain(Reason::Idle));
}

#[test]
fn a_connection_in_use_is_drained_at_its_age_and_cut_off_by_grace() {
    let mut machine = opened();
    machine.on_request_start(false, at(0));
    is_due_at(&mut machine, at(10_000), Action::Drain(Reason::Age));
    is_due_at(&mut machine, at(10_200), Action::Force(Reason::Age));
    assert_eq!(machine.state(), over(Reason::Age, true));
}

#[test]
fn an_idle_http1_connection_of_age_is_drained_with_its_next_request() {
    let mut machine = idle_http1();
    is_silent_at(&mut machine, at(1_500));
    assert!(machine.is_leaving());
    machine.on_request_start(true, at(1_600));
    assert_eq!(machine.action(), Some(Action::Drain(Reason::Age)));
    is_due_at(&mut machine, at(1_800), Action::Force(Reason::Age));
}

#[test]
fn an_idle_http1_connection_of_age_is_drained_when_no_request_comes() {
    let mut machine = idle_http1();
    is_silent_at(&mut machine, at(1_500));
    is_due_at(&mut machine, at(1_700), Action::Drain(Reason::Age));
    is_due_at(&mut machine, at(1_900), Action::Force(Reason::Age));
}

#[test]
fn http1_of_age_is_told_at_once_with_a_request_in_flight() {
    let mut machine = idle_http1();
    machine.on_request_start(true, at(1_450));
    is_due_at(&mut machine, at(1_500), Action::Drain(Reason::Age));
}

#[test]
fn a_last_call_is_idle_too_and_a_shutdown_does_not_wait_for_it() {
    let mut machine = idle_http1();
    is_silent_at(&mut machine, at(1_500));
    machine.drain(Reason::Shutdown, at(1_550));
    assert_eq!(machine.action(), Some(Action::Drain(Reason::Shutdown)));
}

#[test]
fn grace_counts_from_the_first_drain_and_from_when_it_was_noticed() {
    let mut machine = opened();
    machine.drain(Reason::Shutdown, at(50));
    machine.drain(Reason::Idle, at(100));
    assert_eq!(machine.action(), Some(Action::Drain(Reason::Shutdown)));
    is_due_at(&mut machine, at(250), Action::Force(Reason::Shutdown));

    let mut machine = opened();
    machine.handle_timeout(at(1_300));
    assert_eq!(machine.action(), Some(Action::Drain(Reason::Idle)));
    assert_eq!(machine.next_timeout(), at(1_500));
}

#[test]
fn a_drain_that_ends_by_itself_keeps_its_reason() {
    let mut machine = opened();
    machine.drain(Reason::Age, at(50));
    machine.on_end(Reason::ClientClosed);
    assert_eq!(machine.state(), over(Reason::Age, false));
    machine.force(Reason::Closed);
    machine.drain(Reason::Shutdown, at(60));
    assert_eq!(machine.action(), None, "what is over is over");
    assert_eq!(machine.next_timeout(), Moment::NEVER);
}

#[test]
fn an_end_of_its_own_keeps_its_reason_and_a_forced_one_is_not_renamed() {
    let mut machine = opened();
    machine.on_end(Reason::Upgraded);
    assert_eq!(machine.state(), over(Reason::Upgraded, false));

    let mut machine = opened();
    machine.force(Reason::Policed);
    machine.on_end(Reason::ClientClosed);
    assert_eq!(machine.state(), over(Reason::Policed, true));
    assert_eq!(machine.action(), Some(Action::Force(Reason::Policed)));
}

#[test]
fn a_body_that_is_waited_for_is_limited_by_silence_only() {
    let mut machine = opened();
    machine.on_request_start(false, at(0));
    machine.on_upload_start(at(0));
    assert_eq!(machine.next_timeout(), at(10_000), "nobody waits for it");
    machine.on_await_start(at(100));
    machine.on_read(at(300));
    is_due_at(&mut machine, at(600), Action::Force(Reason::Dead));
}

#[test]
fn a_wait_that_is_over_is_forgotten_and_the_next_begins_anew() {
    let mut machine = opened();
    machine.on_request_start(false, at(0));
    machine.on_upload_start(at(0));
    machine.on_await_start(at(100));
    machine.on_await_end(at(200));
    assert_eq!(machine.next_timeout(), at(10_000));
    machine.on_await_start(at(1_000));
    is_due_at(&mut machine, at(1_300), Action::Force(Reason::Dead));
}

#[test]
fn a_body_that_nobody_takes_excuses_those_behind_it() {
    let mut machine = opened();
    machine.on_request_start(false, at(0));
    machine.on_upload_start(at(0));
    machine.on_await_start(at(0));
    machine.on_upload_start(at(100));
    assert_eq!(machine.next_timeout(), at(10_000));
    machine.on_upload_end(at(1_000));
    is_due_at(&mut machine, at(1_300), Action::Force(Reason::Dead));
}

#[test]
fn a_write_that_gets_nowhere_is_stalled_and_each_part_begins_anew() {
    let mut machine = opened();
    machine.on_request_start(false, at(0));
    machine.on_blocked(at(100));
    machine.on_written(true, at(300));
    machine.on_blocked(at(310));
    is_due_at(&mut machine, at(710), Action::Force(Reason::Stalled));
}

#[test]
fn a_frame_that_nobody_takes_is_stalled_unless_another_body_moves() {
    let mut machine = opened();
    machine.on_request_start(false, at(0));
    machine.on_request_start(false, at(0));
    machine.on_untaken(at(100));
    machine.on_untaken(at(200));
    machine.on_taken(at(300));
    is_due_at(&mut machine, at(700), Action::Force(Reason::Stalled));
}

#[test]
fn a_stream_that_outlives_its_request_has_something_to_write() {
    let mut machine = opened();
    machine.on_request_start(false, at(0));
    machine.on_streams(true, at(0));
    assert_eq!(machine.next_timeout(), at(10_000), "the handler works");
    machine.on_request_end(at(100));
    machine.on_written(true, at(200));
    machine.on_written(false, at(300));
    is_due_at(&mut machine, at(600), Action::Force(Reason::Stalled));
}

#[test]
fn a_stream_of_which_no_service_has_told_may_be_in_its_hands() {
    let mut machine = opened();
    machine.on_streams(true, at(0));
    assert_eq!(machine.next_timeout(), at(10_000));
}

#[test]
fn a_stalled_client_is_found_while_its_connection_drains() {
    let mut machine = opened();
    machine.on_request_start(false, at(0));
    machine.on_blocked(at(100));
    machine.drain(Reason::Shutdown, at(400));
    assert_eq!(machine.action(), Some(Action::Drain(Reason::Shutdown)));
    is_due_at(&mut machine, at(500), Action::Force(Reason::Stalled));
}

#[test]
fn an_older_moment_counts_as_the_newest_one_seen() {
    let mut machine = opened();
    machine.on_request_start(false, at(400));
    machine.on_blocked(at(100));
    is_due_at(&mut machine, at(800), Action::Force(Reason::Stalled));
}

#[test]
fn at_one_moment_the_limit_that_closes_speaks_first() {
    let limits = Limits::builder()
        .write_timeout(ms(1_000))
        .idle_timeout(ms(1_000));
    let mut machine = Machine::new(Arc::new(limits.build().expect("legal")), at(0), 0);
    machine.on_untaken(at(0));
    is_due_at(&mut machine, at(1_000), Action::Force(Reason::Stalled));
}

#[test]
fn a_pause_of_our_own_is_excused_once_until_something_is_heard() {
    let mut machine = opened();
    machine.on_request_start(false, at(0));
    machine.on_upload_start(at(0));
    machine.on_await_start(at(0));
    machine.on_local_pause(at(250));
    assert_eq!(machine.next_timeout(), at(550));
    machine.on_local_pause(at(500));
    assert_eq!(machine.next_timeout(), at(550), "once");
    machine.on_read(at(510));
    machine.on_local_pause(at(700));
    is_due_at(&mut machine, at(1_000), Action::Force(Reason::Dead));
}

#[test]
fn the_start_of_a_request_starts_no_clock_whatever_went_before() {
    type Fact = fn(&mut Machine, Moment);
    let before: [Fact; 7] = [
        |_, _| {},
        |machine, now| machine.on_streams(true, now),
        |machine, now| machine.on_blocked(now),
        |machine, now| machine.on_untaken(now),
        |machine, now| machine.on_request_start(false, now),
        |machine, now| machine.on_local_pause(now),
        |machine, now| {
            machine.on_upload_start(now);
            machine.on_await_start(now);
        },
    ];
    for (number, fact) in before.into_iter().enumerate() {
        for mut machine in [machine(), opened()] {
            fact(&mut machine, at(70));
            let mut later = machine.clone();
            machine.on_request_start(false, machine.latest());
            later.on_request_start(false, at(90));
            assert_eq!(machine.next_timeout(), later.next_timeout(), "{number}");
            assert_eq!(machine.state(), later.state(), "{number}");
        }
    }
}

#[test]
fn writes_matter_while_their_clock_runs_and_after_an_excuse() {
    let mut machine = opened();
    assert!(!machine.is_writing());
    machine.on_untaken(at(10));
    assert!(machine.is_writing());
    machine.on_local_pause(at(100));
    machine.on_streams(true, at(110));
    machine.on_request_start(false, at(110));
    assert!(machine.is_writing());
    machine.on_taken(at(120));
    assert!(!machine.is_writing());
    machine.on_local_pause(at(200));
    assert!(machine.is_writing(), "the next pause is not excused");
    machine.on_written(true, at(210));
    assert!(!machine.is_writing());
}

#[test]
fn a_request_is_heard_too_so_the_next_pause_is_excused() {
    let mut machine = opened();
    machine.on_upload_start(at(0));
    machine.on_await_start(at(0));
    machine.on_local_pause(at(250));
    machine.on_request_start(true, at(260));
    machine.on_local_pause(at(500));
    is_due_at(&mut machine, at(800), Action::Force(Reason::Dead));
}

#[test]
fn a_handshake_is_excused_for_the_pause_that_counts_as_one() {
    let mut machine = machine();
    machine.on_local_pause(at(95));
    is_due_at(&mut machine, at(145), Action::Force(Reason::Handshake));
}

#[test]
fn without_limits_nothing_is_ever_due_but_the_end_of_a_drain() {
    let limits = Limits::builder().build().expect("legal");
    let mut machine = Machine::new(Arc::new(limits), at(0), u64::MAX);
    machine.on_blocked(at(0));
    machine.on_await_start(at(0));
    assert_eq!(machine.next_timeout(), Moment::NEVER);
    machine.drain(Reason::Shutdown, at(5));
    assert_eq!(machine.next_timeout(), at(30_005));
}

#[test]
fn ages_are_spread_over_a_tenth_each_way() {
    let limits = Limits::builder().max_age(ms(1_000)).build().expect("legal");
    let age = |random| limits.age(random).expect("it is on");
    assert_eq!(age(0), ms(900));
    assert_eq!(age(1 << 63), ms(1_000));
    assert!(age(u64::MAX) < ms(1_100) && age(u64::MAX) > ms(1_099));
}

/// One nanosecond before `by` nothing happens, at it `action` does, once.
fn is_due_at(machine: &mut Machine, by: Moment, action: Action) {
    assert_eq!(machine.next_timeout(), by);
    let early = Moment::from_nanos(by.as_nanos() - 1);
    machine.handle_timeout(early);
    assert_eq!(machine.action(), None);
    machine.handle_timeout(by);
    assert_eq!(machine.action(), Some(action));
    assert_eq!(machine.action(), None);
}

/// Something happens there of which the driver is not told.
fn is_silent_at(machine: &mut Machine, by: Moment) {
    assert_eq!(machine.next_timeout(), by);
    machine.handle_timeout(by);
    assert_eq!(machine.action(), None);
    assert_ne!(machine.next_timeout(), by);
}

/// It had a request, and will be of age at 1.5 s.
fn idle_http1() -> Machine {
    let limits = Limits::builder()
        .idle_timeout(ms(1_000))
        .max_age(ms(1_500))
        .age_jitter(0)
        .grace(ms(200));
    let mut machine = Machine::new(Arc::new(limits.build().expect("legal")), at(0), 7);
    machine.on_opened(at(0));
    machine.on_request_start(true, at(0));
    machine.on_request_end(at(1_000));
    machine
}

fn opened() -> Machine {
    let mut machine = machine();
    machine.on_opened(at(0));
    machine
}

fn machine() -> Machine {
    let limits = Limits::builder()
        .handshake_timeout(ms(100))
        .idle_timeout(ms(1_000))
        .max_age(ms(10_000))
        .age_jitter(0)
        .grace(ms(200))
        .read_timeout(ms(300))
        .write_timeout(ms(400))
        .max_local_pause(ms(50));
    Machine::new(Arc::new(limits.build().expect("legal")), at(0), 7)
}

fn over(reason: Reason, forced: bool) -> State {
    State::Over { reason, forced }
}

fn at(millis: u64) -> Moment {
    Moment::default().after(ms(millis))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
