//! `fink cone`: which objects are near a place.

use std::process::ExitCode;

use clap::Args;

use super::ask::{AskArgs, number, when};
use super::show::columns;
use crate::services::answers::{Answer, ConeAnswer};

const EXAMPLES: &str = "\
Examples:
  fink cone 193.822 2.897 5       objects within 5 arcseconds, nearest first
  fink cone 10.5 -30.2 60 --json  for scripts

Asks the services that run on this machine (`fink start archive services`).";

/// Show the objects around a place, nearest first
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConeArgs {
    /// Right ascension, degrees
    #[arg(value_name = "RA", allow_negative_numbers = true)]
    ra: f64,
    /// Declination, degrees
    #[arg(value_name = "DEC", allow_negative_numbers = true)]
    dec: f64,
    /// Radius, arcseconds
    #[arg(value_name = "RADIUS")]
    radius: f64,
    #[command(flatten)]
    ask: AskArgs,
}

/// Runs it.
///
/// # Errors
/// When nobody can be asked, or what is asked can't be.
pub fn run(args: &ConeArgs) -> anyhow::Result<ExitCode> {
    let query = [("ra", args.ra), ("dec", args.dec), ("radius", args.radius)].map(|(name, value)| (name, value.to_string()));
    let Some(answer) = args.ask.ask::<Answer<ConeAnswer>>("/api/v1/conesearch", &query)? else { return Ok(ExitCode::SUCCESS) };
    let mut rows = vec![["ARCSEC", "OBJECT", "SURVEY", "RA", "DEC", "DETECTIONS", "LAST MJD", "CLASS", "MATCHES"].map(str::to_owned)];
    for object in &answer.answer.objects {
        let matches: Vec<_> = object.matches.iter().map(|found| found.catalogue.as_str()).collect();
        rows.push([
            number(object.separation_arcsec, 2),
            object.object_id.clone(),
            object.survey.clone(),
            number(object.ra_deg, 6),
            number(object.dec_deg, 6),
            object.detections.to_string(),
            number(object.last_mjd_tai, 5),
            object.class.clone().unwrap_or_else(|| "-".to_owned()),
            if matches.is_empty() { "-".to_owned() } else { matches.join(",") },
        ]);
    }
    if rows.len() == 1 {
        println!("no object is within {} arcseconds", args.radius);
    } else {
        print!("{}", columns(&rows));
    }
    print!("{}", when(&answer.moment, answer.complete));
    Ok(ExitCode::SUCCESS)
}
