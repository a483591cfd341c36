//! Limits on the bytes of a connection.
//!
//! Time is paused, but for the real sockets below hyper-util's client.

#![cfg(feature = "io")]
#![expect(clippy::disallowed_methods, reason = "tests wait")]

#[cfg(feature = "client-legacy")]
#[path = "io/client.rs"]
mod client;

use std::{
    fmt::Debug,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, split},
    net::{TcpListener, TcpStream},
    time::{Instant, advance, sleep, timeout},
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceExt};
use tower_heartbeat::{
    ConfigError, Failure, HeartbeatError, Setting, Stage,
    io::{IoHandle, Limit, LimitFuture, LimitLayer, LimitedIo, Limits, LimitsBuilder, ReadWhen},
};

const LIMIT: Duration = Duration::from_millis(100);
const MILLISECOND: Duration = Duration::from_millis(1);

type Set = fn(LimitsBuilder) -> LimitsBuilder;

fn limited(buffer: usize, set: Set) -> (LimitedIo<DuplexStream>, DuplexStream) {
    let limits = set(Limits::builder()).build().expect("legal settings");
    let (near, far) = duplex(buffer);
    (LimitedIo::new(near, limits), far)
}

fn reads(builder: LimitsBuilder) -> LimitsBuilder {
    builder.read_timeout(LIMIT)
}

fn answers(builder: LimitsBuilder) -> LimitsBuilder {
    reads(builder).read_when(ReadWhen::AfterWrite)
}

fn writes(builder: LimitsBuilder) -> LimitsBuilder {
    builder.write_timeout(LIMIT)
}

fn idles(builder: LimitsBuilder) -> LimitsBuilder {
    builder.idle_timeout(LIMIT)
}

fn cause(error: &io::Error) -> HeartbeatError {
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    let cause = HeartbeatError::find(error);
    cause.unwrap_or_else(|| panic!("{error}")).clone()
}

#[test]
fn public_types_are_debug_send_sync_and_unpin() {
    fn is<T: Debug + Send + Sync + Unpin>() {}
    is::<LimitLayer>();
    is::<Limit<()>>();
    is::<LimitFuture<()>>();
    is::<LimitedIo<DuplexStream>>();
    is::<Limits>();
    is::<LimitsBuilder>();
    is::<ReadWhen>();
    is::<IoHandle>();
}

#[test]
fn settings_are_off_by_default_and_refused_with_their_names() {
    let none = Limits::builder().build().expect("legal settings");
    assert_eq!(none.read_timeout(), None);
    assert_eq!(none.write_timeout(), None);
    assert_eq!(none.idle_timeout(), None);
    assert_eq!(none.read_when(), ReadWhen::Pending);

    type SetTo = fn(LimitsBuilder, Duration) -> LimitsBuilder;
    let cases: [(Setting, SetTo); 3] = [
        (Setting::ReadTimeout, |b, d| b.read_timeout(d)),
        (Setting::WriteTimeout, |b, d| b.write_timeout(d)),
        (Setting::IdleTimeout, |b, d| b.idle_timeout(d)),
    ];
    for (setting, set) in cases {
        let error = |limit| set(Limits::builder(), limit).build().unwrap_err();
        for short in [Duration::ZERO, MILLISECOND - Duration::from_nanos(1)] {
            let error = error(short);
            assert_eq!(error.setting(), setting);
            assert!(matches!(error, ConfigError::TooShort { .. }), "{error}");
        }
        let error = error(Duration::MAX);
        assert_eq!(error.setting(), setting);
        assert!(matches!(error, ConfigError::TooLong { .. }), "{error}");
        let limits = set(Limits::builder(), MILLISECOND).build();
        limits.expect("the least legal value");
    }
    let both = |read| {
        let limits = Limits::builder().read_timeout(read).idle_timeout(LIMIT);
        limits.build()
    };
    let error = both(LIMIT).unwrap_err();
    assert_eq!(error.setting(), Setting::ReadTimeout);
    assert_eq!(error.other(), Some(Setting::IdleTimeout));
    assert!(error.to_string().contains("read_timeout"), "{error}");
    both(LIMIT - MILLISECOND).expect("it acts first");
}

