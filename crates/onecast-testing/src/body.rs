//! Bodies of tests: plain functions and async ones.

use tokio::runtime::Builder;

/// A function that can be the body of a test. `Kind` tells plain and async functions apart; it is always inferred.
pub trait Body<Kind>: Send + 'static {
    /// Runs the test to its end. It fails by panicking.
    fn run(self);
}

/// Marks plain functions.
#[derive(Debug)]
pub struct Plain;

/// Marks async functions.
#[derive(Debug)]
pub struct Async;

impl<F: FnOnce() + Send + 'static> Body<Plain> for F {
    fn run(self) {
        self();
    }
}

impl<F: FnOnce() -> Fut + Send + 'static, Fut: Future<Output = ()>> Body<Async> for F {
    /// The body runs on the current thread and the tasks that it spawns on others, so it may block.
    fn run(self) {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime starts").block_on(self());
    }
}
