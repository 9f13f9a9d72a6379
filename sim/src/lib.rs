//! Part of skep.
