//! What waits to be written beside the user's messages.

use std::{mem, num::NonZeroU64};

use super::{nonces::Nonces, protocol::Protocol};

/// One place for each kind, so that no flood and no stall makes it grow.
pub(crate) struct Outbox<M> {
    /// A message of the user's, who was told that the transport is ready before a heartbeat used
    /// that.
    held: Option<M>,
    /// To the newest ping of the peer's.
    answer: Option<M>,
    /// Made, and written when one is due.
    ping: Option<(NonZeroU64, M)>,
    is_beat_due: bool,
    /// Whether something was written that the user will not flush.
    is_unflushed: bool,
    /// Whether that is a ping.
    is_ping_unflushed: bool,
    /// Whether the transport has to be asked again before the user may write.
    is_readiness_used: bool,
    /// Whether an answer went out since a message of the user's did.
    has_answered: bool,
}

/// What is to be written next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Held,
    Answer,
    Ping,
    Beat,
}

impl<M> Outbox<M> {
    pub(crate) fn new() -> Outbox<M> {
        Outbox {
            held: None,
            answer: None,
            ping: None,
            is_beat_due: false,
            is_unflushed: false,
            is_ping_unflushed: false,
            is_readiness_used: false,
            has_answered: false,
        }
    }

    /// The user's first: it was taken before.
    pub(crate) fn next(&self, is_ping_due: bool) -> Option<Next> {
        if self.held.is_some() {
            Some(Next::Held)
        } else if self.answer.is_some() {
            Some(Next::Answer)
        } else if is_ping_due && self.ping.is_some() {
            Some(Next::Ping)
        } else if self.is_beat_due {
            Some(Next::Beat)
        } else {
            None
        }
    }

    /// Whether the transport is waited for.
    pub(crate) fn waits(&self, is_ping_due: bool) -> bool {
        self.is_unflushed || self.next(is_ping_due).is_some()
    }

    /// Whether further messages of the user's have to wait: a transport that made room just as a heartbeat was told
    /// to wait would give it to them, each time, and one that gets more and more to write is never flushed. Of
    /// a flood of pings each answer would go first, so they take turns.
    pub(crate) fn goes_first(&self, is_ping_due: bool) -> bool {
        let waits = match self.next(is_ping_due) {
            Some(Next::Answer) => !self.has_answered || (is_ping_due && self.ping.is_some()),
            Some(Next::Held | Next::Ping | Next::Beat) => true,
            None => false,
        };
        self.is_ping_unflushed || waits
    }

    /// The user had a turn.
    #[inline]
    pub(crate) fn end_turn(&mut self) {
        self.has_answered = false;
    }

    pub(crate) fn hold(&mut self, message: M) {
        assert!(self.held.is_none(), "`start_send` without `poll_ready`");
        self.held = Some(message);
    }

    pub(crate) fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Instead of an older answer, if the transport has not taken that yet.
    pub(crate) fn answer(&mut self, answer: M) {
        self.answer = Some(answer);
    }

    pub(crate) fn has_answer(&self) -> bool {
        self.answer.is_some()
    }

    /// Whether a ping that is due finds none that would serve.
    pub(crate) fn lacks_ping(&self) -> bool {
        self.ping.is_none() && !self.is_ping_unflushed
    }

    pub(crate) fn put_ping(&mut self, nonce: NonZeroU64, ping: M) {
        self.ping = Some((nonce, ping));
    }

    /// Takes what is to be written.
    pub(crate) fn take<P>(&mut self, next: Next, nonces: &mut Nonces, protocol: &mut P) -> Option<M>
    where
        P: Protocol<Message = M>,
    {
        match next {
            Next::Held => self.held.take(),
            Next::Answer => {
                self.has_answered = true;
                self.answer.take()
            }
            Next::Ping => {
                let (nonce, ping) = self.ping.take()?;
                self.is_ping_unflushed = true;
                nonces.wrote(nonce);
                Some(ping)
            }
            Next::Beat => {
                self.is_beat_due = false;
                protocol.beat()
            }
        }
    }

    pub(crate) fn beat(&mut self) {
        self.is_beat_due = true;
    }

    /// Something was written, or the transport wrote by itself.
    pub(crate) fn wrote(&mut self) {
        self.is_unflushed = true;
        self.is_readiness_used = true;
    }

    pub(crate) fn is_unflushed(&self) -> bool {
        self.is_unflushed
    }

    pub(crate) fn flushed(&mut self) {
        self.is_unflushed = false;
    }

    /// The ping that was written is out. `false` if there is none.
    pub(crate) fn take_unflushed_ping(&mut self) -> bool {
        mem::take(&mut self.is_ping_unflushed)
    }

    /// The user was told that the transport is ready.
    #[inline]
    pub(crate) fn promise_readiness(&mut self) {
        self.is_readiness_used = false;
        self.end_turn();
    }

    #[inline]
    pub(crate) fn is_readiness_used(&self) -> bool {
        self.is_readiness_used
    }

    /// No heartbeat may be written any more.
    pub(crate) fn close(&mut self) {
        self.answer = None;
        self.ping = None;
        self.is_beat_due = false;
        self.is_unflushed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Lines;

    #[test]
    fn answers_and_the_users_messages_take_turns_and_a_ping_is_before_both() {
        let mut outbox = Outbox::new();
        let (mut nonces, mut protocol) = (Nonces::new(), Lines::new());
        assert!(!outbox.goes_first(false));
        outbox.answer("pong".to_string());
        assert!(outbox.goes_first(false));
        let answer = outbox.take(Next::Answer, &mut nonces, &mut protocol);
        assert_eq!(answer.as_deref(), Some("pong"));

        outbox.answer("pong".to_string());
        assert!(!outbox.goes_first(false), "it is the user's turn");
        outbox.put_ping(NonZeroU64::MIN, "ping".to_string());
        assert!(outbox.goes_first(true));
        assert!(!outbox.goes_first(false));
        outbox.end_turn();
        assert!(outbox.goes_first(false));
    }
}
