//! Lines of text, two of which are a ping and a pong.

use std::num::NonZeroU64;

use super::{Kind, Protocol};
use crate::config::{ConfigError, Setting};

/// Pings as lines of text, such as tokio-util's `LinesCodec` carries: `ping`, answered by `pong`.
///
/// A line that is one of the two words is a heartbeat, and never the user's; with
/// [`numbered`](Lines::numbered) one that is such a word, a space and a number, too. What the end of the connection cuts
/// off of one is a line like any other, if the codec makes one of it (`LinesCodec` does).
///
/// ```
/// use tower_heartbeat::transport::{Kind, Lines, Protocol};
///
/// let mut lines = Lines::words("PING", "PONG")?.numbered();
/// assert_eq!(lines.pong(&"PING 7".into()), Some("PONG 7".into()));
/// assert_eq!(lines.classify(&"PONG 7".into()), Kind::Pong(Some(7)));
/// assert_eq!(lines.classify(&"PONG seven".into()), Kind::Data);
/// # Ok::<(), tower_heartbeat::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a protocol does nothing without a transport"]
pub struct Lines {
    ping: String,
    pong: String,
    /// The first bytes of both: what a line that is neither nearly always differs in.
    initials: [u8; 2],
    is_numbered: bool,
}

impl Lines {
    /// `ping` and `pong`, without numbers.
    pub fn new() -> Self {
        Lines::of("ping".into(), "pong".into())
    }

    /// Words of one's own, without numbers.
    ///
    /// # Errors
    ///
    /// - [`NotALine`](ConfigError::NotALine): a word is empty, or has a line break in it.
    /// - [`MustDiffer`](ConfigError::MustDiffer): the words are the same, or one is the other and a number.
    pub fn words(ping: impl Into<String>, pong: impl Into<String>) -> Result<Self, ConfigError> {
        let (ping, pong) = (ping.into(), pong.into());
        for (setting, word) in [(Setting::PingWord, &ping), (Setting::PongWord, &pong)] {
            if word.is_empty() || word.contains(['\r', '\n']) {
                return Err(ConfigError::NotALine { setting });
            }
        }
        if number_of(&ping, &pong).is_some() || number_of(&pong, &ping).is_some() {
            return Err(ConfigError::MustDiffer {
                setting: Setting::PongWord,
                other: Setting::PingWord,
            });
        }
        Ok(Lines::of(ping, pong))
    }

    fn of(ping: String, pong: String) -> Self {
        Lines {
            initials: [&ping, &pong].map(|word| word.as_bytes()[0]),
            ping,
            pong,
            is_numbered: false,
        }
    }

    /// Numbers each ping, so that a pong tells which it answers. Both sides answer either form.
    /// Default: off.
    pub fn numbered(self) -> Self {
        Lines {
            is_numbered: true,
            ..self
        }
    }
}

impl Lines {
    #[cold]
    fn look_into(&self, line: &str) -> Kind {
        if number_of(line, &self.ping).is_some() {
            return Kind::Ping;
        }
        match number_of(line, &self.pong) {
            Some(nonce) if self.is_numbered => Kind::Pong(Some(nonce.unwrap_or(0))),
            Some(_) => Kind::Pong(None),
            None => Kind::Data,
        }
    }
}

impl Default for Lines {
    fn default() -> Self {
        Lines::new()
    }
}

impl Protocol for Lines {
    type Message = String;

    #[inline]
    fn classify(&self, line: &String) -> Kind {
        match line.as_bytes().first() {
            Some(first) if self.initials.contains(first) => self.look_into(line),
            _ => Kind::Data,
        }
    }

    fn ping(&mut self, nonce: NonZeroU64) -> Option<String> {
        Some(if self.is_numbered {
            format!("{} {nonce}", self.ping)
        } else {
            self.ping.clone()
        })
    }

    fn pong(&mut self, ping: &String) -> Option<String> {
        number_of(ping, &self.ping)?;
        // As it was written, with its zeros.
        let number = ping.strip_prefix(&self.ping)?;
        Some(format!("{}{number}", self.pong))
    }
}

/// The number behind `word`, if `line` is that word, with one or without.
fn number_of(line: &str, word: &str) -> Option<Option<u64>> {
    let rest = line.strip_prefix(word)?;
    if rest.is_empty() {
        return Some(None);
    }
    let digits = rest.strip_prefix(' ')?;
    let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten().map(Some)
}
