use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::buffer::PerfBuffer;
use super::error::PerfError;
use super::record::PerfRecord;
use crate::map::MapError;
use crate::map::traits::{EventFault, EventSource};

/// The samples; what was lost shows in [`lost`](EventSource::lost). What is damaged is an error once and skipped.
impl EventSource for PerfBuffer {
    fn poll_events(
        &mut self,
        timeout: Option<Duration>,
        each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<usize, MapError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut count = 0;
        loop {
            loop {
                match self.next_record() {
                    Ok(Some(PerfRecord::Sample(sample))) => {
                        count += 1;
                        if each(sample.data).is_break() {
                            return Ok(count);
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => return Err(fault(self, error)),
                }
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if count > 0 {
                return Ok(count);
            }
            match self.wait(left) {
                Ok(true) => {}
                Ok(false) => return Ok(0),
                Err(error) => return Err(fault(self, error)),
            }
        }
    }

    fn lost(&self) -> u64 {
        PerfBuffer::lost(self)
    }

    fn name(&self) -> &str {
        self.map().name()
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        #[cfg(target_os = "linux")]
        {
            Some(std::os::fd::AsFd::as_fd(self))
        }
        #[cfg(not(target_os = "linux"))]
        {
            None
        }
    }
}

/// With [`Wakeup`](super::Wakeup) of more than one record, those who are told are told of that many.
#[cfg(target_os = "linux")]
impl crate::poll::Pollable for PerfBuffer {
    type Event = super::OwnedPerfRecord;
    type Error = PerfError;

    fn is_ready(&mut self) -> Result<bool, PerfError> {
        self.has_record()
    }

    fn next_event(&mut self) -> Result<Option<super::OwnedPerfRecord>, PerfError> {
        if !self.has_record()? {
            return Ok(None);
        }
        let record = self.next_record()?.map(Into::into);
        // The record is taken: what is wrong behind it is for who asks for the next one.
        if let Err(error) = self.pass_given() {
            self.deferred = Some(error);
        }
        Ok(record)
    }
}

fn fault(buffer: &PerfBuffer, error: PerfError) -> MapError {
    match error {
        PerfError::Map(error) => error,
        error => MapError::Events { map: buffer.map().name().into(), source: EventFault::new(error) },
    }
}
