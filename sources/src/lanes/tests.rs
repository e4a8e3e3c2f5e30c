//! The lanes against a plain set of offsets, and each reason to stop.

use fink_dataflow::coverage::Intervals;
use proptest::prelude::*;

use super::*;

const SOURCE: &str = "kafka:here";

fn extent(topic: &str, partition: i32, low: i64, high: i64) -> Extent {
    Extent { topic: topic.into(), partition, low, high }
}

fn new_log(topic: &str, partition: i32, low: i64, high: i64) -> Sight {
    Sight { extent: extent(topic, partition, low, high), incarnation: None, stored: None }
}

fn known_log(held: Range<i64>, origin: i64, covered: &[Range<i64>], mark: Option<i64>) -> Sight {
    let mark = mark.map(mark_at);
    let stored = Stored { origin, covered: covered.iter().cloned().collect(), mark, ..Stored::default() };
    Sight { extent: extent("t", 0, held.start, held.end), incarnation: Some(3), stored: Some(stored) }
}

fn mark_at(offset: i64) -> Mark {
    Mark { offset, timestamp_ms: Some(5), hash: 9 }
}

fn lanes(rules: Rules, stored: &[(&str, &str)]) -> Lanes {
    let stored: Vec<(Arc<str>, Arc<str>)> = stored.iter().map(|(s, t)| ((*s).into(), (*t).into())).collect();
    Lanes::new(SOURCE.into(), rules, &stored)
}

fn from(origin: Origin) -> Rules {
    Rules { origin, ..Rules::default() }
}

fn none() -> BTreeMap<Ask, Answer> {
    BTreeMap::new()
}

/// Origins by topic and partition.
fn origins(plan: &Plan) -> Vec<(&str, i32, i64)> {
    plan.opens.iter().map(|(log, at)| (&*log.topic, log.partition, *at)).collect()
}

#[test]
fn the_origin_holds_where_nothing_is_stored_and_later_logs_begin_at_their_start() {
    for (origin, at) in [(Origin::Latest, 9), (Origin::Earliest, 2), (Origin::Offsets([(0, 5)].into()), 5)] {
        let mut lanes = lanes(from(origin), &[]);
        let plan = lanes.plan(&[new_log("t", 0, 2, 9)], &none()).expect("plan");
        assert_eq!(origins(&plan), [("t", 0, at)]);
        let later = [new_log("t", 0, 2, 12), new_log("t", 1, 0, 4), new_log("u", 0, 3, 8)];
        let plan = lanes.plan(&later, &none()).expect("plan");
        assert_eq!(origins(&plan), [("t", 1, 0), ("u", 0, 3)]);
    }
}

#[test]
fn a_log_that_was_away_at_the_start_has_its_origin_and_is_waited_for() {
    let mut lanes = lanes(from(Origin::Latest), &[]);
    lanes.await_logs(vec![("t".into(), 1)]);
    let first = lanes.plan(&[new_log("t", 0, 5, 10)], &none()).unwrap();
    assert!((origins(&first), first.goals.len(), lanes.awaits()) == (vec![("t", 0, 10)], 1, true));
    // One that was born since begins at its start, and is no goal, whoever leads it.
    lanes.await_logs(vec![("t".into(), 1), ("t".into(), 2)]);
    let born = lanes.plan(&[new_log("t", 0, 5, 10), new_log("t", 2, 0, 4)], &none()).unwrap();
    assert!((origins(&born), born.goals.len(), lanes.awaits()) == (vec![("t", 2, 0)], 0, true));
    let back = lanes.plan(&[new_log("t", 0, 5, 10), new_log("t", 1, 3, 8)], &none()).unwrap();
    assert!((origins(&back), back.goals.len(), lanes.awaits()) == (vec![("t", 1, 8)], 1, false));
}

