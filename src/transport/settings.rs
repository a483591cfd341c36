//! How one transport's heartbeat differs from the default.

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) pings: bool,
    pub(super) shows_heartbeats: bool,
    pub(super) is_strict: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            pings: true,
            shows_heartbeats: false,
            is_strict: false,
        }
    }
}
