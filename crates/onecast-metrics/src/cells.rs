//! Numbers that one thread writes and others read.
//!
//! Each number stands alone: its order relative to other memory carries no meaning, so `Relaxed` is enough everywhere. With a single
//! writer a load and a store replace the read-modify-write instruction that shared writing would need.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::MetricKind;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) const KIND: MetricKind = MetricKind::Counter;

    /// Adds to the counter. For its single writer only.
    #[inline]
    pub fn add(&self, amount: u64) {
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(amount);
        self.0.store(sum, Ordering::Relaxed);
    }

    /// Publishes a total that its writer keeps elsewhere. For its single writer only.
    #[inline]
    pub fn set_total(&self, total: u64) {
        self.0.store(total, Ordering::Relaxed);
    }

    /// The current value.
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn record(&self, amount: u64) {
        if amount > 0 {
            self.add(amount);
        }
    }
}

/// A present amount.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) const KIND: MetricKind = MetricKind::Gauge;

    /// Sets the amount. For its single writer only.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The current amount.
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Nothing: an amount is set when it changes, not gathered.
    pub(crate) fn record(&self, _: u64) {}
}

/// The highest value so far.
#[derive(Debug, Default)]
pub struct Peak(AtomicU64);

impl Peak {
    pub(crate) const KIND: MetricKind = MetricKind::Peak;

    /// Raises the peak to `value` if that is higher. For its single writer only.
    #[inline]
    pub fn raise(&self, value: u64) {
        if value > self.value() {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    /// The highest value.
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn record(&self, value: u64) {
        self.raise(value);
    }
}