#[test]
fn a_topic_that_was_not_there_at_the_start_is_read_from_its_start_and_waited_for() {
    // Beside one that is there, and where none is: then a pattern may stand for it.
    for (there, named) in [(vec![new_log("t", 0, 5, 10)], "u"), (vec![], "u"), (vec![], "topic of the pattern ^u")] {
        let mut lanes = lanes(from(Origin::Latest), &[]);
        lanes.await_topics(&[named.into()]);
        let first = lanes.plan(&there, &none()).unwrap();
        assert!((first.goals.len(), lanes.awaits()) == (there.len(), true));
        lanes.await_topics(&[]);
        let born: Vec<Sight> = there.iter().cloned().chain([new_log("u", 0, 0, 100)]).collect();
        let plan = lanes.plan(&born, &none()).unwrap();
        assert_eq!((origins(&plan), plan.goals.len(), lanes.awaits()), (vec![("u", 0, 0)], 1, false), "{named}");
        assert_eq!(plan.goals[0].1, 100);
        // One that nobody named at the start is no goal, though it goes away for a while.
        lanes.await_topics(&["v".into()]);
        assert!(!lanes.awaits());
    }
}

#[test]
fn a_time_is_asked_for_and_kept_within_the_log() {
    let mut lanes = lanes(from(Origin::Timestamp(77)), &[]);
    let sights = [new_log("t", 0, 2, 9), new_log("t", 1, 2, 9)];
    let asks = lanes.asks(&sights);
    assert_eq!(asks, [Ask::OffsetAt("t".into(), 0, 77), Ask::OffsetAt("t".into(), 1, 77)]);
    let answers = [(asks[0].clone(), Answer::Offset(6)), (asks[1].clone(), Answer::Offset(0))].into();
    let plan = lanes.plan(&sights, &answers).expect("plan");
    assert_eq!(origins(&plan), [("t", 0, 6), ("t", 1, 2)]);
    assert_eq!(lanes.asks(&sights), []);
}

#[test]
fn at_a_later_start_a_topic_of_a_pattern_was_born_in_between_and_a_named_one_is_new() {
    let sights = [new_log("new", 0, 2, 9)];
    let pattern = Rules { pattern: true, ..Rules::default() };
    let plan = |rules, stored: &[(&str, &str)]| lanes(rules, stored).plan(&sights, &none()).expect("plan").opens[0].1;
    assert_eq!(plan(pattern.clone(), &[]), 9);
    assert_eq!(plan(pattern, &[(SOURCE, "old")]), 2);
    assert_eq!(plan(Rules::default(), &[(SOURCE, "old")]), 9);
    // A partition that is new to a topic that is stored.
    assert_eq!(plan(Rules::default(), &[(SOURCE, "new")]), 2);
}

#[test]
fn an_origin_that_can_not_be_is_refused() {
    let offsets = |at| from(Origin::Offsets([(0, at)].into()));
    let past = lanes(offsets(10), &[]).plan(&[new_log("t", 0, 2, 9)], &none());
    assert!(matches!(past, Err(Refusal::PastEnd { offset: 10, high: 9, .. })));
    let none_given = lanes(offsets(1), &[]).plan(&[new_log("t", 1, 2, 9)], &none());
    assert!(matches!(none_given, Err(Refusal::NoOffset { partition: 1, .. })));
    // What is gone already is a hole, not an error.
    let plan = lanes(offsets(1), &[]).plan(&[new_log("t", 0, 4, 9)], &none()).expect("plan");
    assert_eq!((plan.holes[0].1.clone(), plan.reads[0].1.from), (1..4, 4));
}

#[test]
fn a_log_that_is_not_the_one_stored_is_refused_or_read_as_new() {
    let changed = Answer::Mark(Some(Mark { hash: 8, ..mark_at(5) }));
    let cases = [
        ("shorter", known_log(0..4, 0, &[0..6], None), none()),
        ("nothing read of it, and shorter", known_log(0..4, 7, &[], None), none()),
        ("another message", known_log(0..9, 0, &[0..6], Some(5)), [(Ask::Mark("t".into(), 0, 5), changed)].into()),
    ];
    for (what, sight, answers) in cases {
        let stored = [(SOURCE, "t")];
        let beside = Sight { extent: extent("t", 1, 1, 8), incarnation: Some(3), stored: None };
        let sights = [sight, beside];
        let refused = lanes(Rules::default(), &stored).plan(&sights, &answers);
        assert!(matches!(refused, Err(Refusal::Shrunk { .. } | Refusal::Differs { .. })), "{what}");
        let rules = Rules { changed: Changed::NewIncarnation, ..Rules::default() };
        let plan = lanes(rules, &stored).plan(&sights, &answers).expect(what);
        assert_eq!(origins(&plan), [("t", 0, 0), ("t", 1, 1)], "{what}");
        assert!(plan.opens.iter().all(|(log, _)| log.incarnation == 4), "{what}");
    }
}

