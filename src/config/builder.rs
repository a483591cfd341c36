//! The consuming builder of a [`Config`], and every rule about which settings go together.

use std::time::Duration;

use super::{Config, ConfigError, Detector, Evidence, MILLISECOND, PingWhen, Setting};
use crate::moment::nanos;

/// Builds a [`Config`]. All methods are `const`.
///
/// *Quiet* means that nothing was heard from the peer, *idle* that no request is in flight; the
/// two are never mixed. Every value is checked by [`build`](ConfigBuilder::build), not before.
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct ConfigBuilder {
    config: Config,
    ready_timeout: Option<Duration>,
    max_local_pause: Option<Duration>,
    detect_within: Option<Duration>,
    pong_floor: Option<Duration>,
}

impl ConfigBuilder {
    pub(super) const fn new() -> Self {
        ConfigBuilder {
            config: Config {
                interval: Duration::from_secs(30),
                pong_timeout: Duration::from_secs(10),
                max_missed: 3,
                ready_timeout: Duration::ZERO,
                idle_timeout: None,
                quiet_timeout: None,
                verify_after_idle: None,
                suspect_after: None,
                max_local_pause: Duration::ZERO,
                jitter: 0,
                local_fault_share: 0,
                local_fault_connections: 8,
                ping_when: PingWhen::Quiet,
                evidence: Evidence::AnyTraffic,
                detector: Detector::Fixed,
                pong_floor: Duration::ZERO,
                phi_threshold: 8,
            },
            ready_timeout: None,
            max_local_pause: None,
            detect_within: None,
            pong_floor: None,
        }
    }

    /// Sets `interval`, `pong_timeout`, `max_missed` and `ready_timeout` as
    /// [`Config::detect_within`] does, whatever they were before, and holds later changes to the
    /// bound.
    ///
    /// Default: no bound; the four settings' own defaults give one of 73.75 s.
    pub const fn detect_within(mut self, bound: Duration) -> Self {
        self.detect_within = Some(bound);
        // 4/9 with its tick of an eighth is one half; the waits share the other.
        self.config.interval = Duration::from_nanos(nanos(bound) / 9 * 4);
        self.config.max_missed = 3;
        let wait = self.wait_within(bound);
        self.config.pong_timeout = wait;
        self.ready_timeout = Some(wait);
        self
    }

    /// Each of the equal waits that together take half of `bound`.
    const fn wait_within(&self, bound: Duration) -> Duration {
        let ready = 1;
        let windows = if self.config.local_fault_share == 0 {
            3
        } else {
            4
        };
        Duration::from_nanos(nanos(bound) / (2 * (windows + ready)))
    }

