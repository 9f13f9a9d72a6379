use std::fmt;
use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Pollable;

/// Events that are taken without a wait before other tasks get a turn.
const IN_A_ROW: u32 = 128;

/// A [`Pollable`] whose events are awaited (feature `tokio`).
///
/// It is a [`Stream`] of events in memory of their own, which ends after an error. Where that copy is too much,
/// [`ready`](AsyncEvents::ready) awaits that there are events and lends the source.
///
/// ```
/// use skep::map::Map;
/// use skep::poll::AsyncEvents;
/// use skep::ring::RingBuffer;
/// use skep::sim::SimKernel;
/// use skep::sys::abi::{MapType, RingFlags};
/// use skep::sys::request::MapCreate;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sim = SimKernel::new();
/// let map = Map::create(&skep::Kernel::new(sim.clone()), &MapCreate::new(MapType::RINGBUF, 0, 0, 4096))?;
/// let mut events = AsyncEvents::new(map.typed::<RingBuffer>()?)?;
/// sim.ring_output(map.as_map_fd(), b"one", RingFlags::empty())?;
/// assert_eq!(events.next().await?, b"one");
///
/// sim.ring_output(map.as_map_fd(), b"two", RingFlags::empty())?;
/// let ring = events.ready().await?;
/// while let Some(record) = ring.next()? {
///     assert_eq!(&*record, b"two");
/// }
/// # Ok(())
/// # }
/// ```
pub struct AsyncEvents<S> {
    source: S,
    /// Of the source's descriptor, so that the source can be lent.
    fd: AsyncFd<OwnedFd>,
    in_a_row: u32,
    failed: bool,
}

impl<S: Pollable> AsyncEvents<S> {
    /// Awaits the events of a source, in the tokio runtime of the caller, which needs its I/O driver
    /// (`Builder::enable_io`).
    ///
    /// # Errors
    /// The descriptor cannot be duplicated or registered.
    ///
    /// # Panics
    /// Outside of a runtime with that driver, as tokio does.
    pub fn new(source: S) -> Result<AsyncEvents<S>, S::Error> {
        let fd = source.as_fd().try_clone_to_owned()?;
        // What it asks of a descriptor that is registered holds for this one: it is owned, and stays open and the same.
        #[allow(deprecated, reason = "what replaces it since tokio 1.54 is unsafe")]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(AsyncEvents { source, fd, in_a_row: 0, failed: false })
    }

    /// Awaits the next event and takes it.
    ///
    /// A future that is dropped before it is done has taken nothing, so it can be one of `tokio::select!`.
    ///
    /// # Errors
    /// Those of the source.
    #[expect(clippy::should_implement_trait, reason = "as futures call it")]
    pub fn next(&mut self) -> Next<'_, S> {
        Next(self)
    }

    /// Awaits that there is an event, and lends the source to take events from, until there are none or for as long as
    /// is fair. A future that is dropped has changed nothing.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn ready(&mut self) -> Result<&mut S, S::Error> {
        std::future::poll_fn(|cx| self.poll_source(cx, |source| Ok(source.is_ready()?.then_some(()))))
            .await?;
        Ok(&mut self.source)
    }

    /// The source.
    pub fn get_ref(&self) -> &S {
        &self.source
    }

    /// The source, to be asked without waiting.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// The source, no longer awaited.
    pub fn into_inner(self) -> S {
        self.source
    }

    fn poll_source<T>(
        &mut self,
        cx: &mut Context<'_>,
        ask: impl Fn(&mut S) -> Result<Option<T>, S::Error>,
    ) -> Poll<Result<T, S::Error>> {
        if self.in_a_row >= IN_A_ROW {
            self.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if let Some(answer) = ask(&mut self.source)? {
                self.in_a_row += 1;
                return Poll::Ready(Ok(answer));
            }
            self.in_a_row = 0;
            // The runtime is told of changes, once: what it knows is cleared first, then the source is asked again. The
            // other way round, an event in between would be forgotten.
            ready!(self.fd.poll_read_ready(cx))?.clear_ready();
        }
    }
}

/// The future of [`AsyncEvents::next`].
#[must_use = "a future does nothing until it is awaited"]
pub struct Next<'a, S>(&'a mut AsyncEvents<S>);

impl<S: Pollable> Future for Next<'_, S> {
    type Output = Result<S::Event, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_source(cx, S::next_event)
    }
}

impl<S: Pollable + Unpin> Stream for AsyncEvents<S> {
    type Item = Result<S::Event, S::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let answer = ready!(self.poll_source(cx, S::next_event));
        self.failed = answer.is_err();
        Poll::Ready(Some(answer))
    }
}

impl<S> AsFd for AsyncEvents<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }
}

impl<S: fmt::Debug> fmt::Debug for AsyncEvents<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncEvents").field(&self.source).finish()
    }
}

impl<S> fmt::Debug for Next<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Next")
    }
}