#[test]
fn a_new_incarnation_is_made_only_where_one_is_needed() {
    let rules = Rules { changed: Changed::NewIncarnation, ..Rules::default() };
    let same = [(Ask::Mark("t".into(), 0, 5), Answer::Mark(Some(mark_at(5))))].into();
    let plan = lanes(rules, &[(SOURCE, "t")]).plan(&[known_log(0..9, 0, &[0..6], Some(5))], &same).expect("plan");
    assert_eq!(plan.opens, []);
    assert_eq!((plan.reads[0].1.from, plan.reads[0].1.log.incarnation), (6, 3));
}

#[test]
fn another_cluster_is_refused_but_a_topic_that_is_stored_of_both_is_not() {
    let sights = [new_log("t", 0, 2, 9)];
    let refused = lanes(Rules::default(), &[("kafka:there", "t")]).plan(&sights, &none());
    assert!(matches!(refused, Err(Refusal::Elsewhere { stored, .. }) if &*stored == "kafka:there"));
    let rules = Rules { changed: Changed::NewIncarnation, ..Rules::default() };
    assert!(lanes(rules, &[("kafka:there", "t")]).plan(&sights, &none()).is_ok());
    assert!(lanes(Rules::default(), &[("kafka:there", "t"), (SOURCE, "t")]).plan(&sights, &none()).is_ok());
    assert!(lanes(Rules::default(), &[("simulator:1", "t")]).plan(&sights, &none()).is_ok());
}

#[test]
fn a_mark_is_asked_for_where_the_log_still_holds_it() {
    let lanes = lanes(Rules::default(), &[(SOURCE, "t")]);
    assert_eq!(lanes.asks(&[known_log(0..9, 0, &[0..6], Some(5))]), [Ask::Mark("t".into(), 0, 5)]);
    assert_eq!(lanes.asks(&[known_log(6..9, 0, &[0..6], Some(5))]), []);
}

#[test]
fn a_log_that_was_refilled_between_two_looks_is_found_out() {
    let covered = [0..100];
    let known = || [known_log(0..100, 0, &covered, Some(99))];
    let ask = Ask::Mark("t".into(), 0, 99);
    let answer = |hash| BTreeMap::from([(ask.clone(), Answer::Mark(Some(Mark { hash, ..mark_at(99) })))]);
    let begun = || {
        let mut lanes = lanes(Rules::default(), &[(SOURCE, "t")]);
        lanes.plan(&known(), &answer(9)).expect("plan");
        assert_eq!(lanes.asks(&known()), []);
        lanes
    };
    // It ended beyond where it did at each look, but something else was seen.
    let refilled = [known_log(0..120, 0, &covered, Some(99))];
    let mut lanes = begun();
    lanes.suspect();
    assert_eq!(lanes.asks(&refilled), [ask.clone()]);
    assert!(matches!(lanes.plan(&refilled, &answer(8)), Err(Refusal::Differs { .. })));
    lanes.plan(&refilled, &answer(9)).expect("the same");
    assert_eq!(lanes.asks(&refilled), []);
    // It was seen to be short, when the last message that was read could not be compared; and then to be long again.
    let mut lanes = begun();
    let short = [known_log(0..40, 0, &covered, Some(99))];
    assert_eq!(lanes.asks(&short), []);
    lanes.plan(&short, &none()).expect("it may take a moment to know its end");
    assert_eq!(lanes.asks(&refilled), [ask.clone()]);
    assert!(matches!(lanes.plan(&refilled, &answer(8)), Err(Refusal::Differs { .. })));
}

#[test]
fn a_mark_that_was_compacted_away_is_said_and_read_on() {
    let gone = [(Ask::Mark("t".into(), 0, 5), Answer::Mark(None))].into();
    let plan = lanes(Rules::default(), &[(SOURCE, "t")]).plan(&[known_log(0..9, 0, &[0..6], Some(5))], &gone).expect("plan");
    assert_eq!((plan.notices.len(), plan.reads[0].1.from), (1, 6));
}

