//! What is wrong with a setting.

use std::{fmt, time::Duration};

/// A setting of [`ConfigBuilder`](super::ConfigBuilder) or of another builder of this crate, as a [`ConfigError`] names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Setting {
    /// [`ConfigBuilder::detect_within`](super::ConfigBuilder::detect_within)
    DetectWithin,
    /// [`ConfigBuilder::interval`](super::ConfigBuilder::interval)
    Interval,
    /// [`ConfigBuilder::pong_timeout`](super::ConfigBuilder::pong_timeout)
    PongTimeout,
    /// [`ConfigBuilder::max_missed`](super::ConfigBuilder::max_missed)
    MaxMissed,
    /// [`ConfigBuilder::ready_timeout`](super::ConfigBuilder::ready_timeout)
    ReadyTimeout,
    /// [`ConfigBuilder::idle_timeout`](super::ConfigBuilder::idle_timeout), `io::LimitsBuilder::idle_timeout`, `server::LimitsBuilder::idle_timeout`
    IdleTimeout,
    /// [`ConfigBuilder::quiet_timeout`](super::ConfigBuilder::quiet_timeout)
    QuietTimeout,
    /// [`ConfigBuilder::verify_after_idle`](super::ConfigBuilder::verify_after_idle)
    VerifyAfterIdle,
    /// [`ConfigBuilder::suspect_after`](super::ConfigBuilder::suspect_after)
    SuspectAfter,
    /// [`ConfigBuilder::max_local_pause`](super::ConfigBuilder::max_local_pause), `server::LimitsBuilder::max_local_pause`
    MaxLocalPause,
    /// [`ConfigBuilder::jitter`](super::ConfigBuilder::jitter)
    Jitter,
    /// [`ConfigBuilder::local_fault_share`](super::ConfigBuilder::local_fault_share)
    LocalFaultShare,
    /// [`ConfigBuilder::local_fault_connections`](super::ConfigBuilder::local_fault_connections)
    LocalFaultConnections,
    /// [`ConfigBuilder::ping_when`](super::ConfigBuilder::ping_when)
    PingWhen,
    /// [`ConfigBuilder::pong_floor`](super::ConfigBuilder::pong_floor)
    PongFloor,
    /// [`ConfigBuilder::phi_threshold`](super::ConfigBuilder::phi_threshold)
    PhiThreshold,
    /// `io::LimitsBuilder::read_timeout`, `server::LimitsBuilder::read_timeout`
    ReadTimeout,
    /// `io::LimitsBuilder::write_timeout`, `server::LimitsBuilder::write_timeout`
    WriteTimeout,
    /// `server::LimitsBuilder::handshake_timeout`
    HandshakeTimeout,
    /// `server::LimitsBuilder::max_age`
    MaxAge,
    /// `server::LimitsBuilder::age_jitter`
    AgeJitter,
    /// `server::LimitsBuilder::grace`
    Grace,
    /// `retry::RetryPolicyBuilder::max_attempts`
    MaxAttempts,
    /// [`reconnect::DelaysBuilder::first_delay`](crate::reconnect::DelaysBuilder::first_delay)
    FirstDelay,
    /// [`reconnect::DelaysBuilder::max_delay`](crate::reconnect::DelaysBuilder::max_delay)
    MaxDelay,
    /// [`ReadyLimitLayer::new`](crate::ready_limit::ReadyLimitLayer::new)
    ReadyLimit,
    /// The second argument of `transport::Beats::new`
    BeatInterval,
    /// The first argument of `transport::Lines::words`
    PingWord,
    /// The second argument of `transport::Lines::words`
    PongWord,
    /// `transport::WebSocket::close_code`
    CloseCode,
    /// `transport::Serve::max_concurrent_requests`
    MaxConcurrentRequests,
    /// `pong::PongLayer::path`
    PongPath,
    /// `PingPolicy::min_interval`
    MinInterval,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Setting::DetectWithin => "detect_within",
            Setting::Interval => "interval",
            Setting::PongTimeout => "pong_timeout",
            Setting::MaxMissed => "max_missed",
            Setting::ReadyTimeout => "ready_timeout",
            Setting::IdleTimeout => "idle_timeout",
            Setting::QuietTimeout => "quiet_timeout",
            Setting::VerifyAfterIdle => "verify_after_idle",
            Setting::SuspectAfter => "suspect_after",
            Setting::MaxLocalPause => "max_local_pause",
            Setting::Jitter => "jitter",
            Setting::LocalFaultShare => "local_fault_share",
            Setting::LocalFaultConnections => "local_fault_connections",
            Setting::PingWhen => "ping_when",
            Setting::PongFloor => "pong_floor",
            Setting::PhiThreshold => "phi_threshold",
            Setting::ReadTimeout => "read_timeout",
            Setting::WriteTimeout => "write_timeout",
            Setting::HandshakeTimeout => "handshake_timeout",
            Setting::MaxAge => "max_age",
            Setting::AgeJitter => "age_jitter",
            Setting::Grace => "grace",
            Setting::MaxAttempts => "max_attempts",
            Setting::FirstDelay => "first_delay",
            Setting::MaxDelay => "max_delay",
            Setting::ReadyLimit => "ready limit",
            Setting::BeatInterval => "beat_interval",
            Setting::PingWord => "ping word",
            Setting::PongWord => "pong word",
            Setting::CloseCode => "close_code",
            Setting::MaxConcurrentRequests => "max_concurrent_requests",
            Setting::PongPath => "pong path",
            Setting::MinInterval => "min_interval",
        })
    }
}

