//! skep.
