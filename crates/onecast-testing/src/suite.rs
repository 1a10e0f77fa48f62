//! Lists of tests, and the run that reports on them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZero;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::body::Body;
use crate::report;
use crate::requirements::Requirement;

/// One test.
pub struct Test {
    name: &'static str,
    body: Box<dyn FnOnce() + Send>,
    needs: Vec<&'static Requirement>,
    alone: bool,
}

impl Test {
    /// `name` begins with the name of the test target; the [`tests!`](crate::tests!) macro fills it in.
    pub fn new<Kind>(name: &'static str, body: impl Body<Kind>) -> Test {
        Test {
            name: name.split_once("::").map_or(name, |(_, name)| name),
            body: Box::new(|| body.run()),
            needs: Vec::new(),
            alone: false,
        }
    }

    fn missing(&self) -> Vec<&'static Requirement> {
        self.needs.iter().copied().filter(|need| !need.is_met()).collect()
    }
}

/// A list of tests.
pub struct Tests(Vec<Test>);

impl From<Vec<Test>> for Tests {
    fn from(tests: Vec<Test>) -> Tests {
        Tests(tests)
    }
}

impl Tests {
    /// All of them need this.
    pub fn needs(mut self, requirement: &'static Requirement) -> Tests {
        for test in &mut self.0 {
            test.needs.push(requirement);
        }
        self
    }

    /// Each of them runs while no other test does, after those that share the machine: for tests that measure time.
    pub fn alone(mut self) -> Tests {
        for test in &mut self.0 {
            test.alone = true;
        }
        self
    }

    /// Adds more tests, which keep their own requirements.
    pub fn and(mut self, tests: Tests) -> Tests {
        self.0.extend(tests.0);
        self
    }
}

/// All tests of a test target.
pub struct Suite {
    tests: Vec<Test>,
    threads_min: usize,
    threads_max: usize,
}

impl Suite {
    /// Takes the lists of its modules.
    pub fn new(tests: impl IntoIterator<Item = Tests>) -> Suite {
        let mut tests: Vec<Test> = tests.into_iter().flat_map(|tests| tests.0).collect();
        tests.sort_by_key(|test| test.alone);
        Suite {
            tests,
            threads_min: 1,
            threads_max: usize::MAX,
        }
    }

    /// Runs at least this many tests at a time, even with fewer cores: for tests that wait more than they work.
    pub fn threads_at_least(mut self, threads: usize) -> Suite {
        self.threads_min = threads;
        self
    }

    /// Runs at most this many tests at a time, even with more cores: for tests that need much memory.
    pub fn threads_at_most(mut self, threads: usize) -> Suite {
        self.threads_max = threads;
        self
    }

    /// How many tests run at a time, unless `--test-threads` says otherwise.
    fn threads(&self) -> usize {
        let wanted = std::env::var("RUST_TEST_THREADS").ok();
        wanted.and_then(|wanted| wanted.parse().ok()).unwrap_or_else(|| {
            let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
            cores.max(self.threads_min).min(self.threads_max)
        })
    }

    /// Runs the tests that the command line selects. Its options are those of the built-in harness.
    pub fn run(self) -> ExitCode {
        let mut arguments = Arguments::from_args();
        arguments.test_threads = arguments.test_threads.or(Some(self.threads()));
        if arguments.nocapture {
            report::print_notes();
        }
        let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        let skipped = Arc::new(Skipped::default());
        let machine = Arc::new(RwLock::new(()));
        let trials = self.tests.into_iter().map(|test| {
            let (skipped, machine) = (skipped.clone(), machine.clone());
            Trial::ignorable_test(test.name, move || run(test, in_ci, &skipped, &machine))
        });
        let conclusion = libtest_mimic::run(&arguments, trials.collect());
        if let Some(line) = skipped.line() {
            eprintln!("{line}\n");
        }
        conclusion.exit_code()
    }
}

fn run(test: Test, in_ci: bool, skipped: &Skipped, machine: &RwLock<()>) -> Result<Completion, Failed> {
    let missing = test.missing();
    if let Some(required) = missing.iter().find(|missing| in_ci && missing.in_ci) {
        let Requirement { name, install, .. } = required;
        return Err(format!("CI=true requires {name}: {install}").into());
    }
    if !missing.is_empty() {
        skipped.add(&missing);
        let needs = missing
            .iter()
            .map(|missing| format!("{}: {}", missing.name, missing.install));
        let needs: Vec<String> = needs.collect();
        return Ok(Completion::ignored_with(format!("needs {}", needs.join("; "))));
    }
    // A failed test poisons nothing: the lock guards no data.
    let _shared = (!test.alone).then(|| machine.read().unwrap_or_else(PoisonError::into_inner));
    let _alone = test
        .alone
        .then(|| machine.write().unwrap_or_else(PoisonError::into_inner));
    report::catch(AssertUnwindSafe(test.body))?;
    Ok(Completion::Completed)
}

