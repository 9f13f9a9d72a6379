use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// What a reader of events says that went wrong: an error of any type, which [`MapError`](crate::map::MapError) carries.
///
/// Two are the same when they say the same.
#[derive(Clone, Debug)]
pub struct EventFault(Arc<dyn Error + Send + Sync>);

impl EventFault {
    /// Of an error.
    pub fn new(error: impl Error + Send + Sync + 'static) -> EventFault {
        EventFault(Arc::new(error))
    }

    /// The error, if it is of that type.
    ///
    /// ```
    /// use skep::map::traits::EventFault;
    /// use std::io;
    ///
    /// let fault = EventFault::new(io::Error::from(io::ErrorKind::TimedOut));
    /// assert_eq!(fault.downcast_ref().map(io::Error::kind), Some(io::ErrorKind::TimedOut));
    /// ```
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }
}

impl fmt::Display for EventFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for EventFault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl PartialEq for EventFault {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for EventFault {}
