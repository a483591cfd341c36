//! What grpc-java's `KeepAliveManager` and hyper's keep-alive tests promise, and where we differ.

use super::*;

#[test]
fn as_in_grpc_java_data_that_answers_the_ping_is_followed_by_a_ping_in_exactly_its_time() {
    let mut machine = start_grpc();
    machine.on_request_start(at(0));
    send_ping(&mut machine, at_millis(1_000));
    machine.on_pong(at_millis(1_100));
    assert_due_at(&machine, at_millis(2_100), Action::Ping);
}

/// There, any data gives the ping up and the next one follows; here the one ping stays out (a
/// request can't be dropped on HTTP/1). The verdict on a silent peer falls at the same moment.
#[test]
fn unlike_grpc_java_other_data_leaves_the_ping_out_but_the_verdict_falls_when_it_does_there() {
    let mut machine = start_grpc();
    machine.on_request_start(at(0));
    send_ping(&mut machine, at_millis(1_000));
    machine.on_heard(at_millis(1_100));
    let theirs = 1_100 + 1_000 + 2_000;
    assert_due_at(&machine, at_millis(theirs), Action::LookAgain);
}

#[test]
fn as_in_grpc_java_data_before_the_ping_moves_it_to_its_time_after_the_data() {
    let mut machine = start_grpc();
    machine.on_request_start(at(0));
    machine.on_heard(at_millis(990));
    assert_eq!(machine.handle_timeout(at_millis(1_010)), None);
    assert_due_at(&machine, at_millis(1_010 + 980), Action::Ping);
}

#[test]
fn as_in_grpc_java_a_ping_without_an_answer_ends_the_connection_after_its_timeout() {
    let mut machine = start_grpc();
    machine.on_request_start(at(0));
    send_ping(&mut machine, at_millis(1_000));
    let ending = Ending {
        failure: Failure::PongTimeout,
        waited: secs(2),
        missed: 1,
        quiet_for: secs(3),
    };
    assert_ends_at(&machine, at_millis(3_000), ending);
}

#[test]
fn as_in_grpc_java_nothing_is_pending_once_an_idle_connection_has_its_pong() {
    let mut machine = start_grpc();
    machine.on_request_start(at(0));
    send_ping(&mut machine, at_millis(1_000));
    machine.on_request_end(at_millis(1_050));
    machine.on_pong(at_millis(1_100));
    assert_dormant(&machine);
}

/// There, data without a pong settles the ping; here a pong is owed until it comes.
#[test]
fn unlike_grpc_java_an_idle_connection_that_heard_other_data_still_waits_for_its_pong() {
    let mut machine = start_grpc();
    machine.on_request_start(at(0));
    send_ping(&mut machine, at_millis(1_000));
    machine.on_request_end(at_millis(1_050));
    machine.on_heard(at_millis(1_100));
    assert_due_at(&machine, at_millis(4_100), Action::LookAgain);
    machine.on_pong(at_millis(1_200));
    assert_dormant(&machine);
}

#[test]
fn as_in_grpc_java_a_connection_that_was_idle_beyond_its_time_pings_at_once() {
    let mut machine = start_grpc();
    assert_dormant(&machine);
    machine.on_request_start(at_millis(1_001));
    assert_eq!(drain(&mut machine, at_millis(1_001)), [Action::Ping]);
}

#[test]
fn as_in_hyper_an_unresponsive_peer_dies() {
    let mut machine = start(hyper(PingWhen::Quiet));
    send_ping(&mut machine, at(1));
    assert_due_at(&machine, at(2), Action::LookAgain);
    assert!(matches!(
        drain(&mut machine, at(2)).last(),
        Some(Action::End(_))
    ));
}

#[test]
fn as_in_hyper_nothing_happens_while_idle_unless_asked_for() {
    assert_dormant(&start(hyper(PingWhen::WhileBusy)));
}

#[test]
fn as_in_hyper_a_connection_with_open_streams_is_closed() {
    let mut machine = start(hyper(PingWhen::WhileBusy));
    machine.on_request_start(at(0));
    send_ping(&mut machine, at(1));
    let ending = Ending {
        failure: Failure::PongTimeout,
        waited: secs(1),
        missed: 1,
        quiet_for: secs(2),
    };
    assert_ends_at(&machine, at(2), ending);
}

#[test]
fn as_in_hyper_a_responsive_peer_lives_and_its_pings_are_counted() {
    let mut machine = start(hyper(PingWhen::Quiet));
    let mut pings = 0;
    let mut now = at(0);
    while now < at(3_600) {
        now = machine.next_timeout().expect("a ping is due");
        send_ping(&mut machine, now);
        pings += 1;
        now = now.after(Duration::from_millis(500));
        machine.on_pong(now);
        assert_eq!(machine.handle_timeout(now), None);
    }
    assert_eq!(pings, 2_400, "one every second after the pong of before");
}

/// There, a late pong behind slow data kills a healthy connection.
#[test]
fn unlike_hyper_data_while_a_pong_is_due_keeps_a_healthy_connection() {
    let mut machine = start(hyper(PingWhen::Quiet));
    send_ping(&mut machine, at(1));
    for now in (1_260..20_000).step_by(260).map(at_millis) {
        machine.on_heard(now);
        assert_eq!(machine.handle_timeout(now), None);
    }
    machine.on_pong(at(20));
    assert_due_at(&machine, at(21), Action::Ping);
}

/// Time 1000 ms, timeout 2000 ms, not during idle.
fn start_grpc() -> Liveness {
    start(
        Config::builder()
            .interval(secs(1))
            .pong_timeout(secs(2))
            .max_missed(1)
            .ping_when(PingWhen::WhileBusy),
    )
}

fn hyper(ping_when: PingWhen) -> ConfigBuilder {
    Config::builder()
        .interval(secs(1))
        .pong_timeout(secs(1))
        .max_missed(1)
        .ping_when(ping_when)
}