/// What did not run, by what is missing.
#[derive(Default)]
struct Skipped(Mutex<BTreeMap<String, usize>>);

impl Skipped {
    fn add(&self, missing: &[&Requirement]) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for missing in missing {
            let described = format!("{} ({})", missing.name, missing.install);
            *counts.entry(described).or_default() += 1;
        }
    }

    /// The closing line, if anything was skipped.
    fn line(&self) -> Option<String> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = "NOT RUN:".to_owned();
        for (place, (missing, count)) in counts.iter().enumerate() {
            let separator = if place == 0 { "" } else { ";" };
            let (tests, need) = if *count == 1 {
                ("test", "needs")
            } else {
                ("tests", "need")
            };
            let _ = write!(line, "{separator} {count} {tests} {need} {missing}");
        }
        (!counts.is_empty()).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static PRESENT: Requirement = Requirement::new("a shell", "none", || true);
    static ABSENT: Requirement = Requirement::new("a unicorn", "catch one", || false);
    static RARE: Requirement = Requirement::new("a griffin", "find one", || false).optional_in_ci();

    fn passes() {}

    async fn fails() {
        tokio::task::yield_now().await;
        panic!("it broke");
    }

    fn outcome(tests: Tests, in_ci: bool, skipped: &Skipped) -> Result<Option<String>, String> {
        let test = tests.0.into_iter().next().expect("one test");
        match run(test, in_ci, skipped, &RwLock::default()) {
            Ok(Completion::Completed) => Ok(None),
            Ok(Completion::Ignored { reason }) => Ok(reason),
            Err(failed) => Err(failed.message().unwrap_or_default().to_owned()),
        }
    }

    #[test]
    fn tests_are_named_by_their_module_and_function() {
        let tests = crate::tests![passes, fails];
        let names: Vec<&str> = tests.0.iter().map(|test| test.name).collect();
        assert_eq!(names, ["suite::tests::passes", "suite::tests::fails"]);
    }

    #[test]
    fn test_with_what_it_needs_runs() {
        let skipped = Skipped::default();
        assert_eq!(
            outcome(crate::tests![passes].needs(&PRESENT), false, &skipped),
            Ok(None)
        );
        let failed = outcome(crate::tests![fails].needs(&PRESENT), false, &skipped).unwrap_err();
        assert!(failed.contains("it broke"), "{failed}");
        assert_eq!(skipped.line(), None);
    }

    #[test]
    fn test_without_what_it_needs_is_ignored_and_counted() {
        let skipped = Skipped::default();
        let reason = outcome(crate::tests![fails].needs(&PRESENT).needs(&ABSENT), false, &skipped);
        assert_eq!(reason, Ok(Some("needs a unicorn: catch one".to_owned())));
        let reason = outcome(crate::tests![passes].needs(&ABSENT).needs(&RARE), false, &skipped);
        assert_eq!(
            reason,
            Ok(Some("needs a unicorn: catch one; a griffin: find one".to_owned()))
        );
        let line = "NOT RUN: 1 test needs a griffin (find one); 2 tests need a unicorn (catch one)";
        assert_eq!(skipped.line().as_deref(), Some(line));
    }

    #[test]
    fn ci_fails_where_something_required_is_missing() {
        let skipped = Skipped::default();
        let failed = outcome(crate::tests![passes].needs(&ABSENT), true, &skipped);
        assert_eq!(failed, Err("CI=true requires a unicorn: catch one".to_owned()));
        let reason = outcome(crate::tests![passes].needs(&RARE), true, &skipped);
        assert_eq!(reason, Ok(Some("needs a griffin: find one".to_owned())));
    }

    #[test]
    fn tests_that_run_alone_come_last() {
        let suite = Suite::new([crate::tests![fails].alone(), crate::tests![passes]]);
        let names: Vec<&str> = suite.tests.iter().map(|test| test.name).collect();
        assert_eq!(names, ["suite::tests::passes", "suite::tests::fails"]);
    }
}
