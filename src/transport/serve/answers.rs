//! The answers that the service works on.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{
    Stream, StreamExt,
    stream::{FuturesOrdered, FuturesUnordered},
};
use pin_project_lite::pin_project;

use crate::link::InFlight;

/// In which order they come out.
pub(super) enum Answers<F: Future> {
    AsAsked(FuturesOrdered<Answer<F>>),
    AsFinished(FuturesUnordered<Answer<F>>),
}

impl<F: Future> Answers<F> {
    pub(super) fn push(&mut self, answer: Answer<F>) {
        match self {
            Answers::AsAsked(answers) => answers.push_back(answer),
            Answers::AsFinished(answers) => answers.push(answer),
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            Answers::AsAsked(answers) => answers.clear(),
            Answers::AsFinished(answers) => answers.clear(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Answers::AsAsked(answers) => answers.len(),
            Answers::AsFinished(answers) => answers.len(),
        }
    }
}

impl<F: Future> Stream for Answers<F> {
    type Item = Finished<F::Output>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut *self {
            Answers::AsAsked(answers) => answers.poll_next_unpin(cx),
            Answers::AsFinished(answers) => answers.poll_next_unpin(cx),
        }
    }
}

impl<F: Future> Unpin for Answers<F> {}

pin_project! {
    /// One that is worked on.
    pub(super) struct Answer<F> {
        #[pin]
        future: F,
        id: Option<u64>,
        in_flight: Option<InFlight>,
    }
}

pub(super) struct Finished<R> {
    pub(super) result: R,
    pub(super) id: Option<u64>,
    pub(super) in_flight: Option<InFlight>,
}

impl<F> Answer<F> {
    pub(super) fn new(future: F, id: Option<u64>, in_flight: InFlight) -> Answer<F> {
        Answer {
            future,
            id,
            in_flight: Some(in_flight),
        }
    }
}

impl<F: Future> Future for Answer<F> {
    type Output = Finished<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        Poll::Ready(Finished {
            result,
            id: *this.id,
            in_flight: this.in_flight.take(),
        })
    }
}
