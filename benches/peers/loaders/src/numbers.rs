//! Numbers of a series of runs.

/// Measurements of one thing.
#[derive(Clone, Debug, Default)]
pub struct Series(Vec<u64>);

impl Series {
    /// Adds a measurement.
    pub fn push(&mut self, value: u64) {
        self.0.push(value);
    }

    /// The smallest; 0 of none.
    pub fn min(&self) -> u64 {
        self.0.iter().copied().min().unwrap_or(0)
    }

    /// The one in the middle; 0 of none.
    pub fn median(&self) -> u64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(0)
    }
}

/// Nanoseconds as microseconds, for people.
pub fn us(ns: u64) -> String {
    format!("{:.1}", ns as f64 / 1000.0)
}

/// One number over another.
pub fn ratio(a: u64, b: u64) -> String {
    format!("{:.2}", a as f64 / b.max(1) as f64)
}
