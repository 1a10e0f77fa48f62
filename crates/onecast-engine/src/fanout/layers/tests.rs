use std::time::Duration;

use super::*;

/// A browser's layers.
fn ladder() -> [LadderStep; 3] {
    let step = |(layer, rate): (u8, u32)| LadderStep {
        layer,
        rate,
        base_rate: Some(rate / 2),
        live_since: Some(Millis(0)),
    };
    [(0, 150_000), (1, 500_000), (2, 2_000_000)].map(step)
}

/// What a viewer gets to that reports the same all the time, and how many probes that takes.
fn after_a_minute(note: ReportNote) -> (LayerControl, u32) {
    let ladder = ladder();
    let begin = Millis(100_000);
    let mut control = LayerControl::new(begin, &ladder, StepLimit::None);
    let mut probes = 0;
    for round in 1..300 {
        let now = begin.plus(200 * round);
        if control.is_probing() {
            control.probe_ended(now);
        }
        if let Some(plan) = control.handle_report(now, &note, &ladder) {
            control.probe_started(now, &plan);
            probes += 1;
        }
        if let Some(wanted) = control.wanted() {
            control.switched(now, wanted, &ladder);
        }
    }
    (control, probes)
}

const REPORT: ReportNote = ReportNote {
    lag: Some(Duration::ZERO),
    idle: Duration::ZERO,
    fraction_lost: 0,
    packets: 40,
    delivered: Some(500_000),
    rtt: Some(Duration::from_millis(20)),
};

#[test]
fn a_viewer_that_acknowledges_everything_gets_the_top_layer_with_one_probe_a_step() {
    let (control, probes) = after_a_minute(REPORT);
    assert_eq!((control.layer(), control.sending(), probes), (2, Sending::Whole, 1));
}

#[test]
fn a_viewer_that_acknowledges_what_was_never_sent_harms_only_itself() {
    let (control, probes) = after_a_minute(ReportNote {
        lag: None,
        delivered: None,
        ..REPORT
    });
    assert_eq!((control.layer(), probes), (2, 1));
}

#[test]
fn a_viewer_that_always_reports_total_loss_gets_the_least_and_few_probes() {
    let (control, probes) = after_a_minute(ReportNote {
        fraction_lost: 255,
        delivered: Some(0),
        ..REPORT
    });
    assert_eq!(control.layer(), 0);
    assert!(control.sending() <= Sending::KeyframesOnly, "{control:?}");
    assert!(probes <= 10, "{probes}");
}

#[test]
fn a_viewer_whose_packets_never_arrive_gets_the_least() {
    let (control, probes) = after_a_minute(ReportNote {
        lag: Some(Duration::from_secs(10)),
        delivered: Some(0),
        ..REPORT
    });
    assert_eq!((control.layer(), probes), (0, 0));
    assert!(control.sending() <= Sending::KeyframesOnly, "{control:?}");
}

#[test]
fn a_pinned_layer_stays_however_narrow_the_path_is() {
    let ladder = ladder();
    let mut control = LayerControl::new(Millis(0), &ladder, StepLimit::Pin(2));
    for round in 1..100 {
        let note = ReportNote {
            lag: Some(Duration::from_millis(400)),
            delivered: Some(300_000),
            ..REPORT
        };
        control.handle_report(Millis(230 * round), &note, &ladder);
        assert_eq!((control.layer(), control.wanted()), (2, None));
    }
    assert!(control.sending() < Sending::Whole);
}

#[test]
fn probes_of_a_shard_stay_within_their_share() {
    let plan = ProbePlan {
        rate: 2_000_000,
        padding: 1_500_000,
        ramp: Duration::from_millis(200),
        duration: Duration::from_millis(450),
    };
    for (share, most) in [(0, 0), (5, 64)] {
        let mut budget = ProbeBudget::new(Millis(0), share);
        let (mut now, mut spent) = (0, 0);
        for _ in 0..60 {
            now += 1_000;
            // 100 Mbit/s.
            budget.handle_egress(Millis(now), 12_500_000);
            let mut running = 0;
            while budget.start(&plan) {
                running += 1;
                spent += plan.bytes(plan.duration);
            }
            assert!(running <= most, "{running}");
            (0..running).for_each(|_| budget.end(&plan, plan.duration));
        }
        let allowed = 60 * 12_500_000 * u64::from(share) / 100 + 4 * 625_000 + plan.bytes(plan.duration);
        assert!(spent <= allowed, "{spent} of {allowed}");
    }
}
