//! Ring buffers as [sources of events](crate::map::traits::EventSource).

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::{RingBuffer, TypedRingBuffer};
use crate::map::MapError;
use crate::map::traits::EventSource;

impl EventSource for RingBuffer {
    fn poll_events(
        &mut self,
        timeout: Option<Duration>,
        each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<usize, MapError> {
        let polled = match self.wait(timeout) {
            Ok(true) => self.drain(usize::MAX, each).map(|(count, _)| count),
            nothing => nothing.map(|_| 0),
        };
        polled.map_err(|error| MapError::events(self.as_map().name(), error))
    }

    fn name(&self) -> &str {
        self.as_map().name()
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

impl<T> EventSource for TypedRingBuffer<T> {
    fn poll_events(
        &mut self,
        timeout: Option<Duration>,
        each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<usize, MapError> {
        self.ring.poll_events(timeout, each)
    }

    fn name(&self) -> &str {
        self.ring.as_map().name()
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.ring.as_fd())
    }
}