#[test]
fn a_topic_that_comes_back_is_looked_at_again() {
    let mut lanes = lanes(Rules::default(), &[(SOURCE, "t")]);
    let sight = known_log(0..9, 0, &[0..6], Some(5));
    let same: BTreeMap<_, _> = [(Ask::Mark("t".into(), 0, 5), Answer::Mark(Some(mark_at(5))))].into();
    lanes.plan(&[sight.clone()], &same).expect("plan");
    assert_eq!(lanes.asks(&[sight.clone()]), []);
    lanes.plan(&[], &none()).expect("plan");
    assert_eq!(lanes.asks(&[sight.clone()]), [Ask::Mark("t".into(), 0, 5)]);
    let other = [(Ask::Mark("t".into(), 0, 5), Answer::Mark(Some(Mark { timestamp_ms: None, ..mark_at(5) })))].into();
    assert!(matches!(lanes.plan(&[sight.clone()], &other), Err(Refusal::Differs { .. })));
    assert_eq!(lanes.plan(&[sight], &same).expect("plan").reads, []);
}

#[test]
fn a_log_that_shrinks_between_two_looks_is_looked_at_again() {
    let covered = [0..8];
    let mut lanes = lanes(Rules::default(), &[(SOURCE, "t")]);
    let ask = Ask::Mark("t".into(), 0, 7);
    let same = BTreeMap::from([(ask.clone(), Answer::Mark(Some(mark_at(7))))]);
    lanes.plan(&[known_log(2..10, 0, &covered, Some(7))], &same).expect("plan");
    // It grows, and its start is deleted, as logs do.
    let grown = [known_log(4..12, 0, &covered, Some(7))];
    assert_eq!(lanes.asks(&grown), []);
    lanes.plan(&grown, &none()).expect("plan");
    // It ends, or begins, earlier.
    for shrunk in [known_log(4..9, 0, &covered, Some(7)), known_log(0..20, 0, &covered, Some(7))] {
        assert_eq!(lanes.asks(std::slice::from_ref(&shrunk)), [ask.clone()]);
        let other = BTreeMap::from([(ask.clone(), Answer::Mark(Some(mark_at(6))))]);
        assert!(matches!(lanes.plan(std::slice::from_ref(&shrunk), &other), Err(Refusal::Differs { .. })));
    }
    // The same after all.
    let shrunk = [known_log(4..9, 0, &covered, Some(7))];
    lanes.plan(&shrunk, &same).expect("plan");
    assert_eq!(lanes.asks(&shrunk), []);
}

#[test]
fn a_log_that_ends_before_what_was_read_of_it_while_reading_is_refused() {
    let mut lanes = lanes(from(Origin::Earliest), &[]);
    let plan = lanes.plan(&[new_log("t", 0, 0, 9)], &none()).expect("plan");
    let log = plan.reads[0].1.log.clone();
    assert!(matches!(lanes.out_of_range(Lane::Live, &log, 7, 0..3), Err(Refusal::Shrunk { stored: 7, high: 3, .. })));
}

#[test]
fn the_border_is_the_end_of_coverage_where_all_logs_together_are_near() {
    let sights = |high| {
        [0, 1].map(|partition| {
            let stored = Stored { covered: [0..10, 20..50].into_iter().collect(), ..Stored::default() };
            Sight { extent: extent("t", partition, 0, high), incarnation: Some(0), stored: Some(stored) }
        })
    };
    for (high, border) in [(55, 50), (56, 56)] {
        let mut lanes = lanes(Rules { lanes: LaneCount::Two { near: 10 }, ..Rules::default() }, &[(SOURCE, "t")]);
        let plan = lanes.plan(&sights(high), &none()).expect("plan");
        let live: Vec<i64> = plan.reads.iter().filter(|(lane, _)| *lane == Lane::Live).map(|(_, stretch)| stretch.from).collect();
        assert_eq!(live, [border, border]);
        let log = plan.reads[0].1.log.clone();
        assert!(lanes.has_work(Lane::Backlog));
        // The hole in the middle, and what is below the border.
        assert_eq!(lanes.left(&log, 10), 10 + border - 50);
        assert_eq!(lanes.left(&log, 17), 3 + border - 50);
    }
}

/// What a run over one log has to do, drawn at random.
#[derive(Clone, Debug)]
struct Case {
    stored: Stored,
    low: i64,
    high: i64,
    /// Retention strikes before this read, and the log begins here from then on.
    strikes: Vec<(usize, i64)>,
    two: bool,
    near: i64,
}