/// Why a builder such as [`ConfigBuilder::build`](super::ConfigBuilder::build) refused, or a transport on which the settings can't be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A duration is shorter than a timer can keep, or zero.
    #[non_exhaustive]
    TooShort {
        /// The setting.
        setting: Setting,
        /// The shortest legal value.
        least: Duration,
    },
    /// A duration is absurdly long.
    #[non_exhaustive]
    TooLong {
        /// The setting.
        setting: Setting,
        /// The longest legal value.
        most: Duration,
    },
    /// A number is outside its range.
    #[non_exhaustive]
    OutOfRange {
        /// The setting.
        setting: Setting,
        /// The least legal value.
        least: u32,
        /// The greatest legal value.
        most: u32,
    },
    /// A setting would act before another one can.
    #[non_exhaustive]
    MustExceed {
        /// The setting that is too short.
        setting: Setting,
        /// The setting that it has to leave room for.
        other: Setting,
        /// What it has to exceed.
        limit: Duration,
    },
    /// With this setting, detection takes longer than was asked of
    /// [`detect_within`](super::ConfigBuilder::detect_within).
    #[non_exhaustive]
    BoundExceeded {
        /// The setting that takes too long.
        setting: Setting,
        /// What was asked for.
        bound: Duration,
        /// What it comes to.
        worst_case: Duration,
    },
    /// A setting could never act, because another one always acts first.
    #[non_exhaustive]
    MustStayBelow {
        /// The setting that is too long.
        setting: Setting,
        /// The setting that acts before it.
        other: Setting,
        /// What it has to stay below.
        limit: Duration,
    },
    /// A setting asks for pings beside requests, on a transport that carries one exchange at a
    /// time. Not from [`ConfigBuilder::build`](super::ConfigBuilder::build), but from what knows the transport.
    #[non_exhaustive]
    NeedsConcurrency {
        /// The setting.
        setting: Setting,
    },
    /// A text is empty, or has a line break in it.
    #[non_exhaustive]
    NotALine {
        /// The setting.
        setting: Setting,
    },
    /// A text is no absolute path of a URI.
    #[non_exhaustive]
    NotAPath {
        /// The setting.
        setting: Setting,
    },
    /// Two settings can't be told apart on the wire.
    #[non_exhaustive]
    MustDiffer {
        /// The setting to change.
        setting: Setting,
        /// The setting that it is like.
        other: Setting,
    },
    /// The protocol does not permit this value.
    #[non_exhaustive]
    NotPermitted {
        /// The setting.
        setting: Setting,
        /// What it was set to.
        value: u32,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::TooShort { setting, least } => {
                write!(f, "`{setting}` must be at least {least:?}")
            }
            ConfigError::TooLong { setting, most } => {
                write!(f, "`{setting}` must be at most {most:?}")
            }
            ConfigError::OutOfRange {
                setting,
                least,
                most,
            } => write!(f, "`{setting}` must be from {least} to {most}"),
            ConfigError::MustExceed {
                setting,
                other,
                limit,
            } => write!(
                f,
                "`{setting}` must be longer than {limit:?}, to leave room for `{other}`"
            ),
            ConfigError::BoundExceeded {
                setting,
                bound,
                worst_case,
            } => write!(
                f,
                "`{setting}` is too long for `detect_within` {bound:?}: with it detection takes {worst_case:?}"
            ),
            ConfigError::MustStayBelow {
                setting,
                other,
                limit,
            } => write!(
                f,
                "`{setting}` must be shorter than {limit:?}, because `{other}` acts first"
            ),
            ConfigError::NeedsConcurrency { setting } => write!(
                f,
                "`{setting}` asks for pings beside requests, but the transport carries one exchange at a time"
            ),
            ConfigError::NotALine { setting } => write!(
                f,
                "`{setting}` must be a line of text, not empty and without a line break"
            ),
            ConfigError::NotAPath { setting } => {
                write!(f, "`{setting}` must be an absolute path without a query")
            }
            ConfigError::MustDiffer { setting, other } => {
                write!(f, "`{setting}` must not look like `{other}`")
            }
            ConfigError::NotPermitted { setting, value } => {
                write!(
                    f,
                    "`{setting}` must not be {value}: the protocol does not permit it"
                )
            }
        }
    }
}

impl ConfigError {
    /// Returns the setting to change.
    #[must_use]
    pub const fn setting(&self) -> Setting {
        match *self {
            ConfigError::TooShort { setting, .. }
            | ConfigError::TooLong { setting, .. }
            | ConfigError::OutOfRange { setting, .. }
            | ConfigError::MustExceed { setting, .. }
            | ConfigError::BoundExceeded { setting, .. }
            | ConfigError::MustStayBelow { setting, .. }
            | ConfigError::NeedsConcurrency { setting }
            | ConfigError::NotALine { setting }
            | ConfigError::NotAPath { setting }
            | ConfigError::MustDiffer { setting, .. }
            | ConfigError::NotPermitted { setting, .. } => setting,
        }
    }

    /// Returns the setting that it is in conflict with, if the value by itself is legal.
    #[must_use]
    pub const fn other(&self) -> Option<Setting> {
        match *self {
            ConfigError::TooShort { .. }
            | ConfigError::TooLong { .. }
            | ConfigError::OutOfRange { .. }
            | ConfigError::NeedsConcurrency { .. }
            | ConfigError::NotALine { .. }
            | ConfigError::NotAPath { .. }
            | ConfigError::NotPermitted { .. } => None,
            ConfigError::MustExceed { other, .. }
            | ConfigError::MustStayBelow { other, .. }
            | ConfigError::MustDiffer { other, .. } => Some(other),
            ConfigError::BoundExceeded { .. } => Some(Setting::DetectWithin),
        }
    }
}

impl std::error::Error for ConfigError {}
