//! How much of a stream is real: see docs/sky.md.

use fink_sources::simulator::seen::{SurveyOptions, Telescope};
use fink_sources::simulator::survey::Survey;

use crate::stream::config;

/// Real alerts in a thousand: of all, of those that score above 0.5, and of the best visit; over visits of twelve nights, some with a
/// bright moon and some with none.
fn real(telescope: Telescope) -> [u32; 3] {
    let survey = Survey::new(&SurveyOptions { history_days: 0, ..config(telescope, 7).survey() }).unwrap();
    let all = survey.options().alerts_per_visit;
    let (mut counts, mut most, mut visits) = ([0u32; 3], 0, 0);
    for visit in survey.visits_of(61_366, 2).step_by(211).chain(survey.visits_of(61_378, 10).step_by(211)) {
        let mut found = 0;
        for seen in (0..all).map(|index| survey.seen(visit, index)) {
            let (real, kept) = (u32::from(!seen.class.is_bogus()), u32::from(seen.detection.real_bogus > 0.5));
            found += real;
            counts = [counts[0] + real, counts[1] + kept, counts[2] + real * kept];
        }
        most = most.max(found);
        visits += 1;
    }
    let thousandths = |part: u32, whole: u32| (f64::from(part) / f64::from(whole) * 1000.0).round() as u32;
    let shares = [thousandths(counts[0], visits * all), thousandths(counts[2], counts[1]), thousandths(most, all)];
    println!(
        "{telescope:?}: of 1,000 alerts {} are real, of those above 0.5 {}; in the fullest of {visits} visits {}",
        shares[0], shares[1], shares[2]
    );
    shares
}

#[test]
fn a_sensible_share_of_alerts_is_real_and_most_of_what_scores_high() {
    let [all, above, most] = real(Telescope::Ztf);
    assert!((200..450).contains(&all) && above > 750 && most < 900);
    let [all, above, most] = real(Telescope::Lsst);
    assert!((330..600).contains(&all) && above > 850 && most < 900);
}