fn cases() -> impl Strategy<Value = Case> {
    let spans = || prop::collection::vec((0i64..50, 0i64..10), 0..6);
    let bounds = (0i64..30, spans(), spans(), 0i64..40, 0i64..30);
    (bounds, prop::collection::vec((0usize..6, 0i64..60), 0..3), any::<bool>(), 0i64..20).prop_map(
        |((origin, covered, accepted, low, more), strikes, two, near)| {
            let set = |spans: Vec<(i64, i64)>| spans.into_iter().map(|(s, n)| s.max(origin)..(s + n).max(origin)).collect::<Intervals>();
            let (covered, accepted) = (set(covered), set(accepted));
            let end = covered.end().unwrap_or(origin).max(accepted.end().unwrap_or(origin)).max(low);
            Case { stored: Stored { origin, covered, accepted, mark: None }, low, high: end + more, strikes, two, near }
        },
    )
}

/// Reads all that the lanes ask for, a few offsets at a time, up to the end. Returns what was read and what was lost.
fn run(case: &Case) -> (Vec<Range<i64>>, Vec<Range<i64>>) {
    let count = if case.two { LaneCount::Two { near: case.near } } else { LaneCount::One };
    let mut lanes = lanes(Rules { lanes: count, ..Rules::default() }, &[(SOURCE, "t")]);
    let sight = Sight { extent: extent("t", 0, case.low, case.high), incarnation: Some(0), stored: Some(case.stored.clone()) };
    let plan = lanes.plan(&[sight], &none()).expect("plan");
    assert_eq!(plan.opens, []);
    let mut lost: Vec<_> = plan.holes.iter().map(|(_, hole)| hole.clone()).collect();
    let mut read = Vec::new();
    let (mut low, mut reads) = (case.low, 0);
    for (lane, first) in plan.reads {
        let mut next = Some(first);
        while let Some(mut stretch) = next.take() {
            let end = stretch.until.unwrap_or(case.high);
            while stretch.from < end {
                for (_, at) in case.strikes.iter().filter(|(when, _)| *when == reads) {
                    low = low.max((*at).min(case.high));
                }
                reads += 1;
                if stretch.from < low {
                    let (hole, after) = lanes.out_of_range(lane, &stretch.log, stretch.from, low..case.high).expect("not shrunk");
                    lost.push(hole);
                    next = after;
                    break;
                }
                let to = (stretch.from + 3).min(end);
                read.push(stretch.from..to);
                stretch.from = to;
            }
            if stretch.from == end {
                assert_eq!(lanes.ends(lane, &stretch.log), stretch.until);
                next = if stretch.until.is_some() { lanes.finished(lane, &stretch.log) } else { None };
            }
        }
    }
    (read, lost)
}

proptest! {
    #[test]
    fn reads_what_is_missing_once_and_says_what_is_lost(case in cases()) {
        let (read, lost) = run(&case);
        let missing: Vec<i64> = case.stored.missing(case.high).into_iter().flatten().collect();
        let mut seen: Vec<i64> = read.iter().chain(&lost).cloned().flatten().collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, missing);
        prop_assert!(read.iter().flat_map(Clone::clone).all(|offset| offset >= case.low));
        let strikes = case.strikes.iter().map(|(_, at)| *at).max().unwrap_or(0).max(case.low);
        prop_assert!(lost.iter().flat_map(Clone::clone).all(|offset| offset < strikes));
    }

    #[test]
    fn one_lane_reads_in_order_and_two_divide_the_log_at_its_end(case in cases()) {
        let (read, _) = run(&case);
        if !case.two {
            prop_assert!(read.windows(2).all(|two| two[0].end <= two[1].start));
        }
        let count = LaneCount::Two { near: case.near };
        let behind = tail(&case.stored, case.low, case.high);
        let mut lanes = lanes(Rules { lanes: count, ..Rules::default() }, &[(SOURCE, "t")]);
        let sight = Sight { extent: extent("t", 0, case.low, case.high), incarnation: Some(0), stored: Some(case.stored) };
        let plan = lanes.plan(&[sight], &none()).expect("plan");
        for (lane, stretch) in plan.reads {
            match lane {
                Lane::Live => {
                    let border = if behind <= case.near { case.high - behind } else { case.high };
                    prop_assert_eq!((stretch.from, stretch.until), (border, None));
                }
                Lane::Backlog => prop_assert!(stretch.until.is_some_and(|until| until <= case.high)),
            }
        }
    }
}