#[tokio::test(start_paused = true)]
async fn a_pending_read_fails_at_its_limit_and_not_a_millisecond_before() {
    let sets: [(Set, Failure); 2] = [(reads, Failure::ReadTimeout), (idles, Failure::IdleTimeout)];
    for (set, failure) in sets {
        let (mut io, _far) = limited(64, set);
        let handle = io.handle();
        // Nobody waited: that time doesn't count.
        advance(LIMIT * 3).await;
        let mut read = task::spawn(io.read_u8());
        assert_pending!(read.poll());
        advance(LIMIT - MILLISECOND).await;
        assert!(!read.is_woken());
        assert_pending!(read.poll());
        advance(MILLISECOND).await;
        assert!(read.is_woken());
        let cause = cause(&assert_ready!(read.poll()).unwrap_err());
        assert_eq!(cause.failure(), failure);
        assert_eq!(cause.waited(), LIMIT);
        assert_eq!(cause.quiet_for(), LIMIT * 4);
        assert_eq!(cause.stage(), Stage::NotSent);
        assert_eq!(handle.failure(), Some(failure));
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_read_restarts_the_limit_and_wins_the_tie() {
    let sets: [Set; 2] = [reads, idles];
    for set in sets {
        let (mut io, mut far) = limited(64, set);
        for _ in 0..3 {
            let mut read = task::spawn(io.read_u8());
            assert_pending!(read.poll());
            advance(LIMIT).await;
            assert!(read.is_woken());
            far.write_u8(7).await.expect("it is open");
            assert_eq!(assert_ready!(read.poll()).expect("a byte"), 7);
        }
        let began = Instant::now();
        cause(&io.read_u8().await.unwrap_err());
        assert_eq!(began.elapsed(), LIMIT);
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_a_millisecond_before_the_limit_lives_and_one_after_it_is_late() {
    for (at, lives) in [(LIMIT - MILLISECOND, true), (LIMIT + MILLISECOND, false)] {
        let (mut io, mut far) = limited(64, reads);
        tokio::spawn(async move {
            sleep(at).await;
            far.write_u8(7).await.expect("it is open");
            far
        });
        assert_eq!(io.read_u8().await.is_ok(), lives);
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_written_restart_the_limit_of_a_parked_read() {
    let (io, mut far) = limited(64, reads);
    let (mut reader, mut writer) = split(io);
    let began = Instant::now();
    let read = tokio::spawn(async move { reader.read_u8().await });
    for _ in 0..5 {
        sleep(LIMIT - MILLISECOND).await;
        writer.write_u8(1).await.expect("it is alive");
        far.read_u8().await.expect("it is open");
    }
    let error = read.await.expect("no panic").unwrap_err();
    assert_eq!(cause(&error).failure(), Failure::ReadTimeout);
    assert_eq!(cause(&error).stage(), Stage::AwaitingResponse);
    assert_eq!(began.elapsed(), (LIMIT - MILLISECOND) * 5 + LIMIT);
}

#[tokio::test(start_paused = true)]
async fn after_write_limits_only_the_wait_for_an_answer() {
    let (io, mut far) = limited(64, answers);
    let (mut reader, mut writer) = split(io);
    // Parked before anything is written, as hyper does.
    let mut read = task::spawn(async move { (reader.read_u8().await, reader) });
    assert_pending!(read.poll());
    advance(LIMIT * 10).await;
    assert!(!read.is_woken());

    writer.write_u8(1).await.expect("it is alive");
    advance(LIMIT - MILLISECOND).await;
    assert!(!read.is_woken());
    far.write_u8(2).await.expect("it is open");
    let (byte, mut reader) = assert_ready!(read.poll());
    assert_eq!(byte.expect("the answer"), 2);

    // Answered: no limit.
    let mut read = task::spawn(reader.read_u8());
    assert_pending!(read.poll());
    advance(LIMIT * 10).await;
    assert_pending!(read.poll());

    // The write's own poll sets the timer that wakes the parked read.
    writer.write_u8(1).await.expect("it is alive");
    advance(LIMIT - MILLISECOND).await;
    assert!(!read.is_woken());
    advance(MILLISECOND).await;
    assert!(read.is_woken());
    let cause = cause(&assert_ready!(read.poll()).unwrap_err());
    assert_eq!(cause.failure(), Failure::ReadTimeout);
    assert_eq!(cause.stage(), Stage::AwaitingResponse);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_write_fails_at_its_limit_and_not_a_millisecond_before() {
    let sets: [(Set, Failure); 2] = [
        (writes, Failure::WriteTimeout),
        (idles, Failure::IdleTimeout),
    ];
    for (set, failure) in sets {
        let (mut io, _far) = limited(4, set);
        let mut write = task::spawn(io.write_all(b"12345"));
        assert_pending!(write.poll());
        advance(LIMIT - MILLISECOND).await;
        assert!(!write.is_woken());
        assert_pending!(write.poll());
        advance(MILLISECOND).await;
        assert!(write.is_woken());
        let cause = cause(&assert_ready!(write.poll()).unwrap_err());
        assert_eq!(cause.failure(), failure);
        assert_eq!(cause.waited(), LIMIT);
        assert_eq!(cause.stage(), Stage::AwaitingResponse);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_trickle_is_not_stalled() {
    let (mut io, mut far) = limited(1, writes);
    let mut write = task::spawn(io.write_all(b"0123456789"));
    for byte in b'0'..=b'8' {
        assert_pending!(write.poll());
        advance(LIMIT).await;
        // At the very limit: progress wins.
        assert_eq!(far.read_u8().await.expect("it is open"), byte);
    }
    assert_ready!(write.poll()).expect("it went out");
}

#[tokio::test(start_paused = true)]
async fn the_writer_is_not_judged_by_the_reader() {
    let (io, mut far) = limited(1, writes);
    let (mut reader, mut writer) = split(io);
    writer.write_u8(1).await.expect("there is room");
    let mut write = task::spawn(writer.write_u8(2));
    let mut read = task::spawn(reader.read_u8());
    assert_pending!(write.poll());
    assert_pending!(read.poll());
    advance(LIMIT).await;
    assert!(read.is_woken() && write.is_woken());
    assert_pending!(read.poll());
    far.read_u8().await.expect("it is open");
    assert_ready!(write.poll()).expect("it made progress");
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_both_directions_waits_for_both_to_look() {
    for first_reads in [true, false] {
        let (io, mut far) = limited(1, idles);
        let (mut reader, mut writer) = split(io);
        writer.write_u8(1).await.expect("there is room");
        let mut write = task::spawn(writer.write_u8(2));
        let mut read = task::spawn(reader.read_u8());
        assert_pending!(write.poll());
        assert_pending!(read.poll());
        advance(LIMIT).await;
        assert!(read.is_woken() && write.is_woken());
        // In the nick of time for the one that has not looked.
        if first_reads {
            assert_pending!(read.poll());
            far.read_u8().await.expect("it is open");
            assert_ready!(write.poll()).expect("it made progress");
            assert_pending!(read.poll());
        } else {
            assert_pending!(write.poll());
            far.write_u8(3).await.expect("it is open");
            assert_ready!(read.poll()).expect("it made progress");
            assert_pending!(write.poll());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_given_up_half_does_not_keep_the_other_from_its_limit() {
    let (io, _far) = limited(1, idles);
    let (mut reader, mut writer) = split(io);
    {
        let mut read = task::spawn(reader.read_u8());
        assert_pending!(read.poll());
    }
    let began = Instant::now();
    let write = timeout(LIMIT * 10, writer.write_all(b"12")).await;
    let error = write.expect("it ends").unwrap_err();
    assert_eq!(cause(&error).failure(), Failure::IdleTimeout);
    assert_eq!(began.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn halves_in_two_tasks_both_fail_with_the_same_cause() {
    let sets: [(Set, Failure); 3] = [
        (reads, Failure::ReadTimeout),
        (writes, Failure::WriteTimeout),
        (idles, Failure::IdleTimeout),
    ];
    for (set, failure) in sets {
        let (io, _far) = limited(1, set);
        let (mut reader, mut writer) = split(io);
        let read = tokio::spawn(async move { (reader.read_u8().await, reader) });
        let write = tokio::spawn(async move { (writer.write_all(b"12").await, writer) });
        let began = Instant::now();
        let both = async { (read.await, write.await) };
        let (read, write) = timeout(LIMIT * 10, both).await.expect("both are woken");
        let (read, mut reader) = read.expect("no panic");
        let (write, mut writer) = write.expect("no panic");
        assert_eq!(began.elapsed(), LIMIT);
        assert_eq!(cause(&read.unwrap_err()).failure(), failure);
        assert_eq!(cause(&write.unwrap_err()).failure(), failure);
        // And so does everything later, but for the shutdown.
        let later = [
            reader.read_u8().await.unwrap_err(),
            writer.write_u8(1).await.unwrap_err(),
            writer.flush().await.unwrap_err(),
        ];
        for error in later {
            assert_eq!(cause(&error).failure(), failure);
            assert_eq!(cause(&error).waited(), LIMIT);
        }
        writer.shutdown().await.expect("it returns at once");
    }
}

#[tokio::test(start_paused = true)]
async fn time_in_which_nobody_reads_is_not_counted() {
    let sets: [Set; 2] = [reads, idles];
    for set in sets {
        let (mut io, mut far) = limited(64, set);
        // It waits, so that the timer is set, and is answered.
        let mut read = task::spawn(io.read_u8());
        assert_pending!(read.poll());
        far.write_u8(1).await.expect("it is open");
        assert_ready!(read.poll()).expect("a byte");
        drop(read);
        advance(LIMIT * 3).await;

        let began = Instant::now();
        cause(&io.read_u8().await.unwrap_err());
        assert_eq!(began.elapsed(), LIMIT);
    }
}

/// In real time: the bytes are in the socket, and the runtime has not looked.
#[tokio::test]
async fn a_runtime_that_was_blocked_looks_before_it_judges() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let near = TcpStream::connect(address).await.expect("connected");
    let (far, _) = listener.accept().await.expect("a connection");
    let far = far.into_std().expect("a socket");
    let sets: [Set; 2] = [reads, idles];
    let [reads, idles] = sets.map(|set| set(Limits::builder()).build().expect("legal"));
    let mut near = near;
    for limits in [reads, idles] {
        let mut io = LimitedIo::new(near, limits);
        {
            let mut read = task::spawn(io.read_u8());
            assert_pending!(read.poll());
            std::io::Write::write_all(&mut &far, &[7]).expect("it is open");
            std::thread::sleep(LIMIT * 3);
            assert_pending!(read.poll());
            assert_eq!(read.await.expect("alive"), 7);
        }
        near = io.into_inner();
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_stream_passes_and_ends_the_wait() {
    let (mut io, far) = limited(64, reads);
    drop(far);
    for _ in 0..3 {
        assert_eq!(io.read(&mut [0; 4]).await.expect("the end"), 0);
        advance(LIMIT * 2).await;
    }
    assert_eq!(io.handle().failure(), None);
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_inner_io_pass() {
    let inner = tokio_test::io::Builder::new()
        .read(b"a")
        .wait(LIMIT - MILLISECOND)
        .read_error(io::ErrorKind::ConnectionReset.into())
        .build();
    let mut io = LimitedIo::new(inner, reads(Limits::builder()).build().expect("legal"));
    assert_eq!(io.read_u8().await.expect("a byte"), b'a');
    let error = io.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn without_limits_everything_waits_and_close_still_ends_it() {
    let (mut io, _far) = limited(64, |builder| builder);
    let handle = io.handle();
    let mut read = task::spawn(io.read_u8());
    assert_pending!(read.poll());
    advance(Duration::from_secs(1 << 30)).await;
    assert!(!read.is_woken());
    handle.close();
    assert!(read.is_woken());
    let error = assert_ready!(read.poll()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    let cause = HeartbeatError::find(&error).expect("it is in there");
    assert_eq!(cause.failure(), Failure::Closed);
}

/// Whose own poll is where the close falls, before the waker is in place.
struct Closing(Arc<OnceLock<IoHandle>>);

impl AsyncRead for Closing {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.get().expect("set").close();
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_that_meets_a_poll_is_seen_by_it() {
    let handle = Arc::new(OnceLock::new());
    let limits = idles(Limits::builder()).build().expect("legal");
    let mut io = LimitedIo::new(Closing(Arc::clone(&handle)), limits);
    handle.set(io.handle()).expect("once");
    let mut read = task::spawn(io.read_u8());
    assert_ready!(read.poll()).unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn the_timer_and_the_wakers_go_with_the_io() {
    struct Counted;
    impl Wake for Counted {
        fn wake(self: Arc<Self>) {}
    }
    let (mut io, far) = limited(64, idles);
    let handle = io.handle();
    let counted = Arc::new(Counted);
    {
        let waker = Waker::from(Arc::clone(&counted));
        let mut read = pin!(io.read_u8());
        let mut cx = Context::from_waker(&waker);
        assert!(read.as_mut().poll(&mut cx).is_pending());
    }
    assert!(Arc::strong_count(&counted) > 1);
    assert_eq!(handle.failure(), None);
    drop((io, far));
    assert_eq!(Arc::strong_count(&counted), 1);
    assert_eq!(handle.failure(), Some(Failure::Closed));
    advance(LIMIT * 2).await;
    assert_eq!(handle.failure(), Some(Failure::Closed));
}

/// Whose flush and shutdown never come back.
struct Stuck;

impl AsyncWrite for Stuck {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_flush_or_a_shutdown_that_hangs_is_a_stalled_write() {
    let limits = writes(Limits::builder()).build().expect("legal");
    for shuts_down in [true, false] {
        let mut io = LimitedIo::new(Stuck, limits);
        io.write_all(b"12").await.expect("it takes everything");
        let began = Instant::now();
        let error = if shuts_down {
            io.shutdown().await.unwrap_err()
        } else {
            io.flush().await.unwrap_err()
        };
        assert_eq!(cause(&error).failure(), Failure::WriteTimeout);
        assert_eq!(began.elapsed(), LIMIT);
        io.shutdown().await.expect("it returns at once");
    }
}

/// Takes two bytes a slice, and counts vectored writes.
#[derive(Debug, Default)]
struct Vectored {
    calls: Arc<AtomicUsize>,
}

impl AsyncRead for Vectored {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Vectored {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        panic!("not vectored")
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(slices.len() * 2))
    }
}

#[tokio::test(start_paused = true)]
async fn vectored_writes_stay_vectored() {
    let (plain, _far) = limited(64, idles);
    assert_eq!(
        AsyncWrite::is_write_vectored(&plain),
        AsyncWrite::is_write_vectored(plain.get_ref())
    );
    let inner = Vectored::default();
    let calls = Arc::clone(&inner.calls);
    let mut io = LimitedIo::new(inner, idles(Limits::builder()).build().expect("legal"));
    assert!(AsyncWrite::is_write_vectored(&io));
    let slices = [IoSlice::new(b"ab"), IoSlice::new(b"cd")];
    assert_eq!(io.write_vectored(&slices).await.expect("written"), 4);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn the_layer_limits_each_connection_and_leaves_connect_errors_alone() {
    let layer = LimitLayer::new(reads(Limits::builder()).build().expect("legal"));
    let mut connector = layer.layer(tower::service_fn(|works: bool| async move {
        if works {
            let (near, far) = duplex(64);
            tokio::spawn(async move {
                let _open = far;
                sleep(LIMIT * 10).await;
            });
            Ok(near)
        } else {
            Err(io::Error::from(io::ErrorKind::ConnectionRefused))
        }
    }));
    let error = connector.ready().await.expect("ready").call(false).await;
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    let io = connector.ready().await.expect("ready").call(true).await;
    let error = io.expect("connected").read_u8().await.unwrap_err();
    assert_eq!(cause(&error).failure(), Failure::ReadTimeout);
}
