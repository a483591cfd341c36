//! Settings that cannot work, and what the public types promise.

use std::{convert::Infallible, fmt::Debug, time::Duration};

use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tower_heartbeat::{
    ConfigError, Setting,
    server::{
        Busy, Connections, CountedFuture, CountedService, Ended, Event, Handle, Limits,
        LimitsBuilder, Phase, Reason, RequestBody, ResponseBody, ServeConnection, ServedIo,
    },
};

use crate::support::{limits, ms};

type Set = fn(LimitsBuilder, Duration) -> LimitsBuilder;

const DURATIONS: [(Setting, Set); 7] = [
    (Setting::HandshakeTimeout, LimitsBuilder::handshake_timeout),
    (Setting::IdleTimeout, LimitsBuilder::idle_timeout),
    (Setting::MaxAge, LimitsBuilder::max_age),
    (Setting::Grace, LimitsBuilder::grace),
    (Setting::ReadTimeout, LimitsBuilder::read_timeout),
    (Setting::WriteTimeout, LimitsBuilder::write_timeout),
    (Setting::MaxLocalPause, LimitsBuilder::max_local_pause),
];

#[test]
fn durations_are_from_a_millisecond_to_a_year() {
    let year = Duration::from_secs(365 * 24 * 3_600);
    for (setting, set) in DURATIONS {
        for legal in [ms(1), year] {
            set(limits(), legal).build().expect("legal");
        }
        for (illegal, name) in [
            (ms(1) - Duration::from_nanos(1), "at least"),
            (Duration::ZERO, "at least"),
            (year + Duration::from_nanos(1), "at most"),
            (Duration::MAX, "at most"),
        ] {
            let error = set(limits(), illegal).build().expect_err("illegal");
            assert_eq!(error.setting(), setting);
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

#[test]
fn a_limit_that_never_acts_is_refused_with_the_one_that_forestalls_it() {
    let ordered = &DURATIONS[..3];
    for (place, (setting, set)) in ordered.iter().enumerate() {
        for (other, set_other) in &ordered[place + 1..] {
            let error = set_other(set(limits(), ms(100)), ms(100)).build();
            let error = error.expect_err("they act at once");
            assert_eq!(
                (error.setting(), error.other()),
                (*setting, Some(*other)),
                "{error}"
            );
            assert!(matches!(error, ConfigError::MustStayBelow { .. }));
            let legal = set_other(set(limits(), ms(99)), ms(100)).build();
            legal.expect("the first acts first");
        }
    }
}

#[test]
fn a_jitter_of_more_than_half_is_refused() {
    limits().age_jitter(50).build().expect("legal");
    let error = limits().age_jitter(51).build().expect_err("illegal");
    assert_eq!(error.setting(), Setting::AgeJitter);
    assert_eq!(error.to_string(), "`age_jitter` must be from 0 to 50");
}

#[test]
fn what_was_set_can_be_read_and_everything_is_off_at_first() {
    let off = Limits::builder().build().expect("legal");
    assert_eq!(off.handshake_timeout(), None);
    assert_eq!(off.idle_timeout(), None);
    assert_eq!(off.max_age(), None);
    assert_eq!(off.read_timeout(), None);
    assert_eq!(off.write_timeout(), None);
    assert_eq!(off.age_jitter(), 10);
    assert_eq!(off.grace(), ms(30_000));
    assert_eq!(off.max_local_pause(), ms(1_000));

    let mut all = limits().age_jitter(7);
    for (number, (_, set)) in (1..).zip(DURATIONS) {
        all = set(all, ms(number));
    }
    let all = all.build().expect("legal");
    assert_eq!(all.handshake_timeout(), Some(ms(1)));
    assert_eq!(all.idle_timeout(), Some(ms(2)));
    assert_eq!(all.max_age(), Some(ms(3)));
    assert_eq!(all.grace(), ms(4));
    assert_eq!(all.read_timeout(), Some(ms(5)));
    assert_eq!(all.write_timeout(), Some(ms(6)));
    assert_eq!(all.max_local_pause(), ms(7));
    assert_eq!(all.age_jitter(), 7);
}

#[test]
fn all_public_types_have_debug_and_may_go_to_other_threads() {
    fn is<T: Debug + Send + Sync + Unpin>() {}
    fn may_be_sent<T: Debug + Send>(_: &T) {}
    is::<Busy>();
    is::<Connections>();
    is::<CountedFuture<std::future::Ready<()>>>();
    is::<CountedService<()>>();
    is::<Ended>();
    is::<Event>();
    is::<Handle>();
    is::<Limits>();
    is::<LimitsBuilder>();
    is::<Phase>();
    is::<Reason>();
    is::<RequestBody<String>>();
    is::<ResponseBody<String>>();
    is::<ServedIo<TokioIo<TcpStream>>>();
    let service = hyper::service::service_fn(|_: hyper::Request<RequestBody<Incoming>>| async {
        Ok::<_, Infallible>(hyper::Response::new(String::new()))
    });
    let connections = Connections::new(limits().build().expect("legal"));
    let (near, _far) = tokio::io::duplex(1);
    let served: ServeConnection<_, _, TokioExecutor> =
        connections.serve_connection(TokioIo::new(near), service);
    may_be_sent(&served);
}