    /// Sets the time from the last sign of life to the next ping (from ping to ping with
    /// [`PingWhen::Always`]). Any sign of life restarts it. The first ping of a connection may come
    /// earlier, see [`HeartbeatLayer`](crate::HeartbeatLayer).
    ///
    /// Default: 30 s. There is no value for "off": a layer without pings has
    /// [`ping::none`](crate::ping::none) as its source.
    #[doc(alias = "keep_alive_interval")]
    #[doc(alias = "keepalive_time")]
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.config.interval = interval;
        self
    }

    /// Sets how long a ping that is out waits for a sign of life before that is a *miss*.
    ///
    /// Measured from the moment the ping is out, or from the miss before. A sign of life takes the
    /// misses back. With an adaptive [`detector`](ConfigBuilder::detector) it is the longest wait. Default: 10 s.
    #[doc(alias = "keep_alive_timeout")]
    #[doc(alias = "keepalive_timeout")]
    #[doc(alias = "ping_timeout")]
    pub const fn pong_timeout(mut self, pong_timeout: Duration) -> Self {
        self.config.pong_timeout = pong_timeout;
        self
    }

    /// Sets how many misses in a row make the peer *dead*. They are further waits for the one
    /// ping that is out; it isn't sent again.
    ///
    /// Default: 3, at least 1.
    #[doc(alias = "failure_threshold")]
    #[doc(alias = "detect_mult")]
    pub const fn max_missed(mut self, max_missed: u32) -> Self {
        self.config.max_missed = max_missed;
        self
    }

    /// Sets how long a ping may take to get out on this side: the service's `poll_ready`, up to
    /// its `call`. Then, if nothing was heard meanwhile, the connection ends with
    /// [`Failure::PingBlocked`](crate::Failure::PingBlocked).
    ///
    /// Default: as `pong_timeout`. Zero: a ping that can't go out at once is blocked.
    pub const fn ready_timeout(mut self, ready_timeout: Duration) -> Self {
        self.ready_timeout = Some(ready_timeout);
        self
    }

    /// Sets how long the connection may have no request in flight before it ends with
    /// [`Failure::IdleTimeout`](crate::Failure::IdleTimeout).
    ///
    /// Measured from connect, or from the end of the last request *and its body*, to the
    /// precision of a [tick](Config::tick). Pings don't count as use. It never fires with a
    /// request in flight. Default: off.
    #[doc(alias = "pool_idle_timeout")]
    #[doc(alias = "max_connection_idle")]
    pub const fn idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.config.idle_timeout = Some(idle_timeout);
        self
    }

    /// Sets how long a peer may be quiet while a request is in flight, pings or no pings, before
    /// the connection ends with [`Failure::ReadTimeout`](crate::Failure::ReadTimeout).
    ///
    /// Measured from the last sign of life or from the first request in flight, whichever is
    /// later. It also ends slow but healthy requests: it is for transports that can't be pinged
    /// while busy. Default: off.
    pub const fn quiet_timeout(mut self, quiet_timeout: Duration) -> Self {
        self.config.quiet_timeout = Some(quiet_timeout);
        self
    }

    /// Sets after how much quiet `poll_ready` first waits for a sign of life: it has a ping sent
    /// at once and stays pending until the pong, so that a dead pooled connection costs no
    /// request.
    ///
    /// Measured from the last sign of life, by the driver: a call made in the same instant in which
    /// a blocked runtime goes on may come before it. Acts on instances that were not yet told
    /// `Ready`, and only where there is a ping. With pings at every `interval` it has to be shorter than
    /// `interval`. Default: off.
    #[doc(alias = "pre_ping")]
    #[doc(alias = "verify_after_quiet")]
    pub const fn verify_after_idle(mut self, verify_after_idle: Duration) -> Self {
        self.config.verify_after_idle = Some(verify_after_idle);
        self
    }

    /// Sets the soft limit: after this much quiet, or at the first miss, the peer is *suspect*
    /// and `poll_ready` holds new calls back until a sign of life or the verdict. Calls in flight
    /// go on. A `LoadShed` outside turns held calls away instead.
    ///
    /// Measured from the last sign of life, or from the moment pings began again if
    /// [`PingWhen`] had them sleep. It has to lie between the first ping and the verdict, and acts
    /// only where there is a ping.
    /// Default: off (a miss still shows as [`State::Suspect`](crate::State::Suspect)).
    pub const fn suspect_after(mut self, suspect_after: Duration) -> Self {
        self.config.suspect_after = Some(suspect_after);
        self
    }

    /// Sets by how much this process may itself be late (a blocked runtime, a suspended machine)
    /// and still judge the peer. After a longer pause the limit that ran restarts once with a
    /// fresh pong wait; elapsed time alone never ends a connection.
    ///
    /// Default: half of `pong_timeout`; with an adaptive [`detector`](ConfigBuilder::detector) half of
    /// [`pong_floor`](ConfigBuilder::pong_floor). The longest legal value turns it off.
    pub const fn max_local_pause(mut self, max_local_pause: Duration) -> Self {
        self.max_local_pause = Some(max_local_pause);
        self
    }

    /// Sets by how much at most an interval is shortened at random, in percent, so that
    /// connections made together don't ping together. It only shortens (as in BFD, RFC 5880
    /// section 6.8.7), so the bound holds.
    ///
    /// Default: 0, at most 25.
    pub const fn jitter(mut self, percent: u8) -> Self {
        self.config.jitter = percent;
        self
    }

    /// Sets from what share of missing peers on, in percent, the fault is suspected on *this* side:
    /// of the connections of one driver that were asked within the last `pong_timeout` (with an adaptive
    /// [`detector`](ConfigBuilder::detector) `max_missed` × `pong_floor`, if that is shorter), at least
    /// [`local_fault_connections`](ConfigBuilder::local_fault_connections).
    ///
    /// While it is, no connection ends with [`Failure::PongTimeout`](crate::Failure::PongTimeout)
    /// before one more `pong_timeout` has passed (once a ping, and the bound says so), an event
    /// tells it, and the pings of those who then answer are spread over the interval again. It needs a
    /// history: with one miss (`max_missed`) the first connections are dead before others miss.
    ///
    /// After [`detect_within`](ConfigBuilder::detect_within), the waits that it picked get shorter
    /// to make room. Default: 0, off; at most 100.
    pub const fn local_fault_share(mut self, percent: u8) -> Self {
        let picked = match self.detect_within {
            Some(bound) => Some((bound, nanos(self.wait_within(bound)))),
            None => None,
        };
        self.config.local_fault_share = percent;
        if let Some((bound, before)) = picked {
            let wait = self.wait_within(bound);
            if nanos(self.config.pong_timeout) == before {
                self.config.pong_timeout = wait;
            }
            if let Some(ready_timeout) = self.ready_timeout
                && nanos(ready_timeout) == before
            {
                self.ready_timeout = Some(wait);
            }
        }
        self
    }

    /// Sets how many connections it takes to suspect a local fault. Useless without
    /// [`local_fault_share`](ConfigBuilder::local_fault_share). Default: 8, at least 2.
    pub const fn local_fault_connections(mut self, connections: u32) -> Self {
        self.config.local_fault_connections = connections;
        self
    }

    /// Sets when pings are made. Default: [`PingWhen::Quiet`].
    pub const fn ping_when(mut self, ping_when: PingWhen) -> Self {
        self.config.ping_when = ping_when;
        self
    }

    /// Sets what counts as a sign of life. Default: [`Evidence::AnyTraffic`].
    pub const fn evidence(mut self, evidence: Evidence) -> Self {
        self.config.evidence = evidence;
        self
    }

    /// Sets how the wait for a pong is found: always `pong_timeout`, or from the round trips of the
    /// connection's pings, between [`pong_floor`](ConfigBuilder::pong_floor) and `pong_timeout`. Then a peer
    /// that is near is found dead long before one that is far away has to answer.
    ///
    /// Measured as `pong_timeout` is. A pong that comes while this process was itself late (see
    /// [`max_local_pause`](ConfigBuilder::max_local_pause)) doesn't change the wait, nor does other traffic
    /// that takes its place; a pong after misses does. [`Config::worst_case_detection`] is the same with all of them.
    ///
    /// Default: [`Detector::Fixed`].
    #[doc(alias = "adaptive")]
    pub const fn detector(mut self, detector: Detector) -> Self {
        self.config.detector = detector;
        self
    }

    /// Sets the least pong wait of an adaptive [`detector`](ConfigBuilder::detector), without which it is useless.
    ///
    /// With `max_missed` 1, 2, 3, 4 the least time from ping to verdict is 1, 3, 7, 11 times as long: what a
    /// connection's latency, with the retransmission of a lost packet, may rise to all at once. Default: a second
    /// divided by `max_missed`, but at least 200 ms; a `pong_timeout` that is no longer than this default is
    /// the wait.
    pub const fn pong_floor(mut self, pong_floor: Duration) -> Self {
        self.pong_floor = Some(pong_floor);
        self
    }

    /// Sets at which suspicion a pong is missed with [`Detector::PhiAccrual`], without which it is useless: a
    /// pong is later than that once in 10 to the power of `phi_threshold` times, if round trips are
    /// distributed normally.
    ///
    /// Default: 8; from 1 to 16.
    pub const fn phi_threshold(mut self, phi_threshold: u8) -> Self {
        self.config.phi_threshold = phi_threshold;
        self
    }

    /// Checks the settings and those that depend on each other.
    ///
    /// # Errors
    ///
    /// - [`TooShort`](ConfigError::TooShort), [`TooLong`](ConfigError::TooLong): a duration under
    ///   1 ms (`ready_timeout` may be zero, `detect_within` at least 20 ms) or over 365 days.
    /// - [`OutOfRange`](ConfigError::OutOfRange): `max_missed` 0 or over 1,000; `jitter` over 25;
    ///   `local_fault_share` over 100; `local_fault_connections` under 2; `phi_threshold` 0 or over 16.
    /// - [`MustExceed`](ConfigError::MustExceed): `suspect_after` within `interval` and its tick,
    ///   so that every quiet connection would be suspect before its ping is out.
    /// - [`MustStayBelow`](ConfigError::MustStayBelow): a limit that never acts:
    ///   `pong_floor` from `pong_timeout` on (unless the detector is fixed),
    ///   `suspect_after` from the verdict on, `verify_after_idle` from `idle_timeout` or (unless
    ///   pings sleep while idle) from `interval` on.
    /// - [`BoundExceeded`](ConfigError::BoundExceeded): a setting after `detect_within` that breaks
    ///   the bound.
    pub const fn build(self) -> Result<Config, ConfigError> {
        let mut config = self.config;
        config.ready_timeout = match self.ready_timeout {
            Some(ready_timeout) => ready_timeout,
            None => config.pong_timeout,
        };
        config.pong_floor = match (config.detector, self.pong_floor) {
            (Detector::Fixed, _) => config.pong_timeout,
            (Detector::RoundTrips | Detector::PhiAccrual, Some(floor)) => floor,
            (Detector::RoundTrips | Detector::PhiAccrual, None) => config.default_pong_floor(),
        };
        config.max_local_pause = match self.max_local_pause {
            Some(pause) => pause,
            None => half_at_least_a_millisecond(config.pong_floor),
        };
        let conflict = match self.out_of_range(&config) {
            Some(error) => Some(error),
            None => self.conflict(&config),
        };
        match conflict {
            Some(error) => Err(error),
            None => Ok(config),
        }
    }

    const fn out_of_range(&self, config: &Config) -> Option<ConfigError> {
        let durations = [
            (Setting::DetectWithin, self.detect_within, DETECT_LEAST),
            (Setting::Interval, Some(config.interval), MILLISECOND),
            (Setting::PongTimeout, Some(config.pong_timeout), MILLISECOND),
            (
                Setting::ReadyTimeout,
                Some(config.ready_timeout),
                Duration::ZERO,
            ),
            (Setting::IdleTimeout, config.idle_timeout, MILLISECOND),
            (Setting::QuietTimeout, config.quiet_timeout, MILLISECOND),
            (
                Setting::VerifyAfterIdle,
                config.verify_after_idle,
                MILLISECOND,
            ),
            (Setting::SuspectAfter, config.suspect_after, MILLISECOND),
            (Setting::PongFloor, self.pong_floor, MILLISECOND),
            (
                Setting::MaxLocalPause,
                Some(config.max_local_pause),
                MILLISECOND,
            ),
        ];
        let mut i = 0;
        while i < durations.len() {
            let (setting, value, least) = durations[i];
            if let Some(value) = value {
                if nanos(value) < nanos(least) {
                    return Some(ConfigError::TooShort { setting, least });
                }
                if nanos(value) > nanos(LONGEST) {
                    return Some(ConfigError::TooLong {
                        setting,
                        most: LONGEST,
                    });
                }
            }
            i += 1;
        }
        let numbers = [
            (Setting::MaxMissed, config.max_missed, 1, MOST_MISSED),
            (Setting::Jitter, config.jitter as u32, 0, MOST_JITTER),
            (
                Setting::LocalFaultShare,
                config.local_fault_share as u32,
                0,
                100,
            ),
            (
                Setting::LocalFaultConnections,
                config.local_fault_connections,
                2,
                u32::MAX,
            ),
            (
                Setting::PhiThreshold,
                config.phi_threshold as u32,
                1,
                MOST_PHI,
            ),
        ];
        let mut i = 0;
        while i < numbers.len() {
            let (setting, value, least, most) = numbers[i];
            if value < least || value > most {
                return Some(ConfigError::OutOfRange {
                    setting,
                    least,
                    most,
                });
            }
            i += 1;
        }
        None
    }

    const fn conflict(&self, config: &Config) -> Option<ConfigError> {
        let bound = config.worst_case_detection();
        if let Some(asked) = self.detect_within
            && nanos(bound) > nanos(asked)
        {
            return Some(ConfigError::MustExceed {
                setting: Setting::DetectWithin,
                other: beyond_its_share(config, asked, self.wait_within(asked)),
                limit: bound,
            });
        }
        if let (Some(floor), Detector::RoundTrips | Detector::PhiAccrual) =
            (self.pong_floor, config.detector)
            && nanos(floor) >= nanos(config.pong_timeout)
        {
            return Some(ConfigError::MustStayBelow {
                setting: Setting::PongFloor,
                other: Setting::PongTimeout,
                limit: config.pong_timeout,
            });
        }
        if let Some(suspect_after) = config.suspect_after {
            let first_ping = config.interval.saturating_add(config.tick());
            if nanos(suspect_after) <= nanos(first_ping) {
                return Some(ConfigError::MustExceed {
                    setting: Setting::SuspectAfter,
                    other: Setting::Interval,
                    limit: first_ping,
                });
            }
            if nanos(suspect_after) >= nanos(bound) {
                return Some(ConfigError::MustStayBelow {
                    setting: Setting::SuspectAfter,
                    other: Setting::MaxMissed,
                    limit: bound,
                });
            }
        }
        if let Some(verify) = config.verify_after_idle {
            if let Some(idle_timeout) = config.idle_timeout
                && nanos(verify) >= nanos(idle_timeout)
            {
                return Some(ConfigError::MustStayBelow {
                    setting: Setting::VerifyAfterIdle,
                    other: Setting::IdleTimeout,
                    limit: idle_timeout,
                });
            }
            let pings_while_idle = !matches!(config.ping_when, PingWhen::WhileBusy);
            if pings_while_idle && nanos(verify) >= nanos(config.interval) {
                return Some(ConfigError::MustStayBelow {
                    setting: Setting::VerifyAfterIdle,
                    other: Setting::Interval,
                    limit: config.interval,
                });
            }
        }
        None
    }
}

/// The setting that was changed after `detect_within` so that the sum exceeds the bound.
const fn beyond_its_share(config: &Config, bound: Duration, wait: Duration) -> Setting {
    if nanos(config.interval) > nanos(bound) / 9 * 4 {
        Setting::Interval
    } else if nanos(config.pong_timeout) > nanos(wait) {
        Setting::PongTimeout
    } else if config.max_missed > 3 {
        Setting::MaxMissed
    } else {
        Setting::ReadyTimeout
    }
}

const fn half_at_least_a_millisecond(duration: Duration) -> Duration {
    let half = nanos(duration) / 2;
    if half < nanos(MILLISECOND) {
        MILLISECOND
    } else {
        Duration::from_nanos(half)
    }
}

/// An interval of 4/9 of this has a tick of a timer's millisecond.
const DETECT_LEAST: Duration = Duration::from_millis(20);
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const MOST_MISSED: u32 = 1_000;
const MOST_JITTER: u32 = 25;
const MOST_PHI: u32 = 16;
