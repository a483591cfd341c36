//! What is asked while nothing but the user's messages is on.

use super::Core;
use crate::transport::protocol::{Kind, Protocol};

impl<P: Protocol, I> Core<P, I> {
    /// Whether the transport may be polled for the user as if there were no heartbeat: two loads in place of all the
    /// questions below.
    ///
    /// What changes an answer to one of them rings the alarm (the driver, an end from outside), or is done in a
    /// poll between [`unsettle`](Core::unsettle) and [`settle`](Core::settle).
    #[inline]
    pub(in crate::transport) fn is_calm(&self) -> bool {
        self.is_calm && !self.inline.rings()
    }

    /// A poll begins that may change an answer; should it panic, the next one asks.
    pub(in crate::transport) fn unsettle(&mut self) {
        self.is_calm = false;
    }

    pub(in crate::transport) fn settle(&mut self) {
        self.is_calm = self.watched.link().ended().is_none()
            && self.ahead.is_empty()
            && !self.takes_anything
            && self.police.is_none()
            && !self.inline.slot().is_due()
            && !self.outbox.waits(false);
    }

    /// Whether a message that came in is the user's, and no news for the heartbeat but that it came.
    #[inline]
    pub(in crate::transport) fn hands_on(&mut self, message: &P::Message) -> bool {
        self.unread_sends = 0;
        let is_data = self.protocol.classify(message) == Kind::Data;
        if is_data {
            self.watched.received();
        }
        is_data
    }

    /// The transport is ready for a message of the user's.
    #[inline]
    pub(in crate::transport) fn promise_readiness(&mut self) {
        self.outbox.promise_readiness();
    }

    /// Whether the transport need not be asked again before the message.
    #[inline]
    pub(in crate::transport) fn keeps_readiness(&mut self) -> bool {
        self.sends();
        !self.outbox.is_readiness_used()
    }

    /// The user sends a message.
    ///
    /// What comes in wakes whoever read last, who may never come back; so after a few messages the writer looks itself, once,
    /// and is woken from then on.
    #[inline]
    pub(in crate::transport) fn sends(&mut self) {
        self.watched.used();
        self.unread_sends = self.unread_sends.saturating_add(1);
        if self.unread_sends == UNREAD_SENDS {
            self.inline.ring_softly();
        }
    }

    /// Takes a message that the transport does not take now.
    pub(in crate::transport) fn hold(&mut self, message: P::Message) {
        self.unsettle();
        self.outbox.hold(message);
    }
}

/// How many messages are sent before a reader who doesn't come is taken for gone.
const UNREAD_SENDS: u8 = 16;
